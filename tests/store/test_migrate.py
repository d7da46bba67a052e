from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fedctl.store.migrate as module
from fedctl.clock import Clock
from fedctl.errors import Corrupt
from fedctl.messages import memory as m
from fedctl.messages.store import CheckStore
from fedctl.model.episode import EpisodeFilter
from fedctl.operations import index
from fedctl.store.database import APPLICATION_ID, Database
from fedctl.store.migrate import SCHEMA_VERSION, altered, check, migrate
from fedctl.store.store import Store

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


def schema(database: Database) -> dict[str, tuple[str, str]]:
    """Return name -> type and statement of everything but the tenants' own tables of words."""
    rows = database.rows("SELECT name, type, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'words%'")
    return {name: (type_, sql) for name, type_, sql in rows}


def make_first(database: Database) -> None:
    """Make what a fedctl made whose newest schema was the first: newer tables and indexes go."""
    first = Database(None)
    with first.write():
        first.run_script(FILES[0].read_text("utf-8"))
    wanted = schema(first)
    first.close()
    with database.write():
        for name, (type_, _) in schema(database).items():
            if name not in wanted and name != "migrations":
                database.run_script(f"DROP {type_} IF EXISTS {name}")
        database.run("DELETE FROM migrations WHERE number > 1")
        database.run_script(
            "ALTER TABLE changes RENAME TO newer; "
            f"{wanted['changes'][1]}; INSERT INTO changes SELECT * FROM newer; DROP TABLE newer"
        )
        database.run_script("pragma user_version = 1")
    assert {name: one for name, one in schema(database).items() if name != "migrations"} == wanted


def test_a_store_of_the_first_schema_is_taken_along_with_all_that_is_in_it(bench):
    bench.keep("alpha beta", "beta gamma", agent_id="a1", session_id="s1", reward=0.5)
    bench.keep("gamma", tenant="other")
    bench.call(m.DeleteEpisodes(ids=["gamma"]), tenant="other")
    asked = [
        m.QueryEpisodes(text="beta", k=5), m.QueryEpisodes(text="beta", filter=EpisodeFilter(agent_id="a1")),
        m.ListEpisodes(with_vectors=True), m.ListEpisodes(filter=EpisodeFilter(session_id="s1", since="2025-01-01")),
    ]  # fmt: skip
    for tenant in ("default", "other"):
        bench.hits("beta", tenant=tenant)
        index.compact(bench.context, bench.key(tenant), rewrite=True)
    newest = schema(bench.store.database)
    before = [bench.call(one) for one in asked], {name: content(bench.store.database, name) for name in tables(newest)}
    make_first(bench.store.database)
    later = bench.another()
    assert schema(later.store.database) == newest
    assert altered(later.store.database) == []
    assert [bench.call(one) for one in asked] == [later.call(one) for one in asked] == before[0]
    kept = set(before[1]) - {"migrations"}
    assert {name: content(later.store.database, name) for name in kept} == {name: before[1][name] for name in kept}
    assert later.call(CheckStore(full=True)).findings == []


def test_metadata_from_before_there_was_an_index_of_it_is_filtered_all_the_same(bench):
    bench.keep("old", metadata={"k": 1, "who": {"name": "ann"}})
    bench.keep("old too", metadata={"k": 2})
    bench.keep("without")
    bench.keep("theirs", metadata={"k": 1}, tenant="other")
    make_first(bench.store.database)
    later = bench.another()
    later.keep("new", metadata={"k": 1})

    def found(*where: tuple[str, str, object], tenant: str = "default") -> set[str]:
        filter_ = EpisodeFilter(where=list(where))
        hits = later.hits("old new without theirs", mode="keyword", filter=filter_, tenant=tenant)
        listed = later.call(m.ListEpisodes(filter=filter_, count=True), tenant=tenant)
        assert {one.id for one in listed.episodes} == set(hits)
        assert listed.total == len(hits)
        return set(hits)

    assert found(("k", "=", 1)) == {"old", "new"}
    assert found(("k", ">", 1)) == {"old too"}
    assert found(("who.name", "=", "ann"), ("k", "<", 9)) == {"old"}
    assert found(("k", "!=", 1)) == {"old too", "without"}
    assert found(("k", "=", 1), tenant="other") == {"theirs"}
    rows = "SELECT path FROM episode_metadata ORDER BY path"
    assert later.store.database.rows(rows) == [("",), ("",), ("",), ("k",)]
    assert later.call(m.DeleteEpisodes(filter=EpisodeFilter(where=[("k", "=", 1)]))).deleted == ["old", "new"]
    assert later.store.database.rows(rows) == [("",), ("",)]


def tables(found: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (type_, _) in found.items() if type_ == "table" and not name.startswith("sqlite")]


def content(database: Database, table: str) -> list[str]:
    return sorted(map(repr, database.rows(f"SELECT * FROM {table}")))


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


# -- what an older fedctl left -------------------------------------------------------------------------------------


def schema_of(database: Database) -> list[tuple[str, str]]:
    rows = database.rows("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
    return [(name, " ".join(sql.split())) for name, sql in rows]


def bring_to(database: Database, version: int) -> None:
    """Make a database as the fedctl of that schema made it."""
    with database.write():
        database.run_script(module._RECORD)
        for number, file in enumerate(FILES[:version], start=1):
            text = file.read_bytes()
            database.run_script(text.decode())
            database.run(
                f"INSERT INTO migrations VALUES ({number}, '{file.stem}', '{hashlib.sha256(text).hexdigest()}', 1)"
            )
        database.run_script(f"pragma application_id = {APPLICATION_ID}; pragma user_version = {version}")


def fill(database: Database) -> list[tuple[object, ...]]:
    with database.write():
        database.run("INSERT INTO tenants (key, name, created_at_ms) VALUES (1, 'a', 0), (2, 'b', 0)")
        for seq, tenant, kind in ((3, 1, "episode_stored"), (4, 2, "agent_status"), (9, 1, "episode_deleted")):
            database.run(
                "INSERT INTO changes (seq, tenant_key, kind, subject, detail, at_ms)"
                " VALUES (:seq, :tenant, :kind, 's', '{}', 5)",
                {"seq": seq, "tenant": tenant, "kind": kind},
            )
    return database.rows("SELECT * FROM changes ORDER BY seq")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_older_store_keeps_its_changes_and_takes_new_kinds_of_them(tmp_path: Path, version: int):
    path = tmp_path / "store.db"
    path.touch()
    old = Database(path)
    bring_to(old, version)
    changes = fill(old)
    old.close()
    store = Store.open(tmp_path, Clock(), create=False)
    assert store.database.rows("SELECT * FROM changes ORDER BY seq") == changes
    assert check(store.database)
    assert altered(store.database) == []
    assert store.integrity() == []
    with store.write():
        store.changes.add(1, "items_pushed", "p", now_ms=7, detail={"ids": ["i"]})
    assert store.changes.last_seq() == 10, "it goes on where it was"
    fresh = Store.in_memory(Clock())
    assert schema_of(store.database) == schema_of(fresh.database)
    store.close()
    fresh.close()


def test_many_processes_may_meet_an_older_store_at_once(tmp_path: Path):
    path = tmp_path / "store.db"
    path.touch()
    old = Database(path)
    bring_to(old, 1)
    fill(old)
    old.close()
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda _: Store.open(tmp_path, Clock(), create=False), range(8)))
    for store in stores:
        assert check(store.database)
        assert len(store.database.rows("SELECT number FROM migrations")) == SCHEMA_VERSION
        store.close()
