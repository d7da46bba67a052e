"""A manual page as blocks, and its two forms: roff for `man`, and plain text for where there is no `man`.

Prose may hold code in backticks; flags need none. Both are set in bold in roff, and stand as they are in text.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CODE = re.compile(r"`([^`]+)`|(?<![\w-])(--?[a-z][a-z-]*)(?![\w])")
_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z`{-])")
_ESCAPED = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}


class Section(NamedTuple):
    """A heading: NAME, OPTIONS."""

    title: str


class Command(NamedTuple):
    """A heading below a section: the last word of a command, and the whole of it as it is typed."""

    name: str
    rest: str
    """Its options and arguments."""

    @property
    def title(self) -> str:
        """The last word."""
        return self.name.rpartition(" ")[2]


class Prose(NamedTuple):
    """A paragraph. Lines may end anywhere."""

    text: str


class Term(NamedTuple):
    """Something and what it means: `names` (all mean the same) with the `value` that follows each."""

    names: tuple[str, ...]
    value: str
    text: str


class Synopsis(NamedTuple):
    """The lines of a synopsis: of each what is typed as it is, and the rest."""

    lines: tuple[tuple[str, str], ...]


class Lines(NamedTuple):
    """Lines that are kept as they are."""

    lines: tuple[str, ...]


Block = Section | Command | Prose | Term | Synopsis | Lines


class Page(NamedTuple):
    """A manual page: `fedctl-pool` of section 1, and what it says."""

    name: str
    section: int
    says: str
    """One line, without its full stop."""
    blocks: tuple[Block, ...]

    @property
    def file_name(self) -> str:
        """The name of its file: `fedctl-pool.1`."""
        return f"{self.name}.{self.section}"


# -- roff ---------------------------------------------------------------------------------------------------------


def as_roff(page: Page, version: str) -> str:
    """Return a page for `man`: the macros of man(7), which groff and mandoc both know. It has no date but a version."""
    head = [
        '.\\" Written by scripts/generate out of the command line itself.',
        ".nr HY 0",  # no word is broken: what is broken cannot be copied; groff wants it before the title
        f'.TH {_plain(page.name.upper())} {page.section} "" "fedctl {version}" "fedctl manual"',
        ".nh",
        ".ad l",
    ]
    return "\n".join((*head, *(line for block in page.blocks for line in _roff(block)))) + "\n"


def _roff(block: Block) -> Iterator[str]:
    match block:
        case Section(title):
            yield f".SH {title}"
        case Command(name, rest):
            yield f".SS {_plain(block.title)}"
            yield _bold(name) + (f" {_italic(rest)}" if rest else "")
        case Prose(text):
            yield ".PP"
            yield from _sentences(text)
        case Term(names, value, text):
            yield ".TP"
            yield ", ".join(map(_bold, names)) + (f" {_italic(value)}" if value else "")
            yield from _sentences(text)
        case Synopsis(lines):
            for place, (name, rest) in enumerate(lines):
                yield from (".br" if place else ".PP", _bold(name) + (f" {_italic(rest)}" if rest else ""))
        case Lines(lines):
            yield from (".PP", ".RS 4n", ".EX", *map(_line, lines), ".EE", ".RE")


def _sentences(text: str) -> Iterator[str]:
    """Yield each sentence as a line: roff sees where one ends, and changes stay small."""
    for sentence in _SENTENCE.split(" ".join(text.split())):
        parts, at = [], 0
        for match in _CODE.finditer(sentence):
            parts += [_escaped(sentence[at : match.start()]), _bold(match[1] or match[2])]
            at = match.end()
        yield _unlike_a_request("".join((*parts, _escaped(sentence[at:]))))


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in text)


def _plain(text: str) -> str:
    """Return an argument of a macro."""
    escaped = _escaped(text).replace('"', r"\(dq")
    return f'"{escaped}"' if " " in escaped else escaped


def _bold(text: str) -> str:
    return rf"\fB{_escaped(text)}\fR"


def _italic(text: str) -> str:
    return rf"\fI{_escaped(text)}\fR"


def _line(text: str) -> str:
    return _unlike_a_request(_escaped(text))


def _unlike_a_request(line: str) -> str:
    r"""Return a line of text that roff does not take for one of its requests; a quote is `\(aq` already."""
    return rf"\&{line}" if line.startswith(".") else line


# -- text ---------------------------------------------------------------------------------------------------------

_INDENT = 4


def as_text(page: Page, width: int = 80) -> str:
    """Return a page as plain text, `width` columns wide but for what must not be broken."""
    lines: list[str] = [f"{page.name}({page.section})"]
    for block in page.blocks:
        lines += ["", *_text(block, width)]
    return "\n".join(lines) + "\n"


def _text(block: Block, width: int) -> Sequence[str]:
    match block:
        case Section(title):
            return [title]
        case Command(name, rest):
            return [f"  {block.title}", *_wrapped(f"{name} {rest}".rstrip(), width, _INDENT, 2 * _INDENT)]
        case Synopsis(lines):
            return [row for pair in lines for row in _wrapped(" ".join(pair).rstrip(), width, _INDENT, 2 * _INDENT)]
        case Prose(text):
            return _wrapped(text, width, _INDENT)
        case Term(names, value, text):
            return [
                " " * _INDENT + ", ".join(names) + (f" {value}" if value else ""),
                *_wrapped(text, width, 2 * _INDENT),
            ]
        case Lines(lines):
            return [" " * 2 * _INDENT + line for line in lines]


def _wrapped(text: str, width: int, indent: int, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )
