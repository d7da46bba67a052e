"""Nearest neighbours: immutable flat files of vectors, mapped into memory and searched exactly, plus a tail of rows.

Where there is a graph (recall/graph) it names candidates from the flat file, whose true cosines are computed here.

A snapshot is two files: `.f16`, contiguous little-endian float16 vectors, and `.keys`, two int64 a vector (the
vector's key, the episode's sequence). It grows by appending: bytes first, fsync, and only then the new count and the
block's digest in SQLite, so that a reader sees whole blocks only and a crash leaves nothing to repair.

numkong does the arithmetic: numpy's own of float16 is ten times slower.
"""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedctl import disk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from fedctl.recall.graph import Graph

_GRAPH_LEAST = 256
_GRAPH_ROWS_A_CANDIDATE = 500
"""A larger graph is asked for more: among 500,000 vectors 256 candidates hold .95 of the ten nearest."""
_GRAPH_REACH = 4096
"""So many candidates of a graph cost more than to look at everything, at a million vectors and fewer."""
_SCATTERED_SHARE = 0.1
"""Rows that a filter lets through are gathered up to this share; above, computing all and choosing is cheaper."""
RESIDENT_MAX_BYTES = 64 << 20
"""Vectors of some 87,000 episodes; those of a larger tenant are found by its graph, which names few of them."""
_SLICE_ROWS = 4096
_KEY_BYTES = 16
NORM_TOLERANCE = 0.02
"""How far from 1 the norm of a vector may be that was written as float16."""
_SET_ASIDE = ".not-a-file"
Array = Any
"""A numpy array: numpy is loaded where it is used, for a cold start does without it."""


class Files(NamedTuple):
    """Where the two files of one snapshot lie."""

    vectors: Path
    keys: Path


class Block(NamedTuple):
    """The `rows` rows of a snapshot from `first` on, and the SHA-256 over their vectors' and then their keys' bytes."""

    first: int
    rows: int
    digest: str


class Part(NamedTuple):
    """Some vectors to search: `vectors` (n, dim) float16, their `seqs` and `keys` (n,) int64, keys ascending."""

    form: str
    keys: Array
    seqs: Array
    vectors: Array


class FileLostError(Exception):
    """A file that was being searched has been cut or taken away."""


class _OpenFile:
    """A descriptor that is closed when nobody holds it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)


class FileRows:
    """Rows of a flat file that are read when they are asked for, like an (n, dim) float16 array."""

    def __init__(self, file: _OpenFile, first: int, shape: tuple[int, int]) -> None:
        """Keep the open file; row 0 is its row `first`."""
        self._file = file
        self._first = first
        self.shape = shape

    @classmethod
    def open(cls, path: Path, rows: int, dim: int) -> FileRows | None:
        """Open a file's first rows; None when it is not there, too short, or no file."""
        descriptor = _open_regular(path, rows * dim * 2)
        return None if descriptor is None else cls(_OpenFile(descriptor), 0, (rows, dim))

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self.shape[0]

    def __getitem__(self, which: Any) -> Any:
        """Return the rows of a slice, still in the file, or an array of those whose numbers are given."""
        import numpy as np  # noqa: PLC0415

        rows, dim = self.shape
        if isinstance(which, slice):
            first, behind, _ = which.indices(rows)
            return FileRows(self._file, self._first + first, (max(behind - first, 0), dim))
        blobs = [self._bytes(place, 1) for place in which.tolist()]
        return np.frombuffer(b"".join(blobs), dtype="<f2").reshape(len(blobs), dim)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Read all rows."""
        import numpy as np  # noqa: PLC0415

        return np.frombuffer(self._bytes(0, self.shape[0]), dtype="<f2").reshape(self.shape)

    def _bytes(self, first: int, rows: int) -> bytes:
        size = self.shape[1] * 2
        data = os.pread(self._file.descriptor, rows * size, (self._first + first) * size)
        if len(data) != rows * size:
            raise FileLostError
        return data


class IndexFolder:
    """The files of all snapshots: one folder a tenant, so that isolation is the file system's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self, tenant_key: int, model_key: int, generation: str) -> Files:
        """Return where a snapshot's files lie, whether they exist or not."""
        folder = self._folder / str(tenant_key)
        return Files(folder / f"{model_key}-{generation}.f16", folder / f"{model_key}-{generation}.keys")

    def append(self, files: Files, first: int, rows: Sequence[tuple[int, int, bytes]], dim: int) -> tuple[Block, str]:
        """Write rows (key, seq, blob) behind the first `first` ones; return their block and the files' new stamp.

        Whatever lies behind `first` was never published and is written over. The caller publishes the result, and
        holds the maintenance lock.
        """
        import hashlib  # noqa: PLC0415  with OpenSSL 3 ms, which a question does without

        import numpy as np  # noqa: PLC0415

        vectors = b"".join(row[2] for row in rows)
        assert len(vectors) == len(rows) * dim * 2, "a vector of another dimension"
        keys = np.array([(row[0], row[1]) for row in rows], dtype="<i8").tobytes()
        for folder in (self._folder, files.vectors.parent):  # `parents` would make the upper one with another mode
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_at(files.vectors, first * dim * 2, vectors)
        _write_at(files.keys, first * _KEY_BYTES, keys)
        disk.sync(files.vectors.parent)
        digest = hashlib.sha256(vectors)
        digest.update(keys)
        return Block(first, len(rows), digest.hexdigest()), stamp(files) or ""

    def open(
        self, files: Files, vectors: int, dim: int, *, apart: bool = False, before: Part | None = None
    ) -> Part | None:
        """Open the first `vectors` rows of a snapshot; None when the files are not there, too short, or no files.

        They are mapped into memory, which is quickest for one question. Who goes on serving wants them `apart`: a
        mapped file that somebody cuts in its place kills the process that is searching it. Small ones are then read
        (what is there of them already, `before`, is not read again), large ones looked up in the file.
        """
        import numpy as np  # noqa: PLC0415

        keys = _read(files.keys, vectors * _KEY_BYTES)
        if keys is None:
            return None
        pairs = np.frombuffer(keys, dtype="<i8").reshape(vectors, 2)
        rows: Array
        if not apart:
            mapped = _map(files.vectors, vectors * dim * 2)
            rows = None if mapped is None else np.frombuffer(mapped, "<f2", vectors * dim).reshape(vectors, dim)
        elif vectors * dim * 2 <= RESIDENT_MAX_BYTES:
            rows = _resident(files.vectors, vectors, dim, before)
        else:
            rows = FileRows.open(files.vectors, vectors, dim)
        if rows is None:
            return None
        # Keys and sequences are copied out: contiguous, and the one part of the file whose bytes become row numbers.
        return Part("flat", np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]), rows)

    def verify(self, files: Files, blocks: Iterable[Block], dim: int) -> bool:
        """Return whether every block's bytes are the ones that were published."""
        import hashlib  # noqa: PLC0415

        try:
            if not (_is_regular(files.vectors) and _is_regular(files.keys)):
                return False
            with files.vectors.open("rb") as vectors, files.keys.open("rb") as keys:
                for block in blocks:
                    digest = hashlib.sha256()
                    vectors.seek(block.first * dim * 2)
                    digest.update(vectors.read(block.rows * dim * 2))
                    keys.seek(block.first * _KEY_BYTES)
                    digest.update(keys.read(block.rows * _KEY_BYTES))
                    if digest.hexdigest() != block.digest:
                        return False
        except OSError:
            return False
        return True

    def remove(self, files: tuple[Path, ...]) -> None:
        """Delete a snapshot's files or a graph's; whoever has them mapped keeps reading the old bytes."""
        for path in files:
            _remove(path)

    def remove_all(self, tenant_key: int) -> None:
        """Delete a tenant's folder with all that is in it; who is still writing a file there fails."""
        import shutil  # noqa: PLC0415  only an erasure needs it

        shutil.rmtree(self._folder / str(tenant_key), ignore_errors=True)

    def graph_path(self, tenant_key: int, model_key: int, generation: str) -> Path:
        """Return where a graph lies, whether it exists or not."""
        return self._folder / str(tenant_key) / f"{model_key}-{generation}.hnsw"

    def put_graph(self, made: Path, path: Path) -> None:
        """Give a finished graph its name, durably."""
        made.replace(path)
        disk.sync(path.parent)

    def sweep(self, live: Collection[tuple[Path, ...]]) -> int:
        """Delete every file that belongs to nothing published (what a crash left behind); return how many went."""
        keep = {path for files in live for path in files}
        gone = 0
        for folder in self._folder.glob("*"):
            if not folder.is_dir():
                continue
            for path in folder.iterdir():
                if path not in keep and path.suffix != _SET_ASIDE:
                    _remove(path)
                    gone += 1
        return gone

    def size_bytes(self, files: tuple[Path, ...]) -> int:
        """Return what the files take on disk."""
        return sum(path.stat().st_size for path in files if _is_regular(path))


def stamp(files: tuple[Path, ...]) -> str | None:
    """Return how the files look (inode, size, mtime of each), or None when one is not there or no regular file.

    While this equals what SQLite recorded, the bytes are taken for those that were verified.
    """
    parts = []
    for path in files:
        try:
            found = path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        parts.append(f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}")
    return "|".join(parts)


def tail(rows: Sequence[tuple[int, int, bytes]], dim: int) -> Part:
    """Return rows (key, seq, blob) as a part to search."""
    import numpy as np  # noqa: PLC0415

    return Part(
        "tail",
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.frombuffer(b"".join(row[2] for row in rows), dtype="<f2").reshape(len(rows), dim),
    )


class _Scored(NamedTuple):
    """Cosines (n,) to the question, whose they are, and the form that they were found in."""

    form: str
    seqs: Array
    cosines: Array


class Search:
    """One question to everything in some parts; the first part may have a graph of its first rows.

    Cosines are computed when they are needed, and once.
    """

    def __init__(self, parts: Sequence[Part], question: Array, graph: Graph | None = None) -> None:
        """Prepare; `question` is a (dim,) vector of norm 1, `graph` one of the first part, if that is flat."""
        import numpy as np  # noqa: PLC0415

        self._np = np
        self._question = np.ascontiguousarray(question, dtype=np.float32).astype(np.float16)
        self._parts = [part for part in parts if len(part.seqs)]
        self._graph = graph if self._parts and self._parts[0].form == "flat" else None
        self._everything: list[_Scored] | None = None
        self._beyond: list[_Scored] | None = None
        self._forms: dict[int, str] = {}

    @property
    def rows(self) -> int:
        """How many vectors there are."""
        return sum(len(part.seqs) for part in self._parts)

    def nearest(self, limit: int, allowed: Sequence[int] | None = None) -> dict[int, float]:
        """Return seq -> cosine of the `limit` nearest episodes, best first; an episode counts by its best chunk.

        `allowed` holds the sequences that a filter lets through: it applies before the search.
        """
        if allowed is not None:
            return self._best(self._among(allowed), limit)
        found = self._by_graph(self._graph, limit) if self._graph is not None else None
        return self._best(self._all(), limit) if found is None else found

    def of(self, vectors: Mapping[int, Sequence[bytes]]) -> dict[int, float]:
        """Return seq -> cosine of episodes whose vectors (float16 blobs, one a chunk) are given."""
        np = self._np
        blobs = [blob for chunks in vectors.values() for blob in chunks]
        if not blobs:
            return {}
        rows = np.frombuffer(b"".join(blobs), dtype="<f2").reshape(len(blobs), -1)
        cosines = iter(_inner(self._question, rows).tolist())
        return {seq: max(next(cosines) for _ in chunks) for seq, chunks in vectors.items()}

    def in_context(
        self, vectors: Mapping[int, Sequence[bytes]], before: Mapping[int, int], cosines: Mapping[int, float]
    ) -> dict[int, float]:
        """Return seq -> cosine of episodes together with the one `before` each in its session.

        The vector of the earlier one, p, is added to an episode's own, e, by how near they are: `e + max(e·p, 0) p`,
        of norm 1. What goes on with a subject is found by what was said of it before; where the subject changed it
        counts for nothing. Only episodes of one piece, before one of one piece, are in the answer.

        On documents cut into episodes of 2 to 4 sentences, nDCG@10 over all parts of the relevant documents gained
        .035, .032 and .055 on three sets (95 % intervals from .012 to .088), with an unrelated one before it
        -.001 to .001; text in front of an episode's own gained no more for 1.4 to 1.9 times the embedding.
        """
        np = self._np
        pairs = [
            (seq, earlier)
            for seq, earlier in before.items()
            if seq in cosines and len(vectors.get(seq, ())) == 1 and len(vectors.get(earlier, ())) == 1
        ]
        if not pairs:
            return {}
        own, earlier = (
            np.frombuffer(b"".join(vectors[pair[side]][0] for pair in pairs), dtype="<f2")
            .reshape(len(pairs), -1)
            .astype(np.float32)
            for side in (0, 1)
        )
        near = np.maximum((own * earlier).sum(axis=1), 0)
        asked = np.array([cosines[seq] for seq, _ in pairs]) + near * (earlier @ self._question.astype(np.float32))
        together = asked / np.sqrt(1 + 3 * near**2)
        return {seq: cosine for (seq, _), cosine in zip(pairs, together.tolist(), strict=True)}

    def form_of(self, seq: int) -> str | None:
        """Return the form in which `nearest` found an episode, if it did: for explanations."""
        return self._forms.get(seq)

    def _by_graph(self, graph: Graph, limit: int) -> dict[int, float] | None:
        """Ask the graph, and what it does not cover exactly; None when it would have to go too far."""
        first = self._parts[0]
        if self._beyond is None:
            done = graph.covered
            rest = Part(first.form, first.keys[done:], first.seqs[done:], first.vectors[done:])
            self._beyond = [self._score(part) for part in (rest, *self._parts[1:]) if len(part.seqs)]
        # The graph orders by 8-bit vectors: among more of them than are wanted the true order is found.
        count = max(2 * limit, _GRAPH_LEAST, graph.covered // _GRAPH_ROWS_A_CANDIDATE)
        while count <= _GRAPH_REACH:
            places = graph.nearest(self._question, count)
            if len(places) > 8 * count:  # texts that everybody has stored
                return None
            near = self._score(first, places)._replace(form="hnsw")
            found = self._best([near, *self._beyond], limit)
            # Nothing is missing if the last one that was taken is as near as the farthest that the graph named.
            if len(found) == limit and min(found.values()) >= near.cosines.min(initial=1.0):
                return found
            count *= 4
        return None

    def _all(self) -> list[_Scored]:
        if self._everything is None:
            self._everything = [self._score(part) for part in self._parts]
        return self._everything

    def _among(self, allowed: Sequence[int]) -> list[_Scored]:
        np = self._np
        wanted = np.array(allowed, dtype=np.int64)
        inside = [np.flatnonzero(np.isin(part.seqs, wanted)) for part in self._parts]
        if sum(map(len, inside)) < _SCATTERED_SHARE * self.rows:
            return [self._score(part, places) for part, places in zip(self._parts, inside, strict=True)]
        return [
            _Scored(one.form, one.seqs[places], one.cosines[places])
            for one, places in zip(self._all(), inside, strict=True)
        ]

    def _score(self, part: Part, places: Array | None = None) -> _Scored:
        seqs, vectors = (part.seqs, part.vectors) if places is None else (part.seqs[places], part.vectors[places])
        return _Scored(part.form, seqs, _inner(self._question, vectors) if len(seqs) else self._np.empty(0))

    def _best(self, scored: Sequence[_Scored], limit: int) -> dict[int, float]:
        np = self._np
        if not scored:
            return {}
        seqs, cosines = (np.concatenate([one[field] for one in scored]) for field in (1, 2))
        ends = np.cumsum([len(one.seqs) for one in scored])
        found: dict[int, float] = {}
        take = limit
        while len(seqs):
            take = min(take, len(seqs))
            # By cosine, and the newer episode first where that is equal: also among those of which only some fit.
            last = np.partition(cosines, len(cosines) - take)[len(cosines) - take]
            top = np.flatnonzero(cosines >= last)
            top = top[np.lexsort((-seqs[top], -cosines[top]))][:take]
            found = {}
            forms = np.searchsorted(ends, top, side="right").tolist()
            for seq, cosine, form in zip(seqs[top].tolist(), cosines[top].tolist(), forms, strict=True):
                if seq not in found:
                    found[seq] = cosine
                    self._forms[seq] = scored[form].form
            if len(found) >= limit or take == len(seqs):
                break
            take *= 4
        return dict(list(found.items())[:limit])


def to_blobs(vectors: Array) -> list[bytes]:
    """Return the rows of a (n, dim) float array as little-endian float16 blobs."""
    return [row.tobytes() for row in vectors.astype("<f2")]


def are_sound(blobs: Sequence[bytes], dim: int) -> list[bool]:
    """Return of each blob whether it is a vector of `dim` finite numbers and of norm 1."""
    import numpy as np  # noqa: PLC0415

    long = [len(blob) == 2 * dim for blob in blobs]
    whole = np.frombuffer(b"".join(b for b, fits in zip(blobs, long, strict=True) if fits), "<f2").reshape(-1, dim)
    norms = iter(np.linalg.norm(whole.astype(np.float32), axis=1).tolist())
    return [fits and abs(next(norms) - 1) <= NORM_TOLERANCE for fits in long]  # NaN is none of norm 1


def from_blob(blob: bytes) -> Array:
    """Return a blob as a (dim,) float32 vector."""
    import numpy as np  # noqa: PLC0415

    return np.frombuffer(blob, dtype="<f2").astype(np.float32)


def _inner(question: Array, vectors: Array) -> Array:
    """Return (n,) float64 inner products of a (dim,) and (n, dim) array of float16."""
    import numkong  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    if isinstance(vectors, FileRows):
        slices = [np.asarray(vectors[at : at + _SLICE_ROWS]) for at in range(0, len(vectors), _SLICE_ROWS)]
        return np.concatenate([_inner(question, one) for one in slices])
    return np.asarray(numkong.cdist(question.reshape(1, -1), vectors, metric="inner"))[0]


def _write_at(path: Path, offset: int, data: bytes) -> None:
    # Appended, never truncated: a reader may have the first part of the file mapped, and a mapping that loses its
    # pages kills the process.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _resident(path: Path, rows: int, dim: int, before: Part | None) -> Array | None:
    """Read a file's rows into memory, into the room that was left behind those read before."""
    import numpy as np  # noqa: PLC0415

    known = 0 if before is None else len(before.vectors)
    room = getattr(before.vectors, "base", None) if before is not None else None
    if not isinstance(room, np.ndarray) or len(room) < rows:
        room = np.empty((rows + rows // 4, dim), dtype="<f2")
        if before is not None:
            room[:known] = before.vectors
    descriptor = _open_regular(path, rows * dim * 2)
    if descriptor is None:
        return None
    try:
        data = os.pread(descriptor, (rows - known) * dim * 2, known * dim * 2)
    finally:
        os.close(descriptor)
    if len(data) != (rows - known) * dim * 2:
        return None
    room[known:rows] = np.frombuffer(data, dtype="<f2").reshape(rows - known, dim)
    return room[:rows]


def _read(path: Path, size: int) -> bytes | None:
    descriptor = _open_regular(path, size)
    if descriptor is None:
        return None
    try:
        data = os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)
    return data if len(data) == size else None


def _open_regular(path: Path, size: int) -> int | None:
    """Return a descriptor of a regular file of at least so many bytes, at least one."""
    try:
        # Checked before it is opened: opening a fifo would wait for a writer for ever.
        if not size or not _is_regular(path):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    if os.fstat(descriptor).st_size >= size:
        return descriptor
    os.close(descriptor)
    return None


def _map(path: Path, size: int) -> mmap.mmap | None:
    descriptor = _open_regular(path, size)
    if descriptor is None:
        return None
    try:
        return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            # Somebody put a folder where a file belongs: it is moved out of the way, not searched through.
            path.rename(path.with_name(path.name + _SET_ASIDE))
        else:
            path.unlink(missing_ok=True)
    except OSError:
        # It is in nobody's way: a generation's name is never used again.
        return
