"""Requests that would rather wait than be told of nothing: their answer is held until there is one. Event loop only."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from fedctl.messages.hub import ListEvents
from fedctl.messages.pool import ClaimItems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedctl.errors import FedctlError
    from fedctl.hub.jobs import Job
    from fedctl.hub.peer import Peer
    from fedctl.model.hub import Event

_BRINGS_ITEMS = frozenset({"items_pushed", "items_released"})
_ENDS_ITEMS = frozenset({"items_done", "items_poisoned", "items_purged"})
_LEAVING = frozenset({"terminating", "terminated"})
RECHECK_S = 5.0
"""Whoever waits is asked again so often, whatever was heard: nothing hangs on an event that came too early."""
_ANY = ""
"""In the place of a pool's name (which is never empty): whoever waits for the end of something."""


class _Held:
    """A request whose answer is held."""

    __slots__ = ("job", "peer", "place", "timer", "tried")

    def __init__(self, peer: Peer, job: Job, place: tuple[str, str]) -> None:
        self.peer = peer
        self.job = job
        self.place = place
        self.tried = 0
        self.timer: asyncio.TimerHandle | None = None


class _Line:
    """Who waits for the same, first come first served; `news` counts what has happened there."""

    def __init__(self) -> None:
        self.held: deque[_Held] = deque()
        self.asking = 0
        self.news = 0


class Waiting:
    """Holds answers and asks again: when something was pushed, when something falls due, when time is up.

    As many are asked again as items came in; one that finds nothing for itself passes its turn on. So an item wakes
    the workers one after the other until somebody takes it, and not all of them at once.
    """

    def __init__(self, *, again: Callable[[Job], None], now_s: Callable[[], float]) -> None:
        """Begin with nobody; `again` hands a job to its thread once more."""
        self._again = again
        self._now_s = now_s
        self._lines: dict[tuple[str, str], _Line] = {}
        self._asking: dict[Job, _Held] = {}
        self._listening: dict[tuple[str, str], ListEvents] = {}
        self._closed = False

    def expect(self, peer: Peer, job: Job) -> None:
        """Note a job that was handed over and would rather wait: what happens before its answer is here counts."""
        if not getattr(job.request, "wait_ms", 0):
            return
        held = self._asking[job] = _Held(peer, job, (job.who.tenant_id, self._line_of(job)))
        if isinstance(job.request, ListEvents):
            self._listening[held.place] = job.request
        line = self._lines.setdefault(held.place, _Line())
        line.asking += 1
        held.tried = line.news

    @staticmethod
    def _line_of(job: Job) -> str:
        if isinstance(job.request, ListEvents):
            return f"*{id(job)}"  # nobody else waits for the same; no pool has such a name
        return job.request.pool if isinstance(job.request, ClaimItems) else _ANY

    def hold(self, peer: Peer, job: Job) -> bool:
        """Take over a job whose answer is that there is nothing yet; False when it is to be answered as it is."""
        held = self._asking.pop(job, None)
        if held is None:
            return False
        line = self._lines[held.place]
        line.asking -= 1
        missed = job.error is not None or job.answer.unmet
        kept = missed and job.error is None and not peer.gone and not self._closed and self._keep(held, line)
        if missed and line.held and line.held[0].tried < line.news:  # whoever got nothing passes the turn on
            self._ask_again(line.held[0])
        self._tidy(held.place)
        return kept

    def _keep(self, held: _Held, line: _Line) -> bool:
        left_s = held.job.began_s + held.job.request.wait_ms / 1000 - self._now_s()  # type: ignore[attr-defined]
        if left_s <= 0:
            return False
        line.held.append(held)
        due_ms = getattr(held.job.answer, "next_ms", None)
        if due_ms is not None:
            left_s = min(left_s, due_ms / 1000 + 0.001)
        held.timer = asyncio.get_running_loop().call_later(min(left_s, RECHECK_S), self._ask_again, held)
        return True

    def happened(self, events: Sequence[Event]) -> None:
        """Ask again those whom these events concern."""
        for place, request in list(self._listening.items()):
            if any(
                (request.all_tenants or one.tenant_id == place[0]) and (not request.kinds or one.kind in request.kinds)
                for one in events
            ):
                self._tell(place)
        for event in events:
            if event.kind in _BRINGS_ITEMS:
                self._tell((event.tenant_id, event.subject), len(event.detail.get("ids", ())))
            elif event.kind == "pool_resumed":
                self._tell((event.tenant_id, event.subject))
            elif event.kind in _ENDS_ITEMS:
                self._tell((event.tenant_id, _ANY))
            elif event.kind == "worker_status" and event.detail.get("status") in _LEAVING:
                self._tell_worker(event.tenant_id, event.subject)

    def _tell(self, place: tuple[str, str], count: int | None = None) -> None:
        line = self._lines.get(place)
        if line is None:
            return
        line.news += 1
        for _ in range(len(line.held) if count is None else min(count, len(line.held))):
            self._ask_again(line.held[0])

    def _tell_worker(self, tenant_id: str, worker_id: str) -> None:
        """Ask again for a worker that is leaving: it is refused, and hears so at once."""
        for (its_tenant, _), line in list(self._lines.items()):
            for held in list(line.held) if its_tenant == tenant_id else ():
                if getattr(held.job.request, "worker_id", None) == worker_id:
                    self._ask_again(held)

    def _ask_again(self, held: _Held) -> None:
        line = self._lines[held.place]
        self._leave(held)
        held.tried = line.news
        line.asking += 1
        self._asking[held.job] = held
        held.job.answer = None
        held.job.asked_s = self._now_s()
        self._again(held.job)

    def _leave(self, held: _Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
        self._lines[held.place].held.remove(held)

    def _tidy(self, place: tuple[str, str]) -> None:
        line = self._lines[place]
        if not line.held and not line.asking:
            del self._lines[place]
            self._listening.pop(place, None)

    def left(self, peer: Peer) -> None:
        """Forget a peer whose connection is gone: nothing is claimed for it any more."""
        for line in list(self._lines.values()):
            for held in [one for one in line.held if one.peer is peer]:
                self._leave(held)
                self._tidy(held.place)

    def close(self, error: FedctlError) -> None:
        """Tell everybody who waits that there will be nothing; nobody is held any more."""
        self._closed = True
        for line in list(self._lines.values()):
            for held in list(line.held):
                self._leave(held)
                self._tidy(held.place)
                held.job.answer, held.job.error = None, error
                held.job.done(held.job)
