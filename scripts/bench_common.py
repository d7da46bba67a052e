"""What the benchmarks share: the environment they name, their tables, the hubs they start, the texts they store.

Not a program. The machine is taken to be noisy: whoever measures here measures two things side by side, interleaved,
and reports medians and ratios, CPU time rather than wall time where that says the same.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FSYNC_TRIES = 200
FOLDER = "BENCH_FOLDER"
"""The variable that tells a benchmark's processes of its scratch folder."""
PACKAGES = ("apsw", "msgspec", "numkong", "numpy", "onnxruntime", "tokenizers", "typer", "websockets")


def parser(says: str) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    made = argparse.ArgumentParser(description=says, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a short dose: the same parts, less of each")
    made.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    made.add_argument("--dir", type=Path, help="where the temporary homes lie (default: the system's place for them)")
    made.add_argument("--only", metavar="A,B", help="only the parts whose names begin so")
    return made


class Report:
    """Tables, printed as they come; with `--json` one document at the end."""

    def __init__(self, name: str, args: argparse.Namespace, folder: Path) -> None:
        """Begin with the environment."""
        self._as_json = args.json
        self._document: dict[str, Any] = {"bench": name, "quick": args.quick, "environment": environment(folder)}
        self._document["tables"] = []
        if not self._as_json:
            for key, value in self._document["environment"].items():
                print(f"{key}: {value}")

    def table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add a table; its columns are the keys of its rows, with their units in them."""
        self._document["tables"].append({"title": title, "rows": list(rows)})
        if self._as_json or not rows:
            return
        columns = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[shown(row.get(column)) for column in columns] for row in rows]
        widths = [max(len(column), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
        numbers = [not isinstance(rows[0].get(column), str) for column in columns]
        print(f"\n{title}")
        for line in (columns, *cells):
            parts = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, numbers, strict=True)
            )
            print("  " + "  ".join(parts).rstrip())
        sys.stdout.flush()

    def end(self) -> None:
        """Print the document, if it was asked for."""
        if self._as_json:
            print(json.dumps(self._document, indent=1))


def shown(value: Any) -> str:
    """Return a cell: three significant digits are more than the machine is good for."""
    if value is None:
        return "-"
    if isinstance(value, float):
        if value and abs(value) < 0.01:
            return f"{value:.4f}"
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def wanted(args: argparse.Namespace, part: str) -> bool:
    """Return whether a part was asked for."""
    return not args.only or any(part.startswith(one) for one in args.only.split(","))


# -- the environment -----------------------------------------------------------------------------------------------


def environment(folder: Path) -> dict[str, Any]:
    """Return what figures depend on: processor, disk, versions, and how busy the machine was when it began."""
    from importlib.metadata import PackageNotFoundError, version

    import apsw

    from fedctl import __version__

    versions = {"fedctl": __version__, "sqlite": apsw.sqlite_lib_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vnni": any("vnni" in flag for flag in cpu_flags()),
        "load_1min": round(os.getloadavg()[0], 2),
        "fsync_median_ms": round(fsync_ms(folder), 3),
        "system": f"{os.uname().sysname} {os.uname().release}",
        "python": sys.version.split()[0],
        "versions": " ".join(f"{name}={number}" for name, number in versions.items()),
    }


def cpu_model() -> str:
    """Return the processor's name, where the system tells it."""
    return _cpuinfo("model name") or os.uname().machine


def cpu_flags() -> list[str]:
    """Return the processor's extensions."""
    return _cpuinfo("flags").split()


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def fsync_ms(folder: Path) -> float:
    """Return the median of an append of 4 kB and its fdatasync, in ms."""
    sync = getattr(os, "fdatasync", os.fsync)
    descriptor = os.open(folder / "fsync", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        times = []
        for _ in range(FSYNC_TRIES):
            os.write(descriptor, b"x" * 4096)
            began = time.perf_counter()
            sync(descriptor)
            times.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        (folder / "fsync").unlink()
    return statistics.median(times) * 1000


@contextlib.contextmanager
def scratch(args: argparse.Namespace) -> Iterator[Path]:
    """Lend a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fedctl-bench-", dir=args.dir))
    os.environ[FOLDER] = str(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- measuring -----------------------------------------------------------------------------------------------------


def interleaved(rounds: int, works: Mapping[str, Callable[[], None]]) -> dict[str, tuple[float, float]]:
    """Run each work once a round, in turn, the order reversed every other round.

    Returns:
        name -> medians of (CPU ms of the whole process, wall ms) of one run.
    """
    cpu: dict[str, list[float]] = {name: [] for name in works}
    wall: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        order = list(works.items())
        for name, work in order if number % 2 else reversed(order):
            began, began_cpu = time.perf_counter(), time.process_time()
            work()
            cpu[name].append((time.process_time() - began_cpu) * 1000)
            wall[name].append((time.perf_counter() - began) * 1000)
    return {name: (statistics.median(cpu[name]), statistics.median(wall[name])) for name in works}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def rss_mb(pid: int | str = "self") -> float:
    """Return a process's resident memory in MB (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), float("nan"))


def cpu_s(pid: int) -> float:
    """Return the CPU that a process has used so far, all of its threads, in seconds (Linux; steps of 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- what is stored ------------------------------------------------------------------------------------------------


def sentences(limit: int = 20_000) -> list[str]:
    """Return English sentences with something to say: the first lines of the standard library's own docstrings.

    Finding them takes a second or two, so it is done once a benchmark, not once a process.
    """
    kept = Path(os.environ[FOLDER], "sentences.json") if FOLDER in os.environ else None
    if kept is not None and kept.exists():
        return list(json.loads(kept.read_text()))[:limit]
    found = _find_sentences(20_000 if kept is not None else limit)
    if kept is not None:
        kept.write_text(json.dumps(found))
    return found[:limit]


def _find_sentences(limit: int) -> list[str]:
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        with contextlib.suppress(SyntaxError, UnicodeDecodeError):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    if 30 < len(text) < 300:
                        found[text] = None
        if len(found) >= limit:
            break
    return list(found)[:limit]


class Texts:
    """Episodes of about 60 tokens made of those sentences: the same ones in every run."""

    def __init__(self, seed: int = 1) -> None:
        """Begin."""
        self.sentences = sentences()
        self._random = random.Random(seed)
        self._made = 0

    def draft(self, **more: Any) -> Any:
        """Return one more episode, as an `EpisodeDraft`."""
        from fedctl.clock import Clock
        from fedctl.model.episode import EpisodeDraft

        pick = self._random.choice
        self._made += 1
        return EpisodeDraft(
            id=Clock().new_id(),
            task=pick(self.sentences)[:80],
            input=pick(self.sentences),
            output={"summary": pick(self.sentences), "step": self._made},
            reward=self._random.randrange(11) / 10,
            metadata={"module": f"m{self._made % 50}"},
            **more,
        )

    def drafts(self, count: int, **more: Any) -> list[Any]:
        """Return some more."""
        return [self.draft(**more) for _ in range(count)]

    def line(self) -> str:
        """Return one short text: a sentence."""
        return self._random.choice(self.sentences)

    def question(self, sentence: str | None = None) -> str:
        """Return something to look for: some words of a sentence."""
        words = (sentence or self._random.choice(self.sentences)).split()
        begin = self._random.randrange(max(1, len(words) - 7))
        return " ".join(words[begin : begin + 7])


def spread(vectors: Any, count: int, seed: int = 1, at_once: int = 50_000) -> Iterator[Any]:
    """Return `count` vectors like the given (n, dim) ones of norm 1, in blocks of float16: the same in every run.

    Each lies between two real ones, up to half way, and has noise of a tenth of the real ones' own covariance.
    Interpolation keeps the neighbourhoods of a low dimension, as real ones are: noise that is alike in all
    directions puts everybody around a centre at one distance, where no answer is better than the next. Of 50,000
    made of 2,900 MiniLM vectors a usearch graph (f16, 16, 128) finds .95, .978, .994, .995, 1.0 of the ten nearest
    at an expansion of 32, 64, 128, 256, 512. Their local dimension (of the 20 nearest) is 17, that of the real ones
    13, with noise alike in all directions 37.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    wide = np.asarray(vectors, dtype=np.float32)
    values, directions = np.linalg.eigh(np.cov(wide.T))
    root = (directions * np.sqrt(np.clip(values, 0, None))).astype(np.float32).T
    for begin in range(0, count, at_once):
        size = min(at_once, count - begin)
        one, other = (wide[rng.integers(len(wide), size=size)] for _ in range(2))
        made = one + rng.random((size, 1), dtype=np.float32) / 2 * (other - one)
        made += 0.1 * (rng.standard_normal((size, len(root)), dtype=np.float32) @ root)
        yield (made / np.linalg.norm(made, axis=1, keepdims=True)).astype("<f2")


# -- processes -----------------------------------------------------------------------------------------------------


def fedctl_command() -> list[str]:
    """Return the command as a user has it: the console script beside this interpreter, else the module."""
    script = Path(sys.executable).with_name("fedctl")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "fedctl"]


def plain_environment(home: Path) -> dict[str, str]:
    """Return the environment for a child: ours without anything that is meant for fedctl."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEDCTL_", "DEBUG_", "PYTHON"))}
    # Compiled modules lie in a place of their own: where the source tree is edited or cannot be written, every
    # start would compile.
    return kept | {"FEDCTL_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home.parent / "compiled")}


class RunningHub:
    """A hub in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], info: dict[str, Any]) -> None:
        """Keep both."""
        self.process = process
        self.pid: int = info["pid"]
        self.url: str = info["url"]
        self.socket = f"unix:{info['socket']}"


@contextlib.contextmanager
def hub(home: Path, *flags: str, tree: Path | None = None) -> Iterator[RunningHub]:
    """Run a hub on a home; with `tree` the hub of another checkout of fedctl."""
    fedctl = fedctl_command() if tree is None else [sys.executable, "-m", "fedctl"]
    command = [*fedctl, "hub", "start", "--port", "0", "--http-port", "0", "--json", *flags]
    log = (home.parent / f"{home.name}.log").open("ab")
    process = subprocess.Popen(
        command, env=plain_environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=tree
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the hub did not start: {Path(log.name).read_text()[-2000:]}")
        yield RunningHub(process, json.loads(line))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        log.close()


def open_home(home: Path) -> Any:
    """Return the means of working on a home in this process."""
    from fedctl.bootstrap import open_context
    from fedctl.config import Settings

    return open_context(Settings(home=home, hub="off"), create=True)


def without_inference(context: Any) -> None:
    """Make the store another model's, so that nothing is embedded on it: what is left is everything but inference."""
    with context.store.write():
        model = context.store.embeddings.add_model("none@000000000000/t0", 384)
        context.store.settings.put("model", model.id)
