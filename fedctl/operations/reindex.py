"""Making anew what is derived: vectors of another model, index files, words. Step by step, to be watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedctl.messages import memory as m
from fedctl.model import limits
from fedctl.model.episode import EpisodeFilter
from fedctl.operations import embedding, index
from fedctl.recall import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

_NOBODY = -1
"""The key of a tenant that has nothing yet."""
_BUDGET_MAX_MS = 86_400_000


def reindex(ctx: Context, who: Principal, request: m.Reindex) -> m.ReindexAnswer:
    """Do one step of re-embedding; the step that leaves nothing behind rewrites the index file."""
    if request.begin:
        tenant_key = ctx.store.tenants.key(who.tenant_id)
        present = embedding.active_model(ctx)
        unsound = {} if present is None else {
            key: embedding.unsound(ctx, key, present) for key, _ in ctx.store.tenants.all()
        }  # fmt: skip
        with ctx.store.write():
            before = embedding.active_model(ctx)
            model = embedding.adopt_model(ctx, switch=True)
            assert model is not None
            # Another model is another space for every tenant of the store, so all of them are queued.
            switched = before is not None and before.id != model.id
            scope = None if switched else _NOBODY if tenant_key is None else tenant_key
            for key, _ in ctx.store.tenants.all():
                ctx.store.checks.drop_vectors(model.key, unsound.get(key, ()))
                ctx.store.embeddings.enqueue(key, unsound.get(key, ()))
            ctx.store.embeddings.enqueue_missing(scope, model.key)
        return m.ReindexAnswer(embedded=0, remaining=ctx.store.embeddings.pending(scope), model=model.id)
    # The steps are for all tenants: whoever may take them looks after the whole store.
    waiting = ctx.store.embeddings.pending(None)
    # In a hub others want the cores as well.
    bulk = ctx.hub is None
    remaining = embedding.embed_pending(ctx, budget_s=min(request.budget_ms, _BUDGET_MAX_MS) / 1000, bulk=bulk)
    if not remaining:
        _finish(ctx)
    return m.ReindexAnswer(embedded=max(waiting - remaining, 0), remaining=remaining, model=ctx.recall.model_tag)


def _finish(ctx: Context) -> None:
    model = embedding.active_model(ctx)
    for key, _ in ctx.store.tenants.all():
        if ctx.store.episodes.counted_usage(key) != ctx.store.tenants.usage(key):
            with ctx.store.write():
                ctx.store.episodes.recount(key)
        if model is not None:
            with ctx.store.write():
                ctx.store.embeddings.drop_other_models(key, model.key)
                ctx.store.indexes.drop_other_models(key, model.key)
        _mend_words(ctx, key)
        _mend_metadata(ctx, key)
        index.compact(ctx, key, rewrite=True)
    index.sweep_files(ctx)


def _mend_words(ctx: Context, tenant_key: int) -> None:
    """Build a tenant's words anew where they do not agree with its episodes."""
    with ctx.store.read():
        if ctx.store.episodes.words_are_whole(tenant_key):
            return
    with ctx.store.write():
        ctx.store.episodes.rebuild_words(tenant_key, _word_rows(ctx, tenant_key))


def _mend_metadata(ctx: Context, tenant_key: int) -> None:
    """Have the index of a tenant's metadata agree with its episodes."""
    with ctx.store.read():
        missing = ctx.store.checks.missing_leaves(tenant_key)
        if not missing and not ctx.store.checks.stray_leaves(tenant_key):
            return
    with ctx.store.write():
        ctx.store.checks.mend_leaves(tenant_key, missing)


def _word_rows(ctx: Context, tenant_key: int) -> Iterator[dict[str, Any]]:
    cursor = None
    while page := ctx.store.episodes.page(
        (tenant_key, ""), EpisodeFilter(), cursor=cursor, limit=limits.BATCH_MAX_ITEMS, newest_first=False
    ):
        cursor = page[-1].seq
        for episode in page:
            yield {
                "seq": episode.seq,
                "task_words": text.word_text(episode.task),
                "input_words": text.word_text(episode.input),
                "output_words": text.word_text(episode.output),
                "critique_words": text.word_text(episode.critique),
            }
