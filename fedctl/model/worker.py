"""Workers: who does the work of pools, and how it stands with each."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

WorkerStatus = Literal["active", "terminating", "terminated", "lost"]

WORKER_TRANSITIONS: dict[str, frozenset[str]] = {
    "active": frozenset({"terminating", "terminated", "lost"}),
    "terminating": frozenset({"active", "terminated", "lost"}),
    "terminated": frozenset(),
    "lost": frozenset({"active", "terminating", "terminated"}),
}
"""Status -> the statuses that may follow it. The present one again is always accepted; who is terminated comes back
by registering only."""

HEARTBEAT_INTERVAL_MS = 30_000
STALE_AFTER_BEATS = 2
"""A worker is stale when its last heartbeat is longer ago than so many of its own intervals."""
MAX_CAPABILITIES = 64


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the registry knows it. Times are RFC 3339 UTC; `current_task_id` is the item it claimed last."""

    worker_id: str
    tenant_id: str
    status: WorkerStatus
    host: str | None
    pid: int | None
    capabilities: list[str]
    pool_id: str | None
    started_at: str
    last_heartbeat: str
    heartbeat_interval_s: float
    current_task_id: str | None
    metadata: dict[str, Any]
    incarnation: int
    stale: bool
