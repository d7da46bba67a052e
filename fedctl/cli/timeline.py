"""An agent's life as lines: what began when, what it noted, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.cli.render import cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.model.agent import Timeline

_INDENT = {"phase": "", "task": "  "}
_COUNTS = ("pulled", "stored", "delivered", "undelivered", "syncs", "connection_errors")


def drawn(timeline: Timeline, *, plain: bool) -> str:
    """Return the timeline as text: in columns for a person, `plain` with a tab between two cells."""
    rows = list(_rows(timeline, plain=plain))
    if plain:
        return "".join("\t".join(row) + "\n" for row in rows)
    widths = [max((len(row[at]) for row in rows if len(row) > at + 1), default=0) for at in range(max(map(len, rows)))]
    return "".join("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)).rstrip() + "\n"
                   for row in rows)  # fmt: skip


def _rows(timeline: Timeline, *, plain: bool) -> Iterator[tuple[str, ...]]:
    agent = timeline.agent
    yield "agent", agent.id, f"{agent.type} of {agent.tenant_id}, {agent.status}, {offset(timeline.lived_ms)[1:]}"
    for moment in timeline.moments:
        said = cell(moment.text)
        if moment.data is not None and moment.kind != "sync":
            said += f"  {cell(moment.data)}"
        kind = moment.kind if plain else _INDENT.get(moment.kind, "    ") + moment.kind
        yield offset(moment.offset_ms), kind, said
    left_out = timeline.moments_total - len(timeline.moments)
    if left_out > 0:
        yield "", "", f"the last ones; {left_out} before them are left out"
    counts = dict(timeline.counts)
    if timeline.figures is not None:
        counts |= {name: getattr(timeline.figures, name) for name in _COUNTS}
    yield "counts", "", ", ".join(f"{name} {number}" for name, number in counts.items() if number)
    for name, times in (timeline.figures.operations if timeline.figures is not None else {}).items():
        yield (
            "operation",
            cell(name),
            f"n {times.n}, avg {times.avg_ms:.2f} ms, min {times.min_ms:.2f} ms, max {times.max_ms:.2f} ms",
        )


def offset(ms: int) -> str:
    """Return `+1.250s`."""
    return f"{'-' if ms < 0 else '+'}{abs(ms) // 1000}.{abs(ms) % 1000:03}s"
