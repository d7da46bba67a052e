"""What becomes of items: pushed, claimed, completed, failed, given back.

Within a transaction everything is read, decided in Python and written once: the write lock makes that one step.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace

from fedctl.errors import Conflict, FedctlError, NotFound, UsageError, from_code
from fedctl.messages import pool as p
from fedctl.model import limits
from fedctl.model.pool import (
    COMPLETION_MAX_BYTES,
    FOLLOW_UPS_MAX,
    KEY_MAX_CHARACTERS,
    MAX_LEASE_MS,
    MAX_PRIORITY,
    MIN_LEASE_MS,
    Completion,
    Item,
    ItemDraft,
    ItemFailure,
    Lease,
    Outcome,
)
from fedctl.model.time import from_rfc3339
from fedctl.store.pool import ItemRow, NewItem, PoolRow, to_item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedctl.model.episode import StoreResult
    from fedctl.model.hub import EventKind
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

_CAPABILITIES_MAX = 64
_DELAY_MAX_MS = 10 * 366 * 86_400_000


class Tenant(NamedTuple):
    """A tenant that has kept something: the key that stands for it, and its name."""

    key: int
    name: str


# -- pushing -----------------------------------------------------------------------------------------------------


def push(ctx: Context, who: Principal, request: p.PushItems) -> p.ItemResults:
    """Put items into a pool in one transaction; each refused one is reported in its place."""
    limits.check_name("pool", request.pool)
    check_batch(request.items)
    with ctx.store.write():
        results = _push(ctx, who, request.pool, request.items)
        if request.echo:
            results = _with_items(ctx, who, results)
    return p.ItemResults(results=within_a_page(results))


def _push(ctx: Context, who: Principal, pool_name: str, drafts: Sequence[ItemDraft]) -> list[p.ItemResult]:
    """Insert the good ones of the drafts; inside a write transaction."""
    now_ms, steady_ms = ctx.clock.now_ms(), ctx.clock.steady_ms()
    checked: list[NewItem | FedctlError] = []
    for draft in drafts:
        try:
            checked.append(_new_item(draft, steady_ms))
        except FedctlError as error:
            checked.append(error.with_traceback(None))  # as in memory.store
    good = [item for item in checked if isinstance(item, NewItem)]
    if not good:
        return [refused(draft.id, item) for draft, item in zip(drafts, checked, strict=True)]  # type: ignore[arg-type]
    tenant_key = ctx.store.tenants.key_for_writing(who.tenant_id, now_ms)
    pool = ctx.store.pools.get_for_writing(tenant_key, pool_name, now_ms)
    incoming = _Incoming(ctx, tenant_key, pool, [item.id for item in good])
    results = [
        refused(draft.id, item) if isinstance(item, FedctlError) else incoming.take(item)
        for draft, item in zip(drafts, checked, strict=True)
    ]
    if incoming.fresh:
        ctx.store.pools.add(tenant_key, pool, incoming.fresh.values(), now_ms)
        log_change(ctx, tenant_key, "items_pushed", pool_name, list(incoming.fresh))
    return results


class _Incoming:
    """Items on their way into a pool: each is new, or one that is there or came just before."""

    def __init__(self, ctx: Context, tenant_key: int, pool: PoolRow, ids: Sequence[str]) -> None:
        self._pools, self._tenant_key, self._pool = ctx.store.pools, tenant_key, pool
        self._known = self._pools.known_ids(tenant_key, ids)
        self._keys: dict[str, str] = {}
        self.fresh: dict[str, NewItem] = {}

    def take(self, item: NewItem) -> p.ItemResult:
        if item.id in self._known or item.id in self.fresh:
            return _met(item, self._pool.name, self._row(item.id))
        held = None if item.key is None else self._keys.get(item.key) or self._pools.held_key(self._pool, item.key)
        if held is not None:
            return _met_key(item, self._row(held))
        self.fresh[item.id] = item
        if item.key is not None:
            self._keys[item.key] = item.id
        return p.ItemResult(ok=True, id=item.id)

    def _row(self, item_id: str) -> ItemRow:
        if item_id in self.fresh:
            return _as_row(self.fresh[item_id], self._pool.name)
        return self._pools.items(self._tenant_key, [item_id])[item_id]


def _new_item(draft: ItemDraft, now_ms: int) -> NewItem:
    limits.check_id("item", draft.id)
    if isinstance(draft.priority, bool) or not -MAX_PRIORITY <= draft.priority <= MAX_PRIORITY:
        raise UsageError(f"a priority is within {-MAX_PRIORITY} and {MAX_PRIORITY}")
    limits.check_count("max_retries", draft.max_retries)
    if draft.key is not None:
        limits.check_text("a deduplication key", draft.key, empty_ok=False)
        if len(draft.key) > KEY_MAX_CHARACTERS:
            raise UsageError(f"a deduplication key has at most {KEY_MAX_CHARACTERS} characters")
    available_ms = now_ms
    if draft.delay_ms is not None and draft.available_at is not None:
        raise UsageError("an item is delayed by a time or until one, not both")
    if draft.delay_ms is not None:
        available_ms += _duration("the delay", draft.delay_ms, 0, _DELAY_MAX_MS)
    elif draft.available_at is not None:
        available_ms = from_rfc3339(draft.available_at)
    data = limits.encode_json("the data of an item", draft.data)
    _check_size("the data of an item", data)
    return NewItem(
        id=draft.id,
        requires=_capabilities(draft.requires),
        status="delayed" if available_ms > now_ms else "pending",
        priority=draft.priority,
        max_retries=draft.max_retries,
        key=draft.key,
        available_at_ms=max(available_ms, 0),
        data=data,
    )


def _capabilities(names: Sequence[str]) -> str:
    if len(names) > _CAPABILITIES_MAX:
        raise UsageError(f"an item requires at most {_CAPABILITIES_MAX} capabilities")
    return msgspec.json.encode(sorted({limits.check_name("capability", one) for one in names})).decode()


def _as_row(item: NewItem, pool_name: str) -> ItemRow:
    return ItemRow(
        0, item.id, pool_name, item.status, item.data, item.priority, 0, item.max_retries, None, None, None, None, 0,
        item.available_at_ms, None, None, None, item.key, item.requires,
    )  # fmt: skip


def _met(item: NewItem, pool_name: str, row: ItemRow) -> p.ItemResult:
    """Answer the push of an id that is taken: the same item again, or another one."""
    same = (pool_name, item.priority, item.max_retries, item.key, item.requires)
    if same == (row.pool, row.priority, row.max_retries, row.key, row.requires) and _same(item.data, row.data):
        return p.ItemResult(ok=True, id=row.id, existing=True)
    return refused(item.id, Conflict(f"the item {item.id} exists with other content", hint="push it with another id"))


def _met_key(item: NewItem, row: ItemRow) -> p.ItemResult:
    if _same(item.data, row.data):
        return p.ItemResult(ok=True, id=row.id, existing=True)
    message = f"the unfinished item {row.id} has the key {item.key!r} and other data"
    error = Conflict(message, hint="wait for it, or use another key", details={"id": row.id})
    return refused(item.id, error)


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    decode, encode = msgspec.json.decode, msgspec.json.Encoder(order="deterministic").encode
    return encode(decode(one)) == encode(decode(other))


# -- claiming ----------------------------------------------------------------------------------------------------


def claim(ctx: Context, who: Principal, request: p.ClaimItems) -> p.ClaimAnswer:
    """Claim items: what is due and what has expired first becomes pending again, in the same transaction."""
    _check_claim(request)
    with ctx.store.write():
        return _claim(ctx, who, request)


def _check_claim(request: p.ClaimItems) -> None:
    limits.check_name("pool", request.pool)
    limits.check_name("worker", request.worker_id)
    if not 1 <= request.count <= limits.BATCH_MAX_ITEMS:
        raise UsageError(f"one call claims 1 to {limits.BATCH_MAX_ITEMS} items, not {request.count}")
    _duration("the lease", request.lease_ms, MIN_LEASE_MS, MAX_LEASE_MS)
    limits.check_count("wait_ms", request.wait_ms)
    if request.lease_id is not None:
        limits.check_id("lease", request.lease_id)


def _of_worker(ctx: Context, tenant_key: int, worker_id: str) -> frozenset[str]:
    """Return what a worker can; nobody who is leaving gets anything new. To claim is to live: it revives a lost one."""
    found = ctx.store.workers.capabilities(tenant_key, worker_id)
    if found is None:
        return frozenset()
    status, capabilities = found
    if status in ("terminating", "terminated"):
        raise Conflict(
            f"the worker {worker_id} is {status} and claims nothing",
            hint=f"to come back: fedctl worker register {worker_id}",
        )
    if status == "lost":  # or it would hold items that no reaping takes back
        now_ms = ctx.clock.now_ms()
        ctx.store.workers.revive(tenant_key, worker_id, ctx.clock.steady_ms())
        ctx.store.changes.add(tenant_key, "worker_status", worker_id, now_ms=now_ms, detail={"status": "active"})
    return capabilities


def _claim(ctx: Context, who: Principal, request: p.ClaimItems) -> p.ClaimAnswer:
    """Claim inside a write transaction."""
    # Nothing is made but the home: an unused pool is empty.
    tenant_key = ctx.store.tenants.key(who.tenant_id)
    capabilities = frozenset() if tenant_key is None else _of_worker(ctx, tenant_key, request.worker_id)
    pools, steady_ms = ctx.store.pools, ctx.clock.steady_ms()
    head = None if tenant_key is None else pools.head(tenant_key, request.pool)
    if tenant_key is None or head is None:
        return p.ClaimAnswer(items=[])
    found: list[ItemRow] = []
    more = head.next_due_ms is not None and head.next_due_ms <= steady_ms
    while True:
        more = more and _sweep(ctx, tenant_key, head.pool, steady_ms)
        if head.pool.paused:
            return p.ClaimAnswer(items=[])
        for key, required in head.requirements:
            if required == "[]" or capabilities.issuperset(msgspec.json.decode(required)):
                found += pools.claimable(key, limit=request.count, most=limits.PAGE_MAX_BYTES)
        if found or not more:
            break
    if not found:
        due_ms = pools.next_due_ms(head.pool)
        return p.ClaimAnswer(items=[], next_ms=None if due_ms is None else max(0, due_ms - steady_ms))
    if len(head.requirements) > 1:
        found.sort(key=lambda row: (-row.priority, row.seq))
    taken = _taken(found[: request.count], request, now_ms=ctx.clock.now_ms(), until_ms=steady_ms + request.lease_ms)
    pools.claim(taken)
    log_change(ctx, tenant_key, "items_claimed", request.pool, [row.id for row in taken], worker_id=request.worker_id)
    return p.ClaimAnswer(items=[to_item(row) for row in taken])


def _taken(rows: Sequence[ItemRow], request: p.ClaimItems, *, now_ms: int, until_ms: int) -> list[ItemRow]:
    """Return the rows as they are once claimed: as many as fit in a page, for that fits into a frame."""
    taken: list[ItemRow] = []
    room = limits.PAGE_MAX_BYTES
    random = os.urandom(16 * len(rows)).hex()
    for place, row in enumerate(rows):
        room -= len(row.data.encode()) + len((row.error or "").encode())
        if room < 0 and taken:
            break
        taken.append(
            replace(
                row, status="claimed", attempts=row.attempts + 1, claimed_by=request.worker_id, claimed_at_ms=now_ms,
                lease_id=request.lease_id or random[32 * place : 32 * place + 32], lease_expires_at_ms=until_ms,
            )
        )  # fmt: skip
    return taken


def _sweep(ctx: Context, tenant_key: int, pool: PoolRow, steady_ms: int) -> bool:
    """Make pending what is due, and take back what has expired; return whether there may be more of either.

    So many a time and no more: whoever meets a hundred thousand of them is not to hold the store for seconds.
    """
    most = limits.BATCH_MAX_ITEMS
    due = ctx.store.pools.let_due(pool, steady_ms, most)
    expired = ctx.store.pools.expired(pool, steady_ms, most)
    _take_back(ctx, tenant_key, expired, "expired", "the lease ran out")
    return due == most or len(expired) == most


# -- ending an attempt ---------------------------------------------------------------------------------------------


def complete(ctx: Context, who: Principal, request: p.CompleteItems) -> p.ItemResults:
    """Finish items, each with what follows from it; repeating it is accepted, another result is a conflict."""
    check_batch(request.completions)
    if request.claim is not None:
        _check_claim(request.claim)
    with ctx.store.write():
        tenant = tenant_of(ctx, who)
        rows = rows_of(ctx, tenant, [one.id for one in request.completions])
        finished: dict[str, ItemRow] = {}
        results = []
        for one in request.completions:
            try:
                results.append(_complete(ctx, who, one, finished.get(one.id) or rows.get(one.id), finished))
            except FedctlError as error:
                if ctx.store.spoilt:
                    raise
                results.append(refused(one.id, error))
        if finished:
            assert tenant is not None
            ctx.store.pools.finish(list(finished.values()))
            log_by_pool(ctx, tenant.key, "items_done", finished.values())
        if request.echo:
            results = _with_items(ctx, who, results)
        claimed = [] if request.claim is None else _claim(ctx, who, request.claim).items
    return p.ItemResults(results=within_a_page(results, beside=claimed), claimed=claimed)


def _complete(
    ctx: Context, who: Principal, one: Completion, row: ItemRow | None, finished: dict[str, ItemRow]
) -> p.ItemResult:
    result = _check_result(one)
    if row is None:
        raise unknown(one.id)
    if row.status == "done" and row.lease_id == one.lease_id:
        if row.result is not None and _same(result, row.result):
            return p.ItemResult(ok=True, id=row.id, existing=True)
        raise Conflict(f"the item {row.id} is done with another result", details={"status": row.status})
    _check_lease(row, one.lease_id)
    row = replace(
        row, status="done", lease_expires_at_ms=None, finished_at_ms=ctx.clock.now_ms(), result=result, error=None
    )
    if not one.then_push and one.episode is None:
        finished[row.id] = row
        return p.ItemResult(ok=True, id=row.id)
    pushed, episode = _follow(ctx, who, one, [*finished.values(), row])
    finished[row.id] = row
    return p.ItemResult(ok=True, id=row.id, pushed_ids=pushed, episode=episode)


def _follow(
    ctx: Context, who: Principal, one: Completion, finished: Sequence[ItemRow]
) -> tuple[list[str], StoreResult | None]:
    """Push what follows and store what was learned; if any of it is refused, so is the completion.

    What is `finished` is so before anything follows: its deduplication key is free for its successor.
    """
    if len(one.then_push) > FOLLOW_UPS_MAX:
        raise UsageError(f"one completion pushes at most {FOLLOW_UPS_MAX} items")
    with ctx.store.write():
        ctx.store.pools.finish(finished)
        ids = []
        for follow_up in one.then_push:
            limits.check_name("pool", follow_up.pool)
            (result,) = _push(ctx, who, follow_up.pool, [follow_up.item])
            _raise_if_refused(result.error)
            ids.append(result.id)
        episode = None
        if one.episode is not None:
            from fedctl.messages.memory import StoreEpisodes  # noqa: PLC0415  few items end as an episode
            from fedctl.operations import memory  # noqa: PLC0415  likewise

            (episode,) = memory.store(ctx, who, StoreEpisodes(episodes=[one.episode])).results
            _raise_if_refused(episode.error)
        _check_whole(one)
        return ids, episode


def _check_result(one: Completion) -> str:
    limits.check_id("item", one.id)
    result = limits.encode_json("a result", one.result)
    _check_size("a result", result)
    return result


def _check_whole(one: Completion) -> None:
    size = len(msgspec.json.encode(one))
    if size > COMPLETION_MAX_BYTES:
        raise UsageError(
            f"a completion and all that follows from it have at most {COMPLETION_MAX_BYTES:,} bytes as JSON, "
            f"this one {size:,}",
            hint="push the rest before it",
            details={"limit_bytes": COMPLETION_MAX_BYTES, "size_bytes": size},
        )


def check_draft(draft: ItemDraft | Completion | ItemFailure, who: Principal) -> None:
    """Raise what a draft would be refused for by itself, whatever the store holds."""
    if isinstance(draft, ItemDraft):
        _new_item(draft, 0)
    elif isinstance(draft, Completion):
        _check_result(draft)
        for follow_up in draft.then_push:
            limits.check_name("pool", follow_up.pool)
            _new_item(follow_up.item, 0)
        if draft.episode is not None:
            from fedctl.operations import memory  # noqa: PLC0415  few items end as an episode

            memory.prepare(draft.episode, who, 0)
        _check_whole(draft)


def _raise_if_refused(error: dict[str, Any] | None) -> None:
    if error is not None:
        raise from_code(error["code"], error["message"], hint=error["hint"], details=error["details"])


def fail(ctx: Context, who: Principal, request: p.FailItems) -> p.ItemResults:
    """Give items back as failed: claimable again, or poisoned where their attempts are used up."""
    check_batch(request.failures)
    if request.claim is not None:
        _check_claim(request.claim)

    def failed(one: ItemFailure, row: ItemRow) -> ItemRow:
        retry_in_ms = _duration("the time until the next attempt", one.retry_in_ms, 0, _DELAY_MAX_MS)
        return _given_back(
            ctx, row, error=_error_text(one.error), retry_in_ms=retry_in_ms,
            poisoned=one.poison or row.attempts >= row.max_retries,
        )  # fmt: skip

    with ctx.store.write():
        results = _settle(ctx, who, request.failures, failed, "failed")
        if request.echo:
            results = _with_items(ctx, who, results)
        claimed = [] if request.claim is None else _claim(ctx, who, request.claim).items
    return p.ItemResults(results=within_a_page(results, beside=claimed), claimed=claimed)


def release(ctx: Context, who: Principal, request: p.ReleaseItems) -> p.ItemResults:
    """Give items back: it does not count as an attempt."""
    check_batch(request.leases)
    with ctx.store.write():
        results = _settle(ctx, who, request.leases, lambda _, row: _released(ctx, row), "released")
        if request.echo:
            results = _with_items(ctx, who, results)
    return p.ItemResults(results=within_a_page(results))


def release_worker(ctx: Context, who: Principal, request: p.ReleaseWorker) -> p.ItemResults:
    """Give back all that a worker holds, in all pools or in one."""
    limits.check_name("worker", request.worker_id)
    if request.pool is not None:
        limits.check_name("pool", request.pool)
    with ctx.store.write():
        tenant = tenant_of(ctx, who)
        rows = [] if tenant is None else ctx.store.pools.held_by(tenant.key, request.worker_id)
        if request.pool is not None:
            rows = [row for row in rows if row.pool == request.pool]
        if request.lease_id is not None:
            rows = [row for row in rows if row.lease_id == request.lease_id]
        back = [_released(ctx, row) for row in rows]
        if tenant is not None:
            _put_back(ctx, tenant.key, rows, back, "released", None)
    return p.ItemResults(results=within_a_page([p.ItemResult(ok=True, id=row.id, item=to_item(row)) for row in back]))


def _settle(
    ctx: Context, who: Principal, asked: Sequence[Any], change: Callable[[Any, ItemRow], ItemRow], outcome: Outcome
) -> list[p.ItemResult]:
    """Give back each of the items whose lease is held; inside a write transaction."""
    tenant = tenant_of(ctx, who)
    rows = rows_of(ctx, tenant, [one.id for one in asked])
    before: list[ItemRow] = []
    after: list[ItemRow] = []
    results = []
    for one in asked:
        try:
            limits.check_id("item", one.id)
            row = rows.get(one.id)
            if row is None:
                raise unknown(one.id)
            _check_lease(row, one.lease_id)
            rows[one.id] = changed = change(one, row)
        except FedctlError as error:
            results.append(refused(one.id, error))
            continue
        before.append(row)
        after.append(changed)
        results.append(p.ItemResult(ok=True, id=row.id))
    if before:
        assert tenant is not None
        _put_back(ctx, tenant.key, before, after, outcome, None)
    return results


def extend(ctx: Context, who: Principal, request: p.ExtendItems) -> p.ItemResults:
    """Let leases last longer."""
    check_batch(request.leases)
    until_ms = ctx.clock.steady_ms() + _duration("the lease", request.lease_ms, MIN_LEASE_MS, MAX_LEASE_MS)
    with ctx.store.write():
        rows = rows_of(ctx, tenant_of(ctx, who), [one.id for one in request.leases])
        longer: list[ItemRow] = []
        results = []
        for one in request.leases:
            try:
                results.append(_extend(one, rows, until_ms, longer))
            except FedctlError as error:
                results.append(refused(one.id, error))
        ctx.store.pools.extend(longer)
        if request.echo:
            results = _with_items(ctx, who, results)
    return p.ItemResults(results=within_a_page(results))


def _extend(one: Lease, rows: dict[str, ItemRow], until_ms: int, longer: list[ItemRow]) -> p.ItemResult:
    limits.check_id("item", one.id)
    row = rows.get(one.id)
    if row is None:
        raise unknown(one.id)
    _check_lease(row, one.lease_id)
    row = replace(row, lease_expires_at_ms=until_ms)
    longer.append(row)
    return p.ItemResult(ok=True, id=row.id)


def take_from_worker(ctx: Context, tenant_key: int, worker_id: str, outcome: Outcome, why: str | None) -> int:
    """Give back what a worker holds, inside a write transaction; return how many.

    `released` gives the attempts back, `lost` counts them.
    """
    rows = ctx.store.pools.held_by(tenant_key, worker_id)
    if outcome == "released":
        _put_back(ctx, tenant_key, rows, [_released(ctx, row) for row in rows], outcome, why)
    else:
        _take_back(ctx, tenant_key, rows, outcome, why)
    return len(rows)


def _take_back(ctx: Context, tenant_key: int, rows: Sequence[ItemRow], outcome: Outcome, why: str | None) -> None:
    """Take items from who has lost them: the attempt counts, and poisons at the limit."""
    back = [_given_back(ctx, row, error=why, poisoned=row.attempts >= row.max_retries) for row in rows]
    _put_back(ctx, tenant_key, rows, back, outcome, why)


def _put_back(  # noqa: PLR0913
    ctx: Context, tenant_key: int, before: Sequence[ItemRow], after: Sequence[ItemRow], outcome: Outcome,
    why: str | None,
) -> None:  # fmt: skip
    if not before:
        return
    now_ms = ctx.clock.now_ms()
    for old, new in zip(before, after, strict=True):
        ctx.store.pools.note_attempts([old], outcome, new.error if outcome == "failed" else why, now_ms)
    ctx.store.pools.give_back(after)
    poisoned = [row for row in after if row.status == "poisoned"]
    log_by_pool(ctx, tenant_key, "items_released", [row for row in after if row.status != "poisoned"], outcome=outcome)
    log_by_pool(ctx, tenant_key, "items_poisoned", poisoned, outcome=outcome)


def _given_back(ctx: Context, row: ItemRow, *, error: str | None, poisoned: bool, retry_in_ms: int = 0) -> ItemRow:
    status = "poisoned" if poisoned else "delayed" if retry_in_ms else "pending"
    return replace(row,
        status=status, error=error, claimed_by=None, claimed_at_ms=None, lease_id=None, lease_expires_at_ms=None,
        available_at_ms=ctx.clock.steady_ms() + retry_in_ms if status == "delayed" else row.available_at_ms,
        finished_at_ms=ctx.clock.now_ms() if poisoned else None,
    )  # fmt: skip


def _released(ctx: Context, row: ItemRow) -> ItemRow:
    return _given_back(ctx, replace(row, attempts=row.attempts - 1), error=row.error, poisoned=False)


def _check_lease(row: ItemRow, lease_id: str) -> None:
    if row.status == "claimed" and row.lease_id == lease_id:
        return
    status = status_of(row)
    state, hint = {
        "claimed": ("claimed by another lease", "drop the result: whoever has the lease now does the work"),
        "pending": ("pending again", "drop the result, or claim the item again"),
        "done": ("done", "fedctl pool item shows its result"),
        "poisoned": ("poisoned", "fedctl pool retry gives it a fresh budget"),
    }[status]
    raise Conflict(f"the lease on the item {row.id} is lost: it is {state}", hint=hint, details={"status": status})


# -- what they share -----------------------------------------------------------------------------------------------


def tenant_of(ctx: Context, who: Principal) -> Tenant | None:
    """Return the asking tenant; None before it has kept anything."""
    key = ctx.store.tenants.key(who.tenant_id)
    return None if key is None else Tenant(key, who.tenant_id)


def rows_of(ctx: Context, tenant: Tenant | None, ids: Sequence[str]) -> dict[str, ItemRow]:
    """Return those of the items that the tenant has."""
    possible = [one for one in ids if one.isprintable()]  # SQLite takes no lone surrogates; such an id is no item's
    return {} if tenant is None or not possible else ctx.store.pools.items(tenant.key, possible)


def _with_items(ctx: Context, who: Principal, results: list[p.ItemResult]) -> list[p.ItemResult]:
    """Return the results with the records of their items, and of those that follow."""
    ids = [item_id for one in results if one.ok for item_id in (one.id, *one.pushed_ids)]
    items = {item_id: to_item(row) for item_id, row in rows_of(ctx, tenant_of(ctx, who), ids).items()}
    return [
        replace(one, item=items[one.id], pushed=[items[item_id] for item_id in one.pushed_ids]) if one.ok else one
        for one in results
    ]


def within_a_page(results: list[p.ItemResult], *, beside: Sequence[Item] = ()) -> list[p.ItemResult]:
    """Return the results with as many of their records as fit in a page, next to other items: an answer is a frame."""
    if not any(one.item for one in results):
        return results
    room = limits.PAGE_MAX_BYTES - sum(_weight(item) for item in beside)
    kept = []
    for one in results:
        records = [*([] if one.item is None else [one.item]), *one.pushed]
        room -= sum(_weight(item) for item in records) if room > 0 else 0
        kept.append(one if room > 0 or not records else replace(one, item=None, pushed=[]))
    return kept


def _weight(item: Item) -> int:
    return len(msgspec.json.encode(item))


def check_batch(asked: Sequence[object], *, empty_ok: bool = False) -> None:
    """Check how many are asked for at once."""
    if len(asked) > limits.BATCH_MAX_ITEMS:
        raise UsageError(f"one call takes at most {limits.BATCH_MAX_ITEMS} items, not {len(asked)}")
    if not asked and not empty_ok:
        raise UsageError("no items were given")


def _check_size(what: str, text: str) -> None:
    size = len(text.encode())
    if size > limits.EPISODE_MAX_BYTES:
        raise UsageError(
            f"{what} has at most {limits.EPISODE_MAX_BYTES:,} bytes as JSON, this one {size:,}",
            hint="store it elsewhere and pass where it is",
            details={"limit_bytes": limits.EPISODE_MAX_BYTES, "size_bytes": size},
        )


def _duration(what: str, value: int, least: int, most: int) -> int:
    if isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{what} is within {least} ms and {most} ms, not {value} ms")
    return value


def _error_text(text: str | None) -> str | None:
    """Return what is kept of an error's text: its beginning, marked, where it is too long."""
    if text is None:
        return None
    return limits.cut_error(text.replace("\0", "?"))


def status_of(row: ItemRow) -> str:
    """Return the status as it is shown: a delayed item is pending."""
    return "pending" if row.status == "delayed" else row.status


def unknown(item_id: str) -> NotFound:
    """Return the error for an item that is not there, or not yours."""
    return NotFound(f"there is no item {item_id}", hint="fedctl pool items POOL shows them")


def refused(item_id: str, error: FedctlError) -> p.ItemResult:
    """Return what a refused line comes to."""
    return p.ItemResult(ok=False, id=item_id, error=error.as_dict())


def log_change(ctx: Context, tenant_key: int, kind: EventKind, pool: str, ids: Sequence[str], **detail: Any) -> None:
    """Note one change of many items: who listens wants to know which, and one row costs what one item's would."""
    ctx.store.changes.add(tenant_key, kind, pool, now_ms=ctx.clock.now_ms(), detail={"ids": list(ids)} | detail)


def log_by_pool(ctx: Context, tenant_key: int, kind: EventKind, rows: Any, **detail: Any) -> None:
    """Note one change of items of several pools."""
    by_pool: dict[str, list[str]] = {}
    for row in rows:
        by_pool.setdefault(row.pool, []).append(row.id)
    for pool, ids in by_pool.items():
        log_change(ctx, tenant_key, kind, pool, ids, **detail)
