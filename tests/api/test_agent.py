"""The Python API: an agent inside a program."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from fedctl import api
from fedctl.api import EphemeralAgent, EpisodeFilter
from fedctl.errors import Conflict, Denied, Expired, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.messages import memory as m


@pytest.fixture(autouse=True)
def environment(tmp_path, tmp_path_factory, monkeypatch):
    """Make a home of one's own the default; nothing may be left among the sockets."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("FEDCTL_HUB", "FEDCTL_TENANT", "FEDCTL_TOKEN", "FEDCTL_TOKEN_FILE", "FEDCTL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FEDCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield
    assert list(folder.iterdir()) == []


def run(main):
    """Run a coroutine; no task of an agent may be left when it is over."""

    async def watched():
        result = await main
        for _ in range(10):  # what was cancelled gets to know it
            await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        return result

    return asyncio.run(watched())


async def quick(life_of, hub, **plan):
    """Return an agent that lives ten times as fast."""
    life = life_of(hub, **plan)
    await life.start()
    return EphemeralAgent(life)


# -- what it does ----------------------------------------------------------------------------------------------------


def test_it_stores_and_finds_with_a_hub_and_is_gone_after_the_block(hub, tmp_path):
    async def main():
        async with EphemeralAgent.spawn(tenant_id="acme", lifetime="1m", agent_id="coder", agent_type="coder") as agent:
            assert (agent.agent_id, agent.tenant_id, agent.status) == ("coder", "acme", "ready")
            assert agent.is_alive
            assert 0 < agent.remaining_lifetime <= 60
            kept = await agent.store_episode(
                "fix the flaky test", input=["pytest"], output={"fix": 1 << 70}, reward=0.9, critique="mock the clock",
                session_id="s1", tokens_used=5, latency_ms=1.5, metadata={"repo": "api"},
            )  # fmt: skip
            hits = await agent.query_memories("flaky test", k=1, explain=True)
            assert (hits[0].episode.id, hits[0].episode.output) == (kept.id, {"fix": 1 << 70})
            assert hits[0].match is not None
            await agent.sync_with_hub()
        return agent, kept.id

    agent, kept_id = run(main())
    assert (agent.status, agent.is_alive, agent.remaining_lifetime) == ("dead", False, 0.0)
    owner = hub.owner("acme")
    assert owner.call(m.GetEpisodes(ids=[kept_id])).episodes[0].agent_id == "coder"
    assert owner.call(a.GetAgent(id="coder")).agent.status == "dead"


def test_it_works_on_the_home_itself(tmp_path):
    async def main():
        async with EphemeralAgent.spawn("acme", 60, "off", home=tmp_path / "other") as agent:
            await agent.store_episode("learn something")
            return [hit.episode.task for hit in await agent.query_memories("something", mode="keyword")]

    assert run(main()) == ["learn something"]
    assert (tmp_path / "other" / "fedctl.db").exists() or list((tmp_path / "other").glob("*.db"))


def test_a_search_is_filtered_and_what_a_program_needs_is_in_one_place(tmp_path):
    async def main():
        spawning = EphemeralAgent.spawn(home=tmp_path / "h", hub_endpoint="off", undelivered=tmp_path / "left")
        async with spawning as agent:
            await agent.store_episode("fix the login test", reward=0.2)
            await agent.store_episode("fix the flaky test", reward=0.9)
            hits = await agent.query_memories("fix the test", filter=EpisodeFilter(min_reward=0.5))
            assert [(type(hit), hit.episode.task) for hit in hits] == [(api.Hit, "fix the flaky test")]
        ending = await agent.destroy()
        assert (type(ending), ending.undelivered_file) == (api.Ending, None)

    run(main())
    assert all(getattr(api, name).__doc__ for name in api.__all__)


def test_it_can_be_awaited_and_destroyed_twice(hub):
    async def main():
        agent = await EphemeralAgent.spawn(lifetime="1m")
        await agent.store_episode("one")
        first = await agent.destroy()
        return first, await agent.destroy()

    first, second = run(main())
    assert first is second
    assert (first.exit, first.reason, first.delivered) == (0, "done", 1)


def test_ends_asked_for_at_the_same_time_are_one(hub):
    async def main():
        agent = await EphemeralAgent.spawn(lifetime="1m")
        endings = await asyncio.gather(*(agent.destroy() for _ in range(5)))
        return {id(one) for one in endings}

    assert len(run(main())) == 1


def test_an_error_in_the_block_gets_out_and_the_agent_ends(hub):
    async def main():
        with pytest.raises(ZeroDivisionError):
            async with EphemeralAgent.spawn(lifetime="1m", agent_id="coder"):
                raise ZeroDivisionError
        return hub.owner().call(a.GetAgent(id="coder")).agent.status

    assert run(main()) == "dead"


# -- execute ---------------------------------------------------------------------------------------------------------


def test_execute_runs_coroutines_with_the_agent_and_plain_functions_in_a_thread(hub):
    async def work(agent, word, *, times):
        assert agent.status == "working"
        await agent.store_episode(word * times)
        return word * times

    def plain(number):
        return number + 1, threading.current_thread() is threading.main_thread()

    async def main():
        async with EphemeralAgent.spawn(lifetime="1m", agent_id="coder") as agent:
            first = await agent.execute(work, "ab", times=2)
            status = agent.status
            bound = await agent.execute(functools.partial(work, times=3), "c")
            second = await agent.execute(plain, 1)
            stored = hub.owner().call(m.MemoryStats()).episodes  # synced after each
            return first, status, bound, second, stored

    assert run(main()) == ("abab", "idle", "ccc", (2, False), 2)


def test_a_task_that_fails_leaves_an_agent_that_works_on(hub):
    async def fail(_agent):
        raise ValueError("its own")

    async def late(_agent):
        raise TimeoutError("its own as well")

    async def main():
        async with EphemeralAgent.spawn(lifetime="1m") as agent:
            with pytest.raises(ValueError, match="its own"):
                await agent.execute(fail)
            with pytest.raises(TimeoutError, match="as well"):
                await agent.execute(late)
            return agent.status, await agent.execute(lambda: 1)

    assert run(main()) == ("idle", 1)


def test_one_thing_at_a_time(hub):
    async def main():
        async with EphemeralAgent.spawn(lifetime="1m") as agent:
            go = asyncio.Event()

            async def wait(_agent):
                await go.wait()

            first = asyncio.create_task(agent.execute(wait))
            await asyncio.sleep(0)
            with pytest.raises(Conflict, match="working already"):
                await agent.execute(wait)
            go.set()
            await first

    run(main())


def test_the_end_of_the_lifetime_cancels_the_task_and_delivers_what_it_learned(hub, life_of, quickly):
    cancelled = []

    async def work(agent):
        await agent.store_episode("halfway")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main():
        agent = await quick(life_of, hub, lifetime_ms=5000)
        with pytest.raises(Expired):
            await agent.execute(work)
        ending = await agent.destroy()
        for ask in (
            agent.store_episode("late"), agent.query_memories("late"), agent.sync_with_hub(), agent.execute(work),
        ):  # fmt: skip
            with pytest.raises(Unavailable):
                await ask
        return ending, agent

    ending, agent = quickly(main())
    assert cancelled == [True]
    assert (ending.delivered, ending.undelivered) == (1, 0)
    assert (agent.status, agent.is_alive, agent.remaining_lifetime) == ("dead", False, 0.0)
    assert hub.owner().call(m.MemoryStats()).episodes == 1


def test_an_agent_that_does_nothing_dies_by_itself(hub, life_of, quickly, eventually):
    async def main():
        agent = await quick(life_of, hub, lifetime_ms=5000)
        await eventually(lambda: agent.status == "dead")
        return await agent.destroy()

    assert quickly(main()).reason == "expired"


def test_an_agent_that_is_asked_to_stop_dies_by_itself(hub, life_of, quickly, eventually):
    async def main():
        agent = await quick(life_of, hub)
        hub.owner().call(a.StopAgent(id="coder"))
        await eventually(lambda: agent.status == "dead")
        return await agent.destroy()

    assert quickly(main()).reason == "stopped"


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "kind", "says"),
    [
        ({"lifetime": "1s"}, UsageError, "lifetime"),
        ({"lifetime": 4.9}, UsageError, "lifetime"),
        ({"lifetime": "16m"}, UsageError, "lifetime"),
        ({"lifetime": "soon"}, UsageError, "soon"),
        ({"lifetime": float("nan")}, UsageError, "duration"),
        ({"lifetime": float("inf")}, UsageError, "duration"),
        ({"tenant_id": "../x"}, UsageError, "tenant"),
        ({"agent_id": "a b"}, UsageError, "agent"),
        ({"pull_limit": 1001}, UsageError, "1000"),
        ({"sync_interval": 0}, UsageError, "interval"),
        ({"hub_endpoint": "http://x"}, UsageError, "hub"),
        ({"hub_endpoint": "unix:/nowhere/hub.sock"}, Unavailable, "no hub"),
        ({"token_file": "/nowhere/token", "hub_endpoint": "ws://127.0.0.1:9"}, UsageError, "token"),
    ],
)
def test_what_makes_no_agent_is_refused_and_leaves_nothing_behind(plan, kind, says):
    async def main():
        with pytest.raises(kind, match=says):
            await EphemeralAgent.spawn(**{"lifetime": "1m", **plan})

    run(main())


def test_wrong_values_are_refused_and_nothing_is_kept(hub):
    async def main():
        async with EphemeralAgent.spawn(lifetime="1m") as agent:
            for values in ({"task": ""}, {"task": "t", "reward": 1.5}, {"task": "t", "output": float("nan")},
                           {"task": "t", "output": "x" * (1 << 20)}, {"task": "t", "input": "\ud800"}):  # fmt: skip
                with pytest.raises(UsageError):
                    await agent.store_episode(**values)
            await agent.store_episode("first", episode_id="e1")
            with pytest.raises(Conflict):
                await agent.store_episode("second", episode_id="e1")
            with pytest.raises(UsageError):
                await agent.query_memories("x", k=0)
            return await agent.destroy()

    ending = run(main())
    assert (ending.stored, ending.delivered, ending.exit) == (1, 1, 0)


def test_with_a_token_the_tenant_is_the_tokens_and_another_is_refused(hub, tmp_path):
    file = tmp_path / "token"
    file.write_text(hub.token("acme", agent_id="coder"))

    async def main():
        async with EphemeralAgent.spawn(lifetime="1m", hub_endpoint=hub.info.url, token_file=file) as agent:
            assert (agent.tenant_id, agent.agent_id) == ("acme", "coder")
        with pytest.raises(Denied, match="not of other"):
            await EphemeralAgent.spawn("other", lifetime="1m", hub_endpoint=hub.info.url, token_file=file)
        with pytest.raises(Denied):
            await EphemeralAgent.spawn(lifetime="1m", hub_endpoint=hub.info.url, token_file=file, agent_id="tester")

    run(main())


def test_a_token_that_ends_before_the_lifetime_is_refused_at_the_start(hub, tmp_path):
    file = tmp_path / "token"
    file.write_text(hub.token("acme", ttl_ms=30_000))

    async def main():
        with pytest.raises(Denied, match="before the agent's lifetime"):
            await EphemeralAgent.spawn(lifetime="1m", hub_endpoint=hub.info.url, token_file=file)
        async with EphemeralAgent.spawn(lifetime="20s", hub_endpoint=hub.info.url, token_file=file) as agent:
            return agent.tenant_id

    assert run(main()) == "acme"


def test_no_token_for_a_hub_elsewhere_is_refused(hub):
    async def main():
        with pytest.raises(Denied, match="wants a token"):
            await EphemeralAgent.spawn(lifetime="1m", hub_endpoint=hub.info.url)

    run(main())


# -- what it notes ---------------------------------------------------------------------------------------------------


def test_its_notes_and_its_work_are_on_its_timeline(hub):
    async def main():
        async with EphemeralAgent.spawn(agent_id="coder") as agent:
            await agent.note("task", "fix the test")

            async def work(self):
                return await self.note("decision", "mock the clock", {"why": ["it is slow"]})

            note = await agent.execute(work)
            with pytest.raises(UsageError):
                await agent.note("step", "x" * 5000)
            return note

    note = run(main())
    assert (note.kind, note.agent_id, note.data) == ("decision", "coder", {"why": ["it is slow"]})
    timeline = hub.owner("default").call(a.GetTimeline(id="coder")).timeline
    assert [one.status for one in timeline.phases] == [
        "spawning", "initializing", "ready", "working", "idle", "shutting_down", "dead",
    ]  # fmt: skip
    noted = [(one.kind, one.text) for one in timeline.moments if one.kind not in ("phase", "sync")]
    assert noted == [("task", "fix the test"), ("decision", "mock the clock")]
    with pytest.raises(Unavailable):
        run(_note_after_death())


async def _note_after_death():
    agent = await EphemeralAgent.spawn(agent_id="late")
    await agent.destroy()
    await agent.note("step", "too late")
