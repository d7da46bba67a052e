"""Names that nobody ever used: most often ones with a slip of the pen in them. Asked only where nothing was found."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fedctl.errors import Denied, FedctlError, NotFound
from fedctl.messages.pool import GetPool, ListPools

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from fedctl.client.caller import Caller

_KINDS = ("tenant", "worker", "agent")
"""Of what a `NotFound` gives the name in its details."""
_LOOKED_AT_MAX = 1_000
_UUID_LENGTH = 36


def notes(caller: Caller, tenant: str | None, pools: Sequence[str], agent: str | None) -> Iterator[str]:
    """Yield what there is to say of those that were never used; of a tenant's pools and agents only if it was."""
    unknown = None if tenant is None else _of_tenant(caller, tenant)
    if unknown is not None:
        yield unknown
        return
    for name in pools:
        if (said := _of_pool(caller, name)) is not None:
            yield said
    if agent is not None and (near := nearest(agent, _names(caller, "agent"))) not in (None, agent):
        yield f"there is nothing of an agent {agent}: did you mean {near}?"


def unused_among(names: Collection[str], name: str) -> str | None:
    """Return what there is to say of a pool where all pools' names are known; None of one that was used."""
    return None if name in names else _never_used("pool", name, names)


def with_nearest(caller: Caller, error: NotFound) -> NotFound:
    """Return the error with the name in its hint that was perhaps meant: a tenant's, a worker's, an agent's."""
    with suppress(FedctlError):  # whoever may not know the names hears what there was to hear
        for kind in _KINDS:
            name = error.details.get(kind)
            near = nearest(name, _names(caller, kind)) if isinstance(name, str) else None
            if near is not None:
                hint = f"did you mean {near}?" + (f" {error.hint}" if error.hint else "")
                return NotFound(error.message, hint=hint, details=error.details)
    return error


def nearest(name: str, names: Collection[str]) -> str | None:
    """Return the one of the names that is most like a name; None: none is like it."""
    import difflib  # noqa: PLC0415  only for who mistyped

    alike = 0.6 if len(name) < _UUID_LENGTH else 0.9  # any two UUIDs of a day have a third in common
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=alike)), None)


def _of_pool(caller: Caller, name: str) -> str | None:
    pool = caller.call(GetPool(name=name)).pool
    if pool.paused or pool.pending or pool.delayed or pool.claimed or pool.done or pool.poisoned:
        return None  # without a look at all the others
    return unused_among([one.name for one in caller.call(ListPools()).pools], name)


def _of_tenant(caller: Caller, name: str) -> str | None:
    from fedctl.messages.tenant import GetTenant  # noqa: PLC0415  a pool's claim that finds nothing asks only for it

    try:
        caller.call(GetTenant(name=name))
    except Denied:  # an agent's token: it is in its own tenant, and may know of no other
        return None
    except NotFound:
        return _never_used("tenant", name, _names(caller, "tenant"))
    return None


def _never_used(kind: str, name: str, names: Collection[str]) -> str:
    near = nearest(name, names)
    return f"the {kind} {name} was never used" + (f": did you mean {near}?" if near else "")


def _names(caller: Caller, kind: str) -> list[str]:
    """Return the names that there are of a kind, as far as the caller may know them; the newest where they are many."""
    from fedctl.messages.agent import ListAgents  # noqa: PLC0415  likewise
    from fedctl.messages.tenant import ListTenants  # noqa: PLC0415
    from fedctl.messages.worker import ListWorkers  # noqa: PLC0415

    if kind == "tenant":
        return [one.id for one in caller.call(ListTenants()).tenants]
    if kind == "worker":
        return [one.worker_id for one in caller.call(ListWorkers(limit=_LOOKED_AT_MAX)).workers]
    return [one.id for one in caller.call(ListAgents(all=True, limit=_LOOKED_AT_MAX)).agents]
