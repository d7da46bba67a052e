"""One item's command: what goes in, what comes out, and its end in every case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, Self

import msgspec

from fedctl.errors import UsageError
from fedctl.model.limits import EPISODE_MAX_BYTES, encode_json
from fedctl.process import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

RESULT_MAX_BYTES = EPISODE_MAX_BYTES
STDERR_TAIL_BYTES = 4096
LINE_MAX_BYTES = 8192
"""A line of stderr that is longer is passed on in pieces."""
QUIET_S = 0.5
"""How long a pipe may stay silent after the command's end before nobody waits for its end any more."""
_READ_BYTES = 1 << 16

Why = Literal["lost", "time", "stopped"]
"""Why a command was ended: its lease is lost, its time is over, the worker stops."""


class Ran(NamedTuple):
    """How a command ended. `status` is as a shell counts it; `why` says who ended it, None: it did so itself."""

    status: int
    why: Why | None
    stdout: Capture
    stderr_tail: bytes


class Capture:
    """The beginning of an output, and how long it was in all."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._kept = bytearray()
        self.size = 0
        self.cut = False
        """Whether the result is not all of it."""

    def add(self, chunk: bytes) -> None:
        """Take what came."""
        self.size += len(chunk)
        self._kept += chunk[: RESULT_MAX_BYTES + 1 - len(self._kept)]

    def result(self) -> Any:
        """Return what the output says as an item's result: its JSON value if it is one, else its text; None for none.

        A text loses its last line feed, as in a shell, and what is no UTF-8 is replaced. What is longer as JSON than
        a result may be is cut, as a text that ends in `[cut: N bytes in all]`.
        """
        if self.size == len(self._kept):
            value = _json_or_none(bytes(self._kept))
            if value is not None:
                return value[0]
        text = self._kept.decode("utf-8", "replace")
        if self.size == len(self._kept):
            text = text.removesuffix("\n")
            if _size(text) <= RESULT_MAX_BYTES:
                return text or None
        self.cut = True
        mark = f"\n[cut: {self.size} bytes in all]"
        while (size := _size(text + mark)) > RESULT_MAX_BYTES:
            text = text[: len(text) * RESULT_MAX_BYTES // size - 1]
        return text + mark


def _json_or_none(content: bytes) -> tuple[Any] | None:
    """Return a value in a box, for null is one too."""
    if not content.strip():
        return None
    try:
        value = msgspec.json.decode(content)
        fits = len(encode_json("a result", value).encode()) <= RESULT_MAX_BYTES
    except (UsageError, ValueError, RecursionError):
        return None
    return (value,) if fits else None


def _size(text: str) -> int:
    return len(msgspec.json.encode(text))


class Execution:
    """A command on its way, which anybody may ask to end."""

    def __init__(
        self, *, grace_s: float, hear: Callable[[bytes], Awaitable[None]], by_line: bool, guard: Guard
    ) -> None:
        """Begin with nothing; `hear` takes what comes on stderr, in whole lines if `by_line`."""
        self._grace_s = grace_s
        self._hear = hear
        self._by_line = by_line
        self._guard = guard
        self._why: Why | None = None
        self._asked = asyncio.Event()
        self._command: Command | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._chunks = 0
        self._hearing = False
        self._stdout = Capture()
        self._tail = b""
        self._line = b""

    def end(self, why: Why) -> None:
        """Ask the command to end: TERM to its group, KILL after the grace period. The first reason counts."""
        self._why = self._why or why
        self._asked.set()

    def kill(self) -> None:
        """Do not wait for the end of the grace period."""
        self.end("stopped")
        if self._command is not None:
            self._command.kill()

    async def run(self, argv: list[str], environment: Mapping[str, str], stdin: bytes | None) -> Ran:
        """Run the command to its end, and to the end of all that it started in its group.

        Raises:
            UsageError: It cannot be started; the cause says why.
        """
        with contextlib.ExitStack() as stack:
            out, err = (stack.enter_context(_Pipe()) for _ in range(2))
            given: Any = subprocess.DEVNULL
            if stdin is not None:
                given = stack.enter_context(_file_of(stdin))
            command = await Command.start(argv, environment, stdin=given, stdout=out.writing, stderr=err.writing)
            self._command = command
            self._guard.add(command.group)
            try:
                self._readers = {
                    asyncio.create_task(self._read(await out.reader(), self._take_stdout)),
                    asyncio.create_task(self._read(await err.reader(), self._take_stderr)),
                }
                why = await self._until_over(command)
                # What is still in the pipes, and what the command left behind in its group.
                await self._drain()
                await command.end(self._grace_s)
                await self._drain()
                await self._pass_on(b"\n" if self._line else b"")
                return Ran(await command.wait(), why, self._stdout, self._tail)
            except BaseException:
                command.kill()
                raise
            finally:
                for reader in self._readers:
                    reader.cancel()
                await asyncio.gather(*self._readers, return_exceptions=True)
                self._guard.remove(command.group)

    async def _until_over(self, command: Command) -> Why | None:
        """Wait until the command has ended, or end it where somebody asks for that; return why it was ended."""
        exited = asyncio.create_task(command.wait())
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({exited, asked}, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return None
            await command.end(self._grace_s)
            return self._why
        finally:
            asked.cancel()
            exited.cancel()

    async def _drain(self) -> None:
        """Read the pipes to their end; what somebody outside the group holds open is not waited for."""
        reading = {reader for reader in self._readers if not reader.done()}
        while reading:
            before = self._chunks
            _, reading = await asyncio.wait(reading, timeout=QUIET_S)
            if self._chunks == before and (not self._hearing or self._asked.is_set()):
                return

    async def _read(self, reader: asyncio.StreamReader, take: Callable[[bytes], Awaitable[None]]) -> None:
        while chunk := await reader.read(_READ_BYTES):
            self._chunks += 1
            await take(chunk)

    async def _take_stdout(self, chunk: bytes) -> None:
        self._stdout.add(chunk)

    async def _take_stderr(self, chunk: bytes) -> None:
        self._tail = (self._tail + chunk)[-STDERR_TAIL_BYTES:]
        await self._pass_on(chunk)

    async def _pass_on(self, chunk: bytes) -> None:
        """Hand on what came on stderr, where several commands speak at once in whole lines."""
        if self._by_line:
            lines, feed, rest = (self._line + chunk).rpartition(b"\n")
            chunk = lines + feed
            if len(rest) > LINE_MAX_BYTES:
                chunk, rest = chunk + rest + b"\n", b""
            self._line = rest
        if chunk and not self._hearing:
            self._hearing = True
            try:
                await self._hear(chunk)
            finally:
                self._hearing = False


def _file_of(content: bytes) -> IO[bytes]:
    """Return a file without a name, to be read. No pipe: a command that does not read it keeps nobody waiting."""
    if sys.platform == "linux":  # in memory: what the data say never lies on a disk
        file: IO[bytes] = os.fdopen(os.memfd_create("fedctl-item"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  its taker closes it
    file.write(content)
    file.seek(0)
    return file


class _Pipe:
    """A pipe from a command to us, for a `with`."""

    def __enter__(self) -> Self:
        self._reading, self.writing = os.pipe()
        self._transport: asyncio.ReadTransport | None = None
        return self

    async def reader(self) -> asyncio.StreamReader:
        """Return our end; the other end is the command's alone from now on."""
        os.close(self.writing)
        self.writing = -1
        file, self._reading = os.fdopen(self._reading, "rb", buffering=0), -1
        reader = asyncio.StreamReader(limit=_READ_BYTES)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        return reader

    def __exit__(self, *_: object) -> None:
        for descriptor in (self.writing, self._reading):
            if descriptor >= 0:
                os.close(descriptor)
        if self._transport is not None:
            self._transport.close()


_GUARD = """
groups=
while read -r sign group; do
  if [ "$sign" = + ]; then groups="$groups $group"; continue; fi
  rest=
  for one in $groups; do [ "$one" = "$group" ] || rest="$rest $one"; done
  groups=$rest
done
for one in $groups; do kill -s TERM -- "-$one"; done
left=$1
while [ "$left" -gt 0 ]; do
  rest=
  for one in $groups; do kill -s 0 -- "-$one" && rest="$rest $one"; done
  groups=$rest
  [ -n "$groups" ] || exit 0
  sleep 0.1 || sleep 1
  left=$((left - 1))
done
for one in $groups; do kill -s KILL -- "-$one"; done
"""


class Guard:
    """A small process that outlives ours if it is killed, and then ends the commands which nobody looks after.

    It is told of each group that begins and ends; the end of the pipe says that we are gone. A shell does it:
    `PR_SET_PDEATHSIG` reaches a command alone and not its group, would have to be set between fork and exec, where a
    process with threads may do next to nothing, and is Linux's only. Where there is no /bin/sh nobody is on guard.
    """

    def __init__(self, grace_s: float) -> None:
        """Begin. TERM comes first, KILL `grace_s` later."""
        tenths = str(max(1, round(grace_s * 10)))
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603  our own words
                ["/bin/sh", "-c", _GUARD, "fedctl-work-guard", tenths], stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0, cwd="/",
            )  # fmt: skip
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)

    def add(self, group: int) -> None:
        """Note a group that has begun."""
        self._tell(b"+ %d\n" % group)

    def remove(self, group: int) -> None:
        """Forget a group that has ended."""
        self._tell(b"- %d\n" % group)

    def _tell(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # somebody killed it: then nobody is on guard
                self._process.stdin.write(line)

    def close(self) -> None:
        """Send it home."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
