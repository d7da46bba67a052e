"""Where frames become requests and requests find their thread. On the event loop only."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.errors import Denied, FedctlError, Unavailable, UsageError
from fedctl.hub.door import Door, acting_for
from fedctl.hub.events import Subscribers, Subscription
from fedctl.hub.jobs import Job, carry_out
from fedctl.hub.pace import Pace
from fedctl.hub.rates import Rates
from fedctl.hub.waiting import Waiting
from fedctl.messages.agent import AgentAnswer, RegisterAgent, ReportAgent
from fedctl.messages.hub import Subscribe
from fedctl.messages.pool import ClaimAnswer, ReleaseItems
from fedctl.messages.tenant import EraseTenant, SetTenant
from fedctl.model.pool import Lease
from fedctl.model.principal import Principal
from fedctl.model.time import to_rfc3339
from fedctl.operations.table import OPERATIONS
from fedctl.wire import frames
from fedctl.wire import session as said

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.hub.jobs import Readers
    from fedctl.hub.peer import Peer
    from fedctl.hub.refusals import Refusals
    from fedctl.hub.stats import Figures
    from fedctl.hub.sweeper import Sweeper
    from fedctl.hub.writer import Writer
    from fedctl.log import Log
    from fedctl.messages.base import Request
    from fedctl.model.agent import Agent
    from fedctl.model.hub import Event
    from fedctl.operations.context import Context


class Desk:
    """Takes frames in, hands requests to the writer or the readers, and sends the answers."""

    def __init__(  # noqa: PLR0913  the parts of a hub
        self,
        context: Context,
        *,
        writer: Writer,
        readers: Readers,
        sweeper: Sweeper,
        subscribers: Subscribers,
        figures: Figures,
        refusals: Refusals,
        log: Log,
        max_agents: int,
        version: str,
    ) -> None:
        """Keep the parts; `context` is the event loop's own."""
        self._context = context
        self.door = Door(context, log)
        self._rates = Rates(context.clock, context.store.tenants.rates)
        self._writer = writer
        self._readers = readers
        self._sweeper = sweeper
        self._subscribers = subscribers
        self._figures = figures
        self._refusals = refusals
        self._log = log
        self._max_agents = max_agents
        self._version = version
        self._epoch = context.store.settings.epoch()
        self._clock = context.clock
        self.peers: set[Peer] = set()
        self.closing: FedctlError | None = None
        """Once set, nobody is let in and nothing is taken any more."""
        self._pace = Pace()
        self._waiting = Waiting(again=self._again, now_s=self._clock.monotonic_s)
        self._entering: set[tuple[str, str]] = set()
        """The (tenant, agent) whose registration is under way."""
        self.in_flight = 0
        self._quiet: asyncio.Future[None] | None = None
        self.last_asked_s = self._clock.monotonic_s()

    # -- sessions --------------------------------------------------------------------------------------------------

    def received(self, peer: Peer, data: bytes) -> None:
        """Take one frame of a peer."""
        event = peer.session.receive(data)
        if isinstance(event, said.Asked):
            self._asked(peer, event, len(data))
        elif isinstance(event, said.Greeted):
            self._greeted(peer, event.hello)
        elif isinstance(event, said.Left):
            peer.link.close(frames.NORMAL, "")
        else:
            self._figures.failed(event.error.code)
            self._refuse("malformed", peer, event.error)
            peer.send(event.reply)
            if isinstance(event, said.Broken):
                peer.link.close(frames.PROTOCOL_ERROR, event.error.code)

    def held(self, peer: Peer) -> asyncio.Future[None] | None:
        """Return what to wait for before the next frame of a peer; None: go on."""
        return None if peer.principal is None else self._pace.held(peer.principal.tenant_id)

    def late(self, peer: Peer) -> None:
        """Refuse a peer that did not say hello in time."""
        if peer.session.state == "new":
            error = Unavailable("no hello came in time")
            self._refuse("late", peer, error)
            peer.refuse(error)

    def overlong(self, peer: Peer, error: FedctlError) -> None:
        """Refuse a peer whose frame is longer than it may be."""
        self._figures.failed(error.code)
        self._refuse("too_large", peer, error)
        peer.refuse(error)

    def breached(self, peer: Peer, why: str) -> None:
        """Note that a peer was cut off because it broke the rules of its socket."""
        self._refuse("malformed", peer, UsageError(why))

    def _refuse(self, reason: str, peer: Peer, error: FedctlError, client: str = "") -> None:
        who = peer.principal
        self._refusals.note(
            reason, tenant=None if who is None else who.tenant_id, agent=None if who is None else who.agent_id,
            client=client or peer.client or None, local=peer.link.local, error=error.message,
        )  # fmt: skip

    def left(self, peer: Peer) -> None:
        """Forget a peer whose connection is gone."""
        peer.gone = True
        if peer in self.peers:
            self.peers.discard(peer)
            self._subscribers.remove(peer)
            self._sweeper.left(peer)
            self._trace(peer, "closed")
        self._waiting.left(peer)

    def _greeted(self, peer: Peer, hello: frames.Hello) -> None:
        try:
            if self.closing is not None:
                raise self.closing
            who = self.door.admit(hello, local=peer.link.local, looks_only=peer.link.looks_only)
            principal = who.principal
            self._make_room(principal)
        except FedctlError as error:
            self._figures.failed(error.code)
            self._refuse(error.code, peer, error, hello.client[:80])
            peer.refuse(error)
            return
        peer.principal, peer.token = who
        peer.client = hello.client[:80]
        peer.link.known()
        self.peers.add(peer)
        self._sweeper.joined(peer)
        self._figures.opened()
        self._trace(peer, "open")
        self._log.detailed(
            "session.opened", tenant=principal.tenant_id, agent=principal.agent_id, role=principal.role,
            client=peer.client or None,
        )  # fmt: skip
        peer.send(
            peer.session.welcome(
                frames.Welcome(
                    version=frames.VERSION,
                    fedctl=self._version,
                    epoch=self._epoch,
                    principal=principal,
                    server_time=to_rfc3339(self._clock.now_ms()),
                    limits=frames.Limits(frame_max_bytes=peer.session.frame_max_bytes),
                )
            )
        )

    def _trace(self, peer: Peer, state: str) -> None:
        if self._log.says_trace and peer.principal is not None:
            self._log.trace(
                "session.state", tenant=peer.principal.tenant_id, agent=peer.principal.agent_id, state=state,
                sessions=len(self.peers),
            )  # fmt: skip

    def _make_room(self, principal: Principal) -> None:
        if principal.agent_id is None and principal.role != "agent":
            return
        here = self._sweeper.has_session
        if principal.agent_id is not None and here((principal.tenant_id, principal.agent_id)):
            return
        entering = sum(not here(key) for key in self._entering)
        if self._sweeper.connected_agents + entering >= self._max_agents:
            raise Unavailable(
                f"this hub has its {self._max_agents} agents", hint="try later, or start it with more --max-agents"
            )

    # -- calls -----------------------------------------------------------------------------------------------------

    def _asked(self, peer: Peer, call: said.Asked, size_bytes: int) -> None:
        began_s = self.last_asked_s = self._clock.monotonic_s()
        operation = OPERATIONS[type(call.request)]

        entering: tuple[str, str] | None = None

        def done(job: Job) -> None:
            if isinstance(job.request, SetTenant | EraseTenant):  # holds for whoever asks once this is answered
                self._rates.reload()
            self._answer(peer, call.call_id, job)
            if entering is not None:
                self._entering.discard(entering)

        try:
            if self.closing is not None:
                raise self.closing
            assert peer.principal is not None
            who = acting_for(peer.principal, call.tenant_id)
            # Who sets the limits must not be kept from it by one.
            if operation.role != "operator":
                self._rates.take(who.tenant_id, call.request, watches=who.looks_only)
            if isinstance(call.request, RegisterAgent):
                self._make_room(msgspec.structs.replace(who, agent_id=call.request.id))
                entering = (who.tenant_id, call.request.id)
            job = Job(
                who, call.request, operation=operation.name, size_bytes=size_bytes, began_s=began_s, done=done,
                asker=peer,
            )  # fmt: skip
            if operation.kind == "session":
                self._carry_out_here(peer, job)
            else:
                self._hand_over(job, operation.kind)
                if entering is not None:
                    self._entering.add(entering)
                self._waiting.expect(peer, job)
        except FedctlError as error:
            self._figures.failed(error.code)
            peer.send(peer.session.fail(call.call_id, error))

    def _hand_over(self, job: Job, kind: str) -> None:
        (self._writer if kind == "write" else self._readers).submit(job)
        self._pace.took(job)
        self.in_flight += 1

    def _again(self, job: Job) -> None:
        """Hand over once more what found nothing; one that cannot be taken now is told so."""
        try:
            if self.closing is not None:
                raise self.closing
            self._hand_over(job, OPERATIONS[type(job.request)].kind)
        except FedctlError as error:
            job.error = error
            asyncio.get_running_loop().call_soon(job.done, job)  # whoever is next in line may be refused as well

    def happened(self, events: list[Event]) -> None:
        """Ask again for those who wait for what these events may have brought; take over limits that were set."""
        if any(event.kind in ("tenant_changed", "tenant_erased") for event in events):
            self._rates.reload()
        self._waiting.happened(events)

    def dismiss(self, error: FedctlError) -> None:
        """Answer everybody who waits with an error: the hub is stopping."""
        self._waiting.close(error)

    def _carry_out_here(self, peer: Peer, job: Job) -> None:
        """Do what concerns the session itself: subscribing."""
        request = job.request
        assert isinstance(request, Subscribe)
        if request.all_tenants and not job.who.may("operator"):
            raise Denied(
                f"{job.operation} to all tenants needs the role operator, this token is of role {job.who.role}"
            )
        carry_out(self._context, job, self._log)
        if job.error is None:
            self._subscribers.add(
                peer,
                Subscription.of(
                    request, tenant_id=job.who.tenant_id, agent_id=job.who.agent_id, after_seq=job.answer.seq
                ),
            )
        self._pace.took(job)
        self.in_flight += 1
        self.settle([job])

    def settle(self, jobs: list[Job]) -> None:
        """Send what the threads have done."""
        now_s = self._clock.monotonic_s()
        tells = self._log.says_detailed
        for job in jobs:
            self.in_flight -= 1
            self._pace.gave(job)
            self._figures.answered(job.operation, now_s - job.asked_s)
            if job.error is not None:
                if job.asker is None or not job.asker.gone:  # who left in the middle of a question is sent none
                    self._figures.failed(job.error.code)
            elif isinstance(job.request, ReportAgent) and job.request.synced:
                self._figures.synced()
            if tells:
                self._log.detailed(
                    job.operation, tenant=job.who.tenant_id, agent=job.who.agent_id,
                    duration_ms=(now_s - job.asked_s) * 1000, error=None if job.error is None else job.error.message,
                )  # fmt: skip
            job.done(job)

        if self.in_flight == 0 and self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    async def drained(self) -> None:
        """Wait until nothing is in flight; with `closing` set, that is for good."""
        if self.in_flight:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    def _answer(self, peer: Peer, call_id: int, job: Job) -> None:
        if self._waiting.hold(peer, job):
            return
        if peer.gone:
            self._give_back(job)
            return
        if job.error is not None:
            peer.send(peer.session.fail(call_id, job.error))
            return
        if isinstance(job.answer, AgentAnswer):
            self._note_agent(peer, job.request, job.answer.agent)
        peer.send(peer.session.answer(call_id, job.answer))

    def _give_back(self, job: Job) -> None:
        """Release what was claimed for somebody who is gone: it would lie there until its lease ends."""
        answer = job.answer
        claimed = answer.items if isinstance(answer, ClaimAnswer) else getattr(answer, "claimed", ())
        if claimed:
            leases = [Lease(id=one.id, lease_id=one.lease_id or "") for one in claimed]
            with contextlib.suppress(Unavailable):
                self.ask(job.who.tenant_id, ReleaseItems(leases=leases), lambda _job: None)

    def _note_agent(self, peer: Peer, request: Request[Any], agent: Agent) -> None:
        """Tie an agent's life to the session it registered through; what others report of it ties nothing."""
        own = isinstance(request, ReportAgent) and (agent.tenant_id, agent.id) in peer.agents
        if own or isinstance(request, RegisterAgent):
            self._sweeper.registered(peer, agent)

    # -- the hub's own requests --------------------------------------------------------------------------------------

    def ask(self, tenant_id: str, request: Request[Any], done: Callable[[Job], None]) -> None:
        """Carry out a request in the hub's own name, as the owner of the home; `done` is called on the loop."""
        operation = OPERATIONS[type(request)]
        who = Principal(tenant_id=tenant_id, role="owner")
        began_s = self._clock.monotonic_s()
        job = Job(who, request, operation=operation.name, size_bytes=0, began_s=began_s, done=done)
        self._hand_over(job, operation.kind)
