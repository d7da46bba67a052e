"""A hub's figures: what was done, how long it took, what went wrong. Safe to use from any thread."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from fedctl.model.hub import HubStats, Latency

if TYPE_CHECKING:
    from fedctl.clock import Clock

WINDOW = 1000
"""Calls of each operation that its latency is taken over."""


class _Timings:
    """One operation: its last calls, and what all of them came to."""

    def __init__(self) -> None:
        self.last_ms: deque[float] = deque(maxlen=WINDOW)
        self.count = 0
        self.total_ms = 0.0


class Figures:
    """Counts since the hub started."""

    def __init__(self, clock: Clock) -> None:
        """Begin at zero."""
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s = clock.monotonic_s()
        self._timings: dict[str, _Timings] = {}
        self._errors: dict[str, int] = {}
        self._commits = 0
        self._acked_episodes = 0

    def answered(self, operation: str, took_s: float) -> None:
        """Count a call that was answered, well or badly."""
        with self._lock:
            timings = self._timings.get(operation)
            if timings is None:
                timings = self._timings[operation] = _Timings()
            timings.last_ms.append(took_s * 1000)
            timings.count += 1
            timings.total_ms += took_s * 1000

    def failed(self, code: str) -> None:
        """Count an error that was sent."""
        with self._lock:
            self._errors[code] = self._errors.get(code, 0) + 1

    def committed(self, acked_episodes: int) -> None:
        """Count a commit, and the episodes that were acked with it."""
        with self._lock:
            self._commits += 1
            self._acked_episodes += acked_episodes

    def totals(self) -> dict[str, tuple[int, float]]:
        """Return (calls, milliseconds in all) by operation."""
        with self._lock:
            return {name: (one.count, one.total_ms) for name, one in self._timings.items()}

    def stats(self, *, connected_agents: int, connections: int) -> HubStats:
        """Return the figures; those of the store are zero here, the operation fills them in."""
        with self._lock:
            latencies = {name: _latency(one) for name, one in sorted(self._timings.items())}
            return HubStats(
                connected_agents=connected_agents,
                connections=connections,
                episodes=0,
                tenants=0,
                pending_embeddings=0,
                uptime_s=round(self._clock.monotonic_s() - self._began_s, 3),
                latencies=latencies,
                operations=sum(one.count for one in self._timings.values()),
                errors=dict(self._errors),
                commits=self._commits,
                acked_episodes=self._acked_episodes,
                rss_bytes=rss_bytes(),
            )


def _latency(timings: _Timings) -> Latency:
    values = sorted(timings.last_ms)
    last = len(values) - 1
    return Latency(
        count=timings.count,
        mean_ms=round(sum(values) / len(values), 3),
        p50_ms=round(values[last // 2], 3),
        p99_ms=round(values[-(-last * 99 // 100)], 3),
        max_ms=round(values[last], 3),
    )


def rss_bytes() -> int:
    """Return the process's resident memory in bytes; its peak where the system does not tell the present value."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  read every ten seconds, no path object
            pages = int(file.read().split()[1])
    except OSError:
        import resource  # noqa: PLC0415  systems without /proc

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    import os  # noqa: PLC0415  likewise

    return pages * os.sysconf("SC_PAGE_SIZE")
