"""The table: each kind of request, what carries it out, how a hub runs it, and who may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from fedctl.errors import Denied, UsageError
from fedctl.messages import agent as a
from fedctl.messages import hub as h
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages import retention as r
from fedctl.messages import store as s
from fedctl.messages import tenant as n
from fedctl.messages import token as t
from fedctl.messages import worker as w
from fedctl.operations import (
    agent,
    erasure,
    hub,
    item,
    memory,
    pin,
    pool,
    reindex,
    retention,
    store,
    tenant,
    token,
    worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.messages.base import Request
    from fedctl.model.principal import Principal, Role
    from fedctl.operations.context import Context

A = TypeVar("A")
Kind = Literal["read", "write", "session"]


class Operation(NamedTuple):
    """One thing that fedctl can do.

    `kind`: a `write` is one short transaction and joins a hub's group commit; a `read` runs on a thread of its own
    (and may hold short write transactions itself); a `session` is one the hub's session layer takes part in.

    What `frees` space, or stops what takes it, is done however full the disk is; any other write is refused there.
    """

    name: str
    function: Callable[[Context, Principal, Any], Any]
    kind: Kind
    role: Role
    frees: bool = False


OPERATIONS: dict[type[Request[Any]], Operation] = {
    m.StoreEpisodes: Operation("memory.store", memory.store, "write", "agent"),
    m.QueryEpisodes: Operation("memory.query", memory.query, "read", "agent"),
    m.GetEpisodes: Operation("memory.get", memory.get, "read", "agent"),
    m.ListEpisodes: Operation("memory.list", memory.list_, "read", "agent"),
    m.DeleteEpisodes: Operation("memory.delete", memory.delete, "write", "admin", frees=True),
    m.PinEpisodes: Operation("memory.pin", pin.pin, "write", "agent", frees=True),
    # Not a short write: it notes what it does in a file first, and clears files away afterwards.
    m.EraseEpisodes: Operation("memory.erase", erasure.erase_episodes, "read", "admin", frees=True),
    m.PullEpisodes: Operation("memory.pull", memory.pull, "read", "agent"),
    m.MemoryStats: Operation("memory.stats", memory.stats, "read", "agent"),
    m.Reindex: Operation("memory.reindex", reindex.reindex, "read", "operator"),
    m.EmbedPending: Operation("memory.embed_pending", memory.embed_pending, "read", "agent"),
    m.EmbedTexts: Operation("memory.embed", memory.embed, "read", "agent"),
    a.RegisterAgent: Operation("agent.register", agent.register, "write", "agent"),
    a.ReportAgent: Operation("agent.report", agent.report, "write", "agent"),
    a.ListAgents: Operation("agent.list", agent.list_, "read", "agent"),
    a.GetAgent: Operation("agent.show", agent.show, "read", "agent"),
    a.StopAgent: Operation("agent.stop", agent.stop, "read", "agent"),
    a.AddNotes: Operation("agent.note", agent.note, "write", "agent"),
    a.GetTimeline: Operation("agent.timeline", agent.timeline, "read", "agent"),
    w.RegisterWorker: Operation("worker.register", worker.register, "write", "agent"),
    w.BeatWorker: Operation("worker.heartbeat", worker.heartbeat, "write", "agent"),
    w.ListWorkers: Operation("worker.list", worker.list_, "read", "agent"),
    w.GetWorker: Operation("worker.show", worker.show, "read", "agent"),
    w.SetWorkerStatus: Operation("worker.status", worker.set_status, "write", "agent"),
    w.ReapWorkers: Operation("worker.reap", worker.reap, "write", "agent"),
    p.PushItems: Operation("pool.push", item.push, "write", "agent"),
    p.ClaimItems: Operation("pool.claim", item.claim, "write", "agent"),
    p.CompleteItems: Operation("pool.complete", item.complete, "write", "agent"),
    p.FailItems: Operation("pool.fail", item.fail, "write", "agent"),
    p.ExtendItems: Operation("pool.extend", item.extend, "write", "agent"),
    p.ReleaseItems: Operation("pool.release", item.release, "write", "agent"),
    p.ReleaseWorker: Operation("pool.release_worker", item.release_worker, "write", "agent"),
    p.ListPools: Operation("pool.list", pool.list_, "read", "agent"),
    p.GetPool: Operation("pool.show", pool.show, "read", "agent"),
    p.ListItems: Operation("pool.items", pool.items, "read", "agent"),
    p.GetItem: Operation("pool.item", pool.item, "read", "agent"),
    p.WaitFor: Operation("pool.wait", pool.wait, "read", "agent"),
    p.RetryItems: Operation("pool.retry", pool.retry, "write", "agent"),
    p.PurgePool: Operation("pool.purge", pool.purge, "write", "admin", frees=True),
    p.PausePool: Operation("pool.pause", pool.pause, "write", "admin", frees=True),
    r.SetPolicy: Operation("retention.set", retention.set_, "write", "admin", frees=True),
    r.GetPolicy: Operation("retention.show", retention.show, "read", "agent"),
    r.Prune: Operation("retention.prune", retention.prune, "read", "admin", frees=True),
    r.ExplainEpisode: Operation("retention.explain", retention.explain, "read", "agent"),
    n.ListTenants: Operation("tenant.list", tenant.list_, "read", "admin"),
    n.GetTenant: Operation("tenant.show", tenant.show, "read", "admin"),
    n.SetTenant: Operation("tenant.set", tenant.set_, "write", "operator"),
    n.EraseTenant: Operation("tenant.erase", erasure.erase_tenant, "read", "operator", frees=True),
    t.IssueToken: Operation("token.issue", token.issue, "write", "admin"),
    t.ListTokens: Operation("token.list", token.list_, "read", "admin"),
    t.RevokeToken: Operation("token.revoke", token.revoke, "write", "admin", frees=True),
    # A key is a file: it must not be made twice because a transaction was tried twice.
    t.RotateKey: Operation("token.rotate_key", token.rotate_key, "read", "operator"),
    h.GetHubStats: Operation("hub.stats", hub.stats, "read", "operator"),
    h.GetHubInfo: Operation("hub.info", hub.info, "read", "agent"),
    h.ListEvents: Operation("hub.events", hub.events, "read", "agent"),
    h.Subscribe: Operation("hub.subscribe", hub.subscribe, "session", "agent"),
    s.CheckStore: Operation("store.check", store.check, "read", "operator"),
}


def request_types() -> tuple[type[Request[Any]], ...]:
    """Return every kind of request: what a socket may be asked."""
    return tuple(OPERATIONS)


def run(ctx: Context, who: Principal, request: Request[A]) -> A:
    """Carry out a request, or raise a `FedctlError`: `Denied` when the role does not reach."""
    operation = OPERATIONS.get(type(request))
    if operation is None:
        raise UsageError(f"{type(request).__name__} is not an operation")
    if not who.may(operation.role):
        raise Denied(f"{operation.name} needs the role {operation.role}, this token is of role {who.role}")
    answer: A
    if operation.frees:
        with ctx.store.freeing():
            answer = operation.function(ctx, who, request)
        return answer
    if operation.kind == "write":
        ctx.store.tidy_words(who.tenant_id)
        ctx.store.check_room(request)
    answer = operation.function(ctx, who, request)
    return answer
