"""Length-prefixed frames: what a Unix socket's byte stream is cut into."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.errors import UsageError
from fedctl.wire.frames import FrameTooLargeError, Splitter, prefixed


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(min_value=1, max_value=50))
def test_frames_come_out_whole_and_in_order_however_the_stream_is_cut(frames, step):
    stream = b"".join(prefixed(frame) for frame in frames)
    splitter = Splitter(300)
    found = []
    for start in range(0, len(stream), step):
        splitter.feed(stream[start : start + step])
        while (frame := splitter.next_frame()) is not None:
            found.append(frame)
    assert found == frames
    assert splitter.pending_bytes == 0


def test_a_length_over_the_limit_is_refused_before_the_bytes_come():
    splitter = Splitter(100)
    splitter.feed((101).to_bytes(4, "big"))
    with pytest.raises(FrameTooLargeError, match="at most 100 bytes here, this one has 101"):
        splitter.next_frame()


def test_a_terabyte_header_does_not_reserve_memory():
    splitter = Splitter(1 << 22)
    splitter.feed(b"\xff\xff\xff\xff")
    with pytest.raises(UsageError):
        splitter.next_frame()


def test_the_limit_can_be_raised_after_authentication():
    splitter = Splitter(10)
    splitter.limit_bytes = 1000
    splitter.feed(prefixed(b"x" * 1000))
    assert splitter.next_frame() == b"x" * 1000
