"""From the change log to those who listen: every commit, this hub's or another process's, is noticed and passed on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import FedctlError
from fedctl.wire.codec import to_json
from fedctl.wire.session import notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.hub.peer import Peer
    from fedctl.log import Log
    from fedctl.messages.hub import Subscribe
    from fedctl.model.hub import Event
    from fedctl.operations.context import Context

POLL_S = 0.25
"""How soon a commit of another process is noticed."""
PAGE = 1000
NOTICE_MAX_BYTES = 512 << 10
"""Where what is sent to one listener at a time is cut into frames."""
PACE_S = 0.02
"""How long commits gather before the log is read for those who listen: at 500 a second a reading each would cost
more than the commits."""


class Feed:
    """A thread that reads the change log as it grows.

    It is woken after each commit of this hub; others' commits show in `PRAGMA data_version`, which costs 5 µs.
    """

    def __init__(self, context: Context, deliver: Callable[[list[Event]], None], log: Log) -> None:
        """Start the thread, from the log's present end; `context` is its alone from now on, and closed by it."""
        self._context = context
        self._deliver = deliver
        self._log = log
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._seq = context.store.changes.last_seq()
        self._version = context.store.data_version()
        self._thread = threading.Thread(target=self._run, name="hub-feed", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Note that this hub has committed."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._wake.wait(POLL_S):
                self._stopping.wait(PACE_S)
            self._wake.clear()
            try:
                self._read()
            except FedctlError as error:
                self._log.basic("error.events", error=error.message)
        self._context.close()

    def _read(self) -> None:
        version = self._context.store.data_version()
        if version == self._version:
            return
        self._version = version
        while events := self._context.store.changes.after(self._seq, PAGE):
            self._seq = events[-1].seq
            self._deliver(events)


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What one session wants to hear. `tenant_id` None: of all tenants."""

    tenant_id: str | None
    kinds: frozenset[str]
    after_seq: int
    agent_id: str | None

    @classmethod
    def of(cls, request: Subscribe, *, tenant_id: str, agent_id: str | None, after_seq: int) -> Subscription:
        """Return what a request asks for."""
        return cls(
            tenant_id=None if request.all_tenants else tenant_id,
            kinds=frozenset(request.kinds),
            after_seq=after_seq,
            agent_id=agent_id,
        )

    def wants(self, event: Event) -> bool:
        """Return whether an event is for this session: nobody is told of its own doing."""
        if event.seq <= self.after_seq or (self.kinds and event.kind not in self.kinds):
            return False
        if self.tenant_id is not None and self.tenant_id != event.tenant_id:
            return False
        if self.agent_id is None:
            return True
        if event.kind.startswith("agent_"):
            return event.subject != self.agent_id
        return event.detail.get("agent_id") != self.agent_id


class Subscribers:
    """Who listens to which tenant. On the event loop only."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._by_tenant: dict[str | None, set[Peer]] = {}

    def add(self, peer: Peer, subscription: Subscription) -> None:
        """Note what a session wants; it takes the place of what it wanted before."""
        self.remove(peer)
        peer.subscription = subscription
        self._by_tenant.setdefault(subscription.tenant_id, set()).add(peer)

    def remove(self, peer: Peer) -> None:
        """Forget a session."""
        if peer.subscription is not None:
            peers = self._by_tenant[peer.subscription.tenant_id]
            peers.discard(peer)
            if not peers:
                del self._by_tenant[peer.subscription.tenant_id]
            peer.subscription = None

    def publish(self, events: list[Event]) -> None:
        """Send each session what it wants of these, in as few frames as may be. Each event is encoded once."""
        encoded: dict[int, bytes] = {}
        for tenant_id in {*(event.tenant_id for event in events), None} & self._by_tenant.keys():
            for peer in tuple(self._by_tenant[tenant_id]):
                subscription = peer.subscription
                if subscription is None:
                    continue
                wanted = []
                for event in filter(subscription.wants, events):
                    if event.seq not in encoded:
                        encoded[event.seq] = to_json(event)
                    wanted.append(encoded[event.seq])
                for part in _parted(wanted):
                    peer.notify(notice(part))


def _parted(encoded: list[bytes]) -> Iterator[list[bytes]]:
    """Cut encoded events into parts that fit into a frame each; one event always does."""
    part: list[bytes] = []
    size = 0
    for one in encoded:
        if part and size + len(one) > NOTICE_MAX_BYTES:
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one)
    if part:
        yield part
