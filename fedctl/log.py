"""The debug stream: what a hub, an agent or a command says while it runs, one line an event.

An event is named `category.operation`; which categories there are is `CATEGORIES`. Never a token, a key, or an
episode's or an item's content.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from fedctl.clock import Clock
from fedctl.errors import UsageError, from_os
from fedctl.model.log import LEVELS
from fedctl.model.time import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
"""What a token looks like: no field of ours holds one, but a peer may send its token in the place of a name."""


class LogOptions(NamedTuple):
    """What is said, in which form, and where: the flags `--debug-*`.

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
    """Writes events. Any thread may use it: a line is one write.

    `says_detailed`, `says_verbose` and `says_trace` are for who would have to make something up before it can be said.
    """

    def __init__(self, options: LogOptions, clock: Clock, console: Callable[[str], None] | None = None) -> None:
        """Open the file, if there is one; `console` takes the lines in place of stderr.

        Raises:
            UsageError: A file is wanted and none is named, or no file can be where it is to be.
            Denied, FedctlError: The file cannot be written.
        """
        self._options = options
        self._rank = LEVELS.index(options.level)
        self.says_detailed, self.says_verbose, self.says_trace = (self._rank >= rank for rank in (2, 3, 4))
        self._clock = clock
        self._writers: list[Callable[[str], None]] = []
        if self._rank:
            if options.output != "console" and options.file is None:
                raise UsageError("the log goes to a file, but no file is named", hint="name it with --debug-file FILE")
            if options.output != "file":
                self._writers.append(console or _to_stderr)
            if options.output != "console" and options.file is not None:
                self._writers.append(_to_file(options.file))
        self._form = {"human": _human, "json": _json, "compact": _compact}[options.format]

    @classmethod
    def silent(cls) -> Log:
        """Return a log that says nothing."""
        return cls(LogOptions("silent"), Clock())

    def basic(self, what: str, **fields: Any) -> None:
        """Begin and end, agents coming and going, refusals, errors."""
        self._say(1, what, fields)

    def detailed(self, what: str, **fields: Any) -> None:
        """Each operation with its `duration_ms`, sessions, figures."""
        self._say(2, what, fields)

    def verbose(self, what: str, **fields: Any) -> None:
        """What happens by itself: events as they are committed, commits, embedding, upkeep, syncs."""
        self._say(3, what, fields)

    def trace(self, what: str, **fields: Any) -> None:
        """Each change of a state: of sessions, agents, workers, items, links."""
        self._say(4, what, fields)

    def _say(self, rank: int, what: str, fields: dict[str, Any]) -> None:
        if rank > self._rank:
            return
        category = what.partition(".")[0]
        if self._options.categories and category not in self._options.categories:
            return
        if self._options.agents and fields.get("agent") is not None and fields["agent"] not in self._options.agents:
            return
        said = {name: _clean(value) for name, value in fields.items() if value is not None}
        line = self._form(to_rfc3339(self._clock.now_ms()), LEVELS[rank], what, said)
        for write in self._writers:
            write(line)


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return _TOKEN.sub("[token]", value) if isinstance(value, str) and "eyJ" in value else value


def _human(at: str, _level: str, what: str, fields: dict[str, Any]) -> str:
    return " ".join([at, what, *(f"{name}={_shown(value)}" for name, value in fields.items())])


def _compact(at: str, _level: str, what: str, fields: dict[str, Any]) -> str:
    return " ".join([at[11:23], what, *(_shown(value) for value in fields.values())])


def _json(at: str, level: str, what: str, fields: dict[str, Any]) -> str:
    import json  # noqa: PLC0415  only this form needs it

    category, _, operation = what.partition(".")
    document = {
        "timestamp": at,
        "level": level,
        "category": category,
        "operation": operation,
        "tenant_id": fields.pop("tenant", None),
        "agent_id": fields.pop("agent", None),
        "duration_ms": fields.pop("duration_ms", None),
        "error": fields.pop("error", None),
        "data": fields,
        "metadata": {"pid": os.getpid()},
    }
    # In ASCII: neither half a character of a file's name nor what a terminal acts upon gets through.
    return json.dumps(document, default=str, separators=(",", ":"))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
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
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
            raise UsageError(f"there can be no log file {path}: {error.strerror}", hint="check --debug-file") from error
        raise from_os(error, f"the log file {path} cannot be written") from error
    failing = False

    def write(line: str) -> None:
        nonlocal failing
        try:
            os.write(descriptor, (line + "\n").encode("utf-8", "backslashreplace"))
            failing = False
        except OSError as error:  # a full disk must not stop a hub; whoever looks at stderr should know, once
            if not failing:
                _to_stderr(f"the log file {path} cannot be written: {error.strerror}")
            failing = True

    return write
