"""Names that were never used: where nothing is found, what was perhaps meant."""

from __future__ import annotations

import pytest


@pytest.fixture
def used(fedctl):
    """A home in which the tenant acme has an episode, a pool, a worker."""
    fedctl("--tenant", "acme", "memory", "store", "--task", "one", "--agent", "coder")
    fedctl("--tenant", "acme", "pool", "push", "builds", "1")
    fedctl("--tenant", "acme", "worker", "register", "gpu-7")
    return fedctl


@pytest.mark.parametrize(
    "command",
    [
        "memory list", "memory query one", "memory stats", "memory export", "pool list", "pool show builds",
        "pool items builds", "pool size builds", "worker list", "agent list", "hub events",
    ],
)  # fmt: skip
def test_a_tenant_that_was_never_used_is_told_from_one_that_has_nothing(used, command):
    said = used("--tenant", "acne", *command.split())
    assert (said.code, said.err) == (0, "note: the tenant acne was never used: did you mean acme?\n")
    assert used("-q", "--tenant", "acne", *command.split()).err == ""
    assert "never used" not in used("--tenant", "acme", *command.split()).err


def test_a_name_like_no_other_is_only_said_to_be_new(used):
    assert used("--tenant", "zyxw", "memory", "list").err == "note: the tenant zyxw was never used\n"


def test_the_tenant_by_default_is_nobody_s_slip(fedctl):
    fedctl("init")
    assert fedctl("memory", "list", "--json").err == ""


def test_a_pool_that_was_never_used_is_said_with_the_one_that_was_meant(used):
    said = used("--tenant", "acme", "pool", "size", "build")
    assert said.err == "note: the pool build was never used: did you mean builds?\n"
    assert used("--tenant", "acme", "worker", "list", "--pool", "build").err == said.err


def test_each_pool_that_was_never_used_is_said_beside_those_that_were(used):
    used("--tenant", "acme", "pool", "push", "odd", "--batch", stdin=b'{"id": "odd-1", "data": 1}\n')
    said = used("--tenant", "acme", "pool", "wait", "builds", "build", "odd-1", "zyxw", "--timeout", "0s")
    assert said.err == (
        "note: the pool build was never used: did you mean builds?\nnote: the pool zyxw was never used\n"
    )
    for verb in ("purge", "pause"):
        said = used("--tenant", "acme", "pool", verb, "buids").err
        assert said == "note: the pool buids was never used: did you mean builds?\n"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("worker show gpu-8", "gpu-7"), ("worker heartbeat gpu7", "gpu-7"), ("tenant show acne", "acme"),
        ("tenant erase acne --yes", "acme"),
    ],
)  # fmt: skip
def test_what_is_not_found_says_what_was_perhaps_meant(used, command, name):
    error = used("--tenant", "acme", *command.split(), "--json").error
    noun = command.split()[0]
    assert (error["exit"], error["hint"]) == (4, f"did you mean {name}? fedctl {noun} list shows them")


def test_no_tenant_s_names_are_told_to_another(used):
    used("--tenant", "other", "memory", "store", "--task", "one")
    hint = used("--tenant", "other", "worker", "show", "gpu-8", "--json").error["hint"]
    assert hint == "fedctl worker list shows them"
    assert "builds" not in used("--tenant", "other", "pool", "size", "build").err
