"""Vectors as rows, and the queue of episodes without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fedctl.model.limits import PAGE_MAX_BYTES
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedctl.store.database import Database, Row


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

    def waiting_tenants(self) -> list[int]:
        """Return the keys of the tenants that have waiting episodes."""
        return [int(row[0]) for row in self._db.rows(self._sql["waiting_tenants"], {})]

    def queued(self, tenant_key: int, limit: int) -> list[Queued]:
        """Return a tenant's newest waiting episodes; fewer where they are long."""
        parameters = {"tenant_key": tenant_key, "limit": limit}
        rows = self._db.rows_until(self._sql["queued"], parameters, _weight, PAGE_MAX_BYTES)
        return [Queued(*row) for row in rows]

    def note_cut(self, embedded: Sequence[int], cut: Iterable[tuple[int, int]]) -> None:
        """Note of episodes that were just embedded which of them, (seq, tenant key) each, have an end in no vector."""
        # Another model may have taken in less of them.
        self._db.run(self._sql["forget_cut"], {"seqs": msgspec.json.encode(embedded).decode()})
        self._db.run_many(self._sql["note_cut"], [{"seq": seq, "tenant_key": key} for seq, key in cut])

    def count_cut(self, tenant_key: int) -> int:
        """Return how many of the tenant's episodes have an end that is in no vector."""
        return int(self._db.value(self._sql["count_cut"], {"tenant_key": tenant_key}))

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
        """Delete the tenant's vectors of every model but one."""
        self._db.run(self._sql["drop_other_models"], {"tenant_key": tenant_key, "model_key": model_key})

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


def _weight(row: Row) -> int:
    """Return how many characters a waiting episode has."""
    return sum(len(text) for text in row[3:] if text is not None)
