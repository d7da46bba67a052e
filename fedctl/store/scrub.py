"""Wiping what SQLite has left behind in its file: bytes that belong to nothing any more.

With `secure_delete` SQLite overwrites what it deletes. It does not overwrite the copy that stays behind in a page
when rows move to another one, in the gap before the page's content: measured, a text that was deleted everywhere was
still in the file. Nor, with `secure_delete=FAST`, what a page held that was freed: neither while it is free nor, once
it holds the last bytes of another long row, behind those. What lies in gaps, in free blocks, in free pages and in the
tails of overflow pages means nothing to SQLite, so it is overwritten in place: VACUUM would do the same, for as much
room again as the store takes and with everybody waiting.

Source of the format: https://www.sqlite.org/fileformat2.html (sections 1.3 to 1.6).
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING

from fedctl.errors import Unavailable
from fedctl.store.database import Database
from fedctl.store.queries import load
from fedctl.store.raw import RawPages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_sql = load("scrub")
PAGES_AT_ONCE = 256
"""Pages looked at while writers wait, those that long rows go on in counted as well: 1 MiB, some ms."""
_CELLS_A_PAGE = 64
"""So many cells take as long to look at as a page."""
_SLICE_PAUSE_S = 0.005
"""Longer than a slice takes: where others write they have the lock for most of the time."""
_PASSES = 3
_TRIES = 20
_TRY_PAUSE_S = 0.05
_FILE_HEADER_BYTES = 100
_FREE_LIST = 32
_LARGEST_ROOT = 52
"""Where the file's header says which page the list of free pages begins with, and (not 0) that it has auto_vacuum."""
_INDEX_INTERIOR, _TABLE_INTERIOR, _INDEX_LEAF, _TABLE_LEAF = 0x02, 0x05, 0x0A, 0x0D
_HEADER_BYTES = {_INDEX_INTERIOR: 12, _TABLE_INTERIOR: 12, _INDEX_LEAF: 8, _TABLE_LEAF: 8}
"""What a B-tree's page begins with, and how long its header is."""
_AMBIGUOUS_PAGES = 1 << 25
"""In larger files (128 GiB) an overflow page, which begins with the number of another, may look like a B-tree's."""
_NUMBER_BYTES = 4
_VARINT_MAX_BYTES = 9


class Scrubbed(enum.Enum):
    """How it went; true when all was wiped."""

    DONE = "done"
    HELD = "held"
    """Somebody has been reading from the log for so long that it could not be cut: to be done again later."""
    AUTO_VACUUM = "auto_vacuum"
    """The file has pages that look like others and must not be touched: `pragma auto_vacuum`, which no store has."""
    TOO_LARGE = "too_large"
    """The file has so many pages that one kind can be taken for another."""

    def __bool__(self) -> bool:
        """Return whether all was wiped."""
        return self is Scrubbed.DONE


def scrub(path: Path, sleep_s: Callable[[float], None]) -> Scrubbed:
    """Wipe the file of a store and cut its log, while others go on using it; a slice at a time.

    Args:
        path: The database.
        sleep_s: Waits, between two tries.
    """
    # A connection of its own, which has no page in its memory from before: it would write them back as they were.
    database = Database(path)
    try:
        # Rows may move meanwhile from a page that is still to come to one that was looked at. Where one row's tail
        # had to be wiped, such a row may need it too.
        for _ in range(_PASSES):
            work = _Pass(database, sleep_s)
            result = work.run()
            if result is not Scrubbed.DONE or not work.tails:
                return result
    except Unavailable:
        return Scrubbed.HELD
    finally:
        database.close()
    return Scrubbed.DONE


class _Pass:
    """One walk through all of the file."""

    def __init__(self, database: Database, sleep_s: Callable[[float], None]) -> None:
        self._database = database
        self._sleep_s = sleep_s
        self._free = _FreePages()
        self.tails = 0
        """Overflow pages that something was behind the end of."""

    def run(self) -> Scrubbed:
        done, pages = 0, 1
        self._look_ahead()
        version = self._database.data_version()
        while done < pages:
            if version != (version := self._database.data_version()):  # somebody else has written
                self._sleep_s(_SLICE_PAUSE_S)
            self._database.checkpoint()  # most of the log, while nobody waits
            for _ in range(_TRIES):
                with self._database.raw_pages(_sql["touch"]) as raw:
                    if raw is not None:
                        header = raw.read(1, 1)
                        if struct.unpack_from(">I", header, _LARGEST_ROOT)[0]:
                            return Scrubbed.AUTO_VACUUM
                        pages = raw.count
                        if pages >= _AMBIGUOUS_PAGES:
                            return Scrubbed.TOO_LARGE
                        self._free.look(raw, _first_trunk(header))
                        done = self._slice(raw, done + 1)
                        if done >= pages:
                            raw.sync()
                        break
                self._sleep_s(_TRY_PAUSE_S)
            else:
                return Scrubbed.HELD
        return Scrubbed.DONE

    def _look_ahead(self) -> None:
        """Take the list of free pages apart while nobody waits; what is not so, or no more, is put right later."""
        assert self._database.path is not None
        size, count = (int(self._database.pragma(name)) for name in ("page_size", "page_count"))
        count = min(count, self._database.path.stat().st_size // size)  # the log may have more
        if not 0 < count < _AMBIGUOUS_PAGES:
            return
        raw = RawPages(self._database.path, size, count)
        try:
            self._free.look(raw, _first_trunk(raw.read(1, 1)))
        finally:
            raw.close()

    def _slice(self, raw: RawPages, first: int) -> int:
        """Wipe pages from `first` on, as many as are looked at in one go; return which was the last."""
        size, free = raw.size, self._free
        last = min(raw.count, first + PAGES_AT_ONCE - 1)
        data = raw.read(first, last - first + 1)
        empty = bytes(size)
        chained: set[int] = set()
        cells = 0
        for number in range(first, last + 1):
            page = data[(number - first) * size : (number - first + 1) * size]
            if page == empty:
                continue
            if free.leaves[number]:
                raw.write(number, empty)
            elif number in free.trunks:
                used = len(free.trunks[number])
                if page[used:] != empty[used:]:
                    raw.write(number, page[:used] + empty[used:])
            else:
                if (wiped := wiped_page(page, number, raw.usable)) is not None:
                    raw.write(number, wiped)
                for at, length in spilt(page, number, raw.usable):
                    self._wipe_tail(raw, at, length, chained)
                cells += _cell_count(page, number)
            if number - first + len(chained) + cells // _CELLS_A_PAGE >= PAGES_AT_ONCE:
                return number
        return last

    def _wipe_tail(self, raw: RawPages, number: int, length: int, chained: set[int]) -> None:
        """Follow `length` bytes of a row from one overflow page to the next, and wipe what is behind their end.

        A chain that makes no sense is left alone: one that leaves the file, ends too soon or too late, or meets a
        free page or (`chained`) another chain.
        """
        on_each = raw.usable - _NUMBER_BYTES
        links = (length - 1) // on_each
        if links >= raw.count:
            return
        for place in range(links + 1):
            if not 1 < number <= raw.count or number in chained or self._free.has(number):
                return
            chained.add(number)
            following = raw.first_number(number)
            if place < links:
                number = following
        if following:
            return
        page = raw.read(number, 1)
        used = _NUMBER_BYTES + length - links * on_each
        if any(page[used : raw.usable]):
            raw.write(number, page[:used] + bytes(raw.usable - used) + page[raw.usable :])
            self.tails += 1


class _FreePages:
    """Which pages are free, kept from slice to slice: of the list only what changed is taken apart again."""

    def __init__(self) -> None:
        self.trunks: dict[int, bytes] = {}
        """Those that list others, by number: the part of them that does so."""
        self.leaves = bytearray()
        """For each page by number whether it is one of the others."""

    def has(self, number: int) -> bool:
        """Return whether a page is free."""
        return bool(self.leaves[number]) or number in self.trunks

    def look(self, raw: RawPages, trunk: int) -> None:
        """Bring it up to the list that begins with page `trunk`."""
        self.leaves.extend(bytes(max(0, raw.count + 1 - len(self.leaves))))
        found: dict[int, bytes] = {}
        while 0 < trunk <= raw.count and trunk not in found:
            page = raw.read(trunk, 1)
            following, count = struct.unpack_from(">II", page)
            if count > raw.usable // _NUMBER_BYTES - 2:
                break  # no list of free pages: a damaged file is for `store check` to tell of
            found[trunk] = page[: 8 + count * _NUMBER_BYTES]
            trunk = following
        # First what is not so any more: a page may have come from one trunk's list to another's.
        self._mark(self.trunks, found, 0)
        self._mark(found, self.trunks, 1)
        self.trunks = found

    def _mark(self, trunks: dict[int, bytes], others: dict[int, bytes], mark: int) -> None:
        for number, page in trunks.items():
            if others.get(number) != page:
                for leaf in struct.unpack_from(f">{len(page) // _NUMBER_BYTES - 2}I", page, 8):
                    if leaf < len(self.leaves):
                        self.leaves[leaf] = mark


def _first_trunk(page: bytes) -> int:
    first: int = struct.unpack_from(">I", page, _FREE_LIST)[0]
    return first


def wiped_page(page: bytes, number: int, usable: int) -> bytes | None:
    """Return a B-tree's page with nothing in it but what SQLite reads; None when that is what it is already.

    None, too, for any other page, and for one that makes no sense: nothing is changed that is not understood.
    """
    header = _FILE_HEADER_BYTES if number == 1 else 0
    length = _HEADER_BYTES.get(page[header])
    if length is None:
        return None
    free, cells, content = struct.unpack_from(">HHH", page, header + 1)
    content = content or 65536
    behind = header + length + 2 * cells
    if not behind <= content <= usable:
        return None
    wiped = bytearray(page)
    wiped[behind:content] = bytes(content - behind)
    while free:
        if not content <= free <= usable - 4:
            return None
        following, size = struct.unpack_from(">HH", page, free)
        if size < 4 or free + size > usable or (following and following <= free):  # noqa: PLR2004  its own header
            return None
        wiped[free + 4 : free + size] = bytes(size - 4)
        free = following
    return None if wiped == page else bytes(wiped)


def spilt(page: bytes, number: int, usable: int) -> Iterator[tuple[int, int]]:
    """Yield for each row of a B-tree's page that goes on elsewhere: the first overflow page, the bytes from there on.

    Nothing for any other page; a cell that makes no sense is passed over.
    """
    header = _FILE_HEADER_BYTES if number == 1 else 0
    kind = page[header]
    cells = _cell_count(page, number)
    if kind == _TABLE_INTERIOR or not cells:
        return
    pointers = header + _HEADER_BYTES[kind]
    if pointers + 2 * cells > usable:
        return
    least = (usable - 12) * 32 // 255 - 23
    most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    short = min(most, 0x7F)  # a length of one byte
    before = _NUMBER_BYTES if kind == _INDEX_INTERIOR else 0
    for cell in struct.unpack_from(f">{cells}H", page, pointers):
        at = cell + before
        if not pointers + 2 * cells <= cell < usable - 2 * _NUMBER_BYTES or page[at] <= short:
            continue
        length, at = _varint(page, at)
        if length <= most:
            continue
        if kind == _TABLE_LEAF:
            _, at = _varint(page, at)
        here = least + (length - least) % (usable - _NUMBER_BYTES)
        if here > most:
            here = least
        if at + here <= usable - _NUMBER_BYTES:
            yield struct.unpack_from(">I", page, at + here)[0], length - here


def _cell_count(page: bytes, number: int) -> int:
    header = _FILE_HEADER_BYTES if number == 1 else 0
    return struct.unpack_from(">H", page, header + 3)[0] if page[header] in _HEADER_BYTES else 0


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """Return the number of one to nine bytes at a place, and the place behind it."""
    value = 0
    for place in range(at, min(at + _VARINT_MAX_BYTES - 1, len(page))):
        value = value << 7 | page[place] & 0x7F
        if page[place] < 0x80:  # noqa: PLR2004  the bit that says that more follows
            return value, place + 1
    last = at + _VARINT_MAX_BYTES - 1
    return (value << 8 | page[last], last + 1) if last < len(page) else (0, len(page))
