"""`fedctl agent`: spawn agents, watch them, and note what they do."""

from __future__ import annotations

import shlex
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec

from fedctl.cli import events, values
from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape, counted, say_json, with_more
from fedctl.cli.timeline import drawn
from fedctl.client import paging
from fedctl.clock import Clock
from fedctl.config import AgentOptions, did_you_mean
from fedctl.errors import NotFound, Unavailable, UsageError
from fedctl.messages.agent import AddNotes, GetAgent, GetTimeline, ListAgents, StopAgent
from fedctl.messages.hub import ListEvents
from fedctl.model.agent import (
    AGENT_TRANSITIONS,
    MAX_LIFETIME_MS,
    MIN_LIFETIME_MS,
    Agent,
    Note,
    NoteDraft,
    Timeline,
    check_note,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedctl.agent.plan import Ending
    from fedctl.model.agent import AgentStatus


class ServedAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that serves its memory: `hub` is the address that `fedctl memory` finds it at."""

    agent_id: str
    hub: str


class ToldTimeline(Timeline, frozen=True, kw_only=True):
    """An agent's life; `id` is the agent's."""

    id: str


SERVED = Shape.of(ServedAgent, key="agent_id")
AGENT = Shape.of(Agent, "id", "type", "status", "spawned_at", "expires_at", "last_sync_at", "episodes_stored")
NOTE = Shape.of(Note, "at", "agent_id", "kind", "text", "data")
TIMELINE = Shape.of(
    ToldTimeline, "id", "lived_ms", "moments_total", "counts", fields=("id", *Timeline.__struct_fields__)
)
LIST_MAX = 10_000

AgentId = Annotated[str, argument("ID", "The agent's id.", values.name_of("agent"))]

app = noun(
    "agent",
    "Spawn agents and watch them.",
    "An agent lives 5 seconds to 15 minutes. It pulls what helps, keeps it in RAM, and runs CMD with FEDCTL_HUB "
    "pointing at a socket of its own, so `fedctl memory` inside CMD just works. It syncs before CMD, every "
    "--sync-interval, after CMD and at its end. Until it is synced what it stores is in its RAM alone: while the hub "
    "is away it queues, and at its end it tries for up to 15 s more. Where the hub ran on the same home and is gone, "
    "the home itself takes what is left. What nobody takes is lost with the agent, or with --undelivered in a file, "
    "which `fedctl memory import` takes, twice as well as once; of an agent that is killed (-9) nothing is written.",
    "Notes are no episodes: at most 4 KiB of text and 16 KiB of data, kept in order while the hub is away, "
    "delivered once, and no failure if they cannot be.",
)


def _lifetime(text: str) -> int:
    ms = values.duration(text)
    if not MIN_LIFETIME_MS <= ms <= MAX_LIFETIME_MS:
        raise UsageError(f"a lifetime lies within {MIN_LIFETIME_MS // 1000}s and {MAX_LIFETIME_MS // 60_000}m")
    return ms


def _status(text: str) -> str:
    if text not in AGENT_TRANSITIONS:
        hint = did_you_mean(text, AGENT_TRANSITIONS) or f"it is one of {', '.join(AGENT_TRANSITIONS)}"
        raise UsageError(f"{text!r} is no status", hint=hint)
    return text


def _interval(text: str) -> int:
    ms = values.duration(text)
    if not ms:
        raise UsageError("an interval must be longer than nothing")
    return ms


@verb(
    app,
    shape=SERVED,
    lines={"stderr": "fedctl.agent.plan:Ending"},
    examples=[
        "fedctl agent spawn --lifetime 2m -- ./work.sh",
        "fedctl agent spawn --pull 'login tests' --hub wss://hub.example:8443 --token-file t -- python work.py",
    ],
)
def spawn(
    ctx: Invocation,
    command: Annotated[
        list[str] | None, argument("[-- CMD ARGS...]", "What it runs; nothing: it serves its memory.")
    ] = None,
    id_: Annotated[
        str | None, flag("--id", metavar="ID", parser=values.name_of("agent"), says="Its name.", default="a new one")
    ] = None,
    type_: Annotated[
        str, flag("--type", metavar="TYPE", parser=values.name_of("agent type"), says="Its kind.", default="agent")
    ] = "agent",
    lifetime: Annotated[
        int, flag("--lifetime", metavar="DUR", parser=_lifetime, says="How long it lives, 5s to 15m.", default="5m")
    ] = 300_000,
    sync_interval: Annotated[
        int, flag("--sync-interval", metavar="DUR", parser=_interval, says="How often it syncs.", default="5s")
    ] = 5_000,
    pull: Annotated[
        str | None,
        flag(
            "--pull",
            metavar="QUERY",
            parser=values.text,
            says="What to bring along.",
            default="the tenant's newest episodes",
        ),
    ] = None,
    pull_limit: Annotated[
        int, flag("--pull-limit", metavar="N", least=0, says="How many episodes at most.", default="100")
    ] = 100,
    embed: Annotated[
        Literal["hub", "local"], flag("--embed", says="Who turns its texts into vectors.", default="hub")
    ] = "hub",
    undelivered: Annotated[
        Path | None,
        flag(
            "--undelivered",
            metavar="FILE",
            says="Where to keep episodes that could not be delivered at the end, behind what is there: "
            "fedctl memory import FILE delivers them.",
            default="they are lost",
        ),
    ] = None,
) -> int:
    """Spawn an agent: a memory of its own for CMD, filled before and synced until it ends.

    CMD sees FEDCTL_AGENT_ID, FEDCTL_TENANT and FEDCTL_HUB: `fedctl memory` inside it reaches the agent's memory.
    Its stdout is CMD's alone; its exit code is CMD's, 124 when the lifetime ended CMD, 7 when episodes stayed behind.
    """
    options = AgentOptions(
        id=id_,
        type=type_,
        lifetime_ms=lifetime,
        sync_interval_ms=sync_interval,
        pull_query=None if pull is None else values.read_value("--pull", pull, ctx.stdin).strip(),
        pull_limit=pull_limit,
        embed=embed,
        undelivered=undelivered,
    )
    from fedctl.bootstrap import run_agent

    def ready(agent_id: str, address: str) -> None:
        # With a command stdout is the command's alone.
        if not command:
            ctx.screen.one(ServedAgent(agent_id=agent_id, hub=address), SERVED)
            ctx.screen.flush()
            ctx.screen.note(f"to use its memory: FEDCTL_HUB={address} fedctl memory query ...")

    resident()
    ending = run_agent(ctx.settings, options, command or [], ready)
    if ctx.screen.form in ("json", "jsonl"):
        say_json(ctx.session.stderr, ending)
    else:
        ctx.screen.note(
            f"agent {ending.agent_id}: {ending.reason} after {ending.lived_ms / 1000:.1f}s, pulled "
            f"{counted(ending.pulled, 'episode')}, {ending.stored} stored, {ending.delivered} delivered, "
            f"{counted(ending.syncs, 'sync')}"
        )
    if ending.undelivered:
        why = f": {ending.undelivered_why}" if ending.undelivered_why else ""
        what = f"error: {counted(ending.undelivered, 'episode')} could not be delivered{why}"
        if ctx.settings.quiet:  # cron mails what it hears: one line
            ctx.session.say(f"{what} ({_what_to_do(ending)})")
        else:
            ctx.session.say(what)
            ctx.session.say(f"hint: {_what_to_do(ending)}")
    if ending.notes_undelivered:
        ctx.screen.note(f"{counted(ending.notes_undelivered, 'note')} could not be delivered")
    return ending.exit


def _what_to_do(ending: Ending) -> str:
    if ending.undelivered_file is not None:
        return f"they are in {ending.undelivered_file}: fedctl memory import {shlex.quote(ending.undelivered_file)}"
    return "they are lost; --undelivered FILE keeps them for fedctl memory import FILE"


@verb(
    app,
    "list",
    shape=AGENT,
    form="many",
    lines={"--watch": Agent},
    examples=["fedctl agent list --status working --status idle", "fedctl agent list --watch --jsonl"],
)
def list_(
    ctx: Invocation,
    status: Annotated[
        list[str] | None,
        flag(
            "--status",
            metavar="STATUS",
            parser=_status,
            says=f"Only those that are {', '.join(AGENT_TRANSITIONS)}. Repeatable: any of them.",
        ),
    ] = None,
    watch: Annotated[
        bool, flag("--watch", says="Go on with each that comes, changes or syncs; a terminal shows a table.")
    ] = False,
) -> None:
    """List the tenant's agents, living and dead, the newest first."""
    if watch:
        resident()
        if ctx.screen.form == "table" and not ctx.screen.plain:
            _watch(ctx, status)
        else:
            agents = (agent for changed in _changes(ctx) for agent in changed if not status or agent.status in status)
            ctx.screen.follow(agents, AGENT)
        return
    with ctx.caller() as caller:
        limit = ctx.screen.default_limit
        request = ListAgents(all=True, statuses=cast("list[AgentStatus]", status or []), count=limit is not None)
        found, total = paging.take(caller, request, limit)
        shown = ctx.screen.many(found, AGENT)
        if not shown:
            ctx.note_unused(caller)
    ctx.screen.cut(shown, total)


def _changes(ctx: Invocation) -> Iterator[list[Agent]]:
    """Yield the living agents, then those that events tell of, as they are now."""
    source = events.follower(ctx, ListEvents(newest=0, kinds=["agent_status", "agent_synced"]))
    changed: dict[str, None] = {}
    with closing(source):
        next(source.pages())  # from here on nothing is missed; what is listed now may come once more
        yield source.call(ListAgents(limit=LIST_MAX)).agents[::-1]
        for page in events.pages(ctx, source):
            changed |= dict.fromkeys(event.subject for event in page)
            agents = []
            with suppress(Unavailable):  # the hub has just gone: the rest is asked for when it is back
                for agent_id in list(changed):
                    with suppress(NotFound):
                        agents.append(source.call(GetAgent(id=agent_id)).agent)
                    del changed[agent_id]
            if agents:
                yield agents


def _watch(ctx: Invocation, statuses: Sequence[str] | None) -> None:
    """Keep a table on the terminal: the living, and whoever died while it was looked at; of these statuses."""
    known: dict[str, Agent] = {}
    for changed in _changes(ctx):
        known |= {agent.id: agent for agent in changed}
        chosen = (agent for agent in known.values() if not statuses or agent.status in statuses)
        shown = sorted(chosen, key=lambda agent: agent.spawned_at, reverse=True)
        ctx.screen.redraw(shown[: ctx.screen.default_limit], AGENT)


@verb(app, shape=AGENT, examples=["fedctl agent show coder-1 --json"])
def show(ctx: Invocation, id_: AgentId) -> None:
    """Show one agent."""
    with ctx.caller() as caller:
        ctx.screen.one(caller.call(GetAgent(id=id_)).agent, AGENT)


@verb(app, shape=AGENT, examples=["fedctl agent stop coder-1"])
def stop(ctx: Invocation, id_: AgentId) -> None:
    """Ask an agent to end early, with its final sync."""
    with ctx.caller() as caller:
        ctx.screen.done(caller.call(StopAgent(id=id_)).agent, AGENT)


@verb(
    app,
    shape=NOTE,
    examples=[
        "fedctl agent note -q --kind step 'read the failing log'                     # inside CMD of agent spawn",
        "fedctl agent note --kind decision 'retry with a longer timeout' --data '{\"timeout_s\": 30}' --agent coder-1",
    ],
)
def note(
    ctx: Invocation,
    text: Annotated[str, argument("TEXT", "What is to be noted; - reads stdin, @FILE a file.")],
    kind: Annotated[Literal["task", "step", "decision", "message"], flag("--kind", says="What kind of thing it is.")],
    data: Annotated[str | None, flag("--data", metavar="JSON", says="More of it, as JSON; - or @FILE.")] = None,
    agent: Annotated[
        str | None,
        flag(
            "--agent",
            metavar="ID",
            parser=values.name_of("agent"),
            says="Whose note it is.",
            default="FEDCTL_AGENT_ID, which CMD of agent spawn has",
        ),
    ] = None,
) -> None:
    """Note what an agent does, for its timeline and for who watches. At most 4 KiB of text, 16 KiB of data."""
    given = agent or ctx.session.environ.get("FEDCTL_AGENT_ID") or None
    written = values.read_value("TEXT", text, ctx.stdin)  # of stdin and files without the newline at the end
    draft = NoteDraft(
        id=Clock().new_id(),
        kind=kind,
        text=written if written == text else written.removesuffix("\n"),
        data=None if data is None else values.read_json("--data", data, ctx.stdin),
    )
    request = AddNotes(notes=[check_note(draft)], agent_id=given)
    with ctx.caller() as caller:
        ctx.screen.done(caller.call(request).notes[0], NOTE)


@verb(
    app,
    shape=TIMELINE,
    examples=["fedctl agent timeline coder-1", "fedctl agent timeline coder-1 --json | jq .figures.operations"],
)
def timeline(
    ctx: Invocation,
    id_: AgentId,
    limit: Annotated[
        int, flag("--limit", metavar="N", least=0, says="At most the last N moments.", default="1000")
    ] = 1000,
) -> None:
    """Show what an agent did and when: its phases, notes and syncs, counts, and how long its operations took."""
    with ctx.caller() as caller:
        found = caller.call(GetTimeline(id=id_, limit=limit)).timeline
    if ctx.screen.form == "table" and not ctx.session.fields:
        ctx.screen.raw(drawn(found, plain=ctx.screen.plain).encode("utf-8", "backslashreplace"))
    else:
        ctx.screen.one(with_more(found, ToldTimeline, id=found.agent.id), TIMELINE)
