"""Short doses of scripts/prove: what the README's promises stand on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROVE = Path(__file__).parents[2] / "scripts" / "prove"


@pytest.mark.parametrize(
    "dose",
    [
        ["writers", "--quick"],
        ["crash", "--rounds", "2", "--writers", "4", "--only", "hub"],
        ["crash", "--rounds", "2", "--writers", "2", "--only", "writers"],
        ["crash", "--rounds", "4", "--only", "agents"],
        ["pools", "--quick"],
        ["flood", "--quick"],
        ["fuzz", "--quick"],
        ["net", "--quick"],
        ["soak", "--quick"],
    ],
    ids=" ".join,
)
def test_a_short_dose_holds(dose):
    done = subprocess.run(
        [sys.executable, str(PROVE / dose[0]), *dose[1:]], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all hold" in done.stdout


def test_a_proof_that_does_not_exist_is_named():
    done = subprocess.run(
        [sys.executable, str(PROVE / "run"), "nonsense"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "there is no nonsense; there are crash, flood, fuzz, index, net, pools, soak, writers" in done.stderr
