"""What a hub or an agent says while it runs: one line an event, down to the level asked for.

An event is named `category.operation`. Never a token, a key, or an episode's content.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from fedctl.errors import UsageError, from_os
from fedctl.model.time import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fedctl.clock import Clock

LEVELS = ("silent", "basic", "detailed", "verbose", "trace")


class LogOptions(NamedTuple):
    """What is said, in which form, and where: the `--debug-*` flags.

    `format` is human, json or compact; `output` console (stderr), file or both. `categories` and `agents` let only
    those events through; an event that is about no agent passes the filter on agents.
    """

    level: str = "basic"
    format: str = "human"
    output: str = "console"
    file: Path | None = None
    categories: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


class Log:
    """Writes events. Any thread may use it: a line is one write."""

    def __init__(self, options: LogOptions, clock: Clock, write: Callable[[str], None] | None = None) -> None:
        """Open the file, if there is one; `write` takes the lines in place of stderr and file.

        Raises:
            UsageError: A file is wanted and none is named.
            FedctlError: The file cannot be written.
        """
        self._options = options
        self._rank = LEVELS.index(options.level)
        self._clock = clock
        self._writers: list[Callable[[str], None]] = []
        if write is not None:
            self._writers.append(write)
        elif self._rank:
            if options.output != "console" and options.file is None:
                raise UsageError("the log goes to a file, but no file is named", hint="name it with --debug-file FILE")
            if options.output != "file":
                self._writers.append(_to_stderr)
            if options.output != "console" and options.file is not None:
                self._writers.append(_to_file(options.file))
        self._form = {"human": _human, "json": _json, "compact": _compact}[options.format]

    def basic(self, what: str, **fields: Any) -> None:
        """Start, stop, agents coming and going, errors."""
        self._say(1, what, fields)

    def detailed(self, what: str, **fields: Any) -> None:
        """Figures, sessions."""
        self._say(2, what, fields)

    def verbose(self, what: str, **fields: Any) -> None:
        """Each request."""
        self._say(3, what, fields)

    def _say(self, rank: int, what: str, fields: dict[str, Any]) -> None:
        if rank > self._rank:
            return
        category = what.partition(".")[0]
        if self._options.categories and category not in self._options.categories:
            return
        if self._options.agents and fields.get("agent") is not None and fields["agent"] not in self._options.agents:
            return
        line = self._form(
            to_rfc3339(self._clock.now_ms()), LEVELS[rank], what, {k: v for k, v in fields.items() if v is not None}
        )
        for write in self._writers:
            write(line)


def _human(at: str, _level: str, what: str, fields: dict[str, Any]) -> str:
    return " ".join([at, what, *(f"{name}={_shown(value)}" for name, value in fields.items())])


def _compact(at: str, _level: str, what: str, fields: dict[str, Any]) -> str:
    return " ".join([at[11:23], what, *(_shown(value) for value in fields.values())])


def _json(at: str, level: str, what: str, fields: dict[str, Any]) -> str:
    import msgspec  # noqa: PLC0415  only this form needs it

    category, _, operation = what.partition(".")
    own = ("tenant", "agent", "duration_ms", "error")
    return msgspec.json.encode(
        {
            "timestamp": at,
            "level": level,
            "category": category,
            "operation": operation,
            "tenant_id": fields.get("tenant"),
            "agent_id": fields.get("agent"),
            "duration_ms": fields.get("duration_ms"),
            "data": {k: v for k, v in fields.items() if k not in own},
            "error": fields.get("error"),
            "metadata": {"pid": os.getpid()},
        },
        enc_hook=str,
    ).decode()


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    text = str(value)
    # Control characters of what others sent must not reach a terminal; a value with spaces is quoted.
    return text if text.isprintable() and text and " " not in text else repr(text)


def _to_stderr(line: str) -> None:
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # a stderr that is gone stops nobody; ValueError: closed
        return


def _to_file(path: Path) -> Callable[[str], None]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os(error, f"the log file {path} cannot be written") from error

    def write(line: str) -> None:
        try:
            os.write(descriptor, (line + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:  # a full disk must not stop a hub; whoever looks at stderr should know
            _to_stderr(f"the log file {path} cannot be written: {error.strerror}")

    return write
