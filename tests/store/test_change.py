from __future__ import annotations

import pytest


def test_sequences_count_on_without_a_gap_even_after_a_rollback(bench):
    changes = bench.store.changes
    assert changes.last_seq() == 0
    with bench.store.write():
        key = bench.store.tenants.key_for_writing("a", 1)
        assert changes.add(key, "episode_stored", "e1", now_ms=1) == 1
    with pytest.raises(KeyError), bench.store.write():
        changes.add(key, "episode_stored", "e2", now_ms=1)
        raise KeyError
    with bench.store.write():
        assert changes.add(key, "episode_stored", "e3", now_ms=1) == 2
    assert not changes.gap()


def test_the_log_is_read_in_order_from_any_place_with_its_tenants_and_details(bench):
    with bench.store.write():
        for number, tenant in enumerate("aba"):
            key = bench.store.tenants.key_for_writing(tenant, 1)
            bench.store.changes.add(
                key, "agent_status", f"s{number}", now_ms=number, detail={"status": "ready"} if number else None
            )
    events = bench.store.changes.after(0, 10)
    assert [(e.seq, e.tenant_id, e.subject, e.detail, e.at) for e in events] == [
        (1, "a", "s0", {}, "1970-01-01T00:00:00.000Z"),
        (2, "b", "s1", {"status": "ready"}, "1970-01-01T00:00:00.001Z"),
        (3, "a", "s2", {"status": "ready"}, "1970-01-01T00:00:00.002Z"),
    ]
    assert bench.store.changes.after(1, 1) == events[1:2]
    assert bench.store.changes.after(3, 10) == []


def test_a_change_that_is_missing_leaves_a_gap(bench):
    bench.keep("e1", "e2", "e3")
    assert not bench.store.changes.gap()
    with bench.store.write():
        bench.store.database.run("DELETE FROM changes WHERE seq = 2")
    assert bench.store.changes.gap()
    assert bench.store.changes.unlogged_episodes() == 1
