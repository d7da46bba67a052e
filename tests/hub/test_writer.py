"""Group commit: one transaction for all that waits, a savepoint for each, and nothing acked that was not committed."""

import contextlib
import gc
import threading
import weakref

import pytest

from fedctl.errors import Corrupt, DiskFull, Failure, NotFound, Unavailable
from fedctl.hub import writer as writer_module
from fedctl.hub.jobs import Budget, Job, carry_out
from fedctl.hub.stats import Figures
from fedctl.hub.writer import Writer
from fedctl.log import Log, LogOptions
from fedctl.messages.agent import ReportAgent
from fedctl.messages.memory import GetEpisodes, StoreEpisodes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.principal import Principal

OWNER = Principal(tenant_id="default", role="owner")
WAIT_S = 20


class StoreThatFails:
    """The store of a context, with a commit that fails the way a disk does."""

    def __init__(self, store, error):
        self._store, self.error = store, error

    @contextlib.contextmanager
    def write(self, *, apart=True, admitted=False):
        outermost = not self._store.database.writing
        with self._store.write(apart=apart, admitted=admitted):
            yield
            if outermost and self.error is not None:
                raise self.error

    def __getattr__(self, name):
        return getattr(self._store, name)


class Desk:
    """A writer with its ends in the test's hands."""

    def __init__(self, bench, error=None):
        self.clock = bench.clock
        self.figures = Figures(bench.clock)
        self.groups, self.fatal, self.lines = [], [], []
        self.commits = 0
        self.answered = threading.Condition()
        context = bench.context.fork()
        self.store = StoreThatFails(context.store, error)
        self.writer = Writer(
            context._replace(store=self.store),
            deliver=self._deliver,
            committed=self._committed,
            failed=self.fatal.append,
            figures=self.figures,
            log=Log(LogOptions("basic"), bench.clock, self.lines.append),
        )

    def _deliver(self, jobs):
        with self.answered:
            self.groups.append(jobs)
            self.answered.notify_all()

    def _committed(self):
        self.commits += 1

    def job(self, request, size_bytes=10):
        return Job(OWNER, request, operation="op", size_bytes=size_bytes, began_s=0.0, done=lambda _job: None)

    def store_one(self, name, **fields):
        return self.job(StoreEpisodes(episodes=[EpisodeDraft(id=name, task="t", **fields)]))

    def wait_for(self, count):
        with self.answered:
            assert self.answered.wait_for(lambda: sum(map(len, self.groups)) >= count, WAIT_S)

    def run(self, *jobs):
        """Hand all over at once, so that they make one group, and wait for the answers."""
        with self.writer._ready:
            for job in jobs:
                self.writer._budget.take(job)
                self.writer._jobs.add(job)
            self.writer._ready.notify()
        self.wait_for(sum(map(len, self.groups)) + len(jobs))
        return jobs

    def close(self):
        self.writer.stop()
        assert self.writer.join(WAIT_S)


@pytest.fixture
def make_desk(bench):
    made = []

    def make(error=None):
        made.append(Desk(bench, error))
        return made[-1]

    yield make
    for desk in made:
        desk.close()


def test_what_waits_is_committed_together(make_desk, bench):
    desk = make_desk()
    desk.run(*(desk.store_one(f"e{number}") for number in range(50)))
    assert desk.commits == 1
    assert [len(group) for group in desk.groups] == [50]
    assert len(bench.ids()) == 50


def test_one_refused_request_takes_nothing_from_the_others(make_desk, bench):
    desk = make_desk()
    good, bad, last = desk.run(
        desk.store_one("e1"), desk.job(ReportAgent(id="nobody", status="dead")), desk.store_one("e2")
    )
    assert good.answer.results[0].ok
    assert isinstance(bad.error, NotFound)
    assert bad.answer is None
    assert last.answer.results[0].ok
    assert bench.ids() == ["e1", "e2"]


def test_a_bug_in_one_request_takes_nothing_from_the_others(make_desk, bench):
    desk = make_desk()
    good, bad = desk.run(desk.store_one("e1"), desk.job(StoreEpisodes(episodes=[None])))
    assert good.answer.results[0].ok
    assert isinstance(bad.error, Failure)
    assert "failed inside the hub" in bad.error.message
    assert bench.ids() == ["e1"]
    assert any("error.internal" in line for line in desk.lines)
    assert not desk.fatal


def test_answers_come_after_the_commit(make_desk, bench):
    desk = make_desk()
    seen = []
    deliver = desk.writer._deliver

    def look(jobs):
        seen.append(bench.another().ids())
        deliver(jobs)

    desk.writer._deliver = look
    desk.run(desk.store_one("e1"))
    assert seen == [["e1"]]


def test_a_group_is_bounded_in_number_and_in_bytes(make_desk, monkeypatch):
    desk = make_desk()
    monkeypatch.setattr(writer_module, "GROUP_MAX_JOBS", 4)
    desk.run(*(desk.store_one(f"e{number}") for number in range(10)))
    assert [len(group) for group in desk.groups] == [4, 4, 2]
    monkeypatch.setattr(writer_module, "GROUP_MAX_BYTES", 100_000)
    large = [desk.job(desk.store_one(f"f{number}").request, size_bytes=40_000) for number in range(3)]
    desk.run(*large)
    assert [len(group) for group in desk.groups[3:]] == [2, 1]


def test_where_several_tenants_write_groups_are_small_and_each_has_its_turn(make_desk, monkeypatch):
    desk = make_desk()
    monkeypatch.setattr(writer_module, "SHARED_GROUP_MAX_BYTES", 8_000)
    flood = [desk.store_one(f"e{number}") for number in range(100)]
    for job in flood:
        job.size_bytes = 500
    victim = desk.store_one("v")
    victim.who = Principal(tenant_id="victim", role="owner")
    desk.run(*flood, victim)
    assert all(len(group) <= 8 for group in desk.groups)
    assert any(victim in group for group in desk.groups[:3])
    assert victim.answer.results[0].ok


def test_a_full_disk_refuses_the_group_and_passes(make_desk, bench):
    desk = make_desk(DiskFull("the disk is full"))
    jobs = desk.run(desk.store_one("e1"), desk.store_one("e2"))
    assert all(isinstance(job.error, DiskFull) and job.answer is None for job in jobs)
    assert bench.ids() == []
    assert not desk.fatal
    desk.store.error = None
    [again] = desk.run(desk.store_one("e1"))
    assert again.answer.results[0].ok


def test_a_store_that_is_busy_refuses_the_group_and_passes(make_desk):
    desk = make_desk(Unavailable("busy"))
    [job] = desk.run(desk.store_one("e1"))
    assert isinstance(job.error, Unavailable)
    assert not desk.fatal


@pytest.mark.parametrize("error", [Failure("the disk does not answer"), Corrupt("damaged"), RuntimeError("what?")])
def test_after_any_other_failure_of_a_commit_nothing_is_acked_any_more(make_desk, bench, error):
    desk = make_desk(error)
    jobs = desk.run(desk.store_one("e1"), desk.store_one("e2"))
    assert all(job.error is not None and job.answer is None for job in jobs)
    assert len(desk.fatal) == 1
    desk.store.error = None
    with pytest.raises(Failure, match="has failed"):
        desk.writer.submit(desk.store_one("e3"))
    assert bench.ids() == []


def test_what_was_queued_behind_a_failed_commit_is_refused_too(make_desk, bench, monkeypatch):
    desk = make_desk(Failure("the disk does not answer"))
    monkeypatch.setattr(writer_module, "GROUP_MAX_JOBS", 1)
    jobs = desk.run(desk.store_one("e1"), desk.store_one("e2"))
    assert all(isinstance(job.error, Failure) for job in jobs)
    assert bench.ids() == []
    assert len(desk.fatal) == 1


def test_of_a_group_that_a_full_disk_has_no_room_for_the_parts_that_fit_are_stored(make_desk, bench, monkeypatch):
    desk = make_desk()
    carry_out_together = writer_module.carry_out_together

    def failing(context, jobs, log):
        carry_out_together(context, jobs, log)
        if jobs[0].request.episodes[0].id == "e2":
            jobs[0].answer, jobs[0].error = None, DiskFull("the disk is full")

    monkeypatch.setattr(writer_module, "carry_out_together", failing)
    monkeypatch.setattr(writer_module, "bundles", lambda group: ([job] for job in group))
    jobs = desk.run(desk.store_one("e1"), desk.store_one("e2"), desk.store_one("e3"))
    assert [type(job.error) for job in jobs] == [type(None), DiskFull, type(None)]
    assert sorted(bench.ids()) == ["e1", "e3"]


def test_the_queue_is_bounded(make_desk):
    desk = make_desk()
    with pytest.raises(Unavailable, match="overloaded"):
        desk.writer.submit(desk.job(GetEpisodes(ids=[]), size_bytes=65 << 20))


def sized(size_bytes, tenant_id="default"):
    who = Principal(tenant_id=tenant_id, role="owner")
    return Job(who, GetEpisodes(ids=[]), operation="op", size_bytes=size_bytes, began_s=0.0, done=lambda _job: None)


def test_a_budget_gives_back_what_it_took():
    budget = Budget(100)
    budget.take(sized(60))
    with pytest.raises(Unavailable):
        budget.take(sized(41))
    budget.give_back([sized(60)])
    budget.take(sized(100))


def test_whoever_floods_the_queue_leaves_room_in_it_for_the_others():
    budget = Budget(100)
    with pytest.raises(Unavailable):
        for _ in range(100):
            budget.take(sized(1, "flooder"))
    for _ in range(20):
        budget.take(sized(1, "victim"))
    with pytest.raises(Unavailable):
        budget.take(sized(1, "flooder"))


def test_a_writer_that_stops_answers_what_it_has_and_takes_no_more(make_desk, bench):
    desk = make_desk()
    for number in range(200):
        desk.writer.submit(desk.store_one(f"e{number}"))
    desk.close()
    assert sum(map(len, desk.groups)) == 200
    assert len(bench.ids()) == 200
    with pytest.raises(Unavailable, match="stopping"):
        desk.writer.submit(desk.store_one("late"))


def test_commits_and_acked_episodes_are_counted(make_desk):
    desk = make_desk()
    desk.run(desk.store_one("e1"), desk.store_one("e2"), desk.store_one("bad", reward=7))
    stats = desk.figures.stats(connected_agents=0, connections=0)
    assert (stats.commits, stats.acked_episodes) == (1, 2)


class Big(list):
    """A value that can be watched."""


@pytest.mark.parametrize("count", [1, 1001], ids=["a draft is refused", "the request is refused"])
def test_what_was_refused_is_let_go_at_once(bench, count):
    big = Big([1, 2, 3])
    seen = weakref.ref(big)
    drafts = [EpisodeDraft(id=f"e{number}", task="", input=big) for number in range(count)]
    job = Job(OWNER, StoreEpisodes(episodes=drafts), operation="op", size_bytes=1, began_s=0.0, done=lambda _job: None)
    gc.collect()
    gc.disable()  # by counting alone: a cycle would hold a request of megabytes until somebody looks for cycles
    try:
        carry_out(bench.context, job, Log(LogOptions("silent"), bench.clock))
        assert job.error is not None or not job.answer.results[0].ok
        del big, drafts, job
        assert seen() is None
    finally:
        gc.enable()


def test_nothing_is_acked_once_the_database_has_lost_its_name(bench):
    desk = Desk(bench)
    (first,) = desk.run(desk.store_one("e1"))
    assert first.error is None
    (bench.home / "store.db").rename(bench.home / "elsewhere")
    (second,) = desk.run(desk.store_one("e2"))
    (third,) = desk.run(desk.store_one("e3"))
    assert isinstance(second.error, Corrupt)
    assert second.answer is None
    assert isinstance(third.error, Failure)
    assert [type(error) for error in desk.fatal] == [Corrupt]
    desk.writer.stop()
    assert desk.writer.join(WAIT_S)
