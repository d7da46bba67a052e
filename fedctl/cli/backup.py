"""`fedctl backup`: make backups, check them, and forget old ones."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.cron import LockWait, MaxTime, PingUrlFile, pinged
from fedctl.cli.options import argument, flag
from fedctl.cli.progress import Progress
from fedctl.cli.render import Shape, counted, with_more
from fedctl.errors import Corrupt, UsageError
from fedctl.model.backup import Backup, Judged, KeepRules, Made, Pruned

BACKUP = Shape.of(Backup, "id", "created_at", "size_bytes", "episodes", "items", "verified_at", "error", "path")
MADE = Shape.of(Made, *BACKUP.columns)
PRUNED = Shape.of(Pruned, key="removed")
JUDGED = Shape.of(Judged, "id", "created_at", "size_bytes", "kept", "reasons")
WHICH = "The backup: its id, its file, or the newest."

app = noun(
    "backup",
    "Make backups, check them, and forget old ones.",
    "A backup is one file, as the store was at one moment while others went on writing. It is signed by the "
    "home's own key (keys/backup.key), and every byte is vouched for. --with-keys takes the keys and the settings "
    "along; --passphrase-file seals it (scrypt, AES-256-GCM): without the passphrase nobody gets anything out of "
    "it, you included.",
    "What another home signed is never removed, and refused by verify and restore unless its key is named: "
    "--signed-by FINGERPRINT. Tokens issued before do not work in a home that was made of a backup without keys.",
    alone="create",
)

Dest = Annotated[Path | None, argument("[DEST]", "The folder of the backups. [default: backups/ in the home]")]
PassphraseFile = Annotated[
    Path | None, flag("--passphrase-file", metavar="F", says="A file with the passphrase that seals it.")
]

WholeTime = Annotated[
    int | None,
    flag("--max-time", metavar="DUR", parser=values.lasting, says="End after that time; what is not done begins anew."),
]


def _keep(what: str, says: str) -> Any:
    return flag(f"--keep-{what}", metavar="N", least=-1, says=f"{says} -1: of all.")


KeepLast = Annotated[int, _keep("last", "Keep the last N.")]
KeepHourly = Annotated[int, _keep("hourly", "Keep the newest of each of the last N hours that have one.")]
KeepDaily = Annotated[int, _keep("daily", "Likewise of days.")]
KeepWeekly = Annotated[int, _keep("weekly", "Likewise of weeks.")]
KeepMonthly = Annotated[int, _keep("monthly", "Likewise of months.")]
KeepYearly = Annotated[int, _keep("yearly", "Likewise of years.")]


@verb(
    app,
    shape=MADE,
    examples=[
        "fedctl backup create",
        "fedctl backup create /mnt/backups --prune --keep-daily 7 --keep-weekly 5 -q",
        "fedctl backup create /mnt/usb --with-keys --passphrase-file ~/passphrase",
    ],
)
def create(
    ctx: Invocation,
    dest: Dest = None,
    with_keys: Annotated[bool, flag("--with-keys", says="The keys and the settings too.")] = False,
    passphrase_file: PassphraseFile = None,
    prune: Annotated[bool, flag("--prune", says="Then remove those that no --keep rule keeps.")] = False,
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    lock_wait: LockWait = 0,
    max_time: WholeTime = None,
    ping_url_file: PingUrlFile = None,
) -> None:
    """Back the store up while others go on writing, and read the backup again before it counts.

    A backup holds all that was acknowledged before it began. A damaged store is not backed up, and nothing is pruned
    then: exit 13. With --with-keys whoever has the backup can make tokens: seal it.
    """
    from fedctl.bootstrap import finish_erasures
    from fedctl.clock import Clock
    from fedctl.operations import backup

    _check_here(ctx)
    rules = _rules(keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
    if prune != (rules != KeepRules()):
        raise UsageError(
            "--prune needs a rule that says what to keep" if prune else "a --keep rule means nothing without --prune",
            hint="like --prune --keep-daily 7 --keep-last 3",
        )
    home, clock = ctx.settings.home, Clock()
    note_if_others_read(ctx, passphrase_file)
    with pinged(ctx, ping_url_file):
        with _job(ctx, "backup", "backing up", lock_wait, max_time) as step:
            made = backup.create(
                home, clock, dest, passphrase_file=passphrase_file, with_keys=with_keys, timeout_s=_timeout_s(ctx),
                finish=lambda: finish_erasures(ctx.settings), step=step,
            )  # fmt: skip
            pruned = backup.prune(home, clock, dest, rules, fresh=made, step=step) if prune else None
        gone: list[str] = []
        if pruned is not None:
            gone = [one.id for one in pruned.backups if not one.kept]
        ctx.screen.done(with_more(made, Made, pruned=gone), MADE)
        if with_keys and passphrase_file is None:
            ctx.screen.note("whoever reads this backup has the home's keys: --passphrase-file seals it")
        if pruned is not None:
            ctx.screen.note(f"{pruned.removed} older backups were removed, {pruned.kept} kept")
            _tell_damaged(ctx, pruned)


@verb(
    app,
    "list",
    shape=BACKUP,
    form="many",
    examples=["fedctl backup list", "fedctl backup list /mnt/backups --json | jq '.[-1]'"],
)
def list_(
    ctx: Invocation,
    dest: Annotated[
        Path | None, argument("[DEST]", "One folder. [default: all that this home made backups in]")
    ] = None,
) -> None:
    """List the backups, oldest first.

    Only their heads are read now. `error` is what is wrong with a head, or what the last verify or prune found;
    a backup that nobody has verified since may be damaged without one.
    """
    from fedctl.operations import backup

    _check_here(ctx)
    found = backup.list_(ctx.settings.home, dest)
    limit = ctx.screen.default_limit
    shown = found if limit is None else found[-limit:]
    shape = BACKUP
    if ctx.screen.form == "table" and not ctx.screen.plain:  # what is as usual needs no column; a program's stay
        unusual = (("sealed", any(one.sealed for one in shown)), ("own", not all(one.own for one in shown)))
        more = [name for name, is_there in unusual if is_there]
        shape = BACKUP.with_columns((*BACKUP.columns[:-1], *more, BACKUP.columns[-1]))
    ctx.screen.many(shown, shape)
    ctx.screen.cut(len(shown), len(found))
    for folder in backup.absent_folders(ctx.settings.home) if dest is None else ():
        ctx.screen.note(f"the folder {folder} is not there now")


@verb(app, shape=BACKUP, examples=["fedctl backup show latest --json"])
def show(ctx: Invocation, which: Annotated[str, argument("ID|FILE|latest", WHICH)]) -> int:
    """Show what a backup says it holds, who signed it, and when it was last found whole. A damaged one: exit 13."""
    from fedctl.operations import backup

    _check_here(ctx)
    home = ctx.settings.home
    path = backup.find(home, which)
    found = backup.show(home, path)
    ctx.screen.one(found, BACKUP)
    _tell_unsure(ctx, which, path)
    if found.error is None:
        return 0
    ctx.screen.note(found.error)
    return Corrupt.exit


@verb(
    app,
    shape=BACKUP,
    examples=["fedctl backup verify latest", "fedctl backup verify latest --restore-test -q --max-time 1h"],
)
def verify(
    ctx: Invocation,
    which: Annotated[str, argument("ID|FILE|latest", WHICH)],
    restore_test: Annotated[
        bool, flag("--restore-test", says="Restore it beside itself, and compare what comes out.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    signed_by: Annotated[
        str | None,
        flag(
            "--signed-by",
            metavar="FINGERPRINT",
            parser=values.text,
            says="Trust this key, instead of the home's own.",
        ),
    ] = None,
    lock_wait: LockWait = 0,
    max_time: WholeTime = None,
    ping_url_file: PingUrlFile = None,
) -> None:
    """Read all of a backup, and say whether it is what was made; if not: exit 13.

    Without its passphrase a sealed one is checked as it is, and not looked into; with a wrong one: exit 9.
    """
    from fedctl.clock import Clock
    from fedctl.operations import backup

    _check_here(ctx)
    home = ctx.settings.home
    note_if_others_read(ctx, passphrase_file)
    opener = backup.opener(home, passphrase_file=passphrase_file, signed_by=signed_by)
    with pinged(ctx, ping_url_file):
        with _job(ctx, "verify", "verifying", lock_wait, max_time) as step:
            path = backup.find(home, which)
            _tell_unsure(ctx, which, path)
            found = backup.verify(home, Clock(), path, opener, restore_test=restore_test, step=step)
        ctx.screen.done(found, BACKUP)
        if restore_test:
            ctx.screen.note(
                f"restored beside itself, it holds what it says: {counted(found.episodes, 'episode')} and "
                f"{counted(found.items, 'item')} of {counted(found.tenants, 'tenant')}"
                if found.episodes is not None and found.items is not None and found.tenants is not None
                else "restored beside itself, it holds what it says"
            )
        for line in opener.notes:
            ctx.screen.note(line)
        if found.sealed and passphrase_file is None:
            ctx.screen.note("it is sealed, and was not looked into: --passphrase-file")


@verb(
    app,
    shape=PRUNED,
    dry_run=True,
    examples=[
        "fedctl backup prune --keep-daily 7 --keep-weekly 5 -n",
        "fedctl backup prune /mnt/backups --keep-last 3",
    ],
)
def prune(
    ctx: Invocation,
    dest: Dest = None,
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    lock_wait: LockWait = 0,
    max_time: MaxTime = None,
    ping_url_file: PingUrlFile = None,
) -> None:
    """Remove this home's backups that no rule keeps; the newest whole one always stays.

    A backup stays if any rule keeps it. Times are UTC. A rule that finds less than its number keeps the oldest too.
    """
    from fedctl.clock import Clock
    from fedctl.operations import backup

    _check_here(ctx)
    rules = _rules(keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
    if rules == KeepRules():
        raise UsageError("without a rule nothing would be kept", hint="say what to keep: --keep-daily 7 --keep-last 3")
    with pinged(ctx, ping_url_file):
        with _job(ctx, "backup", "pruning", lock_wait, max_time) as step:
            pruned = backup.prune(ctx.settings.home, Clock(), dest, rules, dry_run=ctx.dry_run, step=step)
        if ctx.screen.form != "table" or ctx.session.fields:
            ctx.screen.one(pruned, PRUNED)
        elif not ctx.settings.quiet:
            ctx.screen.many(pruned.backups, JUDGED)
            would = "would be " if ctx.dry_run else ""
            ctx.screen.note(f"{pruned.removed} {would}removed ({pruned.bytes_freed:,} bytes), {pruned.kept} kept")
        _tell_damaged(ctx, pruned)


def note_if_others_read(ctx: Invocation, passphrase_file: Path | None) -> None:
    """Say of a file with a passphrase that its owner is not the only one who can open it."""
    import shlex
    import stat
    from contextlib import suppress

    if passphrase_file is None:
        return
    with suppress(OSError):  # who reads it says so
        mode = passphrase_file.stat().st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            shown = shlex.quote(str(passphrase_file))
            ctx.screen.note(f"others may open the passphrase file (mode {stat.S_IMODE(mode):04o}): chmod 600 {shown}")


def _tell_damaged(ctx: Invocation, pruned: Pruned) -> None:
    if pruned.damaged:
        many = len(pruned.damaged)
        ctx.screen.note(f"{many} damaged {'one was' if many == 1 else 'were'} left alone: {pruned.damaged[0]}")


def _tell_unsure(ctx: Invocation, which: str, path: Path) -> None:
    from fedctl.operations import backup

    for why in backup.unsure(ctx.settings.home, path) if which == "latest" else ():
        ctx.screen.note(why)


def _rules(last: int, hourly: int, daily: int, weekly: int, monthly: int, yearly: int) -> KeepRules:
    return KeepRules(last=last, hourly=hourly, daily=daily, weekly=weekly, monthly=monthly, yearly=yearly)


def _check_here(ctx: Invocation) -> None:
    """Refuse a hub elsewhere: its home is not here. One on this home goes on meanwhile."""
    if ctx.settings.hub not in ("auto", "off"):
        raise UsageError("backups are made and kept on the hub's own machine", hint="log in there and run it")


def _timeout_s(ctx: Invocation) -> float:
    ms = ctx.settings.timeout_ms
    return 30.0 if ms is None else ms / 1000


@contextmanager
def _job(
    ctx: Invocation, name: str, title: str, lock_wait_ms: int, max_ms: int | None
) -> Iterator[Callable[[int, int | None], None]]:
    """Be the only one of that name on the home; what comes out is told how far it is, and ends it when time is up."""
    from fedctl.clock import Clock
    from fedctl.operations.job import Deadline, exclusive_job

    anew = {} if title == "pruning" else {"hint": f"{title} begins anew: give it longer"}
    deadline = Deadline(Clock(), max_ms, **anew)
    with ExitStack() as held:
        if name != "verify" or ctx.settings.home.is_dir():  # a machine without a home can check a backup too
            held.enter_context(exclusive_job(ctx.settings.home, name, lock_wait_ms))
        bar = held.enter_context(Progress(ctx, title))

        def step(done: int, total: int | None) -> None:
            deadline.check()
            bar.update(done, total)

        yield step
