"""The recipes in scripts/recipes, run as cron, systemd, a CI and a shell run them, and what the README shows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from fedctl.cli.tree import walk

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "scripts/recipes"
NOUNS = {one.path[0] for one in walk() if one.kind == "noun"}
FIELD = r"(?:\*|\d+(?:-\d+)?)(?:/\d+)?(?:,\d+(?:-\d+)?(?:/\d+)?)*"


def cron_commands() -> list[str]:
    """Return the commands of the crontab as cron hands them to the shell."""
    found = []
    for line in (RECIPES / "crontab").read_text().splitlines():
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
    """Return the units by the names that their first lines give."""
    named = {}
    for path in sorted(RECIPES.glob("fedctl-*")):
        text = path.read_text()
        match = re.match(r"# ~/\.config/systemd/user/(\S+?),?\s", text)
        assert match
        assert match[1] == path.name
        named[path.name] = text
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

    def run(
        self, shell: list[str], script: str, stdin: bytes = b"", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script by a shell that finds fedctl."""
        path = f"{self.home}/.local/bin:/usr/local/bin:/usr/bin:/bin"
        done = subprocess.run(
            [*shell, script], env={"HOME": str(self.home), "PATH": path, **environ}, cwd=self.home, input=stdin,
            capture_output=True, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

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
    assert list(named) == ["fedctl-hub.service", "fedctl-night.service", "fedctl-night.timer"]
    for name, text in named.items():
        (tmp_path / name).write_text(text.replace("%h/.local/bin/fedctl", "/bin/true"))
    done = subprocess.run(
        [program, "verify", "--user", *(str(tmp_path / name) for name in named)],
        capture_output=True, text=True, check=False, env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "fedctl-" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


@pytest.fixture
def bare(tmp_path, monitor):
    return Machine(tmp_path, monitor)


def ci_steps() -> dict[str, str]:
    """Return what the workflow runs, by the names of its steps."""
    job = yaml.safe_load((RECIPES / "ci.yaml").read_text())["jobs"]["test"]
    assert (job["defaults"]["run"]["shell"], job["env"]["FEDCTL_FORMAT"]) == ("bash", "json")
    return {step["name"]: step["run"].replace("$POOL", job["env"]["POOL"]) for step in job["steps"] if "run" in step}


def test_the_workflow_tells_a_build_that_fails_from_one_that_does_not(bare):
    # As the runner does for `shell: bash`.
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    (bare.home / "tests").mkdir()
    (bare.home / "tests/good.sh").write_text("echo '{\"passed\": 3}'\n")
    (bare.home / "tests/bad.sh").write_text("echo 'no such host' >&2; exit 65\n")  # 65: not tried again
    said = {}
    for name, script in ci_steps().items():
        said[name] = bare.run(bash, script, FEDCTL_FORMAT="json")
    codes = {name: done.returncode for name, done in said.items()}
    assert codes == {name: 14 if name == "Judge" else 0 for name in codes}, said
    assert json.loads(said["Judge"].stdout) == {"done": 1, "poisoned": 1}
    assert re.fullmatch(r"::error file=tests/bad\.sh::.*%0Ano such host(%0A)?\n", said["Say what failed"].stdout)
    remembered = json.loads(bare.fedctl("memory list --json"))
    assert {one["task"]: one["reward"] for one in remembered} == {"tests/good.sh": 1.0, "tests/bad.sh": 0.0}


def test_the_pipeline_stores_what_it_is_given_and_says_what_is_known(bare):
    lines = [
        {"job": "api", "error": "the build hangs", "fix": "a lock was held", "passed": True, "branch": "main"},
        {"job": "web", "error": "the build hangs too", "fix": "unknown", "passed": False, "branch": "main"},
        {"job": "", "error": "no job", "fix": None, "passed": False, "branch": "main"},
    ]
    log = "".join(json.dumps(line) + "\n" for line in lines).encode()
    done = bare.run([str(RECIPES / "pipeline.sh")], "why do builds hang", log)
    assert (done.returncode, done.stdout) == (0, "api: a lock was held\n")
    assert done.stderr.startswith("line 3: ")


def test_the_worker_by_hand_does_all_and_gives_back_what_failed(bare):
    for command in ('echo "{\\"passed\\": 3}"', "echo all; echo well", "true", "echo bad luck >&2; false"):
        bare.fedctl(f"pool push tests {shlex.quote(json.dumps(command))} --max-retries 1 -q")
    script = f"{RECIPES}/worker.sh tests sh -c 'eval \"$(jq -r .)\"'"
    done = bare.run(["bash", "-c"], script, WAIT="0s")
    assert (done.returncode, done.stderr) == (0, "")
    items = json.loads(bare.fedctl("pool items tests --json"))
    assert [(one["status"], one["result"], one["error"]) for one in items] == [
        ("done", {"passed": 3}, None), ("done", "all\nwell", None), ("done", None, None),
        ("poisoned", None, "bad luck\n"),
    ]  # fmt: skip


def test_the_hub_s_unit_begins_a_hub_that_is_ready_and_ends_in_order(bare):
    service = units()["fedctl-hub.service"]
    begin, ready = (re.search(rf"^{key}=%h/(.*)$", service, re.MULTILINE)[1] for key in ("ExecStart", "ExecStartPost"))
    environment = {"HOME": str(bare.home), "PATH": "/usr/bin:/bin"}
    command = [str(bare.home / begin.split()[0]), *begin.split()[1:], "--port=0", "--http-port=0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as hub:
        done = bare.shell(ready)
        hub.terminate()
    assert (done.returncode, done.stderr, hub.returncode) == (0, b"", 0)


def blocks(kind: str) -> list[str]:
    """Return what stands in the README's blocks of a kind."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def alike(text: str) -> list[str]:
    """Return the words of an answer without what is another each time, and without how a table is drawn."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}", "ID", text)
    text = re.sub(r":\d{4,5}\b", ":PORT", re.sub(r"\b\d+\.\d ?s\b", "TIME", text))
    text = re.sub(r"\b\d+ syncs?\b", "SYNCS", re.sub(r"\b0\.\d+", lambda found: f"{float(found[0]):.2f}", text))
    return text.replace('"', "").replace("\\", "").lower().split()


def test_the_readme_s_sessions_say_what_they_say_there(bare):
    wanted = {}
    for session in "\n".join(blocks("console")).split("$ ")[1:]:
        command, _, said = session.partition("\n")
        wanted[command] = said
    work = next(said for command, said in wanted.items() if command == "cat work.sh")
    (bare.home / "work.sh").write_text(work)
    script = ["exec 2>&1"]
    for number, command in enumerate(wanted):
        ports = " --port 0 --http-port 0" if command.startswith("fedctl hub start") else ""
        script += [f"echo '@@{number}'", command + ports]
    try:
        said = bare.run(["bash", "-c"], "\n".join(script)).stdout
    finally:
        bare.fedctl("hub stop -q")
    answers = re.split(r"^@@\d+\n", said, flags=re.MULTILINE)[1:]
    for (command, shown), answer in zip(wanted.items(), answers, strict=True):
        assert alike(answer) == alike(shown), command


def test_the_readme_s_python_runs(bare):
    done = bare.run([sys.executable, "-c"], "\n".join(blocks("python")))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 done\n"
    assert [one["task"] for one in json.loads(bare.fedctl("--tenant acme memory list --json"))] == [
        "stabilise the upload test"
    ]


def test_every_command_and_file_that_the_readme_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(((?:scripts|fedctl)/[^)]+)\)|`(scripts/[\w./]+)", text)
    missing = [path for pair in named for path in pair if path and not (ROOT / path).exists()]
    assert missing == []
    known = {" ".join(one.path) for one in walk()}
    said = re.findall(r"(?:`|^|\$ )fedctl (?:-\S+ \S+ )?([a-z]+(?: [a-z-]+)?)", text, re.MULTILINE)
    assert [one for one in said if one not in known and one.split()[0] not in known] == []
    assert [one for one in said if one.split()[0] in NOUNS and one not in known] == ["memory qurey"]
