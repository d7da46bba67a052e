"""Following events from the command line: whoever answers, hub or home, and whichever comes back."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, get_args

from fedctl.config import did_you_mean
from fedctl.errors import UsageError
from fedctl.model.hub import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.cli.command import Invocation
    from fedctl.client.caller import Caller
    from fedctl.client.events import Follower
    from fedctl.messages.hub import ListEvents
    from fedctl.model.hub import Event

KINDS: tuple[EventKind, ...] = get_args(EventKind)
_FAMILIES = {"episode": ("episode", "episodes"), "item": ("items",), "pool": ("pool", "items")}
"""The words that stand for more than what begins with them."""


def follower(ctx: Invocation, request: ListEvents) -> Follower:
    """Connect as the settings say, and again when that changes: with `auto` a hub that starts, or one that ends."""
    from fedctl.bootstrap import hub_address
    from fedctl.client.events import Follower
    from fedctl.clock import Clock

    settings, address = ctx.settings, None

    def connect() -> Caller:
        nonlocal address
        address = hub_address(settings)
        return ctx.session.open_caller(settings, writes=False)

    return Follower(connect, request, Clock(), say=ctx.screen.note, elsewhere=lambda: hub_address(settings) != address)


def pages(ctx: Invocation, source: Follower) -> Iterator[list[Event]]:
    """Return what comes, for as long as somebody reads the answer. A refusal comes before anything is answered."""
    coming = source.pages()
    first = next(coming)

    def read() -> Iterator[list[Event]]:
        for page in itertools.chain([first], coming):
            if page:
                yield page
            else:
                ctx.screen.check_reader()

    return read()


def kinds_of(types: list[str]) -> list[EventKind]:
    """Return the kinds that `--type` names: a kind, or the first word of several (`agent`), or a family (`pool`)."""
    chosen: list[EventKind] = []
    for name in types:
        family = _FAMILIES.get(name, (name,))
        found = [kind for kind in KINDS if kind == name or kind.partition("_")[0] in family]
        if not found:
            words = sorted({kind.partition("_")[0] for kind in KINDS} | _FAMILIES.keys())
            hint = did_you_mean(name, [*words, *KINDS]) or f"{', '.join(words)}; or one of {', '.join(KINDS)}"
            raise UsageError(f"--type: {name!r} is no type of event", hint=hint)
        chosen += [kind for kind in found if kind not in chosen]
    return chosen
