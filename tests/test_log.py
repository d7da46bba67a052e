"""The log: what is said, in which form, and where."""

import json

import pytest

from fedctl.errors import FedctlError, UsageError
from fedctl.log import Log, LogOptions
from tests.conftest import FakeClock


def said(options: LogOptions) -> list[str]:
    lines: list[str] = []
    log = Log(options, FakeClock(), lines.append)
    log.basic("agent.ready", tenant="acme", agent="a1")
    log.basic("hub.started", pid=7, note="two words\x1b[2J")
    log.detailed("hub.figures", mean=1.23456)
    log.verbose("memory.query", agent="a2", duration_ms=1.5)
    return lines


@pytest.mark.parametrize(
    ("level", "count"), [("silent", 0), ("basic", 2), ("detailed", 3), ("verbose", 4), ("trace", 4)]
)
def test_a_level_says_what_is_at_it_and_below(level, count):
    assert len(said(LogOptions(level))) == count


def test_a_line_for_people_has_no_control_characters():
    _, started, *_ = said(LogOptions("basic"))
    assert "hub.started pid=7" in started
    assert started.isprintable()


def test_a_json_line_has_the_fields_of_the_contract():
    lines = [json.loads(line) for line in said(LogOptions("verbose", "json"))]
    assert lines[0] | {"timestamp": "", "metadata": {}} == {
        "timestamp": "", "level": "basic", "category": "agent", "operation": "ready", "tenant_id": "acme",
        "agent_id": "a1", "duration_ms": None, "data": {}, "error": None, "metadata": {},
    }  # fmt: skip
    assert lines[3]["duration_ms"] == 1.5
    assert lines[1]["data"]["pid"] == 7


def test_categories_and_agents_let_only_their_events_through():
    assert len(said(LogOptions("verbose", categories=("hub",)))) == 2
    # What is about no agent is not filtered by agent.
    assert [line.split()[1] for line in said(LogOptions("verbose", agents=("a2",)))] == [
        "hub.started",
        "hub.figures",
        "memory.query",
    ]


def test_a_file_gets_the_lines_and_stderr_too_with_both(tmp_path, capfd):
    path = tmp_path / "hub.log"
    Log(LogOptions("basic", output="both", file=path), FakeClock()).basic("hub.started")
    assert path.read_text() == capfd.readouterr().err != ""
    assert path.stat().st_mode & 0o777 == 0o600
    Log(LogOptions("basic", output="file", file=path), FakeClock()).basic("hub.stopped")
    assert len(path.read_text().splitlines()) == 2
    assert not capfd.readouterr().err


def test_a_file_that_cannot_be_written_is_an_error_at_the_start(tmp_path):
    with pytest.raises(FedctlError):
        Log(LogOptions("basic", output="file", file=tmp_path / "no" / "such"), FakeClock())
    with pytest.raises(UsageError):
        Log(LogOptions("basic", output="file"), FakeClock())


def test_silent_opens_nothing(tmp_path):
    Log(LogOptions("silent", output="file", file=tmp_path / "log"), FakeClock()).basic("hub.started")
    assert not (tmp_path / "log").exists()
