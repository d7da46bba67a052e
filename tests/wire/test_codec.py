"""Frames to bytes and back, and every way in which bytes can be wrong."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.errors import Failure, UsageError
from fedctl.messages.hub import GetHubInfo, Subscribe
from fedctl.messages.memory import GetAnswer, GetEpisodes, QueryEpisodes, StoreEpisodes
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.wire import codec, frames

REQUESTS = codec.RequestDecoder((StoreEpisodes, QueryEpisodes, GetEpisodes, GetHubInfo, Subscribe))

text = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
drafts = st.builds(
    EpisodeDraft,
    id=text,
    task=text,
    input=json_values,
    output=json_values,
    reward=st.none() | st.floats(0, 1),
    metadata=st.none() | st.dictionaries(text, json_values, max_size=3),
)


def call(request, **fields) -> bytes:
    return codec.encode_call(fields.get("id", 1), fields.get("tenant_id"), request)


def read(data: bytes) -> Any:
    frame = codec.decode_client_frame(data)
    assert isinstance(frame, frames.Call)
    return REQUESTS.decode(frame.request)


@given(st.lists(drafts, max_size=3))
def test_what_is_asked_arrives_as_it_was_asked(episodes):
    request = StoreEpisodes(episodes=episodes)
    assert read(call(request)) == request


@given(json_values)
def test_any_json_value_comes_back_type_for_type(value):
    sent = EpisodeDraft(id="e", task="t", input=value)
    got = read(call(StoreEpisodes(episodes=[sent]))).episodes[0].input
    assert got == value
    assert msgspec.json.encode(got) == msgspec.json.encode(value)


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**400])
def test_integers_of_any_size_come_back_as_they_went_in(number):
    assert (
        read(call(StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t", input=number)]))).episodes[0].input == number
    )


@given(st.binary(max_size=200))
def test_garbage_is_a_usage_error_and_nothing_else(data):
    for decode in (codec.decode_client_frame, codec.decode_server_frame):
        with contextlib.suppress(UsageError):
            decode(data)


@given(st.data())
def test_a_damaged_call_is_refused_or_still_a_call(data):
    good = call(QueryEpisodes(text="water", filter=EpisodeFilter(task="boil")), id=77)
    where = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:where] + data.draw(st.binary(max_size=4)) + good[where + data.draw(st.integers(0, 3)) :]
    try:
        frame = codec.decode_client_frame(damaged)
        if isinstance(frame, frames.Call):
            REQUESTS.decode(frame.request)
    except UsageError:
        pass


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["reward", "input", "deep"])
def test_numbers_that_json_has_no_word_for_are_refused_and_never_become_null(bad, where):
    fields = {"reward": {"reward": bad}, "input": {"input": bad}, "deep": {"metadata": {"a": [1, {"b": bad}]}}}
    with pytest.raises(UsageError, match="finite numbers"):
        call(StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t", **fields[where])]))


def test_a_null_that_was_meant_is_sent():
    request = StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t", input={"a": None})])
    assert read(call(request)) == request


def test_a_lone_surrogate_is_refused_where_it_is_sent():
    with pytest.raises(UsageError, match="lone surrogate"):
        call(QueryEpisodes(text="\ud800"))


def test_what_is_no_json_is_refused_where_it_is_sent():
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        call(StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t", input=object())]))


def test_depth_is_refused_on_both_sides():
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UsageError, match="nested deeper than 32 levels"):
        call(StoreEpisodes(episodes=[EpisodeDraft(id="e", task="t", input=deep)]))
    while deep:  # by hand: freeing 100,000 levels at once would recurse as well
        deep = deep[0]
    with pytest.raises(codec.UnreadableCallError, match="nested deeper than 32 levels") as caught:
        codec.decode_client_frame(b'{"frame":"call","id":9,"request":' + b"[" * 100_000)
    assert caught.value.call_id == 9


def test_a_call_over_the_frame_limit_is_refused_where_it_is_sent():
    with pytest.raises(frames.FrameTooLargeError, match="at most 4,194,304 bytes"):
        call(QueryEpisodes(text="x" * (5 << 20)))


def test_an_answer_over_the_frame_limit_becomes_an_error_of_its_call():
    answer = GetAnswer(episodes=[], missing=["x" * (5 << 20)], rest=[])
    frame = codec.decode_server_frame(codec.encode_answer(3, answer))
    assert isinstance(frame, frames.Failed)
    assert frame.id == 3
    assert "at most 4,194,304" in frame.error.message


@pytest.mark.parametrize(
    ("request_json", "complaint"),
    [
        (b'{"op":"memory.query","text":5}', "memory.query: Expected `str`, got `int` - at `$.text`"),
        (b'{"op":"memory.query","text":"x","k":"ten"}', "Expected `int`, got `str`"),
        (b'{"op":"memory.query","text":"x","k":1e400}', "out of range"),
        (b'{"op":"memory.query","text":"x","k":1.5}', "Expected `int`, got `float`"),
        (b'{"op":"memory.query","text":"x","surprise":1}', "unknown field `surprise`"),
        (b'{"op":"memory.query"}', "missing required field `text`"),
        (b'{"op":"memory.query","text":"\xff"}', "memory.query: 'utf-8' codec"),
        (b'{"op":"memory.unknown"}', "there is no operation 'memory.unknown'"),
        (b'{"op":5}', "cannot be read"),
        (b"[]", "cannot be read"),
        (b"null", "cannot be read"),
    ],
)
def test_a_request_that_makes_no_sense_is_named(request_json, complaint):
    with pytest.raises(UsageError) as caught:
        REQUESTS.decode(msgspec.Raw(request_json))
    assert complaint in caught.value.message


def test_a_complaint_does_not_repeat_a_megabyte_of_what_was_sent():
    with pytest.raises(UsageError) as caught:
        REQUESTS.decode(msgspec.Raw(b'{"op":"' + b"x" * 1_000_000 + b'"}'))
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "data",
    [
        b'{"frame":"call","id":12,"request":["\\ud800"]}',
        b'{"frame":"call","id":12,"request":{',
        b'{"frame":"call","id":12,"tenant_id":5,"request":{}}',
        b'{"id":12,"frame":"call","tenant_id":5,"request":{}}',
        b'{ "frame" : "call", "id" : 12 , "request": nope}',
    ],
)
def test_a_call_that_cannot_be_read_is_still_known_by_its_number(data):
    with pytest.raises(codec.UnreadableCallError) as caught:
        codec.decode_client_frame(data)
    assert caught.value.call_id == 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xef\xbb\xbf{}",
        b'{"frame":"call","id":-1,"request":{}}',
        b'{"frame":"call","id":1.0,"request":{}}',
        b'{"frame":"call","id":"1","request":{}}',
        b'{"frame":"call","id":9007199254740992,"request":{}}',
        b'{"frame":"call","request":{}}',
        b'{"frame":"answer","id":1,"answer":{}}',
        b'{"frame":"hello"}',
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_frame_of_a_client_is_no_call_either(data):
    with pytest.raises(UsageError) as caught:
        codec.decode_client_frame(data)
    assert not isinstance(caught.value, codec.UnreadableCallError)


def test_an_answer_of_another_shape_is_a_failure_that_says_so():
    with pytest.raises(Failure, match="cannot be read"):
        codec.decode_answer(msgspec.Raw(b'{"episodes":5}'), GetEpisodes)


def test_frames_may_gain_fields_within_a_version():
    frame = codec.decode_server_frame(b'{"frame":"goodbye","code":1001,"reason":"r","since":"tomorrow"}')
    assert frame == frames.Goodbye(code=1001, reason="r")
