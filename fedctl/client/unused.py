"""Pools that nobody ever used: most often a name with a slip of the pen in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.messages.pool import GetPool, ListPools

if TYPE_CHECKING:
    from collections.abc import Collection

    from fedctl.client.caller import Caller


def unused(caller: Caller, name: str) -> str | None:
    """Return what there is to say of a pool that was never used; None of one that was."""
    pool = caller.call(GetPool(name=name)).pool
    if pool.paused or pool.pending or pool.delayed or pool.claimed or pool.done or pool.poisoned:
        return None  # without a look at all the others
    return unused_among([one.name for one in caller.call(ListPools()).pools], name)


def unused_among(names: Collection[str], name: str) -> str | None:
    """Return the same where all pools' names are known."""
    if name in names:
        return None
    import difflib  # noqa: PLC0415  only for who mistyped

    near = difflib.get_close_matches(name, names, n=1)
    return f"the pool {name} was never used" + (f": did you mean {near[0]}?" if near else "")
