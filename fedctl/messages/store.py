"""What can be asked of the store as a whole."""

from __future__ import annotations

from typing import Literal

import msgspec

from fedctl.messages.base import Answer, Request


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a check found: where, what, and what mends it."""

    check: str
    severity: Literal["derived", "data"]
    message: str
    fix: str


class CheckAnswer(Answer, frozen=True, kw_only=True):
    """What was checked and what was found; clean when `findings` is empty.

    `read_only`: writes are refused, because the disk is nearly full.
    """

    checks: list[str]
    findings: list[Finding]
    episodes: int
    disk_free_bytes: int = 0
    read_only: bool = False


class CheckStore(Request[CheckAnswer], frozen=True, kw_only=True, tag="store.check"):
    """Check that the database is whole and that what is derived from it agrees with it.

    Without `full`: counts, the change log, index digests. With it: SQLite's integrity check and every vector.
    """

    full: bool = False
