"""The two kinds of sockets a session can be on, as the hub sees them: frames in, frames out, nothing awaited."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, cast

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from fedctl.hub.refusals import HUNG_UP
from fedctl.model.limits import FIRST_FRAME_MAX_BYTES
from fedctl.wire import frames
from fedctl.wire.frames import FrameTooLargeError, Splitter, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.hub.desk import Desk
    from fedctl.hub.guests import Guests
    from fedctl.hub.peer import Peer

HELLO_TIMEOUT_S = 5.0
_BREACHES = (frames.PROTOCOL_ERROR, 1007, 1009)
"""Codes of a close that says: this was no WebSocket frame, no text, too large (RFC 6455, 7.4.1)."""
READ_PAUSE_BYTES = 256 << 10
"""Unsent bytes at which a peer is not read from until it has read."""
EARLY_MAX_BYTES = FIRST_FRAME_MAX_BYTES + (16 << 10)
"""What a WebSocket peer may send before it is welcome: the HTTP upgrade and its hello."""
_LINE_MAX_BYTES = 8 << 10
"""A longer line of a request's head is the library's to refuse."""
_BODY_FOLLOWS = re.compile(rb"(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)


class UnixLink(asyncio.Protocol):
    """A peer on the hub's own socket. The file's mode says who it is."""

    local = True
    looks_only = False

    def __init__(self, desk: Desk, make_peer: Callable[[UnixLink], Peer]) -> None:
        """Begin; `make_peer` makes the session."""
        self._desk = desk
        self._peer = make_peer(self)
        self._splitter = Splitter(FIRST_FRAME_MAX_BYTES)
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._held: asyncio.Future[None] | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the hello."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=READ_PAUSE_BYTES)
        self._deadline = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._desk.late, self._peer)

    def data_received(self, data: bytes) -> None:
        """Cut what came into frames and hand them on."""
        self._splitter.feed(data)
        if self._held is None:
            self._take_frames()

    def _take_frames(self) -> None:
        try:
            while self._peer.session.state != "closed" and (frame := self._splitter.next_frame()) is not None:
                self._desk.received(self._peer, frame)
                self._splitter.limit_bytes = self._peer.session.frame_limit_bytes
                if (held := self._desk.held(self._peer)) is not None:
                    self._held = held
                    held.add_done_callback(self._go_on)
                    self._read_on()
                    return
        except FrameTooLargeError as error:
            self._desk.overlong(self._peer, error)

    def _go_on(self, _held: object) -> None:
        self._held = None
        self._take_frames()
        self._read_on()

    def _read_on(self) -> None:
        """Read from a peer that reads, and whose tenant is not too far ahead."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._full or self._held is not None:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not read."""
        self._full = True
        self._read_on()

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  how it ended makes no difference
        """Forget the peer."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        self._desk.left(self._peer)

    def known(self) -> None:
        """Do nothing: whoever may open this socket is no stranger."""

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
    _line: bytes | None = b""
    """What came of a line of the request's head; None once the whole head has come."""
    local = False
    """Whether it is known to be the owner's: see `watch`."""

    def __init__(self, *args: Any, refused: Callable[..., None], looks_only: bool = False, **options: Any) -> None:
        """Begin when the connection is accepted: TLS, the upgrade and the hello together have so much time.

        `refused` hears of a peer that speaks no HTTP, or asks for no WebSocket, or says too much.
        """
        super().__init__(*args, **options)
        self._refused = refused
        self.looks_only = looks_only
        self.hello_by_s = self.loop.time() + HELLO_TIMEOUT_S

    def data_received(self, data: bytes) -> None:
        """Count while it matters."""
        if self._line is not None:
            data = self._head_of(data)
        elif self.protocol.state is State.CONNECTING:
            return  # who speaks WebSocket waits for the answer (RFC 6455, 4.1); a body or another request is not read
        if self.early_bytes is not None:
            self.early_bytes += len(data)
            if self.early_bytes > EARLY_MAX_BYTES:
                self._refused("too_large", error="more than a first frame came before a welcome")
                self.early_bytes = None
                self.transport.abort()
                return
        super().data_received(data)
        # The library answers pings at once, whether anybody reads the answers or not.
        if self.recv_messages.paused or self.transport.get_write_buffer_size() > READ_PAUSE_BYTES:
            self.transport.pause_reading()

    def _head_of(self, data: bytes) -> bytes:
        """Return what the library is to see of what came: whole lines of the request's head, and nothing after it.

        That a body follows is left out: the library would hang up instead of letting the request be answered.
        """
        data = (self._line or b"") + data
        lines: list[bytes] = []
        start = 0
        while self._line is not None and (end := data.find(b"\n", start) + 1):
            line = data[start:end]
            if _BODY_FOLLOWS.match(line) is None:
                lines.append(line)
            self._line = None if line == b"\r\n" else b""
            start = end
        if self._line is not None:
            rest = data[start:]
            is_long = len(rest) > _LINE_MAX_BYTES
            lines += [rest] if is_long else []
            self._line = b"" if is_long else rest
        return b"".join(lines)

    def resume_writing(self) -> None:
        """Read on from a peer that has read."""
        super().resume_writing()
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell what went wrong before there was a WebSocket."""
        super().connection_lost(exc)
        failed = self.protocol.handshake_exc
        if failed is not None:
            why = failed.__cause__ or failed
            self._refused(HUNG_UP if isinstance(why, EOFError) else "handshake", error=str(why))


class WebSocketLink:
    """A peer on the network, or a page that watches."""

    def __init__(self, connection: HubConnection, guests: Guests) -> None:
        """Keep the connection; `guests` counted it as a stranger's."""
        self.local = connection.local
        self.looks_only = connection.looks_only
        self._connection = connection
        self._guests = guests
        self._closing: asyncio.Task[None] | None = None

    def known(self) -> None:
        """Count it among the strangers no more."""
        self._guests.known(self._connection.transport.get_extra_info("socket").fileno())

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


async def serve_websocket(
    connection: Any, desk: Desk, make_peer: Callable[[WebSocketLink], Peer], guests: Guests
) -> None:
    """Read a connection to its end; the handler of websockets' server."""
    peer = make_peer(WebSocketLink(connection, guests))
    try:
        try:
            async with asyncio.timeout_at(connection.hello_by_s):
                desk.received(peer, await connection.recv(decode=False))
        except TimeoutError:
            desk.late(peer)
        connection.early_bytes = None
        while peer.session.state != "closed":
            frame = await connection.recv(decode=False)
            if (held := desk.held(peer)) is not None:
                await held
            try:
                frames.check_size(len(frame), peer.session.frame_limit_bytes)
            except FrameTooLargeError as error:
                desk.overlong(peer, error)
                break
            desk.received(peer, frame)
            if connection.transport.get_write_buffer_size() > READ_PAUSE_BYTES:
                await connection.drain()
        await connection.wait_closed()
    except ConnectionClosed as closed:
        # However it ended, it ended: what the peer was in the middle of is answered to nobody.
        if closed.sent is not None and not closed.rcvd_then_sent and closed.sent.code in _BREACHES:
            desk.breached(peer, closed.sent.reason or str(closed.sent.code))
    finally:
        desk.left(peer)
