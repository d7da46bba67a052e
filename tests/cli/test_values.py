from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.cli import values
from fedctl.errors import UsageError


def stdin(content: bytes = b"") -> values.StandardInput:
    return values.StandardInput(io.BytesIO(content))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1", -1), ("1.5", 1.5), ("1e3", 1000.0), ("true", True), ("false", False), ("null", None),
        ("", ""), ("True", "True"), ("01", "01"), ("1.", "1."), ("1_000", "1_000"), ("٣", "٣"), ("nan", "nan"),
        ('"1.0"', "1.0"), ('"', '"'), ('"a" "b"', '"a" "b"'), ("[1]", "[1]"), ("{}", "{}"),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)  # fmt: skip
def test_a_scalar_is_what_it_is_in_json_and_else_text(text, value):
    read = values.scalar(text)
    assert (read, type(read)) == (value, type(value))


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_what_json_writes_as_a_scalar_is_read_back(value):
    assert values.scalar(json.dumps(value)) == value


def test_an_infinite_number_is_refused():
    with pytest.raises(UsageError):
        values.scalar("1e999")


def test_pairs_keep_what_stands_behind_the_first_equals_sign():
    assert values.pairs(["a=1", "b=x=y", "a=2", "c.d="]) == {"a": 2, "b": "x=y", "c.d": ""}
    for wrong in ("a", "=1"):
        with pytest.raises(UsageError):
            values.pairs([wrong])


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a=1", ("a", "=", 1)), ("a.b != x", ("a.b", "!=", "x")), ("a<=1.5", ("a", "<=", 1.5)),
        ("a>=0", ("a", ">=", 0)), ("a<b", ("a", "<", "b")), ("a>1", ("a", ">", 1)), ("a=", ("a", "=", "")),
        ("a==1", ("a", "=", 1)),
        ("metadata.a.b=x", ("a.b", "=", "x")), ("a=x=y", ("a", "=", "x=y")),
        ("a=line\nbreak", ("a", "=", "line\nbreak")),
    ],
)  # fmt: skip
def test_conditions_are_a_path_an_operator_and_a_value(text, condition):
    assert values.where([text]) == [condition]


def test_values_are_literal_or_come_from_somewhere(tmp_path):
    file = tmp_path / "x"
    file.write_bytes("é\n".encode())
    assert values.read_value("v", "text", stdin()) == "text"
    assert values.read_value("v", "-", stdin(b"in")) == "in"
    assert values.read_value("v", f"@{file}", stdin()) == "é\n"
    assert values.read_value("v", "@@x", stdin()) == "@x"
    assert values.read_value("v", "", stdin()) == ""


def test_values_have_a_limit_and_must_be_utf8(tmp_path):
    large = tmp_path / "large"
    large.write_bytes(b"a" * ((1 << 20) + 1))
    for given_, content in ((f"@{large}", b""), ("-", b"a" * (1 << 21)), ("-", b"\xff"), ("\udcff", b""), ("@", b"")):
        with pytest.raises(UsageError):
            values.read_value("v", given_, stdin(content))


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("5000000", 5_000_000), ("10kB", 10_000), ("10k", 10_000), ("2MB", 2_000_000), ("2MiB", 2 << 20),
     ("1 GiB", 1 << 30), ("3g", 3_000_000_000), ("1TiB", 1 << 40), ("7B", 7)],
)  # fmt: skip
def test_a_size_has_the_unit_it_says(text, size):
    assert values.size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5MB", "MB", "1iB", "1 MB B", "1e3", "9999999999T", "1PB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError):
        values.size(text)


@pytest.mark.parametrize(
    ("text", "per_s"), [("100", 100), ("100/s", 100), ("90/m", 1.5), ("3600/h", 1), ("0.5/s", 0.5)]
)
def test_a_rate_is_by_the_second_unless_it_says_otherwise(text, per_s):
    assert values.rate(text) == per_s


@pytest.mark.parametrize("text", ["", "/s", "-1/s", "1/d", "fast", "1/s/s", "nan/s", "inf"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(UsageError):
        values.rate(text)
