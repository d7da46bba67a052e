"""What a hub does when nobody is looking: embedding what was stored, keeping index files and the log file in shape."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fedctl.errors import FedctlError
from fedctl.operations import embedding, erasure, index
from fedctl.recall import graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.log import Log
    from fedctl.operations.context import Context

SLICE_S = 0.25
"""How long one stretch of embedding lasts before the thread looks around."""
CHECKPOINT_EVERY_S = 1.0
ERASE_EVERY_S = 5.0
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
        self._graph_at_s = 0.0
        self._erase_at_s = 0.0
        self._erasing = False
        self._graphs_due = True
        self._building: tuple[index.GraphJob, graph.Build] | None = None
        self._failed: set[int] = set()
        context.recall.lost = self.wake
        self._thread = threading.Thread(target=self._run, name="hub-background", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Note that something was committed, or that an index file was lost."""
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
            self._finish_erasures()
            busy = self._upkeep() if not remaining else False
            self._tend_graphs()
            if not remaining and not busy:
                self._wake.wait(self._pause_s())
        if self._building is not None:
            self._building[1].cancel()
        self._context.close()

    def _pause_s(self) -> float | None:
        """Return when there is something to do without being woken; None: not before that."""
        if self._dirty or self._checkpoint_due or self._building is not None:
            return CHECKPOINT_EVERY_S
        now_s = self._context.clock.monotonic_s()
        graph_at_s = self._graph_at_s if self._graphs_due else 0.0
        erase_at_s = self._erase_at_s if self._erasing else 0.0
        due_s = [at_s for at_s in (self._embed_at_s, graph_at_s, erase_at_s) if at_s > now_s]
        return min(due_s) - now_s if due_s else None

    def _warm_up(self) -> None:
        """Load now what will be needed, so that neither the first connection nor the first query pays for it."""
        try:
            self._context.access.warm()
            model = embedding.active_model(self._context)
            if model is not None and embedding.model_note(self._context, model) is None:
                embedding.embed_texts(self._context, ["warm"])
        except FedctlError as error:
            self._log.basic("error.warm_up", error=error.message)
        # What a hub that was killed left of its index files: at a million vectors one half-made generation is 800 MB.
        self._guarded("sweep", lambda: index.sweep_files(self._context))
        self._context.store.make_reserve()

    def _embed(self) -> int:
        """Embed for a slice; return how many episodes still wait (0 also while there is a reason to leave it)."""
        now_s = self._context.clock.monotonic_s()
        if now_s < self._embed_at_s:
            return 0
        try:
            waiting = self._context.store.embeddings.pending(None) if self._log.says_verbose else 0
            remaining = embedding.embed_pending(self._context, budget_s=SLICE_S)
            if waiting:
                self._done("embedding.slice", now_s, before=waiting, remaining=remaining)
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
        self._done("store.checkpoint", now_s)

    def _finish_erasures(self) -> None:
        """Go on with what somebody began to erase and did not end: killed, or held up by a reader of the log."""
        now_s = self._context.clock.monotonic_s()
        if now_s < self._erase_at_s:
            return
        self._erase_at_s = now_s + ERASE_EVERY_S
        self._guarded("erasure", lambda: erasure.finish(self._context, budget_ms=round(SLICE_S * 1000)))
        self._erasing = self._guarded("erasure", self._context.store.erasures.any_open)

    def _upkeep(self) -> bool:
        """Bring index files and words up to date when nobody waits; return whether there may be more to do."""
        now_s = self._context.clock.monotonic_s()
        due = now_s >= self._upkeep_at_s
        if not self._dirty or not (self._idle_s() >= IDLE_S or due):
            return False
        self._upkeep_at_s = now_s + UPKEEP_AT_LEAST_EVERY_S
        self._dirty = False
        busy = self._guarded("upkeep", lambda: index.maintain(self._context))
        self._done("index.upkeep", now_s, more=busy)
        self._dirty = self._dirty or busy
        self._context.store.make_reserve()
        self._graphs_due = True
        return busy

    def _tend_graphs(self) -> None:
        """Have a graph built where one is wanted, in a process of its own; publish it when it is there."""
        now_s = self._context.clock.monotonic_s()
        if now_s < self._graph_at_s or not (self._graphs_due or self._building):
            return
        try:
            if self._building is not None and not self._finish_graph(*self._building):
                return
            index.check_graphs(self._context)
            wanted = index.wanted_graph(self._context, self._failed)
            self._graphs_due = bool(self._failed)
            if wanted is not None:
                self._building = (wanted, graph.Build(wanted.plan))
                self._log.verbose("index.graph", state="building", vectors=wanted.plan.rows)
            elif self._failed:  # nobody else is waiting: those may try again, after a while
                self._failed.clear()
                self._graph_at_s = now_s + RETRY_S
        except FedctlError as error:
            self._graphs_due, self._graph_at_s = True, now_s + RETRY_S
            self._log.basic("error.graph", error=error.message)

    def _finish_graph(self, job: index.GraphJob, build: graph.Build) -> bool:
        """Publish what was built; False while it takes longer. Who has failed lets the others go first."""
        try:
            built = build.wait(timeout_s=0)
            if built is None:
                return False
            published = index.publish_graph(self._context, job, built)
            self._log.verbose("index.graph", state="published" if published else "dropped")
        except FedctlError as error:
            self._failed.add(job.tenant_key)
            self._log.basic("error.graph", error=error.message)
        self._building = None
        return True

    def _done(self, what: str, began_s: float, **fields: object) -> None:
        self._log.verbose(what, duration_ms=(self._context.clock.monotonic_s() - began_s) * 1000, **fields)

    def _guarded(self, what: str, work: Callable[[], object]) -> bool:
        try:
            return bool(work())
        except FedctlError as error:
            self._log.basic("error." + what, error=error.message)
            return False
