"""Making anew what is derived, step by step: vectors, index files, words."""

from __future__ import annotations

import pytest

from fedctl.errors import Failure
from fedctl.messages import memory as m
from fedctl.messages.store import CheckStore
from fedctl.model.episode import EpisodeDraft
from fedctl.operations import index


def reindex(bench, **who: str) -> m.ReindexAnswer:
    """Do it to the end; return the last step's answer."""
    bench.call(m.Reindex(begin=True), **who)
    while (answer := bench.call(m.Reindex(), **who)).remaining:
        pass
    return answer


# -- vectors -----------------------------------------------------------------------------------------------------


def test_another_model_s_store_is_searched_by_words_and_says_so_until_it_is_reindexed(bench, make_embedder):
    bench.keep("alpha one", "beta two", tenant="a")
    bench.keep("alpha three", tenant="b")
    bench.hits("alpha", tenant="a")
    bench.hits("alpha", tenant="b")
    other = bench.another(embedder=make_embedder("better", 16))
    answer = other.call(m.QueryEpisodes(text="alpha"), tenant="a")
    assert [hit.id for hit in answer.hits] == ["alpha one"]
    assert "reindex" in answer.notes[0]
    other.keep("alpha four", tenant="a")
    assert other.call(m.QueryEpisodes(text="alpha"), tenant="a").pending == 1
    begun = other.call(m.Reindex(begin=True), tenant="a")
    assert (begun.remaining, begun.model) == (4, "better@0/t3")
    done = other.call(m.Reindex(), tenant="a")
    assert (done.embedded, done.remaining) == (4, 0)
    for tenant, count in (("a", 3), ("b", 1)):
        answer = other.call(m.QueryEpisodes(text="alpha", mode="semantic"), tenant=tenant)
        assert (len(answer.hits), answer.notes) == (count, [])
    old = bench.store.embeddings.model("fake@0/t3")
    assert bench.store.embeddings.count(bench.key("a"), old.key) == 0
    assert "reindex" in bench.call(m.QueryEpisodes(text="alpha"), tenant="a").notes[0]


def test_a_reindex_by_a_tenant_that_has_nothing_switches_the_store_all_the_same(bench, make_embedder):
    bench.keep("alpha", tenant="a")
    bench.hits("alpha", tenant="a")
    other = bench.another(embedder=make_embedder("better", 16))
    assert other.call(m.Reindex(begin=True), tenant="unused").remaining == 1
    assert other.call(m.Reindex(), tenant="unused").embedded == 1
    assert other.call(m.QueryEpisodes(text="alpha"), tenant="a").notes == []


def test_a_reindex_in_small_steps_comes_to_its_end(make_bench, make_embedder, clock):
    bench = make_bench(embedder=make_embedder(clock=clock, cost_ms=10), clock=clock)
    bench.keep(*(f"e{n}" for n in range(300)))
    left = bench.call(m.Reindex(begin=True)).remaining
    steps = []
    while left:
        answer = bench.call(m.Reindex(budget_ms=1000))
        steps.append(answer.embedded)
        left = answer.remaining
    assert steps == [128, 128, 44]
    assert bench.call(m.MemoryStats()).index.vectors == 300


@pytest.mark.parametrize("budget_ms", [0, -5, 10**400], ids=["none", "less", "all the time there is"])
def test_any_budget_makes_some_headway(bench, budget_ms: int):
    bench.keep("alpha")
    assert bench.call(m.Reindex(budget_ms=budget_ms)).remaining == 0


def test_what_another_tenant_waits_for_is_embedded_too(bench):
    bench.keep("alpha", tenant="a")
    bench.keep("beta", "gamma", tenant="b")
    assert bench.call(m.Reindex(begin=True), tenant="a").remaining == 1
    assert bench.call(m.Reindex(), tenant="a").embedded == 3
    assert bench.call(m.MemoryStats(), tenant="b").pending_embeddings == 0


def test_what_has_its_vectors_is_not_embedded_again(bench):
    bench.keep("alpha", "beta")
    bench.hits("alpha")
    before = len(bench.embedder.texts)
    assert (reindex(bench).embedded, len(bench.embedder.texts)) == (0, before)


def test_a_reindex_of_an_empty_store_comes_to_its_end(bench):
    assert reindex(bench).remaining == 0
    assert bench.store.integrity() == []


# -- index files -------------------------------------------------------------------------------------------------


def test_index_files_are_written_anew_without_their_dead_and_what_nobody_names_is_swept(bench):
    bench.keep(*(EpisodeDraft(id=f"e{n}", task=f"word{n}") for n in range(50)))
    reindex(bench)
    assert bench.call(m.MemoryStats()).index.vectors == 50
    before = set((bench.home / "index" / str(bench.key())).iterdir())
    (bench.home / "index" / str(bench.key()) / "1-left-over.f16").write_bytes(b"x")
    bench.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(5)]))
    reindex(bench)
    after = set((bench.home / "index" / str(bench.key())).iterdir())
    assert len(after) == 2
    assert not after & before
    assert bench.call(m.MemoryStats()).index.vectors == 45
    assert index.verify_all(bench.context, bench.key(), always=True) is None
    assert bench.hits("word7", mode="semantic", k=1) == ["e7"]


# -- words -------------------------------------------------------------------------------------------------------


def spoil_words(bench) -> None:
    with bench.store.write():
        bench.store.database.run(f"UPDATE words_{bench.key()}_data SET block = zeroblob(10) WHERE id > 10")


def test_damaged_words_leave_the_search_by_meaning_and_are_mended(bench):
    bench.keep("alpha beta", "alpha gamma", "delta epsilon", EpisodeDraft(id="zeta", task="t", input="alpha"))
    bench.hits("alpha")
    before = bench.hits("alpha", mode="keyword")
    spoil_words(bench)
    answer = bench.call(m.QueryEpisodes(text="alpha"))
    assert len(answer.hits) == 4
    assert "reindex" in answer.notes[0]
    error = bench.refusal(m.QueryEpisodes(text="alpha", mode="keyword"))
    assert isinstance(error, Failure)
    assert error.exit == 1
    reindex(bench)
    assert bench.hits("alpha", mode="keyword") == before
    assert bench.call(m.QueryEpisodes(text="alpha")).notes == []
    bench.keep("alpha again")
    assert "alpha again" in bench.hits("alpha", mode="keyword")


@pytest.mark.parametrize("spoil", ["DELETE FROM {words} WHERE rowid = 1", "DROP TABLE {words}"])
def test_words_that_are_missing_are_there_again_and_those_of_others_untouched(bench, spoil: str):
    for tenant in ("default", "other"):
        bench.keep("alpha beta", "gamma", EpisodeDraft(id="all", task="t", input="one", output=["two"], critique="six"),
                   tenant=tenant)  # fmt: skip
    before = {one: bench.hits(one, mode="keyword") for one in ("alpha", "gamma", "one", "two", "six")}
    with bench.store.write():
        bench.store.database.run(spoil.format(words=f"words_{bench.key()}"))
    late = bench.another()
    reindex(late)
    assert {one: late.hits(one, mode="keyword") for one in before} == before
    assert late.hits("alpha", mode="keyword", tenant="other") == ["alpha beta"]
    assert late.call(CheckStore(full=True)).findings == []


def test_words_of_more_episodes_than_are_read_at_a_time_are_built_anew(bench):
    for start in range(0, 1200, 600):
        bench.keep(*(f"word{n} common" for n in range(start, start + 600)))
    spoil_words(bench)
    reindex(bench)
    assert len(bench.hits("common", mode="keyword", k=1000)) == 1000
    assert bench.store.episodes.count_words(bench.key()) == 1200
    assert bench.hits("word1199", mode="keyword") == ["word1199 common"]
