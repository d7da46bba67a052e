"""A link that tells the debug stream what is asked over it, how long that took, and when it opens and breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fedctl.errors import FedctlError
from fedctl.operations.table import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.agent.link import Link
    from fedctl.clock import Clock
    from fedctl.log import Log
    from fedctl.messages.base import Request
    from fedctl.model.hub import Event
    from fedctl.model.principal import Principal

A = TypeVar("A")


class LoggedLink:
    """The same link, watched."""

    def __init__(self, link: Link, log: Log, clock: Clock, tenant_id: str, agent_id: str) -> None:
        self._link = link
        self._log = log
        self._clock = clock
        self._who = {"tenant": tenant_id, "agent": agent_id}

    @property
    def connected(self) -> bool:
        """Whether calls can be made now."""
        return self._link.connected

    async def connect(self, on_stop: Callable[[str], None], on_news: Callable[[Event], None]) -> Principal:
        """Open the way."""

        def stop(reason: str) -> None:
            self._log.verbose("event.stop", **self._who, reason=reason)
            on_stop(reason)

        def news(event: Event) -> None:
            self._log.verbose("event." + event.kind, **self._who, seq=event.seq, subject=event.subject)
            on_news(event)

        began_s = self._clock.monotonic_s()
        try:
            principal = await self._link.connect(stop, news)
        except FedctlError as error:
            self._log.detailed("link.connect", **self._who, duration_ms=self._since_ms(began_s), error=error.message)
            raise
        self._log.detailed("link.connect", **self._who, duration_ms=self._since_ms(began_s), role=principal.role)
        self._log.trace("link.state", **self._who, state="open")
        return principal

    async def lost(self) -> None:
        """Wait until the connection is gone."""
        await self._link.lost()
        self._log.trace("link.state", **self._who, state="lost")

    async def call(self, request: Request[A], *, timeout_s: float = 30.0) -> A:
        """Ask."""
        began_s, failed = self._clock.monotonic_s(), None
        try:
            return await self._link.call(request, timeout_s=timeout_s)
        except FedctlError as error:
            failed = error.message
            raise
        finally:
            operation = OPERATIONS[type(request)].name
            self._log.detailed(operation, **self._who, duration_ms=self._since_ms(began_s), error=failed)

    async def close(self) -> None:
        """Let go."""
        if self._link.connected:
            self._log.trace("link.state", **self._who, state="closed")
        await self._link.close()

    def _since_ms(self, began_s: float) -> float:
        return (self._clock.monotonic_s() - began_s) * 1000
