"""Processes that end in the middle of their work, and homes that take nothing more: no item is lost, none is stuck."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest


def push(user, *data, pool="p"):
    lines = "".join(f"{json.dumps({'data': one})}\n" for one in data)
    assert user("pool", "push", pool, "--batch", stdin=lines.encode()).code == 0


def items(user, pool="p"):
    return user("pool", "items", pool, "--json").json


def figures(user):
    pool = user("pool", "show", "p", "--json").json
    return [pool[name] for name in ("pending", "delayed", "claimed", "done", "poisoned")]


@pytest.fixture(params=["home", "hub"])
def way(request, user):
    """Ask the home, or a hub on it."""
    user("init")
    if request.param == "hub":
        user.hub()
    return request.param


# -- nobody reads the answer -------------------------------------------------------------------------------------------


def test_what_the_reader_has_not_seen_is_not_claimed(user, way):
    push(user, *("x" * 1000 for _ in range(300)))
    claim = "fedctl pool claim p --worker w --count 300 --jsonl"
    assert user.shell(f"{{ {claim} 2> said || echo $? > code; }} | head -1 > seen").code == 0
    assert ((user.folder / "code").read_text(), (user.folder / "said").read_text()) == ("141\n", "")
    assert json.loads((user.folder / "seen").read_text())["status"] == "claimed"
    assert figures(user) == [300, 0, 0, 0, 0]
    assert {one["attempts"] for one in items(user)} == {0}


def test_what_could_not_be_written_is_not_claimed_and_the_error_says_so(user, way):
    push(user, 1)
    for out, code in ((">&-", 1), ("> /dev/full", 15)) if Path("/dev/full").exists() else ((">&-", 1),):
        for form in ("", "--json"):
            done = user.shell(f"fedctl pool claim p --worker w {form} {out}")
            assert (done.code, len(done.err.splitlines())) == (code, 1 if "json" in form else 2)
            assert "what was claimed is given back" in done.err
            assert figures(user) == [1, 0, 0, 0, 0]
    assert user.shell("fedctl pool claim p --worker w 2>&- >/dev/null").code == 0
    assert figures(user) == [0, 0, 1, 0, 0]


def test_what_was_done_stays_done_where_the_answer_goes_nowhere(user, way):
    user.shell("fedctl pool push p 1 >&- || true")
    assert figures(user) == [1, 0, 0, 0, 0]
    (held,) = user("pool", "claim", "p", "--worker", "w", "--json").json
    complete = f"fedctl pool complete {held['id']} --lease-id {held['lease_id']} --result 1"
    assert user.shell(f"{complete} >&-").code == 1
    assert user.shell(complete).code == 0, "the same again is accepted"
    line = json.dumps({"id": held["id"], "lease_id": held["lease_id"], "result": 1})
    assert user.shell(f"echo '{line}' | fedctl pool complete --batch >&-").code == 1
    assert figures(user) == [0, 0, 0, 1, 0]


# -- signals -----------------------------------------------------------------------------------------------------------


def test_of_claims_that_wait_and_are_ended_nothing_is_left_claimed(user, way):
    """Signals and items come at once, whatever the claims are about at that moment."""
    dice = random.Random(way)
    claim = ["pool", "claim", "p", "--wait", "1m", "--lease", "1h", "--json", "--worker"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    waiting = [user.start(*claim, f"w{number}", **streams) for number in range(6)]
    time.sleep(0.8)
    pushing = user.start("pool", "push", "p", "--batch", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    for number in range(4):
        pushing.stdin.write(json.dumps({"data": number}).encode() + b"\n")
    pushing.stdin.close()
    for process in waiting[:4]:
        time.sleep(dice.uniform(0, 0.1))
        process.send_signal(dice.choice([signal.SIGTERM, signal.SIGINT]))
    assert pushing.wait(60) == 0
    ended = [process.communicate(timeout=60) for process in waiting[:4]]
    time.sleep(0.2)
    for process in waiting[4:]:  # which have had time to get an item each, if there was one
        process.terminate()
    ended += [process.communicate(timeout=60) for process in waiting[4:]]
    told = {
        one["id"]: one["lease_id"]
        for process, (out, _) in zip(waiting, ended, strict=True)
        if process.returncode == 0
        for one in json.loads(out)
    }
    stored = items(user)
    assert len(stored) == 4
    assert {one["id"]: one["lease_id"] for one in stored if one["status"] == "claimed"} == told
    assert {(one["status"], one["attempts"]) for one in stored if one["id"] not in told} <= {("pending", 0)}


def test_a_claim_that_is_ended_while_nobody_reads_its_answer_gives_all_of_it_back(user, way):
    """The answer is larger than a pipe: the claim is made, and cannot be told."""
    push(user, *("x" * 1000 for _ in range(300)))
    argv = ["pool", "claim", "p", "--worker", "w", "--count", "300", "--wait", "1m", "--jsonl"]
    process = user.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while figures(user) != [0, 0, 300, 0, 0]:
        assert time.monotonic() < deadline
    process.terminate()
    while figures(user) != [300, 0, 0, 0, 0]:
        assert time.monotonic() < deadline
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) in (141, 143)
    assert {one["attempts"] for one in items(user)} == {0}


# -- a disk without space ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(user, make_disk):
    """Have the home on a disk of its own, of 1 MiB."""
    disk = make_disk("1m")
    user.home = disk.folder / "home"
    user.environ["FEDCTL_HOME"] = str(user.home)
    return disk


FILL = "dd if=/dev/zero of=$BALLAST bs=4096 count=300 2>/dev/null || true"


def test_a_run_under_which_the_disk_fills_up_ends_with_its_code_and_the_work_is_there_afterwards(user, small):
    push(user, 1, 2, 3)
    ballast = small.folder / "ballast"
    command = f"[ $FEDCTL_ATTEMPT = 2 ] || {FILL}; echo done"
    work = ["pool", "work", "p", "-j", "2", "--lease", "3s", "--max-items", "3", "--json", "--", "sh", "-c", command]
    done = user(*work, BALLAST=str(ballast))
    assert (done.code, done.error["code"], done.json["done"]) == (15, "disk_full", 0)
    assert "what it held comes back by its leases' end" in done.err
    ballast.unlink()
    again = user(*work, BALLAST="/dev/null")
    assert (again.code, again.json["done"]) == (0, 3), "those that were held come back when their leases have run out"
    assert figures(user) == [0, 0, 0, 3, 0]
    assert user("store", "check", "--full").code == 0


def test_a_home_that_cannot_be_made_on_a_full_disk_is_not_made_by_halves(user, small):
    ballast = small.folder / "ballast"
    ballast.write_bytes(b"\0" * (960 << 10))
    for argv in (["claim", "p", "--worker", "w"], ["push", "p", "1"], ["work", "p", "--until-empty", "--", "true"]):
        assert user("--json", "pool", *argv).error["code"] == "disk_full"
        assert user("pool", "size", "p").code == 10
    ballast.unlink()
    assert user("pool", "claim", "p", "--worker", "w").code == 6


@pytest.mark.parametrize("blocks", [0, 50])
def test_where_no_file_may_grow_nothing_is_claimed_and_nothing_lost(user, blocks):
    """What a full disk is to those who may not mount one; the system calls it an input/output error."""
    push(user, 1, 2)
    before = items(user)
    claim = "fedctl pool claim p --worker w --json > /dev/null"
    limited = user.shell(f"ulimit -f {blocks}; {claim}")
    assert limited.code in (1, 15)
    assert limited.error["code"] in ("failure", "disk_full")
    assert items(user) == before
    assert [one["data"] for one in user("pool", "claim", "p", "--worker", "w", "--count", "9", "--json").json] == [1, 2]
    assert user("store", "check", "--full").code == 0


# -- a home that is read-only ------------------------------------------------------------------------------------------


def test_in_a_read_only_home_everything_can_be_looked_at_and_nothing_claimed(user):
    push(user, 1, 2)
    (held,) = user("pool", "claim", "p", "--worker", "w", "--json").json
    before = items(user)
    lease = f"{held['id']} --lease-id {held['lease_id']}"
    denied = (
        "pool claim p --worker w", "pool push p 3", f"pool complete {lease}", f"pool fail {lease}", "pool pause p",
        "pool release --worker w", "worker register w", "pool work p --once -- true",
    )  # fmt: skip
    lines = [f"fedctl --json {argv} || echo $? >> codes" for argv in denied]
    script = user.folder / "script"
    script.write_text(
        "\n".join([*lines, "fedctl pool size p", "fedctl pool items p --json", "fedctl worker list --ids"])
    )
    if os.geteuid():
        for file in [*user.home.iterdir(), user.home]:
            file.chmod(0o500 if file == user.home else 0o400)
        done = user.shell(f"sh {script}")
    elif subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("as root, only a mount can be read-only, and mounts cannot be made here")
    else:
        mounts = f"mount --bind {user.home} {user.home} && mount -o remount,ro,bind {user.home}"
        done = user.shell(f"unshare -m sh -c '{mounts} && sh {script}'")
    errors = [json.loads(line)["error"]["code"] for line in done.err.splitlines() if line.startswith('{"error"')]
    assert errors == ["denied"] * len(denied), done.err
    assert (user.folder / "codes").read_text().split() == ["9"] * len(denied)
    size, looked_at = done.out.split("\n", 1)
    assert (size, json.loads(looked_at)) == ("1", before)
    assert (done.code, items(user)) == (0, before)
