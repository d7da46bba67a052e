"""Who was not let in, and what made no sense: each is counted, and said in lines that no flood makes many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.hub.stats import Figures
    from fedctl.log import Log

HUNG_UP = "hung_up"
"""The reason that is none: a peer left before it had said anything whole, as those do who only look whether we live."""
BURST = 20
"""So many refusals of a kind are told in full..."""
EVERY_S = 10.0
"""...and then, so often, how many more there were and what the last of them was. In the worst case, bursts with pauses
between them, that is a line a second."""

ERROR_MAX_CHARACTERS = 300
"""What makes no sense is quoted by some errors, and may be as long as a frame."""


class Refusals:
    """On the event loop only."""

    def __init__(self, log: Log, figures: Figures, later: Callable[[float, Callable[[], None]], object]) -> None:
        """Begin with none. `later` calls a function after so many seconds, as an event loop's `call_later`."""
        self._log = log
        self._figures = figures
        self._later = later
        self._told: dict[str, int] = {}
        self._more: dict[str, tuple[int, dict[str, Any]]] = {}
        self._waiting = False

    def note(self, reason: str, **fields: Any) -> None:
        """Count a refusal, and tell of it. `reason` is one of a few words: it becomes a label of the figures."""
        self._figures.refused(reason)
        if "error" in fields:
            text = str(fields["error"])
            fields["error"] = text if len(text) <= ERROR_MAX_CHARACTERS else text[:ERROR_MAX_CHARACTERS] + "..."
        told = self._told.get(reason, 0)
        if told < BURST:
            self._told[reason] = told + 1
            self._tell(reason, fields)
        else:
            self._more[reason] = (self._more.get(reason, (0, {}))[0] + 1, fields)
        if not self._waiting:
            self._waiting = True
            self._later(EVERY_S, self._round)

    def _round(self) -> None:
        """Tell what was not told; whoever was quiet for a round is told of in full again."""
        self._waiting = False
        flooding = self._more.keys()
        self._told = dict.fromkeys(flooding, BURST)
        self.flush()
        if self._told:
            self._waiting = True
            self._later(EVERY_S, self._round)

    def flush(self) -> None:
        """Tell now what was not told."""
        for reason, (count, fields) in self._more.items():
            # The last one stands for all.
            self._tell(reason, {"more": f"and {count:,} more", "count": count, **fields})
        self._more = {}

    def _tell(self, reason: str, fields: dict[str, Any]) -> None:
        say = self._log.detailed if reason == HUNG_UP else self._log.basic
        say("session.refused", reason=reason, **fields)
