"""The index files: kept in step with the rows of vectors, and searched with them.

SQLite is the truth and an index file is a cache: whatever is missing, short, damaged, foreign or stale is dropped
and built anew from rows; until then the rows are searched.

A flat file is everybody's; a graph (recall/graph) is a hub's, for tenants that are big enough to need one. The
hub's background thread has it built, checks and opens it; a search uses it while it looks as it did then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fedctl.errors import Denied, DiskFull, Failure, FedctlError, Unavailable, from_os
from fedctl.messages.memory import IndexStats
from fedctl.model.time import to_rfc3339
from fedctl.operations.embedding import active_model
from fedctl.recall import graph, index
from fedctl.store.index import BlockRow, GraphRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fedctl.operations.context import Context
    from fedctl.recall.index import Files, Part, Search
    from fedctl.store.embedding import Model
    from fedctl.store.index import SnapshotRow

TAIL_ROWS = 250
"""So many vectors beside the snapshot are read row by row in half a millisecond; more are appended to it."""
APPEND_ROWS = 20_000
"""Vectors in one block of a snapshot: 15 MB at 384 dimensions."""
DEAD_SHARE = 0.2
"""A file that is this much dead is written anew."""
GRAPH_ROWS = 40_000
"""From so many vectors on a tenant has a graph: between 20,000, where a whole hybrid query gains 12 %, and 50,000,
where it gains 23 % (30 % at 100,000), by `scripts/bench_memory.py --only graph`."""
_KEY_BYTES = 8
_GRAPH_BYTES = 200
"""What a vector takes beside its numbers: its key in a flat file, and in a graph its links."""
GRAPH_BEHIND_ROWS = 10_000
GRAPH_BEHIND_SHARE = 0.1
"""A graph is added to when it lacks more than both: what it lacks is searched exactly, 4 ms in 100,000."""


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


def erase(ctx: Context, tenant_key: int) -> bool:
    """Take away all of a tenant's index files; False when somebody is writing at them, and it is to be done later."""
    for opened in (ctx.recall.open_parts, ctx.recall.open_graphs):
        for place in [one for one in opened if one[0] == tenant_key]:
            opened.pop(place, None)
    with _maintenance(ctx) as mine:
        if not mine:
            return False
        with ctx.store.write():
            ctx.store.erasures.remove_index(tenant_key)
        if ctx.recall.has_index:
            ctx.recall.index.remove_all(tenant_key)
        return True


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


def catch_up(ctx: Context, tenant_key: int) -> None:
    """Bring one tenant's index file up to its rows where so many lie beside it that searching them takes longer."""
    model = active_model(ctx)
    if model is None or not ctx.recall.has_index:
        return
    snapshot = ctx.store.indexes.snapshot(tenant_key, model.key)
    through = 0 if snapshot is None else snapshot.through_key
    if ctx.store.embeddings.count_after(tenant_key, model.key, through, TAIL_ROWS + 1) > TAIL_ROWS:
        with contextlib.suppress(DiskFull, Denied, Unavailable):  # the rows can be searched as they are
            compact(ctx, tenant_key)


def _compact_if_possible(ctx: Context, tenant_key: int, model: Model) -> bool:
    try:
        return _compact(ctx, tenant_key, model, rewrite=False)
    except (DiskFull, Denied, Failure) as error:
        ctx.log(f"index of tenant {tenant_key}: not brought up to date, searched by rows: {error.message}")
        return False


def _compact(ctx: Context, tenant_key: int, model: Model, *, rewrite: bool) -> bool:
    store = ctx.store.embeddings
    snapshot = ctx.store.indexes.snapshot(tenant_key, model.key)
    if snapshot is not None:
        dead = snapshot.vectors - (store.count(tenant_key, model.key) - _tail_count(ctx, tenant_key, model, snapshot))
        rewrite = rewrite or dead > DEAD_SHARE * snapshot.vectors
        if not rewrite and not _trusted(ctx, tenant_key, model, snapshot):
            _give_up(ctx, tenant_key, model, snapshot)
            rewrite = True
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
            ctx.store.check_room_for(len(rows) * (model.dim * 2 + _KEY_BYTES))
            unpublished.append(ctx.recall.index.append(files, vectors, rows, model.dim))
        except (OSError, DiskFull) as error:
            if snapshot is None:  # a full disk needs the room
                ctx.recall.index.remove(files)
            if isinstance(error, OSError):
                raise from_os(error, f"the index file {files.vectors} cannot be written") from error
            raise
        vectors += len(rows)
        through = rows[-1][0]
        # What comes in meanwhile is the next run's: blocks of a few rows each would never end.
        full = len(rows) == APPEND_ROWS
        if snapshot is not None:
            if not _publish(ctx, tenant_key, model, generation, through, unpublished, grown_from=snapshot):
                ctx.recall.index.remove(files)
                return
            unpublished.clear()
            snapshot = ctx.store.indexes.snapshot(tenant_key, model.key)
    if unpublished:
        _publish(ctx, tenant_key, model, generation, through, unpublished, grown_from=None)
    elif not vectors and (old := ctx.store.indexes.snapshot(tenant_key, model.key)):
        with ctx.store.write():
            ctx.store.indexes.drop_snapshot(tenant_key, model.key, old.generation)


def _publish(  # noqa: PLR0913  what a snapshot is made of
    ctx: Context, tenant_key: int, model: Model, generation: str, through: int,
    blocks: list[tuple[index.Block, str]], *, grown_from: SnapshotRow | None,
) -> bool:  # fmt: skip
    """Make a new generation known, or one more block of a present one; False when that one was given up meanwhile."""
    last, stamp = blocks[-1]
    with ctx.store.write():
        if grown_from is not None:
            now = ctx.store.indexes.snapshot(tenant_key, model.key)
            if now is None or (now.generation, now.vectors) != (grown_from.generation, grown_from.vectors):
                return False
        for number, (block, _) in enumerate(blocks):
            ctx.store.indexes.put_snapshot(
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
    blocks = [index.Block(*block) for block in ctx.store.indexes.blocks(tenant_key, model.key)]
    if sum(block.rows for block in blocks) != snapshot.vectors:
        return False
    if not ctx.recall.index.verify(files, blocks, model.dim):
        return False
    if index.stamp(files) == now:  # nobody appended while it was read: the new look can be recorded, if anything can
        with contextlib.suppress(DiskFull, Denied, Unavailable), ctx.store.write():
            ctx.store.indexes.restamp(tenant_key, model.key, snapshot, now)
    return True


def verify_all(ctx: Context, tenant_key: int, *, always: bool) -> str | None:
    """Return what is wrong with a tenant's index file, or None; with `always` digests are read in any case."""
    model = active_model(ctx)
    snapshot = None if model is None else ctx.store.indexes.snapshot(tenant_key, model.key)
    if model is None or snapshot is None:
        return None
    files = ctx.recall.index.files(tenant_key, model.key, snapshot.generation)
    now = index.stamp(files)
    if now is None:
        return "an index file is missing or no regular file"
    if (always or now != snapshot.stamp) and not _verified(ctx, tenant_key, model, snapshot, files, now):
        return "an index file is damaged"
    row = ctx.store.indexes.graph(tenant_key, model.key)
    if row is None:
        return None
    path = ctx.recall.index.graph_path(tenant_key, model.key, row.generation)
    if index.stamp((path,)) is None:
        return "a graph is missing or no regular file"
    return "a graph is damaged" if always and not graph.is_intact(path, row.digest) else None


def sweep_files(ctx: Context) -> int:
    """Delete index files that no snapshot names (left by a crash); return how many went."""
    with _maintenance(ctx) as mine:
        if not mine:
            return 0
        folder = ctx.recall.index
        flat = [folder.files(*row) for row in ctx.store.indexes.snapshots()]
        return folder.sweep([*flat, *((folder.graph_path(*row),) for row in ctx.store.indexes.graphs())])


# -- graphs ------------------------------------------------------------------------------------------------------


class GraphJob(NamedTuple):
    """A graph that is wanted: whose, under which name, and what is to be done for it."""

    tenant_key: int
    model: Model
    generation: str
    plan: graph.Plan
    through_key: int
    flat_generation: str
    """The flat file that it is built from: with another one, which may lack what was erased, it is not wanted."""


def wanted_graph(ctx: Context, passed_over: Collection[int] = ()) -> GraphJob | None:
    """Return the next graph to build: one that is missing, or too far behind its flat file, or too dead.

    Tenants that are `passed_over` (by key) have to wait: theirs has just failed.
    """
    model = active_model(ctx)
    for tenant_key, _ in ctx.store.tenants.all() if model is not None else ():
        assert model is not None
        if tenant_key in passed_over:
            continue
        snapshot = ctx.store.indexes.snapshot(tenant_key, model.key)
        # One whose flat file was lost is as big as before, and has it again in a moment.
        count = ctx.store.embeddings.count(tenant_key, model.key) if snapshot is None else snapshot.vectors
        if count < GRAPH_ROWS:
            _drop_graph(ctx, tenant_key, model)
        elif snapshot is not None and (part := _open(ctx, tenant_key, model, snapshot)) is not None:
            job = _graph_job(ctx, tenant_key, model, snapshot, part)
            if job is not None:
                return job
    return None


def _graph_job(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow, part: Part) -> GraphJob | None:
    folder = ctx.recall.index
    row = ctx.store.indexes.graph(tenant_key, model.key)
    opened = ctx.recall.open_graphs.get((tenant_key, model.key))
    if row is not None and opened is not None and opened[0] != _graph_mark(ctx, tenant_key, model, row, snapshot):
        opened = None  # it was looked at with another flat file, or is another one
    covered = 0 if row is None or opened is None else opened[1].covered
    if row is not None and (opened is None or row.vectors - opened[1].live > DEAD_SHARE * row.vectors):
        row, covered = None, 0
    if snapshot.vectors - covered <= max(GRAPH_BEHIND_ROWS, GRAPH_BEHIND_SHARE * covered):
        return None
    files = folder.files(tenant_key, model.key, snapshot.generation)
    ctx.store.check_room_for(snapshot.vectors * (model.dim * 2 + _GRAPH_BYTES))
    generation = ctx.clock.new_id()
    plan = graph.Plan(
        base=None if row is None else str(folder.graph_path(tenant_key, model.key, row.generation)),
        vectors=str(files.vectors),
        dim=model.dim,
        rows=snapshot.vectors,
        target=str(folder.graph_path(tenant_key, model.key, generation).with_suffix(".tmp")),
    )
    return GraphJob(tenant_key, model, generation, plan, int(part.keys[snapshot.vectors - 1]), snapshot.generation)


def publish_graph(ctx: Context, job: GraphJob, built: graph.Built) -> bool:
    """Put a built graph into the place of the present one, durably, opened before anybody hears of it.

    Returns:
        False: nobody wants it any more, and it is gone. The store was switched to another model meanwhile, or the
        flat file was written anew, as it is when something is erased: what was erased would be back with the graph.
    """
    folder, place = ctx.recall.index, (job.tenant_key, job.model.key)
    path = folder.graph_path(*place, job.generation)
    row = GraphRow(job.generation, built.vectors, job.through_key, built.digest, ctx.clock.now_ms())
    if not _is_wanted(ctx, job):
        folder.remove((Path(job.plan.target),))
        return False
    try:
        folder.put_graph(Path(job.plan.target), path)
    except OSError as error:
        folder.remove((Path(job.plan.target),))
        raise from_os(error, f"the graph {path} cannot be written") from error
    try:
        opened = _opened(ctx, job.tenant_key, job.model, row)
        if opened is None:
            raise Failure(f"the graph {path} is not what was built")
        with ctx.store.write():
            wanted = _is_wanted(ctx, job)
            old = ctx.store.indexes.graph(*place)
            if wanted:
                ctx.store.indexes.put_graph(*place, row)
    except FedctlError:
        folder.remove((path,))
        raise
    if not wanted:
        folder.remove((path,))
        return False
    ctx.recall.open_graphs[place] = opened
    if old is not None:
        folder.remove((folder.graph_path(*place, old.generation),))
    return True


def _is_wanted(ctx: Context, job: GraphJob) -> bool:
    snapshot = ctx.store.indexes.snapshot(job.tenant_key, job.model.key)
    return active_model(ctx) == job.model and snapshot is not None and snapshot.generation == job.flat_generation


def build_graphs(ctx: Context) -> int:
    """Check the graphs that there are and build those that are wanted, waiting for each; return how many were built."""
    check_graphs(ctx)
    count = 0
    while (job := wanted_graph(ctx)) is not None:
        built = graph.Build(job.plan).wait(None)
        assert built is not None
        count += publish_graph(ctx, job, built)
    return count


def check_graphs(ctx: Context) -> None:
    """Open the graphs that are what was published; forget the others. Reads the whole of files that look new."""
    model = active_model(ctx)
    for place in [one for one in ctx.recall.open_graphs if model is None or one[1] != model.key]:
        del ctx.recall.open_graphs[place]
    for tenant_key, _ in ctx.store.tenants.all() if model is not None else ():
        assert model is not None
        row = ctx.store.indexes.graph(tenant_key, model.key)
        if row is not None:
            _check_graph(ctx, tenant_key, model, row)


def _check_graph(ctx: Context, tenant_key: int, model: Model, row: GraphRow) -> None:
    snapshot = ctx.store.indexes.snapshot(tenant_key, model.key)
    if snapshot is None:  # without a flat file it is of no use; that is made anew before long
        ctx.recall.open_graphs.pop((tenant_key, model.key), None)
        return
    opened = ctx.recall.open_graphs.get((tenant_key, model.key))
    if opened is not None and opened[0] == _graph_mark(ctx, tenant_key, model, row, snapshot):
        return
    with contextlib.suppress(Failure):
        opened = _opened(ctx, tenant_key, model, row)
        if opened is not None:
            ctx.recall.open_graphs[tenant_key, model.key] = opened
            return
    if _open(ctx, tenant_key, model, snapshot) is None:  # the flat file is the one that is damaged
        ctx.recall.open_graphs.pop((tenant_key, model.key), None)
    elif _drop_graph(ctx, tenant_key, model):
        ctx.log(f"graph of tenant {tenant_key}: missing or damaged, searched without and built anew")


def _drop_graph(ctx: Context, tenant_key: int, model: Model) -> bool:
    row = ctx.store.indexes.graph(tenant_key, model.key)
    ctx.recall.open_graphs.pop((tenant_key, model.key), None)
    if row is None:
        return False
    with ctx.store.write():
        dropped = ctx.store.indexes.drop_graph(tenant_key, model.key, row.generation)
    ctx.recall.index.remove((ctx.recall.index.graph_path(tenant_key, model.key, row.generation),))
    return dropped


def _opened(ctx: Context, tenant_key: int, model: Model, row: GraphRow) -> tuple[str, graph.Graph] | None:
    """Open a graph; None when its file or the flat one is not what was published."""
    snapshot = ctx.store.indexes.snapshot(tenant_key, model.key)
    part = None if snapshot is None else _open(ctx, tenant_key, model, snapshot)
    path = ctx.recall.index.graph_path(tenant_key, model.key, row.generation)
    if snapshot is None or part is None:
        return None
    mark = _graph_mark(ctx, tenant_key, model, row, snapshot)
    if not graph.is_intact(path, row.digest):
        return None
    try:
        covered = int(part.keys.searchsorted(row.through_key, side="right"))
        return mark, graph.Graph(path, part.vectors[:covered])
    except index.FileLostError:
        return None


def _graph_mark(ctx: Context, tenant_key: int, model: Model, row: GraphRow, snapshot: SnapshotRow) -> str:
    """Return what a graph was opened as: it says where its vectors lie in one generation of the flat file."""
    path = ctx.recall.index.graph_path(tenant_key, model.key, row.generation)
    return f"{row.generation}:{snapshot.generation}:{index.stamp((path,))}"


def _open_graph(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow) -> graph.Graph | None:
    """Return the tenant's graph if it was opened and looks as it did then."""
    opened = ctx.recall.open_graphs.get((tenant_key, model.key))
    row = None if opened is None else ctx.store.indexes.graph(tenant_key, model.key)
    if opened is None or row is None:
        return None
    if opened[0] != _graph_mark(ctx, tenant_key, model, row, snapshot):
        ctx.recall.lost()
        return None
    return opened[1]


# -- searching ---------------------------------------------------------------------------------------------------


def search(ctx: Context, tenant_key: int, model: Model, text: str) -> Search:
    """Return a question to all of a tenant's vectors: the snapshot, with its graph, and the rows beyond it."""
    question = ctx.recall.embedder.embed([text])[0]
    found, near = _searchable(ctx, tenant_key, model)
    return index.Search(found, question, near)


def parts(ctx: Context, tenant_key: int, model: Model) -> list[Part]:
    """Return all of a tenant's vectors, from the snapshot where it can be trusted and from rows where not."""
    return _searchable(ctx, tenant_key, model)[0]


def _searchable(ctx: Context, tenant_key: int, model: Model) -> tuple[list[Part], graph.Graph | None]:
    with ctx.store.read():
        snapshot = ctx.store.indexes.snapshot(tenant_key, model.key)
        if snapshot is None:  # nor is a file that was forgotten to be kept open
            ctx.recall.open_parts.pop((tenant_key, model.key), None)
        part = None if snapshot is None else _open(ctx, tenant_key, model, snapshot)
        through = 0 if part is None or snapshot is None else snapshot.through_key
        near = None if part is None or snapshot is None else _open_graph(ctx, tenant_key, model, snapshot)
        found = [] if part is None else [part]
        while rows := ctx.store.embeddings.after(tenant_key, model.key, through, APPEND_ROWS):
            found.append(index.tail(rows, model.dim))
            through = rows[-1][0]
            if len(rows) < APPEND_ROWS:
                break
    if snapshot is not None and part is None:
        _give_up(ctx, tenant_key, model, snapshot)
    return found, near


def forget_open(ctx: Context, tenant_key: int) -> None:
    """Let go of a tenant's open files: one was lost while it was searched."""
    for place in [one for one in ctx.recall.open_parts if one[0] == tenant_key]:
        ctx.recall.open_parts.pop(place, None)


def cosines(ctx: Context, model: Model, search: Search, seqs: list[int]) -> dict[int, float]:
    """Return seq -> cosine of given episodes, from their rows; those without a vector are not in the answer."""
    rows = ctx.store.embeddings.of_episodes(model.key, seqs)
    return search.of({seq: blobs for seq, (_, blobs) in rows.items()})


def in_context(
    ctx: Context, tenant_key: int, model: Model, search: Search, cosines: dict[int, float]
) -> dict[int, float]:
    """Return the cosines again, those of episodes in sessions together with what came before each."""
    before = ctx.store.episodes.before(tenant_key, list(cosines))
    if not before:
        return cosines
    rows = ctx.store.embeddings.of_episodes(model.key, sorted({*before, *before.values()}))
    return cosines | search.in_context({seq: blobs for seq, (_, blobs) in rows.items()}, before, cosines)


def _give_up(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow) -> None:
    """Forget a snapshot that cannot be used, unless it was replaced while this search ran: then nothing is amiss."""
    dropped = False
    with contextlib.suppress(DiskFull, Denied, Unavailable), ctx.store.write():
        dropped = ctx.store.indexes.drop_snapshot(tenant_key, model.key, snapshot.generation)
    if dropped:
        ctx.log(f"index of tenant {tenant_key}: missing or damaged, searched by rows and built anew")
        ctx.recall.lost()
        ctx.recall.index.remove(ctx.recall.index.files(tenant_key, model.key, snapshot.generation))


def _open(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow) -> Part | None:
    files = ctx.recall.index.files(tenant_key, model.key, snapshot.generation)
    now = index.stamp(files)
    if now is None:
        return None
    place, apart = (tenant_key, model.key), ctx.hub is not None
    kind = f"{snapshot.generation}:{apart}:"
    mark = f"{kind}{snapshot.vectors}:{now}"
    cached = ctx.recall.open_parts.get(place)
    if cached is not None and cached[0] == mark:
        return cached[1]
    if now != snapshot.stamp and not _intact(ctx, tenant_key, model, snapshot, files):
        return None
    before = cached[1] if cached is not None and cached[0].startswith(kind) else None
    if before is not None and len(before.vectors) > snapshot.vectors:
        before = None
    part = ctx.recall.index.open(files, snapshot.vectors, model.dim, apart=apart, before=before)
    if part is not None:
        ctx.recall.open_parts[place] = (mark, part)
    return part


def _intact(ctx: Context, tenant_key: int, model: Model, snapshot: SnapshotRow, files: Files) -> bool:
    # Inside a read snapshot nothing can be written: the new look of a good file is recorded by the next upkeep.
    blocks = [index.Block(*block) for block in ctx.store.indexes.blocks(tenant_key, model.key)]
    return sum(block.rows for block in blocks) == snapshot.vectors and ctx.recall.index.verify(files, blocks, model.dim)


def figures(ctx: Context, tenant_key: int, model: Model | None) -> IndexStats:
    """Return what there is of a tenant's index, and how old it is."""
    snapshot = None if model is None else ctx.store.indexes.snapshot(tenant_key, model.key)
    if model is None or snapshot is None:
        tail = 0 if model is None else ctx.store.embeddings.count(tenant_key, model.key)
        return IndexStats(model=None if model is None else model.id, tail=tail)
    graph = ctx.store.indexes.graph(tenant_key, model.key)
    files: tuple[Path, ...] = ctx.recall.index.files(tenant_key, model.key, snapshot.generation)
    if graph is not None:
        files = (*files, ctx.recall.index.graph_path(tenant_key, model.key, graph.generation))
    return IndexStats(
        form="flat" if graph is None else "hnsw",
        model=model.id,
        vectors=snapshot.vectors,
        graph_vectors=0 if graph is None else graph.vectors,
        tail=ctx.store.embeddings.count_after(tenant_key, model.key, snapshot.through_key, 1 << 60),
        size_bytes=ctx.recall.index.size_bytes(files),
        updated_at=to_rfc3339(snapshot.updated_at_ms),
        age_s=max(0, ctx.clock.now_ms() - snapshot.updated_at_ms) / 1000,
    )
