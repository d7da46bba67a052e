"""Tenants and their quotas: exact, cheap, and never in the way of what is there already."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fedctl.errors import Conflict, Denied, NotFound, UsageError
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages import tenant as t
from fedctl.messages.store import CheckStore
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, ItemDraft


def limit(bench, name: str = "default", **limits: Any):
    return bench.call(t.SetTenant(name=name, **limits)).tenant


def shown(bench, name: str = "default"):
    return bench.call(t.GetTenant(name=name)).tenant


def counted(bench, name: str = "default") -> tuple[int, int]:
    key = bench.store.tenants.key(name)
    return bench.store.episodes.counted_usage(key)


# -- what there is -------------------------------------------------------------------------------------------------


def test_a_tenant_is_shown_with_what_it_has(bench):
    bench.keep(EpisodeDraft(id="e1", task="ä", input="ö", output=None, critique="ü", metadata={"k": "ß"}))
    tenant = shown(bench)
    assert (tenant.id, tenant.created_at, tenant.episodes) == ("default", "2026-01-01T00:00:00.000Z", 1)
    assert tenant.size_bytes == len('ä"ö"nullü{"k":"ß"}'.encode())
    assert (tenant.max_episodes, tenant.max_bytes, tenant.rate_per_s) == (None, None, None)


def test_tenants_are_listed_by_name_to_an_admin_its_own(bench):
    for name in ("b", "a"):
        bench.keep("e", tenant=name)
    assert [one.id for one in bench.call(t.ListTenants()).tenants] == ["a", "b"]
    assert [one.id for one in bench.call(t.ListTenants(), tenant="a", role="admin").tenants] == ["a"]
    assert bench.call(t.ListTenants(), tenant="nobody", role="admin").tenants == []


def test_another_tenant_is_one_that_does_not_exist(bench):
    bench.keep("e", tenant="theirs")
    theirs = bench.refusal(t.GetTenant(name="theirs"), tenant="mine", role="admin")
    absent = bench.refusal(t.GetTenant(name="absent"), tenant="mine", role="admin")
    assert isinstance(theirs, NotFound)
    assert str(theirs.as_dict()).replace("theirs", "absent") == str(absent.as_dict())


def test_a_quota_is_set_lifted_and_left_alone_one_by_one(bench):
    assert limit(bench, max_episodes=5, max_bytes=100, rate_per_s=2.5).rate_per_s == 2.5
    tenant = limit(bench, max_bytes=None)
    assert (tenant.max_episodes, tenant.max_bytes, tenant.rate_per_s) == (5, None, 2.5)
    before = bench.store.changes.last_seq()
    assert limit(bench, max_episodes=5) == tenant
    assert bench.store.changes.last_seq() == before, "what changes nothing is not noted"
    assert [(e.kind, e.subject, e.detail["max_bytes"]) for e in bench.store.changes.after(0, 9)] == [
        ("tenant_changed", "default", 100), ("tenant_changed", "default", None)
    ]  # fmt: skip


def test_a_tenant_that_has_nothing_yet_may_be_given_a_quota(bench):
    assert limit(bench, "new", max_episodes=0).episodes == 0
    assert not bench.keep("e", tenant="new")[0].ok


@pytest.mark.parametrize(
    "limits",
    [{"max_episodes": -1}, {"max_episodes": 2**63}, {"max_bytes": -1}, {"rate_per_s": 0}, {"rate_per_s": -1.0},
     {"rate_per_s": float("nan")}, {"rate_per_s": float("inf")}, {"name": "../acme"}, {"name": "acme%"}, {"name": ""}],
    ids=str,
)  # fmt: skip
def test_what_is_no_quota_is_refused_and_leaves_nothing(bench, limits):
    assert isinstance(bench.refusal(t.SetTenant(**({"name": "new"} | limits))), UsageError)
    assert bench.call(t.ListTenants()).tenants == []


@pytest.mark.parametrize("role", ["agent", "admin"])
def test_nobody_raises_its_own_quota(bench, role):
    assert isinstance(bench.refusal(t.SetTenant(name="a", max_episodes=9), tenant="a", role=role), Denied)


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_quota_of_episodes_is_exact_and_says_what_it_is(bench):
    limit(bench, max_episodes=3)
    results = bench.keep("a", "b", "c", "d")
    assert [one.ok for one in results] == [True, True, True, False]
    error = results[3].error
    assert (error["code"], error["exit"], error["retryable"]) == ("conflict", 5, False)
    assert error["message"] == "the tenant default is over its quota: it has 3 of 3 episodes"
    assert error["details"] == {"quota": "max_episodes", "limit": 3, "present": 3}
    assert bench.ids() == ["a", "b", "c"]


def test_a_quota_of_bytes_counts_text_as_it_is_stored(bench):
    each = len("ä" * 10 + "null" * 2 + "{}") + 10
    limit(bench, max_bytes=2 * each + 1)
    results = bench.keep(*(EpisodeDraft(id=f"e{n}", task="ä" * 10) for n in range(3)))
    assert [one.ok for one in results] == [True, True, False]
    assert shown(bench).size_bytes == 2 * each
    assert results[2].error["details"] == {"quota": "max_bytes", "limit": 2 * each + 1, "present": 2 * each}
    assert f"{each:,}" in results[2].error["message"]
    assert bench.keep(EpisodeDraft(id="small", task="x" * (each - 10 - len("null"))))[0].ok is False


def test_what_is_stored_already_is_accepted_at_the_quota(bench):
    bench.keep("a", "b", "gone")
    bench.call(m.DeleteEpisodes(ids=["gone"]))
    limit(bench, max_episodes=2, max_bytes=0)
    again = bench.keep("a", "b", "gone", "new")
    assert [(one.ok, one.existing, one.deleted) for one in again] == [
        (True, True, False), (True, True, False), (True, False, True), (False, False, False)
    ]  # fmt: skip
    conflict = bench.keep(EpisodeDraft(id="a", task="other"))[0]
    assert "other content" in conflict.error["message"], "a conflict is told as one"


def test_what_is_deleted_makes_room(bench):
    limit(bench, max_episodes=2)
    bench.keep("a", "b")
    bench.call(m.DeleteEpisodes(ids=["a"]))
    assert [one.ok for one in bench.keep("c", "d")] == [True, False]


def test_a_quota_below_what_is_there_takes_nothing_away(bench):
    bench.keep("a", "b", "c")
    limit(bench, max_episodes=1)
    assert bench.ids() == ["a", "b", "c"]
    assert not bench.keep("d")[0].ok


def test_a_quota_is_of_its_tenant_alone(bench):
    limit(bench, "full", max_episodes=0)
    for name in ("ful", "full1", "FULL", "full."):
        assert bench.keep("e", tenant=name)[0].ok
    assert not bench.keep("e", tenant="full")[0].ok


def test_an_episode_that_comes_with_a_completed_item_is_under_the_quota_too(bench):
    limit(bench, max_episodes=0)
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="i", data=1)]))
    [claimed] = bench.call(p.ClaimItems(pool="p", worker_id="w")).items
    done = Completion(id="i", lease_id=claimed.lease_id, episode=EpisodeDraft(id="e", task="t"))
    [result] = bench.call(p.CompleteItems(completions=[done])).results
    assert result.error["details"]["quota"] == "max_episodes"
    assert bench.call(p.GetItem(id="i")).item.status == "claimed", "it may be completed without, or later"


def test_many_writers_together_get_exactly_the_quota(bench):
    limit(bench, max_episodes=50)
    stored: list[int] = []

    def write(number: int) -> None:
        one = bench.another(timeout_s=30.0)
        stored.append(sum(one.keep(f"{number}-{turn}")[0].ok for turn in range(20)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stored) == 50 == shown(bench).episodes
    assert counted(bench) == (50, shown(bench).size_bytes)


def test_a_transaction_that_is_undone_counts_nothing(bench):
    bench.keep("a")
    before = shown(bench)
    with pytest.raises(RuntimeError), bench.store.write():
        bench.keep("b", "c")
        raise RuntimeError
    assert shown(bench) == before
    assert counted(bench) == (before.episodes, before.size_bytes)


# -- the figures are looked after ----------------------------------------------------------------------------------


def test_figures_that_are_wrong_are_found_and_mended(bench):
    bench.keep("a", "b")
    right = counted(bench)
    with bench.store.write():
        bench.store.database.run("UPDATE tenant_usage SET episodes = 7, bytes = 7")
    [finding] = bench.call(CheckStore()).findings
    assert (finding.check, finding.severity, finding.fix) == ("usage", "derived", "fedctl memory reindex")
    bench.call(m.Reindex(begin=True))
    while bench.call(m.Reindex(budget_ms=10_000)).remaining:
        pass
    assert bench.call(CheckStore()).findings == []
    assert (shown(bench).episodes, shown(bench).size_bytes) == right


def test_a_refusal_is_a_conflict_where_one_episode_is_asked_about(bench):
    limit(bench, max_episodes=0)
    from fedctl.errors import from_code

    error = bench.keep("a")[0].error
    assert isinstance(from_code(error["code"], error["message"]), Conflict)
