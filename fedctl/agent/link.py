"""An agent's way to what it is an agent of: a hub that may go away and come back, or the home itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from fedctl.client.link import AsyncCaller
from fedctl.errors import Unavailable
from fedctl.operations.table import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.client.tls import Trust
    from fedctl.messages.base import Request
    from fedctl.model.hub import Event
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

A = TypeVar("A")


class Link(Protocol):
    """What an agent asks. Every call raises `Unavailable` while there is no connection."""

    @property
    def connected(self) -> bool:
        """Whether calls can be made now."""
        ...

    async def connect(self, on_stop: Callable[[str], None], on_news: Callable[[Event], None]) -> Principal:
        """Open the way; return whom the other side takes the agent for.

        `on_stop` hears the wish that the agent end early, `on_news` what was subscribed to.
        """
        ...

    async def lost(self) -> None:
        """Wait until the connection is gone."""
        ...

    async def call(self, request: Request[A], *, timeout_s: float = 30.0) -> A:
        """Return the answer, or raise a `FedctlError`."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class HubLink:
    """A session with a hub. `connect` may be called again after the connection was lost."""

    def __init__(
        self, url: str, *, token: str | None, tenant_id: str | None, agent_id: str, trust: Trust | None = None
    ) -> None:
        self.url = url
        self._token = token
        self._tenant_id = tenant_id
        self._agent_id = agent_id
        self._trust = trust
        self._caller: AsyncCaller | None = None

    @property
    def connected(self) -> bool:
        """Whether the session is open."""
        return self._caller is not None and not self._caller.closed.is_set()

    async def connect(self, on_stop: Callable[[str], None], on_news: Callable[[Event], None]) -> Principal:
        """Connect and shake hands; see `AsyncCaller.connect` for what it raises."""
        await self.close()
        self._caller = await AsyncCaller.connect(
            self.url,
            token=self._token,
            tenant_id=self._tenant_id,
            agent_id=self._agent_id,
            client="fedctl agent",
            trust=self._trust,
            on_stop=on_stop,
            on_notice=on_news,
        )
        return self._caller.welcome.principal

    async def lost(self) -> None:
        """Wait until the session is gone."""
        if self._caller is not None:
            await self._caller.closed.wait()

    async def call(self, request: Request[A], *, timeout_s: float = 30.0) -> A:
        """Ask the hub."""
        if self._caller is None:
            raise Unavailable(f"not connected to {self.url}")
        return await self._caller.call(request, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close the session in order."""
        if self._caller is not None:
            await self._caller.close()
            self._caller = None


class HomeLink:
    """The home itself, where no hub runs: its store is opened by, and stays with, one thread."""

    def __init__(self, open_context: Callable[[], Context], principal: Principal) -> None:
        self._open = open_context
        self._principal = principal
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="home")
        self._context: Context | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the store is open."""
        return self._context is not None

    async def connect(self, on_stop: Callable[[str], None], on_news: Callable[[Event], None]) -> Principal:  # noqa: ARG002  nobody is there to ask or to tell
        """Open the store."""
        await self._in_thread(self._open_once)
        return self._principal

    async def lost(self) -> None:
        """Wait for ever: files do not hang up."""
        await asyncio.Event().wait()

    async def call(self, request: Request[A], *, timeout_s: float = 30.0) -> A:  # noqa: ARG002  the store has its own
        """Carry the request out on the home."""
        context = self._context
        if context is None:
            raise Unavailable("the home is not open")
        return await self._in_thread(lambda: run(context, self._principal, request))

    async def close(self) -> None:
        """Close the store, also one that is just being opened for who waits no longer."""
        if not self._closed:
            self._closed = True
            await self._in_thread(self._close_once)
            self._thread.shutdown(wait=False)

    def _open_once(self) -> None:
        if self._context is None:
            self._context = self._open()

    def _close_once(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    async def _in_thread(self, work: Callable[[], A]) -> A:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
