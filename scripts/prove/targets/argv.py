"""Command lines: any command with any flags and hostile values, stdin closed. A target of `fuzz`.

Never a traceback, always a documented exit code, JSON where JSON was asked for. It never hangs: what is meant to stay
or to wait (`hub start`, `--follow`, a sleep) is cut off where it would. The bytes choose words; no word is a path that
leads out of the folder in which all of it happens.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import fedctl.bootstrap
import fedctl.demo.run
import fedctl.recall.embedder
import fedctl.work.loop
from fedctl.cli.command import Group, Root
from fedctl.cli.main import COMMANDS
from fedctl.clock import Clock

from .typist import FakeModel, Waited, scratch, typed, waits

ABOUT = "command lines"
INCLUDE = ("fedctl.cli", "fedctl.config")
WORDS: tuple[bytes, ...] = ()
FOLDER = scratch()
WORDS_MAX = 12
HOSTILE = (
    "", " ", "-", "--", "-x", "@", "@@", "@missing", "@episodes.jsonl", "@notes", "..", "a/../b", "%s%n", "'; drop",
    "\x1b[31m", "\udcff", "é", "日本", "\u202e", "x" * 5000, "0", "-1", "1", "2", "1.5", "nan", "inf",
    "1e999", "9" * 40, "1h", "250ms", "P1Y", "now", "2026-01-01", "-7d", "null", "{}", "[", '{"a":1}', '{"task":"t"}',
    "[" * 3000, "a=b", "a=", "=b", "a.b>=1", "help", "latest", "none", "auto", "off", "ws:", "unix:x.sock", "20%", "p",
    "default", "e1", "e2", "i1", "w", "lease", "episodes.jsonl", "notes", "json", "csv", "select * from episode",
)  # fmt: skip
_HARMLESS = str.maketrans("/~\0", "___")
_INPUTS = ("", "--json", "--jsonl", "--ids", "--quiet", "--format", "--fields", "-n", "-y", "--verbose")


def _tree() -> list[tuple[list[str], list[Any]]]:
    """Return each command's words, with its parameters."""
    root = Root(COMMANDS)
    context = root.make_context("fedctl", ["status"], resilient_parsing=True)
    found: list[tuple[list[str], list[Any]]] = [([], root.get_params(context))]
    for name in COMMANDS:
        command = root.get_command(context, name)
        below = command.list_commands(context) if isinstance(command, Group) else [None]
        for verb in below:
            one = command if verb is None else command.get_command(context, verb)
            found.append(([name] if verb is None else [name, verb], one.get_params(context)))
    return found


def _cut_off() -> ExitStack:
    """Cut off, for a `with`, what stays and what waits; and have a model that costs nothing."""
    stack = ExitStack()
    for name in ("run_hub", "run_agent", "stop_hub"):
        stack.enter_context(patch.object(fedctl.bootstrap, name, waits))
    stack.enter_context(patch.object(fedctl.demo.run, "run_demo", waits))
    stack.enter_context(patch.object(fedctl.work.loop.WorkLoop, "run", waits))
    stack.enter_context(patch.object(Clock, "sleep_s", waits))
    stack.enter_context(patch.object(time, "sleep", waits))
    stack.enter_context(patch.object(fedctl.recall.embedder, "Embedder", FakeModel))
    return stack


def _prepare() -> None:
    """Make the home that every command line begins with."""
    begin = FOLDER / "begin"
    begin.mkdir()
    lines = b'{"id":"e1","task":"one","output":"first","reward":0.5}\n{"id":"e2","task":"two","metadata":{"a":1}}\n'
    (begin / "episodes.jsonl").write_bytes(lines)
    (begin / "notes").write_bytes(b"some words\n")
    environ = _environ(begin)
    typed(["memory", "store", "--batch"], environ, lines)
    typed(["pool", "push", "p", "--batch"], environ, b'{"id":"i1","data":1}\n{"data":2}\n')
    typed(["worker", "register", "w"], environ, None)


def _environ(folder: Any, form: str | None = None) -> dict[str, str]:
    said = {} if form is None else {"FEDCTL_FORMAT": form}
    return {"FEDCTL_HOME": str(folder / "home"), "DEBUG_LEVEL": "silent", "HOME": str(folder), **said}


class _Dice:
    """Choices that bytes make."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def one(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def of(self, some: Any) -> Any:
        return some[(self.one() | (self.one() << 8 if len(some) > 255 else 0)) % len(some)]

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def text(self) -> str:
        """Return a word of the bytes themselves; none that is a way to anywhere, and with no NUL: no argv has any."""
        size = self.one() % 32
        taken = self._data[self._at : self._at + size]
        self._at += size
        return os.fsdecode(taken).translate(_HARMLESS)


def command_line(data: bytes) -> list[str]:
    """Return the words that the bytes stand for."""
    dice = _Dice(data)
    words, parameters = dice.of(TREE)
    argv = list(words)
    named = [one for one in parameters if one.param_type_name == "option"]
    argv += [_value(dice) for one in parameters if one.param_type_name == "argument" and dice.one() % 8]
    while dice.left > 0 and len(argv) < WORDS_MAX:
        what = dice.one() % 8
        if what < 5:
            option = dice.of(named)
            argv.append(dice.of(option.opts))
            if not option.is_flag:
                argv += [_value(dice) for _ in range(option.nargs)]
        elif what == 5:
            argv.append(_value(dice))
        elif what == 6:
            argv.insert(dice.one() % (len(argv) + 1), dice.of(_INPUTS))
        else:
            argv.insert(dice.one() % (len(argv) + 1), _value(dice))
    return argv


def _value(dice: _Dice) -> str:
    choice = dice.one()
    return dice.text() if choice % 4 == 0 else str(dice.of(HOSTILE))


def originals() -> list[bytes]:
    """Return bytes that choose each command, with a few flags."""
    return [bytes([place, 1, 1, place, 0, place % 7, 5, 3, 1, 1 + place % 40, 6, 0, 1]) for place in range(len(TREE))]


def check(data: bytes) -> None:
    """Type the command line in a folder that is as it was at the beginning."""
    if not data:
        return
    argv = command_line(data[1:])
    work = FOLDER / "down" / "and" / "work"
    shutil.rmtree(FOLDER / "down", ignore_errors=True)
    work.parent.mkdir(parents=True)
    shutil.copytree(FOLDER / "begin", work)
    before = os.getcwd()  # noqa: PTH109  text
    os.chdir(work)
    try:
        with _cut_off():
            typed(argv, _environ(work, (None, "json", "jsonl")[data[0] % 3]), None)
    except Waited:
        pass
    except AssertionError as error:
        raise AssertionError(f"{error}\nits command line: {argv!r}") from error
    finally:
        os.chdir(before)


TREE = _tree()
_prepare()
