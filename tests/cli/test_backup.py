"""`fedctl backup`, as it is typed, by people and by cron."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedctl.operations.job import exclusive_job

FIELDS = {
    "id",
    "created_at",
    "path",
    "size_bytes",
    "episodes",
    "items",
    "sha256",
    "schema_version",
    "model",
    "verified_at",
}


def backup(fedctl, *argv: str):
    result = fedctl("backup", *argv, "--json")
    assert result.code == 0, result.err
    return result.json


def damage(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[50] ^= 1
    Path(path).write_bytes(content)


def test_the_noun_alone_makes_a_backup(fedctl):
    fedctl.store("a task")
    made = fedctl("backup", "--json")
    assert made.code == 0, made.err
    assert made.json.keys() >= FIELDS
    assert (made.json["episodes"], made.json["error"], made.json["own"]) == (1, None, True)
    assert made.json["verified_at"] >= made.json["created_at"]
    assert fedctl("backup", "ls", "--ids").out == made.json["id"] + "\n"
    assert fedctl("backup", "show", "latest", "--json").json | {"pruned": []} == made.json
    assert fedctl("backup", "--help").out.startswith("Usage")


def test_cron_hears_nothing_of_success_and_one_line_of_failure(fedctl, tmp_path):
    fedctl.store("a task")
    for argv in (
        ["backup", "-q"],
        ["backup", "create", "--prune", "--keep-last", "1", "-q"],
        ["backup", "verify", "latest", "--restore-test", "-q"],
        ["backup", "prune", "--keep-daily", "1", "-q"],
    ):
        result = fedctl(*argv)
        assert (result.code, result.out, result.err) == (0, "", ""), argv
    damage(backup(fedctl, "show", "latest")["path"])
    result = fedctl("backup", "verify", "latest", "-q")
    assert (result.code, result.out, result.err.count("\n")) == (13, "", 1)
    (listed,) = backup(fedctl, "list")
    assert (listed["verified_at"], "damaged" in listed["error"] or "not what it says" in listed["error"]) == (
        None,
        True,
    )


def test_with_prune_the_old_ones_go_once_the_new_one_is_whole(fedctl, tmp_path):
    fedctl.store("a task")
    dest = str(tmp_path / "dest")
    for _ in range(3):
        backup(fedctl, "create", dest)
    last = fedctl("backup", "create", dest, "--prune", "--keep-last", "2", "--json")
    assert "2 older backups were removed, 2 kept" in last.err
    assert len(last.json["pruned"]) == 2
    listed = backup(fedctl, "list", dest)
    assert [one["id"] for one in listed][-1] == last.json["id"]
    assert len(listed) == 2


def test_a_dry_run_says_what_the_run_does(fedctl):
    fedctl.store("a task")
    for _ in range(3):
        backup(fedctl, "create")
    dry = backup(fedctl, "prune", "--keep-last", "1", "-n")
    assert (dry["removed"], dry["kept"], dry["reasons"], dry["dry_run"]) == (2, 1, {"last": 1}, True)
    assert len(backup(fedctl, "list")) == 3
    assert backup(fedctl, "prune", "--keep-last", "1") == dry | {"dry_run": False}
    table = fedctl("backup", "prune", "--keep-last", "1")
    assert table.out.splitlines()[1].endswith('true\t["last"]')


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["prune"], 2),
        (["prune", "--keep-last", "0"], 2),
        (["prune", "--keep-last", "-2"], 2),
        (["create", "--prune"], 2),
        (["create", "--keep-last", "3"], 2),
        (["create", "-n"], 2),
        (["create", "--hub", "wss://elsewhere:1"], 2),
        (["create", "--passphrase-file", "/dev/null/absent"], 2),
        (["create", "--passphrase-file", "/dev/null"], 2),
        (["create", "--max-time", "0s"], 2),
        (["create", "--lock-wait", "5"], 2),
        (["verify"], 2),
        (["verify", "latest"], 4),
        (["verify", "01a1fdb1-f7b9-7331-b621-d50713760574"], 4),
        (["verify", "/etc/hostname"], 13),
        (["verify", "[" * 5000], 4),
        (["show", "latest"], 4),
        (["list", "/dev/null/absent"], 4),
        (["create", "/dev/null"], 2),
        (["prune", "/no/such", "--keep-last", "1"], 4),
        (["show", "/etc/hostname"], 13),
        (["--with-keys"], 2),
    ],
)
def test_what_makes_no_sense_has_its_exit_code_and_no_traceback(fedctl, argv, code):
    fedctl("init")
    result = fedctl("backup", *argv)
    assert (result.code, result.out) == (code, ""), result.err
    assert "Traceback" not in result.err
    assert "unexpected" not in result.err


def test_without_a_home_there_is_nothing_to_back_up_and_nothing_is_made(fedctl):
    assert fedctl("backup").code == 10
    assert fedctl("backup", "list", "--json").json == []
    assert not fedctl.home.exists()


def test_a_store_that_is_gone_is_not_begun_anew_by_who_only_writes(fedctl):
    fedctl.store("a task")
    backup(fedctl)
    for path in fedctl.home.glob("store.db*"):
        path.unlink()
    for argv in (["memory", "store", "--task", "t"], ["memory", "list"], ["pool", "push", "p", "1"], ["backup"]):
        result = fedctl(*argv, "--json")
        assert (result.code, result.error["code"]) == (10, "no_store"), result.err
        assert "fedctl restore latest" in result.error["hint"]
    assert fedctl("status", "--json").json["next"] == ["fedctl restore latest"]
    assert not list(fedctl.home.glob("store.db*"))
    assert fedctl("restore", "latest", "-q").code == 0
    for path in fedctl.home.glob("store.db*"):
        path.unlink()
    assert fedctl("init", "--json").json["created"] is True
    fedctl.store("another task")


def test_a_damaged_one_is_shown_and_told_by_the_exit_code(fedctl):
    fedctl.store("a task")
    made = backup(fedctl)
    damage(made["path"])
    assert fedctl("backup", "show", made["id"]).code == 0  # nobody has read it since
    assert fedctl("backup", "verify", made["id"]).code == 13
    shown = fedctl("backup", "show", made["id"], "--json")
    assert (shown.code, shown.json["id"]) == (13, made["id"])
    assert shown.json["error"] in shown.err


def test_what_is_unusual_has_a_column_for_who_reads_along(fedctl, tmp_path):
    dest = str(tmp_path / "shared")
    fedctl.store("a task")
    backup(fedctl, "create", dest)
    assert "OWN" not in fedctl("backup", "list", dest, terminal=True).out
    other = {"FEDCTL_HOME": str(tmp_path / "other")}
    assert fedctl("memory", "store", "--task", "t", environ=other).code == 0
    assert fedctl("backup", "create", dest, environ=other).code == 0
    heads = fedctl("backup", "list", dest, terminal=True).out.splitlines()[0]
    assert ("OWN" in heads, "SEALED" in heads) == (True, False)
    assert "own" not in fedctl("backup", "list", dest).out.splitlines()[0]


def test_a_restore_test_says_what_it_compared(fedctl):
    fedctl.store("a task")
    backup(fedctl)
    result = fedctl("backup", "verify", "latest", "--restore-test", "--json")
    assert result.json["restore_tested_at"] == result.json["verified_at"]
    assert "1 episode and 0 items of 1 tenant\n" in result.err


def test_each_backup_that_may_hold_what_would_be_erased_is_a_note_of_its_own(fedctl):
    fedctl.store("a task", "--tenant", "acme")
    ids = {backup(fedctl)["id"] for _ in range(2)}
    notes = fedctl("tenant", "erase", "acme", "--dry-run").err.splitlines()
    assert notes[0] == "note: 2 backups may still hold it, or cannot be looked into:"
    assert {line.removeprefix("note:   ") for line in notes[1:]} == ids


def test_one_backup_at_a_time(fedctl):
    fedctl.store("a task")
    with exclusive_job(fedctl.home, "backup"):
        for argv in (["create"], ["prune", "--keep-last", "1"]):
            result = fedctl("backup", *argv, "--json")
            assert (result.code, result.error["code"]) == (7, "unavailable")
        assert fedctl("backup", "create", "--lock-wait", "10ms").code == 7


def test_time_that_runs_out_is_exit_8_and_leaves_nothing(fedctl):
    fedctl.store("a task")
    over = fedctl("backup", "create", "--max-time", "1ms", "--json")
    assert (over.code, "begins anew" in over.error["hint"]) == (8, True)
    assert list((fedctl.home / "backups").iterdir()) == []


def test_a_fresh_machine_verifies_with_a_note_and_another_home_needs_the_fingerprint(fedctl, tmp_path):
    fedctl.store("a task")
    made = backup(fedctl)
    file = str(tmp_path / "carried.backup")
    shutil.copy(made["path"], file)
    fresh = {"FEDCTL_HOME": str(tmp_path / "fresh")}
    result = fedctl("backup", "verify", file, "--json", environ=fresh)
    assert (result.code, made["signed_by"] in result.err) == (0, True)
    assert not (tmp_path / "fresh").exists()
    other = {"FEDCTL_HOME": str(tmp_path / "other")}
    fedctl("memory", "store", "--task", "t", environ=other)
    assert fedctl("backup", environ=other).code == 0
    refused = fedctl("backup", "verify", file, "--json", environ=other)
    assert (refused.code, refused.error["details"]) == (13, {"signed_by": made["signed_by"]})
    assert fedctl("backup", "verify", file, "--signed-by", made["signed_by"], environ=other).code == 0
    assert fedctl("backup", "verify", file, "--signed-by", "00" * 16, environ=other).code == 13


def test_a_backup_that_is_killed_leaves_what_the_next_one_removes(fedctl):
    """The only whole process here: SIGKILL in the middle, its lock and its folder left behind."""
    fedctl.store("a task")
    code = """
import sys, os, signal
from fedctl.clock import Clock
from fedctl.operations import backup
from pathlib import Path
backup.create(Path(sys.argv[1]), Clock(), step=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""
    done = subprocess.run([sys.executable, "-c", code, str(fedctl.home)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = (fedctl.home / "backups").iterdir()
    assert left.name.endswith(".partial")
    assert fedctl("backup", "list", "--json").json == []
    made = backup(fedctl)
    assert [entry.name for entry in (fedctl.home / "backups").iterdir()] == [Path(made["path"]).name]


def test_a_passphrase_that_others_may_read_is_said_and_a_wrong_one_is_denied(fedctl, tmp_path):
    fedctl.store("a task")
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("correct horse\n")
    right.chmod(0o644)
    wrong.write_text("battery staple\n")
    wrong.chmod(0o600)
    made = fedctl("backup", "create", "--passphrase-file", str(right), "--json")
    note = f"note: others may open the passphrase file (mode 0644): chmod 600 {right}\n"
    assert (made.code, made.err) == (0, note)
    refused = fedctl("restore", "latest", "--to", str(tmp_path / "new"), "--passphrase-file", str(wrong), "--json")
    assert (refused.code, refused.error["code"]) == (9, "denied")
    right.chmod(0o600)
    cut = tmp_path / "cut.backup"
    cut.write_bytes(Path(made.json["path"]).read_bytes()[:-100])
    damage(made.json["path"])
    for path in (made.json["path"], str(cut)):
        spoilt = fedctl("backup", "verify", path, "--passphrase-file", str(right), "--json")
        assert (spoilt.code, "note" in spoilt.err) == (13, False)
