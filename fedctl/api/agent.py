"""An ephemeral agent inside a Python program: the same life as `fedctl agent spawn`, with a coroutine for a command."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from fedctl import bootstrap, config
from fedctl.clock import Clock
from fedctl.errors import Conflict, Expired, Unavailable, UsageError, from_code
from fedctl.messages.agent import AddNotes
from fedctl.messages.memory import QueryEpisodes, StoreEpisodes
from fedctl.model.agent import NoteDraft
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.model.time import parse_duration_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping
    from types import TracebackType

    from fedctl.agent.lifecycle import AgentLife
    from fedctl.agent.plan import Ending
    from fedctl.model.agent import Note, NoteKind
    from fedctl.model.episode import Episode, Hit, Mode

R = TypeVar("R")


class EphemeralAgent:
    """An agent that connects, pulls what helps, works, pushes what it learned, and dies.

        async with EphemeralAgent.spawn(tenant_id="acme", lifetime="2m") as agent:
            hits = await agent.query_memories("flaky tests", k=5)
            await agent.store_episode(task="fix the flaky test", output="raised the timeout", reward=0.9)

    It belongs to the event loop it was spawned on. When its lifetime is over it syncs and dies by itself, and what
    is asked of it then raises `Unavailable`.
    """

    def __init__(self, life: AgentLife) -> None:
        """Take over a life that has begun; `spawn` makes one."""
        self._life = life
        self._clock = Clock()
        self._ending: Ending | None = None
        self._end_lock = asyncio.Lock()
        self._expiry = asyncio.create_task(self._expire(), name="agent-expiry")

    @classmethod
    def spawn(  # noqa: PLR0913  the flags of `fedctl agent spawn`
        cls,
        tenant_id: str | None = None,
        lifetime: str | float = "5m",
        hub_endpoint: str = "auto",
        *,
        agent_id: str | None = None,
        agent_type: str = "agent",
        token_file: str | Path | None = None,
        home: str | Path | None = None,
        sync_interval: str | float = "5s",
        pull_query: str | None = None,
        pull_limit: int = 100,
        embed: Literal["hub", "local"] = "hub",
        undelivered: str | Path | None = None,
    ) -> Spawning:
        """Begin an agent's life: `await` it, or use it as an async context manager, which also ends it.

        Args:
            tenant_id: Whose memory it shares; None: the token's, else `FEDCTL_TENANT`, else `default`.
            lifetime: A duration (`"90s"`) or seconds, within 5 s and 15 min.
            hub_endpoint: `auto` (the hub on this home, else the home itself), `off`, `ws://`, `wss://`, `unix:PATH`.
            agent_id: Its name; None makes one.
            agent_type: What kind of agent it is, for `fedctl agent list`.
            token_file: Where its token is; else `FEDCTL_TOKEN_FILE` or `FEDCTL_TOKEN`.
            home: The home; else `FEDCTL_HOME` or the platform's.
            sync_interval: A duration or seconds between two syncs.
            pull_query: What the pulled episodes should be about; None pulls the newest.
            pull_limit: How many episodes it pulls at its start, at most 1,000.
            embed: Who embeds: the hub, or (`local`) the agent, which then carries a model and 100 MB more.
            undelivered: A file that keeps what could not be delivered at its end, for `fedctl memory import`; without
                it, that is lost.

        Raises:
            FedctlError: When awaited: `Unavailable` without the hub, `Denied`, `Conflict`, `UsageError`.
        """
        flags: Mapping[str, str | None] = {
            "tenant": tenant_id,
            "hub": hub_endpoint,
            "token_file": None if token_file is None else str(token_file),
            "home": None if home is None else str(home),
            "debug_level": None if os.environ.get("DEBUG_LEVEL") else "silent",
        }
        options = config.AgentOptions(
            id=agent_id,
            type=agent_type,
            lifetime_ms=_ms(lifetime),
            sync_interval_ms=_ms(sync_interval),
            pull_query=pull_query,
            pull_limit=pull_limit,
            embed=embed,
            undelivered=None if undelivered is None else Path(undelivered),
        )
        return Spawning(flags, options)

    # -- its life --------------------------------------------------------------------------------------------------

    @property
    def agent_id(self) -> str:
        """Its name."""
        return self._life.plan.agent_id

    @property
    def tenant_id(self) -> str:
        """Whose memory it shares."""
        return self._life.plan.tenant_id

    @property
    def status(self) -> str:
        """Its phase: spawning, initializing, ready, working, idle, shutting_down or dead."""
        return self._life.status

    @property
    def remaining_lifetime(self) -> float:
        """Seconds until it dies, 0 when it has."""
        return 0.0 if self._ending is not None else self._life.remaining_s

    @property
    def is_alive(self) -> bool:
        """Whether it can work."""
        return self._ending is None and self._life.is_alive

    async def execute(self, task: Callable[..., Awaitable[R] | R], *args: Any, **kwargs: Any) -> R:
        """Run `task(self, *args, **kwargs)` as the agent's work and sync after it; return what it returned.

        A plain function runs in a thread, without the agent as its first argument (it could not use it there).

        Raises:
            Conflict: It is working already.
            Expired: The lifetime ended before the task; the task was cancelled (a thread goes on, unheard).
            Unavailable: The agent is not alive.
        """
        if self.status == "working":
            raise Conflict(f"the agent {self.agent_id} is working already", hint="spawn another agent")
        if not self.is_alive:
            raise Unavailable(f"the agent {self.agent_id} is not alive")
        await self._life.report("working")
        try:
            async with asyncio.timeout(self._life.remaining_s):
                if inspect.iscoroutinefunction(task):
                    return cast("R", await task(self, *args, **kwargs))
                done = await asyncio.to_thread(task, *args, **kwargs)
                return cast("R", await done if inspect.isawaitable(done) else done)
        except TimeoutError:
            if self._life.remaining_s > 0:  # the task's own
                raise
            raise Expired(f"the lifetime of the agent {self.agent_id} ended its task") from None
        finally:
            if self._ending is None and self.status == "working":
                await self._life.report("idle")
                await self._life.try_sync()

    async def destroy(self) -> Ending:
        """End its life: a last sync, then the registry's last word. Twice is the same as once.

        Returns:
            What became of it; `undelivered` counts the episodes that the hub did not take, `undelivered_file` has them.
        """
        return await self._end("done")

    # -- its memory ------------------------------------------------------------------------------------------------

    async def query_memories(  # noqa: PLR0913  the flags of `fedctl memory query`
        self,
        task: str,
        k: int = 10,
        *,
        mode: Mode = "hybrid",
        filter: EpisodeFilter | None = None,  # noqa: A002  the word of the command line
        reward_weight: float = 0.1,
        explain: bool = False,
    ) -> list[Hit]:
        """Return up to `k` episodes that help with `task`, best first; without the hub, of what the agent holds.

        `filter` applies before the search: `EpisodeFilter(min_reward=0.5, agent_id="coder")`.
        """
        request = QueryEpisodes(
            text=task,
            k=k,
            mode=mode,
            filter=filter or EpisodeFilter(),
            reward_weight=reward_weight,
            explain=explain,
        )
        return (await self._life.answer(request)).hits

    async def store_episode(  # noqa: PLR0913  one parameter a column
        self,
        task: str,
        *,
        input: Any = None,  # noqa: A002  the word of the contract
        output: Any = None,
        reward: float | None = None,
        success: bool | None = None,
        critique: str | None = None,
        session_id: str | None = None,
        tokens_used: int | None = None,
        latency_ms: float | None = None,
        metadata: dict[str, Any] | None = None,
        episode_id: str | None = None,
    ) -> Episode:
        """Remember an episode; the next sync takes it to the hub.

        Raises:
            UsageError: A value is wrong or too large; nothing was kept.
            Conflict: `episode_id` exists with other content.
        """
        draft = EpisodeDraft(
            id=episode_id or self._clock.new_id(),
            task=task,
            session_id=session_id,
            input=input,
            output=output,
            reward=reward,
            success=success,
            critique=critique,
            tokens_used=tokens_used,
            latency_ms=latency_ms,
            metadata=metadata,
        )
        (result,) = (await self._life.answer(StoreEpisodes(episodes=[draft], echo=True))).results
        if result.error is not None:
            error = result.error
            raise from_code(error["code"], error["message"], hint=error["hint"], details=error["details"])
        if result.episode is None:
            raise Conflict(f"the episode {draft.id} was deleted; its id is not used again")
        return result.episode

    async def note(self, kind: NoteKind, text: str, data: Any = None) -> Note:
        """Note a task, a step, a decision, a message or an error for `fedctl agent timeline` and `hub events`.

        Notes are no episodes: nothing is learned from them, and a final sync that cannot deliver them is no failure.

        Args:
            kind: `task`, `step`, `decision`, `message` or `error`.
            text: One to a few lines, at most 4 KiB.
            data: Any JSON, at most 16 KiB of it.

        Raises:
            UsageError: One of them is wrong or too large.
        """
        draft = NoteDraft(id=self._clock.new_id(), kind=kind, text=text, data=data)
        (note,) = (await self._life.answer(AddNotes(notes=[draft]))).notes
        return note

    async def sync_with_hub(self) -> None:
        """Push what is queued and take over what came since.

        Raises:
            Unavailable: The hub is away; nothing is lost, the next sync tries again.
        """
        await self._life.sync()

    # -- its end ---------------------------------------------------------------------------------------------------

    async def _end(self, reason: Literal["done", "expired", "stopped"]) -> Ending:
        async with self._end_lock:
            if self._ending is None:
                self._ending = await self._life.end(reason, None)
        if asyncio.current_task() is not self._expiry:
            self._expiry.cancel()
        return self._ending

    async def _expire(self) -> None:
        stopped = await self._life.until_asked(self._life.remaining_s)
        await self._end("stopped" if stopped else "expired")


class Spawning:
    """An agent that is about to begin: await it, or enter it."""

    def __init__(self, flags: Mapping[str, str | None], options: config.AgentOptions) -> None:
        self._flags = flags
        self._options = options
        self._agent: EphemeralAgent | None = None

    def __await__(self) -> Generator[Any, None, EphemeralAgent]:
        return self._begin().__await__()

    async def _begin(self) -> EphemeralAgent:
        settings = config.load(self._flags, os.environ)
        life = await asyncio.to_thread(bootstrap.make_agent, settings, self._options)
        try:
            await life.start()
        except BaseException:
            await life.abandon()
            raise
        return EphemeralAgent(life)

    async def __aenter__(self) -> EphemeralAgent:
        self._agent = await self._begin()
        return self._agent

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._agent is not None:
            await self._agent.destroy()


def _ms(duration: str | float) -> int:
    if isinstance(duration, str):
        return parse_duration_ms(duration)
    if not math.isfinite(duration):
        raise UsageError(f"{duration} is not a duration", hint='seconds, or a text such as "90s"')
    return round(duration * 1000)
