"""What the memory costs in-process: storing, embedding, searching, keeping; each beside the bare libraries.

    python scripts/bench_memory.py [--quick] [--json] [--only store,embed,import,query,graph]

Storing runs beside apsw with the same durability, one table and an FTS5 table; embedding beside a bare onnxruntime
session; an import beside the embedder that gets all of its texts at once; the vector half of a query beside numkong
and numpy's argpartition over one array, the words beside the FTS5 statement alone. Queries are asked without
inference: an embedder that returns fixed vectors stands in for the model. What they search is real text; its vectors
are real ones with noise.
"""

from __future__ import annotations

import os
import random
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
import bench_common as common

if TYPE_CHECKING:
    import argparse

QUESTIONS = 40
REAL_VECTORS = 150


def main() -> None:
    """Measure and print."""
    args = common.parser(str(__doc__)).parse_args()
    with common.scratch(args) as folder:
        report = common.Report("memory", args, folder)
        started = common.rss_mb()
        parts = {"store": storing, "embed": embedding, "import": importing, "query": querying, "graph": graphs}
        for part, work in parts.items():
            if common.wanted(args, part):
                (folder / part).mkdir()
                work(args, folder / part, report)
        rows = [{"what": "this process, everything imported", "mb": started},
                {"what": "this process at its end", "mb": common.rss_mb()}]  # fmt: skip
        report.table("Resident memory", rows)
        report.end()


# -- storing -------------------------------------------------------------------------------------------------------


class Bare:
    """One table and one of words, by apsw, as durable as fedctl's."""

    def __init__(self, path: Path) -> None:
        """Make both."""
        import apsw

        self._db = apsw.Connection(str(path))
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"pragma {pragma}").fetchall()
        self._db.execute("CREATE TABLE e (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, task TEXT, input TEXT, output TEXT)")
        self._db.execute(
            "CREATE VIRTUAL TABLE w USING fts5 (task, input, output, content = '', contentless_delete = 1,"
            " tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        self._db.execute("INSERT INTO w (w, rank) VALUES ('automerge', 0)")
        self._db.execute("INSERT INTO w (w, rank) VALUES ('crisismerge', 64)")
        self._seq = 0

    def store(self, drafts: list[Any]) -> None:
        """Insert rows and their words in one transaction."""
        rows, words = [], []
        for one in drafts:
            self._seq += 1
            rows.append((self._seq, one.id, one.task, one.input, one.output["summary"]))
            words.append((self._seq, one.task, one.input, one.output["summary"]))
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO e VALUES (?, ?, ?, ?, ?)", rows)
        self._db.executemany("INSERT INTO w (rowid, task, input, output) VALUES (?, ?, ?, ?)", words)
        self._db.execute("COMMIT")


def storing(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Store one by one and in batches."""
    from fedctl.messages.memory import StoreEpisodes

    texts = common.Texts()
    home = Home(folder / "home")
    bare = Bare(folder / "bare.db")
    rows = []
    for batch in (1, 10, 100, 1000):
        calls = {1: 100, 10: 40, 100: 10, 1000: 2}[batch]
        rounds = 5 if args.quick else 15
        ours = [[texts.drafts(batch) for _ in range(calls)] for _ in range(rounds)]
        theirs = [[texts.drafts(batch) for _ in range(calls)] for _ in range(rounds)]

        def fedctl(given: Any = ours) -> None:
            for drafts in given.pop():
                home.ask(StoreEpisodes(episodes=drafts))

        def sqlite(given: Any = theirs) -> None:
            for drafts in given.pop():
                bare.store(drafts)

        found = common.interleaved(rounds, {"fedctl": fedctl, "sqlite": sqlite})
        episodes = calls * batch
        rows.append(
            {
                "batch": batch,
                "fedctl_per_s": episodes / found["fedctl"][1] * 1000,
                "sqlite_per_s": episodes / found["sqlite"][1] * 1000,
                "fedctl_cpu_us": found["fedctl"][0] / episodes * 1000,
                "sqlite_cpu_us": found["sqlite"][0] / episodes * 1000,
                "x cpu": found["fedctl"][0] / found["sqlite"][0],
                "x wall": found["fedctl"][1] / found["sqlite"][1],
            }
        )
    home.close()
    report.table("Episodes stored durably, against a table and an FTS5 table by apsw", rows)


class Home:
    """A home with its owner; `ask` carries a request out in-process."""

    def __init__(self, home: Path, embedder: Any = None) -> None:
        """Open it; with `embedder` in the place of the model."""
        from fedctl.model.principal import Principal
        from fedctl.operations.context import Recall
        from fedctl.recall.index import IndexFolder

        self.context = common.open_home(home)
        if embedder is not None:
            self.context = self.context._replace(recall=Recall(embedder, IndexFolder(home / "index")))
        self.folder = home
        self._owner = Principal(tenant_id="default", role="owner")

    def ask(self, request: Any) -> Any:
        """Return the answer."""
        from fedctl.operations.table import run

        return run(self.context, self._owner, request)

    def close(self) -> None:
        """Close the store."""
        self.context.close()


# -- embedding -----------------------------------------------------------------------------------------------------


def embedding(args: argparse.Namespace, _folder: Path, report: common.Report) -> None:
    """Embed texts of three lengths, beside the tokenizer and the session alone."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    from fedctl.recall.embedder import ON_BOARD, Embedder

    before = common.rss_mb()
    ours = Embedder()
    ours.embed(["warm"])
    after = common.rss_mb()
    tokenizer = Tokenizer.from_file(str(ON_BOARD / "tokenizer.json"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(ON_BOARD / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def bare(texts: list[str]) -> Any:
        ids = [tokenizer.encode(text).ids for text in texts]
        longest = max(map(len, ids))
        tokens = np.array([one + [0] * (longest - len(one)) for one in ids])
        mask = np.array([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        return session.run(None, {name: feed[name] for name in names})[0]

    words = " ".join(common.sentences(2000)).split()
    rows = []
    for tokens in (12, 60, 256):
        texts = [cut(ours, words[n * 300 :], tokens) for n in range(8)]
        at_once = 8 if tokens < 256 else 2  # as many as fedctl puts into one batch of that length
        found = common.interleaved(
            5 if args.quick else 15,
            {
                "fedctl": lambda texts=texts: ours.embed(texts),
                "bare": lambda texts=texts, n=at_once: [bare(texts[i : i + n]) for i in range(0, 8, n)],
                "fedctl, one": lambda texts=texts: ours.embed(texts[:1]),
            },
        )
        rows.append(
            {
                "tokens": tokens,
                "fedctl_texts_per_s": 8 / found["fedctl"][1] * 1000,
                "fedctl_cpu_ms": found["fedctl"][0] / 8,
                "bare_cpu_ms": found["bare"][0] / 8,
                "x cpu": found["fedctl"][0] / found["bare"][0],
                "one_alone_cpu_ms": found["fedctl, one"][0],
            }
        )
    report.table(f"Embedding 8 texts, against tokenizer and session (the model took {after - before:.0f} MB)", rows)


def cut(embedder: Any, words: list[str], tokens: int) -> str:
    """Return the first words that make so many tokens."""
    count = tokens // 2
    while embedder.count_tokens(" ".join(words[: count + 1])) <= tokens:
        count += 1
    return " ".join(words[:count])


# -- importing -----------------------------------------------------------------------------------------------------


def importing(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Import a file of texts of mixed lengths, again, and beside it give the same texts to the embedder alone."""
    import io
    import itertools

    import msgspec

    from fedctl.cli.main import run
    from fedctl.model.episode import EpisodeDraft
    from fedctl.operations import embedding as product
    from fedctl.recall.embedder import Embedder
    from fedctl.recall.text import embedding_text

    sentences, chance = common.sentences(5000), random.Random(4)
    drafts = [
        EpisodeDraft(
            id=f"e{number}",
            task=chance.choice(sentences)[:80],
            output=" ".join(chance.choices(sentences, k=chance.choice((1, 1, 2, 4, 8, 16)))),
        )
        for number in range(150 if args.quick else 1000)
    ]
    file = folder / "episodes.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in drafts))
    like, limits = Embedder(), {"overlap": product.OVERLAP_TOKENS, "most": product.PIECES_MAX}
    pieces = [
        piece
        for one in drafts
        for piece in like.split(*embedding_text(None, one.task, None, one.output, None), **limits)
    ]
    threads = product.bulk_threads()
    homes = itertools.count(1)
    last = folder

    def imported(home: Path) -> None:
        code = run(
            ["--home", str(home), "--hub", "off", "memory", "import", str(file), "-q"],
            stdin=None, stdout=io.BytesIO(), stderr=io.BytesIO(), environ={},
        )  # fmt: skip
        assert code == 0

    def fresh() -> None:
        nonlocal last
        last = folder / f"home{next(homes)}"
        imported(last)

    fresh()  # everything is loaded once, the disk's blocks are known
    works: dict[str, Any] = {
        "embedder alone, one thread": lambda: Embedder().embed(pieces),
        f"embedder alone, {threads} threads": lambda: Embedder().embed(pieces, threads=threads),
        "import": fresh,
        "import again": lambda: imported(last),
    }
    found = common.interleaved(2 if args.quick else 3, works)
    bare = found[f"embedder alone, {threads} threads"]
    rows = [
        {
            "what": name,
            "episodes_per_s": len(drafts) / wall_ms * 1000,
            "cpu_ms": cpu_ms / len(drafts),
            "throughput by cpu": bare[0] / cpu_ms,
            "throughput by wall": bare[1] / wall_ms,
        }
        for name, (cpu_ms, wall_ms) in found.items()
    ]
    what = f"{len(drafts):,} episodes in {len(pieces):,} pieces"
    report.table(f"Importing {what}, an episode; the embedder loads its model too", rows)


# -- searching -----------------------------------------------------------------------------------------------------


class FixedEmbedder:
    """Stands in for the model: a text's vector is drawn from real ones, at once."""

    def __init__(self, vectors: Any, like: Any) -> None:
        """Keep the vectors; the id is the model's own, so that they count as its."""
        self._vectors = vectors
        self.model_id, self.dim = like.model_id, like.dim

    def embed(self, texts: list[str], **_how: int) -> Any:
        """Return one of the vectors for each text."""
        return self._vectors[[zlib.crc32(text.encode()) % len(self._vectors) for text in texts]]


def querying(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Fill stores of several sizes; ask; look at what they take."""
    from fedctl.recall.embedder import Embedder

    real = Embedder()
    vectors = real.embed(common.sentences(REAL_VECTORS))
    embedder = FixedEmbedder(vectors, real)
    kept, asked = [], []
    for size in (1_000, 10_000) if args.quick else (1_000, 10_000, 100_000):
        home = Home(folder / f"{size}", embedder)
        kept.append({"episodes": size} | fill(home, size, vectors))
        asked += ask(home, size, vectors, 3 if args.quick else 5)
        home.close()
    report.table("Filling, compacting, and what is on disk", kept)
    report.table(f"{QUESTIONS} questions without inference, median of rounds, a question", asked)


def fill(home: Home, size: int, vectors: Any) -> dict[str, float]:
    """Store so many episodes with vectors near the real ones; compact; return what that took."""
    import numpy as np

    from fedctl.messages.memory import StoreEpisodes
    from fedctl.model.episode import Embedding
    from fedctl.operations import index as upkeep

    texts, rng = common.Texts(), np.random.default_rng(1)
    tag = home.context.recall.model_tag
    began = time.process_time()
    spent_making = 0.0
    text_bytes = 0
    for begin in range(0, size, 1000):
        making = time.process_time()
        count = min(1000, size - begin)
        near = vectors[rng.integers(len(vectors), size=count)]
        near = near + rng.normal(scale=0.03, size=near.shape)
        near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype("<f2")
        drafts = [texts.draft(embedding=Embedding(model=tag, vectors=[row.tobytes()])) for row in near]
        text_bytes += sum(len(one.task) + len(one.input) + len(one.output["summary"]) for one in drafts)
        spent_making += time.process_time() - making
        home.ask(StoreEpisodes(episodes=drafts))
    stored_s = time.process_time() - began - spent_making
    key = home.context.store.tenants.key("default")
    times = {}
    for name, rewrite in (("compact_cpu_ms", False), ("rewrite_cpu_ms", True)):
        began = time.process_time()
        upkeep.compact(home.context, key, rewrite=rewrite)
        times[name] = (time.process_time() - began) * 1000
    began = time.process_time()
    while upkeep.maintain(home.context):
        pass
    times["merge_words_cpu_ms"] = (time.process_time() - began) * 1000
    home.context.store.checkpoint(truncate=True)
    index = sum(path.stat().st_size for path in (home.folder / "index").rglob("*") if path.is_file())
    return {
        "store_cpu_us": stored_s / size * 1e6,
        **times,
        "text_bytes": text_bytes / size,
        "database_bytes": (home.folder / "store.db").stat().st_size / size,
        "index_bytes": index / size,
        "rss_mb": common.rss_mb(),
    }


def ask(home: Home, size: int, vectors: Any, rounds: int) -> list[dict[str, Any]]:
    """Ask everything by words, by meaning, by both; and the libraries alone."""
    import numkong
    import numpy as np

    from fedctl.messages.memory import QueryEpisodes
    from fedctl.operations import index as upkeep
    from fedctl.operations.embedding import active_model
    from fedctl.recall.text import match_query, query_terms

    context = home.context
    key = context.store.tenants.key("default")
    model = active_model(context)
    texts = common.Texts(seed=2)
    questions = [texts.question() for _ in range(QUESTIONS)]
    (part,) = upkeep.parts(context, key, model) if size > upkeep.TAIL_ROWS else (None,)
    matrix = np.frombuffer(
        b"".join(row[2] for row in context.store.embeddings.after(key, model.key, 0, size)), dtype="<f2"
    ).reshape(size, model.dim)
    assert part is None or len(part.vectors) == size

    def bare_vectors() -> None:
        for question in questions:
            row = vectors[zlib.crc32(question.encode()) % len(vectors)].astype(np.float16).reshape(1, -1)
            cosines = np.asarray(numkong.cdist(row, matrix, metric="inner"))[0]
            top = np.argpartition(cosines, size - 100)[size - 100 :]
            top[np.argsort(-cosines[top])].tolist()

    def bare_words() -> None:
        sql = f"SELECT rowid, -rank FROM words_{key} WHERE words_{key} MATCH :match ORDER BY rank LIMIT 100"
        for question in questions:
            context.store.database.rows(sql, {"match": match_query(query_terms(question))})

    def vector_half() -> None:
        for question in questions:
            upkeep.search(context, key, model, question).nearest(100)

    def whole(mode: str) -> None:
        for question in questions:
            home.ask(QueryEpisodes(text=question, mode=mode))

    found = common.interleaved(
        rounds,
        {
            "numkong + argpartition": bare_vectors,
            "vector half": vector_half,
            "FTS5 alone": bare_words,
            "query, keyword": lambda: whole("keyword"),
            "query, semantic": lambda: whole("semantic"),
            "query, hybrid": lambda: whole("hybrid"),
        },
    )
    against = {
        "vector half": "numkong + argpartition", "query, semantic": "numkong + argpartition",
        "query, keyword": "FTS5 alone",
    }  # fmt: skip
    both = found["numkong + argpartition"][0] + found["FTS5 alone"][0]
    rows = []
    for name, (cpu_ms, wall_ms) in found.items():
        row: dict[str, Any] = {"episodes": size, "asked": name, "cpu_ms": cpu_ms / QUESTIONS}
        row["wall_ms"] = wall_ms / QUESTIONS
        yardstick = found[against[name]][0] if name in against else both if name == "query, hybrid" else None
        row["x bare"] = None if yardstick is None else cpu_ms / yardstick
        rows.append(row)
    rows.append({"episodes": size, "asked": "recall@10 of the vector half", "x bare": recall(home, matrix, vectors)})
    return rows


def graphs(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Ask with a graph and without one at several sizes: where it pays."""
    from fedctl.messages.memory import QueryEpisodes
    from fedctl.operations import index
    from fedctl.operations.embedding import active_model
    from fedctl.recall.embedder import Embedder

    real = Embedder()
    vectors = real.embed(common.sentences(REAL_VECTORS))
    texts = common.Texts(seed=2)
    questions = [texts.question() for _ in range(QUESTIONS)]
    rows = []
    for size in (10_000, 20_000) if args.quick else (20_000, 40_000, 50_000, 100_000, 200_000):
        home = Home(folder / f"{size}", FixedEmbedder(vectors, real))
        context = home.context
        fill(home, size, vectors)
        index.GRAPH_ROWS = size  # whatever the product's own threshold is
        began = os.times()
        index.build_graphs(context)
        ended = os.times()
        built_s = ended.children_user + ended.children_system - began.children_user - began.children_system
        key, model = context.store.tenants.key("default"), active_model(context)
        opened = dict(context.recall.open_graphs)

        def asked(
            mode: str | None, graph: dict[Any, Any], home: Home = home, key: Any = key, model: Any = model
        ) -> Any:
            context = home.context
            context.recall.open_graphs = graph
            if mode is None:
                return [index.search(context, key, model, one).nearest(100) for one in questions]
            return [home.ask(QueryEpisodes(text=one, mode=mode)) for one in questions]

        found = common.interleaved(
            3 if args.quick else 7,
            {
                (half, form): lambda mode=mode, graph=graph: asked(mode, graph)
                for half, mode in (("vectors", None), ("hybrid", "hybrid"))
                for form, graph in (("flat", {}), ("graph", opened))
            },
        )
        exact, near = asked(None, {}), asked(None, opened)
        hits = sum(len(set(list(a)[:10]) & set(list(b)[:10])) for a, b in zip(exact, near, strict=True))
        cpu = {name: one[0] / QUESTIONS for name, one in found.items()}
        rows.append(
            {
                "episodes": size,
                "graph_build_cpu_s": built_s,
                "vectors_flat": cpu["vectors", "flat"],
                "vectors_graph": cpu["vectors", "graph"],
                "hybrid_flat": cpu["hybrid", "flat"],
                "hybrid_graph": cpu["hybrid", "graph"],
                "hybrid gain %": 100 * (1 - cpu["hybrid", "graph"] / cpu["hybrid", "flat"]),
                "recall@10": hits / (10 * QUESTIONS),
            }
        )
        home.close()
    report.table("With a graph and without: CPU ms a question, without inference", rows)


def recall(home: Home, matrix: Any, vectors: Any) -> float:
    """Return how many of the ten nearest by float32 the vector half finds."""
    import numpy as np

    from fedctl.operations import index as upkeep
    from fedctl.operations.embedding import active_model

    context = home.context
    key = context.store.tenants.key("default")
    model = active_model(context)
    seqs = [row[1] for row in context.store.embeddings.after(key, model.key, 0, len(matrix))]
    wide = matrix.astype(np.float32)
    hits, asked = 0, random.Random(3).sample(common.sentences(2000), 20)
    for text in asked:
        question = vectors[zlib.crc32(text.encode()) % len(vectors)].astype(np.float32)
        exact = {seqs[place] for place in np.argsort(-(wide @ question))[:10].tolist()}
        hits += len(exact & set(upkeep.search(context, key, model, text).nearest(10)))
    return hits / (10 * len(asked))


if __name__ == "__main__":
    main()
