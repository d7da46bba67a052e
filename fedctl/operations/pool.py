"""What can be seen of pools and done to them as a whole: figures, items, waiting, retrying, purging, pausing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import Conflict, FedctlError, UsageError
from fedctl.messages import pool as p
from fedctl.model import limits
from fedctl.model.pool import Attempt, Pool
from fedctl.operations.item import (
    check_batch,
    log_by_pool,
    log_change,
    refused,
    rows_of,
    status_of,
    tenant_of,
    unknown,
    within_a_page,
)
from fedctl.store.pool import ItemRow, PoolRow, to_item

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context
    from fedctl.operations.item import Tenant

_POISONED_SHOWN = 100
_OPEN = ("pending", "delayed", "claimed")
_UNHELD = ("pending", "delayed", "done", "poisoned")


# -- looking -----------------------------------------------------------------------------------------------------


def list_(ctx: Context, who: Principal, _request: p.ListPools) -> p.PoolList:
    """List the tenant's pools with their figures."""
    tenant = tenant_of(ctx, who)
    with ctx.store.read():
        pools = [] if tenant is None else ctx.store.pools.all(tenant.key)
        return p.PoolList(pools=[ctx.store.pools.figures(pool, ctx.clock.steady_ms()) for pool in pools])


def show(ctx: Context, who: Principal, request: p.GetPool) -> p.PoolAnswer:
    """Return a pool's figures."""
    limits.check_name("pool", request.name)
    with ctx.store.read():
        pool = _pool(ctx, who, request.name)
        return p.PoolAnswer(pool=_figures(ctx, pool, request.name))


def pause(ctx: Context, who: Principal, request: p.PausePool) -> p.PoolAnswer:
    """Pause a pool, or let it go on."""
    limits.check_name("pool", request.name)
    now_ms = ctx.clock.now_ms()
    with ctx.store.write():
        tenant_key = ctx.store.tenants.key_for_writing(who.tenant_id, now_ms)
        pool = ctx.store.pools.get_for_writing(tenant_key, request.name, now_ms)
        if pool.paused != request.paused:
            ctx.store.pools.set_paused(pool, paused=request.paused)
            log_change(ctx, tenant_key, "pool_paused" if request.paused else "pool_resumed", pool.name, [])
        return p.PoolAnswer(pool=_figures(ctx, pool._replace(paused=request.paused), request.name))


def items(ctx: Context, who: Principal, request: p.ListItems) -> p.ItemPage:
    """Return a page of a pool's items, in the order they were pushed."""
    limits.check_name("pool", request.pool)
    if request.limit < 1:
        raise UsageError("limit must be at least 1")
    cursor = 0 if request.cursor is None else limits.check_count("cursor", request.cursor)
    limit = min(request.limit, limits.BATCH_MAX_ITEMS)
    statuses = ("pending", "delayed") if request.status == "pending" else (request.status,) if request.status else ()
    with ctx.store.read():
        pool = _pool(ctx, who, request.pool)
        if pool is None:
            return p.ItemPage(items=[], cursor=None, total=0 if request.count else None)
        every = statuses or (*_OPEN, "done", "poisoned")
        total = ctx.store.pools.count_to_purge(pool, every) if request.count else None
        rows = ctx.store.pools.page(pool, statuses, cursor=cursor, limit=limit, most=limits.PAGE_MAX_BYTES)
    kept: list[ItemRow] = []
    room = limits.PAGE_MAX_BYTES
    for row in rows:
        room -= len(row.data.encode()) + len((row.result or "").encode()) + len((row.error or "").encode())
        if room < 0 and kept:
            break
        kept.append(row)
    more = len(kept) < len(rows) or len(rows) == limit
    return p.ItemPage(items=[to_item(row) for row in kept], cursor=kept[-1].seq if kept and more else None, total=total)


def item(ctx: Context, who: Principal, request: p.GetItem) -> p.ItemAnswer:
    """Return an item with the history of its attempts: the last ones, as many as fit in a page."""
    limits.check_id("item", request.id)
    with ctx.store.read():
        row = rows_of(ctx, tenant_of(ctx, who), [request.id]).get(request.id)
        if row is None:
            raise unknown(request.id)
        history = ctx.store.pools.attempts(row.seq)
    found = to_item(row)
    if found.status in ("claimed", "done") and found.claimed_by is not None and found.claimed_at is not None:
        history.append(
            Attempt(
                worker_id=found.claimed_by,
                claimed_at=found.claimed_at,
                ended_at=found.finished_at,
                outcome="done" if found.status == "done" else "claimed",
                error=None,
            )
        )
    room = limits.PAGE_MAX_BYTES
    for place, attempt in enumerate(reversed(history)):
        room -= len(msgspec.json.encode(attempt))
        if room < 0:
            history = history[-place:]
            break
    return p.ItemAnswer(item=found, history=history)


def wait(ctx: Context, who: Principal, request: p.WaitFor) -> p.WaitAnswer:
    """Count what is still open of these items and pools, and what ended poisoned."""
    for name in request.pools:
        limits.check_name("pool", name)
    for item_id in request.ids:
        limits.check_id("item", item_id)
    if not request.pools and not request.ids:
        raise UsageError("say what to wait for: pools or items")
    if len(request.ids) > limits.BATCH_MAX_ITEMS:
        raise UsageError(f"one call waits for at most {limits.BATCH_MAX_ITEMS} items")
    unfinished = done = 0
    poisoned = 0
    poisoned_ids: list[str] = []
    with ctx.store.read():
        rows = rows_of(ctx, tenant_of(ctx, who), request.ids)
        for item_id in request.ids:
            row = rows.get(item_id)
            if row is None:
                raise unknown(item_id)
            done += row.status == "done"
            unfinished += row.status in _OPEN
            if row.status == "poisoned":
                poisoned += 1
                poisoned_ids.append(item_id)
        for name in request.pools:
            pool = _pool(ctx, who, name)
            figures = _figures(ctx, pool, name)
            unfinished += figures.pending + figures.delayed + figures.claimed
            done += figures.done
            poisoned += figures.poisoned
            if pool is not None and figures.poisoned:
                poisoned_ids += ctx.store.pools.poisoned_ids(pool, _POISONED_SHOWN)
    return p.WaitAnswer(open=unfinished, done=done, poisoned=poisoned, poisoned_ids=poisoned_ids[:_POISONED_SHOWN])


# -- retry and purge -----------------------------------------------------------------------------------------------


def retry(ctx: Context, who: Principal, request: p.RetryItems) -> p.ItemResults:
    """Give poisoned items a fresh budget; what went wrong stays in their history.

    Of a whole pool at most 1,000 at a time: ask again while any are answered.
    """
    if bool(request.ids) == (request.pool is not None):
        raise UsageError("say what to retry: items, or a pool")
    check_batch(request.ids, empty_ok=True)
    with ctx.store.write():
        tenant = tenant_of(ctx, who)
        if request.pool is not None:
            limits.check_name("pool", request.pool)
            pool = _pool(ctx, who, request.pool)
            rows = [] if pool is None else ctx.store.pools.poisoned(pool, limits.BATCH_MAX_ITEMS)
            asked, known = [row.id for row in rows], {row.id: row for row in rows}
        else:
            asked = list(dict.fromkeys(request.ids))
            known = rows_of(ctx, tenant, asked)
        again: list[ItemRow] = []
        results = []
        for item_id in asked:
            try:
                results.append(_retry(ctx, tenant, known.get(limits.check_id("item", item_id)), item_id, again))
            except FedctlError as error:
                results.append(refused(item_id, error))
        if again:
            assert tenant is not None
            ctx.store.pools.give_back(again)
            log_by_pool(ctx, tenant.key, "items_pushed", again, retried=True)
    return p.ItemResults(results=within_a_page(results))


def _retry(
    ctx: Context, tenant: Tenant | None, row: ItemRow | None, item_id: str, again: list[ItemRow]
) -> p.ItemResult:
    if row is None or tenant is None:
        raise unknown(item_id)
    if row.status != "poisoned":
        raise Conflict(f"the item {item_id} is {status_of(row)}, not poisoned", details={"status": status_of(row)})
    if row.key is not None:
        pool = ctx.store.pools.get(tenant.key, row.pool)
        held = None if pool is None else ctx.store.pools.held_key(pool, row.key)
        if held is not None or any(one.key == row.key and one.pool == row.pool for one in again):
            raise Conflict(f"another unfinished item has the key {row.key!r} of the item {item_id}")
    row = msgspec.structs.replace(row, status="pending", attempts=0, finished_at_ms=None, error=None)
    again.append(row)
    return p.ItemResult(ok=True, id=row.id, item=to_item(row))


def purge(ctx: Context, who: Principal, request: p.PurgePool) -> p.PurgeAnswer:
    """Delete a pool's items, at most 1,000 at a time."""
    limits.check_name("pool", request.pool)
    statuses = _UNHELD if request.status is None else (request.status,)
    if request.dry_run:
        with ctx.store.read():
            pool = _pool(ctx, who, request.pool)
            return p.PurgeAnswer(
                deleted=0 if pool is None else ctx.store.pools.count_to_purge(pool, statuses), more=False
            )
    with ctx.store.write():
        tenant, pool = tenant_of(ctx, who), _pool(ctx, who, request.pool)
        most = ctx.store.rows_at_once(limits.BATCH_MAX_ITEMS)
        deleted = 0 if pool is None else ctx.store.pools.purge(pool, statuses, most)
        if deleted:
            assert tenant is not None
            log_change(ctx, tenant.key, "items_purged", request.pool, [], count=deleted)
    return p.PurgeAnswer(deleted=deleted, more=deleted == most)


def _pool(ctx: Context, who: Principal, name: str) -> PoolRow | None:
    tenant = tenant_of(ctx, who)
    return None if tenant is None else ctx.store.pools.get(tenant.key, name)


def _figures(ctx: Context, pool: PoolRow | None, name: str) -> Pool:
    if pool is None:
        return Pool(name=name, paused=False, pending=0, delayed=0, claimed=0, done=0, poisoned=0, oldest_pending_s=None)
    return ctx.store.pools.figures(pool, ctx.clock.steady_ms())
