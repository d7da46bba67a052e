"""Answers come in pages and requests have a size: the loops around both, over any `Caller`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import msgspec

from fedctl.model.limits import BATCH_MAX_ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.client.caller import Caller
    from fedctl.messages.agent import ListAgents
    from fedctl.messages.base import Request
    from fedctl.messages.memory import ListAnswer, ListEpisodes, QueryAnswer
    from fedctl.messages.pool import ItemPage, ListItems
    from fedctl.messages.token import ListTokens
    from fedctl.messages.worker import ListWorkers
    from fedctl.model.agent import Agent
    from fedctl.model.episode import Episode, Hit
    from fedctl.model.pool import Item
    from fedctl.model.token import TokenRecord
    from fedctl.model.worker import Worker


def complete(caller: Caller, answer: QueryAnswer) -> list[Hit]:
    """Return a query's hits, all with their episodes; what was deleted in between is left out."""
    absent = [hit.id for hit in answer.hits if hit.episode is None]
    if not absent:
        return answer.hits
    fetched = {episode.id: episode for episode in get_all(caller, absent)[0]}
    whole = [
        hit if hit.episode is not None else msgspec.structs.replace(hit, episode=fetched.get(hit.id))
        for hit in answer.hits
    ]
    return [hit for hit in whole if hit.episode is not None]


def get_all(caller: Caller, ids: list[str]) -> tuple[list[Episode], list[str]]:
    """Return the episodes of `ids` in that order, and the ids that there are none for. An id counts once."""
    from fedctl.messages.memory import GetEpisodes  # noqa: PLC0415  who pages through pools has no use for it

    found: dict[str, Episode] = {}
    missing: list[str] = []
    wanted = list(dict.fromkeys(ids))
    for start in range(0, len(wanted), BATCH_MAX_ITEMS):
        rest = wanted[start : start + BATCH_MAX_ITEMS]
        while rest:
            answer = caller.call(GetEpisodes(ids=rest))
            found.update((episode.id, episode) for episode in answer.episodes)
            missing.extend(answer.missing)
            rest = answer.rest
    return [found[wanted_id] for wanted_id in wanted if wanted_id in found], missing


@overload
def pages(caller: Caller, request: ListEpisodes) -> Iterator[ListAnswer]: ...


@overload
def pages(caller: Caller, request: ListItems) -> Iterator[ItemPage]: ...


def pages(caller: Caller, request: Request[Any]) -> Iterator[Any]:
    """Yield the pages of a list to its end. `request.limit` is the size of one page."""
    return _pages(caller, request)


def _pages(caller: Caller, request: Request[Any]) -> Iterator[Any]:
    while True:
        answer = caller.call(request)
        yield answer
        if answer.cursor is None:
            return
        request = msgspec.structs.replace(request, cursor=answer.cursor, count=False)


@overload
def take(caller: Caller, request: ListEpisodes, limit: int | None) -> tuple[Iterator[Episode], int | None]: ...


@overload
def take(caller: Caller, request: ListItems, limit: int | None) -> tuple[Iterator[Item], int | None]: ...


@overload
def take(caller: Caller, request: ListAgents, limit: int | None) -> tuple[Iterator[Agent], int | None]: ...


@overload
def take(caller: Caller, request: ListTokens, limit: int | None) -> tuple[Iterator[TokenRecord], int | None]: ...


def take(
    caller: Caller, request: ListEpisodes | ListItems | ListAgents | ListTokens, limit: int | None
) -> tuple[Iterator[Any], int | None]:
    """Return up to `limit` records (None: all), fetched as they are taken, and how many there are.

    The first page is fetched at once, so that an error comes before any answer. The total is None unless the
    request asked for it.
    """
    if limit is not None:
        request = msgspec.structs.replace(request, limit=min(limit, request.limit))
    following: Iterator[Any] = _pages(caller, request)
    first = next(following)

    def records() -> Iterator[Any]:
        left = limit
        page: Any = first
        while page is not None:
            found = getattr(page, page.__struct_fields__[0])  # the records come first in a page
            chosen = found if left is None else found[:left]
            yield from chosen
            if left is not None:
                left -= len(chosen)
                if left <= 0:
                    return
            page = next(following, None)

    return records(), first.total


def workers(caller: Caller, request: ListWorkers) -> list[Worker]:
    """Return all workers that a request names, over its pages. `request.limit` is the size of one page."""
    found: dict[str, Worker] = {}
    while True:
        answer = caller.call(request)
        # One that registers meanwhile moves the others back: whoever is met twice counts once.
        found.update((worker.worker_id, worker) for worker in answer.workers)
        if not answer.more:
            return list(found.values())
        request = msgspec.structs.replace(request, skip=request.skip + len(answer.workers))
