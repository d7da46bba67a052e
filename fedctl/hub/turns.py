"""Whose turn it is: requests that wait for a thread, by tenant, so that one tenant's flood is not another's delay."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.hub.jobs import Job

TURN_BYTES = 8 << 10
"""How much work a tenant has done in one turn, counted in bytes of requests: some 1 ms."""
REQUEST_BYTES = 512
"""What a request costs beside its content, in the same coin."""
NEIGHBOUR_S = 60.0
"""How long a tenant counts as a neighbour after it last asked; a connected agent reports more often."""


def work_of(job: Job) -> int:
    """Return what carrying out a job is taken to cost, in bytes."""
    return job.size_bytes + REQUEST_BYTES


class _Line:
    """What one tenant waits for, and the work it may still have done before the next one's turn."""

    __slots__ = ("credit", "jobs")

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.credit = TURN_BYTES


class Turns:
    """Jobs in lines, one a tenant; a tenant's own stay in order. Not locked: its owner does that.

    Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): tenants that wait at the same time have the same work
    done, whether in many small requests or in few large ones.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Begin empty; `now_s` is a monotonic clock."""
        self._now_s = now_s
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._latest = ""
        self._latest_s = self._neighbour_s = float("-inf")

    def __bool__(self) -> bool:
        """Whether any job waits."""
        return bool(self._lines)

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return sum(len(line.jobs) for line in self._lines.values())

    def add(self, job: Job) -> None:
        """Put a job at the end of its tenant's line."""
        tenant_id = job.who.tenant_id
        if tenant_id != self._latest:
            self._latest, self._neighbour_s = tenant_id, self._latest_s
        self._latest_s = self._now_s()
        line = self._lines.get(tenant_id)
        if line is None:
            line = self._lines[tenant_id] = _Line()
        line.jobs.append(job)

    @property
    def shared(self) -> bool:
        """Whether more than one tenant has asked of late: groups are to be small then, nobody waits for long."""
        return self._latest_s - self._neighbour_s < NEIGHBOUR_S

    def group(self, most_jobs: int, most_bytes: int) -> list[Job]:
        """Take the next jobs in turn: so many and so much work at most, but one if any waits."""
        taken: list[Job] = []
        work = 0
        while self._lines and len(taken) < most_jobs:
            tenant_id, line = next(iter(self._lines.items()))
            cost = work_of(line.jobs[0])
            if taken and work + cost > most_bytes:
                break
            if cost > line.credit and len(self._lines) > 1:
                line.credit += TURN_BYTES
                self._lines.move_to_end(tenant_id)
                continue
            line.credit = max(0, line.credit - cost)
            work += cost
            taken.append(self._take(tenant_id, line))
        return taken

    def one(self, may: Callable[[str], bool]) -> Job | None:
        """Take one job of the first tenant that may have one, and send that tenant to the end."""
        tenant_id = next(filter(may, self._lines), None)
        if tenant_id is None:
            return None
        self._lines.move_to_end(tenant_id)
        return self._take(tenant_id, self._lines[tenant_id])

    def _take(self, tenant_id: str, line: _Line) -> Job:
        job = line.jobs.popleft()
        if not line.jobs:
            del self._lines[tenant_id]
        return job
