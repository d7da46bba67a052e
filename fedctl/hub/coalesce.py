"""Stores that wait together are carried out together: one round of statements for all of them.

A request of one episode costs some 200 µs of CPU, an episode in a request of 25 costs 60: the rest is looking up the
tenant, the ids and the sequence once a request. Agents push one by one, so a group of 50 waiting pushes is made into
one request a tenant, and its results are handed back to those who asked. What each is answered is what it would have
been answered alone; `tests/hub/test_coalesce.py` holds the two against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from fedctl.errors import Corrupt, DiskFull
from fedctl.hub.jobs import Job, carry_out
from fedctl.messages.memory import StoreAnswer, StoreEpisodes
from fedctl.model.limits import BATCH_MAX_ITEMS
from fedctl.model.principal import Principal
from fedctl.operations.table import OPERATIONS
from fedctl.store.room import NoRoomError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.errors import FedctlError
    from fedctl.log import Log
    from fedctl.model.episode import EpisodeDraft
    from fedctl.operations.context import Context


class _Bundle:
    """Stores of one tenant, in the order they came."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._episodes = 0
        self._on_conflict = ""

    def takes(self, request: StoreEpisodes) -> bool:
        if not self.jobs:
            return True
        return request.on_conflict == self._on_conflict and self._episodes + len(request.episodes) <= BATCH_MAX_ITEMS

    def add(self, job: Job, request: StoreEpisodes) -> None:
        self.jobs.append(job)
        self._episodes += len(request.episodes)
        self._on_conflict = request.on_conflict


def bundles(group: list[Job]) -> Iterator[list[Job]]:
    """Yield the jobs of a group in bundles to be carried out one after the other.

    Tenants do not see each other, so stores of different ones may change places; within a tenant, and around every
    other kind of request, the order stays.
    """
    waiting: dict[str, _Bundle] = {}
    for job in group:
        request = _joinable(job)
        if request is None:
            yield from (bundle.jobs for bundle in waiting.values())
            waiting.clear()
            yield [job]
            continue
        bundle = waiting.setdefault(job.who.tenant_id, _Bundle())
        if not bundle.takes(request):
            yield bundle.jobs
            bundle = waiting[job.who.tenant_id] = _Bundle()
        bundle.add(job, request)
    yield from (bundle.jobs for bundle in waiting.values())


def _joinable(job: Job) -> StoreEpisodes | None:
    """Return a job's request if it can be carried out with others: a store that answers with ids alone."""
    request = job.request
    if not isinstance(request, StoreEpisodes) or request.echo or len(request.episodes) > BATCH_MAX_ITEMS:
        return None
    return request if OPERATIONS[StoreEpisodes].refusal(job.who) is None else None


def carry_out_together(context: Context, jobs: list[Job], log: Log) -> None:
    """Carry out one bundle; each job has its answer or its error then."""
    if len(jobs) == 1:
        carry_out(context, jobs[0], log)
        return
    requests = [cast("StoreEpisodes", job.request) for job in jobs]
    joint = Job(
        Principal(tenant_id=jobs[0].who.tenant_id, role="owner"),
        StoreEpisodes(
            episodes=[
                draft
                for job, request in zip(jobs, requests, strict=True)
                for draft in _signed(request.episodes, job.who.agent_id)
            ],
            on_conflict=requests[0].on_conflict,
        ),
        operation=jobs[0].operation,
        size_bytes=0,
        began_s=0.0,
        done=lambda _job: None,
    )
    carry_out(context, joint, log)
    if joint.error is None:
        start = 0
        for job, request in zip(jobs, requests, strict=True):
            end = start + len(request.episodes)
            job.answer = StoreAnswer(results=joint.answer.results[start:end])
            start = end
        return
    for job in jobs:
        if context.store.spoilt or undoes_all(joint.error):
            job.error = joint.error  # the whole transaction is undone, and with `spoilt` then done again
        else:
            carry_out(context, job, log)  # one of them must have been the reason: the others are not to suffer


def undoes_all(error: FedctlError | None) -> bool:
    """Return whether SQLite may have undone the whole transaction with the request that ended so."""
    return isinstance(error, DiskFull | Corrupt) and not isinstance(error, NoRoomError)


def _signed(drafts: list[EpisodeDraft], agent_id: str | None) -> list[EpisodeDraft]:
    """Return the drafts as the agent's: who stores is who asks, whatever a draft says."""
    if agent_id is None:
        return drafts
    return [msgspec.structs.replace(draft, agent_id=agent_id) for draft in drafts]
