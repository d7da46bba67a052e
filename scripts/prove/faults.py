"""The home that `damage` spoils, and every way in which it does: what is broken, where, and what has to come of it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_BYTES = 4096
CORRUPT = 13
WAL_HEAD_BYTES = 32
FRAME_BYTES = 24 + PAGE_BYTES
STORED = 160
"""Episodes of the tenant `default`: some pages of every kind."""
VECTORS = 1100
"""Of the tenant `many`: enough for a flat file and a graph, of `small_hub`'s sizes."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to break a home.

    `kind` is what may come of it: `gross` (nobody can use the database: 13, always), `page` (13 for whoever meets it),
    `log` (what is before the damage holds, what is after it is as if it had not been), `foreign` (a log that is
    another store's), `derived` (rebuilt: nobody notices), `around` (a file beside the store: what it says itself).
    """

    name: str
    file: str
    spoil: Callable[[Path], None]
    kind: str
    codes: frozenset[int] = frozenset()


def build(home: Path) -> None:
    """Make the home, as a process of its own: every kind of row, an erased tenant, a backup and an unfolded log."""
    import numpy as np

    from fedctl.messages.memory import EmbedTexts, StoreEpisodes
    from fedctl.model.episode import Embedding, EpisodeDraft

    dice = random.Random(5)
    words = [f"word{number}" for number in range(400)]
    for command in (
        ["init"], ["retention", "set", "--max-episodes", "100000"],
        ["token", "issue", "--tenant", "default", "--agent", "a", "--ttl", "2h"],
        ["memory", "store", "--tenant", "gone", "--task", "to be erased"], ["tenant", "erase", "gone", "--yes"],
        ["config", "set", "timeout", "20s"],
    ):  # fmt: skip
        _command(home, *command)
    caller = common.caller(home)
    answer = caller.call(EmbedTexts(texts=["a question"]), tenant_id="default")
    size = len(answer.vectors[0]) // 2
    rows = np.random.default_rng(5).standard_normal((VECTORS, size))
    blobs = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f2")
    drafts = [
        EpisodeDraft(
            id=f"e{number}", task=f"task {number % 7}", input=" ".join(dice.choices(words, k=60)),
            output=" ".join(dice.choices(words, k=200)), metadata={"number": number, "kind": f"k{number % 5}"},
            embedding=Embedding(model=answer.model, vectors=[blobs[number].tobytes()]),
        )
        for number in range(STORED)
    ]  # fmt: skip
    caller.call(StoreEpisodes(episodes=drafts), tenant_id="default")
    for start in range(0, VECTORS, 500):
        part = [
            EpisodeDraft(id=f"v{start + at}", task="v",
                         embedding=Embedding(model=answer.model, vectors=[blob.tobytes()]))
            for at, blob in enumerate(blobs[start : start + 500])
        ]  # fmt: skip
        caller.call(StoreEpisodes(episodes=part), tenant_id="many")
    caller.close()
    items = "".join(json.dumps({"data": {"n": number, "pad": "x" * 100}}) + "\n" for number in range(300))
    _command(home, "pool", "push", "work", "--batch", stdin=items.encode())
    env = common.environment(home)
    query = ["memory", "query", "a question", "--tenant", "many", "--mode", "semantic"]
    small = [sys.executable, str(common.HERE / "small_hub.py")]
    subprocess.run([*small, *query], env=env, check=True, capture_output=True)
    _command(home, "memory", "reindex", "--tenant", "many")
    fold(home)
    _command(home, "backup", "create")


def _command(home: Path, *arguments: str, stdin: bytes = b"") -> None:
    """Run a command in this very process: it is imported once."""
    from fedctl.cli.main import run

    out, err = io.BytesIO(), io.BytesIO()
    code = run(list(arguments), stdin=io.BytesIO(stdin), stdout=out, stderr=err, environ=common.environment(home))
    if code:
        sys.exit(f"{arguments}: {err.getvalue().decode()}")


def add_graph(home: Path) -> None:
    """Have a hub make a graph of the larger tenant."""
    hub = common.Hub(home, (str(common.HERE / "small_hub.py"),))
    hub.start()
    try:
        common.wait_for(lambda: any((home / "index").rglob("*.hnsw")), "a graph is made")
    finally:
        hub.stop()


def add_to_log(home: Path, run: Callable[[Path, list[str]], object], name: str = "late") -> None:
    """Commit some more, one by one: frames in the log that are not in the database."""
    for number in range(6):
        run(home, ["memory", "store", "--id", f"{name}{number}", "--task", "late", "--output", "z" * 900])


def fold(home: Path) -> None:
    """Fold the log into the database."""
    import apsw

    connection = apsw.Connection(str(home / "store.db"))
    connection.pragma("wal_checkpoint", "TRUNCATE")
    connection.close()


# -- how ------------------------------------------------------------------------------------------------------------


def write_at(path: Path, place: int, content: bytes) -> None:
    """Write over what is there."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def flip(path: Path, places: list[int]) -> None:
    """Turn all bits of some bytes."""
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 0xFF
    path.write_bytes(content)


def flip_bit(path: Path, place: int) -> None:
    """Turn one bit."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def stranger(path: Path) -> None:
    """Add what another home's ledger says, of a tenant that is none of this one's."""
    from fedctl.store.ledger import Entry, Ledger, tenant_digest

    Ledger(path).add([Entry("tenant", tenant_digest("somebody else's"), 1_700_000_000_000)])


def flip_some(path: Path) -> None:
    """Turn 64 bytes all over the file."""
    size = path.stat().st_size
    flip(path, random.Random(size).sample(range(size), min(64, size)))


def remove(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def half(path: Path) -> None:
    """Cut it in the middle."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Leave nothing in it."""
    os.truncate(path, 0) if path.exists() else path.touch(mode=0o600)


def garbage(path: Path) -> None:
    """Put bytes in its place that mean nothing."""
    remove(path)
    path.write_bytes(random.Random(9).randbytes(3000))
    path.chmod(0o600)


def noise_over(path: Path) -> None:
    """Write noise over all of it: it stays the file that somebody may have open."""
    write_at(path, 0, random.Random(11).randbytes(path.stat().st_size))


def folder(path: Path) -> None:
    """Put a folder in its place."""
    remove(path)
    path.mkdir(mode=0o700)
    (path / "something").write_text("in it")


def fifo(path: Path) -> None:
    """Put a pipe in its place, which nobody writes into: to open it is to wait."""
    remove(path)
    os.mkfifo(path, 0o600)


def socket(path: Path) -> None:
    """Put a socket in its place."""
    import socket as sockets

    remove(path)
    with sockets.socket(sockets.AF_UNIX) as one:
        here = os.open(path.parent, os.O_RDONLY)  # a path of a scratch folder may be longer than a socket's may
        try:
            one.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def loop(path: Path) -> None:
    """Put a link in its place that leads to itself."""
    remove(path)
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    """Put a link in its place that leads nowhere."""
    remove(path)
    path.symlink_to("nowhere")


def at(place: int, content: bytes) -> Callable[[Path], None]:
    """Return what writes there."""
    return lambda path: write_at(path, place, content)


def instead(content: bytes) -> Callable[[Path], None]:
    """Return what puts another log in the place of a database's own, whose index goes."""

    def put(path: Path) -> None:
        path.write_bytes(content)
        path.with_name("store.db-shm").unlink(missing_ok=True)

    return put


def cut(size: int) -> Callable[[Path], None]:
    """Return what cuts to so many bytes; a negative number counts from the end."""
    return lambda path: os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def longer(path: Path) -> None:
    """Append what belongs to nothing."""
    with path.open("ab") as file:
        file.write(b"xyz")


def newer_schema(path: Path) -> None:
    """Have the store be of a fedctl that is yet to come."""
    write_at(path, 60, struct.pack(">I", 9_999))  # user_version


# -- what -----------------------------------------------------------------------------------------------------------

SPECIAL = [("empty", empty), ("a folder", folder), ("a FIFO", fifo), ("a socket", socket), ("a link to itself", loop)]
LEDGER = [
    ("a bit flipped", lambda path: flip_bit(path, len("tenant 1"))), ("another bit flipped", lambda p: flip_bit(p, 30)),
    ("a line twice", lambda path: path.write_bytes(path.read_bytes() * 2)), ("torn", cut(-5)), ("cut", half),
    ("with a line of another home", stranger), ("deleted", remove), ("noise", noise_over),
    ("empty", empty),
]  # fmt: skip
KINDS = {
    "episodes": "episodes", "an index of episodes": "episodes_by_time", "words": "words_1_data",
    "change log": "changes", "vectors": "embeddings", "settings": "settings", "tenants": "tenants",
    "items": "items", "an index of items": "items_claimable", "tokens": "tokens", "erasures": "erased_tenants",
    "schema": "sqlite_schema", "snapshots": "snapshots", "metadata": "episode_metadata",
    "retention": "retention_policies",
}  # fmt: skip


def pages(home: Path) -> dict[str, int]:
    """Return the number of a page in the middle of each kind."""
    import apsw

    connection = apsw.Connection(str(home / "store.db"), flags=apsw.SQLITE_OPEN_READONLY)
    found = {}
    for what, name in KINDS.items():
        numbers = [row[0] for row in connection.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY 1", [name])]
        leaves = [one for one in numbers if one != 1]
        if leaves:
            found[what] = leaves[len(leaves) // 2]
    connection.close()
    return found


def of_database(numbers: dict[str, int]) -> Iterator[Fault]:
    """Yield what may befall the database file."""
    file = "store.db"
    yield Fault("magic", file, at(0, b"nonsense"), "gross")
    yield Fault("page size 3", file, at(16, b"\x00\x03"), "gross")
    yield Fault("page size 512", file, at(16, b"\x02\x00"), "gross")
    yield Fault("read version", file, at(19, b"\x63"), "gross")
    yield Fault("first 100 bytes zero", file, at(0, bytes(100)), "gross")
    yield Fault("first page zero", file, at(0, bytes(PAGE_BYTES)), "gross")
    yield Fault("application id", file, at(68, b"\0\0\0\1"), "gross")
    yield Fault("schema of the future", file, newer_schema, "gross")
    yield Fault("garbage", file, garbage, "gross")
    yield Fault("half", file, half, "gross")
    yield Fault("10 bytes", file, cut(10), "gross")
    yield Fault("one page", file, cut(PAGE_BYTES), "gross")
    for name, spoil in SPECIAL:
        yield Fault(name, file, spoil, "gross")
    yield Fault("a link to nowhere", file, dangling, "gross")
    yield Fault("write version", file, at(18, b"\x63"), "page")
    yield Fault("last byte gone", file, cut(-1), "page")
    for what, number in numbers.items():
        start = (number - 1) * PAGE_BYTES
        yield Fault(f"page of {what}: zero", file, at(start, bytes(PAGE_BYTES)), "page")
        noise = random.Random(number).randbytes(PAGE_BYTES)
        yield Fault(f"page of {what}: noise", file, at(start, noise), "page")
        yield Fault(f"page of {what}: head flipped", file, lambda p, s=start: flip(p, [s, s + 3, s + 5, s + 8]), "page")
        spots = [start + one for one in random.Random(number).sample(range(PAGE_BYTES), 16)]
        yield Fault(f"page of {what}: 16 bytes flipped", file, lambda p, s=spots: flip(p, s), "flip")


def of_log(size: int) -> Iterator[Fault]:
    """Yield what may befall the log and its index; `size` is the log's."""
    log, shared = "store.db-wal", "store.db-shm"
    frames = (size - WAL_HEAD_BYTES) // FRAME_BYTES
    middle = WAL_HEAD_BYTES + frames // 2 * FRAME_BYTES
    for what, spoil in (
        ("empty", empty), ("cut in its head", cut(16)), ("cut after its head", cut(WAL_HEAD_BYTES)),
        ("cut in the head of a frame", cut(middle + 10)), ("cut in a page", cut(middle + 2000)),
        ("cut between frames", cut(middle)), ("last byte gone", cut(-1)), ("last frame gone", cut(-FRAME_BYTES)),
        ("head flipped", lambda p: flip(p, [0])), ("salt flipped", lambda p: flip(p, [17])),
        ("head's sum flipped", lambda p: flip(p, [25])), ("a frame's number flipped", lambda p: flip(p, [middle + 1])),
        ("a frame's page flipped", lambda p: flip(p, [middle + 900])), ("64 bytes flipped", flip_some),
        ("garbage", garbage), ("deleted, -shm left", remove),
    ):  # fmt: skip
        yield Fault(f"log {what}", log, spoil, "log")
    for name, spoil in SPECIAL[1:]:
        yield Fault(f"log: {name}", log, spoil, "around", frozenset({CORRUPT}))
    for what, spoil in (("deleted", remove), ("empty", empty), ("cut", half), ("flipped", flip_some),
                        ("noise", garbage)):  # fmt: skip
        yield Fault(f"-shm {what}", shared, spoil, "derived")
    for name, spoil in SPECIAL[1:]:
        yield Fault(f"-shm: {name}", shared, spoil, "around", frozenset({CORRUPT}))


def of_indexes(home: Path) -> Iterator[Fault]:
    """Yield what may befall each file of the vectors: none of it is more than derived."""
    files = sorted(path for path in (home / "index").rglob("*") if path.is_file() and path.stat().st_size)
    for path in files:
        name = str(path.relative_to(home))
        other = next((one for one in files if one.suffix != path.suffix), path)
        foreign = other.read_bytes()
        for what, spoil in (
            ("missing", remove), ("cut", half), ("flipped", flip_some), ("empty", empty), ("noise", garbage),
            ("another file", lambda p, f=foreign: p.write_bytes(f)), ("longer", longer),
            ("a folder", folder), ("a FIFO", fifo), ("a link to itself", loop),
        ):  # fmt: skip
            yield Fault(f"index {path.parent.name} {path.suffix} {what}", name, spoil, "derived")
    yield Fault("index: its folder gone", "index", remove, "derived")
    yield Fault("index: a file for its folder", "index", garbage, "derived")


def around(home: Path) -> Iterator[Fault]:
    """Yield what may befall the other files of the home."""
    for what, spoil in LEDGER:
        yield Fault(f"ledger {what}", "erasures", spoil, "ledger")
    for what, spoil in SPECIAL[1:]:
        yield Fault(f"ledger: {what}", "erasures", spoil, "around", frozenset({CORRUPT}))
    for key in sorted((home / "keys").glob("*")):
        for what, spoil in (("flipped", flip_some), ("empty", empty), ("noise", garbage), ("a folder", folder),
                            ("a FIFO", fifo)):  # fmt: skip
            yield Fault(f"{'signing' if key.suffix == '.pem' else 'backup'} key {what}", f"keys/{key.name}", spoil,
                        "around", frozenset({1, 9, CORRUPT}))  # fmt: skip
    for what, spoil in (("noise", garbage), ("cut", cut(7)), ("a folder", folder)):
        yield Fault(f"config {what}", "config.toml", spoil, "around", frozenset({2}))
    for name in ("hub.json", "hub.sock", "backups.json", "reserve"):
        for what, spoil in (("noise", garbage), ("a folder", folder), ("a FIFO", fifo), ("a link to itself", loop),
                            ("a link to nowhere", dangling)):  # fmt: skip
            yield Fault(f"{name}: {what}", name, spoil, "around", frozenset({0, 1, 2, 7}))
    for name in ("store.lock", "store.use", "hub.lock", "backups.lock", "erase.job", "backup.job"):
        yield Fault(f"{name}: noise", name, garbage, "derived")
        for what, spoil in (("a folder", folder), ("a FIFO", fifo), ("a link to itself", loop)):
            yield Fault(f"{name}: {what}", name, spoil, "around", frozenset({0, 1, 2, 7, 9, 13}))
