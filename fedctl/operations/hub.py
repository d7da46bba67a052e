"""What a running hub says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import Denied, Unavailable, UsageError
from fedctl.messages import hub as h
from fedctl.model.limits import PAGE_MAX_BYTES, check_count
from fedctl.model.time import from_rfc3339

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context, HubSide

EVENTS_MAX = 10_000
"""Events in one page, however many are asked for."""
SCAN_MAX = 20_000
"""Entries of the log that one request looks through for a tenant's: what lies beyond is for the next one."""
SCAN_LEAST = 1_000
"""Looked through so many in vain, an answer is worth its new cursor: whoever waits begins there."""
NOBODY = -1
"""The key of a tenant that has nothing yet."""


def stats(ctx: Context, _who: Principal, _request: h.GetHubStats) -> h.HubStatsAnswer:
    """Return the hub's figures together with the store's: what is counted as it comes, or counted out seldom."""
    hub = _hub(ctx)
    pools, items = hub.seldom("items", ctx.store.pools.count_everywhere)
    free_bytes, read_only = ctx.store.space()
    return h.HubStatsAnswer(
        stats=msgspec.structs.replace(
            hub.stats(),
            episodes=ctx.store.tenants.episodes_everywhere(),
            tenants=ctx.store.tenants.count(),
            pending_embeddings=hub.seldom("pending_embeddings", lambda: ctx.store.embeddings.pending(None)),
            store_bytes=ctx.store.size_bytes(),
            wal_bytes=ctx.store.wal_bytes(),
            index_age_s=ctx.store.indexes.most_outdated_ms(ctx.clock.now_ms()) / 1000,
            pools=pools,
            items=items,
            disk_free_bytes=free_bytes,
            read_only=read_only,
        )
    )


def info(ctx: Context, who: Principal, _request: h.GetHubInfo) -> h.HubInfoAnswer:
    """Return where the hub listens; of its machine's files only to who runs it."""
    found = _hub(ctx).info()
    if not who.may("operator"):
        found = msgspec.structs.replace(found, home="", socket="")
    return h.HubInfoAnswer(hub=found)


def subscribe(ctx: Context, _who: Principal, _request: h.Subscribe) -> h.SubscribeAnswer:
    """Return the sequence after which notices begin; the hub's session layer does the sending."""
    _hub(ctx)
    return h.SubscribeAnswer(seq=ctx.store.changes.last_seq())


def events(ctx: Context, who: Principal, request: h.ListEvents) -> h.EventPage:
    """Return a page of the change log: after a cursor, since a time, the newest ones, or from its beginning."""
    if request.all_tenants and not who.may("operator"):
        raise Denied(f"hub.events of all tenants needs the role operator, this token is of role {who.role}")
    if sum(given is not None for given in (request.after, request.since, request.newest)) > 1:
        raise UsageError("events are those after a cursor, since a time, or the newest: one of them")
    for what, number in (("after", request.after), ("newest", request.newest), ("wait_ms", request.wait_ms)):
        check_count(what, number or 0)
    if check_count("limit", request.limit) == 0:
        raise UsageError("a page has at least one event")
    with ctx.store.read():
        return _page(ctx, who, request)


def _page(ctx: Context, who: Principal, request: h.ListEvents) -> h.EventPage:
    changes, limit = ctx.store.changes, min(request.limit, EVENTS_MAX)
    tenant_key = ctx.store.tenants.key(who.tenant_id)
    whose = None if request.all_tenants else NOBODY if tenant_key is None else tenant_key
    epoch, head = ctx.store.settings.epoch(), changes.last_seq()
    if request.newest is not None:
        number = min(request.newest, limit)
        last = changes.newest(whose, kinds=request.kinds, limit=number, most_bytes=PAGE_MAX_BYTES) if number else []
        return h.EventPage(events=last, cursor=head, more=False, epoch=epoch)
    after = request.after or 0
    if request.since is not None:
        after = changes.seq_before(from_rfc3339(request.since))
    through = min(head, after + SCAN_MAX)
    found, whole = changes.page(whose, after, through, kinds=request.kinds, limit=limit, most_bytes=PAGE_MAX_BYTES)
    if not whole:
        through = found[-1].seq
    idle = not found and through - after >= SCAN_LEAST
    return h.EventPage(events=found, cursor=max(after, through), more=idle or through < head, epoch=epoch)


def _hub(ctx: Context) -> HubSide:
    if ctx.hub is None:
        raise Unavailable("no hub runs on this home", hint="start one: fedctl hub start")
    return ctx.hub
