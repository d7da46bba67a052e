"""`fedctl store`: vacuum, migrate, and questions in SQL that can only read."""

from __future__ import annotations

import stat

import pytest

from fedctl.clock import Clock
from fedctl.operations import upkeep
from fedctl.store.store import Store


@pytest.fixture
def kept(fedctl):
    fedctl.store("first \x1b[31m", "--reward", "1")
    fedctl.store("second", "--tenant", "acme")
    return fedctl


def ask(kept, text: str, *flags: str):
    return kept("store", "sql", text, *flags)


# -- questions -----------------------------------------------------------------------------------------------------


def test_a_question_is_answered_in_every_form_with_the_names_of_its_columns(kept):
    text = "SELECT seq, task, reward FROM episodes ORDER BY seq"
    assert ask(kept, text).out == "seq\ttask\treward\n1\tfirst \\x1b[31m\t1.0\n2\tsecond\t\n"
    assert ask(kept, text, "--json").json[1] == {"seq": 2, "task": "second", "reward": None}
    assert [line["seq"] for line in ask(kept, text, "--jsonl").lines] == [1, 2]
    assert ask(kept, text, "--ids").out == "1\n2\n"
    shown = kept("store", "sql", text, terminal=True)
    assert "\x1b[31m" not in shown.out
    assert "SEQ" in shown.out


def test_bytes_come_as_sql_writes_them_and_columns_of_one_name_are_told_apart(kept):
    found = ask(kept, "SELECT x'00ff' AS a, 1 AS a, 1.5 AS b", "--json").json
    assert found == [{"a": "x'00ff'", "a_2": 1, "b": 1.5}]


def test_an_answer_without_rows_has_its_columns(kept):
    assert ask(kept, "SELECT seq, id FROM episodes WHERE 0; -- nobody").out == "seq\tid\n"
    assert ask(kept, "SELECT 1 WHERE 0", "--json").json == []


def test_a_list_that_is_cut_says_so(kept):
    cut = ask(kept, "SELECT seq FROM episodes", "--limit", "1", "--json")
    assert (len(cut.json), cut.err) == (1, "note: 1 shown, and there are more\n")
    assert ask(kept, "SELECT seq FROM episodes", "--limit", "2", "--json").err == ""


def test_a_question_can_come_from_stdin(kept):
    assert kept("store", "sql", "-", "--json", stdin=b"SELECT 1 AS one\n").json == [{"one": 1}]


WRITES = [
    "DELETE FROM episodes", "INSERT INTO settings (name, value) VALUES ('a', 'b')", "CREATE TABLE t (x)",
    "CREATE TEMP TABLE t (x)", "DROP TABLE episodes", "ATTACH 'other.db' AS other", "DETACH main", "VACUUM",
    "VACUUM INTO 'copy.db'", "REINDEX", "ANALYZE", "BEGIN", "BEGIN IMMEDIATE", "COMMIT", "SAVEPOINT a",
    "PRAGMA journal_mode = DELETE", "PRAGMA user_version = 9", "PRAGMA query_only = 0", "PRAGMA writable_schema = 1",
    "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_autocheckpoint = 1", "PRAGMA optimize", "PRAGMA incremental_vacuum",
    "SELECT load_extension('x')", "INSERT INTO words_1 (words_1) VALUES ('optimize')", "SELECT 1; DELETE FROM episodes",
    "WITH gone AS (SELECT 1) DELETE FROM episodes", "EXPLAIN DELETE FROM episodes; DELETE FROM episodes",
]  # fmt: skip


@pytest.mark.parametrize("text", WRITES)
def test_what_would_change_anything_is_refused(kept, text: str, monkeypatch):
    monkeypatch.chdir(kept.home)  # where a file of a relative name would come to lie
    before = contents(kept.home)
    refused = ask(kept, text, "--json")
    assert (refused.code, refused.out, refused.error["code"]) == (2, "", "usage")
    assert contents(kept.home) == before


def contents(home) -> dict[str, bytes]:
    """Return every file but the shared memory, which readers write their marks into."""
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file() and path.suffix != ".db-shm"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        (" ; ", "no statement"),
        ("/* nothing */", "no statement"),
        ("SELECT CAST(x'ff' AS TEXT)", "no UTF-8"),
        ("SELECT :name", "bindings"),
    ],
)
def test_what_is_wrong_with_a_question_is_said(kept, text: str, says: str):
    refused = ask(kept, text, "--jsonl")
    assert (refused.code, refused.error["code"]) == (2, "usage")
    assert says in refused.error["message"]


def test_a_question_that_takes_too_long_is_ended(kept):
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    assert ask(kept, endless, "--timeout", "50ms").code == 8


def test_what_may_be_asked_of_the_database_itself_is_answered(kept):
    assert ask(kept, "PRAGMA journal_mode", "--json").json == [{"journal_mode": "wal"}]
    assert ask(kept, "SELECT count(*) AS n FROM pragma_table_info('episodes')", "--json").json[0]["n"] > 10
    assert ask(kept, "SELECT rowid FROM words_1 WHERE words_1 MATCH 'first'", "--json").json == [{"rowid": 1}]
    assert ask(kept, "PRAGMA integrity_check", "--ids").out == "ok\n"


def test_a_question_needs_a_store_and_the_machine_it_is_on(fedctl):
    assert ask(fedctl, "SELECT 1").code == 10
    assert not fedctl.home.exists()
    assert ask(fedctl, "SELECT 1", "--hub", "ws://127.0.0.1:1").code == 2


# -- vacuum and migrate --------------------------------------------------------------------------------------------


def test_vacuum_gives_back_what_deleted_rows_took_and_nothing_else(kept):
    for number in range(20):
        kept.store(f"large {number}", "--input", "x" * 20_000)
    kept("memory", "delete", "--task", "second", "--yes")
    for number in range(20):
        kept("memory", "delete", "--task", f"large {number}", "--yes")
    before = kept("store", "sql", "SELECT * FROM episodes", "--json").out
    epoch = kept("store", "sql", "SELECT * FROM settings", "--json").out
    done = kept("store", "vacuum", "--json").json
    assert done["after_bytes"] == (kept.home / "store.db").stat().st_size < done["before_bytes"]
    assert done["freed_bytes"] == done["before_bytes"] - done["after_bytes"] > 300_000
    assert kept("store", "sql", "SELECT * FROM episodes", "--json").out == before
    assert kept("store", "sql", "SELECT * FROM settings", "--json").out == epoch
    assert kept("store", "sql", "PRAGMA journal_mode", "--ids").out == "wal\n"
    assert stat.S_IMODE((kept.home / "store.db").stat().st_mode) == 0o600
    assert kept("store", "check", "--full", "--json").json["findings"] == []
    assert not (kept.home / "store.db.exchange").exists()
    kept.store("and on it goes")


def test_vacuum_is_alone_or_not_at_all(kept):
    other = Store.open(kept.home, Clock(), create=False)
    try:
        refused = kept("store", "vacuum", "--json")
        assert (refused.code, refused.error["code"]) == (11, "locked")
    finally:
        other.close()
    assert kept("store", "vacuum", "--lock-wait", "5s").code == 0


def test_vacuum_says_how_much_room_it_needs(make_disk, fedctl):
    disk = make_disk("8m")
    fedctl.environ["FEDCTL_HOME"] = str(disk.folder / "home")
    for number in range(8):
        assert fedctl("memory", "store", "--task", str(number), "--input", "x" * 480_000).code == 0
    refused = fedctl("store", "vacuum", "--json")
    assert (refused.code, refused.error["code"]) == (15, "disk_full")
    assert "this needs up to" in refused.error["message"]
    assert fedctl("store", "check", "--json").json["findings"] == []
    fedctl("memory", "delete", "--since", "1d", "--yes")
    assert fedctl("store", "vacuum", "--json").json["after_bytes"] < 1 << 20


def test_migrate_says_which_schema_there_was_and_needs_to_be_alone_only_to_change_it(kept):
    other = Store.open(kept.home, Clock(), create=False)
    try:
        done = kept("store", "migrate", "--json").json
    finally:
        other.close()
    assert (done["schema_from"], done["schema_to"], done["migrated"]) == (7, 7, False)


def test_migrate_brings_an_older_store_up(tmp_path, make_clock):
    from fedctl.errors import Locked
    from fedctl.store import migrate
    from fedctl.store.database import Database
    from fedctl.store.lock import use

    path = tmp_path / "store.db"
    path.touch(mode=0o600)
    database = Database(path)
    with database.write():
        migrate.migrate(database, 0, through=4)
    database.use_wal()
    database.close()
    used = use(path, 0, exclusive=False)
    with pytest.raises(Locked):
        upkeep.migrate(tmp_path, make_clock())
    used.close()
    done = upkeep.migrate(tmp_path, make_clock())
    assert (done.schema_from, done.schema_to, done.migrated) == (4, migrate.SCHEMA_VERSION, True)
    assert not upkeep.migrate(tmp_path, make_clock()).migrated


def test_a_newer_schema_is_left_alone(kept):
    store = Store.open(kept.home, Clock(), create=False)
    store.database.rows("pragma user_version = 99")
    store.close()
    for verb in (["migrate"], ["vacuum"]):
        assert kept("store", *verb, "--json").code == 13
    assert ask(kept, "PRAGMA user_version", "--ids").out == "99\n"
