"""What only processes show of the contract: signals to whatever waits, readers that leave, streams that are gone."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.homes import copy, make_full

ROOT = Path(__file__).parents[2]
WAITING = (
    "pool claim empty --worker w --wait 1h", "pool wait builds", "worker heartbeat builder-1 --every 1h",
    "hub events --follow", "agent list --watch", "agent spawn --lifetime 5m", "pool work empty -- true",
    "top --every 1h", "memory store --batch", "memory import -",
)  # fmt: skip
"""Commands that go on until something comes, or for good."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("processes") / "home"
    make_full(home)
    return home


@pytest.fixture
def environ(home, tmp_path) -> dict[str, str]:
    mine = copy(home, tmp_path / "home")
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "FEDCTL_HOME": str(mine)}


def command(line: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "fedctl", *line.split()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_whatever_waits_with_its_code_and_no_half_line(environ, number, code):
    with ExitStack() as processes:
        started = {}
        for line in WAITING:
            before, dashes, after = line.partition(" -- ")
            said = f"{before} --jsonl --debug-level verbose{dashes}{after}"
            started[line] = processes.enter_context(
                subprocess.Popen(command(said), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=environ)
            )  # fmt: skip
            processes.callback(started[line].kill)
        for line, process in started.items():
            assert select.select([process.stderr], [], [], 30)[0], f"{line} does not begin"
        time.sleep(0.3)  # until they wait; one that does not yet ends in the same way
        for process in started.values():
            process.send_signal(number)
        for line, process in started.items():
            out, err = process.communicate(timeout=30)
            assert process.returncode == code, (line, err)
            assert b"Traceback" not in err, (line, err)
            assert b"unexpected" not in err, (line, err)
            assert not out or out.endswith(b"\n"), line
            assert all(json.loads(one) for one in out.splitlines()), line


STREAMS = [
    ("fedctl memory list --json | head -1 >/dev/null", "0", None),
    ("fedctl pool items builds | head -1 >/dev/null", "0", None),
    ("fedctl man pool | head -1 >/dev/null", "0", None),
    ("fedctl schema | head -1 >/dev/null", "0", None),
    ("fedctl pool list --json >/dev/full", "15", "disk_full"),
    ("fedctl store sql 'SELECT 1' --json >/dev/full", "15", "disk_full"),
    ("fedctl pool show builds --json >&-", "1", "failure"),
    ("fedctl pool show builds --json 2>&- >/dev/null", "0", None),
    ("fedctl pool show nope\\ nope 2>&-", "2", None),
    ("fedctl pool show builds <&- >/dev/null", "0", None),
    ("fedctl pool push builds - --json <&-", "2", "usage"),
    ("fedctl tenant erase acme --json <&-", "2", "usage"),
    ("CI=1 fedctl pool purge builds --json </dev/null", "2", "usage"),
]
"""A line of shell, its exit code (of a pipe: its last part's), and the code of the error that is said, if any is."""


def test_readers_that_leave_and_streams_that_are_gone_are_no_reason_to_crash(environ):
    lines = "\n".join(f"( {line} ) 2>err{number}; echo $? >code{number}" for number, (line, *_) in enumerate(STREAMS))
    script = f'cd "$HOME"\nfedctl() {{ "{sys.executable}" -W error -m fedctl "$@"; }}\n{lines}'
    subprocess.run(["bash", "-c", script], env=environ, check=True, timeout=100)
    for number, (line, code, error) in enumerate(STREAMS):
        folder = Path(environ["HOME"])
        err = (folder / f"err{number}").read_text()
        assert (folder / f"code{number}").read_text().strip() == code, (line, err)
        if error is None:
            assert err == "", line
        else:
            assert json.loads(err.splitlines()[-1])["error"]["code"] == error, line
