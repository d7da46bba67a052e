"""The table: each kind of request, what carries it out, how a hub runs it, and who may ask."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

from fedctl.errors import Denied, UsageError
from fedctl.messages.base import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.model.principal import Principal, Role
    from fedctl.operations.context import Context

A = TypeVar("A")
Kind = Literal["read", "write", "session"]


class Operation(NamedTuple):
    """One thing that fedctl can do.

    `kind`: a `write` is one short transaction and joins a hub's group commit; a `read` runs on a thread of its own
    (and may hold short write transactions itself); a `session` is one the hub's session layer takes part in.

    What `frees` space, or stops what takes it, is done however full the disk is; any other write is refused there.
    What `looks` changes nothing, gives nobody a key and costs little: a session that may only look is let do that.
    """

    name: str
    place: str
    """Module and name of the function. It is imported when first called: all of them together take 25 ms."""
    kind: Kind
    role: Role
    frees: bool = False
    looks: bool = False

    @property
    def function(self) -> Callable[[Context, Principal, Any], Any]:
        """What carries it out."""
        return _function(self.place)

    def refusal(self, who: Principal) -> Denied | None:
        """Return why a principal may not do this, or None when it may."""
        if not who.may(self.role):
            return Denied(f"{self.name} needs the role {self.role}, this token is of role {who.role}")
        if who.looks_only and not self.looks:
            return Denied(f"{self.name} is not for a session that may only look")
        return None


@cache
def _function(place: str) -> Callable[[Context, Principal, Any], Any]:
    module, _, name = place.partition(".")
    return cast("Callable[[Context, Principal, Any], Any]", getattr(import_module(f"fedctl.operations.{module}"), name))


class _Table(Mapping[type[Request[Any]], Operation]):
    """The operations by kind of request. Looking one up imports nothing; to list them all imports all messages."""

    def __init__(self, *operations: Operation) -> None:
        self._by_name = {one.name: one for one in operations}

    def __getitem__(self, kind: type[Request[Any]]) -> Operation:
        if not issubclass(kind, Request):
            raise KeyError(kind)
        return self._by_name[str(kind.__struct_config__.tag)]

    def __iter__(self) -> Iterator[type[Request[Any]]]:
        for column in dict.fromkeys(name.partition(".")[0] for name in self._by_name):
            import_module(f"fedctl.messages.{column}")
        kinds = {kind.__struct_config__.tag: kind for kind in Request.__subclasses__()}
        return iter([kinds[name] for name in self._by_name])

    def __len__(self) -> int:
        return len(self._by_name)


OPERATIONS = _Table(
    Operation("memory.store", "memory.store", "write", "agent"),
    Operation("memory.query", "memory.query", "read", "agent", looks=True),
    Operation("memory.get", "memory.get", "read", "agent", looks=True),
    Operation("memory.list", "memory.list_", "read", "agent", looks=True),
    Operation("memory.delete", "memory.delete", "write", "admin", frees=True),
    Operation("memory.pin", "pin.pin", "write", "agent", frees=True),
    # Not a short write: it notes what it does in a file first, and clears files away afterwards.
    Operation("memory.erase", "erasure.erase_episodes", "read", "admin", frees=True),
    Operation("memory.pull", "memory.pull", "read", "agent"),
    Operation("memory.stats", "memory.stats", "read", "agent", looks=True),
    Operation("memory.reindex", "reindex.reindex", "read", "operator"),
    Operation("memory.embed_pending", "memory.embed_pending", "read", "agent"),
    Operation("memory.embed", "memory.embed", "read", "agent"),
    Operation("agent.register", "agent.register", "write", "agent"),
    Operation("agent.report", "agent.report", "write", "agent"),
    Operation("agent.list", "agent.list_", "read", "agent", looks=True),
    Operation("agent.show", "agent.show", "read", "agent", looks=True),
    Operation("agent.stop", "agent.stop", "read", "agent"),
    Operation("agent.note", "agent.note", "write", "agent"),
    Operation("agent.timeline", "agent.timeline", "read", "agent", looks=True),
    Operation("worker.register", "worker.register", "write", "agent"),
    Operation("worker.heartbeat", "worker.heartbeat", "write", "agent"),
    Operation("worker.list", "worker.list_", "read", "agent", looks=True),
    Operation("worker.show", "worker.show", "read", "agent", looks=True),
    Operation("worker.status", "worker.set_status", "write", "agent"),
    Operation("worker.reap", "worker.reap", "write", "agent"),
    Operation("pool.push", "item.push", "write", "agent"),
    Operation("pool.claim", "item.claim", "write", "agent"),
    Operation("pool.complete", "item.complete", "write", "agent"),
    Operation("pool.fail", "item.fail", "write", "agent"),
    Operation("pool.extend", "item.extend", "write", "agent"),
    Operation("pool.release", "item.release", "write", "agent"),
    Operation("pool.release_worker", "item.release_worker", "write", "agent"),
    Operation("pool.list", "pool.list_", "read", "agent", looks=True),
    Operation("pool.show", "pool.show", "read", "agent", looks=True),
    Operation("pool.items", "pool.items", "read", "agent", looks=True),
    Operation("pool.item", "pool.item", "read", "agent", looks=True),
    Operation("pool.wait", "pool.wait", "read", "agent", looks=True),
    Operation("pool.retry", "pool.retry", "write", "agent"),
    Operation("pool.purge", "pool.purge", "write", "admin", frees=True),
    Operation("pool.pause", "pool.pause", "write", "admin", frees=True),
    Operation("retention.set", "retention.set_", "write", "admin", frees=True),
    Operation("retention.show", "retention.show", "read", "agent", looks=True),
    Operation("retention.prune", "retention.prune", "read", "admin", frees=True),
    Operation("retention.explain", "retention.explain", "read", "agent", looks=True),
    Operation("tenant.list", "tenant.list_", "read", "admin", looks=True),
    Operation("tenant.show", "tenant.show", "read", "admin", looks=True),
    Operation("tenant.set", "tenant.set_", "write", "operator"),
    Operation("tenant.erase", "erasure.erase_tenant", "read", "operator", frees=True),
    Operation("token.issue", "token.issue", "write", "admin"),
    Operation("token.list", "token.list_", "read", "admin"),
    Operation("token.revoke", "token.revoke", "write", "admin", frees=True),
    # A key is a file: it must not be made twice because a transaction was tried twice.
    Operation("token.rotate_key", "token.rotate_key", "read", "operator"),
    Operation("hub.stats", "hub.stats", "read", "operator", looks=True),
    Operation("hub.info", "hub.info", "read", "agent", looks=True),
    Operation("hub.events", "hub.events", "read", "agent", looks=True),
    Operation("hub.subscribe", "hub.subscribe", "session", "agent", looks=True),
    Operation("store.check", "store.check", "read", "operator"),
)


def request_types() -> tuple[type[Request[Any]], ...]:
    """Return every kind of request: what a socket may be asked."""
    return tuple(OPERATIONS)


def load_all() -> None:
    """Import what carries requests out: whoever lives long has it from the beginning, and all of one version.

    A package that is upgraded under a running hub is not what its later imports are to find.
    """
    for operation in OPERATIONS.values():
        _function(operation.place)


def run(ctx: Context, who: Principal, request: Request[A]) -> A:
    """Carry out a request, or raise a `FedctlError`: `Denied` when the role does not reach."""
    operation = OPERATIONS.get(type(request))
    if operation is None:
        raise UsageError(f"{type(request).__name__} is not an operation")
    refusal = operation.refusal(who)
    if refusal is not None:
        raise refusal
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
