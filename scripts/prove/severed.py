"""What `net` does to TLS handshakes, and to commands and the Python API, by cutting what they speak through."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import common
import vitals
from place import TENANT, Place, new_id
from proxy import PLAIN, Fate, Proxy

from fedctl.api.agent import EphemeralAgent
from fedctl.client.link import AsyncCaller
from fedctl.client.remote import RemoteCaller
from fedctl.client.tls import Trust
from fedctl.errors import FedctlError, Timeout, Unavailable
from fedctl.messages.hub import ListEvents
from fedctl.messages.memory import StoreEpisodes
from fedctl.messages.pool import ListItems, PushItems
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import ItemDraft

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UP_BYTES = (0, 1, 5, 64, 200, 400, 517, 600, 700, 900, 1200)
DOWN_BYTES = (0, 1, 5, 64, 200, 700, 1200, 1400, 1600, 2000)
CONNECT_S = 3.0
LATE_S = 1.5
HANGS_S = 10.0
LET_GO_S = 12.0
"""Within what a hub has let go of who said nothing more: 5 s for a handshake, and its time to say goodbye."""
ITEMS = 30
COMMANDS_S = 240.0


# -- TLS -----------------------------------------------------------------------------------------------------------


def tls(folder: Path, figures: common.Figures) -> None:
    """Cut handshakes after so many bytes, or let them stall there."""
    folder.mkdir()
    home = folder / "home"
    home.mkdir(mode=0o700)
    made = common.fedctl(home, "hub", "cert", "--out", str(folder / "tls"), "--json")
    files = json.loads(made.stdout)
    hub = common.Hub(home, log=folder / "hub.log")
    hub.arguments = ("--tls-cert", files["cert"], "--tls-key", files["key"])
    place = Place(folder, hub=hub)
    try:
        with Proxy(place.address) as proxy:
            _handshakes(place, proxy, files["ca"], figures)
        place.end(figures, "tls")
    finally:
        place.kill()


def _handshakes(place: Place, proxy: Proxy, authority: Any, figures: common.Figures) -> None:
    assert place.hub.process is not None
    url, token, trust = proxy.url.replace("ws:", "wss:"), place.token(), Trust(ca=authority)
    before = vitals.look(place.hub.process.pid).sockets

    def store() -> None:
        """Do what a client does."""
        caller = RemoteCaller(url, token=token, trust=trust, timeout_ms=round(CONNECT_S * 1000))
        try:
            caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=new_id(), task="over TLS")]))
        finally:
            caller.close()

    async def store_async() -> None:
        caller = await AsyncCaller.connect(url, token=token, trust=trust, timeout_s=CONNECT_S)
        try:
            await caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=new_id(), task="over TLS")]), timeout_s=CONNECT_S)
        finally:
            await caller.close()

    fates = [
        *(("cut on the way up", Fate(cut_up_bytes=size)) for size in UP_BYTES),
        *(("cut on the way down", Fate(cut_down_bytes=size)) for size in DOWN_BYTES),
        *(("stalled on the way up", Fate(stall_up_bytes=size)) for size in UP_BYTES[::4]),
        ("in pieces of a byte", Fate(piece_bytes=1)),
    ]
    said: dict[str, list[str]] = {}
    slowest = 0.0
    good = 0
    for what, fate in fates:
        ways: tuple[Callable[[], Any], ...] = (store, lambda: asyncio.run(store_async()))
        for way in ways:
            proxy.fate = lambda _number, fate=fate: fate  # type: ignore[misc]
            said.setdefault(what, []).append(_outcome(way))
            slowest = max(slowest, _took_s)
        proxy.fate = lambda _number: PLAIN
        good += _outcome(store) == "good"
    for what, outcomes in said.items():
        wanted = {"good"} if "pieces" in what else {"good", "unavailable", "timeout"}
        counted = ", ".join(f"{outcomes.count(one)} {one}" for one in sorted(set(outcomes)))
        figures.add(f"tls: handshakes {what}", counted,
                    wanted="good" if "pieces" in what else "unavailable, timeout, or late enough",
                    ok=set(outcomes) <= wanted and ("pieces" in what or set(outcomes) != {"good"}))  # fmt: skip
    figures.add("tls: the longest of them (s)", f"{slowest:.1f}", wanted=f"<= {CONNECT_S + LATE_S:g}",
                ok=slowest <= CONNECT_S + LATE_S)  # fmt: skip
    figures.add("tls: good ones in between", good, wanted=len(fates))
    # Plain words to a port that speaks TLS are refused, and nobody falls back to them.
    figures.add("tls: plain words", _outcome(lambda: RemoteCaller(proxy.url, token=token, timeout_ms=3000)),
                wanted="unavailable")  # fmt: skip
    proxy.cut_all()
    deadline = time.monotonic() + LET_GO_S
    while (after := vitals.look(place.hub.process.pid).sockets) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    figures.add("tls: the hub's connections before, after", f"{before}, {after}", wanted="as many", ok=after <= before)


_took_s = 0.0


def _outcome(way: Callable[[], Any]) -> str:
    """Return what came of it: good, or the error's code; what is no error of ours says itself."""
    global _took_s  # noqa: PLW0603  of the last one
    begun = time.monotonic()
    said = ["hangs"]

    def go() -> None:
        try:
            way()
            said[0] = "good"
        except FedctlError as error:
            said[0] = error.code
        except Exception as error:  # noqa: BLE001  it is told
            said[0] = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join(HANGS_S)
    _took_s = time.monotonic() - begun
    return said[0]


# -- commands ------------------------------------------------------------------------------------------------------


async def commands(place: Place, figures: common.Figures, *, held_s: float) -> None:  # noqa: PLR0915  one after another
    """Have commands and an agent in Python work, wait and listen through a partition of so many seconds."""
    token_file = place.folder / "commands.token"
    token_file.touch(mode=0o600)
    token_file.write_text(place.token(ttl_s=7200))
    place.token("python-agent")
    runs, home = place.folder / "runs", place.folder / "commands-home"
    with Proxy(place.address) as proxy, contextlib.closing(place.owner()) as owner:
        cursor = owner.call(ListEvents(newest=0)).cursor
        drafts = [ItemDraft(id=f"work-{number}", data=number) for number in range(ITEMS)]
        owner.call(PushItems(pool="w", items=drafts))

        def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
            with (place.folder / f"{name}.out").open("wb") as out, (place.folder / f"{name}.err").open("wb") as err:
                return common.spawn_fedctl(home, "--hub", proxy.url, "--token-file", str(token_file), *arguments,
                                           stdin=subprocess.DEVNULL, stdout=out, stderr=err)  # fmt: skip

        def out(name: str) -> list[Any]:
            return [json.loads(line) for line in (place.folder / f"{name}.out").read_text().split("\n") if line]

        script = f'echo "$1" >> {runs}; sleep 0.5; echo "$1"'
        started = {
            "work": start("work", "pool", "work", "w", "-j", "2", "--until-empty", "--lease", "5m", "--",
                          "sh", "-c", script, "sh", "{id}"),
            "claim": start("claim", "pool", "claim", "c", "--worker", "waiter", "--wait", "200s", "--json"),
            "wait": start("wait", "pool", "wait", "w", "--timeout", "200s", "--json"),
            "events": start("events", "hub", "events", "--follow", "--since", str(cursor), "--jsonl"),
        }  # fmt: skip
        try:
            agent = await EphemeralAgent.spawn(
                TENANT, COMMANDS_S, proxy.url, agent_id="python-agent",
                token_file=place.folder / "python-agent.token", home=home, sync_interval=1,
            )  # fmt: skip
            ids: list[str] = []
            await asyncio.to_thread(common.wait_for, lambda: runs.exists() and bool(out("events")), "they work")
            proxy.hold()
            begun = time.monotonic()
            while (passed := time.monotonic() - begun) < held_s:
                ids.append((await agent.store_episode("python learned", input=len(ids))).id)
                await asyncio.sleep(0.5)
                if passed > 3 and len(ids) == 8:
                    owner.call(PushItems(pool="c", items=[ItemDraft(id="waited-for", data=1)]))
            stopped = len(runs.read_text().split())
            short = await asyncio.to_thread(
                common.fedctl, home, "--hub", proxy.url, "--token-file", str(token_file), "--timeout", "3s",
                "memory", "store", "--task", "nobody is there",
            )  # fmt: skip
            proxy.flow()
            codes = {}
            for name in ("work", "claim", "wait"):
                codes[name] = await asyncio.to_thread(started[name].wait, COMMANDS_S)
            figures.add(f"commands: {held_s:g} s of silence: items run by then, of {ITEMS}", stopped,
                        ok=0 < stopped < ITEMS)  # fmt: skip
            figures.add("commands: memory store --timeout 3s meanwhile: exit code", short.returncode, wanted="7 or 8",
                        ok=short.returncode in (Unavailable.exit, Timeout.exit))  # fmt: skip
            for name, code in codes.items():
                figures.add(f"commands: exit code of pool {name}", code, wanted=0)
            items = owner.call(ListItems(pool="w", limit=1000)).items
            wrong = [one.id for one in items if one.status != "done" or one.result != one.id]
            figures.add("commands: items not done, or with another's result", len(wrong), wanted=0)
            ran = runs.read_text().split()
            figures.add("commands: items run more than once", len(ran) - len(set(ran)), wanted=0)
            claimed = [one["id"] for part in out("claim") for one in part]
            figures.add("commands: what claim --wait got", claimed, wanted=["waited-for"])
            ending = await agent.destroy()
            there = set(place.stored())
            figures.add("commands: the agent in Python: stored, not arrived, said to be undelivered",
                        f"{len(ids)}, {len(set(ids) - there)}, {ending.undelivered}", wanted="none lost",
                        ok=set(ids) <= there and ending.undelivered == 0)  # fmt: skip
            last = owner.call(ListEvents(newest=1)).events[-1].seq
            await asyncio.to_thread(
                common.wait_for, lambda: bool(out("events")) and out("events")[-1]["seq"] >= last, "events follows", 60
            )
            seqs = [one["seq"] for one in out("events")]
            listed: list[int] = []
            while True:
                page = owner.call(ListEvents(after=cursor))
                listed += [one.seq for one in page.events]
                cursor = page.cursor
                if not page.more:
                    break
            wrong_events = len(set(listed) ^ set(seqs)) + len(seqs) - len(set(seqs)) + (seqs != sorted(seqs))
            figures.add("commands: events that --follow told out of order, twice or not", wrong_events, wanted=0)
        finally:
            for process in started.values():
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
