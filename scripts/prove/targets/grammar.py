"""The grammar of values: durations, instants, names, ids, numbers, pairs, conditions. A target of `fuzz`.

What is taken is within its limits and says the same when it is written and read again; all else is a `UsageError`.
"""

from __future__ import annotations

import contextlib
import os
import re

import msgspec

from fedctl.cli import values
from fedctl.errors import UsageError
from fedctl.model import limits
from fedctl.model.time import from_rfc3339, parse_duration_ms, parse_instant_ms, to_rfc3339

from .lines import same

ABOUT = "durations, instants, names, values"
INCLUDE = ("fedctl.cli.values", "fedctl.model.time", "fedctl.model.limits")
WORDS = (b"1h30m", b"90d", b"250ms", b"P1W", b"PT12H", b"2026-01-31T12:00:00.000Z", b"+02:00", b"now", b"-7d", b"1e400",
         b"==", b"!=", b"<=", b"metadata.", b"\xd9\xa1", b"\xc2\xb2", b"\0", b"\xed\xa0\x80", b'"\\u00e9"', b"9" * 400,
         b"0001-01-01", b"9999-12-31T23:59:59.999Z", b"-00:00", b"23:59:60")  # fmt: skip
NOW_MS = 1_767_225_600_000
_NAME = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,127}")
_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def originals() -> list[bytes]:
    """Return values of each kind."""
    return [b"1h30m", b"1.5d", b"PT1H30M", b"P2W", b"2026-01-31", b"2026-01-31T12:00:00.5+02:00", b"+3h", b"7d",
            b"now", b"a-name.1:x", b"repo=api", b"a.b!=1.5", b'version="1.0"', b"-1e-7", b"a<=2026"]  # fmt: skip


def check(data: bytes) -> None:
    """Read the text as each kind of value."""
    text = os.fsdecode(data)
    _times(text)
    _names(text)
    _values(text)


def _times(text: str) -> None:
    try:
        ms = parse_duration_ms(text)
        assert type(ms) is int
        assert 0 <= ms <= 253_402_300_799_999
        assert parse_duration_ms(f"{ms}ms") == ms
    except UsageError:
        pass
    for past in (True, False):
        try:
            at = parse_instant_ms(text, NOW_MS, past=past)
        except UsageError:
            continue
        written = to_rfc3339(at)
        assert _WRITTEN.fullmatch(written), written
        again = from_rfc3339(written)
        assert again == at or not -62_135_596_800_000 <= at <= 253_402_300_799_999, (text, at, again)
    with contextlib.suppress(UsageError):
        assert from_rfc3339(text) == parse_instant_ms(text, NOW_MS, past=True)


def _names(text: str) -> None:
    try:
        taken = limits.check_name("tenant", text) == text
    except UsageError as error:
        taken = False
        error.message.encode()
    assert taken == (_NAME.fullmatch(text) is not None), text
    try:
        id_ = limits.check_id("episode", text)
        assert 0 < len(id_) <= 200
        assert id_.isprintable()
        assert id_ == text
    except UsageError:
        pass


def _values(text: str) -> None:
    try:
        value = values.scalar(text)
        assert same(msgspec.json.decode(msgspec.json.encode(value)), value), value
    except UsageError:
        pass
    try:
        for value in values.pairs([text]).values():
            assert same(msgspec.json.decode(msgspec.json.encode(value)), value), value
    except UsageError:
        pass
    try:
        ((path, operator, _),) = values.where([text])
        assert path.strip()
        assert operator in ("=", "!=", "<", "<=", ">", ">=")
    except UsageError:
        pass
