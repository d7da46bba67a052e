"""The store: one database and a gateway for each kind of record in it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt, Denied, NoStore, UsageError
from fedctl.store import migrate
from fedctl.store.agent import Agents
from fedctl.store.change import Changes
from fedctl.store.database import Database, WriteLock, translated
from fedctl.store.embedding import Embeddings
from fedctl.store.index import Indexes
from fedctl.store.memory import Episodes, metadata_matches
from fedctl.store.pool import Pools
from fedctl.store.setting import StoreSettings
from fedctl.store.tenant import Tenants
from fedctl.store.token import Tokens
from fedctl.store.worker import Workers

if TYPE_CHECKING:
    from pathlib import Path

    from fedctl.clock import Clock

FILE_NAME = "store.db"


class Store:
    """One connection and its gateways, for one thread at a time. Any number of processes may hold one each."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.define("metadata_matches", metadata_matches, 2)
        self.settings = StoreSettings(database)
        self.tenants = Tenants(database)
        self.changes = Changes(database)
        self.episodes = Episodes(database)
        self.embeddings = Embeddings(database)
        self.indexes = Indexes(database)
        self.agents = Agents(database)
        self.tokens = Tokens(database)
        self.workers = Workers(database)
        self.pools = Pools(database)

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
    def open_file(cls, path: Path, clock: Clock, *, create: bool, timeout_s: float = 30.0) -> Store:
        """Open the store that is this file; its lock lies beside it, with the suffix `.lock`. Raises as `open`."""
        home = path.parent
        if path.suffix == ".lock" or not path.name:
            raise UsageError(f"{path} is no name for a database", hint="it must not end in .lock")
        with translated(path):
            if not path.exists():
                if home.exists() and not home.is_dir():
                    raise UsageError(f"the home {home} is a file, not a folder", hint="point --home at a folder")
                if not create:
                    raise NoStore(
                        f"there is no store in {home}",
                        hint="begin with: fedctl init, or store an episode, or push an item",
                    )
                _create(path, clock, timeout_s)
            elif path.is_file() and path.stat().st_size == 0:
                # A store comes into its place whole, by a rename: an empty file is one that was cut off.
                raise Corrupt(f"the database {path} is empty", hint="restore a backup, or move the file aside")
        database = Database(path, timeout_s=timeout_s)
        try:
            if not migrate.check(database):
                with database.write():
                    if not migrate.check(database):
                        migrate.migrate(database, clock.now_ms())
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def in_memory(cls, clock: Clock) -> Store:
        """Return an empty store that lives and dies with the process."""
        database = Database(None)
        with database.write():
            _fill(database, clock)
        return cls(database)

    def write(self, *, apart: bool = True) -> AbstractContextManager[None]:
        """Hold a write transaction; inside another one, a savepoint of it unless that one is not `apart`."""
        return self.database.write(apart=apart)

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

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Fold the write-ahead log into the file."""
        self.database.checkpoint(truncate=truncate)

    def integrity(self) -> list[str]:
        """Return what SQLite's own integrity check says is wrong, and rows that refer to nothing."""
        lines = [row[0] for row in self.database.rows("pragma integrity_check") if row[0] != "ok"]
        broken = self.database.rows("pragma foreign_key_check")
        return lines + [f"a row of {row[0]} refers to a row of {row[2]} that is not there" for row in broken]

    def altered_migrations(self) -> list[str]:
        """Return the names of migrations that ran with another text than this fedctl has."""
        return migrate.altered(self.database)

    def size_bytes(self) -> int:
        """Return the size of the database with its write-ahead log."""
        if self.database.path is None:
            return int(self.database.pragma("page_count")) * int(self.database.pragma("page_size"))
        return _size_bytes(f"{self.database.path}") + self.wal_bytes()

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        return 0 if self.database.path is None else _size_bytes(f"{self.database.path}-wal")

    def close(self) -> None:
        """Close the connection."""
        self.database.close()


def _size_bytes(name: str) -> int:
    try:
        return os.stat(name).st_size  # noqa: PTH116  a name, not a path object
    except FileNotFoundError:
        return 0


def _fill(database: Database, clock: Clock) -> None:
    migrate.migrate(database, clock.now_ms())
    StoreSettings(database).put("epoch", clock.new_id())


def _create(path: Path, clock: Clock, timeout_s: float) -> None:
    """Make the store under another name and move it into its place whole, so that nobody meets half of one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except PermissionError as error:
        raise Denied(f"the home {path.parent} cannot be made", hint="check the permissions above it") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"the home {path.parent} is a file, or below one", hint="point --home at a folder") from error
    lock = WriteLock(path.with_suffix(".lock"), timeout_s)
    lock.acquire()
    try:
        if path.exists():
            return
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            # SQLite would replay it onto whatever database stands beside it.
            raise Corrupt(
                f"the database {path} is gone, but its log {log.name} is there",
                hint=f"put the database back, or move {log.name} and {path.name}-shm aside to begin anew",
            )
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
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        lock.close()
