"""The frame of the process: a signal ends a command wherever it comes."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from fedctl.cli import main


@pytest.fixture
def handled():
    """Let signals be handled as in a process of fedctl's own."""
    before = {number: signal.signal(number, main._end_by) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook
    main._signals.clear()


class Swallows:
    """An object in whose end a signal comes: what its handler raises there, the interpreter throws away."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, main.Terminated)])
def test_a_signal_that_comes_where_nothing_can_be_raised_comes_again(handled, number, error):
    with pytest.raises(error):
        Swallows(number)
        time.sleep(5)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, main.Terminated)])
def test_a_signal_that_comes_while_one_is_being_sent_again_is_not_lost_either(handled, number, error):
    class Swallowed:
        @property
        def exc_value(self):
            signal.raise_signal(number)
            return error()

    main._come_again(Swallowed())
    with pytest.raises(error):
        time.sleep(5)


def test_any_other_error_that_nobody_can_catch_is_said_as_ever(handled, capsys):
    class Fails:
        def __del__(self):
            raise ValueError("not a signal")

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    Fails()
    assert "ValueError: not a signal" in capsys.readouterr().err
