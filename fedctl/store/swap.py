"""Putting another file in a store's place: at any instant there is the old store or the new one, never a mix.

A log (`-wal`) is not bound to its database: SQLite replays what lies beside a file onto it, whoever's it is. So more
than one file has to change places, and a process may be killed between any two. All of it happens in a folder beside
the store, and what lies there says how far it came; whoever opens the store next goes on from there:

- `unpacked.db`: being made. Nothing has happened yet, and nothing will: the folder is dropped.
- `new.db`: whole. From the rename to this name on it is the store, and what remains to be done is done.
- `old.db`, `old.db-wal`: the store that was, kept aside until the new one has been opened in its place.
- `back.db`: the store that was is to be the store again, for the new one could not be opened.

Every function here is called with the store's use held alone (store/lock).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fedctl import disk
from fedctl.errors import Failure
from fedctl.store.database import translated
from fedctl.store.lock import FileLock

if TYPE_CHECKING:
    from pathlib import Path

    from fedctl.store.database import Database

_SUFFIX = ".exchange"
_BESIDE = ("-wal", "-shm")


def is_begun(path: Path) -> bool:
    """Return whether an exchange of this store has begun and not ended: one `stat`."""
    try:
        os.stat(f"{path}{_SUFFIX}")  # noqa: PTH116  on the path of every command
    except OSError:
        return False
    return True


def settle(path: Path, timeout_s: float) -> None:
    """Finish or undo what a process left that died while it exchanged the store.

    Raises:
        Unavailable: One that lives is at it, and was still after `timeout_s`.
        Denied: The folder may not be written.
    """
    if not is_begun(path):
        return
    lock = FileLock(path.with_suffix(".use"), timeout_s, "the store was being restored or rewritten")
    with translated(path):
        lock.acquire()
        try:
            Exchange(path).recover()
        finally:
            lock.close()


class Exchange:
    """One exchange: `begin`, make a whole database at `unpacked`, `commit`, then `end` or `put_back`."""

    def __init__(self, path: Path) -> None:
        """`path` is the store's, which need not be there."""
        self.path = path
        self.folder = path.with_name(path.name + _SUFFIX)
        self.unpacked = self.folder / "unpacked.db"
        self.beside = self.folder / "beside"
        """A folder for other things of the home: each comes into its place with the store, where nothing is there."""
        self._new = self.folder / "new.db"
        self._old = self.folder / "old.db"
        self._back = self.folder / "back.db"
        self._old_log = self.folder / "old.db-wal"
        self._log = _beside(path, "-wal")

    def begin(self) -> None:
        """Make the folder, once what an earlier exchange left is settled."""
        self.recover()
        self.folder.mkdir(mode=0o700)
        self.beside.mkdir(mode=0o700)
        disk.sync(self.folder.parent)

    def seal(self, database: Database) -> None:
        """Close the database at `unpacked`, with nothing of it left in its log, and have it on disk."""
        database.checkpoint(truncate=True)
        database.close()
        for suffix in _BESIDE:
            left = _beside(self.unpacked, suffix)
            if suffix == "-wal" and left.exists() and left.stat().st_size:
                raise Failure("SQLite left something in the log of the restored database", hint="try again")
            left.unlink(missing_ok=True)
        for one in [self.unpacked, *(path for path in self.beside.rglob("*") if path.is_file())]:
            disk.sync(one)

    def commit(self) -> None:
        """Put the database at `unpacked` in the store's place.

        What could fail for want of space comes before the one rename that decides.
        """
        if self.path.exists():
            try:
                os.link(self.path, self._old)
            except OSError:
                self._old.unlink(missing_ok=True)  # a file system without links: the old one is not kept aside
            else:
                self._old_log.touch(mode=0o600)  # there from now on, so that `_return` knows whether it was moved
        for folder in (self.beside, self.folder):
            disk.sync(folder)
        self.unpacked.rename(self._new)
        disk.sync(self.folder)
        self._finish()

    def put_back(self) -> None:
        """Make the old store the store again, where there was one and it could be kept aside."""
        if self._old.exists():
            self._old.rename(self._back)
            disk.sync(self.folder)
            self._return()

    def recover(self) -> None:
        """Finish what was decided, and leave nothing lying about."""
        if self._back.exists():
            self._return()
        elif self._new.exists():
            self._finish()
        self.end()

    def end(self) -> None:
        """Drop the old store, or what was made in vain."""
        if self.folder.exists():
            import shutil  # noqa: PLC0415  10 ms that no other command pays

            shutil.rmtree(self.folder)
            disk.sync(self.path.parent)

    def _finish(self) -> None:
        for one in sorted(self.beside.iterdir()) if self.beside.exists() else ():
            target = self.path.with_name(one.name)
            if not target.exists() or (target.is_dir() and not any(target.iterdir())):
                one.rename(target)
        # The old log first: the new file must not be met with it. The old file without its log is met by nobody.
        if self._log.exists():
            self._log.replace(self._old_log)
        _beside(self.path, "-shm").unlink(missing_ok=True)
        disk.sync(self.path.parent)
        self._new.replace(self.path)
        disk.sync(self.path.parent)
        disk.sync(self.folder)

    def _return(self) -> None:
        if self._old_log.exists():
            self._old_log.replace(self._log)
        _beside(self.path, "-shm").unlink(missing_ok=True)
        disk.sync(self.path.parent)
        self._back.replace(self.path)
        disk.sync(self.path.parent)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
