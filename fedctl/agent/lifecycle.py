"""An agent's life: connect, pull what helps, work, push what was learned, die.

The phases are those of `model.agent.AGENT_TRANSITIONS`. While the hub is away the agent goes on: what it stores is
queued, it reconnects with backoff, and it says at its end how many episodes it could not deliver.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import msgspec

from fedctl import __version__
from fedctl.agent import leftovers
from fedctl.agent.folder import AgentFolder
from fedctl.agent.journal import Journal
from fedctl.agent.link import HubLink
from fedctl.agent.memory import ANSWERED_HERE, AgentMemory
from fedctl.agent.plan import Ending
from fedctl.agent.socket import AgentSocket
from fedctl.errors import Conflict, Denied, FedctlError, NotFound, Timeout, Unavailable, UsageError
from fedctl.log import Log
from fedctl.messages import agent as a
from fedctl.messages import memory as m
from fedctl.messages.hub import Subscribe
from fedctl.model import limits
from fedctl.model.agent import FINAL_SYNC_GRACE_MS, MAX_LIFETIME_MS, MIN_LIFETIME_MS, AgentFigures, AgentStatus
from fedctl.model.principal import Principal
from fedctl.model.time import to_rfc3339
from fedctl.operations.table import OPERATIONS, request_types
from fedctl.process import Command
from fedctl.wire import frames
from fedctl.wire.codec import RequestDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.agent.plan import AgentPlan, Means
    from fedctl.messages.base import Request
    from fedctl.model.hub import Event

A = TypeVar("A")

PULL_PAGES_MAX = 10
"""A sync takes over at most so many pages; an agent that is further behind starts again from the newest."""
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
_NEWS_DELAY_S = 1.0
_REPORT_TIMEOUT_S = 5.0
_LAST_TRY_S = 1.0
_NEVER_LOST = (Unavailable, Timeout)
_ITS_OWN = (a.RegisterAgent, a.ReportAgent, Subscribe)
"""What an agent says to its hub of itself: nobody else says it through the agent's socket."""


class AgentLife:
    """One agent, on one event loop."""

    def __init__(self, plan: AgentPlan, means: Means) -> None:
        """Check the plan; nothing runs before `start`."""
        limits.check_name("tenant", plan.tenant_id)
        limits.check_name("agent", plan.agent_id)
        limits.check_name("agent type", plan.type)
        if not MIN_LIFETIME_MS <= plan.lifetime_ms <= MAX_LIFETIME_MS:
            raise UsageError(
                f"a lifetime is within {MIN_LIFETIME_MS // 1000}s and {MAX_LIFETIME_MS // 60_000}m, "
                f"not {plan.lifetime_ms / 1000:g}s"
            )
        if not 0 <= plan.pull_limit <= limits.BATCH_MAX_ITEMS:
            raise UsageError(f"an agent pulls at most {limits.BATCH_MAX_ITEMS} episodes at its start")
        if plan.sync_interval_ms <= 0:
            raise UsageError("the sync interval must be longer than nothing")
        if plan.undelivered is not None:
            leftovers.check(plan.undelivered)
        self.plan = plan
        self.status: AgentStatus = "spawning"
        self._means = means
        self._link = means.link
        self._log = means.log or Log.silent()
        self._who = {"tenant": plan.tenant_id, "agent": plan.agent_id}
        self._clock = means.clock
        self._born_s = means.clock.monotonic_s()
        self._journal = Journal(means.clock, plan.tenant_id, plan.agent_id)
        self._principal = Principal(tenant_id=plan.tenant_id, role="agent", agent_id=plan.agent_id)
        self.memory: AgentMemory | None = None
        self._socket: AgentSocket | None = None
        self._folder: AgentFolder | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sync_lock = asyncio.Lock()
        self._registry_lock = asyncio.Lock()
        self._cursor: int | None = None
        self._epoch = ""
        self._registered = False
        self._refused = False
        self._trouble: str | None = None
        self._news = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._stop_reason: Literal["stopped", "signal"] = "stopped"
        self._signal: signal.Signals | None = None
        self._sync_ms: list[float] = []
        self._connection_errors = 0
        self._impatient = False
        self._over = False
        self._host = socket.gethostname() or "localhost"

    # -- what its owner may ask ------------------------------------------------------------------------------------

    @property
    def remaining_s(self) -> float:
        """Seconds until the lifetime is over, never below 0."""
        return max(0.0, self._born_s + self.plan.lifetime_ms / 1000 - self._clock.monotonic_s())

    @property
    def is_alive(self) -> bool:
        """Whether the agent has begun its work and not ended it."""
        return self.status in ("ready", "working", "idle") and self.remaining_s > 0

    @property
    def connected(self) -> bool:
        """Whether the hub can be asked now."""
        return self._link.connected

    async def answer(self, request: Request[A]) -> A:
        """Answer as the agent: what is stored or noted waits here; anything else is the hub's while it is there.

        What is queued goes first, so that the hub's answer knows what this agent has just learned. Without the hub
        the memory in RAM answers what it can.

        Raises:
            Denied: It is not an agent's to ask. To a hub on the same home the agent is its owner; who asks through the
                agent is not.
        """
        operation = OPERATIONS[type(request)].name
        self._log.verbose("agent.asked", **self._who, asked=operation)
        with self._journal.timed(operation):
            return await self._answer(request)

    async def _answer(self, request: Request[A]) -> A:
        memory = self._memory()
        if isinstance(request, m.StoreEpisodes):
            return cast("A", memory.answer(request))
        if isinstance(request, a.AddNotes):
            self._news.set()  # who watches need not wait for the next sync
            return cast("A", self._journal.note(request))
        self._check_may_ask(request)
        if self._link.connected:
            try:
                await self._push_first()
                return await self._link.call(request)
            except _NEVER_LOST:
                if not isinstance(request, ANSWERED_HERE):
                    raise
        return memory.answer(request)

    def _check_may_ask(self, request: Request[Any]) -> None:
        operation = OPERATIONS[type(request)]
        if isinstance(request, _ITS_OWN):
            raise Denied(f"{operation.name} is for the agent {self.plan.agent_id} itself to ask")
        if not self._principal.may(operation.role):
            raise Denied(
                f"{operation.name} needs the role {operation.role}, this agent is of role {self._principal.role}",
                hint="ask the home or the hub itself: --hub auto",
            )

    async def _push_first(self) -> None:
        """Push what is queued; a hub that does not take it (a full disk, say) may still answer."""
        try:
            async with self._sync_lock:
                await self._push()
        except _NEVER_LOST:
            raise
        except FedctlError as error:
            self._say_trouble(error)

    async def sync(self) -> None:
        """Push what is queued, then take over what came since the last time."""
        async with self._sync_lock:
            begun = self._clock.monotonic_s()
            with self._journal.timed("sync"):
                await self._push()
                await self._pull()
            await self._tell(synced_ms=(self._clock.monotonic_s() - begun) * 1000)
            self._sync_ms.append((self._clock.monotonic_s() - begun) * 1000)
            self._log.verbose("sync.done", **self._who, duration_ms=self._sync_ms[-1])

    # -- its life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, register, pull, and be ready.

        Raises:
            Unavailable: The hub is not there: an agent starts with it and may lose it later.
            Denied: The token is refused, or ends before the agent would.
            Conflict: An agent of this id is alive.
        """
        other_side = await self._link.connect(self._heard_stop, self._heard_news)
        self._principal = msgspec.structs.replace(
            other_side,
            agent_id=self.plan.agent_id,
            role="agent" if other_side.role == "owner" else other_side.role,
        )
        self.memory = AgentMemory(
            Path(), self._clock, self._means.access, self._principal.tenant_id, self.plan.agent_id,
            self._means.embedder,
        )  # fmt: skip
        await self._register()
        await self.report("initializing")
        await self._pull_first()
        await self._subscribe()
        await self._listen()
        await self.report("ready")
        self._log.detailed(
            "agent.started", **self._who, duration_ms=(self._clock.monotonic_s() - self._born_s) * 1000,
            pulled=self.memory.pulled,
        )  # fmt: skip
        self._tasks = [
            asyncio.create_task(self._keep_link(), name="agent-link"),
            asyncio.create_task(self._keep_synced(), name="agent-sync"),
        ]

    async def run(self, command: list[str], on_ready: Callable[[str], None] = lambda _address: None) -> Ending:
        """Live until the command ends, the lifetime is over, or somebody asks for the end; without a command serve.

        `on_ready` hears the address of the agent's socket, for who wants to be served.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard_signal, number)
        try:
            starting = asyncio.create_task(self.start())
            stopping = asyncio.create_task(self._stop_asked.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return await self.end(self._stop_reason, None)
            await starting
            on_ready(self.environment()["FEDCTL_HUB"])
            if not command:
                expired = not await self.until_asked(self.remaining_s)
                return await self.end("expired" if expired else self._stop_reason, None)
            return await self._run_command(command)
        except BaseException:
            await self.abandon()
            raise
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _run_command(self, argv: list[str]) -> Ending:
        await self.try_sync()
        command = await Command.start(argv, self.environment())
        self._log.verbose("agent.command", **self._who, state="started", program=os.path.basename(argv[0]))  # noqa: PTH119  no path on disk
        try:
            await self.report("working")
            reason = await self._watch(command)
        finally:
            # What the command started and left behind has no agent any more.
            await command.end()
        self._log.verbose("agent.command", **self._who, state="ended", reason=reason)
        await self.report("idle")
        if reason == "done":
            await self.try_sync()
        return await self.end(reason, await command.wait())

    async def _watch(self, command: Command) -> Literal["done", "expired", "stopped", "signal"]:
        """Wait for the command's end, or for a reason to end it."""
        running = asyncio.create_task(command.wait())
        asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait({running, asked}, timeout=self.remaining_s, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return "done"
            return self._stop_reason if asked.done() else "expired"
        finally:
            running.cancel()
            asked.cancel()

    async def end(self, reason: Literal["done", "expired", "stopped", "signal"], status: int | None) -> Ending:
        """Say goodbye: a last sync while there is something to deliver, then the registry's last word."""
        try:
            await self.report("shutting_down")
            await self._last_sync()
            ending = self._ending(reason, status, *self._keep_left())
            self._log.detailed(
                "agent.ended", **self._who, duration_ms=ending.lived_ms, reason=reason, exit=ending.exit,
                stored=ending.stored, delivered=ending.delivered, undelivered=ending.undelivered, syncs=ending.syncs,
            )  # fmt: skip
            await self.report("dead")
        finally:
            await self.let_go()
        return ending

    async def abandon(self) -> None:
        """End without ceremony after an error; the registry is told, so that the agent's id is free again."""
        if not self._over:
            try:
                self._keep_left()
                await self.report("dead")
            finally:
                await self.let_go()

    async def report(self, status: AgentStatus) -> None:
        """Enter a phase and tell the hub; while it is away it is told when it comes back."""
        self._log.trace("agent.state", **self._who, before=self.status, state=status)
        self.status = status
        self._journal.enter(status)
        try:
            await self._tell()
        except Timeout:
            # It may be a while until a ping finds out that nobody is there, and at the end nobody is to wait for that.
            if status in ("idle", "shutting_down") and isinstance(self._link, HubLink):
                await self._link.close()
        except (Unavailable, NotFound, Conflict):
            return
        except FedctlError as error:  # no reason to die
            self._say_trouble(error)

    async def _tell(self, *, synced_ms: float | None = None) -> None:
        """Tell the registry the phases up to now, one word at a time: not into the middle of coming back."""
        async with self._registry_lock:
            if self._registered:
                await self._journal.tell_phases(self._call, self._counts())
                if synced_ms is not None:
                    await self._journal.tell_sync(self._call, self.status, self._counts(), synced_ms)

    async def _call(self, request: Request[A]) -> A:
        return await self._link.call(request, timeout_s=_REPORT_TIMEOUT_S)

    def environment(self) -> dict[str, str]:
        """Return the environment of a command inside this agent: no secrets, and the agent's socket for a hub."""
        assert self._socket is not None
        inherited = {k: v for k, v in os.environ.items() if k not in ("FEDCTL_TOKEN", "FEDCTL_TOKEN_FILE")}
        return inherited | {
            "FEDCTL_AGENT_ID": self.plan.agent_id,
            "FEDCTL_TENANT": self._principal.tenant_id,
            "FEDCTL_HUB": f"unix:{self._socket.path}",
        }

    # -- connecting --------------------------------------------------------------------------------------------------

    async def _register(self) -> None:
        await self._link.call(
            a.RegisterAgent(
                id=self.plan.agent_id,
                type=self.plan.type,
                lifetime_ms=max(MIN_LIFETIME_MS, round(self.remaining_s * 1000)),
                host=self._host,
                pid=os.getpid(),
                age_ms=round((self._clock.monotonic_s() - self._born_s) * 1000),
            )
        )
        self._registered = True

    async def _resume(self) -> None:
        """Come back after a lost connection: the hub may have given the agent up, or be another one's successor."""
        async with self._registry_lock:
            try:
                known = await self._is_known()
                if known:
                    await self._journal.tell_phases(self._call, self._counts())
                    await self._call(a.ReportAgent(id=self.plan.agent_id, status=self.status))
            except (NotFound, Conflict):
                known = False
            if not known:
                await self._enter_again()
        await self._subscribe()

    async def _is_known(self) -> bool:
        """Return whether the registry still holds this agent, alive, and not another one of its name."""
        known = (await self._call(a.GetAgent(id=self.plan.agent_id))).agent
        return known.status != "dead" and (known.host, known.pid) == (self._host, os.getpid())

    async def _enter_again(self) -> None:
        self._registered = False
        try:
            await self._register()
        except Conflict as error:
            # Its name is another's by now. What it learned is delivered all the same; the other's phases are not its.
            self._say(f"{error.message}; this one goes on unregistered")
            return
        self._journal.enter_again(self.status)
        await self._journal.tell_phases(self._call, self._counts())

    async def _subscribe(self) -> None:
        # The home itself, without a hub, sends no notices: the next sync finds what is new.
        with contextlib.suppress(Unavailable):
            await self._link.call(Subscribe(kinds=["episode_stored", "episode_deleted", "episodes_pruned"]))

    async def _keep_link(self) -> None:
        backoff_s, since_s = _BACKOFF_FIRST_S, self._clock.monotonic_s()
        while True:
            await self._link.lost()
            lost_s = self._clock.monotonic_s()
            self._connection_errors += 1
            self._say("the hub is away; what is stored waits here")
            if self._clock.monotonic_s() - since_s > _BACKOFF_MAX_S:  # else it hangs up on whoever comes
                backoff_s = _BACKOFF_FIRST_S
            while not self._link.connected:
                # Jitter: after a hub's restart its agents do not come all at once.
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311  no secret
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
                try:
                    await self._reconnect()
                except Denied as error:
                    self._trouble = f"the hub refuses this agent now: {error.message}"
                    self._say(self._trouble)
                    self._refused = True
                    return
                except FedctlError:
                    continue
            since_s = self._clock.monotonic_s()
            self._say("the hub is back")
            self._journal.error(f"the hub was away for {since_s - lost_s:.1f} s")
            await self.try_sync()

    async def _reconnect(self) -> None:
        try:
            await self._link.connect(self._heard_stop, self._heard_news)
            await self._resume()
        except BaseException:
            await self._link.close()
            raise

    async def _keep_synced(self) -> None:
        interval_s = self.plan.sync_interval_ms / 1000
        while True:
            begun = self._clock.monotonic_s()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._news.wait()
                    # Others' news is taken over soon, not at once: many agents store at the same time.
                    await asyncio.sleep(max(0.0, _NEWS_DELAY_S - (self._clock.monotonic_s() - begun)))
            self._news.clear()
            await self.try_sync()

    async def try_sync(self) -> None:
        """Sync if the hub is there; what goes wrong is said and tried again at the next time."""
        if not self._link.connected:
            return
        try:
            await self.sync()
        except _NEVER_LOST:
            return
        except FedctlError as error:
            self._say_trouble(error)
        else:
            self._trouble = None

    async def _last_sync(self) -> None:
        """Deliver what is left, for as long as the hub still takes it: to the end of the grace, never longer."""
        now_s = self._clock.monotonic_s()
        lived_out_s = self._born_s + self.plan.lifetime_ms / 1000
        left_s = min(lived_out_s, now_s) + FINAL_SYNC_GRACE_MS / 1000 - now_s
        pause_s = _BACKOFF_FIRST_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(_LAST_TRY_S, left_s)):
                await self.try_sync()
                while not await self._turn_home() and self._may_still_deliver():
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, 1.0)
                    await self.try_sync()

    async def _turn_home(self) -> bool:
        """Where the hub on the home is gone, bring home what is left: the files are here. Return whether it is done."""
        home = None if self._link.connected or self._refused else self._means.home_link()
        if home is None:
            return False
        await _cancelled(self._tasks)  # nobody is to reconnect any more
        await self._link.close()
        self._link = home
        try:
            await home.connect(self._heard_stop, self._heard_news)
        except FedctlError as error:  # a damaged or unreadable home: what is left is said, not died of
            self._say_trouble(error)
            return True
        self._say("the hub is gone; what is left goes to the home itself")
        await self.try_sync()
        return True

    def _keep_left(self) -> tuple[str | None, str | None]:
        """Write what could not be delivered to its file; return the file, and why it could not be delivered."""
        memory = self.memory
        left = [] if memory is None else memory.left()
        if memory is None or not left:
            return None, None
        if memory.refused and not memory.undelivered:
            why = memory.refused[-1].error.message
        else:
            why = self._trouble or ("the hub does not answer" if self._link.connected else "the hub is away")
        file = self.plan.undelivered
        if file is None:
            return None, why
        try:
            leftovers.keep(file, left)
        except OSError as error:
            return None, f"{why}; and {str(file)!r} cannot be written: {error.strerror or error}"
        return str(file), why

    def _may_still_deliver(self) -> bool:
        notes = self._journal.undelivered if self._registered else 0
        left = self.memory is not None and self.memory.undelivered + notes > 0
        return left and not (self._impatient or self._refused)

    # -- pushing and pulling -----------------------------------------------------------------------------------------

    async def _push(self) -> None:
        memory = self._memory()
        while (batch := memory.next_batch()) is not None:
            before = len(memory.refused)
            memory.settle(batch, await self._link.call(batch))
            for refusal in memory.refused[before:]:
                self._say(f"the hub refused the episode {refusal.id}: {refusal.error.message}")
                self._journal.error(f"the hub refused the episode {refusal.id}: {refusal.error.message}")
        if self._registered:
            await self._journal.push_notes(self._call)

    async def _pull_first(self) -> None:
        request = m.PullEpisodes(
            limit=self.plan.pull_limit,
            query=self.plan.pull_query,
            with_vectors=self._memory().searches_by_meaning,
        )
        answer = await self._link.call(request)
        restored = self._epoch not in ("", answer.epoch)
        self._cursor, self._epoch = answer.cursor, answer.epoch
        self._memory().take_in(answer.episodes, answer.deleted)
        if restored:  # from a backup, which may be older than what was delivered
            self._say("the hub's store was restored from a backup: it is told again what it may lack")
            self._memory().push_again()
            await self._push()

    async def _pull(self) -> None:
        memory = self._memory()
        for _ in range(PULL_PAGES_MAX):
            request = m.PullEpisodes(cursor=self._cursor, with_vectors=memory.searches_by_meaning)
            answer = await self._link.call(request)
            if answer.epoch != self._epoch:  # the hub's store is another one now: its cursors begin anew
                break
            self._cursor = answer.cursor
            memory.take_in((one for one in answer.episodes if one.agent_id != self.plan.agent_id), answer.deleted)
            if not answer.more:
                return
        await self._pull_first()

    # -- its socket, its end -----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._folder = AgentFolder()
        self._socket = AgentSocket(
            self._folder.path / "agent.sock",
            RequestDecoder(request_types()),
            self._principal,
            self._welcome,
            self.answer,
        )
        await self._socket.start()

    def _welcome(self) -> frames.Welcome:
        return frames.Welcome(
            version=frames.VERSION,
            fedctl=__version__,
            epoch=self._epoch,
            principal=self._principal,
            server_time=to_rfc3339(self._clock.now_ms()),
        )

    async def until_asked(self, timeout_s: float) -> bool:
        """Wait until somebody asks for the end (True), or the time is over (False)."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._stop_asked.wait()
        except TimeoutError:
            return False

    async def let_go(self) -> None:
        """Drop everything that is open; twice is harmless."""
        if self._over:
            return
        self._over = True
        await _cancelled(self._tasks)
        if self._socket is not None:
            await self._socket.stop()
        if self._folder is not None:
            self._folder.close()
        await self._link.close()
        if self.memory is not None:
            self.memory.close()
        self.status = "dead"

    def _ending(
        self, reason: Literal["done", "expired", "stopped", "signal"], status: int | None, file: str | None,
        why: str | None,
    ) -> Ending:  # fmt: skip
        counts = self._counts()
        return Ending(
            agent_id=self.plan.agent_id,
            tenant_id=self._principal.tenant_id,
            exit=self._exit(reason, status, counts.undelivered),
            reason=reason,
            lived_ms=round((self._clock.monotonic_s() - self._born_s) * 1000),
            pulled=counts.pulled,
            stored=counts.stored,
            delivered=counts.delivered,
            undelivered=counts.undelivered,
            syncs=counts.syncs,
            sync_mean_ms=sum(self._sync_ms) / len(self._sync_ms) if self._sync_ms else None,
            sync_max_ms=max(self._sync_ms, default=None),
            connection_errors=counts.connection_errors,
            notes_undelivered=self._journal.undelivered + self._journal.refused,
            undelivered_file=file,
            undelivered_why=why,
        )

    def _counts(self) -> AgentFigures:
        memory = self.memory
        return AgentFigures(
            pulled=0 if memory is None else memory.pulled,
            stored=0 if memory is None else memory.stored,
            delivered=0 if memory is None else memory.delivered,
            undelivered=0 if memory is None else memory.undelivered + len(memory.refused),
            syncs=len(self._sync_ms),
            connection_errors=self._connection_errors,
        )

    def _exit(self, reason: str, status: int | None, undelivered: int) -> int:
        if reason == "expired" and status is not None:
            return 124
        if reason == "signal" and self._signal is not None:
            return 128 + self._signal
        return status or (7 if undelivered else 0)

    def _heard_stop(self, _reason: str) -> None:
        self._stop_asked.set()

    def _heard_signal(self, number: signal.Signals) -> None:
        # A second signal means: do not wait for the hub any longer.
        self._impatient = self._signal is not None
        self._signal, self._stop_reason = number, "signal"
        self._stop_asked.set()

    def _heard_news(self, _event: Event) -> None:
        self._news.set()

    def _memory(self) -> AgentMemory:
        if self.memory is None or self._over:
            raise Unavailable(f"the agent {self.plan.agent_id} is not alive")
        return self.memory

    def _say_trouble(self, error: FedctlError) -> None:
        """Say what the hub does not take, once."""
        if error.message != self._trouble:
            self._trouble = error.message
            self._say(f"sync failed: {error.message}")
            self._journal.error(f"sync failed: {error.message}")

    def _say(self, line: str) -> None:
        self._log.basic("agent.note", **self._who, text=line)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
