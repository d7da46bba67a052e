"""From two lists of scores to one order. Pure functions on plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SEMANTIC_WEIGHT = 0.5
POOL = 100
"""How many of each half's best are fused."""


class Scored(NamedTuple):
    """A candidate with its fused score and the parts of it."""

    key: int
    score: float
    semantic: float | None
    keyword: float | None
    reward_factor: float


def reward_factor(reward: float | None, weight: float) -> float:
    """Return the bounded factor `1 + weight * (2 * reward - 1)`; an unknown reward is neutral.

    Measured: a factor keeps the order of relevance, a sum of similarity and reward collapses it (.97 against .05).
    """
    return 1.0 if reward is None else 1.0 + weight * (2.0 * reward - 1.0)


def fuse(
    semantic: Mapping[int, float],
    keyword: Mapping[int, float],
    rewards: Mapping[int, float | None],
    reward_weight: float,
) -> list[Scored]:
    """Return the candidates of both halves, best first.

    Convex combination of scores normalised by their maximum (Bruch, Gai, Ingber 2023, "An Analysis of Fusion
    Functions for Hybrid Retrieval"): `0.5 * max(cos, 0) / max_cos + 0.5 * bm25 / max_bm25`, then the reward's
    factor. `semantic` holds cosines, `keyword` BM25 scores (larger is better); a half that is empty leaves the
    order to the other. Only what `rewards` knows is a candidate. Equal scores: the newer episode first.
    """
    best_semantic = max((value for value in semantic.values() if value > 0), default=0.0)
    best_keyword = max((value for value in keyword.values() if value > 0), default=0.0)
    both = bool(semantic) and bool(keyword)
    semantic_share = SEMANTIC_WEIGHT if both else 1.0
    keyword_share = 1 - SEMANTIC_WEIGHT if both else 1.0
    scored = []
    for key, reward in rewards.items():
        cosine, bm25 = semantic.get(key), keyword.get(key)
        factor = reward_factor(reward, reward_weight)
        relevance = 0.0
        if cosine is not None and cosine > 0:
            relevance += semantic_share * (cosine / best_semantic)
        if bm25 is not None and bm25 > 0:
            relevance += keyword_share * (bm25 / best_keyword)
        scored.append(Scored(key, relevance * factor, cosine, bm25, factor))
    scored.sort(key=lambda one: (-one.score, -one.key))
    return scored
