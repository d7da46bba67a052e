"""What goes into a command and comes out of it, and that it ends whatever it does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from fedctl.work.process import RESULT_MAX_BYTES, Capture, Execution, Guard

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def captured(*chunks):
    capture = Capture()
    for chunk in chunks:
        capture.add(chunk)
    return capture.result()


@pytest.mark.parametrize(
    ("output", "result"),
    [
        (b"", None),
        (b"\n", None),
        (b"null\n", None),
        (b'{"a": 1}\n', {"a": 1}),
        (b" [1, 2]", [1, 2]),
        (b'"text"', "text"),
        (b"007", "007"),
        (b"two\nlines\n\n", "two\nlines\n"),
        (b"NaN", "NaN"),
        (b'"\\ud800"', '"\\ud800"'),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 40 + b"]" * 40, "[" * 40 + "]" * 40),
    ],
)
def test_an_output_is_json_or_text(output, result):
    assert captured(output) == result


@pytest.mark.parametrize("byte", [b"a", b"\0", b"\xff", b'"', "é".encode()])
def test_what_is_too_long_is_cut_and_says_so(byte):
    result = captured(*[byte * 100_000] * 20)
    assert len(msgspec.json.encode(result)) <= RESULT_MAX_BYTES
    assert len(msgspec.json.encode(result)) > RESULT_MAX_BYTES * 0.9
    assert result.endswith(f"\n[cut: {len(byte) * 2_000_000} bytes in all]")


def test_a_json_value_that_is_too_long_is_cut_as_text():
    assert captured(b'"' + b"a" * RESULT_MAX_BYTES + b'"').startswith('"aaa')


class Silent:
    def add(self, group):
        self.group = group

    def remove(self, group):
        pass


def run(script, *, ask=None, after_s=0.2, stdin=None, grace_s=0.3, by_line=False, hear=None):  # noqa: PLR0913
    heard = []

    async def take(chunk):
        heard.append(chunk)

    async def main():
        execution = Execution(grace_s=grace_s, hear=hear or take, by_line=by_line, guard=Silent())
        if ask is not None:
            asyncio.get_running_loop().call_later(after_s, ask, execution)
        async with asyncio.timeout(30):
            return await execution.run(["sh", "-c", script], ENVIRONMENT, stdin)

    return asyncio.run(main()), heard


def processes_with(word):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if word.encode() in line.split(b"\0") and state != "Z":
                found.append(int(entry.name))
    return found


def test_data_come_in_and_both_streams_come_out():
    done, heard = run("cat; echo to you >&2; exit 3", stdin=b'{"a":1}\n')
    assert (done.status, done.why, done.stdout.result(), done.stderr_tail) == (3, None, {"a": 1}, b"to you\n")
    assert b"".join(heard) == b"to you\n"


def test_a_megabyte_that_nobody_reads_keeps_nobody_waiting():
    assert run("exit 0", stdin=b"x" * (1 << 20))[0].status == 0


def test_without_data_stdin_is_empty():
    assert run("cat; echo end")[0].stdout.result() == "end"


def test_lines_of_several_commands_stay_whole():
    _, heard = run("printf 'one\ntw' >&2; sleep 0.3; printf 'o\nthree' >&2", by_line=True)
    assert heard == [b"one\n", b"two\n", b"three\n"]


def test_a_line_without_end_is_passed_on_in_pieces():
    _, heard = run("head -c 30000 /dev/zero >&2", by_line=True)
    assert all(piece.endswith(b"\n") for piece in heard)
    assert b"".join(heard).count(b"\0") == 30_000


def test_only_the_tail_of_stderr_is_kept():
    done, heard = run("head -c 300000 /dev/zero >&2; echo end >&2")
    assert len(done.stderr_tail) == 4096
    assert done.stderr_tail.endswith(b"end\n")
    assert len(b"".join(heard)) == 300_004


def test_who_does_not_obey_is_killed_with_all_it_started():
    ran, _ = run("trap '' TERM; sleep 4711 & sleep 4711; sleep 4711", ask=lambda one: one.end("time"))
    assert (ran.status, ran.why) == (128 + signal.SIGKILL, "time")
    assert processes_with("4711") == []


def test_the_first_reason_counts_and_impatience_kills_at_once():
    def ask(execution):
        execution.end("lost")
        asyncio.get_running_loop().call_later(0.2, execution.kill)

    ran, _ = run("trap '' TERM; while :; do sleep 0.01; done", ask=ask, grace_s=60)
    assert (ran.status, ran.why) == (128 + signal.SIGKILL, "lost")


def test_what_was_asked_to_end_before_it_began_ends():
    ran, _ = run("sleep 60", ask=lambda one: one.end("stopped"), after_s=0)
    assert ran.why == "stopped"


def test_what_a_command_leaves_behind_in_its_group_ends_with_it():
    ran, _ = run("sleep 4712 & echo out; exit 0")
    assert (ran.status, ran.stdout.result()) == (0, "out")
    assert processes_with("4712") == []


def test_a_pipe_that_somebody_outside_the_group_holds_open_is_not_waited_for():
    ran, _ = run("setsid sleep 4713 & echo out; exit 0")
    held = processes_with("4713")
    for pid in held:
        os.kill(pid, signal.SIGKILL)
    assert (ran.status, ran.stdout.result(), len(held)) == (0, "out", 1)


def test_who_hears_slowly_hears_everything():
    heard = []

    async def slowly(chunk):
        await asyncio.sleep(0.1)
        heard.append(chunk)

    run("head -c 1000000 /dev/zero >&2", hear=slowly)
    assert len(b"".join(heard)) == 1_000_000


def test_output_without_end_takes_no_memory():
    ran, _ = run("head -c 50000000 /dev/zero")
    assert ran.stdout.size == 50_000_000
    assert len(ran.stdout._kept) == RESULT_MAX_BYTES + 1


ORPHANED = """
import os, signal, subprocess, sys
from fedctl.work.process import Guard
guard = Guard(0.5)
for script in ("sleep 4714", "trap '' TERM; while :; do sleep 4714; done", "exit 0"):
    child = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    guard.add(child.pid)
child.wait()
guard.remove(child.pid)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_guard_ends_commands_whose_worker_was_killed(eventually):
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", ORPHANED], env=os.environ | {"PYTHONPATH": str(root)}, check=False)
    eventually(lambda: not processes_with("4714") and not processes_with("trap '' TERM; while :; do sleep 4714; done"))


def test_a_guard_that_was_killed_is_no_reason_to_fail():
    guard = Guard(1)
    os.kill(guard._process.pid, signal.SIGKILL)
    guard._process.wait()
    for number in range(100):
        guard.add(number)
    guard.close()


def test_a_guard_that_has_nobody_to_guard_goes_home_at_once():
    guard = Guard(60)
    guard.add(999_999)
    guard.remove(999_999)
    begun = time.monotonic()
    guard.close()
    assert guard._process.returncode == 0
    assert time.monotonic() - begun < 20
