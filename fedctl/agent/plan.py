"""What an agent is to be, what it needs, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.access.keys import KeyRing
    from fedctl.agent.link import Link
    from fedctl.clock import Clock
    from fedctl.log import Log
    from fedctl.recall.embedder import Embedder


class AgentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is to be. `agent_id` None: a new one is made. `pull_query` None: it pulls the newest."""

    tenant_id: str
    agent_id: str
    type: str = "agent"
    lifetime_ms: int = 300_000
    sync_interval_ms: int = 5_000
    pull_query: str | None = None
    pull_limit: int = 100
    undelivered: Path | None = None
    """The file that keeps what is left at the end."""


class Means(NamedTuple):
    """What an agent needs of the world around it; `embedder` None: the hub embeds."""

    link: Link
    clock: Clock
    access: KeyRing
    embedder: Embedder | None = None
    log: Log | None = None
    home_link: Callable[[], Link | None] = lambda: None
    """The way to the home itself, for an agent whose hub runs on it and is gone; None while one runs there."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an agent. `exit` is the status of the process; sync times are of successful syncs.

    Without another word its counts are of episodes. What is `undelivered` is in `undelivered_file` (None: it is lost),
    and `undelivered_why` says what the hub had against it, or that it was away.
    """

    agent_id: str
    tenant_id: str
    exit: int
    reason: Literal["done", "expired", "stopped", "signal"]
    lived_ms: int
    pulled: int
    stored: int
    delivered: int
    undelivered: int
    syncs: int
    sync_mean_ms: float | None
    sync_max_ms: float | None
    connection_errors: int
    notes_undelivered: int
    undelivered_file: str | None = None
    undelivered_why: str | None = None


def new_agent_id(clock: Clock) -> str:
    """Return an id for an agent that was given none."""
    return f"agent-{clock.new_id()}"
