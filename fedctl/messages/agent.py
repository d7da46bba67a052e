"""What can be asked of the agents' registry."""

from __future__ import annotations

from fedctl.messages.base import Answer, Request
from fedctl.model.agent import Agent, AgentStatus


class AgentAnswer(Answer, frozen=True, kw_only=True):
    """The agent's record after the change."""

    agent: Agent


class RegisterAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.register"):
    """Enter an agent. An id that is alive elsewhere (not dead, not expired) is a conflict.

    With an agent's token, `id` must be the token's.
    """

    id: str
    type: str
    lifetime_ms: int
    host: str
    pid: int


class ReportAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.report"):
    """Report an agent's phase; `synced` notes that its memory and the hub's now agree."""

    id: str
    status: AgentStatus
    synced: bool = False


class AgentList(Answer, frozen=True, kw_only=True):
    """Agents, newest first."""

    agents: list[Agent]


class ListAgents(Request[AgentList], frozen=True, kw_only=True, tag="agent.list"):
    """List the tenant's agents; without `all`, those that are not dead."""

    all: bool = False
    limit: int = 1000


class GetAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.show"):
    """One agent of the tenant."""

    id: str


class StopAgent(Request[AgentAnswer], frozen=True, kw_only=True, tag="agent.stop"):
    """Ask a connected agent to end early, with its final sync."""

    id: str
