"""`fedctl pool`: what is there, and waiting for what becomes of it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import msgspec

from fedctl.cli import options, values
from fedctl.cli.command import Invocation, verb
from fedctl.cli.options import Limit, argument, flag
from fedctl.cli.render import Shape, with_more
from fedctl.client import paging
from fedctl.client.waiting import Patience, told_apart, wait_for
from fedctl.clock import Clock
from fedctl.errors import Findings, Timeout
from fedctl.messages.pool import GetItem, GetPool, ListItems, ListPools, WaitAnswer
from fedctl.model.limits import BATCH_MAX_ITEMS
from fedctl.model.pool import Attempt, Item, ItemStatus, Pool

if TYPE_CHECKING:
    import typer

    from fedctl.client.caller import Caller

ITEM = Shape.of(Item, "id", "status", "attempts", "claimed_by", "data", "error")
POOL = Shape.of(Pool, key="name")


class WholeItem(Item, frozen=True, kw_only=True):
    """An item with its history, the oldest attempt first."""

    history: list[Attempt]


class PoolSize(msgspec.Struct, frozen=True, kw_only=True):
    """How many items of a pool are to be done and held by nobody: `size` is `pending` and `delayed` together."""

    pool: str
    size: int
    pending: int
    delayed: int


WHOLE = Shape.of(WholeItem, *ITEM.columns)
SIZE = Shape.of(PoolSize, key="size")
WAITED = Shape.of(WaitAnswer, key="poisoned_ids")

PoolName = Annotated[str, argument("POOL", "The pool's name.", values.name_of("pool"))]


def add_to(app: typer.Typer) -> None:
    """Make these commands of an app."""
    verb(
        app,
        "list",
        shape=POOL,
        form="many",
        examples=["fedctl pool list", "fedctl pool list --json | jq '.[] | select(.poisoned > 0)'"],
    )(list_)
    verb(app, shape=POOL, examples=["fedctl pool show builds --json"])(show)
    verb(app, shape=SIZE, examples=["fedctl pool size builds", "fedctl pool size builds --json"])(size)
    verb(
        app,
        shape=ITEM,
        form="many",
        examples=["fedctl pool items builds --status poisoned", "fedctl pool items builds --jsonl | jq -c .error"],
    )(items)
    verb(app, shape=WHOLE, examples=["""fedctl pool item "$id" --json | jq '.history[-1].error'"""])(item)
    verb(
        app,
        shape=WAITED,
        examples=[
            "fedctl pool wait builds lint --timeout 30m",
            'fedctl pool wait $(fedctl pool push builds \'{"ref": "main"}\' --ids)',
        ],
    )(wait)


def list_(ctx: Invocation, limit: Limit = None) -> None:
    """List the tenant's pools with their figures, by name."""
    with ctx.caller() as caller:
        pools = caller.call(ListPools()).pools
        if not pools:
            ctx.note_unused(caller)
    shown = pools[: limit or ctx.screen.default_limit]
    ctx.screen.many(shown, POOL)
    ctx.screen.cut(len(shown), len(pools))


def show(ctx: Invocation, pool: PoolName) -> None:
    """Show a pool's figures. One that was never used reads as empty."""
    with ctx.caller() as caller:
        ctx.screen.one(caller.call(GetPool(name=pool)).pool, POOL)
        ctx.note_unused(caller, pool)


def size(ctx: Invocation, pool: PoolName) -> None:
    """Count the items that are to be done and that nobody holds.

    Those that can be claimed now, and the delayed. As text it is the number alone.
    """
    with ctx.caller() as caller:
        found = caller.call(GetPool(name=pool)).pool
        number = found.pending + found.delayed
        if not number:
            ctx.note_unused(caller, pool)
    counts = PoolSize(pool=found.name, size=number, pending=found.pending, delayed=found.delayed)
    ctx.screen.one(counts, SIZE, shown=str(number))


def items(
    ctx: Invocation,
    pool: PoolName,
    status: Annotated[ItemStatus | None, flag("--status", says="Only those of this status.")] = None,
    limit: Limit = None,
) -> None:
    """List a pool's items in the order they were pushed.

    A delayed one is pending, with an available_at that is still to come.
    """
    limit = limit or ctx.screen.default_limit
    request = ListItems(pool=pool, status=status, limit=BATCH_MAX_ITEMS, count=limit is not None)
    with ctx.caller() as caller:
        found, total = paging.take(caller, request, limit)
        shown = ctx.screen.many(found, ITEM)
        if not shown:
            ctx.note_unused(caller, pool)
    ctx.screen.cut(shown, total)


def item(ctx: Invocation, id_: Annotated[str, argument("ITEM", "The item's id.", values.item_id)]) -> None:
    """Show an item, with the history of its attempts."""
    with ctx.caller() as caller:
        answer = caller.call(GetItem(id=id_))
    history = {str(number): _told(attempt) for number, attempt in enumerate(answer.history, start=1)}
    shown = msgspec.structs.asdict(answer.item) | {"history": history}
    ctx.screen.one(with_more(answer.item, WholeItem, history=answer.history), WHOLE, shown)


def _told(attempt: Attempt) -> str:
    """Return an attempt as one line for a person."""
    until = "" if attempt.ended_at is None else f" to {attempt.ended_at}"
    why = "" if attempt.error is None else f": {attempt.error}"
    return f"{attempt.outcome} by {attempt.worker_id}, {attempt.claimed_at}{until}{why}"


def wait(
    ctx: Invocation,
    what: Annotated[list[str], argument("POOL|ITEM...", "Names of pools, ids of items.")],
    timeout: Annotated[
        int | None,
        flag("--timeout", metavar="DUR", parser=values.duration, says="Wait no longer.", default="as long as it takes"),
    ] = None,
) -> int:
    """Wait until items, or all of a pool, are done or poisoned.

    What has the form of a UUID is an item; any other name is the item that has it for an id, and a pool where there
    is none. A pool that was never used reads as empty, and counts as done; a note says so. Exit 0 when all are done,
    14 when something is poisoned, 8 when --timeout ran out. A hub that goes away meanwhile is waited for.
    """
    from fedctl.cli.progress import Progress

    if timeout is None and "timeout" in ctx.session.flags:  # given before the command
        timeout = options.named("--timeout", values.duration)(ctx.session.flags["timeout"])
    with ctx.caller() as caller, closing(patience(ctx, caller, timeout)) as patient:
        with Progress(ctx, "waiting") as progress:
            pools, ids = told_apart(patient, what)
            found = wait_for(patient, pools, ids, progress.update if progress.shown else None)
        if pools:
            ctx.note_unused(patient.caller, *pools)
    ctx.screen.done(found, WAITED)
    code = Timeout.exit if found.open else Findings.exit if found.poisoned else 0
    if code and ctx.settings.quiet and ctx.screen.form == "table":  # what cron is to hear
        ctx.session.say(f"error: {found.open:,} not finished, {found.poisoned:,} poisoned")
    return code


def patience(ctx: Invocation, caller: Caller, timeout_ms: int | None, *, writes: bool = False) -> Patience:
    """Return the means of waiting with a caller, and with its successors."""
    reopen = ctx.session.open_caller
    return Patience(caller, lambda: reopen(ctx.settings, writes=writes), Clock(), timeout_ms, ctx.screen.note)
