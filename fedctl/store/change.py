"""The change log: every committed change in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.model.hub import Event, EventKind
from fedctl.model.time import to_rfc3339
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedctl.store.database import Database


class Changes:
    """Append-only; its sequence is the cursor of every sync."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("change")

    def last_seq(self) -> int:
        """Return the sequence of the newest change, 0 when there is none."""
        return int(self._db.value(self._sql["last_seq"]))

    def add(
        self, tenant_key: int, kind: EventKind, subject: str, *, now_ms: int, detail: dict[str, Any] | None = None
    ) -> int:
        """Append one change and return its sequence. Inside a write transaction."""
        return self._db.insert(
            self._sql["add_next"],
            {"tenant_key": tenant_key, "kind": kind, "subject": subject,
             "detail": msgspec.json.encode(detail).decode() if detail else None, "now_ms": now_ms},
        )  # fmt: skip

    def add_all(
        self, tenant_key: int, kind: EventKind, changes: Iterable[tuple[int, str, dict[str, Any] | None]], *,
        now_ms: int,
    ) -> None:  # fmt: skip
        """Append changes of one kind: (seq, subject, detail). Inside a write transaction.

        They are numbered by the caller, who has read `last_seq` in this transaction and counts on by itself.
        """
        encode = msgspec.json.encode
        self._db.run_many(
            self._sql["add"],
            [
                {"seq": seq, "tenant_key": tenant_key, "kind": kind, "subject": subject,
                 "detail": encode(detail).decode() if detail else None, "now_ms": now_ms}
                for seq, subject, detail in changes
            ],
        )  # fmt: skip

    def after(self, seq: int, limit: int) -> list[Event]:
        """Return up to `limit` changes of all tenants that came after `seq`, in order."""
        return [
            Event(
                seq=number,
                tenant_id=tenant,
                kind=kind,
                subject=subject,
                detail=msgspec.json.decode(detail) if detail else {},
                at=to_rfc3339(at_ms),
            )
            for number, tenant, kind, subject, detail, at_ms in self._db.rows(
                self._sql["after"], {"seq": seq, "limit": limit}
            )
        ]

    def gap(self) -> bool:
        """Return whether a change is missing between the first and the last."""
        count, first, last = self._db.rows(self._sql["gaps"])[0]
        return bool(count) and last - first + 1 != count

    def unlogged_episodes(self) -> int:
        """Return how many episodes the log does not know."""
        return int(self._db.value(self._sql["unlogged"]))
