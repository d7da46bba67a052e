"""Workers and pools of work for Python programs, under the names that FlatAgents 0.9 gives them.

    registration = create_registration_backend("sqlite", db_path="workers.sqlite")
    pool = create_work_backend("sqlite", db_path="workers.sqlite").pool("papers")
    await pool.push({"url": url}, {"max_retries": 5})
    item = await pool.claim("worker-1")
    await pool.complete(item.id, {"pages": 12})

Names, fields, defaults and the order of arguments are those of its Python reference; what its specification says
(`flatagents-runtime.d.ts`) holds where the two differ: a done item keeps its result and a failed one its error, a
filter takes a list of statuses, capabilities are compared exactly, and nobody claims what another has.

Beyond it stand a few things at the end: `pool_id` and `heartbeat_interval` of a worker, `stale` of a filter, `result`
and `error` of an item, `get` of a pool, `wait` of a claim. And these are ours:

- Unknown ids are a `KeyError`. What cannot be (a name with a slash, data over 1 MiB) is a `fedctl.errors.UsageError`.
- A claim holds a lease for `lease_s` seconds. The calls carry no lease, so it is kept here, in the process that
  claimed. Whoever comes too late, or is not the process that claimed, is refused with `fedctl.errors.Conflict`.
- A worker that is set to `lost` or `terminated` gives back what it holds; of a terminated one neither a heartbeat nor
  another status is taken (`Conflict`): it registers again. Backends on one `db_path` share workers and items, with
  each other and with other processes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, runtime_checkable

from fedctl import bootstrap
from fedctl.client.local import WAIT_POLL_S, LocalCaller
from fedctl.clock import Clock
from fedctl.errors import NotFound, from_code
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.model.limits import check_name
from fedctl.model.pool import MAX_RETRIES, Completion, Item, ItemDraft, ItemFailure, Lease
from fedctl.model.principal import Principal
from fedctl.model.time import to_rfc3339
from fedctl.model.worker import HEARTBEAT_INTERVAL_MS, Worker, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.messages.base import Request
    from fedctl.operations.context import Context

__all__ = [
    "MemoryRegistrationBackend",
    "MemoryWorkBackend",
    "RegistrationBackend",
    "SQLiteRegistrationBackend",
    "SQLiteWorkBackend",
    "WorkBackend",
    "WorkItem",
    "WorkPool",
    "WorkerFilter",
    "WorkerRecord",
    "WorkerRegistration",
    "create_registration_backend",
    "create_work_backend",
]

DB_PATH = "workers.sqlite"
LEASE_S = 3600.0
"""How long a claimed item is its worker's, unless said otherwise. Longer than a job lasts: these calls extend none."""
LEASES_MAX = 1 << 16
"""How many leases a process remembers of one store: some 15 MB. The finished are forgotten first, then the oldest."""

R = TypeVar("R")
A = TypeVar("A")


# -- what goes in and out ------------------------------------------------------------------------------------------


def _now() -> str:
    return to_rfc3339(Clock().now_ms())


@dataclass
class WorkerRegistration:
    """What a worker says of itself. `heartbeat_interval` is in seconds: silent for twice as long, it is stale."""

    worker_id: str
    host: str | None = None
    pid: int | None = None
    capabilities: list[str] | None = None
    started_at: str = field(default_factory=_now)
    pool_id: str | None = None
    heartbeat_interval: float = HEARTBEAT_INTERVAL_MS / 1000

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass
class WorkerRecord:
    """A worker as the registry knows it. `status`: active, terminating, terminated, lost. Times are RFC 3339 UTC."""

    worker_id: str
    status: str
    last_heartbeat: str
    host: str | None = None
    pid: int | None = None
    capabilities: list[str] | None = None
    started_at: str | None = None
    current_task_id: str | None = None
    metadata: dict[str, Any] | None = None
    pool_id: str | None = None
    heartbeat_interval: float = HEARTBEAT_INTERVAL_MS / 1000

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> WorkerRecord:
        """Return the record of such fields."""
        return cls(**data)


@dataclass
class WorkerFilter:
    """Every condition that is given must hold.

    `status` is one or a list of them. `stale` finds those that were silent for twice their own interval,
    `stale_threshold_seconds` those silent for longer than that; neither finds a terminated one.
    """

    status: str | list[str] | None = None
    capability: str | None = None
    stale_threshold_seconds: float | None = None
    pool_id: str | None = None
    stale: bool = False


@dataclass
class WorkItem:
    """An item of a pool. `status`: pending, claimed, done, poisoned. `attempts` counts claims. Times as above."""

    id: str
    data: Any
    claimed_by: str | None = None
    attempts: int = 0
    max_retries: int = MAX_RETRIES
    status: str = "pending"
    created_at: str = field(default_factory=_now)
    claimed_at: str | None = None
    result: Any = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@runtime_checkable
class RegistrationBackend(Protocol):
    """The registry of workers."""

    async def register(self, worker: WorkerRegistration) -> WorkerRecord:
        """Enter a worker, active; a name that is there already begins anew and gives back what it held."""
        ...

    async def heartbeat(self, worker_id: str, metadata: dict[str, Any] | None = None) -> None:
        """Note that a worker is alive; merge its metadata. `KeyError` for an unknown one."""
        ...

    async def update_status(self, worker_id: str, status: str) -> None:
        """Set a worker's status. `KeyError` for an unknown one, `ValueError` for what is no status."""
        ...

    async def get(self, worker_id: str) -> WorkerRecord | None:
        """Return a worker, or None."""
        ...

    async def list(self, filter: WorkerFilter | None = None) -> list[WorkerRecord]:  # noqa: A002  the name it has there
        """Return the workers that a filter lets through, newest first."""
        ...


@runtime_checkable
class WorkPool(Protocol):
    """A named pool of work."""

    async def push(self, item: Any, options: dict[str, Any] | None = None) -> str:
        """Put an item in: any JSON value. Return its id. The one option is `max_retries`, 3 if it is not given."""
        ...

    async def claim(self, worker_id: str) -> WorkItem | None:
        """Take the next item, or None where there is none. Nobody else gets it while the lease lasts."""
        ...

    async def complete(self, item_id: str, result: Any = None) -> None:
        """Finish a claimed item. `KeyError` for an unknown one, `Conflict` where the lease is lost."""
        ...

    async def fail(self, item_id: str, error: str | None = None) -> None:
        """Give a claimed item back, or poison it after its last attempt. Errors as of `complete`."""
        ...

    async def size(self) -> int:
        """Return how many items nobody holds that are not finished."""
        ...

    async def release_by_worker(self, worker_id: str) -> int:
        """Give back what a worker holds of this pool, uncounted as an attempt; return how many."""
        ...


@runtime_checkable
class WorkBackend(Protocol):
    """Pools by name."""

    def pool(self, name: str) -> WorkPool:
        """Return the pool of that name; it comes into being with its first item."""
        ...


# -- the store behind them -----------------------------------------------------------------------------------------


class _Leases:
    """Item -> (pool, lease) of what this process has claimed. Safe to use from any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, item: Item) -> None:
        with self._lock:
            self._known[item.id] = (item.pool, item.lease_id or "")
            self._known.move_to_end(item.id)
            while len(self._known) > LEASES_MAX:
                self._known.popitem(last=False)

    def get(self, item_id: str) -> tuple[str, str] | None:
        with self._lock:
            return self._known.get(item_id)

    def ended(self, item_id: str) -> None:
        """Keep it, so that a repeated call is answered as the first one was; but forget it before all others."""
        with self._lock:
            if item_id in self._known:
                self._known.move_to_end(item_id, last=False)


_leases_by_path: dict[Path, _Leases] = {}
"""A process is one claimer, however many backends it opens on a file."""


class _Desk:
    """One store and the one thread that asks it, off the event loop: any number of coroutines may wait in line."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.leases = _Leases() if path is None else _leases_by_path.setdefault(path.resolve(), _Leases())
        self._parents: list[Context] = []
        self._open(None)

    def _open(self, context: Context | None) -> None:
        self._pid = os.getpid()
        self._context = context or bootstrap.open_work(self._path)
        self._caller = LocalCaller(self._context, Principal(tenant_id="default", role="owner"))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fedctl-backend")

    async def ask(self, request: Request[A]) -> A:
        return await self.run(lambda: self._caller.call(request))

    async def run(self, work: Callable[[], R], undo: Callable[[R], Any] | None = None) -> R:
        """Do something on the thread; what is done for a coroutine that was cancelled meanwhile is undone."""
        if self._pid != os.getpid():
            self._after_fork()
        results: list[R] = []

        def noted() -> R:
            results.append(work())
            return results[0]

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, noted)
        except asyncio.CancelledError:
            if undo is not None:  # the thread does one thing after the other: by then it is known whether it was done
                self._thread.submit(lambda: [undo(result) for result in results])
            raise

    def _after_fork(self) -> None:
        """Begin anew in a process that was forked: it has no such thread, and no right to the parent's connection."""
        self._parents.append(self._context)  # not to be closed here either
        self._open(None if self._path is not None else self._context)

    async def news(self) -> tuple[int, int]:
        """Return what changes whenever somebody has committed: another connection, or this one."""
        store = self._context.store
        return await self.run(lambda: (store.data_version(), store.database.total_changes()))

    def call_now(self, request: Request[A]) -> A:
        """Ask on the thread that runs this."""
        return self._caller.call(request)

    def close(self) -> None:
        self._thread.submit(self._context.close)
        self._thread.shutdown()


# -- workers -----------------------------------------------------------------------------------------------------


class _Registration:
    """The registry of one store."""

    def __init__(self, path: Path | None) -> None:
        self._desk = _Desk(path)

    async def register(self, worker: WorkerRegistration) -> WorkerRecord:
        """Enter a worker, active; a name that is there already begins anew and gives back what it held."""
        request = w.RegisterWorker(
            id=worker.worker_id,
            host=worker.host,
            pid=worker.pid,
            capabilities=worker.capabilities or [],
            pool=worker.pool_id,
            heartbeat_interval_ms=round(worker.heartbeat_interval * 1000),
            started_at=worker.started_at,
        )
        return _record((await self._desk.ask(request)).worker)

    async def heartbeat(self, worker_id: str, metadata: dict[str, Any] | None = None) -> None:
        """Note that a worker is alive; merge its metadata, in which null removes a key.

        Raises:
            KeyError: There is no such worker.
            Conflict: It is terminated.
        """
        await self._of(worker_id, w.BeatWorker(id=worker_id, metadata=metadata or {}))

    async def update_status(self, worker_id: str, status: str) -> None:
        """Set a worker's status; a lost or terminated one gives back what it holds.

        Raises:
            KeyError: There is no such worker.
            ValueError: There is no such status.
            Conflict: It is terminated.
        """
        known = get_args(WorkerStatus)
        if status not in known:
            msg = f"{status!r} is no status of a worker: {', '.join(known)}"
            raise ValueError(msg)
        await self._of(worker_id, w.SetWorkerStatus(id=worker_id, status=status))  # type: ignore[arg-type]

    async def get(self, worker_id: str) -> WorkerRecord | None:
        """Return a worker, or None."""
        try:
            return _record((await self._desk.ask(w.GetWorker(id=worker_id))).worker)
        except NotFound:
            return None

    async def list(self, filter: WorkerFilter | None = None) -> list[WorkerRecord]:  # noqa: A002  the name it has there
        """Return the workers that a filter lets through, newest first, 10,000 at most."""
        asked = filter or WorkerFilter()
        status, silent_s = asked.status, asked.stale_threshold_seconds
        request = w.ListWorkers(
            statuses=[] if status is None else [status] if isinstance(status, str) else status,  # type: ignore[list-item,arg-type]
            capability=asked.capability,
            pool=asked.pool_id,
            stale=asked.stale,
            silent_ms=None if silent_s is None else round(silent_s * 1000),
            limit=10_000,
        )
        if status is not None and not request.statuses:
            return []
        return [_record(one) for one in (await self._desk.ask(request)).workers]

    async def _of(self, worker_id: str, request: Request[Any]) -> None:
        try:
            await self._desk.ask(request)
        except NotFound as error:
            raise KeyError(worker_id) from error

    def close(self) -> None:
        """Close the store. Without it, that happens when the backend is collected."""
        self._desk.close()


class MemoryRegistrationBackend(_Registration):
    """A registry that lives and dies with the process."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__(None)


class SQLiteRegistrationBackend(_Registration):
    """The registry of a file, which any number of processes share."""

    def __init__(self, db_path: str | Path = DB_PATH) -> None:
        """Open the file; it is made where it is not there."""
        self.db_path = Path(db_path)
        super().__init__(self.db_path)


def _record(worker: Worker) -> WorkerRecord:
    return WorkerRecord(
        worker_id=worker.worker_id,
        status=worker.status,
        last_heartbeat=worker.last_heartbeat,
        host=worker.host,
        pid=worker.pid,
        capabilities=worker.capabilities or None,
        started_at=worker.started_at,
        current_task_id=worker.current_task_id,
        metadata=worker.metadata or None,
        pool_id=worker.pool_id,
        heartbeat_interval=worker.heartbeat_interval_s,
    )


# -- work --------------------------------------------------------------------------------------------------------


class _Pool:
    """One pool of a store."""

    def __init__(self, name: str, desk: _Desk, lease_s: float) -> None:
        self.name = check_name("pool", name)
        self._desk = desk
        self._lease_ms = round(lease_s * 1000)
        self._clock = Clock()

    async def push(self, item: Any, options: dict[str, Any] | None = None) -> str:
        """Put an item in: any JSON value. Return its id. The one option is `max_retries`, 3 if it is not given."""
        given = options or {}
        if given.keys() - {"max_retries"}:
            msg = f"unknown options: {', '.join(sorted(given.keys() - {'max_retries'}))}; there is max_retries"
            raise ValueError(msg)
        draft = ItemDraft(id=self._clock.new_id(), data=item, max_retries=given.get("max_retries", MAX_RETRIES))
        answer = await self._desk.ask(p.PushItems(pool=self.name, items=[draft]))
        return _only(answer).id

    async def claim(self, worker_id: str, *, wait: float = 0.0) -> WorkItem | None:
        """Take the next item that the worker can do, or None; with `wait`, only after so many seconds without any.

        What was claimed for a coroutine that is cancelled meanwhile is given back.
        """
        deadline_s = self._clock.monotonic_s() + wait
        while True:
            seen = await self._desk.news() if wait else None
            answer = await self._desk.run(lambda: self._claim(worker_id), self._give_back)
            if answer.items:
                return _work_item(answer.items[0])
            due_s = deadline_s
            if answer.next_ms is not None:
                due_s = min(due_s, self._clock.monotonic_s() + answer.next_ms / 1000)
            if not await self._wait(seen, due_s) and self._clock.monotonic_s() >= deadline_s:
                return None

    async def _wait(self, seen: tuple[int, int] | None, due_s: float) -> bool:
        while (left_s := due_s - self._clock.monotonic_s()) > 0:
            await asyncio.sleep(min(WAIT_POLL_S, left_s))
            if await self._desk.news() != seen:
                return True
        return False

    def _claim(self, worker_id: str) -> p.ClaimAnswer:
        answer = self._desk.call_now(p.ClaimItems(pool=self.name, worker_id=worker_id, lease_ms=self._lease_ms))
        for item in answer.items:
            self._desk.leases.note(item)
        return answer

    def _give_back(self, answer: p.ClaimAnswer) -> None:
        if answer.items:
            leases = [Lease(id=one.id, lease_id=one.lease_id or "") for one in answer.items]
            self._desk.call_now(p.ReleaseItems(leases=leases))

    async def complete(self, item_id: str, result: Any = None) -> None:
        """Finish a claimed item; the same again is accepted.

        Raises:
            KeyError: The pool has no such item.
            Conflict: The lease is lost, this process never had it, or it was completed with another result.
        """
        lease_id = await self._lease_of(item_id)
        await self._end(
            item_id, p.CompleteItems(completions=[Completion(id=item_id, lease_id=lease_id, result=result)])
        )

    async def fail(self, item_id: str, error: str | None = None) -> None:
        """Give a claimed item back, or poison it after its last attempt; the error is kept.

        Raises:
            KeyError: The pool has no such item.
            Conflict: The lease is lost, or this process never had it.
        """
        lease_id = await self._lease_of(item_id)
        text = None if error is None else str(error)
        await self._end(item_id, p.FailItems(failures=[ItemFailure(id=item_id, lease_id=lease_id, error=text)]))

    async def _lease_of(self, item_id: str) -> str:
        """Return the lease that this process has on an item; an empty one, which no item has, if it has none."""
        pool, lease_id = self._desk.leases.get(item_id) or (None, "")
        if pool is None:
            try:
                pool = (await self._desk.ask(p.GetItem(id=item_id))).item.pool
            except NotFound as error:
                raise KeyError(item_id) from error
        if pool != self.name:
            raise KeyError(item_id)
        return lease_id

    async def _end(self, item_id: str, request: p.CompleteItems | p.FailItems) -> None:
        try:
            _only(await self._desk.ask(request))
        except NotFound as error:  # it was purged since
            raise KeyError(item_id) from error
        self._desk.leases.ended(item_id)

    async def size(self) -> int:
        """Return how many items nobody holds that are not finished."""
        figures = (await self._desk.ask(p.GetPool(name=self.name))).pool
        return figures.pending + figures.delayed

    async def release_by_worker(self, worker_id: str) -> int:
        """Give back what a worker holds of this pool, uncounted as an attempt; return how many."""
        return len((await self._desk.ask(p.ReleaseWorker(worker_id=worker_id, pool=self.name))).results)

    async def get(self, item_id: str) -> WorkItem | None:
        """Return an item of this pool, with its result or its last error; or None."""
        try:
            item = (await self._desk.ask(p.GetItem(id=item_id))).item
        except NotFound:
            return None
        return _work_item(item) if item.pool == self.name else None


class _Work:
    """The pools of one store."""

    def __init__(self, path: Path | None, lease_s: float) -> None:
        self._desk = _Desk(path)
        self._lease_s = lease_s
        self._pools: dict[str, _Pool] = {}

    def pool(self, name: str) -> _Pool:
        """Return the pool of that name; it comes into being with its first item."""
        if name not in self._pools:
            self._pools[name] = _Pool(name, self._desk, self._lease_s)
        return self._pools[name]

    def close(self) -> None:
        """Close the store. Without it, that happens when the backend is collected."""
        self._desk.close()


class MemoryWorkBackend(_Work):
    """Pools that live and die with the process."""

    def __init__(self, *, lease_s: float = LEASE_S) -> None:
        """Begin empty."""
        super().__init__(None, lease_s)


class SQLiteWorkBackend(_Work):
    """The pools of a file, which any number of processes share."""

    def __init__(self, db_path: str | Path = DB_PATH, *, lease_s: float = LEASE_S) -> None:
        """Open the file; it is made where it is not there."""
        self.db_path = Path(db_path)
        super().__init__(self.db_path, lease_s)


def _only(answer: p.ItemResults) -> p.ItemResult:
    (result,) = answer.results
    if result.error is not None:
        error = result.error
        raise from_code(error["code"], error["message"], hint=error["hint"], details=error["details"])
    return result


def _work_item(item: Item) -> WorkItem:
    return WorkItem(
        id=item.id,
        data=item.data,
        claimed_by=item.claimed_by,
        attempts=item.attempts,
        max_retries=item.max_retries,
        status=item.status,
        created_at=item.created_at,
        claimed_at=item.claimed_at,
        result=item.result,
        error=item.error,
    )


# -- by kind -----------------------------------------------------------------------------------------------------


def create_registration_backend(backend_type: str = "memory", **options: Any) -> RegistrationBackend:
    """Return a registry of a kind: `memory`, or `sqlite` with the option `db_path`. `ValueError` for any other."""
    if _known(backend_type, options, ()) == "memory":
        return MemoryRegistrationBackend()
    return SQLiteRegistrationBackend(**options)


def create_work_backend(backend_type: str = "memory", **options: Any) -> WorkBackend:
    """Return pools of a kind: `memory`, or `sqlite` with the option `db_path`; both take `lease_s`.

    `ValueError` for any other kind or option.
    """
    if _known(backend_type, options, ("lease_s",)) == "memory":
        return MemoryWorkBackend(**options)
    return SQLiteWorkBackend(**options)


def _known(backend_type: str, options: dict[str, Any], common: tuple[str, ...]) -> str:
    """Return the kind, if there is one of that name and it has such options."""
    known = {"memory": common, "sqlite": ("db_path", *common)}
    if backend_type not in known:
        if backend_type in ("redis", "postgres"):
            msg = f"there is no {backend_type} backend: use sqlite on one machine, over several `fedctl pool --hub`"
        else:
            msg = f"{backend_type!r} is no kind of backend: there are memory and sqlite"
        raise ValueError(msg)
    if strange := sorted(options.keys() - set(known[backend_type])):
        has = ", ".join(known[backend_type]) or "none"
        msg = f"the kind {backend_type} has no option {', '.join(strange)}: its options are {has}"
        if backend_type == "memory" and "db_path" in strange:
            msg += "; the kind with a file is sqlite"
        raise ValueError(msg)
    return backend_type
