"""What a command costs to start: CPU (user and system) of whole processes, run in turn, medians.

    python scripts/bench_startup.py [--quick] [--json] [-n RUNS] [--large DIR]

Beside fedctl's commands run, as yardsticks: an interpreter that does nothing; a Typer app with one command that does
nothing; two that open the same SQLite file with apsw, as fedctl opens it, and insert an episode's row with its words,
or look for an item to claim where there is none (BEGIN IMMEDIATE, the statement that fedctl claims by, COMMIT); and an
interpreter that imports what no cold query can do without, loads the model and embeds one text.

The goals are ratios between medians of one run: a busy machine makes both slower. What counts is the CPU of a whole
process, from exec to exit: the interpreter's own start (and in a development tree the finder of an editable install)
is in both. A cold query asks a home of 100,000 episodes with their vectors, compacted, and embeds one question: what
it takes above its yardstick is opening the store, searching words and vectors, and printing ten hits.

The large home takes minutes to make; `--large DIR` keeps it there, and uses it again.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
import bench_common as common

if TYPE_CHECKING:
    from collections.abc import Sequence

EPISODES = 100
LARGE_EPISODES = 100_000
QUICK_EPISODES = 10_000
EMPTY = 6
"""How `pool claim` ends where there is nothing to claim."""

CLAIM, QUERY_HUB, QUERY_COLD = (
    "fedctl pool claim, empty pool, no hub", "fedctl memory query, hub", "fedctl memory query, no hub, large home"
)  # fmt: skip
TYPER_CLAIM, MUST = "typer + apsw, claim", "the same; typer, apsw, msgspec, numkong"

TYPER_APP = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

@app.command()
def store(task: str, output: str = ""):
    {work}

app()
"""

OPEN = """
    import apsw, time, uuid
    db = apsw.Connection({path!r}, flags=apsw.SQLITE_OPEN_READWRITE)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.set_busy_timeout(5000)
    for pragma in ("foreign_keys=ON", "synchronous=FULL", "trusted_schema=OFF", "temp_store=MEMORY",
                   "cell_size_check=ON", "secure_delete=FAST"):
        db.execute("pragma " + pragma).fetchall()
    db.execute("BEGIN IMMEDIATE")
"""

CLAIM_ITEM = """
    found = db.execute({sql!r}, {{"requirement_key": {key}, "limit": 1}}).fetchall()
    db.execute("COMMIT")
    db.close()
    print(found)
"""

INSERT = """
    seq = db.execute("SELECT max(seq) + 1 FROM changes").fetchall()[0][0]
    id = str(uuid.uuid4())
    now = time.time_ns() // 1000000
    db.execute("INSERT INTO changes VALUES (?, 1, 'episode_stored', ?, NULL, ?)", (seq, id, now))
    db.execute("INSERT INTO episodes VALUES (?, 1, ?, NULL, NULL, ?, 'null', ?, NULL, NULL, NULL, NULL, NULL, '{{}}',"
               " 0, ?)", (seq, id, task, '"' + output + '"', now))
    db.execute("INSERT INTO words_1 (rowid, task, input, output, critique) VALUES (?, ?, '', ?, NULL)",
               (seq, task, output))
    db.execute("COMMIT")
    db.close()
    print(id)
"""

SESSION = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
import onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file({folder!r} + "/tokenizer.json")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession({folder!r} + "/model.onnx", options, providers=["CPUExecutionProvider"])
"""

EMBED = """
ids = np.array([tokenizer.encode("how is a file read line by line").ids])
names = [one.name for one in session.get_inputs()]
feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
session.run(None, {name: feed[name] for name in names})
"""


def main() -> None:
    """Measure and print."""
    made = common.parser(str(__doc__))
    made.add_argument("-n", type=int, help="runs of each command (default 25; 15 with --quick)")
    made.add_argument("--large", type=Path, metavar="DIR", help="where the large home is kept, or made")
    args = made.parse_args()
    rounds = args.n or (15 if args.quick else 25)
    with common.scratch(args) as folder:
        report = common.Report("startup", args, folder)
        home = folder / "home"
        fill(home)
        large = args.large or folder / "large"
        size = QUICK_EPISODES if args.quick else LARGE_EPISODES
        fill_large(large, size)
        with common.hub(copy_of(home, folder / "hub-home")):
            cases = commands(folder, home, large)
            times = run_all(cases, rounds)
        report.table(f"CPU of a whole process, median of {rounds} interleaved runs", rows(times))
        report.table(f"Goals; the large home has {size:,} episodes", goals(times))
        report.end()


def fill(home: Path) -> None:
    """Make a home with some episodes, embedded, so that a query has only its question to embed; and an empty pool."""
    context = common.open_home(home)
    from fedctl.messages.memory import QueryEpisodes, StoreEpisodes
    from fedctl.messages.pool import ClaimItems, CompleteItems, PushItems
    from fedctl.model.pool import Completion, ItemDraft
    from fedctl.model.principal import Principal
    from fedctl.operations.table import run

    owner = Principal(tenant_id="default", role="owner")
    run(context, owner, StoreEpisodes(episodes=common.Texts().drafts(EPISODES)))
    run(context, owner, QueryEpisodes(text="warm", fresh=True))
    run(context, owner, PushItems(pool="builds", items=[ItemDraft(id="one", data={})]))
    (item,) = run(context, owner, ClaimItems(pool="builds", worker_id="w")).items
    run(context, owner, CompleteItems(completions=[Completion(id=item.id, lease_id=item.lease_id)]))
    context.store.checkpoint(truncate=True)
    context.close()


def fill_large(home: Path, size: int) -> None:
    """Make a home of so many episodes with vectors, compacted, unless it was made before."""
    import bench_memory

    from fedctl.recall.embedder import Embedder

    if (home / "made").exists():
        return
    real = Embedder()
    vectors = real.embed(common.sentences(bench_memory.REAL_VECTORS))
    made = bench_memory.Home(home, bench_memory.FixedEmbedder(vectors, real))
    bench_memory.fill(made, size, vectors)
    made.close()
    (home / "made").touch()


def copy_of(home: Path, place: Path) -> Path:
    """Return a copy of a home that nobody has open."""
    import shutil

    shutil.copytree(home, place)
    return place


def commands(folder: Path, home: Path, large: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return name -> (command line, environment)."""
    from fedctl.recall.embedder import ON_BOARD
    from fedctl.store.queries import load

    def script(name: str, text: str) -> list[str]:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return [sys.executable, str(path)]

    fedctl = common.fedctl_command()
    cold = common.plain_environment(home)
    warm = cold | {"FEDCTL_HOME": str(folder / "hub-home")}
    beside = copy_of(home, folder / "typer-home") / "store.db"
    store = ["memory", "store", "--task", "fix the login test", "--output", "mocked the clock", "--json"]
    query = ["memory", "query", "how is a file read line by line", "--json"]
    session = SESSION.format(folder=str(ON_BOARD))
    opened = OPEN.format(path=str(beside))
    inserting = TYPER_APP.replace("    {work}", opened + INSERT)
    claiming = TYPER_APP.replace("    {work}", opened + CLAIM_ITEM.format(sql=load("pool")["claimable"], key=1))
    claim = ["pool", "claim", "builds", "--worker", "w", "--json"]
    arguments = ["fix the login test", "--output", "mocked the clock"]
    return {
        "python -c pass": ([sys.executable, "-c", "pass"], cold),
        "typer, one command": ([*script("typer_app.py", TYPER_APP.format(work="pass")), *arguments], cold),
        TYPER_CLAIM: ([*script("typer_claim.py", claiming), *arguments], cold),
        "typer + apsw, insert": ([*script("typer_apsw.py", inserting), *arguments], cold),
        "import numpy, onnxruntime, tokenizers; load": (script("session.py", session), cold),
        "the same; embed one text": (script("embed.py", session + EMBED), cold),
        MUST: (script("all.py", session + EMBED + "import typer, apsw, msgspec, numkong\n"), cold),
        "fedctl --version": ([*fedctl, "--version"], cold),
        "fedctl --help": ([*fedctl, "--help"], cold),
        "fedctl memory --help": ([*fedctl, "memory", "--help"], cold),
        "fedctl memory query --help": ([*fedctl, "memory", "query", "--help"], cold),
        CLAIM: ([*fedctl, "--hub", "off", *claim], cold),
        "fedctl memory store, no hub": ([*fedctl, "--hub", "off", *store], cold),
        "fedctl memory store, hub": ([*fedctl, *store], warm),
        QUERY_HUB: ([*fedctl, *query], warm),
        "fedctl memory query --mode keyword, no hub": ([*fedctl, "--hub", "off", *query, "--mode", "keyword"], cold),
        "fedctl memory query, no hub": ([*fedctl, "--hub", "off", *query], cold),
        QUERY_COLD: ([*fedctl, "--hub", "off", *query], common.plain_environment(large)),
    }  # fmt: skip


def run_all(cases: dict[str, tuple[list[str], dict[str, str]]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return name -> (CPU ms, wall ms) of each run; one more run each goes first, for the page cache."""
    import time

    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, (command, environ) in cases.items():
            began = time.perf_counter()
            cpu_ms = cpu_of(command, environ, name)
            if number:
                times[name].append((cpu_ms, (time.perf_counter() - began) * 1000))
    return times


def cpu_of(command: Sequence[str], environ: dict[str, str], name: str) -> float:
    """Run a command to its end; return the ms of CPU it took, user and system."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, EMPTY):
        raise SystemExit(f"{name} ended with {process.returncode}: {said.decode('utf-8', 'replace')[-500:]}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def rows(times: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Return the table: each command against nothing, against Typer, and against what it is to be measured by."""
    cpu = {name: statistics.median(one[0] for one in runs) for name, runs in times.items()}
    against = {
        "fedctl --version": "python -c pass",
        "fedctl --help": "typer, one command",
        "fedctl memory --help": "typer, one command",
        "fedctl memory query --help": "typer, one command",
        CLAIM: TYPER_CLAIM,
        "fedctl memory store, no hub": "typer + apsw, insert",
        "fedctl memory store, hub": "typer, one command",
        QUERY_HUB: TYPER_CLAIM,
        "fedctl memory query --mode keyword, no hub": "typer + apsw, insert",
        "fedctl memory query, no hub": MUST,
        QUERY_COLD: MUST,
    }
    return [
        {
            "command": name,
            "cpu_ms": cpu[name],
            "wall_ms": statistics.median(one[1] for one in runs),
            "x python": cpu[name] / cpu["python -c pass"],
            "x typer": cpu[name] / cpu["typer, one command"],
            "x its yardstick": cpu[name] / cpu[against[name]] if name in against else None,
            "yardstick": against.get(name),
        }
        for name, runs in times.items()
    ]


def goals(times: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Return each goal with what it is measured by: at most so many times that, or so many ms above it."""
    cpu = {name: statistics.median(one[0] for one in runs) for name, runs in times.items()}
    limits = [
        (CLAIM, TYPER_CLAIM, 1.2, 0.0),
        (QUERY_HUB, TYPER_CLAIM, 1.0, 10.0),
        (QUERY_COLD, MUST, 1.25, 0.0),
    ]
    return [
        {
            "goal": name,
            "cpu_ms": cpu[name],
            "yardstick": yardstick,
            "yardstick_ms": cpu[yardstick],
            "ratio": cpu[name] / cpu[yardstick],
            "above_ms": cpu[name] - cpu[yardstick],
            "limit": f"x {factor:g}" if not more_ms else f"+ {more_ms:g} ms",
            "met": "yes" if cpu[name] <= cpu[yardstick] * factor + more_ms else "NO",
        }
        for name, yardstick, factor, more_ms in limits
    ]


if __name__ == "__main__":
    main()
