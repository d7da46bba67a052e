"""Agents that live ten times as fast as the clock on the wall: five seconds of lifetime take half a second.

So does an answer that must come within five seconds: many agents at once live at the speed of 1, for the machine does.
"""

from __future__ import annotations

import asyncio
import importlib.util
import selectors
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fedctl.access.keys import KeyRing
from fedctl.agent.lifecycle import AgentLife
from fedctl.agent.link import HomeLink, HubLink
from fedctl.agent.plan import AgentPlan, Means
from fedctl.client.link import AsyncCaller
from fedctl.clock import Clock
from fedctl.log import Log, LogOptions
from fedctl.messages import memory as m
from fedctl.model.episode import EpisodeDraft
from fedctl.model.principal import Principal
from fedctl.operations.context import Context, Recall
from fedctl.recall.index import IndexFolder
from fedctl.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_spec = importlib.util.spec_from_file_location(
    "fedctl_tests_hub_conftest", Path(__file__).parents[1] / "hub" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

start_hub = _module.start_hub
hub = _module.hub

SPEED = 10.0


class QuickClock(Clock):
    """Monotonic time runs ten times as fast; wall time, which others read too, does not."""

    def __init__(self, speed: float = SPEED) -> None:
        self._speed = speed

    def monotonic_s(self) -> float:
        return time.monotonic() * self._speed


class _QuickSelector(selectors.DefaultSelector):
    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[Any]:
        return super().select(timeout / self._speed if timeout and timeout > 0 else timeout)


class _QuickLoop(asyncio.SelectorEventLoop):
    def __init__(self, speed: float) -> None:
        self._speed = speed
        super().__init__(_QuickSelector(speed))

    def time(self) -> float:
        return time.monotonic() * self._speed


def run_quickly(main: Coroutine[Any, Any, Any], speed: float = SPEED) -> Any:
    """Run a coroutine on a loop whose time is quick; nothing may be left behind, and nothing go wrong unheard."""

    async def watched() -> Any:
        troubles: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: troubles.append(context))
        try:
            async with asyncio.timeout(30 * speed):
                result = await main
        finally:
            for _ in range(10):  # what was cancelled gets to know it
                await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"tasks left behind: {left}"
        assert not troubles
        return result

    with asyncio.Runner(loop_factory=lambda: _QuickLoop(speed)) as runner:
        return runner.run(watched())


async def until(condition: Callable[[], Any], within_s: float = 10.0) -> Any:
    """Wait until a condition holds, and return what it returned."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01 * SPEED)
    return found


@pytest.fixture
def quickly() -> Callable[..., Any]:
    return run_quickly


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return until


@pytest.fixture
def life_of(tmp_path: Path) -> Callable[..., AgentLife]:
    """Make an agent of a hub, or with a `link` of its own; the rest is of its plan."""

    def make(
        hub: Any = None, *, link: Any = None, url: str | None = None, token: str | None = None, speed: float = SPEED,
        **plan: Any,
    ):  # fmt: skip
        clock = QuickClock(speed)
        parts = {"tenant_id": "default", "agent_id": "coder", **plan}
        made = AgentPlan(**parts)
        if link is None:
            link = HubLink(
                url or hub.unix_url, token=token, tenant_id=None if token else made.tenant_id, agent_id=made.agent_id
            )
        return AgentLife(made, Means(link, clock, KeyRing(tmp_path / "keys"), log=Log(LogOptions(), clock)))

    return make


@pytest.fixture
def home_link(tmp_path: Path, make_embedder: Any) -> Callable[..., HomeLink]:
    """Make an agent's way to the home itself."""

    def make(agent_id: str = "coder", home: Path | None = None, gate: threading.Event | None = None) -> HomeLink:
        place = home or tmp_path / "home"
        clock = Clock()

        def open_() -> Context:
            if gate is not None:
                gate.wait(10)
            return Context(
                home=place,
                store=Store.open(place, clock, create=True, timeout_s=5.0),
                recall=Recall(make_embedder(), IndexFolder(place / "index")),
                clock=clock,
                access=KeyRing(place / "keys"),
                timeout_s=5.0,
            )

        return HomeLink(open_, Principal(tenant_id="default", role="agent", agent_id=agent_id))

    return make


@pytest.fixture
def keep() -> Callable[..., m.StoreEpisodes]:
    """Return the request that stores episodes of these ids."""

    def make(*ids: str, **fields: Any) -> m.StoreEpisodes:
        return m.StoreEpisodes(episodes=[EpisodeDraft(**{"id": one, "task": f"learn {one}", **fields}) for one in ids])

    return make


@pytest.fixture
def visit() -> Callable[..., Any]:
    """Open a session on an agent's socket, as a command inside it would."""

    def connect(life: AgentLife, **hello: Any) -> Any:
        return AsyncCaller.connect(life.environment()["FEDCTL_HUB"], **hello)

    return connect


@pytest.fixture
def stored_ids() -> Callable[..., list[str]]:
    """Return the ids that a hub holds, oldest first."""

    def ids(hub: Any, tenant: str = "default") -> list[str]:
        caller = hub.owner(tenant)
        return [one.id for one in caller.call(m.ListEpisodes(order="oldest")).episodes]

    return ids
