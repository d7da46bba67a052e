"""The command tree as data: what the manual, the completions and the schemas are made of."""

from __future__ import annotations

import pytest

from fedctl.cli import tree


@pytest.fixture(scope="module")
def described():
    return {one.name: one for one in tree.walk()}


def test_it_has_the_root_every_noun_every_verb_and_every_alias(described):
    assert next(iter(described)) == "fedctl"
    kinds = {one.name: one.kind for one in described.values()}
    assert kinds["fedctl memory"] == "noun"
    assert kinds["fedctl memory query"] == kinds["fedctl restore"] == "verb"
    assert kinds["fedctl memory ls"] == "alias"
    assert {name for name, kind in kinds.items() if kind == "alias"} == {
        f"fedctl {one.path[0]} ls" for one in described.values() if one.path[1:] == ("list",)
    }
    assert all((one.verb is None) == (one.kind in ("root", "noun")) for one in described.values())
    assert all(one.says.endswith(".") and "\n" not in one.says for one in described.values())


def test_it_says_what_an_alias_and_a_noun_alone_stand_for(described):
    assert described["fedctl memory ls"].stands_for == ("memory", "list")
    assert described["fedctl backup"].stands_for == ("backup", "create")
    assert described["fedctl memory"].stands_for is None


def test_it_says_of_arguments_whether_they_are_required_and_repeatable_and_what_they_may_be(described):
    def argument(name, place=0):
        one = described[name].arguments[place]
        return one.metavar, one.required, one.repeatable, one.choices, one.closed

    assert argument("fedctl memory get") == ("ID...", True, True, (), False)
    assert argument("fedctl pool complete") == ("[ITEM]", False, False, (), False)
    assert argument("fedctl restore") == ("ID|FILE|latest", True, False, ("latest",), False)
    assert argument("fedctl completion") == ("bash|zsh|fish", True, False, ("bash", "zsh", "fish"), True)


def test_it_says_of_options_what_they_take(described):
    def option(name, spelling):
        options = described[name].options if name else tree.global_()
        return next(one for one in options if spelling in one.spellings)

    mode = option("fedctl memory query", "--mode")
    assert (mode.metavar, mode.choices, mode.closed) == (
        "hybrid|semantic|keyword", ("hybrid", "semantic", "keyword"), True
    )  # fmt: skip
    assert option("fedctl pool work", "-j").spellings == ("-j", "--jobs")
    assert option("fedctl pool complete", "--then-push").metavar == "POOL JSON"
    assert option("fedctl retention set", "--keep-success").negations == ("--no-keep-success",)
    assert option("fedctl agent note", "--kind").required
    assert option("fedctl hub events", "--type").repeatable
    assert not option("fedctl memory query", "--explain").takes_value
    hub = option("", "--hub")
    assert (hub.metavar, hub.choices, hub.closed) == ("auto|off|URL", ("auto", "off"), False)
    assert option("fedctl tenant erase", "--yes").spellings == ("-y", "--yes")
