"""`fedctl pool work` as a process: its streams, its signals, its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Process:
    def __init__(self, home: Path) -> None:
        self.environ = {
            "PATH": os.environ["PATH"], "FEDCTL_HOME": str(home), "PYTHONPATH": str(ROOT), "HOME": str(home.parent),
        }  # fmt: skip

    def command(self, *argv):
        return [sys.executable, "-W", "error", "-m", "fedctl", *argv]

    def __call__(self, *argv, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        if "input" in options:
            del options["stdin"]
        return subprocess.run(self.command(*argv), check=False, env=self.environ, timeout=60, **options)

    def start(self, *argv, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen(self.command(*argv), env=self.environ, **options)

    def push(self, *data, pool="q"):
        lines = b"".join(json.dumps({"data": one}).encode() + b"\n" for one in data)
        result = self("pool", "push", pool, "--batch", input=lines)
        assert result.returncode == 0, result.stderr
        return [json.loads(line)["id"] for line in result.stdout.splitlines()]

    def item(self, item_id):
        return json.loads(self("pool", "item", item_id, "--json").stdout)


@pytest.fixture
def shop(tmp_path):
    return Process(tmp_path / "home")


def eventually(condition, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def finish(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err.decode()


def test_stdout_is_the_result_and_the_summary_goes_to_stderr(shop):
    (item_id,) = shop.push("x")
    result = shop("pool", "work", "q", "--until-empty", "--", "sh", "-c", "echo out; echo err >&2")
    assert (result.returncode, result.stdout) == (0, b"")
    said, summary = result.stderr.decode().splitlines()
    assert said == "err"
    assert summary.startswith("1 done, 0 failed attempts (not for good), 0 poisoned, 0 given back, 0 lost in ")
    assert shop.item(item_id)["result"] == "out"


def test_each_item_is_a_line_and_the_run_is_a_document(shop):
    ids = shop.push(0, 1)
    result = shop("pool", "work", "q", "--max-items", "2", "--jsonl", "--", "sh", "-c", 'exit "$0"', "{}")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 3
    assert [(line["id"], line["outcome"], line["exit"]) for line in lines] == [
        (ids[0], "done", 0),
        (ids[1], "failed", 1),
    ]
    shop.push(2)
    result = shop("pool", "work", "q", "--once", "--json", "--worker", "w", "--", "true")
    assert json.loads(result.stdout) == {
        "pool": "q", "worker_id": "w", "reason": "enough", "exit": 0, "done": 1, "failed": 0, "poisoned": 0,
        "released": 0, "lost": 0, "duration_ms": json.loads(result.stdout)["duration_ms"],
    }  # fmt: skip
    (more,) = shop.push(3, pool="other")
    assert shop("pool", "work", "other", "--once", "--ids", "--", "true").stdout.decode() == f"{more}\n"


def test_quiet_is_silent_in_success_and_one_line_in_failure(shop):
    shop.push(0)
    result = shop("pool", "work", "q", "--once", "-q", "--", "sh", "-c", "echo noise >&2")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    shop.push(0)
    result = shop("pool", "work", "q", "--once", "-q", "--", "false")
    assert (result.returncode, result.stderr) == (3, b"error: 1 failed attempt (not for good), 0 poisoned\n")
    assert shop("pool", "work", "q", "--once", "-q", "--", "true").stderr == b""
    result = shop("pool", "work", "empty", "--once", "-q", "--json", "--", "true")
    assert (result.returncode, result.stderr) == (6, b"")


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--once", "--", "true"], 6, "0 done"),
        (["--once", "--", "no-such-program"], 2, "no such program"),
        (["--once", "--", "echo", "{dta}"], 2, "did you mean {data}?"),
        (["--once", "--", "/etc/passwd"], 9, "cannot run"),
        (["--once", "--until-empty", "--", "true"], 2, "give one of them"),
        (["--once"], 2, "missing"),
        (["--lease", "5ms", "--", "true"], 2, "a lease lies within"),
        (["-j", "0", "--", "true"], 2, "-j"),
        (["--worker", "no/name", "--", "true"], 2, "is not a worker name"),
        (["--fields", "nope", "--", "true"], 2, "is not a field"),
    ],
)
def test_exit_codes(shop, argv, code, says):
    result = shop("pool", "work", "q", *argv)
    assert result.returncode == code
    assert says in result.stderr.decode()


def test_fedctl_inside_a_command_asks_the_same_store(shop, tmp_path):
    (item_id,) = shop.push("x")
    script = f'{sys.executable} -m fedctl pool extend "$FEDCTL_ITEM_ID" --lease 10m -q && echo extended'
    environ, shop.environ = shop.environ, {**shop.environ, "FEDCTL_HOME": str(tmp_path / "elsewhere")}
    home = environ["FEDCTL_HOME"]
    result = shop("--home", home, "pool", "work", "q", "--once", "--", "sh", "-c", script)
    shop.environ = environ
    assert result.returncode == 0, result.stderr
    assert shop.item(item_id)["result"] == "extended"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_idle_run_ends_at_once_with_the_signals_code(shop, number, code):
    process = shop.start("pool", "work", "q", "--", "true")
    eventually(lambda: b"active" in shop("worker", "list", "--status", "active", "--json").stdout)
    process.send_signal(number)
    ended, out, err = finish(process)
    assert (ended, out) == (code, b"")
    assert err.startswith("0 done")
    assert json.loads(shop("worker", "list", "--json").stdout) == [], "its name was made up for this run"


def test_a_signal_does_not_reach_the_commands_of_a_terminal_by_itself(shop, tmp_path):
    (item_id,) = shop.push("x")
    script = f"touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo whole"
    process = shop.start("pool", "work", "q", "--", "sh", "-c", script, start_new_session=True)
    eventually((tmp_path / "begun").exists)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.3)
    (tmp_path / "go").touch()
    assert finish(process)[0] == 130
    assert shop.item(item_id)["result"] == "whole"


def test_kill_9_takes_the_commands_along_and_the_item_comes_back(shop, tmp_path):
    (item_id,) = shop.push("x")
    # It waits a little: between its start and the moment it is guarded nobody looks after it.
    tell = f"sleep 0.5; echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid"
    script = f"{tell}; trap '' TERM; while :; do sleep 0.1; done"
    process = shop.start("pool", "work", "q", "--lease", "1s", "--grace", "500ms", "--", "sh", "-c", script)
    eventually((tmp_path / "pid").exists)
    process.kill()
    finish(process)
    group = int((tmp_path / "pid").read_text())

    def gone():
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    eventually(gone)

    def done():
        assert shop("pool", "work", "q", "--once", "--", "true").returncode in (0, 6)
        return shop.item(item_id)["status"] == "done"

    eventually(done)
    assert [one["outcome"] for one in shop.item(item_id)["history"]] == ["expired", "done"]


def test_two_runs_share_a_pool_and_do_each_item_once(shop, tmp_path):
    shop.push(*range(150))
    command = ("pool", "work", "q", "-j", "2", "--until-empty", "--", "sh", "-c", f'echo "$0" >> {tmp_path}/log', "{}")
    both = [shop.start(*command) for _ in range(2)]
    assert [finish(one)[0] for one in both] == [0, 0]
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(150))


def test_a_reader_that_leaves_ends_the_run_and_gives_the_rest_back(shop):
    shop.push(*range(50))
    process = shop.start("pool", "work", "q", "--jsonl", "--until-empty", "--", "sleep", "0.05")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 141
    process.stderr.close()
    pool = json.loads(shop("pool", "show", "q", "--json").stdout)
    assert pool["claimed"] == 0
    assert pool["pending"] > 0
    assert pool["pending"] + pool["done"] == 50


def test_closed_streams_are_no_reason_to_crash(shop):
    for line, code in ((">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0), ("--jsonl >&-", 1)):
        (item_id,) = shop.push("x")
        work = f"{sys.executable} -m fedctl pool work q --once"
        script = f"{work} {line} -- sh -c 'echo out; echo err >&2'"
        result = subprocess.run(["/bin/sh", "-c", script], capture_output=True, env=shop.environ, check=False)
        assert (result.returncode, b"Traceback" in result.stderr) == (code, False), line
        assert shop.item(item_id)["result"] == "out"


def test_a_terminal_sees_how_far_it_is(shop):
    shop.push(*range(2))
    mine, theirs = os.openpty()
    process = shop.start(
        "pool", "work", "q", "--until-empty", "--", "sh", "-c", "echo said >&2; sleep 0.8", stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(mine, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    process.wait(30)
    process.stdout.close()
    os.close(mine)
    assert b"running" in seen
    assert seen.rstrip().splitlines()[-1].rpartition(b"\x1b[K")[2].startswith(b"2 done")


def test_a_home_that_is_not_there_yet_is_made(shop):
    assert not Path(shop.environ["FEDCTL_HOME"]).exists()
    assert shop("pool", "work", "q", "--until-empty", "--", "true").returncode == 0
    assert shop("pool", "size", "q").returncode == 0
