"""Errors of the store that say what to do: a full disk, and a file that cannot be opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt, DiskFull, Failure, FedctlError, denied

if TYPE_CHECKING:
    from pathlib import Path


class WordsDamagedError(Failure):
    """A table of words does not hang together. It is derived: the episodes are whole, and it can be built anew."""


def full() -> DiskFull:
    """Return the error of who was refused for want of room."""
    return DiskFull("the disk is full: the write was refused", hint="free some space and try again")


def cannot_open(path: Path | None, error: Exception) -> FedctlError:
    """Return why a database cannot be opened, as far as one can tell."""
    if path is not None and path.is_dir():
        return Corrupt(f"{path} is a directory, not a database", hint="move it aside and restore a backup")
    if path is not None and not os.access(path.parent, os.W_OK):
        # The log's shared memory lives beside the file: without a writable folder SQLite cannot even read.
        return denied(f"the store's folder is not writable: {path.parent}", path.parent)
    if path is not None and not os.access(path, os.R_OK):
        return denied(f"the store cannot be read: {path}", path)
    return Failure(f"the store cannot be opened: {error}", hint=f"check {path}")


def is_full(path: Path) -> bool:
    """Return whether the disk has next to nothing left."""
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return False
    return state.f_blocks > 0 and state.f_bavail * state.f_frsize < 1 << 16


def damaged(path: Path | None, error: Exception, *, words: bool) -> FedctlError:
    """Return that a database is damaged, or only a table of words in it."""
    if words:
        return WordsDamagedError(
            "the index of words is damaged", hint="the episodes are whole; to build it anew: fedctl memory reindex"
        )
    return Corrupt(
        f"the database {path} is damaged: {error}",
        hint="keep a copy of it, and restore a backup: fedctl backup list",
        details={} if path is None else {"damaged": str(path.parent.absolute())},
    )
