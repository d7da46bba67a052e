"""Checking that the store is whole and that what is derived from it agrees with it."""

from __future__ import annotations

import contextlib
import re
import shlex
import stat
from typing import TYPE_CHECKING

from fedctl import disk
from fedctl.errors import FedctlError
from fedctl.messages import store as s
from fedctl.model.time import to_rfc3339
from fedctl.operations import embedding, index
from fedctl.operations.damage import way_back
from fedctl.store.ledger import FILE_NAME as LEDGER_NAME
from fedctl.store.ledger import Ledger, digest_within, tenant_digest, told
from fedctl.store.store import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context
    from fedctl.store.ledger import Entry


YOUNG_MS = 3_600_000
_UNFINISHED = re.compile(rf"{re.escape(FILE_NAME)}\.new(-wal|-shm|-journal)?|{disk.UNBORN.pattern}")
_OURS = ("store.*", "erasures", "reserve", "backups.json", "hub.*", "*.job", "maintenance.lock")
_OUR_FOLDERS = ("keys", "index")
_LEDGER_BACK = "put a whole copy of the file back, or take those lines out: a restore from a backup is held against it"


def check(ctx: Context, who: Principal, request: s.CheckStore) -> s.CheckAnswer:
    """Look for damage. Findings are of derived data or of the data themselves; nothing is changed."""
    if ctx.hub is not None and request.full:
        # On a connection of its own: what one that has long been open remembers of a table of words, which others
        # have merged since, looks like damage to SQLite's check.
        apart = ctx.fork()._replace(hub=None)
        try:
            return check(apart, who, request)
        finally:
            apart.close()
    checks = [
        "schema", "change log", "words", "metadata", "vectors", "usage", "erasures", "index files", "files",
        "permissions",
    ]  # fmt: skip
    findings: list[s.Finding] = []
    with ctx.store.read():
        findings += _database(ctx, full=request.full)
        for key, name in ctx.store.tenants.all():
            findings += _tenant(ctx, key, name, full=request.full)
        findings += _erasures(ctx, full=request.full)
        episodes = ctx.store.episodes.count_everywhere()
    for key, name in ctx.store.tenants.all():
        wrong = index.verify_all(ctx, key, always=request.full)
        if wrong is not None:
            findings.append(_derived("index files", f"tenant {name}: {wrong}", "fedctl memory reindex"))
    findings += leftovers(ctx) + _open_to_others(ctx.home)
    if request.full:
        checks.insert(0, "database")
    free_bytes, read_only = ctx.store.space()
    return s.CheckAnswer(
        checks=checks, findings=findings, episodes=episodes, disk_free_bytes=free_bytes, read_only=read_only
    )


def _database(ctx: Context, *, full: bool) -> list[s.Finding]:
    restore, found = way_back(ctx.home), []
    # Of a tenant that is being erased the words go block by block: what SQLite says of them meanwhile is no damage.
    going = [rf"\bwords_{one.tenant_key}\b" for one in ctx.store.erasures.open() if one.digest is not None]
    for line in ctx.store.integrity() if full else []:
        if "fts5" in line.lower() and any(re.search(table, line) for table in going):
            continue
        if "fts5" in line.lower():
            found.append(_derived("words", line, "fedctl memory reindex"))
        else:
            found.append(s.Finding(check="database", severity="data", message=line, fix=restore))
    found += [
        s.Finding(check="schema", severity="data", message=f"the migration {name} ran with another text", fix=restore)
        for name in ctx.store.altered_migrations()
    ]
    stranger = ctx.store.stranger()
    if stranger is not None:
        message = f"the database is not as fedctl makes it: {stranger}"
        found.append(s.Finding(check="schema", severity="data", message=message, fix=restore))
    if ctx.store.changes.gap():
        found.append(s.Finding(check="change log", severity="data", message="a change is missing", fix=restore))
    unlogged = ctx.store.changes.unlogged_episodes()
    if unlogged:
        message = f"{unlogged} episodes are not in the change log"
        found.append(s.Finding(check="change log", severity="data", message=message, fix=restore))
    return found


def _tenant(ctx: Context, key: int, name: str, *, full: bool) -> list[s.Finding]:
    checks, found = ctx.store.checks, []
    episodes = ctx.store.episodes.count(key)
    strays, wordless = checks.stray_words(key)
    if strays or wordless:
        message = f"tenant {name}: {wordless} episodes are in no words, words are of {strays} that are not there"
        found.append(_derived("words", message, "fedctl memory reindex"))
    unleaved = len(checks.missing_leaves(key)) if full else 0
    if (stray_leaves := checks.stray_leaves(key)) or unleaved:
        message = (
            f"tenant {name}: the metadata of {unleaved} episodes cannot be found, {stray_leaves} entries are of "
            "episodes that are not there"
        )
        found.append(_derived("metadata", message, "fedctl memory reindex"))
    if buried := checks.buried_alive(key):
        message = f"tenant {name}: {buried} ids are of an episode that is there and of one that was deleted"
        found.append(s.Finding(check="change log", severity="data", message=message, fix=way_back(ctx.home)))
    counted, noted = ctx.store.episodes.counted_usage(key), ctx.store.tenants.usage(key)
    if counted != noted:
        message = f"tenant {name}: (episodes, bytes) are {counted}, its quota is reckoned with {noted}"
        found.append(_derived("usage", message, "fedctl memory reindex"))
    model = embedding.active_model(ctx)
    if model is not None:
        pending = ctx.store.embeddings.pending(key)
        embedded = ctx.store.embeddings.count_embedded(key, model.key)
        if embedded + pending != episodes:
            message = f"tenant {name}: {episodes} episodes, {embedded} embedded, {pending} waiting"
            found.append(_derived("vectors", message, "fedctl memory reindex"))
        if full and (unsound := embedding.unsound(ctx, key, model)):
            message = f"tenant {name}: {len(unsound)} episodes have a vector that is none of {model.id}"
            found.append(_derived("vectors", message, "fedctl memory reindex"))
    return found


def _erasures(ctx: Context, *, full: bool) -> list[s.Finding]:
    """Look for what was erased and is there, or not finished, or not remembered on both sides."""
    found = []
    store = ctx.store.erasures
    for one in store.open():
        message = f"an erasure that began at {to_rfc3339(one.begun_at_ms)} has not ended"
        found.append(_derived("erasures", message, "run it again: fedctl tenant erase NAME, or memory delete --hard"))
    tenants = {one.digest: one.at_ms for one in store.entries() if one.kind == "tenant"}
    episodes = {one.digest for one in store.entries() if one.kind == "episode"}
    noted, findings = ledger_findings(ctx)
    found += findings
    for key, name in ctx.store.tenants.all():
        digest = tenant_digest(name)
        erased_at_ms = tenants.get(digest)
        alive = erased_at_ms is not None and store.created_at_ms(key) <= erased_at_ms
        ledger_ms = max((one.at_ms for one in noted if one.digest == digest), default=0)
        if not alive and ledger_ms > (erased_at_ms or 0) and store.created_at_ms(key) <= ledger_ms:
            message = f"the ledger says that the tenant {name} was erased, the database does not: a restore would do it"
            fix = f"fedctl tenant erase {shlex.quote(name)}; or take the line of {digest.hex()} out of {LEDGER_NAME}"
            found.append(s.Finding(check="erasures", severity="data", message=message, fix=fix))
        if alive:
            found.append(_alive("the tenant", name, "fedctl tenant erase", name))
        if full and episodes:
            for _, episode_id in ctx.store.checks.ids(key):
                if digest_within(digest, episode_id) in episodes:
                    found.append(_alive("an episode of the tenant", name, "fedctl memory delete --hard", episode_id))
    return found


def ledger_findings(ctx: Context) -> tuple[list[Entry], list[s.Finding]]:
    """Return what the ledger of erasures says, and what is wrong with it: damage, or less or more than the database."""
    store, path, found = ctx.store.erasures, ctx.home / LEDGER_NAME, []
    known = {one.digest for one in store.entries()}
    try:
        noted, damaged, _ = Ledger(path).look()
    except FedctlError as error:
        fix = error.hint or f"look at {path}"
        return [], [s.Finding(check="erasures", severity="data", message=error.message, fix=fix)]
    if damaged:
        message = f"{told(damaged)} damaged in the ledger of erasures {path}"
        found.append(s.Finding(check="erasures", severity="data", message=message, fix=_LEDGER_BACK))
    if unknown := sum(one.digest not in known for one in noted):
        message = f"{unknown} of {len(noted)} erasures in the ledger are not known to the database"
        found.append(_derived("erasures", message, "run them again: what they name may be there"))
    # What an erasure under way has not come to writing there yet is no loss.
    unfiled = {one.digest for one in store.unfiled()} if store.any_open() else set()
    if lost := len(known - {one.digest for one in noted} - unfiled):
        message = f"{lost} erasures that the database knows are not in the ledger ({LEDGER_NAME})"
        found.append(_derived("erasures", message, "put the file back: a restore from a backup is held against it"))
    return noted, found


def _alive(what: str, name: str, command: str, argument: str) -> s.Finding:
    message = f"{what} {name} was erased, and is there"
    return s.Finding(check="erasures", severity="data", message=message, fix=f"{command} {shlex.quote(argument)}")


# -- the home's files ------------------------------------------------------------------------------------------------


def leftovers(ctx: Context) -> list[s.Finding]:
    """Look for files that a process left behind which died; what is young may be somebody's at work."""
    from fedctl.operations.backup import dead_partials  # noqa: PLC0415  which loads what else only a backup needs

    folder = ctx.home / "index"
    live = set()
    if ctx.recall.has_index:
        rows = [ctx.recall.index.files(*row) for row in ctx.store.indexes.snapshots()]
        live = {path for files in rows for path in files}
        live |= {ctx.recall.index.graph_path(*row) for row in ctx.store.indexes.graphs()}
    now_ms = ctx.clock.now_ms()
    partials = [path for path in dead_partials(ctx.home) if path.parent == ctx.home]
    halves = [*unfinished(ctx.home, now_ms), *_old([*ctx.home.glob("*.exchange"), *partials], now_ms)]
    strays = _old((path for path in folder.glob("*/*") if path not in live), now_ms)
    return [
        _derived("files", f"{path.relative_to(ctx.home)} belongs to nothing", _removes(ctx.home, path))
        for path in [*halves, *strays]
    ]


def unfinished(home: Path, now_ms: int) -> Iterator[Path]:
    """Yield files in the home itself that bear a name of ours for what is half done, are not young and nobody's.

    Each is held while it is yielded (`disk.dead`).
    """
    named = (path for path in home.iterdir() if _UNFINISHED.fullmatch(path.name))
    yield from disk.dead(_old(named, now_ms), stat.S_ISREG)


def _old(paths: Iterable[Path], now_ms: int) -> list[Path]:
    return [path for path in sorted(paths) if now_ms - _changed_ms(path, now_ms) > YOUNG_MS]


def _removes(home: Path, path: Path) -> str:
    return "fedctl memory reindex" if path.parent != home else f"rm -r {shlex.quote(str(path))}"


def _changed_ms(path: Path, now_ms: int) -> int:
    try:
        return path.lstat().st_mtime_ns // 1_000_000
    except OSError:  # gone meanwhile
        return now_ms


def lax(home: Path) -> list[Path]:
    """Return files of ours that others than their owner may open."""
    ours = [path for name in _OURS for path in home.glob(name)]
    ours += [path for name in _OUR_FOLDERS for path in (home / name, *(home / name).rglob("*"))]
    found = []
    for path in sorted(set(ours)):
        with contextlib.suppress(OSError):
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & 0o077:
                found.append(path)
    return found


def _open_to_others(home: Path) -> list[s.Finding]:
    found = []
    for path in lax(home):
        mode = path.lstat().st_mode
        right = "700" if stat.S_ISDIR(mode) else "600"
        message = f"{path.relative_to(home)} may be opened by others ({stat.filemode(mode)})"
        found.append(_derived("permissions", message, f"chmod {right} {shlex.quote(str(path))}"))
    return found


def _derived(check: str, message: str, fix: str) -> s.Finding:
    return s.Finding(check=check, severity="derived", message=message, fix=fix)
