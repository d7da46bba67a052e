"""Pools and their items: every method takes the tenant or one of its pools first."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fedctl.model.pool import Attempt, Item, Outcome, Pool
from fedctl.model.time import to_rfc3339
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedctl.store.database import Database, Row


class PoolRow(NamedTuple):
    """What every operation on a pool needs to know of it."""

    key: int
    name: str
    paused: bool


class PoolHead(NamedTuple):
    """What a claim needs to know of a pool, in one question.

    `next_due_ms`: when something could be claimed that cannot be now: a delayed item, or one whose lease runs out.
    `requirements`: (key, capabilities as a sorted JSON list) of what its items require.
    """

    pool: PoolRow
    next_due_ms: int | None
    requirements: list[tuple[int, str]]


class ItemRow(msgspec.Struct, frozen=True, gc=False):
    """An item as it is stored: times in milliseconds, JSON as text, `delayed` a status of its own."""

    seq: int
    id: str
    pool: str
    status: str
    data: str
    priority: int
    attempts: int
    max_retries: int
    claimed_by: str | None
    claimed_at_ms: int | None
    lease_id: str | None
    lease_expires_at_ms: int | None
    created_at_ms: int
    available_at_ms: int
    finished_at_ms: int | None
    result: str | None
    error: str | None
    key: str | None
    requires: str


class NewItem(NamedTuple):
    """A row to be, checked."""

    id: str
    requires: str
    status: str
    priority: int
    max_retries: int
    key: str | None
    available_at_ms: int
    data: str


class Pools:
    """Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("pool")
        self._requirements: dict[tuple[int, str], int] = {}
        self._undone = database.undone

    # -- pools ---------------------------------------------------------------------------------------------------

    def get(self, tenant_key: int, name: str) -> PoolRow | None:
        """Return the pool, or None where none was ever used."""
        row = self._db.row(self._sql["pool"], {"tenant_key": tenant_key, "name": name})
        return None if row is None else PoolRow(row[0], name, bool(row[1]))

    def get_for_writing(self, tenant_key: int, name: str, now_ms: int) -> PoolRow:
        """Return the pool; make it where it is new."""
        found = self.get(tenant_key, name)
        if found is None:
            self._db.run(self._sql["add_pool"], {"tenant_key": tenant_key, "name": name, "now_ms": now_ms})
            found = self.get(tenant_key, name)
            assert found is not None
        return found

    def head(self, tenant_key: int, name: str) -> PoolHead | None:
        """Return the pool as a claim wants to know it, or None where none was ever used."""
        rows = self._db.rows(self._sql["head"], {"tenant_key": tenant_key, "name": name})
        if not rows:
            return None
        key, paused, delayed_ms, leased_ms, *_ = rows[0]
        due = [at_ms for at_ms in (delayed_ms, leased_ms) if at_ms is not None]
        requirements = [(row[4], row[5]) for row in rows if row[4] is not None]
        return PoolHead(PoolRow(key, name, bool(paused)), min(due, default=None), requirements)

    def all(self, tenant_key: int) -> list[PoolRow]:
        """Return the tenant's pools by name."""
        rows = self._db.rows(self._sql["pools"], {"tenant_key": tenant_key})
        return [PoolRow(key, name, bool(paused)) for key, name, paused in rows]

    def set_paused(self, pool: PoolRow, *, paused: bool) -> None:
        """Let nothing be claimed any more, or let it again."""
        self._db.run(self._sql["set_paused"], {"pool_key": pool.key, "paused": paused})

    def figures(self, pool: PoolRow, now_ms: int) -> Pool:
        """Count what lies in a pool: what is due, and what nobody holds any more, is pending before a claim says so."""
        mine = {"pool_key": pool.key}
        pending, oldest = self._db.rows(self._sql["count_pending"], mine)[0]
        delayed, due = self._db.rows(self._sql["count_delayed"], mine | {"now_ms": now_ms})[0]
        claimed, expired = self._db.rows(self._sql["count_claimed"], mine | {"now_ms": now_ms})[0]
        created_ms = None if oldest is None else self._db.value(self._sql["created_at"], {"seq": oldest})
        return Pool(
            name=pool.name,
            paused=pool.paused,
            pending=pending + (due or 0) + (expired or 0),
            delayed=delayed - (due or 0),
            claimed=claimed - (expired or 0),
            done=int(self._db.value(self._sql["count_done"], mine)),
            poisoned=int(self._db.value(self._sql["count_poisoned"], mine)),
            oldest_pending_s=None if created_ms is None else max(0, now_ms - created_ms) / 1000,
        )

    # -- items: into a pool --------------------------------------------------------------------------------------

    def known_ids(self, tenant_key: int, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that are taken."""
        rows = self._db.rows(self._sql["known_ids"], {"tenant_key": tenant_key, "ids": _json(ids)})
        return {row[0] for row in rows}

    def held_key(self, pool: PoolRow, key: str) -> str | None:
        """Return the id of the unfinished item with that deduplication key."""
        found: str | None = self._db.value(self._sql["held_key"], {"pool_key": pool.key, "key": key})
        return found

    def add(self, tenant_key: int, pool: PoolRow, items: Iterable[NewItem], now_ms: int) -> None:
        """Insert items."""
        self._db.run_many(
            self._sql["add"],
            [
                {"tenant_key": tenant_key, "pool_key": pool.key, "now_ms": now_ms, "id": item.id,
                 "requirement_key": self._requirement(pool, item.requires), "status": item.status,
                 "priority": item.priority, "max_retries": item.max_retries, "key": item.key,
                 "available_at_ms": item.available_at_ms, "data": item.data}
                for item in items
            ],
        )  # fmt: skip

    def _requirement(self, pool: PoolRow, capabilities: str) -> int:
        if self._undone != self._db.undone:  # what was made in what was rolled back is gone
            self._requirements.clear()
            self._undone = self._db.undone
        place = (pool.key, capabilities)
        if place not in self._requirements:
            self._requirements |= {(pool.key, one): key for key, one in self.requirements(pool)}
        if place not in self._requirements:
            self._db.run(self._sql["add_requirement"], {"pool_key": pool.key, "capabilities": capabilities})
            self._requirements |= {(pool.key, one): key for key, one in self.requirements(pool)}
        return self._requirements[place]

    def requirements(self, pool: PoolRow) -> list[tuple[int, str]]:
        """Return (key, capabilities as a sorted JSON list) of what items of the pool require."""
        return [(row[0], row[1]) for row in self._db.rows(self._sql["requirements"], {"pool_key": pool.key})]

    # -- items: looked at ----------------------------------------------------------------------------------------

    def item(self, tenant_key: int, item_id: str) -> ItemRow | None:
        """Return an item of the tenant, or None."""
        row = self._db.row(self._sql["by_id"], {"tenant_key": tenant_key, "id": item_id})
        return None if row is None else ItemRow(*row)

    def items(self, tenant_key: int, ids: Sequence[str]) -> dict[str, ItemRow]:
        """Return those of the items that there are."""
        if len(ids) == 1:
            found = self.item(tenant_key, ids[0])
            return {} if found is None else {found.id: found}
        rows = self._db.rows(self._sql["by_ids"], {"tenant_key": tenant_key, "ids": _json(ids)})
        return {row[1]: ItemRow(*row) for row in rows}

    def held_by(self, tenant_key: int, worker_id: str) -> list[ItemRow]:
        """Return what a worker holds."""
        rows = self._db.rows(self._sql["held"], {"tenant_key": tenant_key, "worker_id": worker_id})
        return [ItemRow(*row) for row in rows]

    def page(self, pool: PoolRow, statuses: Sequence[str], *, cursor: int, limit: int, most: int) -> list[ItemRow]:
        """Return up to `limit` items after the sequence `cursor`; fewer where they hold more than `most` characters."""
        parameters = {
            "pool_key": pool.key, "cursor": cursor, "limit": limit, "statuses": _json(statuses) if statuses else None,
        }  # fmt: skip
        rows = self._db.rows_until(self._sql["page"], parameters, _weight, most)
        return [ItemRow(*row) for row in rows]

    def poisoned(self, pool: PoolRow, limit: int) -> list[ItemRow]:
        """Return the items that were poisoned first; before those that cannot be retried all that can."""
        mine = {"pool_key": pool.key, "limit": limit}
        rows = self._db.rows(self._sql["retriable"], mine)
        if len(rows) < limit:
            known = {row[0] for row in rows}
            rows += [row for row in self._db.rows(self._sql["poisoned"], mine) if row[0] not in known][
                : limit - len(rows)
            ]
        return [ItemRow(*row) for row in rows]

    def poisoned_ids(self, pool: PoolRow, limit: int) -> list[str]:
        """Return the ids of the items that were poisoned first."""
        return [row[0] for row in self._db.rows(self._sql["poisoned_ids"], {"pool_key": pool.key, "limit": limit})]

    def attempts(self, seq: int) -> list[Attempt]:
        """Return the attempts of an item that did not finish it, oldest first."""
        return [
            Attempt(
                worker_id=worker_id,
                claimed_at=to_rfc3339(claimed_at_ms),
                ended_at=to_rfc3339(ended_at_ms),
                outcome=outcome,
                error=error,
            )
            for worker_id, claimed_at_ms, ended_at_ms, outcome, error in self._db.rows(
                self._sql["attempts"], {"item_seq": seq}
            )
        ]

    # -- items: claimed and given back ---------------------------------------------------------------------------

    def let_due(self, pool: PoolRow, now_ms: int, limit: int) -> int:
        """Make pending what has waited long enough; return how many."""
        return self._db.run(self._sql["due"], {"pool_key": pool.key, "now_ms": now_ms, "limit": limit})

    def expired(self, pool: PoolRow, now_ms: int, limit: int) -> list[ItemRow]:
        """Return the items whose lease ran out first."""
        rows = self._db.rows(self._sql["expired"], {"pool_key": pool.key, "now_ms": now_ms, "limit": limit})
        return [ItemRow(*row) for row in rows]

    def claimable(self, requirement_key: int, *, limit: int, most: int) -> list[ItemRow]:
        """Return the first items of one set of requirements: by priority, then in the order they were pushed.

        Fewer than `limit` where they hold more than `most` characters.
        """
        parameters = {"requirement_key": requirement_key, "limit": limit}
        if limit == 1:
            return [ItemRow(*row) for row in self._db.rows(self._sql["claimable"], parameters)]
        return [ItemRow(*row) for row in self._db.rows_until(self._sql["claimable"], parameters, _weight, most)]

    def claim(self, items: Sequence[ItemRow]) -> None:
        """Write down who has claimed the items, since when, until when and by which lease: as the rows say."""
        self._db.run_many(
            self._sql["claim"],
            [
                {"seq": item.seq, "worker_id": item.claimed_by, "now_ms": item.claimed_at_ms,
                 "lease_id": item.lease_id, "lease_expires_at_ms": item.lease_expires_at_ms}
                for item in items
            ],
        )  # fmt: skip

    def finish(self, items: Sequence[ItemRow]) -> None:
        """Write down the results, as the rows say."""
        self._db.run_many(
            self._sql["finish"],
            [{"seq": item.seq, "now_ms": item.finished_at_ms, "result": item.result} for item in items],
        )

    def give_back(self, items: Sequence[ItemRow]) -> None:
        """Take the items from whoever held them, into the state that the rows say."""
        self._db.run_many(
            self._sql["give_back"],
            [
                {"seq": item.seq, "status": item.status, "attempts": item.attempts, "error": item.error,
                 "available_at_ms": item.available_at_ms, "finished_at_ms": item.finished_at_ms}
                for item in items
            ],
        )  # fmt: skip

    def note_attempts(self, items: Iterable[ItemRow], outcome: Outcome, error: str | None, now_ms: int) -> None:
        """Write down how the present attempts at these items ended."""
        self._db.run_many(
            self._sql["add_attempt"],
            [
                {"item_seq": item.seq, "worker_id": item.claimed_by, "claimed_at_ms": item.claimed_at_ms,
                 "outcome": outcome, "error": error, "now_ms": now_ms}
                for item in items
            ],
        )  # fmt: skip

    def extend(self, items: Sequence[ItemRow]) -> None:
        """Write down until when the leases last, as the rows say."""
        self._db.run_many(
            self._sql["extend"],
            [{"seq": item.seq, "lease_expires_at_ms": item.lease_expires_at_ms} for item in items],
        )

    def extend_held(self, tenant_key: int, worker_id: str, lease_expires_at_ms: int) -> int:
        """Let all leases of a worker last until then; return how many."""
        return self._db.run(
            self._sql["extend_held"],
            {"tenant_key": tenant_key, "worker_id": worker_id, "lease_expires_at_ms": lease_expires_at_ms},
        )

    def next_due_ms(self, pool: PoolRow) -> int | None:
        """Return when a delayed item or a lease is due next."""
        found: int | None = self._db.value(self._sql["next_due"], {"pool_key": pool.key})
        return found

    # -- items: deleted ------------------------------------------------------------------------------------------

    def count_everywhere(self) -> tuple[int, dict[str, int]]:
        """Return how many pools there are, and how many items of each status, over all tenants."""
        counts = ("count_all_pending", "count_all_delayed", "count_all_claimed", "count_all_done", "count_all_poisoned")
        found = [int(self._db.value(self._sql[one])) for one in ("count_pools", *counts)]
        return found[0], {name.removeprefix("count_all_"): count for name, count in zip(counts, found[1:], strict=True)}

    def expired_everywhere(self, now_ms: int) -> tuple[int, int | None]:
        """Return how many items of all tenants have a lease that ran out, and when the first of them did (ms)."""
        count, first_ms = self._db.rows(self._sql["expired_everywhere"], {"now_ms": now_ms})[0]
        return int(count), first_ms

    def count_to_purge(self, pool: PoolRow, statuses: Sequence[str]) -> int:
        """Return how many items have one of the statuses."""
        return int(self._db.value(self._sql["count_to_purge"], {"pool_key": pool.key, "statuses": _json(statuses)}))

    def purge(self, pool: PoolRow, statuses: Sequence[str], limit: int) -> int:
        """Delete up to `limit` items that have one of the statuses; return how many."""
        finished = {"done": self._sql["purge_done"], "poisoned": self._sql["purge_poisoned"]}
        if len(statuses) == 1 and statuses[0] in finished:  # by its own index, past nothing else
            return self._db.run(finished[statuses[0]], {"pool_key": pool.key, "limit": limit})
        return self._db.run(self._sql["purge"], {"pool_key": pool.key, "statuses": _json(statuses), "limit": limit})


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _weight(row: Row) -> int:
    """Return no more than the bytes of a row's item as JSON."""
    return len(row[4]) + len(row[15] or "") + len(row[16] or "")


def to_item(row: ItemRow) -> Item:
    """Return the item of a row."""
    return Item(
        id=row.id,
        pool=row.pool,
        status="pending" if row.status == "delayed" else row.status,  # type: ignore[arg-type]
        data=msgspec.json.decode(row.data),
        priority=row.priority,
        attempts=row.attempts,
        max_retries=row.max_retries,
        claimed_by=row.claimed_by,
        claimed_at=_time(row.claimed_at_ms),
        lease_id=row.lease_id,
        lease_expires_at=_time(row.lease_expires_at_ms),
        created_at=_at(row.created_at_ms),
        available_at=_at(row.available_at_ms),
        finished_at=_time(row.finished_at_ms),
        result=None if row.result is None else msgspec.json.decode(row.result),
        error=row.error,
        key=row.key,
        requires=msgspec.json.decode(row.requires),
    )


# Items of a batch share their times, and to write them out was a third of what a batch costs.
_at = functools.lru_cache(maxsize=256)(to_rfc3339)


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else _at(at_ms)
