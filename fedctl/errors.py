"""Every error a user can meet: one class a code, one exit status a class.

The table in the command line's contract ("Errors and exit codes") is this file. An error says what went wrong
(`message`), what to do about it (`hint`), and carries machine-readable `details`. The same object crosses the
wire and comes out as the same class on the other side (`from_code`).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the operating system says where nothing more fits: on the disk, in a quota, or in a file (`ulimit -f`)."""


class FedctlError(Exception):
    """Base of all errors of fedctl; itself the error for anything without a code of its own (exit 1)."""

    code: ClassVar[str] = "failure"
    exit: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str]
    """What whoever meets it can do, for the manual; an error's own `hint` knows more."""

    def __init__(self, message: str, *, hint: str | None = None, details: dict[str, Any] | None = None) -> None:
        """Keep the parts: `message` is one sentence; `hint` says what to do; `details` is plain JSON."""
        super().__init__(message)
        self.message = _writable(message)
        self.hint = None if hint is None else _writable(hint)
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


def _writable(text: str) -> str:
    """Return a text that can be written anywhere: it may quote bytes that were no text, surrogates to Python."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class Failure(FedctlError):
    """Anything that has no code of its own."""

    remedy = (
        'Read the message. `FEDCTL_DEBUG=1` shows where it happened; what says "unexpected" is a bug: please report it.'
    )


class UsageError(FedctlError):
    """A bad flag, argument, value, setting or limit; or a confirmation that nobody is there to give."""

    code = "usage"
    exit = 2
    remedy = (
        "Mend the command line, the variable or the setting that the message names; its hint says what was "
        "perhaps meant. In a script, add --yes to what asks."
    )


class Partial(FedctlError):
    """A batch finished and some of its items were refused; each was reported where it stood."""

    code = "partial"
    exit = 3
    remedy = (
        "Read the answer: each refusal stands where its item stood. Mend those and send them again; the others "
        "are done."
    )


class NotFound(FedctlError):
    """No such thing, or it belongs to another tenant: the two are never told apart."""

    code = "not_found"
    exit = 4
    remedy = "List what there is (`list`), and check --tenant: another tenant's things are not found either."


class Conflict(FedctlError):
    """It exists with other content, its lease is lost, or a guard refused."""

    code = "conflict"
    exit = 5
    remedy = (
        "Do not repeat it as it is. Look at what is there (`show`, `get`); a lost lease means that somebody else "
        "has the item now."
    )


class Empty(FedctlError):
    """There was nothing to claim."""

    code = "empty"
    exit = 6
    remedy = "Nothing is wrong. Try again later, or let the command wait: `pool claim --wait 1h`."


class Unavailable(FedctlError):
    """The hub cannot be reached or the store is busy past the timeout; trying again is safe."""

    code = "unavailable"
    exit = 7
    retryable = True
    remedy = "Try again after a while. Where a hub was asked, see whether it runs: `fedctl hub status`."


class Timeout(FedctlError):
    """The time given with `--timeout` ran out; the request may or may not have been carried out."""

    code = "timeout"
    exit = 8
    retryable = True
    remedy = (
        "Look whether it was carried out before repeating what is not safe to repeat; give it longer with --timeout."
    )


class Denied(FedctlError):
    """The token or the file permissions do not allow it, or a backup's passphrase is another."""

    code = "denied"
    exit = 9
    remedy = (
        "Use a token that holds and is of the right tenant and role (`fedctl token issue`), or mend the files' "
        "permissions."
    )


class NoStore(FedctlError):
    """The home holds no store yet."""

    code = "no_store"
    exit = 10
    remedy = "Begin with `fedctl init`, or name the home that you meant with --home."


class Locked(FedctlError):
    """Another process holds the home exclusively."""

    code = "locked"
    exit = 11
    remedy = "Stop what uses the home (`fedctl hub stop`), or wait for it: --lock-wait."


class Corrupt(FedctlError):
    """The database itself is damaged, a signature fails, or the schema is newer than this fedctl."""

    code = "corrupt"
    exit = 13
    remedy = "Restore a backup (`fedctl restore latest --overwrite`) or, where the schema is newer, use a newer fedctl."


class Findings(FedctlError):
    """A check ran to its end and found problems."""

    code = "findings"
    exit = 14
    remedy = "Read the findings: each says what mends it."


class DiskFull(FedctlError):
    """The write was refused for want of space; nothing of it was kept."""

    code = "disk_full"
    exit = 15
    remedy = "Free some space on the home's disk, and try again."


class Expired(FedctlError):
    """A lifetime ended a command."""

    code = "expired"
    exit = 124
    remedy = "Give the agent a longer --lifetime, or the command less to do."


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


def how_to_issue(tenant: str = "T", *, role: str | None = None) -> str:
    """Return the hint of who lacks a token that holds, as a command and what to do with what it prints."""
    said = f" --role {role}" if role is not None else ""
    return f"on the hub's machine: fedctl token issue --tenant {tenant}{said} > FILE; then use it: --token-file FILE"


def from_os(error: OSError, what: str, *, hint: str | None = None) -> FedctlError:
    """Return the error that an operating system's error amounts to; `what` could not be done, in words."""
    if error.errno in NO_SPACE:
        return DiskFull("the disk is full: the write was refused", hint="free some space and try again")
    why = f"{what}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(why, hint=hint or "check the permissions")
    return Failure(why, hint=hint)


def denied(what: str, path: Path, *, hint: str | None = None) -> Denied:
    """Return the error of who may not do `what` at `path`: whose the place is that refuses, and what opens it.

    `hint` is what to do where it is another user's, if not to be that user.
    """
    import shlex  # noqa: PLC0415  only for who was refused
    import stat  # noqa: PLC0415  likewise

    place = path
    while (state := _state(place)) is None:  # not there, or in a folder that may not be entered: then that is the one
        if place == place.parent:
            return Denied(what)
        place = place.parent
    told = f"{what} ({place} is {_owner(state.st_uid)}'s, mode {stat.S_IMODE(state.st_mode):04o})"
    if state.st_uid != os.getuid():
        theirs = f"sudo -u {_owner(state.st_uid)} fedctl doctor   # or another home: --home DIR"
        return Denied(told, hint=hint or theirs)
    rights, mode = ("rwx", 0o700) if stat.S_ISDIR(state.st_mode) else ("rw", 0o600)
    quoted = shlex.quote(str(place))
    if state.st_mode & mode == mode:
        return Denied(told, hint=f"findmnt -T {quoted}   # is it mounted read-only?")
    return Denied(told, hint=f"chmod u+{rights} {quoted}")


def _owner(uid: int) -> str:
    """Return a user as `sudo -u` takes it: by name, or by number where there is none."""
    import pwd  # noqa: PLC0415  likewise

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
