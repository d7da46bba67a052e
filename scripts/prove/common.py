"""What the programs of this folder share: the interpreter, a home, a hub that can be killed, and a table of figures."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedctl.client.caller import Caller

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORKER = HERE / "worker.py"
READY_WITHIN_S = 30.0
FIGURES_FILE = "FEDCTL_PROVE_FIGURES"
"""The variable in which `run` names the file that takes figures, a JSON object a line."""


def use_environment() -> None:
    """Go on in the project's virtual environment when this interpreter has no fedctl."""
    tried = os.environ.pop("FEDCTL_PROVE_TRIED", None)
    if importlib.util.find_spec("msgspec") is not None and importlib.util.find_spec("fedctl") is not None:
        return
    python = ROOT / os.environ.get("FEDCTL_VENV", ".venv") / "bin" / "python"
    if not python.exists() or tried:
        sys.exit(f"{python} has no fedctl: run scripts/test once, it makes the environment")
    os.environ["FEDCTL_PROVE_TRIED"] = "1"
    os.execv(python, [str(python), *sys.argv])


class Figures:
    """What was wanted and what was measured, a line each."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[tuple[str, str, str, bool]] = []
        self.missing: list[str] = []
        self._begun = time.monotonic()

    def add(self, what: str, measured: object, *, wanted: object = "", ok: bool | None = None) -> None:
        """Add a line; without `ok`, what equals what was wanted is fine, and what nothing was wanted of is too."""
        fine = wanted in ("", measured) if ok is None else ok
        self.rows.append((what, _shown(wanted), _shown(measured), fine))
        _record(what, _shown(wanted), _shown(measured), "ok" if fine else "FAIL")
        print(f"  {'ok  ' if fine else 'FAIL'} {what}: {_shown(measured)}", file=sys.stderr, flush=True)

    def not_shown(self, what: str, why: str) -> None:
        """Add a line for what cannot be tried here; it neither holds nor fails."""
        self.missing.append(what)
        self.rows.append((what, "", f"not shown: {why}", True))
        _record(what, "", why, "not shown")
        print(f"  ---- {what}: not shown: {why}", file=sys.stderr, flush=True)

    def finish(self) -> int:
        """Print the table; return the exit code."""
        rows = [(*row[:3], "-" if row[0] in self.missing else "ok" if row[3] else "FAIL") for row in self.rows]
        table(self.title, ("figure", "wanted", "measured", ""), rows)
        failed = sum(not row[3] for row in self.rows)
        missing = f", {len(self.missing)} not shown" if self.missing else ""
        seconds = time.monotonic() - self._begun
        print(f"{f'{failed} FAILED' if failed else 'all hold'}{missing}, {seconds:.1f} s")
        return 1 if failed else 0


def _record(what: str, wanted: str, measured: str, outcome: str) -> None:
    """Hand a figure to `run`, if that is who asks, at once: who dies later has said it."""
    file = os.environ.get(FIGURES_FILE)
    if file:
        with Path(file).open("a") as figures:
            row = {"figure": what, "wanted": wanted, "measured": measured, "outcome": outcome}
            figures.write(json.dumps(row) + "\n")


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a title, each column as wide as it must be."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    print(f"\n{title}")
    for row in [head, *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@contextlib.contextmanager
def scratch(*, keep: bool) -> Iterator[Path]:
    """Make a folder for a run, and remove it unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="fedctl-prove-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which `home` is the home, and nothing else is set."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("FEDCTL_", "DEBUG_"))}
    return inherited | {"FEDCTL_HOME": str(home), "DEBUG_LEVEL": "silent", "PYTHONPATH": str(ROOT)} | more


def fedctl(home: Path, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command line to its end."""
    command = [sys.executable, "-m", "fedctl", *arguments]
    return subprocess.run(command, env=environment(home), input=stdin, capture_output=True, check=False)


def spawn_fedctl(home: Path, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """Start a command line."""
    return subprocess.Popen([sys.executable, "-m", "fedctl", *arguments], env=environment(home), **more)


def spawn_worker(home: Path, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """Start a writer (`worker.py`)."""
    return subprocess.Popen([sys.executable, str(WORKER), *arguments], env=environment(home), **more)


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Hub:
    """A hub as a process of its own, on ports that stay the same when it is started again.

    `program` runs it (fedctl itself, or one that alters it first), `log` takes what it says.
    """

    def __init__(self, home: Path, program: Sequence[str] = ("-m", "fedctl"), log: Path | None = None) -> None:
        self.home, self.program, self.log = home, program, log
        self.port, self.http_port = free_port(), free_port()
        self.arguments: Sequence[str] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self.start_s: list[float] = []

    @property
    def url(self) -> str:
        """Its WebSocket."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        """Its Unix socket."""
        return f"unix:{self.home / 'hub.sock'}"

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        begun = time.monotonic()
        level = {} if self.log is None else {"DEBUG_LEVEL": "basic"}
        with contextlib.nullcontext() if self.log is None else self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "hub", "start", "--port", str(self.port),
                 "--http-port", str(self.http_port), "--jsonl", *self.arguments],
                env=environment(self.home, **level), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], READY_WITHIN_S)[0] or not self.process.stdout.readline():
            self.kill()
            sys.exit("the hub did not start")
        self.start_s.append(time.monotonic() - begun)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """Stop it in order; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        status = self.process.wait(timeout=30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def token(self, tenant: str, agent: str | None, file: Path) -> Path:
        """Issue a token into a file; without an agent its bearer says which one it is."""
        named = ["--agent", agent] if agent else []
        done = fedctl(self.home, "token", "issue", "--tenant", tenant, *named, "--ttl", "2h", "--json")
        if done.returncode:
            sys.exit(done.stderr.decode())
        file.touch(mode=0o600)
        file.write_text(json.loads(done.stdout)["token"])
        return file


class Stored:
    """What a home holds of one tenant, read without a hub."""

    def __init__(self, home: Path, tenant: str = "default") -> None:
        done = fedctl(home, "--hub", "off", "--tenant", tenant, "memory", "export", "-")
        if done.returncode:
            sys.exit(done.stderr.decode())
        rows = [json.loads(line) for line in done.stdout.split(b"\n") if line]
        self.ids = [row["id"] for row in rows]
        self.inputs = [row["input"] for row in rows]

    @property
    def doubled(self) -> int:
        """How many rows are there once too often: by id, or by the number that only one episode was given."""
        return max(len(self.ids) - len(set(self.ids)), len(self.inputs) - len(set(self.inputs)))


def check(home: Path, figures: Figures, what: str) -> None:
    """Let `store check --full` look the home through."""
    done = fedctl(home, "--hub", "off", "store", "check", "--full", "--json")
    said = "clean" if done.returncode == 0 else (done.stdout or done.stderr).decode()[:300]
    figures.add(f"{what}: store check --full", said, wanted="clean")


def acked_ids(file: Path) -> list[str]:
    """Return the ids of an acknowledgement file: whole lines only, a killed writer may have left half of one."""
    if not file.exists():
        return []
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    return whole.decode().split("\n") if whole else []


def noted(file: Path) -> list[dict[str, Any]]:
    """Return what a claimer has noted, an object for each answer it had."""
    return [json.loads(line) for line in acked_ids(file)]


def caller(home: Path, way: str = "local", *, writes: bool = True) -> Caller:
    """Return what carries requests out: on the home itself (one that `writes` may make it), or at an address."""
    from fedctl import bootstrap, config  # not before there is an interpreter that has it

    settings = config.load({"hub": "off" if way == "local" else way}, environment(home))
    return bootstrap.open_caller(settings, writes=writes)


def wait_for(condition: Any, what: str, within_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= deadline:
            sys.exit(f"{what}: not within {within_s:g} s")
        time.sleep(0.005)


def trace(pid: int, call: str, when: int) -> subprocess.Popen[bytes]:
    """Let the process be killed when one of its threads makes this call for the so-many-th time."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={call}",
         "-e", f"inject={call}:signal=KILL:when={when}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: tracer.poll() is not None or traced(pid), "strace attaches")
    return tracer


def traced(pid: int) -> bool:
    """Return whether all threads of a process have a tracer."""
    lines = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return not any("TracerPid:\t0\n" in one for one in lines)


def strace_works() -> bool:
    """Return whether there is an strace that may trace."""
    if shutil.which("strace") is None:
        return False
    inject = ["-e", "trace=getpid", "-e", "inject=getpid:signal=KILL:when=1"]
    command = ["strace", "-qq", "-o", "/dev/null", *inject, "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
