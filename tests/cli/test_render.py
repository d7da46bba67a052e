from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from fedctl.cli.render import cell, escape, pick

EVIL = "a\tb\nc\x1b[31m\x07\x9b\u202e\u2028d"


@given(st.text())
def test_no_text_keeps_a_character_that_acts_on_a_terminal(text):
    shown = escape(text)
    assert "\n" not in shown
    assert all(ord(c) >= 32 and not 0x7F <= ord(c) <= 0x9F for c in shown)
    assert len(shown.encode()) >= 0  # no lone surrogate is left: it encodes


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_plain_text_stays_as_it_is(text):
    assert escape(text) == text


def test_cells_are_nothing_for_null_and_json_for_what_has_parts():
    assert [cell(value) for value in (None, "", 1, 1.5, True, [1, "x"], {"a": None}, "a\tb")] == [
        "", "", "1", "1.5", "true", '[1,"x"]', '{"a":null}', r"a\tb",
    ]  # fmt: skip


def test_fields_are_picked_by_dotted_paths():
    document = {"a": {"b": {"c": 1}, "x.y": 2}, "p.q": 3}
    assert pick(document, "a.b.c") == 1
    assert pick(document, "a.x.y") == 2
    assert pick(document, "p.q") == 3
    assert pick(document, "a.nope.c") is None


def test_stored_text_reaches_no_human_form_alive(fedctl):
    episode_id = fedctl.store(EVIL)
    for terminal in (False, True):
        for argv in (["list"], ["get", episode_id], ["query", "a", "--mode", "keyword"], ["list", "--format", "tsv"]):
            out = fedctl("memory", *argv, terminal=terminal, environ={"NO_COLOR": "1", "COLUMNS": "300"}).out
            assert r"a\tb\nc\x1b[31m\x07\x9b\u202e\u2028d" in out, (terminal, argv)
            assert not set(out) & set("\x1b\x07\x9b\u202e\u2028")


def test_json_is_exact_on_a_pipe_and_harmless_on_a_terminal(fedctl):
    episode_id = fedctl.store(EVIL)
    for terminal in (False, True):
        for form in ("json", "jsonl"):
            result = fedctl("memory", "get", episode_id, "--format", form, terminal=terminal)
            assert json.loads(result.out)["task"] == EVIL
            if terminal:
                assert not set(result.out) & set("\x1b\x07\x9b\u202e\u2028")


def test_a_pipe_gets_tab_separated_text_with_full_values(fedctl):
    fedctl.store("x" * 500, "--id", "a")
    out = fedctl("memory", "list").out
    header, row = out.splitlines()
    assert header.split("\t") == ["id", "created_at", "agent_id", "reward", "task"]
    assert row.split("\t")[-1] == "x" * 500
    assert "\x1b" not in fedctl("memory", "list", environ={"FORCE_COLOR": "1"}).out
    every = fedctl("memory", "list", "--format", "tsv").out.splitlines()[0].split("\t")
    assert {"input", "seq", "tenant_id"} <= set(every)


def test_a_terminal_gets_a_table_that_fits_and_keeps_ids_whole(fedctl):
    episode_id = fedctl.store("x" * 500)
    out = fedctl("memory", "list", terminal=True, environ={"NO_COLOR": "1"}).out
    header, row = out.splitlines()
    assert header.split() == ["ID", "CREATED_AT", "AGENT_ID", "REWARD", "TASK"]
    assert row.startswith(episode_id)
    assert row.endswith("…")


def test_colour_is_for_terminals_and_can_be_declined(fedctl):
    fedctl.store("x")
    assert "\x1b[" in fedctl("memory", "list", terminal=True).out
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in fedctl("memory", "list", terminal=True, environ=environ).out
    assert "\x1b" not in fedctl("memory", "list", "--color", "never", terminal=True).out
    assert "\x1b" in fedctl("memory", "list", "--color", "always", terminal=True, environ={"NO_COLOR": "1"}).out


def test_fields_choose_in_every_form(fedctl):
    fedctl.store("t", "--id", "a", "--meta", "repo=api")
    chosen = ("memory", "list", "--fields", "id,metadata.repo,input")
    assert fedctl(*chosen, "--json").json == [{"id": "a", "metadata.repo": "api", "input": None}]
    assert fedctl(*chosen, "--jsonl").lines == [{"id": "a", "metadata.repo": "api", "input": None}]
    assert fedctl(*chosen).out == "id\tmetadata.repo\tinput\na\tapi\t\n"
    assert fedctl("memory", "get", "a", "--fields", "task").out == "task\tt\n"


def test_an_empty_list_is_an_empty_list(fedctl):
    fedctl("init")
    assert fedctl("memory", "list", "--json").out == "[]\n"
    assert fedctl("memory", "list", "--jsonl").out == ""
    assert fedctl("memory", "list", "--ids").out == ""
    assert fedctl("memory", "list").out == "id\tcreated_at\tagent_id\treward\ttask\n"
    table = fedctl("memory", "list", terminal=True)
    assert (table.code, table.out, table.err) == (0, "", "note: nothing there\n")


def test_absent_is_null_and_never_dropped(fedctl):
    episode = fedctl("memory", "store", "--task", "x", "--json").json
    assert [name for name, value in episode.items() if value is None] == [
        "agent_id", "session_id", "input", "output", "reward", "success", "critique", "tokens_used", "latency_ms",
    ]  # fmt: skip


def test_a_person_sees_no_rows_of_what_is_not_there_and_a_pipe_all_of_them(fedctl):
    shown = fedctl("memory", "store", "--task", "x", "--id", "e", terminal=True, environ={"NO_COLOR": "1"}).out
    assert [line.split()[0] for line in shown.splitlines()] == [
        "id", "tenant_id", "task", "metadata", "pinned", "created_at", "seq",
    ]  # fmt: skip
    assert "agent_id\t\n" in fedctl("memory", "get", "e").out
    asked = fedctl("memory", "get", "e", "--fields", "id,agent_id", terminal=True, environ={"NO_COLOR": "1"}).out
    assert asked.splitlines()[1].rstrip() == "agent_id", "what was asked for by name is there"


def test_what_was_just_stored_is_told_by_its_beginning_and_shown_whole_when_asked_for(fedctl):
    long = "a" * 1000
    at_80 = {"COLUMNS": "80", "NO_COLOR": "1"}
    stored = fedctl("memory", "store", "--task", "x", "--id", "e", "--input", long, terminal=True, environ=at_80).out
    assert f"{'a' * 240}... (760 more characters)\n" in stored
    assert long in fedctl("memory", "get", "e", terminal=True, environ=at_80).out
    assert long in fedctl("memory", "store", "--task", "x", "--input", long).out
