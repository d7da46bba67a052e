"""What can be asked of retention."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fedctl.messages.base import Answer, Request
from fedctl.model.retention import GUARD_SHARE, Policy


class PolicyAnswer(Answer, frozen=True, kw_only=True):
    """The tenant's policy, after the change."""

    tenant_id: str
    policy: Policy


class SetPolicy(Request[PolicyAnswer], frozen=True, kw_only=True, tag="retention.set"):
    """Set rules of the tenant's policy (see `Policy`): None lifts one, what is not given stays."""

    max_age_ms: int | msgspec.UnsetType | None = msgspec.UNSET
    min_reward: float | msgspec.UnsetType | None = msgspec.UNSET
    max_episodes: int | msgspec.UnsetType | None = msgspec.UNSET
    keep_last: int | msgspec.UnsetType | None = msgspec.UNSET
    keep_success: bool | msgspec.UnsetType = msgspec.UNSET
    keep_where: list[tuple[str, str, Any]] | msgspec.UnsetType = msgspec.UNSET
    items_max_age_ms: int | msgspec.UnsetType | None = msgspec.UNSET
    events_max_age_ms: int | msgspec.UnsetType | None = msgspec.UNSET
    agents_max_age_ms: int | msgspec.UnsetType | None = msgspec.UNSET


class GetPolicy(Request[PolicyAnswer], frozen=True, kw_only=True, tag="retention.show"):
    """The tenant's policy; one without any rule where nobody set one."""


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy removed of a tenant, or with `dry_run` would remove.

    `examined`, `removed` and `kept` count episodes, `reasons` those removed by rule: the first that says so.
    `bytes_freed` is of the text of all that went; the file shrinks with `store vacuum`. `more`: it ended before all was
    done. `error` (as in the error contract) is why nothing was removed, or would be.
    """

    tenant_id: str
    policy: Policy
    dry_run: bool
    examined: int = 0
    removed: int = 0
    kept: int = 0
    reasons: dict[str, int] = {}
    bytes_freed: int = 0
    items_removed: int = 0
    events_removed: int = 0
    agents_removed: int = 0
    more: bool = False
    error: dict[str, Any] | None = None


class PruneAnswer(Answer, frozen=True, kw_only=True):
    """One result a tenant."""

    results: list[Pruned]


class Prune(Request[PruneAnswer], frozen=True, kw_only=True, tag="retention.prune"):
    """Carry out the tenant's policy, or that of every tenant that has one.

    Where more would go than `max_rows`, or without that more than 100 and more than `max_share` of what was looked
    at, nothing goes: of one tenant that is a conflict, of all it stands in the tenant's result. While
    another run is under way it is `Unavailable`, with the `job` in its details. It ends itself after `max_ms`.
    """

    dry_run: bool = False
    max_share: float = GUARD_SHARE
    max_rows: int | None = None
    all_tenants: bool = False
    max_ms: int | None = None


class ExplainAnswer(Answer, frozen=True, kw_only=True):
    """What the policy makes of an episode now, and why.

    It goes by `removed_by`, or is kept whatever these say by `kept_by`; neither: no rule is about it. `goes_at` is now
    if a rule removes it already, else when it is old enough to go, if nothing protects it. `place` of `examined` is its
    place among the tenant's by `created_at`, 1 the newest.
    """

    id: str
    verdict: Literal["kept", "going"]
    removed_by: list[str]
    kept_by: list[str]
    goes_at: str | None
    place: int
    examined: int


class ExplainEpisode(Request[ExplainAnswer], frozen=True, kw_only=True, tag="retention.explain"):
    """Say whether an episode would go if the policy were carried out now, and by which rule."""

    id: str
