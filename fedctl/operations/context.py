"""What an operation needs: the store, the means of recall, the clock; and, inside a hub, the hub."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from fedctl.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fedctl.access.keys import KeyRing
    from fedctl.clock import Clock
    from fedctl.model.hub import HubInfo, HubStats
    from fedctl.recall.embedder import Embedder
    from fedctl.recall.graph import Graph
    from fedctl.recall.index import IndexFolder, Part


T = TypeVar("T")


class HubSide(Protocol):
    """What a running hub lends to operations."""

    def info(self) -> HubInfo:
        """Return where it listens."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether it is about to end: what takes long leaves off."""
        ...

    def stats(self) -> HubStats:
        """Return its figures; those of the store are filled in by the operation."""
        ...

    def seldom(self, name: str, question: Callable[[], T]) -> T:
        """Return what a dear question of that name is answered, or was a short while ago."""
        ...

    def stop_agent(self, tenant_id: str, agent_id: str) -> None:
        """Ask a connected agent to end; `NotFound` when it is not connected."""
        ...


class Recall:
    """The model and the index files, shared by all threads of a process.

    An agent's memory has no index files (its vectors are few and searched as rows), and no model unless it embeds
    by itself. Either may be given as what makes it, when it is first asked for: most commands ask for neither, and
    their modules take 4 ms.
    """

    def __init__(
        self, embedder: Embedder | Callable[[], Embedder] | None, index: IndexFolder | Callable[[], IndexFolder] | None
    ) -> None:
        self._embedder = embedder
        self._index = index
        self._making = threading.Lock()
        self.open_parts: dict[tuple[int, int], tuple[str, Part]] = {}
        """(tenant key, model key) -> the stamp of the mapped files and what they hold."""
        self.open_graphs: dict[tuple[int, int], tuple[str, Graph]] = {}
        """The same of graphs; only a hub opens any."""
        self.lost: Callable[[], None] = lambda: None
        """Called when a file turns out to be missing or damaged: who looks after them wants to know."""

    @property
    def embedder(self) -> Embedder:
        """The model."""
        assert self._embedder is not None, "nothing is embedded here"
        if callable(self._embedder):
            with self._making:
                if callable(self._embedder):  # nobody else has made it meanwhile
                    self._embedder = self._embedder()
        return self._embedder

    @property
    def embeds(self) -> bool:
        """Whether there is a model."""
        return self._embedder is not None

    @property
    def index(self) -> IndexFolder:
        """The index files."""
        assert self._index is not None, "there are no index files here"
        if callable(self._index):
            with self._making:
                if callable(self._index):
                    self._index = self._index()
        return self._index

    @property
    def has_index(self) -> bool:
        """Whether there is a place for index files."""
        return self._index is not None

    @property
    def model_tag(self) -> str:
        """The model's id with the form of the embedded text: what a vector is tagged with."""
        from fedctl.recall.text import TEXT_FORM  # noqa: PLC0415  who embeds nothing does without its patterns: 2 ms

        return f"{self.embedder.model_id}/t{TEXT_FORM}"


class Context(NamedTuple):
    """One thread's means. `fork` makes another's.

    `hub` is None in-process: there nobody embeds in the background, so a query does it first.
    """

    home: Path
    store: Store
    recall: Recall
    clock: Clock
    access: KeyRing
    hub: HubSide | None = None
    timeout_s: float = 30.0
    log: Callable[[str], None] = lambda _line: None

    def fork(self) -> Context:
        """Return a context for another thread: a connection of its own, the same model and index files."""
        store = Store.open(self.home, self.clock, create=False, timeout_s=self.timeout_s)
        return self._replace(store=store)

    def with_hub(self, hub: HubSide, log: Callable[[str], None]) -> Context:
        """Return the same context inside a hub."""
        return self._replace(hub=hub, log=log)

    def close(self) -> None:
        """Close the store's connection."""
        self.store.close()
