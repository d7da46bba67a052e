"""An agent's life with a real hub: its phases, its command, its end, and what becomes of what it learned."""

# ruff: noqa: PLR0913  a test names all the fixtures it stands on
from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from fedctl.agent.lifecycle import AgentLife
from fedctl.agent.link import HubLink
from fedctl.cli.main import run
from fedctl.clock import Clock
from fedctl.errors import Conflict, Denied, NotFound, Timeout, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.messages import memory as m
from fedctl.messages.hub import ListEvents, Subscribe
from fedctl.messages.token import RevokeToken
from fedctl.model.agent import NoteDraft
from fedctl.store.store import Store

PHASES = ["spawning", "initializing", "ready", "working", "idle", "shutting_down", "dead"]


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path_factory, monkeypatch):
    """Give agents a folder for their sockets; nothing may be left in it."""
    folder = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def agent_of(hub, agent_id="coder", tenant="default"):
    return hub.owner(tenant).call(a.GetAgent(id=agent_id)).agent


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_killed(pid: int) -> bool:
    """Whether a process is gone, or goes: on a busy machine a kill takes its time to be carried out."""
    by = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < by:
        time.sleep(0.01)
    return not is_running(pid)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


# -- phases and the command ------------------------------------------------------------------------------------------


def test_every_phase_is_seen_in_order_by_who_watches(hub, life_of, quickly):
    watcher = hub.owner()
    watcher.call(Subscribe(kinds=["agent_status"]))
    ending = quickly(life_of(hub).run(["true"]))
    seen = []
    for event in watcher.notices(timeout_s=5):
        seen.append(event.detail["status"])
        if seen[-1] == "dead":
            break
    assert seen == PHASES
    assert (ending.exit, ending.reason) == (0, "done")
    assert agent_of(hub).status == "dead"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)])
def test_the_exit_code_is_the_commands_own(hub, life_of, quickly, script, code):
    assert quickly(life_of(hub).run(shell(script))).exit == code


def test_the_command_sees_who_it_is_and_no_secrets(hub, life_of, quickly, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCTL_TOKEN", "hush-token")
    monkeypatch.setenv("FEDCTL_TOKEN_FILE", "/hush/file")
    quickly(life_of(hub, tenant_id="acme").run(shell(f"env > {tmp_path}/env")))
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert (seen["FEDCTL_AGENT_ID"], seen["FEDCTL_TENANT"]) == ("coder", "acme")
    assert seen["FEDCTL_HUB"].startswith("unix:")
    assert not any("hush" in value for value in seen.values())


def test_a_command_that_does_not_exist_is_a_usage_error_and_leaves_no_agent_alive(hub, life_of, quickly):
    with pytest.raises(UsageError, match="cannot run"):
        quickly(life_of(hub).run(["/nowhere/no-such-program"]))
    assert agent_of(hub).status == "dead"
    quickly(life_of(hub).run(["true"]))  # and its name is free


def test_the_end_of_the_lifetime_kills_also_what_ignores_the_request_to_end(hub, life_of, quickly, tmp_path):
    stubborn = f'trap "" TERM; sleep 60 & echo $! > {tmp_path}/pids; echo $$ >> {tmp_path}/pids; wait; sleep 60'
    ending = quickly(life_of(hub, lifetime_ms=5000).run(shell(stubborn)))
    assert (ending.exit, ending.reason) == (124, "expired")
    assert all(is_killed(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    assert 10_000 <= ending.lived_ms < 20_000  # 5 s of life, 5 s between TERM and KILL


def test_a_grandchild_that_ignores_the_request_dies_although_the_command_obeyed(hub, life_of, quickly, tmp_path):
    script = f'(trap "" TERM; exec sleep 60) & echo $! > {tmp_path}/pid; exec sleep 60'
    ending = quickly(life_of(hub, lifetime_ms=5000).run(shell(script)))
    assert ending.exit == 124
    assert is_killed(int((tmp_path / "pid").read_text()))


def test_what_a_command_leaves_running_ends_with_it(hub, life_of, quickly, tmp_path):
    ending = quickly(life_of(hub).run(shell(f"sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/pid")))
    assert ending.exit == 0
    assert is_killed(int((tmp_path / "pid").read_text()))


def test_without_a_command_the_end_of_the_lifetime_is_success(hub, life_of, quickly):
    ending = quickly(life_of(hub, lifetime_ms=5000).run([]))
    assert (ending.exit, ending.reason) == (0, "expired")
    assert 5000 <= ending.lived_ms < 9000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_and_still_delivers(
    hub, life_of, quickly, eventually, visit, keep, stored_ids, tmp_path, number
):
    async def main():
        life = life_of(hub)
        script = (
            f'trap "echo ended > {tmp_path}/ended; exit 0" TERM; touch {tmp_path}/begun; while :; do sleep 0.02; done'
        )
        running = asyncio.create_task(life.run(shell(script)))
        await eventually((tmp_path / "begun").exists)
        guest = await visit(life)
        await guest.call(keep("e1"))
        os.kill(os.getpid(), number)
        ending = await running
        await guest.close()
        return ending

    ending = quickly(main())
    assert (ending.exit, ending.reason) == (128 + number, "signal")
    assert (tmp_path / "ended").exists()
    assert stored_ids(hub) == ["e1"]


def test_an_agent_that_is_asked_to_stop_ends_its_command_and_says_why(hub, life_of, quickly, eventually, tmp_path):
    async def main():
        running = asyncio.create_task(life_of(hub).run(shell(f"touch {tmp_path}/begun; exec sleep 60")))
        await eventually((tmp_path / "begun").exists)
        hub.owner().call(a.StopAgent(id="coder"))
        return await running

    assert quickly(main()).reason == "stopped"
    with pytest.raises(NotFound):
        hub.owner().call(a.StopAgent(id="coder"))


# -- what it learned -------------------------------------------------------------------------------------------------


def test_what_is_stored_before_during_and_after_the_command_is_delivered_once(hub, life_of, quickly, keep, stored_ids):
    async def main():
        life = life_of(hub, sync_interval_ms=100)
        await life.start()
        await life.answer(keep("e1", "e2"))
        await life.sync()
        await life.answer(keep("e2", "e3"))  # again, with the same content
        return await life.end("done", None)

    ending = quickly(main())
    assert (ending.exit, ending.stored, ending.delivered, ending.undelivered) == (0, 3, 3, 0)
    assert stored_ids(hub) == ["e1", "e2", "e3"]
    assert agent_of(hub).episodes_stored == 3


def test_it_brings_along_the_newest_or_what_it_asked_for(hub, life_of, quickly, keep):
    caller = hub.owner()
    caller.call(keep(*(f"old{n}" for n in range(5))))
    caller.call(keep("cats", task="cats and dogs"))

    async def pulled(**plan):
        life = life_of(hub, **plan)
        await life.start()
        held = [one.id for one in life.memory.answer(m.ListEpisodes()).episodes]
        await life.end("done", None)
        return held

    assert set(quickly(pulled(agent_id="a", pull_limit=2))) == {"old4", "cats"}
    assert quickly(pulled(agent_id="b", pull_limit=1, pull_query="dogs")) == ["cats"]
    assert quickly(pulled(agent_id="c", pull_limit=0)) == []


def test_others_news_reaches_it_while_it_lives(hub, life_of, quickly, eventually, keep):
    async def main():
        life = life_of(hub, sync_interval_ms=60_000)  # only the notice can bring it so soon
        await life.start()
        hub.owner().call(keep("news"))
        await eventually(lambda: life.memory.answer(m.GetEpisodes(ids=["news"])).episodes)
        return await life.end("done", None)

    assert quickly(main()).pulled == 1


def test_what_the_hub_will_never_take_is_said_and_counted(hub, life_of, quickly, keep, stored_ids, capfd):
    hub.owner().call(keep("taken", output="theirs"))

    async def main():
        life = life_of(hub, pull_limit=0)
        await life.start()
        await life.answer(keep("taken", output="mine"))
        await life.answer(keep("fine"))
        return await life.end("done", None)

    ending = quickly(main())
    assert (ending.exit, ending.delivered, ending.undelivered) == (7, 1, 1)
    assert sorted(stored_ids(hub)) == ["fine", "taken"]
    assert "the hub refused the episode taken" in capfd.readouterr().err


def test_what_is_left_at_the_end_is_in_a_file_that_import_takes_twice_as_well_as_once(
    hub, life_of, quickly, eventually, keep, tmp_path
):
    file = tmp_path / "left of it.jsonl"
    hub.owner().call(keep("taken", output="theirs"))

    async def refused():
        life = life_of(hub, pull_limit=0, undelivered=file)
        await life.start()
        await life.answer(keep("taken", output="mine"))
        return await life.end("done", None)

    async def away():
        life = life_of(hub, tenant_id="acme", undelivered=file)
        await life.start()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("e1", "e2"))
        life._impatient = True  # a second signal came
        return await life.end("signal", None)

    first, second = quickly(refused()), quickly(away())
    assert (first.exit, first.undelivered_file) == (7, str(file))
    assert "exists with other content" in first.undelivered_why
    assert (second.undelivered, second.undelivered_why) == (2, "the hub is away")
    assert file.stat().st_mode & 0o777 == 0o600
    environ = {"FEDCTL_HOME": str(tmp_path / "other")}
    for imported, existing in ((3, 0), (0, 3)):
        out = io.BytesIO()
        argv = ["memory", "import", str(file), "--no-embed", "--json"]
        assert run(argv, stdin=None, stdout=out, stderr=out, environ=environ) == 0, out.getvalue()
        counts = json.loads(out.getvalue())
        assert (counts["imported"], counts["existing"], counts["rejected"]) == (imported, existing, 0)
    out = io.BytesIO()
    run(["--tenant", "acme", "memory", "list", "--json"], stdin=None, stdout=out, stderr=None, environ=environ)
    assert {(one["id"], one["agent_id"]) for one in json.loads(out.getvalue())} == {("e1", "coder"), ("e2", "coder")}


@pytest.mark.parametrize("file", ["-", "/dev/null", "/nowhere/left.jsonl", "/"])
def test_a_file_that_could_not_keep_what_is_left_is_refused_before_the_life_begins(hub, life_of, quickly, file):
    async def main():
        life_of(hub, undelivered=Path(file))

    with pytest.raises(UsageError):
        quickly(main())


def test_nothing_left_is_no_file(hub, life_of, quickly, keep, tmp_path):
    async def main():
        life = life_of(hub, undelivered=tmp_path / "left")
        await life.start()
        await life.answer(keep("e1"))
        return await life.end("done", None)

    ending = quickly(main())
    assert (ending.exit, ending.undelivered_file, ending.undelivered_why) == (0, None, None)
    assert not (tmp_path / "left").exists()


# -- a hub that goes away --------------------------------------------------------------------------------------------


def test_a_hub_that_is_away_for_a_while_gets_everything_once_each(
    start_hub, life_of, quickly, eventually, keep, stored_ids
):
    hub = start_hub()

    async def main():
        life = life_of(hub, sync_interval_ms=1000)
        await life.start()
        await life.answer(keep("before"))
        await life.sync()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("away1", "away2"))
        again = await asyncio.to_thread(start_hub, hub.home)
        await eventually(lambda: not life.memory.undelivered)
        await life.answer(keep("after"))
        return again, await life.end("done", None)

    again, ending = quickly(main())
    assert (ending.exit, ending.delivered, ending.undelivered, ending.connection_errors) == (0, 4, 0, 1)
    assert stored_ids(again) == ["before", "away1", "away2", "after"]
    assert agent_of(again).status == "dead"


def test_a_hub_that_stays_away_costs_the_number_of_what_it_did_not_get(hub, life_of, quickly, eventually, keep):
    async def main():
        life = life_of(hub)
        await life.start()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("e1", "e2", "e3"))
        return await life.end("done", 0)

    ending = quickly(main())
    assert (ending.exit, ending.undelivered, ending.delivered) == (7, 3, 0)
    assert 14_000 <= ending.lived_ms < 25_000  # it has tried for 15 s


def test_a_hub_that_falls_silent_is_not_waited_for_beyond_the_grace(hub, life_of, quickly, eventually, keep):
    """Nothing tells that the connection is dead: a request would be waited for half a minute, and a ping as long."""

    class Silenced(HubLink):
        silent = False

        async def connect(self, on_stop, on_news):
            if self.silent:
                await asyncio.sleep(10)
                raise Timeout("no hub answered")
            return await super().connect(on_stop, on_news)

        async def call(self, request, *, timeout_s=30.0):
            if self.silent and self.connected:
                await asyncio.sleep(timeout_s)
                raise Timeout("the hub did not answer in time")
            return await super().call(request, timeout_s=timeout_s)

    link = Silenced(hub.unix_url, token=None, tenant_id="default", agent_id="coder")

    async def main():
        life = life_of(link=link, sync_interval_ms=60_000)
        running = asyncio.create_task(life.run(["sleep", "0.5"]))
        await eventually(lambda: life.status == "working")
        await life.answer(keep("e1"))
        link.silent = True
        return await running

    ending = quickly(main())
    assert (ending.exit, ending.undelivered) == (7, 1)
    assert 15_000 <= ending.lived_ms < 32_000  # 5 s of life, 5 until the silence is heard, 15 of grace


def test_the_commands_own_failure_goes_before_undelivered_episodes(hub, life_of, quickly, eventually, keep):
    async def main():
        life = life_of(hub)
        await life.start()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("e1"))
        return await life.end("done", 3)

    assert quickly(main()).exit == 3


def test_a_lifetime_that_ends_without_the_hub_is_over_after_the_grace_at_the_latest(
    hub, life_of, quickly, eventually, keep
):
    async def main():
        life = life_of(hub, lifetime_ms=5000)
        running = asyncio.create_task(life.run([]))
        await eventually(lambda: life.status == "ready")
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("e1"))
        return await running

    ending = quickly(main())
    assert (ending.exit, ending.reason, ending.undelivered) == (7, "expired", 1)
    assert 19_000 <= ending.lived_ms < 25_000  # 5 s of life, 15 s of grace


def test_a_second_signal_means_not_to_wait_for_the_hub(hub, life_of, quickly, eventually, keep):
    async def main():
        life = life_of(hub)
        running = asyncio.create_task(life.run([]))
        await eventually(lambda: life.status == "ready")
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("e1"))
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: life.status == "shutting_down")
        os.kill(os.getpid(), signal.SIGTERM)
        begun = time.monotonic()
        return await running, time.monotonic() - begun

    ending, took_s = quickly(main())
    assert (ending.exit, ending.undelivered) == (143, 1)
    assert took_s < 1.0  # of 1.5 it might have taken


def test_without_a_hub_at_its_start_there_is_no_agent(life_of, quickly, tmp_path):
    with pytest.raises(Unavailable, match="no hub answers"):
        quickly(life_of(url=f"unix:{tmp_path}/nobody.sock").run(["true"]))


def test_an_agent_called_dead_meanwhile_enters_again(start_hub, life_of, quickly, eventually, make_bench):
    hub = start_hub()

    async def main():
        life = life_of(hub)
        await life.start()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        bench = make_bench(hub.home, clock=Clock())
        bench.call(a.ReportAgent(id="coder", status="dead"))
        bench.close()
        again = await asyncio.to_thread(start_hub, hub.home)
        await eventually(lambda: life.connected and agent_of(again).status == "ready")
        await life.end("done", None)
        return agent_of(again).status

    assert quickly(main()) == "dead"


def test_a_hub_whose_store_was_restored_is_told_again_what_the_backup_lacked_once(
    start_hub, life_of, quickly, eventually, keep, stored_ids, tmp_path
):
    hub = start_hub()
    hub.owner("default").call(keep("both", agent_id="coder"))
    hub.end()
    shutil.copytree(hub.home, tmp_path / "backup")
    hub = start_hub(hub.home)

    async def main():
        life = life_of(hub, sync_interval_ms=1000)
        await life.start()
        await life.answer(keep("both", "lost", "lost too"))
        await life.sync()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("away"))
        shutil.rmtree(hub.home)
        shutil.copytree(tmp_path / "backup", hub.home)
        store = Store.open(hub.home, Clock(), create=False)
        with store.write():
            store.settings.put("epoch", "another")
        store.close()
        again = await asyncio.to_thread(start_hub, hub.home)
        await eventually(lambda: len(stored_ids(again)) == 4)
        await life.sync()
        assert not life.memory.undelivered  # the epoch is known by now: nothing is told a third time
        return again, await life.end("done", None)

    again, ending = quickly(main())
    assert (ending.exit, ending.stored, ending.delivered, ending.undelivered) == (0, 3, 3, 0)
    assert sorted(stored_ids(again)) == ["away", "both", "lost", "lost too"]
    assert agent_of(again).status == "dead"


def test_an_agent_whose_name_another_took_delivers_and_leaves_the_others_phases_alone(
    start_hub, life_of, quickly, eventually, keep, stored_ids
):
    hub = start_hub()

    async def main():
        life = life_of(hub)
        await life.start()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(keep("mine"))
        again = await asyncio.to_thread(start_hub, hub.home)
        owner = again.owner()
        owner.call(a.ReportAgent(id="coder", status="dead"))
        owner.call(a.RegisterAgent(id="coder", type="agent", lifetime_ms=60_000, host="elsewhere", pid=1))
        owner.call(a.ReportAgent(id="coder", status="initializing"))
        await eventually(lambda: not life.memory.undelivered)
        ending = await life.end("done", None)
        return again, ending

    again, ending = quickly(main())
    assert (ending.exit, ending.delivered) == (0, 1)
    assert stored_ids(again) == ["mine"]
    other = agent_of(again)
    assert (other.host, other.status) == ("elsewhere", "initializing")


# -- names and tokens ------------------------------------------------------------------------------------------------


def test_a_name_that_lives_elsewhere_is_refused_and_the_other_stays_as_it_is(hub, life_of, quickly):
    owner = hub.owner()
    owner.call(a.RegisterAgent(id="coder", type="agent", lifetime_ms=60_000, host="elsewhere", pid=1))
    with pytest.raises(Conflict, match="is alive"):
        quickly(life_of(hub).run(["true"]))
    assert (agent_of(hub).host, agent_of(hub).status) == ("elsewhere", "spawning")


def test_a_name_of_somebody_dead_is_free(hub, life_of, quickly):
    owner = hub.owner()
    owner.call(a.RegisterAgent(id="coder", type="agent", lifetime_ms=60_000, host="elsewhere", pid=1))
    owner.call(a.ReportAgent(id="coder", status="dead"))
    assert quickly(life_of(hub).run(["true"])).exit == 0
    assert agent_of(hub).host == socket.gethostname()


def test_tenant_and_agent_are_the_tokens(hub, life_of, quickly, keep, stored_ids):
    token = hub.token("acme", agent_id="coder")

    async def main():
        life = life_of(url=hub.info.url, token=token, tenant_id="acme")
        await life.start()
        await life.answer(keep("e1", agent_id="somebody-else"))
        return await life.end("done", None)

    assert quickly(main()).tenant_id == "acme"
    assert stored_ids(hub, "acme") == ["e1"]
    assert stored_ids(hub, "default") == []
    assert hub.owner("acme").call(m.GetEpisodes(ids=["e1"])).episodes[0].agent_id == "coder"


def test_a_token_for_another_agent_is_refused(hub, life_of, quickly):
    with pytest.raises(Denied, match="for the agent coder"):
        quickly(life_of(url=hub.info.url, token=hub.token(agent_id="coder"), agent_id="tester").run(["true"]))


def test_an_agent_whose_token_is_revoked_ends_at_once_and_says_what_is_left(
    hub, life_of, quickly, eventually, keep, capfd
):
    token = hub.token("acme", agent_id="coder")
    jti = hub.owner("acme")

    async def main():
        life = life_of(url=hub.info.url, token=token, tenant_id="acme", sync_interval_ms=60_000)
        await life.start()
        from fedctl.access.tokens import read_claims

        jti.call(RevokeToken(id=read_claims(token).jti))
        await eventually(lambda: not life.connected)
        await life.answer(keep("e1"))
        await eventually(lambda: life._refused)
        begun = time.monotonic()
        ending = await life.end("done", None)
        return ending, time.monotonic() - begun

    ending, took_s = quickly(main())
    assert (ending.exit, ending.undelivered) == (7, 1)
    assert took_s < 1.0  # nobody is waited for who will not take it
    assert "refuses this agent now" in capfd.readouterr().err


# -- the home itself, and many at once -------------------------------------------------------------------------------


def test_without_a_hub_it_works_on_the_home_itself(life_of, home_link, quickly, keep, make_bench, tmp_path):
    async def main():
        life = life_of(link=home_link())
        await life.start()
        await life.answer(keep("e1"))
        found = await life.answer(m.QueryEpisodes(text="learn e1"))
        ending = await life.end("done", None)
        return found, ending

    found, ending = quickly(main())
    assert [hit.id for hit in found.hits] == ["e1"]
    assert not any("not connected" in note for note in found.notes)
    assert (ending.exit, ending.delivered, ending.connection_errors) == (0, 1, 0)
    bench = make_bench(tmp_path / "home")
    assert bench.ids() == ["e1"]
    assert bench.call(a.GetAgent(id="coder")).agent.status == "dead"


def test_a_command_that_does_not_exist_leaves_no_agent_alive_on_the_home_either(
    life_of, home_link, quickly, make_bench, tmp_path
):
    with pytest.raises(UsageError):
        quickly(life_of(link=home_link()).run(["/nowhere/no-such-program"]))
    assert make_bench(tmp_path / "home").call(a.GetAgent(id="coder")).agent.status == "dead"


def test_fifty_agents_at_once_share_a_hub(hub, life_of, quickly, keep, stored_ids):
    async def one(number):
        life = life_of(hub, agent_id=f"agent{number}", sync_interval_ms=500, speed=1)
        await life.start()
        for k in range(4):
            await life.answer(keep(f"{number}/{k}"))
            await life.answer(m.QueryEpisodes(text="learn"))
        return await life.end("done", None)

    async def main():
        return await asyncio.gather(*(one(number) for number in range(50)))

    endings = quickly(main(), speed=1)
    assert [ending.exit for ending in endings] == [0] * 50
    assert sorted(stored_ids(hub)) == sorted(f"{number}/{k}" for number in range(50) for k in range(4))
    agents = hub.owner().call(a.ListAgents(all=True)).agents
    assert {agent.status for agent in agents} == {"dead"}
    assert {agent.episodes_stored for agent in agents} == {4}


def test_a_long_path_for_temporary_files_still_leaves_room_for_a_socket(
    hub, life_of, quickly, tmp_path, monkeypatch, keep, visit
):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    async def main():
        life = life_of(hub)
        await life.start()
        guest = await visit(life)
        answer = await guest.call(keep("e1"))
        await guest.close()
        await life.end("done", None)
        return answer.results[0].ok

    assert quickly(main())
    assert list(long.iterdir()) == []


# -- what it tells of itself -------------------------------------------------------------------------------------------


def notes(*ids, kind="step"):
    return a.AddNotes(notes=[NoteDraft(id=id_, kind=kind, text=f"note {id_}") for id_ in ids])


def noted(hub):
    events = hub.owner().call(ListEvents(kinds=["agent_note"])).events
    return [event.detail["id"] for event in events]


def test_notes_that_waited_for_the_hub_are_delivered_once_each_and_stand_where_they_were_made(
    start_hub, life_of, quickly, eventually
):
    hub = start_hub()

    async def main():
        life = life_of(hub, sync_interval_ms=1000)
        # Ages are told and wall times are shown: here both have to be of the same clock.
        life = AgentLife(life.plan, life._means._replace(clock=Clock()))
        await life.start()
        await life.answer(notes("before"))
        await life.sync()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(notes("away1", "away2"))
        await life.report("working")
        await life.report("idle")
        again = await asyncio.to_thread(start_hub, hub.home)
        await eventually(lambda: life.connected and not life._journal.undelivered)
        await life.answer(notes("after"))
        return again, await life.end("done", None)

    again, ending = quickly(main())
    assert (ending.exit, ending.notes_undelivered) == (0, 0)
    assert noted(again) == ["before", "away1", "away2", "after"]
    timeline = again.owner().call(a.GetTimeline(id="coder")).timeline
    assert [one.status for one in timeline.phases] == PHASES
    told = [one.text for one in timeline.moments if one.kind in ("step", "error")]
    assert told[:3] == ["note before", "note away1", "note away2"]
    assert "note after" in told[3:]
    assert any("the hub was away for" in text for text in told[3:])
    assert timeline.figures.connection_errors == 1


def test_notes_that_a_hub_never_got_are_counted_and_no_failure(hub, life_of, quickly, eventually):
    async def main():
        life = life_of(hub, lifetime_ms=5000)
        await life.start()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        await life.answer(notes("n1", "n2"))
        return await life.end("done", 0)

    ending = quickly(main())
    assert (ending.exit, ending.undelivered, ending.notes_undelivered) == (0, 0, 2)


def test_notes_of_one_whose_name_another_took_are_not_put_on_the_others_timeline(
    start_hub, life_of, quickly, eventually
):
    hub = start_hub()

    async def main():
        life = life_of(hub)
        await life.start()
        await asyncio.to_thread(hub.end)
        await eventually(lambda: not life.connected)
        again = await asyncio.to_thread(start_hub, hub.home)
        owner = again.owner()
        owner.call(a.ReportAgent(id="coder", status="dead"))
        owner.call(a.RegisterAgent(id="coder", type="agent", lifetime_ms=60_000, host="elsewhere", pid=1))
        await eventually(lambda: life.connected and not life._registered)
        await life.answer(notes("mine"))
        return again, await life.end("done", None)

    again, ending = quickly(main())
    assert (ending.exit, ending.notes_undelivered > 0, noted(again)) == (0, True, [])


def test_who_watches_sees_a_note_long_before_the_next_sync_is_due(hub, life_of, quickly, eventually):
    async def main():
        life = life_of(hub, sync_interval_ms=600_000, lifetime_ms=900_000)
        await life.start()
        await life.answer(notes("n1"))
        await eventually(lambda: noted(hub) == ["n1"])
        await life.end("done", None)

    quickly(main())


def test_the_command_s_operations_are_in_the_figures_of_its_agent(hub, life_of, quickly, keep):
    async def main():
        life = life_of(hub)
        await life.start()
        for number in range(3):
            await life.answer(keep(f"e{number}"))
        await life.answer(m.QueryEpisodes(text="x", mode="keyword"))
        await life.sync()
        alive = hub.owner().call(a.GetTimeline(id="coder")).timeline
        return alive, await life.end("done", None)

    alive, _ = quickly(main())
    assert (alive.phases[-1].status, alive.phases[-1].lasted_ms) == ("ready", None)
    assert {name: times.n for name, times in alive.figures.operations.items()} == {
        "memory.store": 3, "memory.query": 1, "sync": 1,
    }  # fmt: skip
    assert (alive.figures.stored, alive.figures.delivered, alive.counts["syncs"]) == (3, 3, 1)
    dead = hub.owner().call(a.GetTimeline(id="coder")).timeline
    assert (dead.phases[-1].status, dead.figures.syncs) == ("dead", 2)


def test_without_a_hub_notes_and_timeline_are_the_home_s(life_of, home_link, quickly, make_bench, tmp_path):
    async def main():
        life = life_of(link=home_link())
        await life.start()
        await life.answer(notes("n1", kind="decision"))
        return await life.end("done", None)

    assert quickly(main()).notes_undelivered == 0
    timeline = make_bench(tmp_path / "home").call(a.GetTimeline(id="coder")).timeline
    assert [one.text for one in timeline.moments if one.kind == "decision"] == ["note n1"]
    assert [one.status for one in timeline.phases] == ["spawning", "initializing", "ready", "shutting_down", "dead"]
