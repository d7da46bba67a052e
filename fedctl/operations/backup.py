"""Making, finding, checking and forgetting backups. A command does this itself: a hub goes on meanwhile.

A backup is made in a folder of its own beside its place and moved there when it was read again and found whole. Such
a folder is locked while its maker lives, and swept by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl import __version__, disk
from fedctl.access.sealing import (
    AnyOpener,
    ForeignError,
    HomeKey,
    Opener,
    PassphraseSealer,
    WrongPassphraseError,
    fingerprint,
    own_public_key,
    read_passphrase,
)
from fedctl.archive import format as f
from fedctl.archive.reader import Archive, open_archive
from fedctl.archive.writer import Writer
from fedctl.errors import Corrupt, Denied, FedctlError, NoStore, NotFound, Unavailable, UsageError, from_os
from fedctl.model.backup import Backup, Judged, KeepRules, Pruned
from fedctl.model.time import from_rfc3339, to_rfc3339
from fedctl.operations.damage import way_back
from fedctl.operations.job import exclusive_job
from fedctl.operations.register import NAME, Register, check_not_gone, parsed
from fedctl.retention.keep import keep
from fedctl.store import ledger
from fedctl.store.backup import contents
from fedctl.store.room import size_bytes
from fedctl.store.store import FILE_NAME, Store
from fedctl.store.vet import vet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.clock import Clock

FOLDER = "backups"
"""Where a home's backups go if nothing else is said."""
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TRIES = 3
_SCRATCH = re.compile(r"\.fedctl-[0-9a-f-]{36}\.partial")


def _no_step(_done: int, _total: int | None) -> None:
    pass


# -- making ------------------------------------------------------------------------------------------------------


def create(  # noqa: PLR0913  one parameter a choice
    home: Path,
    clock: Clock,
    folder: Path | None = None,
    *,
    passphrase_file: Path | None = None,
    with_keys: bool = False,
    timeout_s: float = 30.0,
    finish: Callable[[], object] = lambda: None,
    step: Callable[[int, int | None], None] = _no_step,
) -> Backup:
    """Make a backup of the home's store as it is at one moment, while others go on writing; return it, verified.

    Args:
        home: The home; its store is copied, and with `with_keys` its keys and its settings.
        clock: The time and the backup's id.
        folder: Where to; made if it is not there. None: the home's own.
        passphrase_file: Holds what to seal it with; None: it stays open.
        with_keys: Whether it is to hold what a new home needs to be the same one.
        timeout_s: How long to wait for who has the store alone.
        finish: Brings erasures that were begun to their ends, as far as that can be.
        step: Called every few milliseconds with how far it is, and of how much; may raise, to end it.

    Raises:
        NoStore: There is nothing to copy.
        Corrupt: The store is damaged: nothing could be restored from a copy of it, and none is kept.
        DiskFull: There is no room; nothing is left behind.
        Denied: The folder may not be written.
        UsageError: There is no passphrase in that file.
        Unavailable: Something is being erased, and it would keep that.
    """
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    folder = home / FOLDER if folder is None else folder.absolute()
    for _ in range(_TRIES):
        finish()
        path = _made(home, clock, folder, passphrase, with_keys=with_keys, timeout_s=timeout_s, step=step)
        if path is not None:
            return describe(home, path)
    raise Unavailable("whenever a backup was made something was erased that it holds", hint="try again later")


def _made(  # noqa: PLR0913  as `create`
    home: Path,
    clock: Clock,
    folder: Path,
    passphrase: bytes | None,
    *,
    with_keys: bool,
    timeout_s: float,
    step: Callable[[int, int | None], None],
) -> Path | None:
    """Return the backup, or None: while it was made something was erased, which it would keep."""
    backup_id, created_at = clock.new_id(), to_rfc3339(clock.now_ms())
    name = f"fedctl-{re.sub('[-:.]', '', created_at)}-{backup_id}.backup"
    wait_ms = round(timeout_s * 1000)
    try:
        store = Store.open(home, clock, create=False, timeout_s=timeout_s)
    except NoStore:
        check_not_gone(home)
        raise
    with contextlib.ExitStack() as held_open, _told(f"the backup cannot be written in {folder}"):
        held_open.callback(store.close)
        _make_folder(folder)
        unborn = held_open.enter_context(scratch(folder, clock)) / "backup"
        # What is to be sealed is not laid open on the disk that it is sealed for.
        copy = (unborn.parent if passphrase is None else held_open.enter_context(scratch(home, clock))) / FILE_NAME
        _check_room(store, home, folder, sealed=passphrase is not None)
        os.close(_owner_s(str(copy), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        with _undamaged(home):
            with store.read():
                with exclusive_job(home, "erase", wait_ms):
                    erased_bytes = size_bytes(str(home / ledger.FILE_NAME))
                    unfinished = store.erasures.any_open()  # the moment that the backup is of
                if unfinished:
                    raise Unavailable(
                        "something is being erased, and a backup would keep it",
                        hint="give the same erase again, or fedctl retention prune: both bring it to its end",
                    )
                held = contents(store)
                store.database.copy_to(copy, step)
            store.close()
            # The copy, not the store: nobody waits for it, and it is these very bytes that have to be good.
            vet(copy, lambda: step(0, None))
        key = HomeKey(home / "keys")
        sealer = None if passphrase is None else PassphraseSealer.new(passphrase)
        with open(unborn, "xb", opener=_owner_s) as file:
            writer = Writer(
                file, backup_id=backup_id, created_at=created_at, version=__version__, signer=key, sealer=sealer
            )
            with copy.open("rb") as source:
                writer.add(f.DATABASE, source.read, _count(step, copy.stat().st_size))
            for part_name, part in _settings(home) if with_keys else ():
                with part.open("rb") as source:
                    writer.add(part_name, source.read)
            writer.finish(held)
            file.flush()
            os.fsync(file.fileno())
            _forget_pages(file.fileno())
        copy.unlink()
        with open_archive(unborn, Opener(key.public_key, passphrase=passphrase)) as archive:
            sha256 = archive.verify(_count(step, archive.size_bytes))
        with exclusive_job(home, "erase", wait_ms):  # an erase finds it, or it finds the erase
            if size_bytes(str(home / ledger.FILE_NAME)) != erased_bytes:
                return None
            path = unborn.rename(folder / name)
            disk.sync(folder)
            with _told(f"the backup is {path}, but it cannot be noted in {home}"):
                verified_at = to_rfc3339(clock.now_ms())
                Register(home).note(path, sha256=sha256, verified_at=verified_at, error=None, made=True)
    return path


@contextlib.contextmanager
def _undamaged(home: Path) -> Iterator[None]:
    try:
        yield
    except Corrupt as error:
        raise Corrupt(
            f"the store is damaged, no backup was made: {error.message.removeprefix('it is damaged: ')}",
            hint=way_back(home),
        ) from error


def _owner_s(path: str, flags: int) -> int:
    """Open a new file for the eyes of its owner only."""
    return os.open(path, flags, 0o600)


def _check_room(store: Store, home: Path, folder: Path, *, sealed: bool) -> None:
    """Refuse what would leave the store itself without room: the copy, and the backup that is made of it."""
    size = int(store.database.pragma("page_count")) * int(store.database.pragma("page_size"))
    if folder.stat().st_dev == home.stat().st_dev:
        store.check_room_for(size * 3 // 2)
    elif sealed:
        store.check_room_for(size)


def _settings(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of the settings and the keys; what is none of them stays out."""
    if (home / f.CONFIG).is_file():
        yield f.CONFIG, home / f.CONFIG
    for path in sorted((home / "keys").iterdir()):
        name = f"{f.KEYS}{path.name}"
        if path.suffix in (".pem", ".key") and f.is_name(name) and path.is_file():
            yield name, path


def _count(step: Callable[[int, int | None], None], total: int) -> Callable[[int], None]:
    """Return what is told of bytes as they come, and says how far it is."""
    done = 0

    def more(size: int) -> None:
        nonlocal done
        done += size
        step(done, total)

    return more


def _forget_pages(descriptor: int) -> None:
    """Have the file read from the disk again, not from memory, where the system knows how."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder for backups", hint="name another folder")
    with _told(f"the folder {folder} cannot be made"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{folder} is a file, or below one", hint="name another folder") from None


@contextlib.contextmanager
def scratch(folder: Path, clock: Clock) -> Iterator[Path]:
    """Make a folder that is gone afterwards, also if its maker is killed: then the next one here removes it."""
    with _told(f"nothing can be written in {folder}"):
        _sweep(folder)
        path, descriptor = disk.held_folder(lambda: _new_partial(folder, clock))
    try:
        yield path
    finally:
        os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)


def _new_partial(folder: Path, clock: Clock) -> Path:
    path = folder / f".fedctl-{clock.new_id()}.partial"
    path.mkdir(mode=0o700)
    return path


def sweep_partials(home: Path) -> list[Path]:
    """Remove what runs that died left of their copies; return the folders of those that live, or may."""
    left: list[Path] = []
    for folder in (home, *known_folders(home)):
        with contextlib.suppress(OSError):
            left += _sweep(folder)
    return left


def dead_partials(home: Path) -> Iterator[Path]:
    """Yield the folders of copies whose makers died, each held while it is yielded (`disk.dead`)."""
    for folder in (home, *known_folders(home)):
        with contextlib.suppress(OSError):
            yield from disk.dead(_partials(folder), stat.S_ISDIR)


def _partials(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if _SCRATCH.fullmatch(path.name)]


def _sweep(folder: Path) -> list[Path]:
    partials = _partials(folder)
    for path in disk.dead(partials, stat.S_ISDIR):
        with contextlib.suppress(OSError):  # not for us to remove
            shutil.rmtree(path)
    return [path for path in partials if path.is_dir() and not path.is_symlink()]


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Map the operating system's errors to ours."""
    try:
        yield
    except OSError as error:
        raise from_os(error, what) from error


# -- finding -----------------------------------------------------------------------------------------------------


def known_folders(home: Path) -> list[Path]:
    """Return the folders that backups of this home were made in, its own first; not all of them need be there."""
    return list(dict.fromkeys([home / FOLDER, *Register(home).folders()]))


def absent_folders(home: Path) -> list[Path]:
    """Return the folders that backups of this home were made in and that cannot be looked into now."""
    return [folder for folder in Register(home).folders() if not _is_readable(folder)]


def _is_readable(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True


def unsure(home: Path, path: Path) -> list[str]:
    """Return why the file found as `latest` may not be this home's newest backup, a sentence each; none: it is.

    A disk that is not mounted leaves no folder, or an empty one.
    """
    absent = absent_folders(home)
    folders = {*known_folders(home)} - {*absent}
    newer = (one for one in Register(home).whole() if NAME.fullmatch(one.name) and one.name > path.name)
    return [f"the folder {folder} is not there now, and may hold a newer backup" for folder in absent] + [
        f"{one}, which is newer, is not there now" for one in newer if one.parent in folders and not one.exists()
    ]


def list_(home: Path, folder: Path | None = None) -> list[Backup]:
    """Return the backups in a folder, or in all that the home knows, oldest first. Damaged ones say so.

    Raises:
        NotFound: There is no such folder.
        Denied: It may not be read.
    """
    if folder is not None and not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", hint="fedctl backup list without a folder lists all known ones")
    return [describe(home, path) for path in _files(home, folder)]


def find(home: Path, what: str) -> Path:
    """Return the file of a backup: `latest`, an id, or a path.

    `latest` is this home's newest of those that are there now (`unsure` says if there may be others), whole or not.

    Raises:
        NotFound: There is none.
    """
    if what == "latest":
        own = own_public_key(home / "keys")
        for path in reversed(_files(home, None)):
            if own is None or describe(home, path).own:
                return path
        raise NotFound("there is no backup", hint=_elsewhere(home) or "make one: fedctl backup create")
    if _ID.fullmatch(what):
        for path in _files(home, None):
            if parsed(path)[0] == what:
                return path
    elif os.path.exists(what):  # noqa: PTH110  what is too long for a name is not there either
        return Path(what).absolute()
    raise NotFound(
        f"there is no backup {what}",
        hint=_elsewhere(home) or "fedctl backup list shows those there are; a file needs its path",
    )


def _elsewhere(home: Path) -> str | None:
    absent = absent_folders(home)
    return f"is it in {absent[0]}? That folder is not there now" if absent else None


def opener(home: Path, *, passphrase_file: Path | None = None, signed_by: str | None = None) -> Opener:
    """Return what opens backups for this home: its own, or those of the key with the fingerprint `signed_by`."""
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    return Opener(own_public_key(home / "keys"), signed_by=signed_by, passphrase=passphrase)


def backups_holding(home: Path, digest: bytes) -> list[Backup]:
    """Return the backups that hold something of the tenant with that digest (`store.ledger.tenant_digest`).

    Those that cannot be looked into (sealed: `episodes` is None; damaged: `error` says why) are among them.
    """
    found = []
    sweep_partials(home)  # what a run that died left there may hold it as well
    for path in _files(home, None):
        try:
            with open_archive(path, AnyOpener()) as archive:
                held = archive.contents
        except FedctlError:
            held = None
        if held is None or any(one.sha256 == digest.hex() for one in held.tenants):
            found.append(describe(home, path))
    return found


def show(home: Path, path: Path) -> Backup:
    """Return what there is to say of a backup, also of a damaged one; raise as `open_archive` if it is none at all."""
    found = describe(home, path)
    if found.error is not None:
        try:
            open_archive(path, AnyOpener()).close()
        except Corrupt:
            if found.id is None:
                raise
    return found


def unlooked(home: Path) -> list[str]:
    """Return what `backups_holding` could not look into, a sentence for each folder: more backups may be there."""
    return [f"the folder {folder} cannot be looked into now, and may hold more backups" for folder in
            absent_folders(home)]  # fmt: skip


def describe(home: Path, path: Path) -> Backup:
    """Return what there is to say of a backup file without its passphrase, and without reading all of it."""
    noted = Register(home).noted(path)
    backup_id, created_at = parsed(path)
    said: dict[str, Any] = dict.fromkeys(("episodes", "items", "schema_version", "model"))
    said |= {"id": backup_id, "created_at": created_at, "size_bytes": 0, **noted}
    try:
        said["size_bytes"] = path.stat().st_size
        with open_archive(path, AnyOpener()) as archive:
            said |= _said(archive)
        own = own_public_key(home / "keys")
        said["own"] = own is not None and archive.manifest.public_key == own.hex()
    except (FedctlError, OSError) as error:
        said |= {"error": str(error), "verified_at": None}
    return Backup(path=str(path), **said)


def _said(archive: Archive) -> dict[str, Any]:
    manifest, held = archive.manifest, archive.contents
    said: dict[str, Any] = {
        "id": manifest.id,
        "created_at": manifest.created_at,
        "fedctl_version": manifest.fedctl_version,
        "sealed": manifest.sealing is not None,
        "signed_by": fingerprint(bytes.fromhex(manifest.public_key)),
        "parts": archive.names,
    }
    if held is not None:
        said |= {name: getattr(held, name) for name in ("episodes", "items", "schema_version", "model", "epoch", "seq")}
        said["tenants"] = len(held.tenants)
    return said


def _files(home: Path, folder: Path | None) -> list[Path]:
    """Return the backup files of a folder or of all known ones, by the time in their names."""
    found = {}
    for one in known_folders(home) if folder is None else [folder.absolute()]:
        try:
            for path in one.iterdir():
                if NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    found[path.resolve()] = path
        except PermissionError as error:
            if folder is not None:
                raise Denied(f"the folder {one} may not be read") from error
        except OSError:
            continue  # a disk that is not there
    return sorted(found.values(), key=lambda path: (path.name, path))


# -- checking ----------------------------------------------------------------------------------------------------


def verify(  # noqa: PLR0913  one parameter a choice
    home: Path,
    clock: Clock,
    path: Path,
    opener: Opener,
    *,
    restore_test: bool = False,
    step: Callable[[int, int | None], None] = _no_step,
) -> Backup:
    """Read all of a backup, and note whether it is as it was made; with `restore_test` restore it beside itself.

    Raises:
        Corrupt: It is damaged, forged or foreign.
        Denied: It was sealed with another passphrase.
        UsageError: A sealed one is to be restored, and there is no passphrase.
        DiskFull: There is no room to restore it.
    """
    # An earlier restore still says something of a file that is the same, and whole.
    tested_at = Register(home).noted(path)["restore_tested_at"]
    noted: dict[str, Any] = {"verified_at": None, "sha256": None, "error": None, "restore_tested_at": None}
    try:
        with open_archive(path, opener) as archive:
            noted["sha256"] = archive.verify(_count(step, archive.size_bytes))
            if restore_test:
                _test_restore(archive, home, clock, step)
        noted["verified_at"] = to_rfc3339(clock.now_ms())
        noted["restore_tested_at"] = noted["verified_at"] if restore_test else tested_at
    except (WrongPassphraseError, ForeignError):
        raise
    except Corrupt as error:
        noted["error"] = error.message
        raise
    finally:
        if noted["verified_at"] or noted["error"]:
            Register(home).note_if_possible(path, **noted)
    return msgspec.structs.replace(describe(home, path), **noted)


def _test_restore(archive: Archive, home: Path, clock: Clock, step: Callable[[int, int | None], None]) -> None:
    sealed = archive.manifest.sealing is not None
    folder = home if sealed and home.is_dir() else archive.path.parent  # as in `create`
    with scratch(folder, clock) as aside, _told(f"the backup cannot be restored in {folder}"):
        copy = aside / FILE_NAME
        with open(copy, "xb", opener=_owner_s) as file:
            archive.extract(f.DATABASE, file, _count(step, archive.size_bytes))
        vet_restored(copy, archive.manifest.id, lambda: step(0, None))
        store = Store.open_file(copy, clock, create=False)
        try:
            with store.read():
                held = contents(store)
        finally:
            store.close()
    said = archive.contents
    assert said is not None
    if held != msgspec.structs.replace(said, parts=[], schema_version=held.schema_version):
        raise Corrupt(f"the database in {archive.path} does not hold what the backup says", hint=_TRY_ANOTHER)


_TRY_ANOTHER = "try another: fedctl backup list"


def vet_restored(copy: Path, backup_id: str, watch: Callable[[], None] = lambda: None) -> list[str]:
    """Vet the database that came out of a backup: as `store.vet.vet`, and its errors tell of the backup."""
    try:
        return vet(copy, watch)
    except Corrupt as error:
        damaged = error.message.startswith("it is damaged")
        said = error.message.removeprefix("it ") if damaged else f"cannot be used: {error.message}"
        raise Corrupt(
            f"the database of the backup {backup_id} {said}", hint=error.hint or _TRY_ANOTHER, details=error.details
        ) from error


# -- forgetting --------------------------------------------------------------------------------------------------


def prune(  # noqa: PLR0913  one parameter a choice
    home: Path,
    clock: Clock,
    folder: Path | None,
    rules: KeepRules,
    *,
    dry_run: bool = False,
    fresh: Backup | None = None,
    step: Callable[[int, int | None], None] = _no_step,
) -> Pruned:
    """Remove the backups of this home in a folder that no rule keeps.

    The newest is read first; a damaged one is left alone and does not count, so the newest whole one always stays. One
    that is dated in the future stays, and does not count either; so does the one that was made just now.

    Args:
        home: The home; what others signed is left alone.
        clock: The time.
        folder: Where; None: the home's own.
        rules: The keep rules.
        dry_run: Whether to say only what would go.
        fresh: The backup that was verified just now, if one was.
        step: As in `create`.

    Raises:
        UsageError: There is no rule.
        NotFound: There is no such folder.
        Corrupt: None of them is whole; nothing is removed.
    """
    policy = {name: count for name in rules.__struct_fields__ if (count := getattr(rules, name))}
    if not policy:
        raise UsageError("without a rule nothing would be kept", hint="say what to keep: --keep-daily 7 --keep-last 3")
    if folder is None:
        folder = home / FOLDER
        listed = list_(home, folder) if folder.is_dir() else []
    else:
        listed = list_(home, folder)
    damaged = [one.error for one in listed if one.own and one.error is not None]
    now_ms = clock.now_ms()
    whole = [one for one in reversed(listed) if one.own and one.error is None]
    for newest in [one for one in whole if _made_ms(one) <= now_ms]:
        error = None if fresh is not None and newest.id == fresh.id else _damage(home, newest, step, note=not dry_run)
        if error is None:
            break
        damaged.append(error)
        whole.remove(newest)
    if damaged and not whole:
        raise Corrupt(f"none of the backups in {folder} is whole: nothing was removed", hint="make one: fedctl backup")
    judged = [
        Judged(id=one.id or "", created_at=one.created_at or "", path=one.path, size_bytes=one.size_bytes,
               kept=bool(why), reasons=why)
        for one, why in _judged(whole, rules, now_ms, fresh)
    ]  # fmt: skip
    gone = [one for one in reversed(judged) if not one.kept]
    if gone and not dry_run:
        with _told(f"a backup in {folder} cannot be removed"):
            for one in gone:
                step(0, None)
                Path(one.path).unlink(missing_ok=True)
            disk.sync(folder)
    reasons: dict[str, int] = {}
    for one in judged:
        for why in one.reasons:
            reasons[why] = reasons.get(why, 0) + 1
    return Pruned(
        policy=policy, dry_run=dry_run, examined=len(listed), removed=len(gone), kept=len(listed) - len(gone),
        reasons=reasons, bytes_freed=sum(one.size_bytes for one in gone), backups=judged,
        damaged=damaged,
    )  # fmt: skip


def _judged(
    whole: list[Backup], rules: KeepRules, now_ms: int, fresh: Backup | None
) -> Iterator[tuple[Backup, list[str]]]:
    for one, why in zip(whole, keep([_made_ms(one) for one in whole], rules, now_ms), strict=True):
        yield one, why or (["new"] if fresh is not None and one.id == fresh.id else [])


def _damage(home: Path, backup: Backup, step: Callable[[int, int | None], None], *, note: bool) -> str | None:
    """Read all of a backup; return what is wrong with it, and note that, or None."""
    try:
        with open_archive(Path(backup.path), opener(home)) as archive:
            archive.verify(_count(step, archive.size_bytes))
    except Corrupt as error:
        if note:
            Register(home).note_if_possible(Path(backup.path), verified_at=None, sha256=None, error=error.message)
        return error.message
    return None


def _made_ms(backup: Backup) -> int:
    return from_rfc3339(backup.created_at or "")
