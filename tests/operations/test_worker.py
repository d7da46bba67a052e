"""The registry of workers, and what becomes of what they hold."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from fedctl.errors import Conflict, NotFound, UsageError
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.model.pool import Item, ItemDraft
from fedctl.model.worker import MAX_CAPABILITIES, WORKER_TRANSITIONS, Worker, WorkerStatus

STATUSES = get_args(WorkerStatus)


def register(bench, id_: str = "w", **fields: Any) -> w.WorkerAnswer:
    who = {name: fields.pop(name) for name in ("tenant", "role", "agent") if name in fields}
    return bench.call(w.RegisterWorker(id=id_, **fields), **who)


def beat(bench, id_: str = "w", **fields: Any) -> w.WorkerAnswer:
    return bench.call(w.BeatWorker(id=id_, **fields))


def show(bench, id_: str = "w", **who: Any) -> Worker:
    return bench.call(w.GetWorker(id=id_), **who).worker


def listed(bench, **conditions: Any) -> list[str]:
    return [one.worker_id for one in bench.call(w.ListWorkers(**conditions)).workers]


def hold(bench, worker: str = "w", *ids: str, **fields: Any) -> list[Item]:
    """Let a worker hold items (of one pool each, so that nobody else's are taken)."""
    held = []
    for id_ in ids:
        bench.call(p.PushItems(pool=f"of-{id_}", items=[ItemDraft(id=id_, **fields)]))
        held += bench.call(p.ClaimItems(pool=f"of-{id_}", worker_id=worker)).items
    return held


def item(bench, id_: str) -> Item:
    return bench.call(p.GetItem(id=id_)).item


# -- registering -------------------------------------------------------------------------------------------------


def test_a_worker_is_entered_as_it_says_it_is(bench):
    answer = register(
        bench, host="h", pid=7, capabilities=["gpu", "big", "gpu"], pool="p", heartbeat_interval_ms=1500,
        metadata={"a": [1, None], "gone": None},
    )  # fmt: skip
    assert (answer.released, answer.extended) == (0, 0)
    assert answer.worker == show(bench) == Worker(
        worker_id="w", tenant_id="default", status="active", host="h", pid=7, capabilities=["big", "gpu"], pool_id="p",
        started_at="2026-01-01T00:00:00.000Z", last_heartbeat="2026-01-01T00:00:00.000Z", heartbeat_interval_s=1.5,
        current_task_id=None, metadata={"a": [1, None]}, incarnation=1, stale=False,
    )  # fmt: skip


def test_a_worker_can_say_since_when_it_runs(bench):
    found = register(bench, started_at="2025-12-31T22:00:00.5-01:00").worker
    assert (found.started_at, found.last_heartbeat) == ("2025-12-31T23:00:00.500Z", "2026-01-01T00:00:00.000Z")


@pytest.mark.parametrize(
    "fields",
    [{"host": "x" * 256}, {"host": "\ud800"}, {"host": "a\0"}, {"pid": -1}, {"pid": 2**63}, {"pid": True},
     {"capabilities": ["a b"]}, {"capabilities": [f"c{n}" for n in range(MAX_CAPABILITIES + 1)]},
     {"heartbeat_interval_ms": 99}, {"heartbeat_interval_ms": 10**400}, {"started_at": "yesterday"},
     {"metadata": {"a": "x" * 70_000}}, {"metadata": {"a": float("nan")}}, {"metadata": {"\ud800": 1}},
     {"metadata": {"a": {1}}}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_a_worker_that_cannot_be_is_refused(bench, fields: dict[str, Any]):
    assert isinstance(bench.refusal(w.RegisterWorker(id="w", **fields)), UsageError)
    assert listed(bench) == []


def test_a_name_that_comes_back_is_a_new_incarnation_with_nothing_of_the_old_one(bench):
    register(bench, host="h", capabilities=["a"], pool="p", metadata={"a": 1})
    bench.call(w.SetWorkerStatus(id="w", status="terminated"))
    bench.clock.advance(1000)
    again = register(bench, capabilities=["b"]).worker
    assert (again.incarnation, again.status, again.host, again.pool_id) == (2, "active", None, None)
    assert (again.capabilities, again.metadata, again.started_at) == (["b"], {}, "2026-01-01T00:00:01.000Z")


def test_a_new_incarnation_gives_back_what_the_old_one_held_and_the_attempt_counts(bench):
    register(bench)
    hold(bench, "w", "i1")
    hold(bench, "w", "i2", max_retries=1)
    hold(bench, "other", "theirs")
    assert register(bench).released == 2
    assert [(item(bench, one).status, item(bench, one).attempts) for one in ("i1", "i2", "theirs")] == [
        ("pending", 1), ("poisoned", 1), ("claimed", 1),
    ]  # fmt: skip
    assert item(bench, "i2").error == "its worker began anew"


# -- heartbeats ----------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_noted_and_its_metadata_merged(bench):
    register(bench, metadata={"a": 1, "b": 1, "c": 1})
    bench.clock.advance(2000)
    found = beat(bench, metadata={"b": None, "c": {"x": None}, "d": 2, "never": None}).worker
    assert found.last_heartbeat == "2026-01-01T00:00:02.000Z"
    assert found.metadata == {"a": 1, "c": {"x": None}, "d": 2}
    assert (found.started_at, found.incarnation) == ("2026-01-01T00:00:00.000Z", 1)


def test_metadata_that_would_grow_too_large_is_refused_and_the_beat_is_not_noted(bench):
    register(bench, metadata={"a": "x" * 60_000})
    bench.clock.advance(1)
    assert isinstance(bench.refusal(w.BeatWorker(id="w", metadata={"b": "x" * 10_000})), UsageError)
    assert show(bench).last_heartbeat == "2026-01-01T00:00:00.000Z"


def test_a_heartbeat_extends_no_lease_unless_it_says_so(bench):
    register(bench)
    held = hold(bench, "w", "i1", "i2")
    theirs = hold(bench, "other", "theirs")
    bench.clock.advance(1000)
    assert beat(bench).extended == 0
    assert item(bench, "i1") == held[0]
    assert beat(bench, extend_leases_ms=90_000).extended == 2
    assert [item(bench, one).lease_expires_at for one in ("i1", "i2")] == ["2026-01-01T00:01:31.000Z"] * 2
    assert item(bench, "theirs") == theirs[0]


def test_a_heartbeat_revives_a_lost_worker_and_to_a_terminated_one_it_is_a_conflict(bench):
    register(bench)
    bench.call(w.SetWorkerStatus(id="w", status="lost"))
    assert beat(bench).worker.status == "active"
    bench.call(w.SetWorkerStatus(id="w", status="terminating"))
    assert beat(bench).worker.status == "terminating"
    bench.call(w.SetWorkerStatus(id="w", status="terminated"))
    error = bench.refusal(w.BeatWorker(id="w"))
    assert isinstance(error, Conflict)
    assert "register" in (error.hint or "")
    kinds = [one.detail["status"] for one in bench.store.changes.after(0, 99) if one.kind == "worker_status"]
    assert kinds == ["active", "lost", "active", "terminating", "terminated"]


def test_a_claim_revives_a_lost_worker_so_that_reaping_finds_what_it_holds(bench):
    register(bench, heartbeat_interval_ms=1000)
    bench.call(w.SetWorkerStatus(id="w", status="lost"))
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="i1")]))
    bench.clock.ms += 5000
    assert [one.id for one in bench.call(p.ClaimItems(pool="p", worker_id="w", lease_ms=3_600_000)).items] == ["i1"]
    worker = bench.call(w.GetWorker(id="w")).worker
    assert (worker.status, worker.stale) == ("active", False)
    bench.clock.ms += 5000
    assert [one.worker_id for one in bench.call(w.ReapWorkers()).workers] == ["w"]
    assert item(bench, "i1").status == "pending"


def test_a_worker_of_one_run_is_forgotten_when_it_ends_and_what_it_held_is_given_back(bench):
    register(bench)
    hold(bench, "w", "i1")
    answer = bench.call(w.SetWorkerStatus(id="w", status="terminated", forget=True))
    assert (answer.worker.status, answer.released) == ("terminated", 1)
    assert listed(bench) == []
    assert item(bench, "i1").status == "pending"
    assert isinstance(bench.refusal(w.GetWorker(id="w")), NotFound)
    assert register(bench).worker.incarnation == 1


def test_a_worker_that_goes_on_is_not_forgotten(bench):
    register(bench)
    bench.call(w.SetWorkerStatus(id="w", status="terminating", forget=True))
    assert listed(bench) == ["w"]


def test_an_incarnation_that_was_replaced_is_told_so(bench):
    first = register(bench).worker.incarnation
    assert beat(bench, incarnation=first).worker.incarnation == first
    second = register(bench).worker.incarnation
    assert isinstance(bench.refusal(w.BeatWorker(id="w", incarnation=first)), Conflict)
    assert beat(bench, incarnation=second).worker.status == "active"


# -- listing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def crew(bench):
    """Four workers a second apart, with intervals of 1, 2, 3 and 4 s; the fourth is terminated, the third leaving."""
    for number in (1, 2, 3, 4):
        register(bench, f"w{number}", capabilities=["any", f"c{number}"], pool="even" if number % 2 == 0 else "odd",
                 heartbeat_interval_ms=number * 1000)  # fmt: skip
        bench.clock.advance(1000)
    bench.call(w.SetWorkerStatus(id="w4", status="terminated"))
    bench.call(w.SetWorkerStatus(id="w3", status="terminating"))
    return bench


@pytest.mark.parametrize(
    ("conditions", "found"),
    [({}, "w4 w3 w2 w1"), ({"limit": 2}, "w4 w3"), ({"limit": -5}, "w4"), ({"limit": 10**30}, "w4 w3 w2 w1"),
     ({"statuses": ["active"]}, "w2 w1"), ({"statuses": ["terminated", "terminating"]}, "w4 w3"),
     ({"statuses": ["lost"]}, ""), ({"capability": "any"}, "w4 w3 w2 w1"), ({"capability": "c2"}, "w2"),
     ({"capability": "c"}, ""), ({"capability": "C2"}, ""), ({"pool": "even"}, "w4 w2"), ({"pool": "eve"}, ""),
     ({"pool": "odd", "statuses": ["active"], "capability": "any"}, "w1"),
     ({"silent_ms": 2999}, "w2 w1"), ({"silent_ms": 3000}, "w1"), ({"silent_ms": 0}, "w3 w2 w1")],
)  # fmt: skip
def test_workers_are_listed_newest_first_by_every_condition(crew, conditions: dict[str, Any], found: str):
    assert listed(crew, **conditions) == found.split()


def test_a_worker_is_stale_when_it_was_silent_for_more_than_twice_its_own_interval(crew):
    for passed_ms, stale in (
        (0, "w1"),
        (1000, "w1"),
        (1, "w2 w1"),
        (2999, "w2 w1"),
        (1, "w3 w2 w1"),
        (10**9, "w3 w2 w1"),
    ):
        crew.clock.advance(passed_ms)
        assert listed(crew, stale=True) == stale.split()
        assert [one.worker_id for one in crew.call(w.ListWorkers()).workers if one.stale] == stale.split()
    beat(crew, "w1")
    assert listed(crew, stale=True) == ["w3", "w2"]


@pytest.mark.parametrize("fields", [{"capability": "a b"}, {"pool": "../x"}, {"silent_ms": -1}, {"silent_ms": 2**63}])
def test_a_condition_that_cannot_be_is_refused(bench, fields: dict[str, Any]):
    assert isinstance(bench.refusal(w.ListWorkers(**fields)), UsageError)


def test_what_a_worker_claimed_last_is_its_task(bench):
    register(bench)
    (first,) = hold(bench, "w", "i1")
    bench.clock.advance(1)
    (second,) = hold(bench, "w", "i2")
    assert show(bench).current_task_id == "i2"
    for held, left in ((second, "i1"), (first, None)):
        bench.call(p.ReleaseItems(leases=[p.Lease(id=held.id, lease_id=held.lease_id or "")]))
        assert show(bench).current_task_id == left


# -- statuses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_one_status_follows_another_where_the_table_says_so_and_nowhere_else(bench, before: str, after: str):
    register(bench)
    if before != "active":
        bench.call(w.SetWorkerStatus(id="w", status=before))  # type: ignore[arg-type]
    seq = bench.store.changes.last_seq()
    request = w.SetWorkerStatus(id="w", status=after)  # type: ignore[arg-type]
    if after == before or after in WORKER_TRANSITIONS[before]:
        assert bench.call(request).worker.status == after
        assert bench.store.changes.last_seq() == seq + (after != before)
    else:
        assert isinstance(bench.refusal(request), Conflict)
        assert show(bench).status == before


@pytest.mark.parametrize(
    ("status", "attempts", "released"),
    [("active", 1, 0), ("terminating", 1, 0), ("terminated", 0, 1), ("lost", 1, 1)],
)
def test_who_is_gone_gives_back_what_it_held(bench, status: Any, attempts: int, released: int):
    register(bench)
    hold(bench, "w", "i1")
    assert bench.call(w.SetWorkerStatus(id="w", status=status)).released == released
    found = item(bench, "i1")
    assert (found.status, found.attempts) == ("pending" if released else "claimed", attempts)


# -- reaping -----------------------------------------------------------------------------------------------------


def test_a_reap_marks_the_stale_lost_and_gives_back_what_they_held(bench):
    register(bench, "quick", heartbeat_interval_ms=1000)
    register(bench, "leaving", heartbeat_interval_ms=1000)
    register(bench, "slow", heartbeat_interval_ms=60_000)
    register(bench, "gone", heartbeat_interval_ms=1000)
    bench.call(w.SetWorkerStatus(id="leaving", status="terminating"))
    bench.call(w.SetWorkerStatus(id="gone", status="terminated"))
    hold(bench, "quick", "i1", "i2")
    hold(bench, "quick", "last", max_retries=1)
    hold(bench, "slow", "i3")
    hold(bench, "stranger", "i4")
    bench.clock.advance(2000)
    assert bench.call(w.ReapWorkers()) == w.ReapAnswer(workers=[], released=0)
    bench.clock.advance(1)
    answer = bench.call(w.ReapWorkers())
    assert [(one.worker_id, one.status) for one in answer.workers] == [("leaving", "lost"), ("quick", "lost")]
    assert answer.released == 3
    assert [(item(bench, one).status, item(bench, one).attempts) for one in ("i1", "i2", "last", "i3", "i4")] == [
        ("pending", 1), ("pending", 1), ("poisoned", 1), ("claimed", 1), ("claimed", 1),
    ]  # fmt: skip
    assert bench.call(p.GetItem(id="i1")).history[-1].outcome == "lost"
    assert bench.call(w.ReapWorkers()).workers == [], "once is enough"


@pytest.mark.parametrize("jump_ms", [3_600_000, 315_360_000_000, -3_600_000])
def test_a_jump_of_a_hubs_clock_makes_no_living_worker_stale_and_no_silent_one_young(bench, jump_ms: int):
    register(bench, "w1", heartbeat_interval_ms=30_000)
    bench.clock.jump(jump_ms)
    assert bench.call(w.ReapWorkers()).workers == []
    assert not show(bench, "w1").stale
    bench.clock.advance(61_000)
    assert [one.worker_id for one in bench.call(w.ReapWorkers()).workers] == ["w1"]


def test_a_reap_is_the_tenant_s_own(bench):
    register(bench, tenant="b", heartbeat_interval_ms=100)
    bench.clock.advance(10_000)
    assert bench.call(w.ReapWorkers(), tenant="a").workers == []
    assert bench.call(w.ReapWorkers(), tenant="unused").workers == []
    assert show(bench, tenant="b").status == "active"


# -- whose -------------------------------------------------------------------------------------------------------

BY_ID = [
    lambda id_: w.GetWorker(id=id_),
    lambda id_: w.BeatWorker(id=id_),
    lambda id_: w.SetWorkerStatus(id=id_, status="lost"),
]


@pytest.mark.parametrize("make", BY_ID)
def test_another_tenant_s_worker_is_one_that_does_not_exist(bench, make):
    register(bench, "theirs", tenant="b")
    register(bench, "mine", tenant="a")
    for tenant in ("a", "unused"):
        error, nobody = bench.refusal(make("theirs"), tenant=tenant), bench.refusal(make("absent"), tenant=tenant)
        assert isinstance(error, NotFound)
        assert str(error.as_dict()).replace("theirs", "absent") == str(nobody.as_dict())
    assert show(bench, "theirs", tenant="b").status == "active"
    assert [one.worker_id for one in bench.call(w.ListWorkers(), tenant="a").workers] == ["mine"]
    assert bench.call(w.ListWorkers(), tenant="unused").workers == []


def test_capabilities_are_those_of_the_tenant_s_own_worker(bench):
    register(bench, "w", capabilities=["gpu"], tenant="b")
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="i", requires=["gpu"])]), tenant="a")
    assert bench.call(p.ClaimItems(pool="p", worker_id="w"), tenant="a").items == []
