"""The store: one database and a gateway for each kind of record in it."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from fedctl import disk
from fedctl.errors import Corrupt, DiskFull, NoStore, UsageError, denied
from fedctl.store import migrate, swap
from fedctl.store.database import Database, translated
from fedctl.store.lock import FileLock, use
from fedctl.store.meter import METERED_BELOW_BYTES
from fedctl.store.place import Place
from fedctl.store.room import DELETED_ROW_BYTES, ROWS_AT_ONCE, WRITTEN_PER_BYTE, Reserve, look, size_bytes
from fedctl.store.trouble import NEWER_FORMAT, empty, is_there, may_be_written

if TYPE_CHECKING:
    from pathlib import Path

    from fedctl.clock import Clock
    from fedctl.store.agent import Agents
    from fedctl.store.change import Changes
    from fedctl.store.check import Checks
    from fedctl.store.embedding import Embeddings
    from fedctl.store.erasure import Erasures
    from fedctl.store.index import Indexes
    from fedctl.store.memory import Episodes
    from fedctl.store.pool import Pools
    from fedctl.store.retention import Retention
    from fedctl.store.setting import StoreSettings
    from fedctl.store.tenant import Tenants
    from fedctl.store.token import Tokens
    from fedctl.store.worker import Workers

FILE_NAME = "store.db"


class Store:
    """One connection and its gateways, for one thread at a time. Any number of processes may hold one each."""

    def __init__(self, database: Database, used: FileLock | None = None) -> None:
        self.database = database
        self._used = used
        self._place: Place | None = None

    # A command uses three or four of these: all their modules and statements together take 6 ms.

    @cached_property
    def settings(self) -> StoreSettings:
        """What the store says of itself."""
        from fedctl.store.setting import StoreSettings  # noqa: PLC0415

        return StoreSettings(self.database)

    @cached_property
    def tenants(self) -> Tenants:
        """Tenants, and what they may have."""
        from fedctl.store.tenant import Tenants  # noqa: PLC0415

        return Tenants(self.database)

    @cached_property
    def changes(self) -> Changes:
        """The log of what happened."""
        from fedctl.store.change import Changes  # noqa: PLC0415

        return Changes(self.database)

    @cached_property
    def episodes(self) -> Episodes:
        """Episodes and their words."""
        from fedctl.store.memory import Episodes, metadata_matches  # noqa: PLC0415

        self.database.define("metadata_matches", metadata_matches, 2)
        return Episodes(self.database)

    @cached_property
    def embeddings(self) -> Embeddings:
        """Vectors, models, and what waits for one."""
        from fedctl.store.embedding import Embeddings  # noqa: PLC0415

        return Embeddings(self.database)

    @cached_property
    def indexes(self) -> Indexes:
        """What is published of index files."""
        from fedctl.store.index import Indexes  # noqa: PLC0415

        return Indexes(self.database)

    @cached_property
    def agents(self) -> Agents:
        """Agents and their timelines."""
        from fedctl.store.agent import Agents  # noqa: PLC0415

        return Agents(self.database)

    @cached_property
    def tokens(self) -> Tokens:
        """Tokens that were issued or revoked."""
        from fedctl.store.token import Tokens  # noqa: PLC0415

        return Tokens(self.database)

    @cached_property
    def workers(self) -> Workers:
        """Workers."""
        from fedctl.store.worker import Workers  # noqa: PLC0415

        return Workers(self.database)

    @cached_property
    def pools(self) -> Pools:
        """Pools and their items."""
        from fedctl.store.pool import Pools  # noqa: PLC0415

        return Pools(self.database)

    @cached_property
    def retention(self) -> Retention:
        """Policies, and what they let go."""
        from fedctl.store.retention import Retention  # noqa: PLC0415

        _ = self.episodes  # its statements call the function that comes with them
        return Retention(self.database)

    @cached_property
    def erasures(self) -> Erasures:
        """What was erased, and what is being erased."""
        from fedctl.store.erasure import Erasures  # noqa: PLC0415

        return Erasures(self.database)

    @cached_property
    def checks(self) -> Checks:
        """Whether what belongs together agrees."""
        from fedctl.store.check import Checks  # noqa: PLC0415

        return Checks(self.database)

    @classmethod
    def open(cls, home: Path, clock: Clock, *, create: bool, timeout_s: float = 30.0) -> Store:
        """Open the store in `home`.

        Raises:
            NoStore: There is none and `create` is false.
            Corrupt: What is there is no whole store of fedctl, or a newer one's.
            Denied: The files or their folder may not be read or written.
        """
        return cls.open_file(home / FILE_NAME, clock, create=create, timeout_s=timeout_s)

    @classmethod
    def open_file(
        cls, path: Path, clock: Clock, *, create: bool, timeout_s: float = 30.0, exclusive: bool = False
    ) -> Store:
        """Open the store that is this file; its locks lie beside it, with the suffixes `.lock` and `.use`.

        Raises as `open`, and with `exclusive` `Locked` when others have it open after `timeout_s`.
        """
        if path.suffix in (".lock", ".use") or not path.name:
            raise UsageError(f"{path} is no name for a database", hint=f"it must not end in {path.suffix}")
        while True:
            _make_sure_of(path, clock, create=create, timeout_s=timeout_s)
            with translated(path):
                used = use(path, timeout_s, exclusive=exclusive)
            if not swap.is_begun(path):  # asked with the lock held: nobody can begin one now
                break
            used.close()
            swap.settle(path, timeout_s)
        with contextlib.ExitStack() as undo:
            undo.callback(used.close)
            database = Database(path, timeout_s=timeout_s)
            undo.callback(database.close)
            if path.name == FILE_NAME:  # another file lies among somebody's own
                database.reserve = Reserve(path)
            if not migrate.check(database):
                with database.write():
                    if not migrate.check(database):
                        migrate.migrate(database, clock.now_ms())
            undo.pop_all()
        store = cls(database, used)
        store._place = Place(path)
        database.check_place = store._place.check_names
        return store

    @classmethod
    def in_memory(cls, clock: Clock) -> Store:
        """Return an empty store that lives and dies with the process."""
        database = Database(None)
        with database.write():
            _fill(database, clock)
        return cls(database)

    def write(self, *, apart: bool = True, admitted: bool = False) -> AbstractContextManager[None]:
        """Hold a write transaction; inside another one, a savepoint of it unless that one is not `apart`.

        `DiskFull` when the disk has no room for any: unless what is written is `freeing`, or the caller has asked
        `check_room` of each part (`admitted`).
        """
        return self.database.write(apart=apart, admitted=admitted)

    def freeing(self) -> AbstractContextManager[None]:
        """Let in, for a `with`, what frees space, however full the disk is. In small transactions, best."""
        return self.database.freeing()

    def sparing(self) -> AbstractContextManager[None]:
        """Keep, for a `with` inside `freeing`, to the room that others have: for what does not free any at once."""
        return self.database.sparing()

    def tidy_words(self, tenant_id: str) -> None:
        """Merge a tenant's words by parts, where the disk is small and many segments have come together.

        Before a write: FTS5 would merge all of them at once in it, for which there may be no room.
        """
        if not self.database.near_full or self.database.writing:
            return
        space = look(str(self.database.path))
        if space is None or space.free_bytes >= METERED_BELOW_BYTES or (key := self.tenants.key(tenant_id)) is None:
            return
        from fedctl.store.memory import SEGMENTS_TO_MERGE  # noqa: PLC0415  only where the disk is small

        if self.episodes.word_segments(key) < SEGMENTS_TO_MERGE:
            return
        with contextlib.suppress(DiskFull):
            more = True
            while more:
                with self.write():
                    more = self.episodes.merge_words(key)

    def check_room(self, request: object) -> None:
        """Refuse (`DiskFull`) a request that would leave the disk too little room."""
        if self.database.near_full and look(str(self.database.path)) is not None:  # else it is not even encoded
            try:
                size = len(msgspec.json.encode(request))
            except (ValueError, TypeError, RecursionError, msgspec.MsgspecError):
                size = 0  # what cannot be written as JSON is for the operation to refuse, by its name
            self.database.check_room(size * WRITTEN_PER_BYTE)

    def check_room_for(self, size_bytes: int) -> None:
        """Refuse (`DiskFull`) a file of so many bytes beside the database."""
        self.database.check_room(size_bytes)

    @property
    def spoilt(self) -> bool:
        """Whether a write transaction that is not `apart` can only be undone."""
        return self.database.spoilt

    def read(self) -> AbstractContextManager[None]:
        """Hold one snapshot over several questions."""
        return self.database.read()

    def data_version(self) -> int:
        """Return a number that changes when another connection has committed."""
        return self.database.data_version()

    def check_place(self) -> None:
        """Raise `Corrupt` if the store's files are no longer those that were opened: what is written there is lost."""
        if self._place is not None:
            self._place.check()

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Fold the write-ahead log into the file: not into one that was cut or replaced."""
        self.check_place()
        self.database.checkpoint(truncate=truncate)

    def integrity(self) -> list[str]:
        """Return what SQLite's own integrity check says is wrong, and rows that refer to nothing."""
        lines = [row[0] for row in self.database.rows("pragma integrity_check") if row[0] != "ok"]
        path = self.database.path
        if path is not None and self.database.is_read_only() and may_be_written(path):
            lines.append(NEWER_FORMAT)
        broken = self.database.rows("pragma foreign_key_check")
        return lines + [f"a row of {row[0]} refers to a row of {row[2]} that is not there" for row in broken]

    def stranger(self) -> str | None:
        """Return what the schema holds that no store's does, or lacks that every store's has: a trigger, a table."""
        from fedctl.store import vet  # noqa: PLC0415  what few commands need

        return vet.stranger(self.database)

    def altered_migrations(self) -> list[str]:
        """Return the names of migrations that ran with another text than this fedctl has."""
        return migrate.altered(self.database)

    def rows_at_once(self, most: int) -> int:
        """Return how many rows one transaction is to delete: fewer where the log has little room."""
        short = self.database.near_full and self.space()[0] < most * DELETED_ROW_BYTES
        return min(most, ROWS_AT_ONCE) if short else most

    def space(self) -> tuple[int, bool]:
        """Return how many bytes the disk has free, and whether writes are refused for that; (0, False): unknown."""
        return self.database.space() or (0, False)

    def make_reserve(self) -> None:
        """Have a reserve beside the store for what frees space, where there is room for it."""
        self.database.make_reserve()

    def size_bytes(self) -> int:
        """Return the size of the database with its write-ahead log."""
        if self.database.path is None:
            return int(self.database.pragma("page_count")) * int(self.database.pragma("page_size"))
        return size_bytes(f"{self.database.path}") + self.wal_bytes()

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        return 0 if self.database.path is None else size_bytes(f"{self.database.path}-wal")

    def close(self) -> None:
        """Close the connection, and use the store no more."""
        self.database.close()
        if self._used is not None:
            self._used.close()


def _fill(database: Database, clock: Clock) -> None:
    migrate.migrate(database, clock.now_ms())
    from fedctl.store.setting import StoreSettings  # noqa: PLC0415  only here

    StoreSettings(database).put("epoch", clock.new_id())


def _make_sure_of(path: Path, clock: Clock, *, create: bool, timeout_s: float) -> None:
    """See that there is a file to open, or say why there is none."""
    with translated(path):
        if is_there(path):
            return
        swap.settle(path, timeout_s)  # a restore that died may have been about to put one there
        home = path.parent
        if is_there(path):
            return
        if path.exists():
            raise empty(path)
        if home.exists() and not home.is_dir():
            raise UsageError(f"the home {home} is a file, not a folder", hint="point --home at a folder")
        _check_no_log(path)
        if not create:
            raise NoStore(
                f"there is no store in {home}",
                hint="begin with: fedctl init, or store an episode, or push an item",
            )
        _create(path, clock, timeout_s)


def _check_no_log(path: Path) -> None:
    """See that there is no log without a database: SQLite would replay it onto whatever comes to stand beside it."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise Corrupt(
            f"the database {path} is gone, but its log {log.name} is there",
            hint=f"put the database back, restore a backup, or move {log.name} and {path.name}-shm aside to begin anew",
        )


def _create(path: Path, clock: Clock, timeout_s: float) -> None:
    """Make the store under another name and move it into its place whole, so that nobody meets half of one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except PermissionError as error:
        raise denied(
            f"the home {path.parent} cannot be made", path.parent, hint="name another home: --home DIR"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"the home {path.parent} is a file, or below one", hint="point --home at a folder") from error
    used = use(path, timeout_s, exclusive=False)  # not while a restore is about to put one there
    lock = FileLock(path.with_suffix(".lock"), timeout_s)
    try:
        lock.acquire()
        if path.exists() or swap.is_begun(path):
            return
        _check_no_log(path)
        # With the lock held whatever lies here under this name was left by a process that died.
        unborn = path.with_name(f"{path.name}.new.db" if not path.suffix else f"{path.name}.new")
        for suffix in ("", "-journal", "-wal", "-shm"):
            path.with_name(unborn.name + suffix).unlink(missing_ok=True)
        os.close(os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        database = Database(unborn, timeout_s=timeout_s)
        try:
            with database.write():
                _fill(database, clock)
            database.use_wal()
            database.checkpoint(truncate=True)
        finally:
            database.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(unborn.name + suffix).unlink(missing_ok=True)
        unborn.with_suffix(".lock").unlink(missing_ok=True)
        unborn.replace(path)
        if path.name == FILE_NAME and look(str(path.parent)) is not None:
            Reserve(path).make()  # while there is room: a small disk may be full with the first batch
        disk.sync(path.parent)
    finally:
        lock.close()
        used.close()
