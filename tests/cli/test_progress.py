"""The bar on stderr: for a person, above it what is said meanwhile, and gone at the end."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fedctl.cli.command import Session
from fedctl.cli.main import run
from fedctl.cli.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

ERASED = "\x1b[2K"


class Watched(io.BytesIO):
    """A terminal that says when a text has appeared on it."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self._text = text
        self.appeared = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        written = super().write(content)
        if self._text in self.getvalue():
            self.appeared.set()
        return written


class Slow:
    """Somebody who takes until the bar has appeared, and then fails or is interrupted."""

    def __init__(self, appeared: threading.Event, ends_with: BaseException) -> None:
        self._appeared, self._ends_with = appeared, ends_with

    def call(self, request: object, *, tenant_id: str | None = None) -> Any:
        assert self._appeared.wait(30)
        raise self._ends_with

    def close(self) -> None:
        return


@pytest.mark.parametrize(("ends_with", "code", "said"), [(KeyboardInterrupt(), 130, ""), (OSError("no"), 1, "error: ")])
def test_a_bar_appears_for_what_takes_long_and_its_line_is_clean_afterwards(tmp_path: Path, ends_with, code, said):
    stderr = Watched(b"pruning")
    environ = {"FEDCTL_HOME": str(tmp_path), "TERM": "xterm"}
    ended = run(
        ["retention", "prune"], stdin=None, stdout=io.BytesIO(), stderr=stderr, environ=environ,
        open_caller=lambda *_a, **_k: Slow(stderr.appeared, ends_with),
    )  # fmt: skip
    assert ended == code
    after = stderr.getvalue().decode().rpartition(ERASED)[2]
    assert "pruning" not in after
    assert after.startswith(said)
    assert not stderr.closed


def invocation(home: Path, stderr: io.BytesIO, flags: dict[str, Any], environ: dict[str, str]) -> Any:
    environ = {"FEDCTL_HOME": str(home), "TERM": "xterm", **environ}
    session = Session(stdin=None, stdout=io.BytesIO(), stderr=stderr, environ=environ)
    session.flags.update(flags)
    return SimpleNamespace(session=session, settings=session.settings)


def test_what_is_said_meanwhile_stands_above_the_bar(tmp_path):
    stderr = Watched(b" 40%")
    ctx = invocation(tmp_path, stderr, {}, {})
    with Progress(ctx, "importing") as bar:
        bar.update(4, 10)
        assert stderr.appeared.wait(30)
        ctx.session.say("line 7: [red]no task")
    assert f"\r{ERASED}line 7: [red]no task\n" in stderr.getvalue().decode()  # the bar's line was cleared for it
    ctx.session.say("and goes on")
    assert stderr.getvalue().endswith(b"and goes on\n")


@pytest.mark.parametrize(
    ("flags", "environ", "shown"),
    [({}, {}, True), ({"quiet": True}, {}, False), ({}, {"TERM": "dumb"}, False), ({}, {"NO_COLOR": "1"}, False)],
)
def test_there_is_a_bar_only_for_who_wants_one(tmp_path, flags, environ, shown):
    assert Progress(invocation(tmp_path, Watched(b""), flags, environ), "importing").shown is shown
    assert not Progress(invocation(tmp_path, io.BytesIO(), flags, environ), "importing").shown
