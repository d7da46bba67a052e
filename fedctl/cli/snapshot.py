"""What is going on, in one look: the hub, memory, agents, workers and pools; from two looks also how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.client import paging
from fedctl.errors import Denied
from fedctl.messages.agent import ListAgents
from fedctl.messages.hub import GetHubInfo, GetHubStats
from fedctl.messages.memory import MemoryStats
from fedctl.messages.pool import ListPools
from fedctl.messages.worker import ListWorkers
from fedctl.model.hub import Latency
from fedctl.model.time import from_rfc3339, to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.client.caller import Caller
    from fedctl.clock import Clock
    from fedctl.errors import FedctlError
    from fedctl.model.agent import Agent
    from fedctl.model.pool import Pool
    from fedctl.model.worker import Worker

    Rate = Callable[[str, float], float | None]

AGENTS_MAX = 1000


class HubSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A hub. The figures are None for who may not see them; rates are a second's, None at the first look."""

    url: str
    version: str
    ready: bool
    uptime_s: float | None
    connected_agents: int | None
    connections: int | None
    rss_bytes: int | None
    operations_per_s: float | None
    commits_per_s: float | None
    latencies: dict[str, Latency]


class MemorySeen(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's memory, and the room that the store takes and has."""

    episodes: int
    episodes_per_s: float | None
    pending_embeddings: int
    store_bytes: int
    disk_free_bytes: int
    read_only: bool


class AgentSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A living agent. `remaining_s` of its `lifetime_s`: 0 when it is over and nobody has noticed yet."""

    id: str
    type: str
    status: str
    remaining_s: float
    lifetime_s: float
    silent_s: float | None
    episodes_stored: int


class WorkerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that is not terminated; `silent_s` since its last heartbeat."""

    worker_id: str
    status: str
    pool_id: str | None
    current_task_id: str | None
    silent_s: float
    stale: bool


class PoolSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A pool; `finished_per_s` (done or poisoned) is None at the first look, `eta_s` also when nothing moves."""

    name: str
    paused: bool
    pending: int
    delayed: int
    claimed: int
    done: int
    poisoned: int
    finished_per_s: float | None
    eta_s: float | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `hub` None: none runs, the home itself was looked at; `memory` None: there is no store yet.

    `trouble` says why nothing could be seen: the hub is away.
    """

    at: str
    tenant_id: str
    hub: HubSeen | None
    memory: MemorySeen | None
    agents: list[AgentSeen]
    workers: list[WorkerSeen]
    pools: list[PoolSeen]
    trouble: str | None


class Looker:
    """Takes one look after the other, and remembers the last one for the rates."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before: dict[str, float] = {}
        self._before_s: float | None = None

    def look(self, caller: Caller, tenant_id: str, *, hub: bool) -> Snapshot:
        """Return what is there now; `hub`: whether it is a hub that is asked.

        Raises:
            Unavailable: The hub is gone.
        """
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        passed_s = None if self._before_s is None else now_s - self._before_s
        counted: dict[str, float] = {}

        def rate(name: str, value: float) -> float | None:
            counted[name] = value
            if not passed_s or name not in self._before:
                return None
            return max(0.0, value - self._before[name]) / passed_s

        stats = caller.call(MemoryStats())
        found = Snapshot(
            at=to_rfc3339(now_ms),
            tenant_id=stats.tenant_id or tenant_id,
            hub=_hub(caller, rate) if hub else None,
            memory=MemorySeen(
                episodes=stats.episodes, episodes_per_s=rate("episodes", stats.episodes),
                pending_embeddings=stats.pending_embeddings, store_bytes=stats.store_bytes,
                disk_free_bytes=stats.disk_free_bytes, read_only=stats.read_only,
            ),
            agents=[_agent(one, now_ms) for one in caller.call(ListAgents(limit=AGENTS_MAX)).agents],
            workers=[_worker(one, now_ms) for one in
                     paging.workers(caller, ListWorkers(statuses=["active", "terminating", "lost"]))],
            pools=[_pool(one, rate(f"pool {one.name}", one.done + one.poisoned))
                   for one in caller.call(ListPools()).pools],
            trouble=None,
        )  # fmt: skip
        self._before, self._before_s = counted, now_s
        return found

    def nothing(self, tenant_id: str, error: FedctlError | None = None) -> Snapshot:
        """Return the look of one who sees nothing: no store yet, or the hub is away."""
        self._before, self._before_s = {}, None
        return Snapshot(
            at=to_rfc3339(self._clock.now_ms()), tenant_id=tenant_id, hub=None, memory=None, agents=[], workers=[],
            pools=[], trouble=None if error is None else error.message,
        )  # fmt: skip


def _hub(caller: Caller, rate: Rate) -> HubSeen:
    info = caller.call(GetHubInfo()).hub
    try:
        stats = caller.call(GetHubStats()).stats
    except Denied:  # figures are for operators
        return HubSeen(
            url=info.url, version=info.version, ready=info.ready, uptime_s=None, connected_agents=None,
            connections=None, rss_bytes=None, operations_per_s=None, commits_per_s=None, latencies={},
        )  # fmt: skip
    return HubSeen(
        url=info.url,
        version=info.version,
        ready=info.ready,
        uptime_s=stats.uptime_s,
        connected_agents=stats.connected_agents,
        connections=stats.connections,
        rss_bytes=stats.rss_bytes,
        operations_per_s=rate("operations", stats.operations),
        commits_per_s=rate("commits", stats.commits),
        latencies=stats.latencies,
    )


def _agent(agent: Agent, now_ms: int) -> AgentSeen:
    expires_ms = from_rfc3339(agent.expires_at)
    synced_ms = None if agent.last_sync_at is None else from_rfc3339(agent.last_sync_at)
    return AgentSeen(
        id=agent.id,
        type=agent.type,
        status=agent.status,
        remaining_s=max(0, expires_ms - now_ms) / 1000,
        lifetime_s=max(0, expires_ms - from_rfc3339(agent.spawned_at)) / 1000,
        silent_s=None if synced_ms is None else max(0, now_ms - synced_ms) / 1000,
        episodes_stored=agent.episodes_stored,
    )


def _worker(worker: Worker, now_ms: int) -> WorkerSeen:
    return WorkerSeen(
        worker_id=worker.worker_id,
        status=worker.status,
        pool_id=worker.pool_id,
        current_task_id=worker.current_task_id,
        silent_s=max(0, now_ms - from_rfc3339(worker.last_heartbeat)) / 1000,
        stale=worker.stale,
    )


def _pool(pool: Pool, finished_per_s: float | None) -> PoolSeen:
    left = pool.pending + pool.delayed + pool.claimed
    return PoolSeen(
        name=pool.name, paused=pool.paused, pending=pool.pending, delayed=pool.delayed, claimed=pool.claimed,
        done=pool.done, poisoned=pool.poisoned, finished_per_s=finished_per_s,
        eta_s=left / finished_per_s if finished_per_s and left else None,
    )  # fmt: skip
