"""The agents' registry."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from fedctl.errors import Conflict, Denied, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.model.agent import AGENT_TRANSITIONS, FINAL_SYNC_GRACE_MS, MAX_LIFETIME_MS, MIN_LIFETIME_MS, AgentStatus

STATUSES = get_args(AgentStatus)


def entry(id_: str = "one", **fields: Any) -> a.RegisterAgent:
    return a.RegisterAgent(**({"id": id_, "type": "tester", "lifetime_ms": 60_000, "host": "h", "pid": 7} | fields))


def status_of(bench, id_: str = "one", **who: Any) -> str:
    return bench.call(a.GetAgent(id=id_), **who).agent.status


def put_into(bench, status: str) -> None:
    bench.call(entry())
    with bench.store.write():
        bench.store.agents.report(bench.key(), "one", status, None)


# -- registering -------------------------------------------------------------------------------------------------


def test_an_agent_is_entered_in_its_first_phase_with_its_end_in_sight(bench):
    agent = bench.call(entry()).agent
    assert agent == bench.call(a.GetAgent(id="one")).agent
    assert (agent.id, agent.tenant_id, agent.type, agent.status) == ("one", "default", "tester", "spawning")
    assert (agent.spawned_at, agent.expires_at) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z")
    assert (agent.host, agent.pid, agent.last_sync_at, agent.episodes_stored) == ("h", 7, None, 0)


@pytest.mark.parametrize(
    "fields",
    [{"id": "../x"}, {"id": ""}, {"type": "a b"}, {"type": ""}, {"lifetime_ms": MIN_LIFETIME_MS - 1},
     {"lifetime_ms": MAX_LIFETIME_MS + 1},
     {"lifetime_ms": -1}, {"lifetime_ms": 10**400}, {"pid": -1}, {"pid": 2**63}, {"host": "\ud800"}, {"host": "a\0b"},
      {"host": "h" * 256}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_an_agent_that_cannot_be_is_refused(bench, fields: dict[str, Any]):
    assert isinstance(bench.refusal(entry(**fields)), UsageError)
    assert bench.call(a.ListAgents(all=True)).agents == []


@pytest.mark.parametrize("lifetime_ms", [MIN_LIFETIME_MS, MAX_LIFETIME_MS])
def test_the_shortest_and_the_longest_life_are_lives(bench, lifetime_ms: int):
    assert bench.call(entry(lifetime_ms=lifetime_ms)).agent.status == "spawning"


@pytest.mark.parametrize("other", [{"pid": 8}, {"host": "elsewhere"}])
def test_an_id_that_is_alive_elsewhere_is_a_conflict_until_it_is_over(bench, other: dict[str, Any]):
    bench.call(entry())
    assert isinstance(bench.refusal(entry(**other)), Conflict)
    bench.clock.advance(60_000 + FINAL_SYNC_GRACE_MS - 1)
    assert isinstance(bench.refusal(entry(**other)), Conflict)
    bench.clock.advance(1)
    assert bench.call(entry(**other)).agent.status == "spawning"


def test_an_id_whose_bearer_is_dead_is_free_at_once(bench):
    put_into(bench, "dead")
    assert bench.call(entry(pid=8)).agent.pid == 8


def test_the_same_process_may_enter_again(bench):
    bench.call(entry())
    bench.clock.advance(1000)
    assert bench.call(entry(type="coder")).agent.type == "coder"


# -- phases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_one_phase_follows_another_where_the_table_says_so_and_nowhere_else(bench, before: str, after: str):
    put_into(bench, before)
    seq = bench.store.changes.last_seq()
    request = a.ReportAgent(id="one", status=after)  # type: ignore[arg-type]
    if after == before or after in AGENT_TRANSITIONS[before]:
        assert bench.call(request).agent.status == after
        assert bench.store.changes.last_seq() == seq + (after != before)
    else:
        assert isinstance(bench.refusal(request), Conflict)
        assert status_of(bench) == before
        assert bench.store.changes.last_seq() == seq


def test_every_change_of_phase_is_in_the_log(bench):
    bench.call(entry())
    for status in ("initializing", "ready", "working", "working", "idle", "shutting_down", "dead"):
        bench.call(a.ReportAgent(id="one", status=status))  # type: ignore[arg-type]
    events = bench.store.changes.after(0, 100)
    assert [(event.kind, event.subject, event.detail["status"]) for event in events] == [
        ("agent_status", "one", status)
        for status in ("spawning", "initializing", "ready", "working", "idle", "shutting_down", "dead")
    ]


def test_a_sync_is_noted_with_its_time(bench):
    bench.call(entry())
    bench.clock.advance(5000)
    agent = bench.call(a.ReportAgent(id="one", status="initializing", synced=True)).agent
    assert agent.last_sync_at == "2026-01-01T00:00:05.000Z"
    bench.clock.advance(5000)
    assert bench.call(a.ReportAgent(id="one", status="ready")).agent.last_sync_at == "2026-01-01T00:00:05.000Z"


# -- listing -----------------------------------------------------------------------------------------------------


def test_the_living_are_listed_newest_first_and_the_dead_on_request(bench):
    for number in range(3):
        bench.call(entry(f"n{number}", pid=number))
        bench.clock.advance(1)
    bench.call(a.ReportAgent(id="n1", status="dead"))
    assert [one.id for one in bench.call(a.ListAgents()).agents] == ["n2", "n0"]
    assert [one.id for one in bench.call(a.ListAgents(all=True)).agents] == ["n2", "n1", "n0"]


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (0, 1), (-5, 1), (10**30, 3)])
def test_any_limit_is_answered(bench, limit: int, count: int):
    for number in range(3):
        bench.call(entry(f"n{number}", pid=number))
    assert len(bench.call(a.ListAgents(limit=limit)).agents) == count


# -- whose -------------------------------------------------------------------------------------------------------

BY_ID = [
    lambda id_: a.GetAgent(id=id_),
    lambda id_: a.ReportAgent(id=id_, status="dead"),
    lambda id_: a.StopAgent(id=id_),
]


@pytest.mark.parametrize("make", BY_ID)
def test_another_tenant_s_agent_is_one_that_does_not_exist(bench, make):
    bench.call(entry("theirs"), tenant="b")
    bench.call(entry("mine"), tenant="a")
    for tenant in ("a", "unused"):
        error, nobody = bench.refusal(make("theirs"), tenant=tenant), bench.refusal(make("absent"), tenant=tenant)
        assert isinstance(error, NotFound)
        assert str(error.as_dict()).replace("theirs", "absent") == str(nobody.as_dict())
    assert status_of(bench, "theirs", tenant="b") == "spawning"
    assert [one.id for one in bench.call(a.ListAgents(all=True), tenant="a").agents] == ["mine"]
    assert bench.call(a.ListAgents(all=True), tenant="unused").agents == []


def test_an_agent_speaks_for_itself_alone(bench):
    bench.call(entry("one"))
    for request in (entry("one"), a.ReportAgent(id="one", status="dead"), a.StopAgent(id="one")):
        assert isinstance(bench.refusal(request, agent="two", role="agent"), Denied)
    assert status_of(bench) == "spawning"
    assert status_of(bench, agent="two", role="agent") == "spawning"
    assert bench.call(a.ReportAgent(id="one", status="dead"), agent="one", role="agent").agent.status == "dead"


@pytest.mark.parametrize("make", BY_ID)
@pytest.mark.parametrize("id_", ["", "a b", "\ud800", "x" * 129])
def test_an_id_that_can_be_nobody_s_is_a_usage_error(bench, make, id_: str):
    bench.call(entry())
    assert isinstance(bench.refusal(make(id_)), UsageError)


# -- stopping ----------------------------------------------------------------------------------------------------


def test_without_a_hub_nobody_can_reach_an_agent_and_the_answer_says_what_to_do(bench):
    bench.call(entry())
    error = bench.refusal(a.StopAgent(id="one"))
    assert isinstance(error, Unavailable)
    assert "kill -TERM 7" in (error.hint or "")


def test_a_hub_is_asked_to_stop_an_agent_of_the_asker_s_tenant(bench):
    class Hub:
        asked: list[tuple[str, str]] = []

        def stop_agent(self, tenant_id: str, agent_id: str) -> None:
            self.asked.append((tenant_id, agent_id))

    bench.call(entry(), tenant="a")
    hub = bench.another(hub=Hub())
    assert hub.call(a.StopAgent(id="one"), tenant="a").agent.id == "one"
    assert isinstance(hub.refusal(a.StopAgent(id="one"), tenant="b"), NotFound)
    assert Hub.asked == [("a", "one")]
