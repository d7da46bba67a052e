"""Retention in a hub: asked for, or by the clock; nobody waits for it, and it ends with the hub."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from fedctl.messages import memory as m
from fedctl.messages import retention as r
from fedctl.model.episode import EpisodeDraft
from fedctl.operations.job import exclusive_job
from fedctl.operations.retention import JOB

if TYPE_CHECKING:
    from collections.abc import Callable

GIVE_UP_S = 30.0


def wait_for(condition: Callable[[], Any]) -> None:
    give_up_at = time.monotonic() + GIVE_UP_S
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.01)


def keep(caller: Any, count: int) -> None:
    caller.call(m.StoreEpisodes(episodes=[EpisodeDraft(id=f"e{n}", task=f"t{n}") for n in range(count)]))


def left(caller: Any) -> list[str]:
    return [one.id for one in caller.call(m.ListEpisodes(order="oldest")).episodes]


def test_a_hub_carries_out_every_tenants_policy_by_the_clock_and_says_what_went(start_hub):
    hub = start_hub(retention_every_s=0.05, debug_level="basic")
    for tenant, count in (("small", 5), ("guarded", 150), ("none", 5)):
        keep(hub.owner(tenant), count)
    for tenant in ("small", "guarded"):
        hub.owner(tenant).call(r.SetPolicy(max_episodes=2))
    wait_for(lambda: hub.logged("retention.refused") and hub.logged("retention.pruned"))
    assert left(hub.owner("small")) == ["e3", "e4"]
    assert [len(left(hub.owner(tenant))) for tenant in ("guarded", "none")] == [150, 5]
    assert "tenant=small episodes=3 items=0" in hub.logged("retention.pruned")[0]
    assert "tenant=guarded" in hub.logged("retention.refused")[0]
    refusals = len(hub.logged("retention.refused"))
    wait_for(lambda: len(hub.logged("retention.refused")) > refusals + 1)
    assert len(hub.logged("retention.pruned")) == 1, "of rounds in which nothing went nothing is said"
    assert hub.end() == 0


def test_a_round_is_put_off_while_another_prune_runs(start_hub):
    hub = start_hub(retention_every_s=0.05)
    keep(hub.owner(), 5)
    with exclusive_job(hub.home, JOB):
        hub.owner().call(r.SetPolicy(max_episodes=0))
        wait_for(lambda: hub.logged("retention.put_off"))
        assert len(left(hub.owner())) == 5
    wait_for(lambda: not left(hub.owner()))


def test_a_prune_that_was_asked_for_leaves_off_when_the_hub_stops_and_says_so(start_hub):
    hub = start_hub()
    for start in range(0, 3000, 1000):
        made = [EpisodeDraft(id=f"e{start + n}", task="some words of this and that") for n in range(1000)]
        hub.owner().call(m.StoreEpisodes(episodes=made))
    hub.owner().call(r.SetPolicy(max_episodes=0))
    answers: list[r.Pruned] = []
    asking = hub.owner()
    asker = threading.Thread(target=lambda: answers.extend(asking.call(r.Prune(max_share=1.0)).results))
    asker.start()
    watcher = hub.owner()
    wait_for(lambda: watcher.call(m.MemoryStats()).deleted)
    hub.hub.stop()
    asker.join(GIVE_UP_S)
    assert hub.end() == 0
    (answer,) = answers
    assert answer.more
    assert 0 < answer.removed < 3000
