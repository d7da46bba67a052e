from __future__ import annotations

import pytest

from fedctl.store.queries import load


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


def log(bench, *changes):
    """Append changes: (tenant, kind, subject, at in ms, detail)."""
    with bench.store.write():
        for tenant, kind, subject, now_ms, detail in changes:
            key = bench.store.tenants.key_for_writing(tenant, 1)
            bench.store.changes.add(key, kind, subject, now_ms=now_ms, detail=detail)


def test_a_page_is_of_one_tenant_and_of_the_kinds_asked_for_or_of_all(bench):
    log(bench, *[(tenant, kind, "s", 1, None) for kind in ("agent_status", "token_revoked") for tenant in "aba"])
    page = bench.store.changes.page
    everything = {"kinds": [], "limit": 100, "most_bytes": 1 << 20}
    assert [one.seq for one in page(None, 0, 100, **everything)[0]] == [1, 2, 3, 4, 5, 6]
    assert [one.seq for one in page(bench.key("a"), 0, 100, **everything)[0]] == [1, 3, 4, 6]
    assert [one.seq for one in page(bench.key("a"), 1, 4, **everything)[0]] == [3, 4]
    assert [one.seq for one in page(bench.key("a"), 0, 9, **everything | {"kinds": ["token_revoked"]})[0]] == [4, 6]
    last = bench.store.changes.newest(bench.key("a"), kinds=["token_revoked"], limit=1, most_bytes=1 << 20)
    assert [one.seq for one in last] == [6]


def test_a_page_that_was_cut_says_so_whatever_cut_it(bench):
    log(bench, *[("a", "agent_status", "s", 1, {"text": "x" * 1000}) for _ in range(5)])
    whole = {"kinds": [], "limit": 100, "most_bytes": 1 << 20}
    found, is_whole = bench.store.changes.page(None, 0, 5, **whole)
    assert (len(found), is_whole) == (5, True)
    assert bench.store.changes.page(None, 0, 5, **whole | {"limit": 3})[1] is False
    found, is_whole = bench.store.changes.page(None, 0, 5, **whole | {"most_bytes": 2500})
    assert (len(found), is_whole) == (3, False)


@pytest.mark.parametrize(
    ("at_ms", "seq"), [(0, 0), (10, 0), (11, 3), (20, 3), (21, 4), (30, 4), (31, 7), (40, 7), (41, 9), (10**15, 9)]
)
def test_a_time_is_found_in_the_log_also_where_entries_were_pruned(bench, at_ms: int, seq: int):
    times = [10, 10, 10, 20, 30, 30, 30, 40, 40]
    log(bench, *[("a", "agent_status", "s", at_ms, None) for at_ms in times])
    with bench.store.write():
        bench.store.database.run("DELETE FROM changes WHERE seq IN (1, 2, 6)")
    before = bench.store.changes.seq_before(at_ms)
    assert [one.seq for one in bench.store.changes.after(before, 100)] == [n for n in (3, 4, 5, 7, 8, 9) if n > seq]


def test_what_an_agent_did_is_found_by_index(bench):
    sql, database = load("change"), bench.store.database
    by_agent = "changes_of_agents"
    for name, index in (("of_agent", by_agent), ("counts_of_agent", by_agent), ("note", "note_once")):
        names = dict.fromkeys(["tenant_key", "agent_id", "since_ms", "limit", "phases_only", "id"], 1)
        plan = database.rows(f"EXPLAIN QUERY PLAN {sql[name]}", names)
        assert any(index in row[3] for row in plan), plan


def test_what_is_removed_on_purpose_leaves_no_gap_and_the_newest_always_stays(bench):
    log(bench, *[(tenant, "agent_status", "s", 1, None) for tenant in "abaa"])
    with bench.store.write():
        assert bench.store.changes.remove(bench.key("a"), [1, 2, 3, 4]) == 2
    assert [one.seq for one in bench.store.changes.after(0, 9)] == [2, 4]
    assert not bench.store.changes.gap()
    with pytest.raises(KeyError), bench.store.write():
        bench.store.changes.remove(bench.key("b"), [2])
        raise KeyError
    assert not bench.store.changes.gap(), "what was undone is not counted"
    with bench.store.write():
        assert bench.store.changes.add(bench.key("a"), "agent_status", "s", now_ms=2) == 5, "no number comes twice"
        bench.store.database.run("DELETE FROM changes WHERE seq = 2")
    assert bench.store.changes.gap()
