"""From two lists of scores to one order. Pure functions on plain numbers."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEMANTIC_WEIGHT = 0.6
"""`scripts/tune_fusion.py` on two public sets, each as it is and in long texts: nDCG@10 is flat from .5 to .7 (means
.578, .575, .578), 95 % interval of the best weight .45 to .75. Within it .6 finds most in the first 100, also on the
set that was kept out (.952; words .859, meaning .948). That one's nDCG@10 is .509 (words .373, meaning .525), in long
texts .435 (.395, .399)."""
_K1 = 1.2
_IDF_MIN = 1e-6
_UNSAID = 2 / 3
"""Of 143 questions to 100,000 documents all were answered at once at this share, 7 twice at 1, for the same CPU."""
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
    return (_K1 + 1) * sum(_idf(rows, n) for n in counts)


def _idf(rows: int, n: int) -> float:
    # A count may be a moment newer than `rows`.
    return max(math.log((max(rows, n) - n + 0.5) / (n + 0.5)), _IDF_MIN)


def deciding_terms(rows: int, counts: Sequence[int], limit: int) -> int:
    """Return how many of the terms, rarest first, will do to find the `limit` documents of the highest BM25.

    `rows` as in `bm25_bound`; `counts` ascend. The terms that are left out say, all of them together, two thirds of
    what the one says with which `limit` documents are reached: MaxScore (Turtle, Flood 1995, "Query Evaluation:
    Strategies and Optimizations"), with a guess at the lowest score that counts. The guess was right if that score
    is not below the `bm25_bound` of what was left out. All terms, where that would not spare half of the work.
    """
    reached = list(accumulate(counts))
    needed = next((place for place, found in enumerate(reached, start=1) if found >= limit), len(counts))
    most = _UNSAID * _idf(rows, counts[needed - 1]) if counts else 0.0
    kept, unsaid = len(counts), 0.0
    while kept > needed and (unsaid := unsaid + _idf(rows, counts[kept - 1])) <= most:
        kept -= 1
    return kept if counts and 2 * reached[kept - 1] <= reached[-1] else len(counts)


def fuse(  # noqa: PLR0913  two lists of scores, and what says how they weigh
    semantic: Mapping[int, float],
    keyword: Mapping[int, float],
    rewards: Mapping[int, float | None],
    reward_weight: float,
    keyword_bound: float,
    *,
    semantic_weight: float = SEMANTIC_WEIGHT,
) -> list[Scored]:
    """Return the candidates of both halves, best first.

    Convex combination (Bruch, Gai, Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval"):
    `w * max(cos, 0) / max_cos + (1 - w) * bm25 / keyword_bound`, then the reward's factor. `semantic` holds
    cosines, `keyword` BM25 scores (larger is better); a half that is empty leaves the order to the other. Only
    what `rewards` knows is a candidate. Equal scores: the newer episode first.

    What is not embedded yet has no cosine: its words speak for both halves until it has, or the one episode that has
    the word, stored a moment ago, would come after all that has vectors.

    BM25 is measured by what it could have been at most (`bm25_bound`), not by the best that was found: where
    nothing has more than one of six words, the words say little, and dividing by the best made that little look
    like certainty. At one weight that is better on all of six sets (nDCG@10 +.003 to +.021 at .5); each at the
    weight chosen for it (.5, .8) the two are equal (mean .544), but by the best the weight is at the grid's end.
    """
    best_semantic = max((value for value in semantic.values() if value > 0), default=0.0)
    # Not below what was found: the counts behind the bound may be a moment older than the scores.
    best_keyword = max((keyword_bound, *keyword.values()))
    both = bool(semantic) and bool(keyword)
    semantic_share = semantic_weight if both else 1.0
    keyword_share = 1 - semantic_weight if both else 1.0
    scored = []
    for key, reward in rewards.items():
        cosine, bm25 = semantic.get(key), keyword.get(key)
        factor = reward_factor(reward, reward_weight)
        relevance = 0.0
        if cosine is not None and cosine > 0:
            relevance += semantic_share * (cosine / best_semantic)
        if bm25 is not None and bm25 > 0:
            relevance += (1.0 if cosine is None else keyword_share) * (bm25 / best_keyword)
        scored.append(Scored(key, relevance * factor, cosine, bm25, factor))
    scored.sort(key=lambda one: (-one.score, -one.key))
    return scored
