"""A hub is stopped, its home restored from an older backup, and started again, while others go on."""

from __future__ import annotations

import signal
import subprocess
import threading
import time

from fedctl.client.remote import RemoteCaller
from fedctl.messages.memory import ListEpisodes

WORK = """
fedctl memory store --id before --task before -q
until [ -e backed-up ]; do sleep 0.05; done
fedctl memory store --id lost --task lost -q
: > stored
until [ -e back ]; do sleep 0.05; done
fedctl memory store --id after --task after -q
"""


def wait_for(path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def wait_until_stored(socket: str, *ids: str) -> None:
    caller = RemoteCaller(socket, tenant_id="default")
    deadline = time.monotonic() + 30
    while {one.id for one in caller.call(ListEpisodes()).episodes} != set(ids):
        assert time.monotonic() < deadline, ids
        time.sleep(0.05)
    caller.close()


def test_an_agent_that_lives_through_a_restore_tells_the_hub_again_what_it_lost_and_old_leases_are_fenced(user):
    socket = f"unix:{user.hub()['socket']}"
    agent = user.start(
        "agent", "spawn", "--id", "coder", "--lifetime", "60s", "--sync-interval", "300ms", "--", "sh", "-ec", WORK,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until_stored(socket, "before")
    user("pool", "push", "jobs", "1", "-q")
    assert user("backup", "create", "-q").code == 0
    (user.folder / "backed-up").touch()
    wait_for(user.folder / "stored")
    wait_until_stored(socket, "before", "lost")
    (item,) = user("pool", "claim", "jobs", "--worker", "w", "--json").json
    follower = user.start("--hub", socket, "hub", "events", "--follow", "--since", "1h", "--jsonl",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert follower.stdout.readline()
    refused = user("restore", "latest", "--overwrite", "--yes", "--json")
    assert (refused.code, "hub" in refused.error["message"]) == (11, True)

    assert user("hub", "stop", "-q").code == 0
    restored = user("restore", "latest", "--overwrite", "--yes", "--json")
    assert (restored.code, restored.json["episodes"]) == (0, 1), restored.err
    user.hub()
    (user.folder / "back").touch()

    said = agent.communicate(timeout=60)[1].decode()
    assert agent.returncode == 0, said
    wait_until_stored(socket, "before", "lost", "after")
    stale = user("pool", "complete", item["id"], "--lease-id", item["lease_id"], "--json")
    assert (stale.code, stale.error["code"]) == (5, "conflict")
    patience = threading.Timer(30, follower.kill)
    patience.start()
    heard = any(b"restored from a backup" in line for line in follower.stderr)
    patience.cancel()
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=20)
    assert heard
