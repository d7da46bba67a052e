"""Short doses of scripts/prove: what the README's promises stand on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROVE = Path(__file__).parents[2] / "scripts" / "prove"


@pytest.mark.long
@pytest.mark.parametrize(
    "dose",
    [
        # the longest first, those that wait in turn with those that work
        ["net", "--quick"],
        ["soak", "--quick"],
        ["flood", "--quick"],
        ["pools", "--quick"],
        ["keep", "--quick"],
        ["restore", "--quick"],
        ["erase", "--quick"],
        ["disk", "--quick"],
        ["damage", "--quick"],
        ["race", "--quick"],
        ["power", "--quick"],
        ["crash", "--rounds", "2", "--writers", "4", "--only", "hub"],
        ["crash", "--rounds", "4", "--only", "agents"],
        ["writers", "--quick"],
        ["crash", "--rounds", "2", "--writers", "2", "--only", "writers"],
        ["crash", "--quick", "--only", "calls"],
        ["fuzz", "--quick"],
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
    there = "crash, damage, disk, erase, flood, fuzz, index, keep, net, pools, power, race, restore, soak, writers"
    assert f"there is no nonsense; there are {there}" in done.stderr
