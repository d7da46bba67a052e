"""What it costs to keep and to forget: backup, restore, prune and erase of a large store, and what writers feel of it.

    python scripts/bench_keep.py [--quick] [--json] [--only backup,prune,erase] [--episodes N]

One store of a million episodes with vectors (a tenth of them another tenant's) is filled first, and everything is done
to it, in this order. Backup and restore run beside `VACUUM INTO` and SQLite's own online copy (the shell's `.backup`),
each a process of its own, in turn. While a prune or an erasure runs, this process stores an episode every few
milliseconds, on the home itself and through a hub; before it and after it too, and that is what its waits are compared
with. The vectors are those of no model, so nothing is embedded meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import bench_common as common

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

BATCH = 1000
DIM = 384
PUSHES_PER_S = 50
MARK = "xyzzy-of-the-erased"
COPIES = {
    "VACUUM INTO": """
import apsw, sys
apsw.Connection(sys.argv[1]).execute("VACUUM INTO ?", (sys.argv[2],)).fetchall()
""",
    "sqlite .backup": """
import apsw, sys
with apsw.Connection(sys.argv[2]).backup("main", apsw.Connection(sys.argv[1]), "main") as copy:
    while not copy.done:
        copy.step(1000)
""",
}
"""What SQLite itself offers, by the library that fedctl uses."""


class Ended(NamedTuple):
    """A process that has ended."""

    wall_s: float
    cpu_s: float
    answer: Any


class Running:
    """A process that is measured: its wall time, its own CPU and that of a hub meanwhile."""

    def __init__(self, command: list[str], environment: dict[str, str], hub: common.RunningHub | None = None) -> None:
        """Start it."""
        self._hub = hub
        self._hub_cpu_s = common.cpu_s(hub.pid) if hub else 0.0
        self._began = time.perf_counter()
        self._ended: tuple[int, float, Any] | None = None
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def over(self) -> bool:
        """Return whether it has ended, without waiting."""
        if self._ended is None:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._ended = (os.waitstatus_to_exitcode(status), time.perf_counter() - self._began, used)
                self._process.returncode = self._ended[0]
        return self._ended is not None

    def wait(self) -> Ended:
        """Return what it took, once it has ended (its answer is short: no pipe is full before)."""
        while not self.over():
            time.sleep(0.001)
        assert self._ended is not None
        code, wall_s, used = self._ended
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with self._process.stdout as out, self._process.stderr as errors:
            answer, said = out.read(), errors.read().decode()
        if code:
            raise SystemExit(f"{self._process.args}: exit {code}: {said}")
        cpu_s = used.ru_utime + used.ru_stime
        if self._hub:
            cpu_s += common.cpu_s(self._hub.pid) - self._hub_cpu_s
        return Ended(wall_s, cpu_s, json.loads(answer) if answer.startswith((b"{", b"[")) else answer.decode())


class Bench:
    """The store, and the commands at it."""

    def __init__(self, args: argparse.Namespace, folder: Path, report: common.Report) -> None:
        """Fill a home."""
        self.quick, self.report, self.folder = args.quick, report, folder
        self.home = folder / "home"
        self.total = args.episodes or (20_000 if args.quick else 1_000_000)
        self.tenth = self.total // 10
        self.window_s = 2.0 if args.quick else 15.0
        filled = args.filled or self.home
        if not (filled / "store.db").exists():
            self._fill(filled)
        if args.filled:
            shutil.copytree(filled, self.home)
        os.sync()  # what was written so far is not to be written while something is measured

    def fedctl(self, *arguments: str, hub: common.RunningHub | None = None) -> Running:
        """Start a command; without a hub on the home itself."""
        way = [] if hub else ["--hub", "off"]
        return Running([*common.fedctl_command(), *way, *arguments, "--json"], common.plain_environment(self.home), hub)

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.home / "store.db"

    def size_mb(self) -> float:
        """Return the size of the database."""
        return self.database.stat().st_size / 1e6

    def _fill(self, home: Path) -> None:
        import numpy as np

        from fedctl.messages.memory import StoreEpisodes
        from fedctl.model.episode import Embedding

        began = time.perf_counter()
        texts, rng = common.Texts(), np.random.default_rng(1)
        with contextlib.closing(Asker(home)) as asker:
            tag = asker.model_tag
            for first in range(0, self.total, BATCH):
                vectors = rng.standard_normal((BATCH, DIM), dtype=np.float32)
                vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f2")
                erased = (first // BATCH) % 10 == 9  # the two tenants' rows lie among each other, as they would
                drafts = [
                    texts.draft(
                        critique=MARK if erased else None, embedding=Embedding(model=tag, vectors=[vector.tobytes()])
                    )
                    for vector in vectors
                ]
                asker.ask(StoreEpisodes(episodes=drafts), "gone" if erased else "default")
            common.without_inference(asker.context)  # and a hub builds no index of these vectors meanwhile
            asker.context.store.checkpoint(truncate=True)
        seconds = time.perf_counter() - began
        size_mb = (home / "store.db").stat().st_size / 1e6
        row = {"episodes": self.total, "mb": size_mb, "s": seconds, "per_s": self.total / seconds}
        self.report.table("The store, filled", [row])


class Asker:
    """The owner of a home, in-process; an embedder of no model stands in for the real one."""

    def __init__(self, home: Path) -> None:
        """Open it."""
        from fedctl.operations.context import Recall
        from fedctl.recall.index import IndexFolder

        self.context = common.open_home(home)._replace(recall=Recall(_NoModel(), IndexFolder(home / "index")))  # type: ignore[arg-type]
        self.model_tag = self.context.recall.model_tag

    def ask(self, request: Any, tenant: str = "default") -> Any:
        """Return the answer."""
        from fedctl.model.principal import Principal
        from fedctl.operations.table import run

        return run(self.context, Principal(tenant_id=tenant, role="owner"), request)

    def close(self) -> None:
        """Close the store."""
        self.context.close()


class _NoModel:
    """Has a name, which no fedctl's model has: so its vectors stay as they are."""

    model_id, dim = "none@000000000000", DIM


# -- backup and restore ----------------------------------------------------------------------------------------------


def backup(bench: Bench) -> None:
    """Copy the store and back, each way in turn."""
    rounds = 1 if bench.quick else 3
    out = bench.folder / "copies"
    out.mkdir()
    environment = common.plain_environment(bench.home)
    took: dict[str, list[Ended]] = {}
    size: dict[str, float] = {}

    def copy(name: str, source: Path, target: Path) -> None:
        run = Running([sys.executable, "-c", COPIES[name], str(source), str(target)], environment).wait()
        took.setdefault(name if source == bench.database else f"{name}, back", []).append(run)
        size[name] = target.stat().st_size / 1e6

    for number in range(rounds):
        for name in COPIES:
            copy(name, bench.database, out / "copy.db")
            if name == "sqlite .backup":
                copy(name, out / "copy.db", out / "back.db")
            for file in out.glob("*.db*"):
                file.unlink()
        made = bench.fedctl("backup", "create", str(out)).wait()
        took.setdefault("fedctl backup", []).append(made)
        file = Path(made.answer["path"])
        size["fedctl backup"] = file.stat().st_size / 1e6
        took.setdefault("fedctl backup verify", []).append(bench.fedctl("backup", "verify", str(file)).wait())
        target = bench.folder / f"restored{number}"
        took.setdefault("fedctl restore", []).append(bench.fedctl("restore", str(file), "--to", str(target)).wait())
        shutil.rmtree(target)
        file.unlink()
    rows = []
    for name, runs in took.items():
        wall_s = statistics.median(run.wall_s for run in runs)
        rows.append({"what": name, "mb_per_s": bench.size_mb() / wall_s, "wall_s": wall_s,
                     "cpu_s": statistics.median(run.cpu_s for run in runs), "file_mb": size.get(name)})  # fmt: skip
    bench.report.table(f"Copies of {bench.size_mb():,.0f} MB; MB/s of the store, whatever is written", rows)


# -- with writers beside it ------------------------------------------------------------------------------------------


def waits_ms(store: Callable[[Any], object], over: Callable[[], bool]) -> list[float]:
    """Store an episode every so often until it is over; return how long each took, from when it was due."""
    dice, texts, found = random.Random(1), common.Texts(2), []
    due = time.perf_counter()
    while not over():
        due += dice.uniform(0.5, 1.5) / PUSHES_PER_S
        time.sleep(max(0.0, due - time.perf_counter()))
        # From when it was due: a wait that holds up the next ones is theirs as well.
        store(texts.draft())
        found.append((time.perf_counter() - due) * 1000)
    return found


def beside(bench: Bench, way: str, store: Callable[[Any], object], start: Callable[[], Running]) -> dict[str, Any]:
    """Measure a command, and what a writer waits before, during and after it."""

    def calm() -> list[float]:
        ends = time.perf_counter() + bench.window_s
        return waits_ms(store, lambda: time.perf_counter() >= ends)

    before = calm()
    running = start()
    during = waits_ms(store, running.over)
    done = running.wait()
    after = calm()
    p99 = [common.percentile(one, 0.99) for one in (before, during, after)]
    return {
        "on": way, "removed": done.answer.get("removed", done.answer.get("episodes")), "wall_s": done.wall_s,
        "cpu_s": done.cpu_s, "pushes": len(during), "p50_ms": common.percentile(during, 0.5), "p99_ms": p99[1],
        "p99_before_ms": p99[0], "p99_after_ms": p99[2], "x p99": p99[1] / statistics.mean((p99[0], p99[2])),
        "worst_ms": max(during), "worst_calm_ms": max(before + after),
    }  # fmt: skip


@contextlib.contextmanager
def writer(bench: Bench, way: str) -> Iterator[tuple[Callable[[Any], object], common.RunningHub | None]]:
    """Lend what stores one episode, on the home itself or through a hub, and the hub."""
    from fedctl.client.remote import RemoteCaller
    from fedctl.messages.memory import StoreEpisodes

    if way == "home":
        with contextlib.closing(Asker(bench.home)) as asker:
            yield lambda draft: asker.ask(StoreEpisodes(episodes=[draft])), None
    else:
        with common.hub(bench.home) as hub, contextlib.closing(RemoteCaller(hub.socket)) as caller:
            yield lambda draft: caller.call(StoreEpisodes(episodes=[draft])), hub


def prune(bench: Bench) -> None:
    """Remove the oldest, a tenth of the store each time."""
    rows, left = [], bench.total - bench.tenth
    for way in ("home", "hub"):
        left -= bench.tenth
        bench.fedctl("retention", "set", "--max-episodes", str(left)).wait()
        with writer(bench, way) as (store, hub):
            start = functools.partial(bench.fedctl, "retention", "prune", "--max-delete", "100%", hub=hub)
            rows.append(beside(bench, way, store, start))
    bench.report.table(f"retention prune of {bench.tenth:,} of {bench.total:,}, pushes beside it", rows)


def erase(bench: Bench) -> None:
    """Erase a tenant that has a tenth of what was stored; look for its text afterwards."""
    found = {"before": occurrences(bench.home)}
    with writer(bench, "home") as (store, _):
        row = beside(bench, "home", store, lambda: bench.fedctl("tenant", "erase", "gone", "--yes"))
    found["after"] = occurrences(bench.home)
    bench.report.table(f"tenant erase of {bench.tenth:,} episodes, pushes beside it", [row])
    title = "A mark of the erased text, in every byte of the home"
    bench.report.table(title, [{"when": when, "found": count} for when, count in found.items()])
    copy = bench.folder / "vacuumed.db"
    environment = common.plain_environment(bench.home)
    bare = Running([sys.executable, "-c", COPIES["VACUUM INTO"], str(bench.database), str(copy)], environment).wait()
    copy.unlink()
    rows = [{"what": "VACUUM INTO of what is left", "wall_s": bare.wall_s, "cpu_s": bare.cpu_s},
            {"what": "tenant erase", "wall_s": row["wall_s"], "cpu_s": row["cpu_s"]}]  # fmt: skip
    bench.report.table("Beside rewriting the whole file, the plain way to leave nothing behind", rows)


def occurrences(home: Path) -> int:
    """Return how often the mark stands in the files of a home."""
    count = 0
    for path in home.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                at = content.find(MARK.encode())
                while at >= 0:
                    count += 1
                    at = content.find(MARK.encode(), at + 1)
    return count


PARTS = {"backup": backup, "prune": prune, "erase": erase}


def main() -> None:
    """Measure and print."""
    parser = common.parser(str(__doc__))
    parser.add_argument("--episodes", type=int, help="how many the store has (1,000,000; --quick: 20,000)")
    parser.add_argument("--filled", type=Path, metavar="DIR", help="a filled home to work on a copy of; made if absent")
    args = parser.parse_args()
    with common.scratch(args) as folder:
        report = common.Report("keep", args, folder)
        bench = Bench(args, folder, report)
        for name, part in PARTS.items():
            if common.wanted(args, name):
                part(bench)
        report.end()


if __name__ == "__main__":
    main()
