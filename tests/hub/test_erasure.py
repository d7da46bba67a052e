"""Erasing where a hub runs: sessions and tokens end with the tenant, files too, and the hub finishes what was begun."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from fedctl.errors import Denied, FedctlError
from fedctl.messages.agent import RegisterAgent
from fedctl.messages.memory import ListEpisodes, QueryEpisodes, StoreEpisodes
from fedctl.messages.pool import ItemDraft, ListPools, PushItems
from fedctl.messages.tenant import EraseTenant, ListTenants, SetTenant
from fedctl.model.episode import EpisodeDraft

if TYPE_CHECKING:
    from pathlib import Path

MARK = "zyxqneedle"


def found(home: Path) -> list[str]:
    return [one.name for one in home.rglob("*") if one.is_file() and MARK.encode() in one.read_bytes().lower()]


def until(true: Any, within_s: float = 10.0) -> bool:
    by_s = time.monotonic() + within_s
    while not true() and time.monotonic() < by_s:
        time.sleep(0.02)
    return bool(true())


def keep(caller: Any, *numbers: int) -> list[Any]:
    drafts = [EpisodeDraft(id=f"{MARK}-{n}", task=f"{MARK}{n} task", output=f"{MARK} " * n) for n in numbers]
    return caller.call(StoreEpisodes(episodes=drafts)).results


def erase(hub: Any, **how: Any) -> Any:
    owner = hub.owner()
    answer = owner.call(EraseTenant(name="acme", **how))
    while not (answer.erasure.complete or answer.erasure.notes):
        answer = owner.call(EraseTenant(name="acme", begin=False))
    return answer.erasure


def test_nothing_is_left_where_a_hub_runs_and_its_sessions_and_tokens_end(start_hub):
    hub = start_hub(debug_level="trace")
    token = hub.token("acme", role="admin")
    bearer, agent, other = hub.bearer(token), hub.owner("acme"), hub.owner("other")
    agent.call(RegisterAgent(id="a1", type="coder", lifetime_ms=60_000, host="h", pid=1))
    keep(bearer, *range(120))
    other.call(StoreEpisodes(episodes=[EpisodeDraft(id="o", task="of another")]))
    bearer.call(PushItems(pool=f"{MARK}pool", items=[ItemDraft(id="i", data=MARK)]))
    bearer.call(QueryEpisodes(text=f"{MARK}7"))
    assert found(hub.home)
    began_s = time.monotonic()
    erasure = erase(hub)
    assert (erasure.complete, erasure.notes, erasure.episodes) == (True, [], 120)
    assert until(lambda: len(hub.logged("session.revoked")) == 2, 1.0 + time.monotonic() - began_s)
    for session in (bearer, agent):
        with pytest.raises(FedctlError):
            session.call(ListPools())
    with pytest.raises(Denied):
        hub.bearer(token).call(ListPools())
    assert [one.id for one in other.call(ListTenants()).tenants] == ["other"]
    assert other.call(ListEpisodes()).episodes[0].task == "of another"
    assert found(hub.home) == []
    assert not [line for line in hub.lines if f"{MARK} " in line or f"{MARK}7 task" in line], "no log holds a text"
    anew = hub.bearer(hub.token("acme", role="admin"))
    assert keep(anew, 1)[0].deleted
    anew.call(StoreEpisodes(episodes=[EpisodeDraft(id="fresh", task="t")]))
    assert [one.id for one in anew.call(ListEpisodes()).episodes] == ["fresh"]


def test_a_limit_of_requests_ends_with_the_tenant_that_had_it(hub):
    hub.owner().call(SetTenant(name="acme", rate_per_s=0.01))
    erase(hub)
    anew = hub.owner("acme")
    for _ in range(4):
        anew.call(ListPools())


def test_a_hub_finishes_what_somebody_began(start_hub, make_bench, home):
    bench = make_bench(home)
    bench.keep(*(EpisodeDraft(id=f"{n}", task=f"{MARK}{n}") for n in range(500)), tenant="acme")
    answer = bench.call(EraseTenant(name="acme", budget_ms=0))
    assert not answer.erasure.complete
    hub = start_hub(home)
    assert until(lambda: not bench.store.erasures.any_open())
    assert found(home) == []
    assert hub.owner().call(ListTenants()).tenants == []
