"""Vectors as rows, the queue of episodes without one, and what is known of the index files made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedctl.store.database import Database


class Model(NamedTuple):
    """A model whose vectors the store holds: its key in the store, its id, its dimensions."""

    key: int
    id: str
    dim: int


class Queued(NamedTuple):
    """An episode that waits for its vector, with what is embedded of it (input and output as JSON text)."""

    seq: int
    tenant_key: int
    agent_id: str | None
    task: str
    input: str
    output: str
    critique: str | None


class SnapshotRow(NamedTuple):
    """What the store knows of an index file."""

    generation: str
    form: str
    vectors: int
    through_key: int
    stamp: str
    updated_at_ms: int


class BlockRow(NamedTuple):
    """One appended block of an index file: its first row, its rows, the digest of its bytes."""

    first: int
    vectors: int
    digest: str


class Embeddings:
    """Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("embedding")

    # -- models --------------------------------------------------------------------------------------------------

    def model(self, model_id: str) -> Model | None:
        """Return the model of that id, if the store has met it."""
        row = self._db.row(self._sql["model_by_id"], {"id": model_id})
        return None if row is None else Model(*row)

    def model_by_key(self, key: int) -> Model | None:
        """Return the model of that key."""
        row = self._db.row(self._sql["model_by_key"], {"key": key})
        return None if row is None else Model(*row)

    def add_model(self, model_id: str, dim: int) -> Model:
        """Return the model of that id; enter it when it is new."""
        if self.model(model_id) is None:
            self._db.run(self._sql["add_model"], {"id": model_id, "dim": dim})
        model = self.model(model_id)
        assert model is not None
        return model

    # -- vectors and their queue ---------------------------------------------------------------------------------

    def add(self, tenant_key: int, model_key: int, vectors: Iterable[tuple[int, Sequence[bytes]]]) -> None:
        """Keep the vectors of episodes: (seq, one blob a chunk). Takes them off the queue."""
        for seq, chunks in vectors:
            self._db.run_many(
                self._sql["add"],
                [
                    {"tenant_key": tenant_key, "model_key": model_key, "seq": seq, "chunk": number, "vector": blob}
                    for number, blob in enumerate(chunks)
                ],
            )
            self._db.run(self._sql["dequeue"], {"seq": seq})

    def enqueue(self, tenant_key: int, seqs: Iterable[int]) -> None:
        """Queue episodes for embedding."""
        self._db.run_many(self._sql["enqueue"], [{"seq": seq, "tenant_key": tenant_key} for seq in seqs])

    def enqueue_missing(self, tenant_key: int | None, model_key: int) -> None:
        """Queue every episode (of all tenants: None) that has no vector of the model."""
        self._db.run(self._sql["enqueue_missing"], {"tenant_key": tenant_key, "model_key": model_key})

    def queued(self, tenant_key: int | None, limit: int) -> list[Queued]:
        """Return the newest waiting episodes, of one tenant or of all."""
        return [Queued(*row) for row in self._db.rows(self._sql["queued"], {"tenant_key": tenant_key, "limit": limit})]

    def still_queued(self, seqs: Sequence[int]) -> set[int]:
        """Return those that still wait: the others were embedded or deleted in the meantime."""
        rows = self._db.rows(self._sql["still_queued"], {"seqs": msgspec.json.encode(seqs).decode()})
        return {row[0] for row in rows}

    def pending(self, tenant_key: int | None) -> int:
        """Return how many episodes wait for a vector, of one tenant or of all."""
        if tenant_key is None:
            return int(self._db.value(self._sql["pending_everywhere"]))
        return int(self._db.value(self._sql["pending"], {"tenant_key": tenant_key}))

    def of_episodes(self, model_key: int, seqs: Sequence[int]) -> dict[int, tuple[str, list[bytes]]]:
        """Return seq -> (model id, one blob a chunk) of those that have vectors."""
        found: dict[int, tuple[str, list[bytes]]] = {}
        parameters = {"model_key": model_key, "seqs": msgspec.json.encode(seqs).decode()}
        for seq, model_id, blob in self._db.rows(self._sql["of_episodes"], parameters):
            found.setdefault(seq, (model_id, []))[1].append(blob)
        return found

    def drop_other_models(self, tenant_key: int, model_key: int) -> None:
        """Delete the tenant's vectors of every model but one, and forget the index files made of them."""
        self._db.run(self._sql["drop_other_models"], {"tenant_key": tenant_key, "model_key": model_key})
        self._db.run(self._sql["drop_other_snapshots"], {"tenant_key": tenant_key, "model_key": model_key})

    def count(self, tenant_key: int, model_key: int) -> int:
        """Return how many vectors the tenant has."""
        return int(self._db.value(self._sql["count"], {"tenant_key": tenant_key, "model_key": model_key}))

    def count_embedded(self, tenant_key: int, model_key: int) -> int:
        """Return how many episodes of the tenant have a vector."""
        return int(self._db.value(self._sql["count_embedded"], {"tenant_key": tenant_key, "model_key": model_key}))

    def count_after(self, tenant_key: int, model_key: int, key: int, limit: int) -> int:
        """Return how many vectors came after `key`, counting no further than `limit`."""
        return int(
            self._db.value(
                self._sql["count_after"],
                {"tenant_key": tenant_key, "model_key": model_key, "key": key, "limit": limit},
            )
        )

    def after(self, tenant_key: int, model_key: int, key: int, limit: int) -> list[tuple[int, int, bytes]]:
        """Return (key, seq, blob) of the vectors that came after `key`, in order."""
        return self._db.rows(
            self._sql["after"], {"tenant_key": tenant_key, "model_key": model_key, "key": key, "limit": limit}
        )

    # -- snapshots -----------------------------------------------------------------------------------------------

    def snapshot(self, tenant_key: int, model_key: int) -> SnapshotRow | None:
        """Return what is known of the index file, or None when there is none."""
        row = self._db.row(self._sql["snapshot"], {"tenant_key": tenant_key, "model_key": model_key})
        return None if row is None else SnapshotRow(*row)

    def blocks(self, tenant_key: int, model_key: int) -> list[BlockRow]:
        """Return the blocks of the index file, in order."""
        rows = self._db.rows(self._sql["blocks"], {"tenant_key": tenant_key, "model_key": model_key})
        return [BlockRow(*row) for row in rows]

    def put_snapshot(  # noqa: PLR0913  one parameter a column
        self, tenant_key: int, model_key: int, *, generation: str, vectors: int, through_key: int, stamp: str,
        now_ms: int, block: BlockRow | None, fresh: bool,
    ) -> None:  # fmt: skip
        """Publish an index file, or (not `fresh`) one more block of it."""
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
        """Forget an index file, unless another one has taken its place; return whether it was forgotten."""
        parameters = {"tenant_key": tenant_key, "model_key": model_key, "generation": generation}
        return self._db.run(self._sql["drop_snapshot"], parameters) > 0

    def snapshots(self) -> list[tuple[int, int, str]]:
        """Return (tenant key, model key, generation) of every index file."""
        return [(row[0], row[1], row[2]) for row in self._db.rows(self._sql["snapshots"])]
