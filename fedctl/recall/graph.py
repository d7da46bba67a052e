"""The HNSW form for big tenants: a graph of 8-bit vectors that names candidates. The door to usearch.

Measured at 200,000 vectors of 384 dimensions, candidates put in order by their float16 vectors: 8 bits find what 16
find (recall@10 .991 and .991, recall@100 .988 and .991 of 256 candidates) with half the CPU to build and .58 of
the bytes. By their own order 8 bits find .91.

Building takes seconds to minutes and happens in a process of its own: it yields to everybody else, what it needs of
memory goes with it, and a fault in it is not a hub's. A file is never written over, and nothing is ever removed from
one: what was deleted is not among the rows any more.

A vector's key in the graph is its fingerprint, and each is in it once: among a thousand copies of one text, which
agents do store, a graph gets lost (recall 0 for some questions). The rows of a fingerprint are looked up beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from fedctl.errors import Failure

CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSION_SEARCH = 128
_SLICE_ROWS = 1024
"""Rows between two looks at whether anybody still wants the graph: a third of a second."""
_NICENESS = 10
_FINGERPRINT_ROWS = 8192
_SEED = 0x66656463746C
_MASK = (1 << 64) - 1


class Plan(NamedTuple):
    """What is to be built: the `rows` first rows of a flat file, those added to the graph `base` that it lacks."""

    base: str | None
    vectors: str
    dim: int
    rows: int
    target: str


class Built(NamedTuple):
    """A finished file: how many different vectors are in it, and its SHA-256."""

    vectors: int
    digest: str


class Graph:
    """A file that was read and is searched; safe to share between threads.

    Read, not mapped: whoever cuts or alters a mapped file in its place (`cp` over it does) kills the process that is
    searching it. Reading takes 55 ms CPU per 100,000 vectors, searching no more, and memory as much.
    """

    def __init__(self, path: Path, rows: Any) -> None:
        """Read the file, and take down where its vectors lie in the flat file: `rows` (n, dim), those it covers.

        Raises:
            Failure: It is no graph. (Damage within one kills the process when it is searched: see `is_intact`.)
        """
        # usearch works on the memory of its first thread whoever calls: two at once would share it.
        self._lock = threading.Lock()
        try:
            self._index = _usearch().Index.restore(str(path), view=False, enable_key_lookups=False)
        except Exception as error:  # its errors have no base class of their own
            raise Failure(f"the graph {path} cannot be opened: {error}") from error
        if self._index is None:
            raise Failure(f"the graph {path} cannot be opened")
        self._index.expansion_search = EXPANSION_SEARCH
        marks = fingerprints(rows)
        self._order = marks.argsort(kind="stable")
        self._marks = marks[self._order]
        self.covered = len(marks)
        """So many rows of the flat file, from its beginning, are in the graph."""
        self.live = int((self._marks[1:] != self._marks[:-1]).sum()) + min(len(marks), 1)
        """So many of its vectors are still among the rows."""

    def nearest(self, question: Any, count: int) -> Any:
        """Return rows of the flat file whose vectors are near `question`, a (dim,) array, in no order.

        They are those of up to `count` different vectors.
        """
        import numpy as np  # noqa: PLC0415

        with self._lock:
            marks = self._index.search(question, count).keys.astype("int64")
        first, behind = (self._marks.searchsorted(marks, side=side) for side in ("left", "right"))
        copies = behind - first
        # One after the other, what lies between each first and behind.
        steps = np.arange(copies.sum()) - np.repeat(copies.cumsum() - copies, copies)
        return self._order[np.repeat(first, copies) + steps]


def fingerprints(vectors: Any) -> Any:
    """Return (n,) int64, each from 1 on, of the bytes of (n, dim) float16 vectors.

    Two different ones have the same by a chance of one in 10^18; the later one is then not in the graph.
    """
    import numpy as np  # noqa: PLC0415

    rows, dim = vectors.shape
    factors, state = [], _SEED
    for _ in range(dim):  # splitmix64 (Steele, Lea, Flood 2014): the same on every machine, for all time
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
        factors.append((mixed ^ mixed >> 31) | 1)
    by = np.array(factors, dtype=np.uint64)
    marks = np.empty(rows, dtype=np.uint64)
    for start in range(0, rows, _FINGERPRINT_ROWS):
        block = np.ascontiguousarray(vectors[start : start + _FINGERPRINT_ROWS])
        # 16 bits by 64: of wider words the upper bits would hardly count, and those are signs and exponents.
        marks[start : start + len(block)] = np.einsum("ij,j->i", block.view("<u2"), by)
    marks ^= marks >> np.uint64(32)
    marks *= np.uint64(factors[0])
    marks ^= marks >> np.uint64(29)
    return np.maximum((marks & np.uint64(_MASK >> 1)).astype(np.int64), 1)


def is_intact(path: Path, digest: str) -> bool:
    """Return whether the file is the one that was published: two seconds a gigabyte."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a fifo would wait for a writer for ever
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


class Build:
    """A process that builds."""

    def __init__(self, plan: Plan) -> None:
        """Start it.

        Raises:
            Failure: No process can be started.
        """
        self._target = Path(plan.target)
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-m", __name__, json.dumps(plan), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise Failure(f"no graph can be built: {error.strerror}") from error

    def wait(self, timeout_s: float | None) -> Built | None:
        """Return what was built, or None if it takes longer.

        Raises:
            Failure: It came to nothing.
        """
        try:
            # For its end, not for its pipes: `communicate` that may take no time never gets to read them.
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        said, complaint = self._process.communicate()
        if self._process.returncode:
            self._target.unlink(missing_ok=True)
            why = complaint.decode(errors="replace").strip().rpartition("\n")[2] or f"exit {self._process.returncode}"
            raise Failure(f"building a graph failed: {why}")
        return Built(*json.loads(said))

    def cancel(self) -> None:
        """End it, wait for that, and leave nothing of it."""
        self._process.kill()
        self._process.communicate()
        self._target.unlink(missing_ok=True)


def _build(plan: Plan, *, wanted_by: int) -> Built:
    """Build a graph, save it as `target` and make that durable."""
    import numpy as np  # noqa: PLC0415

    os.nice(_NICENESS)
    os.umask(0o077)
    index = _usearch().Index(
        ndim=plan.dim, metric="ip", dtype="i8", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )  # fmt: skip
    if plan.base is not None:
        index.load(plan.base)
    vectors = np.memmap(plan.vectors, dtype="<f2", mode="r", shape=(plan.rows, plan.dim))
    marks, places = np.unique(fingerprints(vectors), return_index=True)
    # Not by where the base ended: what was deleted from the rows and stored again is in it still.
    fresh = ~index.contains(marks)  # its `keys` are of memory that was freed (usearch 2.26)
    order = places[fresh].argsort()
    marks, places = marks[fresh][order], places[fresh][order]
    for start in range(0, len(places), _SLICE_ROWS):
        if os.getppid() != wanted_by:
            sys.exit("nobody waits for it any more")
        end = start + _SLICE_ROWS
        index.add(marks[start:end], np.ascontiguousarray(vectors[places[start:end]]), threads=1)
    index.save(plan.target)
    with Path(plan.target).open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Built(len(index), digest)


def _usearch() -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # First, always: the other way round the interpreter dies of SIGSEGV.
    import onnxruntime  # noqa: F401, PLC0415
    import usearch.index  # noqa: PLC0415

    return usearch.index


if __name__ == "__main__":
    print(json.dumps(_build(Plan(*json.loads(sys.argv[1])), wanted_by=int(sys.argv[2]))))  # noqa: T201
