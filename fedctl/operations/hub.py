"""What a running hub says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import Unavailable
from fedctl.messages import hub as h

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context, HubSide


def stats(ctx: Context, _who: Principal, _request: h.GetHubStats) -> h.HubStatsAnswer:
    """Return the hub's figures together with the store's."""
    return h.HubStatsAnswer(
        stats=msgspec.structs.replace(
            _hub(ctx).stats(),
            episodes=ctx.store.episodes.count_everywhere(),
            tenants=ctx.store.tenants.count(),
            pending_embeddings=ctx.store.embeddings.pending(None),
        )
    )


def info(ctx: Context, _who: Principal, _request: h.GetHubInfo) -> h.HubInfoAnswer:
    """Return where the hub listens."""
    return h.HubInfoAnswer(hub=_hub(ctx).info())


def subscribe(ctx: Context, _who: Principal, _request: h.Subscribe) -> h.SubscribeAnswer:
    """Return the sequence after which notices begin; the hub's session layer does the sending."""
    _hub(ctx)
    return h.SubscribeAnswer(seq=ctx.store.changes.last_seq())


def _hub(ctx: Context) -> HubSide:
    if ctx.hub is None:
        raise Unavailable("no hub runs on this home", hint="start one: fedctl hub start")
    return ctx.hub
