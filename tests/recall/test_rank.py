from __future__ import annotations

import math

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.recall.rank import SEMANTIC_WEIGHT, bm25_bound, deciding_terms, fuse, reward_factor

BOUND = 20.0

KEYS = st.integers(1, 30)
COSINES = st.dictionaries(KEYS, st.floats(-1, 1), max_size=12)
SCORES = st.dictionaries(KEYS, st.floats(0.001, 30), max_size=12)
REWARDS = st.sampled_from([None, 0.0, 0.3, 0.5, 0.7, 1.0])


def known(
    semantic: dict[int, float], keyword: dict[int, float], rewards: list[float | None]
) -> dict[int, float | None]:
    keys = sorted(semantic.keys() | keyword.keys())
    return {key: rewards[place % len(rewards)] for place, key in enumerate(keys)}


@given(COSINES, SCORES, st.lists(REWARDS, min_size=1))
def test_with_weight_0_rewards_change_neither_order_nor_score(semantic, keyword, rewards):
    weighed = fuse(semantic, keyword, known(semantic, keyword, rewards), 0.0, BOUND)
    neutral = fuse(semantic, keyword, dict.fromkeys(semantic | keyword), 0.7, BOUND)
    assert [(one.key, one.score) for one in weighed] == [(one.key, one.score) for one in neutral]


@given(COSINES, SCORES, st.lists(REWARDS, min_size=1), st.floats(0, 1))
def test_the_order_is_by_score_and_then_by_age_and_every_candidate_is_in_it_once(semantic, keyword, rewards, weight):
    found = fuse(semantic, keyword, known(semantic, keyword, rewards), weight, BOUND)
    assert sorted(one.key for one in found) == sorted(semantic.keys() | keyword.keys())
    assert found == sorted(found, key=lambda one: (-one.score, -one.key))
    assert all(math.isfinite(one.score) and one.score >= 0 for one in found)


@given(COSINES, SCORES, st.floats(0, 1))
def test_the_score_is_the_published_formula(semantic, keyword, weight):
    best_cosine = max([value for value in semantic.values() if value > 0], default=0)
    best_bm25 = max([BOUND, *keyword.values()])
    both = bool(semantic) and bool(keyword)
    for one in fuse(semantic, keyword, dict.fromkeys(semantic | keyword, 1.0), weight, BOUND):
        expected = 0.0
        if best_cosine:
            expected += (SEMANTIC_WEIGHT if both else 1) * max(semantic.get(one.key, 0), 0) / best_cosine
        words_speak_for_both = not both or one.key not in semantic
        expected += (1 if words_speak_for_both else 1 - SEMANTIC_WEIGHT) * keyword.get(one.key, 0) / best_bm25
        assert one.score == pytest.approx(expected * (1 + weight))
        assert (one.semantic, one.keyword) == (semantic.get(one.key), keyword.get(one.key))


def test_the_only_one_that_has_the_word_comes_first_also_before_it_is_embedded():
    found = fuse({1: 0.4, 2: 0.39}, {3: 6.0}, dict.fromkeys((1, 2, 3)), 0.1, 6.5)
    assert found[0].key == 3
    assert fuse({1: 0.4}, {1: 0.5, 3: 6.0}, dict.fromkeys((1, 3)), 0.1, 6.5)[0].key == 3


def test_what_is_no_longer_there_is_no_candidate():
    assert [one.key for one in fuse({1: 0.9, 2: 0.5}, {3: 4.0}, {2: None, 3: None}, 0.1, 4.0)] == [3, 2]


def test_nothing_found_is_nothing():
    assert fuse({}, {}, {}, 0.1, 0.0) == []


def test_a_reward_moves_a_score_by_its_weight_at_most_and_an_unknown_one_not_at_all():
    assert [reward_factor(reward, 0.1) for reward in (None, 0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.9, 1.0, 1.1])
    assert reward_factor(0.0, 1.0) == 0.0


def test_no_document_reaches_the_bound_of_its_words():
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE VIRTUAL TABLE w USING fts5 (t)")
    texts = ["alpha " * n + "beta " * (n % 3) + "gamma" for n in range(1, 40)] + ["delta"] * 60
    connection.executemany("INSERT INTO w VALUES (?)", [(text,) for text in texts])
    terms = ["alpha", "beta", "delta", "absent"]
    counts = [connection.execute("SELECT count(*) FROM w WHERE w MATCH ?", (term,)).fetchall()[0][0] for term in terms]
    bound = bm25_bound(len(texts), counts)
    scores = [row[0] for row in connection.execute("SELECT -rank FROM w WHERE w MATCH ?", (" OR ".join(terms),))]
    assert 0 < max(scores) < bound


@given(st.lists(st.integers(1, 1000), max_size=12).map(sorted), st.integers(1, 200))
def test_the_deciding_terms_are_in_enough_documents_and_outweigh_the_others(counts, limit):
    kept = deciding_terms(1000, counts, limit)
    assert kept == len(counts) or sum(counts[:kept]) >= limit
    assert kept == len(counts) or bm25_bound(1000, counts[kept:]) <= bm25_bound(1000, counts[:1])
    assert kept == len(counts) or sum(counts[:kept]) <= sum(counts) / 2


def test_a_word_that_most_documents_have_decides_nothing_where_another_is_asked_for():
    assert deciding_terms(100_000, [3_000, 60_000], 100) == 1
    assert deciding_terms(100_000, [30, 60_000], 100) == 2, "thirty do not make a hundred"
    assert deciding_terms(100_000, [3_000, 4_000], 100) == 2, "either says as much as the other"
    assert deciding_terms(100_000, [60_000], 100) == 1
    assert deciding_terms(0, [], 100) == 0


def test_the_more_of_the_asked_words_a_text_has_the_more_they_say():
    """One of six words is no certainty, though it is the best that words can do."""
    few = fuse({1: 0.5, 2: 0.45}, {2: 3.0}, {1: None, 2: None}, 0.0, bm25_bound(1000, [5] * 6))
    many = fuse({1: 0.5, 2: 0.45}, {2: 60.0}, {1: None, 2: None}, 0.0, bm25_bound(1000, [5] * 6))
    assert [one.key for one in few] == [1, 2]
    assert [one.key for one in many] == [2, 1]
