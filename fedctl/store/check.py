"""What a check asks of the rows, and what mends those that are derived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.store.memory import leaf_rows
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fedctl.store.database import Database

_ROWS = 1000


class Checks:
    """Counts of what must not be; 0 is well. Each walks what the tenant has."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("check")

    def stray_words(self, tenant_key: int) -> tuple[int, int]:
        """Return how many episodes the words know that are not there, and how many of those there they do not know."""
        words = f"words_{tenant_key:d}"
        if self._db.value(self._sql["table_exists"], {"name": f"{words}_docsize"}) is None:
            return 0, self._count(self._sql["count_episodes"], tenant_key)
        of_nothing, wordless = (
            self._count(self._sql[name].replace("{words}", words), tenant_key)
            for name in ("words_of_nothing", "wordless")
        )
        return of_nothing, wordless

    def stray_leaves(self, tenant_key: int) -> int:
        """Return how many rows the index of metadata has of episodes that are not there."""
        return self._count(self._sql["leaves_of_nothing"], tenant_key)

    def missing_leaves(self, tenant_key: int) -> list[int]:
        """Return the sequences of episodes whose metadata cannot be found by the index of them."""
        return [
            seq
            for seq, metadata in self._pages("metadata", tenant_key)
            if metadata != "{}" and not self._is_indexed(tenant_key, seq, metadata)
        ]

    def _is_indexed(self, tenant_key: int, seq: int, metadata: str) -> bool:
        # What was there before the index stands in it without a path.
        by_scan = {"tenant_key": tenant_key, "seq": seq, "path": "", "value": b""}
        if self._db.row(self._sql["leaf_exists"], by_scan) is not None:
            return True
        return all(
            self._db.row(self._sql["leaf_exists"], leaf) is not None for leaf in leaf_rows(tenant_key, seq, metadata)
        )

    def buried_alive(self, tenant_key: int) -> int:
        """Return how many ids are an episode's and a tombstone's at once."""
        return self._count(self._sql["buried_alive"], tenant_key)

    def ids(self, tenant_key: int) -> Iterator[tuple[int, str]]:
        """Yield (seq, id) of all of a tenant's episodes."""
        return self._pages("ids_after", tenant_key)

    # -- mending: inside a write transaction ---------------------------------------------------------------------

    def mend_leaves(self, tenant_key: int, seqs: Iterable[int]) -> None:
        """Have the index of metadata agree with the episodes again."""
        self._db.run(self._sql["drop_leaves_of_nothing"], {"tenant_key": tenant_key})
        for seq in seqs:
            metadata = self._db.value(self._sql["metadata_of"], {"tenant_key": tenant_key, "seq": seq})
            self._db.run_many(self._sql["add_leaf"], leaf_rows(tenant_key, seq, metadata or "{}"))

    def drop_vectors(self, model_key: int, seqs: Iterable[int]) -> None:
        """Forget the vectors that episodes have of a model."""
        self._db.run_many(self._sql["drop_vectors"], [{"model_key": model_key, "seq": seq} for seq in seqs])

    def _count(self, sql: str, tenant_key: int) -> int:
        return int(self._db.value(sql, {"tenant_key": tenant_key}))

    def _pages(self, name: str, tenant_key: int) -> Iterator[tuple[int, str]]:
        seq = 0
        while rows := self._db.rows(self._sql[name], {"tenant_key": tenant_key, "seq": seq, "limit": _ROWS}):
            yield from ((row[0], row[1]) for row in rows)
            seq = rows[-1][0]
