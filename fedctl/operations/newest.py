"""Pages of what is listed newest first: where one ends is a time and an id, whatever comes or goes meanwhile."""

from __future__ import annotations

from typing import NamedTuple

from fedctl.errors import UsageError
from fedctl.model.time import from_rfc3339

PAGE_MAX = 10_000


class After(NamedTuple):
    """What a page comes after: a time in ms since 1970, and of that time an id."""

    ms: int
    id: str


def after(cursor: str | None) -> After:
    """Return what a cursor says (None: the beginning); `UsageError` if it is none of ours."""
    if cursor is None:
        return After((1 << 63) - 1, "")
    at, _, id_ = cursor.partition("/")
    try:
        return After(from_rfc3339(at), id_)
    except (ValueError, UsageError):
        raise UsageError(f"{cursor!r} is no cursor of a list", hint="take it from the page before") from None


def cursor_after(at: str, id_: str) -> str:
    """Return the cursor behind a record; `at` is RFC 3339 with milliseconds."""
    return f"{at}/{id_}"


def page_limit(limit: int) -> int:
    """Return how many records a page has, whatever was asked for."""
    return min(max(limit, 1), PAGE_MAX)
