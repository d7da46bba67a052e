"""Following events from a cursor on: over any `Caller`, and over the end of one, nothing twice and nothing lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from fedctl.errors import Timeout, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.client.caller import Caller
    from fedctl.clock import Clock
    from fedctl.messages.base import Request
    from fedctl.messages.hub import EventPage, ListEvents
    from fedctl.model.hub import Event

A = TypeVar("A")

ROUND_MS = 5_000
"""How long one request waits: whatever goes wrong in between is noticed by the next."""
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
PAUSE_S = 0.25
"""The pace where the other side cannot wait: an agent on a home without a hub."""


def history(caller: Caller, request: ListEvents) -> Iterator[Event]:
    """Return what there is, to the log's present end. The first page is asked for at once: a refusal comes first."""
    return _from(caller, request, caller.call(request))


def _from(caller: Caller, request: ListEvents, page: EventPage) -> Iterator[Event]:
    while True:
        yield from page.events
        if not page.more:
            return
        request = _after(request, page)
        page = caller.call(request)


class Follower:
    """Reads events as they come. The cursor is its own, so it does not matter who answers, and whether it lives."""

    def __init__(
        self,
        connect: Callable[[], Caller],
        request: ListEvents,
        clock: Clock,
        *,
        say: Callable[[str], None] = lambda _line: None,
        elsewhere: Callable[[], bool] = lambda: False,
    ) -> None:
        """Connect. `request` says where to begin; `elsewhere` is true once there is a better way to connect by.

        Raises:
            FedctlError: Nobody is there, or the answer is no. A later absence is waited for, and said.
        """
        self._connect = connect
        self._request = request
        self._clock = clock
        self._say = say
        self._elsewhere = elsewhere
        self._epoch: str | None = None
        self._caller: Caller | None = connect()

    def pages(self) -> Iterator[list[Event]]:
        """Yield events in order, those of one page together, for ever; an empty list now and then when there are none.

        Raises:
            FedctlError: The answer is no (a token that has expired).
        """
        backoff_s = BACKOFF_FIRST_S
        while True:
            began_s = self._clock.monotonic_s()
            try:
                page = self._read()
            except (Unavailable, Timeout) as error:
                if self._caller is not None:
                    self._say(f"{error.message}; trying again")
                self.close()
                self._clock.sleep_s(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
                continue
            backoff_s = BACKOFF_FIRST_S
            yield page.events
            if page.unmet and self._clock.monotonic_s() - began_s < ROUND_MS / 2000:
                self._clock.sleep_s(PAUSE_S)

    def _read(self) -> EventPage:
        if self._caller is not None and self._elsewhere():
            self.close()
        if self._caller is None:
            self._caller = self._connect()
        # The first answer comes at once, also where it is empty: by then a refusal would have come.
        waits = 0 if self._request.newest is not None or self._epoch is None else ROUND_MS
        page = self._caller.call(msgspec.structs.replace(self._request, wait_ms=waits))
        if self._epoch not in (None, page.epoch):
            # Another history: the old cursor means nothing in it, and what is new in it can only be what comes.
            self._say("the store was restored from a backup: going on from its end")
            page = self._caller.call(msgspec.structs.replace(self._request, after=None, newest=0))
        self._epoch = page.epoch
        self._request = _after(self._request, page)
        return page

    def call(self, request: Request[A]) -> A:
        """Ask something else on the same way.

        Raises:
            Unavailable: Nobody is there just now.
        """
        if self._caller is None:
            raise Unavailable("nobody is connected just now", hint="try again")
        return self._caller.call(request)

    def close(self) -> None:
        """Let go of the caller; twice is harmless."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None


def _after(request: ListEvents, page: EventPage) -> ListEvents:
    return msgspec.structs.replace(request, after=page.cursor, since=None, newest=None)
