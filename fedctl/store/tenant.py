"""Tenants: the name that everything belongs to, and the small number that stands for it in keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.model.tenant import Quota, Tenant
from fedctl.model.time import to_rfc3339
from fedctl.store.queries import load

if TYPE_CHECKING:
    from fedctl.store.database import Database


class Tenants:
    """Names to keys. A tenant comes into being with its first record."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("tenant")

    def key(self, name: str) -> int | None:
        """Return the tenant's key, or None when nothing was ever kept for it, or it was erased.

        Asked anew each time: somebody else may have erased it, and a key that is remembered would be written to.
        """
        found: int | None = self._db.value(self._sql["key"], {"name": name})
        return found

    def key_for_writing(self, name: str, now_ms: int) -> int:
        """Return the tenant's key; make the tenant when it is new. Inside a write transaction.

        One whose name was erased begins after that, whatever the clock says: a ledger names by name and time.
        """
        found = self.key(name)
        if found is None:
            from fedctl.store.ledger import tenant_digest  # noqa: PLC0415  a tenant is new but once

            self._db.run(self._sql["add"], {"name": name, "now_ms": now_ms, "digest": tenant_digest(name)})
            found = self.key(name)
            assert found is not None
            self._db.run(self._sql["add_usage"], {"key": found})
        return found

    def count(self) -> int:
        """Return how many tenants have ever kept something."""
        return int(self._db.value(self._sql["count"]))

    def all(self) -> list[tuple[int, str]]:
        """Return (key, name) of every tenant."""
        return [(row[0], row[1]) for row in self._db.rows(self._sql["all"])]

    def records(self, name: str | None) -> list[Tenant]:
        """Return all tenants, or the one of that name, with what they have and may have."""
        return [
            Tenant(
                id=row[0],
                created_at=to_rfc3339(row[1]),
                episodes=row[2],
                size_bytes=row[3],
                max_episodes=row[4],
                max_bytes=row[5],
                rate_per_s=row[6],
            )
            for row in self._db.rows(self._sql["records"], {"name": name})
        ]

    def quota(self, key: int) -> Quota | None:
        """Return what the tenant may have; None when nobody ever set it a limit."""
        row = self._db.row(self._sql["quota"], {"key": key})
        return None if row is None else Quota(max_episodes=row[0], max_bytes=row[1], rate_per_s=row[2])

    def set_quota(self, key: int, quota: Quota) -> None:
        """Set what the tenant may have. Inside a write transaction."""
        self._db.run(self._sql["set_quota"], {"key": key, **msgspec.structs.asdict(quota)})

    def usage(self, key: int) -> tuple[int, int]:
        """Return the tenant's episodes and the bytes of their text."""
        [(episodes, size_bytes)] = self._db.rows(self._sql["usage"], {"key": key})
        return episodes, size_bytes

    def episodes_everywhere(self) -> int:
        """Return how many episodes all tenants have."""
        return int(self._db.value(self._sql["episodes_everywhere"]))

    def rates(self) -> dict[str, float]:
        """Return name -> requests a second, of the tenants that have such a limit."""
        return dict(self._db.rows(self._sql["rates"]))
