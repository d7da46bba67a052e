"""What can be asked of a running hub."""

from __future__ import annotations

from fedctl.messages.base import Answer, Request
from fedctl.model.hub import Event, EventKind, HubInfo, HubStats


class HubStatsAnswer(Answer, frozen=True, kw_only=True):
    """The figures."""

    stats: HubStats


class GetHubStats(Request[HubStatsAnswer], frozen=True, kw_only=True, tag="hub.stats"):
    """A hub's figures."""


class HubInfoAnswer(Answer, frozen=True, kw_only=True):
    """Where it listens."""

    hub: HubInfo


class GetHubInfo(Request[HubInfoAnswer], frozen=True, kw_only=True, tag="hub.info"):
    """Where a hub listens, and whether it is ready."""


class SubscribeAnswer(Answer, frozen=True, kw_only=True):
    """The change log's last sequence at that moment: notices carry what comes after it."""

    seq: int


class Subscribe(Request[SubscribeAnswer], frozen=True, kw_only=True, tag="hub.subscribe"):
    """Send this session notices of the tenant's changes as they are committed.

    `kinds` empty: all. `all_tenants` is for operators. An agent gets no notice of its own doing. A session that does
    not read what it is sent is ended with the code TOO_SLOW; what it missed is had with `ListEvents` after the last
    sequence that it got.
    """

    kinds: list[EventKind] = []
    all_tenants: bool = False


class EventPage(Answer, frozen=True, kw_only=True):
    """Events in order. What comes after them comes after `cursor`; `more`: there is some already.

    `epoch` changes when the store was restored from a backup: cursors from before it mean nothing.
    """

    events: list[Event]
    cursor: int
    more: bool
    epoch: str

    @property
    def unmet(self) -> bool:
        """Whether nothing has happened yet."""
        return not (self.events or self.more)


class ListEvents(Request[EventPage], frozen=True, kw_only=True, tag="hub.events"):
    """Read the tenant's events, with a hub or without: after a cursor, since a time, the newest ones, or all.

    `kinds` empty: all. `all_tenants` is for operators. A page has at most `limit` events. `wait_ms`: when there is
    nothing yet, how long to wait for something.
    """

    after: int | None = None
    since: str | None = None
    newest: int | None = None
    kinds: list[EventKind] = []
    all_tenants: bool = False
    limit: int = 1000
    wait_ms: int = 0
