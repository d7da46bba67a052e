"""The manners of a job that cron runs: one run of a kind at a time on a home, and an end in time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fedctl.errors import NO_SPACE, NoStore, Timeout, Unavailable, from_os
from fedctl.store.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fedctl.clock import Clock


@contextlib.contextmanager
def exclusive_job(home: Path, name: str, wait_ms: int = 0) -> Iterator[None]:
    """Be the only run of that name on the home, for a `with`. The kernel lets go of it when the process dies.

    Args:
        home: The home, which is there; the lock is the file `<name>.job` in it.
        name: What runs, in one word: `prune`, `backup`, `verify`.
        wait_ms: How long to wait for another run to end.

    Raises:
        Unavailable: Another one still runs after that time; `details` say which `job`.
        NoStore: There is no such home.
        Denied: The home takes no file of ours.
    """
    details = {"job": name}
    lock = FileLock(home / f"{name}.job", wait_ms / 1000, f"another {name} is running on this home, and did not end")
    try:
        lock.acquire()
    except Unavailable as error:
        if wait_ms:
            hint = "try again later, or wait longer with --lock-wait"
            raise Unavailable(error.message, hint=hint, details=details) from None
        raise Unavailable(
            f"another {name} is running on this home",
            hint="wait for it with --lock-wait 10m, or try again later",
            details=details,
        ) from None
    except FileNotFoundError:
        raise NoStore(f"there is no store in {home}", hint="begin with: fedctl init") from None
    except OSError as error:
        # A disk that is too full for an empty file is one that pruning must be able to help.
        if error.errno not in NO_SPACE:
            raise from_os(error, f"cannot write in {home}") from error
    try:
        yield
    finally:
        lock.close()


class Deadline:
    """The time a job may take. It asks between two steps, each of which is whole: what was done stays done."""

    def __init__(
        self, clock: Clock, max_ms: int | None, hint: str = "run it again to go on, or give it longer"
    ) -> None:
        """Begin now; `max_ms` None is for as long as it takes. `hint` says what to do when that was not enough."""
        self._clock = clock
        self._max_ms = max_ms
        self._hint = hint
        self._ends_s = None if max_ms is None else clock.monotonic_s() + max_ms / 1000

    @property
    def over(self) -> bool:
        """Whether the time has run out."""
        return self._ends_s is not None and self._clock.monotonic_s() >= self._ends_s

    def check(self) -> None:
        """Raise `Timeout` when the time has run out."""
        if self.over:
            assert self._max_ms is not None
            raise Timeout(
                f"the {self._max_ms / 1000:g} s of --max-time ran out before it was done",
                hint=self._hint,
            )
