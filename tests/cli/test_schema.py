"""`fedctl schema`: what every command says of its answers, and that the answers are so."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest

from fedctl.cli import schema
from fedctl.errors import BY_CODE, UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "schemas.json"
REGENERATE = "run scripts/generate"
TEXT = {"type": "string"}
FORMATS = jsonschema.FormatChecker(["uuid"])


def check(document: object, path: str, line_of: str | None = None) -> None:
    """Raise unless the document is what the schema of that command says, and nothing beside it."""
    found = schema.schema_of(path, closed=True)
    if line_of is not None:
        line = found["x-jsonl"] if line_of == "--jsonl" else found["x-lines"][line_of]
        found = {**line, "$defs": found["$defs"]}
    jsonschema.Draft202012Validator(found, format_checker=FORMATS).validate(document)


@FORMATS.checks("date-time")
def is_time(value: object) -> bool:
    """Return whether a text is a time as the contract has it; what is no text is not asked about."""
    return not isinstance(value, str) or bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value))


# -- the schemas themselves -----------------------------------------------------------------------------------------


def test_every_schema_is_one():
    whole = schema.document()
    together = {"$defs": whole["$defs"], "anyOf": list(whole["commands"].values())}
    jsonschema.Draft202012Validator.check_schema(together)


def test_every_reference_leads_somewhere():
    whole = json.dumps(schema.document())
    places = {part.partition('"')[0] for part in whole.split('"#/$defs/')[1:]}
    assert places
    assert places <= schema.document()["$defs"].keys()


def test_the_committed_schemas_are_those_of_today():
    assert json.loads(GOLDEN.read_bytes()) == schema.document(), REGENERATE


def test_no_answer_has_lost_a_field():
    assert schema.losses(json.loads(GOLDEN.read_bytes()), schema.document()) == []


def test_whoever_answers_with_json_says_with_what():
    silent = [
        name
        for name, one in schema.document()["commands"].items()
        if one["x-form"] != "text" and one.get("x-jsonl", {}) == {"type": "object"}
    ]
    assert silent == ["store sql", "schema"]  # the columns are the asker's; a schema is what JSON Schema says


@pytest.mark.parametrize("code", BY_CODE)
def test_every_error_is_as_its_schema_says(code: str):
    error = BY_CODE[code]("it went wrong", hint="mend it", details={"line": 7})
    check({"error": error.as_dict()}, "error")


def test_an_error_of_another_kind_is_not():
    with pytest.raises(jsonschema.ValidationError):
        check({"error": {**UsageError("no").as_dict(), "code": "surprise"}}, "error")


def test_a_field_says_what_its_struct_says_of_it():
    item = schema.schema_of("pool complete")["$defs"]["CompletedItem"]["properties"]
    assert "completed before" in item["existing"]["description"]
    assert item["attempts"]["description"].startswith("`attempts` counts claims")  # as its base says
    assert item["created_at"] == {"type": "string", "format": "date-time"}
    beat = schema.schema_of("worker show")["$defs"]["Worker"]["properties"]
    assert beat["heartbeat_interval_s"]["description"] == "Seconds."


def test_absent_is_null_so_every_field_is_required_but_for_what_a_flag_adds():
    hit = schema.schema_of("memory query")["$defs"]["FoundEpisode"]
    assert set(hit["properties"]) - set(hit["required"]) == {"embedding", "match"}
    backup = schema.schema_of("backup show")["$defs"]["Backup"]  # half of its fields have defaults
    assert set(backup["properties"]) == set(backup["required"])


# -- what may change ------------------------------------------------------------------------------------------------


def lost(change) -> list[str]:
    """Return what would be missed after a change."""
    now = copy.deepcopy(schema.document())
    change(now)
    return schema.losses(schema.document(), now)


def test_a_field_more_is_nothing_lost():
    def change(now):
        now["$defs"]["Pool"]["properties"]["color"] = TEXT
        now["commands"]["pool paint"] = now["commands"]["pool show"]

    assert lost(change) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda now: now["commands"].pop("pool size"), "'pool size' is gone"),
        (lambda now: now["$defs"]["Pool"]["properties"].pop("paused"), "'pool show' has no .paused any more"),
        (
            lambda now: now["$defs"]["Pool"]["properties"].update(pending={"type": "string"}),
            ".pending of 'pool show' was integer, and is string",
        ),
        (
            lambda now: now["$defs"]["Episode"]["properties"]["task"].update(type=None, anyOf=[TEXT, {"type": "null"}]),
            "[].task of 'memory list' was string, and is null or string",
        ),
        (
            lambda now: now["$defs"]["Item"]["required"].remove("error"),
            ".error of 'pool fail' is not always there any more",
        ),
        (
            lambda now: now["$defs"]["Finished"]["properties"].pop("outcome"),
            "'pool work' has no x-jsonl.outcome any more",
        ),
        (
            lambda now: now["$defs"]["BatchOutcome"]["properties"].pop("line"),
            "'pool push' has no --batch.line any more",
        ),
        (
            lambda now: now["$defs"]["Attempt"]["properties"].pop("worker_id"),
            "'pool item' has no .history[].worker_id any more",
        ),
        (
            lambda now: now["commands"].update({"pool list": now["commands"]["pool show"]}),
            "the answer of 'pool list' was array, and is object",
        ),
    ],
)  # fmt: skip
def test_what_a_script_would_miss_is_named(change, said: str):
    assert said in lost(change)


def test_writing_refuses_to_lose_a_field_unless_it_is_told_to(tmp_path: Path):
    file = tmp_path / "schemas.json"
    assert schema.write(file)
    assert not schema.write(file)
    richer = json.loads(file.read_bytes())
    richer["$defs"]["Pool"]["properties"]["color"] = {"type": "string"}
    richer["$defs"]["Pool"]["required"].append("color")
    file.write_text(json.dumps(richer))
    with pytest.raises(UsageError, match=r"'pool show' has no [.]color any more"):
        schema.write(file)
    assert "color" in file.read_text()
    assert schema.write(file, may_lose=True)
    assert "color" not in file.read_text()


# -- what is answered -----------------------------------------------------------------------------------------------


def test_what_the_memory_answers_is_what_its_schemas_say(fedctl):
    stored = fedctl("memory", "store", "--task", "one", "--input", "x", "--id", "a", "--json")
    check(stored.json, "memory store")
    fedctl.store("two", "--id", "b", "--reward", "0.9", "--meta", "repo=api")
    check(fedctl("memory", "query", "two", "--mode", "keyword", "--json").json, "memory query")
    explained = fedctl("memory", "query", "two", "--mode", "keyword", "--explain", "--jsonl").lines
    assert explained
    check(explained[0], "memory query", "--jsonl")
    check(fedctl("memory", "get", "a", "--json").json, "memory get")
    check(fedctl("memory", "get", "a", "b", "--json").json, "memory get")
    check(fedctl("memory", "list", "--json").json, "memory ls")
    check(fedctl("memory", "export", "--with-vectors").lines[0], "memory export", "-")
    check(fedctl("memory", "stats", "--json").json, "memory stats")
    check(fedctl("memory", "delete", "a", "--json").json, "memory delete")
    tombstone = fedctl("memory", "store", "--task", "one", "--input", "x", "--id", "a", "--json").json
    assert (tombstone["deleted"], tombstone["task"]) == (True, None)
    check(tombstone, "memory store")
    check(fedctl("memory", "delete", "a", "--hard", "--json").json, "memory delete")
    for line in fedctl("memory", "store", "--batch", stdin=b'{"task": "three", "id": "c"}\n{"no": 1}\n').lines:
        check(line, "memory store", "--batch")


def test_what_pools_answer_is_what_their_schemas_say(fedctl):
    check(fedctl("pool", "push", "p", "1", "--json").json, "pool push")
    claimed = fedctl("pool", "claim", "p", "--worker", "w", "--json").json
    check(claimed, "pool claim")
    (item,) = claimed
    held = (item["id"], "--lease-id", item["lease_id"])
    check(fedctl("pool", "extend", *held, "--json").json, "pool extend")
    then = ("--then-push", "q", "2", "--episode", '{"task": "t"}')
    check(fedctl("pool", "complete", *held, *then, "--json").json, "pool complete")
    check(fedctl("pool", "item", item["id"], "--json").json, "pool item")
    check(fedctl("pool", "size", "q", "--json").json, "pool size")
    check(fedctl("pool", "purge", "q", "-y", "--json").json, "pool purge")
    fedctl("pool", "push", "p", "1")
    line = fedctl("pool", "claim", "p", "--worker", "w", "--jsonl").out.encode()
    for outcome in fedctl("pool", "complete", "--batch", stdin=line + b"{}\n").lines:
        check(outcome, "pool complete", "--batch")
    for outcome in fedctl("pool", "push", "p", "--batch", stdin=b'{"data": 1}\nno\n').lines:
        check(outcome, "pool push", "--batch")


def test_what_else_is_answered_is_what_its_schema_says(fedctl):
    check(fedctl("status", "--json").json, "status")
    check(fedctl("init", "--json").json, "init")
    for command, *rest in (
        ["status"], ["config list"], ["config get", "tenant"], ["config path"], ["store path"],
        ["store sql", "SELECT 1 AS one"], ["worker register", "w"], ["worker heartbeat", "w"],
        ["worker status", "w", "lost"], ["token issue", "--tenant", "t"], ["token list"], ["retention show"],
        ["backup"], ["backup show", "latest"], ["agent list"], ["schema"], ["schema", "status"],
    ):  # fmt: skip
        result = fedctl(*command.split(), *rest, "--json")
        assert result.code == 0, result.err
        check(result.json, command)
    check(fedctl("--version", "--json").json, "version")
    check(json.loads(fedctl("memory", "get", "nope", "--json").err), "error")


def test_times_and_ids_are_held_to_their_form(fedctl):
    issued = fedctl("token", "issue", "--tenant", "t", "--json").json
    for field in ("id", "issued_at", "expires_at"):
        with pytest.raises(jsonschema.ValidationError, match=r"is not a '(uuid|date-time)'"):
            check({**issued, field: "yesterday"}, "token issue")


def test_an_answer_with_a_field_that_nobody_declared_is_found_out(fedctl):
    answer = fedctl("pool", "push", "p", "1", "--json").json
    with pytest.raises(jsonschema.ValidationError, match="color"):
        check({**answer, "color": "red"}, "pool push")
    jsonschema.Draft202012Validator(schema.schema_of("pool push")).validate({**answer, "color": "red"})


# -- the command ----------------------------------------------------------------------------------------------------


def test_a_schema_is_printed_in_every_form_and_however_the_command_is_named(fedctl):
    found = fedctl("schema", "memory", "query", "--json").json
    assert found == schema.schema_of("memory query")
    assert found["$schema"] == schema.DIALECT
    assert (found["x-form"], found["type"], found["items"]) == ("many", "array", found["x-jsonl"])
    for argv in (["memory query"], ["memory", "query"]):
        assert fedctl("schema", *argv).json == found
        assert fedctl("schema", *argv, terminal=True).json == found
        assert fedctl("schema", *argv, "--jsonl").lines == [found]
    assert fedctl("schema", "memory", "query", "--ids").out == "memory query\n"
    assert fedctl("schema", "memory", "query", "--fields", "form", "--json").json == {"form": "many"}


def test_an_alias_and_a_noun_that_stands_for_a_command_have_its_schema(fedctl):
    assert fedctl("schema", "memory", "ls").json == schema.schema_of("memory list")
    assert fedctl("schema", "backup").json == schema.schema_of("backup create")


def test_without_a_command_all_are_listed_and_with_a_noun_all_of_its(fedctl):
    everything = fedctl("schema", "--json").json
    assert [one["command"] for one in everything] == list(schema.document()["commands"])
    assert all(one["schema"] == schema.schema_of(one["command"]) for one in everything)
    assert fedctl("schema").out.startswith("command\tform\ttitle\ninit\tone\tMake the home")
    assert fedctl("schema", "store", "--ids").out.split("\n")[:2] == ["store check", "store path"]


def test_what_a_command_without_json_answers_is_said_too(fedctl):
    found = fedctl("schema", "completion").json
    assert (found["x-form"], found["not"]) == ("text", {})


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["memory", "qery"], "did you mean memory query?"),
        (["pool clam"], "did you mean pool claim?"),
        (["xyzzy"], "fedctl schema lists them"),
    ],
)
def test_an_unknown_command_is_told_with_what_was_perhaps_meant(fedctl, argv: list[str], hint: str):
    result = fedctl("schema", *argv, "--json")
    assert (result.code, result.out) == (2, "")
    assert result.error["hint"] == hint


def test_schemas_need_no_home(fedctl):
    assert fedctl("schema", "status").code == 0
    assert not fedctl.home.exists()
