"""Work handed to the hub's threads, and the threads that read: each holds a connection of its own."""

from __future__ import annotations

import queue
import threading
import traceback
from typing import TYPE_CHECKING, Any

from fedctl.errors import Failure, FedctlError, Unavailable
from fedctl.operations.table import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.log import Log
    from fedctl.messages.base import Request
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

QUEUE_MAX_BYTES = 64 << 20
"""Requests that wait for a thread, as they came off the sockets; more are refused as unavailable."""


class Job:
    """One request under way. `done` is called on the event loop once `answer` or `error` is set."""

    __slots__ = ("answer", "began_s", "done", "error", "operation", "request", "size_bytes", "who")

    def __init__(  # noqa: PLR0913  what a thread needs to know
        self,
        who: Principal,
        request: Request[Any],
        *,
        operation: str,
        size_bytes: int,
        began_s: float,
        done: Callable[[Job], None],
    ) -> None:
        self.who = who
        self.request = request
        self.operation = operation
        self.size_bytes = size_bytes
        self.began_s = began_s
        self.done = done
        self.answer: Any = None
        self.error: FedctlError | None = None


def carry_out(context: Context, job: Job, log: Log) -> None:
    """Run a job's request and keep what came of it. Nothing but the store's own failure gets out of here."""
    try:
        job.answer = run(context, job.who, job.request)
    except FedctlError as error:
        job.error = error
    except Exception as error:  # noqa: BLE001  the boundary of the hub: one request's bug must not stop the others
        job.error = internal(error, job.operation, log)


def internal(error: Exception, operation: str, log: Log) -> Failure:
    """Return what a client is told of a bug; the log has the rest."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.basic("error.internal", operation=operation, error=repr(error), at=f"{place.name}:{place.lineno}")
    log.verbose("".join(traceback.format_exception(error)))
    return Failure(f"{operation} failed inside the hub: {type(error).__name__}", hint="the hub's log says more")


class Budget:
    """How many bytes of requests wait in a queue. Safe to use from any thread."""

    def __init__(self, limit_bytes: int = QUEUE_MAX_BYTES) -> None:
        """Begin empty."""
        self._limit = limit_bytes
        self._used = 0
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> None:
        """Note what comes in; `Unavailable` when there is no room for it."""
        with self._lock:
            if self._used + size_bytes > self._limit:
                raise Unavailable("the hub is overloaded: its queue is full", hint="try again in a moment")
            self._used += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Note what went out."""
        with self._lock:
            self._used -= size_bytes


class Readers:
    """A few threads for requests that change nothing, or that hold their own short transactions."""

    def __init__(
        self, contexts: list[Context], deliver: Callable[[list[Job]], None], log: Log, budget: Budget | None = None
    ) -> None:
        """Start one thread a context; each context is its thread's alone from now on, and closed by it."""
        self._deliver = deliver
        self._log = log
        self._budget = budget or Budget()
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(context,), name=f"hub-reader-{number}", daemon=True)
            for number, context in enumerate(contexts)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; `Unavailable` when the queue is full."""
        self._budget.take(job.size_bytes)
        self._queue.put(job)

    def _run(self, context: Context) -> None:
        while (job := self._queue.get()) is not None:
            self._budget.give_back(job.size_bytes)
            carry_out(context, job, self._log)
            self._deliver([job])
        context.close()

    def stop(self) -> None:
        """Let the threads end when the queue is empty."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads; return whether all have ended."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)
