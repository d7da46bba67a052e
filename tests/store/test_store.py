"""How a store comes into being, and what is said of a home that holds none, or none that is whole."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fedctl.errors import Corrupt, Denied, DiskFull, FedctlError, NoStore, UsageError
from fedctl.store.store import FILE_NAME, Store

ROOT = Path(__file__).parents[2]


def opened(home: Path, clock, *, create: bool = False) -> Store:
    return Store.open(home, clock, create=create, timeout_s=5)


def content(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes but the log's shared memory and the lock, which are no content."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", ".lock")))
    return {str(path): path.read_bytes() for path in files}


# -- coming into being -------------------------------------------------------------------------------------------


def test_a_home_is_made_with_all_that_is_missing_above_it_for_the_owner_alone(tmp_path: Path, clock):
    home = tmp_path / "a" / "b"
    opened(home, clock, create=True).close()
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / FILE_NAME).stat().st_mode & 0o777 == 0o600
    opened(home, clock).close()


def test_nothing_but_the_store_is_left_of_its_making(home: Path, clock):
    opened(home, clock, create=True).close()
    assert not [path for path in home.iterdir() if "new" in path.name or path.name == "store.db.lock"]


def test_reading_makes_no_store_and_says_how_to_begin(home: Path, clock):
    for _ in range(2):
        with pytest.raises(NoStore) as caught:
            opened(home, clock)
        assert "fedctl init" in (caught.value.hint or "")
        assert not home.exists()
    home.mkdir()
    with pytest.raises(NoStore):
        opened(home, clock)
    assert list(home.iterdir()) == []


def test_what_a_process_that_died_while_making_a_store_left_behind_is_no_hindrance(home: Path, clock):
    home.mkdir()
    for name in (
        "store.db.new",
        "store.db.new-wal",
        "store.db.new-shm",
        "store.db.new-journal",
        "store.db.lock",
        "store.lock",
    ):
        (home / name).write_bytes(b"half of something")
    store = opened(home, clock, create=True)
    assert store.integrity() == []
    store.close()
    assert not list(home.glob("*.new*"))


def test_many_processes_that_make_the_store_at_once_make_one(home: Path, clock):
    code = """
import sys
from pathlib import Path
from fedctl.clock import Clock
from fedctl.store.store import Store
sys.stdin.read()
store = Store.open(Path(sys.argv[1]), Clock(), create=True)
with store.write():
    store.tenants.key_for_writing(sys.argv[2], 0)
print(store.settings.epoch())
store.close()
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(home), f"tenant{n}"], cwd=ROOT, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    epochs = set()
    for process in processes:
        with process:
            epochs.add(process.communicate(timeout=30)[0])
        assert process.returncode == 0
    assert len(epochs) == 1
    store = opened(home, clock)
    assert store.tenants.count() == 4
    assert store.integrity() == []
    store.close()


def test_a_store_in_memory_is_a_whole_store_and_leaves_no_file(tmp_path: Path, clock, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store.in_memory(clock)
    assert store.settings.epoch()
    assert store.size_bytes() > 0
    assert store.integrity() == []
    store.checkpoint(truncate=True)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_every_store_has_an_epoch_of_its_own_that_stays(tmp_path: Path, clock):
    epochs = []
    for name in ("a", "b", "a"):
        store = opened(tmp_path / name, clock, create=True)
        epochs.append(store.settings.epoch())
        store.close()
    assert epochs[0] == epochs[2] != epochs[1]


def test_the_size_counts_the_log_and_a_checkpoint_folds_it_in(bench):
    for number in range(50):
        bench.keep(f"e{number}", input="x" * 1000)
    log = bench.home / "store.db-wal"
    assert bench.store.size_bytes() == (bench.home / FILE_NAME).stat().st_size + log.stat().st_size
    assert bench.store.wal_bytes() == log.stat().st_size
    bench.store.checkpoint(truncate=True)
    assert log.stat().st_size == 0
    assert len(bench.ids()) == 50


# -- homes that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("create", [True, False])
def test_a_home_that_is_a_file_is_a_wrong_setting(tmp_path: Path, clock, create: bool):
    home = tmp_path / "home"
    home.write_text("precious")
    with pytest.raises(UsageError, match="file"):
        opened(home, clock, create=create)
    assert home.read_text() == "precious"


def test_a_home_below_a_file_is_a_wrong_setting(tmp_path: Path, clock):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match="file"):
        opened(tmp_path / "file" / "home", clock, create=True)
    with pytest.raises(NoStore):
        opened(tmp_path / "file" / "home", clock)


@pytest.mark.parametrize("create", [True, False])
def test_a_home_whose_name_is_too_long_is_a_clear_error(tmp_path: Path, clock, create: bool):
    with pytest.raises(FedctlError, match="name too long"):
        opened(tmp_path / ("n" * 300), clock, create=create)


def test_a_home_that_links_to_a_home_is_one(tmp_path: Path, clock):
    opened(tmp_path / "home", clock, create=True).close()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    opened(tmp_path / "link", clock).close()


@pytest.fixture
def small_disk(make_disk):
    return make_disk("384k")


def test_a_home_that_is_read_only_is_denied_to_writers_and_nothing_is_lost(small_disk, clock):
    home = small_disk.folder / "home"
    opened(home, clock, create=True).close()
    small_disk.make("ro")
    store = opened(home, clock, create=True)
    assert store.episodes.count_everywhere() == 0
    with pytest.raises(Denied), store.write():
        pass
    store.close()
    with pytest.raises(Denied):
        opened(small_disk.folder / "another", clock, create=True)
    small_disk.make("rw")
    opened(home, clock).close()


def test_a_store_is_not_made_by_halves_on_a_full_disk(small_disk, clock):
    (small_disk.folder / "ballast").write_bytes(b"\0" * (300 << 10))
    with pytest.raises(DiskFull):
        opened(small_disk.folder / "home", clock, create=True)
    with pytest.raises(NoStore):
        opened(small_disk.folder / "home", clock)
    (small_disk.folder / "ballast").unlink()
    store = opened(small_disk.folder / "home", clock, create=True)
    assert store.integrity() == []
    store.close()


# -- stores that are none, or broken -----------------------------------------------------------------------------


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.execute("INSERT INTO bookmarks VALUES ('https://example.org')")
    connection.commit()
    connection.close()


def foreign_in_wal_mode(path: Path) -> None:
    foreign(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x"),
        lambda path: path.write_bytes(b"this is no database, it is a letter to my aunt. " * 1000),
        lambda path: path.write_bytes(b"\0" * 65536),
        lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000),
        foreign,
        foreign_in_wal_mode,
    ],
    ids=["empty", "one byte", "text", "zeros", "header only", "another program's", "another program's log mode"],
)
@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_store_is_named_and_not_touched(home: Path, clock, spoil, create: bool):
    home.mkdir()
    spoil(home / FILE_NAME)
    before = (home / FILE_NAME).read_bytes()
    with pytest.raises(Corrupt) as caught:
        opened(home, clock, create=create)
    assert caught.value.exit == 13
    assert caught.value.hint
    assert (home / FILE_NAME).read_bytes() == before


def test_a_folder_where_the_database_belongs_is_named(home: Path, clock):
    (home / FILE_NAME).mkdir(parents=True)
    with pytest.raises(Corrupt, match="directory"):
        opened(home, clock, create=True)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (os.mkfifo, "FIFO"),
        (_socket, "socket"),
        (lambda path: path.symlink_to(path.name), "leads to itself"),
        (lambda path: path.symlink_to("/nowhere/store.db"), "which is not there"),
    ],
    ids=["pipe", "socket", "loop", "link to nowhere"],
)
@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_file_where_the_database_belongs_is_named_and_stays(home: Path, clock, put, said, create: bool):
    home.mkdir()
    put(home / FILE_NAME)
    before = (home / FILE_NAME).lstat().st_ino
    with pytest.raises(Corrupt, match=said):
        opened(home, clock, create=create)
    assert (home / FILE_NAME).lstat().st_ino == before


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_folder_where_the_log_belongs_is_named(bench, clock, suffix: str):
    bench.store.close()
    beside = bench.home / (FILE_NAME + suffix)
    beside.unlink(missing_ok=True)
    beside.mkdir()
    with pytest.raises(Corrupt, match=suffix):
        store = opened(bench.home, clock)
        try:
            with store.write():
                store.settings.put("x", "y")
        finally:
            store.close()


def test_a_header_that_lets_nobody_write_is_damage(bench, clock):
    """SQLite itself only says that the database is read-only."""
    bench.keep("e1")
    bench.store.checkpoint(truncate=True)
    bench.store.close()
    with (bench.home / FILE_NAME).open("r+b") as file:
        file.seek(18)
        file.write(b"\x63")
    store = opened(bench.home, clock)
    assert "the header names a format that nobody can write" in store.integrity()
    with pytest.raises(Corrupt), store.write():
        store.settings.put("x", "y")
    store.close()


def test_a_text_that_is_none_is_damage(bench):
    bench.keep("e1")
    with bench.store.write():
        bench.store.database.run("UPDATE episodes SET input = CAST(x'9e41' AS TEXT)")
    with pytest.raises(Corrupt, match="a text in it is none"):
        bench.store.database.rows("SELECT input FROM episodes")


def _gone(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _begun_with_zeroes(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4096))


GONE = [(name, spoil) for name in ("", "-wal", "-shm") for spoil in (_gone, _replaced)]


@pytest.mark.parametrize(("name", "spoil"), [*GONE, ("", _cut), ("", _begun_with_zeroes)])
def test_a_file_that_is_no_longer_the_one_that_was_opened_is_noticed(bench, clock, name: str, spoil):
    """What goes into a file without a name is lost with the process; into one that was cut nothing is folded."""
    store = opened(bench.home, clock)
    with store.write():
        store.settings.put("x", "y")
    store.check_place()
    path = bench.home / (FILE_NAME + name)
    spoil(path)
    after = path.read_bytes() if path.exists() else b""
    for act in (store.check_place, store.checkpoint):
        with pytest.raises(Corrupt, match="while it was open"):
            act()
    assert (path.read_bytes() if path.exists() else b"") == after
    store.close()


@pytest.mark.parametrize(("name", "spoil"), GONE)
def test_nobody_writes_any_more_through_a_file_that_has_no_name(bench, clock, name: str, spoil):
    """Whoever comes by the name has another log, or another index of it: each would write over what the other acked."""
    store = opened(bench.home, clock)
    with store.write():
        store.settings.put("x", "y")
    spoil(bench.home / (FILE_NAME + name))
    with pytest.raises(Corrupt, match="while it was open"), store.write():
        store.settings.put("x", "z")
    assert store.settings.get("x") == "y"
    store.close()


def test_a_store_cut_in_half_is_corrupt_and_stays_as_it_is(bench, clock):
    for number in range(100):
        bench.keep(f"e{number}", input="x" * 3000)
    bench.store.checkpoint(truncate=True)
    bench.store.close()
    path = bench.home / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    before = content(bench.home)

    def use() -> None:
        store = opened(bench.home, clock, create=True)
        try:
            store.episodes.page((1, "default"), _any(), cursor=None, limit=1000, newest_first=True)
        finally:
            store.close()

    with pytest.raises(Corrupt) as caught:
        use()
    assert caught.value.exit == 13
    assert content(bench.home) == before


def _any():
    from fedctl.model.episode import EpisodeFilter

    return EpisodeFilter()


def test_bytes_flipped_in_the_middle_are_found_by_the_full_check(bench):
    for number in range(100):
        bench.keep(f"e{number}", input="x" * 3000)
    bench.store.checkpoint(truncate=True)
    bench.store.close()
    path = bench.home / FILE_NAME
    with path.open("r+b") as file:
        for page in range(8, 30):
            file.seek(page * 4096)
            file.write(b"\xa5" * 64)
    before = content(bench.home)

    def use() -> None:
        store = opened(bench.home, bench.clock)
        try:
            if lines := store.integrity():
                raise Corrupt(lines[0])
        finally:
            store.close()

    with pytest.raises(Corrupt):  # by the check, or before it
        use()
    assert content(bench.home) == before


def test_the_log_of_a_damaged_database_is_not_folded_into_it(bench):
    bench.keep("e1", input="x" * 3000)
    bench.store.close()
    assert (bench.home / "store.db-wal").stat().st_size
    with (bench.home / FILE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 40_000)
    before = content(bench.home)

    def use() -> None:
        store = opened(bench.home, bench.clock)
        try:
            assert store.integrity() == []
        finally:
            store.close()

    for _ in range(2):
        with pytest.raises(Corrupt):
            use()
    assert content(bench.home) == before


def test_a_store_of_a_newer_fedctl_is_refused_and_says_which(bench, clock):
    with bench.store.write():
        bench.store.database.run_script("pragma user_version = 99")
    with pytest.raises(Corrupt) as caught:
        opened(bench.home, clock)
    assert caught.value.details["schema_version"] == 99
    assert "newer" in (caught.value.hint or "")


def test_a_database_that_is_gone_while_its_log_is_there_is_not_replaced_by_an_empty_one(bench, clock, tmp_path: Path):
    """SQLite would replay the log onto the new database: at best the old episodes, at worst a mixture."""
    bench.keep("e1")
    bench.store.close()
    path = bench.home / FILE_NAME
    assert (bench.home / "store.db-wal").stat().st_size
    shutil.move(path, tmp_path / "aside.db")
    for _ in range(2):
        with pytest.raises(Corrupt) as caught:
            opened(bench.home, clock, create=True)
        assert "store.db-wal" in caught.value.message
    with pytest.raises(Corrupt):  # who reads is not told either that nothing is there
        opened(bench.home, clock)
    shutil.move(tmp_path / "aside.db", path)
    store = opened(bench.home, clock)
    assert store.episodes.count_everywhere() == 1
    store.close()


def test_an_empty_log_without_its_database_is_no_hindrance(home: Path, clock):
    home.mkdir()
    (home / "store.db-wal").touch()
    opened(home, clock, create=True).close()
