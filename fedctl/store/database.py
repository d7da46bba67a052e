"""The one door to SQLite: a connection, its transactions, and the queue of writers before it.

apsw brings its own current SQLite; the interpreter's (3.40 to 3.46 in the field) has the WAL-reset corruption bug,
and several processes at once is the normal case here. Writers queue on a lock file (`flock`), not on SQLite's busy
polling: with eight writers the worst wait fell from 3.8 s to 105 ms. The kernel drops the lock when a process dies.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import apsw

from fedctl.errors import NO_SPACE, DiskFull, Failure, FedctlError, Unavailable, from_os
from fedctl.store import room
from fedctl.store.lock import FileLock
from fedctl.store.meter import Meter
from fedctl.store.raw import RawPages
from fedctl.store.trouble import FlushFailedError, cannot_open, cannot_write, damaged, full, io_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

APPLICATION_ID = 0x66656463  # "fedc": SQLite's own mark of whose file it is
WAL_AUTOCHECKPOINT_PAGES = 1000
WAL_RESTART_PAGES = 8192
"""Pages in the log (32 MiB) from which on writers are held up for a moment, so that it can begin anew."""
COPY_STEP_PAGES = 1024
"""Pages an online copy takes at a time: some 5 ms, as fast as 8192 at a time."""
BUSY_MS = 10_000
"""How long SQLite itself waits for another process."""
_RESTART_BUSY_MS = 100
_WATCH_EVERY = 20_000
"""Steps of SQLite's machine: some milliseconds."""

Row = tuple[Any, ...]
_THEIRS = (apsw.Error, OSError, UnicodeDecodeError)  # the last: a text in the database is none


class SpoiltError(Exception):
    """A transaction whose parts were not kept apart was undone, because one of them failed."""


class Database:
    """One connection to one SQLite file, for one thread at a time.

    `path` None is a database in memory, with no lock and nothing on disk.
    """

    def __init__(self, path: Path | None, *, timeout_s: float = 30.0) -> None:
        self.path = path
        self._folder = None if path is None else path.parent
        self._errors = Translation(path, self._errno)
        self._last_errno: int | None = None
        self._depth = 0
        self._reads = 0
        self._apart = True
        self.spoilt = False
        """Whether a part of the transaction failed that had no savepoint: the whole can only be undone."""
        self.undone = 0
        """How often something was rolled back: what was read inside a transaction before may be gone."""
        self._lock = None if path is None else FileLock(path.with_suffix(".lock"), timeout_s)
        self.near_full = path is not None
        """Whether the disk had less than plenty when somebody last looked; nobody has, at first."""
        self.reserve: room.Reserve | None = None
        """What is given up on a full disk; a home's store has one."""
        self.check_place: Callable[[], object] = lambda: None
        """Raises where the files are no longer those that were opened: asked before each write, with its lock held."""
        self._wipes_freed = False
        """Whether SQLite overwrites the pages that become free, and not only what is deleted within one."""
        self._frees = 0
        self._freed = 0
        """Whether a part of the transaction frees space: then it may take what such a part may."""
        self._asked_bytes = 0
        self._unlooked = 0
        with self._errors:
            self._connection = self._open(path)
            self._meter = None if path is None else Meter(self._connection, path, self._held_bytes)

    def _open(self, path: Path | None) -> apsw.Connection:
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
            connection.set_busy_timeout(BUSY_MS)
            # One by one, fetched: apsw stops a multi-statement execute at the first row that nobody takes.
            # secure_delete FAST: until somebody has looked at how much room the disk has (`_look`).
            for pragma in ("foreign_keys=ON", "synchronous=FULL", "trusted_schema=OFF", "temp_store=MEMORY",
                           "cell_size_check=ON", "secure_delete=FAST"):  # fmt: skip
                connection.execute(f"pragma {pragma}").fetchall()
            if path is not None:
                connection.wal_autocheckpoint(WAL_AUTOCHECKPOINT_PAGES)
            if connection.execute("pragma synchronous").fetchall() != [(2,)]:
                raise Failure("SQLite did not take synchronous=FULL")
        except BaseException:
            self._last_errno = connection.system_errno  # nobody can ask it any more
            connection.close()
            raise
        return connection

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Return all rows of one statement."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except _THEIRS as error:
            raise self._errors.ours(error) from error

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

    def each(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[Row]:
        """Yield the rows of one statement as they are found, however many; whoever asks holds a `read`."""
        with self._errors, contextlib.closing(self._connection.cursor()) as cursor:
            yield from cursor.execute(sql, parameters)

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
        except _THEIRS as error:
            raise self._errors.ours(error) from error
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
        except _THEIRS as error:
            raise self._errors.ours(error) from error

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

    def _errno(self) -> int:
        return self._connection.system_errno if self._last_errno is None else self._last_errno

    def pragma(self, name: str) -> Any:
        """Return the value of a pragma."""
        return self.value(f"pragma {name}")

    def is_read_only(self) -> bool:
        """Return whether SQLite will only read this database: its header may say so."""
        return self._connection.readonly("main")

    def total_changes(self) -> int:
        """Return how many rows this connection has changed since it was opened."""
        return self._connection.total_changes()

    def define(self, name: str, function: Callable[..., int], arguments: int) -> None:
        """Make a pure function callable from SQL."""
        self._connection.create_scalar_function(name, function, arguments, deterministic=True)

    def watch(self, step: Callable[[], None]) -> None:
        """Have `step` called every few milliseconds while a statement runs; what it raises ends the statement."""

        def go_on() -> bool:
            step()
            return False

        self._connection.set_progress_handler(go_on, _WATCH_EVERY)

    def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed (some 5 µs)."""
        return int(self.pragma("data_version"))

    def write(self, *, apart: bool = True, admitted: bool = False) -> contextlib.AbstractContextManager[None]:
        """Hold a write transaction; `DiskFull` when the disk has no room for any, unless the caller is `admitted`.

        The outermost one queues on the lock file and ends with a commit that is on disk; one inside another is a
        savepoint. This is all there is to group commit: hold the outer, let each request take its own.

        Each savepoint makes FTS5 write out the words it has gathered, as a segment of their own. An outermost one
        that is not `apart` does without them: those inside it share its fate, and after one of them has failed it
        ends with `SpoiltError` instead of a commit.
        """
        if self._depth:
            return self._savepoint() if self._apart else self._shared()
        return _Transaction(self, apart=apart, admitted=admitted)

    def _begin(self, *, apart: bool, admitted: bool) -> None:
        assert not self._reads, "a snapshot that is being read cannot be written"
        with self._errors:
            if self._lock is not None:
                self._lock.acquire()
            try:
                self.check_place()
                if self._lock is not None:
                    self._look(self._lock.descriptor, admitted=admitted)
                self._connection.execute("BEGIN IMMEDIATE")
            except BaseException:
                if self._meter is not None:
                    self._meter.end()
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
                self._check_needs()
                with self._errors:
                    self._connection.execute("COMMIT")
        except BaseException:
            good = False
            raise
        finally:
            if not good:
                self._roll_back()
            self._depth = 0
            self._freed = self._frees
            self.spoilt = False
            if self._meter is not None:
                self._meter.end()
            if self.near_full:
                self._make_room()
            self._let_go()

    def _roll_back(self) -> None:
        self.undone += 1
        # SQLite has rolled back by itself after some errors (disk full, I/O): then there is nothing left to do.
        if self._connection.in_transaction:
            with contextlib.suppress(apsw.Error):  # what led here is the error to tell
                self._connection.execute("ROLLBACK")

    # -- room on the disk --------------------------------------------------------------------------------------

    def _look(self, place: int | str, *, admitted: bool) -> None:
        """Note whether the disk is nearly full, and refuse what would make it fuller: with the write lock held."""
        if self._unlooked:
            self._unlooked -= 1
            return
        space = room.look(place)
        self.near_full = space is not None
        if self._wipes_freed is self.near_full:
            # A deleted megabyte is a megabyte of zeroes in the log, and a full disk has no room for them. There what
            # became a free page stays as it is, until it is wiped in place (store/scrub).
            self._wipes_freed = not self.near_full
            self._connection.execute(f"pragma secure_delete={'ON' if self._wipes_freed else 'FAST'}").fetchall()
        self._unlooked = 0 if self.near_full else room.LOOK_EVERY - 1
        self._asked_bytes = 0
        if space is not None and not (admitted or self._frees):
            self._check(space, 0)
        assert self._meter is not None
        self._meter.begin(space)

    def _held_bytes(self) -> int:
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]

    def _check_needs(self) -> None:
        """Refuse a transaction that would leave the disk too little room: nothing of it has been written yet."""
        if self._meter is None or not self._meter.on or (space := room.look(str(self._folder))) is None:
            return
        log_bytes, grows = self._meter.needs()
        inside = None if self._freed else self._inside_bytes()
        if not space.holds(log_bytes, grows, inside) and self._freed and self.reserve and self.reserve.give_up():
            space = room.look(str(self._folder)) or space  # somebody else had made it again meanwhile
        if not space.holds(log_bytes, grows, inside):
            raise room.refusal(space, log_bytes + grows)

    def check_room(self, needed_bytes: int) -> None:
        """Refuse (`DiskFull`) to write so much more, with what the transaction has been asked for before."""
        if self._lock is None or self._frees or (space := room.look(str(self._folder))) is None:
            return
        self._asked_bytes = needed_bytes + (self._asked_bytes if self._depth else 0)
        self._check(space, self._asked_bytes)

    def pages_left(self, most: int) -> int:
        """Return how many pages may be written, up to `most`, that are in the log first and in the file then."""
        space = room.look(str(self._folder)) if self.near_full and self._lock is not None else None
        return most if space is None else min(most, space.left_bytes // (2 * int(self.pragma("page_size"))))

    def _check(self, space: room.Space, needed_bytes: int) -> None:
        if space.refuses(needed_bytes, 0) and space.refuses(needed_bytes, self._inside_bytes()):
            raise room.refusal(space, needed_bytes)

    def _inside_bytes(self) -> int:
        """Return how much the file itself has free: what is deleted leaves its pages to what comes."""
        return int(self.pragma("freelist_count")) * int(self.pragma("page_size"))

    def space(self) -> tuple[int, bool] | None:
        """Return how many bytes the disk has free, and whether writes are refused; None in memory."""
        if self.path is None:
            return None
        try:
            space = room.Space.of(os.statvfs(str(self._folder)))
        except OSError:
            return None
        return space.free_bytes, space.refuses(0, 0) and space.refuses(0, self._inside_bytes())

    @contextlib.contextmanager
    def freeing(self) -> Iterator[None]:
        """Let in what frees space however full the disk is; where it is too full even for that, the reserve goes."""
        if self.path is None or self._frees:
            yield
            return
        self._frees = self._freed = 1
        try:
            space = room.look(str(self._folder))
            if space is not None and space.is_short and self.reserve is not None:
                self.reserve.give_up()
                if not self._depth:
                    with contextlib.suppress(FedctlError):
                        self.checkpoint(truncate=True)  # what is left in the log takes room twice
            yield
        finally:
            self._frees = 0
            if not self._depth:
                self._freed = 0
                self.make_reserve()

    @contextlib.contextmanager
    def sparing(self) -> Iterator[None]:
        """Refuse again, within `freeing`, what takes the disk below the watermark: what frees nothing at once."""
        frees, self._frees, self._freed = self._frees, 0, 0
        try:
            if frees:
                self.make_reserve()
            yield
        finally:
            self._frees = self._freed = frees

    def make_reserve(self) -> None:
        """Have the reserve, where it is to have one and there is room for it."""
        if self.reserve is not None:
            self.reserve.make()

    def _make_room(self) -> None:
        """Fold the log into the file and cut it, where it takes much of what is left; with the write lock held.

        Also after a transaction that was undone for want of space: its pages are still in the log. Folding may need
        room itself, which the reserve has.
        """
        if self.path is None or (space := room.look(str(self._folder))) is None:
            return
        long = room.size_bytes(f"{self.path}-wal") > space.log_bytes
        if long and not self._cut_log() and self.reserve is not None and self.reserve.give_up():
            self._cut_log()
        if not self._frees:
            self.make_reserve()

    def _cut_log(self) -> bool:
        """Return whether there was room to do it; readers that hold on to the log put it off to the next time."""
        try:
            self._connection.set_busy_timeout(_RESTART_BUSY_MS)
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.FullError, apsw.IOError):
            return False
        except apsw.Error:
            return True
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
        return True

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
                # The longer the log has become meanwhile, the longer it waits for whoever holds on to it.
                self._restart_log(min(pages // WAL_RESTART_PAGES, 10) * _RESTART_BUSY_MS)

    def _restart_log(self, busy_ms: int) -> None:
        """Have the log begin anew: with writers that never pause it only grows, for each finds something left in it.

        They wait meanwhile, but only for what came since the passive checkpoint; readers that hold on to the log for
        longer than that put it off to the next time.
        """
        assert self._lock is not None
        self._lock.acquire()
        try:
            self._connection.set_busy_timeout(busy_ms)
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
            self._lock.release()

    def copy_to(self, target: Path, watch: Callable[[int, int], None] = lambda _done, _pages: None) -> None:
        """Copy the database to a new file as it is at one moment, while others go on writing: SQLite's online copy.

        Inside `read`: that snapshot is what is copied, and holding it keeps the copy from beginning anew whenever
        somebody commits. The copy is not made durable; it says that it has a log, as the original does, and has none.

        Args:
            target: The file, which is not there yet.
            watch: Called between two steps with the pages done and all there are; may raise, to end it.

        Raises:
            DiskFull: There is no room for it.
        """
        assert self._reads, "the copy is of a snapshot"
        self.pragma("schema_version")  # BEGIN alone has no snapshot yet
        with translated(target):
            copy = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
            try:
                for pragma in ("synchronous=OFF", "journal_mode=OFF"):  # whoever dies here begins with a new file
                    copy.execute(f"pragma {pragma}").fetchall()
                with copy.backup("main", self._connection, "main") as backup:
                    while not backup.done:
                        backup.step(COPY_STEP_PAGES)
                        watch(backup.page_count - backup.remaining, backup.page_count)
            finally:
                copy.close()

    @contextlib.contextmanager
    def raw_pages(self, touch: str) -> Iterator[RawPages | None]:
        """Lend the file's pages as they are on disk, for wiping what belongs to nothing; None when it cannot be now.

        Nobody writes meanwhile, and the log is empty: somebody who reads from it for long keeps it from becoming so.
        Whoever has pages in memory drops them afterwards, for a commit follows, of the statement `touch`; this
        connection must be a new one. What was written is on disk after `sync`, or after the next checkpoint.
        """
        assert self._lock is not None, "a store in memory has no file"
        assert self.path is not None
        with self._errors:
            self._lock.acquire()
            try:
                if not self._emptied_log():
                    yield None
                    return
                self._connection.execute("BEGIN IMMEDIATE").fetchall()
                try:
                    if room.size_bytes(f"{self.path}-wal"):  # somebody who does not queue with us
                        yield None
                        return
                    raw = RawPages(self.path, int(self.pragma("page_size")), int(self.pragma("page_count")))
                    try:
                        yield raw
                    finally:
                        raw.close()
                    if raw.written:
                        self._connection.release_memory()  # what it has of pages that were just written
                        self._connection.execute(touch).fetchall()
                    self._connection.execute("COMMIT").fetchall()
                finally:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK").fetchall()
            finally:
                self._lock.release()

    def _emptied_log(self) -> bool:
        self._connection.set_busy_timeout(_RESTART_BUSY_MS)
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            return False
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
        return True

    def stop_autocheckpoint(self) -> None:
        """Leave checkpoints to whoever calls `checkpoint`: they stay off the path of an ack."""
        self._connection.wal_autocheckpoint(0)

    def on_flush_failed(self, hear: Callable[[FedctlError], None]) -> None:
        """Have it heard, on any thread, that the disk did not keep what this connection had written."""
        self._errors.flush_failed = hear

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

    __slots__ = ("_admitted", "_apart", "_database")

    def __init__(self, database: Database, *, apart: bool, admitted: bool) -> None:
        self._database = database
        self._apart = apart
        self._admitted = admitted

    def __enter__(self) -> None:
        self._database._begin(apart=self._apart, admitted=self._admitted)  # noqa: SLF001  one thing in two halves

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database._end(good=kind is None)  # noqa: SLF001  likewise


def sqlite_version() -> str:
    """Return the version of the SQLite that apsw brings."""
    return apsw.sqlite_lib_version()


class Translation:
    """Maps SQLite's and the operating system's errors to ours. `flush_failed` hears of what the disk did not keep."""

    __slots__ = ("_errno", "_path", "flush_failed")

    def __init__(self, path: Path | None, errno: Callable[[], int] = lambda: 0) -> None:
        self._path = path
        self._errno = errno
        self.flush_failed: Callable[[FedctlError], None] = lambda _error: None

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raise our error in the place of theirs."""
        if isinstance(error, _THEIRS):
            raise self.ours(error) from error

    def ours(self, error: Exception) -> FedctlError:
        """Return our error."""
        # SQLite knows one errno of a full disk; a quota and a limit on the size of files are the same to whoever asked.
        result = getattr(error, "extendedresult", None)
        if result in (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE) and self._errno() in NO_SPACE:
            return full()
        found = _translated(self._path, error)
        if isinstance(found, FlushFailedError):
            self.flush_failed(found)
        return found


def translated(path: Path | None) -> Translation:
    """Map SQLite's and the operating system's errors to ours, in a `with`."""
    return Translation(path)


def _translated(path: Path | None, error: Exception) -> FedctlError:  # noqa: PLR0911  one return an error
    if isinstance(error, apsw.FullError):
        return full()
    if isinstance(error, apsw.InterruptError):  # by the meter: nobody else interrupts
        return DiskFull("the disk is nearly full: this takes more room than there is", hint="free some space on it")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        # The only virtual tables are those of words.
        return damaged(path, error, words=getattr(error, "extendedresult", None) == apsw.SQLITE_CORRUPT_VTAB)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Unavailable(f"the store is busy: {error}", hint="try again")
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError):
        return cannot_write(path, error, refused=getattr(error, "extendedresult", None) == apsw.SQLITE_READONLY)
    if isinstance(error, apsw.CantOpenError):
        return cannot_open(path, error)
    if isinstance(error, apsw.IOError):
        return io_failed(path, error, flushing=getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_FSYNC)
    if isinstance(error, UnicodeDecodeError):
        return damaged(path, Exception("a text in it is none"), words=False)
    if not isinstance(error, OSError):
        return Failure(f"SQLite: {error}")
    return from_os(error, "the store cannot be used", hint=f"check {path}")
