"""A network of one's own making: a TCP proxy that delays, chops, slows, swallows and cuts off. A module.

It stands between clients and a hub, on a thread of its own. TCP keeps the order within a connection, so what arrives in
another order than it was sent is what came on several connections, each with a fate of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 1 << 16
SMALL_BUFFER_BYTES = 4096
"""The system's buffers of a connection that is read slowly: else they would take in what the reader does not."""
SLICES_A_S = 10


class Fate(NamedTuple):
    """What becomes of a connection. What clients send goes up, what the hub sends comes down."""

    delay_s: float = 0.0
    """At most so long is kept back what was read at a time."""
    piece_bytes: int = READ_BYTES
    down_bytes_s: int | None = None
    cut_up_bytes: int | None = None
    cut_down_bytes: int | None = None
    """So many bytes get through in that direction, then both ends hear that the connection is reset."""
    stall_up_bytes: int | None = None
    """So many bytes get through, then nothing does, and nobody is told."""


PLAIN = Fate()


class Proxy:
    """Listens on a port of its own. `fate` is asked about each connection by its number; what it says may change."""

    def __init__(self, target: tuple[str, int] | str, listen: str | None = None) -> None:
        """Begin. `target` is an address or the path of a Unix socket, `listen` a path instead of a port."""
        self.fate: Callable[[int], Fate] = lambda _number: PLAIN
        self.made = self.resets = self.swallowed = 0
        self.up_bytes = 0
        self.target = target
        self._swallow = 0
        self._pipes: set[_Pipe] = set()
        self.listener = socket.socket(socket.AF_UNIX) if listen else socket.socket()
        self.listener.bind(listen or ("127.0.0.1", 0))
        self.listener.listen(256)
        self.listener.setblocking(False)
        self.port = 0 if listen else self.listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True, name="proxy")
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._pipes)

    def hold(self) -> None:
        """Let nothing through any more; nobody is told."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Let everything through again, what was held too."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def forget(self) -> None:
        """Let nothing through on the connections that there are, for good; nobody is told."""
        for pipe in list(self._pipes):
            pipe.lost = True

    def swallow(self) -> None:
        """Take the next thing that the hub says from it, hand it to nobody, and cut that connection off."""
        self._swallow += 1

    def cut_all(self) -> None:
        """Cut off every connection."""
        self._loop.call_soon_threadsafe(lambda: [pipe.reset() for pipe in list(self._pipes)])

    def close(self) -> None:
        """End."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        accepting = self._loop.create_task(self._accept())
        try:
            self._loop.run_forever()
        finally:
            for task in {accepting, *self._tasks}:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(accepting, *self._tasks, return_exceptions=True))
            self.listener.close()
            self._loop.close()

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self.listener)
            task = self._loop.create_task(self._serve(near, self.made))
            self.made += 1
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, near: socket.socket, number: int) -> None:
        pipe = _Pipe(self, near, self.fate(number))
        pipe.task = asyncio.current_task()
        self._pipes.add(pipe)
        try:
            await self._flows.wait()
            await pipe.run()
        except* OSError:  # one end is gone: so is the other
            if pipe.lost:
                await asyncio.Event().wait()
        finally:
            self._pipes.discard(pipe)
            pipe.close()

    async def passes(self, pipe: _Pipe, *, down: bool) -> bool:
        """Wait until something may pass; False when it never may."""
        await self._flows.wait()
        if pipe.lost:
            await asyncio.Event().wait()
        if down and self._swallow:
            self._swallow -= 1
            self.swallowed += 1
            pipe.reset()
            return False
        return True


class _Pipe:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, near: socket.socket, fate: Fate) -> None:
        self.lost = False
        self.task: asyncio.Task[None] | None = None
        self._proxy, self._near, self._fate = proxy, near, fate
        unix = isinstance(proxy.target, str)
        self._far = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        for end in (self._near, self._far):
            end.setblocking(False)
            if not unix:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if fate.down_bytes_s is not None:
            self._far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            self._near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)

    async def run(self) -> None:
        """Carry to and fro until both have ended, or it is cut."""
        await asyncio.get_running_loop().sock_connect(self._far, self._proxy.target)
        async with asyncio.TaskGroup() as ways:
            ways.create_task(self._carry(self._near, self._far, self._fate.cut_up_bytes, down=False))
            ways.create_task(self._carry(self._far, self._near, self._fate.cut_down_bytes, down=True))

    async def _carry(self, source: socket.socket, sink: socket.socket, cut: int | None, *, down: bool) -> None:
        loop, fate, passed = asyncio.get_running_loop(), self._fate, 0
        slow = down and fate.down_bytes_s is not None
        size = max(1, (fate.down_bytes_s or 0) // SLICES_A_S) if slow else READ_BYTES
        while data := await loop.sock_recv(source, size):
            if not await self._proxy.passes(self, down=down):
                return
            if fate.delay_s:
                await asyncio.sleep(random.uniform(0, fate.delay_s))
            if slow:
                await asyncio.sleep(1 / SLICES_A_S)
            if not down and fate.stall_up_bytes is not None and passed + len(data) > fate.stall_up_bytes:
                await loop.sock_sendall(sink, data[: fate.stall_up_bytes - passed])
                self.lost = True
                continue
            over = cut is not None and passed + len(data) >= cut
            data = data[: cut - passed] if cut is not None and over else data
            for start in range(0, len(data), fate.piece_bytes):
                await loop.sock_sendall(sink, data[start : start + fate.piece_bytes])
            passed += len(data)
            if not down:
                self._proxy.up_bytes += len(data)
            if over:
                self.reset()
                return
        if self.lost:  # nobody is told of an end either
            await asyncio.Event().wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Cut it: both ends are told that it was reset, not that it ended."""
        self._proxy.resets += 1
        for end in (self._near, self._far):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        """Close both ends."""
        self._near.close()
        self._far.close()
