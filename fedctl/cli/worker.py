"""`fedctl worker`: who works, and whether they are still alive."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, cast

import msgspec

from fedctl.cli import options, values
from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import Limit, argument, flag
from fedctl.cli.render import Shape, counted, with_more
from fedctl.client import paging
from fedctl.clock import Clock
from fedctl.errors import FedctlError, UsageError
from fedctl.messages.worker import (
    BeatWorker,
    GetWorker,
    ListWorkers,
    ReapWorkers,
    RegisterWorker,
    SetWorkerStatus,
    WorkerAnswer,
)
from fedctl.model.pool import LEASE_MS
from fedctl.model.worker import HEARTBEAT_INTERVAL_MS, WORKER_TRANSITIONS, Worker, WorkerStatus

WORKER = Shape.of(
    Worker, "worker_id", "status", "stale", "pool_id", "capabilities", "last_heartbeat", "current_task_id",
    key="worker_id",
)  # fmt: skip


class EnteredWorker(Worker, frozen=True, kw_only=True):
    """A worker after a change, and how many items it held before and does no more."""

    released: int


class BeatenWorker(Worker, frozen=True, kw_only=True):
    """A worker after a heartbeat, and how many leases it renewed."""

    extended: int


ENTERED = Shape.of(EnteredWorker, *WORKER.columns, key=WORKER.key)
BEATEN = Shape.of(BeatenWorker, *WORKER.columns, key=WORKER.key)
PRESENT = [one for one in WORKER_TRANSITIONS if one != "terminated"]
LIST_MAX = 10_000
LEASE_BEATS = 3
"""A lease outlives the next beat and one that is missed."""
RETRY_MOST_S = 5.0

WorkerId = Annotated[str, argument("ID", "The worker's name.", values.name_of("worker"))]
Meta = Annotated[
    list[str] | None,
    flag("--meta", metavar="K=V", says="Metadata: a number, true, false or null, else text. Repeatable."),
]

app = noun("worker", "Register workers, and see who is still alive.")


def _stale(text: str) -> int:
    """Return a silence in ms; 0 stands for each worker's own threshold."""
    return 0 if text == "auto" else values.lasting(text)


def _status(text: str) -> str:
    if text not in WORKER_TRANSITIONS:
        raise UsageError(f"{text!r} is no status", hint=f"it is one of {', '.join(WORKER_TRANSITIONS)}")
    return text


@verb(
    app,
    shape=ENTERED,
    examples=[
        "fedctl worker register builder-1 --pool builds --capability linux --capability docker",
        "fedctl worker register gpu-7 --heartbeat-interval 10s --meta zone=eu --json",
    ],
)
def register(
    ctx: Invocation,
    id_: WorkerId,
    pool: Annotated[
        str | None, flag("--pool", metavar="P", parser=values.name_of("pool"), says="The pool it works for.")
    ] = None,
    capability: Annotated[
        list[str] | None,
        flag("--capability", metavar="C", parser=values.name_of("capability"), says="What it can do. Repeatable."),
    ] = None,
    heartbeat_interval: Annotated[
        int,
        flag(
            "--heartbeat-interval",
            metavar="DUR",
            parser=values.lasting,
            says="How often it says that it lives; silent for twice as long, it is stale.",
            default="30s",
        ),
    ] = HEARTBEAT_INTERVAL_MS,
    meta: Meta = None,
) -> None:
    """Register a worker: this machine and the process that called this command.

    A name that is there already begins anew: what it held before is given back, its attempts counted.
    """
    request = RegisterWorker(
        id=id_,
        host=os.uname().nodename,
        pid=os.getppid(),
        capabilities=capability or [],
        pool=pool,
        heartbeat_interval_ms=heartbeat_interval,
        metadata=_metadata(meta),
    )
    with ctx.caller(writes=True) as caller:
        answer = caller.call(request)
    _tell_released(ctx, answer.released)
    ctx.screen.done(_entered(answer), ENTERED)


@verb(
    app,
    shape=BEATEN,
    examples=[
        "fedctl worker heartbeat builder-1 --meta load=0.7",
        "fedctl worker heartbeat builder-1 --every 10s --extend-leases &",
    ],
)
def heartbeat(
    ctx: Invocation,
    id_: WorkerId,
    every: Annotated[
        int | None,
        flag("--every", metavar="DUR", parser=values.lasting, says="Go on until SIGTERM or Ctrl-C, one every so long."),
    ] = None,
    meta: Meta = None,
    extend_leases: Annotated[
        bool,
        flag(
            "--extend-leases",
            says="Let what it holds be its own for another minute (with --every for three beats, if that is longer).",
        ),
    ] = False,
) -> None:
    """Say that a worker is alive; a lost one is active again.

    The leases on what it holds are renewed with --extend-leases only. --meta is merged into its metadata; a null
    removes a key. With --every it goes on while the hub is away, and ends with a conflict when somebody else registers
    the worker anew.
    """
    lease_ms = max(LEASE_MS, LEASE_BEATS * (every or 0)) if extend_leases else None
    request = BeatWorker(id=id_, metadata=_metadata(meta), extend_leases_ms=lease_ms)
    with ctx.caller() as caller:
        answer = caller.call(request)
    ctx.screen.done(with_more(answer.worker, BeatenWorker, extended=answer.extended), BEATEN)
    if every is not None:
        ctx.screen.flush()
        resident()
        _keep_beating(ctx, msgspec.structs.replace(request, incarnation=answer.worker.incarnation), every / 1000)


def _keep_beating(ctx: Invocation, request: BeatWorker, every_s: float) -> None:
    clock, away = Clock(), False
    while True:
        clock.sleep_s(min(every_s, RETRY_MOST_S) if away else every_s)
        try:
            with ctx.caller() as caller:
                caller.call(request)
        except FedctlError as error:
            if not error.retryable:
                raise
            if not away:
                ctx.screen.note(f"no heartbeat gets through, still trying: {error.message}")
            away = True
        else:
            if away:
                ctx.screen.note("heartbeats get through again")
            away = False


@verb(
    app,
    "list",
    shape=WORKER,
    form="many",
    examples=[
        "fedctl worker list --status active --capability gpu",
        "fedctl worker list --stale auto --ids",
        "fedctl worker list --stale 5m --json",
    ],
)
def list_(
    ctx: Invocation,
    status: Annotated[
        list[str] | None,
        flag(
            "--status",
            metavar="|".join(WORKER_TRANSITIONS),
            parser=_status,
            says="Only those of this status. Repeatable: any of them.",
        ),
    ] = None,
    stale: Annotated[
        int | None,
        flag(
            "--stale",
            metavar="DUR|auto",
            parser=_stale,
            says="Only those silent for longer; auto: than twice their own interval. Terminated ones are never stale.",
        ),
    ] = None,
    capability: Annotated[
        str | None,
        flag("--capability", metavar="C", parser=values.name_of("capability"), says="Only those that can do this."),
    ] = None,
    pool: Annotated[
        str | None, flag("--pool", metavar="P", parser=values.name_of("pool"), says="Only this pool's.")
    ] = None,
    limit: Limit = None,
) -> None:
    """List the tenant's workers, the newest first.

    A table on a terminal leaves out the terminated ones, unless --status asks for them.
    """
    present = status is None and ctx.screen.default_limit is not None
    request = ListWorkers(
        statuses=cast("list[WorkerStatus]", PRESENT if present else status or []),  # each is one by its parser
        capability=capability,
        pool=pool,
        stale=stale == 0,
        silent_ms=stale or None,
        limit=LIST_MAX,
    )
    with ctx.caller() as caller:
        workers = paging.workers(caller, request)
        if present and caller.call(msgspec.structs.replace(request, statuses=["terminated"], limit=1)).workers:
            ctx.screen.note("--status terminated shows those that have ended")
        if not workers:
            ctx.note_unused(caller, *([] if pool is None else [pool]))
    shown = workers[: limit or ctx.screen.default_limit]
    ctx.screen.many(shown, WORKER)
    ctx.screen.cut(len(shown), len(workers))


@verb(app, shape=WORKER, examples=["fedctl worker show builder-1 --json"])
def show(ctx: Invocation, id_: WorkerId) -> None:
    """Show one worker."""
    with ctx.caller() as caller:
        ctx.screen.one(caller.call(GetWorker(id=id_)).worker, WORKER)


@verb(app, shape=ENTERED, examples=["fedctl worker status builder-1 terminating"])
def status(
    ctx: Invocation,
    id_: WorkerId,
    new: Annotated[
        Literal["active", "terminating", "terminated", "lost"],
        argument("active|terminating|terminated|lost", "What it is from now on."),
    ],
) -> None:
    """Set a worker's status. Who is terminating or terminated claims nothing more.

    What a terminated worker holds is given back as if it had never been claimed; what a lost one holds, its attempts
    counted. Back from terminated leads `worker register` only.
    """
    with ctx.caller() as caller:
        answer = caller.call(SetWorkerStatus(id=id_, status=new))
    _tell_released(ctx, answer.released)
    ctx.screen.done(_entered(answer), ENTERED)


@verb(app, shape=WORKER, form="many", examples=["fedctl worker reap", "fedctl worker reap --ids"])
def reap(ctx: Invocation) -> None:
    """Mark stale workers lost, and give back what they held; list them."""
    with ctx.caller(unhurried=True) as caller:
        answers = [caller.call(ReapWorkers())]
        while answers[-1].more:
            answers.append(caller.call(ReapWorkers()))
    _tell_released(ctx, sum(answer.released for answer in answers))
    if ctx.screen.form != "table" or not ctx.settings.quiet:
        ctx.screen.many([worker for answer in answers for worker in answer.workers], WORKER)


def _metadata(meta: list[str] | None) -> dict[str, Any]:
    return options.named("--meta", values.pairs)(meta) if meta else {}


def _entered(answer: WorkerAnswer) -> EnteredWorker:
    return with_more(answer.worker, EnteredWorker, released=answer.released)


def _tell_released(ctx: Invocation, released: int) -> None:
    if released:
        ctx.screen.note(f"{counted(released, 'item')} given back")
