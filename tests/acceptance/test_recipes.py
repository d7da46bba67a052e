"""The README's recipes for cron and systemd, run as cron and systemd run them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
FIELD = r"(?:\*|\d+(?:-\d+)?)(?:/\d+)?(?:,\d+(?:-\d+)?(?:/\d+)?)*"


def blocks(kind: str) -> list[str]:
    """Return what stands in the README's blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def cron_commands() -> list[str]:
    """Return the commands of the README's crontab as cron hands them to the shell."""
    found = []
    for line in "".join(blocks("crontab")).splitlines():
        if not line.strip() or line.startswith("#") or re.match(r"[A-Z]+=", line):
            continue
        match = re.fullmatch(rf"({FIELD}(?:\s+{FIELD}){{4}})\s+(\S.*)", line)
        assert match, f"no line of a crontab: {line}"
        for value, (least, most) in zip(match[1].split(), [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)], strict=True):
            assert all(least <= int(number) <= most for number in re.findall(r"\d+", value)), line
        assert not re.search(r"(?<!\\)%", match[2]), f"cron takes a bare % for a line break: {line}"
        found.append(match[2].replace("\\%", "%"))
    return found


def units() -> dict[str, str]:
    """Return the README's units by the names that their first lines give."""
    named = {}
    for text in blocks("ini"):
        match = re.match(r"# ~/\.config/systemd/user/(\S+)\n", text)
        if match:
            named[match[1]] = text
    return named


class Hearing(BaseHTTPRequestHandler):
    """Notes the pings it is sent."""

    def do_GET(self):
        self.server.heard.append(self.path)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815  the server's own names

    def log_message(self, *_):
        return


class Machine:
    """A user's home on which fedctl is installed as pipx installs it, with a monitor to tell."""

    def __init__(self, home: Path, monitor: ThreadingHTTPServer) -> None:
        self.home = home
        self.heard = monitor.heard
        (home / ".local/bin").mkdir(parents=True)
        program = home / ".local/bin/fedctl"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fedctl "$@"\n')
        program.chmod(0o755)
        (home / ".config/fedctl").mkdir(parents=True)
        for name in ("backup", "verify"):
            (home / f".config/fedctl/{name}.url").write_text(f"http://127.0.0.1:{monitor.server_port}/{name}\n")

    def shell(self, command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a line as cron does: by /bin/sh, in the user's home, with next to nothing in the environment."""
        environment = {"HOME": str(self.home), "LOGNAME": "user", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            ["/bin/sh", "-c", command], env=environment, cwd=self.home, input=stdin, capture_output=True, check=False
        )

    def fedctl(self, line: str, stdin: bytes = b"") -> str:
        done = self.shell(f".local/bin/fedctl {line}", stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


@pytest.fixture(scope="module")
def monitor():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hearing) as server:
        server.heard = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def machine(tmp_path, monitor):
    monitor.heard.clear()
    made = Machine(tmp_path, monitor)
    lines = b"".join(b'{"id": "e%d", "task": "night %d"}\n' % (number, number) for number in range(12))
    made.fedctl("memory store --batch -q", lines)
    made.fedctl("retention set --max-episodes 10 -q")
    return made


def holds(machine: Machine) -> list[str]:
    return sorted(machine.fedctl("memory list --ids").split())


def quietly(machine: Machine, command: str) -> None:
    done = machine.shell(command)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), command


def test_the_crontab_does_what_it_says_and_says_nothing(machine):
    commands = cron_commands()
    assert [re.search(r"fedctl -q (\w+ \w+)", one)[1] for one in commands] == [
        "backup create", "retention prune", "backup verify",
    ]  # fmt: skip
    for command in commands:
        quietly(machine, command)
    assert holds(machine) == sorted(f"e{number}" for number in range(2, 12))
    assert len(list((machine.home / "backups/fedctl").glob("fedctl-*.backup"))) == 1
    assert machine.heard == ["/backup/start", "/backup", "/verify/start", "/verify"]


def test_the_crontab_says_what_failed_in_one_line(machine):
    shutil.rmtree(machine.home / ".local/share")
    for command, code in zip(cron_commands(), (10, 10, 4), strict=True):
        done = machine.shell(command)
        assert (done.returncode, done.stdout) == (code, b""), command
        assert re.fullmatch(rb"error: there is no (store|backup)[^\n]*\n", done.stderr), done.stderr
    assert [path for path in machine.heard if path.endswith("/fail")] == ["/backup/fail", "/verify/fail"]


def test_the_unit_runs_its_commands_in_their_order(machine):
    service = units()["fedctl-night.service"]
    for line in re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE):
        words = [word.replace("%h", str(machine.home)).replace("%%", "%") for word in shlex.split(line)]
        quietly(machine, shlex.join(words))
    assert holds(machine) == sorted(f"e{number}" for number in range(2, 12))
    assert machine.heard == ["/backup/start", "/backup"]


def test_systemd_finds_no_fault_with_the_units(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd here")
    named = units()
    assert sorted(named) == ["fedctl-night.service", "fedctl-night.timer"]
    for name, text in named.items():
        (tmp_path / name).write_text(text.replace("%h/.local/bin/fedctl", "/bin/true"))
    done = subprocess.run(
        [program, "verify", "--user", *(str(tmp_path / name) for name in named)],
        capture_output=True, text=True, check=False, env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "fedctl-night" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr
