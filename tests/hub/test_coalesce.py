"""Stores that are carried out together: answered as if each had been alone."""

import itertools

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedctl.errors import DiskFull
from fedctl.hub import coalesce
from fedctl.hub.jobs import Job, carry_out
from fedctl.log import Log, LogOptions
from fedctl.messages.memory import DeleteEpisodes, GetEpisodes, ListEpisodes, StoreEpisodes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.principal import Principal


def job(request, tenant="acme", agent=None, role="agent"):
    who = Principal(tenant_id=tenant, role=role, agent_id=agent)
    return Job(who, request, operation="op", size_bytes=0, began_s=0.0, done=lambda _job: None)


def store(*ids, tenant="acme", agent=None, **fields):
    return job(StoreEpisodes(episodes=[EpisodeDraft(id=one, task="t") for one in ids], **fields), tenant, agent)


def shape(group):
    """Return what is carried out together, by the ids in it."""
    return [[name(one.request) for one in jobs] for jobs in coalesce.bundles(group)]


def name(request):
    return "+".join(draft.id for draft in request.episodes) if isinstance(request, StoreEpisodes) else "other"


def test_waiting_stores_of_a_tenant_go_together():
    assert shape([store("a"), store("b", "c"), store("d")]) == [["a", "b+c", "d"]]


def test_tenants_do_not_mix_and_do_not_part_each_other():
    group = [store("a"), store("x", tenant="other"), store("b"), store("y", tenant="other")]
    assert shape(group) == [["a", "b"], ["x", "y"]]


def test_another_kind_of_request_keeps_its_place():
    group = [store("a"), store("x", tenant="other"), job(DeleteEpisodes(ids=["a"])), store("a"), store("b")]
    assert shape(group) == [["a"], ["x"], ["other"], ["a", "b"]]


def test_what_differs_in_how_it_is_stored_goes_apart():
    group = [store("a"), store("b", on_conflict="skip"), store("c", on_conflict="skip"), store("d", echo=True)]
    assert shape(group) == [["a"], ["b", "c"], ["d"]]


def test_a_bundle_is_a_batch_and_no_larger_than_one():
    group = [store(*(f"{name}{number}" for number in range(400))) for name in "abc"]
    assert [len(jobs) for jobs in coalesce.bundles(group)] == [2, 1]
    too_many = store(*(f"x{number}" for number in range(1001)))
    assert [len(jobs) for jobs in coalesce.bundles([store("a"), too_many, store("b")])] == [1, 1, 1]


def test_nothing_is_lost_and_nothing_doubled():
    group = [store(f"e{number}", tenant=f"t{number % 3}") for number in range(50)] + [job(GetEpisodes(ids=[]))]
    assert sorted(map(id, group)) == sorted(id(one) for jobs in coalesce.bundles(group) for one in jobs)


drafts = st.builds(
    EpisodeDraft,
    id=st.sampled_from(["e1", "e2", "e3", "e4", "dead", ""]),
    task=st.sampled_from(["boil", "brew", ""]),
    agent_id=st.sampled_from([None, "a1", "a/b"]),
    reward=st.sampled_from([None, 0.5, 7.0]),
)
pushes = st.tuples(
    st.sampled_from(["acme", "other"]),
    st.sampled_from([None, "a1", "a2"]),
    st.lists(drafts, max_size=3),
    st.sampled_from(["error", "skip"]),
)


@pytest.fixture
def homes(make_bench):
    """Return two homes that see the same, and a counter that gives each example tenants of its own."""
    return make_bench(), make_bench(), itertools.count()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pushes, min_size=1, max_size=8))
def test_each_is_answered_as_if_it_had_been_alone(homes, given_pushes):
    one, other, counter = homes
    number = next(counter)

    def jobs():
        return [
            job(StoreEpisodes(episodes=episodes, on_conflict=on_conflict), f"{tenant}{number}", agent)
            for tenant, agent, episodes, on_conflict in given_pushes
        ]

    tenants = [f"{name}{number}" for name in ("acme", "other")]
    for bench in (one, other):
        for tenant in tenants:
            bench.keep("dead", tenant=tenant)
            bench.call(DeleteEpisodes(ids=["dead"]), tenant=tenant)
    log = Log(LogOptions("silent"), one.clock)
    alone, together = jobs(), jobs()
    with one.store.write():
        for each in alone:
            carry_out(one.context, each, log)
    with other.store.write():
        for bundle in coalesce.bundles(together):
            coalesce.carry_out_together(other.context, bundle, log)
    assert [answered(each) for each in together] == [answered(each) for each in alone]
    for tenant in tenants:
        assert kept(other, tenant) == kept(one, tenant)


def answered(one):
    """Return a job's outcome without the sequence: tenants may have changed places in the log."""
    assert one.error is None
    return [msgspec.structs.replace(result, seq=None) for result in one.answer.results]


def kept(bench, tenant):
    episodes = bench.call(ListEpisodes(order="oldest"), tenant=tenant).episodes
    return [msgspec.structs.replace(one, seq=0, created_at="") for one in episodes]


def test_what_fails_together_is_tried_alone(bench):
    lines = []
    log = Log(LogOptions("basic"), bench.clock, lines.append)
    good, bad = store("e1"), job(StoreEpisodes(episodes=[EpisodeDraft(id="e2", task=5)]))
    good2 = store("e3")
    broken = job(StoreEpisodes(episodes=[None]))
    with bench.store.write():
        coalesce.carry_out_together(bench.context, [good, bad, broken, good2], log)
    assert good.answer.results[0].ok
    assert good2.answer.results[0].ok
    assert bad.answer.results[0].error["message"] == "task must be text"
    assert broken.error is not None
    assert bench.ids(tenant="acme") == ["e1", "e3"]


def test_a_full_disk_is_nobodys_fault_and_everybodys_answer(bench, monkeypatch):
    def full(_context, one, _log):
        one.error = DiskFull("the disk is full")

    monkeypatch.setattr(coalesce, "carry_out", full)
    jobs = [store("e1"), store("e2")]
    coalesce.carry_out_together(bench.context, jobs, Log(LogOptions("silent"), bench.clock))
    assert all(isinstance(one.error, DiskFull) for one in jobs)
