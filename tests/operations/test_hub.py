from __future__ import annotations

import pytest

from fedctl.errors import Denied, Unavailable
from fedctl.messages import hub as h


@pytest.mark.parametrize(
    "request_", [h.GetHubStats(), h.GetHubInfo(), h.Subscribe()], ids=lambda one: type(one).__name__
)
def test_where_no_hub_runs_its_verbs_say_how_to_start_one(bench, request_):
    error = bench.refusal(request_)
    assert isinstance(error, Unavailable)
    assert "fedctl hub start" in (error.hint or "")


def test_a_subscription_begins_at_the_last_change(bench):
    bench.keep("a", "b")
    hub = bench.another(hub=object())
    assert hub.call(h.Subscribe()).seq == 2


def test_a_hub_s_figures_are_filled_in_from_the_store(bench):
    from fedctl.model.hub import HubStats

    empty = HubStats(connected_agents=3, connections=4, episodes=0, tenants=0, pending_embeddings=0, uptime_s=1.0,
    latencies={},
                     operations=5, errors={}, commits=6, acked_episodes=7, rss_bytes=8)  # fmt: skip

    class Hub:
        def stats(self) -> HubStats:
            return empty

    bench.keep("a", "b", tenant="x")
    bench.keep("c", tenant="y")
    hub = bench.another(hub=Hub())
    stats = hub.call(h.GetHubStats()).stats
    assert (stats.episodes, stats.tenants, stats.pending_embeddings, stats.connected_agents) == (3, 2, 3, 3)
    assert isinstance(hub.refusal(h.GetHubStats(), role="admin"), Denied)
