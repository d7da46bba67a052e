"""Asking a hub from asyncio, several requests at once."""

import asyncio

import pytest

from fedctl.client.link import AsyncCaller
from fedctl.errors import Denied, Timeout, Unavailable, UsageError
from fedctl.messages.agent import RegisterAgent, StopAgent
from fedctl.messages.hub import Subscribe
from fedctl.messages.memory import GetEpisodes, MemoryStats, QueryEpisodes, StoreEpisodes
from fedctl.model.episode import EpisodeDraft


@pytest.fixture(params=["unix", "websocket"])
def way(request, hub):
    """Return what `AsyncCaller.connect` needs to reach the hub as a1 of acme."""
    if request.param == "unix":
        return {"url": hub.unix_url, "tenant_id": "acme", "agent_id": "a1"}
    return {"url": hub.info.url, "token": hub.token("acme", agent_id="a1")}


def store(*ids, **fields):
    return StoreEpisodes(episodes=[EpisodeDraft(id=one, task="t", **fields) for one in ids])


def test_several_requests_are_under_way_at_once(way):
    async def main():
        caller = await AsyncCaller.connect(**way)
        answers = await asyncio.gather(*(caller.call(store(f"e{number}")) for number in range(100)))
        assert all(answer.results[0].ok for answer in answers)
        assert (await caller.call(MemoryStats())).episodes == 100
        await caller.close()

    asyncio.run(main())


def test_errors_come_to_the_call_they_are_of(way):
    async def main():
        caller = await AsyncCaller.connect(**way)
        good, bad = await asyncio.gather(
            caller.call(GetEpisodes(ids=["e1"])), caller.call(QueryEpisodes(text="x", k=0)), return_exceptions=True
        )
        assert good.missing == ["e1"]
        assert isinstance(bad, UsageError)
        with pytest.raises(UsageError):
            await caller.call(QueryEpisodes(text="\ud800"))
        await caller.close()

    asyncio.run(main())


def test_a_batch_that_goes_into_no_frame_goes_in_parts(way):
    async def main():
        caller = await AsyncCaller.connect(**way)
        answer = await caller.call(store("e1", "e2", "e3", "e4", "e5", input="x" * 900_000))
        assert [one.ok for one in answer.results] == [True] * 5
        await caller.close()

    asyncio.run(main())


def test_news_and_the_wish_to_stop_are_heard(way, hub):
    async def main():
        news, stops = asyncio.Queue(), asyncio.Queue()
        caller = await AsyncCaller.connect(**way, on_notice=news.put_nowait, on_stop=stops.put_nowait)
        await caller.call(Subscribe(kinds=["episode_stored"]))
        await caller.call(RegisterAgent(id="a1", type="t", lifetime_ms=60_000, host="h", pid=1))
        other = await AsyncCaller.connect(hub.unix_url, tenant_id="acme")
        await caller.call(store("own"))
        await other.call(store("theirs"))
        async with asyncio.timeout(20):
            assert (await news.get()).subject == "theirs"
            await other.call(StopAgent(id="a1"))
            assert await stops.get() == "it was asked to stop"
        await other.close()
        await caller.close()

    asyncio.run(main())


def test_the_end_of_the_hub_ends_calls_and_sets_closed(way, hub):
    async def main():
        caller = await AsyncCaller.connect(**way)
        stopping = asyncio.create_task(asyncio.to_thread(hub.end))
        async with asyncio.timeout(20):
            await caller.closed.wait()
        assert isinstance(caller.ended, Unavailable)
        assert "the hub is stopping" in caller.ended.message
        with pytest.raises(Unavailable):
            await caller.call(MemoryStats())
        await caller.close()
        await stopping

    asyncio.run(main())


def test_a_call_that_waits_when_the_connection_goes_is_told(way, hub):
    async def main():
        caller = await AsyncCaller.connect(**way)
        with hub.context.store.write():
            waiting = asyncio.create_task(caller.call(store("e1")))
            await caller.call(MemoryStats())
            caller._wire.abort()
            with pytest.raises(Unavailable):
                await waiting
        await caller.close()

    asyncio.run(main())


def test_a_call_times_out_and_the_session_goes_on(way, hub):
    async def main():
        caller = await AsyncCaller.connect(**way)
        with hub.context.store.write(), pytest.raises(Timeout):
            await caller.call(store("e1"), timeout_s=0.2)
        assert (await caller.call(store("e2"))).results[0].ok
        await caller.close()

    asyncio.run(main())


def test_a_refused_hello_is_raised_as_what_it_is(hub):
    async def main():
        with pytest.raises(Denied):
            await AsyncCaller.connect(hub.info.url, token="nonsense")
        with pytest.raises(Denied):
            await AsyncCaller.connect(hub.info.url)
        with pytest.raises(UsageError):
            await AsyncCaller.connect(hub.unix_url, tenant_id="../acme")
        with pytest.raises(UsageError):
            await AsyncCaller.connect("nonsense")

    asyncio.run(main())


@pytest.mark.parametrize("url", ["unix:/nowhere/hub.sock", "ws://127.0.0.1:1", "wss://127.0.0.1:1"])
def test_where_nothing_listens_no_hub_answers(url):
    with pytest.raises(Unavailable, match="no hub answers"):
        asyncio.run(AsyncCaller.connect(url))


def test_a_peer_that_never_welcomes_times_out(tmp_path):
    async def main():
        ended = asyncio.Event()

        async def listen(reader, writer):
            await reader.read()
            writer.close()
            await writer.wait_closed()
            ended.set()

        async with await asyncio.start_unix_server(listen, tmp_path / "s"):
            with pytest.raises(Timeout):
                await AsyncCaller.connect(f"unix:{tmp_path}/s", timeout_s=0.2)
            await ended.wait()

    asyncio.run(main())


def test_closing_twice_is_harmless(way):
    async def main():
        caller = await AsyncCaller.connect(**way)
        await caller.close()
        await caller.close()
        with pytest.raises(Unavailable, match="closed here"):
            await caller.call(MemoryStats())

    asyncio.run(main())
