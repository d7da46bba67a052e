"""`fedctl status`: one screen of how everything stands, and what makes sense next."""

import stat
from contextlib import suppress
from typing import Any

import msgspec

from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.home import FIRST_STEPS
from fedctl.cli.render import Shape, counted, escape
from fedctl.client import paging
from fedctl.client.caller import Caller
from fedctl.clock import Clock
from fedctl.config import Settings
from fedctl.errors import NoStore
from fedctl.messages.agent import ListAgents
from fedctl.messages.memory import MemoryStats, MemoryStatsAnswer
from fedctl.messages.pool import ListPools
from fedctl.messages.retention import GetPolicy
from fedctl.messages.worker import ListWorkers
from fedctl.model.hub import HubInfo
from fedctl.model.shown import lasting, size


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The store of the home. `read_only`: writes are refused, because the disk is nearly full."""

    path: str
    size_bytes: int
    disk_free_bytes: int
    read_only: bool


class WorkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's pools together; `workers` are those that live, `stale` of them have fallen silent.

    `waiting` names pools that have something to be claimed, the fullest first.
    """

    pools: int = 0
    pending: int = 0
    delayed: int = 0
    claimed: int = 0
    poisoned: int = 0
    workers: int = 0
    stale: int = 0
    waiting: list[str] = []


class BackupStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The newest backup that this home made and found whole, and how many of those there are."""

    path: str
    created_at: str
    age_s: float
    count: int = 1


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything stands. `store` is null where there is none, or it is a hub's elsewhere.

    `gone`: there was one, and only its backups are left.

    `hub` is what this home's hub says of itself, the address of the one that `--hub` names, or null. `agents` counts
    the living by status; `retention`: whether the tenant has a policy by which anything goes. `findings` are what is
    seen to be wrong at a glance (`fedctl doctor` looks closer); `next` are commands that make sense now.
    """

    home: str
    store: StoreStatus | None = None
    hub: HubInfo | str | None
    tenant: str
    episodes: int | None = None
    tenants: int | None = None
    pending_embeddings: int | None = None
    agents: dict[str, int] = {}
    work: WorkStatus | None = None
    backup: BackupStatus | None = None
    retention: bool | None = None
    findings: list[str] = []
    next: list[str]
    gone: bool = False


STATUS = Shape.of(Status, key="home")

NAME_WIDTH = 11
GONE = "gone with the store"

app = noun("standing", "How everything stands.")


@verb(app, shape=STATUS, examples=["fedctl status", "fedctl status --json | jq .episodes"])
def status(ctx: Invocation) -> None:
    """Show the home, the store, the hub, the tenant's memory, agents and work, and what to do next."""
    from fedctl.bootstrap import hub_info

    settings = ctx.settings
    here = settings.hub in ("auto", "off")
    info = hub_info(settings) if here else None
    found = Status(
        home=str(settings.home), hub=info if here else settings.hub, tenant=settings.tenant, next=[FIRST_STEPS]
    )
    try:
        with ctx.caller() as caller:
            found = _looked_at(caller, settings, found)
    except NoStore as error:
        if error.details:  # it had one, and has backups
            found = msgspec.structs.replace(
                found, backup=_backup(settings), findings=[error.message], next=["fedctl restore latest"], gone=True
            )
            ctx.screen.note(error.message)
    else:
        found = msgspec.structs.replace(found, findings=_findings(settings, found), next=_next(settings, found))
    if ctx.screen.draws:
        ctx.screen.draw(_drawn(found, colour=ctx.screen.colour))
    else:
        ctx.screen.one(found, STATUS, shown=_in_lines(found))


def _looked_at(caller: Caller, settings: Settings, status: Status) -> Status:
    """Return the same with what the store says."""
    here = not isinstance(status.hub, str)
    stats = caller.call(MemoryStats())
    agents: dict[str, int] = {}
    for agent in caller.call(ListAgents()).agents:
        agents[agent.status] = agents.get(agent.status, 0) + 1
    return msgspec.structs.replace(
        status,
        store=_store(settings, stats) if here else None,
        tenant=stats.tenant_id,
        episodes=stats.episodes,
        tenants=stats.tenants,
        pending_embeddings=stats.pending_embeddings,
        agents=agents,
        work=_work(caller),
        backup=_backup(settings) if here else None,
        retention=caller.call(GetPolicy()).policy.removes,
    )


def _store(settings: Settings, stats: MemoryStatsAnswer) -> StoreStatus:
    from fedctl.store.store import FILE_NAME

    return StoreStatus(
        path=str(settings.home / FILE_NAME),
        size_bytes=stats.store_bytes,
        disk_free_bytes=stats.disk_free_bytes,
        read_only=stats.read_only,
    )


def _work(caller: Caller) -> WorkStatus:
    pools = caller.call(ListPools()).pools
    workers = paging.workers(caller, ListWorkers(statuses=["active", "terminating"]))
    sums = {name: sum(getattr(pool, name) for pool in pools) for name in ("pending", "delayed", "claimed", "poisoned")}
    waiting = [pool.name for pool in sorted(pools, key=lambda pool: -pool.pending) if pool.pending]
    return WorkStatus(
        pools=len(pools), workers=len(workers), stale=sum(one.stale for one in workers), waiting=waiting, **sums
    )


def _backup(settings: Settings) -> BackupStatus | None:
    """Return the newest backup by what the home has noted: no file is read."""
    from fedctl.model.time import from_rfc3339
    from fedctl.operations.register import Register, parsed

    found = [(made_at, path) for path in Register(settings.home).whole() if (made_at := parsed(path)[1])]
    if not found:
        return None
    created_at, path = max(found)
    age_s = max(0, Clock().now_ms() - from_rfc3339(created_at)) / 1000
    return BackupStatus(path=str(path), created_at=created_at, age_s=age_s, count=len(found))


def _findings(settings: Settings, status: Status) -> list[str]:
    """Return what is wrong at a glance."""
    from fedctl import __version__

    found = []
    if status.store is not None:
        if status.store.read_only:
            found.append("the disk is nearly full: nothing is written")
        with suppress(OSError):
            if stat.S_IMODE(settings.home.stat().st_mode) & 0o077:
                found.append("the home may be looked into by others")
        if status.backup is None and status.episodes:
            found.append("there is no backup")
    if isinstance(status.hub, HubInfo) and status.hub.version != __version__:
        found.append(f"the hub is fedctl {status.hub.version}, this is {__version__}")
    if status.work is not None and status.work.stale:
        found.append(f"{counted(status.work.stale, 'worker')} fell silent")
    if status.work is not None and status.work.poisoned:
        found.append(f"{counted(status.work.poisoned, 'item')} poisoned")
    return found


def _next(settings: Settings, status: Status) -> list[str]:
    """Return commands that fit the situation, what mends something first."""
    work = status.work or WorkStatus()
    steps = []
    if status.findings or _findings(settings, status):
        steps.append("fedctl doctor")
    if not status.episodes and not work.pools:
        return [*steps, FIRST_STEPS]
    if work.stale:
        steps.append("fedctl worker reap")
    if work.poisoned:
        steps.append("fedctl pool list")
    if status.store is not None and status.backup is None and status.episodes:
        steps.append("fedctl backup")
    if work.waiting and not work.workers:
        steps.append(f"fedctl pool work {work.waiting[0]} -- CMD")
    if status.episodes:
        steps.append("fedctl memory query 'what do we know about ...?'")
    if status.hub is None and settings.hub != "off":
        steps.append("fedctl hub start --detach")
    elif status.agents or work.workers:
        steps.append("fedctl top")
    return steps


def _in_lines(status: Status) -> dict[str, Any]:
    """Return the same with words where there is nothing, and one line for each list: for a pipe."""
    nothing = GONE if status.gone else "none"
    shown = msgspec.structs.asdict(status)
    del shown["gone"]
    shown["store"] = status.store or ("gone" if status.gone else "the hub's" if isinstance(status.hub, str) else "none")
    shown["hub"] = status.hub or "none"
    if isinstance(status.hub, HubInfo):
        shown["hub"] = {name: getattr(status.hub, name) for name in ("url", "http_url", "pid", "ready")}
    for name in ("agents", "work", "backup"):
        shown[name] = getattr(status, name) or nothing
    shown["findings"] = "; ".join(status.findings) or "none"
    shown["next"] = "; ".join(status.next)
    return shown


def _drawn(status: Status, *, colour: bool) -> str:
    """Return one screen for a person: a line a thing, what is wrong and what comes next below each other."""
    nothing = GONE if status.gone else "none"
    rows = [
        ("home", [status.home]),
        ("store", [_store_line(status)]),
        ("hub", [_hub_line(status.hub)]),
        ("memory", [_memory_line(status)]),
        ("agents", [", ".join(f"{count} {name}" for name, count in status.agents.items()) or nothing]),
        ("work", [GONE if status.gone else _work_line(status.work)]),
        ("backup", [_backup_line(status)]),
        ("retention", [_retention_line(status)]),
        ("findings", status.findings or ["none"]),
        ("next", [f"$ {step}" for step in status.next]),
    ]
    strong, found, plain = ("\x1b[1m", "\x1b[33m", "\x1b[0m") if colour else ("", "", "")
    drawn = ""
    for name, lines in rows:
        lit = strong if name == "next" else found if name == "findings" and status.findings else ""
        for number, line in enumerate(lines):
            said = f"{lit}{escape(line)}{plain}" if lit else escape(line)
            drawn += f"{strong}{'' if number else name:<{NAME_WIDTH}}{plain}{said}\n"
    return drawn


def _store_line(status: Status) -> str:
    store = status.store
    if store is None:
        return "gone" if status.gone else "the hub's" if isinstance(status.hub, str) else "none yet"
    full = ", read only: the disk is full" if store.read_only else ""
    return f"{size(store.size_bytes)}, {size(store.disk_free_bytes)} free{full}"


def _backup_line(status: Status) -> str:
    if status.backup is not None:
        there = f"{status.backup.count:,} there, the latest of " if status.gone else ""
        return f"{there}{lasting(status.backup.age_s)} ago: {status.backup.path}"
    return "some were made, and none was found whole: fedctl backup list" if status.gone else "none"


def _retention_line(status: Status) -> str:
    if status.gone:
        return GONE
    return "a policy is set" if status.retention else "no policy: everything is kept"


def _hub_line(hub: HubInfo | str | None) -> str:
    if hub is None:
        return "none runs: commands work on the home itself"
    if isinstance(hub, str):
        return hub
    return f"{hub.url} (pid {hub.pid}), page and figures at {hub.http_url}" + ("" if hub.ready else ", not ready")


def _memory_line(status: Status) -> str:
    if status.episodes is None:
        return GONE if status.gone else f"tenant {status.tenant}: nothing yet"
    waiting = f", {status.pending_embeddings:,} to be embedded" if status.pending_embeddings else ""
    others = f"; {counted(status.tenants, 'tenant')} in all" if (status.tenants or 0) > 1 and status.tenants else ""
    return f"tenant {status.tenant}: {counted(status.episodes, 'episode')}{waiting}{others}"


def _work_line(work: WorkStatus | None) -> str:
    if work is None or not (work.pools or work.workers):
        return "no pools"
    counts = ", ".join(f"{getattr(work, name):,} {name}" for name in ("pending", "delayed", "claimed", "poisoned")
                       if getattr(work, name)) or "all done"  # fmt: skip
    silent = f" ({work.stale:,} silent)" if work.stale else ""
    return f"{counted(work.pools, 'pool')}: {counts}; {counted(work.workers, 'worker')}{silent}"
