"""Episodes and their words: every method takes the tenant first."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.model.episode import Episode, EpisodeFilter, holds, leaves
from fedctl.model.limits import PAGE_MAX_BYTES
from fedctl.model.time import from_rfc3339, to_rfc3339
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedctl.store.database import Database, Row

SEGMENTS_TO_MERGE = 24
"""Where the disk is small words are merged from so many segments on; with 64 of one level FTS5 does it in somebody's
transaction."""
_CONTENTLESS_DELETE_MARK = b"\xff\0\0\1"
MERGED_PAGES = 500
LEAF_MAX_CHARACTERS = 100
"""So much of a text in metadata is kept in the index of it; a longer path is not: an episode of 1 MB took 54 there."""
_KINDS: dict[type, tuple[Any, Any]] = {
    int: (-math.inf, math.inf), float: (-math.inf, math.inf), str: ("", "\U0010ffff" * (LEAF_MAX_CHARACTERS + 1)),
    bytes: (b"", b"~"),
}  # fmt: skip
"""The least and the greatest of what is kept as each type."""


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
        added = list(episodes)
        rows = [msgspec.structs.asdict(episode) | {"seq": seq, "tenant_key": tenant_key} for seq, episode in added]
        self._ensure_words(tenant_key)
        self._db.run_many(self._sql["add"], rows)
        self._count(tenant_key, len(rows), sum(size_of(episode) for _, episode in added))
        self._db.run_many(self._words("add_words", tenant_key), rows)
        self._db.run_many(
            self._sql["add_leaf"],
            [
                leaf
                for row in rows
                if row["metadata"] != "{}"
                for leaf in leaf_rows(tenant_key, row["seq"], row["metadata"])
            ],
        )

    def remove(self, tenant_key: int, seq: int) -> None:
        """Delete an episode with its words and vectors."""
        self._db.run(self._words("remove_words", tenant_key), {"seq": seq})
        row = self._db.row(self._sql["metadata"], {"seq": seq})
        metadata = "{}" if row is None else row[0]
        if row is not None:
            self._count(tenant_key, -1, -row[1])
        # What was there before the index of metadata stands in it without a path, whatever its leaves are.
        leaves_of_it = [*leaf_rows(tenant_key, seq, metadata), _leaf_row(tenant_key, seq, "", b"")]
        self._db.run_many(self._sql["remove_leaf"], leaves_of_it)
        self._db.run(self._sql["remove"], {"seq": seq})

    def _count(self, tenant_key: int, episodes: int, size_bytes: int) -> None:
        """Keep the tenant's figures in step with its rows: whatever adds or removes any comes through here."""
        self._db.run(self._sql["count_usage"], {"tenant_key": tenant_key, "episodes": episodes, "bytes": size_bytes})

    def counted_usage(self, tenant_key: int) -> tuple[int, int]:
        """Return the tenant's episodes and the bytes of their text, counted out: what its figures must say."""
        [(episodes, size_bytes)] = self._db.rows(self._sql["counted_usage"], {"tenant_key": tenant_key})
        return episodes, size_bytes

    def recount(self, tenant_key: int) -> None:
        """Put the tenant's figures right, whatever they say."""
        episodes, size_bytes = self.counted_usage(tenant_key)
        self._db.run(self._sql["set_usage"], {"tenant_key": tenant_key, "episodes": episodes, "bytes": size_bytes})

    def bury(self, tenant_key: int, episode_id: str, seq: int, now_ms: int) -> None:
        """Leave a tombstone where an episode was."""
        self._db.run(self._sql["bury"], {"tenant_key": tenant_key, "id": episode_id, "seq": seq, "now_ms": now_ms})

    def merge_words(self, tenant_key: int) -> bool:
        """Do a slice of the merging that was kept out of the acks; return whether there was any to do.

        Where the disk is nearly full the slice is what there is room for: what is merged is written anew.
        """
        pages = self._db.pages_left(MERGED_PAGES)
        if not self._has_words(tenant_key) or not pages:
            return False
        # FTS5 says it so: fewer than two changes mean that nothing was left to merge.
        before = self._db.total_changes()
        self._db.run(self._words("merge_words", tenant_key), {"pages": pages})
        return self._db.total_changes() - before > 1

    def word_segments(self, tenant_key: int) -> int:
        """Return how many segments the table of words has. Source: fts5_index.c, "structure record"."""
        if not self._has_words(tenant_key):
            return 0
        record: bytes = self._db.value(self._words("word_structure", tenant_key)) or b""
        counts = record[4:].removeprefix(_CONTENTLESS_DELETE_MARK)  # of levels, and then of segments
        return _varint(counts[1:])  # levels are few: a byte

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

    def rows_scored(self, tenant_key: int) -> int:
        """Return the number of episodes that BM25 reckons with: FTS5 keeps it, counting them walks a table."""
        if not self._has_words(tenant_key):
            return 0
        # Where the record is gone, the words are damaged, and the search will say so.
        return _varint(self._db.value(self._words("word_totals", tenant_key)) or b"")

    # -- reading -------------------------------------------------------------------------------------------------

    def search_words(
        self, tenant_key: int, match: str, limit: int, among: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """Return (seq, BM25) of the best matches of an FTS5 query, best first; larger is better.

        With `among` no others than these sequences are scored.
        """
        if not self._has_words(tenant_key):
            return []
        if among is None:
            found = self._db.rows(self._words("search_words", tenant_key), {"match": match, "limit": limit})
        else:
            parameters = {"match": match, "limit": limit, "seqs": _json(among)}
            found = self._db.rows(self._words("search_words_among", tenant_key), parameters)
        return [(row[0], row[1]) for row in found]

    def by_seqs(self, tenant: tuple[int, str], seqs: Sequence[int]) -> dict[int, Episode]:
        """Return episodes by sequence; what is gone is not in the answer."""
        rows = self._db.rows(self._sql["by_seqs"], {"tenant_key": tenant[0], "seqs": _json(seqs)})
        return {row[0]: to_episode(tenant[1], row) for row in rows}

    def by_ids(self, tenant: tuple[int, str], ids: Sequence[str]) -> dict[str, Episode]:
        """Return episodes by id; what is not there is not in the answer."""
        rows = self._db.rows(self._sql["by_ids"], {"tenant_key": tenant[0], "ids": _json(ids)})
        return {row[1]: to_episode(tenant[1], row) for row in rows}

    def before(self, tenant_key: int, seqs: Sequence[int]) -> dict[int, int]:
        """Return seq -> the sequence of the episode before it in its session, for those that have one."""
        rows = self._db.rows(self._sql["before"], {"tenant_key": tenant_key, "seqs": _json(seqs)})
        return {seq: before for seq, before in rows if before is not None}

    def page(
        self, tenant: tuple[int, str], filter_: EpisodeFilter, *, cursor: int | None, limit: int, newest_first: bool
    ) -> list[Episode]:
        """Return up to `limit` episodes before (or after) the sequence `cursor`.

        Fewer come where they are large: one more than fit into a page of `PAGE_MAX_BYTES`, and at least two.
        """
        rows = self._db.rows_until(
            self._filtered(self._sql["newest" if newest_first else "oldest"], filter_),
            {"tenant_key": tenant[0], "cursor": cursor, "limit": limit} | filter_parameters(filter_),
            _weight,
            PAGE_MAX_BYTES,
        )
        return [to_episode(tenant[1], row) for row in rows]

    def heads(self, tenant_key: int, filter_: EpisodeFilter, limit: int) -> list[tuple[int, str]]:
        """Return (seq, id) of the oldest episodes that the filter lets through."""
        parameters = {"tenant_key": tenant_key, "limit": limit} | filter_parameters(filter_)
        return [
            (row[0], row[1])
            for row in self._db.rows(self._filtered(self._sql["heads"], filter_, listed=True), parameters)
        ]

    def ids(self, tenant_key: int, seqs: Sequence[int]) -> dict[int, str]:
        """Return seq -> id of those that are live episodes of the tenant."""
        rows = self._db.rows(self._sql["ids"], {"tenant_key": tenant_key, "seqs": _json(seqs)})
        return {row[0]: row[1] for row in rows}

    def seqs(self, tenant_key: int, filter_: EpisodeFilter) -> list[int]:
        """Return the sequences of all episodes that the filter lets through."""
        parameters = {"tenant_key": tenant_key} | filter_parameters(filter_)
        return [row[0] for row in self._db.rows(self._filtered(self._sql["seqs"], filter_, listed=True), parameters)]

    def count(self, tenant_key: int, filter_: EpisodeFilter | None = None) -> int:
        """Return how many episodes the tenant has, or how many the filter lets through."""
        if filter_ is None or filter_.is_empty:
            return int(self._db.value(self._sql["count_all"], {"tenant_key": tenant_key}))
        parameters = {"tenant_key": tenant_key} | filter_parameters(filter_)
        return int(self._db.value(self._filtered(self._sql["count"], filter_, listed=True), parameters))

    def passing(
        self, tenant_key: int, seqs: Sequence[int], filter_: EpisodeFilter | None = None
    ) -> dict[int, float | None]:
        """Return seq -> reward of those that are live episodes of the tenant and pass the filter."""
        filter_ = filter_ or EpisodeFilter()
        parameters = {"tenant_key": tenant_key, "seqs": _json(seqs)} | filter_parameters(filter_)
        return dict(self._db.rows(self._filtered(self._sql["passing"], filter_), parameters))

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

    def _filtered(self, sql: str, filter_: EpisodeFilter, *, listed: bool = False) -> str:
        """Return the statement with the conditions of the filter in the place of `{filter}`.

        `listed`: all that passes is asked for, so that the index of metadata says where to look.
        """
        names = [name for name in filter_parameters(filter_) if not name.startswith("leaf_")]
        if listed and filter_.indexed_condition is not None:
            names.append("leaf")
        conditions = [self._sql[f"filter_{name}"] for name in names]
        return sql.replace("{filter}", " AND ".join(conditions) or "TRUE")

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


def size_of(row: NewEpisode) -> int:
    """Return the bytes of an episode's text that count against a quota: what SQL calls their `octet_length`."""
    texts = (row.task, row.input, row.output, row.critique or "", row.metadata)
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)


def _table(tenant_key: int) -> str:
    return f"words_{tenant_key:d}"


def _varint(block: bytes) -> int:
    """Return the number that a block of FTS5 begins with: seven bits a byte, highest first, all but the last marked."""
    number = 0
    for byte in block[:8]:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    return number


def _weight(row: Row) -> int:
    """Return no more than the bytes of a row's episode as JSON: the characters of its texts."""
    return sum(len(row[place]) for place in (4, 5, 6, 9, 12) if row[place] is not None)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def metadata_matches(metadata: str, where: str) -> int:
    """Return 1 if a document (JSON) fulfils every condition (JSON list): the one thing SQL cannot compare by type."""
    conditions = _conditions(where)
    # Most documents lack what is asked for, and need not be decoded to see it.
    if not all(needle in metadata for needle, _ in conditions):
        return 0
    document = msgspec.json.decode(metadata)
    return int(all(holds(document, *condition) for _, condition in conditions))


@lru_cache(maxsize=64)
def _conditions(where: str) -> list[tuple[str, tuple[str, str, Any]]]:
    """Return the conditions, each with text that the JSON of a document must contain to fulfil it."""
    found = []
    for path, operator, value in msgspec.json.decode(where):
        # The last key on the path, or the end of one that holds a dot; then the value, where it is written in one way.
        needle = "" if operator == "!=" else _json(path.rpartition(".")[2])[1:] + ":"
        if operator == "=" and isinstance(value, str | bool | None):
            needle += _json(value)
        found.append((needle, (path, operator, value)))
    return found


def filter_parameters(filter_: EpisodeFilter) -> dict[str, Any]:
    """Return what the conditions of a filter take; each goes by the name of its parameter."""
    if filter_.is_empty:
        return {}
    given = {
        "agent_id": filter_.agent_id,
        "session_id": filter_.session_id,
        "task": filter_.task,
        "min_reward": filter_.min_reward,
        "success": filter_.success,
        "pinned": filter_.pinned,
        "since_ms": from_rfc3339(filter_.since) if filter_.since is not None else None,
        "until_ms": from_rfc3339(filter_.until) if filter_.until is not None else None,
        "where": _json(filter_.where) if filter_.where else None,
    }
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if filter_.indexed_condition is not None:
        path, operator, value = filter_.indexed_condition
        leaf = _leaf(value)
        # Ranges take in their ends: a long text, and an integer beyond 64 bits, is kept less exactly than it is.
        least, most = _KINDS[type(leaf)]
        found |= {
            "leaf_path": path,
            "leaf_least": leaf if operator in ("=", ">", ">=") else least,
            "leaf_most": leaf if operator in ("=", "<", "<=") else most,
        }
    return found


def leaf_rows(tenant_key: int, seq: int, metadata: str) -> list[dict[str, Any]]:
    """Return the rows that an episode has in the index of metadata, by the names of its columns."""
    found = leaves(msgspec.json.decode(metadata))
    if found is None or not all(0 < len(path) <= LEAF_MAX_CHARACTERS for path, _ in found):
        return [_leaf_row(tenant_key, seq, "", b"")]
    return [_leaf_row(tenant_key, seq, path, _leaf(value)) for path, value in found]


def _leaf_row(tenant_key: int, seq: int, path: str, value: float | str | bytes) -> dict[str, Any]:
    return {"tenant_key": tenant_key, "seq": seq, "path": path, "value": value}


def _leaf(value: Any) -> float | int | str | bytes:
    """Return a value as it is kept in the index of metadata: kinds that do not compare are kept apart by their type."""
    if value is None or isinstance(value, bool):
        return msgspec.json.encode(value)
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else _as_float(value)
    return value[:LEAF_MAX_CHARACTERS] if isinstance(value, str) else value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


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
