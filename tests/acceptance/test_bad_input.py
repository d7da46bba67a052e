"""Bad input, bad homes, bad files: a clear error, the right code, nothing lost, no traceback."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from fedctl.cli.main import run

DEEP = "[" * 100_000 + "]" * 100_000
LARGE = "x" * (20 << 20)


class CommandLine:
    """Types at one home, in this process; one episode is there before and must be there after."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *argv: str, stdin: bytes = b"", **environ: str) -> tuple[int, str, str]:
        out, err = io.BytesIO(), io.BytesIO()
        environment = {"FEDCTL_HOME": str(self.home), **environ}
        code = run(argv, stdin=io.BytesIO(stdin), stdout=out, stderr=err, environ=environment)
        said = err.getvalue().decode()
        assert "Traceback" not in said
        return code, out.getvalue().decode(), said

    def tasks(self) -> list[str]:
        code, out, err = self("memory", "list", "--json")
        assert code == 0, err
        return sorted(row["task"] for row in json.loads(out))


@pytest.fixture
def fedctl(tmp_path):
    line = CommandLine(tmp_path / "home")
    assert line("memory", "store", "--task", "here before", "--id", "before")[0] == 0
    return line


def check_error(fedctl, outcome, code, says=""):
    got, out, err = outcome
    assert (got, out) == (code, ""), err
    lines = err.strip().splitlines()
    error = json.loads(lines[-1])["error"]
    assert (len(lines), error["exit"]) == (1, code)
    assert error["message"]
    assert says.lower() in err.lower()
    assert len(err) < 2000
    assert fedctl.tasks() == ["here before"]


def _short(one):
    return ascii(" ".join(one))[1:60] if isinstance(one, list) else ""


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["memory", "store", "--tusk", "x"], "--task"),
        (["memory", "stroe"], "store"),
        (["memroy"], "memory"),
        (["memory", "store"], "--task"),
        (["memory", "store", "--task", ""], "empty"),
        (["memory", "store", "--task", "  "], "empty"),
        (["memory", "store", "--task", "a\0b"], "NUL"),
        (["memory", "store", "--task", "a\udc80b"], "UTF-8"),
        (["memory", "store", "--task", "t", "--output", "\ud800"], "UTF-8"),
        (["memory", "store", "--task", "t", "--reward", "nan"], "reward"),
        (["memory", "store", "--task", "t", "--reward", "inf"], "reward"),
        (["memory", "store", "--task", "t", "--reward", "1.01"], "reward"),
        (["memory", "store", "--task", "t", "--reward", "good"], "reward"),
        (["memory", "store", "--task", "t", "--tokens-used", "-1"], "tokens-used"),
        (["memory", "store", "--task", "t", "--tokens-used", "1.5"], "tokens-used"),
        (["memory", "store", "--task", "t", "--tokens-used", str(1 << 63)], "tokens-used"),
        (["memory", "store", "--task", "t", "--latency-ms", "nan"], "latency"),
        (["memory", "store", "--task", "t", "--success", "perhaps"], "success"),
        (["memory", "store", "--task", "t", "--meta", "no-equals-sign"], "meta"),
        (["memory", "store", "--task", "t", "--id", ""], "id"),
        (["memory", "store", "--task", "t", "--id", "x" * 201], "200"),
        (["memory", "store", "--task", "t", "--output", LARGE], "1,048,576"),
        (["memory", "store", "--task", "t", "extra"], ""),
        (["memory", "query", ""], "empty"),
        (["memory", "query", "x", "-k", "0"], "-k"),
        (["memory", "query", "x", "-k", "many"], "-k"),
        (["memory", "query", "x", "--mode", "psychic"], "mode"),
        (["memory", "query", "x", "--since", "yesterdayish"], "since"),
        (["memory", "query", "x", "--reward-weight", "nan"], "reward-weight"),
        (["memory", "list", "--limit", "-1"], "limit"),
        (["memory", "list", "--fields", "task,tusk"], "tusk"),
        (["memory", "list", "--timeout", "30"], "timeout"),
        (["memory", "delete"], ""),
        (["agent", "spawn", "--lifetime", "4s", "--", "true"], "5"),
        (["agent", "spawn", "--lifetime", "16m", "--", "true"], "15m"),
        (["agent", "spawn", "--sync-interval", "0s", "--", "true"], "interval"),
        (["hub", "start", "--port", "70000"], "port"),
        (["hub", "start", "--host", "0.0.0.0"], "tls"),
        (["token", "issue", "--tenant", "acme", "--ttl", "-1s"], ""),
        (["token", "issue", "--tenant", "acme", "--role", "owner"], "role"),
        (["memory", "list", "--hub", "http://localhost"], "hub"),
    ],
    ids=_short,
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error(fedctl, argv, says):
    check_error(fedctl, fedctl(*argv, "--json") if "--" not in argv else fedctl("--json", *argv), 2, says)


@pytest.mark.parametrize("argv", [["--\udcff"], ["memory", "list", "--\ud800"], ["backup", "create", "\udcff"]])
def test_an_argument_that_is_no_text_is_told_as_json_too(fedctl, argv):
    check_error(fedctl, fedctl(*argv, "--json"), 2)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "-x", "a b", "a\0b", "x" * 300, "", "ä", "a\n"])
@pytest.mark.parametrize(
    "argv",
    [
        ["--tenant=NAME", "memory", "list"],
        ["memory", "store", "--task", "t", "--agent=NAME"],
        ["memory", "store", "--task", "t", "--session=NAME"],
        ["memory", "query", "x", "--agent=NAME"],
        ["token", "issue", "--tenant=NAME"],
        ["token", "issue", "--tenant", "t", "--agent=NAME"],
        ["agent", "spawn", "--id=NAME"],
        ["agent", "spawn", "--type=NAME"],
    ],
    ids=" ".join,
)
def test_names_have_one_grammar_everywhere(fedctl, argv, name):
    check_error(fedctl, fedctl(*(word.replace("NAME", name) for word in argv), "--json"), 2)


BAD_LINES = [
    ("not JSON", b"{"),
    ("not an object", b"[1]"),
    ("not UTF-8", b'{"task": "\xff"}'),
    ("lone surrogate", b'{"task": "t", "output": "\\ud800"}'),
    ("NaN", b'{"task": "t", "reward": NaN}'),
    ("infinite", b'{"task": "t", "output": 1e999}'),
    ("wrong type", b'{"task": 5}'),
    ("reward as text", b'{"task": "t", "reward": "0.5"}'),
    ("reward too high", b'{"task": "t", "reward": 2}'),
    ("unknown field", b'{"task": "t", "rewards": 0.5}'),
    ("no task", b'{"output": "x"}'),
    ("empty task", b'{"task": ""}'),
    ("NUL in task", b'{"task": "a\\u0000b"}'),
    ("deep", b'{"task": "t", "output": ' + DEEP.encode() + b"}"),
    ("33 levels", b'{"task": "t", "output": ' + b"[" * 33 + b"]" * 33 + b"}"),
    ("20 MB", b'{"task": "t", "output": "' + LARGE.encode() + b'"}'),
    ("1 MiB and a little", b'{"task": "t", "output": "' + b"x" * (1 << 20) + b'"}'),
    ("count beyond 2^63", b'{"task": "t", "tokens_used": 9223372036854775808}'),
    ("bad name", b'{"task": "t", "session_id": "../x"}'),
    ("another's id", b'{"id": "before", "task": "other content"}'),
]


@pytest.mark.parametrize("line", [line for _, line in BAD_LINES], ids=[name for name, _ in BAD_LINES])
def test_a_bad_line_is_refused_by_its_number_and_its_neighbours_are_stored(fedctl, line):
    stdin = b'{"task": "first"}\n' + line + b'\n{"task": "last"}\n'
    code, out, err = fedctl("memory", "store", "--batch", "--json", stdin=stdin)
    answers = [json.loads(one) for one in out.splitlines()]
    assert code == 3, err
    assert [one["ok"] for one in answers] == [True, False, True]
    assert answers[1]["line"] == 2
    assert answers[1]["error"]["exit"] in (2, 5)
    assert len(out) < 5000
    assert fedctl.tasks() == ["first", "here before", "last"]


@pytest.mark.parametrize(
    "value",
    [
        1 << 63,
        -(1 << 63) - 1,
        1 << 200,
        0.1,
        1e308,
        -0.0,
        True,
        False,
        None,
        "",
        "2026",
        "\u2028\u0085",
        {"a": [{}]},
        [],
    ],
    ids=repr,
)
def test_any_json_value_comes_back_as_it_went_in(fedctl, value):
    line = json.dumps({"id": "it", "task": "t", "input": value, "output": {"deep": [value]}}).encode()
    assert fedctl("memory", "store", "--batch", stdin=line)[0] == 0
    _, out, _ = fedctl("memory", "get", "it", "--json")
    row = json.loads(out)
    row = row[0] if isinstance(row, list) else row
    assert (row["input"], type(row["input"])) == (value, type(value))
    assert row["output"] == {"deep": [value]}
    assert type(row["output"]["deep"][0]) is type(value)


@pytest.mark.parametrize("way", ["unix:/nowhere/hub.sock", "ws://127.0.0.1:PORT", "wss://127.0.0.1:PORT"])
def test_where_no_hub_listens_is_unavailable(fedctl, way):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    check_error(fedctl, fedctl("memory", "list", "--hub", way.replace("PORT", str(port)), "--json"), 7)


def test_a_home_that_is_not_there_is_no_store_and_is_not_made_by_reading(fedctl, tmp_path):
    nowhere = tmp_path / "nowhere"
    check_error(fedctl, fedctl("memory", "list", "--json", FEDCTL_HOME=str(nowhere)), 10)
    assert not nowhere.exists()


@pytest.mark.parametrize("below", ["", "/below"], ids=["itself", "below it"])
def test_a_home_that_is_a_file_is_a_usage_error_and_the_file_stays(fedctl, tmp_path, below):
    file = tmp_path / "file"
    file.write_text("mine")
    check_error(fedctl, fedctl("memory", "store", "--task", "t", "--json", FEDCTL_HOME=f"{file}{below}"), 2, "file")
    assert file.read_text() == "mine"


def test_a_home_that_is_read_only_is_denied_to_who_writes_and_open_to_who_reads(user):
    assert user("memory", "store", "--task", "here before").code == 0
    script = "fedctl memory list --json; fedctl memory store --task no --json"
    if os.geteuid():
        user.home.chmod(0o500)
        for file in user.home.iterdir():
            file.chmod(0o400)
        done = user.shell(f"set +e; {script}")
    elif subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("as root, only a mount can be read-only, and mounts cannot be made here")
    else:
        mounts = f"mount --bind {user.home} {user.home} && mount -o remount,ro,bind {user.home}"
        done = user.shell(f"set +e; unshare -m sh -c '{mounts} && {script.replace(';', '&&')}'")
    assert done.code == 9, done.err
    assert [row["task"] for row in json.loads(done.out)] == ["here before"]
    assert done.error["code"] == "denied"


# -- damage ----------------------------------------------------------------------------------------------------------


def database_of(home: Path) -> Path:
    (file,) = home.glob("*.db")
    return file


@pytest.mark.parametrize("damage", ["not a database", "cut in half", "middle overwritten", "emptied"])
def test_a_damaged_database_is_reported_by_everything_and_never_touched(fedctl, damage):
    filler = b"".join(b'{"task": "filler %d", "output": "%s"}\n' % (number, b"x" * 400) for number in range(300))
    assert fedctl("memory", "store", "--batch", stdin=filler)[0] == 0
    file = database_of(fedctl.home)
    for beside in fedctl.home.glob("*.db-*"):
        beside.unlink()
    content = file.read_bytes()
    damaged = {
        "not a database": b"my diary\n" * 1000,
        "cut in half": content[: len(content) // 2],
        "middle overwritten": content[:8192] + random.Random(1).randbytes(len(content) - 8192),
        "emptied": b"",
    }[damage]
    file.write_bytes(damaged)
    for argv in (
        ["store", "check", "--full"], ["memory", "list"], ["memory", "query", "filler"], ["memory", "stats"],
        ["memory", "store", "--task", "more"], ["token", "list"], ["agent", "list"], ["memory", "export"],
    ):  # fmt: skip
        code, out, err = fedctl(*argv, "--json")
        assert (code, out) == (13, ""), (argv, err)
        assert json.loads(err)["error"]["code"] == "corrupt"
        assert file.read_bytes() == damaged


def index_files(home: Path) -> list[Path]:
    return [one for one in (home / "index").rglob("*") if one.is_file() and one.stat().st_size]


@pytest.mark.parametrize("damage", ["flipped", "cut", "foreign", "gone", "a folder"])
def test_a_damaged_index_costs_nothing_but_its_rebuilding(fedctl, tmp_path, damage):
    batch = b"".join(b'{"task": "filler number %d"}\n' % number for number in range(40))
    fedctl("memory", "store", "--batch", stdin=batch)
    assert fedctl("memory", "reindex", "--json")[0] == 0
    before = json.loads(fedctl("memory", "query", "filler number 7", "--json")[1])
    files = index_files(fedctl.home)
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        if damage == "flipped":
            for position in range(0, len(content), 97):
                content[position] ^= 0xFF
            file.write_bytes(content)
        elif damage == "cut":
            file.write_bytes(content[: len(content) // 3])
        elif damage == "foreign":
            file.write_bytes(b"GIF89a" + os.urandom(len(content)))
        else:
            file.unlink()
            if damage == "a folder":
                file.mkdir(mode=0o700)
    code, out, err = fedctl("memory", "query", "filler number 7", "--json")
    assert code == 0, err
    assert [row["id"] for row in json.loads(out)] == [row["id"] for row in before]
    assert fedctl("memory", "reindex", "--json")[0] == 0
    assert fedctl("store", "check", "--full", "--json")[0] == 0


def test_two_homes_swapped_index_folders_are_noticed(fedctl, tmp_path):
    other = CommandLine(tmp_path / "other")
    for line, word in ((fedctl, b"cats"), (other, b"dogs")):
        line("memory", "store", "--batch", stdin=b"".join(b'{"task": "%s %d"}\n' % (word, n) for n in range(30)))
        assert line("memory", "reindex")[0] == 0
    shutil.rmtree(fedctl.home / "index")
    shutil.copytree(other.home / "index", fedctl.home / "index")
    code, out, err = fedctl("memory", "query", "cats 3", "--json", "-k", "5")
    assert code == 0, err
    assert all("cats" in row["task"] or row["task"] == "here before" for row in json.loads(out))
