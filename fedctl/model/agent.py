"""Ephemeral agents: their phases and what is known of each."""

from __future__ import annotations

from typing import Literal

import msgspec

AgentStatus = Literal["spawning", "initializing", "ready", "working", "idle", "shutting_down", "dead"]

AGENT_TRANSITIONS: dict[str, frozenset[str]] = {
    "spawning": frozenset({"initializing", "shutting_down", "dead"}),
    "initializing": frozenset({"ready", "shutting_down", "dead"}),
    "ready": frozenset({"working", "idle", "shutting_down", "dead"}),
    "working": frozenset({"idle", "shutting_down", "dead"}),
    "idle": frozenset({"working", "shutting_down", "dead"}),
    "shutting_down": frozenset({"dead"}),
    "dead": frozenset(),
}
"""Status -> the statuses that may follow it. Reporting the present status again is always accepted."""

MIN_LIFETIME_MS = 5_000
MAX_LIFETIME_MS = 900_000
FINAL_SYNC_GRACE_MS = 15_000
"""How long after `expires_at` an agent's session stays open for its last push."""


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as the registry knows it. Times are RFC 3339 UTC."""

    id: str
    tenant_id: str
    type: str
    status: AgentStatus
    spawned_at: str
    expires_at: str
    last_sync_at: str | None
    host: str
    pid: int
    episodes_stored: int
