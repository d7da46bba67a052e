"""What a store knows of itself: its epoch, and the model its vectors are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.store.queries import load

if TYPE_CHECKING:
    from fedctl.store.database import Database


class StoreSettings:
    """A few named texts."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("setting")

    def get(self, name: str) -> str | None:
        """Return a setting's text, or None."""
        value: str | None = self._db.value(self._sql["get"], {"name": name})
        return value

    def put(self, name: str, value: str) -> None:
        """Set it. Inside a write transaction."""
        self._db.run(self._sql["set"], {"name": name, "value": value})

    def epoch(self) -> str:
        """Return the id of this store's history; a restore begins a new one."""
        return self.get("epoch") or ""
