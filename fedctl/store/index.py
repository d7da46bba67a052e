"""What is known of the index files that were made of vectors: flat snapshots and graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fedctl.store.queries import load

if TYPE_CHECKING:
    from fedctl.store.database import Database


class SnapshotRow(NamedTuple):
    """What the store knows of a flat file."""

    generation: str
    form: str
    vectors: int
    through_key: int
    stamp: str
    updated_at_ms: int


class BlockRow(NamedTuple):
    """One appended block of a flat file: its first row, its rows, the digest of its bytes."""

    first: int
    vectors: int
    digest: str


class GraphRow(NamedTuple):
    """What the store knows of an HNSW file."""

    generation: str
    vectors: int
    through_key: int
    digest: str
    built_at_ms: int


class Indexes:
    """One flat file and one graph a tenant and model at most. Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("index")

    # -- flat files ----------------------------------------------------------------------------------------------

    def snapshot(self, tenant_key: int, model_key: int) -> SnapshotRow | None:
        """Return what is known of the flat file, or None when there is none."""
        row = self._db.row(self._sql["snapshot"], {"tenant_key": tenant_key, "model_key": model_key})
        return None if row is None else SnapshotRow(*row)

    def most_outdated_ms(self, now_ms: int) -> int:
        """Return how long ago that flat file was brought up to date which lags most behind its rows; 0: none lags."""
        return max(0, int(self._db.value(self._sql["most_outdated_ms"], {"now_ms": now_ms}) or 0))

    def blocks(self, tenant_key: int, model_key: int) -> list[BlockRow]:
        """Return the blocks of the flat file, in order."""
        rows = self._db.rows(self._sql["blocks"], {"tenant_key": tenant_key, "model_key": model_key})
        return [BlockRow(*row) for row in rows]

    def put_snapshot(  # noqa: PLR0913  one parameter a column
        self, tenant_key: int, model_key: int, *, generation: str, vectors: int, through_key: int, stamp: str,
        now_ms: int, block: BlockRow | None, fresh: bool,
    ) -> None:  # fmt: skip
        """Publish a flat file, or (not `fresh`) one more block of it."""
        both: dict[str, Any] = {"tenant_key": tenant_key, "model_key": model_key}
        self._db.run(
            self._sql["put_snapshot"],
            both
            | {"generation": generation, "vectors": vectors, "through_key": through_key, "stamp": stamp,
               "now_ms": now_ms},
        )  # fmt: skip
        if fresh:
            self._db.run(self._sql["drop_blocks"], both)
        if block is not None:
            self._db.run(self._sql["add_block"], both | block._asdict())

    def restamp(self, tenant_key: int, model_key: int, snapshot: SnapshotRow, stamp: str) -> None:
        """Note how a verified file looks now, unless it was replaced in the meantime."""
        self._db.run(
            self._sql["restamp"],
            {"tenant_key": tenant_key, "model_key": model_key, "stamp": stamp, "generation": snapshot.generation,
             "vectors": snapshot.vectors},
        )  # fmt: skip

    def drop_snapshot(self, tenant_key: int, model_key: int, generation: str) -> bool:
        """Forget a flat file, unless another one has taken its place; return whether it was forgotten."""
        return self._drop("drop_snapshot", tenant_key, model_key, generation)

    def snapshots(self) -> list[tuple[int, int, str]]:
        """Return (tenant key, model key, generation) of every flat file."""
        return [(row[0], row[1], row[2]) for row in self._db.rows(self._sql["snapshots"])]

    # -- graphs --------------------------------------------------------------------------------------------------

    def graph(self, tenant_key: int, model_key: int) -> GraphRow | None:
        """Return what is known of the graph, or None when there is none."""
        row = self._db.row(self._sql["graph"], {"tenant_key": tenant_key, "model_key": model_key})
        return None if row is None else GraphRow(*row)

    def put_graph(self, tenant_key: int, model_key: int, graph: GraphRow) -> None:
        """Publish a graph in the place of the present one."""
        self._db.run(self._sql["put_graph"], {"tenant_key": tenant_key, "model_key": model_key} | graph._asdict())

    def drop_graph(self, tenant_key: int, model_key: int, generation: str) -> bool:
        """Forget a graph, unless another one has taken its place; return whether it was forgotten."""
        return self._drop("drop_graph", tenant_key, model_key, generation)

    def graphs(self) -> list[tuple[int, int, str]]:
        """Return (tenant key, model key, generation) of every graph."""
        return [(row[0], row[1], row[2]) for row in self._db.rows(self._sql["graphs"])]

    # -- both ----------------------------------------------------------------------------------------------------

    def drop_other_models(self, tenant_key: int, model_key: int) -> None:
        """Forget the tenant's files of every model but one."""
        for name in ("drop_other_snapshots", "drop_other_graphs"):
            self._db.run(self._sql[name], {"tenant_key": tenant_key, "model_key": model_key})

    def drop_all(self) -> None:
        """Forget every file: they are another store's, or gone."""
        for name in ("drop_all_snapshots", "drop_all_graphs"):
            self._db.run(self._sql[name])

    def _drop(self, name: str, tenant_key: int, model_key: int, generation: str) -> bool:
        parameters = {"tenant_key": tenant_key, "model_key": model_key, "generation": generation}
        return self._db.run(self._sql[name], parameters) > 0
