"""Wiping what SQLite has left behind: all of that, and nothing else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import apsw
import pytest

from fedctl.store.database import Database
from fedctl.store.scrub import scrub, wiped_page
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
        assert not scrub(path, never)
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
    assert wiped_page(bytes(4096), 2, 4096) is None
