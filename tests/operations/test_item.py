"""What becomes of items: pushed, claimed, completed, failed, given back."""

from __future__ import annotations

from typing import Any

import pytest

from fedctl.errors import Conflict, NotFound, UsageError
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.model import limits
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import (
    FOLLOW_UPS_MAX,
    KEY_MAX_CHARACTERS,
    LEASE_MS,
    MAX_LEASE_MS,
    MAX_PRIORITY,
    MIN_LEASE_MS,
    Completion,
    FollowUp,
    Item,
    ItemDraft,
    ItemFailure,
    Lease,
)

HOUR_MS = 3_600_000


def item(id_: str = "i1", **fields: Any) -> ItemDraft:
    return ItemDraft(**({"id": id_, "data": id_} | fields))


def push(bench, *drafts: ItemDraft | str, pool: str = "p", **who: Any) -> list[p.ItemResult]:
    made = [item(one) if isinstance(one, str) else one for one in drafts]
    return bench.call(p.PushItems(pool=pool, items=made), **who).results


def claim(bench, worker: str = "w", count: int = 1, *, pool: str = "p", lease_ms: int = LEASE_MS, **who: Any):
    request = p.ClaimItems(pool=pool, worker_id=worker, count=count, lease_ms=lease_ms)
    return bench.call(request, **who).items


def claim_one(bench, *arguments: Any, **parts: Any) -> Item:
    (found,) = claim(bench, *arguments, **parts)
    return found


def register(bench, id_: str = "w", *capabilities: str, **fields: Any):
    return bench.call(w.RegisterWorker(id=id_, capabilities=list(capabilities), **fields))


def lease(held: Item) -> Lease:
    assert held.lease_id is not None
    return Lease(id=held.id, lease_id=held.lease_id)


def complete(bench, held: Item, result: Any = None, **fields: Any) -> p.ItemResult:
    one = Completion(id=held.id, lease_id=held.lease_id or "", result=result, **fields)
    return bench.call(p.CompleteItems(completions=[one], echo=True)).results[0]


def fail(bench, held: Item, **fields: Any) -> p.ItemResult:
    one = ItemFailure(id=held.id, lease_id=held.lease_id or "", **fields)
    return bench.call(p.FailItems(failures=[one], echo=True)).results[0]


def extend(bench, held: Item, lease_ms: int = LEASE_MS) -> p.ItemResult:
    return bench.call(p.ExtendItems(leases=[lease(held)], lease_ms=lease_ms, echo=True)).results[0]


def release(bench, held: Item) -> p.ItemResult:
    return bench.call(p.ReleaseItems(leases=[lease(held)], echo=True)).results[0]


def get(bench, id_: str = "i1", **who: Any) -> Item:
    return bench.call(p.GetItem(id=id_), **who).item


def history(bench, id_: str = "i1") -> list[tuple[str, str, str | None]]:
    return [(one.worker_id, one.outcome, one.error) for one in bench.call(p.GetItem(id=id_)).history]


def figures(bench, pool: str = "p", **who: Any) -> tuple[int, int, int, int, int]:
    found = bench.call(p.GetPool(name=pool), **who).pool
    return found.pending, found.delayed, found.claimed, found.done, found.poisoned


def code(result: p.ItemResult) -> str | None:
    assert result.ok == (result.error is None)
    return None if result.error is None else result.error["code"]


# -- pushing -----------------------------------------------------------------------------------------------------


def test_an_item_is_kept_as_it_was_pushed(bench):
    draft = item(data={"a": [1, None, "é"]}, priority=-3, max_retries=5, key="k", requires=["gpu", "big", "gpu"])
    (result,) = bench.call(p.PushItems(pool="p", items=[draft], echo=True)).results
    assert (result.ok, result.id, result.existing) == (True, "i1", False)
    assert result.item == get(bench)
    assert result.item == Item(
        id="i1", pool="p", status="pending", data={"a": [1, None, "é"]}, priority=-3, attempts=0, max_retries=5,
        claimed_by=None, claimed_at=None, lease_id=None, lease_expires_at=None, created_at="2026-01-01T00:00:00.000Z",
        available_at="2026-01-01T00:00:00.000Z", finished_at=None, result=None, error=None, key="k",
        requires=["big", "gpu"],
    )  # fmt: skip
    assert history(bench) == []


@pytest.mark.parametrize("data", [None, True, 0, -1, 2**70, 1.5, "", "x", [], {}, {"a": {"b": [None, 2**63]}}])
def test_any_json_value_comes_back_as_itself(bench, data: Any):
    push(bench, item(data=data))
    found = claim_one(bench).data
    assert found == data
    assert type(found) is type(data)


HOSTILE: list[dict[str, Any]] = [
    {"id": ""}, {"id": "x" * 201}, {"id": "a\nb"}, {"id": "a\0"}, {"id": "\ud800"},
    {"data": "\ud800"}, {"data": float("nan")}, {"data": [float("inf")]}, {"data": {"\udfff": 1}},
    {"data": "x" * (1 << 20)}, {"data": ["é" * (1 << 19)]}, {"data": {1: 2}}, {"data": {1, 2}},
    {"priority": MAX_PRIORITY + 1}, {"priority": -MAX_PRIORITY - 1}, {"priority": 10**400}, {"priority": True},
    {"max_retries": -1}, {"max_retries": 2**63}, {"max_retries": True},
    {"key": ""}, {"key": " "}, {"key": "x" * (KEY_MAX_CHARACTERS + 1)}, {"key": "a\0b"}, {"key": "\ud800"},
    {"delay_ms": -1}, {"delay_ms": 10**400}, {"delay_ms": 1, "available_at": "2026-01-02T00:00:00.000Z"},
    {"available_at": "tomorrow"}, {"available_at": "+3h"}, {"available_at": "9999-99-99T00:00:00Z"},
    {"requires": ["a b"]}, {"requires": [""]}, {"requires": ["x" * 129]}, {"requires": [f"c{n}" for n in range(65)]},
]  # fmt: skip


@pytest.mark.parametrize("fields", HOSTILE, ids=lambda one: ascii(one)[:40])
def test_what_cannot_be_an_item_is_refused_in_its_place_and_the_others_are_kept(bench, fields: dict[str, Any]):
    before, bad, after = push(bench, "before", item(**fields), "after")
    assert (code(before), code(bad), code(after)) == (None, "usage", None)
    assert figures(bench) == (2, 0, 0, 0, 0)
    assert push(bench, item(**fields), pool="other")[0].ok is False
    assert [one.name for one in bench.call(p.ListPools()).pools] == ["p"], "what was refused makes no pool"


def test_the_greatest_of_everything_is_taken(bench):
    huge = item(
        "x" * 200, data="x" * ((1 << 20) - 2), priority=MAX_PRIORITY, max_retries=limits.INT64_MAX,
        key="k" * KEY_MAX_CHARACTERS, requires=[f"{n:03}" + "c" * 125 for n in range(64)],
    )  # fmt: skip
    assert code(push(bench, huge)[0]) is None
    register(bench, "w", *huge.requires)
    assert claim_one(bench).id == huge.id


@pytest.mark.parametrize("name", ["", "x" * 129, "../p", "-p", ".p", "a b", "a\0", "\ud800", "ü"])
def test_a_name_that_can_be_nobody_s_is_a_usage_error_everywhere(bench, name: str):
    push(bench, "i1")
    for request in (
        p.PushItems(pool=name, items=[item()]), p.ClaimItems(pool=name, worker_id="w"),
        p.ClaimItems(pool="p", worker_id=name), p.GetPool(name=name), p.ListItems(pool=name),
        p.PausePool(name=name, paused=True), p.PurgePool(pool=name), p.RetryItems(pool=name), p.WaitFor(pools=[name]),
        p.ReleaseWorker(worker_id=name), p.ReleaseWorker(worker_id="w", pool=name), w.RegisterWorker(id=name),
        w.RegisterWorker(id="w", capabilities=[name]), w.RegisterWorker(id="w", pool=name), w.BeatWorker(id=name),
        w.GetWorker(id=name), w.SetWorkerStatus(id=name, status="lost"), w.ListWorkers(capability=name),
        w.ListWorkers(pool=name),
    ):  # fmt: skip
        assert isinstance(bench.refusal(request), UsageError), request


def test_a_batch_is_neither_empty_nor_endless(bench):
    many = [f"i{number}" for number in range(limits.BATCH_MAX_ITEMS + 1)]
    leases = [Lease(id=one, lease_id="x") for one in many]
    for request in (
        p.PushItems(pool="p", items=[]), p.PushItems(pool="p", items=[item(one) for one in many]),
        p.CompleteItems(completions=[]), p.FailItems(failures=[]), p.ReleaseItems(leases=[]),
        p.ExtendItems(leases=leases), p.ReleaseItems(leases=leases), p.ClaimItems(pool="p", worker_id="w", count=0),
        p.ClaimItems(pool="p", worker_id="w", count=limits.BATCH_MAX_ITEMS + 1), p.RetryItems(),
        p.RetryItems(ids=["a"], pool="p"), p.RetryItems(ids=many), p.WaitFor(), p.WaitFor(ids=many),
    ):  # fmt: skip
        assert isinstance(bench.refusal(request), UsageError), type(request)


@pytest.mark.parametrize("lease_ms", [MIN_LEASE_MS - 1, MAX_LEASE_MS + 1, -1, 0, 10**400])
def test_a_lease_is_neither_too_short_nor_endless(bench, lease_ms: int):
    push(bench, "i1")
    assert isinstance(bench.refusal(p.ClaimItems(pool="p", worker_id="w", lease_ms=lease_ms)), UsageError)
    request = p.ExtendItems(leases=[lease(claim_one(bench))], lease_ms=lease_ms)
    assert isinstance(bench.refusal(request), UsageError)
    register(bench)
    assert isinstance(bench.refusal(w.BeatWorker(id="w", extend_leases_ms=lease_ms)), UsageError)


def test_the_same_push_again_is_answered_alike_and_with_other_content_a_conflict(bench):
    push(bench, item(data={"a": 1, "b": 2}))
    same = push(bench, item(data={"b": 2, "a": 1}))[0]
    assert (same.ok, same.existing) == (True, True)
    for changed in (
        {"data": 2},
        {"data": True},
        {"priority": 1},
        {"max_retries": 9},
        {"key": "k"},
        {"requires": ["c"]},
    ):
        assert code(push(bench, item(**({"data": {"a": 1, "b": 2}} | changed)))[0]) == "conflict"
    assert code(push(bench, item(data={"a": 1, "b": 2}), pool="elsewhere")[0]) == "conflict"
    held = claim_one(bench)
    assert push(bench, item(data={"a": 1, "b": 2}))[0].existing
    complete(bench, held)
    assert push(bench, item(data={"a": 1, "b": 2}))[0].existing, "a replayed push does not do the work twice"
    assert figures(bench) == (0, 0, 0, 1, 0)


def test_an_id_twice_in_a_batch_is_one_item(bench):
    results = push(bench, item("a", data=1), item("a", data=1), item("a", data=2))
    assert [(code(one), one.existing) for one in results] == [(None, False), (None, True), ("conflict", False)]


# -- deduplication keys --------------------------------------------------------------------------------------------


def test_a_key_holds_while_its_item_is_pending_delayed_or_claimed(bench):
    def again(data: Any = "x") -> tuple[str, bool, str | None]:
        (one,) = push(bench, item(bench.clock.new_id(), data=data, key="k"))
        return one.id, one.existing, code(one)

    push(bench, item("first", data="x", key="k", delay_ms=1000))
    assert again() == ("first", True, None)
    assert again("y")[2] == "conflict"
    bench.clock.advance(1000)
    assert again() == ("first", True, None)
    held = claim_one(bench)
    assert again() == ("first", True, None)
    fail(bench, held, retry_in_ms=5)
    assert again() == ("first", True, None)
    bench.clock.advance(5)
    complete(bench, claim_one(bench))
    assert again("y")[1:] == (False, None)
    fail(bench, claim_one(bench), poison=True)
    assert again("z")[1:] == (False, None), "a poisoned item holds no key either"


def test_a_key_is_the_pool_s_own(bench):
    push(bench, item("a", key="k"))
    assert push(bench, item("b", key="k"), pool="other")[0].existing is False
    assert push(bench, item("a", key="k"), tenant="other")[0].existing is False


def test_a_key_twice_in_a_batch_is_one_item(bench):
    results = push(bench, item("a", data=1, key="k"), item("b", data=1, key="k"), item("c", data=2, key="k"))
    assert [(one.id, code(one), one.existing) for one in results] == [
        ("a", None, False), ("a", None, True), ("c", "conflict", False),
    ]  # fmt: skip


# -- claiming: the order -------------------------------------------------------------------------------------------


def test_items_are_claimed_by_priority_and_then_in_the_order_they_came(bench):
    push(bench, item("a"), item("b", priority=5), item("c", priority=-5), item("d"), item("e", priority=5))
    assert [claim_one(bench).id for _ in range(5)] == ["b", "e", "a", "d", "c"]
    assert claim(bench) == []


def test_a_count_of_items_is_claimed_in_the_same_order_each_with_a_lease_of_its_own(bench):
    push(bench, *(item(f"i{n}", priority=n % 2, requires=["c"] if n % 3 else []) for n in range(9)))
    register(bench, "w", "c")
    found = claim(bench, count=7)
    assert [one.id for one in found] == ["i1", "i3", "i5", "i7", "i0", "i2", "i4"]
    assert len({one.lease_id for one in found}) == 7
    assert [one.id for one in claim(bench, count=100)] == ["i6", "i8"]


def test_a_claimed_item_says_whose_it_is_and_until_when(bench):
    push(bench, "i1")
    bench.clock.advance(1000)
    held = claim_one(bench, "ann", lease_ms=5000)
    assert held == get(bench)
    assert (held.status, held.attempts, held.claimed_by) == ("claimed", 1, "ann")
    assert (held.claimed_at, held.lease_expires_at) == ("2026-01-01T00:00:01.000Z", "2026-01-01T00:00:06.000Z")
    assert len(held.lease_id or "") == 32
    assert history(bench) == [("ann", "claimed", None)]


def test_a_lease_is_new_at_every_claim(bench):
    push(bench, item(max_retries=100))
    leases = set()
    for _ in range(10):
        held = claim_one(bench)
        leases.add(held.lease_id)
        fail(bench, held)
    assert len(leases) == 10


def test_what_is_claimed_at_once_fits_into_a_frame(bench):
    for n in range(6):
        push(bench, item(f"i{n}", data="x" * 1_000_000))
    first = claim(bench, count=6)
    assert [one.id for one in first] == ["i0", "i1"]
    assert [one.id for one in claim(bench, count=6)] == ["i2", "i3"]


def test_an_unused_pool_or_tenant_is_empty(bench):
    assert claim(bench) == []
    assert claim(bench, tenant="nobody") == []
    assert figures(bench) == (0, 0, 0, 0, 0)
    assert bench.call(p.ListPools()).pools == []


# -- capabilities --------------------------------------------------------------------------------------------------


def test_only_who_can_do_all_that_an_item_requires_gets_it(bench):
    push(bench, item("both", requires=["a", "b"]), item("one", requires=["a"]), item("none"))
    register(bench, "ab", "b", "a", "c")
    register(bench, "a", "a")
    assert [claim_one(bench, "stranger").id, claim(bench, "stranger")] == ["none", []]
    assert [claim_one(bench, "a").id, claim(bench, "a")] == ["one", []]
    assert claim_one(bench, "ab").id == "both"


def test_capabilities_are_compared_exactly(bench):
    push(bench, item(requires=["gpu"]))
    register(bench, "w", "GPU", "gpu2", "gp", "xgpu")
    assert claim(bench) == []


def test_items_that_are_not_for_a_worker_neither_slow_nor_starve_it(bench):
    push(bench, *(item(f"gpu{n}", requires=["gpu"], priority=9) for n in range(1000)))
    push(bench, "plain")
    before = bench.store.database.total_changes()
    assert claim_one(bench, "stranger").id == "plain"
    assert bench.store.database.total_changes() - before <= 3, "it walked past none of them"
    assert claim(bench, "stranger") == []


def test_a_worker_that_is_leaving_gets_nothing_and_a_lost_one_may_claim(bench):
    push(bench, "i1")
    register(bench)
    for status in ("terminating", "terminated"):
        bench.call(w.SetWorkerStatus(id="w", status=status))
        assert isinstance(bench.refusal(p.ClaimItems(pool="p", worker_id="w")), Conflict)
    register(bench)
    bench.call(w.SetWorkerStatus(id="w", status="lost"))
    assert claim_one(bench).id == "i1"


# -- delays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [{"delay_ms": 5000}, {"available_at": "2026-01-01T00:00:05.000Z"}])
def test_a_delayed_item_can_be_claimed_from_its_time_on(bench, when: dict[str, Any]):
    push(bench, item(**when))
    assert get(bench).available_at == "2026-01-01T00:00:05.000Z"
    assert get(bench).status == "pending"
    for passed_ms, left_ms in ((4000, 1000), (999, 1)):
        bench.clock.advance(passed_ms)
        answer = bench.call(p.ClaimItems(pool="p", worker_id="w"))
        assert (answer.items, answer.next_ms) == ([], left_ms)
        assert figures(bench) == (0, 1, 0, 0, 0)
    bench.clock.advance(1)
    assert figures(bench) == (1, 0, 0, 0, 0), "it is due, whether or not somebody has looked"
    assert claim_one(bench).id == "i1"


@pytest.mark.parametrize("when", [{"delay_ms": 0}, {"available_at": "2025-12-31T23:59:59.000Z"},
                                  {"available_at": "0001-01-01T00:00:00Z"}])  # fmt: skip
def test_a_time_that_is_past_is_no_delay(bench, when: dict[str, Any]):
    push(bench, item(**when))
    assert claim_one(bench).id == "i1"


def test_more_that_falls_due_at_once_than_one_sweep_takes_is_all_claimed(bench):
    for start in range(0, 2500, 500):
        push(
            bench, *(item(f"i{n}", delay_ms=10, requires=["c"] if n < 2400 else []) for n in range(start, start + 500))
        )
    bench.clock.advance(10)
    assert len(claim(bench, "stranger", 1000)) == 100, "what is due behind a full sweep is found in the same call"
    register(bench, "w", "c")
    assert sum(len(claim(bench, "w", 1000)) for _ in range(3)) == 2400


# -- leases --------------------------------------------------------------------------------------------------------


def test_an_expired_lease_counts_as_an_attempt_and_the_last_one_poisons(bench):
    push(bench, item(max_retries=2))
    for attempts in (1, 2):
        assert claim_one(bench, f"w{attempts}", lease_ms=1000).attempts == attempts
        bench.clock.advance(999)
        answer = bench.call(p.ClaimItems(pool="p", worker_id="x"))
        assert (answer.items, answer.next_ms) == ([], 1)
        bench.clock.advance(1)
    assert claim(bench, "x") == []
    assert figures(bench) == (0, 0, 0, 0, 1)
    found = get(bench)
    assert (found.status, found.attempts, found.error) == ("poisoned", 2, "the lease ran out")
    assert found.finished_at is not None
    assert history(bench) == [("w1", "expired", "the lease ran out"), ("w2", "expired", "the lease ran out")]


def test_more_that_expires_at_once_than_one_sweep_takes_is_all_given_back(bench):
    for start in range(0, 1500, 500):
        push(bench, *(item(f"i{n}", max_retries=1 if n < 1200 else 2) for n in range(start, start + 500)))
    assert sum(len(claim(bench, count=1000)) for _ in range(2)) == 1500
    bench.clock.advance(LEASE_MS)
    assert len(claim(bench, count=1000)) == 300, "the first thousand are all poisoned: the next come in the same call"
    assert figures(bench) == (0, 0, 300, 0, 1200)


def test_expired_leases_are_swept_in_a_paused_pool_too(bench):
    push(bench, "i1")
    claim_one(bench)
    bench.call(p.PausePool(name="p", paused=True))
    bench.clock.advance(LEASE_MS)
    answer = bench.call(p.ClaimItems(pool="p", worker_id="w"))
    assert (answer.items, answer.next_ms) == ([], None)
    assert figures(bench) == (1, 0, 0, 0, 0)


def test_an_extended_lease_lasts_from_now_on(bench):
    push(bench, "i1")
    held = claim_one(bench, lease_ms=1000)
    for _ in range(5):
        bench.clock.advance(900)
        result = extend(bench, held, 1000)
        assert result.ok
        assert claim(bench, "thief") == []
    assert (result.item.lease_expires_at, result.item.attempts) == ("2026-01-01T00:00:05.500Z", 1)
    bench.clock.advance(1000)
    assert claim_one(bench, "thief").id == "i1"
    assert code(extend(bench, held)) == "conflict"


def test_who_is_late_but_was_not_replaced_may_finish(bench):
    push(bench, "i1")
    held = claim_one(bench, lease_ms=1000)
    bench.clock.advance(HOUR_MS)
    assert complete(bench, held, 1).ok


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_jump_of_the_wall_clock_neither_frees_nor_freezes_a_lease_or_a_delay(bench, jump_ms: int):
    push(bench, "i1", item("later", delay_ms=10_000))
    held = claim_one(bench, lease_ms=5000)
    bench.clock.jump(jump_ms)
    assert claim(bench, "thief") == []
    bench.clock.advance(4999)
    assert claim(bench, "thief") == []
    bench.clock.advance(1)
    assert claim_one(bench, "thief").id == "i1"
    assert not complete(bench, held).ok
    bench.clock.advance(5000)
    assert claim_one(bench, "thief").id == "later"


# -- completing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, 0, False, "", [], {"a": [1.5, None]}, 2**70, "x" * ((1 << 20) - 2)])
def test_a_completed_item_keeps_its_result(bench, result: Any):
    push(bench, "i1")
    held = claim_one(bench, "ann")
    bench.clock.advance(500)
    answer = complete(bench, held, result)
    assert (answer.ok, answer.existing, answer.pushed, answer.episode) == (True, False, [], None)
    assert answer.item == get(bench)
    assert (answer.item.status, answer.item.result) == ("done", result)
    assert (answer.item.finished_at, answer.item.lease_expires_at) == ("2026-01-01T00:00:00.500Z", None)
    assert history(bench) == [("ann", "done", None)]
    assert figures(bench) == (0, 0, 0, 1, 0)


def test_the_same_completion_twice_is_accepted_and_another_result_a_conflict(bench):
    push(bench, "i1")
    held = claim_one(bench)
    complete(bench, held, {"a": 1, "b": 2})
    again = complete(bench, held, {"b": 2, "a": 1})
    assert (again.ok, again.existing, again.item.result) == (True, True, {"a": 1, "b": 2})
    for other in ({"a": 1}, None, {"a": True, "b": 2}, {"a": 1.0, "b": 2}):
        assert code(complete(bench, held, other)) == "conflict"
    assert get(bench).result == {"a": 1, "b": 2}


def test_a_completion_twice_in_a_batch_counts_once(bench):
    push(bench, "i1")
    one = Completion(id="i1", lease_id=claim_one(bench).lease_id or "", result=1,
                     then_push=[FollowUp(pool="next", item=item("n"))])  # fmt: skip
    first, second, third = bench.call(
        p.CompleteItems(completions=[one, one, Completion(id="i1", lease_id=one.lease_id, result=2)])
    ).results
    assert (first.existing, second.existing, code(third)) == (False, True, "conflict")
    assert figures(bench, "next") == (1, 0, 0, 0, 0)


STALE = {
    "another worker has it": lambda bench: claim_one(bench, "other"),
    "the same worker has a new lease": lambda bench: claim_one(bench, "w"),
    "it is done": lambda bench: complete(bench, claim_one(bench, "other"), "theirs"),
    "it is poisoned": lambda bench: fail(bench, claim_one(bench, "other"), poison=True),
    "nobody has it": lambda _bench: None,
}


@pytest.mark.parametrize("state", STALE)
@pytest.mark.parametrize("verb", [complete, fail, extend, release])
def test_a_stale_lease_changes_nothing(bench, verb, state: str):
    push(bench, item(max_retries=9))
    stale = claim_one(bench, "w", lease_ms=1000)
    bench.clock.advance(1000)
    claim(bench, "nobody", pool="elsewhere")
    bench.call(p.ClaimItems(pool="p", worker_id="sweeper"))
    release(bench, get(bench))
    STALE[state](bench)
    before, seq = bench.call(p.GetItem(id="i1")), bench.store.changes.last_seq()
    result = verb(bench, stale)
    assert code(result) == "conflict"
    assert result.error["details"] == {"status": before.item.status}
    assert bench.call(p.GetItem(id="i1")) == before
    assert bench.store.changes.last_seq() == seq


@pytest.mark.parametrize("verb", [complete, fail, extend, release])
def test_an_old_incarnation_s_lease_is_lost(bench, verb):
    push(bench, "i1")
    register(bench)
    stale = claim_one(bench)
    assert register(bench).released == 1
    assert code(verb(bench, stale)) == "conflict"
    held = claim_one(bench)
    assert code(verb(bench, stale)) == "conflict"
    assert complete(bench, held).ok
    assert history(bench) == [("w", "lost", "its worker began anew"), ("w", "done", None)]


@pytest.mark.parametrize("verb", [fail, extend, release])
def test_what_is_done_stays_done(bench, verb):
    push(bench, "i1")
    held = claim_one(bench)
    complete(bench, held, "mine")
    assert code(verb(bench, held)) == "conflict"
    assert (get(bench).status, get(bench).result) == ("done", "mine")


def test_what_has_failed_is_not_completed_by_the_lease_it_failed_with(bench):
    push(bench, "i1")
    held = claim_one(bench)
    assert fail(bench, held, error="no").ok
    assert code(complete(bench, held)) == "conflict"
    assert code(fail(bench, held, error="no")) == "conflict"
    assert get(bench).attempts == 1


BY_LEASE = [
    lambda id_, lease_id: p.CompleteItems(completions=[Completion(id=id_, lease_id=lease_id)]),
    lambda id_, lease_id: p.FailItems(failures=[ItemFailure(id=id_, lease_id=lease_id)]),
    lambda id_, lease_id: p.ExtendItems(leases=[Lease(id=id_, lease_id=lease_id)]),
    lambda id_, lease_id: p.ReleaseItems(leases=[Lease(id=id_, lease_id=lease_id)]),
    lambda id_, _lease_id: p.RetryItems(ids=[id_]),
]


@pytest.mark.parametrize("make", BY_LEASE)
def test_another_tenant_s_item_is_one_that_does_not_exist(bench, make):
    push(bench, "theirs", tenant="b")
    push(bench, "mine", tenant="a")
    held = claim_one(bench, tenant="b")
    for tenant in ("a", "unused"):
        (refused,) = bench.call(make("theirs", held.lease_id), tenant=tenant).results
        (nobody,) = bench.call(make("absent", held.lease_id), tenant=tenant).results
        assert code(refused) == "not_found"
        assert str(refused.error).replace("theirs", "absent") == str(nobody.error)
        for ask in (lambda id_: p.GetItem(id=id_), lambda id_: p.WaitFor(ids=[id_])):
            error, other = bench.refusal(ask("theirs"), tenant=tenant), bench.refusal(ask("absent"))
            assert isinstance(error, NotFound)
            assert str(error.as_dict()).replace("theirs", "absent") == str(other.as_dict())
    assert get(bench, "theirs", tenant="b") == held


def test_pools_of_the_same_name_are_the_tenants_own(bench):
    push(bench, "x", tenant="a")
    push(bench, "x", "y", tenant="b")
    bench.call(p.PausePool(name="p", paused=True), tenant="b")
    assert [one.id for one in claim(bench, count=9, tenant="a")] == ["x"]
    assert figures(bench, tenant="b") == (2, 0, 0, 0, 0)
    assert bench.call(p.ReleaseWorker(worker_id="w"), tenant="b").results == []


@pytest.mark.parametrize("make", BY_LEASE)
@pytest.mark.parametrize("id_", ["", "x" * 201, "a\nb", "\ud800"])
def test_an_id_that_can_be_no_item_s_is_refused_in_its_place(bench, make, id_: str):
    push(bench, "i1")
    assert code(bench.call(make(id_, "x")).results[0]) == "usage"


@pytest.mark.parametrize("result", ["x" * ((1 << 20) - 1), "é" * (1 << 19), float("nan"), "\ud800", {1, 2}, {1: 2}])
def test_a_result_that_cannot_be_kept_is_refused_and_the_lease_goes_on(bench, result: Any):
    push(bench, "i1")
    held = claim_one(bench)
    assert code(complete(bench, held, result)) == "usage"
    assert get(bench) == held
    assert complete(bench, held, "smaller").ok


def test_one_bad_line_of_a_batch_takes_nothing_from_the_others(bench):
    push(bench, "a", "b", "c")
    a, b, c = claim(bench, count=3)
    release(bench, b)
    results = bench.call(
        p.CompleteItems(
            completions=[
                Completion(id=one.id, lease_id=one.lease_id or "", result=1)
                for one in (a, b, c, Item(**{name: getattr(a, name) for name in a.__struct_fields__} | {"id": "no"}))
            ]
        )
    ).results
    assert [code(one) for one in results] == [None, "conflict", None, "not_found"]
    assert figures(bench) == (1, 0, 0, 2, 0)


# -- the next claim in the same commit -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["complete", "fail"])
def test_the_next_items_are_claimed_in_the_commit_that_ends_the_last(bench, ending: str):
    push(bench, "a", "b", "c")
    held = claim_one(bench)
    then = p.ClaimItems(pool="p", worker_id="w", count=2)
    if ending == "complete":
        request: Any = p.CompleteItems(completions=[Completion(id="a", lease_id=held.lease_id or "")], claim=then)
    else:
        request = p.FailItems(failures=[ItemFailure(id="a", lease_id=held.lease_id or "", poison=True)], claim=then)
    answer = bench.call(request)
    assert answer.results[0].ok
    assert [one.id for one in answer.claimed] == ["b", "c"]


def test_a_claim_that_cannot_be_leaves_the_completion_undone(bench):
    push(bench, "a")
    held = claim_one(bench)
    done = [Completion(id="a", lease_id=held.lease_id or "")]
    for then in (p.ClaimItems(pool="../p", worker_id="w"), p.ClaimItems(pool="p", worker_id="w", count=0)):
        assert isinstance(bench.refusal(p.CompleteItems(completions=done, claim=then)), UsageError)
    assert get(bench, "a") == held


# -- failing and giving back -----------------------------------------------------------------------------------------


def test_a_failed_item_is_claimable_at_once_and_poisoned_at_the_last_attempt(bench):
    push(bench, item(max_retries=3))
    for attempt in (1, 2, 3):
        held = claim_one(bench)
        assert held.attempts == attempt
        assert fail(bench, held, error=f"no {attempt}").item.status == ("pending" if attempt < 3 else "poisoned")
    found = get(bench)
    assert (found.attempts, found.error, found.claimed_by, found.lease_id) == (3, "no 3", None, None)
    assert claim(bench) == []
    assert history(bench) == [("w", "failed", f"no {n}") for n in (1, 2, 3)]


def test_without_retries_the_first_failure_poisons(bench):
    for retries in (0, 1):
        push(bench, item(f"i{retries}", max_retries=retries))
        assert fail(bench, claim_one(bench)).item.status == "poisoned"


def test_a_failed_item_can_be_told_to_wait(bench):
    push(bench, "i1")
    assert fail(bench, claim_one(bench), retry_in_ms=5000).item.available_at == "2026-01-01T00:00:05.000Z"
    assert figures(bench) == (0, 1, 0, 0, 0)
    bench.clock.advance(4999)
    assert claim(bench) == []
    bench.clock.advance(1)
    assert claim_one(bench).attempts == 2
    assert code(fail(bench, get(bench), retry_in_ms=-1)) == "usage"


def test_an_item_that_can_never_succeed_is_poisoned_at_once(bench):
    push(bench, "i1")
    assert fail(bench, claim_one(bench), error="hopeless", poison=True, retry_in_ms=5).item.status == "poisoned"
    assert get(bench).available_at == "2026-01-01T00:00:00.000Z", "there is no next attempt to wait for"
    assert figures(bench) == (0, 0, 0, 0, 1)


@pytest.mark.parametrize("text", ["x" * 5_000_000, "é" * 2_500_000, "😀" * 20_000, "x" * limits.ERROR_TEXT_MAX_BYTES])
def test_an_error_text_is_kept_up_to_its_limit_and_marked_where_it_was_cut(bench, text: str):
    push(bench, "i1")
    kept = fail(bench, claim_one(bench), error=text).item.error
    assert len(kept.encode()) <= limits.ERROR_TEXT_MAX_BYTES
    if len(text.encode()) > limits.ERROR_TEXT_MAX_BYTES:
        assert kept.endswith(" [cut]")
        assert text.startswith(kept.removesuffix(" [cut]"))
        assert len(kept.encode()) > limits.ERROR_TEXT_MAX_BYTES - 4
    else:
        assert kept == text
    assert history(bench) == [("w", "failed", kept)]


@pytest.mark.parametrize(("text", "kept"), [("\ud800 a\0b", "? a?b"), ("", ""), (None, None)])
def test_any_error_text_can_be_kept(bench, text: str | None, kept: str | None):
    push(bench, "i1")
    assert fail(bench, claim_one(bench), error=text).item.error == kept


def test_a_release_gives_the_attempt_back(bench):
    push(bench, item(max_retries=1))
    for _ in range(5):
        held = claim_one(bench)
        assert held.attempts == 1
        result = release(bench, held)
        assert (result.item.status, result.item.attempts) == ("pending", 0)
    assert history(bench) == [("w", "released", None)] * 5
    assert figures(bench) == (1, 0, 0, 0, 0)


def test_a_release_keeps_the_error_and_the_place_in_the_queue(bench):
    push(bench, "i1", "i2")
    fail(bench, claim_one(bench), error="first")
    release(bench, claim_one(bench))
    assert get(bench).error == "first"
    assert claim_one(bench).id == "i1"


def test_all_that_a_worker_holds_is_given_back_in_all_pools_or_in_one(bench):
    push(bench, "a", "b")
    push(bench, "c", pool="q")
    for pool in ("p", "p", "q"):
        claim_one(bench, pool=pool)
    mine = claim_one(bench, "other", pool="q") if push(bench, "d", pool="q") else None
    answer = bench.call(p.ReleaseWorker(worker_id="w", pool="p")).results
    assert [(one.id, one.item.attempts) for one in answer] == [("a", 0), ("b", 0)]
    assert [one.id for one in bench.call(p.ReleaseWorker(worker_id="w")).results] == ["c"]
    assert bench.call(p.ReleaseWorker(worker_id="w")).results == []
    assert get(bench, "d") == mine


# -- one transaction: done, what follows, what was learned -------------------------------------------------------------


def follow_up(*drafts: ItemDraft, pool: str = "next") -> list[FollowUp]:
    return [FollowUp(pool=pool, item=one) for one in drafts]


def test_done_what_follows_and_what_was_learned_are_one_commit(bench):
    push(bench, "i1")
    held = claim_one(bench)
    answer = complete(
        bench, held, "ok",
        then_push=[*follow_up(item("n1", priority=2)), *follow_up(item("n2", delay_ms=10), pool="later")],
        episode=EpisodeDraft(id="e1", task="a task", reward=0.9),
    )  # fmt: skip
    assert [(one.id, one.pool, one.priority) for one in answer.pushed] == [("n1", "next", 2), ("n2", "later", 0)]
    assert answer.episode is not None
    assert answer.episode.ok
    assert bench.ids() == ["e1"]
    assert figures(bench, "next") == (1, 0, 0, 0, 0)
    assert figures(bench, "later") == (0, 1, 0, 0, 0)
    events = [(one.kind, one.subject) for one in bench.store.changes.after(0, 100)]
    assert events == [
        ("items_pushed", "p"), ("items_claimed", "p"), ("items_pushed", "next"), ("items_pushed", "later"),
        ("episode_stored", "e1"), ("items_done", "p"),
    ]  # fmt: skip


def test_a_completion_that_is_repeated_pushes_and_stores_nothing_again(bench):
    push(bench, "i1")
    held = claim_one(bench)
    parts: dict[str, Any] = {"then_push": follow_up(item("n1")), "episode": EpisodeDraft(id="e1", task="t")}
    complete(bench, held, 1, **parts)
    complete(bench, claim_one(bench, pool="next"))
    seq = bench.store.changes.last_seq()
    assert complete(bench, held, 1, **parts).existing
    assert bench.store.changes.last_seq() == seq


BAD: dict[str, dict[str, Any]] = {
    "a follow-up that cannot be": {"then_push": follow_up(item("n1"), item("n2", priority=10**9 * 9))},
    "a pool that cannot be": {"then_push": [*follow_up(item("n1")), *follow_up(item("n2"), pool="../x")]},
    "a follow-up that is too large": {"then_push": follow_up(item("n1"), item("n2", data="x" * (1 << 20)))},
    "an id that is taken": {"then_push": follow_up(item("n1"), item("taken", data="other"))},
    "a key that is held": {"then_push": [*follow_up(item("n1")), *follow_up(item("n2", key="held"), pool="p")]},
    "an episode that cannot be": {
        "then_push": follow_up(item("n1")), "episode": EpisodeDraft(id="e1", task="", reward=7.0),
    },
    "an episode in conflict": {"then_push": follow_up(item("n1")), "episode": EpisodeDraft(id="known", task="other")},
    "too many follow-ups": {"then_push": follow_up(*(item(f"n{n}") for n in range(FOLLOW_UPS_MAX + 1)))},
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_follow_refuses_the_completion_and_leaves_nothing(bench, what: str):
    bench.keep("known")
    push(bench, "i1", item("taken", key="held"), item("good"))
    held, _, good = claim(bench, count=3)
    seq, before = bench.store.changes.last_seq(), get(bench)
    alone = complete(bench, held, 1, **BAD[what])
    assert code(alone) in ("usage", "conflict")
    assert get(bench) == before
    assert figures(bench, "next") == (0, 0, 0, 0, 0)
    assert [one.name for one in bench.call(p.ListPools()).pools] == ["p"]
    assert bench.ids() == ["known"]
    assert bench.store.changes.last_seq() == seq
    bad = Completion(id="i1", lease_id=held.lease_id or "", **BAD[what])
    kept = Completion(id="good", lease_id=good.lease_id or "", then_push=follow_up(item("kept")))
    results = bench.call(p.CompleteItems(completions=[kept, bad])).results
    assert [one.ok for one in results] == [True, False], "and the other lines of its batch go their way"
    assert [one.id for one in claim(bench, count=9, pool="next")] == ["kept"]
    assert complete(bench, held, 1).ok


def test_the_key_of_what_is_completed_is_free_for_its_successor(bench):
    """As when an item puts itself in the queue again: every morning the same key."""
    push(bench, item("monday", data="report", key="daily"), item("other", key="o"))
    held, other = claim(bench, count=2)
    (successor,) = complete(
        bench, held, then_push=follow_up(item("tuesday", data="report", key="daily"), pool="p")
    ).pushed
    assert (successor.id, successor.status) == ("tuesday", "pending")
    held = claim_one(bench)
    results = bench.call(
        p.CompleteItems(
            completions=[
                Completion(id=held.id, lease_id=held.lease_id or ""),
                Completion(
                    id=other.id,
                    lease_id=other.lease_id or "",
                    then_push=follow_up(item("wednesday", data="else", key="daily"), pool="p"),
                ),
            ]
        )
    ).results
    assert results[1].pushed_ids == ["wednesday"]
    assert get(bench, "tuesday").status == get(bench, "other").status == "done"


# -- events ------------------------------------------------------------------------------------------------------


def test_every_change_is_one_event_with_its_items(bench):
    push(bench, item("a", max_retries=1), "b", "c")
    a, b, c = claim(bench, count=3)
    fail(bench, a)
    release(bench, b)
    complete(bench, c)
    bench.call(p.RetryItems(ids=["a"]))
    bench.call(p.PurgePool(pool="p", status="done"))
    events = [(one.kind, one.subject, one.detail.get("ids")) for one in bench.store.changes.after(0, 100)]
    assert events == [
        ("items_pushed", "p", ["a", "b", "c"]), ("items_claimed", "p", ["a", "b", "c"]),
        ("items_poisoned", "p", ["a"]), ("items_released", "p", ["b"]), ("items_done", "p", ["c"]),
        ("items_pushed", "p", ["a"]), ("items_purged", "p", []),
    ]  # fmt: skip


def test_a_claim_that_finds_nothing_writes_nothing(bench):
    push(bench, item(delay_ms=1000))
    before, seq = bench.store.database.total_changes(), bench.store.changes.last_seq()
    for _ in range(5):
        claim(bench)
    assert bench.store.database.total_changes() == before
    assert bench.store.changes.last_seq() == seq
