"""The registry of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.model.time import to_rfc3339
from fedctl.model.worker import STALE_AFTER_BEATS, Worker, WorkerStatus
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.store.database import Database, Row


class Workers:
    """One row a name; a name that comes back is a new incarnation. Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("worker")

    def get(self, tenant: tuple[int, str], worker_id: str, now_ms: int) -> Worker | None:
        """Return the worker, or None."""
        row = self._db.row(self._sql["get"], {"tenant_key": tenant[0], "id": worker_id})
        return None if row is None else _to_worker(tenant[1], row, now_ms)

    def capabilities(self, tenant_key: int, worker_id: str) -> tuple[WorkerStatus, frozenset[str]] | None:
        """Return the status and the capabilities of a registered worker; None for one that is not."""
        row = self._db.row(self._sql["capabilities"], {"tenant_key": tenant_key, "id": worker_id})
        return None if row is None else (row[0], frozenset(msgspec.json.decode(row[1])))

    def put(  # noqa: PLR0913  one parameter a column
        self, tenant_key: int, worker_id: str, *, host: str | None, pid: int | None, capabilities: Sequence[str],
        pool_id: str | None, heartbeat_interval_ms: int, metadata: str, started_at_ms: int, now_ms: int,
    ) -> None:  # fmt: skip
        """Enter a worker, as the next incarnation of its name."""
        self._db.run(
            self._sql["put"],
            {"tenant_key": tenant_key, "id": worker_id, "host": host, "pid": pid, "pool_id": pool_id,
             "capabilities": _json(sorted(set(capabilities))), "heartbeat_interval_ms": heartbeat_interval_ms,
             "metadata": metadata, "started_at_ms": started_at_ms, "now_ms": now_ms},
        )  # fmt: skip

    def beat(self, tenant_key: int, worker_id: str, status: WorkerStatus, metadata: str, now_ms: int) -> None:
        """Note that the worker is alive."""
        self._db.run(
            self._sql["beat"],
            {"tenant_key": tenant_key, "id": worker_id, "status": status, "metadata": metadata, "now_ms": now_ms},
        )

    def revive(self, tenant_key: int, worker_id: str, now_ms: int) -> None:
        """Note that a lost worker is there again."""
        self._db.run(self._sql["revive"], {"tenant_key": tenant_key, "id": worker_id, "now_ms": now_ms})

    def remove(self, tenant_key: int, worker_id: str) -> None:
        """Take a worker off the list. What it did keeps its name."""
        self._db.run(self._sql["remove"], {"tenant_key": tenant_key, "id": worker_id})

    def set_status(self, tenant_key: int, worker_id: str, status: WorkerStatus) -> None:
        """Note a status."""
        self._db.run(self._sql["set_status"], {"tenant_key": tenant_key, "id": worker_id, "status": status})

    def all(  # noqa: PLR0913  one parameter a condition
        self, tenant: tuple[int, str], *, statuses: Sequence[str], capability: str | None, pool: str | None,
        stale: bool, silent_ms: int | None, now_ms: int, limit: int, skip: int, most: int,
    ) -> list[Worker]:  # fmt: skip
        """Return the workers that fulfil every condition given, newest first, until they weigh more than `most`."""
        parameters: dict[str, Any] = {
            "tenant_key": tenant[0], "statuses": _json(list(statuses)) if statuses else None, "capability": capability,
            "pool": pool, "stale": stale, "silent_ms": silent_ms, "now_ms": now_ms, "beats": STALE_AFTER_BEATS,
            "limit": limit, "skip": skip,
        }  # fmt: skip
        rows = self._db.rows_until(self._sql["list"], parameters, lambda row: len(row[4]) + len(row[9]), most)
        return [_to_worker(tenant[1], row, now_ms) for row in rows]

    def to_reap(self, tenant_key: int, now_ms: int) -> list[str]:
        """Return those that are stale and not given up yet."""
        rows = self._db.rows(
            self._sql["to_reap"], {"tenant_key": tenant_key, "now_ms": now_ms, "beats": STALE_AFTER_BEATS}
        )
        return [row[0] for row in rows]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _to_worker(tenant_id: str, row: Row, now_ms: int) -> Worker:
    return Worker(
        worker_id=row[0],
        tenant_id=tenant_id,
        status=row[1],
        host=row[2],
        pid=row[3],
        capabilities=msgspec.json.decode(row[4]),
        pool_id=row[5],
        started_at=to_rfc3339(row[6]),
        last_heartbeat=to_rfc3339(row[7]),
        heartbeat_interval_s=row[8] / 1000,
        current_task_id=row[11],
        metadata=msgspec.json.decode(row[9]),
        incarnation=row[10],
        stale=row[1] != "terminated" and now_ms - row[7] > STALE_AFTER_BEATS * row[8],
    )
