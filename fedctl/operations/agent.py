"""The agents' registry: who lives, in which phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.errors import Conflict, Denied, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.model import limits
from fedctl.model.agent import AGENT_TRANSITIONS, FINAL_SYNC_GRACE_MS, MAX_LIFETIME_MS, MIN_LIFETIME_MS, Agent
from fedctl.model.time import from_rfc3339

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

_LIST_MAX = 10_000
_HOST_MAX_CHARACTERS = 255


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
    with ctx.store.write():
        tenant = (ctx.store.tenants.key_for_writing(who.tenant_id, now_ms), who.tenant_id)
        present = ctx.store.agents.get(tenant, request.id)
        other = present is not None and (present.host, present.pid) != (request.host, request.pid)
        if present is not None and other and _alive(present, now_ms):
            raise Conflict(
                f"the agent {request.id} is alive (pid {present.pid} on {present.host})",
                hint="give this one another --id, or stop the other: fedctl agent stop " + request.id,
            )
        ctx.store.agents.put(
            tenant[0],
            request.id,
            type_=request.type,
            host=request.host,
            pid=request.pid,
            now_ms=now_ms,
            expires_at_ms=now_ms + request.lifetime_ms,
        )
        _log(ctx, tenant[0], request.id, "spawning", now_ms)
        return _answer(ctx, tenant, request.id)


def report(ctx: Context, who: Principal, request: a.ReportAgent) -> a.AgentAnswer:
    """Note an agent's phase; the transition table says which may follow which."""
    _check_own(who, request.id)
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
            _log(ctx, tenant[0], request.id, request.status, now_ms)
        ctx.store.agents.report(tenant[0], request.id, request.status, now_ms if request.synced else None)
        return _answer(ctx, tenant, request.id)


def list_(ctx: Context, who: Principal, request: a.ListAgents) -> a.AgentList:
    """List the tenant's agents, newest first."""
    key = ctx.store.tenants.key(who.tenant_id)
    if key is None:
        return a.AgentList(agents=[])
    limit = min(max(request.limit, 1), _LIST_MAX)
    agents = ctx.store.agents.all((key, who.tenant_id), include_dead=request.all, limit=limit)
    return a.AgentList(agents=agents)


def show(ctx: Context, who: Principal, request: a.GetAgent) -> a.AgentAnswer:
    """Return one agent."""
    return _answer(ctx, _tenant(ctx, who, request.id), request.id)


def stop(ctx: Context, who: Principal, request: a.StopAgent) -> a.AgentAnswer:
    """Ask a connected agent to end early."""
    if who.agent_id is not None and who.agent_id != request.id:
        raise Denied("an agent may stop itself only")
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
    return NotFound(f"there is no agent {agent_id}", hint="fedctl agent list shows them")


def _alive(agent: Agent, now_ms: int) -> bool:
    return agent.status != "dead" and now_ms < from_rfc3339(agent.expires_at) + FINAL_SYNC_GRACE_MS


def _check_own(who: Principal, agent_id: str) -> None:
    if who.agent_id is not None and who.agent_id != agent_id:
        raise Denied(f"this token is the agent {who.agent_id}'s", hint=f"spawn with --id {who.agent_id}")


def _log(ctx: Context, tenant_key: int, agent_id: str, status: str, now_ms: int) -> None:
    ctx.store.changes.add(tenant_key, "agent_status", agent_id, now_ms=now_ms, detail={"status": status})
