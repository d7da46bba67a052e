"""The model of a store, and embedding what waits for it."""

from __future__ import annotations

import os
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

from fedctl.recall import index
from fedctl.recall.text import embedding_text

if TYPE_CHECKING:
    from fedctl.operations.context import Context
    from fedctl.store.embedding import Model, Queued

EMBED_SLICE = 32
"""Pieces of text embedded between two looks at the clock, where a query waits or a hub has other work."""
BULK_SLICE = 128
"""The same where embedding is all there is to do: batches of more like length cost 4 % less CPU."""
BULK_THREADS_MAX = 4
OVERLAP_TOKENS = 64
"""A quarter of the model's window, shared by neighbouring pieces of a long text. Windows of 128 with 32 found less
(nDCG@10 .361 against .369 on abstracts) for the same work."""
PIECES_MAX = 64
"""Some 12,000 tokens of an episode are searched by meaning, all of it by words; `memory stats` counts longer ones."""
MODEL_SETTING = "model"
_CHECKED_AT_ONCE = 5000


def active_model(ctx: Context) -> Model | None:
    """Return the model whose vectors the store is searched by; None before the first vector."""
    tag = ctx.store.settings.get(MODEL_SETTING)
    return None if tag is None else ctx.store.embeddings.model(tag)


def model_note(ctx: Context, model: Model | None) -> str | None:
    """Return why the model at hand cannot search the store, or None when it can."""
    if model is None or model.id == ctx.recall.model_tag:
        return None
    return (
        f"the memory is embedded with {model.id}, this fedctl uses {ctx.recall.model_tag}: "
        "searched by words only; to re-embed run: fedctl memory reindex"
    )


def adopt_model(ctx: Context, *, switch: bool = False) -> Model | None:
    """Return the store's model; a store without one (or with `switch` any store) takes the model at hand.

    Inside a write transaction. None when the store's model is another one.
    """
    model = active_model(ctx)
    if model is not None and model.id != ctx.recall.model_tag and not switch:
        return None
    if model is None or model.id != ctx.recall.model_tag:
        model = ctx.store.embeddings.add_model(ctx.recall.model_tag, ctx.recall.embedder.dim)
        ctx.store.settings.put(MODEL_SETTING, model.id)
    return model


# -- embedding ---------------------------------------------------------------------------------------------------


def embed_pending(ctx: Context, *, budget_s: float | None, tenant_key: int | None = None, bulk: bool = False) -> int:
    """Embed waiting episodes, newest first, until none is left or the budget is spent; return how many remain.

    Without `tenant_key` those of all tenants, alike of each: a tenant that stores more than can be embedded keeps only
    itself waiting. Inference happens outside the transaction; the vectors of a slice are then written together.
    `bulk` is for who waits for all of it, and has nothing beside it to do: larger slices, on all cores.
    """
    deadline = None if budget_s is None else ctx.clock.monotonic_s() + budget_s
    size, threads = (BULK_SLICE, bulk_threads()) if bulk else (EMBED_SLICE, 1)
    while True:
        if model_note(ctx, active_model(ctx)) is not None:  # looked at each time: another process may switch
            return ctx.store.embeddings.pending(tenant_key)
        waiting = _next(ctx, size) if tenant_key is None else ctx.store.embeddings.queued(tenant_key, size)
        if not waiting:
            return 0
        ctx.store.check_room_for(0)  # before the work, not after it
        _embed(ctx, waiting, size, threads)
        if deadline is not None and ctx.clock.monotonic_s() >= deadline:
            return ctx.store.embeddings.pending(tenant_key)


def _next(ctx: Context, size: int) -> list[Queued]:
    """Return the newest waiting episodes of each tenant, one of each in turn, in an order of chance."""
    import random  # noqa: PLC0415  only here: 1 ms

    tenants = ctx.store.embeddings.waiting_tenants()
    chosen = random.sample(tenants, min(size, len(tenants)))
    lines = [ctx.store.embeddings.queued(key, -(-size // len(chosen))) for key in chosen]
    return [one for round_ in zip_longest(*lines) for one in round_ if one is not None]


def unsound(ctx: Context, tenant_key: int, model: Model) -> list[int]:
    """Return the sequences of the tenant's episodes that have a vector of another length, or that is none of norm 1."""
    found: dict[int, None] = {}
    after = 0
    while rows := ctx.store.embeddings.after(tenant_key, model.key, after, _CHECKED_AT_ONCE):
        sound = index.are_sound([blob for _, _, blob in rows], model.dim)
        found |= {seq: None for (_, seq, _), good in zip(rows, sound, strict=True) if not good}
        after = rows[-1][0]
    return list(found)


def bulk_threads() -> int:
    """Return on how many threads is embedded in bulk: one a core that this process may use, up to a limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, BULK_THREADS_MAX)


def _embed(ctx: Context, waiting: list[Queued], size: int, threads: int) -> None:
    """Embed the first of the waiting episodes, as many as make `size` pieces, one at least."""
    pieces: list[str] = []
    owners: list[Queued] = []
    cut: list[Queued] = []
    for one in waiting:
        if len(pieces) >= size:
            break
        mine = _pieces(ctx, one)
        if len(mine) > PIECES_MAX:
            mine = mine[:PIECES_MAX]
            cut.append(one)
        pieces += mine
        owners += [one] * len(mine)
    chunks: dict[int, list[bytes]] = {}
    vectors = ctx.recall.embedder.embed(pieces, threads=threads)
    for one, blob in zip(owners, index.to_blobs(vectors), strict=True):
        chunks.setdefault(one.seq, []).append(blob)
    tenants = {one.seq: one.tenant_key for one in owners}
    with ctx.store.write():
        model = adopt_model(ctx)
        if model is None:  # another process has switched the store to its model meanwhile
            return
        still = ctx.store.embeddings.still_queued(list(chunks))
        for seq in still:
            ctx.store.embeddings.add(tenants[seq], model.key, [(seq, chunks[seq])])
        ctx.store.embeddings.note_cut(list(still), [(one.seq, one.tenant_key) for one in cut if one.seq in still])


def _pieces(ctx: Context, one: Queued) -> list[str]:
    """Return what is embedded of an episode: one text, or overlapping pieces of a long one.

    One more than is kept shows that it was too long.
    """
    decode = msgspec.json.decode
    head, body = embedding_text(one.agent_id, one.task, decode(one.input), decode(one.output), one.critique)
    return ctx.recall.embedder.split(head, body, overlap=OVERLAP_TOKENS, most=PIECES_MAX + 1)


def embed_texts(ctx: Context, texts: list[str]) -> list[bytes]:
    """Return one float16 blob a text."""
    return index.to_blobs(ctx.recall.embedder.embed(texts))
