"""Wiping what SQLite has left behind: all of that, and nothing else."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import apsw
import pytest

from fedctl.store.database import Database
from fedctl.store.scrub import Scrubbed, scrub, spilt, wiped_page
from fedctl.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

MARK = b"zyxqneedle"


def never(_seconds: float) -> None:
    """Wait for nobody."""


def messed(path: Path, clock, *, secure: str) -> Store:
    """Make a store in which rows moved about and went, as an older fedctl left them if not `secure`."""
    store = Store.open_file(path, clock, create=True)
    store.database.rows(f"pragma secure_delete={secure}")
    dice = random.Random(5)
    with store.write():
        store.database.run("CREATE TABLE mess (key INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT)")
        rows = [(f"{dice.random()}{('kept', MARK.decode())[n % 2]}", ("kept", MARK.decode())[n % 2] * (n % 90))
                for n in range(1500)]  # fmt: skip
        store.database.run_many("INSERT INTO mess (name, text) VALUES (?, ?)", rows)
    with store.write():
        store.database.run("UPDATE mess SET name = name || 'x' WHERE key % 5 = 0")
        store.database.run(f"DELETE FROM mess WHERE name LIKE '%{MARK.decode()}%'")
    store.checkpoint(truncate=True)
    return store


def plain(path: Path, *pragmas: str) -> apsw.Connection:
    """Make a database that is like a store for who wipes it, with rows of which many go on in other pages."""
    connection = apsw.Connection(str(path))
    for pragma in (*pragmas, "journal_mode=WAL", "synchronous=OFF", "secure_delete=FAST"):
        connection.execute(f"pragma {pragma}").fetchall()
    connection.execute("CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    connection.execute("CREATE TABLE mess (key INTEGER PRIMARY KEY, text TEXT UNIQUE)")
    dice = random.Random(7)
    lengths = [dice.choice([3, 12, 50, 100, 400, 410, 900, 3000]) for _ in range(120)]
    for word in (MARK.decode(), "kept"):  # the second in the pages of the first, which became free just before
        connection.execute("BEGIN")
        connection.execute("DELETE FROM mess")
        for length in lengths:
            connection.execute("INSERT INTO mess (text) VALUES (?)", (f"{dice.random()}{word * length}",))
        connection.execute("COMMIT")
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return connection


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_what_is_behind_the_end_of_a_long_row_is_wiped(tmp_path, page_size):
    path = tmp_path / "store.db"
    connection = plain(path, f"page_size={page_size}")
    before = connection.execute("SELECT * FROM mess ORDER BY key").fetchall()
    assert MARK in path.read_bytes()
    assert scrub(path, never)
    assert MARK not in path.read_bytes()
    assert connection.execute("SELECT * FROM mess ORDER BY key").fetchall() == before
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize(
    "damage", [None, "goes on", "ends", "leads away", "turns back", "is another's", "is free", "is long"]
)
def test_a_chain_of_pages_that_makes_no_sense_is_left_alone(tmp_path, damage):
    path = tmp_path / "store.db"
    connection = plain(path)
    insert = "INSERT INTO mess (text) VALUES (printf('%.20552c', '{}'))"  # of a length that does not fill its pages
    inserts = [insert.format(one) for one in "xyz"]
    for statement in ("DELETE FROM mess", "VACUUM", *inserts, "DELETE FROM mess WHERE text < 'y'"):
        connection.execute(statement).fetchall()
    connection.close()
    data = bytearray(path.read_bytes())

    def page(number: int) -> bytes:
        return bytes(data[(number - 1) * 4096 : number * 4096])

    def number_on(page: bytes) -> int:
        return struct.unpack_from(">I", page)[0]

    count = len(data) // 4096
    leaf = next(one for one in range(2, count + 1) if page(one)[0] == 0x0D)
    (first, _), (other, _) = spilt(page(leaf), leaf, 4096)
    second, last = number_on(page(first)), first
    while following := number_on(page(last)):
        last = following
    data[last * 4096 - 10 : last * 4096] = MARK
    links = {"goes on": (last, count), "ends": (second, 0), "leads away": (second, count + 9),
             "turns back": (second, first), "is another's": (second, other),
             "is free": (second, number_on(page(1)[32:]))}  # fmt: skip
    if damage in links:
        at, to = links[damage]
        struct.pack_into(">I", data, (at - 1) * 4096, to)
    elif damage == "is long":
        cell = page(leaf).rindex(b"\x81\xa0\x4d")  # 20,557 bytes with the row's own header
        data[(leaf - 1) * 4096 + cell : (leaf - 1) * 4096 + cell + 3] = b"\xff\xff\x7f"
    path.write_bytes(data)
    scrub(path, never)
    assert (path.read_bytes()[last * 4096 - 10 : last * 4096] == MARK) == (damage is not None)


@pytest.mark.parametrize("mode", ["FULL", "INCREMENTAL"])
def test_a_file_with_pages_that_look_like_others_is_left_as_it_is_and_that_is_told(tmp_path, mode):
    path = tmp_path / "store.db"
    plain(path, f"auto_vacuum={mode}").close()
    before = path.read_bytes()
    assert scrub(path, never) is Scrubbed.AUTO_VACUUM
    assert path.read_bytes() == before


def test_a_file_that_is_too_large_is_left_as_it_is_and_that_is_told(tmp_path):
    path = tmp_path / "store.db"
    plain(path, "page_size=512").close()
    with path.open("r+b") as file:
        file.truncate(512 << 25)  # a hole: it takes no room
        file.seek(28)
        file.write(struct.pack(">I", 1 << 25))
    before = path.stat().st_blocks
    assert scrub(path, never) is Scrubbed.TOO_LARGE
    assert path.stat().st_blocks == before
    path.unlink()


@pytest.mark.parametrize("secure", ["OFF", "ON"])
def test_what_was_left_behind_is_wiped_and_what_is_there_stays(tmp_path, clock, secure):
    path = tmp_path / "store.db"
    store = messed(path, clock, secure=secure)
    before = store.database.rows("SELECT * FROM mess ORDER BY key")
    assert MARK in path.read_bytes() or secure == "ON"
    assert scrub(path, never)
    assert MARK not in path.read_bytes()
    assert store.database.rows("SELECT * FROM mess ORDER BY key") == before
    assert store.integrity() == []
    store.close()


def test_a_connection_with_old_pages_in_memory_does_not_write_them_back(tmp_path, clock):
    path = tmp_path / "store.db"
    store = messed(path, clock, secure="OFF")
    store.database.rows("SELECT count(*), max(name), max(text) FROM mess")
    assert scrub(path, never)
    with store.write():
        store.database.run("UPDATE mess SET name = name || 'y' WHERE key % 3 = 0")
    store.checkpoint(truncate=True)
    assert MARK not in path.read_bytes()
    store.close()


def test_who_reads_from_the_log_is_not_cut_off(tmp_path, clock):
    path = tmp_path / "store.db"
    store, reader = messed(path, clock, secure="OFF"), Store.open_file(path, clock, create=False)
    with reader.read():
        reader.settings.epoch()
        with store.write():
            store.database.run("DELETE FROM mess WHERE key % 3 = 0")
        assert scrub(path, never) is Scrubbed.HELD
        assert reader.database.value("SELECT count(*) FROM mess") == 750
    assert scrub(path, never)
    store.close()
    reader.close()


def test_locks_of_the_process_outlive_it(tmp_path, clock):
    """Opening and closing a database file in any other way drops all locks that the process has on it."""
    path = tmp_path / "store.db"
    store = messed(path, clock, secure="ON")
    with store.read():
        store.settings.epoch()
        database = Database(path)
        with database.raw_pages("SELECT 1") as raw:
            assert raw is not None
            assert raw.read(1, 1)[:15] == b"SQLite format 3"
        database.close()
        assert store.database.value("SELECT count(*) FROM mess") == 750
    with pytest.raises(apsw.Error), store.read():
        store.settings.epoch()
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(1)
        connection.execute("pragma journal_mode=DELETE").fetchall()  # needs the file for itself
    store.close()


def test_a_page_that_makes_no_sense_is_left_alone():
    page = bytearray(random.Random(1).randbytes(4096))
    for kind in range(256):
        page[0] = kind
        page[5:7] = b"\xff\xff"
        assert wiped_page(bytes(page), 2, 4096) is None
        page[3:5] = b"\xff\xff"
        assert list(spilt(bytes(page), 2, 4096)) == []
    assert wiped_page(bytes(4096), 2, 4096) is None
