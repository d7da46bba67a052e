"""What a pool of work does a second: push, claim and complete; in-process, through a hub, by command; beside others.

    python scripts/bench_pool.py [--quick] [--json] [--only side,rate,fsync,backlog,command] [--peers-venv DIR]

Beside it in the same minute: one table by apsw with the same durability (WAL, synchronous=FULL), and what else there
is on SQLite (huey, litequeue, persist-queue, flatagents), each in processes of an environment of the bench's own,
which is made where `--peers-venv` says; without it they are left out. All of them are set to synchronous=FULL.

"two" claims and completes in a commit each, "one" completes what it holds and claims the next in one commit. Each
measure is a time, not a count; what is said is the median of interleaved rounds. `twice` counts items that two
workers got, `errors` calls that failed. CPU is that of the workers, and of the hub where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
import bench_common as common

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

POOL = "bench"
DATA = {"repo": "api", "ref": "main", "path": "services/api/src", "step": 17}
RESULT = {"tests": 412, "failed": 0}
PEERS = {  # what pip is told; later releases of flatagents have no pools
    "huey": "huey",
    "litequeue": "litequeue",
    "persist-queue": "persist-queue",
    "flatagents": "flatagents==0.9.*",
}
FILL = 1000


def main() -> None:
    """Measure and print."""
    made = common.parser(str(__doc__))
    made.add_argument("--peers-venv", type=Path, metavar="DIR", help="the environment of the others, made if need be")
    made.add_argument("--load", help="as a process that pushes and claims: for this program itself")
    args = made.parse_args()
    if args.load:
        load(json.loads(args.load))
        return
    with common.scratch(args) as folder:
        report = common.Report("pool", args, folder)
        parts = (
            ("side", side_by_side),
            ("rate", rates),
            ("fsync", fsyncs),
            ("backlog", backlogs),
            ("command", commands),
        )
        goals: list[dict[str, Any]] = []
        args.peers = others(args, report) if any(common.wanted(args, part) for part in ("rate", "fsync")) else {}
        for part, work in parts:
            if common.wanted(args, part):
                (folder / part).mkdir()
                work(args, folder / part, report, goals)
        report.table("Goals", goals)
        report.end()


def goal(goals: list[dict[str, Any]], what: str, found: float, at_most: float | None, at_least: float | None) -> None:
    """Note a goal and what was found."""
    met = found <= at_most if at_most is not None else found >= (at_least or 0)
    said = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
    goals.append({"goal": what, "asked": said, "found": found, "met": "yes" if met else "NO"})


# -- rates -----------------------------------------------------------------------------------------------------------


def rates(args: argparse.Namespace, folder: Path, report: common.Report, goals: list[dict[str, Any]]) -> None:
    """Push, claim and complete with several processes and batches."""
    seconds, rounds = (0.15, 2) if args.quick else (0.3, 3)
    peers: dict[str, str] = args.peers
    rows: list[dict[str, Any]] = []
    for processes in (1, 8) if args.quick else (1, 2, 4, 8):
        for batch in (1, 100) if args.quick else (1, 10, 100):
            kinds = ["fedctl", "hub", "sqlite", *(peers if batch == 1 and not (args.quick and processes > 1) else ())]
            place = folder / f"{processes}-{batch}"
            place.mkdir()
            rows += rate(kinds, peers, place, processes, batch, seconds, rounds)
            shutil.rmtree(place, ignore_errors=True)
    by = {(row["processes"], row["batch"], row["who"], row["what"]): row for row in rows}
    for row in rows:
        bare = by.get((row["processes"], row["batch"], "sqlite", "push" if row["what"] == "push" else "two"))
        row["x sqlite"] = row["items_per_s"] / bare["items_per_s"] if bare and bare["items_per_s"] else None
    for what, title in (
        ("push", "Push"),
        ("two", "Claim and complete, two commits"),
        ("one", "Complete and claim next"),
    ):
        some = [{key: value for key, value in row.items() if key != "what"} for row in rows if row["what"] == what]
        report.table(f"{title}; median of {rounds} interleaved runs of {seconds:g} s (x sqlite: of two commits)", some)
    for what in ("push", "two", "one"):
        row = by[8, 1, "hub", what]
        goal(goals, f"hub, 8 clients, batch 1, {what}: fsyncs an item", row["fsyncs"], 0.3, None)
    for who in ("fedctl", "hub"):
        longest = max(row["longest_ms"] for key, row in by.items() if key[0] == 8 and key[2] == who)
        goal(goals, f"{who}, 8 writers: the longest wait, ms", longest, 500.0, None)


def rate(  # noqa: PLR0913  what is measured
    kinds: Sequence[str], peers: dict[str, str], folder: Path, processes: int, batch: int, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Return a row for each kind and each of push, two, one."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        crews: dict[str, Crew] = {}
        for kind in kinds:
            crews[kind] = stack.enter_context(crew(kind, folder, processes, batch, peers.get(kind)))
        for number in range(rounds):
            order = list(crews.items())
            for kind, one in order if number % 2 else reversed(order):
                if not one.alive:
                    continue
                pushed = one.run("push", seconds=seconds)
                found.setdefault((kind, "push"), []).append(pushed)
                for what in ("two", "one") if one.merges else ("two",):
                    found.setdefault((kind, what), []).append(one.run(what, seconds=seconds))
                    one.fill(2 * int(found[kind, what][-1]["items"]))
    rows = []
    for (kind, what), runs in found.items():
        row: dict[str, Any] = {"processes": processes, "batch": batch, "who": kind, "what": what}
        for key in ("items_per_s", "cpu_us", "fsyncs"):
            values = [run[key] for run in runs if run.get(key) is not None]
            row[key] = statistics.median(values) if values else None
        row["longest_ms"] = max(run["longest_ms"] for run in runs)
        row["twice"] = sum(int(run["twice"]) for run in runs)
        row["errors"] = sum(int(run["errors"]) for run in runs)
        rows.append(row)
    return rows


class Crew:
    """Processes that do the same at the same time, on one store."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], hub: Any, *, merges: bool) -> None:
        """Keep them; `merges`: they can complete and claim in one commit."""
        self._processes = processes
        self._hub = hub
        self.merges = merges
        self.alive = True
        self._claimed: set[str] = set()

    def _ask(self, process: subprocess.Popen[bytes], **asked: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()

    def _answer(self, process: subprocess.Popen[bytes]) -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"a process of the load has ended: {process.args!r}")
        return json.loads(line)

    def run(self, what: str, **limit: float) -> dict[str, Any]:
        """Let all of them do it for so many `seconds`, or `calls`; return what came of it."""
        if self._hub is not None:
            hub_cpu, commits = common.cpu_s(self._hub.pid), self._commits()
        for process in self._processes:
            self._ask(process, what=what, **limit)
        runs = [self._answer(process) for process in self._processes]
        items = sum(run["items"] for run in runs)
        wall_s = max(run["end"] for run in runs) - min(run["begin"] for run in runs)
        cpu = sum(run["cpu_s"] for run in runs)
        ids = [one for run in runs for one in run["ids"]]
        twice = len(ids) - len(set(ids) - self._claimed)
        self._claimed.update(ids)
        came: dict[str, Any] = {"items": items, "items_per_s": items / wall_s, "twice": twice, "fsyncs": None}
        came["longest_ms"] = max(run["longest_s"] for run in runs) * 1000
        came["errors"] = sum(run["errors"] for run in runs)
        if self._hub is not None:
            cpu += common.cpu_s(self._hub.pid) - hub_cpu
            came["fsyncs"] = (self._commits() - commits) / items if items else None
        came["cpu_us"] = cpu / items * 1e6 if items else None
        return came

    def _commits(self) -> int:
        from fedctl.client.remote import RemoteCaller
        from fedctl.messages.hub import GetHubStats

        caller = RemoteCaller(self._hub.socket)
        try:
            return int(caller.call(GetHubStats()).stats.commits)
        finally:
            caller.close()

    def fill(self, items: int) -> None:
        """Let one of them push so many, in large batches."""
        self._ask(self._processes[0], what="fill", items=items)
        self._answer(self._processes[0])


@contextlib.contextmanager
def crew(kind: str, folder: Path, processes: int, batch: int, python: str | None) -> Iterator[Crew]:
    """Run so many processes on a store of one kind."""
    place = folder / kind
    place.mkdir()
    with contextlib.ExitStack() as stack:
        hub = None
        if kind in ("fedctl", "hub", "command"):
            common.open_home(place / "home").close()
        if kind == "hub":
            hub = stack.enter_context(common.hub(place / "home"))
        spec = {"kind": kind, "place": str(place), "batch": batch, "url": hub.socket if hub else None}
        started: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(processes):
                command = [python or sys.executable, __file__, "--load", json.dumps(spec | {"number": number})]
                started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
                if number == 0:
                    started[0].stdout.readline()  # type: ignore[union-attr]  the first makes the tables alone
            for process in started[1:]:
                process.stdout.readline()  # type: ignore[union-attr]
            yield Crew(started, hub, merges=kind in ("fedctl", "hub", "sqlite"))
        finally:
            for process in started:
                process.kill()
                process.wait()
                process.stdin.close()  # type: ignore[union-attr]
                process.stdout.close()  # type: ignore[union-attr]


# -- one process of load ---------------------------------------------------------------------------------------------


def load(spec: dict[str, Any]) -> None:
    """Open a queue, say so, and do what each line of stdin says."""
    queue = QUEUES[spec["kind"]](spec)
    print("{}", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["what"] == "fill":
            for begin in range(0, asked["items"], queue.fills):
                queue.push(min(queue.fills, asked["items"] - begin))
            print("{}", flush=True)
        else:
            print(json.dumps(repeat(queue, asked, spec["batch"])), flush=True)
            queue.let_go()


def repeat(queue: Queue, asked: dict[str, Any], batch: int) -> dict[str, Any]:
    """Do one thing for so many `seconds` or `calls`, or until there is nothing left; return the figures."""

    def push(count: int) -> Sequence[Any]:
        queue.push(count)
        return range(count)

    work = {"push": push, "two": queue.two, "one": queue.one}[asked["what"]]
    items = errors = 0
    longest_s = 0.0
    ids: list[str] = []
    begin, begin_cpu = time.perf_counter(), time.process_time() + children_cpu_s()
    at, deadline = begin, begin + asked.get("seconds", 3600)
    for _ in range(asked.get("calls", sys.maxsize)):
        try:
            got: Sequence[Any] | None = work(batch)
        except Exception:  # noqa: BLE001  others' queues fail in ways of their own: each is counted
            errors += 1
            got = None
        now = time.perf_counter()
        at, longest_s = now, max(longest_s, now - at)
        if got is not None and not got:
            break
        items += len(got or ())
        if got and batch == 1 and work != push:
            ids.append(str(got[0]))
        if now >= deadline:
            break
    return {
        "items": items, "begin": begin, "end": at, "cpu_s": time.process_time() + children_cpu_s() - begin_cpu,
        "longest_s": longest_s, "errors": errors, "ids": ids,
    }  # fmt: skip


class Queue:
    """What is asked of each kind. `two` and `one` return the ids of the items they finished, none at the end."""

    fills = 1
    """Items that `fill` pushes at once."""

    def push(self, count: int) -> None:
        """Push so many."""
        raise NotImplementedError

    def two(self, count: int) -> Sequence[Any]:
        """Claim and complete, in a commit each."""
        raise NotImplementedError

    def one(self, count: int) -> Sequence[Any]:
        """Complete what is held and claim the next, in one commit."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Complete what is still held."""


class Fedctl(Queue):
    """Ours: on the home itself, or through a hub."""

    fills = FILL

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open the home, or a session."""
        from fedctl.clock import Clock
        from fedctl.messages import pool as p
        from fedctl.model.pool import Completion, ItemDraft
        from fedctl.model.principal import Principal

        self._p, self._draft, self._completion, self._clock = p, ItemDraft, Completion, Clock()
        self._worker = f"worker-{spec['number']}"
        self._held: list[Any] = []
        if spec["url"]:
            from fedctl.client.remote import RemoteCaller

            self.ask: Callable[[Any], Any] = RemoteCaller(spec["url"]).call
        else:
            from fedctl.operations.table import run

            context = common.open_home(Path(spec["place"]) / "home")
            owner = Principal(tenant_id="default", role="owner")
            self.ask = lambda request: run(context, owner, request)

    def push(self, count: int) -> None:
        """Push in one request."""
        new_id = self._clock.new_id
        items = [self._draft(id=new_id(), data=DATA) for _ in range(count)]
        assert all(one.ok for one in self.ask(self._p.PushItems(pool=POOL, items=items)).results)

    def claim(self, count: int) -> Any:
        """Return the request that claims."""
        return self._p.ClaimItems(pool=POOL, worker_id=self._worker, count=count)

    def _finish(self, items: list[Any], claim: Any = None) -> Any:
        done = [self._completion(id=one.id, lease_id=one.lease_id, result=RESULT) for one in items]
        answer = self.ask(self._p.CompleteItems(completions=done, claim=claim))
        assert all(one.ok for one in answer.results)
        return answer.claimed

    def two(self, count: int) -> Sequence[Any]:
        """Claim, then complete."""
        items = self.ask(self.claim(count)).items
        if items:
            self._finish(items)
        return [one.id for one in items]

    def one(self, count: int) -> Sequence[Any]:
        """Complete and claim."""
        items = self._held or self.ask(self.claim(count)).items
        self._held = self._finish(items, self.claim(count)) if items else []
        return [one.id for one in items]

    def let_go(self) -> None:
        """Complete what is held."""
        if self._held:
            self._finish(self._held)
        self._held = []


class Command(Fedctl):
    """`fedctl pool claim` and `fedctl pool complete`: two processes an item."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open the home, to fill it."""
        super().__init__(spec)
        self._environment = command_environment(Path(spec["place"]))
        self._run("size", POOL)  # compiles

    def _run(self, *words: str) -> bytes:
        command = [*common.fedctl_command(), "pool", *words]
        return subprocess.run(command, env=self._environment, check=True, stdout=subprocess.PIPE).stdout

    def two(self, count: int) -> Sequence[Any]:
        """Claim, then complete."""
        claimed = self._run("claim", POOL, "--worker", self._worker, "--count", str(count), "--jsonl")
        items = [json.loads(line) for line in claimed.splitlines()]
        for item in items:
            self._run("complete", item["id"], "--lease-id", item["lease_id"], "--result", json.dumps(RESULT), "--json")
        return [item["id"] for item in items]


def command_environment(place: Path) -> dict[str, str]:
    """Return a command's environment; what was compiled for one crew serves the next."""
    return common.plain_environment(place / "home") | {"PYTHONPYCACHEPREFIX": str(place.parents[1] / "compiled")}


class Bare(Queue):
    """One table and an index of what is pending, by apsw, as durable as fedctl's: no leases, no log, no checks."""

    fills = FILL

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open it."""
        import apsw
        import msgspec

        self._db = apsw.Connection(str(Path(spec["place"]) / "bare.db"))
        self._db.set_busy_timeout(30_000)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"pragma {pragma}").fetchall()
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS q (seq INTEGER PRIMARY KEY, status TEXT, data TEXT, worker TEXT, result TEXT)"
        )
        self._db.execute("CREATE INDEX IF NOT EXISTS pending ON q (seq) WHERE status = 'pending'")
        self._encode, self._decode = msgspec.json.encode, msgspec.json.decode
        self._worker = f"worker-{spec['number']}"
        self._held: list[Any] = []

    def push(self, count: int) -> None:
        """Insert in one transaction."""
        rows = [(self._encode(DATA).decode(),) for _ in range(count)]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO q (status, data) VALUES ('pending', ?)", rows)
        self._db.execute("COMMIT")

    def _claim(self, count: int) -> list[Any]:
        rows = self._db.execute(
            "UPDATE q SET status = 'claimed', worker = ? WHERE seq IN"
            " (SELECT seq FROM q WHERE status = 'pending' ORDER BY seq LIMIT ?) RETURNING seq, data",
            (self._worker, count),
        ).fetchall()
        return [(seq, self._decode(data)) for seq, data in rows]

    def _finish(self, items: list[Any]) -> None:
        result = self._encode(RESULT).decode()
        self._db.executemany(
            "UPDATE q SET status = 'done', result = ? WHERE seq = ?", [(result, seq) for seq, _ in items]
        )

    def claim(self, count: int) -> list[Any]:
        """Claim in one transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        items = self._claim(count)
        self._db.execute("COMMIT")
        return items

    def two(self, count: int) -> Sequence[Any]:
        """Claim, then complete."""
        items = self.claim(count)
        self._db.execute("BEGIN IMMEDIATE")
        self._finish(items)
        self._db.execute("COMMIT")
        return [seq for seq, _ in items]

    def one(self, count: int) -> Sequence[Any]:
        """Complete and claim."""
        items = self._held or self.claim(count)
        self._db.execute("BEGIN IMMEDIATE")
        self._finish(items)
        self._held = self._claim(count)
        self._db.execute("COMMIT")
        return [seq for seq, _ in items]

    def let_go(self) -> None:
        """Complete what is held."""
        self._db.execute("BEGIN IMMEDIATE")
        self._finish(self._held)
        self._db.execute("COMMIT")
        self._held = []


class Huey(Queue):
    """SqliteHuey's storage: what is taken is gone, so a worker that dies loses it; the result is stored after."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open it."""
        from huey import SqliteHuey

        self._storage = SqliteHuey(POOL, filename=str(Path(spec["place"]) / "huey.db"), fsync=True, timeout=30).storage

    def push(self, count: int) -> None:
        """One by one: it knows no batches."""
        for _ in range(count):
            self._storage.enqueue(json.dumps(DATA | {"id": os.urandom(16).hex()}).encode())

    def two(self, _count: int) -> Sequence[Any]:
        """Take, then store the result."""
        data = self._storage.dequeue()
        if data is None:
            return ()
        item = json.loads(bytes(data))["id"]
        self._storage.put_data(item, json.dumps(RESULT).encode(), is_result=True)
        return (item,)


class LiteQueue(Queue):
    """litequeue, its synchronous=NORMAL raised to FULL. It keeps no result."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open it."""
        import litequeue

        self._queue = litequeue.LiteQueue(str(Path(spec["place"]) / "lite.db"), timeout=30)
        self._queue.conn.execute("PRAGMA synchronous = FULL")

    def push(self, count: int) -> None:
        """One by one."""
        for _ in range(count):
            self._queue.put(json.dumps(DATA))

    def two(self, _count: int) -> Sequence[Any]:
        """Pop, then mark it done."""
        item = self._queue.pop()
        if item is None:
            return ()
        json.loads(item.data)
        self._queue.done(item.message_id)
        return (item.message_id,)


class PersistQueue(Queue):
    """persist-queue's SQLiteAckQueue, which is made for the threads of one process. It keeps no result."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open it."""
        from persistqueue import SQLiteAckQueue

        self._queue = SQLiteAckQueue(str(Path(spec["place"]) / "persist"), auto_commit=True, timeout=30)

    def push(self, count: int) -> None:
        """One by one."""
        for _ in range(count):
            self._queue.put(DATA)

    def two(self, _count: int) -> Sequence[Any]:
        """Get, then ack."""
        from persistqueue import Empty

        try:
            item = self._queue.get(block=False, raw=True)
        except Empty:
            return ()
        self._queue.ack(id=item["pqid"])
        return (item["pqid"],)


class FlatAgents(Queue):
    """FlatAgents' SQLite pool: a connection each call, rollback journal (FULL by SQLite's own default)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Open it."""
        from flatagents.distributed import SQLiteWorkBackend

        self._loop = asyncio.new_event_loop()
        self._pool = SQLiteWorkBackend(str(Path(spec["place"]) / "flat.db")).pool(POOL)
        self._worker = f"worker-{spec['number']}"

    def push(self, count: int) -> None:
        """One by one."""
        for _ in range(count):
            self._loop.run_until_complete(self._pool.push(DATA))

    def two(self, _count: int) -> Sequence[Any]:
        """Claim, then complete."""
        item = self._loop.run_until_complete(self._pool.claim(self._worker))
        if item is None:
            return ()
        self._loop.run_until_complete(self._pool.complete(item.id, RESULT))
        return (item.id,)


QUEUES: dict[str, Callable[[dict[str, Any]], Queue]] = {
    "fedctl": Fedctl,
    "hub": Fedctl,
    "command": Command,
    "sqlite": Bare,
    "huey": Huey,
    "litequeue": LiteQueue,
    "persist-queue": PersistQueue,
    "flatagents": FlatAgents,
}


def others(args: argparse.Namespace, report: common.Report) -> dict[str, str]:
    """Return the interpreter that has each of the others; make it where it is not."""
    if args.peers_venv is None:
        report.table("Left out", [{"who": ", ".join(PEERS), "why": "--peers-venv says no environment for them"}])
        return {}
    python = args.peers_venv.absolute() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", args.peers_venv], check=True)
    found: dict[str, str] = {}
    rows = []
    for name, wanted in PEERS.items():
        asked = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
        ask_version = f"import importlib.metadata as m; print(m.version({name!r}), end='')"
        version = subprocess.run([python, "-c", ask_version], capture_output=True, text=True, check=False)
        if version.returncode != 0:
            subprocess.run([python, *asked], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            version = subprocess.run([python, "-c", ask_version], capture_output=True, text=True, check=False)
        place = args.peers_venv.absolute() / f"try-{os.getpid()}"
        place.mkdir()
        spec = {"kind": name, "place": str(place), "batch": 1, "number": 0, "url": None}
        tried = subprocess.run(
            [python, __file__, "--load", json.dumps(spec)], input='{"what": "push", "calls": 1}\n',
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        shutil.rmtree(place, ignore_errors=True)
        if tried.returncode == 0 and '"items": 1' in tried.stdout:
            found[name] = str(python)
        why = "" if name in found else f"left out: {(tried.stderr.strip().splitlines() or ['it fails'])[-1]}"
        rows.append({"who": name, "version": version.stdout or "-", "why": why})
    report.table("The others", rows)
    return found


def children_cpu_s() -> float:
    """Return the CPU that this process's children took that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# -- side by side ----------------------------------------------------------------------------------------------------


def side_by_side(args: argparse.Namespace, folder: Path, report: common.Report, goals: list[dict[str, Any]]) -> None:
    """Ask both in one process, in turn, a few calls at a time: an fsync takes now this long and now that."""
    rows = []
    for batch, least in ((1, 1.6), (10, None), (100, 0.8)):
        calls, rounds = 5, 15 if args.quick or batch == 100 else 41
        place = folder / str(batch)
        place.mkdir()
        spec = {"place": str(place), "number": 0, "url": None}
        ours, bare = Fedctl(spec), Bare(spec)
        for queue in (ours, bare):
            for _ in range(-(-batch * (2 * calls * rounds + 10) // FILL)):
                queue.push(FILL)

        def several(work: Callable[[int], Any], batch: int = batch, calls: int = calls) -> Callable[[], None]:
            def run() -> None:
                for _ in range(calls):
                    assert work(batch)

            return run

        works = {"sqlite, two": several(bare.two), "fedctl, one": several(ours.one)}
        works |= {"sqlite, one": several(bare.one)}
        found = common.interleaved(rounds, works)
        for name, (cpu_ms, wall_ms) in found.items():
            row: dict[str, Any] = {"batch": batch, "who": name, "items_per_s": batch * calls / wall_ms * 1000}
            row["cpu_us"] = cpu_ms / batch / calls * 1000
            rows.append(row | {"x sqlite, two": found["sqlite, two"][1] / wall_ms})
        if least is not None:
            ratio = found["sqlite, two"][1] / found["fedctl, one"][1]
            goal(goals, f"complete and claim next, batch {batch}: x bare SQLite in two commits", ratio, None, least)
    report.table("Complete and claim next, one process, interleaved every few calls", rows)


# -- fsyncs ----------------------------------------------------------------------------------------------------------


def fsyncs(args: argparse.Namespace, folder: Path, report: common.Report, goals: list[dict[str, Any]]) -> None:
    """Count them by strace, one process, without opening and closing."""
    del goals
    if shutil.which("strace") is None:
        report.table("fsyncs", [{"left out": "there is no strace"}])
        return
    peers: dict[str, str] = args.peers
    numbers = itertools.count()

    def count(kind: str, batch: int, calls: int) -> dict[str, int]:
        place = folder / str(next(numbers))
        place.mkdir()
        if kind == "fedctl":
            common.open_home(place / "home").close()
        trace = place / "trace"
        command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
        command += [peers.get(kind, sys.executable), __file__, "--load"]
        command.append(json.dumps({"kind": kind, "place": str(place), "batch": batch, "number": 0, "url": None}))
        found = {}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            for step in ("push", "two", "push", "one") if kind in ("fedctl", "sqlite") else ("push", "two"):
                before = trace.read_text().count("sync(")
                process.stdin.write(json.dumps({"what": step, "calls": calls}).encode() + b"\n")
                process.stdin.flush()
                process.stdout.readline()
                found[step] = trace.read_text().count("sync(") - before
            process.stdin.close()
        return found

    rows = []
    calls = 50 if args.quick else 200
    for batch in (1, 100):
        for kind in ("fedctl", "sqlite", *(peers if batch == 1 else ())):
            used = count(kind, batch, calls if batch == 1 else calls // 10)
            items = batch * (calls if batch == 1 else calls // 10)
            one = used["one"] / items if "one" in used else None
            rows.append(
                {"batch": batch, "who": kind, "push": used["push"] / items, "two": used["two"] / items, "one": one}
            )
    report.table("fsyncs an item, by strace, 1 process (through a hub: in the tables of rates)", rows)


# -- backlogs --------------------------------------------------------------------------------------------------------


def backlogs(args: argparse.Namespace, folder: Path, report: common.Report, goals: list[dict[str, Any]]) -> None:
    """Claim one by one out of few and of many."""
    sizes = (1_000, 20_000) if args.quick else (1_000, 100_000, 1_000_000)
    claims, rounds = (20, 9) if args.quick else (20, 25)
    rows: list[dict[str, Any]] = []
    queues: dict[str, Any] = {}
    for size, kind in itertools.product(sizes, ("fedctl", "sqlite")):
        place = folder / f"{kind}-{size}"
        place.mkdir()
        queue: Any = QUEUES[kind]({"place": str(place), "number": 0, "url": None, "kind": kind})
        began = time.process_time()
        for begin in range(0, size, FILL):
            queue.push(min(FILL, size - begin))
        rows.append({"backlog": size, "who": kind, "fill_cpu_us": (time.process_time() - began) / size * 1e6})
        queues[f"{kind} {size}"] = queue

    def claim(queue: Any) -> Callable[[], None]:
        def several() -> None:
            for _ in range(claims):
                if isinstance(queue, Bare):
                    assert queue.claim(1)
                else:
                    assert queue.ask(queue.claim(1)).items

        return several

    found = common.interleaved(rounds, {name: claim(queue) for name, queue in queues.items()})
    for row in rows:
        cpu_ms, wall_ms = found[f"{row['who']} {row['backlog']}"]
        row["claim_cpu_us"] = cpu_ms / claims * 1000
        row["claim_wall_us"] = wall_ms / claims * 1000
        row["x smallest"] = cpu_ms / found[f"{row['who']} {sizes[0]}"][0]
    report.table(f"A claim of one item out of a backlog, CPU; median of {rounds} interleaved runs of {claims}", rows)
    last = found[f"fedctl {sizes[-1]}"][0] / found[f"fedctl {sizes[0]}"][0]
    goal(goals, f"claim's CPU at a backlog of {sizes[-1]:,}: x of that at {sizes[0]:,}", last, 1.2, None)


# -- commands --------------------------------------------------------------------------------------------------------


def commands(args: argparse.Namespace, folder: Path, report: common.Report, goals: list[dict[str, Any]]) -> None:
    """By command: `pool claim` and `pool complete`, a process each, and `pool work` that runs one for each item."""
    del goals
    calls = 2 if args.quick else 8
    rows = []
    for processes in (1, 8) if args.quick else (1, 2, 4, 8):
        place = folder / str(processes)
        place.mkdir()
        with crew("command", place, processes, 1, None) as one:
            one.fill(3 * calls * processes)
            row: dict[str, Any] = {"processes": processes, "who": "pool claim; pool complete"}
            came = one.run("two", calls=calls)
            rows.append(row | {key: came[key] for key in ("items_per_s", "cpu_us", "longest_ms", "errors")})
            command = [*common.fedctl_command(), "pool", "work", POOL, "-j", str(processes), "--until-empty", "--quiet"]
            began, began_cpu = time.perf_counter(), children_cpu_s()
            subprocess.run(
                [*command, "--", "true"], env=command_environment(place / "command"), check=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            items = 2 * calls * processes
            rows.append(
                {"processes": processes, "who": "pool work -j -- true (one command, its start in it)",
                 "items_per_s": items / (time.perf_counter() - began),
                 "cpu_us": (children_cpu_s() - began_cpu) / items * 1e6}
            )  # fmt: skip
    report.table("By command", rows)


if __name__ == "__main__":
    main()
