from __future__ import annotations

import json
import math
import re
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.errors import UsageError
from fedctl.model import limits

NAME_CHARACTERS = string.ascii_letters + string.digits + "._:-"
GRAMMAR = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,127}")


def complaint(check, *args, **kwargs) -> str:
    with pytest.raises(UsageError) as caught:
        check(*args, **kwargs)
    caught.value.message.encode()  # what is shown of bad input can be shown anywhere
    return caught.value.message


# -- names -------------------------------------------------------------------------------------------------------


@given(st.text(NAME_CHARACTERS, min_size=1, max_size=128).filter(lambda name: name[0] not in ".-"))
def test_every_text_of_the_grammar_is_a_name(name: str):
    assert limits.check_name("tenant", name) == name


@given(st.text(max_size=140))
def test_a_text_is_a_name_exactly_if_the_grammar_says_so(text: str):
    if GRAMMAR.fullmatch(text):
        assert limits.check_name("tenant", text) == text
    else:
        complaint(limits.check_name, "tenant", text)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../etc", "a/b", "a\\b", "-rf", ".hidden", "a b", "a\0b", "a\nb", "é", "名", "a" * 129, "a\udcff",
     "\uff41", "a%2f", "a;drop", "\u0663"],
)  # fmt: skip
def test_what_could_mean_something_to_a_path_a_shell_or_sql_is_no_name(name: str):
    complaint(limits.check_name, "tenant", name)


@pytest.mark.parametrize("value", [None, 1, b"bytes", ["a"], True])
def test_only_text_is_a_name(value: object):
    complaint(limits.check_name, "tenant", value)


# -- ids ---------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=200).filter(str.isprintable))
def test_every_printable_text_of_1_to_200_characters_is_an_id(text: str):
    assert limits.check_id("episode", text) == text


@pytest.mark.parametrize(
    "value", ["", "a" * 201, "tab\there", "nul\0", "line\n", "\ud800", "\u2028", "\x1b[31m", "\u200b"]
)
def test_what_does_not_print_is_no_id(value: str):
    complaint(limits.check_id, "episode", value)


def test_an_id_is_compared_exactly_and_kept_as_it_is():
    assert limits.check_id("episode", " Grüße 名前 ") == " Grüße 名前 "


# -- text --------------------------------------------------------------------------------------------------------


def test_text_may_hold_any_character_but_nul():
    assert limits.check_text("task", "line\nU+2028\u2028 bell\a 😀") == "line\nU+2028\u2028 bell\a 😀"
    assert "NUL" in complaint(limits.check_text, "task", "a\0b")
    assert limits.check_text("critique", "a\0b", nul_ok=True) == "a\0b"


def test_text_of_blanks_is_empty():
    assert "empty" in complaint(limits.check_text, "task", " \t\n", empty_ok=False)
    assert limits.check_text("host", "") == ""


@given(st.text(max_size=20), st.characters(categories=["Cs"]), st.text(max_size=20))
def test_a_lone_surrogate_anywhere_is_refused(before: str, surrogate: str, after: str):
    assert "UTF-8" in complaint(
        limits.check_text, "task", before.replace("\0", "") + surrogate + after.replace("\0", "")
    )


# -- numbers -----------------------------------------------------------------------------------------------------


@given(st.floats(0, 1) | st.integers(0, 1))
def test_a_unit_interval_holds_its_ends_and_gives_floats(value: float):
    found = limits.check_unit_interval("reward", value)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, 2, -1, math.nan, math.inf, -math.inf, True, "0.5", None, 10**400])
def test_what_is_not_between_0_and_1_is_refused(value: object):
    complaint(limits.check_unit_interval, "reward", value)


def test_a_measure_has_no_sign_even_where_it_is_zero():
    # SQLite keeps -0.0 as 0: what comes back would not be what was given, and the same push would be a conflict.
    assert math.copysign(1, limits.check_measure("latency_ms", -0.0)) == 1
    assert math.copysign(1, limits.check_unit_interval("reward", -0.0)) == 1
    assert type(limits.check_measure("latency_ms", 5)) is float
    complaint(limits.check_measure, "latency_ms", -1)
    complaint(limits.check_measure, "latency_ms", 10**400)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_finite_number_is_given_back_as_it_is(value: float):
    assert limits.check_number("x", value) is value


@given(st.integers())
def test_a_count_fits_into_64_bits(value: int):
    if 0 <= value < 1 << 63:
        assert limits.check_count("tokens_used", value) == value
    else:
        complaint(limits.check_count, "tokens_used", value)


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_a_count_is_a_whole_number(value: object):
    complaint(limits.check_count, "tokens_used", value)


@pytest.mark.parametrize("value", [-1, 1 << 63, 10**5000], ids=["negative", "too large", "beyond printing"])
def test_a_count_beyond_64_bits_is_named_without_being_printed(value: int):
    assert len(complaint(limits.check_count, "cursor", value)) < 100


# -- JSON --------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_value_passes(value: object):
    limits.check_json("input", value)


@given(
    JSON, st.sampled_from([math.nan, math.inf, -math.inf, "\ud800", {1: 2}, {"\udfff": 1}, {1, 2}, b"x", 1j, object()])
)
def test_a_value_that_is_no_json_is_found_wherever_it_hides(value: object, bad: object):
    for hiding in (bad, [value, bad], {"a": value, "b": [bad]}, [[{"c": (value, bad)}]]):
        assert complaint(limits.encode_json, "input", hiding) == complaint(limits.check_json, "input", hiding)


def nested(depth: int, kind: str) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"k": value}
    return value


@pytest.mark.parametrize("kind", ["list", "object"])
def test_32_levels_are_deep_enough_and_33_are_not(kind: str):
    limits.check_json("input", nested(32, kind))
    assert "32" in complaint(limits.check_json, "input", nested(33, kind))
    assert limits.encode_json("input", nested(32, kind)) == json.dumps(nested(32, kind), separators=(",", ":"))
    assert "32" in complaint(limits.encode_json, "input", nested(33, kind))
    wide = [nested(20, kind)] * 9
    assert limits.encode_json("input", wide) == json.dumps(wide, separators=(",", ":"))


def test_a_hundred_thousand_levels_and_a_circle_are_refused_without_a_crash():
    complaint(limits.check_json, "input", nested(100_000, "list"))
    circle: list[object] = []
    circle.append(circle)
    complaint(limits.check_json, "input", circle)
    complaint(limits.encode_json, "input", circle)
    complaint(limits.encode_json, "input", nested(100_000, "list"))


@given(JSON)
def test_what_passes_can_be_written_as_json_and_read_back(value: object):
    limits.check_json("input", value)
    written = limits.encode_json("input", value)
    assert json.dumps(msgspec.json.decode(written)) == json.dumps(value)
