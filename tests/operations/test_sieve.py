"""Filters before a search: the best that pass, whichever way they were come by."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedctl.messages import memory as m
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.operations import embedding, index, sieve
from fedctl.operations.sieve import Ranked, Sieve
from fedctl.recall import rank
from fedctl.recall.text import match_query, query_terms

COUNT = 500
WAYS = {"all that passes is listed at once": 0, "both": 250, "more and more is looked at": 10**9}
"""How many may be looked at before all that passes is listed."""


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sieve, "_LOOKED_AT_MAX", request.param)
    return request.param


@pytest.fixture
def filled(bench):
    """A home whose episodes differ in all that can be filtered by: sequences 1 to 500, then another tenant's."""
    chance = random.Random(7)
    words = [f"w{int(60 * chance.random() ** 3)}" for _ in range(COUNT * 12)]
    for tenant in ("default", "other"):
        bench.keep(
            *(
                EpisodeDraft(
                    id=f"e{n}", task=" ".join(words[12 * n : 12 * n + chance.randint(2, 12)]), agent_id=f"a{n % 5}",
                    session_id=f"s{n % 40}" if n % 3 else None, reward=None if n % 4 == 0 else (n % 11) / 10,
                    metadata={"n": n, "tier": {"name": "gold" if n % 50 == 0 else "tin"}, "odd": n % 2 == 1},
                    created_at=f"2026-01-{1 + n % 28:02d}T00:00:00Z",
                )
                for n in range(COUNT)
            ),
            tenant=tenant,
        )  # fmt: skip
        bench.hits("w1", tenant=tenant, fresh=True)
    return bench


@st.composite
def filters(draw) -> EpisodeFilter:
    where = st.one_of(
        st.tuples(st.just("n"), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(-1, COUNT)),
        st.tuples(st.just("tier.name"), st.sampled_from(["=", "!="]), st.sampled_from(["gold", "tin", "lead"])),
        st.tuples(st.just("odd"), st.sampled_from(["=", "!="]), st.sampled_from([True, False, 1])),
    )
    days = st.integers(1, 29).map(lambda day: f"2026-01-{day:02d}T00:00:00Z")
    some = {
        "agent_id": st.sampled_from(["a0", "a3", "nobody"]), "session_id": st.integers(0, 40).map(lambda n: f"s{n}"),
        "min_reward": st.sampled_from([0.0, 0.5, 1.0]), "success": st.booleans(), "since": days, "until": days,
        "where": st.lists(where, min_size=1, max_size=2),
    }  # fmt: skip
    names = draw(st.sets(st.sampled_from(sorted(some)), max_size=3))
    return EpisodeFilter(**{name: draw(some[name]) for name in sorted(names)})


class Ranking:
    """Sequences in an order, to be asked for as a search is; it counts what it is asked for."""

    def __init__(self, seqs: list[int], pool: int) -> None:
        self._all = {seq: float(-place) for place, seq in enumerate(seqs)}
        self._pool = pool
        self.limits: list[int] = []
        self.listed: list[int] = []

    def ranked(self, limit: int) -> Ranked:
        self.limits.append(limit)
        return dict(list(self._all.items())[:limit])

    def among(self, seqs: list[int]) -> Ranked:
        self.listed.append(len(seqs))
        return dict([one for one in self._all.items() if one[0] in set(seqs)][: self._pool])

    def best(self, through: Sieve) -> list[int]:
        return list(through.best(self.ranked, self.among, self._pool, len(self._all)))


NO_FILTER = EpisodeFilter()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    filter_=filters(), pool=st.sampled_from([1, 5, 30, 100]), seed=st.integers(0, 99), keep=st.sampled_from([0.1, 1])
)
def test_the_best_that_pass_are_the_first_of_the_ranking_that_do(  # noqa: PLR0913  what is drawn
    filled, way, filter_, pool, seed, keep
):
    chance = random.Random(seed)
    # Also what was deleted, and what is another tenant's, may stand in a ranking: it passes no sieve.
    gone = chance.randrange(COUNT)
    filled.call(m.DeleteEpisodes(ids=[f"e{gone}"]))
    seqs = [seq for seq in range(1, 2 * COUNT + 20) if chance.random() < keep]
    chance.shuffle(seqs)
    passing = set(filled.store.episodes.seqs(filled.key(), filter_))
    through = Sieve(filled.context, filled.key(), filter_)
    for _half in range(2):
        ranking = Ranking(seqs, pool)
        assert ranking.best(through) == [seq for seq in seqs if seq in passing][:pool]
        assert ranking.limits == sorted(set(ranking.limits))


def test_where_nothing_is_filtered_nothing_is_listed_however_much_is_dead(filled, way):
    filled.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(COUNT - 10)]))
    ranking = Ranking(list(range(1, COUNT + 1)), 10)
    assert ranking.best(Sieve(filled.context, filled.key(), NO_FILTER)) == list(range(COUNT - 9, COUNT + 1))
    assert ranking.listed == []


def test_what_hardly_narrows_is_looked_at_once(filled):
    ranking = Ranking(list(range(1, COUNT + 1)), 20)
    assert len(ranking.best(Sieve(filled.context, filled.key(), EpisodeFilter(where=[("odd", "=", True)])))) == 20
    assert (ranking.limits, ranking.listed) == ([80], [])


def test_what_narrows_much_is_listed_once_for_both_halves(filled):
    through = Sieve(filled.context, filled.key(), EpisodeFilter(where=[("tier.name", "=", "gold")]))
    first, second = Ranking(list(range(1, COUNT + 1)), 20), Ranking(list(range(COUNT, 0, -1)), 20)
    assert first.best(through) == second.best(through)[::-1] == list(range(1, COUNT, 50))
    assert (first.limits, first.listed) == ([80], [10])
    assert (second.limits, second.listed) == ([], [10])


def test_what_no_index_serves_is_looked_at_until_that_is_as_much_as_looking_at_all(filled):
    """Tasks have no index: to list what passes SQLite looks at all of the tenant."""
    filled.keep(*(EpisodeDraft(id=f"r{n}", task="rare") for n in range(8)))
    first = 2 * COUNT + 1
    order = [*range(1, 30), *range(first, first + 8), *range(30, COUNT + 1)]
    ranking = Ranking(order, 4)
    assert ranking.best(Sieve(filled.context, filled.key(), EpisodeFilter(task="rare"))) == list(
        range(first, first + 4)
    )
    assert (ranking.limits, ranking.listed) == ([16, 80], [])


# -- whole queries -----------------------------------------------------------------------------------------------


def brute_force(bench, request: m.QueryEpisodes) -> list[tuple[int, float]]:
    """Return (seq, score) of what a query must find: everything is scored, then filtered, then cut and fused."""
    episodes, key, pool = bench.store.episodes, bench.key(), max(rank.POOL, request.k)
    passing = set(episodes.seqs(key, request.filter))
    terms = query_terms(request.text)
    counts = episodes.term_counts(key, terms)
    rows = episodes.rows_scored(key)
    keyword: dict[int, float] = {}
    if request.mode != "semantic" and any(counts):
        scored = episodes.search_words(key, match_query([t for n, t in zip(counts, terms, strict=True) if n]), 10**6)
        keyword = dict([one for one in scored if one[0] in passing][:pool])
    semantic: dict[int, float] = {}
    if request.mode != "keyword":
        model = embedding.active_model(bench.context)
        everything = index.search(bench.context, key, model, request.text).nearest(10**6)
        semantic = dict([one for one in everything.items() if one[0] in passing][:pool])
        semantic |= {seq: everything[seq] for seq in keyword}
        semantic = in_context(bench, request.text, semantic)
    rewards = episodes.passing(key, [*(semantic | keyword)])
    fused = rank.fuse(semantic, keyword, rewards, request.reward_weight, rank.bm25_bound(rows, counts))
    return [(one.key, one.score) for one in fused[: request.k]]


def in_context(bench, text: str, cosines: dict[int, float]) -> dict[int, float]:
    """Return the cosines to the sums of vectors that the sums themselves have."""
    model = embedding.active_model(bench.context)
    stored = {seq: np.frombuffer(blob, dtype="<f2").astype(np.float64)
              for _, seq, blob in bench.store.embeddings.after(bench.key(), model.key, 0, 10**6)}  # fmt: skip
    question = bench.embedder.embed([text])[0].astype(np.float64)
    listed = bench.store.episodes.page((bench.key(), ""), NO_FILTER, cursor=None, limit=1000, newest_first=False)
    session = {one.seq: one.session_id for one in listed}
    found = {}
    for seq, cosine in cosines.items():
        earlier = [one for one in session if one < seq and session[one] is not None and session[one] == session[seq]]
        if not earlier:
            found[seq] = cosine
            continue
        own, before = stored[seq], stored[max(earlier)]
        together = own + max(own @ before, 0) * before
        found[seq] = float(together @ question / np.linalg.norm(together))
    return found


def assert_brute_force_finds_the_same(bench, request: m.QueryEpisodes) -> None:
    expected = brute_force(bench, request)
    hits = bench.call(request).hits
    seqs = [hit.episode.seq for hit in hits]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=2e-3)
    # What is as good but for the last digits may stand in another order, or be the one that was left out.
    score_of = dict(expected)
    assert len(set(seqs)) == len(seqs) == len(expected)
    last = expected[-1][1] if expected else 0
    for hit in hits:
        assert hit.score == pytest.approx(score_of.get(hit.episode.seq, last), abs=2e-3)


QUESTIONS = ("w0 w1", "w3 w40 w55", "w0", "w17 w2 absent", "nothing known", "w59 w58 w57 w56")


MODES = ("hybrid", "semantic", "keyword")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(
    filter_=filters(), text=st.sampled_from(QUESTIONS), mode=st.sampled_from(MODES),
    k=st.sampled_from([1, 10, 150]), dead=st.integers(0, COUNT - 1),
)  # fmt: skip
def test_a_query_finds_what_scoring_everything_finds(  # noqa: PLR0913  what is drawn
    filled, way, filter_, text: str, mode: Any, k: int, dead: int
):
    filled.call(m.DeleteEpisodes(ids=[f"e{dead}"]))
    request = m.QueryEpisodes(text=text, mode=mode, filter=filter_, k=k)
    assert_brute_force_finds_the_same(filled, request)


def test_what_died_in_an_index_file_takes_no_place(filled, way):
    index.compact(filled.context, filled.key(), rewrite=True)
    filled.call(m.DeleteEpisodes(filter=EpisodeFilter(where=[("n", "<", 350)])))
    for filter_ in (NO_FILTER, EpisodeFilter(agent_id="a2"), EpisodeFilter(where=[("odd", "=", True)])):
        for text in QUESTIONS:
            for mode in MODES:
                request = m.QueryEpisodes(text=text, mode=mode, filter=filter_, k=200)
                assert_brute_force_finds_the_same(filled, request)
