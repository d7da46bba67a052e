"""Tenants: the name that everything belongs to, and the small number that stands for it in keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.store.queries import load

if TYPE_CHECKING:
    from fedctl.store.database import Database


class Tenants:
    """Names to keys. A tenant comes into being with its first record."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("tenant")
        self._known: dict[str, int] = {}
        self._undone = database.undone

    def key(self, name: str) -> int | None:
        """Return the tenant's key, or None when nothing was ever kept for it."""
        if self._undone != self._db.undone:
            # A tenant that was made in what was rolled back is none; keys are never changed or reused otherwise.
            self._known.clear()
            self._undone = self._db.undone
        found = self._known.get(name)
        if found is None:
            found = self._db.value(self._sql["key"], {"name": name})
            if found is not None:
                self._known[name] = found
        return found

    def key_for_writing(self, name: str, now_ms: int) -> int:
        """Return the tenant's key; make the tenant when it is new. Inside a write transaction."""
        found = self.key(name)
        if found is None:
            self._db.run(self._sql["add"], {"name": name, "now_ms": now_ms})
            found = self.key(name)
            assert found is not None
        return found

    def count(self) -> int:
        """Return how many tenants have ever kept something."""
        return int(self._db.value(self._sql["count"]))

    def all(self) -> list[tuple[int, str]]:
        """Return (key, name) of every tenant."""
        return [(row[0], row[1]) for row in self._db.rows(self._sql["all"])]
