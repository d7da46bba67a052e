"""Episodes and their words: every method takes the tenant first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.model.episode import Episode, EpisodeFilter, holds
from fedctl.model.limits import PAGE_MAX_BYTES
from fedctl.model.time import from_rfc3339, to_rfc3339
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedctl.store.database import Database, Row

_NO_FILTER: dict[str, Any] = {
    "agent_id": None, "session_id": None, "task": None, "min_reward": None, "success": None, "since_ms": None,
    "until_ms": None, "where": None,
}  # fmt: skip


class NewEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """A row to be: checked, with its JSON encoded and the text for the words extracted."""

    id: str
    agent_id: str | None
    session_id: str | None
    task: str
    input: str
    output: str
    reward: float | None
    success: bool | None
    critique: str | None
    tokens_used: int | None
    latency_ms: float | None
    metadata: str
    pinned: bool
    created_at_ms: int
    task_words: str
    input_words: str
    output_words: str
    critique_words: str


class Episodes:
    """The table of episodes and, for each tenant, a table of their words."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("memory")
        self._with_words: set[int] = set()
        self._undone = database.undone

    # -- writing: inside a write transaction ---------------------------------------------------------------------

    def known_ids(self, tenant_key: int, ids: Sequence[str]) -> dict[str, int | None]:
        """Return those of the ids that are taken: id -> the episode's seq, or None for a tombstone."""
        if len(ids) == 1:  # a list costs a sixth of what it takes to store an episode
            return dict(self._db.rows(self._sql["known_id"], {"tenant_key": tenant_key, "id": ids[0]}))
        return dict(self._db.rows(self._sql["known_ids"], {"tenant_key": tenant_key, "ids": _json(ids)}))

    def add(self, tenant_key: int, episodes: Iterable[tuple[int, NewEpisode]]) -> None:
        """Insert rows and their words; each comes with its sequence in the change log."""
        rows = [msgspec.structs.asdict(episode) | {"seq": seq, "tenant_key": tenant_key} for seq, episode in episodes]
        self._ensure_words(tenant_key)
        self._db.run_many(self._sql["add"], rows)
        self._db.run_many(self._words("add_words", tenant_key), rows)

    def remove(self, tenant_key: int, seq: int) -> None:
        """Delete an episode with its words and vectors."""
        self._db.run(self._words("remove_words", tenant_key), {"seq": seq})
        self._db.run(self._sql["remove"], {"seq": seq})

    def bury(self, tenant_key: int, episode_id: str, seq: int, now_ms: int) -> None:
        """Leave a tombstone where an episode was."""
        self._db.run(self._sql["bury"], {"tenant_key": tenant_key, "id": episode_id, "seq": seq, "now_ms": now_ms})

    def merge_words(self, tenant_key: int) -> bool:
        """Do a slice of the merging that was kept out of the acks; return whether there was any to do."""
        if not self._has_words(tenant_key):
            return False
        # FTS5 says it so: fewer than two changes mean that nothing was left to merge.
        before = self._db.total_changes()
        self._db.run(self._words("merge_words", tenant_key))
        return self._db.total_changes() - before > 1

    def rebuild_words(self, tenant_key: int, rows: Iterable[dict[str, Any]]) -> None:
        """Put the words of these rows in the place of whatever is there."""
        self._db.run(self._words("drop_words", tenant_key))
        self._db.run_script(self._words("create_words", tenant_key))
        self._db.run_many(self._words("add_words", tenant_key), rows)

    def words_are_whole(self, tenant_key: int) -> bool:
        """Return whether the table of words hangs together and knows as many episodes as there are."""
        if self.count_words(tenant_key) != self.count(tenant_key):
            return False
        if not self._has_words(tenant_key):
            return True
        return self._db.rows(f"pragma integrity_check({_table(tenant_key)})") == [("ok",)]

    def term_counts(self, tenant_key: int, terms: Sequence[str]) -> list[int]:
        """Return how many of the tenant's episodes have each term of an FTS5 query."""
        if not self._has_words(tenant_key):
            return [0] * len(terms)
        sql = self._words("count_term", tenant_key)
        return [int(self._db.value(sql, {"match": term})) for term in terms]

    # -- reading -------------------------------------------------------------------------------------------------

    def search_words(self, tenant_key: int, match: str, filter_: EpisodeFilter, limit: int) -> list[tuple[int, float]]:
        """Return (seq, BM25) of the best matches of an FTS5 query, best first; larger is better."""
        if not self._has_words(tenant_key):
            return []
        parameters: dict[str, Any] = {"match": match, "limit": limit}
        if filter_.is_empty:
            found = self._db.rows(self._words("search_words", tenant_key), parameters)
        else:
            parameters |= {"tenant_key": tenant_key} | filter_parameters(filter_)
            found = self._db.rows(self._words("search_words_filtered", tenant_key), parameters)
        return [(row[0], row[1]) for row in found]

    def by_seqs(self, tenant: tuple[int, str], seqs: Sequence[int]) -> dict[int, Episode]:
        """Return episodes by sequence; what is gone is not in the answer."""
        rows = self._db.rows(self._sql["by_seqs"], {"tenant_key": tenant[0], "seqs": _json(seqs)})
        return {row[0]: to_episode(tenant[1], row) for row in rows}

    def by_ids(self, tenant: tuple[int, str], ids: Sequence[str]) -> dict[str, Episode]:
        """Return episodes by id; what is not there is not in the answer."""
        rows = self._db.rows(self._sql["by_ids"], {"tenant_key": tenant[0], "ids": _json(ids)})
        return {row[1]: to_episode(tenant[1], row) for row in rows}

    def rewards(self, tenant_key: int, seqs: Sequence[int]) -> dict[int, float | None]:
        """Return seq -> reward of those that are live episodes of the tenant."""
        rows = self._db.rows(self._sql["rewards"], {"tenant_key": tenant_key, "seqs": _json(seqs)})
        return {row[0]: row[1] for row in rows}

    def page(
        self, tenant: tuple[int, str], filter_: EpisodeFilter, *, cursor: int | None, limit: int, newest_first: bool
    ) -> list[Episode]:
        """Return up to `limit` episodes before (or after) the sequence `cursor`.

        Fewer come where they are large: one more than fit into a page of `PAGE_MAX_BYTES`, and at least two.
        """
        rows = self._db.rows_until(
            self._sql["newest" if newest_first else "oldest"],
            {"tenant_key": tenant[0], "cursor": cursor, "limit": limit} | filter_parameters(filter_),
            _weight,
            PAGE_MAX_BYTES,
        )
        return [to_episode(tenant[1], row) for row in rows]

    def heads(self, tenant_key: int, filter_: EpisodeFilter, limit: int) -> list[tuple[int, str]]:
        """Return (seq, id) of the oldest episodes that the filter lets through."""
        parameters = {"tenant_key": tenant_key, "limit": limit} | filter_parameters(filter_)
        return [(row[0], row[1]) for row in self._db.rows(self._sql["heads"], parameters)]

    def ids(self, tenant_key: int, seqs: Sequence[int]) -> dict[int, str]:
        """Return seq -> id of those that are live episodes of the tenant."""
        rows = self._db.rows(self._sql["ids"], {"tenant_key": tenant_key, "seqs": _json(seqs)})
        return {row[0]: row[1] for row in rows}

    def seqs(self, tenant_key: int, filter_: EpisodeFilter) -> list[int]:
        """Return the sequences of all episodes that the filter lets through."""
        parameters = {"tenant_key": tenant_key} | filter_parameters(filter_)
        return [row[0] for row in self._db.rows(self._sql["seqs"], parameters)]

    def count(self, tenant_key: int, filter_: EpisodeFilter | None = None) -> int:
        """Return how many episodes the tenant has, or how many the filter lets through."""
        if filter_ is None or filter_.is_empty:
            return int(self._db.value(self._sql["count_all"], {"tenant_key": tenant_key}))
        return int(self._db.value(self._sql["count"], {"tenant_key": tenant_key} | filter_parameters(filter_)))

    def count_everywhere(self) -> int:
        """Return how many episodes the store has in all."""
        return int(self._db.value(self._sql["count_everywhere"]))

    def count_words(self, tenant_key: int) -> int:
        """Return how many episodes the table of words knows."""
        return int(self._db.value(self._words("count_words", tenant_key))) if self._has_words(tenant_key) else 0

    def count_tombstones(self, tenant_key: int) -> int:
        """Return how many ids were deleted."""
        return int(self._db.value(self._sql["count_tombstones"], {"tenant_key": tenant_key}))

    def buried_after(self, tenant_key: int, cursor: int, limit: int) -> list[tuple[int, str]]:
        """Return (seq of the deletion, id) of what was deleted after `cursor`, in order."""
        rows = self._db.rows(self._sql["buried_after"], {"tenant_key": tenant_key, "cursor": cursor, "limit": limit})
        return [(row[0], row[1]) for row in rows]

    # -- the tenant's own table of words -------------------------------------------------------------------------

    def _words(self, name: str, tenant_key: int) -> str:
        return self._sql[name].replace("{words}", _table(tenant_key))

    def _has_words(self, tenant_key: int) -> bool:
        if self._undone != self._db.undone:
            self._with_words.clear()  # one that was made in what was rolled back is gone
            self._undone = self._db.undone
        if tenant_key in self._with_words:
            return True
        found = self._db.row(self._sql["words_exist"], {"name": _table(tenant_key)}) is not None
        if found:
            self._with_words.add(tenant_key)
        return found

    def _ensure_words(self, tenant_key: int) -> None:
        if not self._has_words(tenant_key):
            self._db.run_script(self._words("create_words", tenant_key))


def _table(tenant_key: int) -> str:
    return f"words_{tenant_key:d}"


def _weight(row: Row) -> int:
    """Return no more than the bytes of a row's episode as JSON: the characters of its texts."""
    return sum(len(row[place]) for place in (4, 5, 6, 9, 12) if row[place] is not None)


def _json(values: Sequence[Any]) -> str:
    return msgspec.json.encode(values).decode()


def metadata_matches(metadata: str, where: str) -> int:
    """Return 1 if a document (JSON) fulfils every condition (JSON list): the one thing SQL cannot compare by type."""
    document = msgspec.json.decode(metadata)
    return int(all(holds(document, *condition) for condition in msgspec.json.decode(where)))


def filter_parameters(filter_: EpisodeFilter) -> dict[str, Any]:
    """Return what the statement fragment `filter` takes."""
    if filter_.is_empty:
        return _NO_FILTER
    return {
        "agent_id": filter_.agent_id,
        "session_id": filter_.session_id,
        "task": filter_.task,
        "min_reward": filter_.min_reward,
        "success": filter_.success,
        "since_ms": from_rfc3339(filter_.since) if filter_.since is not None else None,
        "until_ms": from_rfc3339(filter_.until) if filter_.until is not None else None,
        "where": _json(filter_.where) if filter_.where else None,
    }


def to_episode(tenant_id: str, row: Row) -> Episode:
    """Return the episode of a row of the statement fragment `columns`."""
    decode = msgspec.json.decode
    return Episode(
        seq=row[0],
        id=row[1],
        tenant_id=tenant_id,
        agent_id=row[2],
        session_id=row[3],
        task=row[4],
        input=decode(row[5]),
        output=decode(row[6]),
        reward=row[7],
        success=None if row[8] is None else bool(row[8]),
        critique=row[9],
        tokens_used=row[10],
        latency_ms=row[11],
        metadata=decode(row[12]),
        pinned=bool(row[13]),
        created_at=to_rfc3339(row[14]),
    )
