"""top: one look, several, rates, a hub that goes and comes back; and the page as a person sees it."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios

import msgspec
from rich.console import Console

from fedctl.cli import board
from fedctl.cli.snapshot import AgentSeen, Looker, PoolSeen, Snapshot, WorkerSeen
from fedctl.messages.pool import ClaimItems, CompleteItems, PushItems
from fedctl.model.pool import Completion, ItemDraft


def test_one_look_without_a_store_with_one_and_as_text(fedctl):
    nothing = fedctl("top", "--json")
    assert (nothing.code, nothing.json["memory"], nothing.json["hub"]) == (0, None, None)
    assert not fedctl.home.exists()
    fedctl.store("x")
    assert fedctl("pool", "push", "builds", "1").code == 0
    seen = fedctl("top", "--json").json
    assert (seen["memory"]["episodes"], seen["pools"][0]["pending"]) == (1, 1)
    assert seen["pools"][0]["finished_per_s"] is None, "a rate needs two looks"
    for environ in ({"TERM": "dumb"}, {"NO_COLOR": "1"}, None):
        page = fedctl("top", terminal=environ is not None, environ=environ).out
        assert "memory  1 episode  1 to be embedded" in page
        assert re.search(r"builds +1 +0 +0 +0 +0", page)
        assert "\x1b" not in page
        assert "q leaves" not in page
        assert max(map(len, page.splitlines())) <= 100
    assert fedctl("top", "--fields", "memory.episodes").out == "memory.episodes\t1\n"
    assert fedctl("top", "--every", "10ms").code == 2


def test_rates_come_from_two_looks(bench):
    looker = Looker(bench.clock)
    bench.call(PushItems(pool="builds", items=[ItemDraft(id=f"i{n}") for n in range(10)]))
    first = looker.look(bench, "default", hub=False)
    assert first.pools[0].finished_per_s is None
    held = bench.call(ClaimItems(pool="builds", worker_id="w", count=4)).items
    bench.call(CompleteItems(completions=[Completion(id=one.id, lease_id=one.lease_id) for one in held]))
    bench.keep("a", "b")
    bench.clock.advance(2000)
    second = looker.look(bench, "default", hub=False)
    assert (second.pools[0].finished_per_s, second.pools[0].eta_s) == (2.0, 3.0)
    assert second.memory.episodes_per_s == 1.0
    bench.clock.advance(2000)
    third = looker.look(bench, "default", hub=False)
    assert (third.pools[0].finished_per_s, third.pools[0].eta_s) == (0.0, None)


def test_a_hub_that_is_away_is_part_of_what_is_seen(clock):
    looker = Looker(clock)
    from fedctl.errors import Unavailable

    away = looker.nothing("default", Unavailable("no hub answers"))
    assert (away.trouble, away.memory, away.agents) == ("no hub answers", None, [])
    assert "no hub answers" in drawn(away)


def drawn(snapshot: Snapshot, width: int = 100, height: int = 30) -> str:
    page = io.StringIO()
    Console(file=page, width=width, height=height).print(
        board.page(snapshot, width=width, height=height, every_s=2, rates=[1, 5, 0])
    )
    return page.getvalue()


def busy() -> Snapshot:
    agent = AgentSeen(id="a\x1b[2J", type="coder", status="working", remaining_s=50, lifetime_s=100, silent_s=2,
                      episodes_stored=3)  # fmt: skip
    worker = WorkerSeen(worker_id="w1", status="lost", pool_id="builds", current_task_id=None, silent_s=900, stale=True)
    pool = PoolSeen(name="builds", paused=True, pending=5, delayed=0, claimed=3, done=100, poisoned=1,
                    finished_per_s=2.5, eta_s=3.2)  # fmt: skip
    return Snapshot(at="2026-01-01T10:00:00.000Z", tenant_id="default", hub=None, memory=None, agents=[agent] * 40,
                    workers=[worker] * 40, pools=[pool] * 3, trouble=None)  # fmt: skip


def test_the_page_fits_the_window_whatever_its_size_and_stored_names_act_on_nothing():
    for width, height in ((100, 30), (200, 60), (60, 24)):
        lines = drawn(busy(), width, height).splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) <= height
    page = drawn(busy())
    assert "\x1b" not in page
    assert r"a\x1b[2J" in page
    assert "agents 7 of 40" in page
    assert "builds paused" in page


def test_rows_are_shared_out_so_that_nobody_gets_none():
    assert board.share(20, [40, 3, 40]) == [8, 3, 9]
    assert board.share(20, [1, 0, 2]) == [1, 0, 2]
    assert board.share(0, [9, 9, 9]) == [2, 2, 2]


def test_top_on_a_terminal_leaves_with_q_and_puts_the_terminal_back(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "fedctl", "--home", str(tmp_path / "home"), "top", "--every", "1h"]
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "HOME": str(tmp_path)}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    seen = b""
    while b"workers" not in seen:
        assert select.select([ours], [], [], 30)[0], seen
        seen += os.read(ours, 65536)
    os.write(ours, b"q")
    assert process.wait(30) == 0
    while select.select([ours], [], [], 0)[0]:
        seen += os.read(ours, 65536)
    assert termios.tcgetattr(theirs) == before
    assert seen.index(b"\x1b[?1049h") < seen.index(b"\x1b[?1049l"), "the other screen, and back"
    assert seen.rstrip().endswith((b"\x1b[?25h", b"\x1b[?1049l"))
    assert re.search(rb"fedctl top", seen)
    for descriptor in (ours, theirs):
        os.close(descriptor)


def test_a_snapshot_is_what_json_says(fedctl):
    fedctl.store("x")
    assert msgspec.json.decode(fedctl("top", "--json").out, type=Snapshot).memory.episodes == 1
