from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.model.episode import WHERE_OPERATORS, EpisodeDraft, EpisodeFilter, holds

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, -1.0])
    | st.sampled_from(["", "a", "b", "1"])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(["x", "y"]), SCALARS, max_size=2)


def kind(value: Any) -> str:
    if value is True or value is False:
        return "boolean"
    return {int: "number", float: "number"}.get(type(value), type(value).__name__)


def as_json(value: Any) -> str:
    """Return a form in which equal JSON values, and only those, are equal: 1 is 1.0 but not true."""
    if kind(value) == "number":
        return json.dumps(float(value))
    if isinstance(value, list):
        return json.dumps([as_json(one) for one in value])
    if isinstance(value, dict):
        return json.dumps({key: as_json(one) for key, one in value.items()}, sort_keys=True)
    return json.dumps(value)


def oracle(present: bool, value: Any, operator: str, wanted: Any) -> bool:
    same = present and kind(value) == kind(wanted) and as_json(value) == as_json(wanted)
    if operator == "=":
        return same
    if operator == "!=":
        return not same
    if not present or kind(value) != kind(wanted) or kind(value) not in ("number", "str"):
        return False
    return {"<": value < wanted, "<=": value <= wanted, ">": value > wanted, ">=": value >= wanted}[operator]


@given(st.booleans(), VALUES, st.sampled_from(WHERE_OPERATORS), VALUES)
def test_a_condition_compares_values_of_one_kind_only(present: bool, value: Any, operator: str, wanted: Any):
    document = {"key": value} if present else {"other": value}
    assert holds(document, "key", operator, wanted) is oracle(present, value, operator, wanted)


@given(st.lists(st.sampled_from(["a", "b", "c.d"]), min_size=1, max_size=4), SCALARS)
def test_a_dotted_path_leads_through_objects(path: list[str], value: Any):
    path = [part for part in path if "." not in part] or ["a"]
    document: Any = value
    for part in reversed(path):
        document = {part: document, "beside": 1}
    assert holds(document, ".".join(path), "=", value)
    assert not holds(document, ".".join([*path, "further"]), "=", value)
    assert holds(document, ".".join([*path, "further"]), "!=", value)


def test_a_key_that_holds_a_dot_is_found_too():
    assert holds({"gpu.count": 2}, "gpu.count", "=", 2)
    assert holds({"host": {"gpu.count": 2}}, "host.gpu.count", "=", 2)
    assert holds({"gpu": {"count": 1}, "gpu.count": 2}, "gpu.count", "=", 2)


def test_true_is_not_one_however_deep_it_lies():
    assert not holds({"a": True}, "a", "=", 1)
    assert not holds({"a": [True]}, "a", "=", [1])
    assert holds({"a": {"b": [1]}}, "a", "!=", {"b": [True]})
    assert holds({"a": [1]}, "a", "=", [1.0])


def test_a_path_through_what_is_no_object_leads_nowhere():
    for document in ({"a": [1]}, {"a": "text"}, {"a": None}, {}):
        assert not holds(document, "a.b", "=", None)
        assert holds(document, "a.b", "!=", 5)


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
def test_only_numbers_and_texts_have_an_order(operator: str):
    for value in (None, True, [1], {"x": 1}):
        assert not holds({"a": value}, "a", operator, value)


def test_a_filter_that_says_nothing_is_empty():
    assert EpisodeFilter().is_empty
    assert EpisodeFilter(where=[]).is_empty
    assert not EpisodeFilter(min_reward=0.0).is_empty
    assert not EpisodeFilter(success=False).is_empty
    assert not EpisodeFilter(where=[("a", "=", None)]).is_empty


def test_a_draft_takes_no_field_that_it_does_not_know():
    with pytest.raises(msgspec.ValidationError, match="taks"):
        msgspec.json.decode(b'{"id": "1", "task": "t", "taks": 1}', type=EpisodeDraft)
