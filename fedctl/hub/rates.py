"""How much a tenant may ask of a hub in a second: a token bucket each, for those that have a limit.

That an agent or a worker lives is not rationed: it would be taken for dead. Nor is what the monitor page asks every
other second: to watch a tenant takes nothing of what that tenant is given. What somebody looks for there is.

A request costs one, a batch as many as it holds. A bucket that is not empty lets the next request through whatever it
costs and then owes the rest: a limit below the size of a batch slows batches down instead of refusing them for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedctl.errors import Unavailable
from fedctl.messages.agent import ListAgents, RegisterAgent, ReportAgent
from fedctl.messages.hub import GetHubInfo, GetHubStats, ListEvents, Subscribe
from fedctl.messages.pool import ListPools
from fedctl.messages.tenant import ListTenants
from fedctl.messages.worker import BeatWorker, ListWorkers, RegisterWorker, SetWorkerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.clock import Clock
    from fedctl.messages.base import Request

_SIGNS_OF_LIFE = (RegisterAgent, ReportAgent, RegisterWorker, BeatWorker, SetWorkerStatus, Subscribe, GetHubInfo)
_WATCHED = (GetHubStats, ListTenants, ListEvents, ListAgents, ListWorkers, ListPools)
"""What the monitor page asks for by itself."""
_BATCHES = ("episodes", "items", "leases", "completions", "failures", "texts")
"""The fields of requests that hold what a batch consists of."""


class _Bucket:
    __slots__ = ("filled_s", "level", "rate_per_s")

    def __init__(self, rate_per_s: float, now_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.filled_s = now_s
        self.level = self.most

    @property
    def most(self) -> float:
        """A second's worth, and one request where that is less than one."""
        return max(self.rate_per_s, 1.0)


class Rates:
    """The buckets of all tenants that have a limit. On the event loop only."""

    def __init__(self, clock: Clock, read: Callable[[], dict[str, float]]) -> None:
        """Begin with full buckets; `read` returns tenant -> what it may ask in a second."""
        self._clock = clock
        self._read = read
        self._buckets: dict[str, _Bucket] = {}
        self.reload()

    def reload(self) -> None:
        """Take over limits that were changed; what is left in a bucket stays in it."""
        rates, now_s = self._read(), self._clock.monotonic_s()
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if name in rates}
        for name, rate_per_s in rates.items():
            bucket = self._buckets.setdefault(name, _Bucket(rate_per_s, now_s))
            bucket.rate_per_s = rate_per_s
            bucket.level = min(bucket.level, bucket.most)

    def take(self, tenant_id: str, request: Request[Any], *, watches: bool = False) -> None:
        """Let a request of a tenant through; `Unavailable` when it has asked too much.

        `watches` says that whoever asks may only look.
        """
        bucket = self._buckets.get(tenant_id)
        if bucket is None or isinstance(request, (*_SIGNS_OF_LIFE, *(_WATCHED if watches else ()))):
            return
        now_s = self._clock.monotonic_s()
        bucket.level = min(bucket.most, bucket.level + (now_s - bucket.filled_s) * bucket.rate_per_s)
        bucket.filled_s = now_s
        if bucket.level < 1:
            wait_ms = round((1 - bucket.level) / bucket.rate_per_s * 1000) + 1
            raise Unavailable(
                f"the tenant {tenant_id} asks more than its {bucket.rate_per_s:g} a second",
                hint=f"try again in {wait_ms} ms, or raise it: fedctl tenant set {tenant_id} --rate N",
                details={"quota": "rate", "limit_per_s": bucket.rate_per_s, "retry_in_ms": wait_ms},
            )
        bucket.level -= cost(request)


def cost(request: Request[Any]) -> int:
    """Return what a request counts: one, or as many as its batch holds."""
    return max(1, *(len(getattr(request, name, ())) for name in _BATCHES))
