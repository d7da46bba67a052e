"""The folder that an agent's socket lies in: locked while the agent lives, so that what a killed one left is known."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fedctl import disk
from fedctl.client.address import fits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LAST_RESORT = Path("/tmp")  # noqa: S108  short; the folder made in it is its owner's alone
_PREFIX = "fedctl-agent-"


class AgentFolder:
    """A new folder, its owner's alone. Making one clears away what killed agents of this user left beside it."""

    def __init__(self) -> None:
        parent = parent_of(os.environ)
        for left in abandoned(parent):
            shutil.rmtree(left, ignore_errors=True)
        self.path, self._lock = disk.held_folder(lambda: Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))

    def close(self) -> None:
        """Remove it; twice is harmless."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def abandoned(parent: Path) -> Iterator[Path]:
    """Yield the folders below `parent` whose agents died without removing them, each held while it is yielded.

    Never a link, nor another user's.
    """
    yield from disk.dead(filter(_is_own, sorted(parent.glob(f"{_PREFIX}*"))), stat.S_ISDIR)


def _is_own(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.lstat().st_uid == os.getuid()
    return False


def parents(environ: Mapping[str, str]) -> list[Path]:
    """Return where the folders may lie: the user's own runtime directory (gone at logout), a temporary one, `/tmp`."""
    named = (environ.get("XDG_RUNTIME_DIR"), environ.get("TMPDIR") or tempfile.gettempdir())
    return list(dict.fromkeys([*(Path(one) for one in named if one), LAST_RESORT]))


def parent_of(environ: Mapping[str, str]) -> Path:
    """Return where a new folder goes.

    The first that can be written to and leaves room for the folder and the socket in a socket's path.
    """
    for folder in parents(environ):
        if os.access(folder, os.W_OK | os.X_OK) and fits(folder / f"{_PREFIX}xxxxxxxx/agent.sock"):
            return folder
    return LAST_RESORT
