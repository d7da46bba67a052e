"""What a transaction is about to take of the disk, known before a byte of it is written.

Estimates are wrong: one episode more can have FTS5 merge all the words of a tenant in the transaction that it comes in.
So where the disk is small a transaction stays in memory until its end, and is undone if it would not fit. Then neither
the log nor the file has grown, and nobody has lost the room to free some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedctl.store import room

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fedctl.store.room import Space

METERED_BELOW_BYTES = 256 << 20
"""With more free than that SQLite may write as it goes: the watermark is 64 MiB there."""
_PAGE_EXTRA_BYTES = 256
"""What SQLite has in memory for a page beside it, at the least: 260 in 3.54 on a machine of 64 bits."""
_HELD_BYTES = 16 << 20
"""So much may be in memory in any case: it is held against what is free in the end."""
_LOOK_EVERY_STEPS = 1000
_FRAME_BYTES = 24
"""What a page in the log has before it."""


class Meter:
    """Holds back one connection's transactions where the disk is small.

    `held_bytes` tells how much the connection has in memory of its pages.
    """

    def __init__(self, connection: Any, path: Path, held_bytes: Callable[[], int]) -> None:
        self._connection = connection
        self._held_bytes = held_bytes
        self._file = str(path)
        self._page_bytes = 0  # asked when it matters: this is made with every connection
        self._most_bytes = 0
        self.on = False
        """Whether the transaction is held back."""

    def begin(self, space: Space | None) -> None:
        """Hold back the transaction that is about to begin, if there is little room."""
        if space is None or space.free_bytes >= METERED_BELOW_BYTES:
            return
        self._page_bytes = self._page_bytes or self._ask("page_size")
        self.on = True
        self._most_bytes = max(2 * space.free_bytes, _HELD_BYTES)
        self._set("cache_spill=OFF")
        self._connection.set_progress_handler(self._is_too_much, _LOOK_EVERY_STEPS)

    def end(self) -> None:
        """Let SQLite do again as it does."""
        if self.on:
            self.on = False
            self._connection.set_progress_handler(None)
            self._set("cache_spill=ON")

    def needs(self) -> tuple[int, int]:
        """Return how many bytes the transaction adds to the log, and how many the file grows by when that is folded."""
        grows = max(self._ask("page_count") * self._page_bytes - room.size_bytes(self._file), 0)
        logged = self._connection.execute("pragma journal_mode").fetchall() == [("wal",)]  # not while it is being made
        self._set("shrink_memory")  # what was only read goes: the rest is to be written
        pages = self._held_bytes() // (self._page_bytes + _PAGE_EXTRA_BYTES)
        return pages * (self._page_bytes + _FRAME_BYTES) if logged else 0, grows

    def _is_too_much(self) -> bool:
        return self._held_bytes() > self._most_bytes

    def _ask(self, pragma: str) -> int:
        found: Any = self._connection.execute(f"pragma {pragma}").fetchall()
        return int(found[0][0])

    def _set(self, *pragmas: str) -> None:
        for pragma in pragmas:
            self._connection.execute(f"pragma {pragma}").fetchall()
