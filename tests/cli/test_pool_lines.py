"""What a stranger meets: lines as claim writes them, names with a slip in them, quiet, and what is said beside."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def pool(fedctl):
    def ask(*argv, code=0, **given):
        result = fedctl("pool", *argv, **given)
        assert result.code == code, (result.out, result.err)
        return result

    return ask


def lines_of(*documents):
    return "".join(f"{json.dumps(one)}\n" for one in documents).encode()


def claimed(pool, count=1, **fields):
    pool("push", "p", "--batch", stdin=lines_of(*({"data": number, **fields} for number in range(count))))
    return pool("claim", "p", "--worker", "w", "--count", str(count), "--jsonl").out


def test_what_was_claimed_is_completed_as_it_is_or_with_a_result_that_was_added(pool):
    first, second = map(json.loads, claimed(pool, 2).splitlines())
    pool("complete", "--batch", stdin=lines_of(first, {**second, "result": {"n": 1}, "then_push": []}))
    assert [(one["status"], one["result"]) for one in pool("items", "p", "--json").json] == [
        ("done", None), ("done", {"n": 1}),
    ]  # fmt: skip


def test_what_was_claimed_is_failed_with_the_error_of_its_line(pool):
    first, second = map(json.loads, claimed(pool, 2, max_retries=1).splitlines())
    pool("fail", "--batch", stdin=lines_of({**first, "error": "boom"}, {**second, "poison": True}))
    assert [(one["status"], one["error"]) for one in pool("items", "p", "--json").json] == [
        ("poisoned", "boom"), ("poisoned", None),
    ]  # fmt: skip


def test_a_word_that_is_no_field_is_refused_in_a_claimed_item_too(pool):
    item = json.loads(claimed(pool))
    bare = {"id": item["id"], "lease_id": item["lease_id"], "pool": "p"}
    answers = pool("complete", "--batch", stdin=lines_of({**item, "resutl": 1}, bare), code=3).lines
    assert answers[0]["error"]["hint"] == "did you mean result?"
    hint = pool("fail", "--batch", stdin=lines_of(bare), code=3).lines[0]["error"]["hint"]
    assert "as claim answers with it" in hint
    assert "did you mean" not in answers[1]["error"]["hint"] + hint
    assert pool("items", "p", "--json").json[0]["status"] == "claimed"


def test_blank_lines_are_none_and_an_array_is_refused_before_anything_is_done(pool):
    pushed = pool("push", "p", "--batch", stdin=b'\n{"data": 1}\n  \r\n{"dat": 2}\n\n', code=3).lines
    assert [(one["ok"], one.get("line")) for one in pushed] == [(True, None), (False, 4)]
    array = pool("claim", "p", "--worker", "w", "--json").out
    refused = pool("complete", "--batch", stdin=array.encode(), code=2)
    assert (refused.out, "--jsonl" in refused.err) == ("", True)
    assert pool("complete", "--batch", "--json", stdin=b"\n [\n{}\n]", code=2).error["code"] == "usage"
    assert pool("items", "p", "--json").json[0]["status"] == "claimed"


def test_every_batch_and_import_skips_blank_lines_and_refuses_strange_words_alike(fedctl, tmp_path):
    """Also the id of a line that had none of its own is nobody's business where the line is refused."""
    fields = {"pool push p": '"data": 1', "memory store": '"task": "t"'}
    for verb, field in fields.items():
        lines = f'\ufeff\n \t\r\n{{{field}}}\n\n{{{field}, "taks": 1}}\n\x0b'.encode()
        done = fedctl(*verb.split(), "--batch", stdin=lines)
        assert (done.code, [(one["ok"], one.get("line")) for one in done.lines]) == (3, [(True, None), (False, 5)])
        assert done.lines[1]["id"] is None
        error = done.lines[1]["error"]
        assert error["message"] == "'taks' is not a field of this line"
        assert ("did you mean task?" if verb == "memory store" else "data") in error["hint"]
    for name, content in (
        ("a.jsonl", '\ufeff \n{"task": "u"}\n\t\n'),
        ("a.csv", "task\n   \nv\n\n"),
        ("a.tsv", "task\treward\n\t\nw\t1\n"),
    ):
        (tmp_path / name).write_text(content)
        counts = fedctl("memory", "import", str(tmp_path / name), "--no-embed", "--json").json
        assert (counts["lines"], counts["imported"]) == (1, 1)


def test_a_refused_line_is_answered_with_its_own_id_or_none(fedctl):
    fedctl.store("full")
    assert fedctl("tenant", "set", "default", "--max-episodes", "1").code == 0
    refused = fedctl("memory", "store", "--batch", stdin=lines_of({"task": "t"}, {"id": "mine", "task": "t"})).lines
    assert [(one["ok"], one["id"]) for one in refused] == [(False, None), (False, "mine")]
    refused = fedctl("pool", "push", "p", "--batch", stdin=lines_of({"max_retries": -1}, {"id": "i", "key": ""})).lines
    assert [(one["ok"], one["id"]) for one in refused] == [(False, None), (False, "i")]


def test_a_batch_answers_in_lines_in_ids_or_not_at_all(pool):
    lines = lines_of({"id": "a"}, {"nope": 1}, {"id": "b"})
    ids = pool("push", "p", "--batch", "--ids", stdin=lines, code=3)
    assert (ids.out, ids.err) == ("a\nb\n", "error: line 2: 'nope' is not a field of this line\n")
    assert (pool("push", "p", "--batch", "-q", stdin=lines_of({"id": "c"}))) == (0, "", "")
    quiet = pool("push", "p", "--batch", "-q", stdin=lines_of(*[{"nope": 1}] * 23), code=3)
    assert (quiet.out, len(quiet.err.splitlines())) == ("", 21)
    assert quiet.err.endswith("error: and 3 more lines were refused\n")
    assert pool("push", "p", "--batch", "-q", "--json", stdin=lines_of({"id": "d"})).json["id"] == "d"
    for form in ("table", "tsv"):
        refused = pool("push", "p", "--batch", "--format", form, stdin=lines_of({"id": "e"}), code=2)
        assert form in refused.err
    # What the environment says of all commands is no word about this one.
    assert pool("push", "p", "--batch", stdin=lines_of({"id": "e"}), environ={"FEDCTL_FORMAT": "table"}).json["ok"]


@pytest.mark.parametrize(
    "argv",
    [
        ["pause", "bulids"], ["resume", "bulids"], ["purge", "bulids", "-y"], ["retry", "--poisoned", "bulids"],
        ["items", "bulids"], ["size", "bulids"], ["show", "bulids"], ["claim", "bulids", "--worker", "w"],
        ["wait", "bulids"], ["claim", "bulids", "--worker", "w", "--wait", "1ms", "--json"],
    ],
)  # fmt: skip
def test_a_pool_that_was_never_used_is_said_to_be_so_with_the_name_that_was_meant(fedctl, pool, argv):
    pool("push", "builds", "1", "-q")
    assert fedctl("pool", *argv).err.endswith("note: the pool bulids was never used: did you mean builds?\n")
    assert fedctl("pool", *[one.replace("bulids", "x") for one in argv], "-q").err == ""


def test_a_pool_that_was_used_is_known_though_nothing_is_left_in_it(fedctl, pool):
    pool("push", "builds", "1", "-q")
    pool("purge", "builds", "-y")
    for argv in (["items"], ["size"], ["show"], ["claim", "--worker", "w"], ["wait"], ["purge", "-y"], ["pause"]):
        assert fedctl("pool", argv[0], "builds", *argv[1:]).err == "", argv


def test_quiet_waits_in_silence_and_says_in_a_line_what_went_wrong(pool):
    first, second = map(json.loads, claimed(pool, 2, max_retries=1).splitlines())
    assert pool("wait", "p", "--timeout", "0s", "-q", code=8).err == "error: 2 not finished, 0 poisoned\n"
    pool("complete", "--batch", "-q", stdin=lines_of(first))
    assert pool("wait", first["id"], "-q") == (0, "", "")
    pool("fail", "--batch", "-q", stdin=lines_of(second))
    assert pool("wait", "p", "-q", code=14) == (14, "", "error: 0 not finished, 1 poisoned\n")
    assert pool("wait", "p", "-q", "--json", code=14).json["poisoned"] == 1


def test_how_long_a_lease_may_be_is_said_as_people_write_it(pool):
    for argv in (["claim", "p", "--worker", "w"], ["extend", "i", "--lease-id", "l"]):
        assert "100ms and 7d" in pool(*argv, "--lease", "8d", code=2).err


def test_resuming_is_refused_under_its_own_name(fedctl):
    from fedctl.bootstrap import open_context
    from fedctl.client.local import LocalCaller
    from fedctl.model.principal import Principal

    def as_agent(settings, *, writes):
        return LocalCaller(open_context(settings, create=writes), Principal(tenant_id="default", role="agent"))

    for verb in ("pause", "resume"):
        refused = fedctl("pool", verb, "p", "-q", open_caller=as_agent)
        assert (refused.code, refused.err.startswith(f"error: pool.{verb} needs the role admin")) == (9, True)
