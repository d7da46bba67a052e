"""Runs of the worker loop in this process, on a home of their own or through a hub, with real commands."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fedctl.bootstrap import open_caller
from fedctl.config import Settings
from fedctl.messages import pool as p
from fedctl.model.pool import ItemDraft
from fedctl.work.loop import WorkLoop
from fedctl.work.plan import Ending, Figures, Finished, Surroundings, WorkPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_spec = importlib.util.spec_from_file_location(
    "fedctl_tests_hub_conftest", Path(__file__).parents[1] / "hub" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

start_hub = _module.start_hub


class Floor:
    """A home, what was heard of its runs, and the means of asking it while they go on."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, hub="off", timeout_ms=10_000)
        self.heard = b""
        self.said: list[str] = []
        self.finished: list[Finished] = []
        self.figures: list[Figures] = []
        self.error: Exception | None = None
        self.hear: Callable[[bytes], None] = self._hear
        self.between: Callable[[Any], Any] = lambda caller: caller
        """What may come between a run and whom it asks."""

    def _hear(self, chunk: bytes) -> None:
        self.heard += chunk

    def through(self, url: str, token: str | None = None) -> None:
        """Go through a hub from now on."""
        from fedctl.config import Secret

        self.settings = Settings(
            home=self.settings.home, hub=url, timeout_ms=10_000,
            token_from_environment=None if token is None else Secret(token),
        )  # fmt: skip

    def call(self, request: Any) -> Any:
        caller = open_caller(self.settings, writes=True)
        try:
            return caller.call(request)
        finally:
            caller.close()

    def push(self, *data: Any, pool: str = "q", **fields: Any) -> list[str]:
        drafts = [ItemDraft(id=os.urandom(8).hex(), data=one, **fields) for one in data]
        assert all(one.ok for one in self.call(p.PushItems(pool=pool, items=drafts)).results)
        return [one.id for one in drafts]

    def items(self, status: str | None = None, pool: str = "q") -> list[Any]:
        return self.call(p.ListItems(pool=pool, status=status, limit=1000)).items

    def item(self, item_id: str) -> Any:
        return self.call(p.GetItem(id=item_id))

    def work(self, *command: str, pool: str = "q", **plan: Any) -> Ending:
        """Work in this thread; the run has to end by itself."""
        around = Surroundings(
            open_caller=lambda: self.between(open_caller(self.settings, writes=True)),
            environment={"PATH": os.environ["PATH"]},
            hear=self.hear,
            say=self.said.append,
            finished=self.finished.append,
            progress=self.figures.append,
        )

        async def run() -> Ending:
            loop = WorkLoop(WorkPlan(pool=pool, command=list(command), **{"grace_ms": 1_000, **plan}), around)
            async with asyncio.timeout(60):
                ending = await loop.run()
            self.error = loop.error
            return ending

        return asyncio.run(run())

    def shell(self, script: str, *arguments: str, **plan: Any) -> Ending:
        return self.work("sh", "-c", script, *arguments, **plan)

    def one(self, script: str, *arguments: str, data: Any = None, **plan: Any) -> Any:
        """Push an item, work on it once, and return it."""
        (item_id,) = self.push(data)
        self.shell(script, *arguments, once=True, **plan)
        return self.item(item_id).item


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path / "home")


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Do something on a thread of its own; what goes wrong there fails the test."""
    threads: list[threading.Thread] = []
    errors: list[BaseException] = []

    def start(action: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                action()
            except BaseException as error:  # noqa: BLE001  it is raised where the test ends
                errors.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


def until(condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return until
