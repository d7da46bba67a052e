"""What can be seen of pools and done to them as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from fedctl.errors import UsageError
from fedctl.messages import pool as p
from fedctl.model import limits
from fedctl.model.pool import LEASE_MS, Completion, Item, ItemDraft, ItemFailure, Pool


def push(bench, *drafts: ItemDraft | str, pool: str = "p", **who: Any) -> None:
    made = [ItemDraft(id=one, data=one) if isinstance(one, str) else one for one in drafts]
    for result in bench.call(p.PushItems(pool=pool, items=made), **who).results:
        assert result.ok


def claim(bench, count: int = 1, pool: str = "p") -> list[Item]:
    return bench.call(p.ClaimItems(pool=pool, worker_id="w", count=count)).items


def finish(bench, *held: Item) -> None:
    bench.call(p.CompleteItems(completions=[Completion(id=one.id, lease_id=one.lease_id or "") for one in held]))


def poison(bench, *held: Item) -> None:
    failures = [ItemFailure(id=one.id, lease_id=one.lease_id or "", poison=True, error="bad") for one in held]
    bench.call(p.FailItems(failures=failures))


def show(bench, pool: str = "p", **who: Any) -> Pool:
    return bench.call(p.GetPool(name=pool), **who).pool


@pytest.fixture
def mixed(bench):
    """A pool with one item in each state; `delayed` lies ten seconds ahead."""
    push(bench, "done", "poisoned", "claimed")
    bench.clock.advance(1000)
    done, poisoned, _ = claim(bench, 3)
    finish(bench, done)
    poison(bench, poisoned)
    push(bench, "pending", ItemDraft(id="delayed", delay_ms=10_000))
    return bench


# -- figures -----------------------------------------------------------------------------------------------------


def test_a_pool_s_figures_count_its_items_by_state(mixed):
    mixed.clock.advance(2500)
    expected = Pool(name="p", paused=False, pending=1, delayed=1, claimed=1, done=1, poisoned=1, oldest_pending_s=2.5)
    assert show(mixed) == expected
    assert mixed.call(p.ListPools()).pools == [expected]


def test_the_oldest_pending_is_among_all_requirements_and_never_in_the_future(bench):
    push(bench, ItemDraft(id="a", requires=["c"]))
    bench.clock.advance(2000)
    push(bench, ItemDraft(id="b", priority=9))
    assert show(bench).oldest_pending_s == 2.0
    bench.clock.jump(-3_600_000)
    push(bench, "c")
    bench.clock.advance(-10_000)
    assert show(bench).oldest_pending_s == 0


def test_pools_are_listed_by_name_with_their_tenant_s_items_only(bench):
    push(bench, "x", pool="b")
    push(bench, "y", pool="a")
    push(bench, "y", "z", pool="a", tenant="other")
    assert [(one.name, one.pending) for one in bench.call(p.ListPools()).pools] == [("a", 1), ("b", 1)]
    assert [(one.name, one.pending) for one in bench.call(p.ListPools(), tenant="other").pools] == [("a", 2)]


# -- pages of items ------------------------------------------------------------------------------------------------


def pages(bench, **fields: Any) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = bench.call(p.ListItems(pool="p", cursor=cursor, **fields))
        found.append([one.id for one in page.items])
        cursor = page.cursor
        if cursor is None:
            return found


def test_items_are_paged_in_the_order_they_were_pushed(bench):
    push(bench, *(ItemDraft(id=f"i{n}", priority=n) for n in range(7)))
    assert pages(bench, limit=3) == [["i0", "i1", "i2"], ["i3", "i4", "i5"], ["i6"]]
    assert pages(bench) == [[f"i{n}" for n in range(7)]]
    assert bench.call(p.ListItems(pool="p", limit=1, count=True)).total == 7


@pytest.mark.parametrize(
    ("status", "ids"),
    [("pending", ["pending", "delayed"]), ("claimed", ["claimed"]), ("done", ["done"]), ("poisoned", ["poisoned"]),
     (None, ["done", "poisoned", "claimed", "pending", "delayed"])],
)  # fmt: skip
def test_items_are_listed_by_status(mixed, status: Any, ids: list[str]):
    assert pages(mixed, status=status) == [ids]
    assert mixed.call(p.ListItems(pool="p", status=status, count=True)).total == len(ids)


def test_a_page_is_cut_where_it_would_not_fit_into_a_frame(bench):
    for n in range(5):
        push(bench, ItemDraft(id=f"i{n}", data="x" * 900_000))
    held = claim(bench, 1)[0]
    bench.call(p.CompleteItems(completions=[Completion(id="i0", lease_id=held.lease_id or "", result="y" * 900_000)]))
    assert pages(bench) == [["i0"], ["i1", "i2"], ["i3", "i4"]]


def test_what_is_no_page_is_refused_and_an_unused_pool_is_an_empty_one(bench):
    for fields in ({"limit": 0}, {"limit": -1}, {"cursor": -1}, {"cursor": 2**63}):
        assert isinstance(bench.refusal(p.ListItems(pool="p", **fields)), UsageError)
    assert bench.call(p.ListItems(pool="p", count=True, limit=10**30)) == p.ItemPage(items=[], cursor=None, total=0)


def test_the_history_of_an_item_tells_every_attempt_in_order(bench):
    push(bench, ItemDraft(id="i", max_retries=9))
    poison_at = []
    for worker in ("a", "b", "c"):
        (held,) = bench.call(p.ClaimItems(pool="p", worker_id=worker)).items
        bench.clock.advance(1000)
        bench.call(p.FailItems(failures=[ItemFailure(id="i", lease_id=held.lease_id or "", error=worker)]))
        poison_at.append(held.claimed_at)
    history = bench.call(p.GetItem(id="i")).history
    assert [(one.worker_id, one.outcome, one.error, one.claimed_at) for one in history] == [
        (worker, "failed", worker, at) for worker, at in zip("abc", poison_at, strict=True)
    ]
    assert [one.ended_at for one in history] == [f"2026-01-01T00:00:0{n}.000Z" for n in (1, 2, 3)]


# -- waiting -----------------------------------------------------------------------------------------------------


def test_who_waits_for_a_pool_is_told_what_is_open_and_what_ended_how(mixed):
    answer = mixed.call(p.WaitFor(pools=["p", "unused"]))
    assert answer == p.WaitAnswer(open=3, done=1, poisoned=1, poisoned_ids=["poisoned"])
    assert answer.unmet
    answer = mixed.call(p.WaitFor(ids=["done", "poisoned"]))
    assert answer == p.WaitAnswer(open=0, done=1, poisoned=1, poisoned_ids=["poisoned"])
    assert not answer.unmet
    assert mixed.call(p.WaitFor(ids=["delayed", "claimed", "pending"])).open == 3


def test_of_many_poisoned_a_hundred_are_named(bench):
    push(bench, *(f"i{n}" for n in range(150)))
    poison(bench, *claim(bench, 150))
    answer = bench.call(p.WaitFor(pools=["p"]))
    assert (answer.poisoned, len(answer.poisoned_ids)) == (150, 100)


# -- pausing -----------------------------------------------------------------------------------------------------


def test_from_a_paused_pool_nothing_is_claimed_and_what_is_claimed_goes_on(bench):
    push(bench, "a", "b")
    (held,) = claim(bench)
    assert bench.call(p.PausePool(name="p", paused=True)).pool.paused
    assert claim(bench) == []
    push(bench, "c")
    finish(bench, held)
    assert (show(bench).paused, show(bench).pending, show(bench).done) == (True, 2, 1)
    assert not bench.call(p.PausePool(name="p", paused=False)).pool.paused
    assert [one.id for one in claim(bench, 9)] == ["b", "c"]


def test_a_pool_can_be_paused_before_its_first_item(bench):
    bench.call(p.PausePool(name="p", paused=True))
    push(bench, "a")
    assert claim(bench) == []


def test_pausing_twice_is_one_change(bench):
    for paused in (True, True, False, False):
        bench.call(p.PausePool(name="p", paused=paused))
    assert [one.kind for one in bench.store.changes.after(0, 9)] == ["pool_paused", "pool_resumed"]


# -- retrying ----------------------------------------------------------------------------------------------------


def test_a_retried_item_has_a_fresh_budget_and_keeps_its_history(mixed):
    (result,) = mixed.call(p.RetryItems(ids=["poisoned"])).results
    assert (result.ok, result.item.status, result.item.attempts) == (True, "pending", 0)
    assert (result.item.error, result.item.finished_at) == (None, None)
    assert [one.id for one in claim(mixed, 1)] == ["poisoned"], "it is as old as it was"
    history = mixed.call(p.GetItem(id="poisoned")).history
    assert [(one.outcome, one.error) for one in history] == [("failed", "bad"), ("claimed", None)]


@pytest.mark.parametrize("id_", ["done", "claimed", "pending", "delayed"])
def test_only_a_poisoned_item_is_retried(mixed, id_: str):
    (result,) = mixed.call(p.RetryItems(ids=[id_])).results
    assert result.error["code"] == "conflict"
    assert show(mixed).poisoned == 1


def test_all_poisoned_of_a_pool_are_retried_a_thousand_at_a_time(bench):
    for start in range(0, 1500, 500):
        push(bench, *(f"i{n}" for n in range(start, start + 500)))
    for _ in range(2):
        poison(bench, *claim(bench, 1000))
    counts = [len(bench.call(p.RetryItems(pool="p")).results) for _ in range(3)]
    assert counts == [1000, 500, 0]
    assert (show(bench).pending, show(bench).poisoned) == (1500, 0)
    assert bench.call(p.RetryItems(pool="unused")).results == []


def test_a_key_that_is_held_by_another_by_now_keeps_a_poisoned_item_where_it_is(bench):
    for id_ in ("a", "b", "c"):
        push(bench, ItemDraft(id=id_, key="k"))
        poison(bench, *claim(bench))
    results = bench.call(p.RetryItems(pool="p")).results
    assert [one.ok for one in results] == [True, False, False], "one of those that share a key"
    assert {one.error["code"] for one in results[1:]} == {"conflict"}
    assert not bench.call(p.RetryItems(ids=["b"])).results[0].ok


# -- purging -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "left"), [("done", (1, 1, 1, 0, 1)), ("poisoned", (1, 1, 1, 1, 0)), (None, (0, 0, 1, 0, 0))]
)
def test_a_purge_takes_what_was_said_and_never_what_somebody_holds(mixed, status: Any, left: tuple[int, ...]):
    count = 5 - sum(left)
    assert mixed.call(p.PurgePool(pool="p", status=status, dry_run=True)) == p.PurgeAnswer(deleted=count, more=False)
    assert sum((show(mixed).pending, show(mixed).delayed, show(mixed).claimed)) == 3
    assert mixed.call(p.PurgePool(pool="p", status=status)) == p.PurgeAnswer(deleted=count, more=False)
    found = show(mixed)
    assert (found.pending, found.delayed, found.claimed, found.done, found.poisoned) == left
    assert mixed.call(p.PurgePool(pool="p", status=status)).deleted == 0
    assert mixed.call(p.PurgePool(pool="unused")).deleted == 0


def test_what_was_purged_leaves_no_history_and_its_id_is_free(mixed):
    mixed.call(p.PurgePool(pool="p", status="poisoned"))
    assert mixed.store.database.value("SELECT count(*) FROM attempts") == 0
    push(mixed, ItemDraft(id="poisoned", data="another"))
    assert mixed.store.integrity() == []


def test_a_purge_takes_a_thousand_at_a_time_and_says_that_there_are_more(bench):
    for start in range(0, 1500, 500):
        push(bench, *(f"i{n}" for n in range(start, start + 500)))
    push(bench, "other", pool="q")
    assert bench.call(p.PurgePool(pool="p", dry_run=True)).deleted == 1500
    answers = [bench.call(p.PurgePool(pool="p")) for _ in range(2)]
    assert [(one.deleted, one.more) for one in answers] == [(limits.BATCH_MAX_ITEMS, True), (500, False)]
    assert show(bench, "q").pending == 1


def test_no_item_comes_twice_in_a_key_after_a_lease_ran_out(bench):
    push(bench, ItemDraft(id="a", key="k", max_retries=1))
    claim(bench)
    bench.clock.advance(LEASE_MS)
    assert claim(bench) == []
    push(bench, ItemDraft(id="b", key="k"))
    assert show(bench).poisoned == show(bench).pending == 1
