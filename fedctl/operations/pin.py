"""Pinning: what no policy removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.errors import UsageError
from fedctl.messages import memory as m
from fedctl.model import limits

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context


def pin(ctx: Context, who: Principal, request: m.PinEpisodes) -> m.PinAnswer:
    """Pin episodes, or let them go by the policy again."""
    if not request.ids or len(request.ids) > limits.BATCH_MAX_ITEMS:
        raise UsageError(f"one call pins 1 to {limits.BATCH_MAX_ITEMS} episodes, not {len(request.ids)}")
    for episode_id in request.ids:
        limits.check_id("episode", episode_id)
    wanted = list(dict.fromkeys(request.ids))
    tenant_key = ctx.store.tenants.key(who.tenant_id)
    if tenant_key is None:
        return m.PinAnswer(changed=[], missing=wanted)
    now_ms = ctx.clock.now_ms()
    with ctx.store.write():
        known = ctx.store.episodes.known_ids(tenant_key, wanted)
        changed = ctx.store.retention.pin(tenant_key, wanted, pinned=request.pinned)
        for episode_id in changed:
            detail = {"pinned": request.pinned}
            ctx.store.changes.add(tenant_key, "episode_pinned", episode_id, now_ms=now_ms, detail=detail)
    return m.PinAnswer(changed=changed, missing=[one for one in wanted if known.get(one) is None])
