"""What the README promises a new user, done as it says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

WORK = """
fedctl memory query "how do we make tests stable" -k 3 --json > found.json
fedctl memory store --task "stabilise the upload test" --output "found a shared temp file" --reward 1 --ids
"""


def wait_until(condition, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def tasks(done):
    assert done.code == 0, done.err
    return {row["task"] for row in done.json}


def test_a_first_session_from_the_first_episode_to_a_killed_hub(user):
    stored = user("memory", "store", "--task", "fix the flaky login test", "--output", "mocked the clock",
                  "--critique", "look for real sleeps first", "--reward", "0.9", "--ids")  # fmt: skip
    assert (stored.code, len(stored.out.split())) == (0, 1)
    assert tasks(user("memory", "query", "a test that sometimes hangs", "--json")) == {"fix the flaky login test"}

    info = user.hub()
    script = user.folder / "work.sh"
    script.write_text(WORK + ("jq -r '.[].critique' found.json\n" if shutil.which("jq") else "cat found.json\n"))
    spawned = user("agent", "spawn", "--id", "coder", "--lifetime", "1m", "--", "sh", "-e", str(script))
    assert spawned.code == 0, spawned.err
    assert "look for real sleeps first" in spawned.out
    assert "note:" not in spawned.out  # stdout is the command's alone
    assert "1 stored, 1 delivered" in spawned.err
    agents = user("agent", "list", "--json").json
    assert [(one["id"], one["status"], one["episodes_stored"]) for one in agents] == [("coder", "dead", 1)]

    os.kill(info["pid"], signal.SIGKILL)
    wait_until(lambda: user("hub", "status").code == 7)
    both = {"fix the flaky login test", "stabilise the upload test"}
    assert tasks(user("memory", "list", "--json")) == both  # without a hub
    again = user.hub()
    assert again["pid"] != info["pid"]
    assert tasks(user("memory", "list", "--json")) == both
    assert tasks(user("memory", "query", "make tests stable", "--json")) == both
    stopped = user("hub", "stop")
    assert stopped.code == 0
    assert user("hub", "stop").code == 0  # twice is harmless
    assert tasks(user("memory", "list", "--json")) == both
    assert user("store", "check", "--full", "--json").code == 0


def test_a_second_hub_on_the_same_home_is_refused_and_the_first_unharmed(user):
    info = user.hub()
    second = user("hub", "start", "--port", "0", "--http-port", "0", "--json")
    assert (second.code, second.out) == (11, "")
    assert second.error["code"] == "locked"
    detached = user("hub", "start", "--detach", "--port", "0", "--http-port", "0", "--json")
    assert (detached.code, detached.error["code"]) == (11, "locked")
    assert user("hub", "status", "--json").json["pid"] == info["pid"]
    assert user("memory", "store", "--task", "still here").code == 0


def test_a_hub_in_the_background_takes_no_module_of_the_folder_that_it_was_begun_in(user):
    (user.folder / "asyncio.py").write_text("raise SystemExit(99)\n")  # what a hub needs, and who begins it does not
    assert user.hub()["ready"]


def test_a_port_that_is_taken_is_said_by_a_hub_in_the_background_too(user, tmp_path):
    info = user.hub()
    port = info["url"].rpartition(":")[2]
    other = user("hub", "start", "--detach", "--port", port, "--json", FEDCTL_HOME=str(tmp_path / "other"))
    assert (other.code, other.error["code"]) == (7, "unavailable")


def test_a_token_lets_an_agent_in_over_the_network_and_no_further(user):
    info = user.hub()
    token = user.folder / "token"
    issued = user("token", "issue", "--tenant", "acme", "--agent", "coder", "--ttl", "10m")
    assert issued.code == 0
    token.write_text(issued.out)
    far = ("--hub", info["url"], "--token-file", str(token))
    spawned = user(
        "agent", "spawn", *far, "--lifetime", "1m", "--", "sh", "-ec",
        'test -z "$FEDCTL_TOKEN$FEDCTL_TOKEN_FILE"; echo "$FEDCTL_AGENT_ID $FEDCTL_TENANT"; '
        "fedctl memory store --task 'learned far away' --ids",
        FEDCTL_TOKEN="",
    )  # fmt: skip
    assert spawned.code == 0, spawned.err
    assert spawned.out.startswith("coder acme\n")
    assert tasks(user("--tenant", "acme", "memory", "list", "--json")) == {"learned far away"}
    assert tasks(user("memory", "list", "--json")) == set()
    assert tasks(user("memory", "list", *far, "--json")) == {"learned far away"}
    # no token, another tenant, another agent, a longer life, a forged token, a revoked one
    assert user("memory", "list", "--hub", info["url"]).code == 9
    assert user("memory", "list", *far, "--tenant", "default").code == 9
    assert user("agent", "spawn", *far, "--id", "tester", "--", "true").code == 9
    assert user("agent", "spawn", *far, "--lifetime", "15m", "--", "true").code == 9
    text = issued.out.strip()
    forged = user.folder / "forged"
    forged.write_text(text[:-4] + ("AAAA" if not text.endswith("AAAA") else "BBBB"))
    assert user("memory", "list", "--hub", info["url"], "--token-file", str(forged)).code == 9
    token_id = user("token", "list", "--json").json[0]["id"]
    assert user("token", "revoke", token_id).code == 0
    assert user("memory", "list", *far).code == 9
    hub_log = (user.home / "hub.log").read_text()
    assert text not in hub_log + spawned.err


@pytest.mark.parametrize("with_hub", [False, True], ids=["home", "hub"])
def test_tenants_share_nothing(user, with_hub):
    if with_hub:
        user.hub()
    ours, theirs = ("--tenant", "ours"), ("--tenant", "theirs")
    stored = user("memory", "store", "--task", "the secret plan", "--id", "plan", *theirs)
    assert stored.code == 0
    assert user("memory", "store", "--task", "our plan", *ours).code == 0
    assert tasks(user("memory", "query", "the secret plan", *ours, "--json")) == {"our plan"}
    assert tasks(user("memory", "list", *ours, "--json")) == {"our plan"}
    assert user("memory", "get", "plan", *ours).code == 4
    assert user("memory", "delete", "plan", *ours).code == 4
    assert user("memory", "get", "nothing", *ours).code == 4
    assert "secret" not in user("memory", "export", *ours).out
    assert user("memory", "stats", *ours, "--json").json["episodes"] == 1
    assert user("memory", "store", "--task", "another", "--id", "plan", *ours).code == 0  # ids are each tenant's own
    inside = user("agent", "spawn", *ours, "--lifetime", "1m", "--", "fedctl", "memory", "list", *theirs)
    assert (inside.code, inside.out) == (9, "")
    assert tasks(user("memory", "list", *theirs, "--json")) == {"the secret plan"}


# -- spawn -----------------------------------------------------------------------------------------------------------


def test_streams_pass_through_and_the_code_is_the_commands(user):
    cat = user("agent", "spawn", "--lifetime", "1m", "-q", "--", "cat", stdin=b"through\n")
    assert (cat.code, cat.out) == (0, "through\n")
    coded = user("agent", "spawn", "--lifetime", "1m", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (coded.code, coded.out) == (5, "out\n")
    assert coded.err.splitlines()[0] == "err"
    assert '"exit":5' in coded.err.splitlines()[-1]


def test_a_program_that_does_not_exist_is_a_usage_error_and_leaves_no_agent_alive(user):
    done = user("agent", "spawn", "--id", "coder", "--lifetime", "1m", "--", "no-such-program")
    assert (done.code, done.out) == (2, "")
    assert "no-such-program" in done.err
    assert user("agent", "show", "coder", "--json").json["status"] == "dead"
    assert user("agent", "spawn", "--id", "coder", "--lifetime", "1m", "--", "true").code == 0


def test_the_lifetime_ends_the_command_with_124(user):
    begun = time.monotonic()
    done = user("agent", "spawn", "--lifetime", "5s", "--", "sleep", "60")
    assert done.code == 124
    assert 5 <= time.monotonic() - begun < 12


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_command_and_what_it_learned_is_kept(user, number, code):
    script = (
        "trap 'fedctl memory store --task last-words --ids; exit 0' TERM; "
        "fedctl memory store --task first --ids; while :; do sleep 0.05; done"
    )
    spawned = user.start(
        "agent", "spawn", "--id", "coder", "--lifetime", "1m", "--", "sh", "-c", script,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert spawned.stdout is not None
    assert spawned.stdout.readline()
    spawned.send_signal(number)
    _, err = spawned.communicate(timeout=30)
    assert spawned.returncode == code, err
    assert b"Traceback" not in err
    assert tasks(user("memory", "list", "--json")) == {"first", "last-words"}
    assert user("agent", "show", "coder", "--json").json["status"] == "dead"


def test_an_agent_can_be_stopped_through_its_hub_and_is_told_where_without_one(user):
    user.hub()
    spawned = user.start("agent", "spawn", "--id", "coder", "--lifetime", "1m", stderr=subprocess.PIPE)
    wait_until(lambda: user("agent", "show", "coder", "--fields", "status").out.strip().endswith("ready"))
    assert user("agent", "stop", "coder").code == 0
    _, err = spawned.communicate(timeout=30)
    assert (spawned.returncode, b"stopped" in err) == (0, True)
    assert user("agent", "stop", "coder").code == 4
    assert user("hub", "stop").code == 0
    done = user("agent", "stop", "coder")
    assert (done.code, "kill -TERM" in done.err) == (7, True)


def test_a_hub_that_dies_under_an_agent_and_stays_away_is_told_of_at_the_end(user):
    info = user.hub()
    token = user("token", "issue", "--tenant", "default", "--ttl", "1h").out.strip()
    # Two signals: the second one says that nobody wants to wait 15 s for the hub.
    script = (
        f"kill -9 {info['pid']}; while kill -0 {info['pid']} 2>/dev/null; do sleep 0.02; done; sleep 0.2; "
        "fedctl memory store --task one --ids; fedctl memory store --task two --ids; fedctl memory query one --json; "
        "trap 'sleep 0.3; kill -TERM $PPID; exit 0' TERM; kill -TERM $PPID; sleep 5 & wait"
    )
    remote = {"FEDCTL_HUB": info["url"], "FEDCTL_TOKEN": token}
    argv = ("agent", "spawn", "--lifetime", "1m", "--undelivered", str(user.home / "left of it"))
    done = user(*argv, "--", "sh", "-c", script, **remote)
    assert done.code == 143
    assert "2 episodes could not be delivered: the hub is away" in done.err
    assert f"fedctl memory import '{user.home}/left of it'" in done.err
    assert user("memory", "import", str(user.home / "left of it"), "--no-embed", "--json").json["imported"] == 2
    assert "not connected to the hub" in done.err
    assert '"task":"one"' in done.out


def test_where_the_hub_on_the_home_is_gone_the_home_itself_takes_what_an_agent_has_left(user):
    info = user.hub()
    script = (
        f"kill -9 {info['pid']}; while kill -0 {info['pid']} 2>/dev/null; do sleep 0.02; done; sleep 0.2; "
        "fedctl memory store --task one --ids; fedctl memory store --task two --ids"
    )
    done = user("agent", "spawn", "--id", "last", "--lifetime", "1m", "--", "sh", "-c", script)
    assert done.code == 0, done.err
    assert tasks(user("memory", "list", "--json")) == {"one", "two"}
    assert [agent["status"] for agent in user("agent", "list", "--json").json] == ["dead"]


def test_a_very_long_home_still_has_a_hub_and_agents(user):
    deep = user.folder / "/".join(["d" * 50] * 4)
    environ = {"FEDCTL_HOME": str(deep), "XDG_RUNTIME_DIR": str(user.folder)}
    user.folder.chmod(0o700)
    started = user("hub", "start", "--detach", "--port", "0", "--http-port", "0", "--json", **environ)
    assert started.code == 0, started.err
    user._hubs.append(started.json["pid"])
    assert len(started.json["socket"]) < 104
    done = user("agent", "spawn", "--lifetime", "1m", "--", "fedctl", "memory", "store", "--task", "deep", **environ)
    assert done.code == 0, done.err
    assert tasks(user("memory", "list", "--json", **environ)) == {"deep"}
    assert user("hub", "stop", **environ).code == 0
    assert not Path(started.json["socket"]).exists()


def test_nothing_is_written_beside_the_home_and_nobody_is_told_what_is_done(user):
    for name in ("cache", "tmp"):
        (user.folder / name).mkdir()
    environ = {"XDG_CACHE_HOME": str(user.folder / "cache"), "TMPDIR": str(user.folder / "tmp")}
    assert user("memory", "store", "--task", "mine alone", **environ).code == 0
    assert user("memory", "query", "mine", **environ).code == 0
    beside = {one for one in user.folder.rglob("*") if one.is_file() and user.home not in one.parents}
    assert beside == {user.folder / "bin" / "fedctl"}
