"""`fedctl agent`: spawn agents and watch them."""

import time
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape, counted
from fedctl.client.caller import Caller
from fedctl.config import AgentOptions
from fedctl.errors import UsageError
from fedctl.messages.agent import GetAgent, ListAgents, StopAgent
from fedctl.model.agent import MAX_LIFETIME_MS, MIN_LIFETIME_MS, Agent

SERVED = Shape(("agent_id", "hub"), ("agent_id", "hub"), "agent_id")
AGENT = Shape.of(Agent, "id", "type", "status", "spawned_at", "expires_at", "last_sync_at", "episodes_stored")
WATCH_EVERY_S = 1.0
LIST_MAX = 10_000

AgentId = Annotated[str, argument("ID", "The agent's id.", values.name_of("agent"))]

app = noun("agent", "Spawn agents and watch them.")


def _lifetime(text: str) -> int:
    ms = values.duration(text)
    if not MIN_LIFETIME_MS <= ms <= MAX_LIFETIME_MS:
        raise UsageError(f"a lifetime lies within {MIN_LIFETIME_MS // 1000}s and {MAX_LIFETIME_MS // 60_000}m")
    return ms


def _interval(text: str) -> int:
    ms = values.duration(text)
    if not ms:
        raise UsageError("an interval must be longer than nothing")
    return ms


@verb(
    app,
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
        str | None, flag("--pull", metavar="QUERY", says="What to bring along.", default="the tenant's newest episodes")
    ] = None,
    pull_limit: Annotated[
        int, flag("--pull-limit", metavar="N", least=0, says="How many episodes at most.", default="100")
    ] = 100,
    embed: Annotated[
        Literal["hub", "local"], flag("--embed", says="Who turns its texts into vectors.", default="hub")
    ] = "hub",
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
    )
    from fedctl.bootstrap import run_agent

    def ready(agent_id: str, address: str) -> None:
        # With a command stdout is the command's alone.
        if not command:
            ctx.screen.one({"agent_id": agent_id, "hub": address}, SERVED)
            ctx.screen.flush()
            ctx.screen.note(f"to use its memory: FEDCTL_HUB={address} fedctl memory query ...")

    resident()
    ending = run_agent(ctx.settings, options, command or [], ready)
    if ctx.screen.form in ("json", "jsonl"):
        ctx.session.say(msgspec.json.encode(ending).decode())
    else:
        ctx.screen.note(
            f"agent {ending.agent_id}: {ending.reason} after {ending.lived_ms / 1000:.1f}s, pulled "
            f"{counted(ending.pulled, 'episode')}, {ending.stored} stored, {ending.delivered} delivered, "
            f"{counted(ending.syncs, 'sync')}"
        )
    if ending.undelivered:
        ctx.session.say(f"error: {counted(ending.undelivered, 'episode')} could not be delivered")
    return ending.exit


@verb(app, "list", shape=AGENT, examples=["fedctl agent list", "fedctl agent list --watch --jsonl"])
def list_(
    ctx: Invocation,
    watch: Annotated[bool, flag("--watch", says="Go on, and show every agent that comes or changes.")] = False,
) -> None:
    """List the tenant's agents, living and dead, the newest first."""
    with ctx.caller() as caller:
        if watch:
            resident()
            ctx.screen.follow(_changes(caller), AGENT)
            return
        agents = caller.call(ListAgents(all=True, limit=LIST_MAX)).agents
    shown = agents[: ctx.screen.default_limit]
    ctx.screen.many(shown, AGENT)
    ctx.screen.cut(len(shown), len(agents))


def _changes(caller: Caller) -> Iterator[Agent]:
    """Yield the living agents, then each one that comes, changes its status or syncs."""
    known: dict[str, Agent] = {}
    while True:
        for agent in reversed(caller.call(ListAgents(all=True, limit=LIST_MAX)).agents):
            before = known.get(agent.id)
            # One that was dead before anybody watched is no news.
            if before != agent and (before is not None or agent.status != "dead"):
                yield agent
            known[agent.id] = agent
        time.sleep(WATCH_EVERY_S)


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
