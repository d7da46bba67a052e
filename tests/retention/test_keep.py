"""The keep rules, held against restic's meaning of them."""

from __future__ import annotations

import calendar

from hypothesis import given
from hypothesis import strategies as st

from fedctl.model.backup import KeepRules
from fedctl.retention.keep import keep

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOON_MS = calendar.timegm((2026, 6, 15, 12, 0, 0)) * 1000  # a Monday
NOW_MS = 1 << 60


def kept(made: list[int], **rules: int) -> list[int]:
    """Return which of the backups stay, by their place."""
    return [at for at, why in enumerate(keep(made, KeepRules(**rules), NOW_MS)) if why]


def test_without_a_rule_nothing_stays():
    assert keep([3, 2, 1], KeepRules(), NOW_MS) == [[], [], []]


def test_the_last_n_stay_whenever_they_were_made():
    assert kept([5, 4, 3, 2, 1], last=2) == [0, 1]


def test_the_newest_of_each_day_stays():
    made = [NOON_MS - at * 6 * HOUR_MS for at in range(12)]  # 12:00 06:00 00:00 | 18:00 12:00 06:00 00:00 | ...
    assert kept(made, daily=2) == [0, 3]


def test_a_day_without_a_backup_does_not_count():
    made = [NOON_MS, NOON_MS - 10 * DAY_MS, NOON_MS - 20 * DAY_MS, NOON_MS - 30 * DAY_MS]
    assert kept(made, daily=3) == [0, 1, 2]


def test_days_hours_months_and_years_end_at_midnight_utc():
    midnight = calendar.timegm((2026, 1, 1, 0, 0, 0)) * 1000
    made = [midnight, midnight - 1, midnight - 2]
    for rule in ("hourly", "daily", "monthly", "yearly"):
        assert kept(made, **{rule: 2}) == [0, 1]
    assert kept(made, weekly=1) == [0]


def test_a_week_is_iso_s_and_may_lie_in_two_years():
    days = ((2027, 1, 4), (2027, 1, 3), (2026, 12, 28), (2026, 12, 27))  # Monday, Sunday, Monday, Sunday
    made = [calendar.timegm((*day, 1, 0, 0)) * 1000 for day in days]
    assert kept(made, weekly=3) == [0, 1, 3]


def test_a_backup_that_any_rule_keeps_stays_and_says_which():
    made = [NOON_MS, NOON_MS - HOUR_MS, NOON_MS - DAY_MS, NOON_MS - 2 * DAY_MS, NOON_MS - 60 * DAY_MS]
    reasons = keep(made, KeepRules(last=1, daily=2), NOW_MS)
    assert reasons == [["last", "daily"], [], ["daily"], [], []]


def test_a_rule_with_some_of_its_number_left_keeps_the_oldest_too():
    """So a history that is shorter than the rule grows instead of losing its beginning (restic 0.16)."""
    made = [NOON_MS, NOON_MS - HOUR_MS, NOON_MS - 2 * HOUR_MS]
    assert keep(made, KeepRules(daily=3), NOW_MS) == [["daily"], [], ["oldest daily"]]
    assert kept(made, daily=1) == [0]


def test_minus_one_keeps_one_of_each_without_end():
    made = [NOON_MS - at * DAY_MS // 2 for at in range(100)]
    assert len(kept(made, daily=-1)) == 51  # 50 days, and the oldest
    assert len(kept(made, last=-1)) == 100


@given(
    st.lists(st.integers(0, 1000 * DAY_MS), max_size=40).map(lambda made: sorted(made, reverse=True)),
    st.builds(KeepRules, last=st.integers(-1, 5), daily=st.integers(-1, 5), weekly=st.integers(-1, 3)),
)
def test_the_newest_always_stays_and_more_of_a_number_never_keeps_fewer(made: list[int], rules: KeepRules):
    reasons = keep(made, rules, NOW_MS)
    assert len(reasons) == len(made)
    if made and rules != KeepRules():
        assert reasons[0]
    more = KeepRules(last=rules.last and -1, daily=rules.daily and -1, weekly=rules.weekly and -1)
    assert all(wide for wide, narrow in zip(keep(made, more, NOW_MS), reasons, strict=True) if narrow)


def test_what_is_dated_after_now_stays_and_takes_no_other_s_place():
    assert keep([9, 3, 2], KeepRules(last=1), 4) == [["future"], ["last"], []]
