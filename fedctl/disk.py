"""Files that are there whole or not at all, and that no power cut takes back.

What a program writes is on disk only after an fsync, and so is a name: the folder's fsync keeps a file that was made,
renamed or removed (`man 2 fsync`). Errors are the operating system's own; the caller knows what it meant to write.

What is made for a while is held, with a lock that the kernel drops when its maker dies (`man 2 flock`): so that what
the dead left can be told from what the living are at.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

UNBORN = re.compile(r"\..+\.[0-9]+\.fedctl")
"""The names under which `new_content` writes."""


def led_to(path: str | Path) -> Path:
    """Return the file that a path leads to, for a link is to stay one; a pipe or a device stays as it is called.

    What `/dev/stdout` is a link to has a name that nobody can open.
    """
    return Path(path) if is_special(path) else Path(os.path.realpath(path))


def is_special(path: str | Path) -> bool:
    """Return whether there is something that is no file: a pipe, a device, a folder."""
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113  one line for text and paths


def read(path: Path) -> bytes:
    """Return what a file holds; `OSError` where it is none: whoever opens a pipe may wait for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that was not there, for its owner alone; at the end its bytes are on disk, after an error it is gone.

    Its name is safe only when the folder is synced. Raises `FileExistsError` for what is there, a link too.
    """
    with open(path, "xb", opener=_owners_alone) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def new_content(path: Path, *, unborn: Path | None = None) -> Iterator[BinaryIO]:
    """Open what takes the place of `path` at the end, durably; after an error `path` is what it was.

    It is written under another name in the same folder, with mode 0600. `unborn` is that name for who holds a lock;
    without it, it is one of this process, held while that lives, and a link stays a link. What a killed process left is
    cleared away. Into a pipe or a device that somebody named is written straight: it is no file to be replaced.
    """
    if unborn is None and is_special(path):  # of a folder that is the operating system's error
        with path.open("wb") as file:
            yield file
        return
    if unborn is None:
        path = led_to(path)
        for left in dead(_unborn(path), S_ISREG):
            left.unlink(missing_ok=True)
        # Processes of one number may share a folder, each in a container of its own.
        unborn = path.with_name(f".{path.name}.{os.getpid()}.{int.from_bytes(os.urandom(4))}.fedctl")
    unborn.unlink(missing_ok=True)  # never written into: it may be somebody's
    try:
        with _held_file(unborn) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            unborn.replace(path)  # before it is let go of
    except BaseException:
        unborn.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _held_file(path: Path) -> BinaryIO:
    """Return a new file that is held; before it was, somebody may have taken it for a dead one's and removed it."""
    while True:
        file = open(path, "xb", opener=_owners_alone)  # noqa: SIM115  the caller's to close
        try:
            _hold(file.fileno())
            if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                return file
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:  # a file system without locks: there nobody sweeps either
            return file
        file.close()
        path.unlink(missing_ok=True)


def _owners_alone(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


# -- what the dead left ----------------------------------------------------------------------------------------------


def _unborn(path: Path) -> list[Path]:
    """Return what was to take the place of `path`."""
    name = re.compile(rf"\.{re.escape(path.name)}(\.[0-9]+)+\.fedctl")
    try:
        return [one for one in path.parent.iterdir() if name.fullmatch(one.name)]
    except OSError:  # one may write into a folder that one cannot look into
        return []


def _hold(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def held_folder(make: Callable[[], Path], hold: Callable[[int], None] = _hold) -> tuple[Path, int]:
    """Have a folder made and hold it; return it, and the descriptor whose closing lets go of it.

    Before it is held somebody may take it for a dead one's: then another is made. On a file system without locks it is
    not held; there nobody sweeps either (`dead`).
    """
    while True:
        path = make()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            hold(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return path, descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:
            return path, descriptor
        os.close(descriptor)
        with contextlib.suppress(OSError):  # whoever looked may have left it where it was
            path.rmdir()


def dead(paths: Iterable[Path], kind: Callable[[int], bool]) -> Iterator[Path]:
    """Yield those whose makers, who held them, are no more; each is held alone while it is yielded, to be removed then.

    `kind` judges the mode (`stat.S_ISDIR`, `stat.S_ISREG`). Never a link; nothing on a file system without locks.
    """
    for path in paths:
        descriptor = _taken(path, kind)
        if descriptor is not None:
            try:
                yield path
            finally:
                os.close(descriptor)


def _taken(path: Path, kind: Callable[[int], bool]) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a link, gone, or not for us
        return None
    with contextlib.suppress(OSError):
        state = os.fstat(descriptor)
        if kind(state.st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(state, path.lstat()):
                return descriptor
    os.close(descriptor)
    return None
