"""Whether a store's files are still those that were opened: what lost its name is gone with the process that holds it.

A restore or a vacuum, which do put another file there, have the store for themselves. So for whoever has it open a name
that leads elsewhere, or a database that became shorter, is damage: done by a hand, or by another program.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

_HINT = "stop what uses the store; then put the file back, or restore a backup"


class Place:
    """The names of a store's database and its log, and which files they led to."""

    def __init__(self, path: Path) -> None:
        """Look: with the database just opened. Its log comes into being later, and stays."""
        self._path = str(path)
        self._log = f"{path}-wal"
        self._database: tuple[int, int] | None = None
        self._log_file: tuple[int, int] | None = None
        self._size_bytes = 0
        self.check()

    def check(self) -> None:
        """Raise `Corrupt` unless the names lead to what they led to before: two `stat`, some 3 µs."""
        found = _stat(self._path)
        if found is None or (self._database is not None and _file(found) != self._database):
            raise Corrupt(f"the database {self._path} was removed or replaced while it was open", hint=_HINT)
        if found.st_size < self._size_bytes:
            raise Corrupt(f"the database {self._path} was cut while it was open", hint=_HINT)
        self._database, self._size_bytes = _file(found), found.st_size
        log = _stat(self._log)
        if self._log_file is not None and (log is None or _file(log) != self._log_file):
            raise Corrupt(f"the store's log {self._log} was removed or replaced while it was open", hint=_HINT)
        self._log_file = None if log is None else _file(log)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  on the path of every commit
    except OSError:
        return None


def _file(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
