"""`fedctl`, whose wall clock may jump: by libfaketime, or by as many seconds as the file PROVE_WALL says.

With libfaketime everything that asks the system for a time gets the other one, at a price; with the file only Python.
The monotonic clock is left alone: there Python's own sleep fails under libfaketime, and is replaced.
"""

from __future__ import annotations

import os
import runpy
import select
import time
from pathlib import Path

FILE = "PROVE_WALL"
LOOK_EVERY_NS = 50_000_000


def _sleep(seconds: float) -> None:
    """Wait. `time.sleep` asks for a deadline on the monotonic clock, which libfaketime 0.9.10 refuses (EINVAL)."""
    select.select([], [], [], seconds)


class _Wall:
    """The right time, and as many seconds more as the file says."""

    def __init__(self, file: Path) -> None:
        self._file, self._right_ns = file, time.time_ns
        self._ahead_ns = self._looked_ns = 0

    def time_ns(self) -> int:
        """Return it."""
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns > LOOK_EVERY_NS:
            self._ahead_ns, self._looked_ns = int(self._file.read_text()) * 1_000_000_000, now_ns
        return self._right_ns() + self._ahead_ns


time.sleep = _sleep
if FILE in os.environ:
    time.time_ns = _Wall(Path(os.environ[FILE])).time_ns

if __name__ == "__main__":
    runpy.run_module("fedctl", run_name="__main__")
