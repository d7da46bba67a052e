"""`fedctl restore`: put a backup in the store's place, or make a new home of it."""

from pathlib import Path
from typing import Annotated

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.progress import Progress
from fedctl.cli.render import Shape
from fedctl.model.restore import Restored

RESTORED = Shape.of(Restored)

app = noun("restoring", "Restore backups.")


@verb(
    app,
    shape=RESTORED,
    asks=True,
    dry_run=True,
    examples=[
        "fedctl restore latest --to ./copy",
        "fedctl restore latest --overwrite --yes",
        "fedctl restore /mnt/usb/fedctl-20260131.backup --to ./copy",
    ],
)
def restore(
    ctx: Invocation,
    backup: Annotated[str, argument("ID|FILE|latest", "The backup: its id, its file, or the newest.")],
    to: Annotated[
        Path | None, flag("--to", metavar="DIR", says="Make a new home in DIR, which is not there or empty.")
    ] = None,
    overwrite: Annotated[bool, flag("--overwrite", says="Replace the store that the home has.")] = False,
    passphrase_file: Annotated[
        Path | None, flag("--passphrase-file", metavar="F", says="The passphrase the backup was sealed with.")
    ] = None,
    signed_by: Annotated[
        str | None,
        flag(
            "--signed-by",
            metavar="FINGERPRINT",
            parser=values.text,
            says="Take it only if the key of this fingerprint signed it.",
        ),
    ] = None,
    lock_wait: Annotated[
        int,
        flag(
            "--lock-wait",
            metavar="DUR",
            parser=values.duration,
            says="Wait that long for whoever uses the store.",
            default="do not wait",
        ),
    ] = 0,
) -> None:
    """Restore a backup: all of it is checked first, and the store is the old one or the new one, never a mix.

    Nobody may use the store meanwhile. What was erased after the backup stays erased, and a token that was revoked
    stays revoked. Agents that come back push again what the backup did not have. With --dry-run it is restored beside
    its place and dropped: that needs neither --overwrite nor a hub that is stopped.
    """
    from fedctl.bootstrap import open_backup, restore_plan, restored
    from fedctl.cli.backup import note_if_others_read

    note_if_others_read(ctx, passphrase_file)
    path, place = restore_plan(
        ctx.settings, backup, to, ctx.screen.note, overwrite=overwrite, lock_wait_ms=lock_wait, dry_run=ctx.dry_run
    )
    with open_backup(ctx.settings, path, passphrase_file, signed_by, ctx.screen.note) as source:
        if place.path.exists() and not ctx.dry_run:
            made = f"{source.manifest.created_at} ({source.manifest.id})"
            ctx.confirm(f"The store in {place.into} is replaced by the backup of {made}: what came after it is lost.")
        with Progress(ctx, "restoring") as progress:
            done = 0

            def watch(size_bytes: int) -> None:
                nonlocal done
                done += size_bytes
                progress.update(done, source.size_bytes * 2)

            answer = restored(source, place, watch, dry_run=ctx.dry_run)
    ctx.screen.done(answer, RESTORED)
    for note in answer.notes:
        ctx.screen.note(note)
