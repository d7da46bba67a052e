"""What can be asked of the workers' registry."""

from __future__ import annotations

from typing import Any

from fedctl.messages.base import Answer, Request
from fedctl.model.worker import HEARTBEAT_INTERVAL_MS, Worker, WorkerStatus


class WorkerAnswer(Answer, frozen=True, kw_only=True):
    """The worker's record after the change; `released` items were taken from it, `extended` are still its own."""

    worker: Worker
    released: int = 0
    extended: int = 0


class RegisterWorker(Request[WorkerAnswer], frozen=True, kw_only=True, tag="worker.register"):
    """Enter a worker. A name that is there already begins a new incarnation.

    What the old one held is given back to its pool; the attempt counts. `started_at` (RFC 3339) is now if not given.
    """

    id: str
    host: str | None = None
    pid: int | None = None
    capabilities: list[str] = []
    pool: str | None = None
    heartbeat_interval_ms: int = HEARTBEAT_INTERVAL_MS
    metadata: dict[str, Any] = {}
    started_at: str | None = None


class BeatWorker(Request[WorkerAnswer], frozen=True, kw_only=True, tag="worker.heartbeat"):
    """Note that a worker is alive: a lost one is active again, for a terminated one it is a conflict.

    `metadata` is merged key by key, null removes one. Leases are renewed by `extend_leases_ms` only. With
    `incarnation` a worker that somebody else has registered anew meanwhile is refused.
    """

    id: str
    metadata: dict[str, Any] = {}
    extend_leases_ms: int | None = None
    incarnation: int | None = None


class WorkerList(Answer, frozen=True, kw_only=True):
    """A page of workers, newest first; `more`: ask again, passing over these."""

    workers: list[Worker]
    more: bool = False


class ListWorkers(Request[WorkerList], frozen=True, kw_only=True, tag="worker.list"):
    """List the tenant's workers that fulfil every condition given.

    `stale` is those that have been silent for twice their own interval, `silent_ms` for so long; neither is ever a
    terminated one. The first `skip` are passed over (`client/paging.workers` goes through all pages).
    """

    statuses: list[WorkerStatus] = []
    capability: str | None = None
    pool: str | None = None
    stale: bool = False
    silent_ms: int | None = None
    limit: int = 1000
    skip: int = 0


class GetWorker(Request[WorkerAnswer], frozen=True, kw_only=True, tag="worker.show"):
    """One worker of the tenant."""

    id: str


class SetWorkerStatus(Request[WorkerAnswer], frozen=True, kw_only=True, tag="worker.status"):
    """Set a worker's status. What it holds is given back when it is terminated (no attempt) or lost (an attempt).

    `forget` takes it off the list when it is terminated: who made up a name for one run needs it no more.
    """

    id: str
    status: WorkerStatus
    forget: bool = False


class ReapAnswer(Answer, frozen=True, kw_only=True):
    """Workers that are lost now, and how many items they held; `more`: there are others, ask again."""

    workers: list[Worker]
    released: int
    more: bool = False


class ReapWorkers(Request[ReapAnswer], frozen=True, kw_only=True, tag="worker.reap"):
    """Mark stale workers lost and give back what they held; each attempt counts."""
