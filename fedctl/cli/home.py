"""`fedctl init`, `status` and `demo`: the commands that are about all of it."""

from typing import Annotated, Any

import msgspec

from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import flag
from fedctl.cli.render import Shape
from fedctl.config import Settings
from fedctl.errors import NoStore
from fedctl.messages.agent import ListAgents
from fedctl.messages.memory import MemoryStats, MemoryStatsAnswer

INIT = Shape(("home", "store", "created"), ("home", "store", "created"), "home")
STATUS_FIELDS = ("home", "store", "hub", "tenant", "episodes", "tenants", "pending_embeddings", "agents", "next")
STATUS = Shape(STATUS_FIELDS, STATUS_FIELDS, "home")
CRITERION = Shape(("criterion", "wanted", "measured", "ok"), ("criterion", "wanted", "measured", "ok"), "criterion")
DEMO = Shape(("ok", "criteria", "seconds", "files", "home"), ("ok", "seconds", "files", "home"), "ok")
FIRST_STEPS = "fedctl memory store --task 'my first task' --output 'what came of it' --reward 1"

app = noun("home", "The home.")


@verb(app, shape=INIT, examples=["fedctl init", "fedctl --home ./memory init"])
def init(ctx: Invocation) -> None:
    """Make the home and its store. Doing it again changes nothing."""
    from fedctl.bootstrap import create_home
    from fedctl.store.store import FILE_NAME

    store = ctx.settings.home / FILE_NAME
    created = not store.exists()
    create_home(ctx.settings)
    ctx.screen.done({"home": str(ctx.settings.home), "store": str(store), "created": created}, INIT)
    ctx.screen.note(f"next: {FIRST_STEPS}")


@verb(app, shape=STATUS, examples=["fedctl status", "fedctl status --json | jq .episodes"])
def status(ctx: Invocation) -> None:
    """Show the home, the store, the hub, the tenant's memory and agents, and what to do next."""
    from fedctl.bootstrap import hub_info

    settings = ctx.settings
    here = settings.hub in ("auto", "off")
    info = hub_info(settings) if here else None
    document: dict[str, Any] = dict.fromkeys(STATUS_FIELDS)
    document |= {
        "home": str(settings.home),
        "hub": settings.hub if not here else None if info is None else msgspec.to_builtins(info),
        "tenant": settings.tenant,
        "agents": {},
        "next": [FIRST_STEPS],
    }
    try:
        with ctx.caller() as caller:
            stats = caller.call(MemoryStats())
            agents = caller.call(ListAgents()).agents
    except NoStore as error:
        if error.details:  # it had one, and has backups
            document["next"] = ["fedctl restore latest"]
            ctx.screen.note(error.message)
    else:
        counts: dict[str, int] = {}
        for agent in agents:
            counts[agent.status] = counts.get(agent.status, 0) + 1
        document |= {
            "store": _store(settings, stats) if here else None,
            "tenant": stats.tenant_id,
            "episodes": stats.episodes,
            "tenants": stats.tenants,
            "pending_embeddings": stats.pending_embeddings,
            "agents": counts,
            "next": _next(settings, episodes=stats.episodes, running=not here or info is not None),
        }
    ctx.screen.one(_for_people(document) if ctx.screen.form == "table" and not ctx.session.fields else document, STATUS)


def _store(settings: Settings, stats: MemoryStatsAnswer) -> dict[str, Any]:
    from fedctl.store.store import FILE_NAME

    return {
        "path": str(settings.home / FILE_NAME),
        "size_bytes": stats.store_bytes,
        "disk_free_bytes": stats.disk_free_bytes,
        "read_only": stats.read_only,
    }


def _next(settings: Settings, *, episodes: int, running: bool) -> list[str]:
    if not episodes:
        return [FIRST_STEPS]
    steps = ["fedctl memory query 'what do we know about ...?'"]
    return [*steps, *([] if running or settings.hub == "off" else ["fedctl hub start --detach"])]


def _for_people(document: dict[str, Any]) -> dict[str, Any]:
    """Return the same with words where there is nothing, and one line for each step."""
    shown = dict(document)
    shown["store"] = document["store"] or ("none" if isinstance(document["hub"], dict | None) else "the hub's")
    shown["hub"] = document["hub"] or "none"
    if isinstance(document["hub"], dict):
        shown["hub"] = {name: document["hub"][name] for name in ("url", "http_url", "pid", "ready")}
    shown["agents"] = document["agents"] or "none"
    shown["next"] = "; ".join(document["next"])
    return shown


@verb(app, examples=["fedctl demo", "fedctl demo --seconds 20 --path ~/src/project --json"])
def demo(
    ctx: Invocation,
    seconds: Annotated[int | None, flag("--seconds", metavar="N", least=1, says="How long the agents work.")] = None,
    path: Annotated[
        str | None,
        flag("--path", metavar="DIR", says="Whose Python files they read.", default="the interpreter's own library"),
    ] = None,
    keep: Annotated[bool, flag("--keep", says="Keep the home it made, and say where it is.")] = False,
) -> int:
    """Run a hub and five agents on real work, kill the hub, start it again, and check what they promise."""
    from pathlib import Path

    from fedctl.demo.run import run_demo

    resident()
    result = run_demo(seconds=seconds, path=None if path is None else Path(path), keep=keep, say=ctx.screen.note)
    if ctx.screen.form in ("json", "jsonl"):
        ctx.screen.one(result, DEMO)
    else:
        ctx.screen.many(result.criteria, CRITERION)
    if result.home is not None:
        ctx.screen.note(f"the home was kept: {result.home}")
    failed = sum(not one.ok for one in result.criteria)
    ctx.screen.note(
        f"{failed} of {len(result.criteria)} criteria failed"
        if failed
        else f"all {len(result.criteria)} criteria hold, {result.seconds:g} s, {result.files} Python files"
    )
    return 1 if failed else 0
