"""Asking a hub over a socket, one request at a time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fedctl.client import batches
from fedctl.client.address import check_url
from fedctl.client.transport import connection_lost, open_transport
from fedctl.errors import FedctlError, Timeout
from fedctl.wire import session as said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.client.tls import Trust
    from fedctl.messages.base import Request
    from fedctl.model.hub import Event
    from fedctl.wire.frames import Welcome

A = TypeVar("A")


class RemoteCaller:
    """A session with a hub. When the connection breaks every further call raises `Unavailable`: open a new one.

    For one thread at a time. What a hub is asked and what it answers, errors included, is the same as in-process.
    """

    def __init__(  # noqa: PLR0913  the parts of a hello
        self,
        url: str,
        *,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        token: str | None = None,
        timeout_ms: int | None = 30_000,
        trust: Trust | None = None,
        client: str = "fedctl",
    ) -> None:
        """Connect and shake hands. `timeout_ms` None waits without end.

        Raises:
            Unavailable: nothing listens at `url`, or what does is no hub.
            Denied: the token, or the tenant it was asked for, is refused.
            Timeout: the hub did not answer in time.
        """
        self.url = check_url(url)
        self.timeout_ms = timeout_ms
        self._session = said.ClientSession()
        self._notices: deque[Event] = deque()
        self._ended: FedctlError | None = None
        hello = self._session.hello(client=client, token=token, tenant_id=tenant_id, agent_id=agent_id)
        deadline = self._deadline()
        self._transport = open_transport(url, _left_s(deadline), trust)
        try:
            self._transport.send(hello, _left_s(deadline))
            self.welcome: Welcome = self._await_welcome(deadline)
        except BaseException:
            self._transport.close()
            raise

    def call(self, request: Request[A], *, tenant_id: str | None = None) -> A:
        """Return the answer, or raise what the hub raised.

        Raises:
            Timeout: no answer came in time; the request may or may not have been carried out.
            Unavailable: the connection is gone; likewise.
        """
        plan = batches.plan(request, self.welcome.principal)
        if plan is None:
            return cast("A", self._call(request, tenant_id))
        return cast("A", plan.merge([self._call(part, tenant_id) for part in plan.parts]))

    def _call(self, request: Request[Any], tenant_id: str | None) -> Any:
        if self._ended is not None:
            raise self._ended
        call_id, frame = self._session.call(request, tenant_id=tenant_id)
        deadline = self._deadline(getattr(request, "wait_ms", 0))
        try:
            self._transport.send(frame, _left_s(deadline))
            return self._await_answer(call_id, deadline)
        except Timeout:
            self._session.abandon(call_id)
            raise

    def notices(self, timeout_s: float | None = None) -> Iterator[Event]:
        """Yield what was subscribed to (`Subscribe`) as it comes; end when nothing came for `timeout_s`.

        Raises:
            Unavailable: the connection is gone.
        """
        while True:
            while self._notices:
                yield self._notices.popleft()
            if self._ended is not None:
                raise self._ended
            try:
                self._take(self._transport.receive(timeout_s))
            except Timeout:
                return

    def close(self) -> None:
        """Say goodbye and close the connection; twice is harmless."""
        if self._ended is None:
            self._ended = connection_lost("it was closed here")
            with contextlib.suppress(FedctlError):  # whoever leaves does not ask why the goodbye was not heard
                self._transport.send(self._session.goodbye(), 1.0)
        self._transport.close()

    def _await_welcome(self, deadline: float | None) -> Welcome:
        event = self._take(self._transport.receive(_left_s(deadline)))
        if isinstance(event, said.Welcomed):
            return event.welcome
        raise self._ended or connection_lost("the hub did not say welcome")

    def _await_answer(self, call_id: int, deadline: float | None) -> Any:
        while True:
            event = self._take(self._transport.receive(_left_s(deadline)))
            if isinstance(event, said.Answered) and event.call_id == call_id:
                return event.answer
            if isinstance(event, said.CallFailed) and event.call_id == call_id:
                raise event.error
            if self._ended is not None:
                raise self._ended

    def _take(self, frame: bytes) -> said.ClientEvent:
        event = self._session.receive(frame)
        if isinstance(event, said.Noticed):
            self._notices.extend(event.events)
        elif isinstance(event, said.Denied):
            self._ended = event.error
        elif isinstance(event, said.Left):
            self._ended = connection_lost(f"the hub says {event.reason} ({event.code})")
        return event

    def _deadline(self, wait_ms: int = 0) -> float | None:
        # What a request waits for by itself is no part of the time that it may take.
        return None if self.timeout_ms is None else time.monotonic() + (self.timeout_ms + wait_ms) / 1000


def _left_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - time.monotonic())
