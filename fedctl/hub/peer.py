"""One connected session, whatever kind of socket it is on. On the event loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fedctl.wire import frames

if TYPE_CHECKING:
    from fedctl.errors import FedctlError
    from fedctl.hub.events import Subscription
    from fedctl.model.principal import Principal
    from fedctl.wire.session import ServerSession

NOTICE_BUFFER_BYTES = 1 << 20
"""Unsent bytes at which a session that is only listening has fallen too far behind."""
SEND_BUFFER_BYTES = 32 << 20
"""Unsent bytes at which any session is dropped: it asks and does not read."""


class Link(Protocol):
    """A session's socket."""

    local: bool
    """Whether the file system says who the peer is: the home's owner."""

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


class Peer:
    """A session with its socket, and what the hub knows of it."""

    def __init__(self, link: Link, session: ServerSession) -> None:
        """Begin; nothing is known of the peer but whether it is local."""
        self.link = link
        self.session = session
        self.principal: Principal | None = None
        self.expires_at_ms: int | None = None
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
            self._check(SEND_BUFFER_BYTES)

    def notify(self, frame: bytes) -> None:
        """Send a notice; a listener that has fallen behind is dropped, the hub does not wait for it."""
        if not self.gone:
            self.link.send(frame)
            self._check(NOTICE_BUFFER_BYTES)

    def _check(self, limit_bytes: int) -> None:
        if self.link.buffered_bytes() > limit_bytes:
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
