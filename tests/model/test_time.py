from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.errors import UsageError
from fedctl.model.time import format_duration, from_rfc3339, parse_duration_ms, parse_instant_ms, to_rfc3339

NOW = 1_767_225_600_000
UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MS = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
LAST_MS = 253_402_300_799_999


def refused(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_duration_ms(text)
    return caught.value


# -- durations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90d", 7_776_000_000), ("12h", 43_200_000), ("1h30m", 5_400_000), ("45s", 45_000), ("250ms", 250),
        ("2w", 1_209_600_000), ("P90D", 7_776_000_000), ("PT12H", 43_200_000), ("P1W", 604_800_000),
        ("P1DT2H3M4.5S", 93_784_500), ("1.5h", 5_400_000), ("0s", 0), (" 5s ", 5000), ("pt5m", 300_000), ("1m1ms",
        60_001),
    ],
)  # fmt: skip
def test_a_duration_is_read(text: str, ms: int):
    assert parse_duration_ms(text) == ms


@given(st.dictionaries(st.sampled_from(list(UNITS)), st.integers(0, 9999), min_size=1))
def test_the_parts_of_a_duration_add_up(parts: dict[str, int]):
    text = "".join(f"{number}{unit}" for unit, number in parts.items())
    assert parse_duration_ms(text) == sum(number * UNITS[unit] for unit, number in parts.items())


@given(st.integers(0, 500), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_both_forms_of_a_duration_mean_the_same(days: int, hours: int, minutes: int, seconds: int, ms: int):
    ours = parse_duration_ms(f"{days}d{hours}h{minutes}m{seconds}s{ms}ms")
    assert ours == parse_duration_ms(f"P{days}DT{hours}H{minutes}M{seconds}.{ms:03}S")
    whole = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=ms)
    assert ours == whole // timedelta(milliseconds=1)


@given(st.integers(0, LAST_MS))
def test_a_duration_that_is_said_is_read_as_what_it_was(ms: int):
    assert parse_duration_ms(format_duration(ms)) == ms


@pytest.mark.parametrize("text", ["90d", "1h30m", "250ms", "1d1h1m1s1ms", "0s"])
def test_a_duration_is_said_as_it_is_given(text: str):
    assert format_duration(parse_duration_ms(text)) == text


@given(st.from_regex(r"[+-]?[0-9]{1,12}(\.[0-9]{1,6})?", fullmatch=True))
def test_a_bare_number_is_refused_and_the_hint_says_what_it_lacks(text: str):
    error = refused(text)
    assert error.hint is not None
    if text[0] not in "+-":
        assert f"{text}s" in error.hint


@pytest.mark.parametrize(
    "text",
    ["", " ", "d", "5", "5x", "5 s", "-5s", "+5s", "1h1h", "1h 30m", "P", "PT", "P1", "P1DT", "P1Y", "P1M", "PT1D",
     "1D",
     "five s", "5s!", "1e3s", "nan s",
     "infs", "\u0663s", "\uff15s", "P\u0663D", "1..5s", ".5s", "5.s", "0x5s", "1mo", "1y"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: str):
    refused(text)


def test_a_duration_that_no_clock_can_hold_is_refused():
    refused("9" * 400 + "d")
    refused("99999999w")


@given(st.text(max_size=12))
def test_no_text_does_more_harm_than_a_usage_error(text: str):
    for parse in (parse_duration_ms, lambda one: parse_instant_ms(one, NOW, past=True), from_rfc3339):
        try:
            assert isinstance(parse(text), int)
        except UsageError as error:
            assert repr(text) in error.message  # noqa: PT017  both outcomes are right


# -- instants ----------------------------------------------------------------------------------------------------


@given(st.integers(FIRST_MS, LAST_MS))
def test_every_millisecond_of_the_years_1_to_9999_makes_the_round_trip(ms: int):
    text = to_rfc3339(ms)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert from_rfc3339(text) == ms
    assert datetime.fromisoformat(text) == EPOCH + timedelta(milliseconds=ms)


@given(
    st.datetimes(
        datetime(1, 1, 3),  # noqa: DTZ001  the zone is the next strategy's
        datetime(9999, 12, 28),  # noqa: DTZ001
        timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)
def test_a_zone_is_taken_into_account(moment: datetime):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    expected = (moment - EPOCH) // timedelta(milliseconds=1)
    assert from_rfc3339(moment.isoformat()) == expected
    assert from_rfc3339(moment.isoformat().replace("T", " ")) == expected
    assert from_rfc3339(moment.isoformat()[:-3] + moment.isoformat()[-2:]) == expected  # +0130


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31 12:00:00.5", "2026-01-31T12:00:00.500Z"),
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123Z"),
        ("2024-02-29", "2024-02-29T00:00:00.000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ("1969-07-20T20:17:40Z", "1969-07-20T20:17:40.000Z"),
    ],
)
def test_an_instant_is_read(text: str, same: str):
    assert to_rfc3339(from_rfc3339(text)) == same
    assert to_rfc3339(parse_instant_ms(text, NOW, past=False)) == same


@pytest.mark.parametrize(
    "text",
    ["2026-13-01", "2026-00-01", "2026-02-29", "2026-01-32", "2026-01-00", "0000-01-01", "2026-01-01T24:00:00Z",
     "2026-01-01T12:60:00Z", "2026-01-01T12:00:61Z", "26-01-01", "2026-1-1", "2026-01-01T", "2026-01-01T12",
     "2026-01-01T12:00:00.Z", "2026-01-01T12:00:00+24:00", "2026-01-01T12:00:00+01:60", "2026-01-01Z", "20260101",
     "\u0662\u0660\u0662\u0666-\u0660\u0661-\u0660\u0661",
     "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59.999-00:01", "2026-01-01\n2026-01-01"],
)  # fmt: skip
def test_a_time_that_does_not_exist_is_refused(text: str):
    with pytest.raises(UsageError):
        from_rfc3339(text)


@given(st.integers(0, 10_000), st.sampled_from(list(UNITS)))
def test_a_duration_is_an_instant_relative_to_now(number: int, unit: str):
    offset = number * UNITS[unit]
    assert parse_instant_ms(f"{number}{unit}", NOW, past=True) == NOW - offset
    assert parse_instant_ms(f"{number}{unit}", NOW, past=False) == NOW + offset
    for past in (True, False):
        assert parse_instant_ms(f"+{number}{unit}", NOW, past=past) == NOW + offset
        assert parse_instant_ms(f"-{number}{unit}", NOW, past=past) == NOW - offset


def test_now_is_now():
    assert parse_instant_ms("now", NOW, past=True) == NOW
    assert parse_instant_ms(" NOW ", NOW, past=False) == NOW


@pytest.mark.parametrize("text", ["7", "-7", "+", "-", "yesterday", "", "--7d", "now+7d"])
def test_what_is_no_instant_is_refused_with_examples(text: str):
    with pytest.raises(UsageError) as caught:
        parse_instant_ms(text, NOW, past=True)
    assert "2026-01-31" in (caught.value.hint or "")


def test_relative_times_are_refused_where_only_absolute_ones_make_sense():
    for text in ("now", "7d", "+3h"):
        with pytest.raises(UsageError):
            from_rfc3339(text)
    with pytest.raises(UsageError):
        from_rfc3339(5)  # type: ignore[arg-type]


def test_what_lies_before_the_year_1_or_after_9999_is_shown_as_their_edge():
    assert to_rfc3339(FIRST_MS - 1) == "0001-01-01T00:00:00.000Z"
    assert to_rfc3339(1 << 62) == "9999-12-31T23:59:59.999Z"
