"""An agent and a hub that misbehaves: one that hangs, one that hangs up, one that cannot write."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from fedctl.errors import Corrupt, DiskFull, Failure, FedctlError, NotFound, Unavailable
from fedctl.messages import agent as a
from fedctl.messages import memory as m
from fedctl.messages.hub import Subscribe
from fedctl.model.episode import StoreResult
from fedctl.model.principal import Principal


class Scripted:
    """A hub as an agent sees it. `failing` maps a kind of request to what it raises, `hanging` never answers."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self.asked: list[Any] = []
        self.connects = 0
        self.failing: dict[type, FedctlError] = {}
        self.hanging = False
        self.hangs_up_at_once = False
        self.kept: list[str] = []

    @property
    def connected(self) -> bool:
        return self.up.is_set()

    async def connect(self, on_stop: Any, on_news: Any) -> Principal:
        self.connects += 1
        self.up.set()
        self.down.clear()
        if self.hangs_up_at_once and self.connects > 1:
            asyncio.get_running_loop().call_later(0.05, self.hang_up)
        return Principal(tenant_id="default", role="owner", agent_id="coder")

    def hang_up(self) -> None:
        self.up.clear()
        self.down.set()

    async def lost(self) -> None:
        await self.down.wait()

    async def call(self, request: Any, *, timeout_s: float = 30.0) -> Any:
        if not self.connected:
            raise Unavailable("away")
        self.asked.append(request)
        if self.hanging:
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.Event().wait()
            except TimeoutError:
                raise Unavailable("no answer") from None
        if type(request) in self.failing:
            raise self.failing[type(request)]
        if isinstance(request, m.StoreEpisodes):
            self.kept += [draft.id for draft in request.episodes]
            return m.StoreAnswer(results=[StoreResult(ok=True, id=one.id) for one in request.episodes])
        if isinstance(request, m.PullEpisodes):
            return m.PullAnswer(episodes=[], deleted=[], cursor=0, more=False, epoch="e")
        if isinstance(request, a.GetAgent):
            raise Failure("broken")
        return None

    async def close(self) -> None:
        self.up.clear()

    def phases(self) -> list[str]:
        return [one.status for one in self.asked if isinstance(one, a.ReportAgent) and not one.synced]


@pytest.fixture
def begin(life_of):
    async def begin(**plan):
        link = Scripted()
        life = life_of(link=link, **plan)
        await life.start()
        return life, link

    return begin


def test_a_hub_that_hangs_does_not_keep_an_agent_beyond_its_grace(begin, quickly, keep):
    async def main():
        life, link = await begin(lifetime_ms=5000)
        await life.answer(keep("e1"))
        link.hanging = True
        running = asyncio.create_task(life.until_asked(life.remaining_s))
        await running
        return await life.end("expired", None)

    ending = quickly(main())
    assert (ending.exit, ending.undelivered) == (7, 1)
    # 5 s of life, 15 s of grace, and 5 s each for the two words that went unheard around it
    assert ending.lived_ms < 31_000


def test_a_hub_that_hangs_up_on_whoever_comes_is_not_stormed(begin, quickly):
    async def main():
        life, link = await begin()
        link.hangs_up_at_once = True
        link.failing = {a.GetAgent: NotFound("new here")}
        link.hang_up()
        await asyncio.sleep(30)
        connects = link.connects
        await life.end("done", None)
        return connects

    # 0.1 s doubled up to 5 s, each 0.5 to 1.5 of it: at most 9 until 5 s are reached, then one in 2.5 s at the fastest
    assert quickly(main()) <= 22


def test_a_hub_that_comes_back_broken_is_tried_again(begin, quickly, eventually, keep):
    async def main():
        life, link = await begin()
        link.hang_up()
        await life.answer(keep("e1"))
        await eventually(lambda: link.connects >= 3)  # GetAgent fails each time
        assert life.memory.undelivered == 1
        return await life.end("done", None)

    assert quickly(main()).undelivered in (0, 1)


def test_a_full_disk_at_the_hub_is_no_reason_to_die_and_is_said_once(begin, quickly, eventually, keep, capfd):
    async def main():
        life, link = await begin(sync_interval_ms=200)
        link.failing = {m.StoreEpisodes: DiskFull("the disk is full"), a.ReportAgent: DiskFull("the disk is full")}
        await life.answer(keep("e1"))
        found = await life.answer(m.MemoryStats())  # the hub still answers
        await life.report("working")
        stores = len([one for one in link.asked if isinstance(one, m.StoreEpisodes)])
        await eventually(lambda: len([one for one in link.asked if isinstance(one, m.StoreEpisodes)]) > stores + 3)
        link.failing = {}
        await life.report("idle")
        return found, await life.end("done", None), link

    found, ending, link = quickly(main())
    assert found is None
    assert (ending.exit, ending.delivered) == (0, 1)
    assert link.kept == ["e1"]
    assert capfd.readouterr().err.count("the disk is full") == 1


def test_a_full_disk_while_the_command_runs_ends_neither(life_of, quickly, tmp_path):
    async def main():
        link = Scripted()
        life = life_of(link=link)
        running = asyncio.create_task(life.run(["sh", "-c", "sleep 0.1; exit 4"]))
        while life.status != "working":
            await asyncio.sleep(0)
            link.failing = {a.ReportAgent: DiskFull("full")} if life.status == "ready" else link.failing
        return await running

    assert quickly(main()).exit == 4


def test_it_listens_to_nobody_but_its_hub_about_what_it_wants_to_hear(begin, quickly):
    async def main():
        life, link = await begin()
        await life.end("done", None)
        return [one for one in link.asked if isinstance(one, Subscribe)]

    assert quickly(main()) == [Subscribe(kinds=["episode_stored", "episode_deleted", "episodes_pruned"])]


def test_many_queries_at_once_send_what_is_queued_once(begin, quickly, keep):
    async def main():
        life, link = await begin()
        await life.answer(keep(*(f"e{n}" for n in range(50))))
        await asyncio.gather(*(life.answer(m.MemoryStats()) for _ in range(20)), life.sync(), life.sync())
        await life.end("done", None)
        return link

    assert sorted(quickly(main()).kept) == sorted(f"e{n}" for n in range(50))


def test_a_start_that_fails_leaves_nothing_behind_and_tells_the_registry(life_of, quickly, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))

    async def main():
        link = Scripted()
        link.failing = {m.PullEpisodes: Failure("no")}
        life = life_of(link=link)
        with pytest.raises(Failure):
            await life.run(["true"])
        return link

    link = quickly(main())
    assert link.phases() == ["initializing", "dead"]
    assert not link.connected
    assert list((tmp_path / "run").iterdir()) == []


def test_a_home_that_is_just_being_opened_is_closed_all_the_same(home_link, quickly, tmp_path):
    gate = threading.Event()

    async def main():
        link = home_link(gate=gate)
        opening = asyncio.create_task(link.connect(lambda _reason: None, lambda _event: None))
        await asyncio.sleep(0.1)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        gate.set()
        await link.close()
        await link.close()
        return link

    link = quickly(main())
    assert not link.connected
    open_files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            open_files.append(str(descriptor.readlink()))
    assert not [name for name in open_files if name.startswith(str(tmp_path))]


def test_a_home_that_is_removed_underneath_costs_what_was_not_delivered_and_no_more(
    life_of, home_link, quickly, keep, tmp_path
):
    import shutil

    async def main():
        life = life_of(link=home_link())
        await life.start()
        await life.answer(keep("e1"))
        await life.sync()
        shutil.rmtree(tmp_path / "home")
        await life.answer(keep("e2"))
        life._impatient = True
        return await life.end("done", None)

    ending = quickly(main())
    assert ending.reason == "done"
    assert ending.delivered + ending.undelivered == 2


def test_a_home_that_cannot_take_what_is_left_is_said_and_the_episodes_are_counted(begin, quickly, keep, capfd):
    class DamagedHome:
        connected = False

        async def connect(self, on_stop, on_news):
            raise Corrupt("the database is damaged")

        async def call(self, request, *, timeout_s=30.0):
            raise Unavailable("the home is not open")

        async def close(self):
            return

    async def main():
        life, link = await begin(sync_interval_ms=60_000)
        link.failing = {m.StoreEpisodes: Unavailable("gone"), a.ReportAgent: Unavailable("gone")}
        await life.answer(keep("e1"))
        link.hang_up()
        life._means = life._means._replace(home_link=DamagedHome)
        return await life.end("done", None)

    ending = quickly(main())
    assert (ending.exit, ending.undelivered) == (7, 1)
    assert "the database is damaged" in capfd.readouterr().err
