"""The file that keeps what an agent could not deliver: JSON lines, which `fedctl memory import` takes as they are.

They have their ids, their agent and their tenant, so that importing them is delivering them, and twice is once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fedctl import disk
from fedctl.errors import Denied, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fedctl.model.episode import Episode


def check(path: Path) -> None:
    """See that the file can be written when the time comes.

    Raises:
        UsageError: It is stdout, a folder, a device, or in a folder that is not there.
        Denied: Its folder may not be written to.
    """
    target = Path(os.path.realpath(path))
    try:
        regular = stat.S_ISREG(target.stat().st_mode)
    except OSError:
        regular = True
    if str(path) == "-" or not regular:
        raise UsageError(f"{str(path)!r} cannot keep what is not delivered", hint="name a file")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {str(target.parent)!r} to keep what is not delivered in")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise Denied(f"{str(target.parent)!r} may not be written to", hint="check the permissions")


def keep(path: Path, episodes: Iterable[Episode]) -> None:
    """Write episodes to the file, behind what an agent before left there: all of them, durably, or none.

    Raises:
        OSError: It cannot be; the file is what it was.
    """
    target = Path(os.path.realpath(path))
    with _alone_in(target.parent), disk.new_content(target) as file:
        with contextlib.suppress(FileNotFoundError), target.open("rb") as before:
            shutil.copyfileobj(before, file)
        file.writelines(msgspec.json.encode(episode) + b"\n" for episode in episodes)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other agents from the folder's files meanwhile: those of one hub end together when it does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
