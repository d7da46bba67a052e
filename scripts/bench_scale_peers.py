"""The far end of bench_scale's pipes, and the peers: runs in the peers' environment, knows nothing of fedctl.

Not a program to call by hand. A process is one system at one size; it is asked by lines of JSON on stdin and answers by
lines on stdout: build some more rows, build the index, search a round of questions. Only the calls into a library are
timed: what they are given (arrays, tables, dictionaries) is made beforehand and outside the clock, for all alike.

numpy is loaded where it is used: the cold one-shot of a library that does without it does without it.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Array = Any
DIM = 384
K = 10
TENANTS = (("t50", 500), ("t30", 300), ("t10", 100), ("t9", 90), ("t09", 9), ("t01", 1))
"""Names, and how many of each thousand rows are theirs."""
BUCKETS = 100
"""Values of the one metadata field: a condition on it keeps 1 %."""
COLD_QUESTION = "cold"


class Case(NamedTuple):
    """What is searched: a tenant, and whether only one bucket of it."""

    tenant: int
    bucket: int | None = None


CASES = {
    "50 %": Case(0),
    "30 %": Case(1),
    "0.9 %": Case(4),
    "0.1 %": Case(5),
    "50 %, where 1 %": Case(0, 7),
}


def tenant_name(case: Case) -> str:
    """Return the name of a case's tenant."""
    return TENANTS[case.tenant][0]


def row_id(row: int) -> str:
    """Return a row's id, in the form of a UUIDv7."""
    return f"01900000-0000-7000-8000-{row:012x}"


def row_of(episode_id: str) -> int:
    """Return which row an id is."""
    return int(episode_id[-12:], 16)


class Data:
    """The files that all are fed from: vectors, tenants, buckets, texts, questions. Read a slice at a time."""

    def __init__(self, folder: Path) -> None:
        """Open the small ones; map the vectors."""
        import numpy as np

        self._np = np
        self.folder = folder
        self.tenants = np.load(folder / "tenants.npy")
        self.buckets = np.load(folder / "buckets.npy")
        self.rows = len(self.tenants)
        with (folder / "vectors.f16").open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.vectors = np.frombuffer(self._map, dtype="<f2").reshape(self.rows, DIM)
        self.questions = np.load(folder / "questions.npy")
        self.asked = json.loads((folder / "questions.json").read_text())
        self._offsets = np.load(folder / "offsets.npy")

    def forget(self) -> None:
        """Give back what was read of the vectors: it is not the memory of the system that was fed."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def texts(self, begin: int, end: int) -> list[str]:
        """Return the texts of some rows."""
        with (self.folder / "texts.txt").open("rb") as file:
            file.seek(int(self._offsets[begin]))
            return file.read(int(self._offsets[end] - self._offsets[begin])).decode().splitlines()

    def by_tenant(self, begin: int, end: int) -> Iterator[tuple[int, Array]]:
        """Return the rows of each tenant within a slice."""
        for tenant in range(len(TENANTS)):
            rows = self._np.flatnonzero(self.tenants[begin:end] == tenant) + begin
            if len(rows):
                yield tenant, rows

    def wide(self, rows: Array) -> Array:
        """Return vectors as float32."""
        return self.vectors[rows].astype(self._np.float32)


class System:
    """What a system can be asked. One instance lives in one process."""

    efforts: tuple[dict[str, Any], ...] = ({},)
    """How hard it can be told to search, from its default on; one: it has no such setting."""
    rebuilds = False
    """Whether `rebuild` makes the index anew from rows that the system keeps."""
    beside: str | None = None
    """Whose index it searches: what that took to build is its cost too."""

    def __init__(self, folder: Path) -> None:
        """Keep where its files lie."""
        self.folder = folder

    def create(self) -> None:
        """Make an empty one."""
        raise NotImplementedError

    def batches(self, data: Data, begin: int, end: int) -> Iterator[Callable[[], object]]:
        """Return the calls that store some rows, each with what it needs."""
        raise NotImplementedError

    def index(self) -> None:
        """Build what is not built while rows come in, and make all of it durable."""

    def rebuild(self) -> None:
        """Make the index anew."""
        raise NotImplementedError

    def open(self) -> None:
        """Open what was made, to search it."""
        raise NotImplementedError

    def prepare(self, vector: Array) -> Any:
        """Return a question's vector as the library takes it."""
        return vector

    def can(self, case: Case) -> bool:
        """Return whether a case can be asked."""
        del case
        return True

    def tune(self, effort: dict[str, Any]) -> None:
        """Search so hard from now on."""

    def search(self, case: Case, question: Any, text: str) -> list[int]:
        """Return the rows of the nearest, best first."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it."""


def _rows(data: Data, first: int, last: int, vectors: Array) -> Iterator[tuple[Any, ...]]:
    """Return (row, vector, tenant, bucket, id, text) of some rows."""
    names = [TENANTS[tenant][0] for tenant in data.tenants[first:last]]
    ids = [row_id(row) for row in range(first, last)]
    blobs = [vector.tobytes() for vector in vectors]
    texts = data.texts(first, last)
    return zip(range(first, last), blobs, names, data.buckets[first:last].tolist(), ids, texts, strict=True)


# -- the peers -----------------------------------------------------------------------------------------------------


class Usearch(System):
    """usearch and nothing else: one graph a tenant, for it has no filter; no texts, no rows; saved once, at the end."""

    efforts = tuple({"expansion_search": n} for n in (64, 128, 256, 512, 1024))

    def create(self) -> None:
        from usearch.index import Index

        self.folder.mkdir()
        self._graphs = [Index(ndim=DIM, metric="ip", dtype="f16", connectivity=16, expansion_add=128) for _ in TENANTS]

    def batches(self, data: Data, begin: int, end: int) -> Iterator[Callable[[], object]]:
        for tenant, rows in data.by_tenant(begin, end):
            vectors = data.vectors[rows]
            yield lambda graph=self._graphs[tenant], rows=rows, vectors=vectors: graph.add(rows, vectors)

    def index(self) -> None:
        for (name, _), graph in zip(TENANTS, self._graphs, strict=True):
            graph.save(str(self.folder / f"{name}.usearch"))

    def open(self) -> None:
        self._graphs: Any = {}
        self._effort = 64

    def _graph(self, tenant: int) -> Any:
        if tenant not in self._graphs:
            from usearch.index import Index

            self._graphs[tenant] = Index.restore(str(self.folder / f"{TENANTS[tenant][0]}.usearch"), view=True)
        self._graphs[tenant].expansion_search = self._effort
        return self._graphs[tenant]

    def prepare(self, vector: Array) -> Any:
        return vector.astype("<f2")

    def can(self, case: Case) -> bool:
        return case.bucket is None

    def tune(self, effort: dict[str, Any]) -> None:
        self._effort = effort["expansion_search"]

    def search(self, case: Case, question: Any, text: str) -> list[int]:
        del text
        return self._graph(case.tenant).search(question, K, threads=1).keys.tolist()


class UsearchRows(Usearch):
    """usearch beside a table of SQLite, as durable as fedctl's, that keeps vectors and texts and is asked for them.

    The graphs are those of the process that makes nothing else.
    """

    beside = "usearch"

    def create(self) -> None:
        self.folder.mkdir()
        self._connect()
        self._db.execute("CREATE TABLE e (row INTEGER PRIMARY KEY, vector BLOB, tenant, bucket, id TEXT UNIQUE, text)")

    def _connect(self) -> None:
        import apsw

        self._db = apsw.Connection(str(self.folder / "rows.db"))
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"pragma {pragma}").fetchall()

    def batches(self, data: Data, begin: int, end: int) -> Iterator[Callable[[], object]]:
        for first in range(begin, end, 1000):
            last = min(end, first + 1000)
            rows = list(_rows(data, first, last, data.vectors[first:last]))
            yield lambda rows=rows: self._insert(rows)

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        with self._db:
            self._db.executemany("INSERT INTO e VALUES (?, ?, ?, ?, ?, ?)", rows)

    def index(self) -> None:
        """Nothing: see `beside`."""

    def open(self) -> None:
        self._connect()
        self.folder = self.folder.with_name(self.beside)
        super().open()

    def search(self, case: Case, question: Any, text: str) -> list[int]:
        found = super().search(case, question, text)
        sql = "SELECT e.row, e.id, e.text FROM json_each(?) AS given JOIN e ON e.row = given.value"
        rows = {row[0]: row for row in self._db.execute(sql, (json.dumps(found),))}
        return [row for row in found if row in rows]

    def close(self) -> None:
        self._db.close()


class SqliteVec(System):
    """sqlite-vec: a vec0 table sharded by tenant, metadata column, text beside it; exact; as durable as fedctl's."""

    def create(self) -> None:
        self.folder.mkdir()
        self.open()
        self._db.execute(
            f"CREATE VIRTUAL TABLE e USING vec0 (row INTEGER PRIMARY KEY, vector float[{DIM}] distance_metric=cosine,"
            " tenant TEXT PARTITION KEY, bucket INTEGER, +id TEXT, +text TEXT)"
        )

    def open(self) -> None:
        import apsw
        import sqlite_vec

        self._db = apsw.Connection(str(self.folder / "vec.db"))
        self._db.enable_load_extension(True)
        self._db.load_extension(sqlite_vec.loadable_path())
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"pragma {pragma}").fetchall()

    def batches(self, data: Data, begin: int, end: int) -> Iterator[Callable[[], object]]:
        for first in range(begin, end, 1000):
            last = min(end, first + 1000)
            rows = list(_rows(data, first, last, data.wide(slice(first, last))))
            yield lambda rows=rows: self._insert(rows)

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        sql = "INSERT INTO e (row, vector, tenant, bucket, id, text) VALUES (?, ?, ?, ?, ?, ?)"
        with self._db:
            self._db.executemany(sql, rows)

    def prepare(self, vector: Array) -> Any:
        return vector if isinstance(vector, bytes) else vector.tobytes()

    def search(self, case: Case, question: Any, text: str) -> list[int]:
        del text
        sql = "SELECT row, distance, id, text FROM e WHERE vector MATCH ? AND k = ? AND tenant = ?"
        given = [question, K, tenant_name(case)]
        if case.bucket is not None:
            sql += " AND bucket = ?"
            given.append(case.bucket)
        return [row[0] for row in self._db.execute(sql, given)]

    def close(self) -> None:
        self._db.close()


class Chroma(System):
    """chroma, as its cookbook has several users in one collection: a metadata filter."""

    efforts = tuple({"ef_search": n} for n in (100, 200, 400, 800, 1600))
    per_tenant = False

    def create(self) -> None:
        self._client = self._connect()
        names = [name for name, _ in TENANTS] if self.per_tenant else ["all"]
        configuration = {"hnsw": {"space": "cosine"}}
        self._collections = [
            self._client.create_collection(f"memory-{name}", embedding_function=None, configuration=configuration)
            for name in names
        ]

    def _connect(self) -> Any:
        import chromadb
        from chromadb.config import Settings

        return chromadb.PersistentClient(str(self.folder), settings=Settings(anonymized_telemetry=False))

    def batches(self, data: Data, begin: int, end: int) -> Iterator[Callable[[], object]]:
        at_most = self._client.get_max_batch_size()
        for first in range(begin, end, at_most):
            last = min(end, first + at_most)
            texts, vectors = data.texts(first, last), data.wide(slice(first, last))
            shares = data.by_tenant(first, last) if self.per_tenant else [(0, range(first, last))]
            for number, rows in shares:
                places = [int(row) - first for row in rows]
                given = {
                    "ids": [row_id(int(row)) for row in rows],
                    "embeddings": vectors[places],
                    "documents": [texts[place] for place in places],
                    "metadatas": [
                        {"tenant": TENANTS[data.tenants[row]][0], "bucket": int(data.buckets[row])} for row in rows
                    ],
                }
                yield lambda collection=self._collections[number], given=given: collection.add(**given)

    def open(self) -> None:
        self._client = self._connect()
        names = [name for name, _ in TENANTS] if self.per_tenant else ["all"]
        self._collections = [self._client.get_collection(f"memory-{name}", embedding_function=None) for name in names]

    def prepare(self, vector: Array) -> Any:
        return [vector]

    def tune(self, effort: dict[str, Any]) -> None:
        # What is loaded goes on as it was loaded: the collection is changed, and opened anew.
        for collection in self._collections:
            collection.modify(configuration={"hnsw": effort})
        self.close()
        self.open()

    def search(self, case: Case, question: Any, text: str) -> list[int]:
        del text
        conditions: list[dict[str, Any]] = [] if self.per_tenant else [{"tenant": tenant_name(case)}]
        if case.bucket is not None:
            conditions.append({"bucket": case.bucket})
        where = {"$and": conditions} if len(conditions) > 1 else conditions[0] if conditions else None
        collection = self._collections[case.tenant if self.per_tenant else 0]
        found = collection.query(
            query_embeddings=question, n_results=K, where=where, include=["documents", "metadatas", "distances"]
        )
        return [row_of(one) for one in found["ids"][0]]

    def close(self) -> None:
        self._client.close()


class ChromaCollections(Chroma):
    """chroma with one collection a tenant."""

    per_tenant = True


class Lance(System):
    """lancedb without a vector index, which its documentation advises up to about 100,000 rows; prefiltered."""

    rebuilds = False

    def create(self) -> None:
        import lancedb
        import pyarrow as pa

        fields = [("row", pa.int64()), ("vector", pa.list_(pa.float32(), DIM)), ("tenant", pa.string())]
        fields += [("bucket", pa.int32()), ("id", pa.string()), ("text", pa.string())]
        self._schema = pa.schema(fields)
        self._table = lancedb.connect(str(self.folder)).create_table("e", schema=self._schema)

    def batches(self, data: Data, begin: int, end: int) -> Iterator[Callable[[], object]]:
        import numpy as np
        import pyarrow as pa

        # Each call makes a file: its documentation asks for large ones.
        for first in range(begin, end, 10_000):
            last = min(end, first + 10_000)
            flat = pa.array(data.wide(slice(first, last)).reshape(-1))
            table = pa.table(
                {
                    "row": np.arange(first, last),
                    "vector": pa.FixedSizeListArray.from_arrays(flat, DIM),
                    "tenant": [TENANTS[tenant][0] for tenant in data.tenants[first:last]],
                    "bucket": data.buckets[first:last].astype(np.int32),
                    "id": [row_id(row) for row in range(first, last)],
                    "text": data.texts(first, last),
                },
                schema=self._schema,
            )
            yield lambda table=table: self._table.add(table)

    def index(self) -> None:
        from lancedb.index import Bitmap

        self._table.optimize()
        for column in ("tenant", "bucket"):
            self._table.create_index(column, config=Bitmap())
        self._index_vectors()

    def _index_vectors(self) -> None:
        pass

    def rebuild(self) -> None:
        self._index_vectors()

    def open(self) -> None:
        import lancedb

        self._table = lancedb.connect(str(self.folder)).open_table("e")
        self._effort: dict[str, Any] = {}

    def tune(self, effort: dict[str, Any]) -> None:
        self._effort = effort

    def search(self, case: Case, question: Any, text: str) -> list[int]:
        del text
        where = f"tenant = '{tenant_name(case)}'"
        if case.bucket is not None:
            where += f" AND bucket = {case.bucket}"
        query = self._table.search(question, vector_column_name="vector").distance_type("cosine")
        query = query.where(where, prefilter=True).limit(K).select(["row", "id", "text", "_distance"])
        for name, value in self._effort.items():
            query = getattr(query, name)(value)
        return [one["row"] for one in query.to_list()]


class LancePq(Lance):
    """lancedb with its default index, IVF_PQ, which its documentation advises where queries filter."""

    rebuilds = True
    efforts = (
        {}, {"refine_factor": 5}, {"nprobes": 20, "refine_factor": 10}, {"nprobes": 50, "refine_factor": 20},
        {"nprobes": 100, "refine_factor": 50}, {"nprobes": 200, "refine_factor": 100},
    )  # fmt: skip

    def _index_vectors(self) -> None:
        from lancedb.index import IvfPq

        self._table.create_index("vector", config=IvfPq(distance_type="cosine"), replace=True)


class LanceHnsw(Lance):
    """lancedb with IVF_HNSW_SQ, which its documentation calls the best trade of recall for time."""

    rebuilds = True
    efforts = (
        {}, {"ef": 100, "refine_factor": 2}, {"ef": 200, "refine_factor": 5}, {"ef": 400, "refine_factor": 10},
        {"ef": 800, "refine_factor": 20}, {"ef": 1600, "refine_factor": 40},
    )  # fmt: skip

    def _index_vectors(self) -> None:
        from lancedb.index import HnswSq

        self._table.create_index("vector", config=HnswSq(distance_type="cosine"), replace=True)


PEERS: dict[str, type[System]] = {
    "usearch": Usearch,
    "usearch-rows": UsearchRows,
    "sqlite-vec": SqliteVec,
    "lancedb": Lance,
    "lancedb-pq": LancePq,
    "lancedb-hnsw": LanceHnsw,
    "chroma": Chroma,
    "chroma-collections": ChromaCollections,
}


# -- a process -----------------------------------------------------------------------------------------------------


def serve(system: System, data_folder: Path) -> None:
    """Carry out what comes in by stdin until it ends; whatever a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = _Worker(system, data_folder)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(worker, asked.pop("do"))(**asked)
        except Exception as error:  # noqa: BLE001  it is the driver that says what failed
            import traceback

            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")


class _Worker:
    """Times a system's calls."""

    def __init__(self, system: System, data_folder: Path) -> None:
        self._system = system
        self._data = Data(data_folder)

    def create(self) -> dict[str, Any]:
        return _timed(self._system.create)

    def ingest(self, begin: int, end: int) -> dict[str, Any]:
        total = {"wall_s": 0.0, "cpu_s": 0.0}
        for call in self._system.batches(self._data, begin, end):
            self._data.forget()
            took = _timed(call)
            total = {name: total[name] + took[name] for name in total}
        return total

    def index(self) -> dict[str, Any]:
        return _timed(self._system.index)

    def rebuild(self) -> dict[str, Any]:
        return _timed(self._system.rebuild) if self._system.rebuilds else {}

    def open(self) -> dict[str, Any]:
        return _timed(self._system.open)

    def close(self) -> dict[str, Any]:
        return _timed(self._system.close)

    def efforts(self) -> dict[str, Any]:
        return {"efforts": list(self._system.efforts)}

    def memory(self) -> dict[str, Any]:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        fields = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
        # Not ru_maxrss: that begins with what the process had that started this one.
        names = {"rss_mb": "VmRSS", "anon_mb": "RssAnon", "peak_mb": "VmHWM"}
        found = {name: int(fields[field]) / 1024 for name, field in names.items()}
        # With what the largest process took that this one started (fedctl builds a graph in one).
        found["peak_mb"] += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return found

    def ask(
        self, case: str, first: int, count: int, budget_s: float, effort: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Ask questions from the `first` on, round and round, until `count` were asked or the time is up."""
        which = CASES[case]
        if not self._system.can(which):
            return {"unable": True}
        if effort is not None:
            self._system.tune(effort)
        questions = self._data.questions
        given = [self._system.prepare(one) for one in questions]
        asked = self._data.asked
        self._system.search(which, given[first - 1], asked[first - 1])  # opens and loads what it needs
        numbers, found, walls, cpus = [], [], [], []
        deadline = time.perf_counter() + budget_s
        for place in range(first, first + count):
            number = place % len(questions)
            began, began_cpu = time.perf_counter(), time.process_time()
            rows = self._system.search(which, given[number], asked[number])
            cpus.append((time.process_time() - began_cpu) * 1000)
            walls.append((time.perf_counter() - began) * 1000)
            numbers.append(number)
            found.append(rows)
            if time.perf_counter() > deadline:
                break
        return {"questions": numbers, "rows": found, "wall_ms": walls, "cpu_ms": cpus}


def _timed(call: Callable[[], object]) -> dict[str, float]:
    began, began_cpu = time.perf_counter(), _cpu_s()
    call()
    return {"wall_s": time.perf_counter() - began, "cpu_s": _cpu_s() - began_cpu}


def _cpu_s() -> float:
    """Return what this process has used, all threads, and those that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def cold(system: System, vector: bytes) -> None:
    """Open a system, ask it the one question, and print what it found: all that a process does which is asked once."""
    system.open()
    given: Any = vector
    if not isinstance(system, SqliteVec):
        import numpy as np

        given = np.frombuffer(vector, dtype="<f4")
    found = system.search(CASES["50 %"], system.prepare(given), COLD_QUESTION)
    print(len(found), flush=True)
    os._exit(0)  # as fedctl's command ends; the teardown of a library is nobody's answer


def main() -> None:
    """Run one peer: `serve NAME FOLDER DATA` or `cold NAME FOLDER DATA`."""
    os.environ.setdefault("LANCE_LOG", "error")
    what, name, folder, data_folder = sys.argv[1:5]
    if what == "cold":
        cold(PEERS[name](Path(folder)), (Path(data_folder) / "cold.f32").read_bytes())
        return
    serve(PEERS[name](Path(folder)), Path(data_folder))


if __name__ == "__main__":
    main()
