"""Every example that a help shows is run as it is printed, in a home that has what it names.

Where it is one command it runs in this process, its words taken apart by a real shell; with pipes, redirections and
the like the whole line runs in one. What cannot run as it stands has a line in `INSTEAD` or `RUNS_ON`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fedctl.cli.tree import walk
from tests.acceptance.homes import LEASE, copy, make_full
from tests.acceptance.homes import fedctl as run_here

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

EXAMPLES = [(" ".join(one.path), line) for one in walk() if one.kind == "verb" for line in one.examples]
COMMENT = re.compile(r"\s+# .*")

# -- what is different here ------------------------------------------------------------------------------------------

INSTEAD = [
    (r"/mnt/", "mnt/"),  # below the folder at hand
    (r"(hub start\b)", r"\1 --port 0 --http-port 0"),  # others use the usual ones
    (r"--host 0\.0\.0\.0", "--host 127.0.0.1"),
    (r"--since 4711", "--since 1"),  # there are not so many
    (r"wss://hub\.example:8443", "$HUB"),
]
"""What stands in an example, and what is run in its place."""
ELSEWHERE = {"demo": "test_demo.py"}
"""Commands whose examples run for long, and the test that runs them."""
RUNS_ON = {
    "fedctl hub start --host": 0, "fedctl hub stats --watch": 143, "fedctl hub events --follow": 143,
    "fedctl agent list --watch": 143, "fedctl worker heartbeat builder-1 --every": 143, "fedctl pool work mails": 143,
    "fedctl top --every": 143,
}  # fmt: skip
"""How an example begins that goes on until it is ended, and its exit code when SIGTERM ends it."""
WITH_A_HUB = ("hub status", "hub stats", "agent spawn --pull", "agent stop", "agent list --watch")
"""These are asked of a hub, one for all of them."""
BEFORE = {
    "pool wait builds": "pool release --worker builder-1; pool purge builds --yes; pool purge lint --yes",
    "pool wait $(": "pool purge builds --yes",
    "pool work builds": "pool release --worker builder-1; pool purge builds --yes; "
    'pool push builds {"path":".","repo":"api"}',
    "pool work pages": 'pool push pages {"url":"file:///dev/null"}',
    "memory import -": "--home {here}/old memory store --task old",
    "restore mnt": "backup create {here}/mnt/usb",
    "tls/hub.pem": "hub cert --out {here}/tls",
    "tls --renew": "hub cert --out {here}/tls",
    "prune mnt": "backup create {here}/mnt/backups",
}
"""What is done in the home before an example that has these words."""
OUTCOMES: dict[str, tuple[int, ...]] = {
    "pool wait builds": (0, 14),
    "doctor": (0, 14),
    "pool work builds --once": (0, 6),
}
"""What may be the exit code, if not 0."""
IDS = {"memory": "e1", "retention": "e1", "pool": "claimed", "pool item": "poisoned", "pool retry": "poisoned"}
FILES = {
    "episodes.jsonl": '{"task": "one"}\n{"task": "two", "reward": 0.5}\n',
    "runs.csv": "task,reward\nthree,0.5\n",
    "job.json": '{"night": 1}',
    "lesson.json": '{"task": "build", "output": "works"}',
    "Makefile": "all:\n\t@true\ntest:\n\t@echo failed; false\n",
    "work.sh": "#!/bin/sh\nexit 0\n",
    "build.sh": "#!/bin/sh\nexit 0\n",
    "send.py": "#!/bin/sh\ncat\n",
    "work.py": "import os\nassert os.environ['FEDCTL_AGENT_ID']\n",
    "passphrase": "correct horse battery staple\n",
    "changed.txt": "new\n",
}


class Place(NamedTuple):
    """A folder with the files that examples name, a full home, and a PATH with fedctl on it."""

    folder: Path
    home: Path
    environ: dict[str, str]
    started: list[subprocess.Popen[bytes]]

    def apart(self, folder: Path) -> Place:
        """Return a copy, for one example."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("home"))
        home = copy(self.home, folder / "home")
        return Place(folder, home, self.environ | {"FEDCTL_HOME": str(home), "HOME": str(folder)}, [])

    def fedctl(self, *argv: str) -> str:
        said = run_here(self.home, argv)
        assert said.code == 0, said
        return said.out.strip()

    def start(self, line: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["bash", "-c", line], cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def prepare(self, line: str) -> None:
        """Do what has to be done before an example."""
        for words, before in BEFORE.items():
            if words in line:
                for command in before.replace("{here}", str(self.folder)).split("; "):
                    self.fedctl(*command.split())
        if "restore mnt" in line:
            (backup,) = (self.folder / "mnt/usb").iterdir()
            backup.rename(backup.with_name("fedctl-20260131.backup"))
        if "wait $(" in line:
            self.start("exec fedctl pool work builds --max-items 1 -q -- true")
        if "agent stop" in line:
            agent = self.start("exec fedctl agent spawn --id coder-1 --lifetime 1m")
            assert agent.stdout is not None
            assert agent.stdout.readline()

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=20)
        self.started.clear()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("examples")
    for name, content in FILES.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    for name in ("bin", "old", "mnt/backups", "mnt/usb", "src/project", "models", ".config/fish/completions"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(
        ROOT / "fedctl/recall/models/all-MiniLM-L6-v2", folder / "models/bge-small-onnx", copy_function=os.symlink
    )
    with contextlib.closing(sqlite3.connect(folder / "other.db")) as other, other:
        other.execute("CREATE TABLE runs AS SELECT 'four' AS task, 0.5 AS reward")
    (folder / "bin/fedctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m fedctl "$@"\n')
    (folder / "bin/fedctl").chmod(0o755)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    names = make_full(folder / "home")
    environ = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "EDITOR": "cat", "lease": LEASE,
        "FEDCTL_AGENT_ID": "coder-1", "TOKEN": names["token"],
    }  # fmt: skip
    return Place(folder, folder / "home", environ, [])


@pytest.fixture(scope="module")
def hubs(made, tmp_path_factory) -> Iterator[Place]:
    place = made.apart(tmp_path_factory.mktemp("hub") / "here")
    info = json.loads(place.fedctl("hub", "start", "--detach", "--port", "0", "--http-port", "0", "--json"))
    (place.folder / "t").write_text(place.fedctl("token", "issue", "--tenant", "default", "-q"))
    place.environ["HUB"] = info["url"]
    yield place
    place.fedctl("hub", "stop", "-q")


@pytest.fixture
def place(made, request, tmp_path, path, line) -> Iterator[Place]:
    shared = line.startswith(tuple(f"fedctl {words}" for words in WITH_A_HUB))
    place = request.getfixturevalue("hubs") if shared else made.apart(tmp_path / "here")
    place.environ["id"] = (
        made.environ["TOKEN"] if path == "token revoke" else IDS.get(path, IDS.get(path.split()[0], ""))
    )
    yield place
    place.end()
    if path == "hub start":
        place.fedctl("hub", "stop", "-q")


def bare(line: str) -> str:
    """Return a line without what stands in quotes."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "", line)


def is_one_command(line: str) -> bool:
    ours = line.startswith("fedctl ") and not re.search(r"[|<>&;]|\$\(", bare(line))
    return ours and not line.startswith(("fedctl hub start", "fedctl agent spawn", "fedctl pool work"))


def words_of(place: Place, line: str) -> list[str]:
    """Return the words that a shell makes of a line."""
    script = f"fedctl() {{ printf '%s\\0' \"$@\"; }}\n{line}"
    done = subprocess.run(["bash", "-c", script], cwd=place.folder, env=place.environ, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(("path", "line"), [one for one in EXAMPLES if one[0] not in ELSEWHERE])
def test_the_example_runs_as_it_is_printed(place, path, line, monkeypatch):
    for there, here in INSTEAD:
        line = re.sub(there, here, line)
    monkeypatch.chdir(place.folder)
    place.prepare(line)
    ends = next(
        (
            code
            for begin, code in RUNS_ON.items()
            if line.startswith(begin.replace("start", "start --port 0 --http-port 0"))
        ),
        None,
    )
    allowed = next((codes for begin, codes in OUTCOMES.items() if line.startswith(f"fedctl {begin}")), (0,))
    if ends is not None:
        process = place.start(f"exec {line.removesuffix('&')}")
        assert process.stdout is not None
        if "mails" in line:
            place.fedctl("pool", "push", "mails", "1")
            place.fedctl("pool", "wait", "mails", "--timeout", "20s")
        else:
            assert select.select([process.stdout], [], [], 20)[0], "it says nothing"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, b"Traceback" in err) == (ends, False), err
    elif is_one_command(line):
        said = run_here(place.home, words_of(place, line), FEDCTL_AGENT_ID="coder-1", HOME=str(place.folder))
        assert said.code in allowed, said
    else:
        process = place.start(f"set -e; {line}")
        out, err = process.communicate(timeout=30)
        assert process.returncode in allowed, (out, err)
        assert b"rror" not in err, err
