"""`scripts/prove/run`: one table of what all proofs measured, whatever becomes of one of them."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.prove.promises import BACKS

PROVE = Path(__file__).parents[2] / "scripts" / "prove"
BODIES = {
    "good": "figures.add('lost | found', 0, wanted=0); sys.exit(figures.finish())",
    "bad": "figures.add('lost', 3, wanted=0); figures.not_shown('power', 'no root'); sys.exit(figures.finish())",
    "dies": "figures.add('lost', 0, wanted=0); os.kill(os.getpid(), 9)",
    "empty": "sys.exit(0)",
    "hangs": "figures.add('lost', 0, wanted=0)\ntry: time.sleep(60)\nfinally: open(__file__ + '.cleaned', 'w')",
}


@pytest.fixture
def prove(tmp_path):
    folder = tmp_path / "scripts" / "prove"
    folder.mkdir(parents=True)
    for name in ("run", "common.py", "promises.py"):
        shutil.copy(PROVE / name, folder / name)
    for name, body in BODIES.items():
        program = f"import os, sys, time\nimport common\nfigures = common.Figures('t')\n{body}\n"
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)

    def run(*arguments: str):
        command = [sys.executable, str(folder / "run"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=PROVE.parents[1])
        return done.returncode, done.stdout

    run.folder = folder
    return run


def test_all_that_was_measured_is_in_one_table_and_a_failure_is_an_exit_code(prove):
    code, out = prove("--json", "bad", "empty", "good", "dies")
    told = json.loads(out)
    assert code == 1
    assert [(one["name"], one["outcome"]) for one in told["proofs"]] == [
        ("bad", "FAILED"), ("empty", "FAILED: it has no figures"), ("good", "holds"), ("dies", "FAILED: ended with -9"),
    ]  # fmt: skip
    assert [row["outcome"] for one in told["proofs"] for row in one["figures"]] == ["FAIL", "not shown", "ok", "ok"]
    machine = told["machine"]
    assert machine["cores"] > 0
    assert machine["fsync_ms"] >= 0
    assert machine["date"].endswith("+00:00")


def test_one_that_hangs_is_interrupted_and_cleans_up(prove):
    begun = time.monotonic()
    code, out = prove("--markdown", "--limit", "1.5", "hangs", "good")
    assert code == 1
    assert time.monotonic() - begun < 20
    assert "| hangs | FAILED: not done after 1.5 s |" in out
    assert "| good | lost \\| found | 0 | 0 | ok |" in out
    assert (prove.folder / "hangs.cleaned").exists()


def test_what_holds_is_exit_0(prove):
    code, out = prove("good")
    assert code == 0
    assert "1 proofs, 0 failed; 1 figures, 0 not shown" in out


def test_each_proof_backs_a_promise():
    proofs = {one.name for one in PROVE.iterdir() if one.is_file() and not one.suffix} - {"run"}
    assert proofs == BACKS.keys()
    for name in proofs:
        assert ast.get_docstring(ast.parse((PROVE / name).read_text())), name
