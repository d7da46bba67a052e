"""Whoever sends faster than it is answered is not read from meanwhile, and goes on in the order it came."""

import asyncio

import pytest

from fedctl.hub import pace as pace_module
from fedctl.hub.jobs import Job
from fedctl.hub.pace import AHEAD_BYTES, Pace
from fedctl.messages.memory import GetEpisodes, MemoryStats, StoreEpisodes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.principal import Principal
from fedctl.wire.session import ClientSession


def job(tenant_id="flooder", size_bytes=AHEAD_BYTES):
    who = Principal(tenant_id=tenant_id, role="owner")
    return Job(who, GetEpisodes(ids=[]), operation="op", size_bytes=size_bytes, began_s=0.0, done=lambda _job: None)


async def turn_of_the_loop():
    for _ in range(3):
        await asyncio.sleep(0)


def test_who_is_not_ahead_goes_on_and_who_is_waits_while_others_do_not():
    async def look():
        pace = Pace()
        assert pace.held("flooder") is None
        pace.took(job())
        assert pace.held("flooder") is not None
        assert pace.held("victim") is None

    asyncio.run(look())


def test_the_held_go_on_one_by_one_as_requests_are_answered_first_come_first_served():
    async def look():
        pace = Pace()
        first, second = job(), job()
        pace.took(first)
        waiting = [pace.held("flooder") for _ in range(3)]
        waiting[0].add_done_callback(lambda _: pace.took(second))  # it brings as much again
        pace.gave(first)
        await turn_of_the_loop()
        assert [one.done() for one in waiting] == [True, False, False]
        pace.gave(second)
        await turn_of_the_loop()
        assert [one.done() for one in waiting] == [True, True, True]  # who brings nothing lets the next one go on
        assert pace.held("flooder") is None

    asyncio.run(look())


def test_who_left_while_it_was_held_holds_up_nobody():
    async def look():
        pace, one = Pace(), job()
        pace.took(one)
        gone, stays = pace.held("flooder"), pace.held("flooder")
        gone.cancel()
        pace.gave(one)
        await turn_of_the_loop()
        assert stays.done()
        assert pace.held("flooder") is None

    asyncio.run(look())


@pytest.mark.parametrize("way", ["unix", "network"])
def test_every_call_of_a_session_that_is_far_ahead_is_answered(start_hub, monkeypatch, way):
    monkeypatch.setattr(pace_module, "AHEAD_BYTES", 2000)
    hub = start_hub()
    caller = hub.owner("acme") if way == "unix" else hub.bearer(hub.token())
    session = ClientSession()  # beside the caller's own: it would ask one thing at a time
    calls = dict(
        session.call(request)
        for number in range(50)
        for request in (StoreEpisodes(episodes=[EpisodeDraft(id=f"e{number}", task="t" * 1000)]), MemoryStats())
    )
    for frame in calls.values():
        caller._transport.send(frame, 20)
    answered = {session.receive(caller._transport.receive(20)).call_id for _ in calls}
    assert answered == set(calls)
