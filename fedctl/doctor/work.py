"""Work: who has fallen silent with it, what came back from nobody, and what was given up."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from fedctl.client import paging
from fedctl.doctor.report import Found, note, ok, several, warning
from fedctl.messages.pool import ListPools
from fedctl.messages.worker import ListWorkers
from fedctl.model.shown import lasting

if TYPE_CHECKING:
    from fedctl.doctor.patient import Patient

LEASE_OVERDUE_S = 300.0
"""A lease that ran out is nobody's business for a while: the next claim takes the item back."""


def workers(patient: Patient) -> Found | None:
    """No worker has fallen silent."""
    if not (patient.has_hub if patient.remote else patient.can_open):
        return None
    silent: dict[str, list[str]] = {}
    total = 0
    for tenant, caller in patient.tenants():
        found = paging.workers(caller, ListWorkers(statuses=["active", "terminating"]))
        total += len(found)
        if stale := [worker.worker_id for worker in found if worker.stale]:
            silent[tenant] = stale
    count = sum(map(len, silent.values()))
    figures: dict[str, Any] = {"workers": total, "stale": count, "tenants": list(silent)}
    if not count:
        return ok(f"{several(total, 'worker')}, none is silent" if total else "no workers", **figures)
    names = [name for stale in silent.values() for name in stale]
    told = ", ".join(names[:3]) + (f" and {count - 3:,} more" if count > 3 else "")  # noqa: PLR2004
    fix = " && ".join(patient.command("worker reap", tenant) for tenant in silent)
    return warning(f"{count:,} of {several(total, 'worker')} silent for twice their interval: {told}", fix, **figures)


def leases(patient: Patient) -> Found | None:
    """What dead workers held has been taken up again."""
    if not patient.can_open:
        return None
    now_ms = patient.clock.steady_ms()
    count, first_ms = patient.context.store.pools.expired_everywhere(now_ms)
    if not count or first_ms is None:
        return ok("no lease has run out", expired=0)
    since_s = (now_ms - first_ms) / 1000
    told = f"{several(count, 'lease')} ran out, the first {lasting(since_s)} ago, and nobody claims there"
    if since_s < LEASE_OVERDUE_S:
        return note(told, expired=count, since_s=since_s)
    return warning(told, patient.command("pool work POOL -- CMD") + "   # any claim takes them back", expired=count,
                   since_s=since_s)  # fmt: skip


def poisoned(patient: Patient) -> Found | None:
    """Nothing was given up."""
    if not (patient.has_hub if patient.remote else patient.can_open):
        return None
    pools = [(tenant, pool) for tenant, caller in patient.tenants() for pool in caller.call(ListPools()).pools]
    spoilt = [(tenant, pool) for tenant, pool in pools if pool.poisoned]
    count = sum(pool.poisoned for _, pool in spoilt)
    pending = sum(pool.pending for _, pool in pools)
    figures: dict[str, Any] = {"pools": len(pools), "poisoned": count, "pending": pending}
    if not spoilt:
        return ok(f"{several(len(pools), 'pool')}, nothing poisoned" if pools else "no pools", **figures)
    tenant, pool = spoilt[0]
    fix = patient.command(f"pool items {shlex.quote(pool.name)} --status poisoned", tenant)
    names = ", ".join(pool.name for _, pool in spoilt[:3])
    return note(f"{several(count, 'item')} poisoned in {names}: tried as often as was allowed", fix, **figures)
