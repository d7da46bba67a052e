"""From two lists of scores to one order. Pure functions on plain numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEMANTIC_WEIGHT = 0.6
"""nDCG@10 is nearly flat between .5 and .6 on three public sets (CHANGELOG has the figures), and at .6 more is found in
the first 100. Chosen on those sets, none kept out."""
_K1 = 1.2
_IDF_MIN = 1e-6
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


def bm25_bound(rows: int, counts: Sequence[int]) -> float:
    """Return the BM25 score that no document reaches: one that consists of the asked terms, endlessly repeated.

    `rows` is the number of documents, `counts` how many of them have each term. SQLite's form: k1 = 1.2, and the
    inverse document frequency of a term in more than half of the documents is 1e-6.
    """
    # A count may be a moment newer than `rows`.
    idf = (math.log((max(rows, n) - n + 0.5) / (n + 0.5)) for n in counts)
    return (_K1 + 1) * sum(max(one, _IDF_MIN) for one in idf)


def fuse(
    semantic: Mapping[int, float],
    keyword: Mapping[int, float],
    rewards: Mapping[int, float | None],
    reward_weight: float,
    keyword_bound: float,
) -> list[Scored]:
    """Return the candidates of both halves, best first.

    Convex combination (Bruch, Gai, Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval"):
    `w * max(cos, 0) / max_cos + (1 - w) * bm25 / keyword_bound`, then the reward's factor. `semantic` holds
    cosines, `keyword` BM25 scores (larger is better); a half that is empty leaves the order to the other. Only
    what `rewards` knows is a candidate. Equal scores: the newer episode first.

    BM25 is measured by what it could have been at most (`bm25_bound`), not by the best that was found: where
    nothing has more than one of six words, the words say little, and dividing by the best made that little look
    like certainty. nDCG@10 on three public sets, by the best and by the bound, each at its w: see SEMANTIC_WEIGHT.
    """
    best_semantic = max((value for value in semantic.values() if value > 0), default=0.0)
    # Not below what was found: the counts behind the bound may be a moment older than the scores.
    best_keyword = max((keyword_bound, *keyword.values()))
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
