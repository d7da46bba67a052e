from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.recall.rank import fuse, reward_factor

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
    weighed = fuse(semantic, keyword, known(semantic, keyword, rewards), 0.0)
    neutral = fuse(semantic, keyword, dict.fromkeys(semantic | keyword), 0.7)
    assert [(one.key, one.score) for one in weighed] == [(one.key, one.score) for one in neutral]


@given(COSINES, SCORES, st.lists(REWARDS, min_size=1), st.floats(0, 1))
def test_the_order_is_by_score_and_then_by_age_and_every_candidate_is_in_it_once(semantic, keyword, rewards, weight):
    found = fuse(semantic, keyword, known(semantic, keyword, rewards), weight)
    assert sorted(one.key for one in found) == sorted(semantic.keys() | keyword.keys())
    assert found == sorted(found, key=lambda one: (-one.score, -one.key))
    assert all(math.isfinite(one.score) and one.score >= 0 for one in found)


@given(COSINES, SCORES, st.floats(0, 1))
def test_the_score_is_the_published_formula(semantic, keyword, weight):
    best_cosine = max([value for value in semantic.values() if value > 0], default=0)
    best_bm25 = max(keyword.values(), default=0)
    share = 0.5 if semantic and keyword else 1.0
    for one in fuse(semantic, keyword, dict.fromkeys(semantic | keyword, 1.0), weight):
        expected = 0.0
        if best_cosine:
            expected += share * max(semantic.get(one.key, 0), 0) / best_cosine
        if best_bm25:
            expected += share * keyword.get(one.key, 0) / best_bm25
        assert one.score == pytest.approx(expected * (1 + weight))
        assert (one.semantic, one.keyword) == (semantic.get(one.key), keyword.get(one.key))


def test_what_is_no_longer_there_is_no_candidate():
    assert [one.key for one in fuse({1: 0.9, 2: 0.5}, {3: 4.0}, {2: None, 3: None}, 0.1)] == [3, 2]


def test_nothing_found_is_nothing():
    assert fuse({}, {}, {}, 0.1) == []


def test_a_reward_moves_a_score_by_its_weight_at_most_and_an_unknown_one_not_at_all():
    assert [reward_factor(reward, 0.1) for reward in (None, 0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.9, 1.0, 1.1])
    assert reward_factor(0.0, 1.0) == 0.0
