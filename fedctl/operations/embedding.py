"""Vectors: embedding what waits for it, keeping the index files in step with the rows, and searching both.

SQLite is the truth and an index file is a cache: whatever is missing, short, damaged, foreign or stale is dropped
and built anew from rows; until then the rows are searched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import Denied, DiskFull, Failure, Unavailable, from_os
from fedctl.recall import index
from fedctl.recall.text import embedding_text
from fedctl.store.embedding import BlockRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.operations.context import Context
    from fedctl.recall.index import Files, Part, Search
    from fedctl.store.embedding import Model, Queued, SnapshotRow

EMBED_SLICE = 32
"""Pieces of text embedded between two looks at the clock."""
OVERLAP_TOKENS = 64
"""A quarter of the model's window, shared by neighbouring pieces of a long text. Windows of 128 with 32 found less
(nDCG@10 .361 against .369 on abstracts) for the same work."""
PIECES_MAX = 64
"""Some 12,000 tokens of an episode are searched by meaning; all of it is searched by words."""
TAIL_ROWS = 1000
"""So many vectors beside the snapshot are searched in a millisecond; more are appended to it."""
APPEND_ROWS = 20_000
"""Vectors in one block of a snapshot: 15 MB at 384 dimensions."""
DEAD_SHARE = 0.2
"""A snapshot that is this much dead is written anew."""
MODEL_SETTING = "model"


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


def embed_pending(ctx: Context, *, budget_s: float | None, tenant_key: int | None = None) -> int:
    """Embed waiting episodes, newest first, until none is left or the budget is spent; return how many remain.

    Inference happens outside the transaction; the vectors of a slice are then written together.
    """
    deadline = None if budget_s is None else ctx.clock.monotonic_s() + budget_s
    while True:
        if model_note(ctx, active_model(ctx)) is not None:  # looked at each time: another process may switch
            return ctx.store.embeddings.pending(tenant_key)
        waiting = ctx.store.embeddings.queued(tenant_key, EMBED_SLICE)
        if not waiting:
            return 0
        _embed(ctx, waiting)
        if deadline is not None and ctx.clock.monotonic_s() >= deadline:
            return ctx.store.embeddings.pending(tenant_key)


def _embed(ctx: Context, waiting: list[Queued]) -> None:
    """Embed the first of the waiting episodes, as many as make `EMBED_SLICE` pieces, one at least."""
    pieces: list[str] = []
    owners: list[Queued] = []
    for one in waiting:
        if len(pieces) >= EMBED_SLICE:
            break
        mine = _pieces(ctx, one)
        pieces += mine
        owners += [one] * len(mine)
    chunks: dict[int, list[bytes]] = {}
    for one, blob in zip(owners, index.to_blobs(ctx.recall.embedder.embed(pieces)), strict=True):
        chunks.setdefault(one.seq, []).append(blob)
    tenants = {one.seq: one.tenant_key for one in owners}
    with ctx.store.write():
        model = adopt_model(ctx)
        if model is None:  # another process has switched the store to its model meanwhile
            return
        for seq in ctx.store.embeddings.still_queued(list(chunks)):
            ctx.store.embeddings.add(tenants[seq], model.key, [(seq, chunks[seq])])


def _pieces(ctx: Context, one: Queued) -> list[str]:
    """Return what is embedded of an episode: one text, or overlapping pieces of a long one."""
    decode = msgspec.json.decode
    head, body = embedding_text(one.agent_id, one.task, decode(one.input), decode(one.output), one.critique)
    return ctx.recall.embedder.split(head, body, overlap=OVERLAP_TOKENS, most=PIECES_MAX)


# -- the index files ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _maintenance(ctx: Context) -> Iterator[bool]:
    """Hold the maintenance lock; False when another process holds it, which then does the work."""
    try:
        descriptor = os.open(ctx.home / "maintenance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os(error, "the index files cannot be maintained") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def maintain(ctx: Context) -> bool:
    """Bring every tenant's index file up to its rows and merge words; return whether anything was done.

    Slices of work under the maintenance lock; each write transaction is short.
    """
    model = active_model(ctx)
    busy = False
    with _maintenance(ctx) as mine:
        if not mine:
            return False
        for tenant_key, _ in ctx.store.tenants.all():
            if model is not None:
                busy = _compact_if_possible(ctx, tenant_key, model) or busy
            with ctx.store.write():
                busy = ctx.store.episodes.merge_words(tenant_key) or busy
    return busy


def compact(ctx: Context, tenant_key: int, *, rewrite: bool = False) -> bool:
    """Bring one tenant's index file up to its rows; with `rewrite` make it anew whatever it looks like.

    Without `rewrite` a file that cannot be written is no error: the rows are searched.
    """
    model = active_model(ctx)
    if model is None or not ctx.recall.has_index:
        return False
    with _maintenance(ctx) as mine:
        if rewrite:
            return mine and _compact(ctx, tenant_key, model, rewrite=True)
        return mine and _compact_if_possible(ctx, tenant_key, model)


def _compact_if_possible(ctx: Context, tenant_key: int, model: Model) -> bool:
    try:
        return _compact(ctx, tenant_key, model, rewrite=False)
    except (DiskFull, Denied, Failure) as error:
        ctx.log(f"index of tenant {tenant_key}: not brought up to date, searched by rows: {error.message}")
        return False


def _compact(ctx: Context, tenant_key: int, model: Model, *, rewrite: bool) -> bool:
    store = ctx.store.embeddings
    snapshot = store.snapshot(tenant_key, model.key)
    if snapshot is not None:
        dead = snapshot.vectors - (store.count(tenant_key, model.key) - _tail_count(ctx, tenant_key, model, snapshot))
        rewrite = rewrite or dead > DEAD_SHARE * snapshot.vectors
        rewrite = rewrite or not _trusted(ctx, tenant_key, model, snapshot)
    through = 0 if snapshot is None or rewrite else snapshot.through_key
    if not rewrite and store.count_after(tenant_key, model.key, through, TAIL_ROWS + 1) <= TAIL_ROWS:
        return False
    _append(ctx, tenant_key, model, None if rewrite else snapshot)
    if rewrite and snapshot is not None:
        ctx.recall.index.remove(ctx.recall.index.files(tenant_key, model.key, snapshot.generation))
    return True


def _tail_count(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow) -> int:
    return ctx.store.embeddings.count_after(tenant_key, model.key, snapshot.through_key, 1 << 60)


def _append(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow | None) -> None:
    """Append all rows beyond the snapshot to it, block by block; without one begin a new generation.

    A new generation is published with its last block, so that nobody meets half of one.
    """
    generation = ctx.clock.new_id() if snapshot is None else snapshot.generation
    vectors = 0 if snapshot is None else snapshot.vectors
    through = 0 if snapshot is None else snapshot.through_key
    files = ctx.recall.index.files(tenant_key, model.key, generation)
    unpublished: list[tuple[index.Block, str]] = []
    full = True
    while full and (rows := ctx.store.embeddings.after(tenant_key, model.key, through, APPEND_ROWS)):
        try:
            unpublished.append(ctx.recall.index.append(files, vectors, rows, model.dim))
        except OSError as error:
            if snapshot is None:  # a full disk needs the room
                ctx.recall.index.remove(files)
            raise from_os(error, f"the index file {files.vectors} cannot be written") from error
        vectors += len(rows)
        through = rows[-1][0]
        # What comes in meanwhile is the next run's: blocks of a few rows each would never end.
        full = len(rows) == APPEND_ROWS
        if snapshot is not None:
            if not _publish(ctx, tenant_key, model, generation, through, unpublished, grown_from=snapshot):
                ctx.recall.index.remove(files)
                return
            unpublished.clear()
            snapshot = ctx.store.embeddings.snapshot(tenant_key, model.key)
    if unpublished:
        _publish(ctx, tenant_key, model, generation, through, unpublished, grown_from=None)
    elif not vectors and (old := ctx.store.embeddings.snapshot(tenant_key, model.key)):
        with ctx.store.write():
            ctx.store.embeddings.drop_snapshot(tenant_key, model.key, old.generation)


def _publish(  # noqa: PLR0913  what a snapshot is made of
    ctx: Context, tenant_key: int, model: Model, generation: str, through: int,
    blocks: list[tuple[index.Block, str]], *, grown_from: SnapshotRow | None,
) -> bool:  # fmt: skip
    """Make a new generation known, or one more block of a present one; False when that one was given up meanwhile."""
    last, stamp = blocks[-1]
    with ctx.store.write():
        if grown_from is not None:
            now = ctx.store.embeddings.snapshot(tenant_key, model.key)
            if now is None or (now.generation, now.vectors) != (grown_from.generation, grown_from.vectors):
                return False
        for number, (block, _) in enumerate(blocks):
            ctx.store.embeddings.put_snapshot(
                tenant_key,
                model.key,
                generation=generation,
                vectors=last.first + last.rows,
                through_key=through,
                stamp=stamp,
                now_ms=ctx.clock.now_ms(),
                block=BlockRow(block.first, block.rows, block.digest),
                fresh=grown_from is None and number == 0,
            )
    return True


def _trusted(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow) -> bool:
    """Return whether a snapshot's files are what was published; digests are read only when the files look changed."""
    files = ctx.recall.index.files(tenant_key, model.key, snapshot.generation)
    now = index.stamp(files)
    return now is not None and (now == snapshot.stamp or _verified(ctx, tenant_key, model, snapshot, files, now))


def _verified(  # noqa: PLR0913
    ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow, files: Files, now: str
) -> bool:
    blocks = [index.Block(*block) for block in ctx.store.embeddings.blocks(tenant_key, model.key)]
    if sum(block.rows for block in blocks) != snapshot.vectors:
        return False
    if not ctx.recall.index.verify(files, blocks, model.dim):
        return False
    if index.stamp(files) == now:  # nobody appended while it was read: the new look can be recorded, if anything can
        with contextlib.suppress(DiskFull, Denied, Unavailable), ctx.store.write():
            ctx.store.embeddings.restamp(tenant_key, model.key, snapshot, now)
    return True


def verify_all(ctx: Context, tenant_key: int, *, always: bool) -> str | None:
    """Return what is wrong with a tenant's index file, or None; with `always` digests are read in any case."""
    model = active_model(ctx)
    snapshot = None if model is None else ctx.store.embeddings.snapshot(tenant_key, model.key)
    if model is None or snapshot is None:
        return None
    files = ctx.recall.index.files(tenant_key, model.key, snapshot.generation)
    now = index.stamp(files)
    if now is None:
        return "an index file is missing or no regular file"
    if (always or now != snapshot.stamp) and not _verified(ctx, tenant_key, model, snapshot, files, now):
        return "an index file is damaged"
    return None


def sweep_files(ctx: Context) -> int:
    """Delete index files that no snapshot names (left by a crash); return how many went."""
    with _maintenance(ctx) as mine:
        if not mine:
            return 0
        live = [ctx.recall.index.files(*row) for row in ctx.store.embeddings.snapshots()]
        return ctx.recall.index.sweep(live)


# -- searching ---------------------------------------------------------------------------------------------------


def search(ctx: Context, tenant_key: int, model: Model, text: str) -> Search:
    """Return the cosines of a question to all of a tenant's vectors: the snapshot and the rows beyond it."""
    question = ctx.recall.embedder.embed([text])[0]
    return index.Search(parts(ctx, tenant_key, model), question)


def parts(ctx: Context, tenant_key: int, model: Model) -> list[Part]:
    """Return all of a tenant's vectors, from the snapshot where it can be trusted and from rows where not."""
    with ctx.store.read():
        snapshot = ctx.store.embeddings.snapshot(tenant_key, model.key)
        if snapshot is None:  # nor is a file that was forgotten to be kept open
            ctx.recall.open_parts.pop((tenant_key, model.key), None)
        part = None if snapshot is None else _open(ctx, tenant_key, model, snapshot)
        through = 0 if part is None or snapshot is None else snapshot.through_key
        found = [] if part is None else [part]
        while rows := ctx.store.embeddings.after(tenant_key, model.key, through, APPEND_ROWS):
            found.append(index.tail(rows, model.dim))
            through = rows[-1][0]
            if len(rows) < APPEND_ROWS:
                break
    if snapshot is not None and part is None:
        _give_up(ctx, tenant_key, model, snapshot)
    return found


def _give_up(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow) -> None:
    """Forget a snapshot that cannot be used, unless it was replaced while this search ran: then nothing is amiss."""
    dropped = False
    with contextlib.suppress(DiskFull, Denied, Unavailable), ctx.store.write():
        dropped = ctx.store.embeddings.drop_snapshot(tenant_key, model.key, snapshot.generation)
    if dropped:
        ctx.log(f"index of tenant {tenant_key}: missing or damaged, searched by rows and built anew")
        ctx.recall.index.remove(ctx.recall.index.files(tenant_key, model.key, snapshot.generation))


def _open(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow) -> Part | None:
    files = ctx.recall.index.files(tenant_key, model.key, snapshot.generation)
    now = index.stamp(files)
    if now is None:
        return None
    place, mark = (tenant_key, model.key), f"{snapshot.generation}:{snapshot.vectors}:{now}"
    cached = ctx.recall.open_parts.get(place)
    if cached is not None and cached[0] == mark:
        return cached[1]
    if now != snapshot.stamp and not _intact(ctx, tenant_key, model, snapshot, files):
        return None
    part = ctx.recall.index.open(files, snapshot.vectors, model.dim)
    if part is not None:
        ctx.recall.open_parts[place] = (mark, part)
    return part


def _intact(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow, files: Files) -> bool:
    # Inside a read snapshot nothing can be written: the new look of a good file is recorded by the next upkeep.
    blocks = [index.Block(*block) for block in ctx.store.embeddings.blocks(tenant_key, model.key)]
    return sum(block.rows for block in blocks) == snapshot.vectors and ctx.recall.index.verify(files, blocks, model.dim)


def embed_texts(ctx: Context, texts: list[str]) -> list[bytes]:
    """Return one float16 blob a text."""
    return index.to_blobs(ctx.recall.embedder.embed(texts))
