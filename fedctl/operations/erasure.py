"""Erasing: what a tenant or some episodes had is gone for good, with every trace of it in the home.

First a mark in the store with which the name leads nowhere any more, and the ledger with it; then all that there is,
in small transactions, so that nobody is held up and nothing has to be undone; at last what was left behind in files:
of words, of the index, of pages; and the ledger of episodes, for which there was no room before. Whoever finds an
erasure that was begun and not ended (`erasures`) goes on with it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from fedctl.errors import DiskFull, FedctlError, NotFound, Unavailable, UsageError
from fedctl.messages import memory as m
from fedctl.messages import tenant as t
from fedctl.model import limits, shown
from fedctl.model.episode import check_filter
from fedctl.operations import index
from fedctl.operations.job import Deadline, exclusive_job
from fedctl.store.ledger import FILE_NAME, LINE_BYTES, Entry, Ledger, digest_within, tenant_digest
from fedctl.store.room import LOG_LEAST_BYTES
from fedctl.store.scrub import Scrubbed, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from fedctl.model.backup import Backup
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context
    from fedctl.store.erasure import OpenErasure
    from fedctl.store.store import Store

ROWS_AT_ONCE = 100
"""Rows in a transaction: some ms, and a log that fits into the reserve of a full disk."""
FOLD_BYTES = 2 << 20
"""A longer log is folded in between two transactions: at twice that it would be in somebody's ack."""
NOTED_AT_ONCE = 2000
"""Episodes written into the ledger at a time: one fsync for all of them."""
_CHANGES_AT_ONCE = 500
_PAGES_A_ROW = 5
"""Pages of words that are merged in a transaction for each row that would be deleted in one."""
_JOB_WAIT_MS = 500
"""A hub has few threads to wait with: whoever is refused asks again."""
_BUDGET_MAX_MS = 10_000
_NOT_WIPED = {
    Scrubbed.HELD: "somebody reads from the store's log: what was erased is in it until they end; "
    "the same command finishes it then, or a hub does",
    Scrubbed.AUTO_VACUUM: "the store has auto_vacuum, which fedctl does not set: bytes of what was erased stay in its "
    "free pages, for they cannot be wiped in place; fedctl store vacuum takes both away, then the same command ends it",
    Scrubbed.TOO_LARGE: "the store is too large (128 GiB) to be wiped in place: bytes of what was erased stay in its "
    "free pages; fedctl store vacuum writes it anew without them",
}
_COPY_HELD = (
    "a backup is being made that may hold what was erased ({}): the same command finishes it after that, or a hub does"
)
_LEDGER_FULL = (
    "the disk has too little room for the ledger of what was erased, which a restore needs: "
    "with {} more the same command finishes it, or a hub does"
)
_INDEX_HELD = (
    "the index files are being written: the vectors are in them until that ends; "
    "the same command finishes it then, or a hub does"
)


# -- a tenant ----------------------------------------------------------------------------------------------------


def erase_tenant(ctx: Context, _who: Principal, request: t.EraseTenant) -> t.EraseTenantAnswer:
    """Do a step of erasing a tenant: the first one takes its name, each goes on for as long as it was given."""
    name = limits.check_name("tenant", request.name)
    digest = tenant_digest(name)
    key = ctx.store.tenants.key(name) if request.begin else None
    tokens = ctx.store.erasures.count_tokens(name) if request.begin else 0
    under_way = [one for one in ctx.store.erasures.open() if one.digest == digest]
    if request.begin and key is None and not tokens and not under_way:
        raise NotFound(f"there is no tenant {name}", hint="fedctl tenant list shows them", details={"tenant": name})
    keys = [one.tenant_key for one in under_way] + ([] if key is None else [key])
    held = [ctx.store.erasures.holdings(one) for one in keys]
    counts = {kind: sum(getattr(one, kind) for one in held) for kind in t.HELD}
    notes: list[str] = []
    if not request.dry_run:
        deadline = _deadline(ctx, request.budget_ms)
        with exclusive_job(ctx.home, "erase", _JOB_WAIT_MS):
            if key is not None or tokens:
                _begin(ctx, name, digest)
            under_way = [one for one in ctx.store.erasures.open() if one.digest == digest]
            notes = _carry_on(ctx, under_way, deadline)
    left = {one.tenant_key for one in ctx.store.erasures.open()} & {one.tenant_key for one in under_way}
    remaining = [ctx.store.erasures.holdings(one) for one in left]
    last = request.dry_run or not left or bool(notes)
    if last:
        notes += _unlooked(ctx)
    return t.EraseTenantAnswer(
        erasure=t.TenantErasure(
            tenant_id=name,
            dry_run=request.dry_run,
            tokens=tokens,
            complete=not request.dry_run and not left,
            backups=_backups_holding(ctx, digest) if last else [],
            notes=notes,
            **counts,
        ),
        remaining=sum(getattr(one, kind) for one in remaining for kind in t.HELD),
    )


def _deadline(ctx: Context, budget_ms: int) -> Deadline:
    return Deadline(ctx.clock, min(limits.check_count("budget_ms", budget_ms), _BUDGET_MAX_MS))


def _begin(ctx: Context, name: str, digest: bytes) -> None:
    """Take a tenant its name, for good. From now on nothing of it can be read, and a new one may have the name."""
    now_ms = ctx.clock.now_ms()
    key = ctx.store.tenants.key(name)
    if key is not None:  # a clock that was set back must not put its end before its beginning
        now_ms = max(now_ms, ctx.store.erasures.created_at_ms(key))
    ledger, entry = Ledger(ctx.home / FILE_NAME), Entry("tenant", digest, now_ms)
    added = False
    try:
        with ctx.store.write():
            key = ctx.store.tenants.key_for_writing(name, now_ms)
            _unname(ctx.store, key, name, digest, now_ms)
            # The hub ends the sessions of who is told so; the row is newer than all that is about to go.
            ctx.store.changes.add(key, "tenant_erased", digest.hex(), now_ms=now_ms)
            # Last: a restore erases what the ledger names, and a tenant that lives on must not be named.
            ledger.add([entry])
            added = True
    except BaseException:
        if added:
            with contextlib.suppress(FedctlError):  # `store check` names what is not taken back
                if ctx.store.erasures.tenant_erased_at_ms(digest) != now_ms:
                    ledger.void([entry])
        raise


def _unname(store: Store, key: int, name: str, digest: bytes, at_ms: int) -> None:
    store.erasures.take_name(key, name, digest, at_ms)
    store.erasures.begin(key, digest, at_ms)


def _backups_holding(ctx: Context, digest: bytes, since_seq: int | None = None) -> list[Backup]:
    """Return the backups that may hold something of a tenant: of what is not older than `since_seq`, if that is known.

    Before a sequence of the same epoch there was none of it yet.
    """
    from fedctl.operations.backup import backups_holding  # noqa: PLC0415  which loads what else only a backup needs

    found = backups_holding(ctx.home, digest)
    if since_seq is None:
        return found
    epoch = ctx.store.settings.get("epoch")
    return [one for one in found if one.epoch != epoch or one.seq is None or one.seq >= since_seq]


def _unlooked(ctx: Context) -> list[str]:
    from fedctl.operations.backup import unlooked  # noqa: PLC0415  as above

    return unlooked(ctx.home)


# -- episodes ----------------------------------------------------------------------------------------------------


def erase_episodes(ctx: Context, who: Principal, request: m.EraseEpisodes) -> m.EraseEpisodesAnswer:
    """Erase episodes by ids, or by a filter that is not empty; with neither, finish what was begun."""
    by_filter = request.filter is not None and not request.filter.is_empty
    if request.ids and by_filter:
        raise UsageError("say what to erase: ids, or a filter")
    if len(request.ids) > limits.BATCH_MAX_ITEMS:
        raise UsageError(f"one call erases at most {limits.BATCH_MAX_ITEMS} ids")
    for episode_id in request.ids:
        limits.check_id("episode", episode_id)
    if request.filter is not None:
        check_filter(request.filter)
    with contextlib.ExitStack() as held:
        if not request.dry_run:  # held before anything is looked up: what holds the lock may be erasing the tenant
            held.enter_context(exclusive_job(ctx.home, "erase", _JOB_WAIT_MS))
        return _erase_episodes(ctx, who, request, by_filter=by_filter)


def _erase_episodes(
    ctx: Context, who: Principal, request: m.EraseEpisodes, *, by_filter: bool
) -> m.EraseEpisodesAnswer:
    key = ctx.store.tenants.key(who.tenant_id)
    if key is None:
        return m.EraseEpisodesAnswer(deleted=[], missing=list(request.ids), more=False,
                                     total=0 if by_filter else None, complete=True)  # fmt: skip
    total = None
    finishing: set[str] = set()
    with ctx.store.read():
        if by_filter:
            assert request.filter is not None
            total = ctx.store.episodes.count(key, request.filter)
            found = [one for _, one in ctx.store.episodes.heads(key, request.filter, limits.BATCH_MAX_ITEMS)]
        else:
            known = ctx.store.episodes.known_ids(key, request.ids)
            found = [one for one in dict.fromkeys(request.ids) if one in known]
            if any(one.tenant_key == key for one in ctx.store.erasures.open()):
                finishing = ctx.store.erasures.erased_among(who.tenant_id, set(request.ids) - set(found))
        seqs = ctx.store.episodes.known_ids(key, found).values()
    more = total is not None and total > len(found)
    # Of a rehearsal that sees one page of many the oldest is not known.
    unsure = finishing or None in seqs or (request.dry_run and more)
    least_seq = None if unsure else min((one for one in seqs if one is not None), default=None)
    gone = {*found, *finishing}
    notes: list[str] = []
    complete = True
    if not request.dry_run:
        deadline = _deadline(ctx, request.budget_ms)
        _remove_episodes(ctx.store, (key, tenant_digest(who.tenant_id)), found, ctx.clock.now_ms())
        if not ctx.store.database.near_full:  # so that a restore knows soon; else there is room at the end, if ever
            _filed(ctx.store, Ledger(ctx.home / FILE_NAME), lambda: False)
        under_way = [one for one in ctx.store.erasures.open() if one.tenant_key == key]
        if not (more or request.defer):
            notes = _carry_on(ctx, under_way, deadline)
        complete = not any(one.tenant_key == key for one in ctx.store.erasures.open())
    last = (complete or bool(notes)) and not more and not request.defer
    if last and who.may("operator"):
        notes += _unlooked(ctx)
    return m.EraseEpisodesAnswer(
        deleted=found + [one for one in dict.fromkeys(request.ids) if one in finishing],
        missing=[one for one in request.ids if one not in gone],
        more=more,
        total=total,
        complete=complete and not request.dry_run,
        # What a backup holds, and where it lies, is of all tenants: not for the admin of one.
        backups=_backups_holding(ctx, tenant_digest(who.tenant_id), request.since_seq if not found else least_seq)
        if (last or request.dry_run) and who.may("operator")
        else [],
        notes=notes,
        least_seq=least_seq,
    )


def _remove_episodes(store: Store, tenant: tuple[int, bytes], ids: Sequence[str], now_ms: int) -> None:
    """Take episodes out by id, deleted ones too, with what the log says of them; their tombstones are digests."""
    if not ids:
        return
    key, within = tenant
    entries = [Entry("episode", digest_within(within, one), now_ms) for one in ids]
    with store.read():
        walked = store.changes.last_seq()
        seqs = store.episodes.known_ids(key, ids).values()
        # An episode's own sequence is the first change that names it; of a tombstone that is not known.
        named = store.erasures.changes_of(key, ids, min((one or 0 for one in seqs), default=0))
    start, rows = 0, ROWS_AT_ONCE
    while start < len(ids):
        try:
            _remove_part(store, tenant, ids[start : start + rows], entries[start : start + rows], (walked, named))
        except DiskFull:
            if rows == 1:
                raise
            rows = max(1, rows // 4)
            store.checkpoint(truncate=True)
        else:
            start += rows


def _remove_part(
    store: Store, tenant: tuple[int, bytes], part: Sequence[str], entries: Sequence[Entry],
    named: tuple[int, Sequence[tuple[int, str]]],
) -> None:  # fmt: skip
    """`named`: how far the log was walked, and the changes found there that name an episode."""
    key, within = tenant
    now_ms = entries[0].at_ms
    walked, before = named
    of_part = set(part)
    with store.write():
        if not store.erasures.is_named(key, within):
            raise NotFound("the tenant was erased in the meantime, with its episodes")
        changes = [seq for seq, subject in before if subject in of_part]
        changes += [seq for seq, _ in store.erasures.changes_of(key, part, walked + 1)]
        store.erasures.begin(key, None, now_ms)
        store.erasures.note_unfiled(entries)
        for episode_id, seq in store.episodes.known_ids(key, part).items():
            digest = digest_within(within, episode_id)
            if seq is None:
                store.erasures.disguise_tombstone(key, episode_id, digest)
                continue
            change = store.changes.add(key, "episode_deleted", digest.hex(), now_ms=now_ms)
            store.episodes.remove(key, seq)
            store.episodes.bury(key, digest.hex(), change, now_ms)
        store.changes.remove(key, changes)


# -- going on with what was begun ----------------------------------------------------------------------------------


def finish(ctx: Context, budget_ms: int | None = None) -> list[str]:
    """Go on with every erasure that was begun and not ended; return why one is still open, as notes.

    Whoever comes by does it: a hub's background, the next prune, the next check. Nothing when somebody else is at it.
    """
    if not ctx.store.erasures.any_open():
        return []
    with contextlib.suppress(Unavailable), exclusive_job(ctx.home, "erase"), ctx.store.freeing():
        return _carry_on(ctx, ctx.store.erasures.open(), Deadline(ctx.clock, budget_ms))
    return []


def _carry_on(ctx: Context, under_way: Iterable[OpenErasure], deadline: Deadline) -> list[str]:
    """Take erasures to their ends, or as far as the time reaches; return what stands in the way of one."""
    notes: dict[str, None] = {}
    emptied = []
    failed: Exception | None = None
    for one in under_way:
        try:
            if one.digest is not None:  # files are room on the disk, where there is none left
                index.erase(ctx, one.tenant_key)
            if not _emptied(ctx.store, one, lambda: deadline.over):
                break
            if _without_index(ctx, one):
                emptied.append(one)
            else:
                notes[_INDEX_HELD] = None
        except DiskFull as error:
            notes[_no_room(ctx.store, one.tenant_key, error)] = None
        except Exception as error:  # noqa: BLE001  one that fails must not keep the others from being reached
            failed = failed or error
    if emptied and not deadline.over:
        notes |= dict.fromkeys(_ended(ctx, emptied, deadline))
    if failed is not None:
        raise failed
    return list(notes)


def _without_index(ctx: Context, one: OpenErasure) -> bool:
    if not index.erase(ctx, one.tenant_key):
        return False
    if one.digest is None:
        index.compact(ctx, one.tenant_key, rewrite=True)
    return True


def _ended(ctx: Context, emptied: Iterable[OpenErasure], deadline: Deadline) -> list[str]:
    """Wipe what rows left behind, fill the ledger, and end the erasures; return what stands in the way of that."""
    notes = []
    filed = False
    try:
        filed = _filed(ctx.store, Ledger(ctx.home / FILE_NAME), lambda: deadline.over)
    except DiskFull:
        notes.append(_LEDGER_FULL.format(shown.size(len(ctx.store.erasures.unfiled()) * LINE_BYTES + LOG_LEAST_BYTES)))
    copies = _copies_under_way(ctx)
    if copies:
        notes.append(_COPY_HELD.format(", ".join(map(str, copies))))
    wiped = _wiped(ctx.store, ctx.clock.sleep_s)
    if not wiped:
        notes.append(_NOT_WIPED[wiped])
    if filed and wiped and not copies:
        with ctx.store.write():
            for one in emptied:
                ctx.store.erasures.end(one.tenant_key)
    return notes


def _wiped(store: Store, sleep_s: Callable[[float], None]) -> Scrubbed:
    return Scrubbed.DONE if store.database.path is None else scrub(store.database.path, sleep_s)


def _copies_under_way(ctx: Context) -> list[Path]:
    """Take away what backups that died left of their copies; return the folders of those that live."""
    from fedctl.operations.backup import sweep_partials  # noqa: PLC0415  as above

    return sweep_partials(ctx.home)


def _filed(store: Store, ledger: Ledger, over: Callable[[], bool]) -> bool:
    """Write into the ledger what the store alone remembers yet; False when the time ran out before that was all.

    `DiskFull` when it would take the room that what frees space needs.
    """
    after = b""
    while entries := store.erasures.unfiled(after, ROWS_AT_ONCE if store.database.near_full else NOTED_AT_ONCE):
        if over():
            return False
        if store.database.near_full and store.space()[0] < len(entries) * LINE_BYTES + LOG_LEAST_BYTES:
            raise DiskFull("the disk has too little room for the ledger", hint="free some space on it")
        ledger.add(entries)
        with store.write():
            store.erasures.file(entries)
        after = entries[-1].digest
    return True


def _emptied(store: Store, one: OpenErasure, over: Callable[[], bool]) -> bool:
    """Take out the rows of what is to be erased; False when the time ran out before that was all."""
    if one.digest is None:
        with store.sparing():  # it writes before it frees
            return _by_parts(
                store, lambda rows: store.erasures.optimize_words(one.tenant_key, rows * _PAGES_A_ROW), over
            )
    return (
        _by_parts(store, lambda rows: store.erasures.remove_some(one.tenant_key, rows), over)
        and _without_episodes(store, one.tenant_key, one.digest, over)
        and _without_changes(store, one.tenant_key, over)
    )


def _by_parts(store: Store, remove: Callable[[int], int], over: Callable[[], bool]) -> bool:
    """Call `remove` with a number of rows, each time in a transaction, until it finds none; fewer on a full disk."""
    rows = ROWS_AT_ONCE
    while not over():
        try:
            with store.write():
                if not remove(rows):
                    return True
            if store.wal_bytes() > FOLD_BYTES:
                store.checkpoint()
        except DiskFull:
            if rows == 1:
                raise
            rows = max(1, rows // 4)
            store.checkpoint(truncate=True)
    return False


def _no_room(store: Store, key: int, error: DiskFull) -> str:
    free_bytes = int(error.details.get("free_bytes", store.space()[0]))
    needed = int(error.details.get("needed_bytes", 0)) or 2 * store.erasures.words_bytes(key)
    wanted = max(needed + int(error.details.get("watermark_bytes", 0)) - free_bytes, 64 << 10)
    return (
        f"the disk has too little room to clear away what was erased: it takes up to {shown.size(wanted)} more; with "
        "that the same command finishes it, or a hub does"
    )


def _without_episodes(store: Store, key: int, digest: bytes, over: Callable[[], bool]) -> bool:
    """Take out episodes and tombstones, whose ids are noted with that, as digests: none of them comes back.

    In the store, which has the room that they leave: until that is in the ledger, the tenant's own line covers it.
    """

    def noted(ids: Iterable[str]) -> Iterator[Entry]:
        return (Entry("episode", digest_within(digest, one), at_ms) for one in ids)

    at_ms = store.erasures.tenant_erased_at_ms(digest) or 0

    # Asked anew each time: what was undone for want of room is still there, and fewer are taken.
    def remove(most: int) -> int:
        part = store.erasures.episode_ids(key, most)
        store.erasures.note_unfiled(noted(one for _, one in part))
        return store.erasures.remove_episodes(key, [seq for seq, _ in part]) if part else 0

    def forget(most: int) -> int:
        ids = store.erasures.tombstone_ids(key, most * 10)
        store.erasures.note_unfiled(noted(ids))
        store.erasures.remove_tombstones(key, ids)
        return len(ids)

    return _by_parts(store, remove, over) and _by_parts(store, forget, over)


def _without_changes(store: Store, key: int, over: Callable[[], bool]) -> bool:
    after = 0
    while not over():
        seqs = store.erasures.change_seqs(key, after, _CHANGES_AT_ONCE)
        if not seqs:
            return True
        with store.write():
            store.changes.remove(key, seqs)
        after = seqs[-1]
    return False


# -- what is restored --------------------------------------------------------------------------------------------


class Applied(NamedTuple):
    """How much a store still had of what ledgers say was erased."""

    tenants: int
    episodes: int


def apply_ledger(store: Store, entries: Iterable[Entry], sleep_s: Callable[[float], None] = lambda _s: None) -> Applied:
    """Erase from a store, which nobody else has open, all that the entries name, and remember them in it.

    A tenant goes only if it was there before it was erased: the name may have begun anew since. The store's index
    files, if it has any, are the caller's to take away, and all that the store remembers is its to put into a ledger.
    """
    tenants: dict[bytes, int] = {}
    episodes: dict[bytes, int] = {}
    for kind, digest, at_ms in entries:
        known = tenants if kind == "tenant" else episodes
        known[digest] = max(at_ms, known.get(digest, 0))
    counts = [0, 0]
    with store.freeing():
        for key, name in store.tenants.all():
            digest = tenant_digest(name)
            if digest in tenants and store.erasures.created_at_ms(key) <= (at_ms := tenants[digest]):
                with store.write():
                    _unname(store, key, name, digest, at_ms)
                    # The newest row of the log is never to be one of those that go.
                    store.changes.add(key, "tenant_erased", digest.hex(), now_ms=at_ms)
                counts[0] += 1
            elif episodes:
                counts[1] += _apply_to_episodes(store, (key, digest), episodes)
        _remember(store, tenants, episodes)
        under_way = store.erasures.open()
        for one in under_way:
            _emptied(store, one, lambda: False)
        if under_way and _wiped(store, sleep_s):
            with store.write():
                for one in under_way:
                    store.erasures.remove_index(one.tenant_key)
                    store.erasures.end(one.tenant_key)
        with store.write():
            store.erasures.file()
    return Applied(*counts)


def _apply_to_episodes(store: Store, tenant: tuple[int, bytes], erased: dict[bytes, int]) -> int:
    """Take out those of a tenant's episodes, and the ids of those of its tombstones, that were erased."""
    key, within = tenant
    found = [one for one in store.erasures.all_ids(key) if digest_within(within, one) in erased]
    if found:
        _remove_episodes(store, tenant, found, max(erased[digest_within(within, one)] for one in found))
    return len(found)


def _remember(store: Store, tenants: dict[bytes, int], episodes: dict[bytes, int]) -> None:
    digests = {name: tenant_digest(name) for name in store.erasures.token_tenants()}
    with store.write():
        store.erasures.note(Entry("tenant", digest, at_ms) for digest, at_ms in tenants.items())
        for name, its_digest in digests.items():
            if its_digest in tenants:
                store.erasures.drop_tokens(name, tenants[its_digest])
    noted = [Entry("episode", digest, at_ms) for digest, at_ms in episodes.items()]
    for start in range(0, len(noted), NOTED_AT_ONCE):
        with store.write():
            store.erasures.note(noted[start : start + NOTED_AT_ONCE])
