"""Work through a hub's group commit: what shares a transaction shares nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fedctl.hub.jobs import Job
from fedctl.hub.stats import Figures
from fedctl.hub.writer import Writer
from fedctl.log import Log, LogOptions
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, FollowUp, Item, ItemDraft
from fedctl.model.principal import Principal

OWNER = Principal(tenant_id="default", role="owner")
WAIT_S = 20


class Group:
    """Jobs that are committed together: the store is busy until all of them wait."""

    def __init__(self, bench: Any) -> None:
        self._bench = bench
        self._answered = threading.Semaphore(0)
        self.groups: list[list[Job]] = []
        self.commits = 0
        self._writer = Writer(
            bench.context.fork(), deliver=self._deliver, committed=self._committed, failed=lambda _error: None,
            figures=Figures(bench.clock), log=Log(LogOptions("silent"), bench.clock, lambda _line: None),
        )  # fmt: skip

    def _deliver(self, jobs: list[Job]) -> None:
        self.groups.append(jobs)
        for _ in jobs:
            self._answered.release()

    def _committed(self) -> None:
        self.commits += 1

    def carry_out(self, *requests: Any) -> list[Any]:
        """Return the answers to requests that went into one transaction, or their errors."""
        first = m.StoreEpisodes(episodes=[EpisodeDraft(id=f"first {self.commits}", task="t")])
        jobs = [
            Job(OWNER, one, operation="x", size_bytes=1, began_s=0.0, done=lambda _job: None)
            for one in (first, *requests)
        ]
        before = len(self.groups)
        with self._bench.store.write():  # the first is on its way and waits; the others gather behind it
            self._writer.submit(jobs[0])
            while self._writer._jobs:
                threading.Event().wait(0.001)
            for job in jobs[1:]:
                self._writer.submit(job)
        for _ in jobs:
            assert self._answered.acquire(timeout=WAIT_S)
        assert [len(group) for group in self.groups[before:]] == [1, len(requests)]
        return [job.error or job.answer for job in jobs[1:]]

    def close(self) -> None:
        self._writer.stop()
        assert self._writer.join(WAIT_S)


@pytest.fixture
def group(bench):
    made = Group(bench)
    yield made
    made.close()


def held(bench: Any, *ids: str) -> list[Item]:
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id=one) for one in ids]))
    return bench.call(p.ClaimItems(pool="p", worker_id="w", count=len(ids))).items


def done(item: Item, **fields: Any) -> p.CompleteItems:
    return p.CompleteItems(completions=[Completion(id=item.id, lease_id=item.lease_id or "", **fields)])


def follow_up(id_: str, **fields: Any) -> list[FollowUp]:
    return [FollowUp(pool="next", item=ItemDraft(id=id_, **fields))]


BAD: dict[str, dict[str, Any]] = {
    "a follow-up": {"then_push": [*follow_up("bad 1"), *follow_up("bad 2", priority=2**40)]},
    "an episode": {"then_push": follow_up("bad 1"), "episode": EpisodeDraft(id="bad", task="")},
    "an episode in conflict": {"then_push": follow_up("bad 1"), "episode": EpisodeDraft(id="known", task="other")},
}


@pytest.mark.parametrize("what", BAD)
def test_a_completion_that_is_refused_takes_nothing_from_its_group_and_leaves_nothing(bench, group, what: str):
    """Tried without savepoints first; when one fails that had begun to write, all is done again with them."""
    bench.keep("known")
    a, b, c = held(bench, "a", "b", "c")
    answers = group.carry_out(
        done(a, result=1, then_push=follow_up("after a"), episode=EpisodeDraft(id="of a", task="t")),
        done(b, result=2, **BAD[what]),
        done(c, result=3, then_push=follow_up("after c")),
        p.ClaimItems(pool="next", worker_id="w", count=9),
    )
    assert [one.results[0].ok for one in answers[:3]] == [True, False, True]
    assert answers[1].results[0].error["code"] in ("usage", "conflict")
    assert [one.id for one in answers[3].items] == ["after a", "after c"]
    assert [bench.call(p.GetItem(id=one)).item.status for one in "abc"] == ["done", "claimed", "done"]
    assert bench.ids() == ["known", "first 0", "of a"]
    seqs = [one.seq for one in bench.store.changes.after(0, 100)]
    assert seqs == list(range(1, len(seqs) + 1)), "no gap, and nothing of what was undone"
    assert bench.store.integrity() == []
    assert done_again(bench, b)


def done_again(bench: Any, item: Item) -> bool:
    return bench.call(done(item, result=2)).results[0].ok


def test_what_is_refused_on_its_face_costs_its_group_no_second_try(bench, group):
    a, b = held(bench, "a", "b")
    answers = group.carry_out(
        done(a), p.CompleteItems(completions=[Completion(id="b", lease_id="x")]),
        p.PushItems(pool="../p", items=[ItemDraft(id="x")]), done(b),
    )  # fmt: skip
    assert answers[0].results[0].ok
    assert answers[1].results[0].error["code"] == "conflict"
    assert answers[2].code == "usage"
    assert answers[3].results[0].ok


def test_a_group_of_claims_gives_each_item_once_in_the_order_they_came(bench, group):
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id=f"i{number}") for number in range(5)]))
    answers = group.carry_out(
        *(p.ClaimItems(pool="p", worker_id=f"w{number}", count=2) for number in range(3)),
        p.PushItems(pool="p", items=[ItemDraft(id="late")]),
        p.ClaimItems(pool="p", worker_id="w3"),
    )
    assert [[one.id for one in answer.items] for answer in (*answers[:3], answers[4])] == [
        ["i0", "i1"], ["i2", "i3"], ["i4"], ["late"],
    ]  # fmt: skip


def test_requirements_of_a_group_that_was_done_again_are_those_that_are_there(bench, group):
    """The key of a new set of requirements is remembered, and the first try that made it was undone."""
    (a,) = held(bench, "a")
    group.carry_out(
        p.PushItems(pool="p", items=[ItemDraft(id="x", requires=["new"])]),
        done(a, then_push=follow_up("bad", priority=2**40)),
        done(a, episode=EpisodeDraft(id="bad", task="")),
    )
    group.carry_out(
        p.PushItems(pool="p", items=[ItemDraft(id="y", requires=["other"]), ItemDraft(id="z", requires=["new"])])
    )
    found = {one.id: one.requires for one in bench.call(p.ListItems(pool="p", status="pending")).items}
    assert found == {"x": ["new"], "y": ["other"], "z": ["new"]}
    assert bench.store.integrity() == []
