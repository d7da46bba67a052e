"""`fedctl restore`, as it is typed."""

from __future__ import annotations

import json
import os

import pytest

from fedctl.clock import Clock
from fedctl.store.store import Store


@pytest.fixture
def saved(fedctl):
    """Return the id of a backup with one episode, of a home that has two."""
    fedctl.store("first")
    backup = fedctl("backup", "create", "--json").json
    fedctl.store("second")
    return backup["id"]


def tasks(fedctl, *flags: str) -> list[str]:
    return [one["task"] for one in fedctl("memory", "list", "--jsonl", *flags).lines]


def test_the_newest_backup_takes_the_place_of_the_store(fedctl, saved):
    result = fedctl("restore", "latest", "--overwrite", "--yes", "--json")
    assert result.code == 0, result.err
    assert set(result.json) == {"id", "created_at", "path", "episodes", "items", "erased_again", "epoch", "notes"}
    assert (result.json["id"], result.json["episodes"], result.json["notes"]) == (saved, 1, [])
    assert result.json["erased_again"] == {"tenants": 0, "episodes": 0}
    assert tasks(fedctl) == ["first"]


def test_by_its_id_into_a_new_home_the_old_one_goes_on(fedctl, saved, tmp_path):
    result = fedctl("restore", saved, "--to", str(tmp_path / "copy"), "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert tasks(fedctl, "--home", str(tmp_path / "copy")) == ["first"]
    assert tasks(fedctl) == ["second", "first"]
    again = fedctl("restore", saved, "--to", str(tmp_path / "copy"), "--json")
    assert (again.code, again.error["code"]) == (5, "conflict")


def test_a_store_is_replaced_only_by_who_says_so_and_means_it(fedctl, saved):
    assert fedctl("restore", saved).code == 5
    nobody = fedctl("restore", saved, "--overwrite")
    assert (nobody.code, "--yes" in nobody.err) == (2, True)
    person = fedctl("restore", saved, "--overwrite", terminal=True, stdin=b"n\n")
    assert (person.code, saved in person.err) == (2, True)
    assert tasks(fedctl) == ["second", "first"]
    assert fedctl("restore", saved, "--overwrite", terminal=True, stdin=b"y\n").code == 0
    assert tasks(fedctl) == ["first"]


def test_a_dry_run_verifies_and_changes_nothing(fedctl, saved):
    result = fedctl("restore", saved, "--overwrite", "--dry-run", "--json")
    assert (result.code, result.json["episodes"], result.json["epoch"]) == (0, 1, None)
    assert tasks(fedctl) == ["second", "first"]


def test_a_dry_run_needs_no_leave_and_nobody_to_go(fedctl, saved):
    store = Store.open(fedctl.home, Clock(), create=False)
    result = fedctl("restore", saved, "-n", "--json")
    assert (result.code, result.json["id"]) == (0, saved), result.err
    assert fedctl("restore", "latest", "-n", "-q").code == 0
    store.close()
    for flags in (["-n"], []):
        assert fedctl("restore", "01a1fdb1-f7b9-7331-b621-d50713760574", *flags).code == 4


def test_a_latest_that_may_not_be_the_newest_replaces_nothing(fedctl, saved, tmp_path):
    assert fedctl("backup", "create", str(tmp_path / "usb"), "-q").code == 0
    (tmp_path / "usb").rename(tmp_path / "unplugged")
    refused = fedctl("restore", "latest", "--overwrite", "--yes", "--json")
    assert (refused.code, str(tmp_path / "usb") in refused.error["message"]) == (5, True)
    assert tasks(fedctl) == ["second", "first"]
    for argv in (["restore", "latest", "--to", str(tmp_path / "copy")], ["backup", "verify", "latest"]):
        told = fedctl(*argv)
        assert (told.code, str(tmp_path / "usb") in told.err) == (0, True)
    assert fedctl("restore", saved, "--overwrite", "--yes").code == 0


def test_whoever_uses_the_store_is_named_and_waited_for_as_long_as_was_said(fedctl, saved):
    store = Store.open(fedctl.home, Clock(), create=False)
    refused = fedctl("restore", saved, "--overwrite", "-y", "--json")
    assert (refused.code, refused.error["code"]) == (11, "locked")
    assert refused.error["details"]["pids"] in ([os.getpid()], [])  # where the kernel tells
    waited = fedctl("restore", saved, "--overwrite", "-y", "-q", "--lock-wait", "50ms")
    assert (waited.code, len(waited.err.splitlines())) == (11, 1)
    store.close()
    # Here, who waited in vain is a thread of this process, which may have the lock for a moment yet.
    assert fedctl("restore", saved, "--overwrite", "-y", "--lock-wait", "10s").code == 0


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["no-such", "--overwrite"], 4),
        (["latest", "--overwrite", "--to", "x"], 2),
        (["latest", "--overwrite", "--hub", "ws://127.0.0.1:1"], 2),
        (["latest", "--overwrite", "--passphrase-file", "/no/such/file"], 2),
        (["latest", "--overwrite", "--lock-wait", "5"], 2),
        (["/dev/null", "--overwrite"], 13),
        (["latest", "--overwrite", "--signed-by", "00"], 13),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_done(fedctl, saved, flags, code):
    result = fedctl("restore", *flags, "-y", "--json")
    assert (result.code, json.loads(result.err)["error"]["exit"], result.out) == (code, code, "")
    assert tasks(fedctl) == ["second", "first"]


def test_where_there_is_no_backup_nothing_is_made(fedctl):
    result = fedctl("restore", "latest")
    assert result.code == 4
    assert not fedctl.home.exists()
