"""The worker loop: claims items, runs a command for each, reports what came of it.

One event loop decides everything. What may wait has a thread of its own (`Line`): a claim that waits for an item,
the reports, and what says that this worker is alive. So a waiting claim never keeps a result or a lease waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.client.unused import unused_among
from fedctl.client.waiting import AWAY, Backoff
from fedctl.errors import Conflict, Denied, DiskFull, Empty, Failure, FedctlError, Partial, UsageError
from fedctl.log import Log
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.model.limits import NAME_MAX_CHARACTERS
from fedctl.model.worker import HEARTBEAT_INTERVAL_MS
from fedctl.work import verdict
from fedctl.work.arguments import Arguments
from fedctl.work.line import Line
from fedctl.work.notes import Notes
from fedctl.work.plan import Ending, Figures, Finished, Reason, Surroundings, WorkPlan
from fedctl.work.process import Execution, Guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.model.pool import Item, Pool
    from fedctl.work.verdict import Report

Tells = p.CompleteItems | p.FailItems | p.ReleaseItems
PAUSE_MOST_S = 30.0
WAIT_MS = 10_000
"""How long one claim waits; who works until the pool is empty looks more often whether it is."""
WAIT_TO_THE_END_MS = 500
PROGRESS_EVERY_S = 0.5
_GOODBYE_S = 5.0


class _Attempt:
    """An item in our hands."""

    def __init__(self, item: Item, execution: Execution, lease_s: float) -> None:
        self.item = item
        self.execution = execution
        self.lost = False
        self.reporting = False
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._expiry = self._loop.call_later(lease_s, self.lose)

    @property
    def duration_ms(self) -> int:
        return round((self._loop.time() - self._began_s) * 1000)

    def held_until(self, until_s: float) -> None:
        """Note how long the lease lasts; when it is over and nobody has renewed it, it is lost."""
        self._expiry.cancel()
        self._expiry = self._loop.call_at(until_s, self.lose)

    def lose(self) -> None:
        self.lost = True
        self.execution.end("lost")

    def let_go(self) -> None:
        self._expiry.cancel()


def new_worker_id() -> str:
    """Return a name that no other run has: host, process, and a random part, for containers share both."""
    host = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "-" for one in socket.gethostname())
    ending = f"{os.getpid()}-{os.urandom(3).hex()}"
    return f"{host.lstrip('.-')[: NAME_MAX_CHARACTERS - len(ending) - 1] or 'worker'}-{ending}"


class WorkLoop:
    """One run of `pool work`, on one event loop."""

    def __init__(self, plan: WorkPlan, around: Surroundings) -> None:
        """Keep the plan; nothing is asked before `run`."""
        self._plan = plan
        self._around = around
        self._log = around.log or Log.silent()
        self._arguments = Arguments(plan.command)
        self._worker_id = plan.worker_id or new_worker_id()
        self._claims, self._reports, self._signs = (
            Line(around.open_caller, name) for name in ("claims", "reports", "signs")
        )
        self._entrance = Line(around.open_first or around.open_caller, "entrance")
        self._voice = ThreadPoolExecutor(1, thread_name_prefix="fedctl-work-voice")
        self._pen = ThreadPoolExecutor(1, thread_name_prefix="fedctl-work-pen")
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._environment: dict[str, str] = {}
        self._guard: Guard
        self._incarnation = 0
        self._claiming = True
        self._left = 1 if plan.once else plan.max_items
        self._reason: Reason = "enough"
        self.error: Exception | None = None
        self._signal: signal.Signals | None = None
        self._signals = 0
        self._hurried = False  # what does not come about at once does not come about
        self._stop = asyncio.Event()
        self._stirred = asyncio.Event()
        self._asked: asyncio.Task[list[Item]] | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self._aside: set[asyncio.Task[None]] = set()
        self._held: set[_Attempt] = set()
        self._dry = False  # the last claim found nothing
        self._empties = 0  # claims that found nothing though they waited, one after the other
        self._passed_over: int | None = None  # how many those were when something was pending all the same
        self._known_pool = False
        self._unheard: list[str] = []
        self._notes = Notes(self._note)
        self._counts: dict[str, int] = dict.fromkeys(("done", "failed", "poisoned", "released", "lost"), 0)
        self._failing: set[str] = set()
        self._pauses = 0

    # -- the run ---------------------------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Work until there is a reason to stop; where that was an error, `error` has it.

        Raises:
            UsageError: There is no such command; nothing was claimed.
            FedctlError: Nobody can be asked; likewise.
        """
        self._check_program()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._heard_signal, number)
        try:
            if await self._entered():
                await self._work()
            return self._ending()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.remove_signal_handler(number)
            for line, within_s in ((self._reports, _GOODBYE_S), (self._signs, 1.0), (self._claims, 1.0)):
                await line.close(within_s)
            for thread in (self._voice, self._pen):  # the last words
                await asyncio.wait({self._loop.run_in_executor(thread, int)}, timeout=_GOODBYE_S)
                thread.shutdown(wait=False)

    async def _work(self) -> None:
        self._guard = Guard(self._plan.grace_ms / 1000)
        self._log.basic("work.started", pool=self._plan.pool, worker=self._worker_id, jobs=self._plan.jobs)
        signs = [asyncio.create_task(one) for one in (self._keep_leases(), self._keep_beating(), self._show())]
        try:
            await self._hand_out()
        except Exception as error:  # noqa: BLE001  whoever asked for this run hears of it when everything is tidy
            self._give_up(error)
        finally:
            await self._until_idle()
            for sign in signs:
                sign.cancel()
            await asyncio.gather(*signs, return_exceptions=True)
            await self._leave()
            self._log.basic("work.ended", pool=self._plan.pool, worker=self._worker_id, **self._counts)
            self._guard.close()
            self._notes.end()

    def _check_program(self) -> None:
        """Say that there is no such program before an item was claimed for it."""
        program = self._arguments.program
        if program is not None and shutil.which(program, path=self._around.environment.get("PATH")) is None:
            if os.sep in program and os.path.exists(program):  # noqa: PTH110  as the system will see it
                raise Denied(f"cannot run {program!r}: it is no program, or may not be run", hint="check the name")
            raise UsageError(f"cannot run {program!r}: there is no such program", hint="check the name after --")

    async def _entered(self) -> bool:
        """Register; False when we were told to stop before anybody answered."""
        registering = asyncio.create_task(self._register())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({registering, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not registering.done():
                registering.cancel()
                return False
            await registering
            return True
        finally:
            await self._entrance.close(1.0)

    async def _register(self) -> None:
        worker = (
            await self._entrance.call(
                w.RegisterWorker(
                    id=self._worker_id,
                    host=socket.gethostname() or None,
                    pid=os.getpid(),
                    capabilities=self._plan.capabilities,
                    pool=self._plan.pool,
                    heartbeat_interval_ms=self._beat_ms,
                    metadata={"command": os.path.basename(self._plan.command[0])},  # noqa: PTH119  no path on disk
                )
            )
        ).worker
        self._incarnation = worker.incarnation
        self._environment = {
            **self._around.environment,
            "FEDCTL_TENANT": worker.tenant_id,
            "FEDCTL_POOL": self._plan.pool,
            "FEDCTL_WORKER": self._worker_id,
        }

    @property
    def _beat_ms(self) -> int:
        return min(HEARTBEAT_INTERVAL_MS, max(1_000, self._plan.lease_ms))

    async def _leave(self) -> None:
        """Say goodbye: whatever is still held in our name is given back."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                # The name may be somebody else's by now, and then what it holds is not ours to give back.
                await self._reports.call(w.BeatWorker(id=self._worker_id, incarnation=self._incarnation))
                made_up = self._plan.worker_id is None
                await self._reports.call(w.SetWorkerStatus(id=self._worker_id, status="terminated", forget=made_up))
        except (TimeoutError, DiskFull, *AWAY):
            self._note("nobody could be told that this worker has ended: what it held comes back by its leases' end")
        except FedctlError:
            return  # terminated already, or another's

    def _ending(self) -> Ending:
        code = Partial.exit if self._failing else 0
        if self._plan.once and not any(self._counts.values()):
            code = Empty.exit
        if self._signal is not None:
            code = verdict.SIGNALLED + self._signal
        if self.error is not None:
            code = self.error.exit if isinstance(self.error, FedctlError) else Failure.exit
        return Ending(
            pool=self._plan.pool,
            worker_id=self._worker_id,
            reason=self._reason if self.error is None else "error",
            exit=code,
            **self._counts,
            duration_ms=round((self._loop.time() - self._began_s) * 1000),
        )

    # -- stopping --------------------------------------------------------------------------------------------------

    def _heard_signal(self, number: signal.Signals) -> None:
        """Stop claiming; commands may end by themselves within the grace period. Each further signal is less patient.

        The second asks the commands to end now, the third kills them.
        """
        self._signals += 1
        if self._signals == 1:
            self._signal = number
            self._reason = "signal"
            self._stop_claiming()
            self._stop.set()
            self._loop.call_later(self._plan.grace_ms / 1000, self._end_all)
            if self._held:
                self._note(f"{len(self._held)} running: they have {self._plan.grace_ms / 1000:g} s to end")
        elif self._signals == 2:  # noqa: PLR2004
            self._end_all()
        else:
            for attempt in self._held:
                attempt.execution.kill()

    def _end_all(self) -> None:
        self._hurried = True
        for attempt in self._held:
            attempt.execution.end("stopped")

    def _stop_claiming(self) -> None:
        """Claim nothing more; the claim that is waiting is refused, for who is terminating claims nothing."""
        if self._claiming:
            self._claiming = False
            self._stirred.set()
            if self._reason != "dismissed":
                task = asyncio.create_task(self._say_terminating())
                self._aside.add(task)
                task.add_done_callback(self._aside.discard)

    async def _say_terminating(self) -> None:
        with contextlib.suppress(FedctlError):
            await self._reports.call(w.BeatWorker(id=self._worker_id, incarnation=self._incarnation))
            await self._reports.call(w.SetWorkerStatus(id=self._worker_id, status="terminating"))

    def _give_up(self, error: Exception) -> None:
        """End the run because of an error: commands are ended at once, and their items given back if that can be."""
        self.error = self.error or error
        self._stop_claiming()
        self._stop.set()
        self._end_all()

    async def _until_idle(self) -> None:
        while self._busy:
            await asyncio.wait(set(self._busy))
        while self._aside:
            await asyncio.wait(set(self._aside))

    # -- handing out -----------------------------------------------------------------------------------------------

    async def _hand_out(self) -> None:
        """Claim for whoever is idle, until there is nothing more to do."""
        while True:
            self._stirred.clear()
            if self._asked is not None and self._asked.done():
                asked, self._asked = self._asked, None
                self._begin(asked.result())
            if not self._busy and await self._over():
                break
            room = self._reserve(self._plan.jobs - len(self._busy)) if self._claiming and self._asked is None else 0
            if room:
                self._asked = asyncio.create_task(self._claim(room))
            stirred = asyncio.create_task(self._stirred.wait())
            waiting: set[asyncio.Task[Any]] = {stirred} if self._asked is None else {stirred, self._asked}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            stirred.cancel()
        if self._asked is not None:
            self._asked.cancel()  # what it may still get is given back with all that is held in our name

    def _reserve(self, count: int) -> int:
        """Return how many of so many items may still be claimed, and count them as such."""
        count = count if self._left is None else min(count, self._left)
        if self._left is not None:
            self._left -= count
        return count

    def _unreserve(self, count: int) -> None:
        if self._left is not None:
            self._left += count

    async def _over(self) -> bool:
        """Return whether there is nothing more to do, when nothing is in our hands."""
        if not self._claiming or (self._left == 0 and self._asked is None):
            return True
        if not (self._plan.until_empty and self._dry):
            return False
        try:
            pool = (await self._reports.call(p.GetPool(name=self._plan.pool))).pool
        except AWAY:
            return False
        if not pool.pending:
            self._passed_over = None
        elif self._empties:
            self._note_waiting(pool)
        # What is claimed may be so by the claim under way: then its answer comes first.
        if pool.pending or pool.delayed or (pool.claimed and self._asked is not None):
            return False
        self._reason = "empty"
        return True

    def _note_waiting(self, pool: Pool) -> None:
        """Say why nothing is claimed of what is pending; that it is not for us once a claim has passed it over."""
        if pool.paused:
            self._notes.once(f"the pool {pool.name} is paused: waiting for it to be resumed")
        elif self._passed_over is None:
            self._passed_over = self._empties  # it may have come after the claim
        elif self._empties > self._passed_over:
            self._notes.once(
                f"{pool.pending} pending in {pool.name} are not for this worker: it lacks what they require"
            )

    async def _note_unused(self) -> None:
        """Say once that nobody ever used this pool: its name may be mistyped."""
        if not self._known_pool:
            self._known_pool = True
            with contextlib.suppress(FedctlError):
                names = [one.name for one in (await self._reports.call(p.ListPools())).pools]
                if note := unused_among(names, self._plan.pool):
                    self._note(note)

    def _claim_of(self, count: int, wait_ms: int = 0) -> p.ClaimItems:
        return p.ClaimItems(
            pool=self._plan.pool,
            worker_id=self._worker_id,
            count=count,
            lease_ms=self._plan.lease_ms,
            wait_ms=wait_ms,
            lease_id=os.urandom(16).hex(),
        )

    async def _claim(self, count: int) -> list[Item]:
        """Claim up to so many items, which were reserved; wait for them unless that would be for nothing."""
        patience_s = self._plan.lease_ms / 1000 if self._plan.ends else math.inf
        backoff = Backoff()
        items: list[Item] = []
        while self._claiming:
            request = self._claim_of(count, self._wait_ms)
            try:
                items = (await self._claims.call(request)).items
            except AWAY as error:
                self._unheard.append(str(request.lease_id))
                if self._plan.once or backoff.waited_s > patience_s:
                    raise
                self._notes.once(f"{error.message}; trying again")
                await self._pause(backoff.next_s())
                continue
            except Conflict:
                await self._beat()  # it knows why: whoever is told to leave claims nothing
            else:
                self._dry = not items
                self._empties = 0 if items or not request.wait_ms else self._empties + 1
                if not self._empties:
                    self._passed_over = None
                if not items:
                    await self._note_unused()
                await self._release_unheard()
            break
        if self._plan.once and not items:
            self._claiming = False
        self._unreserve(count - len(items))
        return items

    @property
    def _wait_ms(self) -> int:
        if self._plan.once or (self._plan.until_empty and not self._dry):
            return 0
        return WAIT_TO_THE_END_MS if self._plan.until_empty else WAIT_MS

    async def _release_unheard(self) -> None:
        """Give back what was claimed by requests whose answers were lost."""
        while self._unheard:
            lease_id = self._unheard.pop()
            try:
                await self._reports.call(p.ReleaseWorker(worker_id=self._worker_id, lease_id=lease_id))
            except AWAY:
                self._unheard.append(lease_id)
                return

    # -- one item --------------------------------------------------------------------------------------------------

    def _begin(self, items: Sequence[Item]) -> None:
        for item in items:
            self._trace("claimed", item)
            task = asyncio.create_task(self._serve(item))
            self._busy.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._stirred.set()

    async def _serve(self, item: Item) -> None:
        """Take care of an item, and of those that are claimed along with each one's end."""
        following: Item | None = item
        try:
            while following is not None:
                following = await self._attend(following)
        except Exception as error:  # noqa: BLE001  it ends the run, which raises it
            self._give_up(error)

    async def _attend(self, item: Item) -> Item | None:
        grace_s = self._plan.grace_ms / 1000
        execution = Execution(grace_s=grace_s, hear=self._hear, by_line=self._plan.jobs > 1, guard=self._guard)
        attempt = _Attempt(item, execution, self._plan.lease_ms / 1000)
        self._held.add(attempt)
        self._trace("running", item)
        try:
            report = await self._try(attempt)
            attempt.reporting = True
            self._trace("reporting", item)
            report, following = await self._tell(attempt, report)
        finally:
            attempt.let_go()
            self._held.discard(attempt)
            self._trace("let_go", item)
        await self._conclude(attempt, report)
        if not report.pause:
            self._pauses = 0
        elif self._left != 0:
            # Whoever gives back what it gets would get it again at once, and again.
            await self._pause(min(PAUSE_MOST_S, 2.0**self._pauses))
            self._pauses += 1
        return following

    async def _try(self, attempt: _Attempt) -> Report:
        """Run the command, and judge what came of it.

        Raises:
            UsageError: The command cannot be run for any item.
            Denied: Likewise.
        """
        item = attempt.item
        if self._stop.is_set():
            return verdict.released(item, None)
        limit = self._plan.time_limit_ms
        timer = None if limit is None else self._loop.call_later(limit / 1000, attempt.execution.end, "time")
        try:
            argv = self._arguments.filled(item)
            stdin = None if self._arguments.any else msgspec.json.encode(item.data) + b"\n"
            ran = await attempt.execution.run(argv, self._environment_of(item), stdin)
        except (UsageError, OSError) as error:
            report = verdict.not_started(item, error)
            if report is not None:
                return report
            if self._arguments.program is None:
                return verdict.failed(item, str(error))
            if isinstance(error.__cause__, PermissionError):
                raise Denied(str(error)) from error
            raise
        finally:
            if timer is not None:
                timer.cancel()
        report = verdict.judged(item, ran)
        if ran.stdout.cut:
            self._notes.on_item(f"result of {item.id} cut at 1 MiB")
        return report

    def _environment_of(self, item: Item) -> dict[str, str]:
        return {
            **self._environment,
            "FEDCTL_ITEM_ID": item.id,
            "FEDCTL_ATTEMPT": str(item.attempts),
            "FEDCTL_LEASE_ID": item.lease_id or "",
        }

    async def _tell(self, attempt: _Attempt, report: Report) -> tuple[Report, Item | None]:
        """Tell what came of an attempt, and claim the next item along with it; as long as the lease would last.

        Returns:
            What it came to in the end, and the next item.
        """
        following: Item | None = None
        backoff = Backoff()
        while report.request is not None and not attempt.lost:
            try:
                answer = await self._say_and_claim(report.request, claims=following is None)
            except AWAY as error:
                if self._hurried:
                    break
                self._notes.once(f"{error.message}; trying again")
                await asyncio.sleep(backoff.next_s())
                continue
            following = following or next(iter(answer.claimed), None)
            (result,) = answer.results
            code = None if result.error is None else result.error["code"]
            # A failure that was told before, and whose answer was lost, meets what it has brought about itself.
            if code is None or (backoff.waited_s and code == "conflict" and report.outcome != "done"):
                return report, following
            if code in ("conflict", "not_found"):
                break
            why = (result.error or {}).get("message")
            if report.outcome != "done":
                raise Failure(f"what became of the item {attempt.item.id} is refused: {why}")
            report = verdict.failed(attempt.item, f"its result is refused: {why}")
        return report._replace(outcome="lost"), following

    async def _say_and_claim(self, request: Tells, *, claims: bool) -> p.ItemResults:
        """Tell of an attempt; with `claims` get the next item along with the answer, if there is to be one."""
        claim = None
        if claims and self._claiming and not isinstance(request, p.ReleaseItems) and self._reserve(1):
            claim = self._claim_of(1)
        claimed = 0
        try:
            with_claim = request if claim is None else msgspec.structs.replace(request, claim=claim)
            answer: p.ItemResults = await self._reports.call(with_claim)
            claimed = len(answer.claimed)
        except AWAY:
            if claim is not None:
                self._unheard.append(str(claim.lease_id))
            raise
        except Conflict:
            if claim is None:
                raise
            await self._beat()  # it knows why: whoever is told to leave claims nothing
            return await self._say_and_claim(request, claims=False)
        finally:
            if claim is not None:
                self._unreserve(1 - claimed)
        if claim is not None and not claimed:
            self._dry = True
        await self._release_unheard()
        return answer

    async def _conclude(self, attempt: _Attempt, report: Report) -> None:
        """Count an attempt, and tell who wants to hear of each."""
        item, outcome = attempt.item, report.outcome
        self._counts[outcome] += 1
        self._log.detailed(
            "work.attempt", pool=item.pool, item=item.id, attempt=item.attempts, outcome=outcome, exit=report.exit,
            duration_ms=attempt.duration_ms, retry_in_ms=report.retry_in_ms,
        )  # fmt: skip
        if outcome in ("failed", "poisoned"):
            self._failing.add(item.id)
            self._notes.failure(item, report)
        elif outcome == "done":
            self._failing.discard(item.id)
        if self._around.finished is not None:
            finished = Finished(
                id=item.id,
                pool=item.pool,
                outcome=outcome,
                exit=report.exit,
                attempt=item.attempts,
                duration_ms=attempt.duration_ms,
                retry_in_ms=report.retry_in_ms if outcome == "failed" else None,
                error=report.error if outcome in ("failed", "poisoned") else None,
            )
            await self._loop.run_in_executor(self._pen, self._around.finished, finished)

    # -- being alive -----------------------------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        """Renew the leases of all that runs, every third of their length; in one request."""
        lease_s = self._plan.lease_ms / 1000
        every_s = again_s = lease_s / 3
        while True:
            await asyncio.sleep(again_s)
            again_s = every_s
            attempts = list(self._held)
            if not attempts:
                continue
            begun_s = self._loop.time()
            request = p.ExtendItems(
                leases=[verdict.lease_of(one.item) for one in attempts], lease_ms=self._plan.lease_ms
            )
            try:
                results = (await self._signs.call(request)).results
                if not all(one.ok for one in results):
                    await self._beat()  # perhaps somebody else has our name by now
            except AWAY as error:
                self._notes.once(f"{error.message}; trying again")
                again_s = min(1.0, every_s / 4)
                continue
            except FedctlError as error:
                self._give_up(error)
                return
            for attempt, result in zip(attempts, results, strict=True):
                if result.ok:
                    if not attempt.lost and attempt in self._held:
                        attempt.held_until(begun_s + lease_s)
                elif not attempt.reporting:
                    attempt.lose()

    async def _keep_beating(self) -> None:
        """Say time and again that this worker is alive, and hear whether it is to leave."""
        while True:
            await asyncio.sleep(self._beat_ms / 1000)
            try:
                await self._beat()
            except AWAY:
                continue
            except FedctlError as error:
                self._give_up(error)
                return

    async def _beat(self) -> None:
        """Beat once.

        Raises:
            Conflict: The worker is terminated, or another has taken its name: what we hold is lost.
        """
        worker = (await self._signs.call(w.BeatWorker(id=self._worker_id, incarnation=self._incarnation))).worker
        if worker.status == "terminating" and self._claiming:
            self._reason = "dismissed"
            self._note("this worker is told to leave: it claims nothing more")
            self._stop_claiming()

    async def _show(self) -> None:
        while self._around.progress is not None:
            await asyncio.sleep(PROGRESS_EVERY_S)
            failed = self._counts["failed"] + self._counts["poisoned"]
            figures = Figures(self._counts["done"], failed, len(self._held), self._loop.time() - self._began_s)
            await self._loop.run_in_executor(self._voice, self._around.progress, figures)

    # -- saying ----------------------------------------------------------------------------------------------------

    async def _hear(self, chunk: bytes) -> None:
        await self._loop.run_in_executor(self._voice, self._around.hear, chunk)

    def _trace(self, state: str, item: Item) -> None:
        self._log.trace("item.state", pool=item.pool, item=item.id, state=state)

    def _note(self, text: str) -> None:
        self._log.verbose("work.note", text=text)
        self._voice.submit(self._around.say, text)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless there is a reason to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
