"""Episodes and their words, row by row: what operations do with them is tested one floor up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedctl.clock import Clock
from fedctl.model.episode import LEAVES_MAX, WHERE_OPERATORS, EpisodeFilter, holds, leaves
from fedctl.model.limits import PAGE_MAX_BYTES
from fedctl.model.time import from_rfc3339, to_rfc3339
from fedctl.store.memory import LEAF_MAX_CHARACTERS, NewEpisode, metadata_matches
from fedctl.store.store import Store
from fedctl.store.trouble import WordsDamagedError

NOTHING = EpisodeFilter()


def row(id_: str, **fields: Any) -> NewEpisode:
    plain: dict[str, Any] = {
        "id": id_, "agent_id": None, "session_id": None, "task": id_, "input": "null", "output": "null", "reward": None,
        "success": None, "critique": None, "tokens_used": None, "latency_ms": None, "metadata": "{}", "pinned": False,
        "created_at_ms": 0, "input_words": "", "output_words": "",
    }  # fmt: skip
    given = plain | fields
    return NewEpisode(**({"task_words": given["task"], "critique_words": given["critique"] or ""} | given))


class Shelf:
    """Two tenants' episodes in one store, put there by the gateway itself."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.write():
            self.a = (store.tenants.key_for_writing("a", 0), "a")
            self.b = (store.tenants.key_for_writing("b", 0), "b")

    def add(self, tenant: tuple[int, str], *rows: NewEpisode) -> list[int]:
        with self.store.write():
            seqs = [self.store.changes.add(tenant[0], "episode_stored", one.id, now_ms=0) for one in rows]
            self.store.episodes.add(tenant[0], zip(seqs, rows, strict=True))
        return seqs

    def remove(self, tenant: tuple[int, str], id_: str, seq: int) -> None:
        with self.store.write():
            self.store.episodes.remove(tenant[0], seq)
            grave = self.store.changes.add(tenant[0], "episode_deleted", id_, now_ms=0)
            self.store.episodes.bury(tenant[0], id_, grave, 0)


@pytest.fixture
def shelf(clock):
    store = Store.in_memory(clock)
    yield Shelf(store)
    store.close()


# -- rows --------------------------------------------------------------------------------------------------------


def test_known_ids_tells_episodes_from_tombstones_from_nothing_for_thousands_at_once(shelf: Shelf):
    seqs = shelf.add(shelf.a, *(row(f"e{n}") for n in range(1200)))
    shelf.remove(shelf.a, "e7", seqs[7])
    asked = [f"e{n}" for n in range(2400)]
    known = shelf.store.episodes.known_ids(shelf.a[0], asked)
    assert known == {f"e{n}": (None if n == 7 else seqs[n]) for n in range(1200)}
    assert shelf.store.episodes.known_ids(shelf.b[0], asked) == {}
    assert shelf.store.episodes.known_ids(shelf.a[0], []) == {}


def test_an_id_with_quotes_percent_signs_and_foreign_letters_is_found_exactly(shelf: Shelf):
    ids = ["it's", 'say "hi"', "100%", "a_b", "ÄÖ", "ä", "Ä", "\\", "[1]", '{"a": 1}', "名"]
    shelf.add(shelf.a, *map(row, ids))
    assert set(shelf.store.episodes.by_ids(shelf.a, [*ids, "A_B", "it''s"])) == set(ids)


def test_whatever_is_asked_for_by_number_or_name_stays_with_its_tenant(shelf: Shelf):
    (mine,) = shelf.add(shelf.a, row("same", task="mine", reward=0.5))
    (other,) = shelf.add(shelf.b, row("same", task="other", reward=0.9))
    episodes = shelf.store.episodes
    both = [mine, other]
    assert {seq: one.task for seq, one in episodes.by_seqs(shelf.a, both).items()} == {mine: "mine"}
    assert episodes.ids(shelf.a[0], both) == {mine: "same"}
    assert episodes.passing(shelf.a[0], both) == {mine: 0.5}
    assert episodes.by_ids(shelf.b, ["same"])["same"].task == "other"
    assert episodes.seqs(shelf.a[0], NOTHING) == [mine]
    assert episodes.heads(shelf.b[0], NOTHING, 10) == [(other, "same")]
    assert episodes.count(shelf.a[0]) == episodes.count(shelf.b[0]) == 1
    assert [one.task for one in episodes.page(shelf.b, NOTHING, cursor=None, limit=9, newest_first=True)] == ["other"]
    shelf.remove(shelf.a, "same", mine)
    assert episodes.count_tombstones(shelf.b[0]) == 0
    assert episodes.buried_after(shelf.b[0], 0, 10) == []
    assert episodes.known_ids(shelf.b[0], ["same"]) == {"same": other}


def test_a_page_of_large_episodes_is_read_no_further_than_it_can_be_answered(shelf: Shelf):
    text = msgspec.json.encode("x" * 600_000).decode()
    shelf.add(shelf.a, *(row(f"e{n}", input=text) for n in range(8)))
    found = shelf.store.episodes.page(shelf.a, NOTHING, cursor=None, limit=1000, newest_first=False)
    assert [one.id for one in found] == ["e0", "e1", "e2", "e3"]  # one more than fit
    assert sum(len(one.input) for one in found[:-1]) <= PAGE_MAX_BYTES


# -- filters -----------------------------------------------------------------------------------------------------

NAMES = ["x", "y", None]
INSTANTS = [0, 1000, 1500, 2000]
KEYS = ["k", "n.m", "z"]
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2, "", "a", "1", [1], {"m": 1}])
DOCUMENTS = st.dictionaries(st.sampled_from(["k", "n", "n.m"]), SCALARS, max_size=3)
ROWS = st.lists(
    st.fixed_dictionaries({
        "agent_id": st.sampled_from(NAMES), "session_id": st.sampled_from(NAMES), "task": st.sampled_from(["x", "y"]),
        "reward": st.sampled_from([None, 0.0, 0.5, 1.0]), "success": st.sampled_from([None, True, False]),
        "created_at_ms": st.sampled_from(INSTANTS), "metadata": DOCUMENTS, "pinned": st.booleans(),
    }),
    max_size=8,
)  # fmt: skip
FILTERS = st.builds(
    EpisodeFilter,
    agent_id=st.sampled_from(NAMES), session_id=st.sampled_from(NAMES), task=st.sampled_from([None, "x"]),
    min_reward=st.sampled_from([None, 0.0, 0.5, 1]), success=st.sampled_from([None, True, False]),
    since=st.sampled_from([None, *map(to_rfc3339, INSTANTS)]), until=st.sampled_from([None, *map(to_rfc3339,
    INSTANTS)]),
    where=st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), SCALARS),
    max_size=2),
    pinned=st.sampled_from([None, True, False]),
)  # fmt: skip


def lets_through(filter_: EpisodeFilter, one: dict[str, Any]) -> bool:
    """Say in plain Python what the SQL must say."""
    return (
        filter_.agent_id in (None, one["agent_id"])
        and filter_.session_id in (None, one["session_id"])
        and filter_.task in (None, one["task"])
        and (filter_.min_reward is None or (one["reward"] is not None and one["reward"] >= filter_.min_reward))
        and (filter_.success is None or one["success"] is filter_.success)
        and (filter_.since is None or one["created_at_ms"] >= from_rfc3339(filter_.since))
        and (filter_.until is None or one["created_at_ms"] < from_rfc3339(filter_.until))
        and filter_.pinned in (None, one["pinned"])
        and all(holds(one["metadata"], *condition) for condition in filter_.where)
    )


@settings(max_examples=80)
@given(rows=ROWS, filter_=FILTERS)
def test_sql_lets_through_what_plain_python_lets_through(rows: list[dict[str, Any]], filter_: EpisodeFilter):
    shelf = Shelf(Store.in_memory(Clock()))
    made = [row(f"e{n}", **(one | {"metadata": msgspec.json.encode(one["metadata"]).decode(), "input_words": "word"}))
            for n, one in enumerate(rows)]  # fmt: skip
    shelf.add(shelf.b, *made)
    seqs = shelf.add(shelf.a, *made)
    expected = [seq for seq, one in zip(seqs, rows, strict=True) if lets_through(filter_, one)]
    episodes, key = shelf.store.episodes, shelf.a[0]
    assert sorted(episodes.seqs(key, filter_)) == expected
    assert episodes.count(key, filter_) == len(expected)
    assert [seq for seq, _ in episodes.heads(key, filter_, 100)] == expected
    assert [one.seq for one in episodes.page(shelf.a, filter_, cursor=None, limit=99, newest_first=False)] == expected
    assert [one.seq for one in episodes.page(shelf.a, filter_, cursor=None, limit=99, newest_first=True)] == expected[
        ::-1
    ]
    rewards = {seq: one["reward"] for seq, one in zip(seqs, rows, strict=True) if seq in expected}
    assert episodes.passing(key, [*seqs, *range(99)], filter_) == rewards
    assert sorted(seq for seq, _ in episodes.search_words(key, '"word"', 100, expected)) == expected
    shelf.store.close()


def test_a_condition_on_metadata_is_a_function_of_json_alone():
    assert metadata_matches('{"a": 9007199254740993}', '[["a", "=", 9007199254740993]]') == 1
    assert metadata_matches('{"a": 9007199254740993}', '[["a", "=", 9007199254740992]]') == 0
    assert metadata_matches("{}", "[]") == 1
    assert metadata_matches('{"a": 1}', '[["a", ">", 0], ["a", "<", 1]]') == 0


# -- the index of metadata ---------------------------------------------------------------------------------------

LONG = "x" * LEAF_MAX_CHARACTERS
NUMBERS = st.sampled_from([
    -1, 0, 1, 1.0, -0.0, 0.5, 2**53 - 1, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1, 2**63, 2**63 + 1, 2.0**63, -(2**63),
    -(2**63) - 1, -(2.0**63), 2**64, 10**400, 10**400 + 1, -(10**400), 1.7e308, -1.7e308, 5e-324,
])  # fmt: skip
TEXTS = st.sampled_from([
    "", "a", "1", "true", "null", "a\0", "a\0b", "\0", LONG[:-1], LONG, LONG + "a", LONG + "b", LONG + "\0", LONG * 3,
    "\U0010ffff" * 102, "\U0010ffff" * 103, "é", "e\u0301",
])  # fmt: skip
PLAIN = st.none() | st.booleans() | NUMBERS | TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
MEMBERS = st.sampled_from(["a", "b", "a.b", "b.a", ".", "", "a\0", "k" * 101])
NESTED = st.recursive(
    PLAIN | st.lists(PLAIN, max_size=2), lambda inner: st.dictionaries(MEMBERS, inner, max_size=3), max_leaves=8
)
MANY = {f"m{n}": n for n in range(LEAVES_MAX)}
OPERATORS = st.sampled_from(WHERE_OPERATORS)


@st.composite
def metadata_and_conditions(draw) -> tuple[list[dict[str, Any]], list[list[tuple[str, str, Any]]]]:
    """Return documents, and conditions of which many lead to something that is there."""
    documents = draw(st.lists(st.dictionaries(MEMBERS, NESTED, max_size=4), min_size=1, max_size=8))
    documents = [one | MANY if draw(st.sampled_from([False] * 7 + [True])) else one for one in documents]
    there = [leaf for one in documents for leaf in leaves(one) or () if leaf[0]]
    paths = st.lists(MEMBERS, min_size=1, max_size=3).map(".".join).filter(bool)
    values = PLAIN | st.lists(PLAIN, max_size=1) | st.dictionaries(MEMBERS, PLAIN, max_size=1)
    one = st.tuples(paths, OPERATORS, values)
    if there:
        leaf = st.sampled_from(there)
        of_another = st.tuples(leaf, leaf).map(lambda two: (two[0][0], two[1][1]))
        beside = st.tuples(leaf.map(lambda found: found[0]), PLAIN)
        one |= st.tuples(leaf | of_another | beside, OPERATORS).map(lambda made: (made[0][0], made[1], made[0][1]))
    return documents, draw(st.lists(st.lists(one, min_size=1, max_size=2), min_size=1, max_size=6))


def leaf_rows(shelf: Shelf, tenant: tuple[int, str]) -> list[Any]:
    sql = "SELECT seq, path, value FROM episode_metadata WHERE tenant_key = :key ORDER BY seq, path"
    return shelf.store.database.rows(sql, {"key": tenant[0]})


def make_older(shelf: Shelf, seqs: Sequence[int]) -> None:
    """Index these as the migration did that made the index."""
    with shelf.store.write():
        for seq in seqs:
            shelf.store.database.run("DELETE FROM episode_metadata WHERE seq = :seq", {"seq": seq})
            shelf.store.database.run(
                "INSERT INTO episode_metadata SELECT tenant_key, '', x'', seq FROM episodes "
                "WHERE seq = :seq AND metadata <> '{}'",
                {"seq": seq},
            )


@example(([{"a": "\U0010ffff" * 103}], [[("a", ">=", "a")]]), set(), {0})
@settings(max_examples=100)
@given(metadata_and_conditions(), st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_the_index_of_metadata_lets_through_what_plain_python_lets_through(given_, old: set[int], gone: set[int]):
    documents, wheres = given_
    shelf = Shelf(Store.in_memory(Clock()))
    made = [row(f"e{n}", metadata=encoded(one), input_words="word") for n, one in enumerate(documents)]
    shelf.add(shelf.b, *made)
    seqs = shelf.add(shelf.a, *made)
    others = leaf_rows(shelf, shelf.b)
    make_older(shelf, [seqs[n] for n in old if n < len(seqs)])
    there = dict(zip(seqs, documents, strict=True))
    episodes, key = shelf.store.episodes, shelf.a[0]
    for dead in (set(), gone):
        for n in dead:
            if n < len(seqs):
                shelf.remove(shelf.a, f"e{n}", seqs[n])
                del there[seqs[n]]
        assert {seq for seq, _, _ in leaf_rows(shelf, shelf.a)} <= there.keys()
        for where in wheres:
            filter_ = EpisodeFilter(where=where)
            expected = [seq for seq, one in there.items() if all(holds(one, *condition) for condition in where)]
            assert sorted(episodes.seqs(key, filter_)) == expected, where
            assert episodes.count(key, filter_) == len(expected)
            assert [seq for seq, _ in episodes.heads(key, filter_, 99)] == expected
            assert episodes.passing(key, seqs, filter_).keys() == set(expected)
    for n in set(range(len(seqs))) - gone:
        shelf.remove(shelf.a, f"e{n}", seqs[n])
    assert leaf_rows(shelf, shelf.a) == []
    assert leaf_rows(shelf, shelf.b) == others
    shelf.store.close()


def encoded(document: dict[str, Any]) -> str:
    return msgspec.json.encode(document).decode()


def test_what_has_too_many_leaves_or_too_long_a_path_is_found_and_kept_small(shelf: Shelf):
    many = MANY | {"k": 1}
    long_ = {"k": 1, "p" * 500_000: {str(n): n for n in range(LEAVES_MAX - 1)}}
    seqs = shelf.add(shelf.a, row("many", metadata=encoded(many)), row("long", metadata=encoded(long_)))
    assert leaf_rows(shelf, shelf.a) == [(seq, "", b"") for seq in seqs]
    assert shelf.store.episodes.seqs(shelf.a[0], EpisodeFilter(where=[("k", "=", 1)])) == seqs
    assert shelf.store.episodes.seqs(shelf.a[0], EpisodeFilter(where=[("p" * 500_000 + ".7", ">", 6)])) == seqs[1:]
    (full,) = shelf.add(shelf.a, row("full", metadata=encoded(MANY)))
    assert [path for seq, path, _ in leaf_rows(shelf, shelf.a) if seq == full] == sorted(MANY)


def test_a_condition_looks_at_what_the_index_of_metadata_names_and_not_at_all_episodes(shelf: Shelf):
    shelf.add(shelf.a, *(row(f"e{n}", metadata=encoded({"k": n % 100, "t": "x"})) for n in range(500)))
    looked_at: list[str] = []

    def matches(metadata: str, where: str) -> int:
        looked_at.append(metadata)
        return metadata_matches(metadata, where)

    shelf.store.database.define("metadata_matches", matches, 2)
    for where, passing, most in (
        ([("k", "=", 7)], 5, 5), ([("k", ">=", 98)], 10, 10), ([("k", "=", None)], 0, 0),
        ([("k", "<", 50), ("k", "=", 7)], 5, 5),
        ([("k", "!=", 7), ("k", "<", 8)], 35, 45), ([("t", "!=", "x")], 0, 500),
    ):  # fmt: skip
        looked_at.clear()
        assert len(shelf.store.episodes.seqs(shelf.a[0], EpisodeFilter(where=where))) == passing
        assert len(looked_at) <= most, where


# -- sessions ----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["s", "t", None])), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_what_came_before_is_the_nearest_living_one_of_the_same_session_and_tenant(told, gone: set[int]):
    shelf = Shelf(Store.in_memory(Clock()))
    tenants = {"a": shelf.a, "b": shelf.b}
    seqs = [shelf.add(tenants[name], row(f"e{n}", session_id=s))[0] for n, (name, s) in enumerate(told)]
    living = []
    for n, seq in enumerate(seqs):
        if n in gone:
            shelf.remove(tenants[told[n][0]], f"e{n}", seq)
        else:
            living.append((seq, *told[n]))
    for name, tenant in tenants.items():
        expected = {}
        for place, (seq, owner, session) in enumerate(living):
            earlier = [one for one, *its in living[:place] if its == [owner, session]]
            if owner == name and session is not None and earlier:
                expected[seq] = earlier[-1]
        assert shelf.store.episodes.before(tenant[0], [*seqs, 99]) == expected
    shelf.store.close()


# -- words -------------------------------------------------------------------------------------------------------


def scores(shelf: Shelf, tenant: tuple[int, str], match: str) -> dict[int, float]:
    return dict(shelf.store.episodes.search_words(tenant[0], match, 100))


def test_a_tenant_s_scores_are_the_same_whatever_others_store(shelf: Shelf):
    shelf.add(shelf.a, row("e1", task="rare word"), row("e2", task="common word"), row("e3", task="common thing"))
    before = scores(shelf, shelf.a, '"rare" OR "common"')
    assert len(before) == 3
    shelf.add(shelf.b, *(row(f"o{n}", task="rare rare rare") for n in range(200)))
    assert scores(shelf, shelf.a, '"rare" OR "common"') == before
    assert scores(shelf, shelf.b, '"common"') == {}


def test_words_are_stemmed_and_folded(shelf: Shelf):
    (seq,) = shelf.add(shelf.a, row("e", task="Résumés were running"))
    for word in ("resume", "run", "RUNS", "résumé"):
        assert list(scores(shelf, shelf.a, f'"{word}"')) == [seq]


def test_all_four_texts_are_searched_and_gone_with_the_episode(shelf: Shelf):
    (seq,) = shelf.add(shelf.a, row("e", task="one", input_words="two", output_words="three", critique="four"))
    for word in ("one", "two", "three", "four"):
        assert list(scores(shelf, shelf.a, word)) == [seq]
    assert shelf.store.episodes.count_words(shelf.a[0]) == 1
    shelf.remove(shelf.a, "e", seq)
    assert [scores(shelf, shelf.a, word) for word in ("one", "two", "three", "four")] == [{}] * 4
    assert shelf.store.episodes.count_words(shelf.a[0]) == 0


def test_an_episode_whose_words_are_missing_can_still_be_removed(shelf: Shelf):
    seqs = shelf.add(shelf.a, row("e"), row("f"))
    with shelf.store.write():
        shelf.store.database.run("DELETE FROM words_1 WHERE rowid = :seq", {"seq": seqs[0]})
    shelf.remove(shelf.a, "e", seqs[0])
    assert shelf.store.episodes.count_words(shelf.a[0]) == shelf.store.episodes.count(shelf.a[0]) == 1


def test_a_tenant_without_words_is_searched_in_vain_and_without_an_error(shelf: Shelf):
    assert scores(shelf, shelf.a, '"x"') == {}
    assert shelf.store.episodes.count_words(shelf.a[0]) == 0
    with shelf.store.write():
        assert not shelf.store.episodes.merge_words(shelf.a[0])
        assert shelf.store.episodes.words_are_whole(shelf.a[0])


def test_a_table_of_words_that_was_rolled_back_is_made_again(shelf: Shelf):
    with pytest.raises(KeyError), shelf.store.write():
        seq = shelf.store.changes.add(shelf.a[0], "episode_stored", "e", now_ms=0)
        shelf.store.episodes.add(shelf.a[0], [(seq, row("e"))])
        assert shelf.store.episodes.search_words(shelf.a[0], '"e"', 1)
        raise KeyError
    (seq,) = shelf.add(shelf.a, row("e"))
    assert list(scores(shelf, shelf.a, '"e"')) == [seq]


def test_merging_words_changes_no_answer_and_comes_to_an_end(shelf: Shelf):
    for n in range(40):
        shelf.add(shelf.a, row(f"e{n}", task=f"word number {n}"))
    before = scores(shelf, shelf.a, '"word" OR "7"')
    done = []
    for _ in range(50):
        with shelf.store.write():
            done.append(shelf.store.episodes.merge_words(shelf.a[0]))
        if not done[-1]:
            break
    assert done[-1] is False
    assert scores(shelf, shelf.a, '"word" OR "7"') == before


def spoil_words(store: Store) -> None:
    with store.write():
        store.database.run("UPDATE words_1_data SET block = zeroblob(10) WHERE id > 10")


def test_words_that_are_damaged_are_told_from_a_damaged_database_and_can_be_built_anew(shelf: Shelf):
    seqs = shelf.add(shelf.a, row("e", task="one"), row("f", task="two"))
    spoil_words(shelf.store)
    with pytest.raises(WordsDamagedError) as caught:
        scores(shelf, shelf.a, '"one"')
    assert caught.value.exit == 1
    assert "reindex" in (caught.value.hint or "")
    with shelf.store.write():
        assert not shelf.store.episodes.words_are_whole(shelf.a[0])
        shelf.store.episodes.rebuild_words(
            shelf.a[0],
            [{"seq": seq, "task_words": task, "input_words": "", "output_words": "", "critique_words": ""}
             for seq, task in zip(seqs, ("one", "two"), strict=True)],
        )  # fmt: skip
        assert shelf.store.episodes.words_are_whole(shelf.a[0])
    assert list(scores(shelf, shelf.a, '"one"')) == seqs[:1]


def test_words_that_are_too_few_or_too_many_are_not_whole(shelf: Shelf):
    (seq,) = shelf.add(shelf.a, row("e"))
    with shelf.store.write():
        assert shelf.store.episodes.words_are_whole(shelf.a[0])
        shelf.store.database.run("DELETE FROM words_1 WHERE rowid = :seq", {"seq": seq})
        assert not shelf.store.episodes.words_are_whole(shelf.a[0])
