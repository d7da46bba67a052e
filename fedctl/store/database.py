"""The one door to SQLite: a connection, its transactions, and the queue of writers before it.

apsw brings its own current SQLite; the interpreter's (3.40 to 3.46 in the field) has the WAL-reset corruption bug,
and several processes at once is the normal case here. Writers queue on a lock file (`flock`), not on SQLite's busy
polling: with eight writers the worst wait fell from 3.8 s to 105 ms. The kernel drops the lock when a process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING, Any

import apsw

from fedctl.errors import Corrupt, Denied, DiskFull, Failure, FedctlError, Unavailable, from_os

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

APPLICATION_ID = 0x66656463  # "fedc": SQLite's own mark of whose file it is
WAL_AUTOCHECKPOINT_PAGES = 1000
WAL_RESTART_PAGES = 8192
"""Pages in the log (32 MiB) from which on writers are held up for a moment, so that it can begin anew."""
_BUSY_MS = 10_000
_RESTART_BUSY_MS = 100

Row = tuple[Any, ...]


class WordsDamagedError(Failure):
    """A table of words does not hang together. It is derived: the episodes are whole, and it can be built anew."""


class WriteLock:
    """The queue of writers: an exclusive `flock` on a file of its own, which stays open from the first time on.

    Two connections of one process exclude each other too, for each has its own open file.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._descriptor = -1
        self.held = False
        """Whether this object holds the lock."""

    def acquire(self) -> None:
        """Wait for the lock, in the kernel's own queue; `Unavailable` when `timeout_s` runs out first."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.held = True
        except BlockingIOError:
            # Whoever gives up leaves the open file to the thread that waits for it.
            descriptor, self._descriptor = self._descriptor, -1
            self._wait(descriptor)
            self._descriptor, self.held = descriptor, True
        except BaseException:  # Ctrl-C: it may have come with the lock
            self.close()
            raise

    def _wait(self, descriptor: int) -> None:
        # A blocking flock knows no time limit and polling would lose the place in the queue: so a thread waits,
        # and whoever comes second (the thread with the lock, or the caller at its time limit) closes the file.
        done = threading.Event()
        hand_over = threading.Lock()
        abandoned = False

        def wait() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with hand_over:
                if abandoned:
                    os.close(descriptor)
                else:
                    done.set()

        try:
            threading.Thread(target=wait, name="write-lock", daemon=True).start()
            done.wait(self._timeout_s)
        except BaseException:  # Ctrl-C: whoever has the lock then must not keep it
            with hand_over:
                abandoned = True
                if done.is_set():
                    os.close(descriptor)
            raise
        with hand_over:
            if not done.is_set():
                abandoned = True
                raise Unavailable(
                    f"the store was busy for {self._timeout_s:g} s", hint="try again, or give it longer with --timeout"
                )

    def release(self) -> None:
        """Let the next writer in."""
        self.held = False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which lets the next writer in."""
        self.held = False
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SpoiltError(Exception):
    """A transaction whose parts were not kept apart was undone, because one of them failed."""


class Database:
    """One connection to one SQLite file, for one thread at a time.

    `path` None is a database in memory, with no lock and nothing on disk.
    """

    def __init__(self, path: Path | None, *, timeout_s: float = 30.0) -> None:
        self.path = path
        self._errors = Translation(path)
        self._depth = 0
        self._reads = 0
        self._apart = True
        self.spoilt = False
        """Whether a part of the transaction failed that had no savepoint: the whole can only be undone."""
        self.undone = 0
        """How often something was rolled back: what was read inside a transaction before may be gone."""
        self._lock = None if path is None else WriteLock(path.with_suffix(".lock"), timeout_s)
        with self._errors:
            self._connection = self._open(path)

    @staticmethod
    def _open(path: Path | None) -> apsw.Connection:
        # Never created here: a store comes into its place whole (store/store).
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if path is None else 0)
        connection = apsw.Connection(":memory:" if path is None else str(path), flags=flags, statementcachesize=200)
        try:
            # The last process to leave would otherwise checkpoint: two fsyncs in every one-shot command, and a write
            # to a file that may turn out damaged or another program's. The log stays beside it, folded in by size.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            # Plans that do not depend on what is bound: else, beside a partial index, a statement is prepared anew
            # each time it is bound, which costs five times what it does.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            connection.set_busy_timeout(_BUSY_MS)
            # One by one and fetched: apsw stops a multi-statement execute at the first row that nobody takes.
            for pragma in ("foreign_keys=ON", "synchronous=FULL", "trusted_schema=OFF", "temp_store=MEMORY",
                           "cell_size_check=ON"):  # fmt: skip
                connection.execute(f"pragma {pragma}").fetchall()
            if path is not None:
                connection.wal_autocheckpoint(WAL_AUTOCHECKPOINT_PAGES)
            if connection.execute("pragma synchronous").fetchall() != [(2,)]:
                raise Failure("SQLite did not take synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    # -- asking ------------------------------------------------------------------------------------------------

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Return all rows of one statement."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except (apsw.Error, OSError) as error:
            raise _translated(self.path, error) from error

    def rows_until(
        self, sql: str, parameters: Mapping[str, Any] | None, weight: Callable[[Row], int], most: int
    ) -> list[Row]:
        """Return the first rows of one statement: at least two, then as many as it takes to weigh more than `most`.

        What comes after them is not read.
        """
        found: list[Row] = []
        total = 0
        with self._errors, contextlib.closing(self._connection.cursor()) as cursor:
            for row in cursor.execute(sql, parameters):
                found.append(row)
                total += weight(row)
                if total > most and len(found) > 1:
                    break
        return found

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """Return the first row, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def value(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return the first column of the first row, or None."""
        found = self.rows(sql, parameters)
        return found[0][0] if found else None

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Execute one statement inside a write transaction; return how many rows it changed."""
        self._check_open()
        try:
            self._connection.execute(sql, parameters).fetchall()
        except (apsw.Error, OSError) as error:
            raise _translated(self.path, error) from error
        return self._connection.changes()

    def insert(self, sql: str, parameters: Mapping[str, Any]) -> int:
        """Insert one row inside a write transaction; return the integer key that it got."""
        self.run(sql, parameters)
        return self._connection.last_insert_rowid()

    def run_many(self, sql: str, parameters: Iterable[Mapping[str, Any] | Sequence[Any]]) -> None:
        """Execute one statement for each set of parameters inside a write transaction."""
        self._check_open()
        try:
            self._connection.executemany(sql, parameters).fetchall()
        except (apsw.Error, OSError) as error:
            raise _translated(self.path, error) from error

    def run_script(self, sql: str) -> None:
        """Execute several statements inside a write transaction; their rows are dropped."""
        self._check_open()
        with self._errors:
            self._connection.execute(sql).fetchall()

    def _check_open(self) -> None:
        """Refuse to go on in a transaction that is no more: every change would be one of its own, and committed."""
        assert self._depth, "a change needs a write transaction"
        if not self._connection.in_transaction:
            raise Failure("SQLite has undone the whole transaction after an error", hint="try again")

    def pragma(self, name: str) -> Any:
        """Return the value of a pragma."""
        return self.value(f"pragma {name}")

    def total_changes(self) -> int:
        """Return how many rows this connection has changed since it was opened."""
        return self._connection.total_changes()

    def define(self, name: str, function: Callable[..., int], arguments: int) -> None:
        """Make a pure function callable from SQL."""
        self._connection.create_scalar_function(name, function, arguments, deterministic=True)

    def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed (some 5 µs)."""
        return int(self.pragma("data_version"))

    # -- transactions ------------------------------------------------------------------------------------------

    def write(self, *, apart: bool = True) -> contextlib.AbstractContextManager[None]:
        """Hold a write transaction.

        The outermost one queues on the lock file and ends with a commit that is on disk; one inside another is a
        savepoint. This is all there is to group commit: hold the outer, let each request take its own.

        Each savepoint makes FTS5 write out the words it has gathered, as a segment of their own. An outermost one
        that is not `apart` does without them: those inside it share its fate, and after one of them has failed it
        ends with `SpoiltError` instead of a commit.
        """
        if self._depth:
            return self._savepoint() if self._apart else self._shared()
        return _Transaction(self, apart=apart)

    def _begin(self, *, apart: bool) -> None:
        assert not self._reads, "a snapshot that is being read cannot be written"
        with self._errors:
            if self._lock is not None:
                self._lock.acquire()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._let_go()
                raise
        self._apart = apart
        self._depth = 1

    def _end(self, *, good: bool) -> None:
        try:
            if good:
                self._check_open()
                if self.spoilt:
                    raise SpoiltError
                with self._errors:
                    self._connection.execute("COMMIT")
        except BaseException:
            good = False
            raise
        finally:
            if not good:
                self._roll_back()
            self._depth = 0
            self.spoilt = False
            self._let_go()

    def _roll_back(self) -> None:
        self.undone += 1
        # SQLite has rolled back by itself after some errors (disk full, I/O): then there is nothing left to do.
        if self._connection.in_transaction:
            with contextlib.suppress(apsw.Error):  # what led here is the error to tell
                self._connection.execute("ROLLBACK")

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()

    @contextlib.contextmanager
    def _shared(self) -> Iterator[None]:
        self._check_open()
        self._depth += 1
        try:
            yield
        except BaseException:
            self.spoilt = True
            raise
        finally:
            self._depth -= 1

    @contextlib.contextmanager
    def _savepoint(self) -> Iterator[None]:
        name = f"level_{self._depth}"
        self._check_open()
        with self._errors:
            self._connection.execute(f"SAVEPOINT {name}")
        self._depth += 1
        try:
            yield
        except BaseException:
            self.undone += 1
            if self._connection.in_transaction:
                try:
                    self._connection.execute(f"ROLLBACK TO {name}")
                    self._connection.execute(f"RELEASE {name}")
                except apsw.Error:  # a part that cannot be undone alone is undone with the whole
                    with contextlib.suppress(apsw.Error):
                        self._connection.execute("ROLLBACK")
            raise
        else:
            with self._errors:
                self._connection.execute(f"RELEASE {name}")
        finally:
            self._depth -= 1

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Hold one snapshot over several statements; inside a transaction that is the transaction's own."""
        if self._depth or self._reads:
            yield
            return
        with self._errors:
            self._connection.execute("BEGIN")
        self._reads = 1
        try:
            yield
        finally:
            self._reads = 0
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @property
    def writing(self) -> bool:
        """Whether a write transaction is open."""
        return self._depth > 0

    # -- upkeep ------------------------------------------------------------------------------------------------

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Fold the write-ahead log into the file; a passive one waits for nobody and takes what it can."""
        if self.path is None:
            return
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if truncate else apsw.SQLITE_CHECKPOINT_PASSIVE
        with self._errors, contextlib.suppress(apsw.BusyError, apsw.LockedError):
            pages, _ = self._connection.wal_checkpoint(mode=mode)
            if pages > WAL_RESTART_PAGES and not truncate:
                self._restart_log()

    def _restart_log(self) -> None:
        """Have the log begin anew: with writers that never pause it only grows, for each finds something left in it.

        They wait meanwhile, but only for what came since the passive checkpoint; readers that hold on to the log for
        longer than a moment put it off to the next time.
        """
        assert self._lock is not None
        self._lock.acquire()
        try:
            self._connection.set_busy_timeout(_RESTART_BUSY_MS)
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            self._connection.set_busy_timeout(_BUSY_MS)
            self._lock.release()

    def stop_autocheckpoint(self) -> None:
        """Leave checkpoints to whoever calls `checkpoint`: they stay off the path of an ack."""
        self._connection.wal_autocheckpoint(0)

    def use_wal(self) -> None:
        """Switch the file to write-ahead logging; it stays so."""
        if self.pragma("journal_mode=WAL") != "wal":
            raise Failure("SQLite did not take journal_mode=WAL", hint="is the home on a network file system?")

    def close(self) -> None:
        """Close the connection. Needs no lock: the write-ahead log is left as it is (see `_open`)."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()


class _Transaction:
    """The outermost write transaction. A class: entered on every change, and a generator costs three times as much."""

    __slots__ = ("_apart", "_database")

    def __init__(self, database: Database, *, apart: bool) -> None:
        self._database = database
        self._apart = apart

    def __enter__(self) -> None:
        self._database._begin(apart=self._apart)  # noqa: SLF001  one thing in two halves

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database._end(good=kind is None)  # noqa: SLF001  likewise


def sqlite_version() -> str:
    """Return the version of the SQLite that apsw brings."""
    return apsw.sqlite_lib_version()


class Translation:
    """Maps SQLite's and the operating system's errors to ours; stateless, so one serves for all of a connection."""

    __slots__ = ("_path",)

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raise our error in the place of theirs."""
        if isinstance(error, apsw.Error | OSError):
            raise _translated(self._path, error) from error


def translated(path: Path | None) -> Translation:
    """Map SQLite's and the operating system's errors to ours, in a `with`."""
    return Translation(path)


def _translated(path: Path | None, error: apsw.Error | OSError) -> FedctlError:  # noqa: PLR0911  one return an error
    if isinstance(error, apsw.FullError):
        return DiskFull("the disk is full: the write was refused", hint="free some space and try again")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return _damaged(path, error)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Unavailable(f"the store is busy: {error}", hint="try again")
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError):
        return Denied(f"the store cannot be written: {error}", hint=f"check the permissions of {path}")
    if isinstance(error, apsw.CantOpenError):
        return _cannot_open(path, error)
    if isinstance(error, apsw.IOError):
        # A short write for want of space surfaces as an I/O error from some file systems.
        if path is not None and _is_full(path):
            return DiskFull("the disk is full: the write was refused", hint="free some space and try again")
        return Failure(f"reading or writing the store failed: {error}", hint="check the disk")
    if isinstance(error, apsw.Error):
        return Failure(f"SQLite: {error}")
    return from_os(error, "the store cannot be used", hint=f"check {path}")


def _damaged(path: Path | None, error: apsw.Error) -> FedctlError:
    # The only virtual tables are those of words.
    if getattr(error, "extendedresult", None) == apsw.SQLITE_CORRUPT_VTAB:
        return WordsDamagedError(
            "the index of words is damaged", hint="the episodes are whole; to build it anew: fedctl memory reindex"
        )
    return Corrupt(
        f"the database {path} is damaged: {error}",
        hint="fedctl does not touch it; restore a backup, or keep a copy and ask for help",
    )


def _cannot_open(path: Path | None, error: apsw.CantOpenError) -> FedctlError:
    if path is not None and path.is_dir():
        return Corrupt(f"{path} is a directory, not a database", hint="move it aside and restore a backup")
    if path is not None and not os.access(path.parent, os.W_OK):
        # The log's shared memory lives beside the file: without a writable folder SQLite cannot even read.
        return Denied(f"the store's folder is not writable: {path.parent}", hint="check its permissions")
    if path is not None and not os.access(path, os.R_OK):
        return Denied(f"the store cannot be read: {path}", hint="check its permissions")
    return Failure(f"the store cannot be opened: {error}", hint=f"check {path}")


def _is_full(path: Path) -> bool:
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < 1 << 16
