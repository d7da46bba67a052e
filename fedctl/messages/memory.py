"""What can be asked of the memory."""

from __future__ import annotations

from typing import Literal

import msgspec

from fedctl.messages.base import Answer, Request
from fedctl.model.backup import Backup
from fedctl.model.episode import Episode, EpisodeDraft, EpisodeFilter, Hit, Mode, StoreResult


class StoreAnswer(Answer, frozen=True, kw_only=True):
    """One result a draft, in order."""

    results: list[StoreResult]


class StoreEpisodes(Request[StoreAnswer], frozen=True, kw_only=True, tag="memory.store"):
    """Store up to 1,000 episodes in one transaction; refused ones are reported one by one.

    The same id with the same content is the same episode, with other content a conflict (or `skipped`). `echo`
    returns the episodes as they are kept, as many as fit in a page.
    """

    episodes: list[EpisodeDraft]
    on_conflict: Literal["error", "skip"] = "error"
    echo: bool = False


class QueryAnswer(Answer, frozen=True, kw_only=True):
    """`pending`: the tenant's episodes that have no vector yet. `notes`: what the asker should know of the answer."""

    hits: list[Hit]
    pending: int
    notes: list[str]


class QueryEpisodes(Request[QueryAnswer], frozen=True, kw_only=True, tag="memory.query"):
    """Search by meaning, by words, or by both. `k` is 1 to 1,000; `reward_weight` within [0, 1].

    `fresh` waits until no episode of the tenant lacks its vector.
    """

    text: str
    k: int = 10
    mode: Mode = "hybrid"
    filter: EpisodeFilter = EpisodeFilter()
    reward_weight: float = 0.1
    fresh: bool = False
    explain: bool = False


class GetAnswer(Answer, frozen=True, kw_only=True):
    """The episodes found, in the order asked; `rest` are the ids that did not fit in this page."""

    episodes: list[Episode]
    missing: list[str]
    rest: list[str]


class GetEpisodes(Request[GetAnswer], frozen=True, kw_only=True, tag="memory.get"):
    """Fetch up to 1,000 episodes by id."""

    ids: list[str]


class ListAnswer(Answer, frozen=True, kw_only=True):
    """A page of episodes; `cursor` (None at the end) asks for the next one; `total` is set when it was asked for."""

    episodes: list[Episode]
    cursor: int | None
    total: int | None


class ListEpisodes(Request[ListAnswer], frozen=True, kw_only=True, tag="memory.list"):
    """List episodes, newest stored first unless `order` says otherwise."""

    filter: EpisodeFilter = EpisodeFilter()
    limit: int = 1000
    cursor: int | None = None
    order: Literal["newest", "oldest"] = "newest"
    with_vectors: bool = False
    count: bool = False


class DeleteAnswer(Answer, frozen=True, kw_only=True):
    """`deleted` ids (with `dry_run`: that would go), `missing` ids, and whether a filter has `more` left."""

    deleted: list[str]
    missing: list[str]
    more: bool
    total: int | None


class DeleteEpisodes(Request[DeleteAnswer], frozen=True, kw_only=True, tag="memory.delete"):
    """Delete by ids, or by a filter that is not empty: at most 1,000 a call. Each leaves a tombstone."""

    ids: list[str] = []
    filter: EpisodeFilter | None = None
    dry_run: bool = False


class PinAnswer(Answer, frozen=True, kw_only=True):
    """`changed` ids were not as they are to be, `missing` ones are no episodes."""

    changed: list[str]
    missing: list[str]


class PinEpisodes(Request[PinAnswer], frozen=True, kw_only=True, tag="memory.pin"):
    """Pin up to 1,000 episodes, so that no policy removes them, or with `pinned` false unpin them."""

    ids: list[str]
    pinned: bool = True


class EraseEpisodesAnswer(Answer, frozen=True, kw_only=True):
    """As `DeleteAnswer`. `complete`: no byte of what was erased is in the home any more; if not, `notes` say why.

    `backups` are those that may still hold it, and those that nobody can look into: to operators. `least_seq`: nothing
    of it was there before that sequence, if that is known.
    """

    deleted: list[str]
    missing: list[str]
    more: bool
    total: int | None
    complete: bool
    backups: list[Backup] = []
    notes: list[str] = []
    least_seq: int | None = None


class EraseEpisodes(Request[EraseEpisodesAnswer], frozen=True, kw_only=True, tag="memory.erase"):
    """Delete for good by ids, those of deleted episodes too, or by a filter that is not empty: at most 1,000 a call.

    The last call, or one with neither, also clears away what is left in files, for about `budget_ms`; `defer` says
    that another call follows, which is told `since_seq`, the least of their `least_seq`.
    """

    ids: list[str] = []
    filter: EpisodeFilter | None = None
    dry_run: bool = False
    defer: bool = False
    budget_ms: int = 1000
    since_seq: int | None = None


class PullAnswer(Answer, frozen=True, kw_only=True):
    """A page of what happened to the tenant's memory.

    Ask again with `cursor` while `more`. `epoch` changes when the store was restored from a backup.
    """

    episodes: list[Episode]
    deleted: list[str]
    cursor: int
    more: bool
    epoch: str


class PullEpisodes(Request[PullAnswer], frozen=True, kw_only=True, tag="memory.pull"):
    """Take over the tenant's memory: what came after `cursor` (0: the whole history, oldest first).

    Without a cursor: the `limit` episodes nearest to `query`, or the newest ones, and the cursor of now.
    """

    cursor: int | None = None
    limit: int = 100
    query: str | None = None
    with_vectors: bool = False


class IndexStats(msgspec.Struct, frozen=True, kw_only=True):
    """The vector index of one tenant: vectors in the file, those of them in the graph, and rows searched beside it.

    `hnsw` is a flat file with a graph, which a hub searches. `age_s` is how long ago the flat file was brought up to
    date last; what came after that is the `tail`.
    """

    form: Literal["hnsw", "flat", "none"] = "none"
    model: str | None
    vectors: int = 0
    graph_vectors: int = 0
    tail: int
    size_bytes: int = 0
    updated_at: str | None = None
    age_s: float | None = None


class MemoryStatsAnswer(Answer, frozen=True, kw_only=True):
    """Counts of one tenant's memory; `tenants` counts all tenants of the store for its owner, else 1.

    `cut_episodes` are so long that their ends are found by words only. `read_only`: writes are refused, because the
    disk is nearly full.
    """

    tenant_id: str
    episodes: int
    deleted: int
    tenants: int
    pending_embeddings: int
    cut_episodes: int
    index: IndexStats
    store_bytes: int
    disk_free_bytes: int = 0
    read_only: bool = False


class MemoryStats(Request[MemoryStatsAnswer], frozen=True, kw_only=True, tag="memory.stats"):
    """How much the tenant remembers, and what is still to be embedded."""


class ReindexAnswer(Answer, frozen=True, kw_only=True):
    """`embedded` in this step, `remaining` after it."""

    embedded: int
    remaining: int
    model: str


class Reindex(Request[ReindexAnswer], frozen=True, kw_only=True, tag="memory.reindex"):
    """One step of (re-)embedding the tenant's episodes with the model at hand.

    With `begin` every episode that lacks a vector of that model is queued, and the model becomes the store's (another
    model than before: for all tenants); further steps embed what waits, of any tenant, for `budget_ms`; the step that
    leaves nothing behind rewrites the index files and mends the words.
    """

    begin: bool = False
    budget_ms: int = 1000


class EmbedPendingAnswer(Answer, frozen=True, kw_only=True):
    """`pending`: how many of the tenant's episodes have no vector yet. `notes`: why there will be none for now."""

    pending: int
    notes: list[str]


class EmbedPending(Request[EmbedPendingAnswer], frozen=True, kw_only=True, tag="memory.embed_pending"):
    """Embed what waits of the tenant's episodes, newest first, for about `budget_ms`; 0 only counts.

    A hub embeds in the background: there it is waited for.
    """

    budget_ms: int = 250


class EmbedAnswer(Answer, frozen=True, kw_only=True):
    """One float16 blob a text, as in `Embedding`."""

    model: str
    vectors: list[bytes]


class EmbedTexts(Request[EmbedAnswer], frozen=True, kw_only=True, tag="memory.embed"):
    """Embed up to 64 texts: for agents, which carry no model of their own."""

    texts: list[str]
