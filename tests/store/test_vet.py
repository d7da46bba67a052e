"""A database from elsewhere: only a whole store of ours, and nothing that somebody added to one, is let in."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fedctl.errors import Corrupt
from fedctl.operations.upkeep import vacuum
from fedctl.store import migrate
from fedctl.store.database import Database
from fedctl.store.store import FILE_NAME, Store
from fedctl.store.vet import vet


@pytest.fixture
def database(make_bench, tmp_path: Path) -> Path:
    bench = make_bench(tmp_path / "home")
    bench.keep("one", "two")
    bench.keep("three", tenant="another")
    bench.store.checkpoint(truncate=True)
    bench.close()
    return tmp_path / "home" / FILE_NAME


def alter(path: Path, *statements: str) -> None:
    """Change a database as anybody may who has the file and some SQLite, which is not the one of the process."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()


def test_a_store_with_the_words_of_its_tenants_is_let_in(database: Path):
    assert vet(database) == []


def test_words_that_do_not_hang_together_are_told_and_let_in_for_they_are_derived(database: Path):
    alter(database, "DELETE FROM words_2_docsize", "DELETE FROM words_2_data WHERE id > 10")
    (line,) = vet(database)
    assert "words_2" in line


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON episodes BEGIN DELETE FROM tokens; END", "trigger that no store has: 't'"),
        ("CREATE VIEW v AS SELECT 1", "view that no store has: 'v'"),
        ("CREATE TABLE words_1_more (a)", "table that no store has: 'words_1_more'"),
        ("CREATE INDEX i ON tenants (upper(name))", "index that no store has: 'i'"),
        ("DROP INDEX episodes_by_time", "lacks 'episodes_by_time'"),
        ("ALTER TABLE tokens ADD COLUMN x TEXT DEFAULT 'y'", "table 'tokens' is not as this fedctl makes it"),
        ("ALTER TABLE words_2_config ADD COLUMN x", "table 'words_2_config' is not as this fedctl makes it"),
        ("PRAGMA application_id = 7", "not a store of fedctl"),
        (f"PRAGMA user_version = {migrate.SCHEMA_VERSION + 1}", f"its schema is {migrate.SCHEMA_VERSION + 1}"),
        ("PRAGMA user_version = 0", "its schema is 0"),
        ("PRAGMA user_version = 3", "no store has"),
        ("UPDATE episodes SET tenant_key = 99 WHERE seq = 1", "refers to one that is not there"),
    ],
)
def test_what_no_store_holds_is_refused_by_name(database: Path, planted: str, said: str):
    alter(database, planted)
    with pytest.raises(Corrupt) as caught:
        vet(database)
    assert said in caught.value.message


def test_a_store_with_auto_vacuum_is_refused_until_it_is_vacuumed(database: Path, clock):
    alter(database, "pragma auto_vacuum=INCREMENTAL", "vacuum")
    with pytest.raises(Corrupt, match="auto_vacuum"):
        vet(database)
    vacuum(database.parent, clock)
    assert vet(database) == []


def test_an_index_that_has_lost_a_row_is_refused(database: Path):
    alter(
        database,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'items_done') "
        "WHERE name = 'episodes_by_time'",
    )
    with pytest.raises(Corrupt, match=r"it is damaged|malformed"):
        vet(database)


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be looked at" * 100])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "any.db").write_bytes(content)
    with pytest.raises(Corrupt) as caught:
        vet(tmp_path / "any.db")
    assert caught.value.message.startswith("it is ")  # the name is one of the moment, which nobody knows


@pytest.mark.parametrize(
    ("find", "put"),
    [(b"SQLite format 3\x00", b"SQLite format 3\x01"), (b"critique ", b"\xffritique "), (b"\x04", b"\x09")],
)
def test_what_a_flipped_byte_makes_of_a_database_is_told_as_damage_and_nothing_else(
    database: Path, find: bytes, put: bytes
):
    whole = bytearray(database.read_bytes())
    at = 47 if len(find) == 1 else whole.index(find)  # 44..47: the form of the schema, of which SQLite knows four
    whole[at : at + len(find)] = put
    database.write_bytes(whole)
    with pytest.raises(Corrupt, match="it is damaged") as caught:
        vet(database)
    assert str(database) not in caught.value.message


@pytest.mark.parametrize("version", range(1, migrate.SCHEMA_VERSION))
def test_a_store_of_each_earlier_schema_is_let_in_and_can_be_migrated(tmp_path: Path, clock, version: int):
    path = tmp_path / "old.db"
    sqlite3.connect(path).execute("VACUUM").connection.close()
    database = Database(path)
    with database.write():
        migrate.migrate(database, 0, through=version)
    database.close()
    assert vet(path) == []
    store = Store.open_file(path, clock, create=False)
    assert store.integrity() == []
    store.close()
    assert vet(path) == []
