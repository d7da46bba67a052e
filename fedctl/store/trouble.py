"""Errors of the store that say what to do: a full disk, and a file that cannot be opened."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt, Denied, DiskFull, Failure, FedctlError, denied

if TYPE_CHECKING:
    from pathlib import Path


class WordsDamagedError(Failure):
    """A table of words does not hang together. It is derived: the episodes are whole, and it can be built anew."""


def full() -> DiskFull:
    """Return the error of who was refused for want of room."""
    return DiskFull("the disk is full: the write was refused", hint="free some space and try again")


_KINDS = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket",
          stat.S_IFCHR: "device", stat.S_IFBLK: "device"}  # fmt: skip
NEWER_FORMAT = "the header names a format that nobody can write"


def is_there(path: Path) -> bool:
    """Return whether something stands in a database's place, a file with something in it: one `stat`.

    Raises:
        Corrupt: It is no file, or a link to what is not there: neither is to be waited for, nor replaced.
    """
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return False
        raise Corrupt(
            f"{path} is a link to {str(path.readlink())!r}, which is not there",
            hint="put back what it leads to (is a disk not mounted?), or move the link aside",
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Corrupt(f"{path} is a link that leads to itself", hint="move it aside and restore a backup") from None
        raise
    if not stat.S_ISREG(state.st_mode):
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "thing of its own kind")
        raise Corrupt(f"{path} is a {kind}, not a database", hint="move it aside and restore a backup")
    return state.st_size > 0


def empty(path: Path) -> Corrupt:
    """Return the error of a file without anything in it: a store comes into its place whole, so it was cut off."""
    details = {"damaged": str(path.parent.absolute())}
    return Corrupt(f"the database {path} is empty", hint="restore a backup, or move it aside", details=details)


def no_file_beside(path: Path) -> Path | None:
    """Return which of the log and its index is something else than a file, if one of them is."""
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(beside.lstat().st_mode):
                return beside
    return None


def _spoilt_beside(path: Path | None) -> Corrupt | None:
    beside = None if path is None else no_file_beside(path)
    if beside is None:
        return None
    hint = "move it aside; what only the log had is gone"
    return Corrupt(f"{beside} is no file, as the store's log is", hint=hint)


class FlushFailedError(Failure):
    """The disk did not keep what it was given: what is written behind it into the same log may be lost with it."""


def io_failed(path: Path | None, error: Exception, *, flushing: bool) -> FedctlError:
    """Return why the disk did not do as it was told; `flushing`: it was to keep what it had been given."""
    # A short write for want of space surfaces as an I/O error from some file systems.
    if path is not None and is_full(path):
        return full()
    if (spoilt := _spoilt_beside(path)) is not None:
        return spoilt
    told = f"reading or writing the store failed: {error}"
    if flushing:  # it may be on the disk all the same: whoever opens the store next knows
        return FlushFailedError(told, hint="check the disk; what was to be written may be there or not")
    return Failure(told, hint="check the disk")


def cannot_write(path: Path | None, error: Exception, *, refused: bool) -> FedctlError:
    """Return why a database that can be read cannot be written; `refused`: SQLite did not come to trying."""
    if (spoilt := _spoilt_beside(path)) is not None:
        return spoilt
    if refused and path is not None and may_be_written(path):
        return damaged(path, Exception(NEWER_FORMAT), words=False)
    what = f"the store cannot be written: {error}"
    return Denied(what) if path is None else denied(what, path)


def may_be_written(path: Path) -> bool:
    """Return whether the system would let us write a store; to open the file and close it again ends SQLite's locks."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def cannot_open(path: Path | None, error: Exception) -> FedctlError:
    """Return why a database cannot be opened, as far as one can tell."""
    if (spoilt := _spoilt_beside(path)) is not None:
        return spoilt
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
