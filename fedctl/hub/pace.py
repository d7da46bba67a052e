"""How far a tenant may be ahead: whoever sends faster than it is answered is not read from meanwhile. Event loop only.

Reading and decoding is work too, and the event loop does it for all: unread, a flood waits in its senders' own memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING

from fedctl.hub.turns import work_of

if TYPE_CHECKING:
    from fedctl.hub.jobs import Job

AHEAD_BYTES = 1 << 20
"""Work (see `turns`) that a tenant may have under way before it is read from no more: two full groups."""


class Pace:
    """Counts each tenant's requests that are not answered, and lets its sessions go on one by one as they are."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._ahead: Counter[str] = Counter()
        self._held: dict[str, deque[asyncio.Future[None]]] = {}

    def took(self, job: Job) -> None:
        """Note a request that is under way."""
        self._ahead[job.who.tenant_id] += work_of(job)

    def gave(self, job: Job) -> None:
        """Note that it is answered."""
        tenant_id = job.who.tenant_id
        self._ahead[tenant_id] -= work_of(job)
        if not self._ahead[tenant_id]:
            del self._ahead[tenant_id]
        if tenant_id in self._held:
            self._let_one_go_on(tenant_id)

    def held(self, tenant_id: str) -> asyncio.Future[None] | None:
        """Return what to wait for before the next frame of this tenant; None: go on."""
        if self._ahead[tenant_id] < AHEAD_BYTES and tenant_id not in self._held:
            return None
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.setdefault(tenant_id, deque()).append(waiting)
        return waiting

    def _let_one_go_on(self, tenant_id: str) -> None:
        line = self._held.get(tenant_id)
        if line is None or self._ahead[tenant_id] >= AHEAD_BYTES:
            return
        while line:
            waiting = line.popleft()
            if not waiting.done():
                waiting.set_result(None)
                break
        if line:
            # After it, for it may have brought enough; it may as well have nothing to bring.
            asyncio.get_running_loop().call_soon(self._let_one_go_on, tenant_id)
        else:
            del self._held[tenant_id]
