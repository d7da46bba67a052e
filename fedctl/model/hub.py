"""What a hub says of itself, and what it tells those who watch."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

EventKind = Literal[
    "episode_stored", "episode_deleted", "episode_pinned", "episodes_pruned",
    "agent_status", "agent_synced", "agent_note", "agent_error", "token_revoked",
    "key_rotated", "tenant_changed", "tenant_erased", "worker_status", "items_pushed", "items_claimed",
    "items_done", "items_released", "items_poisoned", "items_purged", "pool_paused", "pool_resumed",
    "retention_set", "retention_pruned",
]  # fmt: skip


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the change log: what happened to which thing, and when.

    `subject` is the id of an episode, an agent, a worker or a token, or a pool's name; `detail` is plain JSON (a
    status, the agent that stored an episode, what an agent notes, the ids of the items that one call moved). An agent
    may tell late what it did: `age_ms` in the detail says how long before `at` it happened.
    """

    seq: int
    tenant_id: str
    kind: EventKind
    subject: str
    detail: dict[str, Any]
    at: str


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long one operation took inside the hub, over its last 1,000 calls; milliseconds."""

    count: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class HubStats(msgspec.Struct, frozen=True, kw_only=True):
    """A hub's figures. `latencies` is by operation; sizes in bytes.

    `items` is by status, over all tenants. `index_age_s`: how long ago that index file was brought up to date which
    lags behind most, 0 when none does. `queued` is what waits for the hub's threads (`write`, `read`), `in_flight`
    what has not been answered, with what they are busy with; `refusals` by reason. `read_only`: writes are refused,
    because the disk is nearly full.
    """

    connected_agents: int
    connections: int
    episodes: int
    tenants: int
    pending_embeddings: int
    uptime_s: float
    latencies: dict[str, Latency]
    operations: int
    errors: dict[str, int]
    commits: int
    acked_episodes: int
    rss_bytes: int
    store_bytes: int = 0
    wal_bytes: int = 0
    index_age_s: float = 0.0
    pools: int = 0
    items: dict[str, int] = {}
    queued: dict[str, int] = {}
    in_flight: int = 0
    refusals: dict[str, int] = {}
    disk_free_bytes: int = 0
    read_only: bool = False


class HubInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a hub listens. `url` is its WebSocket, `http_url` its page and plain GETs, `socket` its Unix socket.

    `home` and `socket` are empty for who does not run the hub.
    """

    pid: int
    version: str
    url: str
    http_url: str
    socket: str
    home: str
    started_at: str
    ready: bool
