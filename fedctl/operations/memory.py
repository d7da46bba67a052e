"""What the memory does: store, find, fetch, list, delete, pull, re-embed."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.errors import Conflict, Denied, DiskFull, FedctlError, Unavailable, UsageError
from fedctl.messages import memory as m
from fedctl.model import limits
from fedctl.model.episode import (
    SUCCESS_REWARD,
    Embedding,
    Episode,
    EpisodeDraft,
    EpisodeFilter,
    Hit,
    Match,
    StoreResult,
    check_filter,
)
from fedctl.model.time import from_rfc3339
from fedctl.operations.sieve import Sieve
from fedctl.operations.tenant import Room
from fedctl.recall import rank, text
from fedctl.store.memory import NewEpisode, size_of
from fedctl.store.trouble import WordsDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

QUERY_EMBED_BUDGET_S = 2.0
"""How long a query without a hub embeds what still waits, before it searches."""
_EMBED_MAX_TEXTS = 64
_NOBODY = -1
"""The key of a tenant that has nothing yet."""
_READ_AT_ONCE = 20
"""Episodes read at a time where it is not known how large they are."""

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


# -- storing -----------------------------------------------------------------------------------------------------


def store(ctx: Context, who: Principal, request: m.StoreEpisodes) -> m.StoreAnswer:
    """Store drafts in one transaction; each refused one is reported in its place and nothing of it is kept."""
    if len(request.episodes) > limits.BATCH_MAX_ITEMS:
        raise UsageError(f"a batch holds at most {limits.BATCH_MAX_ITEMS} episodes, this one {len(request.episodes)}")
    now_ms = ctx.clock.now_ms()
    rows: list[NewEpisode | FedctlError] = []
    for draft in request.episodes:
        try:
            rows.append(prepare(draft, who, now_ms))
        except FedctlError as error:
            rows.append(error.with_traceback(None))  # which would hold on to the whole request, in a cycle
    with ctx.store.write():
        results = _store_rows(ctx, who, request, rows, now_ms)
        if request.echo:
            results = _with_episodes(ctx, who, results)
    return m.StoreAnswer(results=results)


def prepare(draft: EpisodeDraft, who: Principal, now_ms: int) -> NewEpisode:
    """Return the checked row of a draft; `UsageError` names what is wrong, `Denied` whose it is not."""
    limits.check_id("episode", draft.id)
    limits.check_text("task", draft.task, empty_ok=False)
    agent_id = who.agent_id if who.agent_id is not None else draft.agent_id
    if agent_id is not None:
        limits.check_name("agent", agent_id)
    if draft.session_id is not None:
        limits.check_name("session", draft.session_id)
    if draft.critique is not None:
        limits.check_text("critique", draft.critique, nul_ok=True)
    if not isinstance(draft.metadata, dict | None):
        raise UsageError("metadata must be an object")
    reward = None if draft.reward is None else limits.check_unit_interval("reward", draft.reward)
    if draft.tokens_used is not None:
        limits.check_count("tokens_used", draft.tokens_used)
    success = draft.success
    if success is None and reward is not None:
        success = reward >= SUCCESS_REWARD
    input_ = limits.encode_json("input", draft.input)
    output = limits.encode_json("output", draft.output)
    metadata = limits.encode_json("metadata", draft.metadata or {})
    # Before its words are looked for: in what is far too large that takes a second.
    _check_size(draft, len(draft.task) + len(input_) + len(output) + len(metadata) + len(draft.critique or ""))
    return NewEpisode(
        id=draft.id,
        agent_id=agent_id,
        session_id=draft.session_id,
        task=draft.task,
        input=input_,
        output=output,
        reward=reward,
        success=success,
        critique=draft.critique,
        tokens_used=draft.tokens_used,
        latency_ms=None if draft.latency_ms is None else limits.check_measure("latency_ms", draft.latency_ms),
        metadata=metadata,
        pinned=draft.pinned,
        created_at_ms=now_ms if draft.created_at is None else from_rfc3339(draft.created_at),
        task_words=text.word_text(draft.task),
        input_words=text.word_text(draft.input),
        output_words=text.word_text(draft.output),
        critique_words=text.word_text(draft.critique),
    )


def _check_size(draft: EpisodeDraft, characters: int) -> None:
    # Characters first: only what comes near the limit (one can be six bytes as JSON) is encoded again to be counted.
    if characters * 8 > limits.EPISODE_MAX_BYTES:
        size = len(_encode(msgspec.structs.replace(draft, embedding=None)))
        if size > limits.EPISODE_MAX_BYTES:
            raise UsageError(
                f"an episode has at most {limits.EPISODE_MAX_BYTES:,} bytes as JSON, this one {size:,}",
                hint="store a summary, and where the whole is to be found",
                details={"limit_bytes": limits.EPISODE_MAX_BYTES, "size_bytes": size},
            )


def _store_rows(
    ctx: Context, who: Principal, request: m.StoreEpisodes, rows: Sequence[NewEpisode | FedctlError], now_ms: int
) -> list[StoreResult]:
    good = [row for row in rows if isinstance(row, NewEpisode)]
    if not good:
        return [_refused(draft.id, row) for draft, row in zip(request.episodes, rows, strict=True)]  # type: ignore[arg-type]
    tenant_key = ctx.store.tenants.key_for_writing(who.tenant_id, now_ms)
    ids = [row.id for row in good]
    known: dict[str, int | None] = ctx.store.episodes.known_ids(tenant_key, ids)
    known |= dict.fromkeys(ctx.store.erasures.erased_among(who.tenant_id, ids))
    results: list[StoreResult] = []
    fresh: list[tuple[int, NewEpisode, EpisodeDraft]] = []
    in_batch: dict[str, NewEpisode] = {}
    seq = ctx.store.changes.last_seq()
    room = Room(ctx, who.tenant_id, tenant_key)
    for draft, row in zip(request.episodes, rows, strict=True):
        if isinstance(row, FedctlError):
            results.append(_refused(draft.id, row))
        elif row.id in in_batch:
            results.append(_again(row, in_batch[row.id], known[row.id], request.on_conflict))
        elif row.id in known:
            results.append(_met(ctx, (tenant_key, who.tenant_id), row, known[row.id], request.on_conflict))
        elif (refusal := room.refusal(size_of(row))) is not None:
            results.append(_refused(row.id, refusal))
        else:
            seq += 1
            known[row.id] = seq
            in_batch[row.id] = row
            fresh.append((seq, row, draft))
            results.append(StoreResult(ok=True, id=row.id, seq=seq))
    _insert(ctx, tenant_key, fresh, now_ms)
    return results


def _insert(ctx: Context, tenant_key: int, fresh: Sequence[tuple[int, NewEpisode, EpisodeDraft]], now_ms: int) -> None:
    if not fresh:
        return
    per_agent: dict[str, int] = {}
    logged = [(seq, row.id, {"agent_id": row.agent_id} if row.agent_id else None) for seq, row, _ in fresh]
    ctx.store.changes.add_all(tenant_key, "episode_stored", logged, now_ms=now_ms)
    for _, row, _ in fresh:
        if row.agent_id:
            per_agent[row.agent_id] = per_agent.get(row.agent_id, 0) + 1
    ctx.store.episodes.add(tenant_key, ((seq, row) for seq, row, _ in fresh))
    for agent_id, count in per_agent.items():
        ctx.store.agents.count_stored(tenant_key, agent_id, count)
    _keep_vectors(ctx, tenant_key, fresh)


def _keep_vectors(ctx: Context, tenant_key: int, fresh: Sequence[tuple[int, NewEpisode, EpisodeDraft]]) -> None:
    """Take over the vectors that came with their episodes and are of the store's model; queue the others."""
    shipped = []
    if ctx.recall.embeds and any(draft.embedding is not None for _, _, draft in fresh):
        from fedctl.operations import embedding  # noqa: PLC0415  see _query

        model = embedding.adopt_model(ctx)
        if model is not None:
            shipped = [
                (seq, draft.embedding.vectors)
                for seq, _, draft in fresh
                if draft.embedding is not None and _fits(draft.embedding, model.id, model.dim)
            ]
            ctx.store.embeddings.add(tenant_key, model.key, shipped)
    with_vector = {seq for seq, _ in shipped}
    ctx.store.embeddings.enqueue(tenant_key, [seq for seq, _, _ in fresh if seq not in with_vector])


def _fits(given: Embedding, model_id: str, dim: int) -> bool:
    """Return whether shipped vectors can be searched beside the store's own.

    Another model's are passed over (the episode is then embedded here), and so are more vectors than an episode may
    have bytes, and what is no vector of norm 1.
    """
    from fedctl.recall.index import NORM_TOLERANCE  # noqa: PLC0415  see _query

    if given.model != model_id or not 0 < len(given.vectors) * 2 * dim <= limits.EPISODE_MAX_BYTES:
        return False
    for blob in given.vectors:
        if len(blob) != 2 * dim:
            return False
        norm = math.hypot(*struct.unpack(f"<{dim}e", blob))
        if not abs(norm - 1) <= NORM_TOLERANCE:  # written so that NaN does not pass
            return False
    return True


def _refused(episode_id: str, error: FedctlError) -> StoreResult:
    return StoreResult(ok=False, id=episode_id, error=error.as_dict())


def _again(row: NewEpisode, first: NewEpisode, seq: int | None, on_conflict: str) -> StoreResult:
    if _content(row) == _content(first):
        return StoreResult(ok=True, id=row.id, seq=seq, existing=True)
    return _conflict(row.id, seq, on_conflict)


def _met(ctx: Context, tenant: tuple[int, str], row: NewEpisode, seq: int | None, on_conflict: str) -> StoreResult:
    if seq is None:
        return StoreResult(ok=True, id=row.id, deleted=True)
    stored = ctx.store.episodes.by_seqs(tenant, [seq])[seq]
    if _content(row) == _content_of_stored(stored):
        return StoreResult(ok=True, id=row.id, seq=seq, existing=True)
    return _conflict(row.id, seq, on_conflict)


def _conflict(episode_id: str, seq: int | None, on_conflict: str) -> StoreResult:
    if on_conflict == "skip":
        return StoreResult(ok=True, id=episode_id, seq=seq, skipped=True)
    error = Conflict(
        f"the episode {episode_id} exists with other content",
        hint="episodes are not changed; store it under another id",
    )
    return _refused(episode_id, error)


def _content(row: NewEpisode) -> bytes:
    """Return what two pushes of one episode have in common: everything but when it arrived and whether it is pinned."""
    decode = msgspec.json.decode
    return _encode_sorted(
        (row.agent_id, row.session_id, row.task, decode(row.input), decode(row.output), row.reward, row.success,
         row.critique, row.tokens_used, row.latency_ms, decode(row.metadata))
    )  # fmt: skip


def _content_of_stored(e: Episode) -> bytes:
    return _encode_sorted(
        (e.agent_id, e.session_id, e.task, e.input, e.output, e.reward, e.success, e.critique, e.tokens_used,
         e.latency_ms, e.metadata)
    )  # fmt: skip


def _with_episodes(ctx: Context, who: Principal, results: list[StoreResult]) -> list[StoreResult]:
    tenant = _tenant(ctx, who)
    if tenant is None:
        return results
    found = _page_of(ctx, tenant, [one.seq for one in results if one.seq is not None])
    return [one if one.seq is None else msgspec.structs.replace(one, episode=found.get(one.seq)) for one in results]


# -- finding -----------------------------------------------------------------------------------------------------


def query(ctx: Context, who: Principal, request: m.QueryEpisodes) -> m.QueryAnswer:
    """Search by meaning, by words, or by both."""
    _check_query(request)
    tenant = _tenant(ctx, who)
    if tenant is None:
        return m.QueryAnswer(hits=[], pending=0, notes=[])
    if request.fresh and who.looks_only:  # it would hold a thread of the hub for as long as there is much to embed
        request = msgspec.structs.replace(request, fresh=False)
    if request.mode == "keyword":
        return _query(ctx, tenant, request)
    from fedctl.operations import index  # noqa: PLC0415  see _query
    from fedctl.recall.index import FileLostError  # noqa: PLC0415  see _query

    try:
        return _query(ctx, tenant, request)
    except FileLostError:  # cut or taken away in the middle of it: now it shows, and the rows are searched
        index.forget_open(ctx, tenant[0])
        return _query(ctx, tenant, request)


def _query(ctx: Context, tenant: tuple[int, str], request: m.QueryEpisodes) -> m.QueryAnswer:
    notes: list[str] = []
    pending, search, model = 0, None, None
    if request.mode != "keyword":
        # What neither asks by meaning nor ships vectors does without: 8 ms of each command.
        from fedctl.operations import embedding, index  # noqa: PLC0415

        pending = _catch_up(ctx, tenant[0], notes, fresh=request.fresh)
        model = embedding.active_model(ctx)
        note = embedding.model_note(ctx, model)
        if note is not None:
            notes.append(note)
        elif model is not None:
            search = index.search(ctx, tenant[0], model, request.text)
    with ctx.store.read():
        sieve, pool = Sieve(ctx, tenant[0], request.filter), max(rank.POOL, request.k)
        semantic: dict[int, float] = {}
        alone: dict[int, float] = {}
        if search is not None:
            semantic = sieve.best(search.nearest, lambda seqs: search.nearest(pool, seqs), pool, search.rows)
        keyword: dict[int, float] = {}
        bound = 0.0
        if request.mode != "semantic":
            keyword, bound = _by_words(ctx, tenant[0], request, notes, sieve)
        if search is not None and model is not None:
            # The true cosine also of what only the words found.
            lacking = [seq for seq in keyword if seq not in semantic]
            semantic |= index.cosines(ctx, model, search, lacking) if lacking else {}
            alone, semantic = semantic, index.in_context(ctx, tenant[0], model, search, semantic)
        unknown = [seq for seq in {**semantic, **keyword} if seq not in sieve.rewards]
        rewards = sieve.rewards | (ctx.store.episodes.passing(tenant[0], unknown) if unknown else {})
        rewards = {seq: rewards[seq] for seq in {**semantic, **keyword} if seq in rewards}
        ranked = rank.fuse(semantic, keyword, rewards, request.reward_weight, bound)[: request.k]
        seqs = [one.key for one in ranked]
        episodes = _page_of(ctx, tenant, seqs)
        ids = {seq: episode.id for seq, episode in episodes.items()}
        if len(ids) < len(seqs):  # the page is full: the rest is fetched by id
            ids |= ctx.store.episodes.ids(tenant[0], [seq for seq in seqs if seq not in ids])
    hits = []
    for number, one in enumerate(ranked, start=1):
        match = None
        if request.explain:
            match = Match(
                semantic=one.semantic,
                alone=alone.get(one.key),
                keyword=one.keyword,
                reward=one.reward_factor,
                index=None if search is None else search.form_of(one.key),
            )
        hits.append(Hit(rank=number, score=one.score, id=ids[one.key], episode=episodes.get(one.key), match=match))
    return m.QueryAnswer(hits=hits, pending=pending, notes=notes)


def _page_of(ctx: Context, tenant: tuple[int, str], seqs: Sequence[int]) -> dict[int, Episode]:
    """Return the first of these episodes, as many as fit in a page; no more of them are read than it takes to know."""
    kept: dict[int, Episode] = {}
    room = limits.PAGE_MAX_BYTES
    for start in range(0, len(seqs), _READ_AT_ONCE):
        part = seqs[start : start + _READ_AT_ONCE]
        found = ctx.store.episodes.by_seqs(tenant, part)
        for seq in part:
            if seq not in found:
                continue
            room -= _size(found[seq])
            if room < 0:
                return kept
            kept[seq] = found[seq]
    return kept


def _check_query(request: m.QueryEpisodes) -> None:
    limits.check_json("the query", request.text)
    if not request.text.strip():
        raise UsageError("the query must not be empty")
    if len(request.text.encode()) > limits.QUERY_MAX_BYTES:
        raise UsageError(f"a query has at most {limits.QUERY_MAX_BYTES:,} bytes")
    if not 1 <= request.k <= limits.K_MAX:
        raise UsageError(f"k must be within 1 and {limits.K_MAX}, not {request.k}")
    limits.check_unit_interval("reward_weight", request.reward_weight)
    check_filter(request.filter)


def _catch_up(ctx: Context, tenant_key: int, notes: list[str], *, fresh: bool) -> int:
    """Return how many of the tenant's episodes lack a vector, after doing what this side does about it.

    A hub embeds in the background, and `fresh` waits for it; without one the query embeds, within a time budget.
    """
    if ctx.hub is not None:
        return _embedded_within(ctx, tenant_key, ctx.timeout_s if fresh else 0, bulk=False)
    try:
        return _embedded_within(ctx, tenant_key, None if fresh else QUERY_EMBED_BUDGET_S, bulk=fresh)
    except (DiskFull, Denied, Unavailable) as error:
        # What cannot be written does not keep anybody from finding what is there.
        if fresh:
            raise
        notes.append(f"no vectors were added: {error.message}")
        return ctx.store.embeddings.pending(tenant_key)


def _embedded_within(ctx: Context, tenant_key: int, budget_s: float | None, *, bulk: bool) -> int:
    """Embed the tenant's episodes, or in a hub wait while its background does; return how many are left then."""
    left = ctx.store.embeddings.pending(tenant_key)
    if ctx.hub is None:
        from fedctl.operations import embedding, index  # noqa: PLC0415  see _query

        if left:
            left = embedding.embed_pending(ctx, budget_s=budget_s, tenant_key=tenant_key, bulk=bulk)
        index.catch_up(ctx, tenant_key)
        return left
    deadline = ctx.clock.monotonic_s() + (budget_s or 0)
    while left and ctx.clock.monotonic_s() < deadline:
        ctx.clock.sleep_s(0.02)
        left = ctx.store.embeddings.pending(tenant_key)
    return left


def _by_words(
    ctx: Context, tenant_key: int, request: m.QueryEpisodes, notes: list[str], sieve: Sieve
) -> tuple[dict[int, float], float]:
    """Return seq -> BM25 of the best matches, and what BM25 could have been at most."""
    terms = text.query_terms(request.text)
    try:
        counts = ctx.store.episodes.term_counts(tenant_key, terms)
        if not any(counts):
            return {}, 0.0
        rows = ctx.store.episodes.rows_scored(tenant_key)
        known = sorted((n, term) for n, term in zip(counts, terms, strict=True) if n)
        return _best_by_words(ctx, tenant_key, request, rows, known, sieve), rank.bm25_bound(rows, counts)
    except WordsDamagedError as error:
        if request.mode == "keyword":
            raise
        notes.append(f"{error.message}: searched by meaning only; to mend it run: fedctl memory reindex")
        return {}, 0.0


def _best_by_words(  # noqa: PLR0913  the parts of a query
    ctx: Context, tenant_key: int, request: m.QueryEpisodes, rows: int, known: list[tuple[int, str]], sieve: Sieve
) -> dict[int, float]:
    """Return seq -> BM25 of the best matches of the terms, which come with their counts, rarest first.

    Scoring is what takes time, a microsecond a document, and what has only frequent words is many: it is left out
    where it cannot be among the best.
    """
    pool = max(rank.POOL, request.k)
    counts, terms = [n for n, _ in known], [term for _, term in known]

    def search(match: str | None, limit: int, among: list[int] | None = None) -> list[tuple[int, float]]:
        return ctx.store.episodes.search_words(tenant_key, match or "", limit, among)

    def ranked(limit: int) -> dict[int, float]:
        split = rank.deciding_terms(rows, counts, limit)
        if split < len(terms):
            found = [(seq, bm25 / 2) for seq, bm25 in search(text.match_query(terms[:split], terms[split:]), limit)]
            if len(found) == limit and found[-1][1] >= rank.bm25_bound(rows, counts[split:]):
                return dict(found)
        return dict(search(text.match_query(terms), limit))

    if request.filter.is_empty:
        return ranked(pool)
    return sieve.best(ranked, lambda seqs: dict(search(text.match_query(terms), pool, seqs)), pool, rows)


# -- fetching, listing -------------------------------------------------------------------------------------------


def get(ctx: Context, who: Principal, request: m.GetEpisodes) -> m.GetAnswer:
    """Fetch episodes by id, as many as fit in a page."""
    wanted = list(dict.fromkeys(request.ids))
    if len(wanted) > limits.BATCH_MAX_ITEMS:
        raise UsageError(f"one call fetches at most {limits.BATCH_MAX_ITEMS} episodes, not {len(wanted)}")
    for episode_id in wanted:
        limits.check_id("episode", episode_id)
    tenant = _tenant(ctx, who)
    found: dict[str, Episode] = {}
    used_bytes = 0
    for start in range(0, len(wanted) if tenant is not None else 0, _READ_AT_ONCE):
        assert tenant is not None
        part = ctx.store.episodes.by_ids(tenant, wanted[start : start + _READ_AT_ONCE])
        for place, one in enumerate(wanted[start : start + _READ_AT_ONCE], start):
            if one not in part:
                continue
            used_bytes += _size(part[one])
            if used_bytes > limits.PAGE_MAX_BYTES and found:
                return _got(wanted[:place], found, wanted[place:])
            found[one] = part[one]
    return _got(wanted, found, [])


def _got(looked_for: list[str], found: dict[str, Episode], rest: list[str]) -> m.GetAnswer:
    return m.GetAnswer(
        episodes=list(found.values()), missing=[one for one in looked_for if one not in found], rest=rest
    )


def list_(ctx: Context, who: Principal, request: m.ListEpisodes) -> m.ListAnswer:
    """Return a page of episodes."""
    check_filter(request.filter)
    if request.limit < 1:
        raise UsageError("limit must be at least 1")
    if request.cursor is not None:
        limits.check_count("cursor", request.cursor)
    tenant = _tenant(ctx, who)
    if tenant is None:
        return m.ListAnswer(episodes=[], cursor=None, total=0 if request.count else None)
    limit = min(request.limit, limits.BATCH_MAX_ITEMS)
    with ctx.store.read():
        found = ctx.store.episodes.page(
            tenant, request.filter, cursor=request.cursor, limit=limit, newest_first=request.order == "newest"
        )
        total = ctx.store.episodes.count(tenant[0], request.filter) if request.count else None
        if request.with_vectors:
            found = _attach_vectors(ctx, found)
        kept = _fitting(found)
    more = len(kept) < len(found) or len(found) == limit
    return m.ListAnswer(episodes=kept, cursor=kept[-1].seq if kept and more else None, total=total)


def _attach_vectors(ctx: Context, episodes: list[Episode]) -> list[Episode]:
    from fedctl.operations import embedding  # noqa: PLC0415  see _query

    model = embedding.active_model(ctx)
    vectors = {} if model is None else ctx.store.embeddings.of_episodes(model.key, [one.seq for one in episodes])
    return [
        msgspec.structs.replace(
            one,
            embedding=Embedding(model=vectors[one.seq][0], vectors=vectors[one.seq][1]) if one.seq in vectors else None,
        )
        for one in episodes
    ]


def _size(episode: Episode) -> int:
    return len(_encode(episode))


def _fitting(episodes: Iterable[Episode]) -> list[Episode]:
    """Return the first episodes that fit in a page; the very first always does."""
    kept: list[Episode] = []
    used_bytes = 0
    for episode in episodes:
        used_bytes += _size(episode)
        if used_bytes > limits.PAGE_MAX_BYTES and kept:
            break
        kept.append(episode)
    return kept


# -- deleting ----------------------------------------------------------------------------------------------------


def delete(ctx: Context, who: Principal, request: m.DeleteEpisodes) -> m.DeleteAnswer:
    """Delete by ids, or by a filter that is not empty."""
    by_filter = request.filter is not None and not request.filter.is_empty
    if bool(request.ids) == by_filter:
        raise UsageError("say what to delete: ids, or a filter", hint="an empty filter deletes nothing")
    if len(request.ids) > limits.BATCH_MAX_ITEMS:
        raise UsageError(f"one call deletes at most {limits.BATCH_MAX_ITEMS} ids")
    for episode_id in request.ids:
        limits.check_id("episode", episode_id)
    if request.filter is not None:
        check_filter(request.filter)
    tenant = _tenant(ctx, who)
    if tenant is None:
        return m.DeleteAnswer(deleted=[], missing=list(request.ids), more=False, total=0 if by_filter else None)
    read_or_write: Callable[[], Any] = ctx.store.read if request.dry_run else ctx.store.write
    with read_or_write():
        total = None
        if by_filter:
            assert request.filter is not None
            total = ctx.store.episodes.count(tenant[0], request.filter)
            most = ctx.store.rows_at_once(limits.BATCH_MAX_ITEMS)
            found = ctx.store.episodes.heads(tenant[0], request.filter, most)
        else:
            known = ctx.store.episodes.known_ids(tenant[0], request.ids)
            found = [(place, one) for one in dict.fromkeys(request.ids) if (place := known.get(one)) is not None]
        if not request.dry_run:
            now_ms = ctx.clock.now_ms()
            for episode_seq, episode_id in found:
                seq = ctx.store.changes.add(tenant[0], "episode_deleted", episode_id, now_ms=now_ms)
                ctx.store.episodes.remove(tenant[0], episode_seq)
                ctx.store.episodes.bury(tenant[0], episode_id, seq, now_ms)
    deleted = [episode_id for _, episode_id in found]
    gone = set(deleted)
    return m.DeleteAnswer(
        deleted=deleted,
        missing=[one for one in request.ids if one not in gone],
        more=total is not None and total > len(deleted),
        total=total,
    )


# -- pulling -----------------------------------------------------------------------------------------------------


def pull(ctx: Context, who: Principal, request: m.PullEpisodes) -> m.PullAnswer:
    """Return what happened after a cursor; without one the nearest or the newest episodes, and the cursor of now."""
    if request.limit < 0:
        raise UsageError("limit must not be negative")
    if request.cursor is not None:
        limits.check_count("cursor", request.cursor)
    limit = min(request.limit, limits.BATCH_MAX_ITEMS)
    tenant = _tenant(ctx, who)
    found: list[Episode] = []
    with ctx.store.read():
        epoch = ctx.store.settings.epoch()
        head = ctx.store.changes.last_seq()
        if tenant is None:
            return m.PullAnswer(episodes=[], deleted=[], cursor=head, more=False, epoch=epoch)
        if request.cursor is None and request.query is None:
            # A page may hold fewer than were asked for: that is what fits, newest first.
            found = ctx.store.episodes.page(tenant, EpisodeFilter(), cursor=None, limit=limit, newest_first=True)
        elif request.cursor is not None:
            return _pull_after(ctx, tenant, request.cursor, limit, epoch, head, with_vectors=request.with_vectors)
    if request.query is not None and limit:
        found_hits = query(ctx, who, m.QueryEpisodes(text=request.query, k=limit)).hits
        found = [hit.episode for hit in found_hits if hit.episode is not None]
    if request.with_vectors:
        found = _attach_vectors(ctx, found)
    return m.PullAnswer(episodes=_fitting(found), deleted=[], cursor=head, more=False, epoch=epoch)


def _pull_after(  # noqa: PLR0913
    ctx: Context, tenant: tuple[int, str], cursor: int, limit: int, epoch: str, head: int, *, with_vectors: bool
) -> m.PullAnswer:
    limit = max(limit, 1)
    found = ctx.store.episodes.page(tenant, EpisodeFilter(), cursor=cursor, limit=limit, newest_first=False)
    if with_vectors:
        found = _attach_vectors(ctx, found)
    kept = _fitting(found)
    buried = ctx.store.episodes.buried_after(tenant[0], cursor, limits.BATCH_MAX_ITEMS)
    # The page ends where the first of the two lists was cut: nothing behind it may be skipped.
    ends = []
    if len(kept) < len(found) or len(found) == limit:
        ends.append(kept[-1].seq)
    if len(buried) == limits.BATCH_MAX_ITEMS:
        # What was pruned together has one sequence, and may go on behind the cut.
        ends.append(buried[-1][0] - 1)
    end = min(ends, default=max(head, cursor))
    return m.PullAnswer(
        episodes=[one for one in kept if one.seq <= end],
        deleted=[episode_id for seq, episode_id in buried if seq <= end],
        cursor=end,
        more=bool(ends),
        epoch=epoch,
    )


# -- figures and upkeep ------------------------------------------------------------------------------------------


def stats(ctx: Context, who: Principal, _request: m.MemoryStats) -> m.MemoryStatsAnswer:
    """Count what the tenant has."""
    from fedctl.operations import embedding, index  # noqa: PLC0415  see _query

    tenant = _tenant(ctx, who)
    key = _NOBODY if tenant is None else tenant[0]
    free_bytes, read_only = ctx.store.space()
    with ctx.store.read():
        model = embedding.active_model(ctx)
        return m.MemoryStatsAnswer(
            tenant_id=who.tenant_id,
            episodes=ctx.store.episodes.count(key),
            deleted=ctx.store.episodes.count_tombstones(key),
            tenants=ctx.store.tenants.count() if who.may("operator") else 1,
            pending_embeddings=ctx.store.embeddings.pending(key),
            cut_episodes=ctx.store.embeddings.count_cut(key),
            index=index.figures(ctx, key, model),
            store_bytes=ctx.store.size_bytes() if who.may("operator") else 0,
            disk_free_bytes=free_bytes if who.may("operator") else 0,
            read_only=read_only,
        )


def embed_pending(ctx: Context, who: Principal, request: m.EmbedPending) -> m.EmbedPendingAnswer:
    """Embed what waits, or in a hub wait for it, until nothing is left or the budget is spent."""
    from fedctl.operations import embedding  # noqa: PLC0415  see _query

    budget_s = min(limits.check_count("budget_ms", request.budget_ms) / 1000, ctx.timeout_s)
    tenant = _tenant(ctx, who)
    if tenant is None:
        return m.EmbedPendingAnswer(pending=0, notes=[])
    note = embedding.model_note(ctx, embedding.active_model(ctx))
    if budget_s and note is None:
        pending = _embedded_within(ctx, tenant[0], budget_s, bulk=True)
    else:
        pending = ctx.store.embeddings.pending(tenant[0])
    return m.EmbedPendingAnswer(pending=pending, notes=[note] if note is not None and pending else [])


def embed(ctx: Context, _who: Principal, request: m.EmbedTexts) -> m.EmbedAnswer:
    """Embed texts for somebody who carries no model."""
    from fedctl.operations import embedding  # noqa: PLC0415  see _query

    if len(request.texts) > _EMBED_MAX_TEXTS:
        raise UsageError(f"one call embeds at most {_EMBED_MAX_TEXTS} texts")
    for one in request.texts:
        limits.check_json("a text", one)
    return m.EmbedAnswer(model=ctx.recall.model_tag, vectors=embedding.embed_texts(ctx, request.texts))


def _tenant(ctx: Context, who: Principal) -> tuple[int, str] | None:
    key = ctx.store.tenants.key(who.tenant_id)
    return None if key is None else (key, who.tenant_id)
