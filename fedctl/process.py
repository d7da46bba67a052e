"""A command that somebody runs for a while: its process group, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from fedctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

KILL_AFTER_S = 5.0
_POLL_S = 0.02


class Command:
    """A child in a process group of its own; its stdin, stdout and stderr are its parent's unless others are named."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._impatient = asyncio.Event()

    @classmethod
    async def start(cls, argv: list[str], environment: Mapping[str, str], **streams: Any) -> Command:
        """Start it; `streams` are stdin, stdout and stderr as `subprocess` takes files.

        Pipes are made by who wants them: the wait for a process whose pipes asyncio has made is, in some versions of
        Python, a wait for its last grandchild (https://github.com/python/cpython/issues/119710).

        Raises:
            UsageError: There is no such program, or it may not be run; its cause says why.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env=dict(environment), start_new_session=True, **streams
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot run {argv[0]!r}: {reason}", hint="check the name after --") from error
        return cls(process)

    @property
    def group(self) -> int:
        """The number of its process group."""
        return self._process.pid

    async def wait(self) -> int:
        """Return its exit status; one that a signal ended counts 128 + the signal, as in a shell."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    async def end(self, kill_after_s: float = KILL_AFTER_S) -> None:
        """Tell the whole group to end; kill what is left of it after that time. Twice is harmless."""
        if not self._lives():
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(kill_after_s):
                while self._lives() and not self._impatient.is_set():  # noqa: ASYNC110  the end of a group is no event
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """Kill the whole group; who waits for its end waits no longer."""
        self._impatient.set()
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to everyone in the group: also to what the command started and left behind."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _lives(self) -> bool:
        """Return whether the command, or anything of its group, is still running."""
        if self._process.returncode is None:
            return True
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return not _only_zombies(self._process.pid)


def _only_zombies(group: int) -> bool:
    """Return whether a group holds dead processes only: in a container nobody may be there to bury them."""
    states: set[str] = set()
    with contextlib.suppress(OSError):  # no /proc: then nothing is known
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError), open(f"/proc/{entry.name}/stat") as file:  # noqa: PTH123
                    state, _, its_group = file.read().rpartition(")")[2].split()[:3]
                    if int(its_group) == group:
                        states.add(state)
    return bool(states) and states <= {"Z", "X"}
