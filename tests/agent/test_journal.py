"""What an agent tells of itself: once each, in order, with the time at which it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fedctl.agent import journal as module
from fedctl.agent.journal import Journal
from fedctl.errors import Conflict, Denied, DiskFull, FedctlError, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.model.agent import NOTE_TEXT_MAX_BYTES, AgentFigures, NoteDraft


class Registry:
    """The other side: keeps what it is told, and fails when it is to."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.failing: list[FedctlError] = []
        self.refuses: set[str] = set()

    async def __call__(self, request: Any) -> Any:
        if self.failing:
            raise self.failing.pop(0)
        if isinstance(request, a.AddNotes) and self.refuses & {one.id for one in request.notes}:
            raise UsageError("one of them is no note")
        self.told.append(request)

    def phases(self) -> list[tuple[str, int]]:
        return [(one.status, one.age_ms) for one in self.told if isinstance(one, a.ReportAgent) and not one.synced]

    def notes(self) -> list[tuple[str, int]]:
        return [(note.id, note.age_ms) for one in self.told if isinstance(one, a.AddNotes) for note in one.notes]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def journal(clock) -> Journal:
    return Journal(clock, "acme", "coder")


def do(awaitable: Any) -> Any:
    return asyncio.run(awaitable)


def noted(id_: str, text: str = "t", **fields: Any) -> NoteDraft:
    return NoteDraft(**({"id": id_, "kind": "step", "text": text} | fields))


def tell(journal: Journal, registry: Registry) -> None:
    do(journal.tell_phases(registry, AgentFigures()))


def test_phases_are_told_in_order_with_their_age_and_once(journal, registry, clock):
    for status in ("initializing", "ready", "working"):
        journal.enter(status)
        clock.advance(100)
    tell(journal, registry)
    tell(journal, registry)
    assert registry.phases() == [("initializing", 300), ("ready", 200), ("working", 100)]


def test_what_could_not_be_told_is_told_the_next_time_from_there_on(journal, registry, clock):
    journal.enter("working", "idle")
    registry.failing = [Unavailable("away")]
    with pytest.raises(Unavailable):
        tell(journal, registry)
    clock.advance(2_000)
    journal.enter("shutting_down")
    tell(journal, registry)
    assert registry.phases() == [("working", 2000), ("idle", 2000), ("shutting_down", 0)]


@pytest.mark.parametrize("error", [Conflict("it is dead"), NotFound("no such agent")])
def test_a_phase_that_the_registry_will_never_take_stands_in_nobodys_way(journal, registry, error):
    journal.enter("working", "idle")
    registry.failing = [error]
    with pytest.raises(type(error)):
        tell(journal, registry)
    tell(journal, registry)
    assert registry.phases() == [("idle", 0)]


def test_who_enters_again_begins_with_the_first_phases_and_goes_on_with_what_was_not_told(journal, registry, clock):
    journal.enter_again("ready")
    tell(journal, registry)
    journal.enter("working")
    clock.advance(70)
    journal.enter_again("working")
    tell(journal, registry)
    assert registry.phases() == [
        ("initializing", 0), ("ready", 0), ("ready", 0), ("initializing", 0), ("ready", 0), ("working", 70),
    ]  # fmt: skip


def test_the_last_word_comes_with_the_figures(journal, registry):
    with journal.timed("memory.query"):
        pass
    journal.enter("shutting_down", "dead")
    do(journal.tell_phases(registry, AgentFigures(stored=3)))
    first, last = registry.told
    assert first.figures is None
    assert (last.figures.stored, list(last.figures.operations)) == (3, ["memory.query"])


def test_notes_are_handed_over_once_in_order_with_their_age(journal, registry, clock):
    first = journal.note(a.AddNotes(notes=[noted("n1", data={"a": 1}), noted("n2", age_ms=50)])).notes
    assert [(one.agent_id, one.tenant_id, one.data) for one in first] == [
        ("coder", "acme", {"a": 1}),
        ("coder", "acme", None),
    ]
    clock.advance(100)
    journal.note(a.AddNotes(notes=[noted("n3")], agent_id="coder"))
    registry.failing = [Unavailable("away"), DiskFull("full")]
    for error in (Unavailable, DiskFull):
        with pytest.raises(error):
            do(journal.push_notes(registry))
    assert journal.undelivered == 3
    do(journal.push_notes(registry))
    do(journal.push_notes(registry))
    assert registry.notes() == [("n1", 100), ("n2", 150), ("n3", 0)]
    assert journal.undelivered == 0


def test_many_notes_go_in_requests_that_may_be_asked(journal, registry):
    for start in range(0, 250, 50):
        journal.note(a.AddNotes(notes=[noted(f"n{number}") for number in range(start, start + 50)]))
    do(journal.push_notes(registry))
    assert [len(one.notes) for one in registry.told] == [100, 100, 50]
    assert [id_ for id_, _ in registry.notes()] == [f"n{number}" for number in range(250)]


def test_a_note_that_the_hub_will_never_take_is_dropped_and_counted_and_the_others_arrive(journal, registry):
    journal.note(a.AddNotes(notes=[noted(f"n{number}") for number in range(5)]))
    registry.refuses = {"n3"}
    do(journal.push_notes(registry))
    assert [id_ for id_, _ in registry.notes()] == ["n0", "n1", "n2", "n4"]
    assert (journal.undelivered, journal.refused) == (0, 1)


def test_what_comes_while_notes_are_under_way_stays_for_the_next_time(journal, registry):
    journal.note(a.AddNotes(notes=[noted("n1")]))

    async def call(request: Any) -> None:
        journal.note(a.AddNotes(notes=[noted("n2")])) if not registry.told else None
        await registry(request)

    do(journal.push_notes(call))
    assert [id_ for id_, _ in registry.notes()] == ["n1", "n2"]


def test_the_same_note_again_is_one_and_with_another_content_a_conflict(journal, registry):
    once = journal.note(a.AddNotes(notes=[noted("n1")])).notes
    assert journal.note(a.AddNotes(notes=[noted("n1"), noted("n1")])).notes == once * 2
    for wrong in ([noted("n1", "other")], [noted("n2"), noted("n2", "other")]):
        with pytest.raises(Conflict):
            journal.note(a.AddNotes(notes=wrong))
    do(journal.push_notes(registry))
    assert registry.notes() == [("n1", 0)]


def test_bad_notes_are_refused_and_nothing_of_them_is_kept(journal, monkeypatch):
    with pytest.raises(UsageError):
        journal.note(a.AddNotes(notes=[noted("n1"), noted("n2", "x" * (NOTE_TEXT_MAX_BYTES + 1))]))
    with pytest.raises(UsageError):
        journal.note(a.AddNotes(notes=[noted(f"n{number}") for number in range(101)]))
    with pytest.raises(Denied):
        journal.note(a.AddNotes(notes=[noted("n1")], agent_id="another"))
    monkeypatch.setattr(module, "QUEUED_MAX", 1)
    journal.note(a.AddNotes(notes=[noted("n1")]))
    with pytest.raises(Unavailable):
        journal.note(a.AddNotes(notes=[noted("n2")]))
    journal.error("it is full")
    assert journal.undelivered == 1


def test_a_sync_tells_what_moved_since_the_last_one_that_was_told(journal, registry):
    def sync(**counts: int) -> None:
        do(journal.tell_sync(registry, "working", AgentFigures(**counts), 1.23456))

    sync(delivered=2, pulled=5)
    registry.failing = [Unavailable("away")]
    with pytest.raises(Unavailable):
        sync(delivered=3, pulled=5)
    sync(delivered=4, pulled=6)
    sync(delivered=4, pulled=6)
    assert [(one.pushed, one.pulled, one.took_ms) for one in registry.told] == [
        (2, 5, 1.235),
        (2, 1, 1.235),
        (0, 0, 1.235),
    ]
    assert [one.figures is None for one in registry.told] == [False, True, True]


def test_operations_are_measured_whether_they_succeed_or_fail(journal, clock):
    for ms in (10, 30, 20):
        with pytest.raises(KeyError), journal.timed("memory.query"):
            clock.advance(ms)
            raise KeyError
    (times,) = journal.figures(AgentFigures()).operations.values()
    assert (times.n, round(times.avg_ms), round(times.min_ms), round(times.max_ms)) == (3, 20, 10, 30)
