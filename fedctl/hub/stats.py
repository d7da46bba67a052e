"""A hub's figures: what was done, how long it took, what went wrong. Safe to use from any thread."""

from __future__ import annotations

import sys
import threading
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fedctl.model.hub import HubStats, Latency

if TYPE_CHECKING:
    from fedctl.clock import Clock

WINDOW = 1000
"""Calls of each operation that its latency is taken over."""


SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""The upper bounds of the histograms' buckets."""


class Spread(NamedTuple):
    """A histogram as it was at one moment: how many lay at or below each bound, how many there were, their sum."""

    bounds: tuple[float, ...]
    at_or_below: tuple[int, ...]
    values: int
    total: float


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        return sum(self._counts)

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def spread(self) -> Spread:
        running, below = 0, []
        for count in self._counts:
            running += count
            below.append(running)
        return Spread(self._bounds, tuple(below[:-1]), running, self.total)


class Totals(NamedTuple):
    """All that was counted, as it was at one moment."""

    operations: dict[str, Spread]
    errors: dict[str, int]
    refusals: dict[str, int]
    commit_seconds: Spread
    commit_requests: Spread
    acked_episodes: int
    syncs: int
    sessions: int
    events: int
    began_ms: int


class _Timings:
    """One operation: its last calls, and what all of them came to."""

    def __init__(self) -> None:
        self.last_ms: deque[float] = deque(maxlen=WINDOW)
        self.seconds = _Histogram(SECONDS)


class Figures:
    """Counts since the hub started."""

    def __init__(self, clock: Clock) -> None:
        """Begin at zero."""
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s = clock.monotonic_s()
        self._began_ms = clock.now_ms()
        self._timings: dict[str, _Timings] = {}
        self._errors: dict[str, int] = {}
        self._refusals: dict[str, int] = {}
        self._commit_seconds = _Histogram(SECONDS)
        self._commit_requests = _Histogram(SIZES)
        self._acked_episodes = 0
        self._syncs = self._sessions = self._events = 0

    def answered(self, operation: str, took_s: float) -> None:
        """Count a call that was answered, well or badly."""
        with self._lock:
            timings = self._timings.get(operation)
            if timings is None:
                timings = self._timings[operation] = _Timings()
            timings.last_ms.append(took_s * 1000)
            timings.seconds.add(took_s)

    def failed(self, code: str) -> None:
        """Count an error that was sent."""
        with self._lock:
            self._errors[code] = self._errors.get(code, 0) + 1

    def refused(self, reason: str) -> None:
        """Count somebody who was not let in, or something that made no sense."""
        with self._lock:
            self._refusals[reason] = self._refusals.get(reason, 0) + 1

    def committed(self, acked_episodes: int, requests: int = 1, took_s: float = 0.0) -> None:
        """Count a commit, the requests that went into it, and the episodes that were acked with it."""
        with self._lock:
            self._commit_requests.add(requests)
            self._commit_seconds.add(took_s)
            self._acked_episodes += acked_episodes

    def synced(self) -> None:
        """Count an agent's sync."""
        with self._lock:
            self._syncs += 1

    def opened(self) -> None:
        """Count a session that was let in."""
        with self._lock:
            self._sessions += 1

    def happened(self, events: int) -> None:
        """Count what the change log told."""
        with self._lock:
            self._events += events

    def totals(self) -> Totals:
        """Return all counts, as they are at one moment."""
        with self._lock:
            return Totals(
                operations={name: one.seconds.spread() for name, one in self._timings.items()},
                errors=dict(self._errors),
                refusals=dict(self._refusals),
                commit_seconds=self._commit_seconds.spread(),
                commit_requests=self._commit_requests.spread(),
                acked_episodes=self._acked_episodes,
                syncs=self._syncs,
                sessions=self._sessions,
                events=self._events,
                began_ms=self._began_ms,
            )

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
                operations=sum(one.seconds.count for one in self._timings.values()),
                errors=dict(self._errors),
                commits=self._commit_requests.count,
                acked_episodes=self._acked_episodes,
                rss_bytes=rss_bytes(),
                refusals=dict(self._refusals),
            )


def _latency(timings: _Timings) -> Latency:
    values = sorted(timings.last_ms)
    last = len(values) - 1
    return Latency(
        count=timings.seconds.count,
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
