"""What a cold command loads, and in which order two libraries may come: each in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def loaded(code: str, *args: object) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], cwd=ROOT, capture_output=True, text=True, check=False
    )
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
