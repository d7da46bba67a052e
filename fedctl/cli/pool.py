"""`fedctl pool`: push, claim, complete, fail; look, wait, retry, purge, pause."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from fedctl.cli import look, options, values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.look import ITEM, POOL, PoolName
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape, counted, with_more
from fedctl.cli.work import EXAMPLES, FINISHED, WORK, lease_ms, work
from fedctl.client.waiting import claim_for
from fedctl.clock import Clock
from fedctl.errors import (
    Conflict,
    Denied,
    DiskFull,
    Empty,
    Failure,
    FedctlError,
    Partial,
    UsageError,
    from_code,
)
from fedctl.messages.pool import (
    ClaimItems,
    CompleteItems,
    ExtendItems,
    FailItems,
    GetItem,
    ItemResult,
    PausePool,
    PurgePool,
    PushItems,
    ReleaseItems,
    ReleaseWorker,
    RetryItems,
)
from fedctl.model.limits import BATCH_MAX_ITEMS, check_name
from fedctl.model.pool import (
    LEASE_MS,
    MAX_RETRIES,
    Completion,
    FollowUp,
    Item,
    ItemDraft,
    ItemFailure,
    Lease,
)

if TYPE_CHECKING:
    from fedctl.client.caller import Caller


class PushedItem(Item, frozen=True, kw_only=True):
    """An item that was pushed; `existing`: an unfinished one had its key already, and this is that one."""

    existing: bool


class CompletedItem(Item, frozen=True, kw_only=True):
    """An item that is done, the items `pushed` in the same commit, and the id of the `episode` stored in it.

    `existing`: it was completed before, with the same result.
    """

    existing: bool
    pushed: list[Item]
    episode: str | None


class PurgedPool(msgspec.Struct, frozen=True, kw_only=True):
    """How many items of a pool were deleted, or with `dry_run` would be."""

    pool: str
    deleted: int
    dry_run: bool


PUSHED = Shape.of(PushedItem, *ITEM.columns)
CLAIMED = ITEM.with_columns(("id", "lease_id", "attempts", "data"))
DONE = Shape.of(CompletedItem, *ITEM.columns)
PURGED = Shape.of(PurgedPool, key="pool")
LINES = {"--batch": "fedctl.cli.intake:BatchOutcome"}
"""What `--batch` answers each line with."""
_LEASE_BYTES = 12
"""Nobody guesses it, and a table shows it whole."""

HeldItem = Annotated[str | None, argument("[ITEM]", "The item's id; none with --batch.", values.item_id)]
LeaseId = Annotated[
    str | None,
    flag("--lease-id", metavar="L", says="The lease that it was claimed by.", default="FEDCTL_LEASE_ID"),
]
LeaseFor = Annotated[
    int, flag("--lease", metavar="DUR", parser=lease_ms, says="How long it is one's own.", default="60s")
]
Batch = Annotated[
    bool,
    flag(
        "--batch",
        says="Read lines from stdin, one JSON object each; answer a line for each, in order. Blank lines are skipped.",
    ),
]

app = noun(
    "pool",
    "Hand out work once, and bring it back when a worker dies.",
    "An item that is claimed is nobody else's until it is completed, failed or released, or until its lease ends. "
    "A worker that dies needs nobody to notice: its items come back with the next claim. A failed item can be "
    "claimed again at once, or after --retry-in; after --max-retries claims it is poisoned and stays for you to "
    "look at (`pool item ID` has its history). An expired lease counts, a release does not.",
    "The lease id is the fence: whoever lost the lease cannot complete, fail, extend or release the item any more "
    "(exit 5). Until somebody else claims it a late completion is accepted, and the same completion twice is too. "
    "A claim that cannot be answered (Ctrl-C, a closed pipe) claims nothing, and `claim --wait` and `pool wait` "
    "outlive a hub that is started anew.",
    "--key keeps work from being queued twice: while an unfinished item has the key, pushing the same data "
    "answers with that item, and other data are a conflict (5). complete, fail, extend and release take the lines "
    "of `claim --jsonl` as they are, with what you add (result, error).",
    "`pool wait` is the judge of a job. The exit code 3 of `pool work` says only that something failed in this "
    "one run and was not done later in it: another run may have done it since.",
)


# -- pushing and claiming -----------------------------------------------------------------------------------------


@verb(
    app,
    shape=PUSHED,
    lines=LINES,
    examples=[
        """fedctl pool push builds '{"repo": "api", "ref": "main"}' --key api-main""",
        "git diff --name-only | jq -Rc '{data: .}' | fedctl pool push lint --batch",
        "fedctl pool push nightly @job.json --at 2026-12-01T03:00:00Z --max-retries 1",
    ],
)
def push(
    ctx: Invocation,
    pool: PoolName,
    data: Annotated[
        str | None, argument("[JSON]", "What the worker is to see: JSON, - for stdin, @FILE; nothing is null.")
    ] = None,
    max_retries: Annotated[
        int | None,
        flag(
            "--max-retries",
            metavar="N",
            parser=values.count,
            says="Poisoned when it failed after so many claims; 0 is as 1.",
            default="3",
        ),
    ] = None,
    priority: Annotated[
        int | None, flag("--priority", metavar="N", says="Larger is claimed first; may be negative.", default="0")
    ] = None,
    delay: Annotated[
        int | None,
        flag("--delay", metavar="DUR", parser=values.duration, says="Nobody can claim it before that time is over."),
    ] = None,
    at: Annotated[
        str | None,
        flag("--at", metavar="T", parser=values.future, says="Nobody can claim it before then: +3h, a time."),
    ] = None,
    key: Annotated[
        str | None,
        flag("--key", metavar="K", parser=values.text, says="While an unfinished item has this key there is no other."),
    ] = None,
    requires: Annotated[
        list[str] | None,
        flag(
            "--requires",
            metavar="C",
            parser=values.name_of("capability"),
            says="Only a worker with this capability may claim it. Repeatable.",
        ),
    ] = None,
    batch: Batch = False,
) -> int | None:
    """Push an item into a pool.

    The pool comes into being with its first item. A line of --batch is {"data": ...} and, as wanted, id, priority,
    max_retries, delay (or delay_ms), at (or available_at), key, requires.
    """
    if batch:
        _check_alone("its items", data, max_retries, priority, delay, at, key, requires)
        from fedctl.cli import items as lines

        return lines.run(ctx, lines.draft, lambda drafts: PushItems(pool=pool, items=drafts), writes=True)
    if delay is not None and at is not None:
        raise UsageError("--delay and --at say when twice", hint="give one of them")
    if data is None:
        ctx.screen.note("no data were given: pushed null (- reads them from stdin)")
    item = ItemDraft(
        id=Clock().new_id(),
        data=None if data is None else values.read_json("the data", data, ctx.stdin),
        priority=priority or 0,
        max_retries=MAX_RETRIES if max_retries is None else max_retries,
        delay_ms=delay,
        available_at=at,
        key=key,
        requires=requires or [],
    )
    with ctx.caller(writes=True) as caller:
        result = _only(caller.call(PushItems(pool=pool, items=[item], echo=True)).results)
        record = with_more(_record(caller, result), PushedItem, existing=result.existing)
    if result.existing:
        ctx.screen.note(f"the unfinished item {result.id} has this key: nothing was pushed")
    ctx.screen.done(record, PUSHED)
    return None


@verb(
    app,
    shape=CLAIMED,
    form="many",
    examples=[
        "fedctl pool claim builds --worker builder-1 --lease 5m --wait 1h --json",
        "fedctl pool claim lint --worker w1 --count 100 --jsonl",
    ],
)
def claim(
    ctx: Invocation,
    pool: PoolName,
    worker: Annotated[
        str | None,
        flag(
            "--worker",
            metavar="ID",
            parser=values.name_of("worker"),
            says="Who claims; it need not be registered.",
            default="FEDCTL_WORKER",
        ),
    ] = None,
    count: Annotated[
        int, flag("--count", metavar="N", least=1, most=BATCH_MAX_ITEMS, says="At most N items.", default="1")
    ] = 1,
    lease: LeaseFor = LEASE_MS,
    wait: Annotated[
        int | None,
        flag(
            "--wait",
            metavar="DUR",
            parser=values.duration,
            says="If there is nothing, wait that long for something; for a hub that goes away meanwhile, too.",
        ),
    ] = None,
) -> int:
    """Claim items to work on them.

    Nobody else has them until they are completed, failed, released, or the lease ends. The answer is a list, also
    of one. Exit 6 when there was nothing. What could not be answered is not claimed.
    """
    worker = worker or options.named("FEDCTL_WORKER", _worker_or_none)(ctx.session.environ.get("FEDCTL_WORKER"))
    if worker is None:
        raise UsageError("--worker is missing", hint="say who works: --worker NAME, or FEDCTL_WORKER")
    request = ClaimItems(
        pool=pool,
        worker_id=worker,
        count=count,
        lease_ms=lease,
        lease_id=os.urandom(_LEASE_BYTES).hex(),
    )
    with _given_back_if_unsaid(ctx, request):
        with (
            ctx.caller(writes=True) as caller,
            closing(look.patience(ctx, caller, wait or 0, writes=True)) as patient,
        ):
            found = (caller.call(request) if wait is None else claim_for(patient, request)).items
            if not found:
                ctx.note_unused(patient.caller, pool)
        ctx.screen.many(found, CLAIMED)
        ctx.screen.flush()
    return 0 if found else Empty.exit


def _worker_or_none(name: str | None) -> str | None:
    return check_name("worker", name) if name else None


@contextmanager
def _given_back_if_unsaid(ctx: Invocation, request: ClaimItems) -> Iterator[None]:
    """Give back what was claimed if nobody came to know of it: a signal came, stdout is closed, the hub is gone.

    The lease was made here, so that it is known even where the answer is not.
    """
    try:
        yield
    except (UsageError, Denied, Conflict):
        raise
    except BaseException as error:
        with suppress(FedctlError), ctx.caller() as caller:
            back = caller.call(ReleaseWorker(worker_id=request.worker_id, lease_id=request.lease_id)).results
            if back and isinstance(error, (DiskFull, Failure)):  # where the answer was to go
                error.hint = "what was claimed is given back"
        raise


# -- ending an attempt ----------------------------------------------------------------------------------------------


@verb(
    app,
    shape=DONE,
    lines={"--batch": "fedctl.cli.items:CompletionOutcome"},
    examples=[
        """fedctl pool complete "$id" --lease-id "$lease" --result '{"tests": 412}'""",
        """fedctl pool complete "$id" --lease-id "$lease" --then-push deploy '{"ref": 1}' --episode @lesson.json""",
    ],
)
def complete(
    ctx: Invocation,
    item: HeldItem = None,
    lease_id: LeaseId = None,
    result: Annotated[
        str | None, flag("--result", metavar="JSON", says="What came of it: JSON, - for stdin, @FILE.", default="null")
    ] = None,
    then_push: Annotated[
        list[str] | None,
        flag("--then-push", metavar="POOL JSON", says="Push an item in the same commit. Repeatable."),
    ] = None,
    episode: Annotated[
        str | None,
        flag("--episode", metavar="JSON", says="Store an episode in the same commit: a line of memory store --batch."),
    ] = None,
    batch: Batch = False,
) -> int | None:
    """Complete an item, with its result and what follows from it.

    What follows and what was learned are kept in the same commit, or none of it is. Completing it again with the
    same result is accepted. A line of --batch is {"id", "lease_id", "result", "then_push": [{"pool", "data", ...}],
    "episode": {"task", ...}}, or an item as claim answers with it, with such a result.
    """
    if batch:
        _check_alone("its items", item, result, then_push, episode)
        from fedctl.cli import items as lines

        read = lines.completion(_lease_or_none(ctx, lease_id))
        return lines.run(ctx, read, lambda drafts: CompleteItems(completions=drafts))
    held = _held(ctx, item, lease_id)
    pairs: Any = then_push or []  # two values each, as the option's metavar says
    completion = Completion(
        id=held.id,
        lease_id=held.lease_id,
        result=None if result is None else values.read_json("--result", result, ctx.stdin),
        then_push=[_follow_up(ctx, pool, data) for pool, data in pairs],
        episode=None if episode is None else _episode(ctx, episode),
    )
    with ctx.caller() as caller:
        answer = _only(caller.call(CompleteItems(completions=[completion], echo=True)).results)
        record = _record(caller, answer)
        pushed = {one.id: one for one in answer.pushed}
        done = with_more(
            record,
            CompletedItem,
            existing=answer.existing,
            pushed=[pushed.get(one) or caller.call(GetItem(id=one)).item for one in answer.pushed_ids],
            episode=None if answer.episode is None else answer.episode.id,
        )
    ctx.screen.done(done, DONE)
    return None


def _follow_up(ctx: Invocation, pool: str, data: str) -> FollowUp:
    options.named("--then-push", values.name_of("pool"))(pool)
    item = ItemDraft(id=Clock().new_id(), data=values.read_json("--then-push", data, ctx.stdin))
    return FollowUp(pool=pool, item=item)


def _episode(ctx: Invocation, given: str) -> Any:
    from fedctl.cli import items as lines

    return options.named("--episode", lines.episode)(values.read_json("--episode", given, ctx.stdin))


@verb(
    app,
    shape=ITEM,
    lines=LINES,
    examples=[
        """fedctl pool fail "$id" --lease-id "$lease" --error 'exit code 2' --retry-in 5m""",
        """make test 2>&1 | tail -100 | fedctl pool fail "$id" --lease-id "$lease" --error -""",
    ],
)
def fail(
    ctx: Invocation,
    item: HeldItem = None,
    lease_id: LeaseId = None,
    error: Annotated[
        str | None, flag("--error", metavar="TEXT", says="What went wrong; - or @FILE. Beyond 64 KiB it is cut.")
    ] = None,
    retry_in: Annotated[
        int | None,
        flag("--retry-in", metavar="DUR", parser=values.duration, says="When it can be claimed again.", default="now"),
    ] = None,
    batch: Batch = False,
) -> int | None:
    """Give an item back as failed.

    It can be claimed again, or is poisoned after --max-retries claims. A line of --batch is {"id", "lease_id",
    "error", "retry_in" (or retry_in_ms), "poison": true}, or an item as claim answers with it, with such an error.
    """
    if batch:
        _check_alone("its items", item, error, retry_in)
        from fedctl.cli import items as lines

        read = lines.failure(_lease_or_none(ctx, lease_id))
        return lines.run(ctx, read, lambda drafts: FailItems(failures=drafts))
    held = _held(ctx, item, lease_id)
    failure = ItemFailure(
        id=held.id,
        lease_id=held.lease_id,
        error=None if error is None else values.read_error("--error", error, ctx.stdin),
        retry_in_ms=retry_in or 0,
    )
    with ctx.caller() as caller:
        record = _record(caller, _only(caller.call(FailItems(failures=[failure], echo=True)).results))
    ctx.screen.done(record, ITEM)
    return None


@verb(app, shape=ITEM, lines=LINES, examples=["""fedctl pool extend "$id" --lease-id "$lease" --lease 10m"""])
def extend(
    ctx: Invocation, item: HeldItem = None, lease_id: LeaseId = None, lease: LeaseFor = LEASE_MS, batch: Batch = False
) -> int | None:
    """Let a lease end --lease from now.

    A line of --batch is {"id", "lease_id"}, or an item as claim answers with it.
    """
    if batch:
        _check_alone("its items", item)
        from fedctl.cli import items as lines

        read = lines.lease(_lease_or_none(ctx, lease_id))
        return lines.run(ctx, read, lambda leases: ExtendItems(leases=leases, lease_ms=lease))
    held = _held(ctx, item, lease_id)
    with ctx.caller() as caller:
        record = _record(caller, _only(caller.call(ExtendItems(leases=[held], lease_ms=lease, echo=True)).results))
    ctx.screen.done(record, ITEM)
    return None


@verb(
    app,
    shape=ITEM,
    form="either",
    lines=LINES,
    examples=[
        """fedctl pool release "$id" --lease-id "$lease\"""",
        "fedctl pool release --worker builder-1 --json",
    ],
)
def release(
    ctx: Invocation,
    item: HeldItem = None,
    lease_id: LeaseId = None,
    worker: Annotated[
        str | None,
        flag("--worker", metavar="ID", parser=values.name_of("worker"), says="All that this worker holds."),
    ] = None,
    batch: Batch = False,
) -> int | None:
    """Give an item back as if it had never been claimed.

    A line of --batch is {"id", "lease_id"}, or an item as claim answers with it.
    """
    if batch:
        _check_alone("its items", item, worker)
        from fedctl.cli import items as lines

        read = lines.lease(_lease_or_none(ctx, lease_id))
        return lines.run(ctx, read, lambda leases: ReleaseItems(leases=leases))
    if worker is not None:
        if item is not None or lease_id is not None:
            raise UsageError("--worker gives back all that it holds: name no item", hint="or leave --worker out")
        with ctx.caller() as caller:
            _answer_many(ctx, caller, caller.call(ReleaseWorker(worker_id=worker)).results)
        return None
    held = _held(ctx, item, lease_id)
    with ctx.caller() as caller:
        record = _record(caller, _only(caller.call(ReleaseItems(leases=[held], echo=True)).results))
    ctx.screen.done(record, ITEM)
    return None


verb(app, shape=WORK, lines={"--jsonl": FINISHED}, examples=EXAMPLES)(work)
look.add_to(app)


# -- retry, purge, pause ---------------------------------------------------------------------------------------------


@verb(
    app,
    shape=ITEM,
    form="either",
    examples=['fedctl pool retry "$id"', "fedctl pool retry --poisoned builds --ids"],
)
def retry(
    ctx: Invocation,
    ids: Annotated[list[str] | None, argument("[ITEM...]", "Ids of poisoned items.", values.item_id)] = None,
    poisoned: Annotated[
        str | None,
        flag("--poisoned", metavar="POOL", parser=values.name_of("pool"), says="All poisoned items of this pool."),
    ] = None,
) -> None:
    """Give poisoned items a fresh budget of attempts.

    They count them from 0 and have no `error` any more; `pool item` still shows the history of all attempts.
    Exit 3 when some of several were refused.
    """
    if bool(ids) == (poisoned is not None):
        raise UsageError("what is to be retried?", hint="fedctl pool retry ITEM..., or --poisoned POOL")
    with ctx.caller(unhurried=True) as caller:
        results = _retry_items(caller, ids) if ids else _retry_pool(caller, str(poisoned))
        if poisoned is not None and not results:
            ctx.note_unused(caller, poisoned)
        if ids and len(results) == 1:
            ctx.screen.done(_record(caller, _only(results)), ITEM)
        else:
            _answer_many(ctx, caller, results)


def _retry_items(caller: Caller, ids: Sequence[str]) -> list[ItemResult]:
    wanted = list(dict.fromkeys(ids))
    parts = [wanted[start : start + BATCH_MAX_ITEMS] for start in range(0, len(wanted), BATCH_MAX_ITEMS)]
    return [result for part in parts for result in caller.call(RetryItems(ids=part)).results]


def _retry_pool(caller: Caller, pool: str) -> list[ItemResult]:
    """Retry all of a pool, a request's worth at a time; what is refused stays, and is met again each time."""
    good: list[ItemResult] = []
    while True:
        results = caller.call(RetryItems(pool=pool)).results
        again = [one for one in results if one.ok]
        good += again
        if not again or len(results) < BATCH_MAX_ITEMS:
            return [*good, *(one for one in results if not one.ok)]


@verb(
    app,
    shape=PURGED,
    asks=True,
    dry_run=True,
    examples=["fedctl pool purge builds --status done --yes", "fedctl pool purge builds --dry-run"],
)
def purge(
    ctx: Invocation,
    pool: PoolName,
    status: Annotated[
        Literal["done", "poisoned"] | None,
        flag("--status", says="Only those.", default="all that nobody holds, pending ones too"),
    ] = None,
) -> None:
    """Delete a pool's items. What is claimed stays."""
    request = PurgePool(pool=pool, status=status)
    with ctx.caller(unhurried=True) as caller:
        deleted = caller.call(msgspec.structs.replace(request, dry_run=True)).deleted
        if not deleted:
            ctx.note_unused(caller, pool)
        if deleted and not ctx.dry_run:
            kind = f"{status} item" if status else "item"
            ctx.confirm(f"Delete {counted(deleted, kind)} of the pool {pool}?")
            answer = caller.call(request)
            deleted = answer.deleted
            while answer.more:
                answer = caller.call(request)
                deleted += answer.deleted
    ctx.screen.done(PurgedPool(pool=pool, deleted=deleted, dry_run=ctx.dry_run), PURGED)


@verb(app, shape=POOL, examples=["fedctl pool pause builds"])
def pause(ctx: Invocation, pool: PoolName) -> None:
    """Let nothing be claimed from a pool.

    What is claimed goes on, and items can be pushed.
    """
    with ctx.caller(writes=True) as caller:
        ctx.note_unused(caller, pool)
        ctx.screen.done(caller.call(PausePool(name=pool, paused=True)).pool, POOL)


@verb(app, shape=POOL, examples=["fedctl pool resume builds"])
def resume(ctx: Invocation, pool: PoolName) -> None:
    """Let items of a paused pool be claimed again."""
    with ctx.caller(writes=True) as caller:
        ctx.note_unused(caller, pool)
        try:
            ctx.screen.done(caller.call(PausePool(name=pool, paused=False)).pool, POOL)
        except Denied as error:  # to a hub it is one operation with its opposite
            raise Denied(error.message.replace("pool.pause", "pool.resume"), hint=error.hint) from None


# -- what they share -------------------------------------------------------------------------------------------------


def _check_alone(what: str, *flags: object) -> None:
    if any(one is not None for one in flags):
        raise UsageError(f"--batch takes {what} from stdin, and no flags of one")


def _lease_or_none(ctx: Invocation, lease_id: str | None) -> str | None:
    return lease_id or ctx.session.environ.get("FEDCTL_LEASE_ID") or None


def _held(ctx: Invocation, item_id: str | None, lease_id: str | None) -> Lease:
    """Return the item and the lease that a command is about."""
    if item_id is None:
        raise UsageError("which item?", hint="name it, or give --batch and lines on stdin")
    lease = _lease_or_none(ctx, lease_id)
    if lease is None:
        raise UsageError("--lease-id is missing", hint="claim answers with it; or set FEDCTL_LEASE_ID")
    return Lease(id=item_id, lease_id=options.named("--lease-id", values.text)(lease))


def _only(results: Sequence[ItemResult]) -> ItemResult:
    """Return the one result; raise what it was refused for."""
    (result,) = results
    if result.error is not None:
        error = result.error
        raise from_code(error["code"], error["message"], hint=error.get("hint"), details=error.get("details"))
    return result


def _record(caller: Caller, result: ItemResult) -> Item:
    """Return the record of what was changed; one that did not fit in the answer is fetched."""
    return result.item or caller.call(GetItem(id=result.id)).item


def _answer_many(ctx: Invocation, caller: Caller, results: Sequence[ItemResult]) -> None:
    """Answer with the records of what was changed; say what was refused."""
    refused = [one for one in results if not one.ok]
    if not (ctx.settings.quiet and ctx.screen.form == "table"):
        ctx.screen.many((_record(caller, one) for one in results if one.ok), ITEM)
    if refused:
        shown = "; ".join(str((one.error or {}).get("message")) for one in refused[:3])
        details = {"refused": [{"id": one.id, "error": one.error} for one in refused]}
        raise Partial(f"{len(refused):,} of {len(results):,} were refused: {shown}", details=details)
