"""fedctl as its users have it: real processes, real homes, real hubs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.err.splitlines()[-1])["error"]


class User:
    """Somebody with a home and a shell in which `fedctl` is on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        binaries = folder / "bin"
        binaries.mkdir()
        script = binaries / "fedctl"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m fedctl "$@"\n')
        script.chmod(0o755)
        self.environ = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOME": str(folder),
            "FEDCTL_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
        }
        self._hubs: list[int] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *argv: str, stdin: bytes = b"", **environ: str) -> Done:
        return self._done(["fedctl", *argv], stdin, environ)

    def shell(self, script: str, **environ: str) -> Done:
        return self._done(["sh", "-ec", script], b"", environ)

    def _done(self, command: list[str], stdin: bytes, environ: dict[str, str]) -> Done:
        options: dict[str, Any] = {"env": self.environ | environ, "cwd": self.folder, "input": stdin, "timeout": 120}
        done = subprocess.run(command, capture_output=True, check=False, **options)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in err, err
        return Done(done.returncode, out, err)

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["fedctl", *argv], env=self.environ, cwd=self.folder, **options)
        self._started.append(process)
        return process

    def hub(self, *flags: str) -> dict[str, Any]:
        """Start a hub in the background, on ports of the system's choice."""
        done = self("hub", "start", "--detach", "--port", "0", "--http-port", "0", "--json", *flags)
        assert done.code == 0, done.err
        self._hubs.append(done.json["pid"])
        info: dict[str, Any] = done.json
        return info

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:  # the test failed: nobody else is to stumble over what it left
                process.kill()
                process.wait()
        for pid in self._hubs:
            try:
                if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


@pytest.fixture
def user(tmp_path: Path):
    one = User(tmp_path)
    yield one
    one.end()
