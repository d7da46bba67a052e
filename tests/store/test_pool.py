"""The gateway of pools and items: that no question walks past what it does not ask for."""

from __future__ import annotations

import re
from typing import Any

import apsw
import pytest

from fedctl.errors import FedctlError
from fedctl.store.pool import NewItem
from fedctl.store.queries import load

USED = {
    "claimable": "items_claimable", "due": "items_delayed", "expired": "items_leased", "held": "items_held",
    "held_key": "item_key_held", "extend_held": "items_held", "count_pending": "items_claimable",
    "count_delayed": "items_delayed", "count_claimed": "items_leased", "count_done": "items_done",
    "count_poisoned": "items_poisoned",
    "poisoned": "items_poisoned", "poisoned_ids": "items_poisoned", "purge_done": "items_done",
    "purge_poisoned": "items_poisoned",
    "page": "items_by_pool", "attempts": "attempts_by_item", "by_id": "(tenant_key=? AND id=?)",
    "by_ids": "(tenant_key=? AND id=?)", "known_ids": "(tenant_key=? AND id=?)",
}  # fmt: skip
"""Statement -> the index that it must go by: without it, it reads the whole table."""


def new_item(id_: str, **fields: Any) -> NewItem:
    return NewItem(
        **({"id": id_, "requires": "[]", "status": "pending", "priority": 0, "max_retries": 3, "key": None,
            "available_at_ms": 0, "data": "1"} | fields)
    )  # fmt: skip


@pytest.fixture
def pool(bench):
    with bench.store.write():
        tenant_key = bench.store.tenants.key_for_writing("a", 0)
        found = bench.store.pools.get_for_writing(tenant_key, "p", 0)
        bench.store.pools.add(tenant_key, found, [new_item("a"), new_item("b", requires='["c"]')], 0)
    return found


@pytest.mark.parametrize("name", USED)
def test_a_question_goes_by_its_index(bench, name: str):
    sql = load("pool")[name]
    names = set(re.findall(r":(\w+)", sql))
    values = {one: "[]" if one in ("ids", "statuses") else 1 for one in names}
    plan = [row[3] for row in bench.store.database.rows(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert any(USED[name] in line for line in plan), plan
    assert not any(line.startswith("SCAN i") or line == "SCAN items" for line in plan), plan


@pytest.mark.parametrize(
    ("status", "index"),
    [("pending", "items_claimable"), ("delayed", "items_delayed"), ("claimed", "items_"), ("done", "items_done"),
     ("poisoned", "items_poisoned")],
)  # fmt: skip
def test_the_items_of_a_status_are_counted_in_their_index_alone(bench, status: str, index: str):
    [line] = [row[3] for row in bench.store.database.rows(f"EXPLAIN QUERY PLAN {load('pool')[f'count_all_{status}']}")]
    assert f"USING COVERING INDEX {index}" in line


def test_pools_and_items_are_counted_over_all_tenants(bench, pool):
    with bench.store.write():
        tenant_key = bench.store.tenants.key_for_writing("b", 0)
        other = bench.store.pools.get_for_writing(tenant_key, "p", 0)
        bench.store.pools.add(tenant_key, other, [new_item("c", status="delayed", available_at_ms=9)], 0)
    assert bench.store.pools.count_everywhere() == (
        2, {"pending": 2, "delayed": 1, "claimed": 0, "done": 0, "poisoned": 0},
    )  # fmt: skip


def test_a_claim_reads_its_items_in_the_index_s_own_order(bench):
    plan = [
        row[3]
        for row in bench.store.database.rows(
            f"EXPLAIN QUERY PLAN {load('pool')['claimable']}", {"requirement_key": 1, "limit": 1}
        )
    ]
    assert not any("TEMP B-TREE" in line for line in plan), plan


def test_a_requirement_that_was_rolled_back_is_not_remembered(bench, pool):
    pools, tenant_key = bench.store.pools, bench.key("a")
    with pytest.raises(RuntimeError), bench.store.write():
        pools.add(tenant_key, pool, [new_item("x", requires='["new"]')], 0)
        raise RuntimeError
    with bench.store.write():
        pools.add(tenant_key, pool, [new_item("y", requires='["other"]'), new_item("z", requires='["new"]')], 0)
    assert [pools.item(tenant_key, one).requires for one in "yz"] == ['["other"]', '["new"]']
    assert bench.store.integrity() == []
    with bench.store.write():
        with pytest.raises(RuntimeError), bench.store.write():
            pools.add(tenant_key, pool, [new_item("v", requires='["inner"]')], 0)
            raise RuntimeError
        pools.add(tenant_key, pool, [new_item("w", requires='["inner"]')], 0)
    assert pools.item(tenant_key, "w").requires == '["inner"]'
    assert bench.store.integrity() == []


def test_a_requirement_that_another_process_made_is_found(bench, pool):
    other = bench.another()
    tenant_key = bench.key("a")
    for number, store in enumerate((other.store, bench.store, other.store)):
        with store.write():
            store.pools.add(tenant_key, pool, [new_item(f"n{number}", requires='["late"]')], 0)
    assert len(bench.store.pools.requirements(pool)) == 3
    assert bench.store.integrity() == []


def test_the_table_itself_holds_one_unfinished_item_a_key(bench, pool):
    tenant_key = bench.key("a")
    with bench.store.write():
        bench.store.pools.add(tenant_key, pool, [new_item("x", key="k")], 0)
    with pytest.raises((FedctlError, apsw.Error)), bench.store.write():
        bench.store.pools.add(tenant_key, pool, [new_item("y", key="k")], 0)


def test_what_does_not_fit_into_an_answer_is_not_read(bench, pool):
    tenant_key = bench.key("a")
    with bench.store.write():
        bench.store.pools.add(tenant_key, pool, [new_item(f"n{n}", data="1" * 1000) for n in range(50)], 0)
    (plain,) = [key for key, required in bench.store.pools.requirements(pool) if required == "[]"]
    assert len(bench.store.pools.claimable(plain, limit=50, most=3000)) == 4
    assert len(bench.store.pools.claimable(plain, limit=50, most=10**9)) == 50


def test_an_unknown_pool_is_none_and_making_it_twice_is_one(bench):
    with bench.store.write():
        tenant_key = bench.store.tenants.key_for_writing("a", 0)
        assert bench.store.pools.get(tenant_key, "p") is None
        first, second = (bench.store.pools.get_for_writing(tenant_key, "p", 0) for _ in range(2))
    assert first == second
