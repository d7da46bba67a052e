"""What an exit status comes to."""

from __future__ import annotations

import errno

import pytest

from fedctl.errors import UsageError
from fedctl.messages.pool import CompleteItems, FailItems, ReleaseItems
from fedctl.model.pool import Item
from fedctl.work import verdict
from fedctl.work.process import Capture, Ran


def item(attempts=1, max_retries=3):
    return Item(
        id="i", pool="q", status="claimed", data=None, priority=0, attempts=attempts, max_retries=max_retries,
        claimed_by="w", claimed_at=None, lease_id="l", lease_expires_at=None, created_at="", available_at="",
        finished_at=None, result=None, error=None, key=None, requires=[],
    )  # fmt: skip


def ran(status, why=None, tail=b""):
    return Ran(status, why, Capture(), tail)


@pytest.mark.parametrize(
    ("status", "why", "outcome", "request_type"),
    [
        (0, None, "done", CompleteItems),
        (75, None, "released", ReleaseItems),
        (65, None, "poisoned", FailItems),
        (1, None, "failed", FailItems),
        (137, None, "failed", FailItems),
        (0, "stopped", "done", CompleteItems),
        (143, "stopped", "released", ReleaseItems),
        (65, "stopped", "poisoned", FailItems),
        (0, "time", "failed", FailItems),
        (143, "time", "failed", FailItems),
        (0, "lost", "lost", type(None)),
    ],
)
def test_a_status_comes_to(status, why, outcome, request_type):
    report = verdict.judged(item(), ran(status, why))
    assert (report.outcome, type(report.request)) == (outcome, request_type)


def test_only_what_gave_the_item_back_by_itself_waits_before_the_next():
    assert verdict.judged(item(), ran(75)).pause
    assert not verdict.judged(item(), ran(143, "stopped")).pause


def test_the_last_failure_poisons_and_tells_no_time():
    report = verdict.judged(item(attempts=3), ran(1, tail=b"boom\xff\n"))
    assert (report.outcome, report.retry_in_ms) == ("poisoned", None)
    assert report.error == "exit 1; stderr ends in:\nboom\ufffd"


def test_a_signal_is_named():
    assert verdict.judged(item(), ran(137)).error == "exit 137 (SIGKILL)"
    assert verdict.judged(item(), ran(255)).error == "exit 255"


def test_the_time_to_the_next_attempt_doubles_with_half_of_it_by_chance():
    for attempt in range(1, 40):
        whole = min(300_000, 1000 * 2 ** (attempt - 1))
        assert all(whole / 2 <= verdict.backoff_ms(attempt) <= whole for _ in range(20))


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        (ValueError("embedded null byte"), "failed"),
        (OSError(errno.E2BIG, "too long"), "failed"),
        (OSError(errno.EAGAIN, "no more"), "released"),
    ],
)
def test_what_could_not_be_started_is_the_items_fault_or_the_machines(cause, outcome):
    error = UsageError("cannot run it")
    error.__cause__ = cause
    assert verdict.not_started(item(), error).outcome == outcome


def test_what_is_neither_ends_the_run():
    error = UsageError("cannot run it")
    error.__cause__ = FileNotFoundError(errno.ENOENT, "no such file")
    assert verdict.not_started(item(), error) is None
