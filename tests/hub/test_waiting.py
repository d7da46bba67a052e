"""Answers that are held until there is something: a claim on a pool that is empty, a wait for what is unfinished."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fedctl.clock import Clock
from fedctl.errors import Conflict, FedctlError, Unavailable
from fedctl.hub.jobs import Job
from fedctl.hub.waiting import Waiting
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.messages.agent import RegisterAgent
from fedctl.messages.hub import GetHubStats, ListEvents
from fedctl.model.hub import Event
from fedctl.model.pool import Completion, FollowUp, Item, ItemDraft, ItemFailure, Lease
from fedctl.model.principal import Principal

WAIT_MS = 60_000
"""Longer than any test lasts: whoever is answered was woken."""
SOON_S = 4.0
"""Less than the five seconds after which a waiting request is asked again by itself."""


class Waiter:
    """A claim that waits in a thread of its own, on a session of its own."""

    def __init__(self, hub: Any, worker: str = "w", *, caller: Any = None, request: Any = None, **fields: Any) -> None:
        self.caller = caller or hub.owner(timeout_ms=None)
        self.request = request or p.ClaimItems(**{"pool": "p", "worker_id": worker, "wait_ms": WAIT_MS} | fields)
        self.answer: Any = None
        self.error: FedctlError | None = None
        self.ended_s = 0.0
        before = asked(hub)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        eventually(lambda: asked(hub) > before)

    def _run(self) -> None:
        try:
            self.answer = self.caller.call(self.request)
        except FedctlError as error:
            self.error = error
        self.ended_s = time.monotonic()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def got(self, timeout_s: float = SOON_S) -> list[str]:
        self._thread.join(timeout_s)
        assert not self.waits, "nobody woke it"
        if self.error is not None:
            raise self.error
        return [one.id for one in self.answer.items]


def eventually(check: Any) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.005)


def asked(hub: Any) -> int:
    """Return how many claims and waits the hub has carried out."""
    operations = hub.owner_of_tests.call(GetHubStats()).stats.latencies
    return sum(one.count for name, one in operations.items() if name in ("pool.claim", "pool.wait", "hub.events"))


@pytest.fixture
def hub(hub):
    hub.owner_of_tests = hub.owner()
    return hub


def push(hub: Any, *drafts: ItemDraft | str, pool: str = "p") -> None:
    made = [ItemDraft(id=one) if isinstance(one, str) else one for one in drafts]
    for result in hub.owner_of_tests.call(p.PushItems(pool=pool, items=made)).results:
        assert result.ok, result.error


def call(hub: Any, request: Any) -> Any:
    return hub.owner_of_tests.call(request)


def claim(hub: Any, worker: str = "other", **fields: Any) -> list[Item]:
    return call(hub, p.ClaimItems(**{"pool": "p", "worker_id": worker} | fields)).items


# -- woken -------------------------------------------------------------------------------------------------------


def test_a_claim_that_waits_is_woken_by_a_push(hub):
    waiter = Waiter(hub)
    assert waiter.waits
    push(hub, "i1")
    assert waiter.got() == ["i1"]


def test_the_waking_takes_less_than_the_pace_of_polling_would(hub):
    """Of many, the quickest: what other work on this machine adds to the others is not the hub's."""
    took_s = []
    for number in range(10):
        waiter = Waiter(hub)
        began_s = time.monotonic()
        push(hub, f"i{number}")
        waiter.got()
        took_s.append(waiter.ended_s - began_s)
    assert min(took_s) < 0.05


def test_a_claim_that_finds_something_does_not_wait(hub):
    push(hub, "i1")
    assert [one.id for one in claim(hub, wait_ms=WAIT_MS)] == ["i1"]


def test_when_the_time_is_up_the_answer_is_that_there_is_nothing(hub):
    assert claim(hub, wait_ms=30) == []
    assert call(hub, p.ClaimItems(pool="p", worker_id="w", wait_ms=1)).next_ms is None


def test_who_waits_longest_is_served_first_and_each_item_wakes_one(hub):
    waiters = [Waiter(hub, f"w{number}") for number in range(4)]
    before = asked(hub)
    for number, waiter in enumerate(waiters[:3]):
        push(hub, f"i{number}")
        assert waiter.got() == [f"i{number}"]
    assert asked(hub) == before + 3, "nobody was woken for nothing"
    assert waiters[3].waits
    push(hub, "last")
    assert waiters[3].got() == ["last"]


def test_a_batch_wakes_as_many_as_it_has_items(hub):
    waiters = [Waiter(hub, f"w{number}") for number in range(3)]
    push(hub, "a", "b", "c")
    assert sorted(id_ for waiter in waiters for id_ in waiter.got()) == ["a", "b", "c"]


def test_who_cannot_do_it_passes_the_turn_on(hub):
    call(hub, w.RegisterWorker(id="gpu", capabilities=["gpu"]))
    plain = [Waiter(hub, f"plain{number}") for number in range(3)]
    able = Waiter(hub, "gpu")
    push(hub, ItemDraft(id="i1", requires=["gpu"]))
    assert able.got() == ["i1"]
    assert all(one.waits for one in plain)
    push(hub, "a", "b", "c")
    assert sorted(id_ for waiter in plain for id_ in waiter.got()) == ["a", "b", "c"]


def test_who_is_refused_when_its_turn_comes_passes_it_on(hub):
    for name in ("leaving", "next"):
        call(hub, w.RegisterWorker(id=name))
    leaving, following = Waiter(hub, "leaving"), Waiter(hub, "next")
    call(hub, w.SetWorkerStatus(id="leaving", status="terminating"))
    push(hub, "i1")
    with pytest.raises(Conflict):
        leaving.got()
    assert following.got() == ["i1"]


def test_nobody_waits_for_another_pool_s_or_another_tenant_s_items(hub):
    waiter = Waiter(hub)
    push(hub, "i1", pool="q")
    hub.owner("acme").call(p.PushItems(pool="p", items=[ItemDraft(id="theirs")]))
    push(hub, "i2")
    assert waiter.got() == ["i2"]


GIVEN_BACK = {
    "released": lambda held: p.ReleaseItems(leases=[Lease(id=held.id, lease_id=held.lease_id or "")]),
    "failed": lambda held: p.FailItems(failures=[ItemFailure(id=held.id, lease_id=held.lease_id or "")]),
    "released by its worker": lambda _held: p.ReleaseWorker(worker_id="other"),
    "its worker began anew": lambda _held: w.RegisterWorker(id="other"),
    "its worker is terminated": lambda _held: w.SetWorkerStatus(id="other", status="terminated"),
    "its worker is lost": lambda _held: w.SetWorkerStatus(id="other", status="lost"),
    "retried": lambda _held: p.RetryItems(pool="p"),
    "retried by name": lambda held: p.RetryItems(ids=[held.id]),
}


@pytest.mark.parametrize("how", GIVEN_BACK)
def test_an_item_that_comes_back_wakes_a_waiter(hub, how: str):
    call(hub, w.RegisterWorker(id="other"))
    push(hub, "i1")
    (held,) = claim(hub)
    if how.startswith("retried"):
        call(hub, p.FailItems(failures=[ItemFailure(id="i1", lease_id=held.lease_id or "", poison=True)]))
    waiter = Waiter(hub)
    call(hub, GIVEN_BACK[how](held))
    assert waiter.got() == ["i1"]


def test_a_follow_up_wakes_who_waits_for_its_pool(hub):
    push(hub, "i1")
    (held,) = claim(hub)
    waiter = Waiter(hub, pool="next")
    done = Completion(id="i1", lease_id=held.lease_id or "", then_push=[FollowUp(pool="next", item=ItemDraft(id="n"))])
    call(hub, p.CompleteItems(completions=[done]))
    assert waiter.got() == ["n"]


def test_a_pool_that_goes_on_wakes_all_who_wait_for_it(hub):
    push(hub, "a", "b", "c")
    call(hub, p.PausePool(name="p", paused=True))
    waiters = [Waiter(hub, f"w{number}") for number in range(3)]
    assert all(one.waits for one in waiters)
    call(hub, p.PausePool(name="p", paused=False))
    assert sorted(id_ for waiter in waiters for id_ in waiter.got()) == ["a", "b", "c"]


def test_a_delayed_item_wakes_a_waiter_when_it_is_due(hub):
    push(hub, ItemDraft(id="i1", delay_ms=300))
    assert Waiter(hub).got() == ["i1"]


def test_a_delayed_item_that_is_pushed_while_somebody_waits_wakes_it_when_it_is_due(hub):
    waiter = Waiter(hub)
    push(hub, ItemDraft(id="i1", delay_ms=300))
    assert waiter.got() == ["i1"]


def test_a_lease_that_runs_out_wakes_a_waiter(hub):
    push(hub, "i1")
    claim(hub, lease_ms=300)
    assert Waiter(hub).got() == ["i1"]


def test_what_another_process_pushes_straight_into_the_home_is_noticed(hub, make_bench):
    waiter = Waiter(hub)
    make_bench(hub.home, clock=Clock()).call(p.PushItems(pool="p", items=[ItemDraft(id="i1")]))
    assert waiter.got() == ["i1"]


# -- one connection, many answers --------------------------------------------------------------------------------------


def test_a_waiting_claim_keeps_nobody_else_waiting(hub):
    waiters = [Waiter(hub, f"w{number}") for number in range(20)]
    for number in range(20):
        push(hub, f"i{number}", pool="elsewhere")
    assert len(claim(hub, pool="elsewhere", count=20)) == 20
    push(hub, *(f"n{number}" for number in range(20)))
    assert len({id_ for waiter in waiters for id_ in waiter.got()}) == 20


def test_of_many_who_race_for_few_each_item_goes_to_one(hub):
    waiters = [Waiter(hub, f"w{number}") for number in range(16)]
    for number in range(16):
        push(hub, f"i{number}")
    got = [id_ for waiter in waiters for id_ in waiter.got()]
    assert sorted(got) == sorted({f"i{number}" for number in range(16)})


# -- leaving -----------------------------------------------------------------------------------------------------


def test_for_who_left_nothing_is_claimed(hub):
    gone, waiter = Waiter(hub, "gone"), Waiter(hub, "w")
    gone.caller._transport._socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Unavailable):
        gone.got()
    eventually(lambda: call(hub, GetHubStats()).stats.connections == 2)
    push(hub, "i1")
    assert waiter.got() == ["i1"]
    assert call(hub, p.GetItem(id="i1")).item.attempts == 1


def test_who_left_in_the_middle_of_a_question_is_no_error_of_the_hub(hub):
    over = threading.Event()
    job = Job(
        Principal(tenant_id="default", role="owner"), p.GetPool(name="p"), operation="pool.show", size_bytes=0,
        began_s=0.0, done=lambda _job: over.set(), asker=SimpleNamespace(gone=True),
    )  # fmt: skip
    hub.hub._loop.call_soon_threadsafe(hub.hub._desk._hand_over, job, "read")
    assert over.wait(20)
    assert isinstance(job.error, Unavailable)
    assert call(hub, GetHubStats()).stats.errors == {}


def test_who_waits_when_the_hub_stops_is_told_that_it_is_unavailable(hub):
    waiters = [Waiter(hub, f"w{number}") for number in range(3)]
    began_s = time.monotonic()
    assert hub.end() == 0
    for waiter in waiters:
        with pytest.raises(Unavailable) as caught:
            waiter.got()
        assert caught.value.retryable
    assert time.monotonic() - began_s < 20


# -- in which order things come --------------------------------------------------------------------------------------


class Order:
    """A line of waiting requests with all its ends in the test's hands: what comes when is what the test says."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.waiting = Waiting(again=self.asked.append, now_s=lambda: 0.0)
        self.peer: Any = SimpleNamespace(gone=False)

    def job(self, **fields: Any) -> Any:
        made = Job(
            Principal(tenant_id="default", role="owner"),
            p.ClaimItems(**{"pool": "p", "worker_id": "w", "wait_ms": WAIT_MS} | fields),
            operation="pool.claim", size_bytes=0, began_s=0.0, done=self.asked.append,
        )  # fmt: skip
        self.waiting.expect(self.peer, made)
        return made

    def told(self, job: Any, *items: str) -> bool:
        """Answer a job; return whether it is held on."""
        job.answer = p.ClaimAnswer(items=list(items))  # type: ignore[arg-type]
        return self.waiting.hold(self.peer, job)

    def push(self, *ids: str) -> None:
        self.waiting.happened(
            [Event(seq=1, tenant_id="default", kind="items_pushed", subject="p", at="", detail={"ids": list(ids)})]
        )


def ordered(test: Any) -> Any:
    """Run a test on an event loop, with an order of its own."""

    @functools.wraps(test)
    def run() -> None:
        async def on_loop() -> None:
            test(Order())

        asyncio.run(on_loop())

    del run.__wrapped__  # type: ignore[attr-defined]  pytest would ask for the test's own parameter
    return run


@ordered
def test_what_was_pushed_before_the_answer_was_here_is_not_missed(order: Any) -> None:
    """The claim found nothing; the news of a push behind it overtakes its answer."""
    job = order.job()
    order.push("i1")
    assert order.asked == []
    assert order.told(job)
    assert order.asked == [job], "it is asked again at once"
    assert order.told(job)
    assert order.asked == [job], "and once only"


@ordered
def test_what_is_pushed_while_one_is_being_asked_again_is_not_missed_either(order: Any) -> None:
    job = order.job()
    assert order.told(job)
    order.push("i1")
    order.push("i2")
    assert order.told(job)
    assert order.asked == [job, job]


@ordered
def test_whoever_is_gone_or_out_of_time_passes_its_turn_on(order: Any) -> None:
    first, second, third = order.job(), order.job(), order.job()
    for job in (first, second, third):
        assert order.told(job)
    order.push("i1")
    assert order.asked == [first]
    order.peer.gone = True
    assert not order.told(first)
    order.peer.gone = False
    assert order.asked == [first, second]
    second.request = p.ClaimItems(pool="p", worker_id="w", wait_ms=0)
    second.began_s = -1.0
    assert not order.told(second)
    assert order.asked == [first, second, third]
    assert not order.told(third, "i1"), "who got it is answered"
    order.waiting.close(Unavailable("over"))


@ordered
def test_nothing_is_kept_of_those_who_were_answered(order: Any) -> None:
    jobs = [order.job() for _ in range(3)]
    assert not order.told(jobs[0], "i1")
    assert order.told(jobs[1])
    order.waiting.left(order.peer)
    order.peer.gone = True
    assert not order.told(jobs[2])
    assert (order.waiting._lines, order.waiting._asking) == ({}, {})


@ordered
def test_after_the_end_nobody_is_held(order: Any) -> None:
    held, asking = order.job(), order.job()
    assert order.told(held)
    order.waiting.close(Unavailable("over"))
    assert held in order.asked
    assert isinstance(held.error, Unavailable)
    assert not order.told(asking)
    assert order.waiting._lines == {}


@pytest.mark.parametrize("along_with", ["a claim", "a completion"])
def test_what_was_claimed_for_somebody_who_is_gone_is_given_back(hub, along_with: str):
    """The claim was carried out before the hub knew that the connection was lost."""
    push(hub, "i1")
    items = claim(hub)
    job = Job(
        Principal(tenant_id="default", role="owner"), p.ClaimItems(pool="p", worker_id="other"),
        operation="pool.claim", size_bytes=0, began_s=0.0, done=lambda _job: None,
    )  # fmt: skip
    job.answer = p.ClaimAnswer(items=items) if along_with == "a claim" else p.ItemResults(results=[], claimed=items)
    hub.hub._loop.call_soon_threadsafe(hub.hub._desk._answer, SimpleNamespace(gone=True), 1, job)
    eventually(lambda: call(hub, p.GetItem(id="i1")).item.status == "pending")
    assert call(hub, p.GetItem(id="i1")).item.attempts == 0


# -- waiting for an end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [{"pools": ["p"]}, {"ids": ["i1"]}])
@pytest.mark.parametrize("end", ["done", "poisoned", "purged"])
def test_who_waits_for_the_end_of_something_is_told_when_it_has_come(hub, what: dict[str, Any], end: str):
    push(hub, "i1")
    (held,) = claim(hub) if end != "purged" else (None,)
    if end == "purged" and "ids" in what:
        pytest.skip("an item that was purged is unknown")
    waiters = [Waiter(hub, request=p.WaitFor(**what, wait_ms=WAIT_MS)) for _ in range(3)]
    assert all(one.waits for one in waiters)
    if held is None:
        call(hub, p.PurgePool(pool="p"))
    elif end == "done":
        call(hub, p.CompleteItems(completions=[Completion(id="i1", lease_id=held.lease_id or "")]))
    else:
        call(hub, p.FailItems(failures=[ItemFailure(id="i1", lease_id=held.lease_id or "", poison=True)]))
    for waiter in waiters:
        with contextlib.suppress(AttributeError):
            waiter.got()
        assert waiter.answer == p.WaitAnswer(
            open=0, done=end == "done", poisoned=end == "poisoned", poisoned_ids=["i1"] if end == "poisoned" else []
        )


def test_who_waited_long_enough_for_an_end_is_told_what_is_open(hub):
    push(hub, "i1")
    assert call(hub, p.WaitFor(pools=["p"], wait_ms=30)).open == 1


# -- events ------------------------------------------------------------------------------------------------------


def register(hub: Any, agent_id: str = "a1") -> None:
    call(hub, RegisterAgent(id=agent_id, type="t", lifetime_ms=60_000, host="h", pid=1))


def heard(waiter: Waiter) -> list[tuple[str, str]]:
    waiter._thread.join(SOON_S)
    assert not waiter.waits, "nobody woke it"
    if waiter.error is not None:
        raise waiter.error
    return [(one.kind, one.subject) for one in waiter.answer.events]


def test_who_waits_for_events_is_woken_by_those_it_asked_for(hub):
    one = Waiter(hub, request=ListEvents(after=0, wait_ms=WAIT_MS, kinds=["agent_status"]))
    two = Waiter(hub, request=ListEvents(after=0, wait_ms=WAIT_MS, kinds=["agent_status"]))
    push(hub, "i1")
    seen = asked(hub)
    register(hub)
    assert heard(one) == heard(two) == [("agent_status", "a1")]
    assert asked(hub) - seen <= 4, "each was asked again by what it waited for"


def test_events_of_another_tenant_wake_only_who_waits_for_those_of_all(hub):
    mine = Waiter(hub, caller=hub.owner("acme"), request=ListEvents(after=0, wait_ms=300))
    every = Waiter(hub, caller=hub.owner("acme"), request=ListEvents(after=0, wait_ms=WAIT_MS, all_tenants=True))
    register(hub)
    assert heard(every) == [("agent_status", "a1")]
    mine._thread.join(10)
    assert (mine.answer.events, mine.answer.more) == ([], False)


def test_what_happens_while_events_are_being_read_is_not_missed(hub):
    """Somebody writes all the time, somebody reads on and on: all of it comes, in order and once."""
    reader, seen, cursor = hub.owner(), [], 0
    writers = [threading.Thread(target=lambda n=n: [register(hub, f"a{n}-{k}") for k in range(25)]) for n in (1,)]
    for writer in writers:
        writer.start()
    while len(seen) < 25:
        page = reader.call(ListEvents(after=cursor, wait_ms=int(SOON_S * 1000), limit=7))
        assert page.events, "nobody woke it"
        seen += [one.seq for one in page.events]
        cursor = page.cursor
    for writer in writers:
        writer.join()
    assert seen == list(range(1, 26))


def test_who_waits_for_events_when_the_hub_stops_is_told_to_come_again(hub):
    waiter = Waiter(hub, request=ListEvents(after=0, wait_ms=WAIT_MS))
    hub.end()
    waiter._thread.join(10)
    assert isinstance(waiter.error, Unavailable)


def test_time_spent_waiting_is_no_latency(hub):
    waiter = Waiter(hub)
    time.sleep(1.0)
    push(hub, "i1")
    assert waiter.got() == ["i1"]
    assert call(hub, GetHubStats()).stats.latencies["pool.claim"].max_ms < 1000
