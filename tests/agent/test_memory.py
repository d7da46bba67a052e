"""What an agent holds in RAM: its queue, what it pulled, what it answers alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedctl.access.keys import KeyRing
from fedctl.agent.memory import AgentMemory, to_draft
from fedctl.errors import Conflict, Unavailable
from fedctl.messages import memory as m
from fedctl.messages.token import ListTokens
from fedctl.model.episode import StoreResult
from fedctl.model.limits import BATCH_MAX_ITEMS


@pytest.fixture
def remember(clock, tmp_path):
    made = []

    def make(embedder=None, agent_id="coder"):
        made.append(AgentMemory(Path(), clock, KeyRing(tmp_path / "keys"), "default", agent_id, embedder))
        return made[-1]

    yield make
    for memory in made:
        memory.close()


def acks(batch, **results):
    return m.StoreAnswer(results=[results.get(d.id, StoreResult(ok=True, id=d.id)) for d in batch.episodes])


def test_what_is_stored_waits_in_order_until_it_is_acknowledged(remember, keep):
    memory = remember()
    memory.answer(keep("e1", "e2"))
    memory.answer(keep("e3"))
    batch = memory.next_batch()
    assert [one.id for one in batch.episodes] == ["e1", "e2", "e3"]
    memory.settle(batch, acks(batch))
    assert memory.next_batch() is None
    assert (memory.stored, memory.delivered, memory.undelivered) == (3, 3, 0)


def test_what_is_stored_while_a_batch_is_under_way_stays_queued(remember, keep):
    memory = remember()
    memory.answer(keep("e1"))
    batch = memory.next_batch()
    memory.answer(keep("e2"))
    memory.settle(batch, acks(batch))
    assert [one.id for one in memory.next_batch().episodes] == ["e2"]


def test_a_batch_holds_no_more_than_one_request_may(remember, keep):
    memory = remember()
    for start in range(0, 2500, BATCH_MAX_ITEMS):
        memory.answer(keep(*(f"e{n}" for n in range(start, min(start + BATCH_MAX_ITEMS, 2500)))))
    sizes = []
    while (batch := memory.next_batch()) is not None:
        sizes.append(len(batch.episodes))
        memory.settle(batch, acks(batch))
    assert sizes == [1000, 1000, 500]


def test_the_same_again_is_not_queued_twice_and_a_refused_one_not_at_all(remember, keep):
    memory = remember()
    memory.answer(keep("e1"))
    assert memory.answer(keep("e1")).results[0].existing
    assert not memory.answer(keep("e1", output="other")).results[0].ok
    assert not memory.answer(keep("e2", reward=2.0)).results[0].ok
    assert memory.undelivered == 1


def test_what_the_hub_refuses_leaves_the_queue_and_is_remembered_with_its_reason(remember, keep):
    memory = remember()
    memory.answer(keep("e1", "e2"))
    batch = memory.next_batch()
    error = Conflict("it exists with other content", hint="another id").as_dict()
    memory.settle(batch, acks(batch, e1=StoreResult(ok=False, id="e1", error=error)))
    assert (memory.undelivered, memory.delivered) == (0, 1)
    (refusal,) = memory.refused
    assert (refusal.id, type(refusal.error), refusal.error.hint) == ("e1", Conflict, "another id")


def test_what_is_pulled_is_found_and_not_sent_back(remember, bench):
    bench.keep("fix the login test", "write the report")
    episodes = bench.call(m.ListEpisodes()).episodes
    memory = remember()
    assert memory.take_in(episodes, []) == 2
    assert memory.take_in(episodes, []) == 0
    assert (memory.pulled, memory.undelivered) == (2, 0)
    assert [hit.id for hit in memory.answer(m.QueryEpisodes(text="login")).hits] == ["fix the login test"]
    assert memory.answer(m.ListEpisodes()).episodes[0].created_at == episodes[0].created_at


def test_what_was_deleted_at_the_hub_is_forgotten_here(remember, bench):
    bench.keep("e1", "e2")
    memory = remember()
    memory.take_in(bench.call(m.ListEpisodes()).episodes, [])
    memory.take_in([], ["e1", "unknown"])
    assert memory.answer(m.GetEpisodes(ids=["e1", "e2"])).missing == ["e1"]


def test_what_was_erased_at_the_hub_is_forgotten_here_though_it_is_not_named(remember, bench):
    bench.keep("e1", "e2")
    memory = remember()
    memory.take_in(bench.call(m.ListEpisodes()).episodes, [])
    cursor = bench.call(m.PullEpisodes(limit=0)).cursor
    bench.call(m.EraseEpisodes(ids=["e1"]))
    memory.take_in([], bench.call(m.PullEpisodes(cursor=cursor)).deleted)
    assert memory.answer(m.GetEpisodes(ids=["e1", "e2"])).missing == ["e1"]


def test_an_episode_makes_the_same_episode_elsewhere(bench, make_bench, draft):
    bench.keep(
        draft("e1", input={"deep": [1, 2.5, None, True, 1 << 80]}, output="text", reward=0.5, critique="so",
              tokens_used=3, latency_ms=1.5, metadata={"k": "v"}, session_id="s", agent_id="a", pinned=True)
    )  # fmt: skip
    (episode,) = bench.call(m.ListEpisodes()).episodes
    other = make_bench()
    other.keep(to_draft(episode))
    (copy,) = other.call(m.ListEpisodes()).episodes
    assert msgspec.structs.replace(copy, seq=episode.seq) == episode


def test_without_a_model_it_searches_by_words_and_says_so(remember, keep):
    memory = remember()
    memory.answer(keep("e1", task="cats"))
    found = memory.answer(m.QueryEpisodes(text="cats"))
    assert [hit.id for hit in found.hits] == ["e1"]
    assert "by words" in found.notes[0]
    with pytest.raises(Unavailable, match="by meaning"):
        memory.answer(m.QueryEpisodes(text="cats", mode="semantic"))


def test_with_a_model_of_its_own_it_searches_by_meaning(remember, keep, make_embedder):
    memory = remember(make_embedder())
    memory.answer(keep("e1", task="cats purr"))
    memory.answer(keep("e2", task="stock prices"))
    found = memory.answer(m.QueryEpisodes(text="cats purr", mode="semantic", k=1))
    assert [hit.id for hit in found.hits] == ["e1"]


def test_what_only_a_hub_can_do_is_unavailable(remember):
    with pytest.raises(Unavailable, match="needs the hub"):
        remember().answer(ListTokens())


def test_what_was_delivered_is_queued_again_as_it_was_and_what_was_deleted_since_is_not(remember, keep):
    memory = remember()
    memory.answer(keep("e1", "e2", "e3", input={"a": [1, True]}, pinned=True, metadata={"k": 2}))
    first = memory.next_batch()
    memory.settle(first, acks(first, e3=StoreResult(ok=True, id="e3", deleted=True)))
    memory.answer(keep("e4"))
    memory.take_in([], ["e2"])
    memory.push_again()
    again = memory.next_batch()
    assert [one.id for one in again.episodes] == ["e4", "e1"]
    assert (memory.stored, memory.delivered, memory.undelivered) == (4, 2, 2)
    changed = {"agent_id", "created_at", "success"}  # what the store here added: every store would
    for field in type(first.episodes[0]).__struct_fields__:
        if field not in changed:
            assert getattr(again.episodes[1], field) == getattr(first.episodes[0], field), field
    memory.settle(again, acks(again))
    memory.push_again()
    assert (memory.delivered, memory.undelivered) == (2, 2)  # every time, not only once
