"""A command line to type at: whole runs in this process, with streams and an environment of their own."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from fedctl.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path


class Terminal(io.BytesIO):
    """A stream with a person at the other end."""

    def isatty(self) -> bool:
        return True


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.err)["error"]


class CommandLine:
    """Types commands at one home. `terminal` puts a person before stdout, stderr and stdin."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"FEDCTL_HOME": str(home)}

    def __call__(
        self,
        *argv: str,
        stdin: bytes = b"",
        terminal: bool = False,
        environ: dict[str, str] | None = None,
        open_caller: Any = None,
    ) -> Result:
        kind = Terminal if terminal else io.BytesIO
        out, err = kind(), kind()
        code = run(
            argv,
            stdin=kind(stdin),
            stdout=out,
            stderr=err,
            environ={**self.environ, **(environ or {})},
            open_caller=open_caller,
        )
        return Result(code, out.getvalue().decode(), err.getvalue().decode())

    def store(self, task: str, *flags: str) -> str:
        """Store an episode and return its id."""
        result = self("memory", "store", "--task", task, "--ids", *flags)
        assert result.code == 0, result.err
        return result.out.strip()


@pytest.fixture
def fedctl(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")
