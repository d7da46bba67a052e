"""Batches that do not go into one frame as they are, and what becomes of those of their parts that never can.

In-process a batch answers draft by draft, whatever is wrong with one of them. A frame is all or nothing: a draft of
20 MB, one with NaN or with a lone surrogate would take the others down. So such a batch is cut into parts that can be
sent, and the drafts that cannot are refused here, by the same check the hub would make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fedctl.errors import FedctlError, UsageError
from fedctl.model.episode import EpisodeDraft, StoreResult
from fedctl.model.limits import BATCH_MAX_ITEMS, EPISODE_MAX_BYTES, FRAME_MAX_BYTES, PAGE_MAX_BYTES, cut_error
from fedctl.wire import codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.messages.base import Request
    from fedctl.model.principal import Principal

_DRAFT_MAX_BYTES = FRAME_MAX_BYTES - (64 << 10)
"""A draft alone in its frame, with room for the rest of the request."""


class _Kind(NamedTuple):
    """What one kind of batch is made of: its field, and what it is in words."""

    field: str
    what: str


# By the requests' names on the wire: who asks for one thing does not load the messages of all the others (3 ms).
_KINDS = {
    "memory.store": _Kind("episodes", "an episode"),
    "pool.push": _Kind("items", "an item"),
    "pool.complete": _Kind("completions", "a completion"),
    "pool.fail": _Kind("failures", "a failure"),
}


class Plan:
    """What to send of a batch, and how to put the answers together again."""

    def __init__(self, parts: Sequence[Request[Any]], refused: dict[int, Any]) -> None:
        """Keep the parts, in order, and the results of the drafts that are in none, by their place in the batch."""
        self.parts = parts
        self._refused = refused

    def merge(self, answers: Sequence[Any]) -> Any:
        """Return one result a draft, in the order of the batch; and what was claimed along with it."""
        answered = [result for answer in answers for result in getattr(answer, "results", ())]
        for place in sorted(self._refused):
            answered.insert(place, self._refused[place])
        if any(isinstance(one, StoreResult) for one in answered):
            from fedctl.messages.memory import StoreAnswer  # noqa: PLC0415  see _KINDS

            return StoreAnswer(results=answered)
        from fedctl.messages.pool import ClaimAnswer, ItemResults  # noqa: PLC0415  see _KINDS

        claimed = [answer.items if isinstance(answer, ClaimAnswer) else answer.claimed for answer in answers]
        return ItemResults(results=answered, claimed=[item for some in claimed for item in some])


def plan(request: Request[Any], who: Principal) -> Plan | None:
    """Return how to send a batch in parts, or None when it goes into one frame as it is.

    A part stays under `PAGE_MAX_BYTES`, so that its answer fits a frame too when the records are echoed. `who` is
    the one the hub takes the asker for.
    """
    kind = _KINDS.get(str(request.__struct_config__.tag))
    if kind is None:
        return None
    drafts: Sequence[Any] = getattr(request, kind.field)
    if len(drafts) > BATCH_MAX_ITEMS:
        return None  # the hub says what is wrong with it
    try:
        if len(codec.to_json(request)) <= PAGE_MAX_BYTES:
            return None
    except UsageError:
        pass  # which draft it is comes out below
    parts: list[list[Any]] = []
    refused: dict[int, Any] = {}
    room = 0
    for place, draft in enumerate(map(_shortened, drafts)):
        try:
            size = _size(draft, kind.what)
        except UsageError as error:
            refused[place] = _refusal(draft, _complaint(draft, who, error))
            continue
        if not parts or size > room:
            parts.append([])
            room = PAGE_MAX_BYTES
        parts[-1].append(draft)
        room -= size + 1
    return Plan(_requests(request, kind.field, parts), refused)


def _refusal(draft: Any, error: FedctlError) -> Any:
    """Return the result of a draft that is not sent."""
    if isinstance(draft, EpisodeDraft):
        return StoreResult(ok=False, id=draft.id, error=error.as_dict())
    from fedctl.messages.pool import ItemResult  # noqa: PLC0415  see _KINDS

    return ItemResult(ok=False, id=draft.id, error=error.as_dict())


def _requests(request: Any, field: str, parts: Sequence[list[Any]]) -> list[Request[Any]]:
    """Return a request for each part; what is to be claimed along with the batch is claimed once, at its end."""
    claim = getattr(request, "claim", None)
    if claim is None:
        return [msgspec.structs.replace(request, **{field: part}) for part in parts]
    if not parts:
        return [claim]
    first = [msgspec.structs.replace(request, **{field: part}, claim=None) for part in parts[:-1]]
    return [*first, msgspec.structs.replace(request, **{field: parts[-1]})]


def _shortened(draft: Any) -> Any:
    """Return a failure with as much of its error's text as the hub would keep; anything else as it is."""
    text = getattr(draft, "error", None)
    return msgspec.structs.replace(draft, error=cut_error(text)) if text else draft


def _size(draft: msgspec.Struct, what: str) -> int:
    """Return a draft's length as JSON; `UsageError` if it goes into no frame.

    The hub judges what does: with its vectors a draft may be larger than an episode may be.
    """
    size = len(codec.to_json(draft))
    if size > _DRAFT_MAX_BYTES:
        raise UsageError(f"{what} has at most {EPISODE_MAX_BYTES:,} bytes as JSON, this one {size:,}")
    return size


def _complaint(draft: Any, who: Principal, error: FedctlError) -> FedctlError:
    """Return what an operation says of a draft that cannot be sent; `error` where it would have no objection."""
    from fedctl.operations import item, memory  # noqa: PLC0415  only a bad draft costs the engines' import

    try:
        if isinstance(draft, EpisodeDraft):
            memory.prepare(draft, who, 0)
        else:
            item.check_draft(draft, who)
    except FedctlError as better:
        return better
    return error
