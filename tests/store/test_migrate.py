from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import fedctl.store.migrate as module
from fedctl.errors import Corrupt
from fedctl.store.database import APPLICATION_ID, Database
from fedctl.store.migrate import SCHEMA_VERSION, altered, check, migrate

FILES = sorted((Path(module.__file__).parent / "migrations").glob("*.sql"))


@pytest.fixture
def database():
    database = Database(None)
    yield database
    database.close()


def test_the_schema_is_the_newest_migration_s_and_none_is_missing():
    assert [int(file.name[:4]) for file in FILES] == list(range(1, SCHEMA_VERSION + 1))


def test_each_migration_is_recorded_once_with_its_digest_and_time(database: Database):
    for _ in range(2):
        with database.write():
            migrate(database, 77)
    rows = database.rows("SELECT number, name, sha256, applied_at_ms FROM migrations ORDER BY number")
    assert rows == [
        (int(file.name[:4]), file.stem, hashlib.sha256(file.read_bytes()).hexdigest(), 77) for file in FILES
    ]
    assert check(database)
    assert altered(database) == []
    assert database.pragma("application_id") == APPLICATION_ID


def test_a_migration_that_ran_with_another_text_is_named(database: Database):
    with database.write():
        migrate(database, 0)
        database.run("UPDATE migrations SET sha256 = 'another' WHERE number = 1")
        database.run("INSERT INTO migrations VALUES (999, '0999_of_nobody', 'x', 0)")
    assert altered(database) == [FILES[0].stem, "0999_of_nobody"]


def test_a_database_without_our_mark_is_none_of_ours(database: Database):
    with pytest.raises(Corrupt, match="not a store"):
        check(database)


def test_an_older_schema_is_to_be_migrated_and_a_newer_one_is_not_ours_to_touch(database: Database):
    with database.write():
        migrate(database, 0)
        database.run_script("pragma user_version = 0")
    assert not check(database)
    with database.write():
        database.run_script(f"pragma user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(Corrupt, match="schema"):
        check(database)


def test_a_migration_that_fails_leaves_nothing_of_itself(database: Database):
    with database.write():
        database.run_script("CREATE TABLE tokens (in_the_way TEXT)")
    with pytest.raises(Exception, match="already exists"), database.write():
        migrate(database, 0)
    assert database.rows("SELECT name FROM sqlite_schema") == [("tokens",)]
    assert database.pragma("user_version") == 0


def test_every_table_is_strict_and_every_constraint_has_a_name(database: Database):
    with database.write():
        migrate(database, 0)
    tables = dict(database.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"))
    assert len(tables) > 8
    strict = {row[0] for row in database.rows("SELECT name FROM pragma_table_list WHERE strict")}
    assert strict == set(tables)
    for name, sql in tables.items():
        for word in ("CHECK", "UNIQUE", "REFERENCES"):
            for line in sql.splitlines():
                assert (
                    word not in line or "CONSTRAINT" in line or "CONSTRAINT" in sql.split(line)[0].splitlines()[-1]
                ), (name, line)
