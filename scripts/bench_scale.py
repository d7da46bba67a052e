"""fedctl's memory at 10,000, 100,000 and 1,000,000 episodes, side by side with other stores of vectors.

    python scripts/bench_scale.py [--quick] [--sizes 10k,100k,1m] [--only fedctl,usearch,...] [--json]
        [--peers-venv DIR] [--peer-limit-s 900] [--dir SCRATCH]

Peers: usearch alone (it returns numbers, keeps nothing else, and saves once; `-rows`: with a table of SQLite that
keeps the rows and is asked for them), sqlite-vec, lancedb (without an index; `-pq`: IVF_PQ; `-hnsw`: IVF_HNSW_SQ),
chroma (one collection and a metadata filter; `-collections`: one a tenant). They live in a virtual environment of
their own, DIR, which is made on first use (with pip; fedctl does not depend on them). Every system is one process.
The driver asks each in turn over a pipe, in slices while rows come in and in rounds while questions are asked, the
order reversed every other time, so that whatever else the machine does hits all alike. CPU time is the figure to
trust. "x" is a peer's cost divided by fedctl's: above 1 fedctl is ahead; a last table lists where it is not, or
where it finds less than the peer (then no ratio is one at equal recall).

All are fed the same rows: vectors that lie between real ones (`bench_common.spread`), one short real text each, six
tenants with 50, 30, 10, 9, 0.9 and 0.1 % of the rows, interleaved in time, and one metadata field of 100 values.
Questions are real vectors that no row was made of. Recall@10 is against float32 brute force over the tenant's rows;
an answer counts that is as near as the tenth nearest, to 0.0001. Search effort is raised, a case at a time, from
each library's default until recall@10 is .99, or as high as it gets ("equal recall").

fedctl stores durably (an fsync a batch) and indexes the words while it stores; "index" is the upkeep that a hub does in
the background. Its vector half is a query in mode `semantic`; `hybrid` is the whole query, by words too, which no
peer is asked for. Neither runs the model, except in the one-shot of the command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
import bench_common as common
import bench_scale_peers as far

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

SCRIPTS = Path(__file__).parent
OURS = "fedctl"
HYBRID = "fedctl, hybrid"
PACKAGES = (
    "chromadb==1.5.9", "lancedb==0.40.0", "sqlite-vec==0.1.9", "apsw==3.54.1.0", "usearch==2.26.6", "numpy==2.4.6"
)  # fmt: skip
QUESTIONS = 100
EQUAL_RECALL = 0.99
SAME_RECALL = 0.005
SAME = 1e-4
SLICES = 10
_LOOK_EVERY_S = 2.0
REBUILD_UP_TO = 100_000
"""Above, what the index took is what it takes to make it anew: all of it was made of rows."""


def main() -> None:
    """Measure and print."""
    made = common.parser(str(__doc__))
    made.add_argument("--sizes", default="", help="of 10k,100k,1m (default 10k,100k,1m; quick: 10k)")
    made.add_argument("--peers-venv", type=Path, help="the peers' environment (default: in the system's cache folder)")
    made.add_argument("--peer-limit-s", type=float, default=900.0, help="CPU a peer may use to build, and to be asked")
    args = made.parse_args()
    venv = args.peers_venv or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fedctl-bench-peers"
    sizes = [count(one) for one in (args.sizes or ("10k" if args.quick else "10k,100k,1m")).split(",")]
    names = [name for name in (OURS, *far.PEERS) if common.wanted(args, name)]
    names += [one for one in {far.PEERS[name].beside for name in names if name != OURS} - {None, *names} if one]
    if names != [OURS]:
        make_environment(venv)
    with common.scratch(args) as folder:
        report = common.Report("scale", args, folder)
        if names != [OURS]:
            report.table("Peers", [{"package": package} for package in PACKAGES])
        for size in sizes:
            place = folder / str(size)
            place.mkdir()
            Bench(args, venv, place, size, names, report).run()
            shutil.rmtree(place)
        report.end()


def count(text: str) -> int:
    """Return 10,000 of `10k`."""
    return int(text[:-1]) * {"k": 1000, "m": 1_000_000}[text[-1].lower()]


def make_environment(venv: Path) -> None:
    """Make the peers' environment, unless it stands."""
    mark = venv / "installed.json"
    if mark.is_file() and json.loads(mark.read_text()) == list(PACKAGES):
        return
    print(f"making the peers' environment in {venv}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stderr=2)
    mark.write_text(json.dumps(PACKAGES))


# -- what is stored and asked --------------------------------------------------------------------------------------


def make_data(folder: Path, cache: Path, size: int, *, quick: bool) -> None:
    """Write what all are fed from; memory stays that of one block."""
    import numpy as np

    from fedctl.recall.embedder import Embedder

    embedder = Embedder()
    sentences = common.sentences()
    if quick:
        sentences = sentences[: 6 * QUESTIONS]
    real = real_vectors(cache, embedder, sentences)
    order = np.random.default_rng(5).permutation(len(sentences))
    asked, kept = order[:QUESTIONS], order[QUESTIONS:]
    texts = common.Texts(seed=3)
    np.save(folder / "questions.npy", real[asked].astype("<f2").astype("<f4"))
    # Numbered, so that no two are the same; the number is a word that no text has.
    words = [f"{texts.question(sentences[place])} q{number}" for number, place in enumerate(asked)]
    (folder / "questions.json").write_text(json.dumps(words))
    np.load(folder / "questions.npy")[0].tofile(folder / "cold.f32")
    (folder / "meta.json").write_text(json.dumps({"model_id": embedder.model_id}))
    rng = np.random.default_rng(size)
    one = np.repeat(np.arange(len(far.TENANTS), dtype=np.uint8), [share for _, share in far.TENANTS])
    np.save(folder / "tenants.npy", np.concatenate([rng.permutation(one) for _ in range(size // 1000)]))
    np.save(folder / "buckets.npy", rng.integers(far.BUCKETS, size=size, dtype=np.uint8))
    with (folder / "vectors.f16").open("wb") as file:
        for block in common.spread(real[kept], size):
            block.tofile(file)
    with (folder / "texts.txt").open("wb") as file:
        lengths = [file.write(texts.line().encode() + b"\n") for _ in range(size)]
    np.save(folder / "offsets.npy", np.cumsum([0, *lengths]))


def real_vectors(cache: Path, embedder: Any, sentences: list[str]) -> Any:
    """Return the sentences' vectors, kept from one run to the next: embedding them takes some 25 s."""
    import numpy as np

    path = cache / f"{embedder.model_id}-{len(sentences)}.npy"
    with contextlib.suppress(OSError, ValueError):
        return np.load(path)
    found = embedder.embed(sentences)
    with contextlib.suppress(OSError):
        np.save(path, found)
    return found


class Truth:
    """Which rows are right answers: by float32 brute force over the rows of a case."""

    def __init__(self, data: far.Data) -> None:
        """Find the tenth nearest of each question in each case."""
        import numpy as np

        self._np, self._data = np, data
        best = {case: np.full((far.K, len(data.questions)), -2.0, dtype=np.float32) for case in far.CASES}
        for begin in range(0, data.rows, 50_000):
            rows = slice(begin, begin + 50_000)
            cosines = data.wide(rows) @ data.questions.T
            for case, (tenant, bucket) in far.CASES.items():
                inside = data.tenants[rows] == tenant
                if bucket is not None:
                    inside &= data.buckets[rows] == bucket
                both = np.concatenate([best[case], cosines[inside]])
                best[case] = np.partition(both, len(both) - far.K, axis=0)[len(both) - far.K :]
        self._tenth = {case: found.min(axis=0) for case, found in best.items()}
        self._many = {case: (found > -2).sum(axis=0) for case, found in best.items()}

    def judge(self, case: str, questions: Sequence[int], rows: Sequence[Sequence[int]]) -> tuple[float, int]:
        """Return recall@10, and how many rows of others were among the answers."""
        tenant, bucket = far.CASES[case]
        hits = wanted = leaks = 0
        for question, found in zip(questions, rows, strict=True):
            there = self._np.array(sorted(set(found))[: far.K], dtype=self._np.int64)
            mine = self._data.tenants[there] == tenant
            if bucket is not None:
                mine &= self._data.buckets[there] == bucket
            leaks += int((~mine).sum())
            near = self._data.wide(there[mine]) @ self._data.questions[question] >= self._tenth[case][question] - SAME
            hits += int(near.sum())
            wanted += int(self._many[case][question])
        return hits / max(1, wanted), leaks


# -- processes -----------------------------------------------------------------------------------------------------


class StoppedError(Exception):
    """A system failed or was stopped: the message says why."""


class Process:
    """A system in a process of its own."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        """Start it."""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        self._log = log

    def ask(self, do: str, limit_s: float | None = None, **given: Any) -> dict[str, Any]:
        """Return the answer; `StoppedError` when the process has used `limit_s` of CPU before there is one.

        CPU, not time: what else the machine does is no fault of a peer.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise StoppedError(f"ended: {self._last_words()}") from None
        while not select.select([self._process.stdout], [], [], _LOOK_EVERY_S)[0]:
            if limit_s is not None and common.cpu_s(self._process.pid) > limit_s:
                self.kill()
                raise StoppedError(f"stopped: {do} came to {limit_s:,.0f} s of CPU")
        line = self._process.stdout.readline()
        if not line:
            raise StoppedError(f"ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.kill()
            raise StoppedError(f"{do}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"status {self._process.poll()}"

    def end(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


# -- one size ------------------------------------------------------------------------------------------------------


class Bench:
    """All systems at one size."""

    def __init__(  # noqa: PLR0913
        self, args: argparse.Namespace, venv: Path, folder: Path, size: int, names: Sequence[str], report: common.Report
    ) -> None:
        """Keep what is to be done."""
        self._args, self._venv, self._folder, self._size, self._report = args, venv, folder, size, report
        self._names = list(names)
        self._stopped: dict[str, str] = {}
        self._turn = 0
        self._behind: list[dict[str, Any]] = []

    def run(self) -> None:
        """Build, search, look at what it takes, and say so."""
        self._data_folder = self._folder / "data"
        self._data_folder.mkdir()
        self._venv.mkdir(parents=True, exist_ok=True)
        make_data(self._data_folder, self._venv, self._size, quick=self._args.quick)
        self._data = far.Data(self._data_folder)
        self._build()
        self._truth = Truth(self._data)
        self._serve()
        self._cold()
        size = f"{self._size:,} episodes"
        if self._stopped:
            rows = [{"system": name, "why": why} for name, why in self._stopped.items()]
            self._report.table(f"{size}: not measured to the end", rows)
        if OURS in self._names:
            self._report.table(f"{size}: where fedctl is not ahead", self._behind)

    def _alive(self) -> list[str]:
        """Return those that are still in, in this turn's order."""
        self._turn += 1
        alive = [name for name in self._names if name not in self._stopped]
        return alive if self._turn % 2 else alive[::-1]

    @contextlib.contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        """Take a peer out that fails; fedctl must not."""
        try:
            yield
        except StoppedError as error:
            if name == OURS:
                raise SystemExit(f"fedctl: {error}") from None
            self._stopped[name] = f"{error}{self._stopped.get(name, '')}"

    def _where(self, name: str) -> Path:
        return self._folder / name

    def _command(self, what: str, name: str) -> list[str]:
        # Imported, not run as a script: what is compiled is kept.
        module, python = ("fedctl", sys.executable) if name == OURS else ("peers", str(self._venv / "bin/python"))
        argument = [] if name == OURS else [name]
        code = f"import bench_scale_{module}; bench_scale_{module}.main()"
        return [python, "-c", code, what, *argument, str(self._where(name)), str(self._data_folder)]

    def _environment(self) -> dict[str, str]:
        base = common.plain_environment(self._folder / "home")
        del base["FEDCTL_HOME"]
        path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent)])
        return base | {"PYTHONPATH": path, "LANCE_LOG": "error", "ANONYMIZED_TELEMETRY": "False"}

    def _start(self, name: str) -> Process:
        return Process(self._command("serve", name), self._environment(), self._folder / f"{name}.log")

    # -- building ----------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        processes = {name: self._start(name) for name in self._names}
        self._spent = {name: {"wall_s": 0.0, "cpu_s": 0.0} for name in self._names}
        found: dict[str, dict[str, Any]] = {name: {"system": name, "rows": 0} for name in self._names}
        for name in self._alive():
            with self._surviving(name):
                self._timed(name, processes[name], "create")
        for number in range(SLICES):
            begin, end = (self._size * place // SLICES for place in (number, number + 1))
            for name in self._alive():
                with self._surviving(name):
                    self._timed(name, processes[name], "ingest", begin=begin, end=end)
                    found[name]["rows"] = end
        for name in self._alive():
            found[name] |= {f"store_{figure}": value for figure, value in self._spent[name].items()}
            with self._surviving(name):
                index = self._timed(name, processes[name], "index")
                found[name] |= {f"index_{figure}": value for figure, value in index.items()} | self._spent[name]
        for name in self._alive():
            with self._surviving(name):
                again = self._rebuilt(name, processes[name], found[name])
                found[name] |= {f"rebuild_{figure}": value for figure, value in again.items()}
                found[name]["peak_mb"] = processes[name].ask("memory")["peak_mb"]
                processes[name].ask("close")
        for name, process in processes.items():
            process.end()
            if name in self._stopped:
                self._stopped[name] += f" (after {self._spent[name]['wall_s']:.0f} s, {found[name]['rows']:,} rows)"
            else:
                found[name]["disk_bytes"] = disk_bytes(self._where(name)) / self._size
        for name in self._alive():
            self._sum_up(name, found)
        costs = ("wall_s", "cpu_s", "rebuild_wall_s", "rebuild_cpu_s", "disk_bytes", "peak_mb")
        title = f"{self._size:,} episodes: storing them, building the index, both (rows_per_s), building it anew"
        self._table(title, [found[name] for name in self._names], costs)

    def _sum_up(self, name: str, found: dict[str, dict[str, Any]]) -> None:
        """Add what belongs to a system's costs and is another's; say how fast it came to all of it."""
        mine, other = found[name], None if name == OURS else far.PEERS[name].beside
        if other in self._stopped:
            self._stopped[name] = f"{other} was stopped"
        elif other is not None:
            for part in ("wall_s", "cpu_s"):
                mine[f"index_{part}"] = found[other][part]
                mine[part] += found[other][part]
            mine["disk_bytes"] += found[other]["disk_bytes"]
        mine |= {"rows_per_s": self._size / mine["wall_s"], "rows_per_cpu_s": self._size / mine["cpu_s"]}

    def _timed(self, name: str, process: Process, do: str, **given: Any) -> dict[str, Any]:
        """Ask for a part of building; what it took counts against a peer's time."""
        answer = process.ask(do, self._limit_s(name), **given)
        for figure in self._spent[name]:
            self._spent[name][figure] += answer[figure]
        return answer

    def _limit_s(self, name: str) -> float | None:
        return None if name == OURS else self._args.peer_limit_s

    def _rebuilt(self, name: str, process: Process, found: dict[str, Any]) -> dict[str, float]:
        """Return what it takes to make the index anew; nothing for those that have none or cannot."""
        if name == "usearch":  # it keeps no rows: who has them adds them all again
            return self._spent[name]
        if self._size <= REBUILD_UP_TO:
            return process.ask("rebuild", None if name == OURS else 2 * self._args.peer_limit_s)
        rebuilds = name == OURS or far.PEERS[name].rebuilds
        return {figure: found[f"index_{figure}"] for figure in ("wall_s", "cpu_s")} if rebuilds else {}

    # -- searching ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        processes = {name: self._start(name) for name in self._alive()}
        served: dict[str, dict[str, Any]] = {name: {"system": name} for name in self._names if name in processes}
        for name in self._alive():
            with self._surviving(name):
                opened = processes[name].ask("open", self._limit_s(name))
                served[name] |= {f"open_{figure}": value for figure, value in opened.items()}
        efforts = {
            case: {name: self._tune(processes[name], name, case) for name in self._alive()} for case in far.CASES
        }
        asked = self._rounds(processes, efforts)
        for name in self._alive():
            with self._surviving(name):
                served[name] |= processes[name].ask("memory")
        for process in processes.values():
            process.end()
        for case in far.CASES:
            rows = [
                self._figures(who, case, runs, efforts[case].get(who))
                for who, runs in asked[case].items()
                if runs and (OURS if who == HYBRID else who) not in self._stopped
            ]
            self._table(f"{self._size:,} episodes: {case} of the rows", rows, ("p50_ms", "cpu_ms"))
        rows = [row for name, row in served.items() if name not in self._stopped]
        self._table(f"{self._size:,} episodes: the process that serves", rows, ("open_cpu_s", "rss_mb", "anon_mb"))

    def _figures(
        self, who: str, case: str, runs: list[dict[str, Any]], effort: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Return the row of one system in the table of one case."""
        walls = [one for run in runs for one in run["wall_ms"]]
        questions = [one for run in runs for one in run["questions"]]
        recall, leaks = self._truth.judge(case, questions, [one for run in runs for one in run["rows"]])
        return {
            "system": who,
            "setting": ", ".join(f"{key} {value}" for key, value in (effort or {}).items()) or "-",
            "recall": None if who == HYBRID else round(recall, 3),
            "leaks": leaks,
            "asked": len(walls),
            "p50_ms": statistics.median(walls),
            "p99_ms": common.percentile(walls, 0.99),
            "cpu_ms": statistics.median(statistics.fmean(run["cpu_ms"]) for run in runs),
        }

    def _tune(self, process: Process, name: str, case: str) -> dict[str, Any] | None:
        """Return the least effort that finds enough, else the least of those that find most."""
        tried: list[tuple[float, dict[str, Any]]] = []
        with self._surviving(name):
            for effort in process.ask("efforts")["efforts"]:
                count = 20 if self._args.quick else QUESTIONS
                answer = process.ask(
                    "ask", self._limit_s(name), case=case, first=0, count=count, budget_s=10, effort=effort
                )
                if "unable" in answer:
                    return None
                recall, _ = self._truth.judge(case, answer["questions"], answer["rows"])
                tried.append((recall, effort))
                if recall >= EQUAL_RECALL:
                    break
            best = max(recall for recall, _ in tried)
            return next(effort for recall, effort in tried if recall >= min(best - 0.002, EQUAL_RECALL))
        return None

    def _rounds(
        self, processes: dict[str, Process], efforts: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Ask all systems in turn, a case at a time."""
        rounds, each = (2, 10) if self._args.quick else (5, QUESTIONS // 5)
        asked: dict[str, dict[str, list[dict[str, Any]]]] = {
            case: {name: [] for name in (*self._names, HYBRID)} for case in far.CASES
        }
        tuned: dict[str, Any] = {}
        for number in range(rounds):
            for case in far.CASES:
                for name in self._alive():
                    todo = {name: efforts[case].get(name)}
                    if name == OURS:
                        todo = {OURS: {"mode": "semantic"}, HYBRID: {"mode": "hybrid"}}
                    for who, effort in todo.items():
                        if effort is None:
                            continue
                        given = {"case": case, "first": number * each, "count": each, "budget_s": 5}
                        with self._surviving(name):
                            again = None if tuned.get(name) == effort else effort
                            asked[case][who].append(
                                processes[name].ask("ask", self._limit_s(name), effort=again, **given)
                            )
                            tuned[name] = effort
        return asked

    # -- one-shots ---------------------------------------------------------------------------------------------------

    def _cold(self) -> None:
        home = self._where(OURS)
        question = json.loads((self._data_folder / "questions.json").read_text())[0]
        commands = {name: self._command("cold", name) for name in self._names if name not in self._stopped}
        commands["python and numpy"] = [sys.executable, "-c", "import numpy, os; os._exit(0)"]
        if OURS in self._names:
            cli = [sys.executable, "-m", "fedctl", "--home", str(home), "--tenant", far.TENANTS[0][0], "--json"]
            cli += ["memory", "query", question]
            commands |= {"fedctl, command": cli, "fedctl, command, by words": [*cli, "--mode", "keyword"]}
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range((2 if self._args.quick else 7) + 1):
            order = list(commands.items())
            for name, command in order if number % 2 else order[::-1]:
                began = time.perf_counter()
                process = subprocess.Popen(
                    command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                wall_ms = (time.perf_counter() - began) * 1000
                if process.returncode:
                    took[name] = []
                elif number:  # the first one compiles
                    took[name].append((wall_ms, (usage.ru_utime + usage.ru_stime) * 1000))
        rows = []
        for name, runs in took.items():
            row: dict[str, Any] = {"system": name}
            if runs:
                row |= {"wall_ms": statistics.median(wall_ms for wall_ms, _ in runs)}
                row |= {"cpu_ms": statistics.median(cpu_ms for _, cpu_ms in runs)}
            rows.append(row)
        title = f"{self._size:,} episodes: a fresh process that opens, asks one question of the 50 % tenant, and ends"
        self._table(title, rows, ("wall_ms", "cpu_ms"))

    # -- saying it ---------------------------------------------------------------------------------------------------

    def _table(self, title: str, rows: list[dict[str, Any]], costs: Sequence[str]) -> None:
        """Print a table with ratios; keep where fedctl is behind, or finds less than the peer it is compared with."""
        ours = next((row for row in rows if row["system"] == OURS), {})
        part = title.partition(": ")[2]
        recall = ours.get("recall")
        if recall is not None and recall < EQUAL_RECALL:
            self._behind.append({"figure": f"{part}: recall", "peer": "(exact)", "fedctl": recall, "theirs": 1.0})
        for row in rows:
            if row is ours or row["system"] not in far.PEERS:
                continue
            finds_more = recall is not None and recall < min(row["recall"], EQUAL_RECALL) - SAME_RECALL
            for cost in costs:
                if not row.get(cost) or not ours.get(cost):
                    continue
                ratio = row[f"x {cost}"] = row[cost] / ours[cost]
                if ratio < 1 or finds_more:
                    behind = {"figure": f"{part}: {cost}", "peer": row["system"], "fedctl": ours[cost]}
                    behind |= {"theirs": row[cost], "x": ratio, "their recall": row.get("recall"), "ours": recall}
                    self._behind.append(behind)
        self._report.table(title, rows)


def disk_bytes(folder: Path) -> int:
    """Return what a folder takes on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
