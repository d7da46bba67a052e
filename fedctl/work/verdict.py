"""What an attempt came to: a command's exit status becomes the request that tells of it."""

from __future__ import annotations

import contextlib
import errno
import random
import signal
from typing import TYPE_CHECKING, NamedTuple

from fedctl.messages.pool import CompleteItems, FailItems, ReleaseItems
from fedctl.model.pool import Completion, Item, ItemFailure, Lease

if TYPE_CHECKING:
    from fedctl.errors import UsageError
    from fedctl.work.plan import Outcome
    from fedctl.work.process import Ran

GIVE_BACK = 75
"""The exit status that gives an item back without counting the attempt (EX_TEMPFAIL of sysexits.h)."""
POISON = 65
"""The exit status that poisons an item at once (EX_DATAERR of sysexits.h)."""
SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a command."""
RETRY_FIRST_MS = 1_000
RETRY_MOST_MS = 300_000
_SHORT_OF = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.ENOSPC})


class Report(NamedTuple):
    """What an attempt came to, and the request that tells so; None: there is nothing to tell, the lease is lost.

    `pause`: there is a reason not to claim the next item at once. `reason` is the error in a few words.
    """

    outcome: Outcome
    request: CompleteItems | FailItems | ReleaseItems | None
    exit: int | None
    error: str | None = None
    retry_in_ms: int | None = None
    pause: bool = False
    reason: str | None = None


def lease_of(item: Item) -> Lease:
    """Return the lease that a claimed item is held by."""
    assert item.lease_id is not None
    return Lease(id=item.id, lease_id=item.lease_id)


def judged(item: Item, ran: Ran) -> Report:
    """Judge a command that has ended."""
    if ran.why == "lost":
        return Report("lost", None, ran.status)
    if ran.why == "time":
        return failed(item, "time limit", ran)
    if ran.status == 0:
        lease = lease_of(item)
        completion = Completion(id=lease.id, lease_id=lease.lease_id, result=ran.stdout.result())
        return Report("done", CompleteItems(completions=[completion]), 0)
    if ran.status == GIVE_BACK:
        return released(item, ran.status, pause=True)
    if ran.why == "stopped" and ran.status != POISON:
        return released(item, ran.status)
    return failed(item, _in_words(ran.status), ran, poison=ran.status == POISON)


def not_started(item: Item, error: UsageError | OSError) -> Report | None:
    """Judge a command that could not be started: by its item, or by the machine; None where it is neither's fault."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError):
        return failed(item, str(error))
    if cause.errno in _SHORT_OF:
        return released(item, None, pause=True)
    if cause.errno == errno.E2BIG:
        return failed(item, "the data are too long for an argument: take them from stdin")
    return None


def released(item: Item, status: int | None, *, pause: bool = False) -> Report:
    """Return the report that gives an item back without counting the attempt."""
    return Report("released", ReleaseItems(leases=[lease_of(item)]), status, pause=pause)


def failed(item: Item, error: str, ran: Ran | None = None, *, poison: bool = False) -> Report:
    """Return the report of a failure: a later attempt, unless there were as many as there may be."""
    reason = error
    if ran is not None and ran.stderr_tail.strip():
        error += f"; stderr ends in:\n{ran.stderr_tail.decode('utf-8', 'replace').strip()}"
    lease, last = lease_of(item), poison or item.attempts >= item.max_retries
    retry_in_ms = 0 if last else backoff_ms(item.attempts)
    failure = ItemFailure(id=lease.id, lease_id=lease.lease_id, error=error, retry_in_ms=retry_in_ms, poison=poison)
    return Report(
        "poisoned" if last else "failed",
        FailItems(failures=[failure]),
        None if ran is None else ran.status,
        error,
        None if last else retry_in_ms,
        reason=reason,
    )


def backoff_ms(attempt: int) -> int:
    """Return after how long a failed item may be tried again: doubling each time, half of it by chance."""
    whole = min(RETRY_MOST_MS, RETRY_FIRST_MS << min(attempt - 1, 30))
    return round(whole * random.uniform(0.5, 1))  # noqa: S311  no secret


def _in_words(status: int) -> str:
    if status > SIGNALLED:
        with contextlib.suppress(ValueError):
            return f"exit {status} ({signal.Signals(status - SIGNALLED).name})"
    return f"exit {status}"
