"""Nearest neighbours: immutable flat files of vectors, mapped into memory and searched exactly, plus a tail of rows.

A snapshot is two files: `.f16`, contiguous little-endian float16 vectors, and `.keys`, two int64 a vector (the
vector's key, the episode's sequence). It grows by appending: bytes first, fsync, and only then the new count and the
block's digest in SQLite, so that a reader sees whole blocks only and a crash leaves nothing to repair.

This module is the door to the vector libraries. Whoever adds usearch here (the HNSW form) imports onnxruntime before
it: the other way round the interpreter dies of SIGSEGV. numkong, which does the arithmetic of the flat form, does
not mind. numpy's own float16 arithmetic is ten times slower and is not used.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_KEY_BYTES = 16
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
    """Some vectors to search: `vectors` (n, dim) float16, `seqs` (n,) int64, and the form they came in."""

    form: str
    seqs: Array
    vectors: Array


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
        import numpy as np  # noqa: PLC0415

        vectors = b"".join(row[2] for row in rows)
        assert len(vectors) == len(rows) * dim * 2, "a vector of another dimension"
        keys = np.array([(row[0], row[1]) for row in rows], dtype="<i8").tobytes()
        files.vectors.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_at(files.vectors, first * dim * 2, vectors)
        _write_at(files.keys, first * _KEY_BYTES, keys)
        folder = os.open(files.vectors.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        digest = hashlib.sha256(vectors)
        digest.update(keys)
        return Block(first, len(rows), digest.hexdigest()), stamp(files) or ""

    def open(self, files: Files, vectors: int, dim: int) -> Part | None:
        """Map the first `vectors` rows of a snapshot; None when the files are not there, too short, or no files."""
        import numpy as np  # noqa: PLC0415

        mapped = _map(files.vectors, vectors * dim * 2)
        keys = _map(files.keys, vectors * _KEY_BYTES)
        if mapped is None or keys is None:
            return None
        pairs = np.frombuffer(keys, dtype="<i8", count=2 * vectors).reshape(vectors, 2)
        # The sequences are copied out: contiguous, and the one part of the file whose bytes become row numbers.
        return Part(
            "flat",
            np.ascontiguousarray(pairs[:, 1]),
            np.frombuffer(mapped, dtype="<f2", count=vectors * dim).reshape(vectors, dim),
        )

    def verify(self, files: Files, blocks: Iterable[Block], dim: int) -> bool:
        """Return whether every block's bytes are the ones that were published."""
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

    def remove(self, files: Files) -> None:
        """Delete a snapshot's files; whoever has them mapped keeps reading the old bytes."""
        for path in files:
            _remove(path)

    def sweep(self, live: Collection[Files]) -> int:
        """Delete every file that belongs to no snapshot (what a crash left behind); return how many went."""
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

    def size_bytes(self, files: Files) -> int:
        """Return what the two files take on disk."""
        return sum(path.stat().st_size for path in files if _is_regular(path))


def stamp(files: Files) -> str | None:
    """Return how the files look (inode, size, mtime of both), or None when one is not there or no regular file.

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
        np.array([row[1] for row in rows], dtype=np.int64),
        np.frombuffer(b"".join(row[2] for row in rows), dtype="<f2").reshape(len(rows), dim),
    )


class Search:
    """The cosines of one question to everything in some parts: computed once, asked twice."""

    def __init__(self, parts: Sequence[Part], question: Array) -> None:
        """Compute all inner products; `question` is a (dim,) vector of norm 1."""
        import numpy as np  # noqa: PLC0415

        with_rows = [part for part in parts if len(part.seqs)]
        self._np = np
        self._forms = [(part.form, len(part.seqs)) for part in with_rows]
        self._seqs = np.concatenate([part.seqs for part in with_rows]) if with_rows else np.empty(0, np.int64)
        self._cosines = (
            np.concatenate([_inner(question, part.vectors) for part in with_rows]) if with_rows else np.empty(0)
        )

    def nearest(self, limit: int, allowed: Sequence[int] | None = None) -> dict[int, float]:
        """Return seq -> cosine of the `limit` nearest episodes, best first; an episode counts by its best chunk.

        `allowed` holds the sequences that a filter lets through: it applies before the search.
        """
        np = self._np
        seqs, cosines = self._seqs, self._cosines
        if allowed is not None:
            inside = np.isin(seqs, np.array(allowed, dtype=np.int64))
            seqs, cosines = seqs[inside], cosines[inside]
        found: dict[int, float] = {}
        take = limit
        while len(seqs):
            take = min(take, len(seqs))
            top = np.argpartition(cosines, len(cosines) - take)[len(cosines) - take :]
            # By cosine, and the newer episode first where that is equal.
            top = top[np.lexsort((-seqs[top], -cosines[top]))]
            found = {}
            for seq, cosine in zip(seqs[top].tolist(), cosines[top].tolist(), strict=True):
                found.setdefault(seq, cosine)
            if len(found) >= limit or take == len(seqs):
                break
            take *= 4
        return dict(list(found.items())[:limit])

    def of(self, wanted: Sequence[int]) -> dict[int, float]:
        """Return seq -> cosine of those episodes that have a vector."""
        np = self._np
        inside = np.flatnonzero(np.isin(self._seqs, np.array(wanted, dtype=np.int64)))
        found: dict[int, float] = {}
        for seq, cosine in zip(self._seqs[inside].tolist(), self._cosines[inside].tolist(), strict=True):
            found[seq] = max(cosine, found.get(seq, -2.0))
        return found

    def form_of(self, seq: int) -> str | None:
        """Return which form holds an episode's vector: for explanations."""
        places = self._np.flatnonzero(self._seqs == seq)
        if not len(places):
            return None
        place = int(places[0])
        for form, rows in self._forms:
            if place < rows:
                return form
            place -= rows
        return None


def to_blobs(vectors: Array) -> list[bytes]:
    """Return the rows of a (n, dim) float array as little-endian float16 blobs."""
    return [row.tobytes() for row in vectors.astype("<f2")]


def from_blob(blob: bytes) -> Array:
    """Return a blob as a (dim,) float32 vector."""
    import numpy as np  # noqa: PLC0415

    return np.frombuffer(blob, dtype="<f2").astype(np.float32)


def _inner(question: Array, vectors: Array) -> Array:
    import numkong  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    row = np.ascontiguousarray(question, dtype=np.float32).astype(np.float16).reshape(1, -1)
    return np.asarray(numkong.cdist(row, vectors, metric="inner"), dtype=np.float64)[0]


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


def _map(path: Path, size: int) -> mmap.mmap | None:
    try:
        # Checked before it is opened: opening a fifo would wait for a writer for ever.
        if not size or not _is_regular(path):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_size < size:
                return None
            return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
    except OSError:
        return None


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
