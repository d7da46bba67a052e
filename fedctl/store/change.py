"""The change log: every committed change in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.model.hub import Event, EventKind
from fedctl.model.time import to_rfc3339
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedctl.store.database import Database, Row


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
        return [_to_event(row) for row in self._db.rows(self._sql["after"], {"seq": seq, "limit": limit})]

    def page(  # noqa: PLR0913  one parameter a condition
        self, tenant_key: int | None, seq: int, through: int, *, kinds: Iterable[EventKind], limit: int, most_bytes: int
    ) -> tuple[list[Event], bool]:
        """Return the first changes after `seq` and up to `through`, and whether these are all of them.

        At most `limit` of them, and no more than it takes to exceed `most_bytes`. `tenant_key` None: of all tenants.
        """
        parameters = {"seq": seq, "through": through, "tenant_key": tenant_key, "kinds": _kinds(kinds), "limit": limit}
        rows = self._db.rows_until(self._sql["page"], parameters, _weight, most_bytes)
        whole = len(rows) < limit and sum(map(_weight, rows)) <= most_bytes
        return [_to_event(row) for row in rows], whole

    def newest(self, tenant_key: int | None, *, kinds: Iterable[EventKind], limit: int, most_bytes: int) -> list[Event]:
        """Return the last changes, in order; the bounds are those of `page`."""
        parameters = {"tenant_key": tenant_key, "kinds": _kinds(kinds), "limit": limit}
        rows = self._db.rows_until(self._sql["newest"], parameters, _weight, most_bytes)
        return [_to_event(row) for row in reversed(rows)]

    def seq_before(self, at_ms: int) -> int:
        """Return the sequence after which everything came at `at_ms` or later, by halving: the log is in order of time.

        Where the wall clock was set back meanwhile it is in order but for that.
        """
        low, high = 0, self.last_seq()
        while low < high:
            seq, its_ms = self._db.rows(self._sql["next_at"], {"seq": (low + high) // 2 + 1})[0]
            if its_ms < at_ms:
                low = seq
            else:
                high = (low + high) // 2
        return low

    # -- of agents -------------------------------------------------------------------------------------------------

    def of_agent(
        self, tenant_key: int, agent_id: str, *, since_ms: int, limit: int, phases_only: bool = False
    ) -> list[tuple[int, EventKind, dict[str, Any], int]]:
        """Return (seq, kind, detail, time in ms) of the last things an agent did since then, in the order told."""
        rows = self._db.rows(
            self._sql["of_agent"],
            {"tenant_key": tenant_key, "agent_id": agent_id, "since_ms": since_ms, "limit": limit,
             "phases_only": phases_only},
        )  # fmt: skip
        return [(seq, kind, _detail(detail), at_ms) for seq, kind, detail, at_ms in reversed(rows)]

    def counts_of_agent(self, tenant_key: int, agent_id: str, since_ms: int) -> dict[tuple[EventKind, str | None], int]:
        """Return how much of each kind an agent did since then; notes by their own kind."""
        rows = self._db.rows(
            self._sql["counts_of_agent"], {"tenant_key": tenant_key, "agent_id": agent_id, "since_ms": since_ms}
        )
        return {(kind, of): count for kind, of, count in rows}

    def note(self, tenant_key: int, note_id: str) -> tuple[str, dict[str, Any], int] | None:
        """Return the agent, the detail and the time in ms of the note of that id, or None."""
        row = self._db.row(self._sql["note"], {"tenant_key": tenant_key, "id": note_id})
        return None if row is None else (row[1], _detail(row[2]), row[3])

    # -- removing: inside a write transaction ------------------------------------------------------------------------

    def remove(self, tenant_key: int, seqs: Iterable[int]) -> int:
        """Take changes of the tenant out of the log and return how many; the newest of the log stays in any case.

        Its number would be given out again, and whoever holds it as a cursor would miss what then gets it.
        """
        removed = self._db.run(
            self._sql["remove"], {"tenant_key": tenant_key, "seqs": msgspec.json.encode(list(seqs)).decode()}
        )
        self.note_removed(removed)
        return removed

    def note_removed(self, count: int) -> None:
        """Note how many rows were taken out of the log, in the transaction that did: `gap` reckons with it."""
        if count:
            self._db.run(self._sql["note_removed"], {"count": count})

    def gap(self) -> bool:
        """Return whether a change is missing that nobody took out."""
        present, last, removed = self._db.rows(self._sql["gaps"])[0]
        return bool(present + removed != last)

    def unlogged_episodes(self) -> int:
        """Return how many episodes the log does not know."""
        return int(self._db.value(self._sql["unlogged"]))


def _to_event(row: Row) -> Event:
    seq, tenant, kind, subject, detail, at_ms = row
    return Event(seq=seq, tenant_id=tenant, kind=kind, subject=subject, detail=_detail(detail), at=to_rfc3339(at_ms))


def _detail(text: str | None) -> dict[str, Any]:
    return msgspec.json.decode(text) if text else {}


def _weight(row: Row) -> int:
    return 200 + len(row[3]) + len(row[4] or "")


def _kinds(kinds: Iterable[EventKind]) -> str | None:
    chosen = list(kinds)
    return msgspec.json.encode(chosen).decode() if chosen else None
