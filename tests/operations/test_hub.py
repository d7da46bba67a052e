from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fedctl.client.local import LocalCaller
from fedctl.clock import Clock
from fedctl.errors import Denied, Unavailable, UsageError
from fedctl.messages import hub as h
from fedctl.model.principal import Principal
from fedctl.operations import hub as module


@pytest.mark.parametrize(
    "request_", [h.GetHubStats(), h.GetHubInfo(), h.Subscribe()], ids=lambda one: type(one).__name__
)
def test_where_no_hub_runs_its_verbs_say_how_to_start_one(bench, request_):
    error = bench.refusal(request_)
    assert isinstance(error, Unavailable)
    assert "fedctl hub start" in (error.hint or "")


def test_a_subscription_begins_at_the_last_change(bench):
    bench.keep("a", "b")
    hub = bench.another(hub=object())
    assert hub.call(h.Subscribe()).seq == 2


def test_a_hub_s_figures_are_filled_in_from_the_store(bench):
    from fedctl.model.hub import HubStats

    empty = HubStats(connected_agents=3, connections=4, episodes=0, tenants=0, pending_embeddings=0, uptime_s=1.0,
    latencies={},
                     operations=5, errors={}, commits=6, acked_episodes=7, rss_bytes=8)  # fmt: skip

    class Hub:
        def stats(self) -> HubStats:
            return empty

        def seldom(self, _name, question):
            return question()

    bench.keep("a", "b", tenant="x")
    bench.keep("c", tenant="y")
    hub = bench.another(hub=Hub())
    stats = hub.call(h.GetHubStats()).stats
    assert (stats.episodes, stats.tenants, stats.pending_embeddings, stats.connected_agents) == (3, 2, 3, 3)
    assert isinstance(hub.refusal(h.GetHubStats(), role="admin"), Denied)


# -- events --------------------------------------------------------------------------------------------------------


def seqs(page: h.EventPage) -> list[int]:
    return [event.seq for event in page.events]


def test_events_are_read_on_from_a_cursor_page_by_page_each_once(bench):
    bench.keep("a", "b", "c")
    bench.keep("theirs", tenant="other")
    bench.keep("d")
    first = bench.call(h.ListEvents(limit=2))
    assert (seqs(first), first.cursor, first.more) == ([1, 2], 2, True)
    second = bench.call(h.ListEvents(after=first.cursor))
    assert (seqs(second), second.cursor, second.more) == ([3, 5], 5, False)
    assert [event.subject for event in second.events] == ["c", "d"]
    third = bench.call(h.ListEvents(after=second.cursor))
    assert (third.events, third.cursor, third.more, third.unmet) == ([], 5, False, True)


def test_events_are_found_by_time_by_kind_and_from_the_end(bench):
    for number in range(4):
        bench.keep(f"e{number}")
        bench.clock.advance(60_000)
    assert seqs(bench.call(h.ListEvents(since="2026-01-01T00:02:00.000Z"))) == [3, 4]
    assert seqs(bench.call(h.ListEvents(newest=2))) == [3, 4]
    assert bench.call(h.ListEvents(newest=0)).cursor == 4
    assert seqs(bench.call(h.ListEvents(kinds=["agent_status"]))) == []
    assert seqs(bench.call(h.ListEvents(kinds=["agent_status", "episode_stored"], limit=1))) == [1]


def test_events_of_all_tenants_are_for_operators(bench):
    bench.keep("mine")
    bench.keep("theirs", tenant="other")
    assert seqs(bench.call(h.ListEvents(all_tenants=True), role="operator")) == [1, 2]
    for role in ("agent", "admin"):
        assert seqs(bench.call(h.ListEvents(), role=role)) == [1]
        assert isinstance(bench.refusal(h.ListEvents(all_tenants=True), role=role), Denied)
    assert seqs(bench.call(h.ListEvents(), tenant="unused")) == []


@pytest.mark.parametrize(
    "request_",
    [h.ListEvents(after=-1), h.ListEvents(limit=0), h.ListEvents(limit=-1), h.ListEvents(newest=-1),
     h.ListEvents(wait_ms=-1), h.ListEvents(after=1, newest=1), h.ListEvents(since="soon"),
     h.ListEvents(after=10**400)],
    ids=str,
)  # fmt: skip
def test_what_is_no_place_in_the_log_is_a_usage_error(bench, request_):
    assert isinstance(bench.refusal(request_), UsageError)


def test_a_tenant_s_few_events_among_many_others_are_found_in_bounded_steps(bench, monkeypatch):
    monkeypatch.setattr(module, "SCAN_MAX", 10)
    monkeypatch.setattr(module, "SCAN_LEAST", 5)
    bench.keep(*(f"t{number}" for number in range(24)), tenant="other")
    bench.keep("mine")
    request, found, steps = h.ListEvents(after=0), [], 0
    while True:
        page = bench.call(request)
        found, steps = found + seqs(page), steps + 1
        assert page.cursor - (request.after or 0) <= 10
        if not page.more:
            break
        assert not page.unmet
        request = h.ListEvents(after=page.cursor)
    assert (found, steps) == ([25], 3)
    bench.keep(*(f"more{number}" for number in range(7)), tenant="other")
    page = bench.call(h.ListEvents(after=25))
    assert (page.events, page.cursor, page.unmet) == ([], 32, False), "who waits begins further on the next time"
    assert bench.call(h.ListEvents(after=32)).unmet


def test_large_events_come_in_pages_that_fit_into_a_frame(bench):
    with bench.store.write():
        key = bench.store.tenants.key_for_writing("default", 1)
        for _ in range(10):
            bench.store.changes.add(key, "items_pushed", "p", now_ms=1, detail={"ids": ["x" * 500_000]})
    request, found = h.ListEvents(after=0), []
    while True:
        page = bench.call(request)
        assert sum(len(event.detail["ids"][0]) for event in page.events) < 4 << 20
        found += seqs(page)
        if not page.more:
            break
        request = h.ListEvents(after=page.cursor)
    assert found == list(range(1, 11))


def test_who_waits_on_the_home_itself_is_told_when_somebody_commits(bench):
    with ThreadPoolExecutor(1) as thread:
        waiting = bench.another()
        clock = Clock()
        caller = LocalCaller(waiting.context._replace(clock=clock), Principal(tenant_id="default", role="owner"))
        asked = thread.submit(caller.call, h.ListEvents(after=0, wait_ms=20_000))
        bench.keep("e")
        assert seqs(asked.result(15)) == [1]
