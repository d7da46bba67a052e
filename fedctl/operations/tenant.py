"""Tenants and their quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import Conflict, NotFound, UsageError
from fedctl.messages import tenant as t
from fedctl.model import limits
from fedctl.model.tenant import Quota, Tenant

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

_RATE_MIN_PER_S = 0.01
_RATE_MAX_PER_S = 1e6


def list_(ctx: Context, who: Principal, _request: t.ListTenants) -> t.TenantList:
    """List the tenants by name; an admin sees its own only."""
    return t.TenantList(tenants=ctx.store.tenants.records(None if who.may("operator") else who.tenant_id))


def show(ctx: Context, who: Principal, request: t.GetTenant) -> t.TenantAnswer:
    """Return one tenant."""
    limits.check_name("tenant", request.name)
    return t.TenantAnswer(tenant=_record(ctx, who, request.name))


def set_(ctx: Context, who: Principal, request: t.SetTenant) -> t.TenantAnswer:
    """Set a tenant's quotas."""
    limits.check_name("tenant", request.name)
    given = {name: value for name in Quota.__struct_fields__ if (value := getattr(request, name)) is not msgspec.UNSET}
    for name in ("max_episodes", "max_bytes"):
        if given.get(name) is not None:
            limits.check_count(name, given[name])
    rate = given.get("rate_per_s")
    if rate is not None and not _RATE_MIN_PER_S <= rate <= _RATE_MAX_PER_S:  # written so that NaN does not pass
        raise UsageError(f"a rate is within {_RATE_MIN_PER_S:g} and {_RATE_MAX_PER_S:,.0f} a second")
    now_ms = ctx.clock.now_ms()
    with ctx.store.write():
        key = ctx.store.tenants.key_for_writing(request.name, now_ms)
        before = ctx.store.tenants.quota(key) or Quota()
        quota = msgspec.structs.replace(before, **given)
        if quota != before:
            ctx.store.tenants.set_quota(key, quota)
            ctx.store.changes.add(
                key, "tenant_changed", request.name, now_ms=now_ms, detail=msgspec.structs.asdict(quota)
            )
        return t.TenantAnswer(tenant=_record(ctx, who, request.name))


def _record(ctx: Context, who: Principal, name: str) -> Tenant:
    found = ctx.store.tenants.records(name) if name == who.tenant_id or who.may("operator") else []
    if not found:
        raise NotFound(f"there is no tenant {name}", hint="fedctl tenant list shows them", details={"tenant": name})
    return found[0]


class Room:
    """What a tenant's quotas leave for the episodes of one request; inside its write transaction.

    The counts are the store's own, changed in the same transaction: many writers together get exactly the quota.
    """

    def __init__(self, ctx: Context, tenant_id: str, tenant_key: int) -> None:
        """Look the quota up, which a tenant without one pays with one probe of an index."""
        self._tenant_id = tenant_id
        self._quota = ctx.store.tenants.quota(tenant_key)
        self._episodes, self._bytes = (0, 0) if self._quota is None else ctx.store.tenants.usage(tenant_key)

    def refusal(self, size_bytes: int) -> Conflict | None:
        """Take one more episode in, or return why there is no room for it."""
        quota = self._quota
        if quota is None:
            return None
        if quota.max_episodes is not None and self._episodes >= quota.max_episodes:
            return self._over("max_episodes", "episodes", quota.max_episodes, self._episodes)
        if quota.max_bytes is not None and self._bytes + size_bytes > quota.max_bytes:
            return self._over("max_bytes", "bytes", quota.max_bytes, self._bytes, size_bytes)
        self._episodes += 1
        self._bytes += size_bytes
        return None

    def _over(self, name: str, unit: str, most: int, present: int, more: int = 1) -> Conflict:
        added = f", and this episode has {more:,}" if unit == "bytes" else ""
        return Conflict(
            f"the tenant {self._tenant_id} is over its quota: it has {present:,} of {most:,} {unit}{added}",
            hint=f"delete some, or raise it: fedctl tenant set {self._tenant_id} --{name.replace('_', '-')} N",
            details={"quota": name, "limit": most, "present": present},
        )
