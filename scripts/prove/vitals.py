"""What a process takes, sampled while others do things to it: memory, descriptors, threads. A module; Linux's /proc."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """One look."""

    at_s: float
    rss_mb: float
    descriptors: int
    sockets: int
    """Which of the descriptors are: connections come and go as peers please."""
    threads: int
    wal_mb: float

    @property
    def files(self) -> int:
        """The descriptors that are no connections."""
        return self.descriptors - self.sockets


def look(pid: int, home: Path | None = None) -> Sample:
    """Return what a process takes now, and how large the log file of its home is."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    targets = _targets(Path(f"/proc/{pid}/fd"))
    wal = 0 if home is None else sum(one.stat().st_size for one in home.glob("*-wal"))
    return Sample(
        at_s=time.monotonic(),
        rss_mb=int(fields["VmRSS"].split()[0]) / 1024,
        descriptors=len(targets),
        sockets=sum(1 for one in targets if one.startswith("socket:")),
        threads=int(fields["Threads"]),
        wal_mb=wal / (1 << 20),
    )


def _targets(folder: Path) -> list[str]:
    """Return what each descriptor stands for; one that was closed between two looks is none."""
    targets = []
    for one in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(one.readlink()))
    return targets


class Watch(threading.Thread):
    """Looks every so often until it is stopped, or the process is gone."""

    def __init__(self, pid: int, *, every_s: float = 0.1, home: Path | None = None) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._pid = pid
        self._home = home
        self._every_s = every_s
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look."""
        while not self._stopped.wait(self._every_s):
            try:
                self.samples.append(look(self._pid, self._home))
            except OSError:
                return

    def since(self, at_s: float) -> list[Sample]:
        """Return the samples from then on."""
        return [one for one in self.samples if one.at_s >= at_s]

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self.join()


def slope_per_hour(points: list[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through (seconds, value), per hour."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 0.0 if not spread else 3600 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
