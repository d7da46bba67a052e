"""Wiping what SQLite has left behind in its file: bytes that belong to nothing any more.

With `secure_delete` SQLite overwrites what it deletes. It does not overwrite the copy that stays behind in a page
when rows move to another one, in the gap before the page's content: measured, a text that was deleted everywhere was
still in the file. What lies in gaps, in free blocks and in free pages means nothing to SQLite, so it is overwritten in
place: VACUUM would do the same, for as much room again as the store takes and with everybody waiting.

Source of the format: https://www.sqlite.org/fileformat2.html (sections 1.5, 1.6).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fedctl.errors import Unavailable
from fedctl.store.database import Database
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fedctl.store.database import RawPages

_sql = load("scrub")
PAGES_AT_ONCE = 1024
"""Pages looked through while writers wait: 4 MiB, some 5 ms."""
_TRIES = 20
_TRY_PAUSE_S = 0.05
_FILE_HEADER_BYTES = 100
_HEADER_BYTES = {0x02: 12, 0x05: 12, 0x0A: 8, 0x0D: 8}
"""What a B-tree's page begins with (index and table, interior and leaf), and how long its header is."""
_AMBIGUOUS_PAGES = 1 << 25
"""In larger files (128 GiB) an overflow page, which begins with the number of another, may look like a B-tree's."""


def scrub(path: Path, sleep_s: Callable[[float], None]) -> bool:
    """Wipe the file of a store and cut its log, while others go on using it; a slice at a time.

    Args:
        path: The database.
        sleep_s: Waits, between two tries.

    Returns:
        False: somebody has been reading from the log for so long that it could not be cut, or the file is too large
        to be sure of. Nothing is lost; it has to be done again later.
    """
    # A connection of its own, which has no page in its memory from before: it would write them back as they were.
    database = Database(path)
    try:
        done, pages = 0, 1
        while done < pages:
            database.checkpoint()  # most of the log, while nobody waits
            for _ in range(_TRIES):
                with database.raw_pages(_sql["touch"]) as raw:
                    if raw is not None:
                        pages = raw.count
                        if pages >= _AMBIGUOUS_PAGES:
                            return False
                        _scrub_slice(raw, done + 1, min(pages, done + PAGES_AT_ONCE))
                        break
                sleep_s(_TRY_PAUSE_S)
            else:
                return False
            done = min(pages, done + PAGES_AT_ONCE)
    except Unavailable:
        return False
    finally:
        database.close()
    return True


def _scrub_slice(raw: RawPages, first: int, last: int) -> None:
    size = raw.size
    data = raw.read(first, last - first + 1)
    empty = bytes(size)
    trunks, leaves = _free_pages(raw, first, last)
    for place in range(last - first + 1):
        page = data[place * size : (place + 1) * size]
        number = first + place
        if page == empty:
            continue
        if number in leaves:
            raw.write(number, empty)
        elif number in trunks:
            used = 8 + 4 * struct.unpack_from(">I", page, 4)[0]
            if page[used:] != empty[used:]:
                raw.write(number, page[:used] + empty[used:])
        elif (wiped := wiped_page(page, number, raw.usable)) is not None:
            raw.write(number, wiped)


def _free_pages(raw: RawPages, first: int, last: int) -> tuple[set[int], set[int]]:
    """Return the free pages from `first` to `last`: those that list others, and the others."""
    trunks: set[int] = set()
    leaves: set[int] = set()
    trunk = struct.unpack_from(">I", raw.read(1, 1), 32)[0]
    seen: set[int] = set()
    while 0 < trunk <= raw.count and trunk not in seen:
        seen.add(trunk)
        page = raw.read(trunk, 1)
        following, count = struct.unpack_from(">II", page)
        if count > raw.usable // 4 - 2:
            break  # no list of free pages: a damaged file is for `store check` to tell of
        if first <= trunk <= last:
            trunks.add(trunk)
        leaves.update(one for one in struct.unpack_from(f">{count}I", page, 8) if first <= one <= last)
        trunk = following
    return trunks, leaves


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
