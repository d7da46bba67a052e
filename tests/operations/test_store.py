"""What a check finds: nothing in a whole store, and each kind of damage under its own name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fedctl.errors import Corrupt
from fedctl.messages import memory as m
from fedctl.messages import tenant as t
from fedctl.messages.store import CheckAnswer, CheckStore
from fedctl.model.episode import EpisodeFilter
from fedctl.operations import index
from fedctl.operations.store import YOUNG_MS
from fedctl.store.ledger import Entry, Ledger, episode_digest, tenant_digest


@pytest.fixture
def whole(bench):
    """Two tenants, embedded, indexed, with a tombstone and one episode that waits for its vector."""
    for tenant in ("default", "other"):
        bench.keep("alpha", "beta", "gamma", "delta", tenant=tenant)
        bench.hits("alpha", tenant=tenant)
        bench.call(m.DeleteEpisodes(ids=["delta"]), tenant=tenant)
        index.compact(bench.context, bench.key(tenant), rewrite=True)
        bench.keep("late", tenant=tenant)
    return bench


def found(bench, *, full: bool = False) -> list[tuple[str, str]]:
    answer = bench.call(CheckStore(full=full))
    assert all(one.message and one.fix for one in answer.findings)
    return sorted((one.check, one.severity) for one in answer.findings)


def sql(bench, statement: str) -> None:
    with bench.store.write():
        bench.store.database.run(statement)


def index_files(bench) -> list[Path]:
    return sorted((bench.home / "index" / "1").iterdir())


@pytest.mark.parametrize("full", [False, True])
def test_a_whole_store_is_clean_and_stays_as_it_is(whole, full: bool):
    before = whole.store.changes.last_seq(), [path.read_bytes() for path in index_files(whole)]
    answer: CheckAnswer = whole.call(CheckStore(full=full))
    assert answer.findings == []
    assert answer.episodes == 8
    always = [
        "schema", "change log", "words", "metadata", "vectors", "usage", "erasures", "index files", "files",
        "permissions",
    ]  # fmt: skip
    assert (answer.read_only, answer.disk_free_bytes > 0) == (False, True)
    assert answer.checks == (["database"] if full else []) + always
    assert (whole.store.changes.last_seq(), [path.read_bytes() for path in index_files(whole)]) == before


@pytest.mark.parametrize("full", [False, True])
def test_an_empty_store_is_clean(bench, full: bool):
    assert found(bench, full=full) == []


DAMAGE: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "a change is missing": ("DELETE FROM changes WHERE seq = 2", [("change log", "data"), ("change log", "data")]),
    "an episode was never logged": ("UPDATE changes SET subject = 'x' WHERE seq = 1", [("change log", "data")]),
    "a migration ran otherwise": ("UPDATE migrations SET sha256 = 'x' WHERE number = 1", [("schema", "data")]),
    "words are missing": ("DELETE FROM words_1 WHERE rowid = 1", [("words", "derived")]),
    "words of what is not there": ("INSERT INTO words_1 (rowid, task) VALUES (999, 'x')", [("words", "derived")]),
    "a vector is missing": ("DELETE FROM embeddings WHERE seq = 1", [("vectors", "derived")]),
    "words of another episode": ("UPDATE words_1_docsize SET id = 999 WHERE id = 1", [("words", "derived")]),
    "metadata of what is not there": (
        "INSERT INTO episode_metadata (tenant_key, path, value, seq) VALUES (1, 'a', 1, 999)",
        [("metadata", "derived")],
    ),
    "an id is buried alive": (
        "INSERT INTO tombstones (tenant_key, id, seq, at_ms) VALUES (1, 'alpha', 1, 1)",
        [("change log", "data")],
    ),
    "usage is not what is there": ("UPDATE tenant_usage SET bytes = 1 WHERE tenant_key = 1", [("usage", "derived")]),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON episodes BEGIN DELETE FROM episodes; END", [("schema", "data")]),
    "a table of somebody else's": ("CREATE TABLE t (x)", [("schema", "data")]),
    "an index is missing": ("DROP INDEX episodes_by_time", [("schema", "data")]),
    "an erasure did not end": (
        "INSERT INTO erasures (tenant_key, begun_at_ms) VALUES (1, 1)",
        [("erasures", "derived")],
    ),
    "an erasure is not in the ledger": (
        "INSERT INTO erased_episodes (digest, erased_at_ms) VALUES (x'00', 1)",
        [("erasures", "derived")],
    ),
    "nothing waits that should": ("DELETE FROM embedding_queue WHERE tenant_key = 1", [("vectors", "derived")]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_has_its_name(whole, damage: str):
    statement, expected = DAMAGE[damage]
    sql(whole, statement)
    assert found(whole) == found(whole, full=True) == expected


def missing(bench) -> None:
    index_files(bench)[0].unlink()


def flipped(bench) -> None:
    content = bytearray(index_files(bench)[0].read_bytes())
    content[3] ^= 1
    index_files(bench)[0].write_bytes(content)


def a_folder(bench) -> None:
    path = index_files(bench)[0]
    path.unlink()
    path.mkdir(mode=0o700)


@pytest.mark.parametrize("damage", [missing, flipped, a_folder])
def test_a_damaged_index_file_is_found_and_mended_by_a_reindex(whole, damage: Callable[..., None]):
    damage(whole)
    assert found(whole) == [("index files", "derived")]
    reindex(whole)
    assert found(whole, full=True) == []


def reindex(bench) -> None:
    bench.call(m.Reindex(begin=True))
    while bench.call(m.Reindex()).remaining:
        pass


def test_bytes_that_changed_behind_an_unchanged_stamp_are_found_by_the_full_check(whole):
    path = index_files(whole)[0]
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(whole) == []
    assert found(whole, full=True) == [("index files", "derived")]


@pytest.fixture
def graphed(whole, monkeypatch: pytest.MonkeyPatch):
    """The same with a graph of each tenant."""
    for name in ("GRAPH_ROWS", "GRAPH_BEHIND_ROWS"):
        monkeypatch.setattr(index, name, 1)
    assert index.build_graphs(whole.context) == 2
    return whole


def test_a_graph_is_looked_for_by_each_check_and_read_by_the_full_one(graphed):
    assert found(graphed) == found(graphed, full=True) == []
    (path,) = (graphed.home / "index" / "1").glob("*.hnsw")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert found(graphed) == []
    assert found(graphed, full=True) == [("index files", "derived")]
    path.unlink()
    assert found(graphed) == found(graphed, full=True) == [("index files", "derived")]
    assert index.build_graphs(graphed.context) == 1
    assert found(graphed, full=True) == []


@pytest.mark.parametrize("full", [False, True])
def test_a_hub_finds_what_a_command_finds_and_keeps_its_own_connection(whole, full: bool):
    whole.context = whole.context._replace(hub=object())
    assert found(whole, full=full) == []
    missing(whole)
    assert found(whole, full=full) == [("index files", "derived")]
    assert whole.ids() == ["alpha", "beta", "gamma", "late"]
    assert whole.context.hub is not None


def test_words_that_others_have_merged_since_are_no_damage_to_a_hub(bench):
    """To SQLite they are: on a connection that remembers the table of words as it was."""
    bench.keep("alpha", "beta")
    bench.context = bench.context._replace(hub=object())
    other = bench.another()
    for round_ in range(3):
        assert ("words", "derived") not in found(bench, full=True)
        bench.hits("beta", mode="keyword")
        for number in range(40):
            other.keep(f"gamma{round_} delta{number}")
        with other.store.write():
            other.store.episodes.merge_words(other.key())


@pytest.mark.parametrize(
    "damage", ["words are missing", "words of what is not there", "a vector is missing", "nothing waits that should"]
)
def test_what_is_derived_is_mended_by_a_reindex(whole, damage: str):
    sql(whole, DAMAGE[damage][0])
    reindex(whole)
    assert found(whole, full=True) == []
    for tenant in ("default", "other"):
        assert set(whole.hits("alpha", tenant=tenant)) == {"alpha", "beta", "gamma", "late"}
        assert whole.hits("beta", tenant=tenant, mode="keyword") == ["beta"]


def test_words_whose_insides_are_damaged_are_found_by_the_full_check_as_derived(whole):
    sql(whole, "UPDATE words_1_data SET block = zeroblob(10) WHERE id > 10")
    assert set(found(whole, full=True)) == {("words", "derived")}
    reindex(whole)
    assert found(whole, full=True) == []


def test_a_row_that_refers_to_nothing_is_damage_of_the_data(whole):
    database = whole.store.database
    database.rows("pragma foreign_keys=OFF")
    sql(whole, "INSERT INTO tombstones (tenant_key, id, seq, at_ms) VALUES (77, 'x', 1, 1)")
    database.rows("pragma foreign_keys=ON")
    assert found(whole) == []
    assert found(whole, full=True) == [("database", "data")]


def test_a_database_whose_pages_are_damaged_is_corrupt(whole):
    whole.store.checkpoint(truncate=True)
    (page,) = whole.store.database.row("SELECT rootpage FROM sqlite_schema WHERE name = 'tombstones'")
    whole.close()
    with (whole.home / "store.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with pytest.raises(Corrupt):
        assert ("database", "data") in found(whole.another(), full=True)
        raise Corrupt("found")


def test_metadata_that_cannot_be_found_are_found_by_the_full_check_and_mended(bench, draft):
    bench.keep(draft("e1", metadata={"run": 7}), draft("e2", metadata={"run": 8}))
    bench.hits("task")
    sql(bench, "DELETE FROM episode_metadata WHERE seq = 1")
    assert found(bench) == []
    assert found(bench, full=True) == [("metadata", "derived")]
    reindex(bench)
    assert found(bench, full=True) == []
    wanted = m.ListEpisodes(filter=EpisodeFilter(where=[("run", "=", 7)]))
    assert [one.id for one in bench.call(wanted).episodes] == ["e1"]


@pytest.mark.parametrize("vector", ["zeroblob(48)", "CAST(x'007e' || substr(vector, 3) AS BLOB)", "substr(vector, 3)"])
def test_a_vector_that_is_none_is_found_by_the_full_check_and_made_anew(whole, vector: str):
    sql(whole, f"UPDATE embeddings SET vector = {vector} WHERE seq = 2 AND tenant_key = 1")
    assert found(whole) == []
    assert found(whole, full=True) == [("vectors", "derived")]
    reindex(whole)
    assert found(whole, full=True) == []
    assert whole.hits("beta", mode="semantic")[0] == "beta"


def test_what_was_erased_and_is_there_is_damage_of_the_data(whole):
    now_ms = whole.clock.now_ms()
    entries = [Entry("tenant", tenant_digest("other"), now_ms), Entry("episode", episode_digest("default", "beta"), 1)]
    Ledger(whole.home / "erasures").add(entries)
    # The database does not know of it, and a restore would do it.
    assert sorted(found(whole)) == [("erasures", "data"), ("erasures", "derived")]
    with whole.store.write():
        whole.store.erasures.note(entries)
    assert found(whole) == [("erasures", "data")]
    assert found(whole, full=True) == [("erasures", "data")] * 2


def test_the_words_of_a_tenant_that_is_half_erased_are_no_damage_and_those_of_others_are(whole):
    class Hasty:  # on whose clock the time for it is over when it has begun
        def __getattr__(self, name: str):
            if name == "monotonic_s":
                whole.clock.advance(1)
            return getattr(whole.clock, name)

    step = whole.another(clock=Hasty())
    assert not step.call(t.EraseTenant(name="other", budget_ms=1)).erasure.complete
    step.close()
    # What an erasure that was killed has come to: some blocks of its words are gone, and the rest is not.
    sql(whole, "DELETE FROM words_2_data WHERE id > 10")
    assert any("words_2" in line for line in whole.store.integrity())
    assert found(whole, full=True) == [("erasures", "derived")]
    sql(whole, "DELETE FROM words_1_data WHERE id > 10")
    assert ("words", "derived") in found(whole, full=True)


def test_what_a_process_left_behind_that_died_is_found_once_it_is_old(whole):
    left = [whole.home / "store.db.new", whole.home / "index" / "1" / "x.tmp", whole.home / "store.db.exchange"]
    (whole.home / "store.db.exchange").mkdir(mode=0o700)
    for path in left[:2]:
        path.touch(mode=0o600)

    def aged(by_ms: int) -> list[tuple[str, str]]:
        for path in left:
            os.utime(path, ns=(0, (whole.clock.now_ms() - by_ms) * 1_000_000))
        return found(whole)

    assert aged(YOUNG_MS - 1000) == []
    assert aged(YOUNG_MS + 1000) == [("files", "derived")] * 3


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "index", "index/1", "keys"])
def test_a_file_that_others_may_open_is_found(whole, name: str):
    (whole.home / "keys").mkdir(mode=0o700, exist_ok=True)
    path = whole.home / name
    before = path.stat().st_mode
    path.chmod(before | 0o040)
    assert found(whole) == [("permissions", "derived")]
    path.chmod(before)
    (whole.home / "notes.txt").write_text("the owner's own")
    assert found(whole) == []
