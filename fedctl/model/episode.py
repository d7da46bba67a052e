"""Episodes: what an agent tried, what came of it, and what it was worth."""

# Annotations are evaluated here: msgspec needs those of every answer from a hub, and evaluating text takes it 10 µs.
from typing import Any, Literal

import msgspec

from fedctl.errors import UsageError
from fedctl.model import limits
from fedctl.model.time import from_rfc3339

SUCCESS_REWARD = 0.7
"""An episode without a `success` of its own counts as one from this reward on."""

Mode = Literal["hybrid", "semantic", "keyword"]


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors of one episode under one model.

    `vectors` holds one little-endian float16 blob a chunk (base64 in JSON), `2 * dim` bytes each, of norm 1.
    """

    model: str
    vectors: list[bytes]


class EpisodeDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An episode as a caller gives it.

    `input` and `output` are any JSON value and come back type for type. `reward` is None or within [0, 1];
    `success` defaults to `reward >= 0.7`. `created_at` (RFC 3339) defaults to the moment of storing. `seq` is
    accepted, so that what was exported can be imported, and ignored.
    """

    id: str
    task: str
    tenant_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    input: Any = None
    output: Any = None
    reward: float | None = None
    success: bool | None = None
    critique: str | None = None
    tokens_used: int | None = None
    latency_ms: float | None = None
    metadata: dict[str, Any] | None = None
    pinned: bool = False
    created_at: str | None = None
    seq: int | None = None
    embedding: Embedding | None = None


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """An episode as it is kept. `seq` is its place in the store's change log; `created_at` is RFC 3339 UTC."""

    id: str
    tenant_id: str
    agent_id: str | None
    session_id: str | None
    task: str
    input: Any
    output: Any
    reward: float | None
    success: bool | None
    critique: str | None
    tokens_used: int | None
    latency_ms: float | None
    metadata: dict[str, Any]
    pinned: bool
    created_at: str
    seq: int
    embedding: Embedding | msgspec.UnsetType | None = msgspec.UNSET


class StoreResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one draft.

    `deleted`: the id carries a tombstone, nothing was stored. `existing`: the same episode was there already.
    `skipped`: another episode has the id and the caller wanted that passed over. `error` is the `error` object.
    """

    ok: bool
    id: str
    seq: int | None = None
    deleted: bool = False
    existing: bool = False
    skipped: bool = False
    episode: Episode | None = None
    error: dict[str, Any] | None = None


class EpisodeFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which episodes a verb is about. Everything given must hold; nothing given means all of the tenant.

    `since` (inclusive) and `until` (exclusive) are RFC 3339; `where` holds `(dotted path, operator, JSON value)`
    on `metadata`, operators `=`, `!=`, `<`, `<=`, `>`, `>=`, compared only between values of one type.
    """

    agent_id: str | None = None
    session_id: str | None = None
    task: str | None = None
    min_reward: float | None = None
    success: bool | None = None
    since: str | None = None
    until: str | None = None
    where: list[tuple[str, str, Any]] = []
    pinned: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is filtered."""
        return self == EpisodeFilter()

    @property
    def is_indexed(self) -> bool:
        """Whether the store finds what passes without looking at all of the tenant's episodes."""
        named = (self.agent_id, self.session_id, self.since, self.until)
        return any(one is not None for one in named) or self.indexed_condition is not None

    @property
    def indexed_condition(self) -> tuple[str, str, Any] | None:
        """The condition on metadata that the index of it serves best: one that a leaf must equal, else a range."""
        leading = [one for one in self.where if one[1] != "!=" and not isinstance(one[2], list | dict)]
        return min(leading, key=lambda one: one[1] != "=", default=None)


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Why a hit stands where it stands.

    `semantic` is the cosine (None: not searched, or no vector yet), `alone` what it is without the episode before it
    in its session, `keyword` the BM25 score (larger is better, None: no word matched), `reward` the factor the fused
    score was multiplied by, `index` in which form the vector was found: `hnsw`, `flat`, `tail`, or None when only the
    words found it.
    """

    semantic: float | None
    alone: float | None = None
    keyword: float | None
    reward: float
    index: str | None


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a query, best first; `rank` counts from 1.

    `episode` is None where the page was full: the rest is fetched by `id` (client/paging).
    """

    rank: int
    score: float
    id: str
    episode: Episode | None
    match: Match | None = None


LEAVES_MAX = 64
"""More leaves of one document's metadata than this are not kept in the index of them."""
WHERE_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


def check_filter(filter_: EpisodeFilter) -> None:
    """Check what a filter says; `UsageError` names the part that makes no sense."""
    if filter_.agent_id is not None:
        limits.check_name("agent", filter_.agent_id)
    if filter_.session_id is not None:
        limits.check_name("session", filter_.session_id)
    if filter_.task is not None:
        limits.check_text("task", filter_.task)
    if filter_.min_reward is not None:
        limits.check_unit_interval("min_reward", filter_.min_reward)
    for instant in (filter_.since, filter_.until):
        if instant is not None:
            from_rfc3339(instant)
    for path, operator, value in filter_.where:
        if operator not in WHERE_OPERATORS:
            raise UsageError(f"{operator!r} compares nothing", hint="use " + " ".join(WHERE_OPERATORS))
        limits.check_text("the path of a condition", path, empty_ok=False)
        limits.check_json("the value of a condition", value)
    if filter_.where and len(limits.encode_json("a condition", filter_.where)) > limits.QUERY_MAX_BYTES:
        raise UsageError(f"conditions on metadata have at most {limits.QUERY_MAX_BYTES:,} characters as JSON")


def holds(document: dict[str, Any], path: str, operator: str, wanted: Any) -> bool:
    """Return whether the value at a dotted `path` compares to `wanted`.

    Numbers compare with numbers, text with text; other kinds (true, null, lists) are equal or not, and never
    ordered. A path that leads nowhere fulfils only `!=`.
    """
    value: Any = document
    # A key may itself hold a dot: the whole rest of the path is tried before its first part.
    rest = path
    while True:
        if isinstance(value, dict) and rest in value:
            value = value[rest]
            break
        head, dot, rest = rest.partition(".")
        if not dot or not isinstance(value, dict) or head not in value:
            return operator == "!="
        value = value[head]
    if operator in ("=", "!="):
        return _same(value, wanted) is (operator == "=")
    if _kind(value) != _kind(wanted) or _kind(value) not in ("number", "text"):
        return False
    return bool({"<": value < wanted, "<=": value <= wanted, ">": value > wanted, ">=": value >= wanted}[operator])


def leaves(document: dict[str, Any]) -> list[tuple[str, Any]] | None:
    """Return (dotted path, value) of everything in a document that a condition can lead to and compare or equal.

    Lists and objects are not among them. None where there are more than `LEAVES_MAX`.
    """
    found: list[tuple[str, Any]] = []
    todo: list[tuple[str | None, Any]] = [(None, document)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict):
            todo += [(key if path is None else f"{path}.{key}", member) for key, member in value.items()]
        elif not isinstance(value, list):
            found.append((path or "", value))
        if len(found) + len(todo) > LEAVES_MAX:
            return None
    return found


def _same(one: Any, other: Any) -> bool:
    # Not `==` alone: to Python true is 1, inside lists and objects too.
    if _kind(one) != _kind(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(member, other[key]) for key, member in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__
