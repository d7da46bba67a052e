"""What can be asked of the agents' registry."""

from __future__ import annotations

from fedctl.messages.base import Answer, Request
from fedctl.model.agent import Agent, AgentFigures, AgentStatus, Note, NoteDraft, Timeline


class AgentAnswer(Answer, frozen=True, kw_only=True):
    """The agent's record after the change."""

    agent: Agent


class RegisterAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.register"):
    """Enter an agent. An id that is alive elsewhere (not dead, not expired) is a conflict.

    With an agent's token, `id` must be the token's. `age_ms` is how long it has lived already: it connected first, or
    it enters again.
    """

    id: str
    type: str
    lifetime_ms: int
    host: str
    pid: int
    age_ms: int = 0


class ReportAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.report"):
    """Report an agent's phase, which it entered `age_ms` ago; `synced` notes that its memory and the hub's now agree.

    `pushed` and `pulled` are the episodes of that sync, which took `took_ms`; `figures` replace those of the report
    before.
    """

    id: str
    status: AgentStatus
    age_ms: int = 0
    synced: bool = False
    pushed: int = 0
    pulled: int = 0
    took_ms: float | None = None
    figures: AgentFigures | None = None


class AgentList(Answer, frozen=True, kw_only=True):
    """A page of agents, newest first; `cursor` continues, None at the end. `total`: how many in all, if asked for."""

    agents: list[Agent]
    cursor: str | None = None
    total: int | None = None


class ListAgents(Request[AgentList], frozen=True, kw_only=True, tag="agent.list"):
    """A page of the tenant's agents; without `all`, of those that are not dead; with `statuses`, in one of these."""

    all: bool = False
    statuses: list[AgentStatus] = []
    limit: int = 1000
    cursor: str | None = None
    count: bool = False


class GetAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.show"):
    """One agent of the tenant."""

    id: str


class StopAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.stop"):
    """Ask a connected agent to end early, with its final sync."""

    id: str


class NoteAnswer(Answer, frozen=True, kw_only=True):
    """The notes as they were taken down, in the order given."""

    notes: list[Note]


class AddNotes(Request[NoteAnswer], frozen=True, kw_only=True, tag="agent.note"):
    """Note what an agent does, all of it or nothing; at most 100 at once. `agent_id` None: the one that asks.

    The same note again is answered like the first time; the same id with another content is a conflict.
    """

    notes: list[NoteDraft]
    agent_id: str | None = None


class TimelineAnswer(Answer, frozen=True, kw_only=True):
    """An agent's life."""

    timeline: Timeline


class GetTimeline(Request[TimelineAnswer], frozen=True, kw_only=True, tag="agent.timeline"):
    """What an agent of the tenant did, from its beginning to now or to its end: up to `limit` moments, the last."""

    id: str
    limit: int = 1000
