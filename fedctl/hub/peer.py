"""One connected session, whatever kind of socket it is on. On the event loop only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from fedctl.wire import frames

if TYPE_CHECKING:
    from fedctl.access.tokens import Verified
    from fedctl.errors import FedctlError
    from fedctl.hub.events import Subscription
    from fedctl.model.principal import Principal
    from fedctl.wire.session import ServerSession

NOTICE_BUFFER_BYTES = 1 << 20
"""Unsent bytes at which a session that is only listening has fallen too far behind."""
SEND_BUFFER_BYTES = 32 << 20
"""Unsent bytes at which any session is dropped: it asks and does not read."""
UNSENT_MAX_BYTES = 128 << 20
"""Unsent bytes of all sessions together at which the one that has the most is dropped."""
UNSENT_NOTED_BYTES = 1 << 20
"""From how many on a session is looked at for that."""
TOO_SLOW_S = 5.0
"""How long a listener that has fallen behind may take to read what it was sent, and why there will be no more."""


class Link(Protocol):
    """A session's socket."""

    local: bool
    """Whether the system says who the peer is: the home's owner."""
    looks_only: bool
    """Whether whoever comes in here may only look."""

    def known(self) -> None:
        """Note that the peer has said who it is: it counts among the strangers no more."""
        ...

    def send(self, frame: bytes) -> None:
        """Send a frame without waiting; nothing happens when the connection is gone."""
        ...

    def buffered_bytes(self) -> int:
        """Return how much was sent that the peer's machine has not taken."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close in order, in the background."""
        ...

    def abort(self) -> None:
        """Close at once; what is unsent is dropped."""
        ...


class Unsent:
    """The sessions that have much unsent: each within its own bound, many together could still fill the memory."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._peers: set[Peer] = set()

    def note(self, peer: Peer) -> None:
        """Look at a session that was just sent something; drop whoever has the most when it is too much in all."""
        if peer.link.buffered_bytes() < UNSENT_NOTED_BYTES:
            self._peers.discard(peer)
            return
        self._peers.add(peer)
        sizes = {one: one.link.buffered_bytes() for one in self._peers}
        if sum(sizes.values()) > UNSENT_MAX_BYTES:
            self._peers = {one for one, size in sizes.items() if size >= UNSENT_NOTED_BYTES}
            slowest = max(sizes, key=lambda one: sizes[one])
            self._peers.discard(slowest)
            slowest.drop()


class Peer:
    """A session with its socket, and what the hub knows of it."""

    def __init__(self, link: Link, session: ServerSession, unsent: Unsent) -> None:
        """Begin; nothing is known of the peer but whether it is local. `unsent` is all sessions'."""
        self.link = link
        self._unsent = unsent
        self.session = session
        self.principal: Principal | None = None
        self.token: Verified | None = None
        """What it came in by; None: it is the owner of the home."""
        self.client = ""
        self.subscription: Subscription | None = None
        self.agents: set[tuple[str, str]] = set()
        """The (tenant, agent) it speaks for."""
        self.gone = False
        self.dropped_why: str | None = None

    def send(self, frame: bytes) -> None:
        """Send a frame; a peer that does not read what it asked for is dropped."""
        if not self.gone:
            self.link.send(frame)
            if self.link.buffered_bytes() > SEND_BUFFER_BYTES:
                self.drop()
            self._unsent.note(self)

    def notify(self, frame: bytes) -> None:
        """Send a notice; a listener that has fallen behind is told so and dropped, the hub does not wait for it.

        Once it reads, it finds all notices up to its last one, and the reason: it can read on in the log from there.
        """
        if not self.gone and self.session.state != "closed":
            self.link.send(frame)
            if self.link.buffered_bytes() > NOTICE_BUFFER_BYTES:
                self.dropped_why = "it reads too slowly"
                self.link.send(self.session.goodbye(frames.TOO_SLOW, f"{self.dropped_why}: read on from its cursor"))
                asyncio.get_running_loop().call_later(TOO_SLOW_S, self.link.abort)

    def drop(self) -> None:
        """Hang up on a peer that does not read."""
        self.dropped_why = "it reads too slowly"
        self.link.abort()

    def refuse(self, error: FedctlError) -> None:
        """End the session with an error: a handshake that failed."""
        if not self.gone:
            self.link.send(self.session.refuse(error))
            self.link.close(frames.REFUSED, error.code)

    def end(self, code: int, reason: str) -> None:
        """End the session in order, with the reason."""
        if not self.gone and self.session.state != "closed":
            self.dropped_why = reason
            self.link.send(self.session.goodbye(code, reason))
            self.link.close(code, reason)
