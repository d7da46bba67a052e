"""Waiting for long: a hub that goes away is waited for, and what it may have handed out meanwhile is given back."""

from __future__ import annotations

import pytest

from fedctl.client.local import LocalCaller
from fedctl.client.waiting import Patience, claim_for, told_apart, wait_for
from fedctl.errors import Denied, Timeout, Unavailable
from fedctl.messages import pool as p
from fedctl.model.pool import Completion, ItemDraft
from fedctl.model.principal import Principal


class Hub:
    """A hub on a bench: goes away after so many requests, answered or not, and is back so many tries later."""

    def __init__(self, bench, *, requests, tries, answers=True, error=None):
        self.caller = LocalCaller(bench.context, Principal(tenant_id="default", role="owner"))
        self.requests, self.tries, self.answers = requests, tries, answers
        self.error = error or Unavailable("gone")
        self.said = []

    def call(self, request, *, tenant_id=None):
        if self.requests:
            self.requests -= 1
            return self.caller.call(request, tenant_id=tenant_id)
        if self.tries is None:
            return self.caller.call(request, tenant_id=tenant_id)
        if not self.answers:
            self.caller.call(request, tenant_id=tenant_id)  # carried out, and nobody hears of it
        raise self.error

    def reopen(self):
        if self.tries:
            self.tries -= 1
            raise self.error
        self.tries = None
        return self

    def close(self):
        return

    def patience(self, bench, timeout_ms=60_000):
        return Patience(self, self.reopen, bench.clock, timeout_ms, self.said.append)


def push(bench, *names):
    bench.call(p.PushItems(pool="q", items=[ItemDraft(id=one) for one in names]))


CLAIM = p.ClaimItems(pool="q", worker_id="w", lease_id="mine")


def test_a_claim_outlives_a_hub_that_goes_away_and_comes_back(bench):
    push(bench, "a")
    hub = Hub(bench, requests=0, tries=5)
    assert [one.id for one in claim_for(hub.patience(bench), CLAIM).items] == ["a"]
    assert hub.said == ["gone; trying again"]


@pytest.mark.parametrize("error", [Unavailable("gone"), Timeout("no answer")])
def test_what_was_claimed_without_an_answer_is_given_back_before_it_is_asked_again(bench, error):
    push(bench, "a", "b")
    hub = Hub(bench, requests=0, tries=1, answers=False, error=error)
    (item,) = claim_for(hub.patience(bench), CLAIM).items
    assert (item.id, item.attempts) == ("a", 1)
    assert bench.call(p.GetPool(name="q")).pool.pending == 1


def test_an_answer_that_comes_too_soon_is_not_the_last(bench):
    push(bench, "a")

    class Stopping(Hub):
        def call(self, request, *, tenant_id=None):
            if self.requests:
                self.requests -= 1
                return p.ClaimAnswer(items=[])
            return super().call(request, tenant_id=tenant_id)

    assert claim_for(Stopping(bench, requests=2, tries=1).patience(bench), CLAIM).items
    late = Stopping(bench, requests=1, tries=1)
    assert claim_for(late.patience(bench, 0), CLAIM).items == []


@pytest.mark.parametrize(
    "ask",
    [lambda patient: claim_for(patient, CLAIM), lambda patient: wait_for(patient, *told_apart(patient, ["q"]))],
)
def test_when_the_time_is_over_the_hub_is_given_up(bench, ask):
    push(bench, "a")
    began_s = bench.clock.monotonic_s()
    with pytest.raises(Unavailable):
        ask(Hub(bench, requests=0, tries=10_000).patience(bench, 30_000))
    assert round(bench.clock.monotonic_s() - began_s) == 30


def test_a_wait_outlives_a_hub_that_goes_away_and_comes_back(bench):
    push(bench, "a", "b")
    for item in bench.call(p.ClaimItems(pool="q", worker_id="w", count=2)).items:
        bench.call(p.CompleteItems(completions=[Completion(id=item.id, lease_id=item.lease_id)]))
    for requests in (0, 1):  # the first is whether q is an item
        hub = Hub(bench, requests=requests, tries=3)
        patient = hub.patience(bench, None)
        assert wait_for(patient, *told_apart(patient, ["q"])).done == 2


def test_who_is_not_let_in_any_more_hears_so(bench):
    hub = Hub(bench, requests=0, tries=1)

    def refused():
        raise Denied("the token was revoked")

    hub.reopen = refused
    with pytest.raises(Denied):
        claim_for(hub.patience(bench), CLAIM)
