"""A database's file as it lies on the disk, through SQLite's own way to files.

To open it in any other way, and close it again, would drop the process's locks on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"SQLite format 3\0"


def begins_as_one(path: str) -> bool:
    """Return whether the file begins as every database does (20 µs). Of what cannot be looked at nothing is said."""
    try:
        file = apsw.VFSFile("", path, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
        try:
            return file.xRead(len(MAGIC), 0) == MAGIC
        finally:
            file.xClose()
    except apsw.Error as error:
        return bool(getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_SHORT_READ)


class RawPages:
    """The pages of a file, by number from 1 on, `size` bytes each, of which SQLite uses `usable`."""

    def __init__(self, path: Path, size: int, count: int) -> None:
        self._file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0])
        self.size = size
        self.count = count
        self.usable = size - self._file.xRead(21, 0)[20]
        self.written = 0

    def read(self, first: int, count: int) -> bytes:
        """Return `count` pages one behind the other."""
        return self._file.xRead(count * self.size, (first - 1) * self.size)

    def first_number(self, number: int) -> int:
        """Return what a page begins with: in a chain of them, which one is next."""
        return int.from_bytes(self._file.xRead(4, (number - 1) * self.size), "big")

    def write(self, number: int, page: bytes) -> None:
        """Put a page in its place: one that SQLite reads as it did before."""
        self._file.xWrite(page, (number - 1) * self.size)
        self.written += 1

    def sync(self) -> None:
        """Have what was written on disk, before this too."""
        self._file.xSync(apsw.SQLITE_SYNC_FULL)

    def close(self) -> None:
        """Close the file."""
        self._file.xClose()
