"""What a run of the worker loop is to do, what it needs for that, and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from fedctl.model.pool import LEASE_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fedctl.client.caller import Caller
    from fedctl.log import Log

Outcome = Literal["done", "failed", "poisoned", "released", "lost"]
Reason = Literal["empty", "enough", "dismissed", "signal", "error"]


class WorkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be worked on, by which command, and until when.

    With none of `until_empty`, `once` and `max_items` it goes on until it is told to stop. `worker_id` None: a name
    that no other run has.
    """

    pool: str
    command: list[str]
    worker_id: str | None = None
    capabilities: list[str] = []
    jobs: int = 1
    lease_ms: int = LEASE_MS
    until_empty: bool = False
    once: bool = False
    max_items: int | None = None
    time_limit_ms: int | None = None
    grace_ms: int = 10_000

    @property
    def ends(self) -> bool:
        """Whether the run has an end of its own."""
        return self.until_empty or self.once or self.max_items is not None


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """One item that a run is through with. `exit` is as a shell counts it; None where no command ran to its end."""

    id: str
    pool: str
    outcome: Outcome
    exit: int | None
    attempt: int
    duration_ms: int
    retry_in_ms: int | None
    error: str | None


class Figures(NamedTuple):
    """How far a run is."""

    done: int
    failed: int
    running: int
    seconds: float


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run. The figures count attempts; `exit` is the status of the process."""

    pool: str
    worker_id: str
    reason: Reason
    exit: int
    done: int
    failed: int
    poisoned: int
    released: int
    lost: int
    duration_ms: int


class Surroundings(NamedTuple):
    """What a run needs of the world around it. The functions are called on other threads, and may block there.

    `hear` takes what commands write to stderr, `say` what there is to say beside, `finished` each item that the run
    is through with, `progress` how far it is. An error that `finished` raises ends the run. `open_first` opens whom a
    run asks to be let in, for as long as that takes: there is no lease yet that could end meanwhile.
    """

    open_caller: Callable[[], Caller]
    environment: Mapping[str, str]
    hear: Callable[[bytes], None]
    say: Callable[[str], None]
    finished: Callable[[Finished], None] | None = None
    progress: Callable[[Figures], None] | None = None
    open_first: Callable[[], Caller] | None = None
    log: Log | None = None
