"""Erasing as a user does: in processes, with kills, and read byte by byte afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MARK = "zyxqneedle"


def fedctl(home: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FEDCTL_", "DEBUG_"))}
    command = [sys.executable, "-m", "fedctl", "--home", str(home), "--tenant", "acme", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)


def found(home: Path) -> list[str]:
    return [one.name for one in home.rglob("*") if one.is_file() and MARK.encode() in one.read_bytes().lower()]


def test_a_tenant_is_erased_to_the_last_byte_and_said_so_in_json_and_codes(home):
    lines = "".join(json.dumps({"id": f"{MARK}{n}", "task": f"{MARK} {n}"}) + "\n" for n in range(30))
    assert fedctl(home, "memory", "store", "--batch", stdin=lines).returncode == 0
    assert found(home)
    asked = fedctl(home, "tenant", "erase", "acme")
    assert (asked.returncode, "add --yes" in asked.stderr) == (2, True)
    would = fedctl(home, "tenant", "erase", "acme", "-n", "--json")
    assert (json.loads(would.stdout)["episodes"], bool(found(home))) == (30, True)
    hard = fedctl(home, "memory", "delete", f"{MARK}1", "--hard", "--json")
    assert (hard.returncode, json.loads(hard.stdout)["complete"]) == (0, True)
    done = fedctl(home, "tenant", "erase", "acme", "--yes", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["episodes"], answer["complete"], answer["backups"]) == (0, 29, True, [])
    assert found(home) == []
    again = fedctl(home, "tenant", "erase", "acme", "--yes", "--json")
    assert (again.returncode, json.loads(again.stderr)["error"]["code"]) == (4, "not_found")
    pushed = fedctl(home, "memory", "store", "--batch", stdin=lines.splitlines()[1] + "\n")
    assert json.loads(pushed.stdout)["deleted"] is True
