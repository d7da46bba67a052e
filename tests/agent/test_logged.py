"""What an agent's link tells the debug stream."""

from __future__ import annotations

import asyncio
import json

import pytest

from fedctl.agent.logged import LoggedLink
from fedctl.errors import Unavailable
from fedctl.log import Log, LogOptions
from fedctl.messages.memory import MemoryStats, QueryEpisodes
from fedctl.model.hub import Event
from fedctl.model.principal import Principal


class Hub:
    """A link to a hub that takes 7 ms for everything, answers one kind of question, and has news and a wish."""

    connected = True

    def __init__(self, clock) -> None:
        self._clock = clock

    async def connect(self, on_stop, on_news) -> Principal:
        self._clock.advance(7)
        on_news(Event(seq=3, tenant_id="acme", kind="episode_stored", subject="e1", detail={"text": "xyzzy"}, at=""))
        on_stop("enough")
        return Principal(tenant_id="acme", role="agent", agent_id="a1")

    async def lost(self) -> None:
        return

    async def call(self, request, *, timeout_s: float = 30.0):
        self._clock.advance(7)
        if isinstance(request, QueryEpisodes):
            raise Unavailable("the hub is away")
        return "answer"

    async def close(self) -> None:
        self.connected = False


@pytest.fixture
def said(clock):
    """Live once, at a level; return what was said."""

    def live(level: str) -> list[dict]:
        lines: list[str] = []
        link = LoggedLink(Hub(clock), Log(LogOptions(level, "json"), clock, lines.append), clock, "acme", "a1")
        heard: list[object] = []

        async def steps() -> None:
            assert (await link.connect(heard.append, heard.append)).role == "agent"
            assert await link.call(MemoryStats()) == "answer"
            with pytest.raises(Unavailable):
                await link.call(QueryEpisodes(text="xyzzy"))
            await link.lost()
            await link.close()

        asyncio.run(steps())
        assert (heard[0].subject, heard[1], link.connected) == ("e1", "enough", False)
        assert not any("xyzzy" in line for line in lines)
        return [json.loads(line) for line in lines]

    return live


def test_each_call_is_told_with_its_time_and_its_error(said):
    lines = said("detailed")
    assert [f"{one['category']}.{one['operation']}" for one in lines] == [
        "link.connect",
        "memory.stats",
        "memory.query",
    ]
    assert {(one["tenant_id"], one["agent_id"], one["duration_ms"]) for one in lines} == {("acme", "a1", 7.0)}
    assert [one["error"] for one in lines] == [None, None, "the hub is away"]


def test_what_the_hub_tells_and_how_the_link_is_are_for_the_louder_levels(said):
    assert [one["operation"] for one in said("verbose")][:2] == ["episode_stored", "stop"]
    assert [one["data"]["state"] for one in said("trace") if one["operation"] == "state"] == ["open", "lost", "closed"]
