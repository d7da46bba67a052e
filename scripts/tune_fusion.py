#!/usr/bin/env python3
"""Choose the weight of meaning in a fused score by cross-validation, and say how sure the choice is.

    python scripts/tune_fusion.py FOLDER --home HOME [--hold-out SET]

The sets are those of bench_retrieval.py, each as it is and joined into long texts; scores come from the product's
own parts, the order from its own `fuse`. A weight is chosen for the highest mean nDCG@10, in which each set counts
once. Every collection in turn is measured by the weight chosen on the others; the one that is held out takes no part
in any choice and is measured once, at the end. BM25 is divided by its bound, and beside that by the best that was
found. Intervals are 95 % bootstraps over queries: of the difference to the better half, and of the chosen weight.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import bench_retrieval as bench

from fedctl import bootstrap, config
from fedctl.model.episode import EpisodeFilter
from fedctl.operations import index
from fedctl.operations.embedding import active_model
from fedctl.recall import rank, text

WEIGHTS = [round(0.3 + 0.05 * step, 2) for step in range(11)]
FORMS = ("bound", "best")
RESAMPLES = 2000


class Asked(NamedTuple):
    """What both halves say to a query: seq -> cosine, seq -> BM25, BM25's bound; seq -> grade of what is relevant."""

    semantic: dict[int, float]
    keyword: dict[int, float]
    bound: float
    relevant: dict[int, float]

    def ndcg(self, weight: float, bound: float) -> float:
        """Return nDCG@10 of the order at a weight of meaning; `bound` is what BM25 is divided by, or the best if 0."""
        known = dict.fromkeys(self.semantic | self.keyword)
        order = rank.fuse(self.semantic, self.keyword, known, 0.0, bound, semantic_weight=weight)
        return bench.measure([one.key for one in order], self.relevant)["ndcg@10"]

    def half(self, scores: dict[int, float]) -> float:
        """Return nDCG@10 of one half alone."""
        return bench.measure(sorted(scores, key=lambda key: -scores[key]), self.relevant)["ndcg@10"]


def ask(context, tenant: str, query: dict) -> Asked:
    """Ask both halves for their pools, and meaning for the cosines of what only the words found."""
    key, episodes = context.store.tenants.key(tenant), context.store.episodes
    search = index.search(context, key, active_model(context), query["text"])
    terms = text.query_terms(query["text"])
    with context.store.read():
        keyword = dict(episodes.search_words(key, text.match_query(terms) or "", EpisodeFilter(), rank.POOL))
        bound = rank.bm25_bound(episodes.rows_scored(key), episodes.term_counts(key, terms))
        semantic = search.nearest(rank.POOL)
        semantic |= index.cosines(context, search, [seq for seq in keyword if seq not in semantic])
        given = {one: grade for one, grade in query["relevant"].items() if grade > 0}
        seqs = {found.id: found.seq for found in episodes.by_ids((key, tenant), list(given)).values()}
    # What is relevant and not stored still counts against the ideal, under a key that nothing has.
    relevant = {seqs.get(one, -place): grade for place, (one, grade) in enumerate(given.items(), start=1)}
    return Asked(semantic, keyword, bound, relevant)


def table(asked: list[Asked]) -> dict[tuple[str, float], list[float]]:
    """Return nDCG@10 of each query, for each form and weight."""
    return {
        (form, weight): [one.ndcg(weight, one.bound if form == "bound" else 0.0) for one in asked]
        for form in FORMS
        for weight in WEIGHTS
    }


def choose(tables: list[dict[tuple[str, float], list[float]]], form: str) -> float:
    """Return the weight with the highest mean over sets of their means."""
    return max(WEIGHTS, key=lambda weight: sum(mean(one[form, weight]) for one in tables))


def spread(tables: list[dict[tuple[str, float], list[float]]], form: str) -> tuple[float, float]:
    """Return the 95 % interval of the chosen weight, the queries of each set drawn anew."""
    chance = random.Random(11)
    chosen = []
    for _ in range(RESAMPLES):
        drawn = []
        for one in tables:
            places = chance.choices(range(len(one[form, WEIGHTS[0]])), k=len(one[form, WEIGHTS[0]]))
            drawn.append({(form, w): [one[form, w][place] for place in places] for w in WEIGHTS})
        chosen.append(choose(drawn, form))
    chosen.sort()
    return chosen[int(0.025 * RESAMPLES)], chosen[int(0.975 * RESAMPLES) - 1]


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def report(name: str, asked: list[Asked], measured: dict[tuple[str, float], list[float]], form: str, w: float) -> None:
    """Print what a weight that was chosen elsewhere does on a set."""
    halves = {
        "words": [one.half(one.keyword) for one in asked],
        # Meaning alone knows only its own pool; the cosines that were added are below it.
        "meaning": [one.half(one.semantic) for one in asked],
    }
    better = max(halves, key=lambda half: mean(halves[half]))
    low, high = bench.interval([a - b for a, b in zip(measured[form, w], halves[better], strict=True)])
    print(
        f"  {name:20} by the {form:5} at {w:.2f}: {mean(measured[form, w]):.3f}"
        f"  (words {mean(halves['words']):.3f}, meaning {mean(halves['meaning']):.3f};"
        f" to {better} {mean(measured[form, w]) - mean(halves[better]):+.3f}, {low:+.3f} to {high:+.3f})"
    )


def main() -> None:
    """Ask everything once; choose and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder that holds the sets")
    parser.add_argument("--home", type=Path, required=True, help="keep the store here, and embed only once")
    parser.add_argument("--hold-out", default="dbpedia_mini", help="the set that takes no part in any choice")
    given = parser.parse_args()
    settings = config.load({"home": str(given.home), "hub": "off"}, {})
    context, caller = bootstrap.open_context(settings, create=True), bootstrap.open_caller(settings, writes=True)
    asked: dict[str, dict[str, list[Asked]]] = {}
    for folder in sorted(path.parent for path in given.folder.glob("*/queries.jsonl")):
        episodes, queries = bench.load_set(folder)
        forms = {
            folder.name: (episodes, queries),
            f"{folder.name}-long": bench.make_long(folder.name, episodes, queries),
        }
        asked[folder.name] = {}
        for name, (kept, questions) in forms.items():
            bench.fill(caller, context, name, kept)
            asked[folder.name][name] = [
                ask(context, name, one) for one in questions if any(grade > 0 for grade in one["relevant"].values())
            ]
    caller.close()
    context.close()
    tables = {collection: {name: table(one) for name, one in sets.items()} for collection, sets in asked.items()}
    for sets in tables.values():
        for name, measured in sets.items():
            for form in FORMS:
                print(f"{name:20} {form:5} " + " ".join(f"{w:.2f}:{mean(measured[form, w]):.4f}" for w in WEIGHTS))
    for form in FORMS:
        print(f"\nBM25 by the {form}")
        tuned = [collection for collection in tables if collection != given.hold_out]
        for collection in [*tuned, given.hold_out]:
            others = [one for other in tuned if other != collection for one in tables[other].values()]
            weight, (low, high) = choose(others, form), spread(others, form)
            chosen_on = ", ".join(other for other in tuned if other != collection)
            print(f" chosen on {chosen_on}: {weight:.2f}, 95 % interval {low:.2f} to {high:.2f}")
            for name, one in tables[collection].items():
                report(name, asked[collection][name], one, form, weight)


if __name__ == "__main__":
    main()
