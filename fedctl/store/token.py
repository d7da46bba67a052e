"""What is known of issued tokens; never a token itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.model.time import to_rfc3339
from fedctl.model.token import TokenRecord, TokenRole
from fedctl.store.queries import load

if TYPE_CHECKING:
    from fedctl.store.database import Database, Row


class Tokens:
    """Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("token")

    def add(  # noqa: PLR0913  one parameter a column
        self, token_id: str, *, tenant_id: str, agent_id: str | None, role: TokenRole, now_ms: int, expires_at_ms: int
    ) -> None:
        """Note that a token was issued."""
        self._db.run(
            self._sql["add"],
            {"id": token_id, "tenant_id": tenant_id, "agent_id": agent_id, "role": role, "now_ms": now_ms,
             "expires_at_ms": expires_at_ms},
        )  # fmt: skip

    def get(self, token_id: str) -> TokenRecord | None:
        """Return the record, or None."""
        row = self._db.row(self._sql["get"], {"id": token_id})
        return None if row is None else _to_record(row)

    def page(self, tenant_id: str | None, *, limit: int, after: tuple[int, str]) -> list[TokenRecord]:
        """Return records of one tenant or of all, newest first, that come after one of that time (ms) and id."""
        rows = self._db.rows(
            self._sql["list"], {"tenant_id": tenant_id, "limit": limit, "after_ms": after[0], "after_id": after[1]}
        )
        return [_to_record(row) for row in rows]

    def count(self, tenant_id: str | None) -> int:
        """Return how many records there are of one tenant or of all."""
        found: int = self._db.value(self._sql["count"], {"tenant_id": tenant_id})
        return found

    def rows(self) -> list[Row]:
        """Return all records as they are, for `merge` into another store."""
        return self._db.rows(self._sql["rows"])

    def merge(self, rows: list[Row]) -> None:
        """Take over another store's records: what is revoked in either is revoked."""
        names = ("id", "tenant_id", "agent_id", "role", "issued_at_ms", "expires_at_ms", "revoked_at_ms")
        self._db.run_many(self._sql["merge"], [dict(zip(names, row, strict=True)) for row in rows])

    def last_expiry_ms(self) -> int | None:
        """Return when the last of the tokens that still hold ends; None when there is none."""
        found: int | None = self._db.value(self._sql["last_expiry"])
        return found

    def revoke(self, token_id: str, now_ms: int) -> bool:
        """Mark a token as revoked; return whether it was not so before."""
        return self._db.run(self._sql["revoke"], {"id": token_id, "now_ms": now_ms}) > 0

    def is_revoked(self, token_id: str) -> bool:
        """Return whether the token was revoked. One that this store never issued is not."""
        return self._db.value(self._sql["revoked_at"], {"id": token_id}) is not None


def _to_record(row: Row) -> TokenRecord:
    return TokenRecord(
        id=row[0],
        tenant_id=row[1],
        agent_id=row[2],
        role=row[3],
        issued_at=to_rfc3339(row[4]),
        expires_at=to_rfc3339(row[5]),
        revoked_at=None if row[6] is None else to_rfc3339(row[6]),
    )
