"""The ledger of erasures: which tenants and episodes were erased for good, as digests, in a file of the home.

It outlives the database: whatever is restored from an older backup is held against it, and what is pushed again is
acked and not stored. A digest says nothing to whoever does not know the name or the id already.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from fedctl import disk
from fedctl.store.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FILE_NAME = "erasures"
Kind = Literal["tenant", "episode"]
_KINDS: dict[bytes, Kind] = {b"tenant": "tenant", b"episode": "episode"}
_VOID = b"void"
_DIGEST_BYTES = 32


class Entry(NamedTuple):
    """One erasure: of what, its digest (SHA-256), when it began in ms since 1970."""

    kind: Kind
    digest: bytes
    at_ms: int


def tenant_digest(name: str) -> bytes:
    """Return what stands for a tenant in every ledger: the same in all homes, so that ledgers can be merged."""
    import hashlib  # noqa: PLC0415  it brings OpenSSL: 3 ms for who looks nothing up

    return hashlib.sha256(b"tenant\0" + name.encode()).digest()


def episode_digest(tenant_name: str, episode_id: str) -> bytes:
    """Return what stands for an episode in every ledger."""
    return digest_within(tenant_digest(tenant_name), episode_id)


def digest_within(tenant: bytes, episode_id: str) -> bytes:
    """Return the same, of an episode of the tenant of that digest: whose name is gone while it is being erased."""
    import hashlib  # noqa: PLC0415  likewise

    return hashlib.sha256(b"episode\0" + tenant + episode_id.encode()).digest()


class Ledger:
    """The file, append-only: one line an erasure, `kind ms digest`. There is none before the first erasure.

    The line of an erasure that came to nothing is followed by one like it of the kind `void`.
    """

    def __init__(self, path: Path) -> None:
        """Keep the path; a home's is `<home>/erasures` (`FILE_NAME`)."""
        self._path = path

    def add(self, entries: Iterable[Entry]) -> None:
        """Append entries; they are on disk when this returns, or, after an error, as good as never added.

        Raises:
            DiskFull: There is no room for them.
            Denied: The file may not be written.
        """
        self._append(_line(one.kind.encode(), one) for one in entries)

    def void(self, entries: Iterable[Entry]) -> None:
        """Take back entries whose erasure came to nothing; raises as `add`."""
        self._append(_line(_VOID, one) for one in entries)

    def _append(self, entries: Iterable[bytes]) -> None:
        lines = b"".join(entries)
        if not lines:
            return
        with translated(self._path):
            made = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                # What was torn off by a crash stays a line of its own, which `read` passes over: even one that lacks
                # nothing but its end, for that was never acknowledged.
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                left = memoryview(b"!\n" + lines if torn else lines)
                try:
                    while left:
                        left = left[os.write(descriptor, left) :]
                    os.fsync(descriptor)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, size)  # nobody may read what was not acknowledged
                    raise
            finally:
                os.close(descriptor)
            if made:
                disk.sync(self._path.parent)

    def read(self) -> Iterator[Entry]:
        """Yield the entries in the order they were made, without those taken back; what is no line is passed over."""
        with translated(self._path):
            try:
                text = disk.read(self._path)
            except FileNotFoundError:
                return
        lines = text.split(b"\n")[:-1]  # a last line without its end was never acknowledged
        voided = {entry: number for number, line in enumerate(lines) if line[:5] == _VOID + b" "
                  for entry in (_parsed(b"tenant" + line[4:]), _parsed(b"episode" + line[4:]))}  # fmt: skip
        for number, line in enumerate(lines):
            entry = _parsed(line)
            if entry is not None and number > voided.get(entry, -1):
                yield entry


def _line(kind: bytes, entry: Entry) -> bytes:
    return b"%s %d %s\n" % (kind, entry.at_ms, entry.digest.hex().encode())


def _parsed(line: bytes) -> Entry | None:
    # The digest comes last: a line that was cut anywhere is none.
    parts = line.split(b" ")
    try:
        kind, at_ms, digest = _KINDS[parts[0]], int(parts[1]), bytes.fromhex(parts[2].decode())
    except (KeyError, IndexError, ValueError):
        return None
    return Entry(kind, digest, at_ms) if len(parts) == 3 and len(digest) == _DIGEST_BYTES else None  # noqa: PLR2004
