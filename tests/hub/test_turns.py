"""Tenants take turns: who floods waits for itself."""

import itertools
import threading

import pytest

from fedctl.errors import Unavailable
from fedctl.hub.jobs import Job, Readers
from fedctl.hub.turns import NEIGHBOUR_S, REQUEST_BYTES, TURN_BYTES, Turns
from fedctl.log import Log, LogOptions
from fedctl.messages.memory import GetEpisodes
from fedctl.model.principal import Principal

WAIT_S = 20


def job(tenant_id, size_bytes=100, done=lambda _job: None):
    who = Principal(tenant_id=tenant_id, role="owner")
    return Job(who, GetEpisodes(ids=[]), operation="op", size_bytes=size_bytes, began_s=0.0, done=done)


@pytest.fixture
def turns(clock):
    return Turns(clock.monotonic_s)


def fill(turns, *jobs):
    for one in jobs:
        turns.add(one)
    return jobs


def tenants(jobs):
    return [one.who.tenant_id for one in jobs]


def test_the_jobs_of_a_tenant_stay_in_order(turns):
    jobs = fill(turns, *(job("a") for _ in range(50)))
    taken = []
    while turns:
        taken += turns.group(7, 1 << 20)
    assert taken == list(jobs)


def test_nothing_is_lost_and_nothing_doubled_whatever_the_sizes(turns):
    sizes = itertools.cycle((1, 700, 9_000, 100_000))
    jobs = fill(turns, *(job("abc"[number % 3], next(sizes)) for number in range(99)))
    taken = []
    while turns:
        group = turns.group(10, 32_000)
        assert group
        taken += group
    assert sorted(map(id, taken)) == sorted(map(id, jobs))
    for tenant_id in "abc":
        assert [one for one in taken if one.who.tenant_id == tenant_id] == [
            one for one in jobs if one.who.tenant_id == tenant_id
        ]


def test_who_comes_late_does_not_stand_behind_anothers_flood(turns):
    fill(turns, *(job("flooder") for _ in range(1000)))
    fill(turns, job("victim"))
    assert "victim" in tenants(turns.group(1000, 3 * TURN_BYTES))


def test_a_large_job_is_not_taken_along_with_a_small_one_that_would_wait_for_it(turns):
    fill(turns, job("victim"), *(job("flooder", 100_000) for _ in range(3)))
    assert tenants(turns.group(1000, 32_000)) == ["victim"]
    assert tenants(turns.group(1000, 32_000)) == ["flooder"]


def test_a_job_larger_than_a_group_goes_alone(turns):
    fill(turns, job("a", 1 << 20), job("a"))
    assert len(turns.group(1000, 1000)) == 1
    assert len(turns.group(1000, 1000)) == 1


def test_the_same_work_is_done_for_small_and_for_large_requests(turns):
    fill(turns, *(job("small", 500) for _ in range(1000)), *(job("large", 40_000) for _ in range(100)))
    work = {"small": 0, "large": 0}
    for _ in range(20):
        for one in turns.group(1000, 32_000):
            work[one.who.tenant_id] += one.size_bytes + REQUEST_BYTES
    assert 0.5 < work["small"] / work["large"] < 2


def test_a_tenant_alone_shares_with_nobody_until_another_asks(turns, clock):
    fill(turns, job("a"), job("a"))
    assert not turns.shared
    fill(turns, job("b"))
    assert turns.shared
    fill(turns, job("a"))
    clock.advance(round(NEIGHBOUR_S * 1000) + 1)
    fill(turns, job("a"))
    assert not turns.shared


def test_tenants_are_asked_in_turn_one_job_each(turns):
    fill(turns, *(job("a") for _ in range(3)), *(job("b") for _ in range(3)))
    assert tenants([turns.one(lambda _tenant: True) for _ in range(6)]) == ["a", "b"] * 3
    assert turns.one(lambda _tenant: True) is None


def test_a_tenant_that_may_not_is_passed_over(turns):
    fill(turns, job("a"), job("b"))
    assert turns.one(lambda tenant: tenant != "a").who.tenant_id == "b"
    assert turns.one(lambda tenant: tenant != "a") is None
    assert turns


def test_long_questions_of_one_tenant_leave_a_thread_for_the_others(bench):
    """Two questions of a flooder that do not end, on three threads: a third waits, another tenant's does not."""
    asked, go_on, answered = threading.Semaphore(0), threading.Event(), threading.Event()

    class SlowStore:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        @property
        def tenants(self):
            if threading.current_thread().name not in fast:
                asked.release()
                assert go_on.wait(WAIT_S)
            return self._store.tenants

    fast = set()
    contexts = [bench.context.fork() for _ in range(3)]
    delivered = []

    def deliver(jobs):
        delivered.extend(jobs)
        if "victim" in tenants(jobs):
            answered.set()

    readers = Readers(
        [one._replace(store=SlowStore(one.store)) for one in contexts],
        deliver,
        Log(LogOptions("silent"), bench.clock),
    )
    flood = [job("flooder") for _ in range(3)]
    for one in flood:
        readers.submit(one)
    assert asked.acquire(timeout=WAIT_S)
    assert asked.acquire(timeout=WAIT_S)
    fast.update(thread.name for thread in readers._threads)  # from here on nobody is slow: the two still wait
    readers.submit(job("victim"))
    assert answered.wait(WAIT_S)
    assert tenants(delivered) == ["victim"]
    go_on.set()
    readers.stop()
    assert readers.join(WAIT_S)
    assert sorted(tenants(delivered)) == ["flooder"] * 3 + ["victim"]


def test_a_question_whose_asker_is_gone_is_not_looked_into(bench):
    class Asker:
        gone = True

    answered = threading.Semaphore(0)
    readers = Readers([bench.context.fork()], lambda _jobs: answered.release(), Log(LogOptions("silent"), bench.clock))
    left, stays = job("a"), job("a")
    left.asker = Asker()
    for one in (left, stays):
        readers.submit(one)
        assert answered.acquire(timeout=WAIT_S)
    readers.stop()
    assert readers.join(WAIT_S)
    assert left.answer is None
    assert isinstance(left.error, Unavailable)
    assert stays.answer is not None
