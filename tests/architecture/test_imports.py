"""What a cold command loads, and in which order two libraries may come: each in an interpreter of its own.

Start-up is a feature: a module costs 0.1 to 100 ms of each command, and comes in by one careless import. So each hot
command has a list of what it may not load. What Typer and msgspec bring is on none of them.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedctl.cli.main import run

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "onnxruntime", "usearch", "numkong", "tokenizers", "websockets", "httpx2", "httpx", "asyncio",
"rich", "typer", "pydantic",
         "sqlite_utils", "jwt", "cryptography", "sqlite3", "importlib.metadata")  # fmt: skip

COLD = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from fedctl.bootstrap import open_context
from fedctl.client.local import LocalCaller
from fedctl.model.principal import Principal
from fedctl.model.episode import EpisodeDraft
from fedctl.messages.memory import *

settings = SimpleNamespace(home=Path(sys.argv[1]), timeout_ms=None, model=None)
caller = LocalCaller(open_context(settings, create=True), Principal(tenant_id="default", role="owner"))
{requests}
caller.close()
print(json.dumps(sorted(sys.modules)))
"""


def loaded(code: str, *args: object, environ: dict[str, str] | None = None) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | (environ or {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def heavy(modules: set[str]) -> set[str]:
    return {name for name in HEAVY if name in modules}


STORE = 'caller.call(StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t", reward=0.5, input={"a": 1})], echo=True))'
BY_WORDS = 'assert caller.call(QueryEpisodes(text="t", mode="keyword")).hits'


def test_a_cold_store_loads_nothing_heavy(tmp_path: Path):
    assert heavy(loaded(COLD.format(requests=STORE), tmp_path)) == set()


@pytest.mark.parametrize(
    "request_",
    [BY_WORDS, "caller.call(ListEpisodes())", 'caller.call(GetEpisodes(ids=["e"]))', "caller.call(MemoryStats())",
     "caller.call(PullEpisodes())", 'caller.call(DeleteEpisodes(ids=["e"]))'],
)  # fmt: skip
def test_whatever_needs_no_vector_loads_nothing_heavy_either(tmp_path: Path, request_: str):
    assert heavy(loaded(COLD.format(requests=f"{STORE}\n{request_}"), tmp_path)) == set()


RUN = """
import io, json, os, sys
from fedctl.cli.main import run

code = run(sys.argv[1:], stdin=None, stdout=io.BytesIO(), stderr=None, environ=os.environ)
print(json.dumps([f"exit {code}", *sys.modules]))
"""

NEVER = {
    "asyncio", "concurrent.futures", "cryptography", "dataclasses", "email", "http.client", "httpx", "httpx2",
    "importlib.metadata", "jwt", "logging", "multiprocessing", "numkong", "numpy", "onnxruntime", "platformdirs",
    "pydantic", "random", "rich", "socket", "sqlite3", "sqlite_utils", "ssl", "tempfile", "tokenizers", "tomlkit",
    "tomllib", "urllib.request", "usearch", "websockets"
}  # fmt: skip
OPENSSL = {"hashlib"}
DATABASE = {"apsw", "fedctl.store", "fedctl.operations", "fedctl.access"}
SOCKET = {"fedctl.wire", "fedctl.client.remote"}
ENGINES = {"fedctl.recall", "fedctl.access.tokens", "fedctl.archive", "fedctl.retention", "fedctl.hub", "fedctl.agent"}
VECTORS = {"fedctl.recall.index", "fedctl.recall.embedder", "fedctl.recall.graph", "fedctl.operations.index",
           "fedctl.operations.embedding", "fedctl.access.tokens"}  # fmt: skip
MEMORY = {"fedctl.messages.memory", "fedctl.operations.memory", "fedctl.operations.erasure", "fedctl.store.memory"}
POOLS = {"fedctl.messages.pool", "fedctl.operations.item", "fedctl.store.pool"}
OTHERS = {f"fedctl.messages.{column}" for column in ("agent", "hub", "retention", "token", "store")}

HELP = NEVER | OPENSSL | DATABASE | SOCKET | ENGINES | OTHERS | {"fedctl.bootstrap"}
WORK = NEVER | OPENSSL | SOCKET | ENGINES | MEMORY | OTHERS
HOT = {
    "--help": (0, HELP | {"fedctl.messages"}),
    "memory --help": (0, HELP | POOLS),
    "memory query --help": (0, HELP | POOLS),
    "completion bash": (0, NEVER | {"apsw", "fedctl.store", "fedctl.client.remote"}),
    "--hub off worker heartbeat w": (0, WORK),
    "--hub off pool push builds {}": (0, WORK),
    "--hub off pool claim builds --worker w": (0, WORK),
    "--hub off pool complete ITEM --lease-id LEASE": (0, WORK),
    "--hub off memory store --task t": (0, NEVER | OPENSSL | SOCKET | VECTORS | POOLS | OTHERS),
    "--hub off memory query word --mode keyword": (0, NEVER | OPENSSL | SOCKET | VECTORS | POOLS | OTHERS),
    "--hub off status": (0, NEVER | SOCKET),
}
"""Command line -> its exit code, and what it may not load."""


def ask(home: Path, argv: str) -> Any:
    stdout = io.BytesIO()
    given = {"stdin": None, "stdout": stdout, "stderr": None}
    assert run([*argv.split(), "--json"], **given, environ={"FEDCTL_HOME": str(home)}) == 0
    return json.loads(stdout.getvalue())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a little of what the hot commands ask for."""
    folder: Path = tmp_path_factory.mktemp("hot") / "home"
    for argv in ("worker register w", "pool push builds {}", "memory store --task word"):
        ask(folder, argv)
    return folder


@pytest.mark.parametrize("argv", HOT)
def test_a_hot_command_loads_nothing_that_it_has_no_use_for(home: Path, argv: str):
    code, names = HOT[argv]
    if "ITEM" in argv:
        ask(home, "pool push builds {}")
        (item,) = ask(home, "pool claim builds --worker w")
        argv = argv.replace("ITEM", item["id"]).replace("LEASE", item["lease_id"])
    modules = loaded(RUN, *argv.split(), environ={"FEDCTL_HOME": str(home)})
    assert (f"exit {code}" in modules, names & modules) == (True, set())


def test_a_question_to_a_hub_loads_neither_the_store_nor_any_engine(home: Path, make_embedder):
    hub = runpy.run_path(str(ROOT / "tests" / "hub" / "running.py"))["RunningHub"](home, make_embedder())
    modules = loaded(RUN, "memory", "query", "word", environ={"FEDCTL_HOME": str(home)})
    hub.stop()
    names = NEVER | OPENSSL | DATABASE | ENGINES | POOLS | {"fedctl.client.tls", "fedctl.messages.agent"}
    assert ("exit 0" in modules, "fedctl.client.remote" in modules, names & modules) == (True, True, set())


def test_what_is_denied_is_there_to_be_loaded():
    """A module that was renamed would be denied in vain."""
    names = {name for _, denied in HOT.values() for name in denied if name.startswith("fedctl.")}
    assert [name for name in sorted(names) if importlib.util.find_spec(name) is None] == []


def test_the_version_is_told_before_anything_is_loaded():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fedctl", "--version"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.stdout.startswith("fedctl ")
    assert "fedctl.cli.main" in names
    assert {"typer", "msgspec", "fedctl.errors", "fedctl.cli.command", "signal"} & names == set()


@pytest.mark.parametrize("order", ["ie", "ei", "ge", "eg", "gi", "ieg"])
def test_index_graph_and_model_get_along_in_any_order(tmp_path: Path, order: str):
    """Importing usearch before onnxruntime kills the interpreter; whoever brings it in has to mind this test."""
    parts = {
        "i": "import fedctl.recall.index as index, numpy as np\n"
             "v = np.eye(8, dtype=np.float32)\n"
             "rows = [(n, n, b) for n, b in enumerate(index.to_blobs(v))]\n"
             "assert list(index.Search([index.tail(rows, 8)], v[3]).nearest(1)) == [3]\n",
        "e": "from fedctl.recall.embedder import Embedder\nassert Embedder().embed(['alpha']).shape == (1, 384)\n",
        "g": "import sys, pathlib, numpy as np\n"
             "from fedctl.recall import graph\n"
             "folder = pathlib.Path(sys.argv[1])\n"
             "np.eye(8, dtype='<f2').tofile(folder / 'v')\n"
             "graph.Build(graph.Plan(None, str(folder / 'v'), 8, 8, str(folder / 't'))).wait(None)\n"
             "eye = np.eye(8, dtype='<f2')\n"
             "assert graph.Graph(folder / 't', eye).nearest(eye[3], 1).tolist() == [3]\n"
             "loaded = list(sys.modules)\n"
             "assert loaded.index('onnxruntime') < loaded.index('usearch')\n",
    }  # fmt: skip
    code = "".join(parts[one] for one in order)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_module_of_the_core_can_be_imported_first():
    """One that needs another to be imported before it hides a circle."""
    code = """
import importlib, json, sys
done = []
for name in json.loads(sys.argv[1]):
    for other in [one for one in sys.modules if one == "fedctl" or one.startswith("fedctl.")]:
        del sys.modules[other]
    importlib.import_module(name)
    done.append(name)
print(json.dumps(done))
"""
    files = (
        path
        for layer in ("model", "messages", "store", "operations", "recall")
        for path in (ROOT / "fedctl" / layer).rglob("*.py")
    )
    names = {
        str(path.relative_to(ROOT).with_suffix("")).replace(os.sep, ".").removesuffix(".__init__") for path in files
    }
    assert loaded(code, json.dumps(sorted(names))) == names
