from __future__ import annotations

from typing import get_args

from fedctl.model.agent import AGENT_TRANSITIONS, AgentStatus


def test_every_status_has_its_transitions_and_nothing_else_has():
    statuses = set(get_args(AgentStatus))
    assert set(AGENT_TRANSITIONS) == statuses
    assert set().union(*AGENT_TRANSITIONS.values()) <= statuses


def test_an_agent_can_end_from_everywhere_and_comes_back_from_the_dead_nowhere():
    for status, following in AGENT_TRANSITIONS.items():
        assert (following == frozenset()) if status == "dead" else ("dead" in following)


def test_every_status_is_reached_from_the_first():
    reached = {"spawning"}
    while more := set().union(*(AGENT_TRANSITIONS[one] for one in reached)) - reached:
        reached |= more
    assert reached == set(AGENT_TRANSITIONS)
