"""An agent's own socket: what a command inside the agent may ask, with the hub there and away."""

# ruff: noqa: PLR0913  a test names all the fixtures it stands on
from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path

import pytest

from fedctl.client.transport import open_transport
from fedctl.errors import Conflict, Denied, FedctlError, Unavailable
from fedctl.messages import agent as a
from fedctl.messages import memory as m
from fedctl.messages.hub import GetHubInfo, GetHubStats, Subscribe
from fedctl.messages.token import IssueToken, ListTokens, RevokeToken
from fedctl.wire import session as said
from fedctl.wire.codec import decode_server_frame
from fedctl.wire.frames import prefixed


@contextlib.asynccontextmanager
async def living(life):
    await life.start()
    try:
        yield life
    finally:
        life._impatient = True
        await life.end("done", None)


async def lose_hub(hub, life, eventually):
    await asyncio.to_thread(hub.end)
    await eventually(lambda: not life.connected)


def test_store_query_get_list_and_stats_reach_the_hub_and_the_agents_own_episodes(hub, life_of, quickly, visit, keep):
    hub.owner().call(keep("theirs"))

    async def main():
        async with living(life_of(hub, pull_limit=0, sync_interval_ms=60_000)) as life:
            guest = await visit(life)
            stored = await guest.call(keep("mine"))
            found = await guest.call(m.QueryEpisodes(text="learn"))
            got = await guest.call(m.GetEpisodes(ids=["mine", "theirs", "nobodys"]))
            listed = await guest.call(m.ListEpisodes())
            stats = await guest.call(m.MemoryStats())
            info = await guest.call(GetHubInfo())
            await guest.close()
        return stored, found, got, listed, stats, info

    stored, found, got, listed, stats, info = quickly(main())
    assert stored.results[0].ok
    assert {hit.id for hit in found.hits} == {"mine", "theirs"}
    assert ([one.id for one in got.episodes], got.missing) == (["mine", "theirs"], ["nobodys"])
    assert {one.id for one in listed.episodes} == {"mine", "theirs"}
    assert stats.episodes == 2
    assert info.hub.pid == hub.info.pid


def test_without_the_hub_the_agents_memory_answers_and_says_so(hub, life_of, quickly, eventually, visit, keep):
    hub.owner().call(keep("pulled"))

    async def main():
        async with living(life_of(hub)) as life:
            guest = await visit(life)
            await lose_hub(hub, life, eventually)
            await guest.call(keep("mine"))
            found = await guest.call(m.QueryEpisodes(text="learn"))
            got = await guest.call(m.GetEpisodes(ids=["mine", "pulled"]))
            listed = await guest.call(m.ListEpisodes())
            with pytest.raises(Unavailable, match="by meaning"):
                await guest.call(m.QueryEpisodes(text="learn", mode="semantic"))
            with pytest.raises(Unavailable, match="needs the hub"):
                await guest.call(a.ListAgents())
            await guest.close()
        return found, got, listed

    found, got, listed = quickly(main())
    assert {hit.id for hit in found.hits} == {"mine", "pulled"}
    assert "not connected to the hub" in found.notes[0]
    assert [one.id for one in got.episodes] == ["mine", "pulled"]
    assert {one.id for one in listed.episodes} == {"mine", "pulled"}


def test_another_tenant_is_refused_at_the_door_and_in_a_call(hub, life_of, quickly, visit, keep):
    hub.owner("other").call(keep("theirs"))

    async def main():
        async with living(life_of(hub)) as life:
            with pytest.raises(Denied, match="not of other"):
                await visit(life, tenant_id="other")
            guest = await visit(life, tenant_id="default")
            for request in (keep("e1"), m.GetEpisodes(ids=["theirs"]), m.ListEpisodes()):
                with pytest.raises(Denied, match="not of other"):
                    await guest.call(request, tenant_id="other")
            missing = (await guest.call(m.GetEpisodes(ids=["theirs"]))).missing
            await guest.close()
        return missing

    assert quickly(main()) == ["theirs"]


@pytest.mark.parametrize(
    "request_",
    [
        IssueToken(tenant_id="other"),
        ListTokens(),
        RevokeToken(id="x"),
        m.DeleteEpisodes(ids=["theirs"]),
        m.Reindex(begin=True),
        GetHubStats(),
        Subscribe(kinds=[], all_tenants=True),
        Subscribe(kinds=["agent_status"]),
        a.RegisterAgent(id="coder", type="agent", lifetime_ms=60_000, host="x", pid=1),
        a.ReportAgent(id="coder", status="dead"),
        a.StopAgent(id="other"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_who_asks_through_an_agent_is_not_the_owner_of_the_home(hub, life_of, quickly, visit, keep, request_):
    owner = hub.owner()
    owner.call(keep("theirs"))

    async def main():
        async with living(life_of(hub)) as life:
            guest = await visit(life)
            with pytest.raises(Denied):
                await guest.call(request_)
            await guest.close()
            return owner.call(a.GetAgent(id="coder")).agent.status

    assert quickly(main()) == "ready"
    assert owner.call(m.GetEpisodes(ids=["theirs"])).episodes


def test_an_episode_that_conflicts_is_refused_to_its_face(hub, life_of, quickly, visit, keep):
    hub.owner().call(keep("e1", agent_id="coder"))

    async def main():
        async with living(life_of(hub)) as life:
            guest = await visit(life)
            answer = await guest.call(keep("e1", output="other"))
            again = await guest.call(keep("e1"))
            await guest.close()
        return answer.results[0], again.results[0]

    refused, same = quickly(main())
    assert (refused.ok, refused.error["code"]) == (False, Conflict.code)
    assert same.ok
    assert same.existing


def test_the_socket_is_its_owners_alone_and_gone_when_the_agent_is(hub, life_of, quickly, visit):
    async def main():
        life = life_of(hub)
        async with living(life):
            path = Path(life.environment()["FEDCTL_HUB"].removeprefix("unix:"))
            modes = [stat.S_IMODE(os.stat(one).st_mode) for one in (path, path.parent)]  # noqa: PTH116
            guest = await visit(life)  # still there at the end
        with pytest.raises(FedctlError):
            await guest.call(m.ListEpisodes())
        await guest.close()
        return path, modes

    path, modes = quickly(main())
    assert modes == [0o600, 0o700]
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x02{]", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x7f half a frame"],
    ids=["HTTP", "not JSON", "too large", "half a frame"],
)
def test_what_makes_no_sense_harms_nobody_else(hub, life_of, quickly, visit, keep, sent):
    async def main():
        async with living(life_of(hub)) as life:
            guest = await visit(life)
            _, writer = await asyncio.open_unix_connection(life.environment()["FEDCTL_HUB"].removeprefix("unix:"))
            writer.write(sent)
            await writer.drain()
            answer = await guest.call(keep("e1"))
            writer.close()
            await guest.close()
        return answer.results[0].ok

    assert quickly(main())


def test_who_hangs_up_before_the_answer_harms_nobody_else(hub, life_of, quickly, visit, keep, stored_ids):
    async def main():
        async with living(life_of(hub)) as life:
            path = life.environment()["FEDCTL_HUB"].removeprefix("unix:")
            for number in range(20):
                reader, writer = await asyncio.open_unix_connection(path)
                session = said.ClientSession()
                writer.write(prefixed(session.hello()))
                await reader.readexactly(4)
                session.receive(await reader.read(1 << 16))
                writer.write(prefixed(session.call(keep(f"e{number}"))[1]))
                writer.close()
                await writer.wait_closed()
            guest = await visit(life)
            await guest.call(m.QueryEpisodes(text="learn"))
            await guest.close()

    quickly(main())
    assert set(stored_ids(hub)) <= {f"e{number}" for number in range(20)}


def test_blocking_callers_are_served_as_well(hub, life_of, quickly, keep):
    def blocking(url):
        transport = open_transport(url, 5)
        session = said.ClientSession()
        transport.send(session.hello(), 5)
        welcome = decode_server_frame(transport.receive(5))
        transport.close()
        return welcome.principal

    async def main():
        async with living(life_of(hub, tenant_id="acme")) as life:
            return await asyncio.to_thread(blocking, life.environment()["FEDCTL_HUB"])

    principal = quickly(main())
    assert (principal.tenant_id, principal.agent_id, principal.role) == ("acme", "coder", "agent")
