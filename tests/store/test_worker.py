"""The gateway of workers: what no operation would do."""

from __future__ import annotations

import apsw
import pytest

from fedctl.errors import FedctlError


def put(bench, tenant_key: int, worker_id: str = "w", **fields) -> None:
    parts = {"host": None, "pid": None, "capabilities": ["b", "a", "b"], "pool_id": None, "metadata": "{}",
             "heartbeat_interval_ms": 1000, "started_at_ms": 5, "now_ms": 7} | fields  # fmt: skip
    with bench.store.write():
        bench.store.workers.put(tenant_key, worker_id, **parts)


@pytest.fixture
def tenants(bench) -> tuple[int, int]:
    with bench.store.write():
        return bench.store.tenants.key_for_writing("a", 0), bench.store.tenants.key_for_writing("b", 0)


def test_every_method_keeps_to_its_tenant(bench, tenants):
    a, b = tenants
    put(bench, a)
    put(bench, b, capabilities=["c"])
    workers = bench.store.workers
    with bench.store.write():
        workers.beat(a, "w", "terminating", '{"x":1}', 9)
        workers.set_status(a, "w", "lost")
    assert workers.get((a, "a"), "w", 9).status == "lost"
    assert workers.get((b, "b"), "w", 9).status == "active"
    assert workers.get((b, "b"), "w", 9).metadata == {}
    assert workers.capabilities(a, "w") == ("lost", frozenset({"a", "b"}))
    assert workers.capabilities(b, "w") == ("active", frozenset({"c"}))
    assert workers.to_reap(b, 10_000) == ["w"]
    assert workers.to_reap(a, 10_000) == [], "a lost one is given up already"


def test_an_incarnation_counts_up_for_its_name_alone(bench, tenants):
    a, b = tenants
    for tenant_key, worker_id in ((a, "w"), (a, "w"), (b, "w"), (a, "v")):
        put(bench, tenant_key, worker_id)
    found = {
        (key, id_): bench.store.workers.get((key, "t"), id_, 0).incarnation
        for key, id_ in ((a, "w"), (b, "w"), (a, "v"))
    }
    assert found == {(a, "w"): 2, (b, "w"): 1, (a, "v"): 1}


def test_a_status_that_is_none_is_refused_by_the_table_itself(bench, tenants):
    put(bench, tenants[0])
    with pytest.raises((FedctlError, apsw.Error), match="worker_status_known"), bench.store.write():
        bench.store.workers.set_status(tenants[0], "w", "asleep")  # type: ignore[arg-type]


def test_writing_outside_a_transaction_is_refused(bench, tenants):
    with pytest.raises(AssertionError, match="write transaction"):
        bench.store.workers.set_status(tenants[0], "w", "lost")
