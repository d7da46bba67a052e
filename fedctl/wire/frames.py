"""What is said on a socket: one JSON object a frame, told apart by its `frame` field.

On a WebSocket a message is a frame. On a Unix socket each frame follows its length, four bytes, big endian
(`prefixed`, `Splitter`). Frames may gain fields within a version: unknown ones are ignored.

The order of a session: `hello`, `welcome` (or `failed` without an id, and the end), then any number of `call`s,
several at once, each answered by an `answer` or a `failed` of the same id, in any order; between them `notice`
and `stop` from the hub; `goodbye` from either side says why it ends.
"""

# Annotations are evaluated here: msgspec needs those of every answer from a hub, and evaluating text takes it 10 µs.
from typing import Annotated

import msgspec

from fedctl.errors import UsageError
from fedctl.model.hub import Event
from fedctl.model.limits import BATCH_MAX_ITEMS, FRAME_MAX_BYTES
from fedctl.model.principal import Principal
from fedctl.wire.failure import WireError

PROTOCOL = "fedctl"
VERSION = 1

CallId = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
"""A call's number, chosen by the asker, unique among its calls in flight; exact in any JSON reader."""

# Why a session ends. The first three are WebSocket's own codes (RFC 6455, 7.4.1); 4000 and up are for applications.
NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
TOO_SLOW = 1008
EXPIRED = 4001
REVOKED = 4002
REFUSED = 4003


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="frame"):
    """Base of all frames."""


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """The first frame: what is spoken, by whom.

    `tenant_id` and `agent_id` are for those who may choose (the owner on the hub's own socket); with a token they
    must agree with it or be absent. `client` names the program, for logs.
    """

    protocol: str
    version: int
    client: str = ""
    token: str | None = None
    tenant_id: str | None = None
    agent_id: str | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub takes in one go."""

    frame_max_bytes: int = FRAME_MAX_BYTES
    batch_max_items: int = BATCH_MAX_ITEMS


class Welcome(Frame, frozen=True, kw_only=True, tag="welcome"):
    """The handshake's end: who the hub takes the peer for. `server_time` is RFC 3339; `fedctl` the hub's version.

    `epoch` changes when the hub's store was restored from a backup: cursors from before it mean nothing.
    """

    version: int
    fedctl: str
    epoch: str
    principal: Principal
    server_time: str
    limits: Limits = Limits()


class Call(Frame, frozen=True, kw_only=True, tag="call"):
    """A request, undecoded: a request that cannot be decoded is refused by its id and harms no other."""

    id: CallId
    tenant_id: str | None = None
    request: msgspec.Raw


class Answer(Frame, frozen=True, kw_only=True, tag="answer"):
    """What a call returned, undecoded: only the asker knows its type."""

    id: CallId
    answer: msgspec.Raw


class Failed(Frame, frozen=True, kw_only=True, tag="failed"):
    """What a call raised. Without an id it is the session that failed, and ended."""

    id: CallId | None
    error: WireError


class Notice(Frame, frozen=True, kw_only=True, tag="notice"):
    """What was committed of that this session subscribed to: all of it since the last notice, in order."""

    events: list[Event]


class Stop(Frame, frozen=True, kw_only=True, tag="stop"):
    """Asks an agent to end early, with its final sync."""

    reason: str


class Goodbye(Frame, frozen=True, kw_only=True, tag="goodbye"):
    """The last frame of a session that ends in order; on a WebSocket the close frame carries the same code."""

    code: int
    reason: str


class FrameTooLargeError(UsageError):
    """A frame longer than the limit in force; what follows it on a Unix socket cannot be found any more."""


def check_size(size_bytes: int, limit_bytes: int) -> None:
    """Raise `FrameTooLargeError` if a frame of that size is over the limit."""
    if size_bytes > limit_bytes:
        raise FrameTooLargeError(f"a frame has at most {limit_bytes:,} bytes here, this one has {size_bytes:,}")


_PREFIX_BYTES = 4


def prefixed(frame: bytes) -> bytes:
    """Return a frame as it goes over a Unix socket: after its length."""
    return len(frame).to_bytes(_PREFIX_BYTES, "big") + frame


class Splitter:
    """Cuts the byte stream of a Unix socket into frames. Holds at most one unfinished frame of `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin; `limit_bytes` may be raised later (after authentication)."""
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """Return the next whole frame, or None while it is incomplete.

        Raises:
            FrameTooLargeError: as soon as the length is known to be over the limit, before the bytes are taken in.
        """
        if len(self._buffer) < _PREFIX_BYTES:
            return None
        size = int.from_bytes(self._buffer[:_PREFIX_BYTES], "big")
        check_size(size, self.limit_bytes)
        end = _PREFIX_BYTES + size
        if len(self._buffer) < end:
            return None
        frame = bytes(memoryview(self._buffer)[_PREFIX_BYTES:end])
        del self._buffer[:end]
        return frame

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._buffer)
