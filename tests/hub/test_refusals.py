"""Refusals: each is counted, a flood of them is told in few lines."""

from __future__ import annotations

import pytest

from fedctl.hub.refusals import BURST, EVERY_S, HUNG_UP, Refusals
from fedctl.hub.stats import Figures
from fedctl.log import Log, LogOptions


class Told:
    """Refusals, what is said of them, and their timer in our hands."""

    def __init__(self, clock, level: str = "basic") -> None:
        self.lines: list[str] = []
        self.due: list[tuple[float, object]] = []
        self.figures = Figures(clock)
        log = Log(LogOptions(level), clock, self.lines.append)
        self.refusals = Refusals(log, self.figures, lambda seconds, call: self.due.append((seconds, call)))

    def note(self, reason: str, count: int = 1) -> None:
        for number in range(count):
            self.refusals.note(reason, error=f"number {number}")

    def pass_time(self) -> list[str]:
        """Let the timer fire; return what is said then."""
        [(seconds, call)], self.due = self.due, []
        assert seconds == EVERY_S
        before = len(self.lines)
        call()
        return self.lines[before:]

    @property
    def counted(self) -> dict[str, int]:
        return self.figures.totals().refusals


@pytest.fixture
def told(clock):
    return Told(clock)


def test_a_few_refusals_are_told_in_full(told):
    told.note("denied", 3)
    assert [line.split(" ", 1)[1] for line in told.lines] == [
        f"session.refused reason=denied error='number {number}'" for number in range(3)
    ]
    assert told.pass_time() == []
    assert told.due == []


def test_a_flood_is_told_by_its_beginning_and_by_how_many_more(told):
    told.note("malformed", BURST + 9431)
    assert len(told.lines) == BURST
    [summary] = told.pass_time()
    assert "more='and 9,431 more' count=9431" in summary
    assert f"'number {BURST + 9430}'" in summary
    assert told.counted == {"malformed": BURST + 9431}


def test_a_flood_that_goes_on_is_one_line_a_round(told):
    told.note("malformed", BURST + 1)
    for _ in range(5):
        assert len(told.pass_time()) == 1
        told.note("malformed", 1000)
    assert len(told.pass_time()) == 1
    assert told.pass_time() == []
    assert told.due == []
    told.note("malformed")
    assert "more" not in told.lines[-1]


def test_a_flood_of_one_kind_hides_no_other(told):
    told.note("malformed", BURST + 5)
    told.note("denied")
    assert "reason=denied" in told.lines[-1]


def test_what_a_peer_said_is_quoted_in_part_only(told):
    told.refusals.note("malformed", error="x" * 10_000)
    assert len(told.lines[0]) < 400


def test_what_is_not_told_yet_is_told_at_the_end(told):
    told.note("late", BURST + 2)
    told.refusals.flush()
    assert "and 2 more" in told.lines[-1]
    assert told.pass_time() == []


def test_who_hangs_up_before_saying_anything_is_told_of_to_who_wants_details(clock):
    basic, detailed = Told(clock), Told(clock, "detailed")
    for told in (basic, detailed):
        told.note(HUNG_UP)
        assert told.counted == {HUNG_UP: 1}
    assert (len(basic.lines), len(detailed.lines)) == (0, 1)
