"""What can be asked of the tenants."""

from __future__ import annotations

import msgspec

from fedctl.messages.base import Answer, Request
from fedctl.model.backup import Backup
from fedctl.model.tenant import Tenant


class TenantAnswer(Answer, frozen=True, kw_only=True):
    """The tenant's record, after the change."""

    tenant: Tenant


class TenantList(Answer, frozen=True, kw_only=True):
    """Tenants by name."""

    tenants: list[Tenant]


class ListTenants(Request[TenantList], frozen=True, kw_only=True, tag="tenant.list"):
    """List the tenants: to who runs the hub all of them, to an admin its own."""


class GetTenant(Request[TenantAnswer], frozen=True, kw_only=True, tag="tenant.show"):
    """One tenant: what it has, and what it may have."""

    name: str


class SetTenant(Request[TenantAnswer], frozen=True, kw_only=True, tag="tenant.set"):
    """Set a tenant's quotas: None lifts one, what is not given stays. A tenant that is not there yet is made.

    A quota below what the tenant has takes nothing away; it refuses what is new.
    """

    name: str
    max_episodes: int | msgspec.UnsetType | None = msgspec.UNSET
    max_bytes: int | msgspec.UnsetType | None = msgspec.UNSET
    rate_per_s: float | msgspec.UnsetType | None = msgspec.UNSET


HELD = ("episodes", "items", "agents", "workers", "vectors")
"""What is counted of what a tenant has."""


class TenantErasure(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure takes away (`dry_run`: would): what there was when it, or its going on, began.

    `complete`: no byte of the tenant's is in the home any more. If not, `notes` say why, and it is gone on with later.
    `backups` are those that may still hold it, and those that nobody can look into.
    """

    tenant_id: str
    dry_run: bool
    episodes: int
    items: int
    agents: int
    workers: int
    tokens: int
    vectors: int
    complete: bool
    backups: list[Backup]
    notes: list[str]


class EraseTenantAnswer(Answer, frozen=True, kw_only=True):
    """`remaining`: how many of what is counted are still there, at the end of the step."""

    erasure: TenantErasure
    remaining: int


class EraseTenant(Request[EraseTenantAnswer], frozen=True, kw_only=True, tag="tenant.erase"):
    """One step of erasing a tenant and all that it has, for about `budget_ms`.

    With `begin` the name leads nowhere from now on, its tokens are worthless, and a new tenant may have it; steps
    without it go on, until `complete`, or until there are `notes`. What is not finished anybody may go on with.
    """

    name: str
    begin: bool = True
    dry_run: bool = False
    budget_ms: int = 1000
