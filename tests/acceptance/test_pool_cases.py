"""What may go wrong with an item, typed at the command line: on the home, through its hub, and over the network."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fedctl.cli.main import run
from fedctl.errors import DiskFull, UsageError
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.model.pool import Completion, FollowUp, ItemDraft, ItemFailure, Lease

_spec = importlib.util.spec_from_file_location(
    "fedctl_tests_hub_conftest", Path(__file__).parents[1] / "hub" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

start_hub = _module.start_hub

MIB = 1 << 20
WAYS = ("home", "hub", "network")


class Held(NamedTuple):
    """An item in somebody's hands."""

    id: str
    lease: str

    @property
    def argv(self) -> list[str]:
        return [self.id, "--lease-id", self.lease]

    @property
    def line(self) -> dict[str, Any]:
        return {"id": self.id, "lease_id": self.lease}


class CommandLine:
    """Types `fedctl ... --json` in this process, always on the same way."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    def __call__(self, *argv: str, code: int = 0, stdin: bytes = b"") -> Any:
        """Return the answer, or the error where that is what the code says."""
        out, err = io.BytesIO(), io.BytesIO()
        got = run([*argv, "--json"], stdin=io.BytesIO(stdin), stdout=out, stderr=err, environ=self.environ)
        said = err.getvalue().decode()
        assert "Traceback" not in said
        assert got == code, (argv, out.getvalue()[:1000], said)
        if out.getvalue():
            return json.loads(out.getvalue())
        (line,) = said.splitlines()
        assert len(line) < 2000
        return json.loads(line)["error"]

    def batch(self, *argv: str, lines: list[Any], code: int) -> list[Any]:
        """Return the answer to each of the lines on stdin."""
        out, err = io.BytesIO(), io.BytesIO()
        stdin = io.BytesIO("\n".join(json.dumps(one) for one in lines).encode())
        assert run([*argv, "--batch"], stdin=stdin, stdout=out, stderr=err, environ=self.environ) == code, err
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def claim(self, worker: str = "w", *flags: str) -> Held:
        (item,) = self("pool", "claim", "p", "--worker", worker, *flags)
        return Held(item["id"], item["lease_id"])

    def pushed_and_claimed(self, data: str = "1", *flags: str) -> Held:
        self("pool", "push", "p", data, *flags)
        return self.claim()

    def item(self, held: Held) -> dict[str, Any]:
        found: dict[str, Any] = self("pool", "item", held.id)
        return found


@pytest.fixture(params=WAYS)
def fedctl(request, tmp_path, start_hub) -> CommandLine:
    home = tmp_path / "home"
    if request.param == "home":
        return CommandLine({"FEDCTL_HOME": str(home)})
    hub = start_hub(home)
    if request.param == "hub":
        return CommandLine({"FEDCTL_HOME": str(home), "FEDCTL_HUB": hub.unix_url})
    token = hub.token("default", role="admin")
    elsewhere = str(tmp_path / "elsewhere")
    return CommandLine({"FEDCTL_HOME": elsewhere, "FEDCTL_HUB": hub.info.url, "FEDCTL_TOKEN": token})


# -- who is too late ---------------------------------------------------------------------------------------------------


def new_incarnation(fedctl: CommandLine) -> Held:
    assert fedctl("worker", "register", "w")["released"] == 1
    return fedctl.claim("w")


LOST = {
    "to another worker": lambda fedctl: fedctl.claim("other", "--wait", "30s"),
    "to the same worker": lambda fedctl: fedctl.claim("w", "--wait", "30s"),
    "to a new incarnation": new_incarnation,
}


@pytest.mark.parametrize("how", LOST)
def test_whoever_lost_its_lease_changes_nothing_any_more(fedctl, how: str):
    fedctl("worker", "register", "w")
    fedctl("pool", "push", "p", "1")
    stale = fedctl.claim("w", "--lease", "1h" if how == "to a new incarnation" else "100ms")
    held = LOST[how](fedctl)  # which waits until the lease has run out
    assert held.id == stale.id
    before = fedctl.item(held)
    for verb in ("complete", "fail", "extend", "release"):
        error = fedctl("pool", verb, *stale.argv, code=5)
        assert (error["code"], error["details"]) == ("conflict", {"status": "claimed"})
        (answer,) = fedctl.batch("pool", verb, lines=[stale.line], code=3)
        assert (answer["ok"], answer["error"]["code"]) == (False, "conflict")
    assert fedctl.item(held) == before
    fedctl("pool", "complete", *held.argv, "--result", '"theirs"')
    assert fedctl("pool", "complete", *stale.argv, "--result", '"mine"', code=5)["details"] == {"status": "done"}
    after = fedctl.item(held)
    assert (after["status"], after["result"], after["attempts"]) == ("done", "theirs", 2)
    assert [one["outcome"] for one in after["history"]] == [
        "lost" if how == "to a new incarnation" else "expired", "done",
    ]  # fmt: skip


def test_a_completion_is_taken_twice_alike_and_never_otherwise(fedctl):
    held = fedctl.pushed_and_claimed()
    whole = ["--result", '{"n": 1.0, "m": 2}', "--then-push", "q", "1", "--episode", '{"task": "t"}']
    first = fedctl("pool", "complete", *held.argv, *whole)
    assert (first["existing"], len(first["pushed"]), first["episode"] is None) == (False, 1, False)
    for again in ('{"m": 2, "n": 1.0}', '{"n":1.0,"m":2}'):
        answer = fedctl("pool", "complete", *held.argv, *whole, "--result", again)
        assert (answer["existing"], answer["pushed"], answer["episode"]) == (True, [], None)
    for other in ("null", '{"n": 1.0}', '{"n": true, "m": 2}', '"x"'):
        assert fedctl("pool", "complete", *held.argv, "--result", other, code=5)["code"] == "conflict"
    lines = [{**held.line, "result": {"m": 2, "n": 1.0}}, held.line, {**held.line, "lease_id": "x"}]
    assert [one["ok"] for one in fedctl.batch("pool", "complete", lines=lines, code=3)] == [True, False, False]
    assert (fedctl("pool", "size", "q")["size"], fedctl.item(held)["result"]) == (1, {"n": 1.0, "m": 2})


@pytest.mark.parametrize("end", ["complete", "fail", "release"])
def test_after_the_end_of_an_attempt_only_the_same_completion_is_taken(fedctl, end: str):
    held = fedctl.pushed_and_claimed()
    fedctl("pool", end, *held.argv)
    before = fedctl.item(held)
    for verb in {"complete", "fail", "release", "extend"} - {end if end == "complete" else ""}:
        assert fedctl("pool", verb, *held.argv, code=5)["code"] == "conflict"
    assert fedctl.item(held) == before


# -- what is not there -------------------------------------------------------------------------------------------------


def test_an_id_that_nobody_has_is_not_found_by_any_verb(fedctl):
    held = fedctl.pushed_and_claimed()
    for id_ in ("absent", "'; DROP TABLE items; --", "x" * 200, "01a1fcee-e965-7558-9432-5707b76d8fcc", "p"):
        for verb in ("complete", "fail", "extend", "release"):
            assert fedctl("pool", verb, id_, "--lease-id", held.lease, code=4)["code"] == "not_found"
            (answer,) = fedctl.batch("pool", verb, lines=[{"id": id_, "lease_id": held.lease}], code=3)
            assert answer["error"]["code"] == "not_found"
        assert fedctl("pool", "item", id_, code=4)["code"] == "not_found"
        assert fedctl("pool", "retry", id_, code=4)["code"] == "not_found"
    assert fedctl("pool", "wait", "01a1fcee-e965-7558-9432-5707b76d8fcc", code=4)["code"] == "not_found"
    assert fedctl("pool", "show", "p")["claimed"] == 1


@pytest.mark.parametrize("id_", ["", "x" * 201, "a\nb", "a\0b", "\x1b[2J", "x" * MIB], ids=lambda one: repr(one)[:12])
def test_an_id_that_nobody_can_have_is_a_usage_error_of_any_verb(fedctl, id_: str):
    fedctl("pool", "push", "p", "1")
    for verb in ("complete", "fail", "extend", "release"):
        assert fedctl("pool", verb, id_, "--lease-id", "l", code=2)["code"] == "usage"
        (answer,) = fedctl.batch("pool", verb, lines=[{"id": id_, "lease_id": "l"}], code=3)
        assert answer["error"]["code"] == "usage"
    for argv in (["item", id_], ["retry", id_], ["wait", id_]):
        assert fedctl("pool", *argv, code=2)["code"] == "usage"
    (answer,) = fedctl.batch("pool", "push", "p", lines=[{"id": id_, "data": 1}], code=3)
    assert answer["error"]["code"] == "usage"


def test_an_id_of_another_pool_is_that_pool_s_whatever_is_done_to_this_one(fedctl):
    (theirs,) = fedctl.batch("pool", "push", "q", lines=[{"id": "i", "data": 1}], code=0)
    assert theirs["ok"]
    (mine,) = fedctl.batch("pool", "push", "p", lines=[{"id": "i", "data": 1}], code=3)
    assert mine["error"]["code"] == "conflict"
    assert fedctl("pool", "claim", "p", "--worker", "w", code=6) == []
    (item,) = fedctl("pool", "claim", "q", "--worker", "w")
    then_push = [{"pool": "p", "id": "i", "data": 1}]
    (refused,) = fedctl.batch(
        "pool", "complete", lines=[{"id": "i", "lease_id": item["lease_id"], "then_push": then_push}], code=3
    )
    assert refused["error"]["code"] == "conflict"
    assert fedctl("pool", "purge", "p", "--yes")["deleted"] == 0
    assert fedctl("pool", "retry", "--poisoned", "p") == []
    assert fedctl("pool", "item", "i")["status"] == "claimed"
    assert fedctl("pool", "items", "p") == []


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = ("", " ", "x" * 129, "x" * MIB, "../p", "a/b", "-p", ".p", "a b", "p\n", "a\0b", "ü", "\x1b[2J", "\udc80",
         "'; DROP TABLE items; --", "${HOME}", "%s%n")  # fmt: skip
NAMED = (
    ["pool", "push", "NAME", "1"], ["pool", "push", "p", "1", "--requires=NAME"],
    ["pool", "claim", "NAME", "--worker", "w"], ["pool", "claim", "p", "--worker=NAME"],
    ["pool", "complete", "i", "--lease-id", "l", "--then-push", "NAME", "1"], ["pool", "release", "--worker=NAME"],
    ["pool", "show", "NAME"], ["pool", "size", "NAME"], ["pool", "items", "NAME"], ["pool", "wait", "NAME"],
    ["pool", "retry", "--poisoned=NAME"], ["pool", "purge", "NAME", "--yes"], ["pool", "pause", "NAME"],
    ["pool", "resume", "NAME"], ["worker", "register", "NAME"], ["worker", "register", "w", "--pool=NAME"],
    ["worker", "register", "w", "--capability=NAME"], ["worker", "heartbeat", "NAME"], ["worker", "show", "NAME"],
    ["worker", "status", "NAME", "lost"], ["worker", "list", "--pool=NAME"], ["worker", "list", "--capability=NAME"],
)  # fmt: skip


def test_a_name_that_can_be_nobody_s_is_a_usage_error_wherever_it_is_typed(fedctl):
    fedctl("pool", "push", "p", "1")
    before = fedctl("pool", "list")
    for argv in NAMED:
        for name in NAMES:
            error = fedctl(*(word.replace("NAME", name) for word in argv), code=2)
            assert error["code"] == "usage", (argv, name[:40])
    assert [{**one, "oldest_pending_s": 0} for one in fedctl("pool", "list")] == [
        {**one, "oldest_pending_s": 0} for one in before
    ]
    assert fedctl("worker", "list") == []


def test_a_name_that_no_command_line_would_let_through_is_refused_by_the_hub_itself(start_hub):
    hub = start_hub()
    caller = hub.owner()
    for name in NAMES:
        for request in (
            p.PushItems(pool=name, items=[ItemDraft(id="i")]), p.ClaimItems(pool=name, worker_id="w"),
            p.ClaimItems(pool="p", worker_id=name), p.ClaimItems(pool=name, worker_id="w", wait_ms=60_000),
            p.GetPool(name=name), p.ListItems(pool=name), p.PausePool(name=name, paused=True), p.PurgePool(pool=name),
            p.RetryItems(pool=name) if name else p.RetryItems(), p.WaitFor(pools=[name], wait_ms=60_000),
            p.ReleaseWorker(worker_id=name), w.RegisterWorker(id=name), w.RegisterWorker(id="w", pool=name),
            w.RegisterWorker(id="w", capabilities=[name]), w.BeatWorker(id=name), w.GetWorker(id=name),
        ):  # fmt: skip
            with pytest.raises(UsageError):
                caller.call(request)
    assert caller.call(p.ListPools()).pools == []
    assert caller.call(w.ListWorkers()).workers == []


# -- too large ---------------------------------------------------------------------------------------------------------


def text_of(json_bytes: int) -> str:
    """Return a text that has so many bytes as JSON, two a character."""
    return "é" * ((json_bytes - 2) // 2) + "x" * (json_bytes % 2)


def as_json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def test_data_up_to_the_limit_are_taken_and_not_a_byte_more(fedctl):
    assert fedctl("pool", "push", "p", "-", stdin=as_json(text_of(MIB)))["data"] == text_of(MIB)
    for size, limit in ((MIB + 1, "1,048,576"), (20 * MIB, "4 MiB")):  # so much is read and no more
        assert limit in fedctl("pool", "push", "p", "-", stdin=as_json(text_of(size)), code=2)["message"]
    (held,) = fedctl("pool", "claim", "p", "--worker", "w")
    assert held["data"] == text_of(MIB)
    lines = [{"data": 1}, {"data": text_of(MIB + 1)}, {"data": text_of(5 * MIB)}, {"data": 2}, {"data": text_of(MIB)}]
    answers = fedctl.batch("pool", "push", "p", lines=lines, code=3)
    assert [one["ok"] for one in answers] == [True, False, False, True, True]
    assert [one["error"]["code"] for one in answers[1:3]] == ["usage", "usage"]
    assert fedctl("pool", "size", "p")["size"] == 3


def test_a_result_up_to_the_limit_is_taken_and_one_over_it_costs_nothing_but_the_answer(fedctl, tmp_path):
    for name, size in (("most", MIB), ("over", MIB + 1), ("huge", 20 * MIB)):
        (tmp_path / name).write_bytes(as_json(text_of(size)))
    held = fedctl.pushed_and_claimed()
    for name, limit in (("over", "1,048,576"), ("huge", "4 MiB")):
        for flags in (["--result"], ["--then-push", "q"]):
            error = fedctl("pool", "complete", *held.argv, *flags, f"@{tmp_path}/{name}", code=2)
            assert limit in error["message"]
    (line,) = fedctl.batch("pool", "complete", lines=[{**held.line, "result": text_of(MIB + 1)}], code=3)
    assert line["error"]["code"] == "usage"
    assert (fedctl.item(held)["status"], fedctl("pool", "size", "q")["size"]) == ("claimed", 0)
    assert fedctl("pool", "complete", *held.argv, "--result", f"@{tmp_path}/most")["result"] == text_of(MIB)
    assert fedctl("pool", "complete", *held.argv, "--result", f"@{tmp_path}/most")["existing"] is True


def test_an_error_text_of_five_megabytes_is_cut_and_marked(fedctl, tmp_path):
    text = "é" * 2_500_000
    (tmp_path / "log").write_text(text)
    for flags, stdin in ((["--error", "-"], text.encode()), (["--error", f"@{tmp_path}/log"], b"")):
        kept = fedctl("pool", "fail", *fedctl.pushed_and_claimed("1", "--priority", "1").argv, *flags, stdin=stdin)
        assert len(kept["error"].encode()) <= 65_536
        assert kept["error"].endswith("é [cut]")
        fedctl("pool", "purge", "p", "--yes")
    one, two = fedctl.pushed_and_claimed(), fedctl.pushed_and_claimed()
    lines = [{**one.line, "error": "e" * 5_000_000}, {**two.line, "error": "e" * 4_000_000}]
    refused, kept = fedctl.batch("pool", "fail", lines=lines, code=3)  # a line has at most 4 MiB, whatever it says
    assert (refused["ok"], refused["line"], kept["ok"]) == (False, 1, True)
    assert fedctl.item(one)["status"] == "claimed"
    error = fedctl.item(two)["error"]
    assert (len(error), error[-6:]) == (65_536, " [cut]")
    assert fedctl.item(two)["history"][0]["error"] == error


def test_what_a_program_sends_is_cut_and_measured_alike_on_every_way(bench, start_hub):
    """Past the command line, which cuts and measures by itself."""
    hub = start_hub()
    outcomes = []
    for call in (bench.call, hub.owner().call, hub.bearer(hub.token("default")).call):
        call(p.PushItems(pool="p", items=[ItemDraft(id="a"), ItemDraft(id="b")]))
        a, b = call(p.ClaimItems(pool="p", worker_id="w", count=2)).items
        results = []
        for request in (
            p.FailItems(failures=[ItemFailure(id="a", lease_id=a.lease_id, error="e" * 5_000_000)]),
            p.CompleteItems(completions=[Completion(id="b", lease_id=b.lease_id, result="r" * MIB)]),
            p.CompleteItems(
                completions=[
                    Completion(
                        id="b", lease_id=b.lease_id,
                        then_push=[FollowUp(pool="q", item=ItemDraft(id="c", data="d" * MIB))],
                    )
                ]
            ),
            p.PushItems(pool="p", items=[ItemDraft(id="d", data="d" * MIB)]),
            p.ReleaseItems(leases=[Lease(id="b", lease_id=b.lease_id)]),
        ):  # fmt: skip
            (result,) = call(request).results
            results.append((result.ok, None if result.error is None else (result.error["code"], result.error["hint"])))
        results.append(call(p.GetItem(id="a")).item.error)
        outcomes.append(results)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert [one[0] for one in outcomes[0][:-1]] == [True, False, False, False, True]
    assert len(outcomes[0][-1]) == 65_536


# -- a disk without space ----------------------------------------------------------------------------------------------


@pytest.fixture
def fill(make_disk):
    """Have a disk of 1 MiB; return its folder, and how it is filled up."""
    disk = make_disk("1m")

    def fill_up() -> Path:
        with pytest.raises(OSError, match="No space"), (disk.folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        return disk.folder / "ballast"

    return disk.folder, fill_up


def test_on_a_full_disk_nothing_changes_and_all_goes_on_when_there_is_space(fill):
    folder, fill_up = fill
    fedctl = CommandLine({"FEDCTL_HOME": str(folder / "home")})
    for number in range(3):
        fedctl("pool", "push", "p", str(number))
    held = fedctl.claim()
    before = fedctl("pool", "items", "p")
    ballast = fill_up()
    for argv in (
        ["pool", "claim", "p", "--worker", "w"], ["pool", "claim", "p", "--worker", "w", "--wait", "30s"],
        ["pool", "push", "p", "4"], ["pool", "complete", *held.argv], ["pool", "fail", *held.argv, "--error", "no"],
        ["pool", "extend", *held.argv], ["pool", "release", *held.argv], ["pool", "release", "--worker", "w"],
        ["worker", "register", "new"],
    ):  # fmt: skip
        error = fedctl(*argv, code=15)
        assert error["code"] == "disk_full", argv
        assert error["hint"].startswith("free some space"), argv
    assert fedctl("pool", "items", "p") == before
    assert fedctl("pool", "size", "p")["size"] == 2
    ballast.unlink()
    assert fedctl("pool", "complete", *held.argv)["status"] == "done"
    assert [one["data"] for one in fedctl("pool", "claim", "p", "--worker", "w", "--count", "9")] == [1, 2]
    assert fedctl("store", "check", "--full")["findings"] == []


def test_a_hub_on_a_full_disk_has_claimed_what_it_answered_and_nothing_else(fill, start_hub):
    """Small changes may find room in a log that is there, and are made then."""
    folder, fill_up = fill
    caller = start_hub(folder / "home").owner()
    caller.call(p.PushItems(pool="p", items=[ItemDraft(id=f"i{number}", data="x" * 500) for number in range(60)]))
    ballast = fill_up()
    with pytest.raises(DiskFull):
        caller.call(p.PushItems(pool="p", items=[ItemDraft(id="large", data="x" * 900_000)]))
    told, refused = {}, 0
    for number in range(20):
        try:
            request = p.ClaimItems(pool="p", worker_id=f"w{number}", count=2, wait_ms=10_000 * (number % 2))
            told |= {one.id: one.lease_id for one in caller.call(request).items}
            done = [Completion(id=id_, lease_id=told[id_], result="y" * 20_000) for id_ in list(told)[-1:]]
            assert all(one.ok for one in caller.call(p.CompleteItems(completions=done)).results)
        except DiskFull:
            refused += 1
    assert refused, "twenty results of 20 kB have no room"
    stored = caller.call(p.ListItems(pool="p", limit=1000)).items
    assert len(stored) == 60
    assert {one.id: one.lease_id for one in stored if one.lease_id} == told
    ballast.unlink()
    rest = caller.call(p.ClaimItems(pool="p", worker_id="w", count=100)).items
    assert {one.id for one in rest} == {one.id for one in stored} - set(told)


# -- many --------------------------------------------------------------------------------------------------------------


def test_a_thousand_that_cannot_be_retried_do_not_hide_the_one_behind_them_that_can(bench, tmp_path):
    def push(*drafts):
        assert all(one.ok for one in bench.call(p.PushItems(pool="p", items=drafts)).results)

    def poison():
        held = bench.call(p.ClaimItems(pool="p", worker_id="w", count=1000)).items
        failures = [ItemFailure(id=one.id, lease_id=one.lease_id or "", poison=True) for one in held]
        bench.call(p.FailItems(failures=failures))

    push(*(ItemDraft(id=f"a{number}", key=f"k{number}") for number in range(1000)))
    poison()
    push(ItemDraft(id="free"))
    poison()
    push(*(ItemDraft(id=f"b{number}", key=f"k{number}") for number in range(1000)))
    CommandLine({"FEDCTL_HOME": str(bench.home)})("pool", "retry", "--poisoned", "p", code=3)
    assert bench.call(p.GetItem(id="free")).item.status == "pending"
