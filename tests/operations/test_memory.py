"""What the memory does, asked the way every surface asks it."""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedctl.errors import Conflict, Denied, DiskFull, UsageError
from fedctl.messages import memory as m
from fedctl.model import limits
from fedctl.model.episode import Embedding, EpisodeDraft, EpisodeFilter, StoreResult
from fedctl.model.principal import Principal
from fedctl.operations import embedding, index
from fedctl.operations.context import Context, Recall
from fedctl.recall.index import from_blob, to_blobs
from fedctl.recall.rank import bm25_bound, deciding_terms
from fedctl.recall.text import match_query, query_terms
from fedctl.store.store import Store

ROOT = Path(__file__).parents[2]
BIG = "x" * 900_000
fixture_ok = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def one(bench, draft_: EpisodeDraft, **who: Any) -> StoreResult:
    (result,) = bench.call(m.StoreEpisodes(episodes=[draft_], echo=True), **who).results
    return result


def got(bench, id_: str, **who: Any):
    (episode,) = bench.call(m.GetEpisodes(ids=[id_]), **who).episodes
    return episode


def same_json(a: Any, b: Any) -> bool:
    """Return whether two values are the same JSON, type for type: 1 is not 1.0, -0.0 is not 0.0."""
    return json.dumps(a) == json.dumps(b)


# -- storing: fidelity -------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**70) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@fixture_ok
@given(input_=JSON, output=JSON, metadata=st.dictionaries(st.text(), JSON, max_size=3))
def test_any_json_comes_back_type_for_type(bench, input_: Any, output: Any, metadata: dict[str, Any]):
    id_ = bench.clock.new_id()
    result = one(bench, EpisodeDraft(id=id_, task="t", input=input_, output=output, metadata=metadata))
    assert result.ok
    for episode in (result.episode, got(bench, id_)):
        assert same_json([episode.input, episode.output, episode.metadata], [input_, output, metadata])
    again = one(bench, EpisodeDraft(id=id_, task="t", input=input_, output=output, metadata=metadata))
    assert again.existing


@pytest.mark.parametrize(
    "value",
    [2**63, 2**64, -(2**63) - 1, 10**400, -0.0, 1.0, 1, 1e22, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, True, None,
     "", [], {},
     "\0", "a\u2028b\u0085c\u2029", "\U0010ffff", "\ufeff", {"": {"": [[]]}}, {"\0": "\0"}, {"b": 1, "a": 2}],
)  # fmt: skip
def test_values_that_others_bend_come_back_straight(bench, value: Any):
    one(bench, EpisodeDraft(id="e", task="t", input=value, output=[value], metadata={"k": value}))
    episode = got(bench.another(), "e")
    assert same_json([episode.input, episode.output, episode.metadata], [value, [value], {"k": value}])


@fixture_ok
@given(
    task=st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text),
    critique=st.none() | st.text(),
    reward=st.none() | st.floats(0, 1) | st.integers(0, 1),
    success=st.none() | st.booleans(),
    tokens_used=st.none() | st.integers(0, 2**63 - 1),
    latency_ms=st.none() | st.floats(0, 1e300) | st.integers(0, 10**30),
    pinned=st.booleans(),
)
def test_every_field_comes_back_as_it_was_given_and_the_same_push_is_the_same_episode(bench, **fields: Any):
    id_ = bench.clock.new_id()
    draft = EpisodeDraft(id=id_, **fields)
    assert one(bench, draft).ok
    episode = got(bench, id_)
    expected = fields | {"success": fields["success"]}
    if fields["success"] is None and fields["reward"] is not None:
        expected["success"] = fields["reward"] >= 0.7
    assert {name: getattr(episode, name) for name in expected} == expected
    assert one(bench, draft).existing
    assert one(bench, msgspec.json.decode(msgspec.json.encode(draft), type=EpisodeDraft)).existing


@pytest.mark.parametrize(
    "fields", [{"reward": -0.0}, {"latency_ms": -0.0}, {"latency_ms": 5}, {"reward": 1}, {"input": -0.0}]
)
def test_numbers_that_a_column_writes_another_way_are_still_the_same_content(bench, fields: dict[str, Any]):
    draft = EpisodeDraft(id="e", task="t", **fields)
    assert not one(bench, draft).existing
    assert one(bench, draft).existing


@pytest.mark.parametrize(("reward", "success"), [(None, None), (0.0, False), (0.69999, False), (0.7, True), (1, True)])
def test_success_follows_from_the_reward_unless_it_is_said(bench, reward: float | None, success: bool | None):
    bench.keep("e", reward=reward)
    assert got(bench, "e").success is success
    bench.keep("said", reward=reward, success=not success)
    assert got(bench, "said").success is (not success)


def test_a_critique_may_hold_what_a_task_may_not(bench):
    bench.keep("e", critique="before\0after\n")
    assert got(bench, "e").critique == "before\0after\n"
    assert bench.hits("after", mode="keyword") == ["e"]


def test_times_default_to_the_moment_of_storing_and_keep_what_was_given(bench):
    bench.keep("now", EpisodeDraft(id="then", task="t", created_at="1969-07-20T22:17:40.5+02:00"))
    assert got(bench, "now").created_at == "2026-01-01T00:00:00.000Z"
    assert got(bench, "then").created_at == "1969-07-20T20:17:40.500Z"


# -- storing: what is refused ------------------------------------------------------------------------------------


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


class Word(str):
    __slots__ = ()


BAD = [
    {"id": ""}, {"id": "a\nb"}, {"id": "x" * 201}, {"id": "\ud800"}, {"task": ""}, {"task": " \n"}, {"task": "a\0b"},
    {"task": "\udcff"}, {"task": 5}, {"agent_id": "../x"}, {"agent_id": "a b"}, {"agent_id": "x" * 129},
     {"agent_id": ""},
    {"session_id": "-x"}, {"session_id": "a\0"}, {"input": math.nan}, {"input": [{"a": math.inf}]},
     {"output": -math.inf},
    {"metadata": {"a": math.nan}}, {"input": "\ud83d"}, {"output": {"\udc00": 1}}, {"metadata": {"a": ["\udfff"]}},
    {"critique": "\ud800"}, {"critique": 5}, {"metadata": [1]}, {"input": nested(33)}, {"output": {"a": nested(32)}},
    {"metadata": {"a": nested(32)}}, {"input": nested(100_000)}, {"input": {1: 2}}, {"input": {1, 2}},
     {"input": b"bytes"},
    {"input": 10**5000}, {"input": Word("w")}, {"input": np.float64(1)}, {"reward": 1.01}, {"reward": -0.01},
     {"reward": math.nan},
    {"reward": True}, {"reward": 10**400}, {"tokens_used": -1}, {"tokens_used": 2**63}, {"latency_ms": -1},
     {"latency_ms": math.inf},
    {"latency_ms": 10**400}, {"created_at": "yesterday"}, {"created_at": "7d"}, {"created_at": "2026-02-30"},
    {"input": "x" * limits.EPISODE_MAX_BYTES}, {"task": "\1" * 180_000}, {"critique": "é" * 600_000},
     {"metadata": {"k": "x" * (1 << 20)}},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD, ids=[f"{next(iter(one))}-{place}" for place, one in enumerate(BAD)])
def test_what_is_refused_is_named_keeps_nothing_and_costs_the_others_nothing(bench, fields: dict[str, Any]):
    bad = EpisodeDraft(**({"id": "bad", "task": "t"} | fields))
    first, middle, last = bench.keep("first", bad, "last")
    assert first.ok
    assert last.ok
    assert not middle.ok
    assert middle.error["code"] == "usage"
    assert middle.error["exit"] == 2
    assert len(middle.error["message"]) < 300
    msgspec.json.encode(middle.error)
    assert bench.ids() == ["first", "last"]
    assert bench.store.episodes.count_words(bench.key()) == 2


def test_the_limits_themselves_are_still_within(bench):
    room = limits.EPISODE_MAX_BYTES - len(msgspec.json.encode(EpisodeDraft(id="big", task="t", input="")))
    results = bench.keep(
        EpisodeDraft(
            id="i" * 200, task="t", agent_id="a" * 128, session_id="s" * 128, input=nested(32), tokens_used=2**63 - 1
        ),
        EpisodeDraft(id="big", task="t", input="x" * room),
    )
    assert [result.ok for result in results] == [True, True]
    (over,) = bench.keep(EpisodeDraft(id="big", task="t", input="x" * (room + 1)))
    assert over.error["details"]["limit_bytes"] == limits.EPISODE_MAX_BYTES


@pytest.mark.parametrize("sign", ["x", "é", "\1", "😀", '"'])
def test_an_episode_is_measured_as_json_whatever_it_is_made_of(bench, sign: str):
    each = len(msgspec.json.encode(sign)) - 2
    for field in ("task", "input", "critique"):
        draft = EpisodeDraft(**({"id": field, "task": "t"} | {field: ""}))
        room = (limits.EPISODE_MAX_BYTES - len(msgspec.json.encode(draft)) - 20) // each
        fits, over = bench.keep(
            msgspec.structs.replace(draft, **{field: sign * room}),
            msgspec.structs.replace(draft, **{field: sign * (room + 20)}),
        )
        assert fits.ok, field
        assert not over.ok, field


def test_a_batch_of_more_than_1000_is_refused_whole(bench):
    drafts = [EpisodeDraft(id=f"e{n}", task="t") for n in range(1001)]
    assert isinstance(bench.refusal(m.StoreEpisodes(episodes=drafts)), UsageError)
    assert bench.ids() == []
    assert all(one.ok for one in bench.keep(*drafts[:1000]))


def test_an_empty_batch_is_answered_by_an_empty_one(bench):
    assert bench.keep() == []


def test_nothing_of_a_batch_of_bad_drafts_is_left_not_even_the_tenant(bench):
    bench.keep(EpisodeDraft(id="", task="t"), tenant="new")
    assert bench.store.tenants.key("new") is None


# -- storing: the same id again ----------------------------------------------------------------------------------


def test_the_same_content_again_is_the_same_episode(bench):
    draft = EpisodeDraft(id="e", task="t", input={"b": 1, "a": [1.0]}, metadata={"x": 1}, reward=0.9)
    first = one(bench, draft)
    bench.clock.advance(5000)
    again = one(
        bench, msgspec.structs.replace(draft, input={"a": [1.0], "b": 1}, success=True, created_at="2020-01-01", seq=77)
    )
    assert (again.ok, again.existing, again.seq) == (True, True, first.seq)
    assert again.episode == first.episode
    assert bench.ids() == ["e"]
    assert bench.store.changes.last_seq() == 1


OTHER = [
    {"task": "u"}, {"input": 1.0}, {"input": True}, {"input": [1]}, {"output": "x"}, {"reward": 0.5}, {"reward": None},
     {"success": True},
    {"critique": ""}, {"tokens_used": 0}, {"latency_ms": 0.0}, {"metadata": {"a": 1}}, {"agent_id": "b"},
     {"session_id": "s"},
]  # fmt: skip


@pytest.mark.parametrize("fields", OTHER, ids=str)
def test_other_content_under_a_known_id_is_a_conflict_wherever_it_differs(bench, fields: dict[str, Any]):
    draft = EpisodeDraft(id="e", task="t", input=1, reward=0.1, agent_id="a")
    first = one(bench, draft)
    (refused,) = bench.keep(msgspec.structs.replace(draft, **fields))
    assert not refused.ok
    assert refused.error["code"] == Conflict.code
    assert got(bench, "e") == first.episode


def test_a_conflict_is_passed_over_on_request(bench):
    first = one(bench, EpisodeDraft(id="e", task="t"))
    request = m.StoreEpisodes(
        episodes=[EpisodeDraft(id="e", task="u"), EpisodeDraft(id="f", task="u")], on_conflict="skip", echo=True
    )
    skipped, stored = bench.call(request).results
    assert (skipped.ok, skipped.skipped, skipped.seq) == (True, True, first.seq)
    assert skipped.episode == first.episode
    assert stored.ok
    assert not stored.skipped


def test_within_one_batch_the_first_of_an_id_counts(bench):
    same, other = EpisodeDraft(id="e", task="t"), EpisodeDraft(id="e", task="u")
    first, again, conflict, bad, late = bench.keep(
        same, same, other, EpisodeDraft(id="x", task=""), EpisodeDraft(id="x", task="t")
    )
    assert (first.ok, first.existing) == (True, False)
    assert (again.ok, again.existing, again.seq) == (True, True, first.seq)
    assert conflict.error["code"] == "conflict"
    assert not bad.ok
    assert late.ok
    assert bench.ids() == ["e", "x"]


def test_a_deleted_id_is_acked_and_not_stored_again(bench):
    bench.keep("e", "f")
    bench.call(m.DeleteEpisodes(ids=["e"]))
    for draft in (EpisodeDraft(id="e", task="e"), EpisodeDraft(id="e", task="other")):
        result = one(bench, draft)
        assert (result.ok, result.deleted, result.seq, result.episode) == (True, True, None, None)
    assert bench.ids() == ["f"]
    assert bench.hits("e", mode="keyword") == []


def test_two_threads_that_push_the_same_have_one_episode(bench):
    import threading

    benches = [bench.another() for _ in range(4)]
    results: list[StoreResult] = []
    threads = [
        threading.Thread(target=lambda b=b: results.extend(b.keep(*(f"e{n}" for n in range(20))))) for b in benches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not one.existing for one in results) == 20
    assert all(one.ok for one in results)
    assert sorted(bench.ids()) == sorted({f"e{n}" for n in range(20)})


def test_processes_that_store_at_once_lose_and_double_nothing(home, clock, make_bench):
    code = """
import sys
from pathlib import Path
from types import SimpleNamespace
from fedctl.bootstrap import open_context
from fedctl.client.local import LocalCaller
from fedctl.messages.memory import StoreEpisodes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.principal import Principal
home, me = Path(sys.argv[1]), sys.argv[2]
sys.stdin.read()
context = open_context(SimpleNamespace(home=home, timeout_ms=None, model=None), create=True)
caller = LocalCaller(context, Principal(tenant_id="default", role="owner"))
for n in range(60):
    ids = [f"{me}-{n}", f"all-{n}"] if n % 2 else [f"{me}-{n}"]
    results = caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=one, task=f"word {one}") for one in ids])).results
    assert all(result.ok for result in results), results
caller.close()
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(home), name], cwd=ROOT, stdin=subprocess.PIPE, text=True)
        for name in ("ann", "bob", "cid")
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    bench = make_bench(home=home)
    assert sorted(bench.ids()) == sorted(
        [f"{name}-{n}" for name in ("ann", "bob", "cid") for n in range(60)] + [f"all-{n}" for n in range(1, 60, 2)]
    )
    from fedctl.messages.store import CheckStore

    assert bench.call(CheckStore(full=True)).findings == []
    assert len(bench.hits("word", mode="keyword", k=1000)) == 210


def test_the_echo_of_a_batch_ends_where_a_page_is_full(bench):
    drafts = [EpisodeDraft(id=f"e{n}", task="t", input=BIG) for n in range(5)]
    for draft in drafts:
        bench.keep(draft)
    small = [EpisodeDraft(id=draft.id, task="t") for draft in drafts]
    results = bench.call(m.StoreEpisodes(episodes=small, on_conflict="skip", echo=True)).results
    assert [result.skipped for result in results] == [True] * 5
    assert [result.episode is not None for result in results] == [True, True, False, False, False]


# -- storing: whose it is ----------------------------------------------------------------------------------------


def test_an_agent_s_episode_is_its_own_whoever_the_draft_says_it_is_of(bench):
    bench.keep("nobody's")
    result = one(bench, EpisodeDraft(id="e", task="t", agent_id="somebody"), agent="me", role="agent")
    assert result.episode.agent_id == "me"
    assert one(bench, EpisodeDraft(id="f", task="t", agent_id="somebody")).episode.agent_id == "somebody"
    assert got(bench, "nobody's").agent_id is None


def test_what_an_agent_stores_is_counted_once(bench):
    from fedctl.messages.agent import GetAgent, RegisterAgent

    bench.call(RegisterAgent(id="me", type="t", lifetime_ms=60_000, host="h", pid=1))
    for _ in range(2):
        bench.call(
            m.StoreEpisodes(episodes=[EpisodeDraft(id=f"e{n}", task="t") for n in range(3)]), agent="me", role="agent"
        )
    assert bench.call(GetAgent(id="me")).agent.episodes_stored == 3


# -- storing: with vectors ---------------------------------------------------------------------------------------


def tag(bench) -> str:
    return bench.context.recall.model_tag


def vector(bench, place: int = 0) -> bytes:
    return to_blobs(np.eye(bench.embedder.dim, dtype=np.float32)[place : place + 1])[0]


def pending(bench, tenant: str = "default") -> int:
    return bench.call(m.MemoryStats(), tenant=tenant).pending_embeddings


def test_a_vector_that_comes_along_is_kept_and_nothing_is_embedded(bench):
    bench.keep(
        EpisodeDraft(id="e", task="t", embedding=Embedding(model=tag(bench), vectors=[vector(bench), vector(bench, 1)]))
    )
    assert pending(bench) == 0
    (episode,) = bench.call(m.ListEpisodes(with_vectors=True)).episodes
    assert episode.embedding == Embedding(model=tag(bench), vectors=[vector(bench), vector(bench, 1)])
    assert bench.embedder.texts == []


def half(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tag_, dim: Embedding(model="another@1/t2", vectors=[half(1, *[0] * (dim - 1))]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[half(*[0] * dim)]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[half(2, *[0] * (dim - 1))]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[half(math.nan, *[0] * (dim - 1))]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[half(math.inf, *[0] * (dim - 1))]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[half(1, *[0] * dim)]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[half(1, *[0] * (dim - 1)), b""]),
        lambda tag_, dim: Embedding(model=tag_, vectors=[half(1, *[0] * (dim - 1))] * 30_000),
    ],
    ids=["another model", "none", "zero", "too long", "NaN", "infinite", "another size", "one of two", "too many"],
)
def test_a_vector_that_is_no_vector_of_the_store_is_passed_over_and_the_episode_embedded_here(bench, spoil):
    (result,) = bench.keep(EpisodeDraft(id="e", task="t", embedding=spoil(tag(bench), bench.embedder.dim)))
    assert result.ok
    assert pending(bench) == 1
    assert bench.hits("t", mode="semantic") == ["e"]
    (episode,) = bench.call(m.ListEpisodes(with_vectors=True)).episodes
    assert len(episode.embedding.vectors) == 1
    assert np.linalg.norm(from_blob(episode.embedding.vectors[0])) == pytest.approx(1, abs=0.01)


def test_what_is_exported_with_its_vectors_is_imported_without_the_model(bench, make_bench):
    bench.keep("fix the parser", "paint the fence", reward=0.5)
    bench.hits("parser")
    exported = bench.call(m.ListEpisodes(with_vectors=True, order="oldest")).episodes
    lines = [msgspec.json.encode(episode) for episode in exported]
    other = make_bench()
    other.keep(*(msgspec.json.decode(line, type=EpisodeDraft) for line in lines))
    assert pending(other) == 0
    assert other.embedder.texts == []
    assert other.hits("parser") == bench.hits("parser")
    again = other.call(m.ListEpisodes(with_vectors=True, order="oldest")).episodes
    assert again == exported


# -- finding -----------------------------------------------------------------------------------------------------


def found(bench, text: str, **fields: Any) -> m.QueryAnswer:
    return bench.call(m.QueryEpisodes(text=text, **fields))


@pytest.fixture
def library(bench):
    bench.keep("alpha beta", reward=0.9, agent_id="ann", metadata={"n": 1})
    bench.keep("alpha gamma", reward=0.1, agent_id="bob", metadata={"n": 2})
    bench.keep("delta epsilon", session_id="s1")
    bench.keep("zeta eta", input={"note": "alpha in passing"})
    return bench


def test_each_mode_finds_what_it_can(library):
    assert set(library.hits("alpha", mode="keyword")) == {"alpha beta", "alpha gamma", "zeta eta"}
    assert len(library.hits("alpha", mode="semantic")) == 4
    assert library.hits("delta epsilon", mode="semantic")[0] == "delta epsilon"
    assert set(library.hits("alpha", mode="hybrid")[:3]) == {"alpha beta", "alpha gamma", "zeta eta"}
    assert library.hits("alpha", k=1, mode="keyword") == library.hits("alpha", mode="keyword")[:1]


def test_ranks_count_from_one_and_scores_fall(library):
    hits = found(library, "alpha epsilon").hits
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.episode is not None and hit.episode.id == hit.id and hit.match is None for hit in hits)


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
def test_a_reward_weight_of_0_gives_the_order_that_rewards_have_no_part_in(make_bench, mode: str):
    orders = []
    for rewards in ([0.0, 1.0, None], [1.0, 0.0, 0.5], [None] * 3):
        bench = make_bench()
        for number in range(30):
            bench.keep(f"word{number} word{number // 2} word{number // 3} common", reward=rewards[number % 3])
        hits = found(bench, "word3 word7 word5 common", mode=mode, reward_weight=0.0, k=20).hits
        orders.append([(hit.id, hit.score) for hit in hits])
    assert orders[0] == orders[1] == orders[2]


def test_a_reward_moves_the_better_up_and_no_further_than_its_weight(library):
    assert library.hits("alpha", mode="keyword", reward_weight=1.0)[0] == "alpha beta"
    for hit in found(library, "alpha", mode="keyword", explain=True, reward_weight=0.3).hits:
        reward = hit.episode.reward
        assert hit.match.reward == pytest.approx(1 if reward is None else 1 + 0.3 * (2 * reward - 1))


def test_an_explanation_shows_every_part(library):
    hits = {hit.id: hit for hit in found(library, "alpha", explain=True).hits}
    with_word, without = hits["alpha beta"].match, hits["delta epsilon"].match
    assert with_word.keyword > 0
    assert without.keyword is None
    assert 0 < with_word.semantic <= 1.01
    assert with_word.index == "tail"
    keyword = found(library, "alpha", explain=True, mode="keyword").hits[0].match
    assert (keyword.semantic, keyword.index) == (None, None)
    semantic = found(library, "alpha", explain=True, mode="semantic").hits[0].match
    assert (semantic.keyword, semantic.index) == (None, "tail")


def test_what_only_the_words_found_has_its_true_cosine_too(bench):
    # 150 episodes are nearer to the question than the one that has its rare word.
    bench.keep(*(EpisodeDraft(id=f"near{n}", task="red green blue") for n in range(150)))
    bench.keep(EpisodeDraft(id="far", task="zebra " + " ".join(f"other{n}" for n in range(30))))
    hits = {hit.id: hit for hit in found(bench, "red green blue zebra", k=200, explain=True).hits}
    assert hits["far"].match.keyword > 0
    assert hits["far"].match.semantic is not None


def test_stop_words_alone_are_searched_as_words(bench):
    bench.keep("to be or not to be", "something else")
    assert bench.hits("to be or not to be", mode="keyword") == ["to be or not to be"]


@pytest.mark.parametrize("text", ["?!", "…", '"', "-", "()", "😀"])
def test_a_question_without_words_finds_nothing_by_words_and_something_by_meaning(library, text: str):
    assert library.hits(text, mode="keyword") == []
    assert len(library.hits(text)) == 4


@fixture_ok
@given(text=st.text(min_size=1).filter(str.strip))
def test_no_question_is_an_error(bench, text: str):
    if not bench.ids():
        bench.keep("alpha", "beta")
    for mode in ("keyword", "hybrid"):
        found(bench, text, mode=mode)


@pytest.mark.parametrize(
    "fields",
    [{"text": ""}, {"text": " \n"}, {"text": "\ud800"}, {"text": "x" * (limits.QUERY_MAX_BYTES + 1)},
     {"text": "é" * limits.QUERY_MAX_BYTES},
     {"k": 0}, {"k": -1}, {"k": 1001}, {"k": 2**70}, {"reward_weight": -0.1}, {"reward_weight": 1.1},
      {"reward_weight": math.nan},
     {"filter": EpisodeFilter(agent_id="a b")}, {"filter": EpisodeFilter(session_id="/")},
      {"filter": EpisodeFilter(task="\0")},
     {"filter": EpisodeFilter(min_reward=2)}, {"filter": EpisodeFilter(since="7d")},
      {"filter": EpisodeFilter(until="x")},
     {"filter": EpisodeFilter(where=[("a", "~", 1)])}, {"filter": EpisodeFilter(where=[("", "=", 1)])},
     {"filter": EpisodeFilter(where=[("a", "=", math.nan)])}, {"filter": EpisodeFilter(where=[("a", "=", nested(33))])},
     {"filter": EpisodeFilter(where=[("a", "=", n) for n in range(10_000)])}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_named(library, fields: dict[str, Any]):
    error = library.refusal(m.QueryEpisodes(**({"text": "alpha"} | fields)))
    assert isinstance(error, UsageError)
    assert len(error.message) < 300


def test_the_longest_question_is_answered(library):
    assert library.hits("alpha " * (limits.QUERY_MAX_BYTES // 6))[0].startswith("alpha")
    assert library.hits("x" * limits.QUERY_MAX_BYTES)


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
@pytest.mark.parametrize(
    ("filter_", "ids"),
    [
        (EpisodeFilter(agent_id="ann"), {"alpha beta"}),
        (EpisodeFilter(min_reward=0.5), {"alpha beta"}),
        (EpisodeFilter(success=False), {"alpha gamma"}),
        (EpisodeFilter(where=[("n", ">=", 2)]), {"alpha gamma"}),
        (EpisodeFilter(where=[("n", "!=", 2)], agent_id="ann"), {"alpha beta"}),
        (EpisodeFilter(task="alpha gamma"), {"alpha gamma"}),
        (EpisodeFilter(until="2025-01-01"), set()),
    ],
    ids=str,
)
def test_a_filter_holds_in_every_mode(library, mode: str, filter_: EpisodeFilter, ids: set[str]):
    assert set(library.hits("alpha", mode=mode, filter=filter_)) == ids


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
def test_a_filter_applies_before_the_search_and_not_after(bench, mode: str):
    bench.keep(*(EpisodeDraft(id=f"n{n}", task="alpha alpha alpha", agent_id="many") for n in range(400)))
    bench.keep(EpisodeDraft(id="rare", task="alpha and more words than the others have", agent_id="one"))
    assert bench.hits("alpha", mode=mode, k=5, filter=EpisodeFilter(agent_id="one")) == ["rare"]


def test_a_thousand_hits_of_large_episodes_are_told_by_id_where_the_page_ends(bench):
    for n in range(6):
        bench.keep(EpisodeDraft(id=f"e{n}", task="alpha", input=BIG))
    hits = found(bench, "alpha", mode="keyword", k=1000).hits
    assert sorted(hit.id for hit in hits) == [f"e{n}" for n in range(6)]
    assert [hit.episode is not None for hit in hits] == [True, True, False, False, False, False]


def test_what_was_deleted_is_found_by_no_mode(library):
    library.hits("alpha")
    library.call(m.DeleteEpisodes(ids=["alpha beta"]))
    for mode in ("hybrid", "semantic", "keyword"):
        assert "alpha beta" not in library.hits("alpha", mode=mode)


def test_deleted_neighbours_take_no_place_from_the_living(bench):
    bench.keep(*(EpisodeDraft(id=f"near{n}", task="alpha") for n in range(300)))
    bench.keep(*(EpisodeDraft(id=f"far{n}", task=f"beta{n} gamma") for n in range(20)))
    bench.hits("alpha")
    index.compact(bench.context, bench.key(), rewrite=True)  # a file keeps its dead until it is written anew
    bench.call(m.DeleteEpisodes(ids=[f"near{n}" for n in range(300)]))
    assert len(bench.hits("alpha", mode="semantic", k=20)) == 20
    assert bench.call(m.MemoryStats()).index.vectors == 320


# -- finding: what came before in a session ----------------------------------------------------------------------


def said(bench, *told: tuple[str, str, str | None], tenant: str = "default") -> None:
    """Store (id, task, session) in this order, with their vectors."""
    bench.keep(*(EpisodeDraft(id=id_, task=task, session_id=session) for id_, task, session in told), tenant=tenant)
    bench.hits("x", tenant=tenant, fresh=True)


def matches(bench, text: str, **fields: Any) -> dict[str, Any]:
    return {hit.id: hit.match for hit in found(bench, text, explain=True, **fields).hits}


def test_what_goes_on_with_a_subject_is_found_by_it(bench):
    said(bench, ("about", "login database timeout", "s"), ("goes on", "database was restarted", "s"),
         ("beside", "database was restarted", None))  # fmt: skip
    near = matches(bench, "login timeout", mode="semantic")
    assert near["goes on"].alone == near["beside"].alone == near["beside"].semantic
    assert near["goes on"].semantic > near["goes on"].alone + 0.05
    assert near["about"].semantic == near["about"].alone
    assert bench.hits("login timeout", mode="semantic") == ["about", "goes on", "beside"]


def test_an_explanation_tells_the_cosine_alone_wherever_there_is_one(bench):
    said(bench, ("a", "login timeout", "s"), ("b", "login again", "s"))
    bench.keep("c login")
    hub = bench.another(hub=Hub())
    for mode in ("hybrid", "semantic"):
        by_id = {hit.id: hit.match for hit in found(hub, "login timeout", mode=mode, explain=True).hits}
        assert by_id["b"].alone not in (None, by_id["b"].semantic)
        assert by_id["a"].alone == by_id["a"].semantic
        if mode == "hybrid":
            assert (by_id["c login"].semantic, by_id["c login"].alone) == (None, None)
    assert {match.alone for match in matches(bench, "login", mode="keyword").values()} == {None}


def test_of_what_only_the_words_found_what_came_before_counts_all_the_same(bench):
    bench.keep(*(EpisodeDraft(id=f"near{n}", task="red green blue", reward=0) for n in range(150)))
    rare = "zebra green " + " ".join(f"other{n}" for n in range(9))
    said(bench, ("first", "red green other1", "s"), ("far", rare, "s"))
    match = matches(bench, "red green blue zebra", reward_weight=1.0)["far"]
    assert match.index is None
    assert match.keyword > 0
    assert match.semantic > match.alone


def test_another_session_s_and_another_tenant_s_episodes_are_not_what_came_before(bench):
    said(bench, ("theirs", "login timeout", "s"), tenant="other")
    said(bench, ("of another", "login timeout", "t"), ("of none", "login timeout", None))
    said(bench, ("first", "login again", "s"), ("nobody's", "login again", None))
    said(bench, ("theirs again", "login timeout", "s"), tenant="other")
    near = matches(bench, "timeout", mode="semantic")
    assert all(match.semantic == match.alone for match in near.values())
    said(bench, ("second", "login again", "s"))
    near = matches(bench, "timeout", mode="semantic")
    assert near["second"].semantic == pytest.approx(near["first"].alone, abs=1e-3)  # twice the same is the same


def test_what_came_before_and_is_deleted_is_replaced_by_what_came_before_that(bench):
    said(bench, ("one", "login timeout", "s"), ("two", "bread oven", "s"), ("three", "login again", "s"))
    with_two = matches(bench, "timeout")["three"]
    assert with_two.semantic == pytest.approx(with_two.alone, abs=0.1)
    bench.call(m.DeleteEpisodes(ids=["two"]))
    with_one = matches(bench, "timeout")["three"]
    assert with_one.alone == with_two.alone
    assert with_one.semantic > with_two.semantic + 0.05
    bench.call(m.DeleteEpisodes(ids=["one"]))
    by_itself = matches(bench, "timeout")["three"]
    assert by_itself.semantic == by_itself.alone == with_two.alone


def test_a_filter_hides_what_came_before_and_does_not_change_what_it_says(bench):
    said(bench, ("one", "login timeout", "s"), ("two", "login again", "s"))
    whole = matches(bench, "timeout", mode="semantic")
    assert whole["two"].semantic > whole["two"].alone
    only = EpisodeFilter(task="login again")
    assert matches(bench, "timeout", mode="semantic", filter=only) == {"two": whole["two"]}


def test_long_episodes_and_such_as_have_no_vector_yet_stand_by_themselves(bench):
    bench.keep(EpisodeDraft(id="long", task="login", input="timeout " * 400, session_id="s"))
    said(bench, ("after", "login again", "s"))
    bench.keep(EpisodeDraft(id="long again", task="login", input="timeout " * 400, session_id="s"))
    near = matches(bench, "timeout", mode="semantic")
    assert len(near) == 3
    assert all(match.semantic == match.alone for match in near.values())
    bench.keep(EpisodeDraft(id="waits", task="login timeout", session_id="w"))
    shipped = Embedding(model=tag(bench), vectors=to_blobs(bench.embedder.embed(["login again"])))
    bench.keep(EpisodeDraft(id="has one", task="login again", session_id="w", embedding=shipped))
    hub = bench.another(hub=Hub())
    (match,) = (hit.match for hit in found(hub, "timeout", explain=True).hits if hit.id == "has one")
    assert match.semantic == match.alone


# -- finding: vectors that are still out -------------------------------------------------------------------------


def test_a_query_without_a_hub_embeds_first_within_its_budget_and_says_what_is_still_out(
    make_bench, make_embedder, clock
):
    slow = make_embedder(clock=clock, cost_ms=50)
    bench = make_bench(embedder=slow, clock=clock)
    bench.keep(*(f"e{n} word" for n in range(200)))
    answer = found(bench, "word", mode="semantic", k=1000)
    assert 0 < answer.pending < 200
    assert len(answer.hits) == 200 - answer.pending
    assert {hit.id for hit in answer.hits} == {f"e{n} word" for n in range(answer.pending, 200)}, (
        "the newest come first"
    )
    assert len(found(bench, "word", mode="keyword", k=1000).hits) == 200
    assert found(bench, "word", fresh=True).pending == 0
    assert slow.texts.count("word") == 2


def test_who_only_looks_has_nothing_waited_for(make_bench, make_embedder, clock):
    slow = make_embedder(clock=clock, cost_ms=50)
    bench = make_bench(embedder=slow, clock=clock)
    bench.keep(*(f"e{n} word" for n in range(200)))
    answer = bench.call(m.QueryEpisodes(text="word", fresh=True), looks_only=True)
    assert answer.pending > 0


def test_a_query_by_words_alone_embeds_nothing(bench):
    bench.keep("alpha")
    assert bench.hits("alpha", mode="keyword") == ["alpha"]
    assert bench.embedder.texts == []
    assert pending(bench) == 1


def test_a_query_embeds_what_its_own_tenant_waits_for(bench):
    bench.keep("alpha", tenant="a")
    bench.keep("alpha", tenant="b")
    bench.hits("alpha", tenant="a")
    assert (pending(bench, "a"), pending(bench, "b")) == (0, 1)


def left(bench, **fields: Any) -> tuple[int, list[str]]:
    answer = bench.call(m.EmbedPending(**fields), agent="a", role="agent")
    return answer.pending, answer.notes


def test_who_waits_for_the_vectors_has_the_tenant_s_own_embedded_within_a_budget(make_bench, make_embedder, clock):
    bench = make_bench(embedder=make_embedder(clock=clock, cost_ms=10), clock=clock)
    assert left(bench) == (0, [])
    bench.keep(*(f"e{n}" for n in range(200)))
    bench.keep("another's", tenant="b")
    assert left(bench, budget_ms=0) == (200, [])
    assert bench.embedder.texts == []
    assert left(bench, budget_ms=1000) == (72, [])  # a large slice at a time: who waits for all has patience
    assert left(bench, budget_ms=1000) == (0, [])
    assert pending(bench, "b") == 1
    assert isinstance(bench.refusal(m.EmbedPending(budget_ms=-1)), UsageError)


def test_a_store_of_another_model_embeds_nothing_and_says_why(bench, make_embedder):
    bench.keep("alpha")
    bench.hits("alpha")
    other = bench.another(embedder=make_embedder("other"))
    assert left(other) == (0, [])
    other.keep("beta")
    waiting, notes = left(other)
    assert waiting == 1
    assert "memory reindex" in notes[0]
    assert left(bench) == (0, [])


def test_a_store_that_cannot_be_written_is_searched_all_the_same(bench):
    bench.keep("alpha one", "alpha two")
    bench.hits("alpha")
    bench.keep("alpha three")

    class Full:
        """A model that fails the way a full disk would, at the moment when vectors are to be kept."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.embedder, name)

        def embed(self, texts: Any, **how: int) -> Any:
            if any("three" in text for text in texts):
                raise DiskFull("the disk is full")
            return bench.embedder.embed(texts, **how)

    other = bench.another(embedder=Full())
    answer = found(other, "alpha")
    assert {hit.id for hit in answer.hits} == {"alpha one", "alpha two", "alpha three"}
    assert answer.pending == 1
    assert "disk is full" in answer.notes[0]
    assert isinstance(other.refusal(m.QueryEpisodes(text="alpha", fresh=True)), DiskFull)
    assert isinstance(other.refusal(m.EmbedPending()), DiskFull)


def test_a_home_that_became_read_only_is_searched_as_far_as_it_is_embedded(make_disk, make_bench):
    disk = make_disk("20m")
    writer = make_bench(home=disk.folder / "home")
    writer.keep("alpha one", "beta two")
    writer.hits("alpha")
    index.compact(writer.context, writer.key(), rewrite=True)
    writer.keep("alpha three")
    writer.close()
    disk.make("ro")
    reader = make_bench(home=disk.folder / "home")
    for mode, ids in (("hybrid", {"alpha one", "beta two", "alpha three"}), ("semantic", {"alpha one", "beta two"})):
        answer = found(reader, "alpha", mode=mode)
        assert {hit.id for hit in answer.hits} == ids
        assert answer.pending == 1
        assert "no vectors were added" in answer.notes[0]
    assert isinstance(reader.refusal(m.StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t")])), Denied)
    reader.close()
    disk.make("rw")
    assert "alpha three" in make_bench(home=disk.folder / "home").hits("alpha", mode="semantic")


class Hub:
    """A hub's side of the house: it embeds in the background."""

    def info(self):
        raise NotImplementedError

    stats = info

    def stop_agent(self, tenant_id: str, agent_id: str) -> None:
        raise NotImplementedError


def test_inside_a_hub_a_query_embeds_nothing_itself(bench):
    bench.keep("alpha")
    hub = bench.another(hub=Hub())
    answer = found(hub, "alpha")
    assert answer.pending == 1
    assert [hit.id for hit in answer.hits] == ["alpha"]
    assert bench.embedder.texts == []


@pytest.mark.parametrize("request_", [m.QueryEpisodes(text="alpha", fresh=True), m.EmbedPending(budget_ms=10**9)])
def test_inside_a_hub_who_waits_waits_for_the_background_and_no_longer_than_its_time(bench, request_):
    bench.keep("alpha")

    class Patient:
        """A clock whose sleeping lets the background get on."""

        slept = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.clock, name)

        def sleep_s(self, seconds: float) -> None:
            self.slept += 1
            bench.clock.sleep_s(seconds)
            if self.slept == 3:
                embedding.embed_pending(bench.context, budget_s=None)

    patient = Patient()
    hub = bench.another(hub=Hub(), clock=patient)
    assert hub.call(request_).pending == 0
    assert patient.slept == 3
    bench.keep("beta")
    before = bench.clock.monotonic
    assert bench.another(hub=Hub()).call(request_).pending == 1
    assert bench.clock.monotonic - before == pytest.approx(bench.context.timeout_s, abs=0.1)


# -- the model ---------------------------------------------------------------------------------------------------


def test_a_model_that_is_switched_under_a_query_s_embedding_does_not_keep_it_going_for_ever(bench, make_embedder):
    bench.keep("alpha", "beta")
    other = bench.another(embedder=make_embedder("better", 16))

    class Interrupted:
        """While it embeds, another process makes another model the store's."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.embedder, name)

        def embed(self, texts: Any, **how: int) -> Any:
            if other.store.settings.get("model") is None:
                other.call(m.Reindex(begin=True))
            return bench.embedder.embed(texts, **how)

    late = bench.another(embedder=Interrupted())
    assert embedding.embed_pending(late.context, budget_s=None) == 2
    assert found(other, "alpha", mode="semantic").pending == 0


def test_texts_are_embedded_for_who_has_no_model(bench):
    answer = bench.call(m.EmbedTexts(texts=["alpha", "beta"]), agent="a", role="agent")
    assert answer.model == tag(bench)
    assert np.allclose(from_blob(answer.vectors[0]), bench.embedder.embed(["alpha"])[0], atol=1e-3)
    assert bench.call(m.EmbedTexts(texts=[])).vectors == []
    for texts in (["x"] * 65, ["\ud800"]):
        assert isinstance(bench.refusal(m.EmbedTexts(texts=texts)), UsageError)


def test_a_memory_without_index_files_is_searched_by_meaning_all_the_same(bench):
    """So does an agent that embeds by itself: all it has is in RAM."""
    context = Context(home=bench.home, store=Store.in_memory(bench.clock), recall=Recall(bench.embedder, None),
                      clock=bench.clock, access=bench.context.access)  # fmt: skip
    agent = type(bench)(bench.home, bench.clock, bench.embedder, context, [])
    agent.keep("alpha beta", "gamma delta")
    assert agent.hits("delta gamma", mode="semantic")[0] == "gamma delta"
    assert agent.call(m.MemoryStats()).index.tail == 2
    agent.close()


# -- fetching ----------------------------------------------------------------------------------------------------


def test_episodes_come_in_the_order_asked_and_once(bench):
    bench.keep("a", "b", "c")
    answer = bench.call(m.GetEpisodes(ids=["c", "nope", "a", "c"]))
    assert [one.id for one in answer.episodes] == ["c", "a"]
    assert answer.missing == ["nope"]
    assert answer.rest == []


def test_one_call_fetches_no_more_than_a_thousand(bench):
    assert isinstance(bench.refusal(m.GetEpisodes(ids=[f"e{n}" for n in range(1001)])), UsageError)
    assert len(bench.call(m.GetEpisodes(ids=[f"e{n}" for n in range(1000)] * 2)).missing) == 1000


def test_what_does_not_fit_in_a_page_is_asked_for_again_and_nothing_is_lost(bench):
    for n in range(7):
        bench.keep(EpisodeDraft(id=f"big{n}", task="t", input=BIG))
    bench.keep(*(f"small{n}" for n in range(50)))
    wanted = (
        [f"small{n}" for n in range(25)]
        + ["nope"]
        + [f"big{n}" for n in range(7)]
        + [f"small{n}" for n in range(25, 50)]
        + ["nor"]
    )
    episodes, missing, rest, pages = [], [], wanted, 0
    while rest:
        answer = bench.call(m.GetEpisodes(ids=rest))
        assert len(msgspec.json.encode(answer)) < limits.FRAME_MAX_BYTES
        assert len(answer.rest) < len(rest)
        episodes += [one.id for one in answer.episodes]
        missing += answer.missing
        rest, pages = answer.rest, pages + 1
    assert episodes == [one for one in wanted if one not in ("nope", "nor")]
    assert missing == ["nope", "nor"]
    assert pages == 4


@pytest.mark.parametrize("id_", ["", "a\0", "x" * 201, "\ud800"])
def test_an_id_that_can_be_nobody_s_is_a_usage_error(bench, id_: str):
    assert isinstance(bench.refusal(m.GetEpisodes(ids=["ok", id_])), UsageError)
    assert isinstance(bench.refusal(m.DeleteEpisodes(ids=["ok", id_])), UsageError)


# -- listing -----------------------------------------------------------------------------------------------------


def pages(bench, tenant: str, **fields: Any):
    cursor = None
    while True:
        answer = bench.call(m.ListEpisodes(cursor=cursor, **fields), tenant=tenant)
        assert len(msgspec.json.encode(answer)) < limits.FRAME_MAX_BYTES
        yield [one.id for one in answer.episodes]
        cursor = answer.cursor
        if cursor is None:
            return


@settings(fixture_ok, max_examples=25)
@given(
    sizes=st.lists(st.sampled_from([10, 10, 10, 300_000, 900_000]), max_size=14),
    gone=st.sets(st.integers(0, 13), max_size=4),
    asked=st.fixed_dictionaries(
        {"limit": st.integers(1, 6), "order": st.sampled_from(["newest", "oldest"]), "with_vectors": st.booleans()}
    ),
)
def test_the_pages_of_a_list_are_complete_and_without_repetition(bench, sizes, gone, asked):
    tenant = f"t{bench.clock.new_id()}"
    ids = [f"e{n}" for n in range(len(sizes))]
    for id_, size in zip(ids, sizes, strict=True):
        bench.keep(EpisodeDraft(id=id_, task="t", input="x" * size), tenant=tenant)
    dead = [ids[n] for n in gone if n < len(ids)]
    if dead:
        bench.call(m.DeleteEpisodes(ids=dead), tenant=tenant)
    expected = [id_ for id_ in ids if id_ not in dead]

    listed = [id_ for page in pages(bench, tenant, **asked) for id_ in page]
    assert listed == (expected if asked["order"] == "oldest" else expected[::-1])


def test_the_total_is_counted_on_request_and_with_the_filter(library):
    assert library.call(m.ListEpisodes(limit=1)).total is None
    assert library.call(m.ListEpisodes(limit=1, count=True)).total == 4
    assert library.call(m.ListEpisodes(count=True, filter=EpisodeFilter(agent_id="ann"))).total == 1
    assert library.call(m.ListEpisodes(count=True), tenant="unused").total == 0


def test_the_last_page_says_that_it_is_the_last(library):
    whole = library.call(m.ListEpisodes(limit=10))
    assert (len(whole.episodes), whole.cursor) == (4, None)
    first = library.call(m.ListEpisodes(limit=3))
    assert len(library.call(m.ListEpisodes(limit=3, cursor=first.cursor)).episodes) == 1
    assert library.call(m.ListEpisodes(limit=3, cursor=first.cursor)).cursor is None


def test_vectors_are_attached_on_request_and_null_where_there_are_none(bench):
    bench.keep("alpha")
    bench.hits("alpha")
    bench.keep("beta")
    first, second = bench.call(m.ListEpisodes(with_vectors=True)).episodes
    assert first.embedding is None
    assert len(second.embedding.vectors) == 1
    assert bench.call(m.ListEpisodes()).episodes[0].embedding is msgspec.UNSET


@pytest.mark.parametrize("fields", [{"limit": 0}, {"limit": -1}, {"cursor": -1}, {"cursor": 2**63}, {"cursor": 10**30}])
def test_a_list_of_nonsense_is_refused(library, fields: dict[str, int]):
    assert isinstance(library.refusal(m.ListEpisodes(**fields)), UsageError)


def test_a_limit_or_a_cursor_beyond_everything_is_no_harm(library):
    assert len(library.call(m.ListEpisodes(limit=10**30)).episodes) == 4
    assert len(library.call(m.ListEpisodes(cursor=2**63 - 1)).episodes) == 4
    assert library.call(m.ListEpisodes(cursor=2**63 - 1, order="oldest")).episodes == []
    assert library.call(m.ListEpisodes(cursor=0)).episodes == []


# -- deleting ----------------------------------------------------------------------------------------------------


def test_deleting_takes_rows_words_and_vectors_and_leaves_a_tombstone(library):
    library.hits("alpha")
    answer = library.call(m.DeleteEpisodes(ids=["alpha beta", "nope", "alpha beta"]))
    assert (answer.deleted, answer.missing, answer.more) == (["alpha beta"], ["nope"], False)
    stats = library.call(m.MemoryStats())
    assert (stats.episodes, stats.deleted) == (3, 1)
    assert library.store.episodes.count_words(library.key()) == 3
    assert library.call(m.GetEpisodes(ids=["alpha beta"])).missing == ["alpha beta"]
    again = library.call(m.DeleteEpisodes(ids=["alpha beta"]))
    assert (again.deleted, again.missing) == ([], ["alpha beta"])


def test_a_dry_run_says_what_would_go_and_touches_nothing(library):
    filter_ = EpisodeFilter(agent_id="ann")
    for request in (m.DeleteEpisodes(filter=filter_, dry_run=True), m.DeleteEpisodes(ids=["alpha beta"], dry_run=True)):
        before = library.store.changes.last_seq()
        assert library.call(request).deleted == ["alpha beta"]
        assert library.store.changes.last_seq() == before
    assert library.call(m.DeleteEpisodes(filter=filter_)).deleted == ["alpha beta"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"filter": EpisodeFilter()},
        {"ids": ["a"], "filter": EpisodeFilter(agent_id="a")},
        {"ids": ["a"] * 1001},
        {"filter": EpisodeFilter(where=[])},
    ],
)
def test_nothing_is_deleted_without_saying_what(library, fields: dict[str, Any]):
    assert isinstance(library.refusal(m.DeleteEpisodes(**fields)), UsageError)
    assert len(library.ids()) == 4


def test_deleting_by_a_filter_goes_on_until_there_is_no_more(bench):
    bench.keep(*(EpisodeDraft(id=f"e{n}", task="t", agent_id="many") for n in range(1000)))
    bench.keep(*(EpisodeDraft(id=f"f{n}", task="t", agent_id="many") for n in range(50)))
    bench.keep("stays")
    request = m.DeleteEpisodes(filter=EpisodeFilter(agent_id="many"))
    first, second, third = bench.call(request), bench.call(request), bench.call(request)
    assert (len(first.deleted), first.more, first.total) == (1000, True, 1050)
    assert (len(second.deleted), second.more, second.total) == (50, False, 50)
    assert (third.deleted, third.more, third.total) == ([], False, 0)
    assert bench.ids() == ["stays"]


def test_large_episodes_are_deleted_in_one_go(bench):
    for n in range(6):
        bench.keep(EpisodeDraft(id=f"e{n}", task="t", input=BIG))
    assert len(bench.call(m.DeleteEpisodes(filter=EpisodeFilter(task="t"))).deleted) == 6


# -- pulling -----------------------------------------------------------------------------------------------------


def test_a_pull_without_a_cursor_brings_the_newest_and_the_cursor_of_now(bench):
    bench.keep("a", "b", "c")
    answer = bench.call(m.PullEpisodes(limit=2))
    assert [one.id for one in answer.episodes] == ["c", "b"]
    assert (answer.cursor, answer.more, answer.deleted) == (3, False, [])
    bench.keep("d")
    bench.call(m.DeleteEpisodes(ids=["a"]))
    news = bench.call(m.PullEpisodes(cursor=answer.cursor))
    assert [one.id for one in news.episodes] == ["d"]
    assert news.deleted == ["a"]
    assert news.cursor == 5
    assert news.epoch == answer.epoch == bench.store.settings.epoch()


def test_a_pull_by_question_brings_what_is_near(library):
    answer = library.call(m.PullEpisodes(query="delta", limit=1, with_vectors=True))
    assert [one.id for one in answer.episodes] == ["delta epsilon"]
    assert answer.episodes[0].embedding.model == tag(library)
    assert answer.cursor == 4


def test_a_pull_of_nothing_brings_the_cursor_alone(library):
    for fields in ({}, {"query": "alpha"}):
        answer = library.call(m.PullEpisodes(limit=0, **fields))
        assert (answer.episodes, answer.cursor, answer.more) == ([], 4, False)


@pytest.mark.parametrize(
    "fields", [{"limit": -1}, {"cursor": -1}, {"cursor": 2**63}, {"query": " "}, {"query": "\ud800"}]
)
def test_a_pull_of_nonsense_is_refused(library, fields: dict[str, Any]):
    assert isinstance(library.refusal(m.PullEpisodes(**fields)), UsageError)


@pytest.mark.parametrize("limit", [7, 1000])
def test_thousands_of_deletions_are_pulled_each_once(bench, limit: int):
    ids = [f"e{n}" for n in range(2300)]
    for start in range(0, len(ids), 1000):
        bench.keep(*ids[start : start + 1000])
        bench.keep(f"stays{start}")
    for start in range(0, len(ids), 1000):
        bench.call(m.DeleteEpisodes(ids=ids[start : start + 1000]))
    deleted, episodes, cursor, more = [], [], 0, True
    while more:
        answer = bench.call(m.PullEpisodes(cursor=cursor, limit=limit))
        deleted += answer.deleted
        episodes += [one.id for one in answer.episodes]
        cursor, more = answer.cursor, answer.more
    assert deleted == ids
    assert episodes == ["stays0", "stays1000", "stays2000"]


def test_a_cursor_from_a_future_that_was_lost_brings_nothing_and_does_not_go_back(library):
    answer = library.call(m.PullEpisodes(cursor=1000))
    assert (answer.episodes, answer.cursor, answer.more) == ([], 1000, False)


def test_a_pull_by_an_unused_tenant_begins_at_now(library):
    answer = library.call(m.PullEpisodes(), tenant="unused")
    assert (answer.episodes, answer.cursor) == ([], 4)
    library.keep("first", tenant="unused")
    assert [one.id for one in library.call(m.PullEpisodes(cursor=answer.cursor), tenant="unused").episodes] == ["first"]


# -- figures -----------------------------------------------------------------------------------------------------


def test_stats_count_the_tenant_s_own_and_show_the_store_to_its_owner_alone(library):
    library.keep("x", tenant="other")
    owner = library.call(m.MemoryStats())
    assert (owner.episodes, owner.tenants, owner.pending_embeddings, owner.index.form) == (4, 2, 4, "none")
    assert owner.store_bytes > 0
    agent = library.call(m.MemoryStats(), agent="a", role="agent")
    assert (agent.episodes, agent.tenants, agent.store_bytes) == (4, 1, 0)
    assert library.call(m.MemoryStats(), tenant="unused").episodes == 0


# -- nothing crosses from one tenant to another ------------------------------------------------------------------


def test_another_tenant_s_ids_are_answered_like_ids_that_do_not_exist(bench):
    bench.keep(EpisodeDraft(id="theirs", task="secret", agent_id="ann", session_id="s", metadata={"k": 1}), tenant="b")
    bench.keep("mine", tenant="a")
    bench.hits("secret", tenant="b")
    for tenant in ("a", "unused"):
        for make in (
            lambda id_: m.GetEpisodes(ids=[id_]),
            lambda id_: m.DeleteEpisodes(ids=[id_], dry_run=True),
            lambda id_: m.DeleteEpisodes(ids=[id_]),
        ):
            theirs = msgspec.json.encode(bench.call(make("theirs"), tenant=tenant)).replace(b"theirs", b"absent")
            assert theirs == msgspec.json.encode(bench.call(make("absent"), tenant=tenant))
    assert bench.ids(tenant="b") == ["theirs"]


def test_no_verb_shows_or_touches_what_is_another_tenant_s(bench):
    bench.keep(EpisodeDraft(id="theirs", task="secret", agent_id="ann", session_id="s", metadata={"k": 1}), tenant="b")
    bench.keep("mine", tenant="a")
    bench.hits("secret", tenant="b")
    filters = [
        EpisodeFilter(agent_id="ann"),
        EpisodeFilter(session_id="s"),
        EpisodeFilter(task="secret"),
        EpisodeFilter(where=[("k", "=", 1)]),
    ]
    for mode in ("hybrid", "semantic", "keyword"):
        assert set(bench.hits("secret", tenant="a", mode=mode)) <= {"mine"}
        assert [bench.hits("secret", tenant="a", mode=mode, filter=one) for one in filters] == [[]] * 4
    for one in filters:
        assert bench.call(m.ListEpisodes(filter=one, count=True), tenant="a").total == 0
        assert bench.call(m.DeleteEpisodes(filter=one), tenant="a").deleted == []
    assert bench.ids(tenant="a") == ["mine"]
    assert [one.id for one in bench.call(m.PullEpisodes(cursor=0), tenant="a").episodes] == ["mine"]
    assert [one.id for one in bench.call(m.PullEpisodes(), tenant="a").episodes] == ["mine"]
    bench.call(m.DeleteEpisodes(ids=["theirs"]), tenant="b")
    assert bench.call(m.PullEpisodes(cursor=0), tenant="a").deleted == []
    assert bench.call(m.MemoryStats(), tenant="a").deleted == 0
    (result,) = bench.keep(EpisodeDraft(id="theirs", task="another"), tenant="a")
    assert (result.ok, result.deleted, result.existing) == (True, False, False)


def test_the_same_id_in_two_tenants_is_two_episodes(bench):
    for tenant in ("a", "b"):
        (result,) = bench.keep(EpisodeDraft(id="same", task=f"of {tenant}"), tenant=tenant)
        assert not result.existing
    assert got(bench, "same", tenant="a").task == "of a"
    bench.call(m.DeleteEpisodes(ids=["same"]), tenant="a")
    assert got(bench, "same", tenant="b").task == "of b"


def test_scores_are_not_moved_by_what_other_tenants_know(bench):
    def scores() -> list[tuple[str, float]]:
        return [
            (hit.id, hit.score)
            for hit in bench.call(m.QueryEpisodes(text="rare common", mode="keyword"), tenant="a").hits
        ]

    bench.keep("rare word", "common word", "common thing", tenant="a")
    before = scores()
    bench.keep(*(EpisodeDraft(id=f"o{n}", task="rare rare") for n in range(100)), tenant="b")
    assert scores() == before


def test_only_who_owns_the_home_may_name_another_tenant(bench):
    from fedctl.client.local import LocalCaller

    caller = LocalCaller(bench.context, Principal(tenant_id="a", role="owner"))
    caller.call(m.StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t")]), tenant_id="b")
    assert bench.ids(tenant="b") == ["e"]
    with pytest.raises(UsageError):
        caller.call(m.ListEpisodes(), tenant_id="../b")


# -- words: only what can be among the best is scored ------------------------------------------------------------

UNEVEN_QUESTIONS = ["w0 w90", "w0 w1 w2 w120", "w0 w1 w130 absent", "w5 w70 w140", "absent w0", "w199 w0", "w0"]


@pytest.fixture
def uneven(bench):
    """Return a home with 600 episodes whose words are as uneven as those of a language."""
    chance = random.Random(1)
    words = [f"w{int(200 * chance.random() ** 4)}" for _ in range(600 * 30)]
    bench.keep(
        *(
            EpisodeDraft(id=f"e{n}", task="t", input=" ".join(words[30 * n : 30 * n + chance.randint(5, 30)]))
            for n in range(600)
        )
    )
    return bench


def bm25_of(bench, question: str, k: int) -> dict[str, float]:
    hits = bench.call(m.QueryEpisodes(text=question, mode="keyword", k=k, explain=True)).hits
    return {hit.id: hit.match.keyword for hit in hits}


@pytest.mark.parametrize("k", [1, 10, 100, 300])
def test_the_best_are_those_that_scoring_everything_finds(uneven, k: int):
    episodes, key, limit = uneven.store.episodes, uneven.key(), max(100, k)
    left_out = 0
    for question in UNEVEN_QUESTIONS:
        terms = query_terms(question)
        rows, counts = episodes.rows_scored(key), sorted(filter(None, episodes.term_counts(key, terms)))
        left_out += deciding_terms(rows, counts, limit) < len(counts)
        everything = episodes.search_words(key, match_query(terms), limit)[:k]
        ids = episodes.ids(key, [seq for seq, _ in everything])
        found = bm25_of(uneven, question, k)
        assert list(found.values()) == pytest.approx([bm25 for _, bm25 in everything])
        assert found == pytest.approx({ids[seq]: bm25 for seq, bm25 in everything})
        assert max(found.values()) < bm25_bound(rows, counts)
    assert left_out or k == 300


def test_bm25_reckons_with_the_episodes_that_are_there(uneven):
    episodes, key = uneven.store.episodes, uneven.key()
    assert episodes.rows_scored(key) == 600
    uneven.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(250)]))
    assert episodes.rows_scored(key) == episodes.count(key) == 350
    assert episodes.rows_scored(key + 1) == 0


def test_words_whose_totals_are_gone_are_damaged_words(uneven):
    with uneven.store.write():
        uneven.store.database.run(f"DELETE FROM words_{uneven.key()}_data WHERE id = 1")
    error = uneven.another().refusal(m.QueryEpisodes(text="w0 w90", mode="keyword"))
    assert "damaged" in error.message


# -- the model on board ------------------------------------------------------------------------------------------


def test_with_the_real_model_a_question_finds_what_it_means_in_other_words(make_bench, real_embedder):
    bench = make_bench(embedder=real_embedder)
    bench.keep(
        "The unit tests fail because the database is locked",
        "Bake the bread for forty minutes",
        "Water the plants twice a week",
    )
    assert bench.hits("SQLite is busy and my checks break", mode="semantic")[0].startswith("The unit tests")
    assert bench.hits("how often should flowers get something to drink")[0].startswith("Water")


def test_with_the_real_model_the_tail_of_a_long_episode_is_found_by_its_meaning(make_bench, real_embedder):
    bench = make_bench(embedder=real_embedder)
    filler = "The committee discussed the budget for the coming year and adjourned. " * 60
    bench.keep(
        EpisodeDraft(id="long", task="minutes", output=filler + "A kitten slept on the warm windowsill."),
        EpisodeDraft(id="other", task="minutes", output=filler),
        EpisodeDraft(id="off", task="note", output="The train was late again this morning."),
    )
    hits = bench.call(m.QueryEpisodes(text="a young cat napping in the sun", mode="semantic")).hits
    assert hits[0].id == "long"
    assert len({hit.id for hit in hits}) == len(hits) == 3
