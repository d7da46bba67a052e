"""What a tenant may ask in a second: token buckets, by a clock that is told the time."""

import pytest

from fedctl.errors import Unavailable
from fedctl.hub.rates import Rates, cost
from fedctl.messages.agent import ReportAgent
from fedctl.messages.memory import ListEpisodes, StoreEpisodes
from fedctl.messages.pool import PushItems
from fedctl.messages.worker import BeatWorker
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import ItemDraft

ONE = ListEpisodes()


@pytest.fixture
def limits():
    return {"acme": 10.0}


@pytest.fixture
def rates(clock, limits):
    return Rates(clock, lambda: dict(limits))


def passed(rates, tenant="acme", request=ONE, most=10_000):
    """Return how many requests get through before one is refused."""
    for number in range(most):
        try:
            rates.take(tenant, request)
        except Unavailable:
            return number
    return most


def store(count):
    return StoreEpisodes(episodes=[EpisodeDraft(id=str(n), task="t") for n in range(count)])


def test_a_tenant_without_a_limit_has_none(rates):
    assert passed(rates, "other") == 10_000


def test_a_second_s_worth_gets_through_at_once_and_then_as_much_as_time_brings(rates, clock):
    assert passed(rates) == 10
    clock.advance(500)
    assert passed(rates) == 5
    clock.advance(60_000)
    assert passed(rates) == 10


def test_in_the_long_run_the_rate_is_kept_to(rates, clock):
    passed(rates)
    total = 0
    for _ in range(1000):
        clock.advance(7)
        total += passed(rates)
    assert total in (69, 70)


def test_a_refusal_says_when_to_try_again_and_then_it_works(rates, clock):
    passed(rates)
    with pytest.raises(Unavailable, match="asks more than its 10 a second") as caught:
        rates.take("acme", ONE)
    assert caught.value.retryable
    clock.advance(caught.value.details["retry_in_ms"])
    rates.take("acme", ONE)


def test_a_batch_counts_as_many_as_it_holds(rates, clock):
    assert [cost(one) for one in (ONE, store(0), store(1), store(25))] == [1, 1, 1, 25]
    assert cost(PushItems(pool="p", items=[ItemDraft(id=str(n), data=n) for n in range(7)])) == 7
    assert passed(rates, request=store(5)) == 2


def test_a_batch_larger_than_the_limit_gets_through_and_is_paid_for_afterwards(rates, clock):
    rates.take("acme", store(1000))
    clock.advance(99_000)
    assert passed(rates) == 0
    clock.advance(1000)
    assert passed(rates) == 10


def test_a_limit_below_one_a_second_lets_one_through_now_and_then(clock):
    rates = Rates(clock, lambda: {"acme": 0.1})
    assert passed(rates) == 1
    clock.advance(9_000)
    assert passed(rates) == 0
    clock.advance(1_001)
    assert passed(rates) == 1


def test_limits_are_taken_over_without_filling_buckets_anew(rates, limits, clock):
    assert passed(rates) == 10
    limits["acme"] = 20.0
    rates.reload()
    assert passed(rates) == 0
    clock.advance(1000)
    assert passed(rates) == 20
    del limits["acme"]
    rates.reload()
    assert passed(rates) == 10_000


def test_tenants_do_not_drink_from_each_other_s_bucket(clock):
    rates = Rates(clock, lambda: {"acme": 5.0, "acme-corp": 5.0, "ACME": 5.0})
    assert [passed(rates, name) for name in ("acme", "acme-corp", "ACME")] == [5, 5, 5]


def test_that_an_agent_or_a_worker_lives_is_not_rationed(rates):
    passed(rates)
    assert passed(rates, request=BeatWorker(id="w"), most=50) == 50
    assert passed(rates, request=ReportAgent(id="a", status="ready"), most=50) == 50
    assert passed(rates) == 0
