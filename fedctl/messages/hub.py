"""What can be asked of a running hub."""

from __future__ import annotations

from fedctl.messages.base import Answer, Request
from fedctl.model.hub import EventKind, HubInfo, HubStats


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

    `kinds` empty: all. `all_tenants` is for operators. An agent gets no notice of its own doing.
    """

    kinds: list[EventKind] = []
    all_tenants: bool = False
