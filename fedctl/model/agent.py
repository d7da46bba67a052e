"""Ephemeral agents: their phases and what is known of each."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fedctl.errors import UsageError
from fedctl.model import limits

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


# -- what an agent tells of itself -----------------------------------------------------------------------------------

NoteKind = Literal["task", "step", "decision", "message", "error"]
"""What its command or program notes; `error` is also what the agent itself notes when something fails."""

NOTE_TEXT_MAX_BYTES = 4 << 10
NOTE_DATA_MAX_BYTES = 16 << 10
NOTES_MAX = 100
"""Notes in one request: with all of them as large as they may be it is still below the limit of a frame."""
AGE_MAX_MS = MAX_LIFETIME_MS + FINAL_SYNC_GRACE_MS
"""The longest that something may lie back when an agent tells it; what is older is taken for that old."""
FIGURES_MAX = 200
"""Operations in one report of figures."""


class NoteDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Something to note. `age_ms` is how long ago it was: clocks of two machines differ, durations do not."""

    id: str
    kind: NoteKind
    text: str
    data: Any = None
    age_ms: int = 0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A note as it was taken down."""

    id: str
    tenant_id: str
    agent_id: str
    kind: NoteKind
    text: str
    data: Any
    at: str


def check_note(draft: NoteDraft) -> NoteDraft:
    """Return the draft if it is one; `UsageError` names what is wrong, or the limit it is over."""
    limits.check_id("note", draft.id)
    limits.check_count("age_ms", draft.age_ms)
    size = len(limits.check_text("the text of a note", draft.text, empty_ok=False).encode())
    if size > NOTE_TEXT_MAX_BYTES:
        raise UsageError(
            f"the text of a note has at most {NOTE_TEXT_MAX_BYTES:,} bytes, this one {size:,}",
            hint="what is longer is an episode: fedctl memory store",
        )
    size = len(limits.encode_json("the data of a note", draft.data).encode())
    if size > NOTE_DATA_MAX_BYTES:
        raise UsageError(
            f"the data of a note have at most {NOTE_DATA_MAX_BYTES:,} bytes as JSON, these {size:,}",
            hint="what is longer is an episode: fedctl memory store",
        )
    return draft


class OperationTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How often an agent did something, and how long that took; milliseconds."""

    n: int
    avg_ms: float
    min_ms: float
    max_ms: float


class AgentFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has done so far. The first six count episodes and syncs; `operations` is by operation."""

    pulled: int = 0
    stored: int = 0
    delivered: int = 0
    undelivered: int = 0
    syncs: int = 0
    connection_errors: int = 0
    operations: dict[str, OperationTimes] = {}


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A phase of an agent's life: when it began, how long after the agent's own beginning, how long it lasted.

    `lasted_ms` is None for the present one of an agent that lives.
    """

    status: AgentStatus
    at: str
    offset_ms: int
    lasted_ms: int | None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One thing on a timeline: a phase that begins, a note, or a sync that moved something."""

    offset_ms: int
    at: str
    kind: Literal["phase", "sync"] | NoteKind
    text: str
    data: Any


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's life. `moments` are in order, the last ones of `moments_total`.

    `counts`: of notes by kind (tasks, steps, decisions, messages, errors) and of syncs that moved something.
    `figures` are the agent's own, of its last report; None: it made none.
    """

    agent: Agent
    lived_ms: int
    phases: list[Phase]
    moments: list[Moment]
    moments_total: int
    counts: dict[str, int]
    figures: AgentFigures | None
