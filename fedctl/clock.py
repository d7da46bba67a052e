"""The one reader of time, and the one maker of ids. Everything below takes both as parameters."""

from __future__ import annotations

import time


class Clock:
    """The system's clock: wall time for records, monotonic time for anything that waits."""

    def now_ms(self) -> int:
        """Return wall time in milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def steady_ms(self) -> int:
        """Return wall time in milliseconds for leases, delays and heartbeats.

        A hub's does not follow when the wall clock jumps; it is the wall clock's again when the hub is started anew.
        """
        return self.now_ms()

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never jumps; only differences mean anything."""
        return time.monotonic()

    def sleep_s(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def new_id(self) -> str:
        """Return a UUIDv7 as text (RFC 9562): 48 bits of milliseconds, then 74 random bits, sortable by time."""
        import uuid_utils  # noqa: PLC0415  loaded where an id is made: start-up is a feature

        return str(uuid_utils.uuid7())


class SteadyClock(Clock):
    """A clock whose leases go by what has passed since it was made: a jump of the wall clock moves none of them."""

    def __init__(self) -> None:
        self._offset_ms = self.now_ms() - time.monotonic_ns() // 1_000_000

    def steady_ms(self) -> int:
        """Return wall time as it was when the clock was made, plus what has passed since."""
        return self._offset_ms + time.monotonic_ns() // 1_000_000
