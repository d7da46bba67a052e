from __future__ import annotations

import time
import uuid

from fedctl.clock import Clock


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
