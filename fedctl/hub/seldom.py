"""Answers that are dear to find, remembered for as long as finding them took a hundred times."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.clock import Clock

T = TypeVar("T")
SHARE = 100
"""One part in so many of the time may go into asking anew, whoever asks and however often."""
DEAR_S = 0.005
"""What is found sooner than that is not dear, and asked each time."""


class Seldom:
    """Safe to use from any thread. One asks anew; who comes meanwhile waits for that."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing remembered."""
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Any]] = {}

    def ask(self, name: str, question: Callable[[], T]) -> T:
        """Return what `question` returns, or returned a short while ago."""
        with self._lock:
            began_s = self._clock.monotonic_s()
            known = self._known.get(name)
            if known is not None and began_s < known[0]:
                answer: T = known[1]
                return answer
            answer = question()
            ended_s = self._clock.monotonic_s()
            took_s = ended_s - began_s
            self._known[name] = (ended_s + (SHARE * took_s if took_s > DEAR_S else 0.0), answer)
            return answer
