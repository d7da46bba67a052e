"""What happens, as somebody who watches sees it: over kill -9 and restarts, nothing twice and nothing lost."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fedctl.client.address import LOCK_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

WORK = """
fedctl agent note --kind task "fix the login test" -q
fedctl agent note --kind step "read the log" --data '{"lines": 3}' -q
fedctl memory store --task "login" --output "a longer timeout" --reward 0.9 -q
fedctl memory query "login" -q > /dev/null
fedctl agent note --kind decision "retry" -q
"""


class Watcher:
    """`hub events --follow` in a process of its own, read as it writes."""

    def __init__(self, user: Any, *flags: str) -> None:
        self.process = user.start(
            "hub", "events", "--follow", "--jsonl", *flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()

    def wait_for(self, number: int) -> list[str]:
        """Return what the events are about, once there are so many."""
        self.wait_until(lambda: len(self.events) >= number)
        return [one["subject"] for one in self.events]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.events and condition(), 40), self.events

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        code = self.process.wait(20)
        self._thread.join(20)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        self.process.stdout.close()
        self.process.stderr.close()
        return code, said


@contextmanager
def watching(user: Any, *flags: str):
    watcher = Watcher(user, *flags)
    try:
        yield watcher
    finally:
        if watcher.process.poll() is None:
            watcher.end(signal.SIGKILL)


def kill(user: Any, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    # The lock goes with the process: whoever gets it knows that the hub is no more.
    with (user.home / LOCK_NAME).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.mark.parametrize("way", ["auto", "socket"])
def test_who_follows_events_over_a_kill_and_a_restart_gets_each_once(user, way):
    info = user.hub()
    flags = [] if way == "auto" else ["--hub", f"unix:{info['socket']}"]
    wanted: list[str] = []

    def store(count: int) -> None:
        ids = [f"e{len(wanted) + number}" for number in range(count)]
        wanted.extend(ids)
        lines = [json.dumps({"id": id_, "task": "t"}) for id_ in ids]
        done = user("memory", "store", "--batch", stdin="\n".join(lines).encode())
        assert done.code == 0, done.err

    with watching(user, "--since", "0", *flags) as watcher:
        store(5)
        watcher.wait_for(5)
        for _ in range(2):
            kill(user, info["pid"])
            store(20)
            info = user.hub()
            store(5)
            assert watcher.wait_for(len(wanted)) == wanted
        code, said = watcher.end(signal.SIGINT)
    assert (code, "Traceback" in said, "error" in said) == (130, False, False)
    assert [one["seq"] for one in watcher.events] == list(range(1, len(wanted) + 1))
    # And somebody who was not there reads on from where the first one stopped.
    store(1)
    later = user("hub", "events", "--jsonl", "--since", str(watcher.events[-1]["seq"]))
    assert [json.loads(line)["subject"] for line in later.out.splitlines()] == [wanted[-1]]


def test_the_timeline_of_a_real_agent_has_its_phases_notes_and_operations(user):
    user.hub()
    with watching(user, "--type", "agent", "--since", "0") as watcher:  # it may begin after the agent
        script = user.folder / "work.sh"
        script.write_text(WORK)
        spawned = user("agent", "spawn", "--id", "coder", "--lifetime", "1m", "--", "sh", "-e", str(script))
        assert spawned.code == 0, spawned.err
        assert user("agent", "timeline", "coder").out.startswith("agent\tcoder\t")
        document = user("agent", "timeline", "coder", "--json").json
        phases = ["spawning", "initializing", "ready", "working", "idle", "shutting_down", "dead"]
        assert [one["status"] for one in document["phases"]] == phases
        offsets = [one["offset_ms"] for one in document["phases"]]
        assert (offsets[0], offsets == sorted(offsets)) == (0, True)
        notes = [(one["kind"], one["text"], one["data"]) for one in document["moments"]]
        for note in (
            ("task", "fix the login test", None),
            ("step", "read the log", {"lines": 3}),
            ("decision", "retry", None),
        ):
            assert notes.count(note) == 1
        operations = document["figures"]["operations"]
        assert {name: operations[name]["n"] for name in ("agent.note", "memory.store", "memory.query")} == {
            "agent.note": 3, "memory.store": 1, "memory.query": 1,
        }  # fmt: skip
        for times in operations.values():
            assert 0 <= times["min_ms"] <= times["avg_ms"] <= times["max_ms"]
        watcher.wait_until(lambda: watcher.events[-1]["detail"].get("status") == "dead")
        seen = [one["detail"]["status"] for one in watcher.events if one["kind"] == "agent_status"]
        assert seen == phases
        assert sum(one["kind"] == "agent_note" for one in watcher.events) == 3
    user("hub", "stop")
    assert user("agent", "timeline", "coder", "--json").json == document, "the home alone says the same"


def test_notes_made_while_the_hub_was_dead_are_delivered_once(user):
    info = user.hub()
    gate, go_on = user.folder / "gate", user.folder / "go_on"
    os.mkfifo(gate)
    os.mkfifo(go_on)
    script = user.folder / "work.sh"
    script.write_text(f"""
fedctl agent note --kind step before -q
echo ready > {gate}
read line < {go_on}
fedctl agent note --kind step away -q
fedctl memory store --task away -q
echo noted > {gate}
read line < {go_on}
""")
    flags = ("--id", "coder", "--lifetime", "2m", "--sync-interval", "200ms")
    agent = user.start("agent", "spawn", *flags, "--", "sh", "-e", str(script), stderr=subprocess.PIPE)
    assert gate.read_text() == "ready\n"
    kill(user, info["pid"])
    go_on.write_text("go\n")
    assert gate.read_text() == "noted\n"
    user.hub()
    go_on.write_text("go\n")
    _, said = agent.communicate(timeout=60)
    assert agent.returncode == 0, said
    assert "note could not" not in said.decode()
    document = user("agent", "timeline", "coder", "--json").json
    assert [one["text"] for one in document["moments"] if one["kind"] == "step"] == ["before", "away"]
    assert document["phases"][-1]["status"] == "dead"
    assert document["figures"]["delivered"] == 1
