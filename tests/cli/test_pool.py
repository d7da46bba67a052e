from __future__ import annotations

import io
import json

import pytest

from fedctl.cli.main import run
from fedctl.messages.pool import ClaimItems, PushItems


@pytest.fixture
def pool(fedctl):
    """Ask `fedctl pool ... --json`, and return the answer."""

    def ask(*argv, code=0, **given):
        result = fedctl("pool", *argv, "--json", **given)
        assert result.code == code, (result.out, result.err)
        return result.json if result.out else result.error

    return ask


def claim(pool, name="p", *flags):
    (item,) = pool("claim", name, "--worker", "w1", *flags)
    return item["id"], "--lease-id", item["lease_id"]


def batch(fedctl, *argv, lines, code=0, **given):
    content = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    result = fedctl("pool", *argv, "--batch", stdin=content.encode(), **given)
    assert result.code == code, (result.out, result.err)
    return result.lines


# -- push -----------------------------------------------------------------------------------------------------------


def test_a_pushed_item_is_answered_whole_and_found_again(fedctl, pool):
    item = pool(
        "push", "p", '{"n": 123456789012345678901234567890}', "--max-retries", "1", "--priority", "-2", "--delay", "1h",
        "--key", "k", "--requires", "b", "--requires", "a",
    )  # fmt: skip
    assert item.pop("existing") is False
    assert set(item) == {
        "id", "pool", "status", "data", "priority", "attempts", "max_retries", "claimed_by", "claimed_at", "lease_id",
        "lease_expires_at", "created_at", "available_at", "finished_at", "result", "error", "key", "requires",
    }  # fmt: skip
    assert item["data"] == {"n": 123456789012345678901234567890}
    assert (item["max_retries"], item["priority"], item["key"], item["requires"]) == (1, -2, "k", ["a", "b"])
    assert item["available_at"] > item["created_at"]
    assert pool("items", "p") == [item]
    assert pool("item", item["id"]) == {**item, "history": []}


def test_data_are_json_from_the_line_from_stdin_or_from_a_file(fedctl, pool, tmp_path):
    (tmp_path / "data.json").write_text("\ufeff[1,\n 2]\n")
    for given, stdin, data in (
        ('"text"', b"", "text"), ("null", b"", None), ("-", b'{"a": 1}\n', {"a": 1}), ("1.5", b"", 1.5),
        (f"@{tmp_path}/data.json", b"", [1, 2]), ("true", b"", True),
    ):  # fmt: skip
        assert pool("push", "p", given, stdin=stdin)["data"] == data
    pretty = json.dumps({"a": ["b" * 10] * 50_000}, indent=8).encode()
    assert len(pretty) > 1 << 20
    assert pool("push", "p", "-", stdin=pretty)["data"]["a"][0] == "b" * 10


def test_no_data_is_null_and_is_said(fedctl):
    result = fedctl("pool", "push", "p", "--json", stdin=b"not read")
    assert (result.code, result.json["data"]) == (0, None)
    assert result.err.startswith("note: no data were given: pushed null")


def test_a_bare_word_is_no_json_and_the_hint_says_how_to_write_it(fedctl):
    result = fedctl("pool", "push", "p", "it's", "--json")
    assert (result.code, result.out) == (2, "")
    assert result.error["hint"] == """as JSON this text is written '"it's"'"""
    assert not fedctl.home.exists()


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["push", "a/b", "1"], "POOL"),
        (["push", "", "1"], "POOL"),
        (["push", "x" * 129, "1"], "POOL"),
        (["push", "p", "{"], "data"),
        (["push", "p", ""], "data"),
        (["push", "p", "NaN"], "data"),
        (["push", "p", '"\\ud800"'], "surrogate"),
        (["push", "p", '"\udcff"'], "UTF-8"),
        (["push", "p", "[" * 100_000 + "]" * 100_000], "deep"),
        (["push", "p", "@/does/not/exist"], "data"),
        (["push", "p", "1", "--delay", "5"], "--delay"),
        (["push", "p", "1", "--at", "soon"], "--at"),
        (["push", "p", "1", "--delay", "5s", "--at", "+5s"], "--at"),
        (["push", "p", "1", "--max-retries", "-1"], "--max-retries"),
        (["push", "p", "1", "--priority", "high"], "--priority"),
        (["push", "p", "1", "--requires", "a b"], "--requires"),
        (["push", "p", "1", "--key", "a\0b"], "--key"),
        (["push", "p", "1", "--batch"], "--batch"),
        (["claim", "p"], "--worker"),
        (["claim", "p", "--worker", ".."], "--worker"),
        (["claim", "p", "--worker", "w", "--count", "0"], "--count"),
        (["claim", "p", "--worker", "w", "--count", "1001"], "--count"),
        (["claim", "p", "--worker", "w", "--lease", "0s"], "--lease"),
        (["claim", "p", "--worker", "w", "--wait", "1"], "--wait"),
        (["complete", "--lease-id", "l"], "item"),
        (["complete", "i"], "--lease-id"),
        (["complete", "i", "--lease-id", "l", "--result", "done"], "--result"),
        (["complete", "i", "--lease-id", "l", "--then-push", "p"], "--then-push"),
        (["complete", "i", "--lease-id", "l", "--then-push", "a/b", "1"], "--then-push"),
        (["complete", "i", "--lease-id", "l", "--then-push", "p", "word"], "--then-push"),
        (["complete", "i", "--lease-id", "l", "--episode", "[]"], "--episode"),
        (["complete", "i", "--lease-id", "l", "--episode", '{"taks": "t"}'], "did you mean task?"),
        (["fail", "i", "--lease-id", "l", "--retry-in", "soon"], "--retry-in"),
        (["release", "i", "--worker", "w"], "--worker"),
        (["items", "p", "--status", "delayed"], "--status"),
        (["wait"], "POOL"),
        (["retry"], "--poisoned"),
        (["retry", "i", "--poisoned", "p"], "--poisoned"),
        (["purge", "p", "--status", "pending"], "--status"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_its_name_and_nothing_is_made(fedctl, argv, named):
    result = fedctl("pool", *argv)
    assert (result.code, result.out) == (2, "")
    assert named in result.err
    assert len(result.err.splitlines()) <= 3
    assert not fedctl.home.exists()


def test_data_over_the_limit_are_refused_by_it(fedctl):
    result = fedctl("pool", "push", "p", "-", "--json", stdin=b'"' + b"x" * (1 << 20) + b'"')
    assert result.code == 2
    assert "1,048,576" in result.error["message"]
    assert fedctl("pool", "push", "p", "-", stdin=b"[" + b" " * 5_000_000 + b"]").code == 2


def test_a_key_holds_while_its_item_is_unfinished(fedctl, pool):
    first = pool("push", "p", "1", "--key", "k")
    again = fedctl("pool", "push", "p", "1", "--key", "k", "--json")
    assert (again.json["id"], again.json["existing"]) == (first["id"], True)
    assert first["id"] in again.err
    assert pool("push", "p", "2", "--key", "k", code=5)["details"] == {"id": first["id"]}
    pool("complete", *claim(pool))
    assert pool("push", "p", "2", "--key", "k")["existing"] is False


def test_a_batch_of_pushes_answers_each_line_in_its_place(fedctl, pool):
    lines = [
        {"data": {"a": 1}, "id": "own", "priority": 1, "max_retries": 1, "key": "k", "requires": []},
        {"data": 1, "delay": "5m"}, {"data": 2, "delay_ms": 5}, {"data": 3, "at": "+1h", "key": None},
        {"data": 4, "available_at": "2099-01-01T00:00:00Z"}, {}, {"data": None},
        {"data": {"a": 1}, "id": "own", "priority": 1, "max_retries": 1, "key": "k"},
        {"dta": 1}, {"url": "x"}, "5", "", "nope", {"data": 1, "priority": "1"}, {"data": 1, "delay": "5"},
        {"data": 1, "delay": "5s", "delay_ms": 1}, {"data": 1, "delay": 5}, {"data": 1, "id": ""}, {"data": 1, "id": 7},
        {"data": 2, "id": "own"}, '{"data": "\\ud800"}', '{"data": ' + "[" * 40 + "]" * 40 + "}",
        {"data": "x" * 1_100_000}, '{"data": "' + "x" * 5_000_000 + '"}', {"data": "last"},
    ]  # fmt: skip
    answers = batch(fedctl, "push", "p", lines=lines, code=3)
    lines.remove("")  # a blank line is no item, and has no answer
    assert len(answers) == len(lines)
    good = [*range(8), len(lines) - 1]
    assert [number for number, one in enumerate(answers) if one["ok"]] == good
    assert answers[0] == {"ok": True, "id": "own", "existing": False}
    assert answers[7] == {"ok": True, "id": "own", "existing": True}
    for number, one in enumerate(answers):
        if not one["ok"]:
            line = number + 1 + (number >= 11)
            assert (one["line"], one["error"]["exit"]) == (line, 5 if number == 18 else 2), one
    assert answers[8]["error"]["hint"] == "did you mean data?"
    assert '{"data": {...}}' in answers[9]["error"]["hint"]
    assert [one["id"] for one in pool("items", "p")] == [answers[number]["id"] for number in good if number != 7]


def test_batch_takes_no_flags_of_one_and_no_fields(fedctl):
    for argv in (
        ["push", "p", "1"], ["push", "p", "--key", "k"], ["complete", "i"], ["complete", "--result", "1"],
        ["fail", "--error", "x"], ["extend", "i"], ["release", "--worker", "w"],
        *([verb, *pool, "--fields", "id"] for verb, pool in (("push", ["p"]), ("release", []))),
    ):  # fmt: skip
        assert fedctl("pool", *argv, "--batch").code == 2, argv


# -- claim ----------------------------------------------------------------------------------------------------------


def test_claim_answers_with_a_list_and_nothing_is_an_outcome(fedctl, pool):
    nothing = fedctl("pool", "claim", "p", "--worker", "w1", "--json")
    assert (nothing.code, nothing.out, nothing.err) == (6, "[]\n", "note: the pool p was never used\n")
    assert (fedctl.home / "store.db").exists()
    pushed = [pool("push", "p", str(number))["id"] for number in range(3)]
    (first,) = pool("claim", "p", "--worker", "w1")
    assert (first["id"], first["status"], first["claimed_by"], first["attempts"]) == (pushed[0], "claimed", "w1", 1)
    rest = fedctl("pool", "claim", "p", "--count", "5", "--jsonl", environ={"FEDCTL_WORKER": "w2"})
    assert [one["id"] for one in rest.lines] == pushed[1:]
    assert {one["claimed_by"] for one in rest.lines} == {"w2"}
    assert fedctl("pool", "claim", "p", "--wait", "1ms", environ={"FEDCTL_WORKER": "a/b"}).code == 2
    waited = fedctl("pool", "claim", "p", "--worker", "w1", "--wait", "10ms", "--ids")
    assert (waited.code, waited.out, waited.err) == (6, "", "")


def test_claim_takes_the_highest_priority_first_and_what_the_worker_can(fedctl, pool):
    pool("push", "p", "1")
    pool("push", "p", "2", "--priority", "5")
    pool("push", "p", "3", "--priority", "9", "--requires", "gpu")
    assert [one["data"] for one in pool("claim", "p", "--worker", "w1", "--count", "9")] == [2, 1]
    fedctl("worker", "register", "strong", "--capability", "gpu")
    assert [one["data"] for one in pool("claim", "p", "--worker", "strong")] == [3]


class Broken(io.BytesIO):
    """A reader that has left."""

    def write(self, _content):
        raise BrokenPipeError(32, "Broken pipe")


class Full(io.BytesIO):
    """A disk without space."""

    def flush(self):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("stdout", "code"), [(Broken(), 141), (Full(), 15), (None, 1)])
def test_what_could_not_be_answered_is_not_claimed(fedctl, pool, stdout, code):
    pool("push", "p", "1")
    other = claim(pool)  # by the same worker, known to it: it stays
    pushed = pool("push", "p", "2")["id"]
    argv = ["pool", "claim", "p", "--worker", "w1"]
    err = io.BytesIO()
    assert run(argv, stdin=None, stdout=stdout, stderr=err, environ=fedctl.environ) == code
    assert [(one["id"], one["status"], one["attempts"]) for one in pool("items", "p")] == [
        (other[0], "claimed", 1), (pushed, "pending", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("signal", "code"), [(KeyboardInterrupt, 130)])
def test_a_signal_right_after_the_commit_leaves_nothing_claimed(fedctl, pool, signal, code):
    pool("push", "p", "1")
    from fedctl.bootstrap import open_caller

    class Interrupted:
        def __init__(self, caller):
            self.close = caller.close
            self._caller = caller

        def call(self, request, *, tenant_id=None):
            answer = self._caller.call(request, tenant_id=tenant_id)
            if isinstance(request, ClaimItems):
                raise signal
            return answer

    def opened(settings, *, writes):
        return Interrupted(open_caller(settings, writes=writes))

    result = fedctl("pool", "claim", "p", "--worker", "w1", open_caller=opened)
    assert (result.code, result.out, result.err) == (code, "", "")
    assert [(one["status"], one["attempts"]) for one in pool("items", "p")] == [("pending", 0)]


# -- ending an attempt ------------------------------------------------------------------------------------------------


def test_complete_keeps_the_result_and_repeating_it_is_accepted(fedctl, pool):
    pool("push", "p", '{"a": 1}')
    held = claim(pool)
    done = pool("complete", *held, "--result", '{"ok": true}')
    assert (done["status"], done["result"], done["existing"], done["pushed"], done["episode"]) == (
        "done", {"ok": True}, False, [], None,
    )  # fmt: skip
    assert pool("complete", *held, "--result", "-", stdin=b'{"ok":true}')["existing"] is True
    assert pool("complete", *held, "--result", "1", code=5)["code"] == "conflict"
    assert pool("fail", *held, code=5)["code"] == "conflict"
    assert pool("complete", "nope", "--lease-id", "x", code=4)["code"] == "not_found"


def test_the_lease_comes_from_the_environment_where_no_flag_says_it(fedctl, pool):
    pool("push", "p", "1")
    item_id, _, lease = claim(pool)
    lost = {"FEDCTL_LEASE_ID": "lost"}
    assert pool("extend", item_id, code=5, environ=lost)["code"] == "conflict"
    assert pool("extend", item_id, "--lease", "1h", environ={"FEDCTL_LEASE_ID": lease})["status"] == "claimed"
    assert pool("complete", item_id, "--lease-id", lease, environ=lost)["status"] == "done"


def test_what_follows_and_what_was_learned_are_kept_with_the_completion_or_not_at_all(fedctl, pool):
    pool("push", "p", "1")
    held = claim(pool)
    refused = pool("complete", *held, "--then-push", "q", "1", "--episode", '{"task": ""}', code=2)
    assert "task" in refused["message"]
    assert (pool("size", "q")["size"], pool("show", "p")["claimed"]) == (0, 1)
    done = pool(
        "complete", *held, "--then-push", "q", '{"n": 1}', "--then-push", "r", "-", "--episode",
        '{"task": "t", "input": [1], "reward": 1}', stdin=b"2",
    )  # fmt: skip
    assert [(one["pool"], one["data"]) for one in done["pushed"]] == [("q", {"n": 1}), ("r", 2)]
    assert fedctl("memory", "get", done["episode"], "--json").json["input"] == [1]
    again = pool("complete", *held, "--then-push", "q", '{"n": 1}')
    assert (again["existing"], again["pushed"], pool("size", "q")["size"]) == (True, [], 1)


def test_records_that_do_not_fit_in_one_answer_are_fetched(fedctl, pool):
    pool("push", "p", "-", stdin=json.dumps("d" * 1_000_000).encode())
    held = claim(pool)
    flags = [part for n in range(2) for part in ("--then-push", "q", f"@{fedctl.home}/big")]
    (fedctl.home / "big").write_text(json.dumps("e" * 900_000))
    done = pool("complete", *held, *flags, "--result", f"@{fedctl.home}/big")
    assert (len(done["data"]), len(done["result"]), [len(one["data"]) for one in done["pushed"]]) == (
        1_000_000, 900_000, [900_000, 900_000],
    )  # fmt: skip
    pool("push", "p", "1")
    too_much = pool("complete", *claim(pool), *flags, *flags, code=2)
    assert "3,145,728" in too_much["message"]


def test_fail_keeps_the_error_and_poisons_at_the_limit(fedctl, pool):
    pool("push", "p", "1", "--max-retries", "2")
    failed = pool("fail", *claim(pool), "--error", "-", stdin=b"bad bytes \xff and \x00 NUL")
    assert (failed["status"], failed["error"]) == ("pending", "bad bytes \ufffd and ? NUL")
    later = pool("fail", *claim(pool), "--error", "boom", "--retry-in", "1h")
    assert (later["status"], later["error"]) == ("poisoned", "boom")
    whole = pool("item", failed["id"])
    assert [(one["outcome"], one["error"]) for one in whole["history"]] == [
        ("failed", "bad bytes \ufffd and ? NUL"), ("failed", "boom"),
    ]  # fmt: skip
    told = fedctl("pool", "item", failed["id"]).out
    assert "\nhistory.2\tfailed by w1, " in told


def test_a_long_error_text_is_cut_and_marked(fedctl, pool):
    pool("push", "p", "1")
    text = pool("fail", *claim(pool), "--error", "-", stdin=b"e" * 5_000_000)["error"]
    assert (len(text), text[-6:]) == (65_536, " [cut]")
    (fedctl.home / "log").write_bytes(b"\xc3\xa4" * 100_000)
    text = pool("fail", *claim(pool), "--error", f"@{fedctl.home}/log")["error"]
    assert len(text.encode()) <= 65_536
    assert text.endswith("ä [cut]")
    assert pool("fail", *claim(pool), "--error", "\udcff")["error"] == "\ufffd"


def test_release_gives_the_attempt_back_one_or_all_of_a_worker(fedctl, pool):
    for number in range(3):
        pool("push", "p", str(number))
    released = pool("release", *claim(pool))
    assert (released["status"], released["attempts"]) == ("pending", 0)
    pool("claim", "p", "--worker", "w1", "--count", "2")
    pool("claim", "p", "--worker", "w2")
    assert [one["data"] for one in pool("release", "--worker", "w1")] == [0, 1]
    assert pool("release", "--worker", "w1") == []
    assert pool("show", "p")["claimed"] == 1
    assert fedctl("pool", "release", "--worker", "w2", "-q").out == ""


def test_batches_of_what_was_claimed(fedctl, pool):
    batch(fedctl, "push", "p", lines=[{"data": number} for number in range(6)])
    claimed = fedctl("pool", "claim", "p", "--worker", "w1", "--count", "6", "--jsonl").lines
    one, two, three, four, five, six = ({"id": item["id"], "lease_id": item["lease_id"]} for item in claimed)
    assert all(answer["ok"] for answer in batch(fedctl, "extend", "--lease", "2h", lines=claimed))
    (bare, listed) = batch(fedctl, "release", lines=[six, claimed[4]])
    assert (bare, listed["id"]) == ({"ok": True, "id": six["id"], "existing": False}, five["id"])
    episode = {"id": "e", "task": "t"}
    done = batch(
        fedctl, "complete", code=3, lines=[
            {**one, "result": {"n": 1}, "then_push": [{"pool": "q", "data": 1, "delay": "1h"}], "episode": episode},
            {"id": two["id"], "result": None}, {**two, "lease_id": "lost"}, {**two, "resutl": 1},
            {**two, "then_push": {"pool": "q"}}, {**two, "then_push": [{"data": 1}]},
            {**two, "then_push": [{"pool": "q", "dat": 1}]}, {**two, "episode": {"task": ""}}, {**two, "episode": 1},
        ],
    )  # fmt: skip
    assert [answer["ok"] for answer in done] == [True, *[False] * 8]
    assert (done[0]["episode"], len(done[0]["pushed"]), pool("size", "q")["delayed"]) == ("e", 1, 1)
    assert [answer["error"]["code"] for answer in done[1:3]] == ["usage", "conflict"]
    failed = batch(
        fedctl, "fail", code=3, environ={"FEDCTL_LEASE_ID": three["lease_id"]}, lines=[
            {"id": three["id"], "error": "boom", "poison": True}, {**four, "retry_in": "1h", "error": "x" * 3_000_000},
            {**four, "retry_in": 5},
        ],
    )  # fmt: skip
    assert [answer["ok"] for answer in failed] == [True, True, False]
    figures = pool("show", "p")
    assert [figures[name] for name in ("pending", "delayed", "claimed", "done", "poisoned")] == [2, 1, 1, 1, 1]


def test_a_batch_goes_on_past_one_request(fedctl, pool):
    answers = batch(fedctl, "push", "p", lines=[{"data": "x" * 3000, "id": f"i{n}"} for n in range(2100)])
    assert [one["id"] for one in answers] == [f"i{n}" for n in range(2100)]
    claimed = fedctl("pool", "claim", "p", "--worker", "w1", "--count", "1000", "--jsonl").lines
    assert 1 < len(claimed) < 1000  # a page
    assert len(pool("release", "--worker", "w1")) == len(claimed)
    assert pool("show", "p")["pending"] == 2100


# -- looking --------------------------------------------------------------------------------------------------------


def test_size_is_the_number_alone_for_people_and_shells(fedctl, pool):
    pool("push", "p", "1")
    pool("push", "p", "1", "--delay", "1h")
    pool("push", "p", "1")
    claim(pool)
    assert fedctl("pool", "size", "p").out == "2\n"
    assert fedctl("pool", "size", "p", terminal=True).out == "2\n"
    assert pool("size", "p") == {"pool": "p", "size": 2, "pending": 1, "delayed": 1}
    assert fedctl("pool", "size", "p", "--fields", "delayed").out == "delayed\t1\n"
    assert pool("size", "unused")["size"] == 0


def test_pools_and_items_are_listed_and_cut_with_a_word_about_it(fedctl, pool):
    batch(fedctl, "push", "q", lines=[{"data": number} for number in range(120)])
    pool("push", "p", "1")
    assert [one["name"] for one in pool("list")] == ["p", "q"]
    assert set(pool("show", "p")) == {
        "name", "paused", "pending", "delayed", "claimed", "done", "poisoned", "oldest_pending_s",
    }  # fmt: skip
    assert [one["name"] for one in pool("ls", "--limit", "1")] == ["p"]
    assert [one["data"] for one in pool("items", "q")] == list(range(120))
    assert fedctl("pool", "items", "q", "--limit", "7").err == "note: 7 of 120 shown\n"
    table = fedctl("pool", "items", "q", terminal=True)
    assert (len(table.out.splitlines()), table.err) == (51, "note: 50 of 120 shown\n")
    claim(pool, "q")
    assert [one["data"] for one in pool("items", "q", "--status", "claimed")] == [0]
    assert pool("items", "unused") == []
    assert pool("item", "nope", code=4)["code"] == "not_found"


def test_what_others_wrote_does_not_reach_the_terminal_alive(fedctl, pool):
    pool("push", "p", json.dumps("\x1b[2J\u202eevil"))
    pool("fail", *claim(pool), "--error", "\x1b]0;owned\x07")
    (item,) = pool("items", "p")
    for argv in (["items", "p"], ["item", item["id"]], ["claim", "p", "--worker", "w1"]):
        for flags in ([], ["--json"]):
            out = fedctl("pool", *argv, *flags, "--color", "never", terminal=True).out
            assert not set("\x1b\x07\u202e") & set(out), argv
        fedctl("pool", "release", "--worker", "w1")


# -- wait, retry, purge, pause ----------------------------------------------------------------------------------------


def test_wait_says_how_it_ended_with_its_exit_code_and_its_answer(fedctl, pool):
    first, second = (pool("push", "p", "1", "--max-retries", "1")["id"] for _ in range(2))
    running = pool("wait", "p", "--timeout", "0s", code=8)
    assert running == {"open": 2, "done": 0, "poisoned": 0, "poisoned_ids": []}
    pool("complete", *claim(pool))
    assert pool("wait", first)["done"] == 1
    assert pool("wait", first, "p", "--timeout", "20ms", code=8)["open"] == 1
    assert fedctl("--timeout", "20ms", "pool", "wait", "p").code == 8
    pool("fail", *claim(pool))
    assert pool("wait", "p", code=14) == {"open": 0, "done": 1, "poisoned": 1, "poisoned_ids": [second]}
    assert pool("wait", second, code=14)["poisoned_ids"] == [second]
    assert pool("wait", first, first) == {"open": 0, "done": 1, "poisoned": 0, "poisoned_ids": []}


def test_wait_tells_items_from_pools(fedctl, pool):
    batch(fedctl, "push", "p", lines=[{"data": 1, "id": "deploy"}, {"data": 1, "id": "my item"}])
    assert pool("wait", "deploy", "--timeout", "0s", code=8)["open"] == 1
    assert pool("wait", "my item", "--timeout", "0s", code=8)["open"] == 1
    assert pool("wait", "p", "--timeout", "0s", code=8)["open"] == 2
    assert pool("wait", "0190c1d2-0000-7000-8000-000000000000", code=4)["code"] == "not_found"
    assert pool("wait", "no such item", code=2)["code"] == "usage"
    unused = fedctl("pool", "wait", "unused")
    assert (unused.code, unused.err) == (0, "note: the pool unused was never used\n")


def poison(fedctl, pool, number, name="p", **fields):
    batch(fedctl, "push", name, lines=[{"data": n, "max_retries": 1, **fields} for n in range(number)])
    while lines := fedctl("pool", "claim", name, "--worker", "w1", "--count", "1000", "--jsonl").lines:
        batch(fedctl, "fail", lines=[{"id": one["id"], "lease_id": one["lease_id"]} for one in lines])


def test_retry_gives_a_fresh_budget_to_one_to_several_or_to_all(fedctl, pool):
    poison(fedctl, pool, 4)
    one, two, three, _ = (item["id"] for item in pool("items", "p", "--status", "poisoned"))
    again = pool("retry", one)
    assert (again["id"], again["status"], again["attempts"]) == (one, "pending", 0)
    assert pool("retry", one, code=5)["code"] == "conflict"
    assert pool("retry", "nope", code=4)["code"] == "not_found"
    partly = fedctl("pool", "retry", one, two, three, "nope", "--json")
    assert (partly.code, [item["id"] for item in partly.json]) == (3, [two, three])
    assert [refused["id"] for refused in partly.error["details"]["refused"]] == [one, "nope"]
    assert fedctl("pool", "retry", "--poisoned", "p", "-q").out == ""
    assert pool("retry", "--poisoned", "p") == []
    assert pool("show", "p")["pending"] == 4


def test_retry_and_purge_go_on_past_one_request(fedctl, pool):
    poison(fedctl, pool, 1100)
    assert len(fedctl("pool", "retry", "--poisoned", "p", "--ids").out.split()) == 1100
    assert pool("purge", "p", "--yes") == {"pool": "p", "deleted": 1100, "dry_run": False}
    assert pool("size", "p")["size"] == 0


def test_purge_asks_a_person_and_refuses_where_there_is_none(fedctl, pool):
    for number in range(3):
        pool("push", "p", str(number))
    pool("complete", *claim(pool))
    claim(pool)
    nobody = fedctl("pool", "purge", "p")
    assert nobody.code == 2
    assert "--yes" in nobody.err
    no = fedctl("pool", "purge", "p", terminal=True, stdin=b"n\n")
    assert no.code == 2
    assert "Delete 2 items of the pool p?" in no.err
    assert pool("purge", "p", "--dry-run") == {"pool": "p", "deleted": 2, "dry_run": True}
    assert pool("purge", "p", "--status", "poisoned")["deleted"] == 0
    assert pool("purge", "p", "--status", "done", "-n")["deleted"] == 1
    assert fedctl("pool", "purge", "p", "--status", "done", terminal=True, stdin=b"y\n").code == 0
    assert pool("purge", "p", "-y")["deleted"] == 1
    assert pool("show", "p")["claimed"] == 1


def test_a_paused_pool_hands_nothing_out(fedctl, pool):
    pool("push", "p", "1")
    assert pool("pause", "p")["paused"] is True
    assert pool("claim", "p", "--worker", "w1", code=6) == []
    assert pool("resume", "p")["paused"] is False
    claim(pool)


def test_reading_where_there_is_no_store_says_how_to_begin(fedctl):
    for argv in (
        ["list"], ["show", "p"], ["size", "p"], ["items", "p"], ["item", "i"], ["wait", "p"], ["retry", "i"],
        ["purge", "p", "-y"], ["complete", "i", "--lease-id", "l"], ["release", "--worker", "w"],
    ):  # fmt: skip
        result = fedctl("pool", *argv, "--json")
        assert (result.code, result.out, result.error["code"]) == (10, "", "no_store"), argv
    assert not fedctl.home.exists()


def test_another_tenants_pool_is_not_there(fedctl, pool):
    item = pool("push", "p", "1")
    other = ["--tenant", "other"]
    assert pool("items", "p", *other) == []
    assert pool("item", item["id"], *other, code=4)["code"] == "not_found"
    assert pool("wait", item["id"], *other, code=4)["code"] == "not_found"
    assert pool("claim", "p", "--worker", "w", *other, code=6) == []


def test_a_claim_is_asked_with_a_lease_of_its_own_each_time(fedctl):
    asked = []

    class Recorder:
        def call(self, request, *, tenant_id=None):
            asked.append(request)
            raise RuntimeError

        def close(self):
            return

    for _ in range(2):
        fedctl("pool", "claim", "p", "--worker", "w", open_caller=lambda _settings, *, writes: Recorder())
    claims = [one for one in asked if isinstance(one, ClaimItems)]
    assert len({one.lease_id for one in claims}) == 2
    assert not any(isinstance(one, PushItems) for one in asked)
