"""Policies, and what they find: every method takes the tenant first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.model.retention import Policy, Record
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedctl.store.database import Database


class Retention:
    """One policy a tenant, and its records as a policy sees them. Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("retention")

    # -- policies ------------------------------------------------------------------------------------------------

    def policy(self, tenant_key: int) -> Policy | None:
        """Return the tenant's policy; None when nobody ever set it one."""
        row = self._db.row(self._sql["policy"], {"tenant_key": tenant_key})
        if row is None:
            return None
        given: dict[str, Any] = dict(zip(Policy.__struct_fields__, row, strict=True))
        given["keep_success"] = bool(given["keep_success"])
        given["keep_where"] = msgspec.json.decode(given["keep_where"], type=list[tuple[str, str, Any]])
        return Policy(**given)

    def set_policy(self, tenant_key: int, policy: Policy, now_ms: int) -> None:
        """Set the tenant's policy."""
        columns = msgspec.structs.asdict(policy) | {"keep_where": _json(policy.keep_where)}
        self._db.run(self._sql["set_policy"], columns | {"tenant_key": tenant_key, "now_ms": now_ms})

    def tenants(self) -> list[str]:
        """Return the names of the tenants that have a policy."""
        return [row[0] for row in self._db.rows(self._sql["tenants"])]

    # -- episodes ------------------------------------------------------------------------------------------------

    def records(self, tenant_key: int, keep_where: Sequence[tuple[str, str, Any]]) -> Iterator[Record]:
        """Yield all episodes of the tenant, newest first by when they were made; whoever asks holds a `read`."""
        names = [f"keep_{number}" for number in range(len(keep_where))]
        wanted = " OR ".join(f"metadata_matches(e.metadata, :{name})" for name in names) or "FALSE"
        conditions = {name: _json([one]) for name, one in zip(names, keep_where, strict=True)}
        sql = self._sql["records"].replace("{filter}", wanted)
        return map(Record._make, self._db.each(sql, {"tenant_key": tenant_key} | conditions))

    def unpinned(self, tenant_key: int, seqs: Sequence[int]) -> list[tuple[int, str]]:
        """Return (seq, id) of those that are still there and not pinned."""
        rows = self._db.rows(self._sql["unpinned"], {"tenant_key": tenant_key, "seqs": _json(seqs)})
        return [(seq, episode_id) for seq, episode_id in rows]

    def pin(self, tenant_key: int, ids: Sequence[str], *, pinned: bool) -> list[str]:
        """Pin or unpin these episodes; return the ids of those that were not as they are to be."""
        wanted = {"tenant_key": tenant_key, "ids": _json(ids), "pinned": pinned}
        others: dict[str, int] = dict(self._db.rows(self._sql["differently_pinned"], wanted))
        if others:
            seqs = _json(list(others.values()))
            self._db.run(self._sql["set_pinned"], {"tenant_key": tenant_key, "seqs": seqs, "pinned": pinned})
        return list(others)

    # -- items, events, agents: how many there are, which are old, and away with them ----------------------------

    def count_items(self, tenant_key: int) -> int:
        """Return how many finished items there are."""
        return int(self._db.value(self._sql["count_items"], {"tenant_key": tenant_key}))

    def count_events(self, tenant_key: int) -> int:
        """Return how many changes tell of no living episode."""
        return int(self._db.value(self._sql["count_events"], {"tenant_key": tenant_key}))

    def count_agents(self, tenant_key: int) -> int:
        """Return how many dead agents there are."""
        return int(self._db.value(self._sql["count_agents"], {"tenant_key": tenant_key}))

    def old_items(self, tenant_key: int, before_ms: int) -> Iterator[tuple[int, int]]:
        """Yield (seq, bytes) of what was finished before then; whoever asks holds a `read`, here and below."""
        return self._old("old_items", tenant_key, before_ms)

    def remove_items(self, tenant_key: int, seqs: Sequence[int], before_ms: int) -> int:
        """Delete those of the items that were finished before then, with their attempts; return how many."""
        parameters = {"tenant_key": tenant_key, "seqs": _json(seqs), "before_ms": before_ms}
        return self._db.run(self._sql["remove_items"], parameters)

    def old_events(self, tenant_key: int, before_ms: int) -> Iterator[tuple[int, int]]:
        """Yield (seq, bytes) of changes from before then that tell of no living episode."""
        return self._old("old_events", tenant_key, before_ms)

    def old_agents(self, tenant_key: int, before_ms: int) -> Iterator[tuple[str, int]]:
        """Yield (id, bytes) of agents that are dead and whose lifetime ended before then."""
        return self._old("old_agents", tenant_key, before_ms)

    def is_old_agent(self, tenant_key: int, agent_id: str, before_ms: int) -> bool:
        """Return whether the agent is one of those; it may have begun a new life."""
        parameters = {"tenant_key": tenant_key, "id": agent_id, "before_ms": before_ms}
        return self._db.row(self._sql["is_old_agent"], parameters) is not None

    def agent_changes(self, tenant_key: int, agent_id: str, limit: int) -> list[int]:
        """Return the sequences of up to `limit` changes that tell of the agent."""
        parameters = {"tenant_key": tenant_key, "id": agent_id, "limit": limit}
        return [row[0] for row in self._db.rows(self._sql["agent_changes"], parameters)]

    def remove_agent(self, tenant_key: int, agent_id: str) -> None:
        """Delete an agent with its figures; its changes are the log's."""
        self._db.run(self._sql["remove_figures"], {"tenant_key": tenant_key, "id": agent_id})
        self._db.run(self._sql["remove_agent"], {"tenant_key": tenant_key, "id": agent_id})

    def _old(self, name: str, tenant_key: int, before_ms: int) -> Iterator[Any]:
        return self._db.each(self._sql[name], {"tenant_key": tenant_key, "before_ms": before_ms})


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
