"""`fedctl pool work`: run a command for each item of a pool."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from fedctl.cli import values
from fedctl.cli.command import Invocation, resident
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape, counted, say
from fedctl.errors import Partial, UsageError
from fedctl.model.pool import LEASE_MS, MAX_LEASE_MS, MIN_LEASE_MS
from fedctl.model.worker import MAX_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.client.caller import Caller
    from fedctl.work.plan import Ending, Figures, Finished

GRACE_MS = 10_000
JOBS_MAX = 256
REQUEST_MOST_MS = 30_000
REQUEST_LEAST_MS = 1_000
_CLEAR = b"\r\x1b[K"

FINISHED = "fedctl.work.plan:Finished"
WORK: Shape[Ending] = Shape.of("fedctl.work.plan:Ending", key="worker_id")
ITEM: Shape[Finished] = Shape.of(FINISHED)
"""With --jsonl and --ids an item is answered as it ends, with --json the whole run."""
EXAMPLES = (
    "fedctl pool work builds -j 4 --until-empty -- make -C {data.path}",
    "fedctl pool work mails --lease 5m --time-limit 2m -- ./send.py    # the data come on stdin, as JSON",
    "fedctl pool work builds --once --json -- ./build.sh {id} {data.repo}",
    """fedctl pool work pages --until-empty -- sh -c 'curl -sf "$1" | wc -c' sh {data.url}""",
    "timeout 1h fedctl pool work builds --until-empty -- ./build.sh {id}",
)


def lease_ms(text: str) -> int:
    """Return how long a lease is to last."""
    ms = values.duration(text)
    if not MIN_LEASE_MS <= ms <= MAX_LEASE_MS:
        raise UsageError(f"a lease lies within {MIN_LEASE_MS}ms and {MAX_LEASE_MS // 86_400_000}d")
    return ms


def work(
    ctx: Invocation,
    pool: Annotated[str, argument("POOL", "The pool's name.", values.name_of("pool"))],
    command: Annotated[list[str], argument("-- CMD ARGS...", "What to run, without a shell.")],
    jobs: Annotated[
        int, flag("-j", "--jobs", metavar="N", least=1, most=JOBS_MAX, says="So many at once.", default="1")
    ] = 1,
    worker: Annotated[
        str | None,
        flag(
            "--worker",
            metavar="ID",
            parser=values.name_of("worker"),
            says="Who works. A name that is at work already begins anew, and loses what it holds.",
            default="a new one",
        ),
    ] = None,
    capability: Annotated[
        list[str] | None,
        flag(
            "--capability",
            metavar="C",
            parser=values.name_of("capability"),
            says="What it can do: items that require more are left alone. Repeatable.",
        ),
    ] = None,
    lease: Annotated[
        int,
        flag("--lease", metavar="DUR", parser=lease_ms, says="How long an item is ours; it is renewed.", default="60s"),
    ] = LEASE_MS,
    until_empty: Annotated[
        bool,
        flag(
            "--until-empty",
            says="End when nothing is pending, delayed, or ours. What is delayed is waited for, and what nobody here "
            "can do, what gives itself back with 75 each time, and a paused pool, too: timeout(1) sets an end to that.",
        ),
    ] = False,
    once: Annotated[bool, flag("--once", says="Take one item, if there is one; exit 6 if not.")] = False,
    max_items: Annotated[int | None, flag("--max-items", metavar="N", least=1, says="End after N attempts.")] = None,
    time_limit: Annotated[
        int | None, flag("--time-limit", metavar="DUR", parser=values.lasting, says="How long CMD may take an item.")
    ] = None,
    grace: Annotated[
        int,
        flag("--grace", metavar="DUR", parser=values.duration, says="From TERM to KILL; to end after SIGTERM.",
             default="10s"),
    ] = GRACE_MS,
) -> int:  # fmt: skip
    """Claim items, run CMD for each, report what came of it; until told to stop, or by --until-empty.

    {} is an item's data (a text as it is, else JSON), {data.a.b} a part of them, {id} and {attempt} what they say; in
    double braces they stand for themselves. Without any CMD gets the data on stdin, as JSON. It sees FEDCTL_ITEM_ID,
    FEDCTL_POOL, FEDCTL_ATTEMPT, FEDCTL_LEASE_ID and FEDCTL_WORKER, and fedctl inside it asks the same store.

    Nothing is quoted for a shell: a placeholder inside of what sh -c runs is run along with it, whatever the data say.
    Hand it over as an argument: sh -c 'wc -c "$1"' sh {data.name}. Other braces are CMD's own, but for an argument
    that is one unknown word in braces: {dta} is refused at the start, and written {{dta}} if it is meant.

    CMD's exit code 0 completes the item with its stdout as the result: JSON if it is, else text; what is over 1 MiB
    is cut, and a note says so. 75 gives it back without counting the attempt, as often as it likes; 65 poisons it, any
    other is a failure: tried again later, and later still. SIGTERM lets what runs end within --grace and gives back
    the rest; a second one ends it now, a third kills.

    Exit 3 when something failed here and was not done later in this run: pool wait judges a whole pool. 6 when --once
    found nothing. Failures are noted on stderr, the first 20 of them.
    """
    if sum((until_empty, once, max_items is not None)) > 1:
        raise UsageError("--until-empty, --once and --max-items each say when it ends", hint="give one of them")
    if len(capability or ()) > MAX_CAPABILITIES:
        raise UsageError(f"a worker has at most {MAX_CAPABILITIES} capabilities")
    import asyncio

    from fedctl.work.loop import WorkLoop
    from fedctl.work.plan import Surroundings, WorkPlan

    plan = WorkPlan(
        pool=pool,
        command=command,
        worker_id=worker,
        capabilities=capability or [],
        jobs=jobs,
        lease_ms=lease,
        until_empty=until_empty,
        once=once,
        max_items=max_items,
        time_limit_ms=time_limit,
        grace_ms=grace,
    )
    terminal = _Terminal(ctx)
    ctx.session.write_log = terminal.write_log
    streams = ctx.screen.form in ("jsonl", "ids")
    around = Surroundings(
        # Longer than until the next renewal no answer is worth waiting for.
        open_caller=_opener(ctx, max(REQUEST_LEAST_MS, min(REQUEST_MOST_MS, lease // 3))),
        open_first=_opener(ctx, REQUEST_MOST_MS),
        environment=_environment(ctx),
        hear=terminal.hear,
        say=terminal.say,
        finished=(lambda item: ctx.screen.follow([item], ITEM)) if streams else None,
        progress=terminal.show if terminal.shows else None,
        log=ctx.session.log,
    )

    async def run() -> tuple[Any, Exception | None]:
        loop = WorkLoop(plan, around)
        return await loop.run(), loop.error

    resident()
    ending, error = asyncio.run(run())
    terminal.clear()
    _tell(ctx, ending)
    if error is not None:
        raise error
    return int(ending.exit)


def _opener(ctx: Invocation, timeout_ms: int) -> Callable[[], Caller]:
    settings = msgspec.structs.replace(ctx.settings, timeout_ms=timeout_ms)
    return lambda: ctx.session.open_caller(settings, writes=True)


def _environment(ctx: Invocation) -> dict[str, str]:
    """Return the environment in which fedctl asks whom we ask."""
    settings = ctx.settings
    told = {"FEDCTL_HOME": settings.home, "FEDCTL_HUB": settings.hub, "FEDCTL_TOKEN_FILE": settings.token_file,
            "FEDCTL_CONFIG": settings.config_file}  # fmt: skip
    return {**ctx.session.environ, **{name: str(value) for name, value in told.items() if value is not None}}


def _tell(ctx: Invocation, ending: Ending) -> None:
    """Say what became of the run; whoever wants quiet hears only that something failed."""
    if ctx.screen.form == "json":
        ctx.screen.one(ending, WORK)
    if not ctx.settings.quiet:
        ctx.session.say(
            f"{ending.done:,} done, {_not_for_good(ending)}, {ending.poisoned:,} poisoned, "
            f"{ending.released:,} given back, {ending.lost:,} lost in {ending.duration_ms / 1000:.1f} s"
        )
    elif ending.exit == Partial.exit and ctx.screen.form == "table":
        ctx.session.say(f"error: {_not_for_good(ending)}, {ending.poisoned:,} poisoned")


def _not_for_good(ending: Ending) -> str:
    # Attempts and not items: one that was done or poisoned by a later attempt of this run is counted there as well.
    return f"{counted(ending.failed, 'failed attempt')} (not for good)"


class _Terminal:
    """stderr, where commands, notes and a line of progress take turns."""

    def __init__(self, ctx: Invocation) -> None:
        self._stream = ctx.session.stderr
        self._quiet = ctx.settings.quiet
        self.shows = self._stream is not None and self._stream.isatty() and not self._quiet
        self._shown = False
        self._within_a_line = False

    def hear(self, chunk: bytes) -> None:
        if not self._quiet:
            self.clear()
            self._write(chunk)
            self._within_a_line = not chunk.endswith(b"\n")

    def say(self, text: str) -> None:
        if not self._quiet:
            self.clear()
            say(self._stream, f"note: {text}")

    def write_log(self, line: str) -> None:
        self.clear()
        say(self._stream, line)

    def show(self, figures: Figures) -> None:
        if not self._within_a_line:
            rate = figures.done / figures.seconds if figures.seconds else 0.0
            line = f"{figures.done:,} done, {figures.failed:,} failed, {figures.running:,} running, {rate:.1f}/s"
            self._write(_CLEAR + line.encode())
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._write(_CLEAR)
            self._shown = False

    def _write(self, content: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            if self._stream is not None:
                self._stream.write(content)
                self._stream.flush()
