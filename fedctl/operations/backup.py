"""Making, finding, checking and forgetting backups. A command does this itself: a hub goes on meanwhile.

A backup is made in a folder of its own beside its place and moved there when it was read again and found whole. Such
a folder is locked while its maker lives, and swept by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl import __version__
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
from fedctl.errors import Corrupt, Denied, FedctlError, NotFound, UsageError, from_os
from fedctl.model.backup import Backup, Judged, KeepRules, Pruned
from fedctl.model.time import from_rfc3339, to_rfc3339
from fedctl.retention.keep import keep
from fedctl.store.backup import contents
from fedctl.store.lock import FileLock
from fedctl.store.store import FILE_NAME, Store
from fedctl.store.vet import vet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.clock import Clock

FOLDER = "backups"
"""Where a home's backups go if nothing else is said."""
REGISTER = "backups.json"
_NAME = re.compile(r"fedctl-(\d{8}T\d{9}Z)-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.backup")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SCRATCH = re.compile(r"\.fedctl-[0-9a-f-]{36}\.partial")
_REGISTER_WAIT_S = 10.0


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
        step: Called every few milliseconds with how far it is, and of how much; may raise, to end it.

    Raises:
        NoStore: There is nothing to copy.
        DiskFull: There is no room; nothing is left behind.
        Denied: The folder may not be written.
        UsageError: There is no passphrase in that file.
    """
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    folder = home / FOLDER if folder is None else folder.absolute()
    backup_id, created_at_ms = clock.new_id(), clock.now_ms()
    created_at = to_rfc3339(created_at_ms)
    store = Store.open(home, clock, create=False, timeout_s=timeout_s)
    with contextlib.ExitStack() as open_store:
        open_store.callback(store.close)
        _make_folder(folder)
        path = folder / f"fedctl-{re.sub('[-:.]', '', created_at)}-{backup_id}.backup"
        with _scratch(folder, clock) as scratch, _told(f"the backup cannot be written in {folder}"):
            copy, unborn = scratch / FILE_NAME, scratch / "backup"
            _check_room(store, home, folder)
            with store.read():
                held = contents(store)
                store.database.copy_to(copy, step)
            open_store.close()
            size = copy.stat().st_size
            key = HomeKey(home / "keys")
            sealer = None if passphrase is None else PassphraseSealer.new(passphrase)
            with open(unborn, "xb", opener=_owner_s) as file:
                writer = Writer(
                    file, backup_id=backup_id, created_at=created_at, version=__version__, signer=key, sealer=sealer
                )
                with copy.open("rb") as source:
                    writer.add(f.DATABASE, source.read, _count(step, size))
                for name, part in _settings(home) if with_keys else ():
                    with part.open("rb") as source:
                        writer.add(name, source.read)
                writer.finish(held)
                file.flush()
                os.fsync(file.fileno())
                _forget_pages(file.fileno())
            copy.unlink()
            opener = Opener(key.public_key, passphrase=passphrase)
            with open_archive(unborn, opener) as archive:
                sha256 = archive.verify(_count(step, archive.size_bytes))
            unborn.rename(path)
            _sync(folder)
    with _told(f"the backup is {path}, but it cannot be noted in {home}"):
        _Register(home).note(path, sha256=sha256, verified_at=to_rfc3339(clock.now_ms()), error=None, made=True)
    return describe(home, path)


def _owner_s(path: str, flags: int) -> int:
    """Open a new file for the eyes of its owner only."""
    return os.open(path, flags, 0o600)


def _check_room(store: Store, home: Path, folder: Path) -> None:
    """Refuse what would leave the store itself without room: the copy, and the backup that is made of it."""
    if folder.stat().st_dev == home.stat().st_dev:
        size_bytes = int(store.database.pragma("page_count")) * int(store.database.pragma("page_size"))
        store.check_room_for(size_bytes * 3 // 2)


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
def _scratch(folder: Path, clock: Clock) -> Iterator[Path]:
    """Make a folder that is gone afterwards, also if its maker is killed: then the next one here removes it."""
    with _told(f"nothing can be written in {folder}"):
        for dead in sorted(folder.iterdir()):
            if _SCRATCH.fullmatch(dead.name):
                _sweep(dead)
        path, descriptor = _locked_folder(folder, clock)
    try:
        yield path
    finally:
        os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)


def _locked_folder(folder: Path, clock: Clock) -> tuple[Path, int]:
    while True:
        path = folder / f".fedctl-{clock.new_id()}.partial"
        path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if path.exists():
                return path, descriptor
        except BlockingIOError:  # somebody sweeps in this very moment, and took it for a dead one's
            pass
        except OSError:  # a file system without locks: there nobody sweeps either
            return path, descriptor
        os.close(descriptor)


def _sweep(path: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else's, or somebody is at work there
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        finally:
            os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    return list(dict.fromkeys([home / FOLDER, *_Register(home).folders()]))


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
    """Return the file of a backup: `latest`, an id, or a path. `latest` is this home's newest, whole or not.

    Raises:
        NotFound: There is none.
    """
    if what == "latest":
        own = own_public_key(home / "keys")
        for path in reversed(_files(home, None)):
            if own is None or describe(home, path).own:
                return path
        raise NotFound("there is no backup", hint="make one: fedctl backup create")
    if _ID.fullmatch(what):
        for path in _files(home, None):
            if _parsed(path)[0] == what:
                return path
    elif Path(what).exists():
        return Path(what).absolute()
    raise NotFound(f"there is no backup {what}", hint="fedctl backup list shows those there are; a file needs its path")


def opener(home: Path, *, passphrase_file: Path | None = None, signed_by: str | None = None) -> Opener:
    """Return what opens backups for this home: its own, or those of the key with the fingerprint `signed_by`."""
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    return Opener(own_public_key(home / "keys"), signed_by=signed_by, passphrase=passphrase)


def backups_holding(home: Path, digest: bytes) -> list[Backup]:
    """Return the backups that hold something of the tenant with that digest (`store.ledger.tenant_digest`).

    Those that cannot be looked into (sealed: `episodes` is None; damaged: `error` says why) are among them.
    """
    found = []
    for path in _files(home, None):
        try:
            with open_archive(path, AnyOpener()) as archive:
                held = archive.contents
        except FedctlError:
            held = None
        if held is None or any(one.sha256 == digest.hex() for one in held.tenants):
            found.append(describe(home, path))
    return found


def describe(home: Path, path: Path) -> Backup:
    """Return what there is to say of a backup file without its passphrase, and without reading all of it."""
    noted = _Register(home).noted(path)
    backup_id, created_at = _parsed(path)
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
                if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    found[path.resolve()] = path
        except PermissionError as error:
            if folder is not None:
                raise Denied(f"the folder {one} may not be read") from error
        except OSError:
            continue  # a disk that is not there
    return sorted(found.values(), key=lambda path: (path.name, path))


def _parsed(path: Path) -> tuple[str | None, str | None]:
    """Return id and time (RFC 3339) from a file's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None, None
    t = match[1]
    return match[2], f"{t[:4]}-{t[4:6]}-{t[6:8]}T{t[9:11]}:{t[11:13]}:{t[13:15]}.{t[15:18]}Z"


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
        Corrupt: It is damaged, forged or foreign, or the passphrase is wrong.
        UsageError: A sealed one is to be restored, and there is no passphrase.
        DiskFull: There is no room to restore it.
    """
    noted: dict[str, Any] = {"verified_at": None, "sha256": None, "error": None}
    try:
        with open_archive(path, opener) as archive:
            noted["sha256"] = archive.verify(_count(step, archive.size_bytes))
            if restore_test:
                _test_restore(archive, clock, step)
        noted["verified_at"] = to_rfc3339(clock.now_ms())
    except (WrongPassphraseError, ForeignError):
        raise
    except Corrupt as error:
        noted["error"] = error.message
        raise
    finally:
        if noted["verified_at"] or noted["error"]:
            _Register(home).note_if_possible(path, **noted)
    return msgspec.structs.replace(describe(home, path), sha256=noted["sha256"], verified_at=noted["verified_at"])


def _test_restore(archive: Archive, clock: Clock, step: Callable[[int, int | None], None]) -> None:
    folder = archive.path.parent
    with _scratch(folder, clock) as scratch, _told(f"the backup cannot be restored in {folder}"):
        copy = scratch / FILE_NAME
        with copy.open("xb") as file:
            archive.extract(f.DATABASE, file, _count(step, archive.size_bytes))
        step(0, None)
        try:
            vet(copy)
        except Corrupt as error:
            raise Corrupt(f"the database in {archive.path} cannot be used: {error.message}", hint=error.hint) from error
        step(0, None)
        store = Store.open_file(copy, clock, create=False)
        try:
            with store.read():
                held = contents(store)
        finally:
            store.close()
    said = archive.contents
    assert said is not None
    if held != msgspec.structs.replace(said, parts=[], schema_version=held.schema_version):
        raise Corrupt(f"the database in {archive.path} does not hold what the backup says", hint="use another backup")


# -- forgetting --------------------------------------------------------------------------------------------------


def prune(  # noqa: PLR0913  one parameter a choice
    home: Path,
    folder: Path | None,
    rules: KeepRules,
    *,
    dry_run: bool = False,
    fresh: Backup | None = None,
    step: Callable[[int, int | None], None] = _no_step,
) -> Pruned:
    """Remove the backups of this home in a folder that no rule keeps.

    The newest is read first; a damaged one is left alone and does not count, so the newest whole one always stays.

    Args:
        home: The home; what others signed is left alone.
        folder: Where; None: the home's own.
        rules: The keep rules.
        dry_run: Whether to say only what would go.
        fresh: The backup that was verified just now, if one was.
        step: As in `create`.

    Raises:
        UsageError: There is no rule.
        Corrupt: None of them is whole; nothing is removed.
    """
    policy = {name: count for name in rules.__struct_fields__ if (count := getattr(rules, name))}
    if not policy:
        raise UsageError("without a rule nothing would be kept", hint="say what to keep: --keep-daily 7 --keep-last 3")
    folder = home / FOLDER if folder is None else folder
    listed = list_(home, folder) if folder.is_dir() else []
    whole = [one for one in reversed(listed) if one.own and one.error is None]
    present = bool(whole)
    while whole and not (fresh is not None and whole[0].id == fresh.id):
        try:
            with open_archive(Path(whole[0].path), opener(home)) as archive:
                archive.verify(_count(step, archive.size_bytes))
            break
        except Corrupt as error:
            if not dry_run:
                damage = {"verified_at": None, "sha256": None, "error": error.message}
                _Register(home).note_if_possible(Path(whole[0].path), **damage)
            del whole[0]
    if present and not whole:
        raise Corrupt(f"none of the backups in {folder} is whole: nothing was removed", hint="make one: fedctl backup")
    judged = [
        Judged(id=one.id or "", created_at=one.created_at or "", path=one.path, size_bytes=one.size_bytes,
               kept=bool(why), reasons=why)
        for one, why in zip(whole, keep([_made_ms(one) for one in whole], rules), strict=True)
    ]  # fmt: skip
    gone = [one for one in reversed(judged) if not one.kept]
    if gone and not dry_run:
        with _told(f"a backup in {folder} cannot be removed"):
            for one in gone:
                step(0, None)
                Path(one.path).unlink(missing_ok=True)
            _sync(folder)
    reasons: dict[str, int] = {}
    for one in judged:
        for why in one.reasons:
            reasons[why] = reasons.get(why, 0) + 1
    return Pruned(
        policy=policy, dry_run=dry_run, examined=len(listed), removed=len(gone), kept=len(listed) - len(gone),
        reasons=reasons, bytes_freed=sum(one.size_bytes for one in gone), backups=judged,
    )  # fmt: skip


def _made_ms(backup: Backup) -> int:
    return from_rfc3339(backup.created_at or "")


# -- what the home remembers -------------------------------------------------------------------------------------


class _Noted(msgspec.Struct, kw_only=True):
    size_bytes: int
    mtime_ns: int
    sha256: str | None
    verified_at: str | None
    error: str | None


class _Registered(msgspec.Struct, kw_only=True):
    folders: list[str] = []
    backups: dict[str, _Noted] = {}


class _Register:
    """`backups.json` in the home: where backups were made, and when each file was last found whole, or damaged.

    Derived: what is lost here is found out again by `verify`.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / REGISTER

    def _load(self) -> _Registered:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Registered)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return _Registered()

    def folders(self) -> list[Path]:
        return [Path(one) for one in self._load().folders]

    def noted(self, path: Path) -> dict[str, Any]:
        """Return what is known of a file, as long as it is the same file."""
        found = self._load().backups.get(str(path))
        with contextlib.suppress(OSError):
            state = path.stat()
            if found is not None and (found.size_bytes, found.mtime_ns) == (state.st_size, state.st_mtime_ns):
                return {"sha256": found.sha256, "verified_at": found.verified_at, "error": found.error}
        return {"sha256": None, "verified_at": None, "error": None}

    def note(
        self, path: Path, *, sha256: str | None, verified_at: str | None, error: str | None, made: bool = False
    ) -> None:
        """Note how a file was found; with `made` its folder is one to look into from now on."""
        lock = FileLock(self._path.with_suffix(".lock"), _REGISTER_WAIT_S)
        lock.acquire()
        try:
            register = self._load()
            if made and str(path.parent) not in register.folders:
                register.folders.append(str(path.parent))
            for name in list(register.backups):
                if Path(name).parent.is_dir() and not Path(name).exists():
                    del register.backups[name]
            state = path.stat()
            register.backups[str(path)] = _Noted(
                size_bytes=state.st_size, mtime_ns=state.st_mtime_ns, sha256=sha256, verified_at=verified_at,
                error=error,
            )  # fmt: skip
            unborn = self._path.with_suffix(".json.new")
            descriptor = os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(register))
                file.flush()
                os.fsync(file.fileno())
            unborn.replace(self._path)
        finally:
            lock.close()

    def note_if_possible(self, path: Path, **noted: Any) -> None:
        """Note it, unless the home or its disk does not let us: the answer is worth more than the note."""
        with contextlib.suppress(OSError, FedctlError):
            if self._path.parent.is_dir():
                self.note(path, **noted)
