"""What no debug stream may ever tell: hub, agents, workers and commands at their loudest, in every form."""

from __future__ import annotations

import base64
import itertools
import json
import socket
from pathlib import Path

SECRET = "xyzzy"
"""In everything that is somebody's content, and nowhere else."""
CALL = (
    b'{"frame":"call","id":%d,"request":{"type":"memory.store","episodes":[{"id":"f%d","task":"xyzzy","input":'
    b'{"a":"xyzzy"},"output":"xyzzy"%s}]}}'
)


def speak(path: str, *frames: bytes) -> None:
    """Say frames on a hub's socket, good ones and such as no client of ours would send."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(path)
        for frame in frames:
            connection.sendall(len(frame).to_bytes(4, "big") + frame)
            connection.recv(1 << 16)


def live(user, info) -> tuple[list[str], str]:
    """Use everything once, well and badly; return what was said on stderr, and the token that was used."""
    token = user("token", "issue", "--tenant", "acme", "--role", "admin", "--ttl", "1h").out.strip()
    store = ["memory", "store", "--task", "xyzzy task", "--input", "xyzzy", "--output", "xyzzy", "--critique", "xyzzy",
             "--meta", "xyzzy=xyzzy", "--reward", "0.5", "--id"]  # fmt: skip
    episode = json.dumps({"id": "b1", "task": "xyzzy", "input": {"xyzzy": ["xyzzy"]}, "metadata": {"xyzzy": "xyzzy"}})
    inside = "fedctl memory store --task 'xyzzy inside' --id a1 -q; fedctl memory query xyzzy --json >/dev/null"
    remote = {"FEDCTL_HUB": info["url"], "FEDCTL_TOKEN": token}
    said = []
    forms = itertools.cycle(["human", "json", "compact"])

    def run(*argv: str, code: int = 0, stdin: str = "", **environ: str) -> str:
        done = user(*argv, stdin=stdin.encode(), DEBUG_FORMAT=next(forms), **environ)
        said.append(done.err)
        assert done.code == code, (argv, done.err)
        return done.out

    run(*store, "e1")
    run(*store, "e1", "--session", "other", code=5)
    run(*store, "e1", **remote)
    run(*store, "e2", "--hub", "off")
    run("memory", "store", "--batch", stdin=f'{episode}\n{{"task":"xyzzy","reward":7}}\n{{"xyzzy\n', code=3)
    run("memory", "query", "xyzzy", "--json")
    run("memory", "query", "xyzzy", "--where", "xyzzy=xyzzy", "--fresh", "--json", **remote)
    run("memory", "list", "--json")
    run("memory", "delete", "e1", "-y")
    run("pool", "push", "q", '{"xyzzy":"xyzzy"}')
    run("pool", "push", "q", '"xyzzy"', "--key", "k")
    run("pool", "push", "q", '"another xyzzy"', "--key", "k", code=5)
    run("pool", "work", "q", "--max-items", "1", "--json", "--", "sh", "-c", "cat")
    run("pool", "work", "q", "--once", "--json", "--", "sh", "-c", "echo xyzzy; exit 65", code=3)
    run("agent", "spawn", "--id", "agent-1", "--lifetime", "20s", "--pull", "xyzzy", "--", "sh", "-ec", inside)
    run("agent", "spawn", "--id", "agent-2", "--lifetime", "20s", "--", "sh", "-ec", inside, **remote)
    run("memory", "list", code=9, FEDCTL_HUB=info["url"], FEDCTL_TOKEN=token[:-4] + "AAAA")
    hello = b'{"frame":"hello","protocol":"fedctl","version":1,"client":"%s"}' % token.encode()
    speak(info["socket"], hello, CALL % (1, 1, b""), CALL % (2, 2, b',"reward":"xyzzy"'), CALL % (3, 3, b',"xyzzy":1'))
    speak(info["socket"], hello, b'{"frame":"nonsense"}')
    speak(info["socket"], CALL % (1, 4, b""))
    assert run("hub", "stop") is not None
    return said, token


def test_no_stream_tells_a_token_a_key_or_what_somebody_wrote(user):
    file = user.folder / "debug.log"
    user.environ |= {
        "DEBUG_LEVEL": "Trace", "DEBUG_FORMAT": "json", "DEBUG_OUTPUT": "both", "DEBUG_OUTPUT_FILE": str(file),
    }  # fmt: skip
    said, token = live(user, user.hub())
    told = file.read_text()
    everything = "\n".join([told, (user.home / "hub.log").read_text(), *said])
    assert "\x1b" not in told
    for category in ("command", "hub", "session", "memory", "pool", "agent", "link", "event", "commit", "sync", "work",
                     "item"):  # fmt: skip
        assert f'"category":"{category}"' in told or f" {category}." in told, category
    assert all(json.loads(line)["timestamp"] for line in told.splitlines() if line.startswith("{"))
    for category in ("command", "memory", "work"):  # of each form there is some
        assert f" {category}." in told, category
    assert SECRET not in everything.replace("\\", "").lower()
    for part in (token, *token.split(".")[1:]):
        assert part not in everything
    for key in (path for path in (user.home / "keys").rglob("*") if path.is_file()):
        content = key.read_bytes()
        lines = [line for line in content.decode("ascii", "replace").splitlines() if len(line) > 20 and "-" not in line]
        for secret in (*lines, base64.b64encode(content).decode(), content.hex()):
            assert secret not in everything, Path(key).name
