"""fedctl at the far end of bench_scale's pipes: the same process as a peer's, in fedctl's own environment.

Not a program to call by hand. Fed by its own requests (StoreEpisodes with shipped vectors, 1,000 a batch, each tenant
by itself), in-process, as the owner of the home; then upkeep until there is nothing left to do, as a hub's background
thread does it. Questions need no inference: an embedder that knows their vectors stands in for the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
import bench_scale_peers as far

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH = 1000


class Known:
    """Stands in for the model: the vectors of the questions are known."""

    def __init__(self, model_id: str, vectors: dict[str, Any]) -> None:
        """Keep them; the id is the model's own, so that they count as its."""
        self.model_id, self.dim = model_id, far.DIM
        self._vectors = vectors

    def embed(self, texts: list[str]) -> Any:
        """Return the vectors of texts, (n, dim) float32."""
        import numpy as np

        return np.stack([self._vectors[text] for text in texts])


class Fedctl(far.System):
    """fedctl's memory; `mode` says which half of a query is asked."""

    rebuilds = True
    mode = "semantic"

    def __init__(self, folder: Path, data_folder: Path, hub: bool = True) -> None:
        """Keep where things lie; with `hub` work as a hub does on its own home."""
        super().__init__(folder)
        self._data_folder = data_folder
        self._hub = hub
        self._known: dict[str, Any] = {}

    def know(self, texts: list[str], vectors: Any) -> None:
        """Take over the vectors of questions."""
        self._known |= dict(zip(texts, vectors, strict=True))

    def create(self) -> None:
        self._open(create=True)

    def open(self) -> None:
        self._open(create=False)
        if self._hub:  # as a hub does when it starts: graphs are read, checked and mapped
            from fedctl.operations import index

            index.check_graphs(self.context)

    def _open(self, *, create: bool) -> None:
        from fedctl.bootstrap import open_context
        from fedctl.config import Settings
        from fedctl.messages.memory import QueryEpisodes
        from fedctl.model.episode import EpisodeFilter
        from fedctl.model.principal import Principal
        from fedctl.operations.context import Recall
        from fedctl.operations.table import run
        from fedctl.recall.index import IndexFolder

        model_id = json.loads((self._data_folder / "meta.json").read_text())["model_id"]
        context = open_context(Settings(home=self.folder, hub="off"), create=create)
        self.context = context._replace(recall=Recall(Known(model_id, self._known), IndexFolder(self.folder / "index")))
        if self._hub:
            self.context = self.context.with_hub(_Hub(), lambda _line: None)
        self._who = [Principal(tenant_id=name, role="owner") for name, _ in far.TENANTS]
        self._run, self._query, self._filter = run, QueryEpisodes, EpisodeFilter

    def batches(self, data: far.Data, begin: int, end: int) -> Iterator[Callable[[], object]]:
        from fedctl.messages.memory import StoreEpisodes
        from fedctl.model.episode import Embedding, EpisodeDraft

        tag = self.context.recall.model_tag
        for first in range(begin, end, 10 * BATCH):
            last = min(end, first + 10 * BATCH)
            texts = data.texts(first, last)
            for tenant, rows in data.by_tenant(first, last):
                for place in range(0, len(rows), BATCH):
                    drafts = [
                        EpisodeDraft(
                            id=far.row_id(row),
                            task=texts[row - first],
                            metadata={"bucket": int(data.buckets[row])},
                            embedding=Embedding(model=tag, vectors=[data.vectors[row].tobytes()]),
                        )
                        for row in rows[place : place + BATCH].tolist()
                    ]
                    yield lambda who=self._who[tenant], drafts=drafts: self._store(who, StoreEpisodes(episodes=drafts))

    def _store(self, who: Any, request: Any) -> None:
        refused = [one for one in self._run(self.context, who, request).results if not one.ok]
        assert not refused, refused[0]

    def index(self) -> None:
        from fedctl.operations import index

        while index.maintain(self.context):
            pass
        index.build_graphs(self.context)
        self.context.store.checkpoint(truncate=True)

    def rebuild(self) -> None:
        from fedctl.operations import index

        for name, _ in far.TENANTS:
            index.compact(self.context, self.context.store.tenants.key(name), rewrite=True)
        index.build_graphs(self.context)

    def prepare(self, vector: Any) -> Any:
        del vector  # the question's text stands for it

    def search(self, case: far.Case, question: Any, text: str) -> list[int]:
        del question
        where = [] if case.bucket is None else [("bucket", "=", case.bucket)]
        request = self._query(text=text, mode=self.mode, k=far.K, filter=self._filter(where=where))
        answer = self._run(self.context, self._who[case.tenant], request)
        assert not answer.notes, answer.notes
        assert not answer.pending
        return [far.row_of(hit.id) for hit in answer.hits]

    def tune(self, effort: dict[str, Any]) -> None:
        self.mode = effort.get("mode", "semantic")

    def close(self) -> None:
        self.context.close()


class _Hub:
    """Stands for the hub in whose process the context is: nothing here asks it for anything."""


def main() -> None:
    """Run: `serve FOLDER DATA` or `cold FOLDER DATA`."""
    what, folder, data_folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    system = Fedctl(folder, data_folder, hub=what == "serve")
    if what == "serve":
        data = far.Data(data_folder)
        system.know(data.asked, data.questions)
        far.serve(system, data_folder)
        return
    import numpy as np

    system.know([far.COLD_QUESTION], [np.fromfile(data_folder / "cold.f32", dtype="<f4")])
    far.cold(system, (data_folder / "cold.f32").read_bytes())


if __name__ == "__main__":
    main()
