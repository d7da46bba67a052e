"""One run of a job at a time, and its end in time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from fedctl.errors import Denied, NoStore, Timeout, Unavailable
from fedctl.operations.job import Deadline, exclusive_job


def test_a_second_run_is_told_at_once_that_there_is_one(tmp_path):
    with exclusive_job(tmp_path, "prune"):
        with (
            pytest.raises(Unavailable, match=r"^another prune is running on this home$") as refused,
            exclusive_job(tmp_path, "prune"),
        ):
            pass
        assert "--lock-wait" in refused.value.hint
        with exclusive_job(tmp_path, "backup"):
            pass  # of another kind
    with exclusive_job(tmp_path, "prune"):
        pass


def test_who_gave_up_at_once_does_not_take_the_lock_later(tmp_path):
    for _ in range(50):
        with exclusive_job(tmp_path, "prune"), pytest.raises(Unavailable), exclusive_job(tmp_path, "prune"):
            pass
        with exclusive_job(tmp_path, "prune"):
            pass


def test_who_waits_comes_after_the_other(tmp_path):
    order = []
    began = threading.Event()

    def second():
        began.set()
        with exclusive_job(tmp_path, "prune", 30_000):
            order.append("second")

    thread = threading.Thread(target=second)
    with exclusive_job(tmp_path, "prune"):
        thread.start()
        began.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_who_waits_in_vain_is_told_for_how_long(tmp_path):
    with (
        exclusive_job(tmp_path, "verify"),
        pytest.raises(Unavailable, match=r"another verify is running on this home, and did not end for 0.01 s"),
        exclusive_job(tmp_path, "verify", 10),
    ):
        pass


HOLDER = """
import pathlib, sys, time
from fedctl.operations.job import exclusive_job
with exclusive_job(pathlib.Path(sys.argv[1]), "prune"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_the_lock_dies_with_its_process(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(Unavailable), exclusive_job(tmp_path, "prune"):
            pass
        other.kill()
        other.wait()
        with exclusive_job(tmp_path, "prune"):
            pass


def test_an_error_inside_lets_go_of_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_job(tmp_path, "prune"):
        raise ZeroDivisionError
    with exclusive_job(tmp_path, "prune"):
        pass


def test_where_there_is_no_home_there_is_no_job(tmp_path):
    with pytest.raises(NoStore, match="there is no store in"), exclusive_job(tmp_path / "none", "prune"):
        pass
    assert not (tmp_path / "none").exists()


def test_a_home_that_takes_no_file_is_named(make_disk):
    disk = make_disk("1m")
    disk.make("ro")
    with pytest.raises(Denied, match="cannot write in"), exclusive_job(disk.folder, "prune"):
        pass


def test_a_disk_too_full_for_the_lock_does_not_keep_a_job_from_making_room(make_disk):
    disk = make_disk("1m,nr_inodes=2")
    (disk.folder / "last").touch()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (disk.folder / "more").touch()
    ran = False
    with exclusive_job(disk.folder, "prune"):
        ran = True
    assert ran


def test_a_deadline_is_over_when_its_time_is(clock):
    deadline = Deadline(clock, 1500)
    clock.advance(1499)
    deadline.check()
    assert not deadline.over
    clock.advance(1)
    assert deadline.over
    with pytest.raises(Timeout, match=r"the 1.5 s of --max-time ran out"):
        deadline.check()


def test_a_deadline_goes_by_time_that_passes_not_by_the_wall_clock(clock):
    deadline = Deadline(clock, 1500)
    clock.jump(400 * 86_400_000)
    assert not deadline.over


def test_without_a_limit_there_is_no_end(clock):
    deadline = Deadline(clock, None)
    clock.advance(10**12)
    assert not deadline.over
    deadline.check()
