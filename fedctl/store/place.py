"""Whether a store's files are still those that were opened: what lost its name is gone with the process that holds it.

A restore or a vacuum, which do put another file there, have the store for themselves. So for whoever has it open a name
that leads elsewhere, or a database that became shorter or begins as none, is damage: done by a hand, or by another
program. Of the log's index, through which those who have the store open know of each other's commits, it is worse than
that: with two of them two would write to the same place of the log.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt
from fedctl.store.raw import begins_as_one

if TYPE_CHECKING:
    from pathlib import Path

_HINT = "stop what uses the store; then put the file back, or restore a backup"


class Place:
    """The names of a store's database, its log and the log's index, and which files they led to."""

    def __init__(self, path: Path) -> None:
        """Look: with the database just opened. Its log and that one's index come into being later, and stay."""
        self._path = str(path)
        self._database: tuple[int, int] | None = None
        self._beside: dict[str, tuple[int, int] | None] = {f"{path}-wal": None, f"{path}-shm": None}
        self._size_bytes = self.check_names().st_size

    def check_names(self) -> os.stat_result:
        """Raise `Corrupt` unless the names lead to what they led to before: three `stat`, some 5 µs."""
        found = _stat(self._path)
        if found is None or (self._database is not None and _file(found) != self._database):
            raise Corrupt(f"the database {self._path} was removed or replaced while it was open", hint=_HINT)
        self._database = _file(found)
        for name, before in self._beside.items():
            beside = _stat(name)
            if before is not None and (beside is None or _file(beside) != before):
                raise Corrupt(f"the store's log {name} was removed or replaced while it was open", hint=_HINT)
            self._beside[name] = None if beside is None else _file(beside)
        return found

    def check(self) -> None:
        """Raise `Corrupt` too if what the name leads to is less, or no database any more: SQLite looks but once."""
        found = self.check_names()
        if found.st_size < self._size_bytes:
            raise Corrupt(f"the database {self._path} was cut while it was open", hint=_HINT)
        self._size_bytes = found.st_size
        if not begins_as_one(self._path):
            raise Corrupt(f"the database {self._path} was overwritten while it was open", hint=_HINT)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  on the path of every commit
    except OSError:
        return None


def _file(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
