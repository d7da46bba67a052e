"""What the registry of workers does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import Conflict, NotFound, UsageError
from fedctl.messages import worker as w
from fedctl.model import limits
from fedctl.model.pool import MAX_LEASE_MS, MIN_LEASE_MS
from fedctl.model.time import from_rfc3339
from fedctl.model.worker import MAX_CAPABILITIES, WORKER_TRANSITIONS, Worker
from fedctl.operations.item import take_from_worker

if TYPE_CHECKING:
    from typing import Any

    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

_LIST_MAX = 10_000
_REAP_MAX = 100
"""So many a time: each may hold a thousand items, and meanwhile nobody else can write."""
_HOST_MAX_CHARACTERS = 255
_INTERVAL_MIN_MS = 100
_INTERVAL_MAX_MS = 86_400_000
_METADATA_MAX_BYTES = 64 << 10


def register(ctx: Context, who: Principal, request: w.RegisterWorker) -> w.WorkerAnswer:
    """Enter a worker; what an earlier incarnation of its name held is given back, and counts as an attempt."""
    _check(request)
    metadata = _metadata({key: value for key, value in request.metadata.items() if value is not None})
    now_ms = ctx.clock.now_ms()
    started_ms = now_ms if request.started_at is None else from_rfc3339(request.started_at)
    with ctx.store.write():
        tenant_key = ctx.store.tenants.key_for_writing(who.tenant_id, now_ms)
        released = take_from_worker(ctx, tenant_key, request.id, "lost", "its worker began anew")
        ctx.store.workers.put(
            tenant_key,
            request.id,
            host=request.host,
            pid=request.pid,
            capabilities=request.capabilities,
            pool_id=request.pool,
            heartbeat_interval_ms=request.heartbeat_interval_ms,
            metadata=metadata,
            started_at_ms=started_ms,
            now_ms=ctx.clock.steady_ms(),
        )
        _log(ctx, tenant_key, request.id, "active", now_ms)
        return w.WorkerAnswer(worker=_get(ctx, (tenant_key, who.tenant_id), request.id), released=released)


def _check(request: w.RegisterWorker) -> None:
    limits.check_name("worker", request.id)
    if request.host is not None and len(limits.check_text("host", request.host)) > _HOST_MAX_CHARACTERS:
        raise UsageError(f"a host name has at most {_HOST_MAX_CHARACTERS} characters")
    if request.pid is not None:
        limits.check_count("pid", request.pid)
    if request.pool is not None:
        limits.check_name("pool", request.pool)
    if len(request.capabilities) > MAX_CAPABILITIES:
        raise UsageError(f"a worker has at most {MAX_CAPABILITIES} capabilities")
    for capability in request.capabilities:
        limits.check_name("capability", capability)
    if not _INTERVAL_MIN_MS <= request.heartbeat_interval_ms <= _INTERVAL_MAX_MS:
        raise UsageError(
            f"a heartbeat interval is within {_INTERVAL_MIN_MS} ms and {_INTERVAL_MAX_MS // 3_600_000} h, "
            f"not {request.heartbeat_interval_ms} ms"
        )


def _metadata(value: dict[str, Any]) -> str:
    text = limits.encode_json("metadata", value)
    if len(text.encode()) > _METADATA_MAX_BYTES:
        raise UsageError(f"a worker's metadata has at most {_METADATA_MAX_BYTES:,} bytes as JSON")
    return text


def heartbeat(ctx: Context, who: Principal, request: w.BeatWorker) -> w.WorkerAnswer:
    """Note that a worker is alive; merge its metadata; renew its leases if it says so."""
    if request.extend_leases_ms is not None and not MIN_LEASE_MS <= request.extend_leases_ms <= MAX_LEASE_MS:
        raise UsageError(f"a lease is within {MIN_LEASE_MS} ms and {MAX_LEASE_MS} ms")
    with ctx.store.write():
        tenant, worker = _present(ctx, who, request.id)
        if request.incarnation is not None and request.incarnation != worker.incarnation:
            raise Conflict(f"the worker {worker.worker_id} was registered anew by somebody else")
        if worker.status == "terminated":
            raise Conflict(
                f"the worker {worker.worker_id} is terminated",
                hint=f"to come back: fedctl worker register {worker.worker_id}",
            )
        merged = worker.metadata | request.metadata
        metadata = _metadata({key: value for key, value in merged.items() if value is not None})
        status = "active" if worker.status == "lost" else worker.status
        now_ms = ctx.clock.now_ms()
        ctx.store.workers.beat(tenant[0], worker.worker_id, status, metadata, ctx.clock.steady_ms())
        if status != worker.status:
            _log(ctx, tenant[0], worker.worker_id, status, now_ms)
        extended = 0
        if request.extend_leases_ms is not None:
            until_ms = ctx.clock.steady_ms() + request.extend_leases_ms
            extended = ctx.store.pools.extend_held(tenant[0], worker.worker_id, until_ms)
        return w.WorkerAnswer(worker=_get(ctx, tenant, worker.worker_id), extended=extended)


def list_(ctx: Context, who: Principal, request: w.ListWorkers) -> w.WorkerList:
    """List workers, newest first: as many as fit in a page."""
    if request.capability is not None:
        limits.check_name("capability", request.capability)
    if request.pool is not None:
        limits.check_name("pool", request.pool)
    if request.silent_ms is not None:
        limits.check_count("silent_ms", request.silent_ms)
    skip = limits.check_count("skip", request.skip)
    limit = min(max(request.limit, 1), _LIST_MAX)
    key = ctx.store.tenants.key(who.tenant_id)
    if key is None:
        return w.WorkerList(workers=[])
    workers = ctx.store.workers.all(
        (key, who.tenant_id),
        statuses=request.statuses,
        capability=request.capability,
        pool=request.pool,
        stale=request.stale,
        silent_ms=request.silent_ms,
        now_ms=ctx.clock.steady_ms(),
        limit=limit + 1,
        skip=skip,
        most=limits.PAGE_MAX_BYTES,
    )
    page = _page(workers[:limit])
    return w.WorkerList(workers=page, more=len(page) < len(workers))


def show(ctx: Context, who: Principal, request: w.GetWorker) -> w.WorkerAnswer:
    """Return one worker."""
    return w.WorkerAnswer(worker=_present(ctx, who, request.id)[1])


def set_status(ctx: Context, who: Principal, request: w.SetWorkerStatus) -> w.WorkerAnswer:
    """Set a worker's status; the transition table says which may follow which."""
    with ctx.store.write():
        tenant, worker = _present(ctx, who, request.id)
        if request.status != worker.status and request.status not in WORKER_TRANSITIONS[worker.status]:
            raise Conflict(
                f"the worker {worker.worker_id} is {worker.status} and cannot become {request.status}",
                hint=f"to come back: fedctl worker register {worker.worker_id}",
                details={"status": worker.status},
            )
        released = 0
        if request.status == "lost":
            released = take_from_worker(ctx, tenant[0], worker.worker_id, "lost", "its worker was lost")
        elif request.status == "terminated":
            released = take_from_worker(ctx, tenant[0], worker.worker_id, "released", None)
        if request.status != worker.status:
            ctx.store.workers.set_status(tenant[0], worker.worker_id, request.status)
            _log(ctx, tenant[0], worker.worker_id, request.status, ctx.clock.now_ms())
        worker = _get(ctx, tenant, worker.worker_id)
        if request.forget and worker.status == "terminated":
            ctx.store.workers.remove(tenant[0], worker.worker_id)
        return w.WorkerAnswer(worker=worker, released=released)


def reap(ctx: Context, who: Principal, _request: w.ReapWorkers) -> w.ReapAnswer:
    """Mark stale workers lost and give back what they held."""
    now_ms = ctx.clock.now_ms()
    with ctx.store.write():
        key = ctx.store.tenants.key(who.tenant_id)
        if key is None:
            return w.ReapAnswer(workers=[], released=0)
        released = 0
        stale = ctx.store.workers.to_reap(key, ctx.clock.steady_ms())
        some = [one.worker_id for one in _page([_get(ctx, (key, who.tenant_id), one) for one in stale[:_REAP_MAX]])]
        for worker_id in some:
            ctx.store.workers.set_status(key, worker_id, "lost")
            released += take_from_worker(ctx, key, worker_id, "lost", "its worker was lost")
            _log(ctx, key, worker_id, "lost", now_ms)
        workers = [_get(ctx, (key, who.tenant_id), one) for one in some]
        return w.ReapAnswer(workers=workers, released=released, more=len(some) < len(stale))


def _get(ctx: Context, tenant: tuple[int, str], worker_id: str) -> Worker:
    found = ctx.store.workers.get(tenant, worker_id, ctx.clock.steady_ms())
    if found is None:
        raise _unknown(worker_id)
    return found


def _present(ctx: Context, who: Principal, worker_id: str) -> tuple[tuple[int, str], Worker]:
    limits.check_name("worker", worker_id)
    key = ctx.store.tenants.key(who.tenant_id)
    if key is None:
        raise _unknown(worker_id)
    return (key, who.tenant_id), _get(ctx, (key, who.tenant_id), worker_id)


def _page(workers: list[Worker]) -> list[Worker]:
    """Return the first of them, at least one and as many as fit in a page."""
    room = limits.PAGE_MAX_BYTES
    for place, worker in enumerate(workers):
        room -= len(msgspec.json.encode(worker))
        if room < 0 and place:
            return workers[:place]
    return workers


def _unknown(worker_id: str) -> NotFound:
    hint = "fedctl worker list shows them"
    return NotFound(f"there is no worker {worker_id}", hint=hint, details={"worker": worker_id})


def _log(ctx: Context, tenant_key: int, worker_id: str, status: str, now_ms: int) -> None:
    ctx.store.changes.add(tenant_key, "worker_status", worker_id, now_ms=now_ms, detail={"status": status})
