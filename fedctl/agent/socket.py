"""The agent's own Unix socket: the same session as a hub's, so that the same commands reach an agent's memory."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedctl.errors import Denied, Failure, FedctlError
from fedctl.wire import frames
from fedctl.wire import session as said
from fedctl.wire.frames import FrameTooLargeError, Splitter, prefixed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fedctl.model.principal import Principal
    from fedctl.wire.codec import RequestDecoder

_READ_BYTES = 1 << 16
_HELLO_TIMEOUT_S = 5.0


class AgentSocket:
    """Serves sessions as the agent: its tenant and its name are what a session gets, whoever connects."""

    def __init__(
        self,
        path: Path,
        requests: RequestDecoder,
        principal: Principal,
        welcome: Callable[[], frames.Welcome],
        answer: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self.path = path
        self._requests = requests
        self._principal = principal
        self._welcome = welcome
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; the socket is its owner's alone, as the folder it is made in must be."""
        self._server = await asyncio.start_unix_server(self._accept, path=self.path)
        self.path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening, end the sessions and remove the socket."""
        if self._server is not None:
            self._server.close()
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            # Whoever hangs up in the middle of something needs no answer any more.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._sessions.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = said.ServerSession(self._requests)
        splitter = Splitter(session.frame_limit_bytes)
        calls: set[asyncio.Task[None]] = set()
        try:
            while session.state != "closed":
                frame = await self._next_frame(reader, splitter, greeted=session.state == "open")
                if frame is None:
                    return
                event = session.receive(frame)
                if isinstance(event, said.Asked):
                    call = asyncio.create_task(self._reply(session, event, writer))
                    calls.add(call)
                    call.add_done_callback(calls.discard)
                elif isinstance(event, said.Greeted):
                    await _send(writer, self._greet(session, event.hello))
                    splitter.limit_bytes = session.frame_limit_bytes
                elif isinstance(event, said.Refused | said.Broken):
                    await _send(writer, event.reply)
        except FrameTooLargeError as error:
            await _send(writer, session.refuse(error))
        finally:
            for call in calls:
                call.cancel()

    @staticmethod
    async def _next_frame(reader: asyncio.StreamReader, splitter: Splitter, *, greeted: bool) -> bytes | None:
        while (frame := splitter.next_frame()) is None:
            try:
                async with asyncio.timeout(None if greeted else _HELLO_TIMEOUT_S):
                    data = await reader.read(_READ_BYTES)
            except TimeoutError:
                return None
            if not data:
                return None
            splitter.feed(data)
        return frame

    def _greet(self, session: said.ServerSession, hello: frames.Hello) -> bytes:
        if hello.tenant_id not in (None, self._principal.tenant_id):
            return session.refuse(self._foreign(hello.tenant_id))
        return session.welcome(self._welcome())

    async def _reply(self, session: said.ServerSession, event: said.Asked, writer: asyncio.StreamWriter) -> None:
        try:
            if event.tenant_id not in (None, self._principal.tenant_id):
                raise self._foreign(event.tenant_id)
            reply = session.answer(event.call_id, await self._answer(event.request))
        except FedctlError as error:
            reply = session.fail(event.call_id, error)
        except Exception as error:  # noqa: BLE001  the boundary: one request's bug must not leave its asker waiting
            reply = session.fail(event.call_id, Failure(f"it failed inside the agent: {type(error).__name__}: {error}"))
        with contextlib.suppress(OSError):
            await _send(writer, reply)

    def _foreign(self, tenant_id: str | None) -> Denied:
        return Denied(
            f"this is an agent of the tenant {self._principal.tenant_id}, not of {tenant_id}",
            hint="leave --tenant out: inside an agent the tenant is the agent's",
        )


async def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(prefixed(frame))
    await writer.drain()
