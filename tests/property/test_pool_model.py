"""Pools of work against a model of them that is a dictionary, whatever is done in whatever order.

The model knows an item's state, its lease, and how each of its attempts ended. What is asked of the store is asked of
the model first; after each step both must tell the same of every item.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedctl.clock import Clock
from fedctl.errors import Conflict
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.model.pool import Completion, FollowUp, Item, ItemDraft, ItemFailure, Lease
from fedctl.model.principal import Principal
from fedctl.operations.context import Context, Recall
from fedctl.operations.table import run
from fedctl.store.store import Store

POOLS = ("p", "q")
WORKERS = ("ann", "bob", "stranger")
SETS = ((), ("x",), ("y",), ("x", "y"))
INTERVAL_MS = 1000

pools = st.sampled_from(POOLS)
workers = st.sampled_from(WORKERS)
registered = st.sampled_from(WORKERS[:2])
capabilities = st.sampled_from(SETS)
spans_ms = st.sampled_from([100, 500, 1500, 4000])
picks = st.integers(0, 999)


class TestClock(Clock):
    """A clock that stands still until it is told otherwise."""

    __test__ = False

    def __init__(self) -> None:
        self.ms = 1_767_225_600_000

    def now_ms(self) -> int:
        return self.ms


@dataclass
class Known:
    """What the model knows of an item."""

    seq: int
    id: str
    pool: str
    data: int
    priority: int
    max_retries: int
    key: str | None
    requires: tuple[str, ...]
    due_ms: int
    status: str = "pending"
    attempts: int = 0
    holder: str | None = None
    lease_id: str = ""
    until_ms: int = 0
    result: Any = None
    old_leases: list[str] = field(default_factory=list)
    history: list[tuple[str, str]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.status in ("pending", "claimed")

    def end(self, outcome: str, *, poison: bool = False, counts: bool = True, due_ms: int | None = None) -> None:
        self.history.append((self.holder or "", outcome))
        self.old_leases.append(self.lease_id)
        self.attempts -= not counts
        self.status = "poisoned" if poison or (counts and self.attempts >= self.max_retries) else "pending"
        self.holder, self.lease_id = None, ""
        self.due_ms = self.due_ms if due_ms is None or self.status == "poisoned" else due_ms


@dataclass
class KnownWorker:
    capabilities: tuple[str, ...]
    status: str
    beat_ms: int
    incarnation: int


class PoolMachine(RuleBasedStateMachine):
    """The rules are the verbs."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = TestClock()
        self.context = Context(
            home=Path("nowhere"), store=Store.in_memory(self.clock), recall=Recall(None, None), clock=self.clock,
            access=None,  # type: ignore[arg-type]
        )  # fmt: skip
        self.items: dict[str, Known] = {}
        self.workers: dict[str, KnownWorker] = {}
        self.paused = dict.fromkeys(POOLS, False)
        self.made = 0

    def call(self, request: Any) -> Any:
        return run(self.context, Principal(tenant_id="default", role="owner"), request)

    def teardown(self) -> None:
        assert self.context.store.integrity() == []
        self.context.close()

    @initialize(
        kinds=st.lists(st.tuples(pools, st.integers(-1, 1), st.integers(1, 3), capabilities), min_size=4, max_size=8),
        has=capabilities,
        lease_ms=spans_ms,
    )
    def begin(self, kinds: list[tuple[str, int, int, tuple[str, ...]]], has: tuple[str, ...], lease_ms: int) -> None:
        """Begin in the middle: with items of all kinds, a worker, and some of them claimed."""
        self.register("ann", has)
        for pool, priority, retries, requires in kinds:
            self.push(pool=pool, priority=priority, retries=retries, key=None, data=0, requires=requires, delay_ms=0)
        self.claim("p", "ann", 4, lease_ms)
        self.claim("q", "stranger", 2, lease_ms)

    # -- pushing

    @rule(
        pool=pools, priority=st.integers(-1, 1), retries=st.integers(0, 3), key=st.sampled_from([None, None, "k", "l"]),
        data=st.integers(0, 1), requires=capabilities, delay_ms=st.sampled_from([0, 0, 0, 300, 2000]),
    )  # fmt: skip
    def push(self, **fields: Any) -> None:
        self.expect_push(self.call(self.push_request(**fields)).results[0], **fields)

    def push_request(self, **fields: Any) -> p.PushItems:
        return p.PushItems(pool=fields["pool"], items=[self.draft(**fields)])

    def draft(self, **fields: Any) -> ItemDraft:
        return ItemDraft(
            id=f"i{self.made}", data=fields["data"], priority=fields["priority"], max_retries=fields["retries"],
            key=fields["key"], requires=list(fields["requires"]), delay_ms=fields["delay_ms"] or None,
        )  # fmt: skip

    def holder_of(self, pool: str, key: str | None, besides: str = "") -> Known | None:
        found = [
            one for one in self.items.values() if one.pool == pool and one.key == key and one.open and one.id != besides
        ]
        return found[0] if key is not None and found else None

    def expect_push(self, result: p.ItemResult, **fields: Any) -> None:
        holder = self.holder_of(fields["pool"], fields["key"])
        if holder is None:
            assert (result.ok, result.existing, result.id) == (True, False, f"i{self.made}")
            self.enter(**fields)
        elif holder.data == fields["data"]:
            assert (result.ok, result.existing, result.id) == (True, True, holder.id)
        else:
            assert not result.ok
            assert result.error is not None
            assert result.error["code"] == "conflict"

    def enter(self, **fields: Any) -> None:
        id_ = f"i{self.made}"
        self.items[id_] = Known(
            seq=self.made, id=id_, pool=fields["pool"], data=fields["data"], priority=fields["priority"],
            max_retries=fields["retries"], key=fields["key"], requires=fields["requires"],
            due_ms=self.clock.ms + fields["delay_ms"],
        )  # fmt: skip
        self.made += 1

    @precondition(lambda self: self.items)
    @rule(pick=picks)
    def push_again(self, pick: int) -> None:
        one = self.pick(pick)
        assert one is not None
        draft = ItemDraft(
            id=one.id, data=one.data, priority=one.priority, max_retries=one.max_retries, key=one.key,
            requires=list(one.requires),
        )  # fmt: skip
        (result,) = self.call(p.PushItems(pool=one.pool, items=[draft])).results
        assert (result.ok, result.existing, result.id) == (True, True, one.id)

    # -- claiming

    @rule(pool=pools, worker=workers, count=st.integers(1, 4), lease_ms=spans_ms)
    def claim(self, pool: str, worker: str, count: int, lease_ms: int) -> None:
        request = p.ClaimItems(pool=pool, worker_id=worker, count=count, lease_ms=lease_ms)
        known = self.workers.get(worker)
        if known is not None and known.status in ("terminating", "terminated"):
            try:
                self.call(request)
            except Conflict:
                return
            raise AssertionError("a worker that is leaving got something")
        found = self.call(request).items
        self.revived(worker)
        self.take(found, request)

    def revived(self, worker: str) -> None:
        known = self.workers.get(worker)
        if known is not None and known.status == "lost":
            known.status, known.beat_ms = "active", self.clock.ms

    def take(self, found: list[Item], request: p.ClaimItems) -> None:
        for one in self.items.values():
            if one.pool == request.pool and one.status == "claimed" and one.until_ms <= self.clock.ms:
                one.end("expired")
        expected = [] if self.paused[request.pool] else self.claimable(request.pool, request.worker_id)[: request.count]
        assert [one.id for one in found] == [one.id for one in expected]
        for item, one in zip(found, expected, strict=True):
            assert item.lease_id not in (None, "", *one.old_leases)
            one.status, one.holder, one.lease_id = "claimed", request.worker_id, item.lease_id or ""
            one.attempts += 1
            one.until_ms = self.clock.ms + request.lease_ms
            assert (item.attempts, item.data) == (one.attempts, one.data)

    def claimable(self, pool: str, worker: str) -> list[Known]:
        has = set(self.workers[worker].capabilities) if worker in self.workers else set()
        found = [
            one
            for one in self.items.values()
            if one.pool == pool and one.status == "pending" and one.due_ms <= self.clock.ms and has >= set(one.requires)
        ]
        return sorted(found, key=lambda one: (-one.priority, one.seq))

    # -- ending an attempt

    def pick(self, pick: int, *statuses: str) -> Known | None:
        found = [one for one in self.items.values() if not statuses or one.status in statuses]
        return found[pick % len(found)] if found else None

    def a_lease(self, pick: int, stale: bool) -> tuple[Known, str] | None:
        """Return an item and a lease on it: the one that is held, or one that was or never was."""
        one = (not pick % 4 and self.pick(pick)) or self.pick(pick, "claimed")
        if not stale and one is not None and one.status != "claimed":
            return None
        if one is None:
            return None
        return one, [*one.old_leases, "never"][pick % (len(one.old_leases) + 1)] if stale else one.lease_id

    def told(self, result: p.ItemResult, one: Known, lease_id: str) -> bool:
        """Return whether it was carried out: that must be so if the lease is the one that is held."""
        assert result.ok == (one.status == "claimed" and one.lease_id == lease_id), (result, one)
        if not result.ok:
            assert result.error is not None
            assert result.error["code"] == "conflict"
        return result.ok

    @rule(pick=picks, stale=st.booleans(), result=st.integers(0, 1), next_=st.booleans(), lease_ms=spans_ms)
    def complete(self, pick: int, stale: bool, result: int, next_: bool, lease_ms: int) -> None:
        if (chosen := self.a_lease(pick, stale)) is None:
            return
        one, lease_id = chosen
        then = None
        if (
            next_
            and one.holder is not None
            and self.workers.get(one.holder, KnownWorker((), "active", 0, 0)).status == "active"
        ):
            then = p.ClaimItems(pool=one.pool, worker_id=one.holder, lease_ms=lease_ms)
        answer = self.call(
            p.CompleteItems(completions=[Completion(id=one.id, lease_id=lease_id, result=result)], claim=then)
        )
        if self.told(answer.results[0], one, lease_id):
            self.finish(one, result)
        if then is not None:
            self.take(answer.claimed, then)

    def finish(self, one: Known, result: Any) -> None:
        one.status, one.result = "done", result
        one.history.append((one.holder or "", "done"))

    @rule(pick=picks, result=st.integers(0, 1))
    def complete_again(self, pick: int, result: int) -> None:
        if (one := self.pick(pick, "done")) is None:
            return
        (told,) = self.call(
            p.CompleteItems(completions=[Completion(id=one.id, lease_id=one.lease_id, result=result)])
        ).results
        assert (told.ok, told.existing) == ((True, True) if result == one.result else (False, False))

    @rule(pick=picks, pool=pools, bad=st.booleans(), key=st.sampled_from([None, "k", "l"]))
    def complete_and_push(self, pick: int, pool: str, bad: bool, key: str | None) -> None:
        if (one := self.pick(pick, "claimed")) is None:
            return
        fields: dict[str, Any] = {
            "pool": pool, "priority": 0, "retries": 1, "key": key, "data": 1, "requires": (), "delay_ms": 0,
        }  # fmt: skip
        follow = [FollowUp(pool=pool, item=self.draft(**fields))]
        if bad:
            follow.append(FollowUp(pool=pool, item=ItemDraft(id="bad", priority=1 << 40)))
        done = Completion(id=one.id, lease_id=one.lease_id, result=0, then_push=follow)
        (told,) = self.call(p.CompleteItems(completions=[done])).results
        holder = self.holder_of(pool, key, besides=one.id)
        if bad or (holder is not None and holder.data != 1):
            assert not told.ok
            return
        assert told.ok
        self.finish(one, 0)
        if holder is None:
            self.enter(**fields)
        assert told.pushed_ids == [f"i{self.made - 1}" if holder is None else holder.id]

    @rule(pick=picks, stale=st.booleans(), retry_in_ms=st.sampled_from([0, 0, 700]), poison=st.booleans())
    def fail(self, pick: int, stale: bool, retry_in_ms: int, poison: bool) -> None:
        if (chosen := self.a_lease(pick, stale)) is None:
            return
        one, lease_id = chosen
        failure = ItemFailure(id=one.id, lease_id=lease_id, error="no", retry_in_ms=retry_in_ms, poison=poison)
        if self.told(self.call(p.FailItems(failures=[failure])).results[0], one, lease_id):
            one.end("failed", poison=poison, due_ms=self.clock.ms + retry_in_ms if retry_in_ms else None)

    @rule(pick=picks, stale=st.booleans())
    def release(self, pick: int, stale: bool) -> None:
        if (chosen := self.a_lease(pick, stale)) is None:
            return
        one, lease_id = chosen
        if self.told(self.call(p.ReleaseItems(leases=[Lease(id=one.id, lease_id=lease_id)])).results[0], one, lease_id):
            one.end("released", counts=False)

    @rule(pick=picks, stale=st.booleans(), lease_ms=spans_ms)
    def extend(self, pick: int, stale: bool, lease_ms: int) -> None:
        if (chosen := self.a_lease(pick, stale)) is None:
            return
        one, lease_id = chosen
        request = p.ExtendItems(leases=[Lease(id=one.id, lease_id=lease_id)], lease_ms=lease_ms)
        if self.told(self.call(request).results[0], one, lease_id):
            one.until_ms = self.clock.ms + lease_ms

    @rule(worker=workers, pool=st.sampled_from([None, *POOLS]))
    def release_worker(self, worker: str, pool: str | None) -> None:
        answer = self.call(p.ReleaseWorker(worker_id=worker, pool=pool))
        mine = [one for one in self.held_by(worker) if pool in (None, one.pool)]
        assert sorted(one.id for one in answer.results) == sorted(one.id for one in mine)
        for one in mine:
            one.end("released", counts=False)

    # -- time, and workers

    @rule(ms=st.sampled_from([1, 100, 400, 1000, 2001, 5000]))
    def pass_time(self, ms: int) -> None:
        self.clock.ms += ms

    def held_by(self, worker: str) -> list[Known]:
        return [one for one in self.items.values() if one.status == "claimed" and one.holder == worker]

    @rule(worker=registered, has=capabilities)
    def register(self, worker: str, has: tuple[str, ...]) -> None:
        answer = self.call(w.RegisterWorker(id=worker, capabilities=list(has), heartbeat_interval_ms=INTERVAL_MS))
        mine = self.held_by(worker)
        for one in mine:
            one.end("lost")
        before = self.workers.get(worker)
        self.workers[worker] = KnownWorker(
            has, "active", self.clock.ms, 1 if before is None else before.incarnation + 1
        )
        assert (answer.released, answer.worker.incarnation) == (len(mine), self.workers[worker].incarnation)

    @precondition(lambda self: self.workers)
    @rule(pick=picks, lease_ms=st.sampled_from([None, 3000]))
    def beat(self, pick: int, lease_ms: int | None) -> None:
        name = sorted(self.workers)[pick % len(self.workers)]
        worker = self.workers[name]
        try:
            answer = self.call(w.BeatWorker(id=name, extend_leases_ms=lease_ms))
        except Conflict:
            assert worker.status == "terminated"
            return
        worker.beat_ms = self.clock.ms
        worker.status = "active" if worker.status == "lost" else worker.status
        mine = self.held_by(name) if lease_ms else []
        assert answer.extended == len(mine)
        for one in mine:
            one.until_ms = self.clock.ms + (lease_ms or 0)

    @precondition(lambda self: self.workers)
    @rule(pick=picks, status=st.sampled_from(["active", "terminating", "terminated", "lost"]))
    def set_status(self, pick: int, status: Any) -> None:
        name = sorted(self.workers)[pick % len(self.workers)]
        worker = self.workers[name]
        try:
            self.call(w.SetWorkerStatus(id=name, status=status))
        except Conflict:
            assert worker.status == "terminated" != status
            return
        worker.status = status
        if status in ("terminated", "lost"):
            for one in self.held_by(name):
                one.end("lost" if status == "lost" else "released", counts=status == "lost")

    @rule()
    def reap(self) -> None:
        answer = self.call(w.ReapWorkers())
        stale = [
            name
            for name, one in self.workers.items()
            if one.status in ("active", "terminating") and self.clock.ms - one.beat_ms > 2 * INTERVAL_MS
        ]
        assert sorted(one.worker_id for one in answer.workers) == sorted(stale)
        held = [one for name in stale for one in self.held_by(name)]
        assert answer.released == len(held)
        for one in held:
            one.end("lost")
        for name in stale:
            self.workers[name].status = "lost"

    # -- pools as a whole

    @rule(pool=pools, paused=st.booleans())
    def pause(self, pool: str, paused: bool) -> None:
        assert self.call(p.PausePool(name=pool, paused=paused)).pool.paused == paused
        self.paused[pool] = paused

    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        if (one := self.pick(pick)) is None:
            return
        (result,) = self.call(p.RetryItems(ids=[one.id])).results
        assert result.ok == (one.status == "poisoned" and self.holder_of(one.pool, one.key) is None)
        if result.ok:
            one.status, one.attempts = "pending", 0

    @rule(pool=pools)
    def retry_all(self, pool: str) -> None:
        for result in self.call(p.RetryItems(pool=pool)).results:
            one = self.items[result.id]
            assert (one.pool, one.status) == (pool, "poisoned")
            assert result.ok == (self.holder_of(pool, one.key) is None)
            if result.ok:
                one.status, one.attempts = "pending", 0
        assert all(
            self.holder_of(pool, one.key) for one in self.items.values() if (one.pool, one.status) == (pool, "poisoned")
        )

    @rule(pool=pools, status=st.sampled_from([None, "done", "done", "poisoned", "poisoned"]))
    def purge(self, pool: str, status: Any) -> None:
        gone = [
            one.id
            for one in self.items.values()
            if one.pool == pool and (one.status == status if status else one.status != "claimed")
        ]
        assert self.call(p.PurgePool(pool=pool, status=status, dry_run=True)).deleted == len(gone)
        assert self.call(p.PurgePool(pool=pool, status=status)).deleted == len(gone)
        for id_ in gone:
            del self.items[id_]

    # -- what holds after each step

    @invariant()
    def every_item_is_as_the_model_has_it(self) -> None:
        found = [one for pool in POOLS for one in self.call(p.ListItems(pool=pool)).items]
        assert {
            one.id: (one.status, one.attempts, one.claimed_by if one.status == "claimed" else None) for one in found
        } == {
            one.id: (one.status, one.attempts, one.holder if one.status == "claimed" else None)
            for one in self.items.values()
        }
        leases = [one.lease_id for one in found if one.status == "claimed"]
        assert len(set(leases)) == len(leases)
        assert all(one.result == self.items[one.id].result for one in found)

    @invariant()
    def the_figures_are_those_of_the_model(self) -> None:
        for pool in POOLS:
            mine = [one for one in self.items.values() if one.pool == pool]
            due = [one for one in mine if one.status == "pending" and one.due_ms <= self.clock.ms]
            expired = [one for one in mine if one.status == "claimed" and one.until_ms <= self.clock.ms]
            counts = {
                status: sum(one.status == status for one in mine)
                for status in ("pending", "claimed", "done", "poisoned")
            }
            figures = self.call(p.GetPool(name=pool)).pool
            assert (figures.pending, figures.delayed) == (len(due) + len(expired), counts["pending"] - len(due))
            assert (figures.claimed, figures.done, figures.poisoned) == (
                counts["claimed"] - len(expired),
                counts["done"],
                counts["poisoned"],
            )
            waited = self.call(p.WaitFor(pools=[pool]))
            assert (waited.open, waited.done) == (counts["pending"] + counts["claimed"], counts["done"])

    @invariant()
    def the_history_is_that_of_the_model(self) -> None:
        for one in self.items.values():
            history = self.call(p.GetItem(id=one.id)).history
            expected = [*one.history, *([(one.holder, "claimed")] if one.status == "claimed" else [])]
            assert [(attempt.worker_id, attempt.outcome) for attempt in history] == expected


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestPools = PoolMachine.TestCase
