"""The agents' registry: who lives, in which phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedctl.errors import Conflict, Denied, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.model import limits
from fedctl.model.agent import (
    AGE_MAX_MS,
    AGENT_TRANSITIONS,
    FIGURES_MAX,
    FINAL_SYNC_GRACE_MS,
    MAX_LIFETIME_MS,
    MIN_LIFETIME_MS,
    NOTES_MAX,
    Agent,
    AgentFigures,
    Moment,
    Note,
    NoteDraft,
    Phase,
    Timeline,
    check_note,
)
from fedctl.model.time import from_rfc3339, to_rfc3339
from fedctl.operations import newest

if TYPE_CHECKING:
    from fedctl.model.hub import EventKind
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

_HOST_MAX_CHARACTERS = 255
_SAME_BIRTH_MS = 2_000
"""An agent that enters again was born when it was: its age tells so, but for what the network takes."""
MOMENTS_MAX = 10_000
MOMENTS_MAX_BYTES = limits.PAGE_MAX_BYTES


def register(ctx: Context, who: Principal, request: a.RegisterAgent) -> a.AgentAnswer:
    """Enter an agent in its first phase."""
    _check_own(who, request.id)
    limits.check_name("agent", request.id)
    limits.check_name("agent type", request.type)
    if len(limits.check_text("host", request.host)) > _HOST_MAX_CHARACTERS:
        raise UsageError(f"a host name has at most {_HOST_MAX_CHARACTERS} characters")
    limits.check_count("pid", request.pid)
    if not MIN_LIFETIME_MS <= request.lifetime_ms <= MAX_LIFETIME_MS:
        raise UsageError(
            f"a lifetime is within {MIN_LIFETIME_MS // 1000} s and {MAX_LIFETIME_MS // 60_000} min, "
            f"not {request.lifetime_ms} ms"
        )
    now_ms = ctx.clock.now_ms()
    age_ms = _age(request.age_ms)
    with ctx.store.write():
        tenant = (ctx.store.tenants.key_for_writing(who.tenant_id, now_ms), who.tenant_id)
        present = ctx.store.agents.get(tenant, request.id)
        other = present is not None and (present.host, present.pid) != (request.host, request.pid)
        if present is not None and other and _alive(present, now_ms):
            raise Conflict(
                f"the agent {request.id} is alive (pid {present.pid} on {present.host})",
                hint="give this one another --id, or stop the other: fedctl agent stop " + request.id,
            )
        spawned_at_ms = now_ms - age_ms
        born_ms = None if present is None or other else from_rfc3339(present.spawned_at)
        if born_ms is not None and age_ms > _SAME_BIRTH_MS and abs(born_ms - spawned_at_ms) <= _SAME_BIRTH_MS:
            # The hub had given it up: its life goes on, and entering again is a phase of it.
            spawned_at_ms, age_ms = born_ms, 0
        else:
            ctx.store.agents.put_figures(tenant[0], request.id, None)
        ctx.store.agents.put(
            tenant[0],
            request.id,
            type_=request.type,
            host=request.host,
            pid=request.pid,
            spawned_at_ms=spawned_at_ms,
            expires_at_ms=now_ms + request.lifetime_ms,
        )
        _log(ctx, tenant[0], request.id, _phase("spawning", age_ms), now_ms)
        return _answer(ctx, tenant, request.id)


def report(ctx: Context, who: Principal, request: a.ReportAgent) -> a.AgentAnswer:
    """Note an agent's phase; the transition table says which may follow which."""
    _check_own(who, request.id)
    age_ms, moved = _age(request.age_ms), _moved(request)
    if request.figures is not None:
        _check_figures(request.figures)
    now_ms = ctx.clock.now_ms()
    with ctx.store.write():
        tenant = _tenant(ctx, who, request.id)
        present = ctx.store.agents.get(tenant, request.id)
        if present is None:
            raise _unknown(request.id)
        if request.status != present.status:
            if request.status not in AGENT_TRANSITIONS[present.status]:
                raise Conflict(
                    f"the agent {request.id} is {present.status} and cannot become {request.status}",
                    details={"status": present.status},
                )
            _log(ctx, tenant[0], request.id, _phase(request.status, age_ms), now_ms)
        if moved:
            ctx.store.changes.add(tenant[0], "agent_synced", request.id, now_ms=now_ms, detail=moved)
        ctx.store.agents.report(tenant[0], request.id, request.status, now_ms if request.synced else None)
        if request.figures is not None:
            ctx.store.agents.put_figures(tenant[0], request.id, request.figures)
        return _answer(ctx, tenant, request.id)


def list_(ctx: Context, who: Principal, request: a.ListAgents) -> a.AgentList:
    """List the tenant's agents, newest first."""
    key = ctx.store.tenants.key(who.tenant_id)
    if key is None:
        return a.AgentList(agents=[], total=0 if request.count else None)
    limit, after = newest.page_limit(request.limit), newest.after(request.cursor)
    every, statuses = request.all, request.statuses
    agents = ctx.store.agents.page(
        (key, who.tenant_id), include_dead=every, statuses=statuses, limit=limit, after=after
    )  # fmt: skip
    total = ctx.store.agents.count(key, include_dead=every, statuses=statuses) if request.count else None
    last = agents[-1] if len(agents) == limit else None
    cursor = None if last is None else newest.cursor_after(last.spawned_at, last.id)
    return a.AgentList(agents=agents, cursor=cursor, total=total)


def show(ctx: Context, who: Principal, request: a.GetAgent) -> a.AgentAnswer:
    """Return one agent."""
    return _answer(ctx, _tenant(ctx, who, request.id), request.id)


def stop(ctx: Context, who: Principal, request: a.StopAgent) -> a.AgentAnswer:
    """Ask a connected agent to end early."""
    if (who.agent_id is not None or who.role == "agent") and who.agent_id != request.id:
        raise Denied("an agent may stop itself only", hint="an admin's token stops any agent of its tenant")
    answer = show(ctx, who, a.GetAgent(id=request.id))
    if ctx.hub is None:
        raise Unavailable(
            f"no hub runs on this home, so nobody can reach the agent {request.id}",
            hint=f"on {answer.agent.host}: kill -TERM {answer.agent.pid}",
        )
    ctx.hub.stop_agent(who.tenant_id, request.id)
    return answer


def _answer(ctx: Context, tenant: tuple[int, str], agent_id: str) -> a.AgentAnswer:
    found = ctx.store.agents.get(tenant, agent_id)
    if found is None:
        raise _unknown(agent_id)
    return a.AgentAnswer(agent=found)


def _tenant(ctx: Context, who: Principal, agent_id: str) -> tuple[int, str]:
    limits.check_name("agent", agent_id)
    key = ctx.store.tenants.key(who.tenant_id)
    if key is None:
        raise _unknown(agent_id)
    return key, who.tenant_id


def _unknown(agent_id: str) -> NotFound:
    hint = "fedctl agent list shows them"
    return NotFound(f"there is no agent {agent_id}", hint=hint, details={"agent": agent_id})


def _alive(agent: Agent, now_ms: int) -> bool:
    return agent.status != "dead" and now_ms < from_rfc3339(agent.expires_at) + FINAL_SYNC_GRACE_MS


def _check_own(who: Principal, agent_id: str) -> None:
    if who.agent_id is not None and who.agent_id != agent_id:
        raise Denied(f"this token is the agent {who.agent_id}'s", hint=f"spawn with --id {who.agent_id}")


def _phase(status: str, age_ms: int) -> dict[str, Any]:
    return {"status": status} | ({"age_ms": age_ms} if age_ms else {})


def _log(ctx: Context, tenant_key: int, agent_id: str, detail: dict[str, Any], now_ms: int) -> None:
    ctx.store.changes.add(tenant_key, "agent_status", agent_id, now_ms=now_ms, detail=detail)


def _age(age_ms: int) -> int:
    return min(limits.check_count("age_ms", age_ms), AGE_MAX_MS)


def _moved(request: a.ReportAgent) -> dict[str, Any] | None:
    """Return what a sync moved; None for one that had nothing to do, which is no event."""
    pushed, pulled = (limits.check_count(name, getattr(request, name)) for name in ("pushed", "pulled"))
    took_ms = None if request.took_ms is None else limits.check_measure("took_ms", request.took_ms)
    return {"pushed": pushed, "pulled": pulled, "took_ms": took_ms} if pushed or pulled else None


def _check_figures(figures: AgentFigures) -> None:
    if len(figures.operations) > FIGURES_MAX:
        raise UsageError(f"an agent reports the figures of at most {FIGURES_MAX} operations")
    for name, times in figures.operations.items():
        limits.check_name("operation", name)
        limits.check_count("n", times.n)
        for measure in (times.avg_ms, times.min_ms, times.max_ms):
            limits.check_measure("a duration", measure)
    for field in ("pulled", "stored", "delivered", "undelivered", "syncs", "connection_errors"):
        limits.check_count(field, getattr(figures, field))


# -- what an agent does ----------------------------------------------------------------------------------------------


def note(ctx: Context, who: Principal, request: a.AddNotes) -> a.NoteAnswer:
    """Take notes down, in the change log: all of them or none."""
    agent_id = request.agent_id if request.agent_id is not None else who.agent_id
    if agent_id is None:
        raise UsageError("a note is an agent's, and none is named", hint="name it: --agent ID")
    _check_own(who, agent_id)
    if who.role == "agent" and who.agent_id is None:
        raise Denied(f"this token is not the agent {agent_id}'s", hint="an admin's token may write for any agent")
    if len(request.notes) > NOTES_MAX:
        raise UsageError(f"at most {NOTES_MAX} notes at once, these are {len(request.notes)}")
    drafts = [check_note(draft) for draft in request.notes]
    now_ms = ctx.clock.now_ms()
    with ctx.store.write():
        tenant = _tenant(ctx, who, agent_id)
        if ctx.store.agents.get(tenant, agent_id) is None:
            raise _unknown(agent_id)
        return a.NoteAnswer(notes=[_take_down(ctx, tenant, agent_id, draft, now_ms) for draft in drafts])


def _take_down(ctx: Context, tenant: tuple[int, str], agent_id: str, draft: NoteDraft, now_ms: int) -> Note:
    present = ctx.store.changes.note(tenant[0], draft.id)
    if present is not None:
        whose, detail, at_ms = present
        if (whose, detail["kind"], detail["text"], detail.get("data")) != (
            agent_id, draft.kind, draft.text, draft.data,
        ):  # fmt: skip
            raise Conflict(f"the note {draft.id} exists with another content", hint="give this one another id")
        return _to_note(tenant[1], agent_id, detail, at_ms)
    detail = {"id": draft.id, "kind": draft.kind, "text": draft.text}
    if draft.data is not None:
        detail["data"] = draft.data
    if age_ms := _age(draft.age_ms):
        detail["age_ms"] = age_ms
    kind: EventKind = "agent_error" if draft.kind == "error" else "agent_note"
    ctx.store.changes.add(tenant[0], kind, agent_id, now_ms=now_ms, detail=detail)
    return _to_note(tenant[1], agent_id, detail, now_ms)


def _to_note(tenant_id: str, agent_id: str, detail: dict[str, Any], at_ms: int) -> Note:
    return Note(
        id=detail["id"],
        tenant_id=tenant_id,
        agent_id=agent_id,
        kind=detail["kind"],
        text=detail["text"],
        data=detail.get("data"),
        at=to_rfc3339(at_ms - detail.get("age_ms", 0)),
    )


def timeline(ctx: Context, who: Principal, request: a.GetTimeline) -> a.TimelineAnswer:
    """Read an agent's life off the change log."""
    limit = min(limits.check_count("limit", request.limit), MOMENTS_MAX)
    tenant = _tenant(ctx, who, request.id)
    with ctx.store.read():
        agent = ctx.store.agents.get(tenant, request.id)
        if agent is None:
            raise _unknown(request.id)
        born_ms = from_rfc3339(agent.spawned_at)
        changes = ctx.store.changes
        told = changes.of_agent(tenant[0], request.id, since_ms=born_ms, limit=limit) if limit else []
        statuses = changes.of_agent(tenant[0], request.id, since_ms=born_ms, limit=MOMENTS_MAX, phases_only=True)
        counts = changes.counts_of_agent(tenant[0], request.id, born_ms)
        figures = ctx.store.agents.figures(tenant[0], request.id)
    end_ms = ctx.clock.now_ms()
    phases = _phases(statuses, born_ms)
    if agent.status == "dead" and phases:
        end_ms = born_ms + phases[-1].offset_ms
    return a.TimelineAnswer(
        timeline=Timeline(
            agent=agent,
            lived_ms=max(0, end_ms - born_ms),
            phases=phases,
            moments=_moments(told, born_ms),
            moments_total=sum(counts.values()),
            counts={
                f"{name}s": counts.get(("agent_error" if name == "error" else "agent_note", name), 0)
                for name in ("task", "step", "decision", "message", "error")
            }
            | {"syncs": counts.get(("agent_synced", None), 0)},
            figures=figures,
        )
    )


_Told = tuple[int, "EventKind", dict[str, Any], int]


def _in_order(told: list[_Told]) -> list[tuple[int, EventKind, dict[str, Any]]]:
    """Return (time in ms, kind, detail) in the order in which it happened; what is equal stays as it was told."""
    happened = [(at_ms - detail.get("age_ms", 0), kind, detail) for _, kind, detail, at_ms in told]
    return sorted(happened, key=lambda one: one[0])


def _phases(told: list[_Told], born_ms: int) -> list[Phase]:
    # As told: that is the order of the transition table, whatever the clocks say.
    starts = [(at_ms - detail.get("age_ms", 0), detail["status"]) for _, _, detail, at_ms in told]
    ends: list[int | None] = [at_ms for at_ms, _ in starts[1:]]
    return [
        Phase(
            status=status,
            at=to_rfc3339(at_ms),
            offset_ms=at_ms - born_ms,
            lasted_ms=None if end_ms is None else max(0, end_ms - at_ms),
        )
        for (at_ms, status), end_ms in zip(starts, [*ends, None], strict=False)
    ]


def _moments(told: list[_Told], born_ms: int) -> list[Moment]:
    """Return the moments, the last ones that fit into an answer."""
    moments: list[Moment] = []
    size = 0
    for at_ms, kind, detail in reversed(_in_order(told)):
        offset_ms, at = at_ms - born_ms, to_rfc3339(at_ms)
        if kind == "agent_status":
            moment = Moment(offset_ms=offset_ms, at=at, kind="phase", text=detail["status"], data=None)
        elif kind == "agent_synced":
            text = f"pushed {detail['pushed']}, pulled {detail['pulled']}"
            moment = Moment(offset_ms=offset_ms, at=at, kind="sync", text=text, data=detail)
        else:
            moment = Moment(
                offset_ms=offset_ms, at=at, kind=detail["kind"], text=detail["text"], data=detail.get("data")
            )
        size += len(limits.encode_json("a moment", [moment.text, moment.data]))
        if size > MOMENTS_MAX_BYTES:
            break
        moments.append(moment)
    return moments[::-1]
