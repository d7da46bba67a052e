"""What can be asked of the tenants."""

from __future__ import annotations

import msgspec

from fedctl.messages.base import Answer, Request
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
