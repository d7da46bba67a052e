"""The limits of what fedctl takes, the same on every way in, and the checks that hold them.

Every check raises `UsageError` that names the limit. Nothing here reads or writes anything.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from fedctl.errors import UsageError

EPISODE_MAX_BYTES = 1 << 20
"""An episode, as JSON."""
ERROR_TEXT_MAX_BYTES = 64 << 10
_CUT = " [cut]"
FRAME_MAX_BYTES = 4 << 20
"""One frame on a socket, after authentication."""
FIRST_FRAME_MAX_BYTES = 16 << 10
"""The one frame that is read from a peer which has not said who it is."""
PAGE_MAX_BYTES = 2 << 20
"""Where an answer of many records is cut into pages; leaves room for one more episode under the frame limit."""
BATCH_MAX_ITEMS = 1000
"""Records in one transaction."""
JSON_MAX_DEPTH = 32
NAME_MAX_CHARACTERS = 128
ID_MAX_CHARACTERS = 200
QUERY_MAX_BYTES = 64 << 10
K_MAX = 1000
INT64_MAX = (1 << 63) - 1

_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")


def check_name(what: str, name: object) -> str:
    """Return `name` if it is a name by the one grammar: 1 to 128 of `A-Za-z0-9._:-`, no leading `.` or `-`."""
    if not isinstance(name, str) or not name:
        msg = f"{_a(what)} name must not be empty"
        raise UsageError(msg)
    if len(name) > NAME_MAX_CHARACTERS:
        msg = f"{_a(what)} name has at most {NAME_MAX_CHARACTERS} characters, this one has {len(name)}"
        raise UsageError(msg)
    if name[0] in ".-" or not _NAME_CHARACTERS.issuperset(name):
        shown = name.encode("utf-8", "backslashreplace").decode("ascii", "backslashreplace")
        raise UsageError(
            f"{shown!r} is not {_a(what)} name",
            hint="names use A-Z a-z 0-9 . _ : - and do not start with . or -",
        )
    return name


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def check_id(what: str, value: object) -> str:
    """Return `value` if it is an id: 1 to 200 printable characters, compared exactly."""
    if not isinstance(value, str) or not value:
        msg = f"an {what} id must not be empty"
        raise UsageError(msg)
    if len(value) > ID_MAX_CHARACTERS:
        msg = f"an {what} id has at most {ID_MAX_CHARACTERS} characters, this one has {len(value)}"
        raise UsageError(msg)
    if not value.isprintable():
        msg = f"an {what} id holds printable characters only"
        raise UsageError(msg)
    return value


def check_text(what: str, value: object, *, empty_ok: bool = True, nul_ok: bool = False) -> str:
    """Return `value` if it is Unicode text: no lone surrogates (bytes that were not UTF-8), no NUL."""
    if not isinstance(value, str):
        msg = f"{what} must be text"
        raise UsageError(msg)
    if not empty_ok and not value.strip():
        msg = f"{what} must not be empty"
        raise UsageError(msg)
    if "\0" in value and not nul_ok:
        msg = f"{what} must not contain NUL"
        raise UsageError(msg)
    _check_unicode(what, value)
    return value


def cut_error(text: str) -> str:
    """Return what is kept of an error's text: its beginning, marked, where it is too long."""
    clean = text.encode(errors="replace")
    if len(clean) <= ERROR_TEXT_MAX_BYTES:
        return clean.decode()
    return clean[: ERROR_TEXT_MAX_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def check_unit_interval(what: str, value: object) -> float:
    """Return `value` as a float if it is a number within [0, 1]."""
    number = _finite_float(what, value)
    if not 0 <= number <= 1:
        msg = f"{what} must be within 0 and 1, not {number:g}"
        raise UsageError(msg)
    return number


def check_measure(what: str, value: object) -> float:
    """Return `value` as a float if it is a finite number that is not below zero."""
    number = _finite_float(what, value)
    if number < 0:
        msg = f"{what} must not be negative"
        raise UsageError(msg)
    return number


def check_number(what: str, value: object) -> int | float:
    """Return `value` if it is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{what} must be a number"
        raise UsageError(msg)
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"{what} must be a finite number"
        raise UsageError(msg)
    return value


def check_count(what: str, value: object) -> int:
    """Return `value` if it is a whole number within 0 and 2^63 - 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{what} must be a whole number"
        raise UsageError(msg)
    if not 0 <= value <= INT64_MAX:
        msg = f"{what} must be within 0 and 2^63 - 1"
        raise UsageError(msg)
    return value


def check_json(what: str, value: Any) -> None:  # noqa: C901  one branch a kind of JSON value
    """Check a JSON value: depth, finite numbers, no lone surrogates, text keys. Walks with a list, not the stack."""
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, str):
            _check_unicode(what, item)
        elif item is None or isinstance(item, bool | int):
            continue
        elif isinstance(item, float):
            if not math.isfinite(item):
                msg = f"{what} must hold finite numbers only"
                raise UsageError(msg)
        elif isinstance(item, list | tuple | dict):
            if depth > JSON_MAX_DEPTH:
                msg = f"{what} is nested deeper than {JSON_MAX_DEPTH} levels"
                raise UsageError(msg)
            if isinstance(item, dict):
                for key in item:
                    if not isinstance(key, str):
                        msg = f"{what} must have text keys only"
                        raise UsageError(msg)
                    _check_unicode(what, key)
                todo.extend((member, depth + 1) for member in item.values())
            else:
                todo.extend((member, depth + 1) for member in item)
        else:
            msg = f"{what} must be JSON, not {type(item).__name__}"
            raise UsageError(msg)


def encode_json(what: str, value: Any) -> str:
    """Return a checked JSON value as JSON text."""
    try:
        text = msgspec.json.encode(value)
        # What comes back equal from JSON was JSON: the walk, a second for a million numbers, is for what did not.
        if msgspec.json.decode(text) != value or _is_too_deep(text):
            check_json(what, value)
    except (TypeError, ValueError, RecursionError) as error:
        check_json(what, value)
        # Left are a foreign subclass of text or number, and more than 4,300 digits.
        raise UsageError(f"{what} cannot be written as JSON: {error}") from None
    return text.decode()


_STRINGS = rb'"(?:[^"\\]|\\.)*"'
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _is_too_deep(text: bytes) -> bool:
    """Return whether JSON is nested too deep, without walking it: each pass takes the innermost level away."""
    if text.count(b"[") + text.count(b"{") <= JSON_MAX_DEPTH:
        return False
    brackets = re.sub(_STRINGS, b"", text).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(JSON_MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _finite_float(what: str, value: object) -> float:
    try:
        # A column of floats keeps no sign of zero: one that came back would differ from what was given.
        return float(check_number(what, value)) + 0.0
    except OverflowError:
        msg = f"{what} must be a finite number"
        raise UsageError(msg) from None


def _check_unicode(what: str, text: str) -> None:
    # Encoding is the cheapest test there is: it runs in C and fails on lone surrogates only.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{what} holds bytes that are not UTF-8 (a lone surrogate)", hint="send text as valid UTF-8"
        ) from None
