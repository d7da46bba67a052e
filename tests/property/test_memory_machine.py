"""The memory of two tenants against a model of it that is two dictionaries, whatever is done in whatever order.

Followers pull as agents do: page by page, with a cursor, at any time. Each must have seen every episode once and
every deletion once, and end up with exactly what is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from fedctl.clock import Clock
from fedctl.messages import memory as m
from fedctl.messages.retention import SetPolicy
from fedctl.model import limits
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.model.principal import Principal
from fedctl.operations import retention
from fedctl.operations.context import Context, Recall
from fedctl.operations.table import run
from fedctl.store.store import Store

TENANTS = st.sampled_from(["a", "b"])
IDS = st.sampled_from([f"e{number}" for number in range(12)])
AGENTS = st.sampled_from([None, "ann", "bob"])
SIZES = st.sampled_from([0, 0, 0, 10, 700_000])
Content = tuple[str | None, int]


class Follower:
    """What somebody who pulls knows."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.cursor = 0
        self.known: dict[str, int] = {}
        self.seen: list[int] = []
        self.buried: list[str] = []

    def take(self, answer: m.PullAnswer) -> None:
        assert answer.cursor >= self.cursor
        self.cursor = answer.cursor
        for episode in answer.episodes:
            assert episode.tenant_id == self.tenant
            assert episode.id not in self.buried
            self.known[episode.id] = episode.seq
            self.seen.append(episode.seq)
        for id_ in answer.deleted:
            self.known.pop(id_, None)
            self.buried.append(id_)
        assert self.seen == sorted(set(self.seen)), "in order, and each once"
        assert len(self.buried) == len(set(self.buried)), "each once"


class MemoryMachine(RuleBasedStateMachine):
    """The rules are the verbs."""

    followers = Bundle("followers")

    def __init__(self) -> None:
        super().__init__()
        clock = Clock()
        self.context = Context(home=Path("nowhere"), store=Store.in_memory(clock), recall=Recall(None, None),
        clock=clock,
                               access=None)  # type: ignore[arg-type]  # fmt: skip
        self.live: dict[str, dict[str, Content]] = {"a": {}, "b": {}}
        self.dead: dict[str, set[str]] = {"a": set(), "b": set()}
        self.pinned: dict[str, set[str]] = {"a": set(), "b": set()}

    def call(self, tenant: str, request: Any) -> Any:
        return run(self.context, Principal(tenant_id=tenant, role="owner"), request)

    def teardown(self) -> None:
        self.context.close()

    @rule(tenant=TENANTS, drafts=st.lists(st.tuples(IDS, AGENTS, SIZES), max_size=4), skip=st.booleans())
    def store(self, tenant: str, drafts: list[tuple[str, str | None, int]], skip: bool) -> None:
        made = [
            EpisodeDraft(id=id_, task=f"task of {id_}", agent_id=agent, input="x" * size) for id_, agent, size in drafts
        ]
        request = m.StoreEpisodes(episodes=made, on_conflict="skip" if skip else "error")
        for (id_, agent, size), result in zip(drafts, self.call(tenant, request).results, strict=True):
            there = self.live[tenant].get(id_)
            if id_ in self.dead[tenant]:
                assert result.deleted
            elif there is None:
                assert result.ok
                assert (result.existing, result.skipped, result.deleted) == (False, False, False)
                self.live[tenant][id_] = (agent, size)
            elif there == (agent, size):
                assert result.existing
            elif skip:
                assert result.skipped
            else:
                assert result.error["code"] == "conflict"

    def bury(self, tenant: str, ids: list[str]) -> None:
        for id_ in ids:
            del self.live[tenant][id_]
            self.dead[tenant].add(id_)
            self.pinned[tenant].discard(id_)

    @rule(tenant=TENANTS, ids=st.lists(IDS, min_size=1, max_size=4))
    def delete(self, tenant: str, ids: list[str]) -> None:
        answer = self.call(tenant, m.DeleteEpisodes(ids=ids))
        expected = [id_ for id_ in dict.fromkeys(ids) if id_ in self.live[tenant]]
        assert answer.deleted == expected
        assert answer.missing == [id_ for id_ in ids if id_ not in expected]
        self.bury(tenant, expected)

    @rule(tenant=TENANTS, agent=st.sampled_from(["ann", "bob"]))
    def delete_by_agent(self, tenant: str, agent: str) -> None:
        answer = self.call(tenant, m.DeleteEpisodes(filter=EpisodeFilter(agent_id=agent)))
        assert set(answer.deleted) == {id_ for id_, (whose, _) in self.live[tenant].items() if whose == agent}
        self.bury(tenant, answer.deleted)

    @rule(tenant=TENANTS, ids=st.lists(IDS, min_size=1, max_size=3), pinned=st.booleans())
    def pin(self, tenant: str, ids: list[str], pinned: bool) -> None:
        self.call(tenant, m.PinEpisodes(ids=ids, pinned=pinned))
        there = set(ids) & self.live[tenant].keys()
        self.pinned[tenant] = self.pinned[tenant] | there if pinned else self.pinned[tenant] - there

    @rule(tenant=TENANTS, most=st.integers(0, 6))
    def prune(self, tenant: str, most: int) -> None:
        """Keep the newest so many, and the pinned; and of the log what tells of them."""
        self.call(tenant, SetPolicy(max_episodes=most, events_max_age_ms=1))
        result = retention.prune_tenant(self.context, tenant, retention.Guard(1.0), dry_run=False)
        free = [id_ for id_ in self.live[tenant] if id_ not in self.pinned[tenant]]  # in the order they were stored
        going = free[: max(0, len(self.live[tenant]) - most)]
        assert (result.removed, result.more) == (len(going), False)
        self.bury(tenant, going)

    @rule(target=followers, tenant=TENANTS)
    def follow_from_the_beginning(self, tenant: str) -> Any:
        return multiple(Follower(tenant))

    @rule(target=followers, tenant=TENANTS)
    def follow_from_now(self, tenant: str) -> Any:
        follower = Follower(tenant)
        follower.cursor = self.call(tenant, m.PullEpisodes(limit=0)).cursor
        follower.known = dict.fromkeys(self.live[tenant], 0)
        return follower

    @rule(follower=followers, limit=st.integers(0, 5))
    def pull_a_page(self, follower: Follower, limit: int) -> None:
        answer = self.call(follower.tenant, m.PullEpisodes(cursor=follower.cursor, limit=limit))
        assert len(msgspec.json.encode(answer)) < limits.FRAME_MAX_BYTES
        assert len(answer.episodes) <= max(limit, 1)
        follower.take(answer)

    @rule(follower=followers, limit=st.sampled_from([1, 2, 1000]))
    def pull_to_the_end(self, follower: Follower, limit: int) -> None:
        while True:
            answer = self.call(follower.tenant, m.PullEpisodes(cursor=follower.cursor, limit=limit))
            follower.take(answer)
            if not answer.more:
                break
        assert follower.known.keys() == self.live[follower.tenant].keys()
        assert set(follower.buried) <= self.dead[follower.tenant]

    @rule(tenant=TENANTS, ids=st.lists(IDS, max_size=6))
    def get(self, tenant: str, ids: list[str]) -> None:
        episodes, missing, rest = [], [], ids
        while rest:
            answer = self.call(tenant, m.GetEpisodes(ids=rest))
            episodes += answer.episodes
            missing += answer.missing
            rest = answer.rest
        wanted = list(dict.fromkeys(ids))
        assert [one.id for one in episodes] == [id_ for id_ in wanted if id_ in self.live[tenant]]
        assert missing == [id_ for id_ in wanted if id_ not in self.live[tenant]]
        for one in episodes:
            assert (one.agent_id, len(one.input)) == self.live[tenant][one.id]

    @rule(tenant=TENANTS, id_=IDS)
    def search(self, tenant: str, id_: str) -> None:
        hits = self.call(tenant, m.QueryEpisodes(text=id_, mode="keyword", k=50)).hits
        assert [hit.id for hit in hits] == ([id_] if id_ in self.live[tenant] else [])

    @invariant()
    def counts_agree(self) -> None:
        for tenant in ("a", "b"):
            stats = self.call(tenant, m.MemoryStats())
            assert (stats.episodes, stats.deleted) == (len(self.live[tenant]), len(self.dead[tenant]))
            assert stats.pending_embeddings == len(self.live[tenant])

    @rule()
    def check(self) -> None:
        assert self.context.store.integrity() == []
        assert not self.context.store.changes.gap()
        assert self.context.store.changes.unlogged_episodes() == 0
        for key, _ in self.context.store.tenants.all():
            with self.context.store.write():
                assert self.context.store.episodes.words_are_whole(key)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=40, stateful_step_count=30)
