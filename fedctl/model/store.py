"""What became of a store that was looked after as a whole."""

from __future__ import annotations

import msgspec


class Vacuumed(msgspec.Struct, frozen=True, kw_only=True):
    """A store that was rewritten: its size before and after, the log included."""

    path: str
    before_bytes: int
    after_bytes: int
    freed_bytes: int


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """A store's schema before and now."""

    path: str
    schema_from: int
    schema_to: int
    migrated: bool
