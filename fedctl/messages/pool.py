"""What can be asked of pools of work."""

from __future__ import annotations

from typing import Any, Literal

from fedctl.messages.base import Answer, Request
from fedctl.model.episode import StoreResult
from fedctl.model.pool import LEASE_MS, Attempt, Completion, Item, ItemDraft, ItemFailure, ItemStatus, Lease, Pool


class ItemResult(Answer, frozen=True, kw_only=True):
    """What one line of a batch came to.

    `existing` says that nothing was changed because it was so already; `pushed_ids` names what follows from it. Where
    the request says `echo`, `item` is its record after the change and `pushed` are those of what follows: as many as
    fit in a page.
    """

    ok: bool
    id: str
    existing: bool = False
    item: Item | None = None
    pushed_ids: list[str] = []
    pushed: list[Item] = []
    episode: StoreResult | None = None
    error: dict[str, Any] | None = None


class ItemResults(Answer, frozen=True, kw_only=True):
    """One result a line, in order; `claimed` is what was claimed in the same commit."""

    results: list[ItemResult]
    claimed: list[Item] = []


class PushItems(Request[ItemResults], frozen=True, kw_only=True, tag="pool.push"):
    """Put items into a pool, which comes into being with its first. `echo`: answer with the records."""

    pool: str
    items: list[ItemDraft]
    echo: bool = False


class ClaimAnswer(Answer, frozen=True, kw_only=True):
    """The claimed items, oldest of the highest priority first.

    `next_ms` says, where there are none, in how many milliseconds a delayed item or one whose lease runs out could be
    claimed at the earliest.
    """

    items: list[Item]
    next_ms: int | None = None

    @property
    def unmet(self) -> bool:
        """Whether there was nothing to claim."""
        return not self.items


class ClaimItems(Request[ClaimAnswer], frozen=True, kw_only=True, tag="pool.claim"):
    """Claim up to `count` items for a worker; with `wait_ms` a hub holds the answer until there is one, or time is up.

    In-process the caller asks again (`client/local`). With a `lease_id` of the caller's own making (random, new each
    time) all that is claimed has this one, and can be given back even where the answer was lost (`ReleaseWorker`).
    """

    pool: str
    worker_id: str
    count: int = 1
    lease_ms: int = LEASE_MS
    wait_ms: int = 0
    lease_id: str | None = None


class CompleteItems(Request[ItemResults], frozen=True, kw_only=True, tag="pool.complete"):
    """Finish claimed items; `claim` takes the next ones in the same commit. `echo`: answer with the records."""

    completions: list[Completion]
    claim: ClaimItems | None = None
    echo: bool = False


class FailItems(Request[ItemResults], frozen=True, kw_only=True, tag="pool.fail"):
    """Give claimed items back as failed; `claim` takes the next ones in the same commit. `echo` as there."""

    failures: list[ItemFailure]
    claim: ClaimItems | None = None
    echo: bool = False


class ExtendItems(Request[ItemResults], frozen=True, kw_only=True, tag="pool.extend"):
    """Let leases end `lease_ms` from now. `echo`: answer with the records."""

    leases: list[Lease]
    lease_ms: int = LEASE_MS
    echo: bool = False


class ReleaseItems(Request[ItemResults], frozen=True, kw_only=True, tag="pool.release"):
    """Give claimed items back: the attempt does not count. `echo`: answer with the records."""

    leases: list[Lease]
    echo: bool = False


class ReleaseWorker(Request[ItemResults], frozen=True, kw_only=True, tag="pool.release_worker"):
    """Give back all that a worker holds, or all of one pool, or of one lease: the attempts do not count."""

    worker_id: str
    pool: str | None = None
    lease_id: str | None = None


class PoolAnswer(Answer, frozen=True, kw_only=True):
    """A pool's figures."""

    pool: Pool


class GetPool(Request[PoolAnswer], frozen=True, kw_only=True, tag="pool.show"):
    """One pool; one that was never used reads as empty."""

    name: str


class PoolList(Answer, frozen=True, kw_only=True):
    """The tenant's pools by name."""

    pools: list[Pool]


class ListPools(Request[PoolList], frozen=True, kw_only=True, tag="pool.list"):
    """List the tenant's pools."""


class PausePool(Request[PoolAnswer], frozen=True, kw_only=True, tag="pool.pause"):
    """Let nothing be claimed from a pool, or let it again. What is claimed goes on."""

    name: str
    paused: bool


class ItemPage(Answer, frozen=True, kw_only=True):
    """Items in the order they were pushed; `cursor` continues, None at the end. `total`: how many in all."""

    items: list[Item]
    cursor: int | None
    total: int | None


class ListItems(Request[ItemPage], frozen=True, kw_only=True, tag="pool.items"):
    """A page of a pool's items."""

    pool: str
    status: ItemStatus | None = None
    cursor: int | None = None
    limit: int = 100
    count: bool = False


class ItemAnswer(Answer, frozen=True, kw_only=True):
    """An item with the history of its attempts, oldest first; of very many only the last."""

    item: Item
    history: list[Attempt]


class GetItem(Request[ItemAnswer], frozen=True, kw_only=True, tag="pool.item"):
    """One item of the tenant."""

    id: str


class WaitAnswer(Answer, frozen=True, kw_only=True):
    """How what was waited for stands: items not finished yet, done, and poisoned."""

    open: int
    done: int
    poisoned: int
    poisoned_ids: list[str]

    @property
    def unmet(self) -> bool:
        """Whether something is still to be finished."""
        return self.open > 0


class WaitFor(Request[WaitAnswer], frozen=True, kw_only=True, tag="pool.wait"):
    """Answer how many of these items, and of these pools' items, are still to be finished.

    With `wait_ms` a hub holds the answer until none is, or time is up.
    """

    pools: list[str] = []
    ids: list[str] = []
    wait_ms: int = 0


class RetryItems(Request[ItemResults], frozen=True, kw_only=True, tag="pool.retry"):
    """Give poisoned items a fresh budget: these, or all of a pool."""

    ids: list[str] = []
    pool: str | None = None


class PurgeAnswer(Answer, frozen=True, kw_only=True):
    """How many items were deleted (or would be); `more`: there are others, ask again."""

    deleted: int
    more: bool


class PurgePool(Request[PurgeAnswer], frozen=True, kw_only=True, tag="pool.purge"):
    """Delete a pool's done or poisoned items; without `status` all that nobody holds."""

    pool: str
    status: Literal["done", "poisoned"] | None = None
    dry_run: bool = False
