"""What a hub does when nobody is looking: embedding what was stored, keeping the index and the log file in shape."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fedctl.errors import FedctlError
from fedctl.operations import embedding

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.log import Log
    from fedctl.operations.context import Context

SLICE_S = 0.25
"""How long one stretch of embedding lasts before the thread looks around."""
CHECKPOINT_EVERY_S = 1.0
IDLE_S = 1.0
"""How long nobody must have asked anything before upkeep begins."""
UPKEEP_AT_LEAST_EVERY_S = 30.0
RETRY_S = 30.0
"""How long to leave alone what has just failed (no model, a full disk)."""


class Background:
    """A thread with a connection of its own; its write transactions are short and queue with everybody's."""

    def __init__(self, context: Context, *, idle_s: Callable[[], float], log: Log) -> None:
        """Start the thread; `context` is its alone from now on, and closed by it.

        `idle_s` returns for how long nobody has asked anything.
        """
        self._context = context
        self._idle_s = idle_s
        self._log = log
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._dirty = True
        self._checkpoint_due = False
        self._upkeep_at_s = 0.0
        self._checkpoint_at_s = 0.0
        self._embed_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="hub-background", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Note that something was committed."""
        self._dirty = True
        self._checkpoint_due = True
        self._wake.set()

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._warm_up()
        while not self._stopping.is_set():
            self._wake.clear()
            remaining = self._embed()
            self._checkpoint()
            busy = self._upkeep() if not remaining else False
            if not remaining and not busy:
                self._wake.wait(self._pause_s())
        self._context.close()

    def _pause_s(self) -> float | None:
        """Return when there is something to do without being woken; None: not before that."""
        if self._dirty or self._checkpoint_due:
            return CHECKPOINT_EVERY_S
        left_s = self._embed_at_s - self._context.clock.monotonic_s()
        return left_s if left_s > 0 else None

    def _warm_up(self) -> None:
        """Load now what will be needed, so that neither the first connection nor the first query pays for it."""
        try:
            self._context.access.warm()
            model = embedding.active_model(self._context)
            if model is not None and embedding.model_note(self._context, model) is None:
                embedding.embed_texts(self._context, ["warm"])
        except FedctlError as error:
            self._log.basic("error.warm_up", error=error.message)

    def _embed(self) -> int:
        """Embed for a slice; return how many episodes still wait (0 also while there is a reason to leave it)."""
        now_s = self._context.clock.monotonic_s()
        if now_s < self._embed_at_s:
            return 0
        try:
            remaining = embedding.embed_pending(self._context, budget_s=SLICE_S)
        except FedctlError as error:
            self._log.basic("error.embedding", error=error.message)
            self._embed_at_s = now_s + RETRY_S
            return 0
        if remaining and embedding.model_note(self._context, embedding.active_model(self._context)) is not None:
            self._embed_at_s = now_s + RETRY_S  # the store is another model's: that is for `memory reindex`
            return 0
        return remaining

    def _checkpoint(self) -> None:
        """Fold the log into the file, a little at a time, off the path of any ack."""
        now_s = self._context.clock.monotonic_s()
        if not self._checkpoint_due or now_s < self._checkpoint_at_s:
            return
        self._checkpoint_at_s = now_s + CHECKPOINT_EVERY_S
        self._checkpoint_due = False
        self._guarded("checkpoint", lambda: self._context.store.checkpoint(truncate=False))

    def _upkeep(self) -> bool:
        """Bring index files and words up to date when nobody waits; return whether there may be more to do."""
        now_s = self._context.clock.monotonic_s()
        due = now_s >= self._upkeep_at_s
        if not self._dirty or not (self._idle_s() >= IDLE_S or due):
            return False
        self._upkeep_at_s = now_s + UPKEEP_AT_LEAST_EVERY_S
        self._dirty = False
        busy = self._guarded("upkeep", lambda: embedding.maintain(self._context))
        self._dirty = self._dirty or busy
        return busy

    def _guarded(self, what: str, work: Callable[[], object]) -> bool:
        try:
            return bool(work())
        except FedctlError as error:
            self._log.basic("error." + what, error=error.message)
            return False
