"""Frames to bytes and back. JSON, by msgspec; every way in which bytes can be wrong comes out as a `UsageError`."""

from __future__ import annotations

import math
import re
from functools import cache, lru_cache
from typing import Any, TypeVar, Union

import msgspec

from fedctl.errors import Failure, FedctlError, UsageError
from fedctl.messages.base import Request, answer_type
from fedctl.model.limits import FRAME_MAX_BYTES, JSON_MAX_DEPTH
from fedctl.wire import frames
from fedctl.wire.failure import to_wire

A = TypeVar("A")

ServerFrame = frames.Welcome | frames.Answer | frames.Failed | frames.Notice | frames.Stop | frames.Goodbye
ClientFrame = frames.Hello | frames.Call | frames.Goodbye

_SHOWN = 200
"""How many characters of a decoder's complaint are passed on: it can quote what the peer sent."""

# How our own encoder begins a call. When the rest of the frame cannot be read (too deep, a lone surrogate in it),
# this still tells which call it was.
_CALL_HEAD = rb'\s*\{\s*"frame"\s*:\s*"call"\s*,\s*"id"\s*:\s*(\d{1,15})\s*,'

_VERSIONS = "client and hub may be of different versions: fedctl --version, fedctl hub status"

_encoder = msgspec.json.Encoder()
_from_server: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)


@cache
def _from_client() -> msgspec.json.Decoder[ClientFrame]:
    # Made when first used: a client, which often asks but once, has no use for it.
    return msgspec.json.Decoder(ClientFrame)


class _CallId(msgspec.Struct, tag_field="frame", tag="call"):
    id: frames.CallId


class _Greeting(msgspec.Struct, tag_field="frame", tag="hello"):
    protocol: str
    version: int


class _Op(msgspec.Struct):
    op: str


class UnreadableCallError(UsageError):
    """A call that cannot be read, but whose id can: it is refused, the session goes on."""

    def __init__(self, call_id: int, error: FedctlError) -> None:
        super().__init__(error.message, hint=error.hint, details=error.details)
        self.call_id = call_id


def encode(frame: frames.Frame) -> bytes:
    """Return a frame as JSON."""
    return _encoder.encode(frame)


def encode_call(call_id: int, tenant_id: str | None, request: Request[Any]) -> bytes:
    """Return a call as JSON; `UsageError` for what `to_json` refuses and for a frame over the limit."""
    body = msgspec.Raw(to_json(request))
    data = _encoder.encode(frames.Call(id=call_id, tenant_id=tenant_id, request=body))
    frames.check_size(len(data), FRAME_MAX_BYTES)
    return data


def to_json(value: msgspec.Struct) -> bytes:
    """Return a request, or a part of one, as JSON.

    Raises:
        UsageError: what JSON cannot carry unchanged: NaN, infinity, a lone surrogate, depth, foreign types. msgspec
            would write NaN as null: it would be stored as something never said.
    """
    try:
        body = _encoder.encode(value)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeEncodeError:
        raise UsageError(
            "the request holds bytes that are not UTF-8 (a lone surrogate)", hint="send text as valid UTF-8"
        ) from None
    except (TypeError, ValueError, OverflowError) as error:  # foreign types; integers of more than 4,300 digits
        raise UsageError(f"the request cannot be written as JSON: {_shown(error)}") from None
    if b"null" in body:
        _check_finite(value)
    return body


def encode_answer(call_id: int, answer: object) -> bytes:
    """Return an answer as JSON; one that is over the frame limit (which paging prevents) becomes a failure."""
    data = _encoder.encode(frames.Answer(id=call_id, answer=msgspec.Raw(_encoder.encode(answer))))
    if len(data) > FRAME_MAX_BYTES:
        too_large = Failure(
            f"the answer has {len(data):,} bytes, a frame has at most {FRAME_MAX_BYTES:,}", hint="ask for fewer at once"
        )
        return encode(frames.Failed(id=call_id, error=to_wire(too_large)))
    return data


def decode_server_frame(data: bytes) -> ServerFrame:
    """Return what a hub said; `UsageError` if it is no frame of ours."""
    try:
        return _from_server.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the peer does not speak the fedctl protocol: {_shown(error)}") from None


def decode_client_frame(data: bytes) -> ClientFrame:
    """Return what a client said.

    Raises:
        UnreadableCallError: the frame is wrong, but it is a call, and its id can be told.
        UsageError: it is no frame of ours at all.
    """
    try:
        return _from_client().decode(data)
    except RecursionError:
        raise _blame(data, _too_deep()) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hello = _foreign_hello(data)
        if hello is not None:
            return hello
        raise _blame(data, UsageError(f"the frame cannot be read: {_shown(error)}")) from None


def _foreign_hello(data: bytes) -> frames.Hello | None:
    """Return the head of a hello whose other fields another version has changed: it is refused for its version."""
    try:
        greeting = msgspec.json.decode(data, type=_Greeting)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if (greeting.protocol, greeting.version) == (frames.PROTOCOL, frames.VERSION):
        return None
    return frames.Hello(protocol=greeting.protocol, version=greeting.version)


def decode_answer(raw: msgspec.Raw, request: type[Request[A]]) -> A:
    """Return an answer, typed by the request it is for; `Failure` if it is of another shape."""
    try:
        answer: A = _answer_decoder(request).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(
            f"the answer to {request.__name__} cannot be read: {_shown(error)}",
            hint=_VERSIONS,
        ) from None
    return answer


class RequestDecoder:
    """Decodes requests of the given types; built from the table of operations, which this layer does not know."""

    def __init__(self, request_types: tuple[type[Request[Any]], ...]) -> None:
        """Keep one decoder for all of them."""
        self._decoder: msgspec.json.Decoder[Request[Any]] = msgspec.json.Decoder(
            Union[request_types]  # noqa: UP007  built at run time
        )
        self._ops = frozenset(_op_name(kind) for kind in request_types)

    def decode(self, raw: msgspec.Raw) -> Request[Any]:
        """Return the request; `UsageError` for an unknown operation, unknown fields, wrong types or numbers."""
        try:
            return self._decoder.decode(raw)
        except RecursionError:
            raise _too_deep() from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._complaint(raw, error) from None

    def _complaint(self, raw: msgspec.Raw, error: Exception) -> UsageError:
        try:
            op = msgspec.json.decode(raw, type=_Op).op
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return UsageError(f"the request cannot be read: {_shown(error)}")
        if op not in self._ops:
            return UsageError(
                f"there is no operation {_shown(op)!r}",
                hint=_VERSIONS,
            )
        return UsageError(f"{op}: {_shown(error)}")


@lru_cache(maxsize=256)
def _answer_decoder(request: type[Request[A]]) -> msgspec.json.Decoder[A]:
    return msgspec.json.Decoder(answer_type(request))


def _op_name(kind: type[Request[Any]]) -> str:
    return str(kind.__struct_config__.tag)


def _blame(data: bytes, error: UsageError) -> UsageError:
    """Return the error with the id of the call it is about, where that can be told."""
    try:
        return UnreadableCallError(msgspec.json.decode(data, type=_CallId).id, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = re.match(_CALL_HEAD, data)
        return UnreadableCallError(int(head[1]), error) if head is not None else error


def _too_deep() -> UsageError:
    return UsageError(f"the request is nested deeper than {JSON_MAX_DEPTH} levels")


def _shown(complaint: object) -> str:
    text = str(complaint)
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _check_finite(value: msgspec.Struct) -> None:
    todo: list[Any] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                raise UsageError("the request must hold finite numbers only")
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
        elif isinstance(item, msgspec.Struct):
            todo.extend(getattr(item, name) for name in item.__struct_fields__)
