"""An import that is cut short, by anything, at any moment: what is stored stays, and the next run goes on."""

from __future__ import annotations

import json
import signal
import time

import pytest

LINES = 150


def write_lines(path, count=LINES, words=1):
    """Write lines without ids, two of them alike."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number in range(count):
            file.write(json.dumps({"task": f"step {max(number, 1)}", "output": "walk on " * words}) + "\n")


def rows(user, *flags, **environ):
    exported = user("memory", "export", "--with-vectors", **environ)
    assert exported.code == 0, exported.err
    return {(row := json.loads(line))["id"]: row for line in exported.out.splitlines()}


def test_an_import_that_is_killed_again_and_again_ends_as_if_it_had_run_once(user):
    file = user.folder / "runs.jsonl"
    write_lines(file)
    for delay_s in (0.15, 0.25, 0.35, 0.5, 0.8):  # in start-up, among rows, among vectors: as it comes
        process = user.start("memory", "import", str(file))
        time.sleep(delay_s)
        process.kill()
        process.wait()
    last = user("memory", "import", str(file), "--json").json
    assert last["imported"] + last["existing"] == last["lines"] == LINES
    assert last["pending_embeddings"] == 0
    undisturbed = {"FEDCTL_HOME": str(user.folder / "undisturbed")}
    assert user("memory", "import", str(file), "--json", **undisturbed).json["imported"] == LINES
    found, expected = rows(user), rows(user, **undisturbed)
    assert found.keys() == expected.keys()
    assert len(found) == LINES
    for one, row in expected.items():
        assert {**found[one], "created_at": "", "seq": 0, "embedding": ""} == {
            **row, "created_at": "", "seq": 0, "embedding": "",
        }  # fmt: skip
        assert found[one]["embedding"]["model"] == row["embedding"]["model"]
        assert len(found[one]["embedding"]["vectors"]) == len(row["embedding"]["vectors"])
    assert user("store", "check", "--full").code == 0


@pytest.mark.parametrize("hub", [False, True], ids=["at home", "by a hub"])
def test_ctrl_c_while_embedding_keeps_what_is_stored(user, hub):
    file = user.folder / "runs.jsonl"
    write_lines(file, count=400, words=120)
    if hub:
        user.hub()
    else:
        assert user("init").code == 0
    process = user.start("memory", "import", str(file))
    deadline = time.monotonic() + 60
    while user("memory", "stats", "--json").json["episodes"] < 400:
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    if hub:
        assert user("hub", "stop").code == 0
    again = user("memory", "import", str(file), "--no-embed", "--json").json
    assert again["existing"] == 400
    assert 0 < again["pending_embeddings"] <= 400


def test_an_import_is_embedded_by_the_hub_on_the_home_and_by_one_elsewhere(user):
    file = user.folder / "runs.jsonl"
    write_lines(file, count=20)
    info = user.hub()
    here = user("memory", "import", str(file), "--json")
    assert (here.json["imported"], here.json["pending_embeddings"], here.err) == (20, 0, "")
    token = user("token", "issue", "--tenant", "acme", "--ttl", "1m", "-q").out.strip()
    elsewhere = {"FEDCTL_HOME": str(user.folder / "none"), "FEDCTL_HUB": info["url"], "FEDCTL_TOKEN": token}
    there = user("memory", "import", str(file), "--json", **elsewhere)
    assert (there.json["imported"], there.json["pending_embeddings"], there.err) == (20, 0, "")
    found = user("memory", "query", "step 7", "--mode", "semantic", "--json", **elsewhere)
    assert (len(found.json), found.err) == (10, "")
