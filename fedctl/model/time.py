"""Durations and instants: the grammar of the command line and the form in which times leave fedctl."""

from __future__ import annotations

import re
import time

from fedctl.errors import UsageError

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
# Patterns are compiled when first used: the three take a millisecond, and most commands are given no time.
_PART = r"(\d+(?:\.\d+)?)(ms|[smhdw])"
_ISO = (
    r"P(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_ISO_UNITS = ("w", "d", "h", "m", "s")
_INSTANT = r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:?\d\d)?)?"
# RFC 3339 has four digits for the year: 0001-01-01T00:00:00.000Z to 9999-12-31T23:59:59.999Z.
_MIN_MS = -62_135_596_800_000
_MAX_MS = 253_402_300_799_999


def parse_duration_ms(text: str) -> int:
    """Return a duration in ms: `90d`, `1h30m`, `250ms`, `2w`, or ISO 8601 `P90D`, `PT12H`. `m` is minutes.

    A bare number is refused (its unit would be a guess), so is anything below zero.
    """
    given = text.strip()
    total = 0.0
    if given[:1] in "Pp" and given:
        match = re.fullmatch(_ISO, given.upper(), re.ASCII)
        if match is None or not any(match.groups()) or given[-1] in "Tt":
            raise _not_a_duration(text)
        total = sum(float(part) * _UNIT_MS[unit] for part, unit in zip(match.groups(), _ISO_UNITS, strict=True) if part)
    else:
        end = 0
        seen: list[str] = []
        for match in re.finditer(_PART, given, re.ASCII):
            if match.start() != end or match[2] in seen:
                raise _not_a_duration(text)
            end = match.end()
            seen.append(match[2])
            total += float(match[1]) * _UNIT_MS[match[2]]
        if not seen or end != len(given):
            raise _not_a_duration(text)
    if total > _MAX_MS:
        raise UsageError(f"the duration {text!r} is longer than fedctl can count")
    return round(total)


def format_duration(ms: int) -> str:
    """Return a duration of whole ms as `parse_duration_ms` takes it, in the units of a person: `90d`, `1h30m`."""
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _UNIT_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _not_a_duration(text: str) -> UsageError:
    hint = "write it like 45s, 12h, 1h30m, 90d, 250ms or PT12H"
    if text.strip().replace(".", "", 1).isdigit():
        hint = f"a number needs its unit: {text.strip()}s, {text.strip()}m, ..."
    return UsageError(f"{text!r} is not a duration", hint=hint)


def parse_instant_ms(text: str, now_ms: int, *, past: bool) -> int:
    """Return an instant in ms since 1970: RFC 3339, a date, `now`, or a duration relative to `now_ms`.

    With `past` a bare duration lies behind now (`--since 7d`); a sign says it outright (`+3h`, `-7d`).
    A time without a zone is UTC.
    """
    given = text.strip()
    if given.lower() == "now":
        return now_ms
    match = re.fullmatch(_INSTANT, given, re.ASCII)
    if match is not None:
        return _calendar_ms(match, text)
    try:
        if given[:1] in ("+", "-"):
            offset = parse_duration_ms(given[1:])
            return now_ms + offset if given[0] == "+" else now_ms - offset
        offset = parse_duration_ms(given)
    except UsageError:
        raise UsageError(
            f"{text!r} is not a time", hint="write 2026-01-31, 2026-01-31T12:00:00Z, now, 7d or +3h"
        ) from None
    return now_ms - offset if past else now_ms + offset


def _calendar_ms(match: re.Match[str], text: str) -> int:
    import calendar  # noqa: PLC0415  only an absolute time needs it

    year, month, day = int(match[1]), int(match[2]), int(match[3])
    hour, minute, second = int(match[4] or 0), int(match[5] or 0), int(match[6] or 0)
    days = calendar.monthrange(year, month)[1] if 1 <= month <= 12 and year else 0  # noqa: PLR2004
    if not 1 <= day <= days or hour > 23 or minute > 59 or second > 60:  # noqa: PLR2004  60: a leap second
        raise UsageError(f"{text!r} is not a time that exists")
    ms = calendar.timegm((year, month, day, hour, minute, second)) * 1000 + int((match[7] or "0").ljust(3, "0")[:3])
    zone = match[8]
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:  # noqa: PLR2004
            raise UsageError(f"{text!r} is not a time that exists")
        offset_min = hours * 60 + minutes
        ms -= (offset_min if zone[0] == "+" else -offset_min) * 60_000
    if not _MIN_MS <= ms <= _MAX_MS:
        raise UsageError(f"{text!r} is outside the years 1 to 9999")
    return ms


def to_rfc3339(ms: int) -> str:
    """Return `ms` since 1970 as RFC 3339 in UTC with milliseconds and `Z`."""
    seconds, fraction = divmod(max(_MIN_MS, min(ms, _MAX_MS)), 1000)
    t = time.gmtime(seconds)
    return f"{t[0]:04}-{t[1]:02}-{t[2]:02}T{t[3]:02}:{t[4]:02}:{t[5]:02}.{fraction:03}Z"


def from_rfc3339(text: str) -> int:
    """Return the ms of an absolute time; relative forms are refused."""
    match = re.fullmatch(_INSTANT, text.strip(), re.ASCII) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"{text!r} is not a time", hint="write it like 2026-01-31T12:00:00.000Z")
    return _calendar_ms(match, text)
