"""What became of a restore."""

from __future__ import annotations

import msgspec


class ErasedAgain(msgspec.Struct, frozen=True, kw_only=True):
    """What the backup still held of what was erased since, and the restored store does not."""

    tenants: int = 0
    episodes: int = 0


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """The store is a backup's now.

    `id` and `created_at` are the backup's, `epoch` names the history that begins (None: nothing was done yet).
    `episodes` and `items` are counts of what is there now; `notes` say what is not as it was, a sentence each.
    """

    id: str
    created_at: str
    path: str
    episodes: int
    items: int
    erased_again: ErasedAgain
    epoch: str | None
    notes: list[str]
