"""What `net` does with a proxy between clients and a hub: connections of every fate, slow readers, vanished peers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import vitals
from place import AWAY, PAUSE_S, TENANT, Client, Worker, Writer, held_by_two, new_id
from proxy import PLAIN, Fate, Proxy

from fedctl.api.agent import EphemeralAgent
from fedctl.client.link import AsyncCaller
from fedctl.client.remote import RemoteCaller
from fedctl.errors import Timeout, Unavailable
from fedctl.messages.agent import AddNotes, GetAgent, RegisterAgent
from fedctl.messages.hub import ListEvents, Subscribe
from fedctl.messages.memory import StoreEpisodes
from fedctl.messages.pool import ClaimItems, CompleteItems, GetPool, ListItems, PushItems, ReleaseWorker, WaitFor
from fedctl.model.agent import NoteDraft
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, ItemDraft

if TYPE_CHECKING:
    import common
    from place import Place

    from fedctl.model.hub import Event

IMPATIENT_S = 0.15
"""How long a client waits for an answer before it asks on another connection."""
SLOW_BYTES_S = 1000
PEAK_MB = 256
"""What the hub may take more than before, for readers that are slow: 128 MB for all together, and its model's share."""
GOOD_P99_MS, QUICK_P99_MS = 1000, 5000
"""In a short dose all is done at once, on whatever machine: there it says that nobody is kept out."""
LARGE = 900_000


# -- connections of every fate -------------------------------------------------------------------------------------


def _fate(number: int, dice: random.Random) -> Fate:
    """Choose what becomes of a connection: each kind in turn, and the rest by chance."""
    return (
        Fate(cut_up_bytes=dice.randint(300, 2500), delay_s=0.02),
        Fate(delay_s=0.3),
        Fate(cut_down_bytes=dice.randint(1, 1500), delay_s=0.02),
        Fate(piece_bytes=1),
        Fate(delay_s=0.1, piece_bytes=7, cut_up_bytes=dice.randint(1, 20_000)),
        PLAIN,
    )[number % 6]


async def fates(place: Place, figures: common.Figures, dice: random.Random, *, quick: bool) -> None:
    """Write and work over connections that are late, in pieces, or cut in the middle of anything."""
    batches, items, crew = (5, 8, 2) if quick else (60, 300, 4)
    lease_s = 2.0 if quick else 5.0
    with Proxy(place.address) as proxy, contextlib.closing(place.owner()) as owner:
        proxy.fate = lambda number: _fate(number, dice)
        token = place.token()
        owner.call(PushItems(pool="fates", items=[ItemDraft(id=f"fate-{n}", data=n) for n in range(items)]))
        writers = [Writer(f"writer{n}", proxy.url, token, dice, IMPATIENT_S) for n in range(crew)]
        workers = [Worker(f"worker{n}", proxy.url, token, dice, IMPATIENT_S, lease_s=lease_s) for n in range(crew)]
        over = asyncio.Event()

        async def watch() -> None:
            while owner.call(GetPool(name="fates")).pool.done < items:  # noqa: ASYNC110  it is no event that is awaited
                await asyncio.sleep(0.1)
            over.set()

        async with asyncio.timeout(100 if quick else 300), asyncio.TaskGroup() as group:
            for writer in writers:
                group.create_task(writer.write(batches))
            for worker in workers:
                group.create_task(worker.work("fates", over))
            group.create_task(watch())
        everybody: list[Client] = [*writers, *workers]
        await asyncio.gather(*(one.close() for one in everybody))
        again, late = sum(one.again for one in everybody), sum(one.late for one in everybody)
        figures.add("proxy: connections made, cut off", f"{proxy.made}, {proxy.resets}", wanted="some",
                    ok=proxy.resets > 0)  # fmt: skip
        figures.add("proxy: asked again, after an answer that came late", f"{again}, {late}", wanted="some",
                    ok=again > 0)  # fmt: skip
        claims = [one for worker in workers for one in worker.claims]
        figures.add("proxy: items done of those pushed", owner.call(GetPool(name="fates")).pool.done, wanted=items)
        figures.add("proxy: items held, or done, by two", held_by_two(claims), wanted=0)
        results = {one.item_id: one.lease_id for one in claims if one.accepted}
        wrong = 0
        cursor = None
        while True:
            page = owner.call(ListItems(pool="fates", cursor=cursor))
            wrong += sum(one.result != results.get(one.id, one.result) for one in page.items)
            cursor = page.cursor
            if cursor is None:
                break
        figures.add("proxy: results that are not those acknowledged", wrong, wanted=0)
    place.kept(figures, "proxy", [one for writer in writers for one in writer.acked])


async def unheard(place: Place, figures: common.Figures, *, quick: bool) -> None:
    """Cut connections after the hub has committed and before its answer arrives; ask again what was asked."""
    times = 2 if quick else 20
    wrong: dict[str, int] = dict.fromkeys(("store", "push", "claim", "complete"), 0)
    heard = 0
    with Proxy(place.address) as proxy, contextlib.closing(place.owner()) as owner:
        token = place.token()

        async def in_vain(request: object) -> None:
            """Ask and hear nothing, though the hub has done it."""
            nonlocal heard
            caller = await AsyncCaller.connect(proxy.url, token=token)
            proxy.swallow()
            try:
                await caller.call(request)  # type: ignore[arg-type, var-annotated]
                heard += 1
            except AWAY:
                pass
            await caller.close()

        caller = await AsyncCaller.connect(proxy.url, token=token)
        for number in range(times):
            episode = EpisodeDraft(id=new_id(), task="heard once", input=number)
            store = StoreEpisodes(episodes=[episode])
            await in_vain(store)
            there = place.stored().count(episode.id)
            wrong["store"] += not (await caller.call(store)).results[0].ok or there != 1
            wrong["store"] += place.stored().count(episode.id) != 1
            pool = f"unheard-{number}"
            push = PushItems(pool=pool, items=[ItemDraft(id=f"unheard-item-{number}", data=number)])
            await in_vain(push)
            wrong["push"] += not (await caller.call(push)).results[0].ok
            wrong["push"] += owner.call(GetPool(name=pool)).pool.pending != 1
            claim = ClaimItems(pool=pool, worker_id="deaf", lease_id=f"{number:032x}")
            await in_vain(claim)
            await caller.call(ReleaseWorker(worker_id="deaf", lease_id=claim.lease_id))
            got = (await caller.call(claim)).items
            wrong["claim"] += len(got) != 1 or got[0].attempts != 1
            if not got:
                continue
            complete = CompleteItems(completions=[Completion(id=got[0].id, lease_id=f"{number:032x}", result=1)])
            await in_vain(complete)
            wrong["complete"] += not (await caller.call(complete)).results[0].ok
            wrong["complete"] += owner.call(GetPool(name=pool)).pool.done != 1
        await caller.close()
        figures.add("proxy: answers cut off after the commit", proxy.swallowed - heard, wanted=4 * times)
    for what, count in wrong.items():
        figures.add(f"proxy: {what} unheard and asked again: not as if asked once", count, wanted=0)


# -- slow readers --------------------------------------------------------------------------------------------------


class Good:
    """Somebody who asks at a fixed rate meanwhile."""

    def __init__(self, url: str, token: str) -> None:
        self.took_ms: list[float] = []
        self.failed = 0
        self._url, self._token = url, token
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        caller = await AsyncCaller.connect(self._url, token=self._token)
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                # No episodes: whoever embeds them needs the cores, and the memory, for that.
                await caller.call(PushItems(pool="good", items=[ItemDraft(id=new_id(), data="x" * 100)]))
                await caller.call(GetPool(name="good"))
            except AWAY:
                self.failed += 1
            self.took_ms.append((time.monotonic() - begun) * 1000)
            await asyncio.sleep(0.05)
        await caller.close()

    async def end(self) -> float:
        """Stop; return the 99th percentile of what it took (ms)."""
        self._over.set()
        await self._task
        took = sorted(self.took_ms)
        return took[min(len(took) - 1, int(len(took) * 0.99))]


async def slow(place: Place, figures: common.Figures, *, quick: bool) -> None:  # noqa: PLR0915  one after another
    """Have listeners, askers and an agent read a kilobyte a second."""
    listeners, askers, rounds = (2, 2, 9) if quick else (10, 10, 30)
    assert place.hub.process is not None
    pid, token = place.hub.process.pid, place.token()
    place.token("slow-agent")
    before = vitals.look(pid)
    watch = vitals.Watch(pid)
    watch.start()
    with Proxy(place.address) as proxy:
        proxy.fate = lambda _number: Fate(down_bytes_s=SLOW_BYTES_S)
        heard: list[Event] = []
        deaf = [await AsyncCaller.connect(proxy.url, token=token, on_notice=heard.append) for _ in range(listeners)]
        for one in deaf:
            await one.call(Subscribe(), timeout_s=20)
        spawned = None
        if not quick:
            spawned = await EphemeralAgent.spawn(
                TENANT, 300, proxy.url, agent_id="slow-agent", token_file=place.folder / "slow-agent.token",
                home=place.folder / "slow-home", sync_interval=1, pull_limit=0,
            )  # fmt: skip
        good = Good(place.hub.url, token)
        noisy = await AsyncCaller.connect(place.hub.url, token=place.token("noisy"), agent_id="noisy")
        await noisy.call(RegisterAgent(id="noisy", type="t", lifetime_ms=300_000, host="here", pid=1))
        ids = []
        for number in range(rounds):
            drafts = [NoteDraft(id=new_id(), kind="step", text="news", data="x" * 16_000) for _ in range(30)]
            await noisy.call(AddNotes(notes=drafts))
            if spawned is not None and number < 20:
                ids.append((await spawned.store_episode("a slow one learned", input=number)).id)
            await asyncio.sleep(0.05)
        asking = [await AsyncCaller.connect(proxy.url, token=token) for _ in range(askers)]
        questions = [
            asyncio.ensure_future(one.call(ListEvents(kinds=["agent_note"], limit=1000), timeout_s=60))
            for one in asking
            for _ in range(3 if quick else 50)
        ]
        await asyncio.sleep(1.5 if quick else 15)
        p99 = await good.end()
        asked = f"{len(good.took_ms)}, {good.failed}"
        figures.add(f"slow: others meanwhile at {SLOW_BYTES_S} B/s: asked, failed", asked, wanted="some, 0",
                    ok=good.failed == 0 and len(good.took_ms) > 5)  # fmt: skip
        most_ms = QUICK_P99_MS if quick else GOOD_P99_MS
        figures.add("slow: their p99 (ms)", round(p99, 1), wanted=f"<= {most_ms}", ok=p99 <= most_ms)
        if spawned is not None:
            ending = await spawned.destroy()
            there = set(place.stored())
            lost = len(set(ids) - there)
            figures.add("slow: the agent's episodes that did not arrive, and that it says so of",
                        f"{lost}, {ending.undelivered}", wanted="as many", ok=lost <= ending.undelivered)  # fmt: skip
        for question in questions:
            question.cancel()
        await asyncio.gather(*questions, return_exceptions=True)
        let_go = proxy.made - proxy.open - (spawned is not None)
        figures.add("slow: listeners that fell behind, and were let go", let_go, wanted=f"{listeners} or more",
                    ok=let_go >= listeners)  # fmt: skip
        await noisy.close()
    for one in (*deaf, *asking):
        await one.close()
    await _until(lambda: quick or vitals.look(pid).sockets <= before.sockets + 1, 10)
    watch.stop()
    peak = max(one.rss_mb for one in watch.samples) - before.rss_mb
    figures.add("slow: what the hub took more, at most (MB)", f"{peak:.0f}", wanted=f"<= {PEAK_MB}", ok=peak <= PEAK_MB)
    if not quick:
        after = vitals.look(pid).sockets
        figures.add("slow: connections before, after", f"{before.sockets}, {after}", ok=after <= before.sockets + 1)


# -- a partition ----------------------------------------------------------------------------------------------------


async def partition(place: Place, figures: common.Figures) -> None:
    """Let nothing pass for a while, then for good: an agent's episodes arrive, or are said not to have."""
    place.token("cut-off")
    undelivered = place.folder / "cut-off.jsonl"
    with Proxy(place.address) as proxy:
        agent = await EphemeralAgent.spawn(
            TENANT, 300, proxy.url, agent_id="cut-off", token_file=place.folder / "cut-off.token",
            home=place.folder / "cut-off-home", sync_interval=0.2, pull_limit=0, undelivered=undelivered,
        )  # fmt: skip

        async def learn(count: int) -> set[str]:
            return {(await agent.store_episode("cut off", input=number)).id for number in range(count)}

        proxy.hold()
        meanwhile = await learn(20)
        await asyncio.sleep(1.5)
        early = len(meanwhile & set(place.stored()))
        proxy.flow()
        await _until(lambda: meanwhile <= set(place.stored()), 60)
        figures.add("partition: arrived while nothing passed", early, wanted=0)
        figures.add("partition: not arrived once all passed again", len(meanwhile - set(place.stored())), wanted=0)
        await asyncio.sleep(0.5)
        proxy.hold()
        lost = await learn(20)
        ending = await agent.destroy()
        there = place.stored()
        figures.add("partition: not arrived, cut off for good", len(lost - set(there)), wanted=20)
        said = f"{ending.undelivered}, {ending.exit}"
        figures.add("partition: said to be undelivered; exit code", said, wanted="20, 7")
        kept = undelivered.read_text().count("\n") if undelivered.exists() else 0
        figures.add("partition: kept in a file", kept, wanted=20)
        figures.add("partition: there twice", len(there) - len(set(there)), wanted=0)


# -- peers that vanish ---------------------------------------------------------------------------------------------


class Limits(NamedTuple):
    """Within what it is noticed that a peer is gone, an agent is called dead after that, and a lease ends (s).

    `late_s` is how much later than that is still right: on a machine that is busy with other things, much.
    """

    noticed_s: float
    grace_s: float
    lease_s: float
    late_s: float
    send_s: float
    """How long a client that sends much waits for an answer each time."""


async def half_open(place: Place, figures: common.Figures, limits: Limits) -> None:  # noqa: PLR0915  one thing after another
    """Have peers vanish without a word: one that waits for an item, one that holds one, one that is an agent."""
    noticed_s, lease_s, late_s = limits.noticed_s + limits.late_s, limits.lease_s, limits.late_s
    dead_s = noticed_s + limits.grace_s
    token = place.token()
    place.token("ghost-agent")
    pushed = 0
    with Proxy(place.address) as proxy, contextlib.closing(place.owner()) as owner:

        def push() -> str:
            nonlocal pushed
            pushed += 1
            owner.call(PushItems(pool="ghosts", items=[ItemDraft(id=f"ghost-{pushed}", data=pushed)]))
            return f"ghost-{pushed}"

        ghost = await EphemeralAgent.spawn(
            TENANT, 300, proxy.url, agent_id="ghost-agent", token_file=place.folder / "ghost-agent.token",
            home=place.folder / "ghost-home", sync_interval=0.5, pull_limit=0,
        )  # fmt: skip
        held = push()
        dice = random.Random(1)
        holder = Worker("holder", proxy.url, token, dice, lease_s=lease_s)
        await holder.claim("ghosts", count=1)
        waiter = await AsyncCaller.connect(proxy.url, token=token)
        waiting = asyncio.ensure_future(
            waiter.call(
                ClaimItems(pool="ghosts", worker_id="waiter", lease_ms=round(lease_s * 1000), wait_ms=600_000),
                timeout_s=600,
            )
        )
        blocked = _Blocking(proxy.url, token, limits.send_s)
        await asyncio.to_thread(blocked.ready.wait, 20)
        await asyncio.sleep(0.3)
        proxy.fate = lambda _number: Fate(stall_up_bytes=0)
        proxy.forget()
        vanished = time.monotonic()
        handed = push()  # to whoever waits, of whom nobody knows yet that it is gone
        await asyncio.sleep(0.3)
        other = Worker("other", place.hub.url, token, dice, lease_s=60.0)
        early = await other.claim("ghosts")
        figures.add("halfopen: claimed by another at once", len(early), wanted=0)
        back: dict[str, float] = {}
        while len(back) < 2 and time.monotonic() < vanished + lease_s + late_s + 10:
            for one in await other.claim("ghosts", wait_ms=2000):
                back[one.item_id] = time.monotonic() - vanished
        soon = lease_s - 1.0
        for what, item_id in (("held", held), ("handed over while nobody knew", handed)):
            came = back.get(item_id)
            figures.add(f"halfopen: an item {what} came back after (s)", None if came is None else f"{came:.1f}",
                        wanted=f"{soon:g} to {lease_s + late_s:g}",
                        ok=came is not None and soon <= came <= lease_s + late_s)  # fmt: skip
        figures.add("halfopen: items in two hands", held_by_two([*holder.claims, *other.claims]), wanted=0)
        limit = vanished + noticed_s
        async with asyncio.timeout(max(1.0, limit - time.monotonic()) + 5):
            await waiter.closed.wait()
        figures.add("halfopen: a client that waits notices after (s)", f"{time.monotonic() - vanished:.1f}",
                    wanted=f"<= {noticed_s:g}", ok=time.monotonic() <= limit)  # fmt: skip
        await asyncio.to_thread(blocked.thread.join, noticed_s)
        at_s = blocked.noticed_s
        passed = None if at_s is None else f"{at_s - vanished:.1f}"
        figures.add("halfopen: a client that blocks notices after (s)", passed,
                    wanted=f"<= {noticed_s:g}", ok=at_s is not None and at_s <= limit)  # fmt: skip
        await asyncio.to_thread(blocked.sender.join, 30 + late_s)
        took_s = "for ever" if blocked.sender.is_alive() else f"{max(blocked.sends_s, default=0.0):.1f}"
        sent_well = not blocked.sender.is_alive() and max(blocked.sends_s, default=99.0) <= limits.send_s + late_s
        what = f"halfopen: sending much to whoever reads nothing, --timeout {limits.send_s:g}s, took at most (s)"
        figures.add(what, took_s, wanted=f"<= {limits.send_s + late_s:g}", ok=sent_well)
        await _until(lambda: owner.call(GetAgent(id="ghost-agent")).agent.status == "dead", dead_s)
        died = time.monotonic() - vanished
        figures.add("halfopen: an agent that vanished is called dead after (s)", f"{died:.1f}",
                    wanted=f"<= {dead_s:g}", ok=died <= dead_s)  # fmt: skip
        push()
        figures.add("halfopen: afterwards an item is whose who asks", len(await other.claim("ghosts")), wanted=1)
        # It finds its hub again, and enters anew.
        kept = (await ghost.store_episode("a ghost learned", input=1)).id
        proxy.fate = lambda _number: PLAIN
        proxy.cut_all()
        await _until(lambda: kept in place.stored(), 15)
        figures.add("halfopen: what the agent stored arrives when it is back", kept in place.stored(), wanted=True)
        status = owner.call(GetAgent(id="ghost-agent")).agent.status
        figures.add("halfopen: and it is in the registry as", status, wanted="not dead", ok=status != "dead")
        await ghost.destroy()
        await asyncio.gather(waiting, return_exceptions=True)
        await other.close()
        await holder.close()
        await waiter.close()


class _Blocking:
    """What commands do, each on a thread: one waits for what does not come, one sends more than anybody reads."""

    def __init__(self, url: str, token: str, send_s: float) -> None:
        self.noticed_s: float | None = None
        self.sends_s: list[float] = []
        self.ready = threading.Event()
        self._url, self._token, self._send_s = url, token, send_s
        self.thread, self.sender = (
            threading.Thread(target=one, daemon=True) for one in (self._wait, self._send)
        )  # fmt: skip
        self.thread.start()

    def _wait(self) -> None:
        caller = RemoteCaller(self._url, token=self._token)
        self._much = RemoteCaller(self._url, token=self._token, timeout_ms=round(self._send_s * 1000))
        self.sender.start()
        with contextlib.suppress(*AWAY):
            caller.call(WaitFor(pools=["ghosts"], wait_ms=600_000))
        self.noticed_s = time.monotonic()
        with contextlib.suppress(*AWAY):
            caller.close()

    def _send(self) -> None:
        drafts = [EpisodeDraft(id=new_id(), task="much", input="x" * LARGE) for _ in range(4)]
        self.ready.set()
        time.sleep(0.6)  # until it has vanished
        for _ in range(6):
            begun = time.monotonic()
            try:
                self._much.call(StoreEpisodes(episodes=drafts))
            except Unavailable:
                break
            except Timeout:
                self.sends_s.append(time.monotonic() - begun)
        with contextlib.suppress(*AWAY):
            self._much.close()


async def _until(condition: object, within_s: float) -> None:
    """Wait until something is so; whoever measures it sees whether it was."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if await asyncio.to_thread(condition):  # type: ignore[arg-type]
            return
        await asyncio.sleep(PAUSE_S)
