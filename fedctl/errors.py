"""Every error a user can meet: one class a code, one exit status a class.

The table in the command line's contract ("Errors and exit codes") is this file. An error says what went wrong
(`message`), what to do about it (`hint`), and carries machine-readable `details`. The same object crosses the
wire and comes out as the same class on the other side (`from_code`).
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the operating system says where nothing more fits: on the disk, in a quota, or in a file (`ulimit -f`)."""


class FedctlError(Exception):
    """Base of all errors of fedctl; itself the error for anything without a code of its own (exit 1)."""

    code: ClassVar[str] = "failure"
    exit: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, details: dict[str, Any] | None = None) -> None:
        """Keep the parts: `message` is one sentence; `hint` says what to do; `details` is plain JSON."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details or {}

    def as_dict(self) -> dict[str, Any]:
        """Return the `error` object of the JSON contract."""
        return {
            "code": self.code,
            "exit": self.exit,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "details": self.details,
        }


class Failure(FedctlError):
    """Anything that has no code of its own."""


class UsageError(FedctlError):
    """A bad flag, argument, value, setting or limit; or a confirmation that nobody is there to give."""

    code = "usage"
    exit = 2


class Partial(FedctlError):
    """A batch finished and some of its items were refused; each was reported where it stood."""

    code = "partial"
    exit = 3


class NotFound(FedctlError):
    """No such thing, or it belongs to another tenant: the two are never told apart."""

    code = "not_found"
    exit = 4


class Conflict(FedctlError):
    """It exists with other content, its lease is lost, or a guard refused."""

    code = "conflict"
    exit = 5


class Empty(FedctlError):
    """There was nothing to claim."""

    code = "empty"
    exit = 6


class Unavailable(FedctlError):
    """The hub cannot be reached or the store is busy past the timeout; trying again is safe."""

    code = "unavailable"
    exit = 7
    retryable = True


class Timeout(FedctlError):
    """The time given with `--timeout` ran out; the request may or may not have been carried out."""

    code = "timeout"
    exit = 8
    retryable = True


class Denied(FedctlError):
    """The token or the file permissions do not allow it."""

    code = "denied"
    exit = 9


class NoStore(FedctlError):
    """The home holds no store yet."""

    code = "no_store"
    exit = 10


class Locked(FedctlError):
    """Another process holds the home exclusively."""

    code = "locked"
    exit = 11


class Corrupt(FedctlError):
    """The database itself is damaged, a signature fails, or the schema is newer than this fedctl."""

    code = "corrupt"
    exit = 13


class Findings(FedctlError):
    """A check ran to its end and found problems."""

    code = "findings"
    exit = 14


class DiskFull(FedctlError):
    """The write was refused for want of space; nothing of it was kept."""

    code = "disk_full"
    exit = 15


class Expired(FedctlError):
    """A lifetime ended a command."""

    code = "expired"
    exit = 124


BY_CODE: dict[str, type[FedctlError]] = {
    kind.code: kind
    for kind in (
        Failure, UsageError, Partial, NotFound, Conflict, Empty, Unavailable, Timeout, Denied, NoStore, Locked,
        Corrupt, Findings, DiskFull, Expired,
    )
}  # fmt: skip


def from_code(
    code: str, message: str, *, hint: str | None = None, details: dict[str, Any] | None = None
) -> FedctlError:
    """Return the error of that code; an unknown code (from a newer peer) becomes a plain failure."""
    return BY_CODE.get(code, Failure)(message, hint=hint, details=details)


def of_exit(status: int) -> type[FedctlError]:
    """Return the kind of error that a process of ours ended with, by its exit code; a plain failure for any other."""
    return next((kind for kind in BY_CODE.values() if kind.exit == status), Failure)


def from_os(error: OSError, what: str, *, hint: str | None = None) -> FedctlError:
    """Return the error that an operating system's error amounts to; `what` could not be done, in words."""
    if error.errno in NO_SPACE:
        return DiskFull("the disk is full: the write was refused", hint="free some space and try again")
    why = f"{what}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(why, hint=hint or "check the permissions")
    return Failure(why, hint=hint)
