"""`hub events`, `agent note`, `agent timeline`, `agent list --watch`: what they say and what they refuse."""

from __future__ import annotations

import json

import msgspec
import pytest

from fedctl.bootstrap import open_caller
from fedctl.clock import Clock
from fedctl.config import load
from fedctl.errors import Denied, Failure, Unavailable
from fedctl.hub.stats import Figures
from fedctl.messages.agent import RegisterAgent, ReportAgent
from fedctl.messages.hub import EventPage, HubStatsAnswer
from fedctl.model.agent import AgentFigures, OperationTimes


def ask(fedctl, *requests):
    """Carry requests out on the home, as an agent would."""
    caller = open_caller(load({"home": str(fedctl.home), "hub": "off"}, {}), writes=True)
    try:
        return [caller.call(one) for one in requests]
    finally:
        caller.close()


def register(fedctl, agent_id="coder"):
    return ask(
        fedctl,
        RegisterAgent(id=agent_id, type="t", lifetime_ms=60_000, host="h", pid=1),
        ReportAgent(id=agent_id, status="initializing"),
    )


# -- events --------------------------------------------------------------------------------------------------------


def test_events_come_in_every_form_oldest_first(fedctl):
    ids = [fedctl.store(f"t{number}") for number in range(3)]
    lines = fedctl("hub", "events", "--jsonl").lines
    assert [(one["seq"], one["kind"], one["subject"]) for one in lines] == [
        (number, "episode_stored", id_) for number, id_ in enumerate(ids, start=1)
    ]
    assert set(lines[0]) == {"seq", "tenant_id", "kind", "subject", "detail", "at"}
    assert fedctl("hub", "events", "--json").json == lines
    assert fedctl("hub", "events", "--ids").out == "1\n2\n3\n"
    table = fedctl("hub", "events").out.splitlines()
    assert table[0].split("\t") == ["seq", "at", "kind", "subject", "detail"]
    assert len(table) == 4


def test_events_are_chosen_by_cursor_time_type_and_tenant(fedctl):
    fedctl.store("one")
    register(fedctl)
    fedctl("memory", "store", "--task", "theirs", "--tenant", "acme")

    def seqs(*flags):
        result = fedctl("hub", "events", "--ids", *flags)
        assert result.code == 0, result.err
        return [int(line) for line in result.out.split()]

    assert seqs() == [1, 2, 3]
    assert seqs("--since", "1") == [2, 3]
    assert seqs("--since", "1h") == [1, 2, 3]
    assert seqs("--since", "2099-01-01") == []
    assert seqs("--type", "agent_status") == seqs("--type", "agent") == [2, 3]
    assert seqs("--type", "agent", "--type", "episode_stored") == [1, 2, 3]
    fedctl("pool", "push", "builds", "1")
    fedctl("pool", "pause", "builds")
    kinds = [one["kind"] for one in fedctl("hub", "events", "--type", "pool", "--jsonl").lines]
    assert kinds == ["items_pushed", "pool_paused"], "of a pool are also its items"
    assert len(fedctl("hub", "events", "--type", "item", "--jsonl").lines) == 1
    assert seqs("--all-tenants", "--type", "episode", "--type", "agent") == [1, 2, 3, 4]
    assert seqs("--tenant", "acme") == [4]
    assert seqs("--tenant", "nobody") == []


def test_a_person_sees_the_newest_and_how_to_see_more(fedctl):
    ask(fedctl, *[RegisterAgent(id=f"a{n}", type="t", lifetime_ms=60_000, host="h", pid=n) for n in range(60)])
    result = fedctl("hub", "events", terminal=True)
    assert len(result.out.splitlines()) == 51
    assert ("a59" in result.out, "a9 " in result.out) == (True, False)
    assert "--since" in result.err
    assert len(fedctl("hub", "events", "--since", "0", terminal=True).out.splitlines()) == 61


@pytest.mark.parametrize(
    ("flags", "says"),
    [(["--type", "agnet"], "did you mean agent?"), (["--type", "x"], "agent"), (["--since", "soon"], "cursor number"),
     (["--since", "-1"], "--since"), (["--since", str(1 << 63)], "--since")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(fedctl, flags, says):
    fedctl.store("one")
    result = fedctl("hub", "events", *flags)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_following_goes_on_from_a_cursor_and_ends_with_the_reader(fedctl):
    for number in range(3):
        fedctl.store(f"t{number}")
    asked = []

    class Caller:
        def call(self, request):
            asked.append(request)
            if len(asked) > 3:
                raise Denied("the token has expired")
            page = ask(fedctl, msgspec.structs.replace(request, wait_ms=0))[0]
            return page if page.events else EventPage(events=[], cursor=page.cursor, more=True, epoch=page.epoch)

        def close(self):
            pass

    result = fedctl("hub", "events", "--follow", "--jsonl", "--since", "1", open_caller=lambda *_a, **_k: Caller())
    assert [one["seq"] for one in result.lines[:2]] == [2, 3]
    assert result.code == Denied.exit
    assert [one.after for one in asked] == [1, 3, 3, 3]
    asked.clear()
    fedctl("hub", "events", "--follow", "--jsonl", open_caller=lambda *_a, **_k: Caller())
    assert (asked[0].newest, asked[1].after) == (0, 3), "without --since it begins now"


# -- notes -----------------------------------------------------------------------------------------------------------


def test_a_note_is_taken_down_on_the_home_alone_and_shown(fedctl):
    register(fedctl)
    result = fedctl("agent", "note", "--kind", "decision", "retry", "--data", '{"n": 3}', "--agent", "coder", "--json")
    assert result.code == 0, result.err
    assert {**result.json, "id": "", "at": ""} == {
        "id": "", "tenant_id": "default", "agent_id": "coder", "kind": "decision", "text": "retry", "data": {"n": 3},
        "at": "",
    }  # fmt: skip
    inside = fedctl(
        "agent", "note", "--kind", "step", "-", "-q", stdin=b"from stdin", environ={"FEDCTL_AGENT_ID": "coder"}
    )
    assert (inside.code, inside.out, inside.err) == (0, "", "")
    texts = [one["detail"]["text"] for one in fedctl("hub", "events", "--type", "agent_note", "--jsonl").lines]
    assert texts == ["retry", "from stdin"]
    assert fedctl("memory", "list", "--json").json == []


@pytest.mark.parametrize(("read", "noted"), [("a\n", "a"), ("a\n\n", "a\n"), ("a", "a"), (" a \r\n", " a \r")])
def test_a_note_that_is_read_loses_the_newline_at_its_end_and_one_that_is_typed_keeps_it(fedctl, tmp_path, read, noted):
    register(fedctl)
    (tmp_path / "note").write_bytes(read.encode())
    for given, expected in (("-", noted), (f"@{tmp_path / 'note'}", noted), (read, read)):
        argv = ("agent", "note", "--kind", "step", given, "--agent", "coder", "--json")
        assert fedctl(*argv, stdin=read.encode()).json["text"] == expected


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [(["--kind", "step", "hi"], 2, "--agent"), (["--kind", "step", "hi", "--agent", "nobody"], 4, "no agent nobody"),
     (["hi", "--agent", "coder"], 2, "--kind"), (["--kind", "thought", "hi", "--agent", "coder"], 2, "decision"),
     (["--kind", "error", "hi", "--agent", "coder"], 2, "decision"),
     (["--kind", "step", "", "--agent", "coder"], 2, "empty"), (["--kind", "step", "--agent", "coder"], 2, "TEXT"),
     (["--kind", "step", "x" * 4097, "--agent", "coder"], 2, "4,096"),
     (["--kind", "step", "x", "--data", json.dumps("x" * 17_000), "--agent", "coder"], 2, "16,384"),
     (["--kind", "step", "x", "--data", "{", "--agent", "coder"], 2, "--data"),
     (["--kind", "step", "x", "--agent", "../coder"], 2, "--agent"),
     (["--kind", "step", "a\0b", "--agent", "coder"], 2, "NUL")],
    ids=range(12),
)  # fmt: skip
def test_a_note_that_cannot_be_is_refused_with_the_reason(fedctl, argv, code, says):
    register(fedctl)
    result = fedctl("agent", "note", *argv)
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert len(result.err) < 1000


def test_where_there_is_no_home_a_note_makes_none(fedctl):
    assert fedctl("agent", "note", "--kind", "step", "hi", "--agent", "coder").code == 10
    assert not fedctl.home.exists()


# -- timelines -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lived(fedctl):
    """One agent that has lived, and what it said at its end."""
    register(fedctl)
    fedctl("agent", "note", "--kind", "task", "fix \x1b[31mit", "--agent", "coder")
    fedctl("agent", "note", "--kind", "step", "look", "--data", "[1]", "--agent", "coder")
    times = OperationTimes(n=4, avg_ms=1.5, min_ms=0.25, max_ms=4.0)
    figures = AgentFigures(stored=3, delivered=3, syncs=2, operations={"memory.query": times})
    ask(
        fedctl,
        ReportAgent(id="coder", status="initializing", synced=True, pushed=3, took_ms=2.0),
        ReportAgent(id="coder", status="dead", figures=figures),
    )
    return fedctl


def test_a_timeline_is_read_by_a_person_in_columns_and_by_a_program_by_tabs(lived):
    person = lived("agent", "timeline", "coder", terminal=True)
    assert (person.code, person.err) == (0, "")
    lines = person.out.splitlines()
    assert lines[0].startswith("agent")
    assert lines[1].split() == ["+0.000s", "phase", "spawning"]
    assert "\x1b" not in person.out
    assert r"fix \x1b[31mit" in person.out
    assert any("look  [1]" in line and "step" in line for line in lines)
    assert any("stored 3" in line and "tasks 1" in line for line in lines)
    assert any("memory.query" in line and "n 4, avg 1.50 ms, min 0.25 ms, max 4.00 ms" in line for line in lines)
    rows = [line.split("\t") for line in lived("agent", "timeline", "coder").out.splitlines()]
    assert [row[1:] for row in rows if row[1] in ("phase", "task", "sync")] == [
        ["phase", "spawning"], ["phase", "initializing"], ["task", r"fix \x1b[31mit"], ["sync", "pushed 3, pulled 0"],
        ["phase", "dead"],
    ]  # fmt: skip


def test_a_timeline_as_json_has_everything(lived):
    document = lived("agent", "timeline", "coder", "--json").json
    assert document["id"] == document["agent"]["id"] == "coder"
    assert [one["status"] for one in document["phases"]] == ["spawning", "initializing", "dead"]
    assert [one["kind"] for one in document["moments"]] == ["phase", "phase", "task", "step", "sync", "phase"]
    assert document["figures"]["operations"]["memory.query"] == {"n": 4, "avg_ms": 1.5, "min_ms": 0.25, "max_ms": 4.0}
    assert document["counts"]["steps"] == 1
    assert lived("agent", "timeline", "coder", "--fields", "counts.steps", "--json").json == {"counts.steps": 1}
    short = lived("agent", "timeline", "coder", "--limit", "1")
    assert "5 before them are left out" in short.out
    assert lived("agent", "timeline", "coder", "--ids").out == "coder\n"


def test_a_timeline_of_nobody_is_not_found(lived):
    result = lived("agent", "timeline", "nobody", "--json")
    assert (result.code, result.out, result.error["code"]) == (4, "", "not_found")
    assert lived("agent", "timeline", "coder", "--tenant", "acme").code == 4


# -- watching --------------------------------------------------------------------------------------------------------


def watching(fedctl, *steps):
    """Return a way to open callers whose waiting is replaced by the next step of a script."""
    script = list(steps)

    def open_(settings, *, writes):
        real = open_caller(settings, writes=writes)

        class Caller:
            def call(self, request):
                if getattr(request, "wait_ms", 0):
                    if not script:
                        raise Failure("the test has seen enough")
                    script.pop(0)()
                    request = msgspec.structs.replace(request, wait_ms=0)
                return real.call(request)

            def close(self):
                real.close()

        return Caller()

    return open_


def test_watching_shows_the_living_and_then_each_that_comes_or_changes(fedctl):
    register(fedctl, "old")
    register(fedctl, "gone")
    ask(fedctl, ReportAgent(id="gone", status="dead"))
    steps = [
        lambda: register(fedctl, "new"),
        lambda: ask(fedctl, ReportAgent(id="old", status="ready"), ReportAgent(id="old", status="dead")),
    ]
    result = fedctl("agent", "list", "--watch", "--jsonl", open_caller=watching(fedctl, *steps))
    assert [(one["id"], one["status"]) for one in result.lines] == [
        ("old", "initializing"), ("new", "initializing"), ("old", "dead"),
    ]  # fmt: skip
    assert result.code == 1


def test_agents_of_a_status_are_listed_and_watched(fedctl):
    for name in ("old", "gone"):
        register(fedctl, name)
    ask(fedctl, ReportAgent(id="gone", status="dead"))
    listed = fedctl("agent", "list", "--status", "dead", "--status", "idle", "--ids")
    assert (listed.code, listed.out) == (0, "gone\n")
    steps = [lambda: register(fedctl, "new"), lambda: ask(fedctl, ReportAgent(id="old", status="dead"))]
    watched = fedctl("agent", "list", "--status", "dead", "--watch", "--ids", open_caller=watching(fedctl, *steps))
    assert watched.out == "old\n"
    wrong = fedctl("agent", "list", "--status", "ded")
    assert (wrong.code, "did you mean dead?" in wrong.err) == (2, True)


def test_a_terminal_shows_a_table_that_is_drawn_again(fedctl):
    register(fedctl, "old")
    steps = [lambda: register(fedctl, "new"), lambda: ask(fedctl, ReportAgent(id="old", status="dead"))]
    result = fedctl("agent", "list", "--watch", terminal=True, open_caller=watching(fedctl, *steps))
    screens = result.out.split("\x1b[H\x1b[J")[1:]
    assert [[line.split()[0] for line in screen.splitlines()[1:]] for screen in screens] == [
        ["old"], ["new", "old"], ["new", "old"],
    ]  # fmt: skip
    assert "dead" in screens[2]


@pytest.mark.parametrize("flags", [(), ("--follow",), ("--follow", "--since", "1")])
def test_a_refusal_comes_before_any_header(fedctl, flags):
    class Caller:
        def call(self, request):
            raise Denied("of all tenants: not for you")

        def close(self):
            pass

    result = fedctl("hub", "events", "--all-tenants", *flags, open_caller=lambda *_a, **_k: Caller())
    assert (result.code, result.out) == (9, "")


def test_figures_are_watched_over_the_end_of_a_hub_and_its_restart(fedctl):
    stats = HubStatsAnswer(stats=Figures(Clock()).stats(connected_agents=3, connections=4))
    answers = iter([stats, Unavailable("the hub is gone"), Unavailable("nobody"), stats, stats, KeyboardInterrupt()])
    opened = []

    class Caller:
        def call(self, request):
            answer = next(answers)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        def close(self):
            opened.append("closed")

    def open_caller(*_a, **_k):
        opened.append("opened")
        return Caller()

    argv = ("--hub", "ws://127.0.0.1:1", "hub", "stats", "--watch", "100ms")
    result = fedctl(*argv, "--jsonl", open_caller=open_caller)
    assert (result.code, len(result.lines), result.err) == (130, 3, "note: the hub is gone; trying again\n")
    assert opened == ["opened", "closed"] * 3, "a connection that is gone is made anew"
    answers = iter([Unavailable("nobody")])
    assert fedctl(*argv, open_caller=open_caller).code == 7, "one must be there to begin with"
