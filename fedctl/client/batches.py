"""Batches of episodes that do not go into one frame as they are, and what becomes of the drafts that never can.

In-process a batch answers draft by draft, whatever is wrong with one of them. A frame is all or nothing: a draft of
20 MB, one with NaN or with a lone surrogate would take the others down. So such a batch is cut into parts that can be
sent, and the drafts that cannot are refused here, by the same check the hub would make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import FedctlError, UsageError
from fedctl.messages.memory import StoreAnswer, StoreEpisodes, StoreResult
from fedctl.model.limits import BATCH_MAX_ITEMS, EPISODE_MAX_BYTES, FRAME_MAX_BYTES, PAGE_MAX_BYTES
from fedctl.wire import codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.model.episode import EpisodeDraft
    from fedctl.model.principal import Principal

_DRAFT_MAX_BYTES = FRAME_MAX_BYTES - (64 << 10)
"""A draft alone in its frame, with room for the rest of the request."""


class Plan:
    """What to send of a batch, and how to put the answers together again."""

    def __init__(self, parts: list[StoreEpisodes], refused: dict[int, StoreResult]) -> None:
        """Keep the parts, in order, and the results of the drafts that are in none, by their place in the batch."""
        self.parts = parts
        self._refused = refused

    def merge(self, answers: Sequence[StoreAnswer]) -> StoreAnswer:
        """Return one result a draft, in the order of the batch."""
        answered = [result for answer in answers for result in answer.results]
        for place in sorted(self._refused):
            answered.insert(place, self._refused[place])
        return StoreAnswer(results=answered)


def plan(request: StoreEpisodes, who: Principal) -> Plan | None:
    """Return how to send a batch in parts, or None when it goes into one frame as it is.

    A part stays under `PAGE_MAX_BYTES`, so that its answer fits a frame too when the episodes are echoed. `who` is
    the one the hub takes the asker for.
    """
    if len(request.episodes) > BATCH_MAX_ITEMS:
        return None  # the hub says what is wrong with it
    try:
        if len(codec.to_json(request)) <= PAGE_MAX_BYTES:
            return None
    except UsageError:
        pass  # which draft it is comes out below
    parts: list[list[EpisodeDraft]] = []
    refused: dict[int, StoreResult] = {}
    room = 0
    for place, draft in enumerate(request.episodes):
        try:
            size = _size(draft)
        except UsageError as error:
            refused[place] = StoreResult(ok=False, id=draft.id, error=_complaint(draft, who, error).as_dict())
            continue
        if not parts or size > room:
            parts.append([])
            room = PAGE_MAX_BYTES
        parts[-1].append(draft)
        room -= size + 1
    return Plan([msgspec.structs.replace(request, episodes=part) for part in parts], refused)


def _size(draft: EpisodeDraft) -> int:
    """Return a draft's length as JSON; `UsageError` if it goes into no frame.

    The hub judges what does: with its vectors a draft may be larger than an episode may be.
    """
    size = len(codec.to_json(draft))
    if size > _DRAFT_MAX_BYTES:
        raise UsageError(f"an episode has at most {EPISODE_MAX_BYTES:,} bytes as JSON, this one {size:,}")
    return size


def _complaint(draft: EpisodeDraft, who: Principal, error: FedctlError) -> FedctlError:
    """Return what an operation says of a draft that cannot be sent; `error` where it would have no objection."""
    from fedctl.operations.memory import prepare  # noqa: PLC0415  only a bad draft costs the engines' import

    try:
        prepare(draft, who, 0)
    except FedctlError as better:
        return better
    return error
