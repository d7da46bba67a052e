"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading

import pytest

from fedctl import disk


def test_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert disk.read(tmp_path / "a") == b"content"


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)], ids=["pipe", "dir", "loop"])
def test_what_is_no_file_is_an_error_at_once_and_no_pipe_makes_anybody_wait(tmp_path, put):
    put(tmp_path / "a")
    with pytest.raises(OSError, match="a"):
        disk.read(tmp_path / "a")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[disk.new_file, disk.new_content], ids=["new file", "new content"])
def opened(request):
    return request.param


def test_what_was_written_is_there_for_its_owner_alone(tmp_path, opened):
    before = os.umask(0)
    try:
        with opened(tmp_path / "a") as file:
            file.write(b"all of it")
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"all of it"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a"]


def test_of_what_went_wrong_nothing_is_left(tmp_path, opened):
    def write():
        with opened(tmp_path / "a") as file:
            file.write(b"half of it")
            file.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names(tmp_path) == []


def test_the_content_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with disk.new_content(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        [other] = [name for name in names(tmp_path) if name != "a"]  # in the same folder: one file system
    assert path.read_bytes() == b"new"
    assert not (tmp_path / other).exists()


def test_a_place_that_cannot_be_taken_stays_what_it_is(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError), disk.new_content(tmp_path / "a") as file:
        file.write(b"new")
    assert names(tmp_path) == ["a"]


def test_what_lies_under_the_passing_name_is_not_written_into(tmp_path):
    (tmp_path / "theirs").write_bytes(b"theirs")
    unborn = tmp_path / "unborn"
    unborn.symlink_to("theirs")
    with disk.new_content(tmp_path / "a", unborn=unborn) as file:
        file.write(b"ours")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert (tmp_path / "a").read_bytes() == b"ours"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"theirs"), lambda path: path.symlink_to("elsewhere")])
def test_a_new_file_takes_nobodys_place(tmp_path, make):
    make(tmp_path / "a")
    with pytest.raises(FileExistsError), disk.new_file(tmp_path / "a") as file:
        file.write(b"ours")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").is_symlink() or (tmp_path / "a").read_bytes() == b"theirs"


def test_what_is_not_there_cannot_be_synced(tmp_path):
    disk.sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        disk.sync(tmp_path / "nowhere")


def test_into_a_pipe_is_written_straight_and_a_link_stays_one(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("file")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (pipe, link):
        with disk.new_content(path) as file:
            file.write(b"all of it")
    assert os.read(reader, 99) == b"all of it"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert (link.is_symlink(), (tmp_path / "file").read_bytes()) == (True, b"all of it")
    assert names(tmp_path) == ["file", "link", "pipe"]
    with disk.new_content(pipe, unborn=tmp_path / "unborn") as file:  # a place of our own is to be a file
        file.write(b"all of it")
    assert pipe.read_bytes() == b"all of it"


def test_what_is_being_written_is_not_dead_and_has_a_name_of_ours(tmp_path):
    with disk.new_content(tmp_path / "a"):
        [path] = tmp_path.iterdir()
        assert disk.UNBORN.fullmatch(path.name)
        assert list(disk.dead([path], stat.S_ISREG)) == []
    path.touch()
    assert list(disk.dead([path, tmp_path], stat.S_ISREG)) == [path]


def test_what_killed_processes_left_is_cleared_away_by_the_next_and_nothing_else(tmp_path):
    for name in (".a.17.fedctl", ".a.17.4.fedctl", ".b.17.4.fedctl", ".a.x.fedctl", ".aa.17.4.fedctl"):
        (tmp_path / name).touch()
    held = (tmp_path / ".a.18.4.fedctl").open("wb")
    with held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with disk.new_content(tmp_path / "a") as file:
            file.write(b"new")
    assert names(tmp_path) == sorted(["a", ".a.18.4.fedctl", ".b.17.4.fedctl", ".a.x.fedctl", ".aa.17.4.fedctl"])


def test_what_is_taken_for_a_dead_one_s_before_it_is_held_is_made_anew(tmp_path):
    over = threading.Event()

    def sweep():
        while not over.is_set():
            for path in disk.dead(tmp_path.glob(".a.*.fedctl"), stat.S_ISREG):
                path.unlink(missing_ok=True)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(200):
            with disk.new_content(tmp_path / "a") as file:
                file.write(b"%d" % number)
    finally:
        over.set()
        sweeper.join()
    assert (tmp_path / "a").read_bytes() == b"199"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOSYS, errno.EACCES, errno.ENOLCK])
def test_where_there_are_no_locks_one_folder_is_made_and_kept(tmp_path, number):
    def hold(_descriptor):
        raise OSError(number, "no locks here")

    path, descriptor = disk.held_folder(makes(tmp_path), hold)
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_somebody_else_took_is_removed_and_another_made(tmp_path):
    taken = []

    def hold(descriptor):
        taken.append(descriptor)
        if len(taken) == 1:
            raise BlockingIOError
        if len(taken) == 2:
            (tmp_path / "2").rmdir()
        fcntl.flock(descriptor, fcntl.LOCK_SH)

    path, descriptor = disk.held_folder(makes(tmp_path), hold)
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == [path] == [tmp_path / "3"]


def makes(place):
    """Return what makes folders that are called 1, 2, ..."""
    made = []

    def make():
        made.append(place / str(len(made) + 1))
        made[-1].mkdir()
        assert len(made) < 10, "for ever"
        return made[-1]

    return make
