"""What only a process of its own can show: streams, pipes, signals, what start-up loads, and a hub at work."""

from __future__ import annotations

import json
import os
import select
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
        options |= {"capture_output": True, "env": self.environ, "timeout": 60}
        return subprocess.run(self.command(*argv), check=False, **options)

    def start(self, *argv, **options):
        return subprocess.Popen(
            self.command(*argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.environ, **options,
        )  # fmt: skip


@pytest.fixture
def fedctl(tmp_path):
    return Process(tmp_path / "home")


def read_line(process, timeout_s=20.0):
    assert select.select([process.stdout], [], [], timeout_s)[0], "no answer"
    return json.loads(process.stdout.readline())


def finish(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_a_slow_producer_gets_each_answer_as_it_goes(fedctl):
    process = fedctl.start("memory", "store", "--batch")
    for number in range(3):
        process.stdin.write(b'{"id":"e%d","task":"t"}\n' % number)
        process.stdin.flush()
        assert read_line(process)["id"] == f"e{number}"
    process.stdin.write(b'{"id":"half","task":')
    process.stdin.flush()
    assert not select.select([process.stdout], [], [], 0.3)[0]
    process.stdin.write(b'"t"}')
    code, out, err = finish(process)
    assert (code, json.loads(out)["id"], err) == (0, "half", b"")


def test_ten_thousand_lines_go_through_in_order(fedctl):
    lines = b"".join(b'{"id":"e%d","task":"t"}\n' % number for number in range(10_000))
    result = fedctl("memory", "store", "--batch", input=lines)
    assert result.returncode == 0
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [f"e{n}" for n in range(10_000)]


def test_a_reader_that_leaves_ends_the_command_quietly(fedctl):
    lines = b"".join(b'{"task":"%d","output":"%s"}\n' % (number, b"x" * 1000) for number in range(300))
    fedctl("memory", "store", "--batch", input=lines)
    process = fedctl.start("memory", "export")
    process.stdout.readline()
    process.stdout.close()
    process.stdin.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), err) == (141, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_with_their_code_and_what_was_answered_is_stored(fedctl, number, code):
    process = fedctl.start("memory", "store", "--batch")
    process.stdin.write(b'{"id":"x","task":"t"}\n')
    process.stdin.flush()
    assert read_line(process)["ok"]
    process.send_signal(number)
    ended, _, err = finish(process)
    assert (ended, err) == (code, b"")
    assert fedctl("memory", "get", "x").returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_is_told(fedctl):
    fedctl("memory", "store", "--task", "x")
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            fedctl.command("memory", "list", "--json"), stdout=full, stderr=subprocess.PIPE, env=fedctl.environ,
            check=False,
        )  # fmt: skip
    assert result.returncode == 15
    assert json.loads(result.stderr)["error"]["code"] == "disk_full"


def test_closed_streams_are_no_reason_to_crash(fedctl):
    fedctl("memory", "store", "--task", "x")
    for line, code in (
        ("memory list >&-", 1), ("memory list 2>&- >/dev/null", 0), ("memory list <&-", 0), ("memory list >&- 2>&-", 1),
        ("memory store --batch <&-", 2),
    ):  # fmt: skip
        shell = ["/bin/sh", "-c", f"{sys.executable} -m fedctl {line}"]
        result = subprocess.run(shell, capture_output=True, env=fedctl.environ, check=False)
        assert result.returncode == code, line
        assert b"Traceback" not in result.stderr


HEAVY = {
    "rich", "numpy", "onnxruntime", "usearch", "tokenizers", "websockets", "httpx", "httpx2", "asyncio", "logging",
    "tomllib", "tomlkit", "dataclasses", "importlib.metadata", "sqlite_utils", "jwt", "cryptography", "sqlite3",
    "fedctl.log",
}  # fmt: skip


@pytest.mark.parametrize(
    "argv",
    [
        ["--version"],
        ["memory", "--help"],
        ["memory", "store", "--task", "x"],
        ["memory", "get", "e"],
        ["memory", "list", "--json"],
        ["memory", "delete", "nope"],
        ["memory", "stats"],
        ["config", "get", "tenant"],
        ["memory", "query", "x", "--mode", "keyword"],
        ["pool", "push", "p", '{"a": 1}'],
        ["pool", "push", "p", "--batch"],
        ["pool", "claim", "p", "--worker", "w"],
        ["pool", "claim", "empty", "--worker", "w", "--wait", "10ms", "--json"],
        ["pool", "complete", "i", "--lease-id", "l", "--result", "1", "--then-push", "p", "2"],
        ["pool", "complete", "--batch"],
        ["pool", "fail", "i", "--lease-id", "l", "--error", "-"],
        ["pool", "extend", "i", "--lease-id", "l"],
        ["pool", "release", "--worker", "w"],
        ["pool", "size", "p"],
        ["pool", "items", "p"],
        ["pool", "wait", "empty"],
        ["worker", "register", "w"],
        ["worker", "heartbeat", "w"],
        ["worker", "list"],
    ],
)
def test_hot_commands_load_nothing_heavy(fedctl, argv):
    fedctl("memory", "store", "--task", "e", "--id", "e")
    fedctl("pool", "push", "p", "1")
    command = [sys.executable, "-X", "importtime", "-m", "fedctl", *argv]
    line = b'{"data": 1}' if "push" in argv else b'{"id": "i", "lease_id": "l"}'
    result = subprocess.run(command, capture_output=True, env=fedctl.environ, check=False, input=line)
    assert result.returncode in (0, 3, 4, 6)
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.decode().splitlines() if "|" in line}
    assert "fedctl" in loaded
    assert loaded & HEAVY == set()
    if argv == ["--version"]:
        assert not any(name.startswith(("typer", "msgspec")) for name in loaded)


def test_the_same_answers_come_from_a_hub(fedctl):
    stored = fedctl("memory", "store", "--task", "before the hub", "--id", "x", "--json").stdout
    started = fedctl("--hub", "off", "hub", "start", "--detach", "--port", "0", "--http-port", "0", "--json")
    assert started.returncode == 0, started.stderr
    try:
        hub = json.loads(started.stdout)
        assert hub["ready"] is True
        assert not any(line.startswith("{") for line in (Path(hub["home"]) / "hub.log").read_text().splitlines())
        assert json.loads(fedctl("hub", "status", "--wait", "5s", "--json").stdout)["pid"] == hub["pid"]
        assert fedctl("memory", "get", "x", "--json").stdout == stored
        assert b"asking the hub at unix:" in fedctl("-v", "memory", "stats").stderr
        assert fedctl("hub", "start", "--port", "0", "--http-port", "0").returncode == 11
        assert json.loads(fedctl("hub", "stats", "--json").stdout)["episodes"] == 1
        _over_the_network(fedctl, hub["url"])
        _an_agent(fedctl)
        lines = b'{"task":"a"}\nnope\n{"task":"b","input":"' + b"x" * 3_000_000 + b'"}\n{"task":"c"}\n'
        batch = fedctl("memory", "store", "--batch", input=lines)
        assert batch.returncode == 3
        assert [json.loads(line)["ok"] for line in batch.stdout.splitlines()] == [True, False, False, True]
    finally:
        stopped = fedctl("hub", "stop")
    assert stopped.returncode == 0
    assert fedctl("hub", "status").returncode == 7
    assert fedctl("store", "check", "--full").returncode == 0


def _over_the_network(fedctl, url):
    token = fedctl("token", "issue", "--tenant", "acme", "--ttl", "1m", "-q").stdout.decode().strip()
    remote = Process(Path(fedctl.environ["FEDCTL_HOME"]).with_name("elsewhere"))
    assert remote("--hub", url, "memory", "list").returncode == 9
    remote.environ["FEDCTL_TOKEN"] = token
    episode = json.loads(remote("--hub", url, "memory", "store", "--task", "remote", "--json").stdout)
    assert episode["tenant_id"] == "acme"
    assert remote("--hub", url, "--tenant", "default", "memory", "list").returncode == 9
    lines = b'{"task":"mine","tenant_id":"acme"}\n{"task":"not mine","tenant_id":"default"}\n{"task":"mine too"}\n'
    batch = remote("--hub", url, "memory", "store", "--batch", input=lines)
    assert batch.returncode == 3
    answers = [json.loads(line) for line in batch.stdout.splitlines()]
    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert answers[1]["error"]["code"] == "denied"
    assert len(json.loads(remote("--hub", url, "memory", "list", "--json").stdout)) == 3
    assert not Path(remote.environ["FEDCTL_HOME"]).exists()


def _an_agent(fedctl):
    one = f'"{sys.executable}" -m fedctl'
    script = f"{one} memory query before --ids; {one} memory store --task inside -q --ids; exit 3"
    spawned = fedctl("agent", "spawn", "--id", "scout", "--lifetime", "30s", "--json", "--", "/bin/sh", "-c", script)
    assert spawned.returncode == 3, spawned.stderr
    found, kept = spawned.stdout.decode().split()
    assert found == "x"
    ending = json.loads(spawned.stderr.splitlines()[-1])
    assert (ending["agent_id"], ending["undelivered"]) == ("scout", 0)
    assert json.loads(fedctl("memory", "get", kept, "--json").stdout)["agent_id"] == "scout"
    shown = json.loads(fedctl("agent", "show", "scout", "--json").stdout)
    assert (shown["status"], shown["episodes_stored"]) == ("dead", 1)


@pytest.fixture
def hub(fedctl):
    started = fedctl("hub", "start", "--detach", "--port", "0", "--http-port", "0", "--json")
    assert started.returncode == 0, started.stderr
    yield json.loads(started.stdout)
    fedctl("hub", "stop")


def held(fedctl):
    return [(one["status"], one["attempts"]) for one in json.loads(fedctl("pool", "items", "p", "--json").stdout)]


def waiting_claims(fedctl, url):
    """Return a claim that waits, on each of the three ways."""
    elsewhere = Process(Path(fedctl.environ["FEDCTL_HOME"]).with_name("elsewhere"))
    elsewhere.environ["FEDCTL_TOKEN"] = fedctl("token", "issue", "--tenant", "default", "-q").stdout.decode().strip()
    claim = ["pool", "claim", "p", "--worker", "w", "--wait", "1m", "--json"]
    return [fedctl.start("--hub", "off", *claim), fedctl.start(*claim), elsewhere.start("--hub", url, *claim)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_waiting_claim_quietly_and_nothing_is_claimed(fedctl, hub, number, code):
    claims = waiting_claims(fedctl, hub["url"])
    assert not select.select([process.stdout for process in claims], [], [], 2.0)[0]
    for process in claims:
        process.send_signal(number)
        assert finish(process) == (code, b"", b"")
    fedctl("pool", "push", "p", "1")
    time.sleep(0.2)
    assert held(fedctl) == [("pending", 0)]


def test_a_push_wakes_who_waits_on_each_of_the_three_ways_once(fedctl, hub):
    claims = waiting_claims(fedctl, hub["url"])
    assert not select.select([process.stdout for process in claims], [], [], 1.0)[0]
    for _ in claims:
        fedctl("pool", "push", "p", "1")
    answers = [json.loads(finish(process)[1]) for process in claims]
    assert len({item["id"] for (item,) in answers}) == 3
    assert len({item["lease_id"] for (item,) in answers}) == 3


def test_what_nobody_reads_is_not_claimed_through_a_hub_either(fedctl, hub):
    assert hub["ready"]
    fedctl("pool", "push", "p", "1")
    shell = ["/bin/sh", "-c", f"{sys.executable} -m fedctl pool claim p --worker w >&-"]
    assert subprocess.run(shell, env=fedctl.environ, capture_output=True, check=False).returncode == 1
    assert held(fedctl) == [("pending", 0)]


def test_a_keeper_goes_on_while_its_hub_is_away_and_says_so_once(fedctl, hub):
    fedctl("worker", "register", "w")
    elsewhere = Process(Path(fedctl.environ["FEDCTL_HOME"]).with_name("elsewhere"))
    elsewhere.environ["FEDCTL_TOKEN"] = fedctl("token", "issue", "--tenant", "default", "-q").stdout.decode().strip()
    keeper = elsewhere.start("--hub", hub["url"], "worker", "heartbeat", "w", "--every", "50ms", "--jsonl")
    assert read_line(keeper)["worker_id"] == "w"
    fedctl("hub", "stop")
    assert b"note: no heartbeat gets through, still trying" in keeper.stderr.readline()
    port = hub["url"].rpartition(":")[2]
    fedctl("hub", "start", "--detach", "--port", port, "--http-port", "0")
    assert keeper.stderr.readline() == b"note: heartbeats get through again\n"
    before = json.loads(fedctl("worker", "show", "w", "--json").stdout)["last_heartbeat"]
    while json.loads(fedctl("worker", "show", "w", "--json").stdout)["last_heartbeat"] == before:
        pass
    keeper.send_signal(signal.SIGTERM)
    assert finish(keeper) == (143, b"", b"")


def test_a_keeper_of_an_old_incarnation_ends(fedctl):
    fedctl("worker", "register", "w")
    keeper = fedctl.start("worker", "heartbeat", "w", "--every", "50ms", "--jsonl")
    read_line(keeper)
    fedctl("worker", "register", "w")
    code, _, err = finish(keeper)
    assert (code, json.loads(err)["error"]["code"]) == (5, "conflict")


def test_two_shells_share_the_work_and_a_third_waits_for_it(fedctl):
    lines = b"".join(b'{"data":%d}\n' % number for number in range(12))
    assert fedctl("pool", "push", "p", "--batch", input=lines).returncode == 0
    one = f'"{sys.executable}" -m fedctl'
    script = f"""
        while item=$({one} pool claim p --worker "w$0" --format tsv --fields id,lease_id | tail -n +2) && [ -n "$item" ]
        do set -- $item; {one} pool complete "$1" --lease-id "$2" -q || exit 1; done"""
    workers = [
        subprocess.Popen(["/bin/bash", "-c", script, str(n)], env=fedctl.environ, stderr=subprocess.PIPE)
        for n in range(2)
    ]
    assert fedctl("pool", "wait", "p", "--timeout", "1m").returncode == 0
    for worker in workers:
        assert finish(worker)[2] == b""
    done = json.loads(fedctl("pool", "items", "p", "--status", "done", "--json").stdout)
    assert (len(done), {one["attempts"] for one in done}) == (12, {1})


def test_watching_agents_goes_line_by_line(fedctl):
    fedctl("init")
    watcher = fedctl.start("agent", "list", "--watch", "--jsonl")
    time.sleep(1.0)
    spawned = fedctl.start("agent", "spawn", "--id", "brief", "--lifetime", "5s", "--", "sleep", "1")
    assert read_line(watcher)["id"] == "brief"
    assert finish(spawned)[0] == 0
    watcher.send_signal(signal.SIGINT)
    assert finish(watcher)[0] == 130
