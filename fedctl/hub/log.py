"""What a hub says while it runs: one line an event, to stderr, down to the level asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fedctl.model.time import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.clock import Clock

LEVELS = ("silent", "basic", "detailed", "verbose", "trace")


def to_stderr(line: str) -> None:
    """Write one line; a stderr that is gone does not stop a hub."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # ValueError: closed
        pass


class Log:
    """Lines of `time what key=value ...`. Never a token, a key, or an episode's content."""

    def __init__(self, level: str, clock: Clock, write: Callable[[str], None] = to_stderr) -> None:
        """Write what is at `level` or below it."""
        self._rank = LEVELS.index(level)
        self._clock = clock
        self._write = write

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
        if rank <= self._rank:
            parts = [to_rfc3339(self._clock.now_ms()), what]
            parts += [f"{name}={_shown(value)}" for name, value in fields.items() if value is not None]
            self._write(" ".join(parts))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    text = str(value)
    # Control characters of what others sent must not reach a terminal; a value with spaces is quoted.
    return text if text.isprintable() and text and " " not in text else repr(text)
