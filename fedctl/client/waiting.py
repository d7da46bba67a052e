"""Waiting for the end of items and of whole pools, or for an item to claim: in rounds, alike over any `Caller`.

Who waits for long outlives a hub that is started anew: it is asked again once it is back, until the time is over.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fedctl.errors import NotFound, Timeout, Unavailable
from fedctl.messages.pool import ClaimAnswer, ClaimItems, ReleaseWorker, WaitAnswer, WaitFor
from fedctl.model.limits import BATCH_MAX_ITEMS, check_id, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedctl.client.caller import Caller
    from fedctl.clock import Clock
    from fedctl.errors import FedctlError
    from fedctl.messages.base import Request

A = TypeVar("A")

AWAY = (Unavailable, Timeout)
"""Errors after which the same may be asked again, of a hub that has come back."""
ROUND_MS = 10_000
"""How long one request waits: whatever goes wrong in between is noticed by the next."""
WATCHED_ROUND_MS = 1_000
"""The same where somebody watches how far it is."""
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


class Backoff:
    """Longer and longer times between one try and the next."""

    def __init__(self, first_s: float = 0.05, most_s: float = 2.0) -> None:
        """Begin with the shortest."""
        self._next_s = first_s
        self._most_s = most_s
        self.waited_s = 0.0
        """How long that has been in all."""

    def next_s(self) -> float:
        """Return how long to wait now; half of it is chance."""
        import random  # noqa: PLC0415  only for who has to wait

        wait_s = self._next_s * random.uniform(0.5, 1)  # noqa: S311  no secret
        self._next_s = min(self._most_s, 2 * self._next_s)
        self.waited_s += wait_s
        return wait_s


class Patience:
    """A caller, how long there is to wait with it, and what is done when its hub goes away meanwhile.

    Somebody was there once: whoever begins where nobody answers has no caller, and hears so at once.
    """

    def __init__(
        self,
        caller: Caller,
        reopen: Callable[[], Caller],
        clock: Clock,
        timeout_ms: int | None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Begin now. `timeout_ms` None: there is no end to it. `say` hears of a hub that goes away."""
        self.caller = caller
        self._reopen = reopen
        self._clock = clock
        self._deadline_s = None if timeout_ms is None else clock.monotonic_s() + timeout_ms / 1000
        self._say = say

    def left_ms(self, most: int | None = None) -> int:
        """Return how long there is to wait yet, or `most` if that is less."""
        if self._deadline_s is None:
            return ROUND_MS if most is None else most
        left_ms = max(0, round((self._deadline_s - self._clock.monotonic_s()) * 1000))
        return left_ms if most is None else min(left_ms, most)

    def ask(self, request: Request[A]) -> A:
        """Return the answer to what may be asked twice."""
        while True:
            try:
                return self.caller.call(request)
            except AWAY as error:
                self.await_hub(error)

    def await_hub(self, error: FedctlError) -> None:
        """Open the caller anew after it broke; raise what it broke of, or breaks of again, when the time is over."""
        self.close()
        backoff = Backoff()
        while left_ms := self.left_ms():
            if not backoff.waited_s:
                self._say(f"{error.message}; trying again")
            self._clock.sleep_s(min(left_ms / 1000, backoff.next_s()))
            try:
                self.caller = self._reopen()
            except AWAY as still:
                error = still
            else:
                return
        raise error

    def close(self) -> None:
        """Close the caller."""
        with contextlib.suppress(*AWAY):
            self.caller.close()


def claim_for(patience: Patience, request: ClaimItems) -> ClaimAnswer:
    """Claim as soon as there is something, or answer with nothing when the time is over.

    The request names its lease: what was claimed by one whose answer was lost is given back before it is asked again.
    """
    unheard = False
    while True:
        left_ms = patience.left_ms()
        try:
            if unheard:
                patience.caller.call(ReleaseWorker(worker_id=request.worker_id, lease_id=request.lease_id))
                unheard = False
            answer = patience.caller.call(msgspec.structs.replace(request, wait_ms=left_ms))
        except AWAY as error:
            unheard = True
            patience.await_hub(error)
            continue
        if answer.items or not left_ms:  # a hub that stops may answer sooner than it was asked to
            return answer


def told_apart(patience: Patience, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which of the names are pools, and which are items.

    What has the form of a UUID is an item; any other name is the item that has it for an id, and a pool where there
    is none.
    """
    pools: list[str] = []
    ids: list[str] = []
    for name in dict.fromkeys(names):
        (ids if _is_item(patience, name) else pools).append(name)
    return pools, ids


def wait_for(
    patience: Patience, pools: Sequence[str], ids: Sequence[str], heard: Callable[[int, int], None] | None = None
) -> WaitAnswer:
    """Wait until all of these pools' items, and all of these items, are done or poisoned, or the time is over.

    `heard` is told now and then how many are finished, and of how many.
    """
    answers: list[WaitAnswer] = []
    for request in _requests(pools, ids):
        while True:
            left_ms = patience.left_ms(ROUND_MS if heard is None else WATCHED_ROUND_MS)
            try:
                answer = patience.caller.call(msgspec.structs.replace(request, wait_ms=left_ms))
            except AWAY as error:
                patience.await_hub(error)
                continue
            if heard is not None:
                so_far = [*answers, answer]
                finished = sum(one.done + one.poisoned for one in so_far)
                heard(finished, finished + sum(one.open for one in so_far))
            if not answer.unmet or not left_ms:
                break
        answers.append(answer)
    return WaitAnswer(
        open=sum(one.open for one in answers),
        done=sum(one.done for one in answers),
        poisoned=sum(one.poisoned for one in answers),
        poisoned_ids=[item_id for one in answers for item_id in one.poisoned_ids],
    )


def _requests(pools: Sequence[str], ids: Sequence[str]) -> list[WaitFor]:
    """Return what to wait for, in requests that may be asked."""
    parts = [list(ids[start : start + BATCH_MAX_ITEMS]) for start in range(0, len(ids), BATCH_MAX_ITEMS)]
    return [*([WaitFor(pools=list(pools))] if pools else []), *(WaitFor(ids=part) for part in parts)]


def _is_item(patience: Patience, name: str) -> bool:
    check_id("item", name)
    if re.fullmatch(_UUID, name, re.IGNORECASE):
        return True
    try:
        patience.ask(WaitFor(ids=[name]))
    except NotFound:
        check_name("pool", name)
        return False
    return True
