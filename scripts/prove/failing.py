"""What `disk` does besides filling it: a disk that fails in write and in flush, and one that becomes read-only.

The failures are injected by strace into a hub under writers, and into one command after another.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURE, DENIED, FULL = 1, 9, 15
LATE_ACK_MS = 250
"""So long after a failed flush what had been flushed before may still be noted by a writer."""
WRITERS = 3


@contextlib.contextmanager
def injected(pid: int, log: Path, call: str, error: str, when: str) -> Iterator[None]:
    """Have some of a process's calls fail."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-ttt", "-o", str(log), "-p", str(pid), "-e", f"trace={call}",
         "-e", f"inject={call}:error={error}:when={when}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        common.wait_for(lambda: tracer.poll() is not None or common.traced(pid), "strace attaches")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def injections(log: Path) -> list[float]:
    """Return when calls were made to fail (s since 1970)."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [float(line.split()[1]) for line in lines if "(INJECTED)" in line]


def health(hub: common.Hub) -> str:
    """Return what /health says: a status, or that nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{hub.http_port}/health", timeout=5) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return "nobody"


def in_a_hub(  # noqa: PLR0913  what differs
    figures: common.Figures, folder: Path, call: str, error: str, when: str, count: int, *, fatal: bool
) -> None:
    """Let a hub under writers fail; a `fatal` failure ends it, with any other it goes on."""
    name = f"hub, {error} in {call}"
    home, log = folder / f"failing-{error}-{call}", folder / f"failing-{error}-{call}.strace"
    home.mkdir(mode=0o700)
    said = folder / f"failing-{error}-{call}.log"
    hub = common.Hub(home, log=said)
    hub.start()
    assert hub.process is not None
    notes = [folder / f"failing-{error}-{call}-{number}" for number in range(WRITERS)]
    crew = [
        common.spawn_worker(home, f"w{number}", str(file), hub.unix, "--count", str(count), stderr=subprocess.DEVNULL)
        for number, file in enumerate(notes)
    ]
    try:
        common.wait_for(lambda: any(common.acked_ids(file) for file in notes), "the writers write")
        with injected(hub.process.pid, log, call, error, when):
            if fatal:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    hub.process.wait(20)
            else:
                deadline = time.monotonic() + 20
                while len(injections(log)) < 2 and time.monotonic() < deadline:
                    time.sleep(0.05)
        failed = injections(log)
        figures.add(f"{name}: calls that failed", len(failed), wanted="some", ok=bool(failed))
        ended = hub.process.poll()
        if fatal:
            figures.add(f"{name}: exit code of the hub", ended, wanted="not 0", ok=ended not in (None, 0))
            last = max(file.stat().st_mtime for file in notes)
            late_ms = round((last - failed[0]) * 1000) if failed else 0
            figures.add(f"{name}: last ack after it (ms)", late_ms, wanted=f"<= {LATE_ACK_MS}",
                        ok=late_ms <= LATE_ACK_MS)  # fmt: skip
            figures.add(f"{name}: /health", text := health(hub), wanted="503 or nobody", ok=text in ("503", "nobody"))
            if ended is None:
                hub.kill()
            hub.start()
        else:
            figures.add(f"{name}: the hub goes on", "on" if ended is None else f"exit {ended}", wanted="on")
        codes = sorted({process.wait(timeout=120) for process in crew})
        # A writer that was told that it failed does not try again: it says so, and has noted nothing of that.
        figures.add(f"{name}: exit codes of the writers", codes, wanted="of [0, 1]", ok=set(codes) <= {0, FAILURE})
        again = common.fedctl(home, "--hub", hub.unix, "memory", "store", "--task", "again", "--input", "again")
        figures.add(f"{name}: a write afterwards", again.returncode, wanted=0)
        figures.add(f"{name}: exit code in the end", hub.stop(), wanted=0)
    finally:
        for process in crew:
            process.kill()
        if hub.process is not None and hub.process.poll() is None:
            hub.kill()
    lines = said.read_text(errors="replace")
    complaint = next((line for line in lines.splitlines() if "error" in line), "")
    good = bool(complaint) and "Traceback" not in lines
    figures.add(f"{name}: it says so", complaint[25:110], wanted="a line", ok=good)
    expect_kept(figures, name, home, notes)


def expect_kept(figures: common.Figures, name: str, home: Path, notes: list[Path]) -> None:
    """Hold what is there against what was acknowledged."""
    acked = {one for file in notes for one in common.acked_ids(file)}
    stored = common.Stored(home)
    figures.add(f"{name}: acknowledged", len(acked))
    figures.add(f"{name}: of these lost", len(acked - set(stored.ids)), wanted=0)
    figures.add(f"{name}: twice there", stored.doubled, wanted=0)
    common.check(home, figures, name)


def in_commands(figures: common.Figures, folder: Path) -> None:
    """Let each of a command's calls fail in turn: it says so in order, and what it said is so."""
    home, log = folder / "failing-commands", folder / "failing-commands.strace"
    common.fedctl(home, "init")
    cases = [("pwrite64", "ENOSPC", FULL, 10), ("pwrite64", "EDQUOT", FULL, 10), ("pwrite64", "EIO", FAILURE, 12),
             ("fdatasync", "EIO", FAILURE, 2), ("fdatasync", "ENOSPC", None, 2), ("fsync", "EIO", None, 2),
             ("ftruncate", "ENOSPC", None, 2)]  # fmt: skip
    for call, error, wanted, most in cases:
        codes, rude, lost = set(), [], []
        for number in range(1, most + 1):
            ident = f"{call}-{error}-{number}"
            done = subprocess.run(
                ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}",
                 "-e", f"inject={call}:error={error}:when={number}",
                 sys.executable, "-m", "fedctl", "memory", "store", "--task", "t", "--id", ident],
                env=common.environment(home), capture_output=True, check=False, text=True,
            )  # fmt: skip
            if "(INJECTED)" not in log.read_text(errors="replace"):
                continue
            codes.add(done.returncode)
            if any(word in done.stderr for word in ("Traceback", "unexpected:")):
                rude.append(f"{number}: {done.stderr[:120]}")
            if done.returncode == 0:
                lost.append(ident)
        found = set(common.Stored(home).ids)
        lost = [one for one in lost if one not in found]
        good = {0, wanted} if wanted is not None else {0, FAILURE, FULL}
        name = f"commands, {error} in {call}"
        figures.add(f"{name}: exit codes", sorted(codes), wanted=f"of {sorted(good)}", ok=codes <= good)
        figures.add(f"{name}: said in order", "; ".join(rude) or "yes", wanted="yes")
        figures.add(f"{name}: acknowledged and lost", len(lost), wanted=0)
    common.check(home, figures, "commands on a disk that fails")


def read_only(figures: common.Figures, folder: Path) -> None:
    """Make the disk read-only: between two commands, and under a hub, as a file system does that has found an error."""
    image, place = folder / "read-only.img", folder / "read-only"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    mounted = False
    try:
        made = not os.geteuid() and shutil.which("mkfs.ext4") and not _run("mkfs.ext4", "-qF", str(image))
        mounted = bool(made) and not _run("mount", "-o", "loop,errors=remount-ro", str(image), str(place))
        if not mounted:
            figures.not_shown("a disk that becomes read-only", "no ext4 can be mounted here")
            return
        home = place / "home"
        common.fedctl(home, "init")
        notes = folder / "read-only.acked"
        with notes.open("w") as acked:
            _between(figures, home, place, acked)
            hub = common.Hub(home, log=folder / "read-only.log")
            hub.start()
            try:
                _under_a_hub(figures, hub, place, acked)
            finally:
                if hub.process is not None and hub.process.poll() is None:
                    hub.kill()
        _run("umount", str(place))
        mounted = not _run("mount", "-o", "loop", str(image), str(place))
        figures.add("read-only: mounted again", mounted, wanted=True)
        _store(home, "after", None, wanted=0, figures=figures, what="read-only: a write when it is mounted again")
        expect_kept(figures, "read-only", home, [notes])
    finally:
        if mounted:
            _run("umount", "-l", str(place))


def _between(figures: common.Figures, home: Path, place: Path, acked: object) -> None:
    _store(home, "before", acked, wanted=0, figures=figures, what="read-only: a write before")
    figures.add("read-only: remount,ro", _run("mount", "-o", "remount,ro", str(place)), wanted=0)
    _store(home, "refused", acked, wanted=DENIED, figures=figures, what="read-only: a write on it")
    reads = [["memory", "list"], ["store", "check"], ["memory", "query", "before", "--mode", "keyword"], ["status"]]
    done = [common.fedctl(home, *one) for one in reads]
    rude = [one.stderr.decode()[:200] for one in done if b"unexpected" in one.stderr or b"Traceback" in one.stderr]
    codes = [one.returncode for one in done]
    # SQLite keeps the log's index in a file beside the store, and cannot read a log without one.
    good = not rude and set(codes) <= {0, DENIED}
    figures.add("read-only: reads on it", "; ".join(rude) or codes, wanted=f"of {[0, DENIED]}", ok=good)
    figures.add("read-only: remount,rw", _run("mount", "-o", "remount,rw", str(place)), wanted=0)
    _store(home, "again", acked, wanted=0, figures=figures, what="read-only: a write when it is over")


def _under_a_hub(figures: common.Figures, hub: common.Hub, place: Path, acked: object) -> None:
    assert hub.process is not None
    name = "read-only under a hub"
    _store(hub.home, "hub-before", acked, wanted=0, figures=figures, what=f"{name}: a write before", way=hub.unix)
    if _run("mount", "-o", "remount,abort", str(place)):
        figures.not_shown(name, "this kernel's ext4 cannot be told to give up")
        return
    # It may know nothing of it yet: reads need nothing of the disk. What it does in the background may have found out.
    read = common.fedctl(hub.home, "--hub", hub.unix, "memory", "list", "--ids")
    said = read.returncode, len(read.stdout.split())
    if said == (7, 0):  # then it is going down, and not merely deaf
        with contextlib.suppress(subprocess.TimeoutExpired):
            said = (0, 3) if hub.process.wait(10) else said
    figures.add(f"{name}: a read, unless it goes down by itself", said, wanted=(0, 3))
    codes = []
    for number in range(3):
        done = common.fedctl(hub.home, "--hub", hub.unix, "--timeout", "5s", "memory", "store", "--id", f"ro{number}",
                             "--task", "t", "--input", f"ro{number}")  # fmt: skip
        codes.append(done.returncode)
    good = set(codes) <= {FAILURE, 7, DENIED, FULL}
    figures.add(f"{name}: writes", codes, wanted="refused", ok=good)
    with contextlib.suppress(subprocess.TimeoutExpired):
        hub.process.wait(10)
    ended = hub.process.poll()
    text = health(hub)
    figures.add(f"{name}: the hub's end, /health", (ended, text), wanted="not 0, or it refuses",
                ok=ended is None or ended > 0)  # fmt: skip


def _store(  # noqa: PLR0913  what is stored where
    home: Path, ident: str, acked: object, *, wanted: int, figures: common.Figures, what: str, way: str = "off"
) -> None:
    done = common.fedctl(home, "--hub", way, "memory", "store", "--id", ident, "--task", "t", "--input", ident,
                         "--json")  # fmt: skip
    said = done.returncode if done.returncode == wanted else f"{done.returncode}: {done.stderr.decode()[:150]}"
    figures.add(what, said, wanted=wanted)
    if done.returncode == 0 and hasattr(acked, "write"):
        acked.write(json.loads(done.stdout)["id"] + "\n")
        acked.flush()


def _run(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def prove(figures: common.Figures, folder: Path, *, quick: bool) -> None:
    """Try it all."""
    if common.strace_works():
        in_a_hub(figures, folder, "fdatasync", "EIO", "5", 15 if quick else 400, fatal=True)
        if not quick:
            in_commands(figures, folder)
            in_a_hub(figures, folder, "pwrite64", "EIO", "30", 400, fatal=True)
            in_a_hub(figures, folder, "pwrite64", "ENOSPC", "30+11", 400, fatal=False)
            in_a_hub(figures, folder, "pwrite64", "EDQUOT", "30+11", 400, fatal=False)
    else:
        figures.not_shown("a disk that fails", "no strace that may trace")
    if not quick:
        read_only(figures, folder)
