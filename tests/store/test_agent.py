from __future__ import annotations

from fedctl.operations.newest import after


def put(bench, tenant: str, agent_id: str, now_ms: int = 1000, lifetime_ms: int = 60_000) -> tuple[int, str]:
    with bench.store.write():
        key = bench.store.tenants.key_for_writing(tenant, now_ms)
        bench.store.agents.put(
            key, agent_id, type_="tester", host="h", pid=1, spawned_at_ms=now_ms, expires_at_ms=now_ms + lifetime_ms
        )
    return key, tenant


def test_an_agent_that_comes_back_begins_a_new_life(bench):
    tenant = put(bench, "a", "one")
    with bench.store.write():
        bench.store.agents.count_stored(tenant[0], "one", 3)
        bench.store.agents.report(tenant[0], "one", "dead", 5000)
    before = bench.store.agents.get(tenant, "one")
    assert (before.status, before.episodes_stored, before.last_sync_at) == ("dead", 3, "1970-01-01T00:00:05.000Z")
    put(bench, "a", "one", now_ms=9000)
    after = bench.store.agents.get(tenant, "one")
    assert (after.status, after.episodes_stored, after.last_sync_at) == ("spawning", 0, None)
    assert after.spawned_at == "1970-01-01T00:00:09.000Z"


def test_a_report_without_a_sync_keeps_the_last_one(bench):
    tenant = put(bench, "a", "one")
    with bench.store.write():
        bench.store.agents.report(tenant[0], "one", "ready", 5000)
        bench.store.agents.report(tenant[0], "one", "working", None)
    assert bench.store.agents.get(tenant, "one").last_sync_at == "1970-01-01T00:00:05.000Z"


def test_an_id_belongs_to_its_tenant(bench):
    a, b = put(bench, "a", "one"), put(bench, "b", "two")
    assert bench.store.agents.get(b, "one") is None
    with bench.store.write():
        bench.store.agents.report(b[0], "one", "dead", None)
        bench.store.agents.count_stored(b[0], "one", 5)
    assert bench.store.agents.get(a, "one").status == "spawning"
    assert bench.store.agents.get(a, "one").episodes_stored == 0
    assert [one.id for one in bench.store.agents.page(b, include_dead=True, limit=10, after=after(None))] == ["two"]


def test_agents_are_listed_newest_first_and_the_dead_on_request(bench):
    for number in range(3):
        tenant = put(bench, "a", f"n{number}", now_ms=1000 + number)
    with bench.store.write():
        bench.store.agents.report(tenant[0], "n1", "dead", None)
    agents = bench.store.agents
    assert [one.id for one in agents.page(tenant, include_dead=False, limit=10, after=after(None))] == ["n2", "n0"]
    assert [one.id for one in agents.page(tenant, include_dead=True, limit=2, after=after(None))] == ["n2", "n1"]


def test_the_overdue_of_all_tenants_are_told(bench):
    put(bench, "a", "late", now_ms=0, lifetime_ms=10)
    put(bench, "b", "late", now_ms=0, lifetime_ms=10)
    put(bench, "a", "alive", now_ms=0, lifetime_ms=1000)
    gone = put(bench, "a", "gone", now_ms=0, lifetime_ms=10)
    with bench.store.write():
        bench.store.agents.report(gone[0], "gone", "dead", None)
    assert sorted(bench.store.agents.overdue(500)) == [("a", "late"), ("b", "late")]
    assert bench.store.agents.overdue(10) == []
