"""Asking a hub from asyncio, several requests at once: an agent's link to its hub."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from fedctl.client import batches
from fedctl.client.address import check_url
from fedctl.client.tls import context_for
from fedctl.client.transport import (
    PING_EVERY_S,
    PONG_WITHIN_S,
    closing_reason,
    connection_lost,
    handshake_error,
    nobody_answers,
    quiet_logger,
)
from fedctl.errors import Denied, FedctlError, Timeout, Unavailable
from fedctl.model.limits import FRAME_MAX_BYTES
from fedctl.wire import session as said
from fedctl.wire.frames import FrameTooLargeError, Splitter, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.client.tls import Trust
    from fedctl.messages.base import Request
    from fedctl.model.hub import Event
    from fedctl.wire.frames import Welcome

A = TypeVar("A")

_READ_BYTES = 1 << 16


class AsyncCaller:
    """A session with a hub. When the connection breaks, `closed` is set and every call raises `ended`.

    Notices and the hub's request to stop come as calls of `on_notice` and `on_stop`, on the event loop.
    """

    welcome: Welcome

    def __init__(
        self,
        wire: AsyncWire,
        *,
        on_notice: Callable[[Event], None] | None = None,
        on_stop: Callable[[str], None] | None = None,
    ) -> None:
        """Take over an open connection; `connect` makes one and shakes hands."""
        self.closed = asyncio.Event()
        self.ended: FedctlError | None = None
        self._wire = wire
        self._on_notice = on_notice
        self._on_stop = on_stop
        self._session = said.ClientSession()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def connect(  # noqa: PLR0913  the parts of a hello
        cls,
        url: str,
        *,
        token: str | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        client: str = "fedctl",
        timeout_s: float = 10.0,
        trust: Trust | None = None,
        on_notice: Callable[[Event], None] | None = None,
        on_stop: Callable[[str], None] | None = None,
    ) -> AsyncCaller:
        """Connect and shake hands.

        Raises:
            Unavailable: nothing listens at `url`, or what does is no hub, or it is full.
            Denied: the token, or the tenant or agent it was asked for, is refused.
            Timeout: the hub did not answer within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                wire = await open_wire(check_url(url), trust)
                caller = cls(wire, on_notice=on_notice, on_stop=on_stop)
                try:
                    await caller._greet(client=client, token=token, tenant_id=tenant_id, agent_id=agent_id)
                except BaseException:
                    wire.abort()
                    raise
        except TimeoutError:
            raise Timeout(f"no hub answered at {url} within {timeout_s:g} s", hint="try again") from None
        return caller

    async def _greet(self, **hello: str | None) -> None:
        await self._wire.send(self._session.hello(**cast("dict[str, Any]", hello)))
        event = self._session.receive(await self._wire.receive())
        if isinstance(event, said.Denied):
            raise event.error
        if not isinstance(event, said.Welcomed):
            raise connection_lost("the hub did not say welcome")
        self.welcome = event.welcome
        self._reader = asyncio.create_task(self._read(), name="fedctl-link")

    async def call(self, request: Request[A], *, tenant_id: str | None = None, timeout_s: float | None = 30.0) -> A:
        """Return the answer, or raise what the hub raised.

        Raises:
            Timeout: no answer came in time; the request may or may not have been carried out.
            Unavailable: the connection is gone; likewise.
        """
        plan = batches.plan(request, self.welcome.principal)
        if plan is None:
            return cast("A", await self._call(request, tenant_id, timeout_s))
        answers = [await self._call(part, tenant_id, timeout_s) for part in plan.parts]
        return cast("A", plan.merge(answers))

    async def _call(self, request: Request[Any], tenant_id: str | None, timeout_s: float | None) -> Any:
        if self.ended is not None:
            raise self.ended
        call_id, frame = self._session.call(request, tenant_id=tenant_id)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._wire.send(frame)
                return await answer
        except TimeoutError:
            raise Timeout("the hub did not answer in time") from None
        finally:
            self._waiting.pop(call_id, None)
            self._session.abandon(call_id)
            if answer.done() and not answer.cancelled():
                # The reader may have failed it while the send was failing: asyncio wants it looked at.
                answer.exception()

    async def close(self) -> None:
        """Say goodbye and close the connection; twice is harmless."""
        if self.ended is None:
            self._end(connection_lost("it was closed here"))
            try:
                async with asyncio.timeout(1.0):
                    await self._wire.send(self._session.goodbye())
                    await self._wire.close()
            except (FedctlError, TimeoutError):
                self._wire.abort()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while self.ended is None:
                self._take(self._session.receive(await self._wire.receive()))
        except FedctlError as error:
            self._end(error)
        self._wire.abort()

    def _take(self, event: said.ClientEvent) -> None:
        if isinstance(event, said.Answered):
            self._settle(event.call_id, event.answer, None)
        elif isinstance(event, said.CallFailed):
            self._settle(event.call_id, None, event.error)
        elif isinstance(event, said.Noticed):
            if self._on_notice is not None:
                for one in event.events:
                    self._on_notice(one)
        elif isinstance(event, said.StopAsked):
            if self._on_stop is not None:
                self._on_stop(event.reason)
        elif isinstance(event, said.Denied):
            self._end(event.error)
        elif isinstance(event, said.Left):
            self._end(connection_lost(f"the hub says {event.reason} ({event.code})"))

    def _settle(self, call_id: int, answer: Any, error: FedctlError | None) -> None:
        future = self._waiting.get(call_id)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    def _end(self, error: FedctlError) -> None:
        if self.ended is None:
            self.ended = error
            for call_id in list(self._waiting):
                self._settle(call_id, None, error)
            self.closed.set()


class AsyncWire(Protocol):
    """Sends and receives whole frames on the event loop."""

    async def send(self, frame: bytes) -> None:
        """Send one frame; `Unavailable` when the connection is gone."""
        ...

    async def receive(self) -> bytes:
        """Return the next frame; `Unavailable` when the connection is gone."""
        ...

    async def close(self) -> None:
        """Close in order."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


async def open_wire(url: str, trust: Trust | None = None) -> AsyncWire:
    """Connect to `unix:PATH`, `ws://...` or `wss://...`."""
    if url.startswith("unix:"):
        return await _UnixWire.open(url.removeprefix("unix:"))
    return await _WebSocketWire.open(url, trust)


class _UnixWire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter(FRAME_MAX_BYTES)

    @classmethod
    async def open(cls, path: str) -> _UnixWire:
        try:
            return cls(*await asyncio.open_unix_connection(path))
        except PermissionError as error:
            raise Denied(f"the hub's socket {path} is another user's") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise nobody_answers(f"unix:{path}", getattr(error, "strerror", None) or error) from error

    async def send(self, frame: bytes) -> None:
        try:
            self._writer.write(prefixed(frame))
            await self._writer.drain()
        except OSError as error:
            raise connection_lost(error.strerror or error) from error

    async def receive(self) -> bytes:
        try:
            while (frame := self._splitter.next_frame()) is None:
                data = await self._reader.read(_READ_BYTES)
                if not data:
                    raise connection_lost("the hub closed it")
                self._splitter.feed(data)
        except FrameTooLargeError as error:
            raise Unavailable(error.message, hint="is this the socket of a fedctl hub?") from None
        except OSError as error:
            raise connection_lost(error.strerror or error) from error
        return frame

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError as error:
            raise connection_lost(error.strerror or error) from error

    def abort(self) -> None:
        self._writer.transport.abort()


class _WebSocketWire:
    def __init__(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  only a remote hub costs it

        self._closed_error = ConnectionClosed
        self._connection = connection

    @classmethod
    async def open(cls, url: str, trust: Trust | None) -> _WebSocketWire:
        from websockets.asyncio.client import connect  # noqa: PLC0415  likewise

        tls = context_for(url, trust)
        given: dict[str, Any] = {} if tls is None else {"ssl": tls}
        try:
            connection = await connect(
                url,
                compression=None,
                proxy=None,
                open_timeout=None,
                close_timeout=1,
                ping_interval=PING_EVERY_S,
                ping_timeout=PONG_WITHIN_S,
                max_size=FRAME_MAX_BYTES,
                user_agent_header="fedctl",
                logger=quiet_logger(),
                **given,
            )
        except Exception as error:
            raise handshake_error(url, error, trust) from error
        return cls(connection)

    async def send(self, frame: bytes) -> None:
        try:
            await self._connection.send(frame, text=True)
        except (self._closed_error, OSError) as error:
            raise connection_lost(closing_reason(error)) from error

    async def receive(self) -> bytes:
        try:
            data: bytes = await self._connection.recv(decode=False)
        except (self._closed_error, OSError) as error:
            raise connection_lost(closing_reason(error)) from error
        return data

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        self._connection.transport.abort()
