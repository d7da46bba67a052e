"""All checks, in the order they are told, and how they are carried out: none of them ends the examination."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedctl.doctor import disk, hub, machine, store, work
from fedctl.doctor.report import Check, Found, broken, failure
from fedctl.errors import FedctlError, denied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fedctl.doctor.patient import Patient

CHECKS: dict[str, Callable[[Patient], Found | None]] = {
    "versions": machine.versions,
    "sqlite": machine.sqlite,
    "config": disk.config,
    "home": disk.home,
    "permissions": disk.permissions,
    "file system": disk.file_system,
    "disk": disk.space,
    "schema": store.schema,
    "store": store.whole,
    "log": store.log,
    "erasures": store.erasures,
    "embeddings": store.pending,
    "backup": store.backup,
    "clock": store.clock,
    "hub": hub.hub,
    "certificate": hub.certificate,
    "hub disk": hub.room,
    "hub files": disk.hub_files,
    "workers": work.workers,
    "leases": work.leases,
    "pools": work.poisoned,
    "leftovers": disk.leftovers,
    "model": machine.model,
}
"""Name -> check. One returns None where there is nothing for it to look at (no store yet, a hub elsewhere)."""


def examine(
    patient: Patient, *, fix: bool = False, checks: Mapping[str, Callable[[Patient], Found | None]] = CHECKS
) -> Iterator[Check]:
    """Yield what each check found, as it is found; with `fix` what can be mended is, and looked at again."""
    for name, check in checks.items():
        found = _carried_out(check, patient)
        if found is None:
            continue
        fixed = None
        if found.mend is not None and patient.is_foreign:
            why = "; not mended: the home is another user's" if fix else ""
            found = found._replace(found=f"{found.found}{why}", mend=None)
        if fix and found.mend is not None:
            try:
                fixed = found.mend.do()
            except (FedctlError, OSError) as error:
                found = found._replace(found=f"{found.found}; that could not be mended: {error}")
            else:
                patient.forget()
                found = _carried_out(check, patient) or found._replace(status="ok", mend=None)
        yield found.told(name, fixed)


def _carried_out(check: Callable[[Patient], Found | None], patient: Patient) -> Found | None:
    try:
        return check(patient)
    except FedctlError as error:
        return broken(error)
    except PermissionError as error:
        return broken(denied(f"not for this user to look at: {error.filename}", Path(error.filename or ".")))
    except Exception as error:  # noqa: BLE001  that a check breaks is a finding, not the end
        return failure(f"this check itself failed: {type(error).__name__}: {error}",
                       "FEDCTL_DEBUG=1 fedctl doctor   # and please report it")  # fmt: skip
