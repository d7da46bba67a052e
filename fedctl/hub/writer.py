"""The one thread that writes: it takes whatever is waiting, commits it together, and answers after the commit.

A request that is refused takes nothing from the others, and one fsync pays for all. There is no lingering: while a
group is being committed the next one gathers by itself. Tenants take turns, and where there is more than one the
groups are small: whoever comes waits for one of them at most.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fedctl.errors import DiskFull, Failure, FedctlError, Unavailable
from fedctl.hub.coalesce import bundles, carry_out_together, undoes_all
from fedctl.hub.jobs import Budget, Job, internal
from fedctl.hub.turns import Turns
from fedctl.messages.memory import StoreAnswer
from fedctl.store.database import SpoiltError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.hub.stats import Figures
    from fedctl.log import Log
    from fedctl.operations.context import Context

GROUP_MAX_JOBS = 1000
GROUP_MAX_BYTES = 512 << 10
"""How much work (see `turns`) a group holds: enough that an fsync of some ms is a small part of it."""
SHARED_GROUP_MAX_BYTES = 32 << 10
"""The same while several tenants write: some 4 ms."""


class _GroupLostError(Exception):
    """The transaction is gone under the group: nothing of it can be committed."""

    def __init__(self, error: FedctlError) -> None:
        super().__init__(error.message)
        self.error = error


class Writer:
    """Commits jobs in groups. After a commit that failed for the disk's or the file's sake it takes no more."""

    def __init__(  # noqa: PLR0913  what it reports to
        self,
        context: Context,
        *,
        deliver: Callable[[list[Job]], None],
        committed: Callable[[], None],
        failed: Callable[[FedctlError], None],
        figures: Figures,
        log: Log,
    ) -> None:
        """Start the thread; `context` is its alone from now on, and closed by it.

        `deliver` gets the answered jobs of a group, `committed` is called after each commit, `failed` once, when
        the store can be written no longer.
        """
        self._context = context
        self._deliver = deliver
        self._committed = committed
        self._failed = failed
        self._figures = figures
        self._log = log
        self._budget = Budget()
        self._jobs = Turns(context.clock.monotonic_s)
        self._ready = threading.Condition()
        self._stopping = False
        self._broken: FedctlError | None = None
        self._thread = threading.Thread(target=self._run, name="hub-writer", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        with self._ready:
            return len(self._jobs)

    def submit(self, job: Job) -> None:
        """Queue a job; `Unavailable` when the queue is full or the writer has stopped."""
        self._budget.take(job)
        with self._ready:
            if self._stopping or self._broken is not None:
                self._budget.give_back([job])
                raise self._broken or Unavailable("the hub is stopping", hint="try again in a moment")
            self._jobs.add(job)
            self._ready.notify()

    def stop(self) -> None:
        """Let the thread end when the queue is empty."""
        with self._ready:
            self._stopping = True
            self._ready.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)
            self._deliver(group)
        self._context.close()

    def _next_group(self) -> list[Job]:
        """Wait for jobs and return what goes into one transaction; an empty list at the end."""
        with self._ready:
            while not self._jobs and not self._stopping:
                self._ready.wait()
            most_bytes = SHARED_GROUP_MAX_BYTES if self._jobs.shared else GROUP_MAX_BYTES
            group = self._jobs.group(GROUP_MAX_JOBS, most_bytes)
        self._budget.give_back(group)
        return group

    def _commit(self, group: list[Job]) -> None:
        if self._broken is not None:
            _refuse_all(group, self._broken)
            return
        began_s = self._context.clock.monotonic_s()
        try:
            for tenant_id in {job.who.tenant_id for job in group}:
                self._context.store.tidy_words(tenant_id)
            try:
                self._carry_out(group, apart=False)
            except SpoiltError:
                self._carry_out(group, apart=True)
            self._context.store.check_place()  # after the commit: acked is what is in a file that has its name
        except _GroupLostError as lost:
            self._lose(group, lost.error)
        except FedctlError as error:
            self._lose(group, error)
        except Exception as error:  # noqa: BLE001  the thread's boundary: whatever it was, nothing was committed
            self._lose(group, internal(error, "commit", self._log))
        else:
            took_s = self._context.clock.monotonic_s() - began_s
            self._figures.committed(sum(_acked(job.answer) for job in group), len(group), took_s)
            if self._log.says_verbose:
                self._log.verbose("commit.done", requests=len(group), duration_ms=took_s * 1000)
            self._committed()

    def _carry_out(self, group: list[Job], *, apart: bool) -> None:
        """Carry a group out in one transaction, each with a savepoint of its own if `apart`.

        Savepoints cost a third of it all, and few requests fail once they have begun to write: so all is tried
        without them first, and done again with them when one did.
        """
        with self._context.store.write(apart=apart, admitted=True):  # each request is asked for itself
            for bundle in bundles(group):
                for job in bundle:
                    job.answer = job.error = None
                carry_out_together(self._context, bundle, self._log)
                lost = next((job.error for job in bundle if undoes_all(job.error)), None)
                if lost is not None:
                    # SQLite may have rolled everything back by itself: what came before is not safe either.
                    raise _GroupLostError(lost)  # out of the transaction, so that it is undone
                if self._context.store.spoilt:
                    break

    def _lose(self, group: list[Job], error: FedctlError) -> None:
        """Refuse a group that was not committed. A full disk or a busy store passes; anything else is the end.

        Of a group that the disk has no room for, the parts may still fit.
        """
        if isinstance(error, DiskFull) and len(group) > 1:
            for part in (group[: len(group) // 2], group[len(group) // 2 :]):
                self._commit(part)
            return
        _refuse_all(group, error)
        self._log.basic("error.commit", error=error.message, jobs=len(group))
        if not isinstance(error, DiskFull | Unavailable):
            # After an I/O error the connection may show what never reached the disk: only a restart can tell.
            self._broken = Failure(f"the hub's store has failed: {error.message}", hint="restart the hub")
            self._failed(error)


def _refuse_all(group: list[Job], error: FedctlError) -> None:
    for job in group:
        job.answer = None
        job.error = error


def _acked(answer: object) -> int:
    return sum(1 for one in answer.results if one.ok) if isinstance(answer, StoreAnswer) else 0
