"""Asking in-process: who waits is woken by the commits of others, and by nothing but them and time."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from fedctl.clock import Clock
from fedctl.messages import pool as p
from fedctl.model.pool import Completion, ItemDraft

WAIT_MS = 60_000

OTHER = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from fedctl.bootstrap import open_context
from fedctl.client.local import LocalCaller
from fedctl.messages.pool import ClaimItems, PushItems
from fedctl.model.pool import ItemDraft
from fedctl.model.principal import Principal

settings = SimpleNamespace(home=Path(sys.argv[1]), timeout_ms=None, model=None)
caller = LocalCaller(open_context(settings, create=True), Principal(tenant_id="default", role="owner"))
print("ready", flush=True)
for line in sys.stdin:
    verb, *rest = json.loads(line)
    if verb == "push":
        caller.call(PushItems(pool="p", items=[ItemDraft(id=one) for one in rest]))
        print("[]", flush=True)
    else:
        found = caller.call(ClaimItems(pool="p", worker_id=verb, wait_ms=60_000)).items
        print(json.dumps([one.id for one in found]), flush=True)
caller.close()
"""


class OtherProcess:
    def __init__(self, home: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, *command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def heard(self) -> list[str]:
        return json.loads(self._answer())

    def end(self) -> None:
        self._process.communicate(timeout=20)


@pytest.fixture
def other(bench):
    made = OtherProcess(bench.home)
    yield made
    made.end()


@pytest.fixture
def here(bench):
    """The same home with the system's clock, as a process has it."""
    return bench.another(clock=Clock())


def claim(here: Any, wait_ms: int = WAIT_MS, worker: str = "here") -> list[str]:
    return [one.id for one in here.call(p.ClaimItems(pool="p", worker_id=worker, wait_ms=wait_ms)).items]


def test_who_waits_is_woken_by_another_process_s_push(here, other):
    timer = threading.Timer(0.1, other.tell, ("push", "i1"))
    timer.start()
    assert claim(here) == ["i1"]
    timer.join()
    assert other.heard() == []


def test_two_processes_that_wait_get_an_item_each(here, other, bench):
    other.tell("there")
    pusher = bench.another(clock=Clock())
    timer = threading.Timer(
        0.2, lambda: pusher.call(p.PushItems(pool="p", items=[ItemDraft(id="a"), ItemDraft(id="b")]))
    )
    timer.start()
    assert sorted(claim(here) + other.heard()) == ["a", "b"]
    timer.join()


def test_for_one_item_one_of_two_is_answered_and_the_other_waits_on(here, other):
    other.tell("there")
    here.call(p.PushItems(pool="p", items=[ItemDraft(id="a")]))
    assert other.heard() == ["a"]
    other.tell("there")
    assert claim(here, wait_ms=100) == []
    here.call(p.PushItems(pool="p", items=[ItemDraft(id="b")]))
    assert other.heard() == ["b"]


def test_waiting_costs_next_to_nothing(here):
    """A look at the store each time would be a hundred times as much."""
    before_s = time.thread_time()
    assert claim(here, wait_ms=1000) == []
    assert time.thread_time() - before_s < 0.1


# -- by the clock of the test ------------------------------------------------------------------------------------------


def test_a_claim_that_waits_is_over_when_its_time_is(bench):
    began_ms = bench.clock.now_ms()
    assert claim(bench, wait_ms=5000) == []
    assert bench.clock.now_ms() - began_ms in range(5000, 5000 + 5)


def test_a_delayed_item_is_claimed_when_it_is_due(bench):
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="i1", delay_ms=3000)]))
    began_ms = bench.clock.now_ms()
    assert claim(bench) == ["i1"]
    assert bench.clock.now_ms() - began_ms in range(3000, 3000 + 5)


def test_an_expired_lease_is_claimed_when_it_has_run_out(bench):
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="i1")]))
    bench.call(p.ClaimItems(pool="p", worker_id="gone", lease_ms=4000))
    began_ms = bench.clock.now_ms()
    assert claim(bench) == ["i1"]
    assert bench.clock.now_ms() - began_ms in range(4000, 4000 + 5)


def test_who_waits_for_an_end_is_answered_at_once_where_it_has_come_and_else_when_time_is_up(bench):
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id="i1")]))
    (item,) = bench.call(p.ClaimItems(pool="p", worker_id="w")).items
    began_ms = bench.clock.now_ms()
    assert bench.call(p.WaitFor(pools=["p"], wait_ms=2000)).open == 1
    waited_ms = bench.clock.now_ms() - began_ms
    assert waited_ms in range(2000, 2005)
    bench.call(p.CompleteItems(completions=[Completion(id="i1", lease_id=item.lease_id or "")]))
    assert bench.call(p.WaitFor(ids=["i1"], wait_ms=2000)).done == 1
    assert bench.clock.now_ms() - began_ms == waited_ms


def test_a_request_that_cannot_be_does_not_wait(bench):
    began_ms = bench.clock.now_ms()
    bench.refusal(p.ClaimItems(pool="../p", worker_id="w", wait_ms=WAIT_MS))
    bench.refusal(p.WaitFor(ids=["absent"], wait_ms=WAIT_MS))
    assert bench.clock.now_ms() == began_ms
