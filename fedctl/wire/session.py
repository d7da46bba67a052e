"""The two sides of a session, with no socket, clock or task inside: one frame in, one event out.

Whoever owns a socket hands each frame it read to `receive` and acts on the event; the other methods return the
bytes of one frame to send. The hub, an agent's own socket, the clients and the tests share these two classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from fedctl.errors import FedctlError, Unavailable, UsageError
from fedctl.model.hub import Event
from fedctl.model.limits import FIRST_FRAME_MAX_BYTES, FRAME_MAX_BYTES
from fedctl.wire import codec, frames
from fedctl.wire.failure import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.messages.base import Request

A = TypeVar("A")

MAX_IN_FLIGHT = 256
"""Calls of one session that may be under way at once; one more is refused as unavailable."""


class SessionEvent(msgspec.Struct, frozen=True):
    """Base of what `receive` returns."""


class Greeted(SessionEvent, frozen=True):
    """Server: the peer said hello. Answer with `welcome` or `refuse`."""

    hello: frames.Hello


class Asked(SessionEvent, frozen=True):
    """Server: a call. Answer with `answer` or `fail`."""

    call_id: int
    tenant_id: str | None
    request: Any


class Refused(SessionEvent, frozen=True):
    """Server: a call that could not be read or taken. Send `reply`; the session goes on."""

    error: FedctlError
    reply: bytes


class Broken(SessionEvent, frozen=True):
    """Server: what came is no session of ours. Send `reply`, then close."""

    error: FedctlError
    reply: bytes


class Welcomed(SessionEvent, frozen=True):
    """Client: the handshake succeeded."""

    welcome: frames.Welcome


class Denied(SessionEvent, frozen=True):
    """Client: the hub ended the session, or what answers is no hub. The connection is to be closed."""

    error: FedctlError


class Answered(SessionEvent, frozen=True):
    """Client: a call's answer, of the type the request names."""

    call_id: int
    answer: Any


class CallFailed(SessionEvent, frozen=True):
    """Client: a call's error, as the class it was raised as."""

    call_id: int
    error: FedctlError


class Noticed(SessionEvent, frozen=True):
    """Client: changes that were subscribed to, in order."""

    events: list[Event]


class StopAsked(SessionEvent, frozen=True):
    """Client: the hub asks this agent to end early."""

    reason: str


class Ignored(SessionEvent, frozen=True):
    """Client: the answer to a call that nobody waits for any more."""


class Left(SessionEvent, frozen=True):
    """Either side: the peer says goodbye, and why."""

    code: int
    reason: str


ServerEvent = Greeted | Asked | Refused | Broken | Left
ClientEvent = Welcomed | Denied | Answered | CallFailed | Noticed | StopAsked | Ignored | Left


class ServerSession:
    """The answering side. Its states: `new` until the hello, `greeted` until welcome or refuse, `open`, `closed`."""

    def __init__(
        self,
        requests: codec.RequestDecoder,
        *,
        in_flight_max: int = MAX_IN_FLIGHT,
        frame_max_bytes: int = FRAME_MAX_BYTES,
    ) -> None:
        """Begin; `requests` decodes what this side can be asked, in frames of `frame_max_bytes` at most."""
        self.frame_max_bytes = frame_max_bytes
        self.state: Literal["new", "greeted", "open", "closed"] = "new"
        self._requests = requests
        self._in_flight: set[int] = set()
        self._in_flight_max = in_flight_max

    @property
    def frame_limit_bytes(self) -> int:
        """How large the next frame may be: small until the peer has said who it is."""
        return self.frame_max_bytes if self.state == "open" else FIRST_FRAME_MAX_BYTES

    @property
    def in_flight(self) -> int:
        """How many calls are unanswered."""
        return len(self._in_flight)

    def receive(self, data: bytes) -> ServerEvent:
        """Take one frame in."""
        try:
            frames.check_size(len(data), self.frame_limit_bytes)
            frame = codec.decode_client_frame(data)
        except codec.UnreadableCallError as error:
            if self.state != "open":
                return self._break(error)
            return _refused(error.call_id, error)
        except UsageError as error:
            return self._break(error)
        if isinstance(frame, frames.Goodbye):
            self.state = "closed"
            return Left(frame.code, frame.reason)
        if isinstance(frame, frames.Hello):
            return self._greet(frame)
        return self._take(frame)

    def _greet(self, hello: frames.Hello) -> ServerEvent:
        if self.state != "new":
            return self._break(UsageError("a session has one hello"))
        if hello.protocol != frames.PROTOCOL or hello.version != frames.VERSION:
            return self._break(
                UsageError(
                    f"this side speaks {frames.PROTOCOL} {frames.VERSION}, "
                    f"the other {hello.protocol[:40]!r} {hello.version}",
                    hint="use the same fedctl on both sides",
                )
            )
        self.state = "greeted"
        return Greeted(hello)

    def _take(self, call: frames.Call) -> ServerEvent:
        if self.state != "open":
            return self._break(UsageError("a session begins with a hello and goes on after the welcome"))
        if call.id in self._in_flight:
            return self._break(UsageError(f"call {call.id} is still unanswered: its number cannot be used again yet"))
        if len(self._in_flight) >= self._in_flight_max:
            error = Unavailable(f"this session has {self._in_flight_max} unanswered calls", hint="wait for answers")
            return _refused(call.id, error)
        try:
            request = self._requests.decode(call.request)
        except UsageError as error:
            return _refused(call.id, error)
        self._in_flight.add(call.id)
        return Asked(call.id, call.tenant_id, request)

    def _break(self, error: UsageError) -> Broken:
        return Broken(error, self.refuse(error))

    def welcome(self, welcome: frames.Welcome) -> bytes:
        """Return the handshake's good end; calls are taken from now on."""
        self.state = "open"
        return codec.encode(welcome)

    def refuse(self, error: FedctlError) -> bytes:
        """Return the end of the session by an error: a handshake that failed, or a peer that makes no sense."""
        self.state = "closed"
        return codec.encode(frames.Failed(id=None, error=to_wire(error)))

    def answer(self, call_id: int, answer: object) -> bytes:
        """Return what a call returned."""
        self._in_flight.discard(call_id)
        return codec.encode_answer(call_id, answer)

    def fail(self, call_id: int, error: FedctlError) -> bytes:
        """Return what a call raised."""
        self._in_flight.discard(call_id)
        return codec.encode(frames.Failed(id=call_id, error=to_wire(error)))

    def stop(self, reason: str) -> bytes:
        """Return the request to end early."""
        return codec.encode(frames.Stop(reason=reason))

    def goodbye(self, code: int, reason: str) -> bytes:
        """Return the last frame."""
        self.state = "closed"
        return codec.encode(frames.Goodbye(code=code, reason=reason))


def _refused(call_id: int, error: FedctlError) -> Refused:
    return Refused(error, codec.encode(frames.Failed(id=call_id, error=to_wire(error))))


def notice(events: Sequence[bytes]) -> bytes:
    """Return a notice of events that are encoded already: each goes to many sessions."""
    return b'{"frame":"notice","events":[' + b",".join(events) + b"]}"


class ClientSession:
    """The asking side. Its states: `new` until the welcome, `open`, `closed`."""

    def __init__(self) -> None:
        """Begin."""
        self.state: Literal["new", "open", "closed"] = "new"
        self._in_flight: dict[int, type[Request[Any]]] = {}
        self._last_id = 0

    def hello(
        self, *, client: str = "", token: str | None = None, tenant_id: str | None = None, agent_id: str | None = None
    ) -> bytes:
        """Return the first frame. Raises `UsageError` if it is over the limit of a first frame (a huge token)."""
        data = codec.encode(
            frames.Hello(
                protocol=frames.PROTOCOL,
                version=frames.VERSION,
                client=client,
                token=token,
                tenant_id=tenant_id,
                agent_id=agent_id,
            )
        )
        frames.check_size(len(data), FIRST_FRAME_MAX_BYTES)
        return data

    def call(self, request: Request[Any], *, tenant_id: str | None = None) -> tuple[int, bytes]:
        """Return a call's number and its frame. Raises `UsageError` for what cannot be said (see the codec)."""
        call_id = self._last_id + 1
        data = codec.encode_call(call_id, tenant_id, request)
        self._last_id = call_id
        self._in_flight[call_id] = type(request)
        return call_id, data

    def abandon(self, call_id: int) -> None:
        """Stop waiting for a call: its answer, should it come, is ignored."""
        self._in_flight.pop(call_id, None)

    def receive(self, data: bytes) -> ClientEvent:
        """Take one frame in."""
        try:
            frame = codec.decode_server_frame(data)
        except UsageError as error:
            return self._deny(Unavailable(error.message, hint="is this the address of a fedctl hub?"))
        if isinstance(frame, frames.Answer):
            return self._answered(frame)
        if isinstance(frame, frames.Failed):
            return self._failed(frame)
        return self._told(frame)

    def _told(self, frame: frames.Welcome | frames.Notice | frames.Stop | frames.Goodbye) -> ClientEvent:
        if isinstance(frame, frames.Notice):
            return Noticed(frame.events)
        if isinstance(frame, frames.Stop):
            return StopAsked(frame.reason)
        if isinstance(frame, frames.Goodbye):
            self.state = "closed"
            return Left(frame.code, frame.reason)
        if self.state != "new":
            return self._deny(Unavailable("the hub said welcome twice"))
        self.state = "open"
        return Welcomed(frame)

    def _answered(self, frame: frames.Answer) -> ClientEvent:
        kind = self._in_flight.pop(frame.id, None)
        if kind is None:
            return Ignored()
        try:
            return Answered(frame.id, codec.decode_answer(frame.answer, kind))
        except FedctlError as error:
            return CallFailed(frame.id, error)

    def _failed(self, frame: frames.Failed) -> ClientEvent:
        error = from_wire(frame.error)
        if frame.id is None:
            return self._deny(error)
        return CallFailed(frame.id, error) if self._in_flight.pop(frame.id, None) is not None else Ignored()

    def _deny(self, error: FedctlError) -> Denied:
        self.state = "closed"
        return Denied(error)

    def goodbye(self) -> bytes:
        """Return the last frame."""
        self.state = "closed"
        return codec.encode(frames.Goodbye(code=frames.NORMAL, reason="done"))
