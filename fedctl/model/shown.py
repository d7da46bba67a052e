"""Sizes and times as a person reads them: in notes, tables and errors."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_WHOLE_BELOW = 2
"""Bytes and KiB are told without a fraction."""


def size(size_bytes: float) -> str:
    """Return `512 B`, `72 KiB`, `1.4 GiB`."""
    at = 0
    while size_bytes >= _STEP and at < len(_UNITS) - 1:
        size_bytes, at = size_bytes / _STEP, at + 1
    return f"{size_bytes:,.0f} {_UNITS[at]}" if at < _WHOLE_BELOW else f"{size_bytes:,.1f} {_UNITS[at]}"


def lasting(seconds: float) -> str:
    """Return `45s`, `3m05s`, `2h10m`, `3d4h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
