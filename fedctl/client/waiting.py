"""Waiting for the end of items and of whole pools: in rounds, so that it works alike over any `Caller`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import NotFound
from fedctl.messages.pool import WaitAnswer, WaitFor
from fedctl.model.limits import BATCH_MAX_ITEMS, check_id, check_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.client.caller import Caller
    from fedctl.clock import Clock

ROUND_MS = 10_000
"""How long one request waits: whatever goes wrong in between is noticed by the next."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def wait_for(caller: Caller, names: Sequence[str], clock: Clock, timeout_ms: int | None) -> WaitAnswer:
    """Wait until all of these items, and of these pools' items, are done or poisoned, or the time is over.

    What has the form of a UUID is an item; any other name is the item that has it for an id, and a pool where there
    is none.
    """
    deadline_s = None if timeout_ms is None else clock.monotonic_s() + timeout_ms / 1000
    answers = []
    for request in _requests(caller, names):
        while True:
            left_ms = ROUND_MS
            if deadline_s is not None:
                left_ms = min(left_ms, max(0, round((deadline_s - clock.monotonic_s()) * 1000)))
            answer = caller.call(msgspec.structs.replace(request, wait_ms=left_ms))
            if not answer.unmet or not left_ms:
                break
        answers.append(answer)
    return WaitAnswer(
        open=sum(one.open for one in answers),
        done=sum(one.done for one in answers),
        poisoned=sum(one.poisoned for one in answers),
        poisoned_ids=[item_id for one in answers for item_id in one.poisoned_ids],
    )


def _requests(caller: Caller, names: Sequence[str]) -> list[WaitFor]:
    """Return what to wait for, in requests that may be asked."""
    ids: list[str] = []
    pools: list[str] = []
    for name in dict.fromkeys(names):
        (ids if _is_item(caller, name) else pools).append(name)
    parts = [ids[start : start + BATCH_MAX_ITEMS] for start in range(0, len(ids), BATCH_MAX_ITEMS)]
    return [*([WaitFor(pools=pools)] if pools else []), *(WaitFor(ids=part) for part in parts)]


def _is_item(caller: Caller, name: str) -> bool:
    check_id("item", name)
    if _UUID.fullmatch(name):
        return True
    try:
        caller.call(WaitFor(ids=[name]))
    except NotFound:
        check_name("pool", name)
        return False
    return True
