"""What a wire session must be, whatever bytes come. A target of `fuzz`.

`check` raises on a find: an exception that `wire` does not document, a reply that the other side cannot read, a
state that cannot be. It takes one byte that chooses what is tried, then the bytes: frames, a line each.
"""

from __future__ import annotations

import msgspec

from fedctl.errors import Conflict, FedctlError, UsageError
from fedctl.messages.base import Request
from fedctl.messages.memory import GetAnswer, GetEpisodes, QueryEpisodes
from fedctl.model.limits import FIRST_FRAME_MAX_BYTES, FRAME_MAX_BYTES
from fedctl.model.principal import Principal
from fedctl.operations.table import request_types
from fedctl.wire import codec, frames
from fedctl.wire import session as said
from fedctl.wire.failure import from_wire
from fedctl.wire.session import ClientSession, ServerSession

from . import mutants

ABOUT = "the wire session"
INCLUDE = ("fedctl.wire",)
WORDS = (b'"frame"', b'"hello"', b'"call"', b'"goodbye"', b'"answer"', b'"failed"', b'"notice"', b'"stop"',
         b'"welcome"', b'"id":', b'"request":', b'"op":', b'"version":', b'"protocol":', b'"error":', b'"memory.query"',
         rb'"\ud800"', b"null", b"1e999", b"[[[[[[[[")  # fmt: skip
SESSION_MAX_BYTES = 4096
DECODER = codec.RequestDecoder(request_types())
WELCOME = frames.Welcome(
    version=frames.VERSION,
    fedctl="0",
    epoch="e",
    principal=Principal(tenant_id="acme", role="agent"),
    server_time="2026-01-01T00:00:00.000Z",
)
ANSWER = GetAnswer(episodes=[], missing=["a"], rest=[])
SIDES = 5


def originals() -> list[bytes]:
    """Return whole sessions to begin with, each with the byte that says which side it is for."""
    told = mutants.valid_client_frames()
    heard = mutants.valid_server_frames(WELCOME, DECODER)
    sides = [[b"\n".join(told)], told, [b"\n".join(heard)], heard, [b"\x00\x00\x00\x05hello\x00\x00\x00\x00"]]
    return [bytes([side]) + one[:SESSION_MAX_BYTES] for side, some in enumerate(sides) for one in some]


def check(data: bytes) -> None:
    """Try the bytes on the side that the first one names."""
    if not data:
        return
    side, rest = data[0] % SIDES, data[1:]
    if side == 0:
        serve(rest.split(b"\n"))
    elif side == 1:
        serve([ClientSession().hello(), *rest.split(b"\n")])
    elif side == 2:
        ask(rest.split(b"\n"), welcomed=False)
    elif side == 3:
        ask(rest.split(b"\n"), welcomed=True)
    else:
        split(rest)


def serve(lines: list[bytes]) -> None:
    """Be the hub: every event is answered as a hub would, and every reply can be read."""
    session = ServerSession(DECODER, in_flight_max=8)
    for line in lines:
        if session.state == "closed":
            return
        before = session.state
        event = session.receive(line)
        if isinstance(event, said.Greeted):
            assert before == "new"
            _read(session.welcome(WELCOME))
            assert session.state == "open"
        elif isinstance(event, said.Asked):
            assert before == "open"
            assert isinstance(event.request, Request)
            _again(event.request)
            if event.call_id % 3:  # a third stays unanswered
                reply = session.fail(event.call_id, Conflict("c")) if event.call_id % 2 else session.answer(
                    event.call_id, ANSWER
                )  # fmt: skip
                _read(reply)
        elif isinstance(event, said.Refused | said.Broken):
            assert isinstance(event.error, FedctlError)
            _read(event.reply)
            assert (session.state == "closed") == isinstance(event, said.Broken)
        else:
            assert isinstance(event, said.Left)
            assert session.state == "closed"
        assert 0 <= session.in_flight <= 8


def _again(request: Request) -> None:
    """What was read as a request is written and read as the same one; what cannot be written is named."""
    try:
        raw = msgspec.Raw(codec.to_json(request))
    except UsageError:
        return
    assert DECODER.decode(raw) == request, request


def _read(reply: bytes) -> None:
    assert len(reply) <= FIRST_FRAME_MAX_BYTES, f"a reply of {len(reply)} bytes"
    codec.decode_server_frame(reply)


def ask(lines: list[bytes], *, welcomed: bool) -> None:
    """Be a client with two calls under way: every event is one of those documented."""
    session = ClientSession()
    session.hello()
    if welcomed:
        session.receive(codec.encode(WELCOME))
        session.call(GetEpisodes(ids=["a"]))
        session.call(QueryEpisodes(text="x"))
    for line in lines:
        event = session.receive(line)
        assert isinstance(event, said.SessionEvent)
        if isinstance(event, said.Denied):
            assert session.state == "closed"
        if isinstance(event, said.Denied | said.CallFailed):
            assert isinstance(event.error, FedctlError)
            assert event.error.as_dict()
            from_wire(codec.to_wire(event.error))
        if session.state == "closed":
            return


def split(stream: bytes) -> None:
    """Cut a stream in two ways: the same frames come out, and together they are what went in."""
    assert _frames(stream, len(stream) or 1) == _frames(stream, 3)


def _frames(stream: bytes, size: int) -> list[bytes]:
    splitter = frames.Splitter(FRAME_MAX_BYTES)
    found: list[bytes] = []
    for begin in range(0, len(stream), size):
        splitter.feed(stream[begin : begin + size])
        try:
            while (frame := splitter.next_frame()) is not None:
                found.append(frame)
        except frames.FrameTooLargeError:
            return found
    joined = b"".join(map(frames.prefixed, found))
    assert stream.startswith(joined)
    assert len(joined) + splitter.pending_bytes == len(stream)
    return found
