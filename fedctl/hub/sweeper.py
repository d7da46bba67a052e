"""Who is here, and until when: agents that come, drop and expire, tokens that run out or are revoked.

On the event loop only. Deadlines come as wall time, are taken over at once to the monotonic clock, and kept by that, so
a clock that jumps neither kills nor spares anybody who is here. Who comes in is judged by the wall clock.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fedctl.errors import FedctlError
from fedctl.messages.agent import ReportAgent
from fedctl.model.agent import FINAL_SYNC_GRACE_MS
from fedctl.model.time import from_rfc3339
from fedctl.store.ledger import tenant_digest
from fedctl.wire import frames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fedctl.clock import Clock
    from fedctl.hub.peer import Peer
    from fedctl.log import Log
    from fedctl.model.agent import Agent
    from fedctl.model.hub import Event

DROPPED_GRACE_S = 15.0
"""How long an agent whose session broke may take to come back before it is called dead."""
OVERDUE_EVERY_S = 5.0
"""How often the registry is searched for agents that expired without a session here."""

AgentKey = tuple[str, str]
"""(tenant, agent)."""

K = TypeVar("K")


class Sweeper:
    """Holds the sessions of each agent and each token, and ends them when their time is over."""

    def __init__(  # noqa: PLR0913  what it asks and tells
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        log: Log,
        *,
        report: Callable[[str, ReportAgent], None],
        overdue: Callable[[int], list[AgentKey]],
        key_ends: Callable[[], dict[str, int]],
    ) -> None:
        """Begin with nobody.

        `report` carries a request out in the hub's own name, `overdue` returns the agents that are not dead and
        expired before a time in ms, `key_ends` when each signing key ends (ms; one that is missing has ended).
        """
        self._loop = loop
        self._clock = clock
        self._log = log
        self._report = report
        self._overdue = overdue
        self._key_ends = key_ends
        self._peers: dict[AgentKey, set[Peer]] = {}
        self._by_token: dict[str, set[Peer]] = {}
        self._lives: dict[AgentKey, Agent] = {}
        self._lives_end_s: dict[AgentKey, float] = {}
        self._tokens_end_s: dict[Peer, float] = {}
        self._keys_end_s: dict[Peer, float] = {}
        self._timers: dict[Peer | AgentKey, asyncio.TimerHandle] = {}
        self._round: asyncio.TimerHandle | None = None
        self._stopped = False

    # -- asked by the hub ------------------------------------------------------------------------------------------

    @property
    def connected_agents(self) -> int:
        """How many agents have a session here."""
        return len(self._peers)

    def has_session(self, key: AgentKey) -> bool:
        """Return whether an agent has a session here."""
        return key in self._peers

    def peers_of(self, tenant_id: str, agent_id: str) -> tuple[Peer, ...]:
        """Return the sessions that speak for an agent. Safe to ask from any thread."""
        return tuple(self._peers.get((tenant_id, agent_id), ()))

    # -- told by the hub -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Call the agents dead that an earlier hub left behind, and go on looking for such."""
        for tenant_id, agent_id in self._overdue(self._clock.now_ms() - FINAL_SYNC_GRACE_MS):
            # Who was here since this hub began has a deadline of its own, whatever the clock says by now.
            if (tenant_id, agent_id) not in self._peers and (tenant_id, agent_id) not in self._lives:
                self._call_dead((tenant_id, agent_id), "expired")
        self._look_at_keys()
        self._round = self._loop.call_later(OVERDUE_EVERY_S, self.start)

    def stop(self) -> None:
        """Let no timer fire any more: who leaves from now on leaves because the hub does."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._round is not None:
            self._round.cancel()

    def joined(self, peer: Peer) -> None:
        """Take a session in that has just been welcomed."""
        principal = peer.principal
        assert principal is not None
        if principal.token_id is not None:
            self._by_token.setdefault(principal.token_id, set()).add(peer)
        if peer.token is not None:
            self._tokens_end_s[peer] = self._steady_s(peer.token.expires_at_ms)
            self._keys_end_s[peer] = self._steady_s(peer.token.key_ends_ms)
        if principal.agent_id is not None:
            self._speaks_for(peer, (principal.tenant_id, principal.agent_id))
        self._set_deadline(peer)

    def left(self, peer: Peer) -> None:
        """Let a session go; an agent whose last one it was has a little time to come back."""
        self._cancel(peer)
        self._tokens_end_s.pop(peer, None)
        self._keys_end_s.pop(peer, None)
        token_id = None if peer.principal is None else peer.principal.token_id
        if token_id is not None:
            _discard(self._by_token, token_id, peer)
        for key in peer.agents:
            _discard(self._peers, key, peer)
            if key not in self._peers:
                self._lost(key, peer.dropped_why)

    def registered(self, peer: Peer, agent: Agent) -> None:
        """Note what an agent is now: it registered or reported through this session."""
        key = (agent.tenant_id, agent.id)
        before = self._lives.get(key)
        self._speaks_for(peer, key)
        if agent.status == "dead":
            self._lives.pop(key, None)
            self._lives_end_s.pop(key, None)
        else:
            self._lives[key] = agent
            if before is None or before.expires_at != agent.expires_at:
                self._lives_end_s[key] = self._steady_s(from_rfc3339(agent.expires_at))
        if before is None or before.status != agent.status:
            self._log.basic("agent." + agent.status, tenant=agent.tenant_id, agent=agent.id)
        if before is None or before.expires_at != agent.expires_at:
            for each in self._peers[key]:
                self._set_deadline(each)

    def changed(self, events: list[Event]) -> None:
        """Look through what was committed for tokens revoked, keys rotated and tenants erased."""
        for event in events:
            if event.kind == "key_rotated":
                self._look_at_keys()
            if event.kind == "token_revoked":
                for peer in tuple(self._by_token.get(event.subject, ())):
                    self._log.basic("session.revoked", tenant=event.tenant_id, token=event.subject)
                    peer.end(frames.REVOKED, "the token was revoked")
            if event.kind == "tenant_erased":
                self._end_tenant(event.subject)

    def _end_tenant(self, digest: str) -> None:
        """End the sessions of a tenant that was erased: those by its tokens, and those of its agents."""
        of_tokens = {peer for peers in self._by_token.values() for peer in peers}
        for key in [one for one in self._lives if tenant_digest(one[0]).hex() == digest]:
            del self._lives[key]
            del self._lives_end_s[key]
        for peer in of_tokens | {peer for peers in self._peers.values() for peer in peers}:
            tenants = {tenant for tenant, _ in peer.agents}
            if peer.principal is not None and peer.principal.token_id is not None:
                tenants.add(peer.principal.tenant_id)
            if any(tenant_digest(tenant).hex() == digest for tenant in tenants):
                self._log.basic("session.revoked", agent=None, error="its tenant was erased")
                peer.end(frames.REVOKED, "the tenant was erased")

    def _look_at_keys(self) -> None:
        """Let sessions end with the key that signed their token: it may have been rotated out, or taken away."""
        if not self._by_token:
            return
        try:
            ends_ms = self._key_ends()
        except FedctlError as error:
            self._log.basic("error.keys", error=error.message)
            return
        for peer in {one for peers in self._by_token.values() for one in peers}:
            assert peer.token is not None
            end_ms = ends_ms.get(peer.token.key_id, 0)
            if end_ms < peer.token.key_ends_ms:
                peer.token = msgspec.structs.replace(peer.token, key_ends_ms=end_ms)
                self._keys_end_s[peer] = self._steady_s(end_ms)
                self._set_deadline(peer)

    # -- deadlines -------------------------------------------------------------------------------------------------

    def _speaks_for(self, peer: Peer, key: AgentKey) -> None:
        self._cancel(key)
        peer.agents.add(key)
        self._peers.setdefault(key, set()).add(peer)

    def _set_deadline(self, peer: Peer) -> None:
        """Let a session end with its agent's life and the time for a last push, any other with its token.

        With the key of its token each ends at once.
        """
        ends_s = [self._lives_end_s[key] for key in peer.agents if key in self._lives]
        grace_s = FINAL_SYNC_GRACE_MS / 1000 if ends_s else 0.0
        if peer in self._tokens_end_s:
            ends_s.append(self._tokens_end_s[peer])
        self._cancel(peer)
        if ends_s:
            end_s = min(min(ends_s) + grace_s, self._keys_end_s.get(peer, math.inf))
            delay_s = end_s - self._clock.monotonic_s()
            self._timers[peer] = self._loop.call_later(max(0.0, delay_s), self._expire, peer)

    def _steady_s(self, at_ms: int) -> float:
        """Return when, on the clock that never jumps, it will be that wall time if the wall clock does not jump."""
        return self._clock.monotonic_s() + (at_ms - self._clock.now_ms()) / 1000

    def _expire(self, peer: Peer) -> None:
        self._timers.pop(peer, None)
        # A timer may fire a moment before its time.
        if peer.token is not None and self._keys_end_s[peer] <= self._clock.monotonic_s() + 1:
            self._log.basic("session.revoked", tenant=peer.token.principal.tenant_id, key=peer.token.key_id)
            peer.end(frames.REVOKED, "the key of its token was rotated out")
            return
        over = [key for key in peer.agents if key in self._lives]
        for key in over:
            self._log.basic("agent.expired", tenant=key[0], agent=key[1])
            self._call_dead(key, None)
        peer.end(frames.EXPIRED, "the agent's lifetime is over" if over else "the token has expired")

    def _lost(self, key: AgentKey, why: str | None) -> None:
        if self._stopped:
            return
        if key not in self._lives:
            self._log.detailed("agent.left", tenant=key[0], agent=key[1])
            return
        self._log.basic("agent.dropped", tenant=key[0], agent=key[1], why=why)
        self._timers[key] = self._loop.call_later(DROPPED_GRACE_S, self._call_dead, key, "its session broke")

    def _call_dead(self, key: AgentKey, why: str | None) -> None:
        self._timers.pop(key, None)
        self._lives.pop(key, None)
        self._lives_end_s.pop(key, None)
        if why is not None:
            self._log.basic("agent.dead", tenant=key[0], agent=key[1], why=why)
        self._report(key[0], ReportAgent(id=key[1], status="dead"))

    def _cancel(self, of: Peer | AgentKey) -> None:
        timer = self._timers.pop(of, None)
        if timer is not None:
            timer.cancel()


def _discard(sets: dict[K, set[Peer]], key: K, peer: Peer) -> None:
    peers = sets.get(key)
    if peers is not None:
        peers.discard(peer)
        if not peers:
            del sets[key]
