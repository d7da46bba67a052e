"""What `net` does with clocks: the wall clock of a hub, or of an agent, jumps while they run (libfaketime).

What goes by what has passed is not to notice: leases, delays, lifetimes, heartbeats, sessions that are open. What goes
by the wall clock follows it: whether a token is good that is shown now, how old an episode is, when it was stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import common
import jumping
from place import PAUSE_S, TENANT, Place, new_id
from proxy import Proxy

from fedctl.api.agent import EphemeralAgent
from fedctl.client.link import AsyncCaller
from fedctl.errors import Denied
from fedctl.messages.agent import RegisterAgent
from fedctl.messages.hub import ListEvents, Subscribe
from fedctl.messages.memory import GetEpisodes, ListEpisodes, StoreEpisodes
from fedctl.messages.pool import ClaimItems, CompleteItems, ExtendItems, PushItems
from fedctl.messages.retention import SetPolicy
from fedctl.messages.token import ListTokens
from fedctl.messages.worker import ReapWorkers, RegisterWorker
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, ItemDraft, Lease
from fedctl.model.time import from_rfc3339, to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.model.hub import Event

LEASE_S = 4.0
DELAY_S = 3.0
EARLY_S, LATE_S, QUICK_LATE_S = 0.3, 2.0, 20.0
"""How much too early, by the time that an answer took, and how late something may be seen to come."""
LIFETIME_S = 8.0
SHORTEST_S = 5.0
AGENT_GRACE_S = 15.0
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
GUARDED = 120
"""Episodes: of more than 100 retention removes at most a part at once."""
SPIN_SHARE = 0.2
NOTICED_S = 1.0
"""How old the library's knowledge of the file may be. Without that it reads it whenever it is asked for a time."""


class Jump(NamedTuple):
    """How a clock jumps, and what tokens are good by it: one of 30 minutes and one of two hours, both just issued."""

    name: str
    ms: int
    half_hour: bool
    two_hours: bool


JUMPS = (
    Jump("10 years ahead", 3650 * DAY_MS, half_hour=False, two_hours=False),
    Jump("1 h ahead", HOUR_MS, half_hour=False, two_hours=True),
    Jump("1 h back", -HOUR_MS, half_hour=False, two_hours=False),
    Jump("45 s back", -45_000, half_hour=True, two_hours=True),
)


def library() -> Path | None:
    """Return libfaketime, if it is here."""
    for folder in ("/usr/lib", "/usr/local/lib"):
        for found in sorted(Path(folder).glob("**/faketime/libfaketimeMT.so.1")):
            return found
    return None


class Wall:
    """The wall clock of a process, as a file says: how many seconds from the right time."""

    def __init__(self, file: Path, *, python_only: bool = False) -> None:
        self._file, self._python_only = file, python_only
        self.jump(0)

    def jump(self, ms: int) -> None:
        """Set it."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ms // 1000:+d}\n")
        fresh.replace(self._file)

    @contextlib.contextmanager
    def over(self) -> Iterator[None]:
        """Have what is started meanwhile go by it. This process has read its environment, and does not."""
        here = {jumping.FILE: str(self._file)}
        if not self._python_only:
            here = {
                "LD_PRELOAD": str(library()),
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_CACHE_DURATION": f"{NOTICED_S:g}",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        os.environ.update(here)
        try:
            yield
        finally:
            for name in here:
                del os.environ[name]


class Hub(common.Hub):
    """A hub whose wall clock is another one."""

    def __init__(self, folder: Path, wall: Wall, program: str = "jumping.py") -> None:
        super().__init__(folder / "home", (str(common.HERE / program),), folder / "hub.log")
        self._wall = wall

    def start(self) -> None:
        """Start it."""
        with self._wall.over():
            super().start()

    def cpu_s(self) -> float:
        """Return what it has used of the processor."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def hubs(folder: Path, figures: common.Figures) -> None:
    """Let the clocks of hubs jump."""
    for number, jump in enumerate(JUMPS):
        there = folder / f"clock{number}"
        there.mkdir()
        wall = Wall(there / "wall")
        place = Place(there, hub=Hub(there, wall))
        try:
            await _Trial(place, wall, jump, figures).run()
            place.end(figures, f"clock, {jump.name}")
        finally:
            place.kill()


async def hub(place: Place, wall: Wall, figures: common.Figures) -> None:
    """Let the clock of this one jump once, and see what can be seen in seconds."""
    await _Trial(place, wall, JUMPS[0], figures, quick=True).run()


class _Trial:
    """One jump of one hub's clock, with everything under way that has to do with time."""

    def __init__(self, place: Place, wall: Wall, jump: Jump, figures: common.Figures, *, quick: bool = False) -> None:
        self._place, self._wall, self._jump, self._figures, self._quick = place, wall, jump, figures, quick
        self._lease_s, self._delay_s = (2.0, 1.5) if quick else (LEASE_S, DELAY_S)
        self._heard: list[Event] = []
        self._acked: list[str] = []

    def _add(self, what: str, measured: object, *, wanted: object = "", ok: bool | None = None) -> None:
        self._figures.add(f"clock, {self._jump.name}: {what}", measured, wanted=wanted, ok=ok)

    def _within(self, what: str, seconds: float | None, wanted_s: float) -> None:
        low, high = wanted_s - EARLY_S, wanted_s + (QUICK_LATE_S if self._quick else LATE_S)
        self._add(what, None if seconds is None else f"{seconds:.1f}", wanted=f"{low:.1f} to {high:.1f}",
                  ok=seconds is not None and low <= seconds <= high)  # fmt: skip

    async def run(self) -> None:
        """Set everything up, jump, and see."""
        place = self._place
        assert isinstance(place.hub, Hub)
        half_hour, two_hours = place.token(ttl_s=1800), place.token()
        self.live = await AsyncCaller.connect(place.hub.url, token=two_hours, on_notice=self._heard.append)
        self.owner = await AsyncCaller.connect(place.hub.unix, tenant_id=TENANT)
        cursor = (await self.owner.call(ListEvents(newest=0))).cursor
        await self.live.call(Subscribe())
        if not self._quick:
            await self.owner.call(SetPolicy(max_age_ms=90 * DAY_MS))
            await self._store(GUARDED)
        with Proxy(place.hub.unix.removeprefix("unix:"), listen=str(place.folder / "proxy.sock")) as proxy:
            born = time.monotonic()
            agent = await EphemeralAgent.spawn(
                TENANT, 60.0 if self._quick else LIFETIME_S, f"unix:{place.folder / 'proxy.sock'}",
                agent_id="mortal", home=place.folder / "agent-home", sync_interval=0.3,
            )  # fmt: skip
            learned = [(await agent.store_episode("before the jump", input=1)).id]
            outstayer = await self._outstay()
            pool = await self._work()
            self._wall.jump(self._jump.ms)
            await self._jumped()
            proxy.cut_all()
            learned.append((await agent.store_episode("after the jump", input=2)).id)
            await self._look_at_tokens(half_hour, two_hours)
            await self._watch(pool)
            if not self._quick:
                while agent.status != "dead" and time.monotonic() < born + LIFETIME_S + 10:  # noqa: ASYNC110  no event
                    await asyncio.sleep(PAUSE_S)
                self._within("the agent's life (s)", time.monotonic() - born, LIFETIME_S)
            said = self._place.said()
            ended_early = said.count("agent.expired") + said.count("agent=mortal why=its")
            self._add("the hub called it expired, or dead", ended_early, wanted=0)
            ending = await agent.destroy()
            self._add("what it could not deliver", ending.undelivered, wanted=0)
            if outstayer is not None:
                ended = await self._ended(outstayer)
                over_s = SHORTEST_S + AGENT_GRACE_S
                self._within("a session that outstays its agent's life ends after (s)", ended, over_s)
            if not self._quick:
                share = await self._idle_share()
                self._add("an idle hub's share of a core", f"{share:.2f}", wanted=f"<= {SPIN_SHARE}",
                          ok=share <= SPIN_SHARE)  # fmt: skip
        self._acked += learned
        if not self._quick:
            await self._look_at_retention()
        await self._look_at_order(cursor)
        self._wall.jump(0)
        await self._store(3)
        pages = await self._ids_by_small_pages()
        self._add("acknowledged and lost, back at the right time", len(set(self._acked) - set(pages)), wanted=0)
        self._add("there twice, in pages of 7", len(pages) - len(set(pages)), wanted=0)
        await self.live.close()
        await self.owner.close()

    async def _idle_share(self) -> float:
        """Return what the hub takes when nobody asks: the least of some seconds, in one of which it embeds nothing."""
        assert isinstance(self._place.hub, Hub)
        shares = []
        for _ in range(6):
            before_s = self._place.hub.cpu_s()
            await asyncio.sleep(1.0)
            shares.append(self._place.hub.cpu_s() - before_s)
        return min(shares)

    async def _jumped(self) -> None:
        """Wait until the hub knows."""
        for _ in range(100):
            caller = await AsyncCaller.connect(self._place.hub.unix)
            await caller.close()
            ahead_ms = from_rfc3339(caller.welcome.server_time) - time.time_ns() // 1_000_000
            if abs(ahead_ms - self._jump.ms) < max(5000, abs(self._jump.ms) // 100):
                return
            await asyncio.sleep(0.05)
        raise SystemExit("the hub's clock did not jump")

    async def _store(self, count: int) -> None:
        drafts = [EpisodeDraft(id=new_id(), task="kept", input=number) for number in range(count)]
        answer = await self.live.call(StoreEpisodes(episodes=drafts))
        self._acked += [one.id for one, result in zip(drafts, answer.results, strict=True) if result.ok]

    async def _outstay(self) -> tuple[AsyncCaller, float] | None:
        """Enter an agent that does not leave when its time is over."""
        if self._quick:
            return None
        caller = await AsyncCaller.connect(self._place.hub.unix, tenant_id=TENANT)
        begun = time.monotonic()
        lifetime_ms = round(SHORTEST_S * 1000)
        await caller.call(RegisterAgent(id="outstayer", type="t", lifetime_ms=lifetime_ms, host="h", pid=1))
        return caller, begun

    async def _ended(self, outstayer: tuple[AsyncCaller, float]) -> float | None:
        caller, begun = outstayer
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(begun + SHORTEST_S + AGENT_GRACE_S + 5 - time.monotonic()):
                await caller.closed.wait()
                return time.monotonic() - begun
        await caller.close()
        return None

    async def _work(self) -> tuple[float, Lease]:
        """Have items held, held by somebody who says no more of them, and delayed; return since when, and one lease."""
        await self.live.call(RegisterWorker(id="steady", heartbeat_interval_ms=30_000))
        at = to_rfc3339(time.time_ns() // 1_000_000 + HOUR_MS)
        await self.live.call(PushItems(pool="p", items=[ItemDraft(id="renewed", data=1), ItemDraft(id="left", data=1)]))
        begun = time.monotonic()
        delayed = [
            ItemDraft(id="delayed", data=1, delay_ms=round(self._delay_s * 1000)),
            ItemDraft(id="at", data=1, available_at=at),
        ]
        await self.live.call(PushItems(pool="p", items=delayed))
        held = []
        for worker in ("steady", "silent"):
            request = ClaimItems(pool="p", worker_id=worker, lease_ms=round(self._lease_s * 1000))
            held += (await self.live.call(request)).items
        return begun, Lease(id=held[0].id, lease_id=str(held[0].lease_id))

    async def _watch(self, pool: tuple[float, Lease]) -> None:
        """See what can be claimed when, while one lease is renewed and somebody stores."""
        begun, lease = pool
        reaped = await self.owner.call(ReapWorkers())
        self._add("living workers reaped", len(reaped.workers), wanted=0)
        came: dict[str, float] = {}
        renewed = failed = 0
        while (passed := time.monotonic() - begun) < self._lease_s + (QUICK_LATE_S if self._quick else 1.5):
            if self._quick and {"delayed", "left"} <= came.keys() and passed > self._lease_s + 0.5:
                break
            request = ClaimItems(pool="p", worker_id="other", count=4, lease_ms=600_000, wait_ms=500)
            for one in (await self.live.call(request)).items:
                came[one.id] = time.monotonic() - begun
            if passed > renewed + 1:
                renewed += 1
                leases = ExtendItems(leases=[lease], lease_ms=round(self._lease_s * 1000))
                failed += not (await self.live.call(leases)).results[0].ok
                await self._store(1)
        self._within("a delayed item could be claimed after (s)", came.pop("delayed", None), self._delay_s)
        self._within("an item with a silent holder came back after (s)", came.pop("left", None), self._lease_s)
        self._add("others that were handed out (renewed, or for in an hour)", sorted(came) or "none", wanted="none")
        self._add("renewals refused", failed, wanted=0)
        completion = Completion(id=lease.id, lease_id=lease.lease_id, result=1)
        done = await self.live.call(CompleteItems(completions=[completion]))
        self._add("its holder could complete the renewed one", done.results[0].ok, wanted=True)

    async def _look_at_tokens(self, half_hour: str, two_hours: str) -> None:
        for what, token, wanted in (
            ("30 min", half_hour, self._jump.half_hour), ("2 h", two_hours, self._jump.two_hours),
        ):  # fmt: skip
            try:
                await (await AsyncCaller.connect(self._place.hub.url, token=token)).close()
                good = "good"
            except Denied as error:
                good = f"denied: {error.message}"
            self._add(f"a token for {what}, shown now", good, wanted="good" if wanted else "denied",
                      ok=(good == "good") == wanted)  # fmt: skip

    async def _look_at_retention(self) -> None:
        """Prune by the clock as it is: whoever trusts it would remove everything."""
        done = common.fedctl(self._place.hub.home, "--tenant", TENANT, "retention", "prune", "--json")
        refused = 5 if self._jump.ms > 90 * DAY_MS else 0
        self._add("retention prune: exit code", done.returncode, wanted=refused)
        there = set(self._place.stored())
        self._add("retention prune: acknowledged and removed", len(set(self._acked) - there), wanted=0)

    async def _look_at_order(self, cursor: int) -> None:
        """Read the events from before the jump on; compare with what was heard, and the times with the clock's."""
        await asyncio.sleep(0.3)  # what was committed last is told a moment later
        events: list[Event] = []
        start = cursor
        while True:
            page = await self.owner.call(ListEvents(after=cursor, limit=50))
            events, cursor = [*events, *page.events], page.cursor
            if not page.more:
                break
        seqs = [one.seq for one in events]
        ordered = seqs == sorted(set(seqs)) and all(one > start for one in seqs)
        self._add("events from a cursor, in order and once", f"{len(seqs)}, {ordered}", ok=ordered and len(seqs) > 5)
        missing = {one.seq for one in self._heard} - set(seqs)
        unheard = set(seqs) - {one.seq for one in self._heard}
        heard = [one.seq for one in self._heard]
        self._add("notices out of order, twice, or not in the log", len(heard) - len(set(heard)) + len(missing)
                  + (heard != sorted(heard)), wanted=0)  # fmt: skip
        self._add("events that a listener was not told of", len(unheard), wanted=0)
        await self._store(1)
        (last,) = (await self.live.call(GetEpisodes(ids=[self._acked[-1]]))).episodes
        ahead_ms = from_rfc3339(last.created_at) - time.time_ns() // 1_000_000 - self._jump.ms
        self._add("created_at goes by the wall clock", abs(ahead_ms) < 3 * DAY_MS, wanted=True)
        tokens = (await self.owner.call(ListTokens())).tokens
        self._add("tokens on record", len({one.id for one in tokens}), wanted=len(tokens))

    async def _ids_by_small_pages(self) -> list[str]:
        ids: list[str] = []
        cursor = None
        while True:
            page = await self.owner.call(ListEpisodes(limit=7, cursor=cursor))
            ids += [one.id for one in page.episodes]
            cursor = page.cursor
            if cursor is None:
                return ids


def agents(place: Place, figures: common.Figures) -> None:
    """Let the clock of an agent jump, three times in its life: that is as long as it was to be."""
    folder = place.folder / "jumping-agent"
    folder.mkdir()
    wall = Wall(folder / "wall")
    place.token("jumping")
    acked, until = folder / "acked", folder / "never"
    command = [
        sys.executable, str(common.HERE / "jumping.py"), "--hub", place.hub.url,
        "--token-file", str(place.folder / "jumping.token"), "--json",
        "agent", "spawn", "--id", "jumping", "--lifetime", f"{LIFETIME_S:g}s", "--sync-interval", "500ms", "--",
        sys.executable, str(common.HERE / "patient.py"), str(acked), "env", "-", "--until", str(until),
        "--only-store", "--clients", "1", "--rate", "20",
    ]  # fmt: skip
    with wall.over(), (folder / "log").open("wb") as log:
        begun = time.monotonic()
        agent = subprocess.Popen(command, env=common.environment(folder / "home"), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=log)  # fmt: skip
    try:
        common.wait_for(lambda: acked.exists() and acked.read_text().count(" ok") > 5, "the agent stores", 20)
        for jump in JUMPS:
            wall.jump(jump.ms)
            time.sleep(1.0)
        status = agent.wait(LIFETIME_S + 30)
    finally:
        agent.kill()
    lived = time.monotonic() - begun
    figures.add("clock of an agent, four jumps: it lived (s)", f"{lived:.1f}",
                wanted=f"{LIFETIME_S:g} to {LIFETIME_S + 5:g}", ok=LIFETIME_S <= lived <= LIFETIME_S + 5)  # fmt: skip
    figures.add("clock of an agent: its exit code: the lifetime ended it", status, wanted=124)
    ids = [line.split()[3] for line in acked.read_text().split("\n") if line.endswith(" ok")]
    place.kept(figures, "clock of an agent", ids)
