"""What a hub does for how many, how fast, and what it takes: latencies, durable acks a second, memory.

    python scripts/bench_hub.py [--quick] [--json] [--only latency,acks,paced,fair,memory] [--beside TREE]

Hub and load share the machine: one process each. Beside the hub runs a prototype (below: websockets, msgspec, apsw
with the same durability, FTS5, group commit, and nothing else), asked the same in the same minute: the ratio is what
fedctl's layers cost. Load comes from the library's own `AsyncCaller`, or (lean) from frames prepared beforehand, as
it does for the prototype. "no inference": the store is another model's, so that the hub embeds nothing meanwhile.
Notices go to whoever subscribed, as agents do: where that is the case it is said.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
import bench_common as common

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

CLIENTS = 50
RATE = 500
LOST_CALL_S = 30.0


def main() -> None:
    """Measure and print."""
    made = common.parser(str(__doc__))
    made.add_argument("--load", help=argparse.SUPPRESS)  # this program as a process that asks
    made.add_argument("--prototype", help=argparse.SUPPRESS)  # this program as the prototype
    made.add_argument("--home", help=argparse.SUPPRESS)  # this program as one that makes a home
    made.add_argument("--beside", type=Path, metavar="TREE", help="in the part `fair`: another checkout to hold beside")
    made.add_argument("--episodes", type=int, help="in the store of the paced part (default 200000; quick: 10000)")
    args = made.parse_args()
    if args.load:
        print(json.dumps(asyncio.run(LOADS[json.loads(args.load)["what"]](json.loads(args.load)))))
        return
    if args.home:
        new_home(Path(args.home), inference=False, episodes=args.episodes)
        return
    if args.prototype:
        asyncio.run(prototype(Path(args.prototype)))
        return
    raise_descriptors()
    with common.scratch(args) as folder:
        report = common.Report("hub", args, folder)
        parts = {"latency": latencies, "acks": acks, "paced": paced, "fair": fair, "memory": memory}
        for part, work in parts.items():
            if common.wanted(args, part):
                (folder / part).mkdir()
                work(args, folder / part, report)
        report.end()


# -- the parts -----------------------------------------------------------------------------------------------------


def latencies(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Connect, auth, push, pull, query, with 5, 100 and 1,000 agents connected and subscribed."""
    rows: list[dict[str, Any]] = []
    for agents in (5, 100, 1000):
        # A thousand agents that are told of each push share the machine with the hub: fewer repeats say the same.
        repeats = 20 if args.quick or agents > 100 else 60
        for inference in (False, True) if agents <= 100 else (False,):
            home = new_home(folder / f"{agents}-{inference}", inference=inference, episodes=300)
            with common.hub(home, "--max-agents", str(agents + 100)) as hub:
                token = issue(hub)
                asked = load(what="latency", url=hub.url, token=token, agents=agents, repeats=repeats, live=True)
                alone = load(what="latency", url=hub.url, token=token, agents=agents, repeats=repeats, live=False)
            title = f"{agents:,} agents, {'inference meanwhile' if inference else 'no inference'}"
            rows += [
                {"agents": title, "asked": name, "p50_ms": percent(values, 0.5), "p99_ms": percent(values, 0.99),
                 "unsubscribed_p50_ms": percent(alone[name], 0.5), "unsubscribed_p99_ms": percent(alone[name], 0.99)}
                for name, values in asked.items()
            ]  # fmt: skip
    with running_prototype(folder / "prototype") as (url, _):
        asked = load(what="prototype_latency", url=url, agents=5, repeats=repeats)
    rows += [
        {"agents": "prototype, 5 connections", "asked": name, "p50_ms": percent(v, 0.5), "p99_ms": percent(v, 0.99)}
        for name, v in asked.items()
    ]
    report.table("Latency, 20 to 60 calls each, one at a time, all agents subscribed (unsubscribed: none is)", rows)


def acks(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Durable acks a second from 50 clients that each wait for one answer before they ask again."""
    seconds, rounds = (1.0, 2) if args.quick else (5.0, 5)
    rows = []
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(common.hub(new_home(folder / "plain", inference=False)))
        embedding = stack.enter_context(common.hub(new_home(folder / "embedding", inference=True)))
        url, pid = stack.enter_context(running_prototype(folder / "prototype"))
        for batch in (1, 10) if args.quick else (1, 10, 100):
            common_spec = {"what": "acks", "batch": batch, "seconds": seconds, "clients": CLIENTS}
            ours = common_spec | {"url": hub.url, "pid": hub.pid, "token": issue(hub)}
            specs = {
                "prototype": common_spec | {"url": url, "pid": pid, "lean": True, "prototype": True},
                "fedctl, lean client": ours | {"lean": True},
                "fedctl, AsyncCaller": ours,
                "fedctl, AsyncCaller, Unix socket": common_spec | {"url": hub.socket, "pid": hub.pid},
            }
            if batch == 1:
                specs["fedctl, AsyncCaller, all subscribed"] = specs["fedctl, AsyncCaller"] | {"live": True}
            found: dict[str, list[dict[str, float]]] = {name: [] for name in specs}
            for _ in range(rounds):
                for name, spec in specs.items():
                    found[name].append(load(**spec))
            # Last, for its backlog goes on embedding when the load is over.
            name = "fedctl, AsyncCaller, inference meanwhile"
            spec = specs["fedctl, AsyncCaller"]
            found[name] = [load(**spec | {"url": embedding.url, "pid": embedding.pid, "token": issue(embedding)})]
            best = statistics.median(one["acks_per_s"] for one in found["prototype"])
            for name, runs in found.items():
                row = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
                rows.append({"batch": batch, "who": name} | row | {"x prototype": row["acks_per_s"] / best})
            drain(embedding)
    report.table(f"Durable acks from {CLIENTS} clients, median of {rounds} interleaved runs of {seconds:g} s", rows)


def paced(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Latency at 500 episodes a second, measured from when each was due, over a store that is not empty."""
    episodes = args.episodes or (10_000 if args.quick else 200_000)
    seconds, rounds = (4.0, 2) if args.quick else (15.0, 3)
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(common.hub(new_home(folder / "plain", inference=False, episodes=episodes)))
        url, pid = stack.enter_context(running_prototype(folder / "prototype", episodes=episodes))
        embedding = stack.enter_context(common.hub(new_home(folder / "embedding", inference=True)))
        common_spec = {"what": "paced", "clients": CLIENTS, "rate": RATE, "seconds": seconds}
        ours = {"url": hub.url, "pid": hub.pid, "token": issue(hub)}
        specs = {
            "prototype": common_spec | {"url": url, "pid": pid, "lean": True, "prototype": True},
            "fedctl, lean client": common_spec | ours | {"lean": True},
            "fedctl, AsyncCaller": common_spec | ours,
            "fedctl, AsyncCaller, all subscribed": common_spec | ours | {"live": True},
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in specs}
        for _ in range(rounds):
            for name, spec in specs.items():
                found[name].append(load(**spec))
        name = "fedctl, AsyncCaller, inference meanwhile (empty store)"
        spec = common_spec | {"url": embedding.url, "pid": embedding.pid, "token": issue(embedding)}
        found[name] = [load(**spec)]
    rows = [
        {"who": name} | {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for name, runs in found.items()
    ]
    title = f"{RATE} episodes a second, one a call, {CLIENTS} clients, over {episodes:,} episodes"
    report.table(f"{title}; {rounds} runs of {seconds:g} s", rows)


def fair(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """One tenant's latency, alone and beside another tenant that asks as much as 50 connections can.

    The machine is shared too: "elsewhere" is the same flood at another hub on it, which costs the victim what two
    busy processes on the same cores cost, and nothing else.
    """
    seconds, rounds = (2.0, 1) if args.quick else (8.0, 5)
    floods: dict[str, dict[str, Any]] = {
        "stores, 1 episode a call": {"what": "acks", "batch": 1},
        "stores, 100 episodes a call": {"what": "acks", "batch": 100},
        "stores, 100 a call, 64 calls ahead": {"what": "ahead", "batch": 100, "ahead": 64},
        "queries by words": {"what": "reads"},
    }
    trees = {"fedctl": None} | ({"fedctl of --beside": args.beside} if args.beside else {})
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        away = stack.enter_context(common.hub(new_home(folder / "away", inference=False, episodes=2000)))
        for title, tree in trees.items():
            home = folder / title.replace(" ", "-")
            # By a process of the checkout's own: stores of different versions differ.
            subprocess.run(
                [sys.executable, __file__, "--home", str(home), "--episodes", "2000"],
                env=os.environ | ({} if tree is None else {"PYTHONPATH": str(tree)}), check=True,
            )  # fmt: skip
            hub = stack.enter_context(common.hub(home, tree=tree))
            victim = {"url": hub.url, "pid": hub.pid, "token": issue(hub), "clients": 5, "rate": 50, "seconds": seconds}
            for asked in ("paced", "paced_reads") if tree is None else ("paced",):
                found: dict[str, list[dict[str, float]]] = {}
                for _ in range(rounds):
                    found.setdefault("nothing", []).append(load(**victim | {"what": asked}))
                    for name, flood in floods.items():
                        if tree is not None and "ahead" in flood:
                            continue  # a hub that reads whatever comes answers the victim in minutes
                        for where, at in (("", hub), (", elsewhere", away))[: 1 if tree else 2]:
                            spec = flood | {"url": at.url, "pid": at.pid, "token": issue(at, "flooder")}
                            with flooding(**spec | {"clients": CLIENTS, "lean": True}):
                                found.setdefault(name + where, []).append(load(**victim | {"what": asked}))
                alone = statistics.median(one["p99_ms"] for one in found["nothing"])
                for name, runs in found.items():
                    row = {key: statistics.median(one[key] for one in runs) for key in ("p50_ms", "p99_ms", "max_ms")}
                    which = {"hub": title, "victim": "stores" if asked == "paced" else "queries", "beside": name}
                    rows.append(which | row | {"x p99 alone": row["p99_ms"] / alone})
    report.table(f"A tenant that asks 50 times a second, beside another's flood; {rounds} runs of {seconds:g} s", rows)


def memory(args: argparse.Namespace, folder: Path, report: common.Report) -> None:
    """Resident memory: of a hub before and after its model loads, of an idle connection, of an agent."""
    idle = 500 if args.quick else 5000
    rows: list[dict[str, Any]] = []
    # A store that never held anything: the first episode makes a hub load its model.
    with common.hub(new_home(folder / "plain", inference=True), "--max-agents", str(idle + 100)) as hub:
        with idling(url=hub.url, token=issue(hub), agents=20):
            drain(hub)  # a few questions: its threads and their connections have all worked
        before = common.rss_mb(hub.pid)
        rows.append({"what": "hub, before the model loads", "mb": before})
        with idling(url=hub.url, token=issue(hub), agents=idle):
            per = (common.rss_mb(hub.pid) - before) * 1024 / idle
            rows.append({"what": f"a connection, idle (mean of {idle:,})", "mb": per / 1024, "kb": per})
    home = new_home(folder / "embedding", inference=True, episodes=100)
    with common.hub(home) as hub:
        drain(hub)
        rows.append({"what": "hub, model loaded, 100 episodes embedded", "mb": common.rss_mb(hub.pid)})
        with agent(home) as pid:
            rows.append({"what": "agent without CMD, 100 episodes pulled", "mb": common.rss_mb(pid)})
    with running_prototype(folder / "prototype") as (url, pid):
        load(what="acks", url=url, pid=pid, lean=True, prototype=True, batch=1, seconds=0.5, clients=5)
        rows.append({"what": "prototype", "mb": common.rss_mb(pid)})
    report.table("Resident memory", rows)


def raise_descriptors() -> None:
    """Let this process and its children hold as many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# -- what they need ------------------------------------------------------------------------------------------------


def new_home(home: Path, *, inference: bool, episodes: int = 0) -> Path:
    """Return a home with some episodes."""
    from fedctl.messages.memory import StoreEpisodes
    from fedctl.model.principal import Principal
    from fedctl.operations.table import run

    context = common.open_home(home)
    if not inference:
        common.without_inference(context)
    texts = common.Texts()
    owner = Principal(tenant_id="default", role="owner")
    for begin in range(0, episodes, 1000):
        run(context, owner, StoreEpisodes(episodes=texts.drafts(min(1000, episodes - begin))))
    context.store.checkpoint(truncate=True)
    context.close()
    return home


def issue(hub: common.RunningHub, tenant: str = "default") -> str:
    """Return a token for a tenant, of whichever agent its bearer says."""
    from fedctl.client.remote import RemoteCaller
    from fedctl.messages.token import IssueToken

    caller = RemoteCaller(hub.socket)
    try:
        return str(caller.call(IssueToken(tenant_id=tenant, agent_id=None, role="agent", ttl_ms=3_600_000)).token)
    finally:
        caller.close()


def drain(hub: common.RunningHub, at_most_s: float = 20.0) -> None:
    """Wait until a hub has embedded what it has, or long enough."""
    from fedctl.client.remote import RemoteCaller
    from fedctl.messages.memory import MemoryStats

    caller = RemoteCaller(hub.socket)
    deadline = time.monotonic() + at_most_s
    while caller.call(MemoryStats()).pending_embeddings and time.monotonic() < deadline:
        time.sleep(0.2)
    caller.close()


def load(**spec: Any) -> Any:
    """Run a load in a process of its own and return what it measured."""
    ran = subprocess.run([sys.executable, __file__, "--load", json.dumps(spec)], stdout=subprocess.PIPE, check=True)
    return json.loads(ran.stdout)


@contextlib.contextmanager
def flooding(**spec: Any) -> Iterator[None]:
    """Have another process ask as much as it can."""
    command = [sys.executable, __file__, "--load", json.dumps(spec | {"seconds": 1e6, "says": True})]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == b"here\n", "the flood did not begin"
        yield
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@contextlib.contextmanager
def idling(**spec: Any) -> Iterator[None]:
    """Hold idle connections open in another process."""
    command = [sys.executable, __file__, "--load", json.dumps(spec | {"what": "idle"})]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        process.stderr.readline()
        time.sleep(1.0)
        yield
    finally:
        process.communicate(b"\n")


@contextlib.contextmanager
def agent(home: Path) -> Iterator[int]:
    """Run an agent of the hub on a home, for as long as it takes to look at it."""
    command = [*common.fedctl_command(), "agent", "spawn", "--lifetime", "60s"]
    process = subprocess.Popen(
        command, env=common.plain_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(3.0)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def percent(values: list[float], share: float) -> float:
    """Return a percentile in ms, of seconds."""
    return common.percentile(values, share) * 1000


# -- load: each is one process --------------------------------------------------------------------------------------


async def load_latency(spec: dict[str, Any]) -> dict[str, list[float]]:
    """Ask one thing at a time, by agents in turn; return the seconds that each took."""
    from fedctl.client.link import AsyncCaller, open_wire
    from fedctl.messages import memory as m
    from fedctl.messages.hub import Subscribe
    from fedctl.wire.session import ClientSession

    callers = []
    for number in range(spec["agents"]):
        callers.append(await AsyncCaller.connect(spec["url"], token=spec["token"], agent_id=f"agent-{number}"))
        if spec["live"]:
            await callers[-1].call(Subscribe(kinds=["episode_stored"]))
    texts = common.Texts(seed=os.getpid())
    took: dict[str, list[float]] = {}

    async def timed(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        began = time.perf_counter()
        answer = await work()
        took.setdefault(name, []).append(time.perf_counter() - began)
        return answer

    for number in range(spec["repeats"]):
        caller = callers[number % len(callers)]
        began = time.perf_counter()
        wire = await timed("connect", lambda: open_wire(spec["url"]))
        session = ClientSession()

        async def authenticate(wire: Any = wire, session: ClientSession = session) -> None:
            await wire.send(session.hello(token=spec["token"]))
            session.receive(await wire.receive())

        await timed("auth", authenticate)
        took.setdefault("connect + auth", []).append(time.perf_counter() - began)
        await wire.close()
        one, hundred = texts.drafts(1), texts.drafts(100)
        await timed("push 1", lambda: caller.call(m.StoreEpisodes(episodes=one)))  # noqa: B023  awaited here
        await timed("push 100", lambda: caller.call(m.StoreEpisodes(episodes=hundred)))  # noqa: B023
        await asyncio.sleep(0.05)  # the notices of 100 episodes are not part of the pull
        await timed("pull 100", lambda: caller.call(m.PullEpisodes(limit=100)))  # noqa: B023
        question = texts.question()
        await timed("query by words", lambda: caller.call(m.QueryEpisodes(text=question, mode="keyword")))  # noqa: B023
        await timed("query", lambda: caller.call(m.QueryEpisodes(text=question)))  # noqa: B023
    await asyncio.gather(*(caller.close() for caller in callers))
    return took


async def load_prototype_latency(spec: dict[str, Any]) -> dict[str, list[float]]:
    """Ask the prototype the same."""
    from websockets.asyncio.client import connect

    texts = common.Texts(seed=os.getpid())
    took: dict[str, list[float]] = {}
    others = [await connect(spec["url"], compression=None, proxy=None) for _ in range(spec["agents"])]
    for number in range(spec["repeats"]):
        socket = others[number % len(others)]
        began = time.perf_counter()
        fresh = await connect(spec["url"], compression=None, proxy=None)
        took.setdefault("connect", []).append(time.perf_counter() - began)
        await fresh.close()
        requests = {
            "push 1": {"op": "push", "episodes": texts.drafts(1)},
            "push 100": {"op": "push", "episodes": texts.drafts(100)},
            "pull 100": {"op": "pull", "episodes": []},
            "query by words": {"op": "query", "text": texts.question(), "episodes": []},
        }
        for name, request in requests.items():
            began = time.perf_counter()
            await socket.send(msgspec.json.encode({"id": number} | request), text=True)
            msgspec.json.decode(await socket.recv(decode=False))
            took.setdefault(name, []).append(time.perf_counter() - began)
    for socket in others:
        await socket.close()
    return took


class Client:
    """One of many that push: `push(count)` returns when they are acked."""

    def __init__(self, push: Callable[[int], Awaitable[None]], close: Callable[[], Awaitable[None]]) -> None:
        """Keep both."""
        self.push = push
        self.close = close


async def clients(spec: dict[str, Any]) -> AsyncIterator[Client]:
    """Connect those that a load needs."""
    texts = common.Texts(seed=1)
    drafts = texts.drafts(1000)
    for number in range(spec["clients"]):
        make = _lean_client if spec.get("lean") else _caller_client
        yield await make(spec, drafts[number:] + drafts[:number], f"{os.getpid()}-{number}")


async def _caller_client(spec: dict[str, Any], drafts: list[Any], name: str) -> Client:
    from fedctl.client.link import AsyncCaller
    from fedctl.clock import Clock
    from fedctl.messages.hub import Subscribe
    from fedctl.messages.memory import QueryEpisodes, StoreEpisodes

    new_id = Clock().new_id
    questions = common.Texts(seed=3) if spec.get("reads") else None
    caller = await AsyncCaller.connect(spec["url"], token=spec.get("token"), agent_id=f"agent-{name}")
    if spec.get("live"):
        await caller.call(Subscribe(kinds=["episode_stored"]))
    made = 0

    async def push(count: int) -> None:
        nonlocal made
        if spec.get("reads"):
            await caller.call(QueryEpisodes(text=questions.question(), mode="keyword"))
            return
        batch = []
        for _ in range(count):
            made += 1
            batch.append(msgspec.structs.replace(drafts[made % len(drafts)], id=new_id()))
        answer = await caller.call(StoreEpisodes(episodes=batch))
        assert all(one.ok and not one.existing for one in answer.results)

    return Client(push, caller.close)


async def _lean_client(spec: dict[str, Any], drafts: list[Any], name: str) -> Client:
    from websockets.asyncio.client import connect

    from fedctl.clock import Clock
    from fedctl.wire.session import ClientSession

    new_id = Clock().new_id
    socket = await connect(spec["url"], compression=None, proxy=None)
    if not spec.get("prototype"):
        await socket.send(ClientSession().hello(token=spec["token"], agent_id=f"agent-{name}"), text=True)
        assert b"welcome" in await socket.recv(decode=False)
    op = b'"op":"push","episodes":['
    head, tail = b'{"id":%d,' + op, b"]}"
    if not spec.get("prototype"):
        head, tail = b'{"frame":"call","id":%d,"request":{"op":"memory.store","episodes":[', b"]}}"
    # What an episode is but for its id is encoded once; the id goes where "@" was.
    bodies = [
        msgspec.json.encode(msgspec.structs.replace(draft, id="@")).replace(b"%", b"").replace(b'"@"', b'"%s"')
        for draft in drafts
    ]
    made = 0

    async def push(count: int) -> None:
        nonlocal made
        parts = []
        for _ in range(count):
            made += 1
            parts.append(bodies[made % len(bodies)] % new_id().encode())
        await socket.send(head % made + b",".join(parts) + tail, text=True)
        if made > count * spec.get("ahead", 0):
            answer = await socket.recv(decode=False)
            assert answer.count(b'"ok":true') == count or spec.get("ahead"), answer[:300]

    return Client(push, socket.close)


async def load_acks(spec: dict[str, Any]) -> dict[str, float]:
    """Push without pause from many clients; return acks a second, latencies, and the server's CPU an ack."""
    everybody = [client async for client in clients(spec)]
    took: list[float] = []
    if spec.get("says"):
        print("here", file=sys.stderr, flush=True)

    async def drive(client: Client, until: float) -> None:
        while (began := time.perf_counter()) < until:
            await client.push(spec["batch"])
            took.append(time.perf_counter() - began)

    began, cpu, own = time.perf_counter(), common.cpu_s(spec["pid"]), time.process_time()
    await asyncio.gather(*(drive(client, began + spec["seconds"]) for client in everybody))
    passed = time.perf_counter() - began
    done = len(took) * spec["batch"]
    figures = {
        "acks_per_s": done / passed,
        "p50_ms": percent(took, 0.5),
        "p99_ms": percent(took, 0.99),
        "server_cpu_us": (common.cpu_s(spec["pid"]) - cpu) / done * 1e6,
        "client_cpu_us": (time.process_time() - own) / done * 1e6,
    }
    await asyncio.gather(*(client.close() for client in everybody))
    return figures


async def load_paced_reads(spec: dict[str, Any]) -> dict[str, float]:
    """Query by words at a rate."""
    return await load_paced(spec | {"reads": True})


async def load_paced(spec: dict[str, Any]) -> dict[str, float]:
    """Push at a rate, whatever the answers do; latency counts from when an episode was due."""
    everybody = [client async for client in clients(spec)]
    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in everybody:
        free.put_nowait(client)
    took: list[float] = []
    late: list[float] = []

    async def push(client: Client, due: float) -> None:
        await client.push(1)
        took.append(time.perf_counter() - due)
        free.put_nowait(client)

    cpu = common.cpu_s(spec["pid"])
    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(spec["rate"] * spec["seconds"])):
            due = began + number / spec["rate"]
            while (left := due - time.perf_counter()) > 0:  # noqa: ASYNC110  a clock is no event
                await asyncio.sleep(left if left > 0.0005 else 0)
            client = await free.get()
            late.append(time.perf_counter() - due)
            tasks.create_task(push(client, due))
    passed = time.perf_counter() - began
    figures = {
        "acks_per_s": len(took) / passed,
        "p50_ms": percent(took, 0.5),
        "p99_ms": percent(took, 0.99),
        "max_ms": max(took) * 1000,
        "load_late_p99_ms": percent(late, 0.99),
        "server_cpu_us": (common.cpu_s(spec["pid"]) - cpu) / len(took) * 1e6,
    }
    await asyncio.gather(*(client.close() for client in everybody))
    return figures


async def load_ahead(spec: dict[str, Any]) -> dict[str, float]:
    """Push from many clients that do not wait for an answer before they ask again, so many calls ahead."""
    acked = 0

    async def drive(client: Client, until: float) -> None:
        nonlocal acked
        while time.perf_counter() < until:
            await client.push(spec["batch"])
            acked += spec["batch"]

    everybody = [client async for client in clients(spec)]
    if spec.get("says"):
        print("here", file=sys.stderr, flush=True)
    until = time.perf_counter() + spec["seconds"]
    await asyncio.gather(*(drive(client, until) for client in everybody))
    await asyncio.gather(*(client.close() for client in everybody))
    return {"acks_per_s": acked / spec["seconds"]}


async def load_reads(spec: dict[str, Any]) -> dict[str, float]:
    """Ask by words without pause from many clients."""
    from fedctl.client.link import AsyncCaller
    from fedctl.messages.memory import QueryEpisodes, StoreEpisodes

    texts = common.Texts(seed=2)
    callers = [await AsyncCaller.connect(spec["url"], token=spec["token"]) for _ in range(spec["clients"])]
    await callers[0].call(StoreEpisodes(episodes=texts.drafts(500)))
    asked = 0
    if spec.get("says"):
        print("here", file=sys.stderr, flush=True)

    async def drive(caller: AsyncCaller, until: float) -> None:
        nonlocal asked
        while time.perf_counter() < until:
            await caller.call(QueryEpisodes(text=texts.question(), mode="keyword"))
            asked += 1

    until = time.perf_counter() + spec["seconds"]
    await asyncio.gather(*(drive(caller, until) for caller in callers))
    await asyncio.gather(*(caller.close() for caller in callers))
    return {"asked_per_s": asked / spec["seconds"]}


async def load_idle(spec: dict[str, Any]) -> None:
    """Connect many agents, say so on stderr, and stay until a line comes on stdin."""
    from fedctl.client.link import AsyncCaller

    callers = [
        await AsyncCaller.connect(spec["url"], token=spec["token"], agent_id=f"idle-{number}")
        for number in range(spec["agents"])
    ]
    print("here", file=sys.stderr, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(caller.close() for caller in callers))


LOADS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "latency": load_latency,
    "prototype_latency": load_prototype_latency,
    "acks": load_acks,
    "paced": load_paced,
    "paced_reads": load_paced_reads,
    "reads": load_reads,
    "ahead": load_ahead,
    "idle": load_idle,
}


# -- the prototype ---------------------------------------------------------------------------------------------------


class Push(msgspec.Struct):
    """What the prototype is asked; `episodes` as fedctl takes them, unchecked."""

    id: int
    op: str
    episodes: list[dict[str, Any]]
    text: str = ""


class Prototype:
    """The least that acks episodes durably and finds their words: no tenants, no access, no idempotency, no log."""

    def __init__(self, path: Path) -> None:
        """Make the table and start the one thread that writes."""
        self.path = path
        db = self.open()
        db.execute("pragma journal_mode=WAL").fetchall()
        db.execute("CREATE TABLE IF NOT EXISTS e (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, task TEXT, body TEXT)")
        db.execute(
            "CREATE VIRTUAL TABLE IF NOT EXISTS w USING fts5 (task, input, output, content = '',"
            " contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        db.execute("INSERT INTO w (w, rank) VALUES ('automerge', 0)")
        db.execute("INSERT INTO w (w, rank) VALUES ('crisismerge', 64)")
        self.jobs: deque[tuple[Any, Push]] = deque()
        self.ready = threading.Condition()

    def open(self) -> Any:
        """Return a connection."""
        import apsw

        db = apsw.Connection(str(self.path))
        for pragma in ("synchronous=FULL", "wal_autocheckpoint=0"):
            db.execute(f"pragma {pragma}").fetchall()
        return db

    def insert(self, db: Any, episodes: list[dict[str, Any]]) -> None:
        """Insert rows and their words."""
        for one in episodes:
            body = msgspec.json.encode(one).decode()
            db.execute("INSERT INTO e (id, task, body) VALUES (?, ?, ?)", (one["id"], one["task"], body))
            words = (db.last_insert_rowid(), one["task"], one["input"], one["output"]["summary"])
            db.execute("INSERT INTO w (rowid, task, input, output) VALUES (?, ?, ?, ?)", words)

    def write(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit whatever waits, together, for ever."""
        db = self.open()
        checkpoint_at = 0.0
        while True:
            with self.ready:
                while not self.jobs:
                    self.ready.wait()
                group = list(self.jobs)
                self.jobs.clear()
            db.execute("BEGIN IMMEDIATE")
            for _, push in group:
                self.insert(db, push.episodes)
            db.execute("COMMIT")
            loop.call_soon_threadsafe(self.answer, group)
            if time.monotonic() > checkpoint_at + 1:
                db.wal_checkpoint()
                checkpoint_at = time.monotonic()

    def answer(self, group: list[tuple[Any, Push]]) -> None:
        """Ack a group."""
        from websockets.asyncio.server import broadcast

        for connection, push in group:
            results = [{"ok": True, "id": one["id"]} for one in push.episodes]
            broadcast([connection], msgspec.json.encode({"id": push.id, "results": results}), text=True)

    async def serve(self, connection: Any) -> None:
        """Read one connection to its end."""
        decode = msgspec.json.Decoder(Push).decode
        db = self.open()
        async for data in connection:
            push = decode(data)
            if push.op == "push":
                with self.ready:
                    self.jobs.append((connection, push))
                    self.ready.notify()
                continue
            sql, given = "SELECT body FROM e ORDER BY seq DESC LIMIT 100", ()
            if push.op == "query":
                sql = "SELECT e.body FROM w JOIN e ON e.seq = w.rowid WHERE w MATCH ? ORDER BY w.rank LIMIT 10"
                given = (" OR ".join(f'"{word}"' for word in push.text.replace('"', "").split()),)
            rows = [msgspec.json.decode(row[0]) for row in db.execute(sql, given)]
            await connection.send(msgspec.json.encode({"id": push.id, "rows": rows}), text=True)


async def prototype(folder: Path) -> None:
    """Serve until killed."""
    from websockets.asyncio.server import serve

    made = Prototype(folder / "prototype.db")
    loop = asyncio.get_running_loop()
    threading.Thread(target=made.write, args=(loop,), daemon=True).start()
    async with serve(made.serve, "127.0.0.1", 0, compression=None, max_size=4 << 20) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


@contextlib.contextmanager
def running_prototype(folder: Path, episodes: int = 0) -> Iterator[tuple[str, int]]:
    """Run the prototype; lend its address and process."""
    folder.mkdir()
    if episodes:
        made = Prototype(folder / "prototype.db")
        db, texts = made.open(), common.Texts()
        for begin in range(0, episodes, 1000):
            db.execute("BEGIN IMMEDIATE")
            made.insert(db, [msgspec.to_builtins(one) for one in texts.drafts(min(1000, episodes - begin))])
            db.execute("COMMIT")
        db.wal_checkpoint()
        db.close()
    process = subprocess.Popen([sys.executable, __file__, "--prototype", str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    main()
