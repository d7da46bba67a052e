"""Dear answers are remembered as long as finding them took a hundred times."""

import pytest

from fedctl.hub.seldom import SHARE, Seldom


@pytest.fixture
def asked(clock):
    """A question that takes 20 ms and is answered with how often it was asked."""
    seldom, count = Seldom(clock), [0]

    def question() -> int:
        clock.advance(20)
        count[0] += 1
        return count[0]

    return lambda name="x": seldom.ask(name, question)


def test_an_answer_is_remembered_for_a_while(asked, clock):
    assert [asked(), asked()] == [1, 1]
    clock.advance(20 * SHARE - 1)
    assert asked() == 1
    clock.advance(1)
    assert asked() == 2


def test_what_costs_next_to_nothing_is_asked_each_time(clock):
    seldom, answers = Seldom(clock), iter(range(3))

    def question() -> int:
        clock.advance(5)
        return next(answers)

    assert [seldom.ask("x", question) for _ in range(3)] == [0, 1, 2]


def test_each_question_has_an_answer_of_its_own(asked):
    assert [asked("x"), asked("y"), asked("x")] == [1, 2, 1]


def test_a_question_that_failed_is_asked_again(clock):
    seldom = Seldom(clock)
    with pytest.raises(ZeroDivisionError):
        seldom.ask("x", lambda: 1 // 0)
    assert seldom.ask("x", lambda: 2) == 2
