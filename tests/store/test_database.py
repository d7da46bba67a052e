"""Transactions, the queue of writers, and what becomes of both when things go wrong."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from fedctl.errors import Corrupt, Denied, DiskFull, Failure, Unavailable
from fedctl.store import room
from fedctl.store.database import Database, SpoiltError, sqlite_version, translated
from fedctl.store.lock import FileLock
from fedctl.store.store import Store
from fedctl.store.trouble import FlushFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    path.touch()
    with_table(path)
    return path


def with_table(path: Path) -> None:
    database = Database(path)
    with database.write():
        database.run_script("CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT) STRICT")
    database.use_wal()
    database.close()


@pytest.fixture
def database(path: Path):
    database = Database(path, timeout_s=5)
    yield database
    database.close()


def add(database: Database, number: int, text: str = "") -> None:
    database.run("INSERT INTO numbers VALUES (:n, :text)", {"n": number, "text": text})


def numbers(database: Database) -> list[int]:
    return [row[0] for row in database.rows("SELECT n FROM numbers ORDER BY n")]


def run(code: str, *args: object, **kwargs) -> subprocess.Popen[str]:
    """Start a program that has the path as its first argument."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
         stdin=subprocess.PIPE,
        **kwargs,
    )  # fmt: skip


def end(process: subprocess.Popen[str], text: str | None = None) -> str:
    with process:
        out, _ = process.communicate(text, timeout=30)
    return out


# -- the connection ----------------------------------------------------------------------------------------------


def test_sqlite_is_new_enough_to_be_without_the_wal_reset_bug():
    assert tuple(int(part) for part in sqlite_version().split(".")) >= (3, 51, 3)


def test_every_setting_that_acked_means_kept_depends_on_is_on(database: Database):
    assert database.pragma("journal_mode") == "wal"
    assert database.pragma("synchronous") == 2
    assert database.pragma("foreign_keys") == 1
    assert database.pragma("cell_size_check") == 1
    assert database.pragma("trusted_schema") == 0


def test_closing_twice_is_harmless(path: Path):
    database = Database(path)
    database.close()
    database.close()


# -- transactions ------------------------------------------------------------------------------------------------


def test_a_transaction_is_whole_or_not_there(database: Database):
    with pytest.raises(KeyError), database.write():
        add(database, 1)
        raise KeyError
    assert numbers(database) == []
    with database.write():
        add(database, 2)
    assert numbers(database) == [2]


def test_one_inside_another_fails_alone(database: Database):
    with database.write():
        add(database, 1)
        with pytest.raises(KeyError), database.write():
            add(database, 2)
            with database.write():
                add(database, 3)
            raise KeyError
        with database.write():
            add(database, 4)
    assert numbers(database) == [1, 4]


def test_a_constraint_that_fails_inside_undoes_the_inner_part_and_no_more(database: Database):
    with database.write():
        add(database, 1)
        with pytest.raises(Failure, match="UNIQUE"), database.write():
            add(database, 2)
            add(database, 1)
        add(database, 3)
    assert numbers(database) == [1, 3]


def test_the_outer_one_failing_undoes_what_the_inner_one_kept(database: Database):
    with pytest.raises(KeyError), database.write():
        with database.write():
            add(database, 1)
        raise KeyError
    assert numbers(database) == []


def test_a_change_outside_a_transaction_is_a_bug(database: Database):
    with pytest.raises(AssertionError):
        add(database, 1)


def test_after_sqlite_has_undone_everything_nothing_more_is_committed(database: Database):
    """A full disk or an I/O error rolls the whole transaction back, from inside any savepoint.

    Whoever takes that for the failure of one part and goes on must not commit the rest by itself.
    """
    with pytest.raises(Failure, match="undone"), database.write():
        add(database, 1)
        with pytest.raises(KeyError), database.write():
            database._connection.execute("ROLLBACK")  # what SQLite does by itself
            raise KeyError
        for change in (lambda: add(database, 2), lambda: database.run_many("INSERT INTO numbers VALUES (3, '')", [{}]),
                       lambda: database.run_script("INSERT INTO numbers VALUES (4, '')")):  # fmt: skip
            with pytest.raises(Failure, match="undone"):
                change()
        with pytest.raises(Failure, match="undone"), database.write():
            add(database, 5)
    assert numbers(database) == []
    with database.write():
        add(database, 6)
    assert numbers(database) == [6]


def test_parts_that_are_not_kept_apart_are_kept_together(database: Database):
    with database.write(apart=False):
        with database.write():
            add(database, 1)
        with database.write():
            add(database, 2)
            with database.write():
                add(database, 3)
    assert numbers(database) == [1, 2, 3]


@pytest.mark.parametrize("depth", [1, 2])
def test_parts_that_are_not_kept_apart_share_the_fate_of_the_one_that_failed(database: Database, depth: int):
    def fail(depth: int) -> None:
        with database.write():
            add(database, depth)
            if depth == 1:
                raise KeyError
            fail(depth - 1)

    with pytest.raises(SpoiltError), database.write(apart=False):
        add(database, 9)
        with pytest.raises(KeyError):
            fail(depth)
        assert database.spoilt
        with database.write():
            add(database, 8)
    assert numbers(database) == []
    assert not database.spoilt
    with database.write(apart=False):
        add(database, 4)
    with database.write(), pytest.raises(KeyError):
        fail(1)
    assert numbers(database) == [4]


def test_what_was_undone_is_counted_so_that_nobody_trusts_what_he_remembers(database: Database):
    seen = [database.undone]
    with database.write():
        add(database, 1)
        with pytest.raises(KeyError), database.write():
            raise KeyError
        seen.append(database.undone)
    with pytest.raises(KeyError), database.write():
        raise KeyError
    seen.append(database.undone)
    with pytest.raises(SpoiltError), database.write(apart=False), contextlib.suppress(KeyError), database.write():
        raise KeyError
    seen.append(database.undone)
    assert seen == sorted(set(seen))
    with database.write(), database.write():
        add(database, 2)
    assert database.undone == seen[-1]


def test_a_snapshot_stays_as_it_was_while_others_write(path: Path, database: Database):
    other = Database(path)
    with database.read():
        assert numbers(database) == []
        with other.write():
            add(other, 1)
        assert numbers(database) == []
        with database.read():
            assert numbers(database) == []
    assert numbers(database) == [1]
    other.close()


def test_a_snapshot_ends_also_when_its_reader_fails(database: Database):
    with pytest.raises(KeyError), database.read():
        numbers(database)
        raise KeyError
    with database.write():
        add(database, 1)
    assert numbers(database) == [1]


def test_reading_inside_a_transaction_sees_what_it_wrote(database: Database):
    with database.write():
        add(database, 1)
        with database.read():
            assert numbers(database) == [1]


def test_another_connection_s_commit_is_noticed_and_one_s_own_is_not(path: Path, database: Database):
    other = Database(path)
    before = database.data_version()
    with database.write():
        add(database, 1)
    assert database.data_version() == before
    with other.write():
        add(other, 2)
    assert database.data_version() != before
    other.close()


def test_rows_are_read_no_further_than_their_weight_is_wanted(database: Database):
    with database.write():
        for number in range(10):
            add(database, number, "x" * 10)

    def first(most: int) -> list[int]:
        rows = database.rows_until("SELECT n, text FROM numbers ORDER BY n", None, lambda row: len(row[1]), most)
        return [row[0] for row in rows]

    assert first(25) == [0, 1, 2]
    assert first(1) == [0, 1]  # so that the one after a very large one is known to be there
    assert first(1000) == list(range(10))
    with database.write():  # no statement was left open
        add(database, 99)


# -- the queue of writers ----------------------------------------------------------------------------------------


def test_two_connections_of_one_process_exclude_each_other(path: Path, database: Database):
    other = Database(path, timeout_s=0.05)
    with database.write(), pytest.raises(Unavailable) as caught, other.write():
        pass
    assert "busy" in caught.value.message
    assert caught.value.retryable
    with other.write():
        add(other, 1)
    other.close()


def test_who_waits_in_time_gets_the_lock(path: Path, database: Database):
    other = Database(path, timeout_s=20)
    inside, seen = threading.Event(), []

    def hold() -> None:
        with database.write():
            inside.set()
            while not waiting_threads():
                pass
            add(database, 1)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with other.write():
        seen.extend(numbers(other))
    thread.join()
    assert seen == [1]
    other.close()


def waiting_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "file-lock"]


def test_who_gave_up_waiting_does_not_get_the_lock_later(tmp_path: Path):
    path = tmp_path / "x.lock"
    first, second, third = FileLock(path, 5), FileLock(path, 0.01), FileLock(path, 5)
    first.acquire()
    with pytest.raises(Unavailable):
        second.acquire()
    first.release()
    for thread in waiting_threads():
        thread.join(10)
    third.acquire()
    assert third.held
    assert not second.held
    third.release()


def test_nothing_is_left_open_by_locking_unlocking_and_giving_up(tmp_path: Path):
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    path = tmp_path / "x.lock"
    before = open_files()
    first = FileLock(path, 1)
    for _ in range(10):
        second = FileLock(path, 0.001)
        first.acquire()
        with pytest.raises(Unavailable):
            second.acquire()
        first.release()
        for thread in waiting_threads():
            thread.join(10)
        second.close()
    first.close()
    assert open_files() == before


def test_a_lock_that_is_closed_is_free(tmp_path: Path):
    first, second = FileLock(tmp_path / "x.lock", 1), FileLock(tmp_path / "x.lock", 1)
    first.acquire()
    first.close()
    second.acquire()
    assert (first.held, second.held) == (False, True)
    second.close()


def test_no_statement_is_prepared_anew_when_it_is_bound_beside_a_partial_index(database: Database):
    with database.write():
        database.run("CREATE TABLE parent (key INTEGER PRIMARY KEY, name TEXT)")
        database.run("CREATE TABLE child (parent_key INTEGER, state TEXT, at INTEGER)")
        database.run("CREATE INDEX open_children ON child (parent_key, at) WHERE state = 'open'")
    again = []
    connection = database._connection
    connection.trace_v2(
        apsw.SQLITE_TRACE_PROFILE, lambda told: again.append(told["stmt_status"]["SQLITE_STMTSTATUS_REPREPARE"])
    )
    sql = (
        "SELECT p.name, c.at FROM child AS c JOIN parent AS p ON p.key = c.parent_key"
        " WHERE c.parent_key = :key AND c.state = 'open' ORDER BY c.at LIMIT :limit"
    )
    for key in range(5):
        database.rows(sql, {"key": key, "limit": 1})
    assert again == [0] * 5


def test_the_lock_of_a_process_that_died_is_free(path: Path, database: Database):
    code = (
        "import sys; from pathlib import Path; from fedctl.store.database import Database\n"
        "with Database(Path(sys.argv[1])).write(): print('in', flush=True); sys.stdin.read()"
    )
    process = run(code, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGKILL)
    end(process)
    with database.write():
        add(database, 1)


def test_a_process_that_is_killed_in_mid_transaction_leaves_nothing_of_it(path: Path, database: Database):
    code = """
import sys
from pathlib import Path
from fedctl.store import room
from fedctl.store.database import Database
database = Database(Path(sys.argv[1]))
with database.write():
    database.run("INSERT INTO numbers VALUES (1, 'kept')")
with database.write():
    # Much more than SQLite's cache: pages of it are in the log when the end comes.
    database.run_many("INSERT INTO numbers VALUES (:n, :text)", ({"n": n, "text": "x" * 4000} for n in range(2, 2000)))
    print("in", flush=True)
    sys.stdin.read()
"""
    process = run(code, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGKILL)
    end(process)
    assert path.with_name("a.db-wal").stat().st_size > 1_000_000
    assert numbers(database) == [1]
    assert database.rows("pragma integrity_check") == [("ok",)]
    with database.write():
        add(database, 2)
    assert numbers(database) == [1, 2]


def test_several_processes_that_write_at_once_lose_nothing(path: Path, database: Database):
    code = """
import sys
from pathlib import Path
from fedctl.store import room
from fedctl.store.database import Database
database = Database(Path(sys.argv[1]))
sys.stdin.read()
for n in range(100):
    with database.write():
        # Read, then write: without the lock two would read the same.
        (highest,) = database.row("SELECT coalesce(max(n), 0) FROM numbers")
        database.run("INSERT INTO numbers VALUES (:n, '')", {"n": highest + 1})
database.close()
"""
    processes = [run(code, path) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [end(process) for process in processes] == [""] * 3
    assert [process.returncode for process in processes] == [0] * 3
    assert numbers(database) == list(range(1, 301))


def test_who_was_interrupted_while_waiting_does_not_get_the_lock_later(path: Path, database: Database):
    code = """
import sys
from pathlib import Path
from fedctl.store import room
from fedctl.store.database import Database
database = Database(Path(sys.argv[1]))
try:
    print("waiting", flush=True)
    with database.write():
        print("in", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.read()
"""
    process = run(code, path)
    assert process.stdout is not None
    with database.write():
        assert process.stdout.readline() == "waiting\n"
        while "file-lock" not in threads_of(process.pid):
            pass
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    with database.write():  # the other lives, and its thread has had the lock and let go of it
        add(database, 1)
    assert process.poll() is None
    assert end(process) == ""


def threads_of(pid: int) -> set[str]:
    return {"file-lock" for _ in list(Path(f"/proc/{pid}/task").iterdir())[1:]}


def test_closing_does_not_wait_for_a_writer_that_does_not_end(path: Path, database: Database):
    other = Database(path, timeout_s=0.05)
    with database.write():
        other.close()
    with database.write():
        add(database, 1)


# -- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (apsw.FullError("full"), DiskFull), (apsw.CorruptError("x"), Corrupt), (apsw.NotADBError("x"), Corrupt),
        (apsw.BusyError("x"), Unavailable), (apsw.LockedError("x"), Unavailable), (apsw.ReadOnlyError("x"), Denied),
        (apsw.PermissionsError("x"), Denied), (apsw.IOError("x"), Failure), (apsw.ConstraintError("x"), Failure),
        (apsw.TooBigError("x"), Failure), (OSError(28, "No space"), DiskFull), (OSError(30, "Read-only"), Denied),
        (OSError(13, "Permission"), Denied), (OSError(5, "I/O"), Failure),
    ],
)  # fmt: skip
def test_every_error_of_sqlite_and_the_system_comes_out_as_ours(tmp_path: Path, error: Exception, kind: type):
    with pytest.raises(kind) as caught, translated(tmp_path / "a.db"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_a_lock_file_that_cannot_be_made_is_a_clear_error(tmp_path: Path):
    (tmp_path / "a.db").touch()
    (tmp_path / "a.lock").mkdir()
    database = Database(tmp_path / "a.db")
    with pytest.raises(Failure, match="cannot be used"), database.write():
        pass
    (tmp_path / "a.lock").rmdir()
    database.close()


@pytest.mark.parametrize("limit_kib", [64, 256, 1000])
def test_a_file_that_may_not_grow_any_more_costs_the_transaction_and_nothing_else(path: Path, limit_kib: int):
    code = """
import resource, sys
from pathlib import Path
from fedctl.errors import FedctlError
from fedctl.store import room
from fedctl.store.database import Database
limit = int(sys.argv[2]) << 10
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
database = Database(Path(sys.argv[1]))
for n in range(1, 10_000):
    try:
        with database.write():
            database.run("INSERT INTO numbers VALUES (:n, :text)", {"n": n, "text": "x" * 10_000})
    except FedctlError as error:
        print(n, error.exit, error.message)
        break
"""
    number, exit_, message = end(run(code, path, limit_kib)).split(" ", 2)
    assert exit_ in ("1", "15"), message
    database = Database(path)
    assert numbers(database) == list(range(1, int(number)))
    assert database.rows("pragma integrity_check") == [("ok",)]
    with database.write():
        add(database, 0)
    database.close()


@pytest.fixture
def small_disk(make_disk):
    return make_disk("1m")


def test_a_full_disk_is_told_as_such_and_nothing_acked_is_lost(small_disk):
    path = small_disk.folder / "a.db"
    path.touch()
    with_table(path)
    database = Database(path)
    kept = []
    with pytest.raises(DiskFull) as caught:
        for number in range(1000):
            with database.write():
                add(database, number, "x" * 10_000)
            kept.append(number)
    assert caught.value.exit == 15
    assert kept
    assert numbers(database) == kept
    database.close()
    again = Database(path)
    assert numbers(again) == kept
    assert again.rows("pragma integrity_check") == [("ok",)]
    again.close()


def test_an_input_output_error_on_a_full_disk_is_a_full_disk(small_disk):
    path = small_disk.folder / "a.db"
    with pytest.raises(Failure), translated(path):
        raise apsw.IOError("disk I/O error")
    with contextlib.suppress(OSError):
        (small_disk.folder / "ballast").write_bytes(b"x" * (2 << 20))
    with pytest.raises(DiskFull), translated(path):
        raise apsw.IOError("disk I/O error")


def test_a_flush_that_fails_is_heard_and_no_other_error_is(tmp_path):
    (tmp_path / "a.db").touch()
    database, heard = Database(tmp_path / "a.db"), []
    database.on_flush_failed(heard.append)
    for result in (apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_FSYNC):
        error = apsw.IOError("disk I/O error")
        error.extendedresult = result
        with pytest.raises(Failure), database._errors:
            raise error
    assert [type(one) for one in heard] == [FlushFailedError]
    database.close()


def test_a_disk_that_fills_up_inside_a_group_takes_the_whole_group(small_disk):
    path = small_disk.folder / "a.db"
    path.touch()
    with_table(path)
    database = Database(path)
    before = os.statvfs(small_disk.folder).f_bavail
    with pytest.raises(DiskFull), database.write():
        for number in range(1000):
            with database.write():
                add(database, number, "x" * 10_000)
    assert numbers(database) == []
    assert os.statvfs(small_disk.folder).f_bavail == before  # not a byte was written of what does not fit
    database.close()


def test_a_read_only_disk_is_denied(small_disk):
    path = small_disk.folder / "a.db"
    path.touch()
    with_table(path)
    small_disk.make("ro")
    with pytest.raises(Denied), Database(path).write():
        pass


def test_the_lock_file_is_one_s_own_eyes_only(path: Path):
    lock = FileLock(path.with_suffix(".lock"), 1)
    lock.acquire()
    assert path.with_suffix(".lock").stat().st_mode & 0o777 == 0o600
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    lock.release()


@pytest.fixture
def path_on_disk() -> Iterator[Path]:
    """A database where a commit takes as long as a disk does: temporary folders may be in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="fedctl-") as folder:
        path = Path(folder) / "a.db"
        path.touch()
        with_table(path)
        yield path


def test_the_log_does_not_grow_for_ever_under_a_writer_that_never_pauses(path_on_disk, monkeypatch):
    path = path_on_disk
    monkeypatch.setattr("fedctl.store.database.WAL_RESTART_PAGES", 100)
    commits, pages_each = 500, 20
    begun, over = threading.Event(), threading.Event()

    def write():
        with contextlib.closing(Database(path, timeout_s=5)) as writer:
            writer.stop_autocheckpoint()
            for number in range(commits):
                with writer.write():
                    add(writer, number, "x" * 4000 * pages_each)
                begun.set()
        over.set()

    with contextlib.closing(Database(path, timeout_s=5)) as database:
        database.stop_autocheckpoint()
        thread = threading.Thread(target=write)
        thread.start()
        assert begun.wait(20)
        while not over.is_set():
            database.checkpoint()
        thread.join()
        log = path.with_name(f"{path.name}-wal")
        assert log.stat().st_size < commits * pages_each * 4096 / 4
        assert numbers(database) == list(range(commits))


def test_pages_that_become_free_are_overwritten_where_the_disk_has_room_for_the_zeroes(make_disk, tmp_path, clock):
    plenty = room.look(str(tmp_path)) is None
    for folder, secure in ((tmp_path, 1 if plenty else 2), (make_disk("8m").folder, 2)):  # on, and fast
        store = Store.open_file(folder / "store.db", clock, create=True)
        with store.write():
            assert store.database.pragma("secure_delete") == secure
        store.close()
