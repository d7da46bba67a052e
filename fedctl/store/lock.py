"""Locks on files (`flock`): the queue of writers, and who uses a store at all. The kernel drops them with a process."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING

from fedctl.errors import Locked, Unavailable

if TYPE_CHECKING:
    from pathlib import Path


class FileLock:
    """An exclusive or a shared lock on a file of its own, which stays open from the first time on.

    Two objects of one process exclude each other too, for each has its own open file.
    """

    def __init__(self, path: Path, timeout_s: float, busy: str = "the store was busy") -> None:
        """Keep the path; the file is made with the first lock. `busy` begins the error of who waits in vain."""
        self._path = path
        self._timeout_s = timeout_s
        self._busy = busy
        self._descriptor = -1
        self.held = False
        """Whether this object holds the lock."""

    def acquire(self, *, shared: bool = False) -> None:
        """Wait for the lock, in the kernel's own queue; `Unavailable` when `timeout_s` runs out first (0: at once)."""
        if self._descriptor < 0:
            self._descriptor = self._opened(shared=shared)
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
            self.held = True
        except BlockingIOError:
            if self._timeout_s <= 0:
                self.close()
                raise Unavailable(self._busy, hint="try again") from None
            # Whoever gives up leaves the open file to the thread that waits for it.
            descriptor, self._descriptor = self._descriptor, -1
            self._wait(descriptor, how)
            self._descriptor, self.held = descriptor, True
        except BaseException:  # Ctrl-C: it may have come with the lock
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        """The open file; -1 before the first lock."""
        return self._descriptor

    def _opened(self, *, shared: bool) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if not shared or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or not self._path.is_file():
                raise
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)  # whoever only reads may say so

    def _wait(self, descriptor: int, how: int) -> None:
        # A blocking flock knows no time limit and polling would lose the place in the queue: so a thread waits,
        # and whoever comes second (the thread with the lock, or the caller at its time limit) closes the file.
        done = threading.Event()
        hand_over = threading.Lock()
        abandoned = False

        def wait() -> None:
            fcntl.flock(descriptor, how)
            with hand_over:
                if abandoned:
                    os.close(descriptor)
                else:
                    done.set()

        try:
            threading.Thread(target=wait, name="file-lock", daemon=True).start()
            done.wait(self._timeout_s)
        except BaseException:  # Ctrl-C: whoever has the lock then must not keep it
            with hand_over:
                abandoned = True
                if done.is_set():
                    os.close(descriptor)
            raise
        with hand_over:
            if not done.is_set():
                abandoned = True
                raise Unavailable(
                    f"{self._busy} for {self._timeout_s:g} s", hint="try again, or give it longer with --timeout"
                )

    def release(self) -> None:
        """Let the next one in."""
        self.held = False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which lets the next one in."""
        self.held = False
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def use(path: Path, timeout_s: float, *, exclusive: bool) -> FileLock:
    """Return the lock that says that somebody uses the store at `path`: shared by all, or held by one alone.

    Whoever puts another file in the store's place (restore, vacuum, migrate) must be alone: a connection that is open
    to the old file would go on with it, and acknowledge what nobody ever sees again.

    Raises:
        Locked: It is to be exclusive, and others still use the store after `timeout_s`.
        Unavailable: It is to be shared, and somebody had it alone for `timeout_s`.
    """
    lock = FileLock(path.with_suffix(".use"), timeout_s, "the store was being restored or rewritten")
    try:
        lock.acquire(shared=not exclusive)
    except OSError:
        if exclusive:
            raise
        # A folder that takes no file (read-only, full) takes no other store either: there is nothing to be said.
    except Unavailable as error:
        if not exclusive:
            raise
        pids = holders(path.with_suffix(".use"))
        named = f" ({'process' if len(pids) == 1 else 'processes'} {', '.join(map(str, pids))})" if pids else ""
        raise Locked(
            f"others use this store: a hub, an agent or a command{named}",
            hint="let them end first (fedctl hub stop), or wait for them with --lock-wait",
            details={"pids": pids},
        ) from error
    return lock


def holders(path: Path) -> list[int]:
    """Return the processes that share a lock on a file, where the kernel tells (Linux); else none."""
    try:
        inode = path.stat().st_ino
        with open("/proc/locks", encoding="ascii") as file:  # noqa: PTH123  no path of ours
            rows = [line.split() for line in file]
    except OSError:
        return []
    # "1: FLOCK  ADVISORY  READ 4711 08:01:393218 0 EOF"; who waits has "->" before FLOCK, a process we cannot see is 0.
    shared = [row for row in rows if (row[1], row[3]) == ("FLOCK", "READ")]
    held = {int(row[4]) for row in shared if row[5].rpartition(":")[2] == str(inode)}
    return sorted(pid for pid in held if pid > 0)
