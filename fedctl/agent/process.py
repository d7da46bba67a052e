"""The command that an agent runs: its process group, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from fedctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

KILL_AFTER_S = 5.0


class Command:
    """A child in a process group of its own; its stdin, stdout and stderr are the agent's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, argv: list[str], environment: Mapping[str, str]) -> Command:
        """Start it.

        Raises:
            UsageError: There is no such program, or it may not be run.
        """
        try:
            process = await asyncio.create_subprocess_exec(*argv, env=dict(environment), start_new_session=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot run {argv[0]!r}: {reason}", hint="check the name after --") from error
        return cls(process)

    async def wait(self) -> int:
        """Return its exit status; one that a signal ended counts 128 + the signal, as in a shell."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    async def end(self) -> None:
        """Tell the whole group to end; kill it when it has not after five seconds."""
        if self._process.returncode is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(KILL_AFTER_S):
                await self._process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to everyone in the group: also to what the command started and left behind."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
