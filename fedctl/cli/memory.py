"""`fedctl memory`: store, search, fetch, list, delete, carry, count and re-embed episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from fedctl.cli import options, values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import Limit, MinReward, OfAgent, OfSession, OfTask, Since, Until, Where, argument, flag
from fedctl.cli.render import Shape, counted, with_more
from fedctl.client import paging
from fedctl.clock import Clock
from fedctl.errors import NotFound, UsageError, from_code
from fedctl.messages.memory import (
    DeleteAnswer,
    DeleteEpisodes,
    EraseEpisodesAnswer,
    ListEpisodes,
    MemoryStats,
    MemoryStatsAnswer,
    PinEpisodes,
    QueryAnswer,
    QueryEpisodes,
    ReindexAnswer,
    StoreEpisodes,
)
from fedctl.model.backup import Backup
from fedctl.model.episode import Episode, EpisodeDraft, EpisodeFilter, Hit, Match, Mode
from fedctl.model.limits import BATCH_MAX_ITEMS, check_text

if TYPE_CHECKING:
    from fedctl.cli.transfer import Exported, Imported
    from fedctl.client.caller import Caller


class StoredEpisode(Episode, frozen=True, kw_only=True):
    """An episode as it is kept. With `deleted` its id was deleted before: nothing is stored, and the rest is null."""

    tenant_id: str | None  # type: ignore[assignment]  # wider than what it is in an episode, as all below
    task: str | None  # type: ignore[assignment]
    metadata: dict[str, Any] | None  # type: ignore[assignment]
    pinned: bool | None  # type: ignore[assignment]
    created_at: str | None  # type: ignore[assignment]
    seq: int | None  # type: ignore[assignment]
    deleted: bool | msgspec.UnsetType = msgspec.UNSET


class FoundEpisode(Episode, frozen=True, kw_only=True):
    """An episode that was searched for, best first: `rank` counts from 1. `match` says why, with --explain only."""

    rank: int
    score: float
    match: Match | msgspec.UnsetType | None = msgspec.UNSET


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """How many episodes are gone, and which; `missing` are ids of none.

    With `dry_run` `deleted` counts what would go, `ids` are those, and everything is where it was.
    With --hard `complete` says that no byte of them is in the home any more (if not, `notes` say why), and `backups`
    are those that may still hold them, and those that nobody can look into. `complete` is null without it.
    """

    deleted: int
    ids: list[str]
    missing: list[str]
    dry_run: bool
    complete: bool | None = None
    backups: list[Backup] = []
    notes: list[str] = []


_FIELDS = tuple(name for name in Episode.__struct_fields__ if name != "embedding")
EPISODE = Shape.of(Episode, "id", "created_at", "agent_id", "reward", "task", fields=_FIELDS)
PINNED = EPISODE.with_columns(("id", "pinned", *EPISODE.columns[1:]))
STORED = Shape.of(StoredEpisode, *EPISODE.columns, fields=(*_FIELDS, "deleted"))
HIT = Shape.of(
    FoundEpisode,
    "rank", "score", "id", "agent_id", "reward", "task", "output",
    fields=("rank", "score", *_FIELDS, "match"),
)  # fmt: skip
EXPLAINED = ("match.semantic", "match.alone", "match.keyword", "match.reward", "match.index")
DELETION = Shape.of(Deletion, "deleted", "missing", "dry_run", key="ids")
STATS = Shape.of(MemoryStatsAnswer, key="tenant_id")
REINDEXED = Shape.of(ReindexAnswer, key="model")
IMPORT: Shape[Imported] = Shape.of("fedctl.cli.transfer:Imported", key="imported")
EXPORT: Shape[Exported] = Shape.of("fedctl.cli.transfer:Exported", key="path")

EpisodeId = Annotated[list[str], argument("ID...", "Ids of episodes.", values.episode_id)]

app = noun(
    "memory",
    "Store, search and carry episodes.",
    "An episode is what was to be done, what came of it, what that was worth (a reward of 0 to 1) and what to do "
    "better. It is found by words at once, and by meaning once it is embedded: by a hub in the background, "
    "without one by the next queries, two seconds' worth each. `memory stats` shows what still waits, `memory "
    "query --fresh` waits for it.",
    "A search takes cosine over the model's vectors (.6) and BM25 over words (.4), each normalised, and then a "
    "bounded factor for the reward; --explain shows every part. Scores order one answer and do not compare "
    "between questions. Filters apply before the search. Long episodes are found by their best piece, what goes "
    "on with a subject by what its session said before, and words of every script, those without spaces too.",
    "Whatever ends an import early, kill -9 included, what is stored stays, and the same command again goes on "
    "where it was.",
)


@verb(
    app,
    shape=STORED,
    lines={"--batch": "fedctl.cli.intake:EpisodeOutcome"},
    examples=[
        "fedctl memory store --task 'fix the login test' --output 'mocked the clock' --reward 0.9",
        "git diff | fedctl memory store --task review --input - --meta repo=api --json",
        "fedctl memory store --batch < episodes.jsonl",
    ],
)
def store(
    ctx: Invocation,
    task: Annotated[str | None, flag("--task", metavar="T", says="What was to be done; - or @FILE.")] = None,
    given: Annotated[str | None, flag("--input", metavar="X", says="What it started from; - or @FILE.")] = None,
    output: Annotated[str | None, flag("--output", metavar="Y", says="What came of it; - or @FILE.")] = None,
    reward: Annotated[
        float | None, flag("--reward", metavar="R", parser=values.unit_interval, says="Its worth, 0 to 1.")
    ] = None,
    critique: Annotated[str | None, flag("--critique", metavar="C", says="What to do better; - or @FILE.")] = None,
    success: Annotated[
        Literal["true", "false"] | None,
        flag("--success", metavar="true|false", says="Whether it worked.", default="reward >= 0.7"),
    ] = None,
    session: Annotated[
        str | None, flag("--session", metavar="S", parser=values.name_of("session"), says="The session it is part of.")
    ] = None,
    agent: Annotated[
        str | None, flag("--agent", metavar="A", parser=values.name_of("agent"), says="The agent that did it.")
    ] = None,
    tokens_used: Annotated[
        int | None, flag("--tokens-used", metavar="N", parser=values.count, says="Tokens it took.")
    ] = None,
    latency_ms: Annotated[
        float | None, flag("--latency-ms", metavar="N", parser=values.measure, says="Milliseconds it took.")
    ] = None,
    meta: Annotated[
        list[str] | None,
        flag("--meta", metavar="K=V", says="Metadata: a number, true, false or null, else text. Repeatable."),
    ] = None,
    id_: Annotated[
        str | None, flag("--id", metavar="ID", parser=values.episode_id, says="Its id.", default="a new UUIDv7")
    ] = None,
    batch: Annotated[
        bool,
        flag(
            "--batch",
            says="Read episodes from stdin, one JSON object a line; answer a line for each. Blank lines are skipped.",
        ),
    ] = False,
) -> int | None:
    """Store an episode: what was tried, and what came of it.

    With --batch the lines of stdin are stored in requests of up to 1,000, and each is answered in its place.
    """
    flags = (task, given, output, reward, critique, success, session, agent, tokens_used, latency_ms, meta, id_)
    if batch:
        if any(one is not None for one in flags):
            raise UsageError("--batch takes its episodes from stdin, and no flags of one")
        return _store_batch(ctx)
    if task is None:
        raise UsageError("--task is missing", hint="an episode has a task; --batch reads episodes from stdin")
    draft = EpisodeDraft(
        id=id_ or Clock().new_id(),
        task=check_text("--task", values.read_value("--task", task, ctx.stdin).removesuffix("\n"), empty_ok=False),
        input=None if given is None else values.read_value("--input", given, ctx.stdin),
        output=None if output is None else values.read_value("--output", output, ctx.stdin),
        critique=None if critique is None else values.read_value("--critique", critique, ctx.stdin),
        reward=reward,
        success=None if success is None else success == "true",
        session_id=session,
        agent_id=agent,
        tokens_used=tokens_used,
        latency_ms=latency_ms,
        metadata=options.named("--meta", values.pairs)(meta) if meta else None,
    )
    with ctx.caller(writes=True) as caller:
        (result,) = caller.call(StoreEpisodes(episodes=[draft], echo=True)).results
    if result.error is not None:
        error = result.error
        raise from_code(error["code"], error["message"], hint=error.get("hint"), details=error.get("details"))
    if result.episode is None:
        ctx.screen.note(f"{result.id} was deleted before: it is not stored again")
        nothing: dict[str, Any] = dict.fromkeys(_FIELDS)
        ctx.screen.done(StoredEpisode(**nothing | {"id": result.id, "seq": result.seq}, deleted=True), STORED)
    else:
        ctx.screen.done(with_more(result.episode, StoredEpisode), STORED)
    return None


def _store_batch(ctx: Invocation) -> int:
    from fedctl.cli import intake
    from fedctl.cli.progress import Progress

    answers = intake.Answers(ctx)
    stream = ctx.stdin.take("--batch")
    clock = Clock()
    lines = (
        None if item is None else intake.line_of(*item, lambda _content: clock.new_id())
        for item in intake.read_lines(stream)
    )
    answered = 0
    with ctx.caller(writes=True) as caller, Progress(ctx, "storing", answering=True) as progress:
        for outcomes in intake.store_lines(caller, ctx.settings, lines):
            for outcome in outcomes:
                answers.add(outcome.line.number, outcome.as_answer())
            ctx.screen.flush()
            answered += len(outcomes)
            progress.update(answered, None)
    return answers.end()


@verb(
    app,
    shape=HIT,
    form="many",
    examples=[
        "fedctl memory query 'how did we fix the flaky login test?' -k 5",
        "fedctl memory query 'database timeout' --since 7d --min-reward 0.7 --where repo=api --json",
    ],
)
def query(
    ctx: Invocation,
    text: Annotated[str, argument("TEXT", "What to look for; - reads it from stdin, @FILE from a file.")],
    k: Annotated[int, flag("-k", metavar="N", least=1, says="At most N hits.", default="10")] = 10,
    mode: Annotated[Mode, flag("--mode", says="By meaning, by words, or both.", default="hybrid")] = "hybrid",
    min_reward: MinReward = None,
    since: Since = None,
    until: Until = None,
    agent: OfAgent = None,
    session: OfSession = None,
    task: OfTask = None,
    where: Where = None,
    reward_weight: Annotated[
        float,
        flag(
            "--reward-weight",
            metavar="W",
            parser=values.unit_interval,
            says="How much a reward moves a hit; 0: not at all.",
            default="0.1",
        ),
    ] = 0.1,
    fresh: Annotated[bool, flag("--fresh", says="Wait until every episode is embedded.")] = False,
    explain: Annotated[bool, flag("--explain", says="Show what made each hit's score.")] = False,
) -> None:
    """Search the memory, best hits first.

    With --explain a hit has `match`: `semantic`, the cosine of its vector and the question's, with what its session
    said before; `alone`, the same without that; `keyword`, its BM25 score, larger is better; `reward`, the factor that
    the score was multiplied by; `index`, where its vector was found: the graph (hnsw), the file (flat) or among what
    came since (tail). Empty: not found that way.
    """
    request = QueryEpisodes(
        text=values.read_value("TEXT", text, ctx.stdin).removesuffix("\n"),
        k=k,
        mode=mode,
        filter=_filter(min_reward, since, until, agent, session, task, where),
        reward_weight=reward_weight,
        fresh=fresh,
        explain=explain,
    )
    with ctx.caller() as caller:
        answer = _waiting_for(ctx, caller, request) if fresh else caller.call(request)
        hits = paging.complete(caller, answer)
        if not hits:
            ctx.note_unused(caller, agent=agent)
    for note in answer.notes:
        ctx.screen.note(note)
    if answer.pending:
        verb_ = "have" if answer.pending > 1 else "has"
        ctx.screen.note(f"{counted(answer.pending, 'episode')} {verb_} no embedding yet: found by words only")
    columns = (*HIT.columns, *EXPLAINED) if explain else HIT.columns
    ctx.screen.many((_found(hit, explain=explain) for hit in hits), HIT.with_columns(columns))


def _found(hit: Hit, *, explain: bool) -> FoundEpisode:
    assert hit.episode is not None  # `paging.complete` has fetched it
    match = hit.match if explain else msgspec.UNSET
    return with_more(hit.episode, FoundEpisode, rank=hit.rank, score=hit.score, match=match)


def _waiting_for(ctx: Invocation, caller: Caller, request: QueryEpisodes) -> QueryAnswer:
    from fedctl.cli.progress import Progress

    with Progress(ctx, "embedding"):
        return caller.call(request)


@verb(
    app,
    shape=EPISODE,
    form="either",
    examples=[
        'fedctl memory get "$id" --json',
        "fedctl memory list --ids | xargs fedctl memory get --fields id,output",
    ],
)
def get(ctx: Invocation, ids: EpisodeId) -> None:
    """Show episodes by id: one as an object, several as a list."""
    with ctx.caller() as caller:
        episodes, missing = paging.get_all(caller, ids)
    if len(set(ids)) > 1 and episodes:
        ctx.screen.many(episodes, EPISODE)
    elif episodes:
        ctx.screen.one(episodes[0], EPISODE)
    _check_missing(missing)


@verb(
    app,
    "list",
    shape=EPISODE,
    form="many",
    examples=["fedctl memory list --since 1d --agent coder", "fedctl memory list --json | jq '.[].task'"],
)
def list_(
    ctx: Invocation,
    min_reward: MinReward = None,
    since: Since = None,
    until: Until = None,
    agent: OfAgent = None,
    session: OfSession = None,
    task: OfTask = None,
    where: Where = None,
    pinned: Annotated[bool, flag("--pinned", says="Only those that no policy removes.")] = False,
    limit: Limit = None,
) -> None:
    """List episodes, the last stored first.

    What was imported may have been made long before it was stored: created_at need not be in order.
    """
    limit = limit or ctx.screen.default_limit
    wanted = _filter(min_reward, since, until, agent, session, task, where)
    if pinned:
        wanted = msgspec.structs.replace(wanted, pinned=True)
    with ctx.caller() as caller:
        episodes, total = paging.take(caller, ListEpisodes(filter=wanted, count=limit is not None), limit)
        shown = ctx.screen.many(episodes, EPISODE)
        if not shown:
            ctx.note_unused(caller, agent=agent)
    ctx.screen.cut(shown, total)


@verb(
    app,
    shape=DELETION,
    asks=True,
    dry_run=True,
    examples=['fedctl memory delete "$id"', "fedctl memory delete --until 90d --agent scout --dry-run"],
)
def delete(
    ctx: Invocation,
    ids: Annotated[list[str] | None, argument("[ID...]", "Ids of episodes.", values.episode_id)] = None,
    min_reward: MinReward = None,
    since: Since = None,
    until: Until = None,
    agent: OfAgent = None,
    session: OfSession = None,
    task: OfTask = None,
    where: Where = None,
    hard: Annotated[
        bool, flag("--hard", says="Erase: afterwards no byte of them is in the home. Also what was deleted before.")
    ] = False,
) -> int:
    """Delete episodes by id, or all that a filter names (which asks first).

    A deleted id does not come back: what is pushed under it again is not stored. With --hard it does not come back
    with an older backup either, and the answer lists the backups that may hold it; exit code 3 says that something
    must be finished later, by the same command, a hub, or whoever prunes or checks the store next.
    """
    wanted = _filter(min_reward, since, until, agent, session, task, where)
    if bool(ids) != wanted.is_empty:
        hint = "fedctl memory delete ID..., or with filters such as --until 90d"
        raise UsageError("give ids or filters, not both" if ids else "what is to be deleted?", hint=hint)
    answers: Sequence[DeleteAnswer | EraseEpisodesAnswer]
    with ctx.caller(unhurried=True) as caller:
        if hard:
            from fedctl.cli.erasing import erase_episodes

            answers = erase_episodes(ctx, caller, ids or [], wanted)
        elif ids:
            parts = [ids[start : start + BATCH_MAX_ITEMS] for start in range(0, len(ids), BATCH_MAX_ITEMS)]
            answers = [caller.call(DeleteEpisodes(ids=part, dry_run=ctx.dry_run)) for part in parts]
        else:
            answers = _delete_filtered(ctx, caller, DeleteEpisodes(filter=wanted))
    gone = [one for answer in answers for one in answer.deleted]
    missing = [one for answer in answers for one in answer.missing]
    total = answers[0].total if ctx.dry_run and not ids else None
    deletion = Deletion(deleted=total or len(gone), ids=gone, missing=missing, dry_run=ctx.dry_run)
    # A person wants to know how many, there may be thousands; which backups is in the note.
    shown: dict[str, Any] = {name: getattr(deletion, name) for name in DELETION.columns}
    erased = answers[-1] if hard else None
    if isinstance(erased, EraseEpisodesAnswer):
        more = {"complete": erased.complete, "backups": erased.backups, "notes": erased.notes}
        deletion = msgspec.structs.replace(deletion, **more)
        shown |= more | {"backups": len(erased.backups)}
    if gone or not missing:  # with nothing but an error to tell, stdout stays empty
        ctx.screen.done(deletion, DELETION, shown)
    _check_missing(missing)
    return 3 if isinstance(erased, EraseEpisodesAnswer) and not (erased.complete or ctx.dry_run) else 0


def _delete_filtered(ctx: Invocation, caller: Caller, request: DeleteEpisodes) -> list[DeleteAnswer]:
    would = caller.call(msgspec.structs.replace(request, dry_run=True))
    if ctx.dry_run or not would.total:
        return [would]
    ctx.confirm(f"Delete {counted(would.total, 'episode')} of the tenant {ctx.settings.tenant}?")
    from fedctl.cli.progress import Progress

    with Progress(ctx, "deleting") as progress:
        answers = [caller.call(request)]
        while answers[-1].more:
            progress.update(sum(len(one.deleted) for one in answers), would.total)
            answers.append(caller.call(request))
    return answers


@verb(
    app,
    shape=EPISODE,
    form="either",
    examples=['fedctl memory pin "$id"', "fedctl memory list --ids | xargs fedctl memory pin"],
)
def pin(ctx: Invocation, ids: EpisodeId) -> None:
    """Keep episodes, whatever the policy of `fedctl retention` says."""
    _pin(ctx, ids, pinned=True)


@verb(app, shape=EPISODE, form="either", examples=['fedctl memory unpin "$id"'])
def unpin(ctx: Invocation, ids: EpisodeId) -> None:
    """Let the policy decide about episodes again."""
    _pin(ctx, ids, pinned=False)


def _pin(ctx: Invocation, ids: list[str], *, pinned: bool) -> None:
    with ctx.caller() as caller:
        for start in range(0, len(ids), BATCH_MAX_ITEMS):
            caller.call(PinEpisodes(ids=ids[start : start + BATCH_MAX_ITEMS], pinned=pinned))
        episodes, missing = paging.get_all(caller, ids)
    if len(set(ids)) == 1 and episodes:
        ctx.screen.done(episodes[0], PINNED)
    elif episodes and not (ctx.settings.quiet and ctx.screen.form == "table"):
        ctx.screen.many(episodes, PINNED)
    _check_missing(missing)


@verb(
    app,
    "import",
    shape=IMPORT,
    examples=[
        "fedctl memory import episodes.jsonl",
        "fedctl memory import runs.csv --rejects refused.jsonl",
        "fedctl memory import other.db --table runs --on-conflict skip --no-embed",
        "fedctl --home old memory export | fedctl memory import -",
    ],
)
def import_(
    ctx: Invocation,
    file: Annotated[str, argument("FILE", "JSON lines, a JSON array, CSV, TSV or SQLite; - reads stdin.")],
    form: Annotated[
        Literal["jsonl", "json", "csv", "tsv", "sqlite"] | None,
        flag("--from", says="What the file is.", default="by its name, stdin: jsonl"),
    ] = None,
    table: Annotated[
        str | None, flag("--table", metavar="NAME", parser=values.text, says="The table of a SQLite file.")
    ] = None,
    on_conflict: Annotated[
        Literal["skip", "error"],
        flag("--on-conflict", says="An id that another episode has: pass it over, or refuse.", default="error"),
    ] = "error",
    rejects: Annotated[
        str | None, flag("--rejects", metavar="FILE", says="Write refused lines there, each with its error.")
    ] = None,
    no_embed: Annotated[
        bool, flag("--no-embed", says="Store only: a hub embeds in the background, else the next queries do.")
    ] = False,
) -> int:
    """Store the episodes of a file and embed them. Doing it twice is the same as once.

    Lines are stored first, and found by words from then on; embedding them takes most of the time. Whatever ends it
    early, what is stored stays, and the same command goes on where it was.

    Lines without an id get one made of their content, the same at each run. Columns of tables are fields of
    episodes, or metadata.ANYTHING; empty cells are absent.
    """
    from fedctl.cli import transfer

    counts = transfer.run_import(
        ctx, file, form=form, table=table, on_conflict=on_conflict, rejects=rejects, embed=not no_embed
    )
    ctx.screen.done(counts, IMPORT)
    return 3 if counts.rejected else 0


@verb(
    app,
    shape=EXPORT,
    lines={"-": Episode},
    examples=["fedctl memory export episodes.jsonl", "fedctl memory export | gzip > episodes.jsonl.gz"],
)
def export(
    ctx: Invocation,
    file: Annotated[str, argument("[FILE]", "Where to; - (or nothing) is stdout.")] = "-",
    with_vectors: Annotated[bool, flag("--with-vectors", says="With the embeddings.")] = False,
) -> None:
    """Write all episodes as JSON lines, the oldest first, in the form that import takes."""
    from fedctl.cli import transfer

    if file == "-":
        if ctx.session.fields:
            raise UsageError(
                "an export on stdout is whole episodes: --fields has no say in it",
                hint="fedctl memory list --jsonl --fields ...",
            )
        transfer.export_to_stdout(ctx, with_vectors=with_vectors)
    else:
        ctx.screen.done(transfer.export_to_file(ctx, file, with_vectors=with_vectors), EXPORT)


@verb(app, shape=STATS, examples=["fedctl memory stats --json"])
def stats(ctx: Invocation) -> None:
    """Count what the tenant remembers, and what is still to be embedded.

    `pending_embeddings` are found by words only until then; of `cut_episodes`, which are very long, the ends are.
    `index.form` is flat (a file of vectors), hnsw (the same with a graph, which a hub searches) or none yet;
    `index.tail` counts vectors newer than the file, which are searched beside it.
    """
    with ctx.caller() as caller:
        found = caller.call(MemoryStats())
        ctx.screen.one(found, STATS)
        if not found.episodes:
            ctx.note_unused(caller)


@verb(
    app,
    shape=REINDEXED,
    examples=["fedctl memory reindex", "fedctl memory reindex --model ~/models/bge-small-onnx"],
)
def reindex(
    ctx: Invocation,
    model: Annotated[
        str | None, flag("--model", metavar="DIR", says="Embed with the ONNX model in this folder from now on.")
    ] = None,
) -> None:
    """Embed what lacks its vector, and write the index anew; with --model, everything with another model."""
    from fedctl.cli import transfer

    ctx.screen.done(transfer.run_reindex(ctx, model), REINDEXED)


def _filter(
    min_reward: float | None,
    since: str | None,
    until: str | None,
    agent: str | None,
    session: str | None,
    task: str | None,
    where: list[str] | None,
) -> EpisodeFilter:
    return EpisodeFilter(
        agent_id=agent,
        session_id=session,
        task=task,
        min_reward=min_reward,
        since=since,
        until=until,
        where=options.named("--where", values.where)(where) if where else [],
    )


def _check_missing(missing: list[str]) -> None:
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5:,} more" if len(missing) > 5 else "")  # noqa: PLR2004
        raise NotFound(f"no such episode: {shown}", details={"missing": missing})
