"""Retention: what a tenant keeps, and what may go."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from fedctl.errors import UsageError
from fedctl.model import limits
from fedctl.model.episode import EpisodeFilter, check_filter

GUARD_SHARE = 0.2
"""A run that would remove more than this share of what it looked at removes nothing, unless it is told otherwise."""
GUARD_FROM_ROWS = 100
"""So few rows may go whatever share they are."""
KEEP_WHERE_MAX = 16
_DURATIONS = ("max_age_ms", "items_max_age_ms", "events_max_age_ms", "agents_max_age_ms")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What goes and what stays of a tenant; None, False and [] are no rule.

    Episodes go that are older than `max_age_ms`, or whose reward is below `min_reward`, or that are the oldest of more
    than `max_episodes`. Stay will, whatever says that they go: the `keep_last` newest, with `keep_success` those that
    succeeded, and those whose metadata fulfil any condition of `keep_where` (as in `EpisodeFilter.where`); and pinned
    ones always. Newest is what was stored last, as everywhere.

    Of items those go that were done or poisoned longer ago than `items_max_age_ms`, of events (the change log) those
    older than `events_max_age_ms`, but for what tells of living episodes, of agents the dead ones whose lifetime ended
    longer ago than `agents_max_age_ms`.
    """

    max_age_ms: int | None = None
    min_reward: float | None = None
    max_episodes: int | None = None
    keep_last: int | None = None
    keep_success: bool = False
    keep_where: list[tuple[str, str, Any]] = []
    items_max_age_ms: int | None = None
    events_max_age_ms: int | None = None
    agents_max_age_ms: int | None = None

    @property
    def removes(self) -> bool:
        """Whether there is a rule by which anything goes."""
        rules = (self.min_reward, self.max_episodes, *(getattr(self, name) for name in _DURATIONS))
        return any(one is not None for one in rules)

    @property
    def removes_episodes(self) -> bool:
        """Whether there is a rule by which episodes go."""
        return any(one is not None for one in (self.max_age_ms, self.min_reward, self.max_episodes))


class Record(NamedTuple):
    """What a policy needs to know of an episode.

    `seq` is its place in the change log, `wanted` whether a condition of `keep_where` holds, `size_bytes` what its
    text takes.
    """

    seq: int
    created_at_ms: int
    reward: float | None
    success: bool | None
    pinned: bool
    wanted: bool
    size_bytes: int


def check_policy(policy: Policy) -> None:
    """Check what a policy says; `UsageError` names the rule that makes no sense."""
    for name in _DURATIONS:
        value = getattr(policy, name)
        if value is not None and limits.check_count(name, value) == 0:
            raise UsageError(f"{name} must be longer than nothing")
    if policy.min_reward is not None:
        limits.check_unit_interval("min_reward", policy.min_reward)
    for name in ("max_episodes", "keep_last"):
        if getattr(policy, name) is not None:
            limits.check_count(name, getattr(policy, name))
    if len(policy.keep_where) > KEEP_WHERE_MAX:
        raise UsageError(f"a policy has at most {KEEP_WHERE_MAX} conditions of what to keep")
    check_filter(EpisodeFilter(where=policy.keep_where))
