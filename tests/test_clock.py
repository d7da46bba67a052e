from __future__ import annotations

import time
import uuid

import pytest

from fedctl.clock import Clock, SteadyClock


def test_ids_are_uuids_of_version_7_that_sort_by_time_and_never_repeat():
    clock = Clock()
    before_ms = clock.now_ms()
    ids = [clock.new_id() for _ in range(2000)]
    after_ms = clock.now_ms()
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    for text in (ids[0], ids[-1]):
        made = uuid.UUID(text)
        assert str(made) == text
        assert made.version == 7
        assert before_ms <= made.int >> 80 <= after_ms


def test_the_clock_is_the_system_s():
    clock = Clock()
    assert abs(clock.now_ms() / 1000 - time.time()) < 5
    assert clock.monotonic_s() <= clock.monotonic_s()


class Jumping(SteadyClock):
    """A clock whose wall time somebody sets."""

    jumped_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.jumped_ms


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000, 10**12])
def test_a_steady_clock_does_not_follow_a_jump_of_the_wall_clock(jump_ms: int):
    clock = Jumping()
    before_ms = clock.steady_ms()
    assert abs(before_ms - clock.now_ms()) < 5000
    clock.jumped_ms = jump_ms
    assert 0 <= clock.steady_ms() - before_ms < 5000
    assert abs(clock.now_ms() - before_ms - jump_ms) < 5000


def test_outside_a_hub_leases_go_by_the_wall_clock_that_all_processes_share():
    clock = Clock()
    assert abs(clock.steady_ms() - clock.now_ms()) < 5000
