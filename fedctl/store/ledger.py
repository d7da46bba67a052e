"""The ledger of erasures: which tenants and episodes were erased for good, as digests, in a file of the home.

It outlives the database: whatever is restored from an older backup is held against it, and what is pushed again is
acked and not stored. A digest says nothing to whoever does not know the name or the id already.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from fedctl import disk
from fedctl.errors import Corrupt
from fedctl.store.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FILE_NAME = "erasures"
Kind = Literal["tenant", "episode"]
_KINDS: dict[bytes, Kind] = {b"tenant": "tenant", b"episode": "episode"}
_VOID = b"void"
_TORN = b"!!"
"""What a line ends with that was torn off: two, for one is a bit away from a digit of a sum."""
_DIGEST_BYTES = 32
LINE_BYTES = 96
"""What an entry takes, at most."""


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


class Look(NamedTuple):
    """What a ledger says, and the numbers (from 1 on) of the lines that are damaged: nobody knows what they said.

    `lost` is how many there were, by their length: where bytes became others, so did the ends of lines.
    """

    entries: list[Entry]
    damaged: list[int]
    lost: int


class Ledger:
    """The file, append-only: one line an erasure, `kind ms digest sum`. There is none before the first erasure.

    The sum is CRC-32 of what stands before it; a line that lacks it was made before there were any. The line of an
    erasure that came to nothing is followed by one like it of the kind `void`.
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

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Put these in the place of all that is there, for who has the home alone; raises as `add`."""
        with translated(self._path), disk.new_content(self._path) as file:
            file.writelines(_line(one.kind.encode(), one) for one in entries)

    def _append(self, entries: Iterable[bytes]) -> None:
        lines = b"".join(entries)
        if not lines:
            return
        with translated(self._path), _as_a_file(self._path):
            made = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                # What was torn off by a crash stays a line of its own, which `read` passes over: even one that lacks
                # nothing but its end, for that was never acknowledged.
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                left = memoryview(_TORN + b"\n" + lines if torn else lines)
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
        return iter(self.look()[0])

    def look(self) -> Look:
        """Return what can be read, and what is damaged.

        What was torn off by a crash is no damage: it was never acknowledged.

        Raises:
            Corrupt: What is there is no file.
        """
        with translated(self._path), _as_a_file(self._path):
            try:
                text = disk.read(self._path)
            except FileNotFoundError:
                return Look([], [], 0)
        entries: dict[int, Entry] = {}
        voided: dict[tuple[int, bytes], int] = {}
        damaged, lost_bytes = [], 0
        for number, line in enumerate(text.split(b"\n")[:-1], start=1):  # an end that lacks its own was never acked
            found = _parsed(line)
            if found is not None:
                kind, at_ms, digest = found
                if kind == _VOID:
                    voided[at_ms, digest] = number
                else:
                    entries[number] = Entry(_KINDS[kind], digest, at_ms)
            elif not _is_torn(line):
                damaged.append(number)
                lost_bytes += len(line) + 1
        held = [one for number, one in entries.items() if number > voided.get((one.at_ms, one.digest), 0)]
        return Look(held, damaged, max(1, round(lost_bytes / LINE_BYTES)) if damaged else 0)


@contextlib.contextmanager
def _as_a_file(path: Path) -> Iterator[None]:
    """Raise `Corrupt` where what is there is something else."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO):
            raise
        hint = "move it aside, and put the ledger back"
        raise Corrupt(f"{path} is no file, as the ledger of erasures is", hint=hint) from error


def told(damaged: list[int]) -> str:
    """Return which lines are damaged, in words, with the verb."""
    if len(damaged) == 1:
        return f"line {damaged[0]} is"
    shown = ", ".join(map(str, damaged[:3])) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")  # noqa: PLR2004
    return f"lines {shown} are"


def _is_torn(line: bytes) -> bool:
    # Where lines had no sum, one sign was enough. An empty line is nobody's: what a line that was taken out may leave.
    return not line or line.endswith(_TORN) or (line.endswith(_TORN[:1]) and line.count(b" ") < 3)  # noqa: PLR2004


def _line(kind: bytes, entry: Entry) -> bytes:
    said = b"%s %d %s" % (kind, entry.at_ms, entry.digest.hex().encode())
    return said + b" %08x\n" % binascii.crc32(said)


def _parsed(line: bytes) -> tuple[bytes, int, bytes] | None:
    # The digest comes last but for the sum: a line that was cut anywhere is none.
    parts = line.split(b" ")
    if len(parts) == 4:  # noqa: PLR2004  with its sum
        if parts.pop() != b"%08x" % binascii.crc32(line[: line.rindex(b" ")]):
            return None
    elif len(parts) != 3:  # noqa: PLR2004  without
        return None
    try:
        kind, at_ms, digest = parts[0], int(parts[1]), bytes.fromhex(parts[2].decode())
    except ValueError:
        return None
    return (kind, at_ms, digest) if (kind in _KINDS or kind == _VOID) and len(digest) == _DIGEST_BYTES else None
