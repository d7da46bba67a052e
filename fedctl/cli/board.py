"""A snapshot as a page for a terminal: as wide and as high as there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fedctl.cli.render import counted, escape
from fedctl.model.shown import lasting, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedctl.cli.snapshot import AgentSeen, HubSeen, PoolSeen, Snapshot, WorkerSeen

PHASES = {
    "spawning": "cyan", "initializing": "cyan", "ready": "green", "working": "bold green", "idle": "blue",
    "shutting_down": "yellow",
}  # fmt: skip
WORKER_STATES = {"active": "green", "terminating": "yellow", "lost": "red"}
BAR = "━"
SPARKS = "▁▂▃▄▅▆▇█"
LATENCIES_SHOWN = 3
NAMES = ("TYPE", "ITEM")
LEAST_NAME = 12
LEAST_ROWS = 2
"""A table that has rows shows so many at least; what is left of the height is shared out."""


def page(snapshot: Snapshot, *, width: int, height: int, every_s: float | None, rates: Sequence[float] = ()) -> Group:
    """Return the page. `rates` are the operations a second of the looks so far, oldest first.

    None for `every_s`: it is not looked again.
    """
    top: list[Any] = [
        _title(snapshot, width, every_s),
        _hub(snapshot),
        *_load(snapshot.hub, rates),
        _memory(snapshot),
    ]
    tables: dict[str, tuple[Sequence[Any], Callable[[Any, int], Table]]] = {
        "agents": (snapshot.agents, _agents),
        "pools": (snapshot.pools, _pools),
        "workers": (snapshot.workers, _workers),
    }
    filled = [len(rows) for rows, _ in tables.values()]
    room = height - len(top) - sum(3 if count else 2 for count in filled)  # a gap, a title, and perhaps a header
    shown = share(room, filled)
    for (title, (rows, draw)), most in zip(tables.items(), shown, strict=True):
        if not rows:
            top += [Text(""), _heading(title, "none", width)]
            continue
        more = f"{len(rows):,}" if most >= len(rows) else f"{most:,} of {len(rows):,}"
        top += [Text(""), _heading(title, more, width), draw(rows[:most], width)]
    return Group(*top)


def share(room: int, wanted: Sequence[int]) -> list[int]:
    """Return how many rows each table gets: the smallest first, so that what one does not use goes to the others."""
    shown = [0] * len(wanted)
    left = room
    for place, at in enumerate(sorted(range(len(wanted)), key=lambda at: wanted[at])):
        fair = left // (len(wanted) - place)
        shown[at] = min(wanted[at], max(fair, LEAST_ROWS))
        left -= shown[at]
    return shown


def _title(snapshot: Snapshot, width: int, every_s: float | None) -> Text:
    left = Text.assemble((" fedctl top ", "reverse bold"), f"  tenant {escape(snapshot.tenant_id)}", no_wrap=True)
    time = f"{snapshot.at[11:19]} UTC"
    live = () if every_s is None else (f"{time} · every {every_s:g} s · q leaves ", f"{time} · q leaves ")
    for right in (*live, time):
        gap = width - left.cell_len - len(right)
        if gap > 0:
            return left.append(" " * gap).append(right, "dim")
    return left


def _heading(title: str, count: str, width: int) -> Text:
    text = Text.assemble((f" {title} ", "bold"), (f"{count} ", "dim"))
    return text.append("─" * max(0, width - text.cell_len - 1), "dim")


def _label(name: str) -> tuple[str, str]:
    return f" {name:<8}", "bold"


def _hub(snapshot: Snapshot) -> Text:
    hub = snapshot.hub
    if snapshot.trouble is not None:
        return Text.assemble(_label("hub"), (escape(snapshot.trouble), "red"), no_wrap=True, overflow="ellipsis")
    if hub is None:
        return Text.assemble(_label("hub"), ("none: this is the home itself", "dim"))
    text = Text.assemble(_label("hub"), (escape(hub.url), "green" if hub.ready else "yellow"), no_wrap=True,
                         overflow="ellipsis")  # fmt: skip
    if hub.uptime_s is None:
        return text.append("  its figures are for operators", "dim")
    agents, connections = counted(hub.connected_agents or 0, "agent"), counted(hub.connections or 0, "connection")
    text.append(f"  up {lasting(hub.uptime_s)}  {agents}  {connections}  ")
    return text.append(f"rss {size(hub.rss_bytes or 0)}")


def _load(hub: HubSeen | None, rates: Sequence[float]) -> list[Text]:
    """Return how much the hub does, and how long that takes: nothing at the first look, and nothing without a hub."""
    lines = []
    if hub is not None and hub.operations_per_s is not None:
        text = Text.assemble(_label("load"), f"{hub.operations_per_s:,.0f} operations/s ", no_wrap=True)
        text.append(sparks(rates), "cyan").append(f"  {hub.commits_per_s or 0:,.0f} commits/s")
        lines.append(text)
    if hub is not None and hub.latencies:
        busiest = sorted(hub.latencies.items(), key=lambda one: -one[1].count)[:LATENCIES_SHOWN]
        text = Text.assemble(_label("p50/p99"), no_wrap=True, overflow="ellipsis")
        for name, latency in busiest:
            text.append(f"{escape(name)} ", "dim").append(f"{latency.p50_ms:.1f}/{latency.p99_ms:.1f} ms   ")
        lines.append(text)
    return lines


def _memory(snapshot: Snapshot) -> Text:
    memory = snapshot.memory
    if memory is None:
        return Text.assemble(_label("memory"), ("nothing was stored yet" if snapshot.trouble is None else "", "dim"))
    text = Text.assemble(_label("memory"), no_wrap=True, overflow="ellipsis")
    if memory.read_only:
        text.append("READ ONLY: the disk is full  ", "bold red")
    text.append(counted(memory.episodes, "episode"))
    if memory.episodes_per_s:
        text.append(f" (+{memory.episodes_per_s:,.1f}/s)", "cyan")
    waiting = memory.pending_embeddings
    text.append(f"  {waiting:,} to be embedded", "yellow" if waiting else "dim")
    text.append(f"  store {size(memory.store_bytes)}")
    return text.append(f"  {size(memory.disk_free_bytes)} free") if memory.disk_free_bytes else text


def _table(width: int, *columns: str, right: Sequence[str] = ()) -> Table:
    """Return a table without rows. What has a name of somebody's own is cut before figures are."""
    table = Table(box=None, pad_edge=True, padding=(0, 1), header_style="dim")
    for at, name in enumerate(columns):
        most = max(LEAST_NAME, width // 3) if at == 0 or name in NAMES else None
        justify: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", max_width=most)
    return table


def _agents(rows: Sequence[AgentSeen], width: int) -> Table:
    table = _table(
        width, "AGENT", "TYPE", "PHASE", "LIFE LEFT", "", "STORED", "LAST SYNC", right=("STORED", "LAST SYNC")
    )
    for one in rows:
        share_left = one.remaining_s / one.lifetime_s if one.lifetime_s else 0.0
        table.add_row(
            Text(escape(one.id)),
            Text(escape(one.type)),
            Text(one.status, PHASES.get(one.status, "")),
            _bar(share_left, max(8, width // 8), "green" if share_left > 0.2 else "yellow"),  # noqa: PLR2004
            Text(lasting(one.remaining_s)),
            f"{one.episodes_stored:,}",
            "" if one.silent_s is None else f"{lasting(one.silent_s)} ago",
        )
    return table


def _pools(rows: Sequence[PoolSeen], width: int) -> Table:
    numbers = ("PENDING", "DELAYED", "CLAIMED", "DONE", "POISONED", "ITEMS/S", "ETA")
    table = _table(width, "POOL", *numbers, "", right=numbers)
    for one in rows:
        total = one.pending + one.delayed + one.claimed + one.done + one.poisoned
        rate = one.finished_per_s
        name = Text(escape(one.name))
        table.add_row(
            name.append(" paused", "yellow") if one.paused else name,
            Text(f"{one.pending:,}", "bold" if one.pending else "dim"),
            Text(f"{one.delayed:,}", "" if one.delayed else "dim"),
            Text(f"{one.claimed:,}", "cyan" if one.claimed else "dim"),
            Text(f"{one.done:,}", "green" if one.done else "dim"),
            Text(f"{one.poisoned:,}", "red" if one.poisoned else "dim"),
            "" if rate is None else Text(f"{rate:,.1f}", "" if rate else "dim"),
            "" if one.eta_s is None else lasting(one.eta_s),
            _bar((one.done + one.poisoned) / total if total else 0.0, max(8, width // 8), "green"),
        )
    return table


def _workers(rows: Sequence[WorkerSeen], width: int) -> Table:
    table = _table(width, "WORKER", "STATUS", "POOL", "ITEM", "LAST BEAT", right=("LAST BEAT",))
    for one in rows:
        table.add_row(
            Text(escape(one.worker_id)),
            Text(one.status, WORKER_STATES.get(one.status, "")),
            Text(escape(one.pool_id or "")),
            Text(escape(one.current_task_id or ""), "cyan"),
            Text(f"{lasting(one.silent_s)} ago", "red" if one.stale else ""),
        )
    return table


def _bar(share_done: float, width: int, style: str) -> Text:
    full = round(min(max(share_done, 0.0), 1.0) * width)
    return Text.assemble((BAR * full, style), (BAR * (width - full), "bright_black"))


def sparks(values: Sequence[float]) -> str:
    """Return values as a line of small columns, the largest as high as there is room."""
    most = max(values, default=0.0)
    return "".join(SPARKS[round(value / most * (len(SPARKS) - 1))] if most else SPARKS[0] for value in values)
