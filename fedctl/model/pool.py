"""Pools of work: their items, from push to done or poisoned, and how each attempt ended."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fedctl.model.episode import EpisodeDraft

ItemStatus = Literal["pending", "claimed", "done", "poisoned"]
Outcome = Literal["claimed", "done", "failed", "expired", "released", "lost"]
"""How an attempt ended; `claimed` is the one under way, `lost` one whose worker was reaped or began anew."""

MAX_RETRIES = 3
LEASE_MS = 60_000
MIN_LEASE_MS = 100
MAX_LEASE_MS = 7 * 86_400_000
MAX_PRIORITY = 1 << 31
KEY_MAX_CHARACTERS = 200
FOLLOW_UPS_MAX = 100
"""Items that one completion may push."""
COMPLETION_MAX_BYTES = 3 << 20
"""A completion with all that follows from it, as JSON: it goes into one frame, and so does its answer."""


class ItemDraft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item to be pushed. `data` is any JSON value; a larger `priority` is claimed first.

    It can be claimed `delay_ms` from now, or from `available_at` (RFC 3339) on. `key` is the deduplication key:
    while an item with it is pending, delayed or claimed, pushing it again answers with that item.
    """

    id: str
    data: Any = None
    priority: int = 0
    max_retries: int = MAX_RETRIES
    delay_ms: int | None = None
    available_at: str | None = None
    key: str | None = None
    requires: list[str] = []


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An item as it lies in its pool. Times are RFC 3339 UTC.

    `attempts` counts claims; at `max_retries` of them a failure or an expired lease poisons the item. A pending one
    whose `available_at` lies ahead is delayed. `lease_id` is the fence: who has another one has lost the item.
    """

    id: str
    pool: str
    status: ItemStatus
    data: Any
    priority: int
    attempts: int
    max_retries: int
    claimed_by: str | None
    claimed_at: str | None
    lease_id: str | None
    lease_expires_at: str | None
    created_at: str
    available_at: str
    finished_at: str | None
    result: Any
    error: str | None
    key: str | None
    requires: list[str]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One claim of an item and what came of it."""

    worker_id: str
    claimed_at: str
    ended_at: str | None
    outcome: Outcome
    error: str | None


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool and how many of its items are in which state; `oldest_pending_s` is the age of the oldest claimable."""

    name: str
    paused: bool
    pending: int
    delayed: int
    claimed: int
    done: int
    poisoned: int
    oldest_pending_s: float | None


class FollowUp(msgspec.Struct, frozen=True, kw_only=True):
    """An item that is pushed when another is completed, in the same commit."""

    pool: str
    item: ItemDraft


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed item is done: its result, the items that follow from it, and what was learned."""

    id: str
    lease_id: str
    result: Any = None
    then_push: list[FollowUp] = []
    episode: EpisodeDraft | None = None


class ItemFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed item failed. It can be claimed again at once or after `retry_in_ms`; with `poison` not at all."""

    id: str
    lease_id: str
    error: str | None = None
    retry_in_ms: int = 0
    poison: bool = False


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """An item and the lease on it that somebody holds."""

    id: str
    lease_id: str
