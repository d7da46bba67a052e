"""The debug stream of a command: asked for by flag or environment, beside the answer and never in it."""

import json

import pytest

from fedctl.model.log import CATEGORIES, LEVELS


def events(text: str) -> list[str]:
    """Return what each line of a stream for people is about."""
    return [line.split()[1] for line in text.splitlines()]


def test_a_command_says_nothing_unless_it_is_asked_to(fedctl):
    assert fedctl("memory", "store", "--task", "x").err == ""
    assert (
        fedctl("memory", "store", "--task", "x", "--debug-level", "silent", environ={"DEBUG_LEVEL": "trace"}).err == ""
    )


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("basic", ["command.ended"]),
        ("detailed", ["memory.store", "command.ended"]),
        ("verbose", ["command.started", "memory.store", "command.ended"]),
        ("trace", ["command.started", "link.state", "memory.store", "link.state", "command.ended"]),
    ],
)
def test_each_level_says_more(fedctl, level, expected):
    assert events(fedctl("memory", "store", "--task", "x", "--debug-level", level).err) == expected


@pytest.mark.parametrize("value", ["DETAILED", "Detailed", " detailed "])
def test_the_case_of_the_environment_does_not_matter(fedctl, value):
    said = {"DEBUG_LEVEL": value, "DEBUG_FORMAT": "Json", "DEBUG_OUTPUT": "CONSOLE"}
    result = fedctl("memory", "store", "--task", "x", environ=said)
    assert [json.loads(line)["operation"] for line in result.err.splitlines()] == ["store", "ended"]


def test_what_the_environment_says_wrongly_is_warned_of_once_and_ignored(fedctl):
    wrong = {"DEBUG_LEVEL": "loud", "DEBUG_FORMAT": "xml", "DEBUG_OUTPUT": "printer"}
    result = fedctl("memory", "store", "--task", "x", environ=wrong)
    assert (result.code, len(result.err.splitlines())) == (0, 3)
    assert all(line.startswith("warning: ") for line in result.err.splitlines())


@pytest.mark.parametrize(
    "flags",
    [
        ("--debug-level", "loud"), ("--debug-format", "xml"), ("--debug-output", "printer"),
        ("--debug-category", "memor"), ("--debug-agent", "a b"),
        ("--debug-level", "basic", "--debug-output", "file"),
        ("--debug-level", "basic", "--debug-output", "file", "--debug-file", "{home}/no/such"),
        ("--debug-level", "basic", "--debug-output", "both", "--debug-file", "/"),
    ],
)  # fmt: skip
def test_a_flag_that_makes_no_sense_is_an_error_before_anything_is_done(fedctl, flags):
    result = fedctl("memory", "store", "--task", "x", *(flag.format(home=fedctl.home) for flag in flags))
    assert (result.code, result.out) == (2, "")
    assert not fedctl.home.exists()


def test_a_file_that_may_not_be_written_is_denied_before_anything_is_done(fedctl, make_disk):
    disk = make_disk("1m")
    disk.make("ro")
    flags = ("--debug-level", "basic", "--debug-output", "both", "--debug-file", str(disk.folder / "log"))
    for command in (
        ("memory", "store", "--task", "x"),
        ("hub", "start"),
        ("hub", "start", "--detach"),
        ("agent", "spawn"),
    ):
        result = fedctl(*command, *flags, "--json")
        assert (result.code, result.out, result.error["code"]) == (9, "", "denied")
        assert not fedctl.home.exists()


def test_a_file_alone_is_not_written_and_that_is_said(fedctl, tmp_path):
    result = fedctl("memory", "store", "--task", "x", "--debug-level", "basic", "--debug-file", str(tmp_path / "log"))
    assert "warning: nothing goes to --debug-file without --debug-output" in result.err
    assert not (tmp_path / "log").exists()


def test_the_stream_never_mixes_into_an_answer(fedctl, tmp_path):
    ids = [fedctl.store(f"task {number}") for number in range(3)]
    plain = fedctl("memory", "get", *ids, "--json")
    for form in ("human", "json", "compact"):
        loud = fedctl("memory", "get", *ids, "--json", "--debug-level", "trace", "--debug-format", form)
        assert (loud.code, loud.out) == (plain.code, plain.out)
        assert loud.err
    file = tmp_path / "log"
    quiet = fedctl("memory", "get", *ids, "--debug-level", "trace", "--debug-output", "file", "--debug-file", str(file))
    assert quiet.err == ""
    assert events(file.read_text())[-1] == "command.ended"


@pytest.mark.parametrize("form", ["human", "json", "compact"])
def test_how_a_command_failed_is_said_with_the_message_of_its_error(fedctl, form):
    fedctl.store("x")
    result = fedctl("memory", "get", "nope", "--debug-level", "basic", "--debug-format", form)
    assert result.code == 4
    assert "no such episode: nope" in result.err.splitlines()[-1]
    if form == "json":
        ended = json.loads(result.err.splitlines()[-1])
        assert (ended["category"], ended["data"]["command"], ended["data"]["exit"]) == ("command", "memory get", 4)
        assert "nope" in ended["error"]


def test_categories_are_chosen_one_by_one(fedctl):
    flags = ("--debug-level", "trace", "--debug-category", "memory", "--debug-category", "LINK")
    assert set(events(fedctl("memory", "store", "--task", "x", *flags).err)) == {"memory.store", "link.state"}


def test_a_worker_says_what_becomes_of_each_item(fedctl):
    fedctl("pool", "push", "q", "1")
    result = fedctl("pool", "work", "q", "--until-empty", "--debug-level", "trace", "--json", "--", "true")
    assert result.json["done"] == 1
    said = events(result.err.replace("1 done, 0 failed", "- - -"))
    assert [one for one in said if one.startswith("work.")] == ["work.started", "work.attempt", "work.ended"]
    states = [line.partition("state=")[2] for line in result.err.splitlines() if " item.state " in line]
    assert states == ["claimed", "running", "reporting", "let_go"]


def test_the_help_and_the_settings_know_the_same_levels_and_categories(fedctl):
    text = fedctl("--help").out
    assert "|".join(LEVELS) in text
    for category in CATEGORIES:
        assert fedctl("config", "path", "--debug-category", category).code == 0
