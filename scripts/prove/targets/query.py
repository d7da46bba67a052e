"""Texts that are kept, asked for and filtered by: FTS5 and its tokenizers, `--where`. A target of `fuzz`.

Any text can be kept and asked for; what was kept is found by its own words, and deleted the index holds nothing of it;
a condition on metadata lets through exactly what it lets through in Python (`model.episode.holds`), index or none.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from fedctl.cli import values
from fedctl.errors import UsageError
from fedctl.messages.memory import DeleteEpisodes, ListEpisodes, QueryEpisodes, StoreEpisodes
from fedctl.model.episode import EpisodeDraft, EpisodeFilter, holds
from fedctl.recall.text import STOP_WORDS, match_query, query_terms, word_text

from .typist import Desk

if TYPE_CHECKING:
    from fedctl.client.local import LocalCaller

ABOUT = "texts kept and asked for, filters"
INCLUDE = ("fedctl.recall.text", "fedctl.model.episode", "fedctl.store.memory", "fedctl.cli.values")
WORDS = (b" AND ", b" OR ", b" NOT ", b" NEAR(", b'"', b"*", b"^", b"task:", b"{", b"- ", b"\0", "é".encode(), b"_",
         "e\u0301".encode(), "日本語".encode(), "한국".encode(), "ไทย".encode(), "ﬁ".encode(), "\u200d".encode(), b"=",
         "𞤀".encode(), "ß".encode(), "İ".encode(), b"!=", b"<=", b"metadata.", b"a.b", b"9007199254740993", b"-0.0",
         b"1e308", b"true", b"null", "²".encode(), "\u0345".encode(), "\U0001f9d1".encode())  # fmt: skip
WORD_MAX = 128
"""Longer ones are asked for in pieces, which nothing has."""
DESK = Desk()
DOCUMENTS: tuple[dict[str, Any], ...] = (
    {"a": {"b": 1}, "repo": "api", "n": 2.5, "flag": True, "none": None, "list": [1, True]},
    {"a.b": "1", "repo": "API", "n": 9007199254740993, "flag": 1, "": {"x": "y"}, "o": {"k": 'v\u00e9"/'}},
    {"a": {"b": 1.0}, "n": -0.0, "flag": "true", "none": "null", "x": "\u2028", "long": "z" * 400, "big": 10**400},
    {},
)
PATHS = ("a.b", "a", "repo", "n", "flag", "none", "list", ".x", "o.k", "x", "long", "big", "a.b.c", "missing")
OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


def originals() -> list[bytes]:
    """Return texts, and conditions: the first byte says which."""
    texts = ["how did we fix the login test?", 'AND "x" OR NEAR(a b) ^c*', "日本語の検索 한국어 ภาษาไทย", "a_b C++ x²",
             "e\u0301té ﬁn Straße", "🤖fixed₿100", "the of and"]  # fmt: skip
    conditions = [
        "n<=2.5",
        "a.b=1",
        'repo!="api"',
        "flag=true",
        "flag=1",
        "flag!=1",
        "big>1e308",
        "n=9007199254740992",
        "long=zzz",
    ]
    return [b"\x00" + one.encode() for one in texts] + [b"\x01" + one.encode() for one in conditions]


def check(data: bytes) -> None:
    """Keep and ask for a text, or filter by a condition."""
    if not data:
        return
    kind, text = data[0], os.fsdecode(data[1:])
    tenant = DESK.tenant()
    caller = DESK.caller(tenant)
    if kind % 2:
        _filter(caller, text, kind >> 1)
    else:
        _keep(caller, text, tenant)


def _keep(caller: LocalCaller, text: str, tenant: str) -> None:
    (result,) = caller.call(StoreEpisodes(episodes=[EpisodeDraft(id="e", task="zzzz", output=text)])).results
    caller.call(StoreEpisodes(episodes=[EpisodeDraft(id="other", task="qqqq", output=[text[::-1], {"k": 1}])]))
    for mode in ("keyword", "hybrid", "semantic"):
        try:
            hits = caller.call(QueryEpisodes(text=text, mode=mode, explain=True)).hits
        except UsageError:
            continue
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True), hits
        assert all(hit.episode is not None and hit.episode.tenant_id == tenant for hit in hits)
        if result.ok and mode == "keyword" and _has_words(text):
            assert "e" in [hit.id for hit in hits], f"not found by its own words: {text!r}, {query_terms(text)}"
    _look_at_words(text)
    if result.ok:
        assert caller.call(DeleteEpisodes(ids=["e", "other"])).deleted
        assert not caller.call(QueryEpisodes(text="zzzz qqqq", mode="keyword")).hits
        store = DESK.context.store
        key = store.tenants.key(tenant)
        assert key is not None
        assert store.episodes.words_are_whole(key)


def _has_words(text: str) -> bool:
    """Return whether there is a word in it that FTS5 takes for one, too: letters and digits of the old scripts."""
    words = [term.strip('" *') for term in query_terms(text)]
    return any(map(str.isascii, words)) and max(map(len, words)) < WORD_MAX


def _look_at_words(text: str) -> None:
    terms = query_terms(text)
    assert len(terms) <= 64
    assert len(set(terms)) == len(terms)
    assert all(term.count('"') == 2 and term.strip('" *') for term in terms), terms
    match = match_query(terms)
    assert (match is None) == (not terms)
    assert not any(term.strip('"') in STOP_WORDS for term in terms) or all(
        term.strip('"') in STOP_WORDS for term in terms
    ), terms
    word_text({text: [text, 1.5, None]})


def _filter(caller: LocalCaller, text: str, choice: int) -> None:
    condition: tuple[str, str, Any]
    if choice % 2:
        operator = OPERATORS[choice % len(OPERATORS)]
        condition = (PATHS[choice % len(PATHS)], operator, text)
        with contextlib.suppress(ValueError, RecursionError):
            condition = (condition[0], operator, json.loads(text))
    else:
        try:
            (condition,) = values.where([text])
        except UsageError:
            return
    drafts = [EpisodeDraft(id=str(number), task="t", metadata=one) for number, one in enumerate(DOCUMENTS)]
    kept = caller.call(StoreEpisodes(episodes=drafts)).results
    assert all(one.ok for one in kept), kept
    filter_ = EpisodeFilter(where=[condition])
    try:
        found = {one.id for one in caller.call(ListEpisodes(filter=filter_)).episodes}
        asked = {hit.id for hit in caller.call(QueryEpisodes(text="t", mode="keyword", filter=filter_)).hits}
    except UsageError:
        return
    wanted = {str(number) for number, one in enumerate(DOCUMENTS) if holds(one, *condition)}
    assert found == wanted == asked, f"{condition}: listed {found}, found {asked}, and it holds of {wanted}"
