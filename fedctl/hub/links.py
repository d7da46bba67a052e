"""The two kinds of sockets a session can be on, as the hub sees them: frames in, frames out, nothing awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed

from fedctl.model.limits import FIRST_FRAME_MAX_BYTES
from fedctl.wire.frames import FrameTooLargeError, Splitter, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.hub.desk import Desk
    from fedctl.hub.peer import Peer

HELLO_TIMEOUT_S = 5.0
READ_PAUSE_BYTES = 256 << 10
"""Unsent bytes at which a peer is not read from until it has read."""
EARLY_MAX_BYTES = FIRST_FRAME_MAX_BYTES + (16 << 10)
"""What a WebSocket peer may send before it is welcome: the HTTP upgrade and its hello."""


class UnixLink(asyncio.Protocol):
    """A peer on the hub's own socket. The file's mode says who it is."""

    local = True

    def __init__(self, desk: Desk, make_peer: Callable[[UnixLink], Peer]) -> None:
        """Begin; `make_peer` makes the session."""
        self._desk = desk
        self._peer = make_peer(self)
        self._splitter = Splitter(FIRST_FRAME_MAX_BYTES)
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the hello."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=READ_PAUSE_BYTES)
        self._deadline = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._desk.late, self._peer)

    def data_received(self, data: bytes) -> None:
        """Cut what came into frames and hand them on."""
        self._splitter.feed(data)
        try:
            while self._peer.session.state != "closed" and (frame := self._splitter.next_frame()) is not None:
                self._desk.received(self._peer, frame)
                self._splitter.limit_bytes = self._peer.session.frame_limit_bytes
        except FrameTooLargeError as error:
            self._peer.refuse(error)

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not read."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  how it ended makes no difference
        """Forget the peer."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        self._desk.left(self._peer)

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(prefixed(frame))

    def buffered_bytes(self) -> int:
        """Return what the peer has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002  the goodbye frame has said both
        """Close once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class HubConnection(ServerConnection):
    """A WebSocket connection that takes only so much before its peer is welcome.

    The library bounds one message; the bound holds from the first one on and cannot be raised later, so the small
    one for strangers is held here.
    """

    early_bytes: int | None = 0
    """Bytes that came so far; None once the peer is welcome."""

    def data_received(self, data: bytes) -> None:
        """Count while it matters."""
        if self.early_bytes is not None:
            self.early_bytes += len(data)
            if self.early_bytes > EARLY_MAX_BYTES:
                self.transport.abort()
                return
        super().data_received(data)


class WebSocketLink:
    """A peer on the network."""

    local = False

    def __init__(self, connection: HubConnection) -> None:
        """Keep the connection."""
        self._connection = connection
        self._closing: asyncio.Task[None] | None = None

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        broadcast([self._connection], frame, text=True)

    def buffered_bytes(self) -> int:
        """Return what the peer has not taken."""
        return self._connection.transport.get_write_buffer_size()

    def close(self, code: int, reason: str) -> None:
        """Close with a handshake, in the background."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._connection.close(code, reason[:100]))

    def abort(self) -> None:
        """Close at once."""
        self._connection.transport.abort()


async def serve_websocket(connection: Any, desk: Desk, make_peer: Callable[[WebSocketLink], Peer]) -> None:
    """Read a connection to its end; the handler of websockets' server."""
    peer = make_peer(WebSocketLink(connection))
    try:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                desk.received(peer, await connection.recv(decode=False))
        except TimeoutError:
            desk.late(peer)
        connection.early_bytes = None
        while peer.session.state != "closed":
            desk.received(peer, await connection.recv(decode=False))
            if connection.transport.get_write_buffer_size() > READ_PAUSE_BYTES:
                await connection.drain()
        await connection.wait_closed()
    except ConnectionClosed:
        pass  # however it ended, it ended; what the peer was in the middle of is answered to nobody
    finally:
        desk.left(peer)
