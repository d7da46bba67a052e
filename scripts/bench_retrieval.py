#!/usr/bin/env python3
"""How often the right episode comes back: words only, meaning only, reciprocal rank fusion, and fedctl's default.

Reads JSONL sets (`FOLDER/SET/episodes.jsonl`, `queries.jsonl`: {"id", "text", "tenant_id", "relevant": {id: grade}}),
keeps them in a store like any other memory and asks it like any user. A set "long" is made by joining five documents
of each other set into one, so that what is looked for stands anywhere in a text.

nDCG with linear gain (Järvelin and Kekäläinen 2002), recall, reciprocal rank of the first relevant answer within 10;
the interval is the 95 % bootstrap over queries, 2,000 resamples, of the difference to the better half.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from pathlib import Path

import msgspec

from fedctl import bootstrap, config
from fedctl.messages import memory as m
from fedctl.model.episode import EpisodeDraft
from fedctl.operations import embedding, index

METHODS = ("words", "meaning", "rrf60", "default")
MODES = {"words": "keyword", "meaning": "semantic", "default": "hybrid"}
POOL = 100
RESAMPLES = 2000
JOINED = 5


def lines(path: Path) -> list[dict]:
    """Return the records of a JSONL file; lines end in the byte \\n and nothing else."""
    return [msgspec.json.decode(line) for line in path.read_bytes().split(b"\n") if line.strip()]


def load_set(folder: Path) -> tuple[list[dict], list[dict]]:
    """Return (episodes, queries) of a set."""
    return lines(folder / "episodes.jsonl"), lines(folder / "queries.jsonl")


def make_long(name: str, episodes: list[dict], queries: list[dict]) -> tuple[list[dict], list[dict]]:
    """Join the documents five by five, in an order of chance; a joined one is as relevant as its most relevant part."""
    order = list(range(len(episodes)))
    random.Random(7).shuffle(order)
    place: dict[str, str] = {}
    joined = []
    for start in range(0, len(order), JOINED):
        parts = [episodes[i] for i in order[start : start + JOINED]]
        new_id = f"long-{start}"
        place |= {str(part["id"]): new_id for part in parts}
        joined.append({"id": new_id, "task": f"{name} joined", "input": "\n\n".join(str(p["input"]) for p in parts)})
    asked = []
    for query in queries:
        relevant: dict[str, int] = {}
        for old, grade in query["relevant"].items():
            if old in place:
                relevant[place[old]] = max(grade, relevant.get(place[old], 0))
        asked.append(query | {"relevant": relevant})
    return joined, asked


def fill(caller, context, tenant: str, episodes: list[dict]) -> None:
    """Store a set and embed all of it; what is there already is left as it is."""
    allowed = set(EpisodeDraft.__struct_fields__) - {"tenant_id"}
    drafts = [
        msgspec.convert({k: v for k, v in one.items() if k in allowed and v is not None}, EpisodeDraft)
        for one in episodes
    ]
    for start in range(0, len(drafts), 500):
        caller.call(m.StoreEpisodes(episodes=drafts[start : start + 500], on_conflict="skip"), tenant_id=tenant)
    key = context.store.tenants.key(tenant)
    while embedding.embed_pending(context, budget_s=10, tenant_key=key):
        print(f"  {tenant}: {context.store.embeddings.pending(key)} to embed", file=sys.stderr)
    index.compact(context, key)


def ask(caller, tenant: str, text: str) -> dict[str, list[tuple[str, str]]]:
    """Return each method's answer to a question: (id, tenant) best first, at most 100."""
    found: dict[str, list[tuple[str, str]]] = {}
    for method, mode in MODES.items():
        hits = caller.call(m.QueryEpisodes(text=text, k=POOL, mode=mode), tenant_id=tenant).hits
        found[method] = [(hit.id, hit.episode.tenant_id if hit.episode else tenant) for hit in hits]
    scores: dict[tuple[str, str], float] = {}
    for method in ("words", "meaning"):
        for rank, one in enumerate(found[method], start=1):
            # Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009).
            scores[one] = scores.get(one, 0.0) + 1 / (60 + rank)
    found["rrf60"] = sorted(scores, key=lambda one: -scores[one])[:POOL]
    return found


def measure(ids: list[str], relevant: dict[str, int]) -> dict[str, float]:
    """Return one query's figures."""
    good = {i: g for i, g in relevant.items() if g > 0}
    ideal = sum(g / math.log2(rank + 1) for rank, g in enumerate(sorted(good.values(), reverse=True)[:10], start=1))
    gain = sum(good.get(i, 0) / math.log2(rank + 1) for rank, i in enumerate(ids[:10], start=1))
    first = next((rank for rank, i in enumerate(ids[:10], start=1) if i in good), None)
    figures = {"ndcg@10": gain / ideal if ideal else 0.0, "mrr@10": 1 / first if first else 0.0}
    for k in (5, 10, 100):
        figures[f"recall@{k}"] = len(good.keys() & set(ids[:k])) / len(good) if good else 0.0
    return figures


def interval(differences: list[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    chance = random.Random(11)
    means = sorted(sum(chance.choices(differences, k=len(differences))) / len(differences) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def run_set(caller, context, name: str, episodes: list[dict], queries: list[dict]) -> dict:
    """Measure one set."""
    fill(caller, context, name, episodes)
    queries = [query for query in queries if any(grade > 0 for grade in query["relevant"].values())]
    per: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    leaks = dict.fromkeys(METHODS, 0)
    empty = dict.fromkeys(METHODS, 0)
    for query in queries:
        for method, answer in ask(caller, name, query["text"]).items():
            per[method].append(measure([one for one, _ in answer], query["relevant"]))
            leaks[method] += sum(tenant != name for _, tenant in answer)
            empty[method] += not answer
    rows = {}
    for method in METHODS:
        rows[method] = {key: sum(one[key] for one in per[method]) / len(queries) for key in per[method][0]}
        rows[method] |= {"leak": leaks[method], "empty": empty[method]}
    better = max(("words", "meaning"), key=lambda half: rows[half]["ndcg@10"])
    differences = [d["ndcg@10"] - h["ndcg@10"] for d, h in zip(per["default"], per[better], strict=True)]
    low, high = interval(differences)
    return {
        "set": name, "episodes": len(episodes), "queries": len(queries), "methods": rows, "better_half": better,
        "default_minus_better": sum(differences) / len(differences), "interval": [low, high],
    }  # fmt: skip


def show(result: dict) -> None:
    """Print one set's table."""
    columns = ("ndcg@10", "recall@5", "recall@10", "recall@100", "mrr@10", "leak", "empty")
    print(f"\n{result['set']}: {result['episodes']} episodes, {result['queries']} queries")
    print(f"  {'':8} " + " ".join(f"{column:>10}" for column in columns))
    for method, row in result["methods"].items():
        cells = (f"{row[c]:>10.3f}" if isinstance(row[c], float) else f"{row[c]:>10}" for c in columns)
        print(f"  {method:8} " + " ".join(cells))
    low, high = result["interval"]
    print(
        f"  default - {result['better_half']} (nDCG@10): {result['default_minus_better']:+.3f}, "
        f"95 % interval {low:+.3f} to {high:+.3f}"
    )


def main() -> None:
    """Run the sets that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder that holds the sets")
    parser.add_argument("sets", nargs="*", help="which sets; all by default")
    parser.add_argument("--long", action="store_true", help="also the same sets joined into long texts")
    parser.add_argument("--home", type=Path, help="keep the store here, and embed only once")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names = given.sets or sorted(path.name for path in given.folder.iterdir() if (path / "queries.jsonl").is_file())
    with tempfile.TemporaryDirectory() as scratch:
        settings = config.load({"home": str(given.home or scratch), "hub": "off"}, {})
        context = bootstrap.open_context(settings, create=True)
        caller = bootstrap.open_caller(settings, writes=True)
        results = []
        for name in names:
            episodes, queries = load_set(given.folder / name)
            results.append(run_set(caller, context, name, episodes, queries))
            if not given.json:
                show(results[-1])
            if given.long:
                results.append(run_set(caller, context, f"{name}-long", *make_long(name, episodes, queries)))
                if not given.json:
                    show(results[-1])
        caller.close()
        context.close()
    if given.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
