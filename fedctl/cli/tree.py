"""The command tree as data: what there is to say about every command, said without running any.

Help is written by the frame itself; manual pages, completions, schemas and the tests of the contract are written
from here. Walking loads every module of the command line: nothing on a hot path does it.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fedctl.cli.command import Group, Noun, Root, Verb, global_options
from fedctl.cli.main import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "fedctl"

_WORD = re.compile(r"[a-z][a-z_-]*\Z")


class Argument(NamedTuple):
    """A positional argument: `metavar` as the usage line has it (`[ITEM]`, `ID...`, `ID|FILE|latest`)."""

    name: str
    metavar: str
    says: str
    required: bool
    repeatable: bool
    choices: tuple[str, ...]
    """The words that it may be; all that it may be only where `closed`."""
    closed: bool


class Option(NamedTuple):
    """An option: `spellings` as typed (`-j`, `--jobs`), `negations` what turns it off (`--no-keep-success`)."""

    spellings: tuple[str, ...]
    negations: tuple[str, ...]
    metavar: str | None
    """What stands for its values; None: it takes none. Two words: it takes two."""
    says: str
    required: bool
    repeatable: bool
    choices: tuple[str, ...]
    closed: bool

    @property
    def takes_value(self) -> bool:
        """Whether something has to follow it."""
        return self.metavar is not None


class Described(NamedTuple):
    """One command as a person types it. `kind` noun: has commands under it; alias: another name of a verb."""

    path: tuple[str, ...]
    """What is typed after `fedctl`: `()`, `("memory",)`, `("memory", "query")`, `("memory", "ls")`."""
    kind: Literal["root", "noun", "verb", "alias"]
    says: str
    """One line."""
    text: str
    """What there is to say beyond it: paragraphs, with their lines as in the source; perhaps empty."""
    arguments: tuple[Argument, ...]
    options: tuple[Option, ...]
    """Its own; the global ones (`global_()`) are taken everywhere, before and after the command."""
    examples: tuple[str, ...]
    stands_for: tuple[str, ...] | None
    """The path of what an alias is another name of, or of what a noun is alone; None: of nothing."""
    verb: Verb | None
    """What runs; None for the root and for nouns."""

    @property
    def name(self) -> str:
        """The whole of it: `fedctl memory query`."""
        return " ".join((PROGRAM, *self.path))


def walk() -> Iterator[Described]:
    """Yield the root, then each noun followed by its verbs (an alias after what it is another name of), in order."""
    yield from _all()


@functools.cache
def _all() -> tuple[Described, ...]:
    return tuple(_walked())


def _walked() -> Iterator[Described]:
    root = Root(COMMANDS)
    yield _group((), root, "root", None)
    for name in root.list_commands(None):
        command = root.get_command(None, name)
        if not isinstance(command, Noun):
            yield _verb((name,), command)
            continue
        yield _group((name,), command, "noun", None if command.is_alone is None else (name, command.is_alone))
        aliases = {verb: alias for alias, verb in command.aliases.items()}
        for verb in command.list_commands(None):
            described = _verb((name, verb), command.get_command(None, verb))
            yield described
            if verb in aliases:
                yield described._replace(path=(name, aliases[verb]), kind="alias", stands_for=described.path)


def aliases() -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return what each alias is another name of: the path of `memory ls` -> that of `memory list`."""
    return {one.path: one.stands_for for one in walk() if one.kind == "alias" and one.stands_for}


def global_() -> tuple[Option, ...]:
    """Return the options that every command takes."""
    return tuple(_option(param) for param in global_options())


def _group(
    path: tuple[str, ...], group: Group, kind: Literal["root", "noun"], stands_for: tuple[str, ...] | None
) -> Described:
    says, _, text = str(group.help).partition("\n")
    return Described(path, kind, says, text.strip("\n"), (), (), (), stands_for, None)


def _verb(path: tuple[str, ...], verb: Verb) -> Described:
    says, _, text = inspect.getdoc(verb.callback).partition("\n")  # type: ignore[union-attr]  # all have one
    params = [*verb.params, *verb.extra_options()]
    return Described(
        path=path,
        kind="verb",
        says=says,
        text=text.strip("\n"),
        arguments=tuple(_argument(param) for param in params if param.param_type_name == "argument"),
        options=tuple(_option(param) for param in params if param.param_type_name == "option"),
        examples=tuple((verb.epilog or "").splitlines()),
        stands_for=None,
        verb=verb,
    )


def _argument(param: Any) -> Argument:
    metavar = str(param.metavar)
    choices, closed = _choices(param, metavar)
    return Argument(
        name=str(param.name),
        metavar=metavar,
        says=param.help or "",
        required=not metavar.startswith("["),
        repeatable=param.nargs == -1,
        choices=choices,
        closed=closed,
    )


def _option(param: Any) -> Option:
    choices, closed = _choices(param, param.metavar or "")
    return Option(
        spellings=tuple(param.opts),
        negations=tuple(param.secondary_opts),
        metavar=None if param.is_flag else param.metavar or "|".join(choices),
        says=param.help or "",
        required=bool(param.required),
        repeatable=bool(param.multiple),
        choices=choices,
        closed=closed,
    )


def _choices(param: Any, metavar: str) -> tuple[tuple[str, ...], bool]:
    """Return the words that may be said, and whether nothing else may: `ID|FILE|latest` knows one of its words."""
    known = getattr(param.type, "choices", None)
    if known:
        return tuple(str(one) for one in known), True
    ways = metavar.strip("[].").split("|")
    words = tuple(way for way in ways if len(ways) > 1 and _WORD.match(way))
    return words, bool(words) and len(words) == len(ways)
