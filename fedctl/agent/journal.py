"""What an agent tells of itself: its phases, its notes, its figures. Kept until the hub has taken them, in order."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from fedctl.errors import Conflict, Denied, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.model.agent import (
    AGE_MAX_MS,
    FIGURES_MAX,
    NOTES_MAX,
    AgentFigures,
    AgentStatus,
    Note,
    NoteDraft,
    OperationTimes,
    check_note,
)
from fedctl.model.time import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.clock import Clock
    from fedctl.messages.base import Request

A = TypeVar("A")

QUEUED_MAX = 10_000
"""Notes that may wait for the hub; one more is refused."""


class Call(Protocol):
    """How the hub is asked."""

    async def __call__(self, request: Request[A]) -> A:
        """Return the answer, or raise a `FedctlError`."""
        ...


class Journal:
    """One agent's. On its event loop only.

    When something happened is kept on the monotonic clock and told as an age: nobody's wall clock has to agree with
    the hub's, and what waited for the hub stands on the timeline where it belongs.
    """

    def __init__(self, clock: Clock, tenant_id: str, agent_id: str) -> None:
        self._clock = clock
        self._tenant_id = tenant_id
        self._agent_id = agent_id
        self._phases: deque[tuple[AgentStatus, float]] = deque()
        self._notes: dict[str, tuple[NoteDraft, float, Note]] = {}
        self._times: dict[str, list[float]] = {}
        self._told = (0, 0)
        self._figures_told = False
        self.refused = 0

    # -- what happens ----------------------------------------------------------------------------------------------

    def enter(self, *statuses: AgentStatus) -> None:
        """Note that phases begin now."""
        self._phases.extend((status, self._clock.monotonic_s()) for status in statuses)

    def enter_again(self, status: AgentStatus) -> None:
        """Begin anew at the registry, where this agent was given up: all the way to the phase of now."""
        waiting = [*self._phases]
        self._phases.clear()
        self.enter("initializing", "ready")
        if waiting:
            self._phases.extend(waiting)
        else:
            self.enter(status)

    def note(self, request: a.AddNotes) -> a.NoteAnswer:
        """Take notes in, all of them or none.

        Raises:
            UsageError: One is too large, or there are too many at once.
            Conflict: An id has another content already.
            Denied: They are another agent's.
            Unavailable: The hub has been away for too many.
        """
        if request.agent_id not in (None, self._agent_id):
            raise Denied(f"this is the agent {self._agent_id}, not {request.agent_id}")
        if len(request.notes) > NOTES_MAX:
            raise UsageError(f"at most {NOTES_MAX} notes at once, these are {len(request.notes)}")
        if len(self._notes) + len(request.notes) > QUEUED_MAX:
            raise Unavailable(f"{len(self._notes):,} notes wait for the hub already", hint="try again when it is back")
        now_s = self._clock.monotonic_s()
        taken: dict[str, tuple[NoteDraft, float, Note]] = {}
        for draft in map(check_note, request.notes):
            present = taken.get(draft.id) or self._notes.get(draft.id)
            if present is not None and msgspec.structs.replace(draft, age_ms=0) != present[0]:
                raise Conflict(f"the note {draft.id} exists with another content", hint="give this one another id")
            taken[draft.id] = present or self._queued(draft, now_s)
        self._notes |= taken
        return a.NoteAnswer(notes=[taken[draft.id][2] for draft in request.notes])

    def _queued(self, draft: NoteDraft, now_s: float) -> tuple[NoteDraft, float, Note]:
        note = Note(
            id=draft.id,
            tenant_id=self._tenant_id,
            agent_id=self._agent_id,
            kind=draft.kind,
            text=draft.text,
            data=draft.data,
            at=to_rfc3339(self._clock.now_ms() - draft.age_ms),
        )
        return msgspec.structs.replace(draft, age_ms=0), now_s - draft.age_ms / 1000, note

    def error(self, text: str) -> None:
        """Note what went wrong with the agent itself; where there is no room any more, nothing is noted."""
        if len(self._notes) < QUEUED_MAX:
            draft = NoteDraft(id=self._clock.new_id(), kind="error", text=text[:1000] or "unknown")
            self._notes[draft.id] = self._queued(draft, self._clock.monotonic_s())

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Measure something; also what fails takes its time."""
        began_s = self._clock.monotonic_s()
        try:
            yield
        finally:
            self._figures_told = False
            took_ms = (self._clock.monotonic_s() - began_s) * 1000
            known = self._times.get(operation)
            if known is not None:
                known[:] = [known[0] + 1, known[1] + took_ms, min(known[2], took_ms), max(known[3], took_ms)]
            elif len(self._times) < FIGURES_MAX:
                self._times[operation] = [1, took_ms, took_ms, took_ms]

    # -- telling it ------------------------------------------------------------------------------------------------

    @property
    def undelivered(self) -> int:
        """How many notes the hub has not taken."""
        return len(self._notes)

    async def tell_phases(self, call: Call, counts: AgentFigures) -> None:
        """Tell the registry which phases there were since the last time; the last one comes with the figures.

        Raises:
            Conflict, NotFound: It has given the agent up, and will not take this phase any more.
            FedctlError: Whatever else; the phase is told the next time.
        """
        while self._phases:
            status, at_s = self._phases[0]
            figures = self.figures(counts) if status == "dead" else None
            try:
                await call(a.ReportAgent(id=self._agent_id, status=status, age_ms=self._age_ms(at_s), figures=figures))
            except (Conflict, NotFound):
                self._phases.popleft()
                raise
            self._phases.popleft()

    async def tell_sync(self, call: Call, status: AgentStatus, counts: AgentFigures, took_ms: float) -> None:
        """Tell the registry of a sync: what moved since the last one it was told of, and the figures."""
        before = self._told
        pushed, pulled = counts.delivered - before[0], counts.pulled - before[1]
        await call(
            a.ReportAgent(
                id=self._agent_id,
                status=status,
                synced=True,
                pushed=pushed,
                pulled=pulled,
                took_ms=round(took_ms, 3),
                figures=None if self._figures_told else self.figures(counts),
            )
        )
        self._told, self._figures_told = (counts.delivered, counts.pulled), True

    async def push_notes(self, call: Call) -> None:
        """Hand the notes over, the oldest first; one that the hub will never take is dropped and counted."""
        size = NOTES_MAX
        while self._notes:
            batch = [queued for _, queued in zip(range(size), self._notes.values(), strict=False)]
            drafts = [msgspec.structs.replace(draft, age_ms=self._age_ms(at_s)) for draft, at_s, _ in batch]
            try:
                await call(a.AddNotes(agent_id=self._agent_id, notes=drafts))
            except (UsageError, Conflict):
                if len(batch) > 1:
                    size = 1  # which of them it is
                    continue
                self.refused += 1
            for draft in drafts:
                self._notes.pop(draft.id, None)

    def figures(self, counts: AgentFigures) -> AgentFigures:
        """Return the counts with the times of all operations."""
        return msgspec.structs.replace(
            counts,
            operations={
                name: OperationTimes(n=int(n), avg_ms=_ms(total / n), min_ms=_ms(least), max_ms=_ms(most))
                for name, (n, total, least, most) in sorted(self._times.items())
            },
        )

    def _age_ms(self, at_s: float) -> int:
        return min(max(0, round((self._clock.monotonic_s() - at_s) * 1000)), AGE_MAX_MS)


def _ms(value: float) -> float:
    return round(value, 3)
