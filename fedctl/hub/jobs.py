"""Work handed to the hub's threads, and the threads that read: each holds a connection of its own."""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from fedctl.errors import Failure, FedctlError, Unavailable
from fedctl.hub.turns import Turns
from fedctl.operations.table import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fedctl.log import Log
    from fedctl.messages.base import Request
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

QUEUE_MAX_BYTES = 64 << 20
"""Requests that wait for a thread, as they came off the sockets; more are refused as unavailable."""


class Asker(Protocol):
    """Who waits for an answer."""

    gone: bool


class Job:
    """One request under way. `done` is called on the event loop once `answer` or `error` is set."""

    __slots__ = ("answer", "asked_s", "asker", "began_s", "done", "error", "operation", "request", "size_bytes", "who")

    def __init__(  # noqa: PLR0913  what a thread needs to know
        self,
        who: Principal,
        request: Request[Any],
        *,
        operation: str,
        size_bytes: int,
        began_s: float,
        done: Callable[[Job], None],
        asker: Asker | None = None,
    ) -> None:
        self.asker = asker
        self.who = who
        self.request = request
        self.operation = operation
        self.size_bytes = size_bytes
        self.began_s = began_s
        self.asked_s = began_s
        """When it was handed over for the last time: one that waits for something is asked more than once."""
        self.done = done
        self.answer: Any = None
        self.error: FedctlError | None = None


def carry_out(context: Context, job: Job, log: Log) -> None:
    """Run a job's request and keep what came of it. Nothing but the store's own failure gets out of here."""
    try:
        job.answer = run(context, job.who, job.request)
    except FedctlError as error:
        # Its traceback leads back to the job: both would stay, with all that was sent, until Python looks for cycles.
        job.error = error.with_traceback(None)
    except Exception as error:  # noqa: BLE001  the boundary of the hub: one request's bug must not stop the others
        job.error = internal(error, job.operation, log)


def internal(error: Exception, operation: str, log: Log) -> Failure:
    """Return what a client is told of a bug; the log has the rest."""
    places = [f"{one.filename.rpartition('fedctl/')[2]}:{one.lineno} {one.name}" for one in
              traceback.extract_tb(error.__traceback__)]  # fmt: skip
    # Not its repr: that of a UnicodeEncodeError, for one, holds the whole text.
    said = f"{type(error).__name__}: {error}"
    log.basic("error.internal", operation=operation, error=said, at=places[-1] if places else None)
    log.detailed("error.trace", operation=operation, places=places)
    return Failure(f"{operation} failed inside the hub: {type(error).__name__}", hint="the hub's log says more")


class Budget:
    """How many bytes of requests wait in a queue. Safe to use from any thread.

    A tenant's part may be as large as what is then left for the others: one that floods the queue is refused while
    there is still room for everybody else (dynamic thresholds; Choudhury and Hahne, 1998).
    """

    def __init__(self, limit_bytes: int = QUEUE_MAX_BYTES) -> None:
        """Begin empty."""
        self._limit = limit_bytes
        self._used = 0
        self._parts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, job: Job) -> None:
        """Note what comes in; `Unavailable` when there is no room for it."""
        tenant_id, size_bytes = job.who.tenant_id, job.size_bytes
        with self._lock:
            if self._parts[tenant_id] + size_bytes > self._limit - self._used:
                raise Unavailable("the hub is overloaded: its queue is full", hint="try again in a moment")
            self._parts[tenant_id] += size_bytes
            self._used += size_bytes

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Note what went out."""
        with self._lock:
            for job in jobs:
                self._used -= job.size_bytes
                self._parts[job.who.tenant_id] -= job.size_bytes
                if not self._parts[job.who.tenant_id]:
                    del self._parts[job.who.tenant_id]


class Readers:
    """A few threads for requests that change nothing, or that hold their own short transactions.

    Tenants take turns, and none has all of the threads: a long question of one leaves a thread for the others.
    """

    def __init__(
        self, contexts: list[Context], deliver: Callable[[list[Job]], None], log: Log, budget: Budget | None = None
    ) -> None:
        """Start one thread a context; each context is its thread's alone from now on, and closed by it."""
        self._deliver = deliver
        self._log = log
        self._budget = budget or Budget()
        self._turns = Turns(contexts[0].clock.monotonic_s)
        self._ready = threading.Condition()
        self._stopping = False
        self._running: Counter[str] = Counter()
        self._most = max(1, len(contexts) - 1)
        self._threads = [
            threading.Thread(target=self._run, args=(context,), name=f"hub-reader-{number}", daemon=True)
            for number, context in enumerate(contexts)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        with self._ready:
            return len(self._turns)

    def submit(self, job: Job) -> None:
        """Queue a job; `Unavailable` when the queue is full."""
        self._budget.take(job)
        with self._ready:
            self._turns.add(job)
            self._ready.notify()

    def _run(self, context: Context) -> None:
        while (job := self._next()) is not None:
            self._budget.give_back([job])
            if job.asker is not None and job.asker.gone:  # nobody would read the answer, and nothing is changed by it
                job.error = Unavailable("who asked is gone")
            else:
                carry_out(context, job, self._log)
            self._ended(job)
            self._deliver([job])
        context.close()

    def _next(self) -> Job | None:
        """Wait for a job of a tenant that has a thread to spare; None at the end."""
        with self._ready:
            while (job := self._turns.one(self._may)) is None:
                if self._stopping and not self._turns:
                    return None
                self._ready.wait()
            self._running[job.who.tenant_id] += 1
            return job

    def _may(self, tenant_id: str) -> bool:
        return self._running[tenant_id] < self._most

    def _ended(self, job: Job) -> None:
        with self._ready:
            self._running[job.who.tenant_id] -= 1
            if not self._running[job.who.tenant_id]:
                del self._running[job.who.tenant_id]
            self._ready.notify_all()

    def stop(self) -> None:
        """Let the threads end when the queue is empty."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads; return whether all have ended."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)
