"""Erasing, step by step: a tenant, or episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from fedctl.cli.cron import when_free
from fedctl.cli.progress import Progress
from fedctl.cli.render import counted
from fedctl.messages.memory import EraseEpisodes
from fedctl.messages.tenant import HELD, EraseTenant
from fedctl.model.limits import BATCH_MAX_ITEMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.cli.command import Invocation
    from fedctl.client.caller import Caller
    from fedctl.messages.base import Request
    from fedctl.messages.memory import EraseEpisodesAnswer
    from fedctl.messages.tenant import TenantErasure
    from fedctl.model.backup import Backup
    from fedctl.model.episode import EpisodeFilter

A = TypeVar("A")
_JOB_WAIT_MS = 30_000


def erase_tenant(ctx: Invocation, name: str) -> TenantErasure:
    """Erase a tenant after asking, or say what would go; the figures are of what there was at the beginning."""
    with ctx.caller(unhurried=True) as caller:
        would = caller.call(EraseTenant(name=name, dry_run=True)).erasure
        if ctx.dry_run:
            _tell(ctx, would.backups, [])
            return would
        ctx.confirm(f"Erase the tenant {name} with {counted(would.episodes, 'episode')} for good?")
        with Progress(ctx, "erasing") as progress:
            answer = _ask(caller, EraseTenant(name=name))
            total = sum(getattr(answer.erasure, kind) for kind in HELD)
            while not (answer.erasure.complete or answer.erasure.notes):
                progress.update(total - answer.remaining, total)
                answer = _ask(caller, EraseTenant(name=name, begin=False))
    counts = {kind: getattr(would, kind) for kind in (*HELD, "tokens")}
    _tell(ctx, answer.erasure.backups, answer.erasure.notes)
    return msgspec.structs.replace(answer.erasure, **counts)


def erase_episodes(
    ctx: Invocation, caller: Caller, ids: Sequence[str], filter_: EpisodeFilter
) -> list[EraseEpisodesAnswer]:
    """Erase episodes by id, or by a filter after asking; return an answer a call, of which the last is the whole's."""
    if ids:
        parts = [list(ids[start : start + BATCH_MAX_ITEMS]) for start in range(0, len(ids), BATCH_MAX_ITEMS)]
        answers = [_ask(caller, EraseEpisodes(ids=part, dry_run=ctx.dry_run, defer=True)) for part in parts]
    else:
        would = caller.call(EraseEpisodes(filter=filter_, dry_run=True))
        if ctx.dry_run or not would.total:
            _tell(ctx, would.backups, [])
            return [would]
        ctx.confirm(f"Erase {counted(would.total, 'episode')} of the tenant {ctx.settings.tenant} for good?")
        with Progress(ctx, "erasing") as progress:
            answers = [_ask(caller, EraseEpisodes(filter=filter_, defer=True))]
            while answers[-1].more:
                progress.update(sum(len(one.deleted) for one in answers), would.total)
                answers.append(_ask(caller, EraseEpisodes(filter=filter_, defer=True)))
    if ctx.dry_run:
        backups = {one.path: one for answer in answers for one in answer.backups}
        _tell(ctx, list(backups.values()), [])
        return [*answers[:-1], msgspec.structs.replace(answers[-1], backups=list(backups.values()))]
    seqs = [one.least_seq for one in answers if one.deleted]
    since_seq = None if None in seqs else min((one for one in seqs if one is not None), default=None)
    with Progress(ctx, "clearing the words away"):
        while not answers[-1].complete or len(answers) == 1:
            answers.append(_ask(caller, EraseEpisodes(since_seq=since_seq)))
            if answers[-1].notes or answers[-1].complete:
                break
    _tell(ctx, answers[-1].backups, answers[-1].notes)
    return answers


def _ask(caller: Caller, request: Request[A]) -> A:
    """Ask, and again while somebody else is erasing: a hub does not wait for them."""
    return when_free("erase", lambda: caller.call(request), _JOB_WAIT_MS)


def _tell(ctx: Invocation, backups: Sequence[Backup], notes: Sequence[str]) -> None:
    for note in notes:
        ctx.screen.note(note)
    if backups:
        ctx.screen.note(f"{counted(len(backups), 'backup')} may still hold it, or cannot be looked into:")
        for one in backups:
            ctx.screen.note(f"  {one.id or one.path}")
