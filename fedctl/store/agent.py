"""The registry of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.model.agent import Agent, AgentFigures, AgentStatus
from fedctl.model.time import to_rfc3339
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.store.database import Database, Row


class Agents:
    """One row an agent; an id that comes back begins a new life. Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("agent")

    def get(self, tenant: tuple[int, str], agent_id: str) -> Agent | None:
        """Return the agent, or None."""
        row = self._db.row(self._sql["get"], {"tenant_key": tenant[0], "id": agent_id})
        return None if row is None else _to_agent(tenant[1], row)

    def put(  # noqa: PLR0913  one parameter a column
        self, tenant_key: int, agent_id: str, *, type_: str, host: str, pid: int, spawned_at_ms: int, expires_at_ms: int
    ) -> None:
        """Enter an agent, in its first phase."""
        self._db.run(
            self._sql["put"],
            {"tenant_key": tenant_key, "id": agent_id, "type": type_, "host": host, "pid": pid,
             "spawned_at_ms": spawned_at_ms, "expires_at_ms": expires_at_ms},
        )  # fmt: skip

    def report(self, tenant_key: int, agent_id: str, status: AgentStatus, synced_at_ms: int | None) -> None:
        """Note a phase, and when the agent was last in step with the hub."""
        self._db.run(
            self._sql["report"],
            {"tenant_key": tenant_key, "id": agent_id, "status": status, "synced_at_ms": synced_at_ms},
        )

    def figures(self, tenant_key: int, agent_id: str) -> AgentFigures | None:
        """Return what the agent last said of itself, or None."""
        text = self._db.value(self._sql["figures"], {"tenant_key": tenant_key, "id": agent_id})
        return None if text is None else msgspec.json.decode(text, type=AgentFigures)

    def put_figures(self, tenant_key: int, agent_id: str, figures: AgentFigures | None) -> None:
        """Keep what an agent says of itself, in place of what it said before; None: nothing any more."""
        parameters = {"tenant_key": tenant_key, "id": agent_id}
        if figures is None:
            self._db.run(self._sql["drop_figures"], parameters)
        else:
            text = msgspec.json.encode(figures).decode()
            self._db.run(self._sql["put_figures"], parameters | {"figures": text})

    def count_stored(self, tenant_key: int, agent_id: str, count: int) -> None:
        """Add to the number of episodes that the agent has stored; nothing happens when it is not registered."""
        self._db.run(self._sql["count_stored"], {"tenant_key": tenant_key, "id": agent_id, "count": count})

    def page(
        self, tenant: tuple[int, str], *, include_dead: bool, limit: int, after: tuple[int, str],
        statuses: Sequence[AgentStatus] = (),
    ) -> list[Agent]:  # fmt: skip
        """Return agents, newest first: up to `limit` of those that come after one spawned at that time, of that id.

        With statuses only those in one of them.
        """
        rows = self._db.rows(
            self._sql["list"],
            {"tenant_key": tenant[0], "all": include_dead, "statuses": _json(statuses), "limit": limit,
             "after_ms": after[0], "after_id": after[1]},
        )  # fmt: skip
        return [_to_agent(tenant[1], row) for row in rows]

    def count(self, tenant_key: int, *, include_dead: bool, statuses: Sequence[AgentStatus] = ()) -> int:
        """Return how many agents there are, with statuses in one of them."""
        parameters = {"tenant_key": tenant_key, "all": include_dead, "statuses": _json(statuses)}
        found: int = self._db.value(self._sql["count"], parameters)
        return found

    def overdue(self, before_ms: int) -> list[tuple[str, str]]:
        """Return (tenant, id) of agents that are not dead and expired before that time."""
        return [(row[0], row[1]) for row in self._db.rows(self._sql["overdue"], {"before_ms": before_ms})]


def _json(names: Sequence[str]) -> str:
    return msgspec.json.encode(names).decode()


def _to_agent(tenant_id: str, row: Row) -> Agent:
    return Agent(
        tenant_id=tenant_id,
        id=row[0],
        type=row[1],
        status=row[2],
        spawned_at=to_rfc3339(row[3]),
        expires_at=to_rfc3339(row[4]),
        last_sync_at=None if row[5] is None else to_rfc3339(row[5]),
        host=row[6],
        pid=row[7],
        episodes_stored=row[8],
    )
