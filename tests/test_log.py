"""The debug stream: what is said, in which form, and where."""

import json
import os
import resource
from pathlib import Path

import pytest

from fedctl.errors import Denied, UsageError
from fedctl.log import Log, LogOptions
from fedctl.model.log import LEVELS
from tests.conftest import FakeClock

FORMATS = ("human", "json", "compact")


def said(options: LogOptions) -> list[str]:
    lines: list[str] = []
    log = Log(options, FakeClock(), lines.append)
    log.basic("agent.ready", tenant="acme", agent="a1")
    log.basic("hub.started", pid=7, note="two words\x1b[2J")
    log.detailed("memory.query", agent="a2", duration_ms=1.5)
    log.verbose("sync.done", agent="a2", mean=1.23456)
    log.trace("session.state", tenant="acme", state="open")
    return lines


@pytest.mark.parametrize(
    ("level", "count"), [("silent", 0), ("basic", 2), ("detailed", 3), ("verbose", 4), ("trace", 5)]
)
def test_a_level_says_what_is_at_it_and_below(level, count):
    assert len(said(LogOptions(level))) == count


def test_a_log_tells_what_it_would_say():
    told = [(log.says_detailed, log.says_verbose, log.says_trace)
            for log in (Log(LogOptions(level), FakeClock(), str) for level in LEVELS)]  # fmt: skip
    assert told == [(False,) * 3, (False,) * 3, (True, False, False), (True, True, False), (True,) * 3]


@pytest.mark.parametrize("form", FORMATS)
def test_no_line_has_control_characters_or_colours(form):
    for line in said(LogOptions("trace", form)):
        assert line.isprintable()
        assert "\x1b" not in line


def test_a_line_for_people_names_its_fields():
    assert said(LogOptions("basic"))[1].endswith("Z hub.started pid=7 note='two words\\x1b[2J'")


def test_a_compact_line_has_the_time_of_day_and_the_values_alone():
    assert said(LogOptions("detailed", "compact"))[2] == "00:00:00.000 memory.query a2 1.5"


def test_a_json_line_has_the_fields_of_the_contract():
    lines = [json.loads(line) for line in said(LogOptions("trace", "json"))]
    assert lines[0] == {
        "timestamp": "2026-01-01T00:00:00.000Z", "level": "basic", "category": "agent", "operation": "ready",
        "tenant_id": "acme", "agent_id": "a1", "duration_ms": None, "data": {}, "error": None,
        "metadata": {"pid": os.getpid()},
    }  # fmt: skip
    assert [line["level"] for line in lines] == ["basic", "basic", "detailed", "verbose", "trace"]
    assert lines[1]["data"] == {"pid": 7, "note": "two words\x1b[2J"}
    assert (lines[2]["agent_id"], lines[2]["duration_ms"]) == ("a2", 1.5)
    assert lines[3]["data"] == {"mean": 1.235}


@pytest.mark.parametrize("form", FORMATS)
def test_an_error_keeps_its_message_whatever_is_in_it(form):
    lines: list[str] = []
    text = "half a character \ud83d, a right-to-left mark \u202e, a NUL \0: " + "x" * 5000
    Log(LogOptions("basic", form), FakeClock(), lines.append).basic("error.commit", error=text, path=Path("/a"))
    assert len(lines[0].splitlines()) == 1
    assert "x" * 5000 in lines[0]
    if form == "json":
        assert json.loads(lines[0])["error"] == text


@pytest.mark.parametrize("form", FORMATS)
def test_a_token_in_the_place_of_something_else_is_not_shown(form):
    lines: list[str] = []
    token = "eyJhbGciOiJFZERTQSJ9.eyJ0aWQiOiJhY21lIn0.c2lnbmF0dXJl-_"
    log = Log(LogOptions("basic", form), FakeClock(), lines.append)
    log.basic("session.refused", client=token, error=f"the agent {token!r} is not yours")
    log.basic("session.refused", agent=f"{token}.")
    assert "eyJ" not in "".join(lines)
    assert "is not yours" in lines[0]


def test_categories_and_agents_let_only_their_events_through():
    assert len(said(LogOptions("trace", categories=("hub", "sync")))) == 2
    # What is about no agent is not filtered by agent.
    assert [line.split()[1] for line in said(LogOptions("trace", agents=("a2",)))] == [
        "hub.started",
        "memory.query",
        "sync.done",
        "session.state",
    ]


def test_a_file_gets_the_lines_and_stderr_too_with_both(tmp_path, capfd):
    path = tmp_path / "hub.log"
    Log(LogOptions("basic", output="both", file=path), FakeClock()).basic("hub.started")
    assert path.read_text() == capfd.readouterr().err != ""
    assert path.stat().st_mode & 0o777 == 0o600
    Log(LogOptions("basic", output="file", file=path), FakeClock()).basic("hub.stopped")
    assert len(path.read_text().splitlines()) == 2
    assert not capfd.readouterr().err


@pytest.mark.parametrize("name", [None, ".", "no/such", "file/below", "x" * 300])
def test_a_file_that_cannot_be_is_an_error_at_the_start(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        Log(LogOptions("basic", output="file", file=None if name is None else tmp_path / name), FakeClock())


def test_a_file_that_may_not_be_written_is_denied_at_the_start(make_disk):
    disk = make_disk("1m")
    disk.make("ro")
    with pytest.raises(Denied):
        Log(LogOptions("basic", output="file", file=disk.folder / "log"), FakeClock())


def test_a_file_that_can_be_written_no_longer_is_told_of_once(tmp_path, capsys):
    path = tmp_path / "log"
    log = Log(LogOptions("basic", output="file", file=path), FakeClock())
    log.basic("hub.started")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
    try:
        for _ in range(3):
            log.basic("hub.figures")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capsys.readouterr().err.count("cannot be written") == 1
    log.basic("hub.stopped")
    assert len(path.read_text().splitlines()) == 2


def test_silent_opens_nothing_and_says_nothing(tmp_path, capfd):
    Log(LogOptions("silent", output="both", file=tmp_path / "log"), FakeClock()).basic("hub.started")
    Log.silent().basic("hub.started")
    assert not (tmp_path / "log").exists()
    assert capfd.readouterr() == ("", "")
