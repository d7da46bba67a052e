"""Restoring: a backup's database becomes the store of a home.

Nothing of the home changes before all of the backup was verified, taken out, and found to be a store and nothing but
that. What came after the backup and must not be undone is carried over from the home: erasures, and the end of tokens.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fedctl.access.sealing import fingerprint
from fedctl.archive.format import KEYS
from fedctl.errors import Conflict, Corrupt, Failure, FedctlError, Locked, UsageError, from_os
from fedctl.model.restore import ErasedAgain, Restored
from fedctl.operations.backup import scratch, vet_restored
from fedctl.operations.erasure import apply_ledger
from fedctl.recall.index import IndexFolder
from fedctl.store import ledger, migrate, room, swap
from fedctl.store.database import APPLICATION_ID, Database, translated
from fedctl.store.lock import use
from fedctl.store.store import FILE_NAME, Store
from fedctl.store.trouble import no_file_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from fedctl.archive.format import Manifest
    from fedctl.clock import Clock
    from fedctl.model.backup import Contents
    from fedctl.store.database import Row
    from fedctl.store.lock import FileLock

DATABASE = "database"
_LEFT = {"store.use", "store.lock", room.RESERVE_NAME, FILE_NAME + ".exchange"}
"""What a restore that died leaves of a folder that it had begun to make a home."""


class Source(Protocol):
    """An open backup, as much of one as a restore needs (archive/reader)."""

    @property
    def manifest(self) -> Manifest:
        """Its id, and when it was made."""
        ...

    @property
    def contents(self) -> Contents | None:
        """What it says it holds; None: it is sealed, and there is no passphrase."""
        ...

    @property
    def names(self) -> list[str]:
        """The parts: `database`, perhaps `config.toml` and `keys/NAME`."""
        ...

    def size_of(self, name: str) -> int:
        """Return the size of a part, in bytes; `UsageError` when it is sealed and there is no passphrase."""
        ...

    def verify(self, watch: Callable[[int], None]) -> object:
        """Raise `Corrupt` unless every byte is as it was."""
        ...

    def extract(self, name: str, target: BinaryIO, watch: Callable[[int], None]) -> None:
        """Write a part into an open file."""
        ...


class Place(NamedTuple):
    """Where a backup is restored to.

    `home` is the home that asks, whose ledger of erasures holds wherever the store goes; `into` the home that gets the
    store: the same, or a folder that is absent or empty. `overwrite`: a store that is there may go.
    """

    home: Path
    into: Path
    overwrite: bool = False
    lock_wait_s: float = 0.0

    @property
    def path(self) -> Path:
        """The store."""
        return self.into / FILE_NAME

    @property
    def elsewhere(self) -> bool:
        """Whether a new home is to be made."""
        return self.into != self.home


class _Present(NamedTuple):
    """What is carried over from the store that goes."""

    tokens: list[Row]
    erased: list[ledger.Entry]
    notes: list[str]


def check_place(place: Place, *, only_looks: bool = False) -> None:
    """Say what stands in the way, before anything is read or asked; who only looks needs no leave to overwrite.

    Raises:
        UsageError: It is below a file.
        Conflict: A store is there and may not go, or a new home is to be made where something is.
        Denied: The folder may not be looked into.
    """
    path = place.path
    with translated(path):
        above = next(one for one in [place.into, *place.into.parents] if one.exists())
        if above != place.into and not above.is_dir():
            raise UsageError(f"no home can be made in {place.into}: {above} is a file", hint="name another folder")
        if place.elsewhere and place.into.exists():
            found = sorted(one.name for one in place.into.iterdir()) if place.into.is_dir() else ["a file"]
            strange = [name for name in found if name not in _LEFT]
            if strange:
                raise Conflict(
                    f"{place.into} is not an empty folder: {strange[0]} is there",
                    hint="name a folder that is not there",
                )
        if path.is_symlink() or (path.exists() and not path.is_file()):
            kind = "a folder" if path.is_dir() else "no file"
            what = f"a link to {path.readlink()}" if path.is_symlink() else kind
            raise Conflict(f"{path} is {what}, not a database", hint="move it aside first")
        if (beside := no_file_beside(path)) is not None:
            raise Conflict(f"{beside} is no file, as the store's log is", hint="move it aside first")
        if path.exists() and not place.overwrite and not only_looks:
            raise Conflict(
                f"the home {place.into} has a store",
                hint="replace it with --overwrite, or make a new home with --to DIR",
            )


def restore(
    source: Source,
    place: Place,
    clock: Clock,
    watch: Callable[[int], None] = lambda _bytes: None,
    *,
    exchange: type[swap.Exchange] = swap.Exchange,
) -> Restored:
    """Make the backup's database the store of a home; when this returns it is, and the old one is gone.

    `watch` hears how many bytes were worked through since it was last called, and may raise to end it: like any error,
    and like a `kill -9` at any moment, that leaves the old store as it was.

    Raises:
        Locked: Somebody uses the store.
        Conflict: As `check_place`.
        Corrupt: The backup is damaged, or its database is not one that this fedctl makes.
        DiskFull: There is no room for it beside the old store.
    """
    check_place(place)
    source.size_of(DATABASE)  # what is sealed is asked for its passphrase first
    with contextlib.ExitStack() as undo:
        if place.path.exists():  # whoever uses it is told of at once, not after the hour it takes to read the backup
            undo.callback(_alone(place).close)
            source.verify(watch)
        else:
            source.verify(watch)
            undo.enter_context(_made(place.into))
            undo.callback(_alone(place).close)
        swapped = exchange(place.path)
        with translated(place.path):
            swapped.recover()
        check_place(place)  # what a restore that died had decided is done only now
        try:
            with translated(place.path):
                swapped.begin()
                _take_out(source, swapped, place, watch)
                restored = _settled(source, swapped, place, clock)
                swapped.commit()
            _check_opened(place.path, swapped, restored.epoch)
            IndexFolder(place.into / "index").sweep([])  # derived from the old store; the new one knows of no file
        finally:
            with translated(place.path):
                swapped.recover()
    return restored


def rehearse(
    source: Source, place: Place, clock: Clock, watch: Callable[[int], None] = lambda _bytes: None
) -> Restored:
    """Verify a backup, restore it beside its place, and return what restoring it would begin with; nothing is changed.

    Others may use the store meanwhile, and it may be there. Else this raises as `restore`.
    """
    check_place(place, only_looks=True)
    size = source.size_of(DATABASE)
    source.verify(watch)
    assert source.contents is not None
    beside = next(one for one in [place.into, *place.into.parents] if one.is_dir())
    with scratch(beside, clock) as aside, translated(aside):
        _check_room(beside, size)
        copy = aside / FILE_NAME
        with open(copy, "xb", opener=_owner_s) as file:
            source.extract(DATABASE, file, watch)
        words = vet_restored(copy, source.manifest.id, lambda: watch(0))
        _ledgers(place, _present(source, place))
        store = Store.open_file(copy, clock, create=False)  # brought to this fedctl's schema
        try:
            lacks = _lacks(source, place, store)
        finally:
            store.close()
    return Restored(
        id=source.manifest.id,
        created_at=source.manifest.created_at,
        path=str(place.path),
        episodes=source.contents.episodes,
        items=source.contents.items,
        erased_again=ErasedAgain(),
        epoch=None,
        notes=["the backup is whole; nothing was changed", *lacks, *_damaged(words)],
    )


def _alone(place: Place) -> FileLock:
    try:
        return use(place.path, place.lock_wait_s, exclusive=True)
    except Locked as error:
        raise Locked(
            f"the store in {place.into} is in use: {error.message}", hint=error.hint, details=error.details
        ) from None
    except OSError as error:
        hint = "if a lock of it is no file, move that aside"
        raise from_os(error, f"cannot write in {place.into}", hint=hint) from error


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder for a home, for a `with`; when that fails, nothing of it is left."""
    above = next(one for one in [folder, *folder.parents] if one.exists())
    had = {one.name for one in folder.iterdir()} if above == folder and folder.is_dir() else set()
    try:
        with translated(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for name in _LEFT - had - {FILE_NAME + ".exchange"}:
                (folder / name).unlink(missing_ok=True)
            one = folder
            while one != above:
                one.rmdir()
                one = one.parent
        raise


# -- the backup's database, made ready ---------------------------------------------------------------------------


def _take_out(source: Source, exchange: swap.Exchange, place: Place, watch: Callable[[int], None]) -> None:
    _check_room(place.into, source.size_of(DATABASE))
    for name in source.names:
        # The keys and settings of a home that has some stay: a key that was rotated out must not come back.
        if name == DATABASE:
            target = exchange.unpacked
        elif not _is_there(place.into / name.partition("/")[0]):
            target = exchange.beside / name
            target.parent.mkdir(mode=0o700, exist_ok=True)
        else:
            continue
        with open(target, "xb", opener=_owner_s) as file:
            source.extract(name, file, watch)


def _check_room(folder: Path, size_bytes: int) -> None:
    space = room.look(str(folder))
    if space is not None and space.refuses(size_bytes, 0):
        raise room.refusal(space, size_bytes)


def _owner_s(path: str, flags: int) -> int:
    """Open a new file for the eyes of its owner only."""
    return os.open(path, flags, 0o600)


def _is_there(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _settled(source: Source, exchange: swap.Exchange, place: Place, clock: Clock) -> Restored:
    """Check the database and make it a store of this home: a new epoch, and what must not come back does not."""
    words = vet_restored(exchange.unpacked, source.manifest.id)
    present = _present(source, place)
    store = Store.open_file(exchange.unpacked, clock, create=False)
    try:
        entries = [*_ledgers(place, present), *present.erased]
        again = apply_ledger(store, entries)
        epoch = clock.new_id()
        with store.write():
            store.tokens.merge(present.tokens)
            store.indexes.drop_all()
            store.settings.put("epoch", epoch)
        notes = [*present.notes, *_kept(source, place), *_lacks(source, place, store), *_damaged(words)]
        restored = Restored(
            id=source.manifest.id,
            created_at=source.manifest.created_at,
            path=str(place.path),
            episodes=store.tenants.episodes_everywhere(),
            items=sum(store.pools.count_everywhere()[1].values()),
            erased_again=ErasedAgain(tenants=again.tenants, episodes=again.episodes),
            epoch=epoch,
            notes=notes,
        )
        _keep_ledger(place, exchange, [*entries, *store.erasures.entries()])
        exchange.seal(store.database)
    finally:
        store.close()
    return restored


def _present(source: Source, place: Place) -> _Present:
    """Return what the home's own store knows that a backup of it cannot; a damaged one may say nothing any more."""
    path = place.home / FILE_NAME
    if not path.exists():
        keys = any(name.endswith(".pem") for name in source.names) or any((place.into / "keys").glob("*.pem"))
        return _Present([], [], [_unknown("there was no store here")] if keys else [])
    try:
        store = Store(Database(path))
        try:
            if store.database.pragma("application_id") != APPLICATION_ID:
                raise Corrupt("it is empty, or no store of fedctl")
            erased = store.erasures.entries() if store.database.pragma("user_version") >= _WITH_ERASURES else []
            return _Present(store.tokens.rows(), erased, [])
        finally:
            store.close()
    except FedctlError as error:
        return _Present([], [], [_unknown(f"the store that was here cannot be read ({error.message})")])


_WITH_ERASURES = 7
"""The schema from which on a store knows what was erased from it."""


def _unknown(why: str) -> str:
    return (
        f"{why}: a token that was revoked after the backup holds again; "
        "fedctl token rotate-key --grace 0s ends all that were issued"
    )


def _ledgers(place: Place, present: _Present) -> list[ledger.Entry]:
    """Return what the ledgers say; `Corrupt` where one is damaged and the store cannot say it in its stead.

    It can when it knows each whole line, and at least as much more as is lost: one that was made anew since knows
    nothing.
    """
    entries = []
    known = {(one.kind, one.digest) for one in present.erased}
    for home in dict.fromkeys([place.home, place.into]):
        path = home / ledger.FILE_NAME
        found, damaged, lost = ledger.Ledger(path).look()
        whole = {(one.kind, one.digest) for one in found}
        if damaged and not (whole <= known and len(known - whole) >= lost):
            raise Corrupt(
                f"{ledger.told(damaged)} damaged in the ledger of erasures {path}, and there is no store that knows of "
                "them: what was erased might come back",
                hint="put a whole copy of the ledger back; or take those lines out, if what they name may come back",
            )
        entries += found
    return entries


def _keep_ledger(place: Place, exchange: swap.Exchange, entries: list[ledger.Entry]) -> None:
    """Have the home's ledger name all that anybody here knows of; what was damaged in it is known by now."""
    own = place.into / ledger.FILE_NAME
    found, damaged, _ = ledger.Ledger(own).look()
    known = {(entry.kind, entry.digest) for entry in found}
    missing = {(entry.kind, entry.digest): entry for entry in entries if (entry.kind, entry.digest) not in known}
    if damaged:
        ledger.Ledger(own).rewrite([*found, *missing.values()])
    else:
        ledger.Ledger(own if own.exists() else exchange.beside / ledger.FILE_NAME).add(missing.values())


def _kept(source: Source, place: Place) -> list[str]:
    """Say what of the backup was left out, for the home has its own: not where it has the very same keys."""
    missing = {name.partition("/")[0] for name in source.names if not _is_there(place.into / name) or "/" not in name}
    there = sorted(name for name in missing - {DATABASE} if _is_there(place.into / name))
    return [f"the home's own {name} stayed; the backup's was not taken" for name in there]


def _lacks(source: Source, place: Place, store: Store) -> list[str]:
    """Say what a home without keys cannot know, where the backup brings none: whose tokens and backups are its own."""
    if any(name.startswith(KEYS) for name in source.names) or _is_there(place.into / "keys"):
        return []
    signer = fingerprint(bytes.fromhex(source.manifest.public_key))
    tokens = ["tokens issued before do not work here: their keys come with a backup that is made --with-keys"]
    return [
        *(tokens if store.tokens.rows() else ()),
        f"this home has a key of its own for its backups; the old home's are known by --signed-by {signer}",
    ]


def _damaged(words: list[str]) -> list[str]:
    again = "an index of words is damaged in the backup; to build it anew: fedctl memory reindex"
    return [again] if words else []


def _check_opened(path: Path, exchange: swap.Exchange, epoch: str | None) -> None:
    """See that the store in its place is the one that was put there; else the old one comes back."""
    try:
        store = Store(Database(path))
        try:
            good = migrate.check(store.database) and store.settings.epoch() == epoch
        finally:
            store.close()
    except FedctlError as error:
        exchange.put_back()
        raise Failure(f"the restored store cannot be opened: {error.message}", hint="the old one is back") from error
    if not good:
        exchange.put_back()
        raise Failure("the restored store is not the one that was put there", hint="the old one is back")
