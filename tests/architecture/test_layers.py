"""The shape of the code: who may import whom, what is called what, and how large anything may grow."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEDCTL = ROOT / "fedctl"
FILES = sorted(FEDCTL.rglob("*.py"))
NOT_COLUMNS = {"__init__", "backup", "context", "damage", "embedding", "erasure", "index", "item", "job", "newest",
               "pin", "register", "reindex", "restore", "sieve", "table", "upkeep"}  # fmt: skip


def test_every_contract_of_the_layers_holds(tmp_path: Path):
    # Its cache goes elsewhere, and so does the program: it is the one next to this Python.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--config", ROOT / "pyproject.toml", "--cache-dir", tmp_path / "cache"], cwd=ROOT,
         capture_output=True, text=True,
        check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_of_ours_is_under_the_contract_of_the_layers():
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    named = {name.strip().removeprefix("fedctl.") for line in layers for name in line.split("|")}
    packages = {path.name for path in FEDCTL.iterdir() if (path / "__init__.py").is_file()}
    modules = {path.stem for path in FEDCTL.glob("*.py")} - {"__init__", "__main__"}
    assert packages | modules <= named


def test_a_column_of_operations_has_its_messages_under_the_same_name():
    operations = {path.stem for path in (FEDCTL / "operations").glob("*.py")} - NOT_COLUMNS
    messages = {path.stem for path in (FEDCTL / "messages").glob("*.py")} - {"__init__", "base"}
    assert operations == messages


def test_no_file_has_grown_too_large_to_be_read():
    assert {str(path): lines for path in FILES if (lines := len(path.read_text("utf-8").splitlines())) > 700} == {}


def test_every_test_of_a_module_stands_where_its_module_stands():
    free = {"architecture", "property", "conformance", "acceptance", "golden"}
    layers = ("model", "store", "operations", "recall", "messages", "clock", "errors")
    for path in (ROOT / "tests").rglob("test_*.py"):
        parts = path.relative_to(ROOT / "tests").parts
        if parts[0] in free or parts[0].removesuffix(".py").removeprefix("test_") not in layers:
            continue
        module = FEDCTL.joinpath(*parts[:-1], parts[-1].removeprefix("test_"))
        assert module.is_file(), f"{path} tests no module"


def calls(path: Path) -> set[str]:
    """Return the dotted names that a file calls or mentions."""
    return {
        ast.unparse(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)
    }


TIME = {"time.time", "time.time_ns", "time.monotonic", "datetime.now", "datetime.datetime.now", "datetime.utcnow",
"time.perf_counter",
        "random.random", "random.choice", "uuid.uuid4", "uuid.uuid1"}  # fmt: skip


@pytest.mark.parametrize("layer", ["model", "messages", "store", "recall", "access", "operations", "wire"])
def test_below_the_edges_nobody_reads_the_time_or_rolls_dice(layer: str):
    found = {str(path): hits for path in (FEDCTL / layer).rglob("*.py") if (hits := calls(path) & TIME)}
    assert found == {}


@pytest.mark.parametrize("layer", ["store", "operations", "recall", "model", "messages"])
def test_the_core_is_synchronous(layer: str):
    for path in (FEDCTL / layer).rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree)), path


def test_no_sql_is_put_together_from_what_somebody_said():
    """Outside its own two files SQL is named, not written; and no value ever becomes part of a statement."""
    words = ("SELECT ", "INSERT INTO ", "DELETE FROM ", "UPDATE ")
    allowed = {FEDCTL / "store" / "migrate.py"}
    for path in FILES:
        if path in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
                assert not text.startswith(words), f"{path}: {text}"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(words), f"{path}: {node.value}"


def test_every_event_of_the_debug_stream_is_of_a_category_that_can_be_asked_for():
    from fedctl.model.log import CATEGORIES
    from fedctl.operations.table import OPERATIONS

    said = {one.name for one in OPERATIONS.values()}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
                    and node.func.attr in ("basic", "detailed", "verbose", "trace", "_done")):  # fmt: skip
                first = node.args[0].left if isinstance(node.args[0], ast.BinOp) else node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    assert "." in first.value, f"{path.name}: {first.value}"
                    said.add(first.value)
    assert len(said) > 60
    assert {name.partition(".")[0] for name in said} <= set(CATEGORIES)
