"""The grammar of values on the command line: literals, `-`, `@FILE`, `k=v`, durations, instants, names, numbers.

Parsers raise `UsageError`; the command's frame adds which flag it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from fedctl.clock import Clock
from fedctl.errors import Denied, UsageError
from fedctl.model.limits import (
    EPISODE_MAX_BYTES,
    ERROR_TEXT_MAX_BYTES,
    FRAME_MAX_BYTES,
    JSON_MAX_DEPTH,
    check_count,
    check_id,
    check_name,
    check_number,
    check_text,
    check_unit_interval,
)
from fedctl.model.time import parse_duration_ms, parse_instant_ms, to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

_WHERE = r"(?s)([^=!<>]+)(!=|<=|>=|=|<|>)(.*)"
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_CONSTANTS = {"true": True, "false": False, "null": None}
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_READ_BYTES = 1 << 16
_QUOTED_MAX = 60


class StandardInput:
    """Standard input, which at most one value of a command may name."""

    def __init__(self, stream: BinaryIO | None) -> None:
        self._stream = stream
        self._taken_by: str | None = None

    def take(self, what: str) -> BinaryIO:
        """Return the stream for `what`; a second taker is a usage error."""
        if self._taken_by is not None:
            raise UsageError(f"{self._taken_by} and {what} cannot both be read from stdin", hint="use @FILE for one")
        if self._stream is None:
            raise UsageError(f"{what} is to come from stdin, and stdin is closed")
        self._taken_by = what
        return self._stream

    def isatty(self) -> bool:
        """Return whether a person sits at the other end."""
        return self._stream is not None and self._stream.isatty()

    def read_line(self) -> str:
        """Return one line, for an answer to a question."""
        return "" if self._stream is None else self._stream.readline().decode("utf-8", "replace")


def read_value(what: str, given: str, stdin: StandardInput) -> str:
    """Return the text that a value stands for: itself, `-` stdin, `@FILE` a file, `@@x` the text `@x`."""
    content = _read(what, given, stdin, EPISODE_MAX_BYTES + 1)
    if isinstance(content, str):
        return check_text(what, content)
    if len(content) > EPISODE_MAX_BYTES:
        raise UsageError(f"{what} is larger than the 1 MiB ({EPISODE_MAX_BYTES} bytes) that an episode may have")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8: byte {error.start} of {given!r}") from error


def read_json(what: str, given: str, stdin: StandardInput) -> Any:
    """Return the JSON value that a value stands for."""
    content = _read(what, given, stdin, FRAME_MAX_BYTES + 1)
    raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    if len(raw) > FRAME_MAX_BYTES:
        raise UsageError(f"{what} is larger than 4 MiB ({FRAME_MAX_BYTES} bytes)")
    try:
        return decode_json(raw.removeprefix(b"\xef\xbb\xbf"))
    except UsageError as error:
        hint = "pass JSON; a text is JSON in double quotes"
        if isinstance(content, str) and len(content) < _QUOTED_MAX and content.isprintable():
            hint = f"as JSON this text is written '{msgspec.json.encode(content).decode()}'"
        raise UsageError(f"{what}: {error.message}", hint=hint) from None


def decode_json(raw: bytes) -> Any:
    """Return the value of a JSON text; `UsageError` if it is none, is not UTF-8 or is too deep."""
    try:
        return msgspec.json.decode(raw)
    except RecursionError:
        raise UsageError(f"the JSON is nested deeper than {JSON_MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise UsageError("it is not UTF-8") from None
    except ValueError as error:
        if _SURROGATE.search(raw):
            raise UsageError(f"not valid JSON, or a lone surrogate in it: {error}") from None
        raise UsageError(f"not valid JSON: {error}" if raw.strip() else "it is empty") from None


def read_error(what: str, given: str, stdin: StandardInput) -> str:
    """Return the text of an error, however bad its bytes: its beginning, and a little more than is kept of it.

    All of stdin is read, so that who writes there is not cut off.
    """
    if given == "-":
        stream, content = stdin.take(what), b""
        while block := stream.read(_READ_BYTES):
            content += block[: ERROR_TEXT_MAX_BYTES + 1 - len(content)]
    else:
        read = _read(what, given, stdin, ERROR_TEXT_MAX_BYTES + 1)
        content = read if isinstance(read, bytes) else read.encode("utf-8", "surrogateescape")
    # One byte over the limit is enough to be told apart, and to be marked as cut.
    return content[: ERROR_TEXT_MAX_BYTES + 1].decode("utf-8", "replace")


def _read(what: str, given: str, stdin: StandardInput, most: int) -> str | bytes:
    """Return what a value stands for: text as it was typed, or up to `most` bytes of stdin or of a file."""
    if given == "-":
        return stdin.take(what).read(most)
    if given.startswith("@@"):
        return given[1:]
    return _read_file(what, given[1:], most) if given.startswith("@") else given


def _read_file(what: str, path: str, most: int) -> bytes:
    hint = f"write @@{path} for the text itself"
    if not path:
        raise UsageError(f"{what}: '@' names no file", hint="write @@ for the text itself")
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a path as it was given
            return file.read(most)
    except PermissionError as error:
        raise Denied(f"{what}: {path!r} may not be read") from error
    except OSError as error:
        raise UsageError(f"{what}: cannot read {path!r}: {error.strerror}", hint=hint) from error


def scalar(text: str) -> Any:
    """Return a number, true, false or null where the text is one in JSON, else the text itself.

    A text that looks like a number is had with quotes: `--meta version='"1.0"'`.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if re.fullmatch(_NUMBER, text):
        number: Any = _number(text) if any(sign in text for sign in ".eE") else _whole(text)
        return check_number("a number", number)
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return msgspec.json.decode(text.encode("utf-8", "surrogatepass"), type=str)
        except ValueError:
            return check_text("a value", text)
    return check_text("a value", text)


def pairs(given: list[str]) -> dict[str, Any]:
    """Return `k=v` flags as an object; a later pair wins."""
    document: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{text!r} is not KEY=VALUE")
        document[check_text("a key", key)] = scalar(value)
    return document


def where(given: list[str]) -> list[tuple[str, str, Any]]:
    """Return `path OP value` conditions; operators are =, !=, <, <=, >, >=."""
    conditions = []
    for text in given:
        match = re.fullmatch(_WHERE, text)
        if match is None:
            raise UsageError(f"{text!r} is not a condition", hint="write PATH=VALUE; also !=, <, <=, >, >=")
        # `metadata.repo`, as the field is called in every answer, and `==`, as in every language, mean the same.
        path = check_text("a path", match[1].strip().removeprefix("metadata."), empty_ok=False)
        value = match[3].removeprefix("=") if match[2] == "=" else match[3]
        conditions.append((path, match[2], scalar(value.strip())))
    return conditions


def duration(text: str) -> int:
    """Return a duration in ms."""
    return parse_duration_ms(text)


def past(text: str) -> str:
    """Return an instant as RFC 3339; a bare duration lies behind now."""
    return to_rfc3339(parse_instant_ms(text, Clock().now_ms(), past=True))


def lasting(text: str) -> int:
    """Return a duration in ms that is longer than nothing."""
    ms = duration(text)
    if not ms:
        raise UsageError("it must be longer than nothing")
    return ms


def future(text: str) -> str:
    """Return an instant as RFC 3339; a bare duration lies ahead of now."""
    return to_rfc3339(parse_instant_ms(text, Clock().now_ms(), past=False))


def unit_interval(text: str) -> float:
    """Return a number within [0, 1]."""
    return check_unit_interval("the value", _number(text))


def measure(text: str) -> float:
    """Return a finite number that is not below zero."""
    number = float(check_number("the value", _number(text)))
    if number < 0:
        raise UsageError(f"the value must not be below zero, and {text} is")
    return number


def count(text: str) -> int:
    """Return a whole number within 0 and 2^63 - 1."""
    return check_count("the value", _whole(text))


def size(text: str) -> int:
    """Return a size in bytes: a whole number, with a unit if one is meant (10MB, 2GiB)."""
    match = re.fullmatch(r"([0-9]+) ?([kmgt]?)(i?)b?", text.strip().lower())
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"{text!r} is not a size", hint="write 5000000, 5MB or 5MiB")
    return check_count("the size", int(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))


def rate(text: str) -> float:
    """Return how many a second: 100, 100/s, 90/m, 5000/h."""
    number, _, unit = text.partition("/")
    seconds = {"": 1, "s": 1, "m": 60, "h": 3600}.get(unit)
    if seconds is None:
        raise UsageError(f"{text!r} is not a rate", hint="write 100/s, 90/m or 5000/h")
    return measure(number) / seconds


def or_none(parser: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser that takes `none` for no limit as well; what it read comes in a tuple of one."""
    return lambda text: (None,) if text == "none" else (parser(text),)


def truth(text: str) -> bool:
    """Return true or false."""
    if text.lower() not in ("true", "false"):
        raise UsageError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _number(text: str) -> float:
    try:
        return float(text.replace("_", "no"))  # Python's 1_000 is nobody else's
    except ValueError:
        raise UsageError(f"{text!r} is not a number") from None


def _whole(text: str) -> int:
    try:
        return int(text.replace("_", "no"))
    except ValueError:
        raise UsageError(f"{text!r} is not a whole number") from None


def name_of(what: str) -> Callable[[str], str]:
    """Return the parser of names of that kind."""

    def name(text: str) -> str:
        return check_name(what, text)

    return name


def episode_id(text: str) -> str:
    """Return an episode's id."""
    return check_id("episode", text)


def item_id(text: str) -> str:
    """Return an item's id."""
    return check_id("item", text)


def text(given: str) -> str:
    """Return Unicode text without NUL."""
    return check_text("the value", given)
