"""The agents' registry."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from fedctl.errors import Conflict, Denied, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.model.agent import (
    AGENT_TRANSITIONS,
    FINAL_SYNC_GRACE_MS,
    MAX_LIFETIME_MS,
    MIN_LIFETIME_MS,
    NOTE_DATA_MAX_BYTES,
    NOTE_TEXT_MAX_BYTES,
    AgentFigures,
    AgentStatus,
    NoteDraft,
    OperationTimes,
)

STATUSES = get_args(AgentStatus)


def entry(id_: str = "one", **fields: Any) -> a.RegisterAgent:
    return a.RegisterAgent(**({"id": id_, "type": "tester", "lifetime_ms": 60_000, "host": "h", "pid": 7} | fields))


def status_of(bench, id_: str = "one", **who: Any) -> str:
    return bench.call(a.GetAgent(id=id_), **who).agent.status


def noted(id_: str = "n1", text: str = "read the log", **fields: Any) -> NoteDraft:
    return NoteDraft(**({"id": id_, "kind": "step", "text": text} | fields))


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


def test_agents_of_some_statuses_are_listed_and_counted_in_pages(bench):
    for number, status in enumerate(("dead", "shutting_down", "dead", None, "dead")):
        bench.call(entry(f"n{number}", pid=number))
        bench.clock.advance(1)
        if status:
            bench.call(a.ReportAgent(id=f"n{number}", status=status))
    first = bench.call(a.ListAgents(all=True, statuses=["dead", "shutting_down"], limit=3, count=True))
    assert ([one.id for one in first.agents], first.total) == (["n4", "n2", "n1"], 4)
    rest = bench.call(a.ListAgents(all=True, statuses=["dead", "shutting_down"], limit=3, cursor=first.cursor))
    assert [one.id for one in rest.agents] == ["n0"]
    assert [one.id for one in bench.call(a.ListAgents(statuses=["dead", "spawning"])).agents] == ["n3"]


def test_pages_go_through_all_also_where_agents_come_at_the_same_time_and_meanwhile(bench):
    for number in range(7):
        bench.call(entry(f"n{number}", pid=number))
        bench.clock.advance(number % 3)  # some at the same moment
    everybody = [one.id for one in bench.call(a.ListAgents()).agents]
    page = bench.call(a.ListAgents(limit=3, count=True))
    seen, total = [one.id for one in page.agents], page.total
    bench.call(entry("late", pid=1))
    while page.cursor is not None:
        page = bench.call(a.ListAgents(limit=3, cursor=page.cursor))
        seen += [one.id for one in page.agents]
    assert (seen, total, page.total) == (everybody, 7, None)
    for cursor in ("x", "/n1", "yesterday/n1"):
        assert isinstance(bench.refusal(a.ListAgents(cursor=cursor)), UsageError)


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
    lambda id_: a.GetTimeline(id=id_),
    lambda id_: a.AddNotes(agent_id=id_, notes=[noted()]),
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
    foreign = a.AddNotes(agent_id="one", notes=[noted()])
    for request in (entry("one"), a.ReportAgent(id="one", status="dead"), a.StopAgent(id="one"), foreign):
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


# -- notes -------------------------------------------------------------------------------------------------------


def events(bench, *kinds: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [(one.kind, one.subject, one.detail) for one in bench.store.changes.after(0, 10_000) if one.kind in kinds]


def test_a_note_is_an_event_of_its_agent_and_no_episode(bench):
    bench.call(entry())
    bench.clock.advance(5_000)
    drafts = [noted(data={"lines": 3}, age_ms=1_500), noted("n2", "the hub is away", kind="error")]
    notes = bench.call(a.AddNotes(notes=drafts), agent="one", role="agent").notes
    assert [(one.id, one.agent_id, one.kind, one.text, one.data, one.at) for one in notes] == [
        ("n1", "one", "step", "read the log", {"lines": 3}, "2026-01-01T00:00:03.500Z"),
        ("n2", "one", "error", "the hub is away", None, "2026-01-01T00:00:05.000Z"),
    ]
    assert events(bench, "agent_note", "agent_error") == [
        ("agent_note", "one",
         {"id": "n1", "kind": "step", "text": "read the log", "data": {"lines": 3}, "age_ms": 1500}),
        ("agent_error", "one", {"id": "n2", "kind": "error", "text": "the hub is away"}),
    ]  # fmt: skip
    assert bench.ids() == []


def test_a_note_that_comes_again_is_the_same_one_and_with_another_content_a_conflict(bench):
    bench.call(entry())
    bench.call(entry("two", pid=8))
    first = bench.call(a.AddNotes(agent_id="one", notes=[noted(data=[1])])).notes
    bench.clock.advance(700)
    again = a.AddNotes(agent_id="one", notes=[noted(data=[1], age_ms=700), noted(data=[1], age_ms=9)])
    assert bench.call(again).notes == [first[0], first[0]]
    for other in (noted(data=[2]), noted(text="another"), noted(data=[1], kind="task")):
        assert isinstance(bench.refusal(a.AddNotes(agent_id="one", notes=[noted("new"), other])), Conflict)
    assert isinstance(bench.refusal(a.AddNotes(agent_id="two", notes=[noted(data=[1])])), Conflict)
    assert [detail["id"] for _, _, detail in events(bench, "agent_note")] == ["n1"], "all or nothing"
    bench.call(entry(), tenant="other")
    assert bench.call(a.AddNotes(agent_id="one", notes=[noted()]), tenant="other").notes[0].tenant_id == "other"


@pytest.mark.parametrize(
    "note",
    [noted(""), noted("x" * 201), noted(text=""), noted(text=" \n"), noted(text="x" * (NOTE_TEXT_MAX_BYTES + 1)),
     noted(text="\u00fc" * NOTE_TEXT_MAX_BYTES), noted(text="a\0b"), noted(text="\ud800"), noted(age_ms=-1),
     noted(data="x" * NOTE_DATA_MAX_BYTES), noted(data=float("nan")), noted(data={"\ud800": 1}),
     noted(data=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]])],
    ids=range(13),
)  # fmt: skip
def test_a_note_that_cannot_be_is_refused_and_nothing_is_kept(bench, note: NoteDraft):
    bench.call(entry())
    assert isinstance(bench.refusal(a.AddNotes(agent_id="one", notes=[noted("good"), note])), UsageError)
    assert events(bench, "agent_note") == []


def test_the_largest_note_is_one_and_a_hundred_of_them_go_at_once(bench):
    bench.call(entry())
    notes = [
        noted(f"n{number}", "x" * NOTE_TEXT_MAX_BYTES, data="y" * (NOTE_DATA_MAX_BYTES - 2)) for number in range(101)
    ]
    assert len(bench.call(a.AddNotes(agent_id="one", notes=notes[:100])).notes) == 100
    assert isinstance(bench.refusal(a.AddNotes(agent_id="one", notes=notes)), UsageError)
    moments = bench.call(a.GetTimeline(id="one")).timeline
    assert (moments.moments_total, len(moments.moments) < 102) == (101, True)
    assert sum(len(str(one.data)) for one in moments.moments) < 3 << 20


def test_nobodys_note_is_refused_with_what_to_do(bench):
    error = bench.refusal(a.AddNotes(notes=[noted()]))
    assert isinstance(error, UsageError)
    assert "--agent" in (error.hint or "")


# -- timelines ---------------------------------------------------------------------------------------------------


def live(bench, *steps: tuple[str, int], **entry_fields: Any) -> None:
    """Register an agent and take it through phases, each after so many ms."""
    bench.call(entry(**entry_fields))
    for status, after_ms in steps:
        bench.clock.advance(after_ms)
        bench.call(a.ReportAgent(id="one", status=status))  # type: ignore[arg-type]


def test_a_timeline_tells_when_what_began_and_how_long_it_lasted(bench):
    bench.clock.advance(40)
    live(bench, ("initializing", 5), ("ready", 10), ("working", 20), ("idle", 1_000), ("dead", 7), age_ms=40)
    timeline = bench.call(a.GetTimeline(id="one")).timeline
    assert [(one.status, one.offset_ms, one.lasted_ms) for one in timeline.phases] == [
        ("spawning", 0, 45), ("initializing", 45, 10), ("ready", 55, 20), ("working", 75, 1000), ("idle", 1075, 7),
        ("dead", 1082, None),
    ]  # fmt: skip
    assert (timeline.lived_ms, timeline.agent.spawned_at) == (1082, "2026-01-01T00:00:00.000Z")
    bench.clock.advance(99_000)
    assert bench.call(a.GetTimeline(id="one")).timeline.lived_ms == 1082


def test_of_an_agent_that_lives_the_last_phase_has_no_end_and_the_life_goes_on(bench):
    live(bench, ("initializing", 10))
    bench.clock.advance(500)
    timeline = bench.call(a.GetTimeline(id="one")).timeline
    assert (timeline.phases[-1].lasted_ms, timeline.lived_ms, timeline.figures) == (None, 510, None)


def test_notes_syncs_and_phases_stand_where_they_happened_also_when_told_late(bench):
    live(bench, ("initializing", 10), ("ready", 10))
    bench.clock.advance(3_000)
    report = a.ReportAgent(id="one", status="working", age_ms=2_000)
    bench.call(report)
    for draft in (noted("n1", "begin", kind="task", age_ms=1_900), noted("n2", age_ms=500), noted("n3", age_ms=800)):
        bench.call(a.AddNotes(agent_id="one", notes=[draft]))
    bench.call(a.ReportAgent(id="one", status="working", synced=True, pushed=2, pulled=1, took_ms=4.5))
    bench.call(a.ReportAgent(id="one", status="working", synced=True))
    timeline = bench.call(a.GetTimeline(id="one")).timeline
    assert [(one.offset_ms, one.kind, one.text) for one in timeline.moments] == [
        (0, "phase", "spawning"), (10, "phase", "initializing"), (20, "phase", "ready"), (1020, "phase", "working"),
        (1120, "task", "begin"), (2220, "step", "read the log"), (2520, "step", "read the log"),
        (3020, "sync", "pushed 2, pulled 1"),
    ]  # fmt: skip
    assert timeline.counts == {"tasks": 1, "steps": 2, "decisions": 0, "messages": 0, "errors": 0, "syncs": 1}
    assert events(bench, "agent_synced") == [("agent_synced", "one", {"pushed": 2, "pulled": 1, "took_ms": 4.5})]
    last = bench.call(a.GetTimeline(id="one", limit=2)).timeline
    assert [one.kind for one in last.moments] == ["step", "sync"]
    assert (last.moments_total, len(last.phases)) == (8, 4)
    assert bench.call(a.GetTimeline(id="one", limit=0)).timeline.moments == []


def test_a_life_that_begins_anew_has_a_timeline_of_its_own(bench):
    live(bench, ("initializing", 10), ("dead", 10))
    bench.call(a.ReportAgent(id="one", status="dead", figures=AgentFigures(stored=9)))
    bench.call(a.AddNotes(agent_id="one", notes=[noted("old")]))
    bench.clock.advance(1_000)
    live(bench, ("initializing", 10), age_ms=6)
    timeline = bench.call(a.GetTimeline(id="one")).timeline
    assert [one.status for one in timeline.phases] == ["spawning", "initializing"]
    assert (timeline.moments_total, timeline.figures) == (2, None)


def test_an_agent_that_was_given_up_and_enters_again_keeps_its_timeline(bench):
    live(bench, ("initializing", 10), ("ready", 10), ("dead", 15_000))
    bench.clock.advance(5_000)
    live(bench, ("initializing", 0), ("ready", 0), age_ms=20_031)
    timeline = bench.call(a.GetTimeline(id="one")).timeline
    assert [(one.status, one.offset_ms) for one in timeline.phases] == [
        ("spawning", 0), ("initializing", 10), ("ready", 20), ("dead", 15_020), ("spawning", 20_020),
        ("initializing", 20_020), ("ready", 20_020),
    ]  # fmt: skip
    assert timeline.agent.spawned_at == "2026-01-01T00:00:00.000Z"
    assert timeline.agent.expires_at == "2026-01-01T00:01:20.020Z"


def test_the_figures_are_those_of_the_last_report(bench):
    bench.call(entry())
    times = OperationTimes(n=3, avg_ms=2.0, min_ms=1.0, max_ms=3.0)
    for figures in (AgentFigures(stored=1), None, AgentFigures(stored=2, operations={"memory.query": times}), None):
        bench.call(a.ReportAgent(id="one", status="initializing", figures=figures))
    found = bench.call(a.GetTimeline(id="one")).timeline.figures
    assert (found.stored, found.operations) == (2, {"memory.query": times})


@pytest.mark.parametrize(
    "report",
    [{"age_ms": -1}, {"pushed": -1}, {"pulled": 2**63}, {"took_ms": float("inf")},
     {"figures": AgentFigures(stored=-1)},
     {"figures": AgentFigures(operations={"a b": OperationTimes(n=1, avg_ms=1, min_ms=1, max_ms=1)})},
     {"figures": AgentFigures(operations={"a": OperationTimes(n=1, avg_ms=-1, min_ms=1, max_ms=1)})},
     {"figures": AgentFigures(
         operations={f"o{n}": OperationTimes(n=1, avg_ms=1, min_ms=1, max_ms=1) for n in range(201)})}],
    ids=range(8),
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_refused(bench, report: dict[str, Any]):
    bench.call(entry())
    assert isinstance(bench.refusal(a.ReportAgent(id="one", status="initializing", **report)), UsageError)
    assert status_of(bench) == "spawning"
