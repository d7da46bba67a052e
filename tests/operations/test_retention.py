"""Retention: exactly what the policy says goes, with all that belongs to it; a dry run says so before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fedctl.errors import Conflict, Denied, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.messages import hub as h
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages import retention as r
from fedctl.messages.store import CheckStore
from fedctl.model.agent import NoteDraft
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, ItemDraft, ItemFailure
from fedctl.model.retention import Policy
from fedctl.operations import retention
from fedctl.operations.job import exclusive_job

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def rule(bench, tenant: str = "default", **rules: Any) -> Policy:
    return bench.call(r.SetPolicy(**rules), tenant=tenant).policy


def prune(bench, tenant: str = "default", **how: Any) -> r.Pruned:
    (result,) = bench.call(r.Prune(**how), tenant=tenant).results
    return result


def explained(bench, id_: str) -> r.ExplainAnswer:
    return bench.call(r.ExplainEpisode(id=id_))


def kinds(bench) -> list[str]:
    return [one.kind for one in bench.store.changes.after(0, 10_000)]


def findings(bench) -> list[str]:
    return [one.message for one in bench.call(CheckStore(full=True)).findings]


# -- policies ------------------------------------------------------------------------------------------------------


def test_a_rule_is_set_lifted_and_left_alone_one_by_one(bench):
    assert bench.call(r.GetPolicy()).policy == Policy()
    where = [("tag", "=", "keep"), ("n", ">=", 3)]
    policy = rule(bench, max_age_ms=DAY_MS, keep_success=True, keep_where=where)
    assert policy == Policy(max_age_ms=DAY_MS, keep_success=True, keep_where=where)
    policy = rule(bench, max_age_ms=None, min_reward=0.5)
    assert policy == Policy(min_reward=0.5, keep_success=True, keep_where=where)
    assert bench.call(r.GetPolicy()).policy == policy
    assert bench.call(r.GetPolicy(), tenant="other").policy == Policy()
    before = bench.store.changes.last_seq()
    assert rule(bench, min_reward=0.5) == policy
    assert bench.store.changes.last_seq() == before, "what changes nothing is not noted"


@pytest.mark.parametrize(
    "rules",
    [{}, {"max_age_ms": 0}, {"max_age_ms": -1}, {"items_max_age_ms": 0}, {"min_reward": 1.1}, {"max_episodes": -1},
     {"keep_last": 2**63}, {"keep_where": [("", "=", 1)]}, {"keep_where": [("a", "~", 1)]},
     {"min_reward": float("nan")}, {"keep_where": [("a", "=", 1)] * 17}],
    ids=str,
)  # fmt: skip
def test_what_is_no_rule_is_refused_and_leaves_nothing(bench, rules):
    assert isinstance(bench.refusal(r.SetPolicy(**rules)), UsageError)
    assert bench.store.tenants.key("default") is None


@pytest.mark.parametrize("rules", [{}, {"keep_last": 5, "keep_success": True}], ids=str)
def test_a_policy_by_which_nothing_goes_is_an_error(bench, rules):
    bench.keep("e")
    if rules:
        rule(bench, **rules)
    for how in ({}, {"dry_run": True}):
        assert isinstance(bench.refusal(r.Prune(**how)), UsageError)
    # Of all tenants nobody says that any has one: a night's run before the first policy is none that fails.
    assert bench.call(r.Prune(all_tenants=True)).results == []
    assert bench.ids() == ["e"]


# -- episodes ------------------------------------------------------------------------------------------------------


def test_what_goes_goes_with_all_that_belongs_to_it_and_leaves_a_tombstone(bench):
    bench.keep(EpisodeDraft(id="bad", task="purple elephants", metadata={"tag": "x"}, reward=0.1))
    bench.keep(EpisodeDraft(id="good", task="green tigers", metadata={"tag": "x"}, reward=0.9))
    assert "bad" in bench.hits("purple elephants")
    rule(bench, min_reward=0.5)
    result = prune(bench)
    assert (result.examined, result.removed, result.kept, result.reasons) == (2, 1, 1, {"min_reward": 1})
    assert result.bytes_freed == len("purple elephants" + "null" * 2 + '{"tag":"x"}')
    assert bench.ids() == ["good"]
    assert bench.hits("purple elephants", mode="keyword") == []
    for table in ("embeddings", "episode_metadata", "episodes"):
        assert bench.store.database.value(f"SELECT count(*) FROM {table}") == 1, table
    assert kinds(bench) == ["episode_stored", "retention_set", "episodes_pruned"]
    (again,) = bench.keep(EpisodeDraft(id="bad", task="purple elephants", reward=0.1))
    assert (again.ok, again.deleted) == (True, True)
    assert findings(bench) == []
    assert prune(bench).removed == 0


def test_a_dry_run_changes_nothing_and_says_exactly_what_the_run_then_does(bench):
    for n in range(60):
        bench.keep(EpisodeDraft(id=f"e{n}", task=f"t{n}", reward=n % 10 / 10, metadata={"n": n % 7}))
        bench.clock.advance(HOUR_MS)
    bench.call(m.PinEpisodes(ids=["e3", "e10"]))
    work(bench)
    rule(bench, max_age_ms=40 * HOUR_MS, min_reward=0.3, max_episodes=30, keep_last=4, keep_where=[("n", "=", 6)],
         items_max_age_ms=HOUR_MS, events_max_age_ms=HOUR_MS, agents_max_age_ms=HOUR_MS)  # fmt: skip
    bench.clock.advance(2 * HOUR_MS)
    before = (bench.ids(), bench.store.changes.last_seq())
    planned = prune(bench, dry_run=True)
    expected = [one for one in bench.ids() if explained(bench, one).verdict == "kept"]
    assert (bench.ids(), bench.store.changes.last_seq()) == before
    done = prune(bench)
    assert done == msgspec.structs.replace(planned, dry_run=False)
    assert bench.ids() == expected
    assert min(done.removed, done.items_removed, done.events_removed, done.agents_removed) > 0
    assert set(done.reasons) == {"max_age", "min_reward", "max_episodes"}
    assert findings(bench) == []


def test_another_tenant_loses_nothing(bench):
    for tenant in ("mine", "theirs"):
        bench.keep("e", tenant=tenant, reward=0.1)
    rule(bench, "mine", min_reward=0.5, events_max_age_ms=1)
    bench.clock.advance(HOUR_MS)
    prune(bench, "mine")
    assert (bench.ids(tenant="mine"), bench.ids(tenant="theirs")) == ([], ["e"])


def test_what_metadata_keep_is_kept_by_any_of_the_conditions(bench):
    for id_, metadata in (("a", {"tag": "keep"}), ("b", {"n": 5}), ("c", {"n": 1}), ("d", {})):
        bench.keep(EpisodeDraft(id=id_, task="t", metadata=metadata))
    rule(bench, max_episodes=0, keep_where=[("tag", "=", "keep"), ("n", ">", 3)])
    prune(bench)
    assert bench.ids() == ["a", "b"]


def test_who_pulls_hears_of_everything_that_was_pruned_in_pages(bench):
    bench.keep(*(f"e{n}" for n in range(1000)))
    bench.keep(*(f"f{n}" for n in range(30)))
    cursor = bench.call(m.PullEpisodes()).cursor
    bench.call(m.DeleteEpisodes(ids=["f0"]))  # so that a page ends within what was pruned together
    rule(bench, max_episodes=0)
    prune(bench, max_share=1.0)
    deleted, more = [], True
    while more:
        page = bench.call(m.PullEpisodes(cursor=cursor, limit=1000))
        assert page.cursor > cursor, "each page gets on"
        deleted += page.deleted
        cursor, more = page.cursor, page.more
    assert sorted(deleted) == sorted([f"e{n}" for n in range(1000)] + [f"f{n}" for n in range(30)])


def test_an_episode_that_is_pinned_meanwhile_stays(bench):
    bench.keep(*(f"e{n}" for n in range(60)))
    rule(bench, max_episodes=0)
    other = bench.another()
    asked = []

    def over() -> bool:
        if not asked:
            other.call(m.PinEpisodes(ids=["e0", "e59"]))
        asked.append(True)
        return False

    result = retention.prune_tenant(bench.context, "default", retention.Guard(1.0), dry_run=False, over=over)
    assert (result.removed, result.kept, result.more) == (58, 2, False)
    assert bench.ids() == ["e0", "e59"]


def test_a_policy_that_is_changed_meanwhile_ends_the_run(bench):
    bench.keep(*(f"e{n}" for n in range(60)))
    rule(bench, max_episodes=0)
    other = bench.another()
    asked = []

    def over() -> bool:
        asked.append(True)
        if len(asked) == 2:
            rule(other, max_episodes=None)
        return False

    result = retention.prune_tenant(bench.context, "default", retention.Guard(1.0), dry_run=False, over=over)
    assert (result.removed, result.more) == (retention.EPISODES_AT_ONCE, True)
    assert len(bench.ids()) == 60 - retention.EPISODES_AT_ONCE


def test_a_run_that_is_out_of_time_ends_between_transactions_and_the_next_goes_on(bench):
    bench.keep(*(f"e{n}" for n in range(60)))
    rule(bench, max_episodes=10)
    asked = iter([False, True])
    result = retention.prune_tenant(
        bench.context, "default", retention.Guard(1.0), dry_run=False, over=lambda: next(asked)
    )
    assert (result.removed, result.more) == (retention.EPISODES_AT_ONCE, True)
    assert findings(bench) == []
    result = prune(bench)
    assert (result.removed, result.more) == (50 - retention.EPISODES_AT_ONCE, False)
    assert bench.ids() == [f"e{n}" for n in range(50, 60)]


# -- the guard -----------------------------------------------------------------------------------------------------


def test_a_clock_that_jumped_meets_the_guard(bench):
    bench.keep(*(f"e{n}" for n in range(200)))
    rule(bench, max_age_ms=90 * DAY_MS)
    bench.clock.jump(400 * DAY_MS)
    error = bench.refusal(r.Prune())
    assert isinstance(error, Conflict)
    assert error.message == "200 of 200 episodes would go, more than --max-delete 20%: nothing was removed"
    assert error.hint is not None
    assert "--max-delete 100%" in error.hint
    assert error.details == {"would_remove": {"episodes": 200}}
    planned = prune(bench, dry_run=True)
    assert (planned.removed, planned.error) == (200, error.as_dict())
    assert len(bench.ids()) == 200
    assert prune(bench, max_share=1.0).removed == 200


@pytest.mark.parametrize(
    ("episodes", "going", "how", "refused"),
    [(100, 100, {}, False), (101, 101, {}, True), (505, 101, {}, False), (504, 101, {}, True),
     (400, 116, {"max_share": 0.29}, False), (400, 117, {"max_share": 0.29}, True), (10, 3, {"max_rows": 2}, True),
     (10, 3, {"max_rows": 3}, False), (200, 150, {"max_rows": 150}, False)],
)  # fmt: skip
def test_the_guard_counts_from_a_hundred_rows_on_or_exactly(bench, episodes, going, how, refused):
    made = [EpisodeDraft(id=f"e{n}", task="t", reward=0.1 if n < going else 0.9) for n in range(episodes)]
    bench.keep(*made)
    rule(bench, min_reward=0.5)
    assert (prune(bench, dry_run=True, **how).error is not None) is refused


def test_the_guard_holds_for_items_too_and_then_nothing_at_all_goes(bench):
    bench.keep(*(EpisodeDraft(id=f"e{n}", task="t", reward=0.1) for n in range(5)))
    finish(bench, 150)
    rule(bench, min_reward=0.5, items_max_age_ms=HOUR_MS)
    bench.clock.advance(2 * HOUR_MS)
    error = bench.refusal(r.Prune())
    assert error.message.startswith("150 of 150 items would go")
    assert len(bench.ids()) == 5
    result = prune(bench, max_share=1.0)
    assert (result.items_removed, result.removed) == (150, 5)


# -- items, events, agents -----------------------------------------------------------------------------------------


def finish(bench, count: int, pool: str = "p") -> None:
    items = [ItemDraft(id=f"{pool}{n}", data=n) for n in range(count)]
    bench.call(p.PushItems(pool=pool, items=items))
    claimed = bench.call(p.ClaimItems(pool=pool, worker_id="w", count=count)).items
    bench.call(p.CompleteItems(completions=[Completion(id=one.id, lease_id=one.lease_id) for one in claimed]))


def live(bench, agent_id: str, status: str = "dead", notes: int = 3) -> None:
    bench.call(a.RegisterAgent(id=agent_id, type="t", lifetime_ms=60_000, host="h", pid=1))
    for start in range(0, notes, 50):
        made = [NoteDraft(id=f"{agent_id}-{n}", kind="task", text="n") for n in range(start, min(start + 50, notes))]
        bench.call(a.AddNotes(agent_id=agent_id, notes=made))
    bench.call(a.ReportAgent(id=agent_id, status="initializing", figures=a.AgentFigures(stored=1)))
    if status == "dead":
        bench.call(a.ReportAgent(id=agent_id, status="dead"))


def work(bench) -> None:
    finish(bench, 5)
    live(bench, "a1")


def test_finished_items_go_by_age_with_their_attempts_and_others_stay(bench):
    finish(bench, 2)
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="bad", max_retries=1), ItemDraft(id="waits")]))
    (bad,) = bench.call(p.ClaimItems(pool="p", worker_id="w")).items
    bench.call(p.FailItems(failures=[ItemFailure(id="bad", lease_id=bad.lease_id, error="no")]))
    rule(bench, items_max_age_ms=HOUR_MS)
    assert prune(bench).items_removed == 0
    bench.clock.advance(HOUR_MS + 1)
    finish(bench, 1, "q")
    result = prune(bench)
    assert (result.items_removed, result.removed, result.examined) == (3, 0, 0)
    assert bench.store.database.rows("SELECT id FROM items ORDER BY id") == [("q0",), ("waits",)]
    assert bench.store.database.value("SELECT count(*) FROM attempts") == 0
    assert findings(bench) == []


def test_an_item_that_is_retried_meanwhile_stays(bench):
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="bad", max_retries=1)]))
    (bad,) = bench.call(p.ClaimItems(pool="p", worker_id="w")).items
    bench.call(p.FailItems(failures=[ItemFailure(id="bad", lease_id=bad.lease_id, error="no")]))
    rule(bench, items_max_age_ms=1)
    bench.clock.advance(HOUR_MS)
    other = bench.another()

    def over() -> bool:
        other.call(p.RetryItems(ids=["bad"]))
        return False

    result = retention.prune_tenant(bench.context, "default", retention.Guard(1.0), dry_run=False, over=over)
    assert (result.items_removed, result.bytes_freed) == (0, 0)
    assert bench.call(p.GetItem(id="bad")).item.status == "pending"


def test_old_events_go_but_for_what_tells_of_living_episodes_and_the_newest(bench):
    bench.keep("stays", "goes")
    bench.call(m.DeleteEpisodes(ids=["goes"]))
    finish(bench, 1)
    rule(bench, events_max_age_ms=HOUR_MS)
    assert prune(bench).events_removed == 0
    bench.clock.advance(HOUR_MS + 1)
    last = bench.store.changes.last_seq()
    assert kinds(bench)[-1] == "retention_set"
    result = prune(bench)
    assert result.events_removed == last - 2
    assert kinds(bench) == ["episode_stored", "retention_set", "retention_pruned"]
    assert bench.store.changes.last_seq() == last + 1
    assert findings(bench) == []
    assert not bench.store.changes.gap()
    bench.keep("next")
    assert bench.store.changes.last_seq() == last + 2
    events = bench.call(h.ListEvents()).events
    assert [one.kind for one in events] == ["episode_stored", "retention_set", "retention_pruned", "episode_stored"]
    assert bench.call(h.ListEvents(since="2026-01-01T01:00:00Z")).events == events[-2:]


def test_dead_agents_go_with_their_figures_and_what_the_log_has_of_them(bench):
    live(bench, "old", notes=2 * retention.ROWS_AT_ONCE + 50)
    live(bench, "alive", status="initializing")
    rule(bench, agents_max_age_ms=HOUR_MS)
    bench.clock.advance(2 * HOUR_MS)
    live(bench, "young")
    result = prune(bench)
    assert result.agents_removed == 1
    left = [one.id for one in bench.call(a.ListAgents(all=True)).agents]
    assert sorted(left) == ["alive", "young"]
    assert bench.store.database.rows("SELECT agent_id FROM agent_figures ORDER BY 1") == [("alive",), ("young",)]
    subjects = {one.subject for one in bench.store.changes.after(0, 10_000) if one.kind.startswith("agent_")}
    assert subjects == {"alive", "young"}
    assert findings(bench) == []


def test_an_agent_whose_last_change_is_the_newest_of_all_goes_too(bench):
    rule(bench, agents_max_age_ms=1)
    live(bench, "old")
    bench.clock.advance(HOUR_MS)
    assert prune(bench).agents_removed == 1
    assert kinds(bench) == ["retention_set", "retention_pruned"]
    assert not bench.store.changes.gap()


# -- explaining ----------------------------------------------------------------------------------------------------


def test_an_episode_is_explained_by_all_that_is_about_it(bench):
    bench.keep("old", reward=0.1)
    bench.clock.advance(DAY_MS)
    bench.keep("new", reward=0.9)
    told = explained(bench, "old")
    assert (told.verdict, told.removed_by, told.kept_by, told.goes_at) == ("kept", [], [], None)
    rule(bench, max_age_ms=2 * DAY_MS)
    told = explained(bench, "old")
    assert (told.verdict, told.goes_at, told.place, told.examined) == ("kept", "2026-01-03T00:00:00.000Z", 2, 2)
    rule(bench, max_age_ms=HOUR_MS, min_reward=0.5, max_episodes=1, keep_last=1, keep_success=True)
    told = explained(bench, "old")
    assert (told.verdict, told.removed_by, told.kept_by) == ("going", ["max_age", "min_reward"], [])
    rule(bench, max_age_ms=20 * DAY_MS)  # a reward that is too low does not wait for the age
    assert (explained(bench, "old").verdict, explained(bench, "old").goes_at) == ("going", "2026-01-02T00:00:00.000Z")
    told = explained(bench, "new")
    assert (told.verdict, told.removed_by, told.kept_by) == ("kept", [], ["keep_last", "keep_success"])
    bench.call(m.PinEpisodes(ids=["old"]))
    told = explained(bench, "old")
    assert (told.verdict, told.kept_by, told.goes_at) == ("kept", ["pinned"], None)
    rule(bench, max_age_ms=None, min_reward=None, keep_last=None, keep_success=False)
    assert (explained(bench, "new").verdict, explained(bench, "new").removed_by) == ("going", ["max_episodes"])


def test_what_is_gone_or_another_s_is_not_explained(bench):
    bench.keep("theirs", tenant="other")
    bench.keep("gone")
    bench.call(m.DeleteEpisodes(ids=["gone"]))
    for id_ in ("theirs", "gone", "never"):
        assert isinstance(bench.refusal(r.ExplainEpisode(id=id_)), NotFound)


# -- many tenants, one run -----------------------------------------------------------------------------------------


def test_all_tenants_are_pruned_each_by_its_policy_and_a_refusal_stops_no_other(bench):
    for tenant, count in (("a", 5), ("b", 150), ("c", 5), ("d", 5)):
        bench.keep(*(f"e{n}" for n in range(count)), tenant=tenant)
    for tenant in "abd":
        rule(bench, tenant, max_episodes=1)
    rule(bench, "d", max_episodes=None, keep_last=1)
    results = bench.call(r.Prune(all_tenants=True)).results
    assert [(one.tenant_id, one.removed, one.error is not None) for one in results] == [("a", 4, False), ("b", 0, True)]
    assert results[1].error is not None
    assert results[1].error["code"] == "conflict"
    assert [len(bench.ids(tenant=tenant)) for tenant in "abcd"] == [1, 150, 5, 5]
    assert isinstance(bench.refusal(r.Prune(all_tenants=True), tenant="a", role="admin"), Denied)


def test_one_prune_runs_at_a_time_and_a_dry_run_beside_it(bench):
    bench.keep("e")
    rule(bench, max_episodes=0)
    with exclusive_job(bench.home, retention.JOB):
        assert isinstance(bench.refusal(r.Prune()), Unavailable)
        assert prune(bench, dry_run=True).removed == 1
    assert prune(bench).removed == 1


# -- pins ----------------------------------------------------------------------------------------------------------


def test_an_episode_is_pinned_and_unpinned_and_the_log_tells_of_changes_only(bench):
    bench.keep("a", "b")
    answer = bench.call(m.PinEpisodes(ids=["a", "a", "absent"]))
    assert (answer.changed, answer.missing) == (["a"], ["absent"])
    assert bench.call(m.PinEpisodes(ids=["a", "b"])).changed == ["b"]
    assert [one.pinned for one in bench.call(m.GetEpisodes(ids=["a", "b"])).episodes] == [True, True]
    assert bench.call(m.PinEpisodes(ids=["a"], pinned=False)).changed == ["a"]
    pins = [(one.subject, one.detail) for one in bench.store.changes.after(0, 99) if one.kind == "episode_pinned"]
    assert pins == [("a", {"pinned": True}), ("b", {"pinned": True}), ("a", {"pinned": False})]
    assert bench.call(m.PinEpisodes(ids=["a"]), tenant="other").missing == ["a"]
    assert isinstance(bench.refusal(m.PinEpisodes(ids=[])), UsageError)
    assert isinstance(bench.refusal(m.PinEpisodes(ids=["x"] * 1001)), UsageError)


def test_the_newest_are_those_made_last_though_they_were_stored_first(bench):
    made = {"new": "2026-01-01T00:00:00Z", "old": "2020-01-01T00:00:00Z", "middle": "2025-01-01T00:00:00Z"}
    bench.keep(*(EpisodeDraft(id=name, task="t", created_at=at) for name, at in made.items()))
    rule(bench, max_episodes=1)
    assert bench.call(r.Prune()).results[0].removed == 2
    assert bench.ids() == ["new"]
