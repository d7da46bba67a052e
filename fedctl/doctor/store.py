"""The store: whether it is whole, what waits in it, and what it would be restored from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedctl.doctor.report import Found, Mend, advised, broken, failure, note, ok, several, warning
from fedctl.errors import Corrupt, Denied, NoStore
from fedctl.model.shown import lasting, size
from fedctl.model.time import from_rfc3339

if TYPE_CHECKING:
    from fedctl.doctor.patient import Patient
    from fedctl.messages.store import CheckAnswer, Finding

FULL_BELOW_BYTES = 16 << 20
"""A store so small is read whole (6 ms a megabyte); of a larger one what counts and digests tell has to do."""
LOG_MAX_BYTES = 64 << 20
"""The log begins anew at 32 MiB; twice as much is a reader that holds on to it, or a hub that was killed."""
MANY_PENDING = 1000
BACKUP_OLD_S = 7 * 86_400
VERIFIED_OLD_S = 30 * 86_400
AHEAD_S = 60.0
OWN_CHECKS = ("files", "permissions", "erasures")
"""What a check of the store looks at too, and a check here tells."""


def schema(patient: Patient) -> Found | None:
    """There is a store, and its schema is this fedctl's."""
    if not patient.can_look:
        return None
    from fedctl.operations.register import check_not_gone
    from fedctl.store import swap
    from fedctl.store.migrate import SCHEMA_VERSION

    path = patient.store_path
    if swap.is_begun(path):
        mend = Mend("finish or undo the exchange", lambda: _settled(patient))
        return warning("a restore or a vacuum was begun and not ended: the next command goes on with it",
                       patient.command("store check"), mend)  # fmt: skip
    if not patient.has_store:
        try:
            check_not_gone(patient.home)
        except NoStore as error:
            return failure(error.message, patient.command("restore latest"))
        return note("no store yet: the first write makes it", patient.command("init"))
    if path.stat().st_size == 0:
        return failure(f"{path} is empty: it was cut off", _restore(patient))
    try:
        version = patient.schema
    except Denied as error:
        return broken(error)
    except Corrupt as error:
        return failure(error.message, _restore(patient))
    if version > SCHEMA_VERSION:
        newer = "python -m pip install --upgrade fedctl"
        return failure(f"the schema is {version}, this fedctl knows up to {SCHEMA_VERSION}", newer, schema=version)
    if version < SCHEMA_VERSION:
        mend = Mend(f"bring it to {SCHEMA_VERSION}", lambda: _migrated(patient))
        return warning(f"the schema is {version}, this fedctl's is {SCHEMA_VERSION}: the next command brings it there",
                       patient.command("store migrate"), mend, schema=version, known=SCHEMA_VERSION)  # fmt: skip
    return ok(f"{path.name}, schema {version}", schema=version, known=SCHEMA_VERSION, path=str(path))


def _settled(patient: Patient) -> str:
    from fedctl.store import swap

    swap.settle(patient.store_path, 5.0)
    return "the exchange of the store was brought to its end"


def _migrated(patient: Patient) -> str:
    from fedctl.operations.upkeep import migrate

    done = migrate(patient.home, patient.clock)
    return f"the schema was {done.schema_from} and is {done.schema_to} now"


def _restore(patient: Patient) -> str:
    """Return what is left to do about a store that is damaged."""
    from fedctl.operations.damage import can_be_restored, keep_a_copy

    copy = keep_a_copy(patient.home)
    if not can_be_restored(patient.home):
        return f"{copy}   # keep a copy: there is no backup to restore"
    return f"{copy} && {patient.command('restore latest --overwrite')}"


def whole(patient: Patient) -> Found | None:
    """The store is whole, and its words, vectors and index files agree with it."""
    from fedctl.messages.store import CheckStore

    if patient.remote:
        if not patient.has_hub or patient.hub is None:
            return None
        try:
            answer = patient.hub.call(CheckStore())
        except Denied:
            return note("not looked at: that needs an operator's token")
        full = False
    elif not patient.is_current:
        return None
    else:
        from fedctl.operations.store import check

        try:
            full = patient.context.store.size_bytes() <= FULL_BELOW_BYTES
            answer = check(patient.context, patient.owner, CheckStore(full=full))
        except Corrupt as error:
            return failure(error.message, _restore(patient))
    return _judged(patient, answer, full=full)


def _judged(patient: Patient, answer: CheckAnswer, *, full: bool) -> Found:
    found = [one for one in answer.findings if patient.remote or one.check not in OWN_CHECKS]
    figures: dict[str, Any] = {"episodes": answer.episodes, "full": full, "findings": len(found)}
    damage = [one for one in found if one.severity == "data"]
    if damage:
        fix = _restore(patient) if not patient.remote else damage[0].fix
        return failure(*advised(_told(damage), fix), None, **figures)
    if found:
        mendable = all(one.fix == "fedctl memory reindex" for one in found) and not patient.remote
        mend = Mend("make words, vectors and index files anew", lambda: _reindexed(patient)) if mendable else None
        fix = patient.command("memory reindex") if mendable else found[0].fix
        return warning(*advised(_told(found), fix), mend, **figures)
    how = "every page and vector read" if full else "counts and digests; `store check --full` reads every page"
    return ok(f"{several(answer.episodes, 'episode')}, {how}", **figures)


def _told(found: list[Finding]) -> str:
    more = f", and {len(found) - 1:,} more" if len(found) > 1 else ""
    return f"{found[0].check}: {found[0].message}{more}"


def _reindexed(patient: Patient) -> str:
    from fedctl.messages.memory import Reindex

    episodes, names = 0, [name for name, _ in patient.tenants()]
    for name in names:
        caller = patient.writer
        caller.call(Reindex(begin=True), tenant_id=name)
        remaining = 1
        while remaining:  # one step at least: the last one mends the words
            answer = caller.call(Reindex(), tenant_id=name)
            episodes, remaining = episodes + answer.embedded, answer.remaining
    return f"{several(len(names), 'tenant')} indexed anew, {several(episodes, 'episode')} embedded"


def log(patient: Patient) -> Found | None:
    """The write-ahead log is no larger than it should be."""
    if not patient.can_open:
        return None
    wal_bytes, store_bytes = patient.context.store.wal_bytes(), patient.context.store.size_bytes()
    figures: dict[str, Any] = {"wal_bytes": wal_bytes, "store_bytes": store_bytes}
    if wal_bytes > LOG_MAX_BYTES:
        mend = Mend("fold the log into the store", lambda: _folded(patient))
        return warning(f"the log has {size(wal_bytes)}: a hub was killed, or something reads the store for long",
                       patient.command("doctor --fix"), mend, **figures)  # fmt: skip
    return ok(f"the log has {size(wal_bytes)}, the store {size(store_bytes)}", **figures)


def _folded(patient: Patient) -> str:
    store = patient.context.store
    before = store.wal_bytes()
    with store.freeing():
        store.checkpoint(truncate=True)
    return f"the log had {size(before)} and has {size(store.wal_bytes())} now"


def pending(patient: Patient) -> Found | None:
    """What was stored is embedded, or soon will be."""
    if patient.remote:
        if not patient.has_hub or patient.hub is None:
            return None
        from fedctl.messages.memory import MemoryStats

        waiting = patient.hub.call(MemoryStats()).pending_embeddings
    elif patient.can_open:
        waiting = patient.context.store.embeddings.pending(None)
    else:
        return None
    told = f"{several(waiting, 'episode')} not embedded yet: found by their words only"
    if waiting <= MANY_PENDING:
        return ok("every episode is embedded", pending=0) if not waiting else note(told, pending=waiting)
    if patient.remote or patient.has_hub:
        return warning(f"{told}; the hub embeds as fast as it can", patient.command("hub stats --watch 2s"),
                       pending=waiting)  # fmt: skip
    return warning(told, patient.command("hub start --detach"), pending=waiting)


def erasures(patient: Patient) -> Found | None:
    """What was to be erased is gone, and what says so beside the store is whole."""
    if not patient.can_open:
        return None
    from fedctl.operations.store import ledger_findings

    begun = patient.context.store.erasures.open()
    found = ledger_findings(patient.context)[1]
    if damage := [one for one in found if one.severity == "data"]:
        return failure(*advised(damage[0].message, damage[0].fix), None, unfinished=len(begun))
    if found:
        return warning(*advised(found[0].message, found[0].fix), None, unfinished=len(begun))
    if not begun:
        return ok("nothing is half erased", unfinished=0)
    oldest_s = (patient.clock.now_ms() - min(one.begun_at_ms for one in begun)) / 1000
    told = f"{several(len(begun), 'erasure')} begun and not ended, the first {lasting(oldest_s)} ago"
    return warning(told, patient.command("retention prune --dry-run"), Mend("end them", lambda: _erased(patient)),
                   unfinished=len(begun))  # fmt: skip


def _erased(patient: Patient) -> str:
    from fedctl.operations.erasure import finish

    before = len(patient.context.store.erasures.open())
    notes = finish(patient.context)
    left = len(patient.context.store.erasures.open())
    return f"{before - left} ended" + (f", {left} not: {notes[0]}" if left and notes else "")


def backup(patient: Patient) -> Found | None:
    """There is a whole backup that is not old."""
    if not patient.can_open:
        return None
    from fedctl.operations import backup as backups

    context, now_ms = patient.context, patient.clock.now_ms()
    pools, items = context.store.pools.count_everywhere()
    counted = ((context.store.tenants.episodes_everywhere(), "episode"), (sum(items.values()), "item"))
    holds = " and ".join(several(number, thing) for number, thing in counted if number)
    listed = [one for one in backups.list_(patient.home) if one.own]
    good = [one for one in listed if one.error is None and one.created_at is not None]
    make = patient.command("backup")
    if listed and not good:
        return failure(f"none of {several(len(listed), 'backup')} is whole: {listed[-1].error}", make)
    if not good:
        if not holds:
            return ok("nothing to back up yet", backups=0, pools=pools)
        return warning(f"there is no backup of {holds}", make, backups=0)
    newest = good[-1]
    made_ms = from_rfc3339(newest.created_at or "")
    verified_ms = max((from_rfc3339(one.verified_at) for one in good if one.verified_at), default=None)
    old_s = max(0.0, (now_ms - made_ms) / 1000)
    verified_s = None if verified_ms is None else max(0.0, (now_ms - verified_ms) / 1000)
    figures: dict[str, Any] = {"backups": len(good), "damaged": len(listed) - len(good), "newest": newest.created_at,
               "age_s": round(old_s), "verified_s": None if verified_s is None else round(verified_s)}  # fmt: skip
    told = f"the newest of {several(len(good), 'backup')} is {lasting(old_s)} old"
    verify = patient.command("backup verify latest")
    if len(good) < len(listed):
        damaged = next(one for one in listed if one.error is not None)
        return warning(f"{damaged.path} is damaged; {told}", make, **figures)
    if old_s > BACKUP_OLD_S and newest.seq is not None and context.store.changes.last_seq() > newest.seq:
        return warning(f"{told}, and the store has changed since", make, **figures)
    if verified_s is None or verified_s > VERIFIED_OLD_S:
        when = "never" if verified_s is None else f"{lasting(verified_s)} ago"
        return warning(f"{told}; one was last verified {when}", verify, **figures)
    return ok(f"{told}, verified {lasting(verified_s)} ago", **figures)


def clock(patient: Patient) -> Found | None:
    """The clock is right: as the hub's, and not behind what it wrote itself."""
    now_ms = patient.clock.now_ms()
    if patient.remote:
        if not patient.has_hub or patient.hub is None:
            return None
        skew_s = (now_ms - from_rfc3339(patient.hub.welcome.server_time)) / 1000
        told = f"this clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} the hub's"
        if abs(skew_s) > AHEAD_S:
            return warning(f"{told}: tokens and times will be wrong", "timedatectl status", None, skew_s=skew_s)
        return ok(told, skew_s=skew_s)
    if not patient.can_open:
        return None
    newest = patient.context.store.changes.newest(None, kinds=(), limit=1, most_bytes=1)
    if not newest:
        return ok("nothing was written yet that it could be held against")
    ahead_s = (from_rfc3339(newest[-1].at) - now_ms) / 1000
    if ahead_s > AHEAD_S:
        return warning(f"the newest change is {lasting(ahead_s)} in the future: this clock is behind, or was ahead",
                       "timedatectl status", None, ahead_s=ahead_s)  # fmt: skip
    return ok(f"the newest change is {lasting(max(0.0, -ahead_s))} old", ahead_s=ahead_s)
