"""Tenants: what each has, and what it may have."""

from __future__ import annotations

import msgspec


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may have; None is no limit.

    `max_bytes` is of the text of its episodes (task, input, output, critique, metadata, as UTF-8). `rate_per_s` is
    what it may ask of a hub in a second: requests, and in a batch each of its episodes or items.
    """

    max_episodes: int | None = None
    max_bytes: int | None = None
    rate_per_s: float | None = None


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that has kept something or was given a quota. `created_at` is RFC 3339 UTC; see `Quota`."""

    id: str
    created_at: str
    episodes: int
    size_bytes: int
    max_episodes: int | None
    max_bytes: int | None
    rate_per_s: float | None
