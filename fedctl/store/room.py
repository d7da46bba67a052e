"""Room on the disk: when writes are refused, how long the log may get, and a reserve for what frees space.

On a full disk SQLite can neither delete nor fold its log into the file. So writes stop at a watermark before that; what
frees space goes on below it, and where even that is too little, it has a file to give up first.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from fedctl.errors import DiskFull

if TYPE_CHECKING:
    from pathlib import Path

PLENTY_BYTES = 1 << 30
"""With so much free nothing else is looked at."""
LOOK_EVERY = 16
"""Where there is plenty, one transaction in so many looks, which takes 1.5 µs: none of them comes near a gigabyte."""
WATERMARK_MAX_BYTES = 64 << 20
WATERMARK_SHARE = 16
"""Writes are refused when less than a sixteenth of the file system is free, or than the most above."""
RESERVE_NAME = "reserve"
RESERVE_MAX_BYTES = 8 << 20
RESERVE_SHARE = 32
FLOOR_SHARE = 4
"""Pages that are free inside the database take rows, but the log needs room of its own: a quarter of the watermark."""
LAST_BYTES = 16 << 10
"""So much not even what frees space takes: the ledger's next lines, a folder's entry."""
LOG_SHARE = 8
"""The log may be an eighth of what is free before it is folded into the file..."""
LOG_LEAST_BYTES = 64 << 10
"""...and so long in any case."""
ROWS_AT_ONCE = 100
DELETED_ROW_BYTES = 4096
"""Rows that one transaction deletes where the log has no room for more: 100 make 120 KiB of it, 1,000 make 660, and
where they lie far apart a page or more each."""
WRITTEN_PER_BYTE = 3
"""What a byte of a request comes to, in the log and then in the file: 2.7 measured with episodes of 600 bytes."""
_STEP_BYTES = 64 << 10
_ZEROS_BYTES = 1 << 20


class Space(NamedTuple):
    """What a file system has left, in bytes; nothing is written where less than the watermark is free."""

    free_bytes: int
    watermark_bytes: int
    reserve_bytes: int

    @classmethod
    def of(cls, state: os.statvfs_result) -> Space:
        """Return the same for what the operating system tells of a file system."""
        size = state.f_blocks * state.f_frsize
        return cls(
            state.f_bavail * state.f_frsize,
            min(size // WATERMARK_SHARE, WATERMARK_MAX_BYTES),
            min(size // RESERVE_SHARE, RESERVE_MAX_BYTES),
        )

    def refuses(self, needed_bytes: int, inside: int) -> bool:
        """Return whether there is no room for so much more, with `inside` bytes free in the database's own file."""
        log_bytes = max(self.watermark_bytes // FLOOR_SHARE, needed_bytes // 2)
        return self.free_bytes < log_bytes or self.free_bytes + inside < self.watermark_bytes + needed_bytes

    def holds(self, log_bytes: int, grows_bytes: int, inside: int | None) -> bool:
        """Return whether a transaction fits that takes so much of the log, and more of the file when it is folded.

        `inside`: what the file has free after it; None: it frees space, and may take all but a little.
        """
        left = self.free_bytes - log_bytes - grows_bytes
        if inside is None:
            return left >= LAST_BYTES
        return (
            left >= self.watermark_bytes // FLOOR_SHARE
            and self.free_bytes - grows_bytes + inside >= self.watermark_bytes
        )

    @property
    def is_short(self) -> bool:
        """Whether what frees space may need the reserve for its own log and ledger."""
        return self.free_bytes < 2 * self.watermark_bytes

    @property
    def left_bytes(self) -> int:
        """How much can be written before writes are refused."""
        return max(self.free_bytes - self.watermark_bytes, 0)

    @property
    def log_bytes(self) -> int:
        """How long the log may be."""
        return max(self.free_bytes // LOG_SHARE, LOG_LEAST_BYTES)


def look(place: int | str) -> Space | None:
    """Return what the file system of an open file or a path has left; None where there is plenty, or no telling."""
    try:
        state = os.statvfs(place)
    except OSError:
        return None
    if not state.f_blocks:  # a file system that does not tell, as some over a network
        return None
    return Space.of(state) if state.f_bavail * state.f_frsize < PLENTY_BYTES else None


class NoRoomError(DiskFull):
    """The disk would be too full with it: refused before anything was written, so nobody else suffers."""


def refusal(space: Space, needed_bytes: int = 0) -> NoRoomError:
    """Return the error of who is not let in."""
    from fedctl.model.shown import size  # noqa: PLC0415  for errors only

    small = space.free_bytes < space.watermark_bytes
    needs = "" if small else f" and this needs up to {size(needed_bytes)}"
    return NoRoomError(
        f"the disk is nearly full: {size(space.free_bytes)} free{needs}, nothing is written that would leave less "
        f"than {size(space.watermark_bytes)}",
        hint="free some space on it, or remove what is not needed: fedctl retention prune, memory delete, pool purge",
        details=space._asdict() | {"needed_bytes": needed_bytes},
    )


class Reserve:
    """A file beside the store that holds nothing but its place. Any process may give it up, and make it again."""

    def __init__(self, path: Path) -> None:
        """Keep where it is: `path` is the store's."""
        self.path = path.with_name(RESERVE_NAME)

    def give_up(self) -> bool:
        """Let the disk have its room back; return whether there was any."""
        try:
            self.path.unlink()
        except OSError:  # not there; or the disk has become read-only, and nothing can be written anyhow
            return False
        return True

    def make(self) -> None:
        """Have it as large as there is room for: it comes before new rows, but the log has to have its share.

        That it cannot be made is no error.
        """
        with contextlib.suppress(OSError):
            space = Space.of(os.statvfs(self.path.parent))
            present = _allocated(self.path)
            left = present + space.free_bytes - space.watermark_bytes // FLOOR_SHARE
            size = min(space.reserve_bytes, left // _STEP_BYTES * _STEP_BYTES)
            if size > present:
                self._fill(size)

    def _fill(self, size: int) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _allocate(descriptor, size)
        except BaseException:
            self.give_up()  # half a reserve would take from whoever filled the disk meanwhile
            raise
        finally:
            os.close(descriptor)


def size_bytes(name: str) -> int:
    """Return the size of a file, 0 where there is none."""
    try:
        return os.stat(name).st_size  # noqa: PTH116  a name, not a path object
    except OSError:
        return 0


def _allocated(path: Path) -> int:
    """Return how many bytes a file really takes."""
    try:
        return path.lstat().st_blocks * 512  # POSIX: in units of 512 bytes, whatever the file system's are
    except FileNotFoundError:
        return 0


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        else:
            return
    # macOS, and file systems that can only be written to: bytes, for a hole takes no room.
    zeros = bytes(_ZEROS_BYTES)
    for start in range(0, size, _ZEROS_BYTES):
        os.pwrite(descriptor, zeros[: size - start], start)
