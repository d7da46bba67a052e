"""From an episode to the text that is embedded and the words that are indexed; from a question to its words. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT_FORM = "3"
"""Part of the tag of every vector: another way of putting the text together makes other vectors."""

# With the accents that are characters of their own, as the index takes them. What the index breaks up (it knows no
# underscores) it looks for as a phrase, which takes the longer the more parts there are: hence a limit.
_WORD = re.compile(r"[^\W_][\w\u0300-\u0331]{0,127}")
# Scripts that put no space between words: Thai, Lao, Myanmar, Hangul, Khmer, kana, Han and its extensions.
_UNSPACED = re.compile(
    "([\u0e01-\u0e4e\u0e50-\u0e59\u0e81-\u0edf\u1000-\u1049\u1050-\u109d\u1100-\u11ff\u1780-\u17d3\u17dc-\u17e9"
    "\u3005-\u3007\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3131-\u318e\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af]+)"
)
# What the index would take for a letter, for it knows no character younger than Unicode 6: a word beside one of the
# newer emoji, currency signs or marks of direction is a word by itself.
_NO_WORD = re.compile("[^\\w\\s\u0300-\u0331]+")
_MAX_TERMS = 64

STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but
    by can cannot could did do does doing down during each either else ever few for from further get got had has have
    having he her here hers him his how i if in into is it its itself just let me more most my no nor not of off on
    once only or other our out over own please same shall she should so some such than that the their them then there
    these they this those through to too under until up upon us very was we were what when where which while who whom
    whose why will with would you your""".split()  # noqa: SIM905  a list of 120 quoted words is no easier to read
)
"""English words that say nothing of what a text is about."""


_PLAIN = frozenset({str, int, float})
"""What is text as it is: an array of half a million numbers goes into an episode."""


def plain_text(value: Any) -> str:
    """Return the text in a JSON value: text as it is, the rest flattened, keys included."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "\n".join([f"{key}: {one if type(one) in _PLAIN else plain_text(one)}" for key, one in value.items()])
    if isinstance(value, list | tuple):
        return "\n".join([str(one) if type(one) in _PLAIN else plain_text(one) for one in value])
    return str(value)


def embedding_text(agent_id: str | None, task: str, input_: Any, output: Any, critique: str | None) -> tuple[str, str]:
    """Return what is embedded of an episode: its context (who, on what task), which each piece of it begins with,
    and the rest, which is cut into pieces where it is long.

    Leaving out who speaks cost 8 points of recall on conversations.
    """  # noqa: D205  one sentence of two parts
    head = f"{agent_id}: {task}" if agent_id else task
    parts = (plain_text(input_), plain_text(output), critique or "")
    return head, "\n".join(part for part in parts if part)


def word_text(value: Any) -> str:
    """Return the text in a JSON value as its words are indexed.

    Where a script has no spaces, a run of it becomes its pairs of characters (what search engines do for Chinese,
    Japanese and Korean), so that any two neighbours can be asked for; the last character stands alone as well, so
    that a single one is found as the beginning of a pair or as that.
    """
    text = plain_text(value)
    if text.isascii():
        return text
    text = _NO_WORD.sub(" ", _one_form(text))
    return _UNSPACED.sub(lambda run: f" {' '.join([*_pairs(run[0]), run[0][-1]])} ", text)


def _one_form(text: str) -> str:
    # Composed, decomposed, half or full width: the same word however it was typed.
    return unicodedata.normalize("NFKC", text)


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]


def query_terms(text: str) -> list[str]:
    """Return the terms of a question for an FTS5 query, each once; none when there is no word in it.

    Each is quoted: raw user text raises syntax errors. Stop words are left out unless there is nothing else.
    """
    words: list[str] = []
    runs: list[str] = []
    for place, part in enumerate(_UNSPACED.split(_one_form(text).lower())):
        if place % 2:  # what the expression itself matched
            runs += [f'"{pair}"' for pair in _pairs(part)] or [f'"{part}" *']
        else:
            words += _WORD.findall(part)
    telling = [word for word in words if word not in STOP_WORDS]
    if not telling and not runs:
        telling = words
    return list(dict.fromkeys([*(f'"{word}"' for word in telling), *runs]))[:_MAX_TERMS]


def match_query(terms: Sequence[str], others: Sequence[str] = ()) -> str | None:
    """Return an FTS5 query that finds any of the terms: the implicit AND finds nothing for 99 of 100 questions.

    With `others` it still finds only what has one of the `terms`, but all of them count, each twice: FTS5's BM25 adds
    up the phrases of a query, and here each stands in it two times. That is the one way to have FTS5 score fewer
    documents and leave the scores as they are (times 2).
    """
    either = " OR ".join(terms)
    if not others:
        return either or None
    return f"({either}) AND ({' OR '.join([*terms, *others, *others])})"
