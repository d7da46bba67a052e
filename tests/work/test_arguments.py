"""What an item puts into the arguments of its command."""

from __future__ import annotations

import pytest

from fedctl.errors import UsageError
from fedctl.model.pool import Item
from fedctl.work.arguments import Arguments


def item(data):
    return Item(
        id="i-1", pool="q", status="claimed", data=data, priority=0, attempts=2, max_retries=3, claimed_by="w",
        claimed_at=None, lease_id="l", lease_expires_at=None, created_at="", available_at="", finished_at=None,
        result=None, error=None, key=None, requires=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "data", "filled"),
    [
        ("{}", "a text", "a text"),
        ("{}", {"a": [1, None]}, '{"a":[1,null]}'),
        ("{data}", True, "true"),
        ("{}", None, "null"),
        ("{}", "", ""),
        ("{data.a.b}", {"a": {"b": "x y"}}, "x y"),
        ("{data.a.1}", {"a": [1, 2.5]}, "2.5"),
        ("--at={id}/{attempt}", None, "--at=i-1/2"),
        ("{data.a}{data.a}", {"a": "{id}"}, "{id}{id}"),
        ("{{}}", 1, "{}"),
        ("{{data.a}} {{id}}", 1, "{data.a} {id}"),
        ('{"a":{"b":1}}', 1, '{"a":{"b":1}}'),
        ("{print $1} {ID} {data.} {a}", 1, "{print $1} {ID} {data.} {a}"),
        ("{data.ü}", {"ü": "é"}, "é"),
    ],
)
def test_placeholders_become_values_and_other_braces_stay(argument, data, filled):
    assert Arguments(["cmd", argument]).filled(item(data)) == ["cmd", filled]


@pytest.mark.parametrize(
    ("argument", "data"),
    [("{data.a}", {}), ("{data.a.b}", {"a": "text"}), ("{data.2}", [1, 2]), ("{data.-1}", [1]), ("{data.a}", None)],
)
def test_a_path_that_leads_nowhere_is_told(argument, data):
    with pytest.raises(UsageError, match=r"leads nowhere"):
        Arguments(["cmd", argument]).filled(item(data))


def test_nul_cannot_be_an_argument():
    with pytest.raises(UsageError, match="NUL"):
        Arguments(["cmd", "{}"]).filled(item("a\0b"))


def test_it_knows_whether_the_data_go_to_stdin_and_whether_an_item_names_the_program():
    assert Arguments(["cmd", "{id}"]).any
    assert not Arguments(["cmd", "{{}}", "{{x}}", "{x y}"]).any
    assert Arguments(["{{}}", "{}"]).program == "{}"
    assert Arguments(["{data.tool}", "x"]).program is None


@pytest.mark.parametrize(
    ("argument", "meant"),
    [("{dta}", "{data}"), ("{dat.a.b}", "{data.a.b}"), ("{ID}", "{id}"), ("{attempts}", "{attempt}"),
     ("{name}", "{data.name}"), ("{data.}", "{data}")],
)  # fmt: skip
def test_a_word_in_braces_that_is_no_placeholder_is_refused_with_what_was_meant(argument, meant):
    with pytest.raises(UsageError) as refused:
        Arguments(["cmd", argument])
    assert refused.value.hint == f"did you mean {meant}? For {argument} itself write {{{argument}}}"
    assert Arguments(["cmd", f"{{{argument}}}"]).filled(item(None)) == ["cmd", argument]


@pytest.mark.parametrize(
    "argument",
    ['{"dta":1}', "{ print }", "{print $1}", "--format={{name}}", "{{.ID}}", "a{b}", "{a,b}", "${HOME}", "{1}"],
)
def test_other_braces_are_the_commands_own(argument):
    assert Arguments(["cmd", argument]).filled(item(None)) == ["cmd", argument]
