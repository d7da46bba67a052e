"""Completions for bash, zsh and fish, written from the command tree.

Commands, flags and their choices are in the scripts; what a home or a hub has (pools, workers, ids...) the scripts
ask fedctl itself for, on the home and the hub that the line names, with a short time limit and no word of errors.

The programs are in `completing/`, one for each shell and all alike; here is what they are told about the tree. What
may stand in a place is said in tokens: `+word` that word, `@pool` the names of pools, `file`, `dir`, `command`,
and `list` where several are joined by commas.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fedctl.cli import pages, tree
from fedctl.model.agent import AGENT_TRANSITIONS
from fedctl.model.log import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fedctl.cli.tree import Argument, Described, Option

FILES = {"bash": "fedctl.bash", "zsh": "_fedctl", "fish": "fedctl.fish"}
"""The shells, and what each calls a file with completions."""
SHELLS = tuple(FILES)

WHERE = ("--home", "--hub", "--tenant", "--token-file", "--tls-ca", "--client-cert", "--client-key", "--config")
"""The options that say whom to ask; those on the line are passed on."""

ASKED = {
    "agent": "agent list",
    "backup": "backup list",
    "episode": "memory list --limit 100",
    "pool": "pool list --limit 100",
    "setting": "config list",
    "tenant": "tenant list",
    "token": "token list",
    "worker": "worker list --limit 100",
}
"""The command that lists them, with --ids."""
ITEMS = {"item": "", "claimed": " --status claimed", "poisoned": " --status poisoned"}
"""Items are asked for pool by pool."""

_BY_METAVAR = {
    "POOL": "@pool",
    "ITEM": "@item",
    "POOL|ITEM": "@pool @item",
    "EPISODE": "@episode",
    "ID|FILE|latest": "+latest @backup file",
    "KEY": "@setting",
    "FILE": "file",
    "F": "file",
    "DIR": "dir",
    "DEST": "dir",
    "CMD ARGS": "command",
    "STATUS": " ".join(f"+{status}" for status in AGENT_TRANSITIONS),
}
_BY_FLAG = {
    "--agent": "@agent",
    "--debug-agent": "@agent",
    "--worker": "@worker",
    "--pool": "@pool",
    "--poisoned": "@pool",
    "--then-push": "@pool",
    "--tenant": "@tenant",
    "--debug-category": " ".join(f"+{category}" for category in CATEGORIES),
}
_BY_NOUN = {"agent": "@agent", "memory": "@episode", "tenant": "@tenant", "token": "@token", "worker": "@worker"}
_OF_ITEMS = dict.fromkeys(("complete", "fail", "extend", "release"), "@claimed") | {"retry": "@poisoned"}
"""The verbs that want an item of one status."""


class Place(NamedTuple):
    """A command as the line has it, and what may follow it."""

    path: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]
    """The words below it, each with its one line."""
    flags: tuple[tuple[str, str], ...]
    """Its own flags, with a `=` for each value that it takes (`--mode=`), each with its one line."""
    kinds: tuple[tuple[str, str], ...]
    """What its flags (`--mode`) and its arguments (`0`; `*` for all that follow) take: tokens."""

    @property
    def name(self) -> str:
        """As it is typed, without the program."""
        return " ".join(self.path)


def script(shell: str) -> str:
    """Return the completion script for `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


# -- the tree -----------------------------------------------------------------------------------------------------


@functools.cache
def _places() -> tuple[Place, ...]:
    """Return the root and all commands; those that take a command for an argument know all of them below."""
    commands = list(tree.walk())
    below: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for one in commands[1:]:
        below.setdefault(one.path[:-1], []).append((one.path[-1], one.says))
    places = []
    for one in commands:
        if one.kind == "alias":
            continue
        places.append(Place(one.path, tuple(below.get(one.path, ())), *_flags_and_kinds(one)))
        if any(_bare(argument.metavar) == "COMMAND" for argument in one.arguments):
            places[-1] = places[-1]._replace(commands=tuple(below[()]))
            places += [Place((*one.path, *path), tuple(words), (), ()) for path, words in below.items() if path]
    return tuple(places)


def _flags_and_kinds(one: Described) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    options = tree.global_() if one.kind == "root" else one.options
    flags = tuple(
        (f"{spelling}{'=' * _values(option)}", option.says)
        for option in options
        for spelling in (*option.spellings, *option.negations)
    )
    kinds = [(spelling, kind_of(option)) for option in options for spelling in option.spellings]
    for position, argument in enumerate(one.arguments):
        kinds.append(("*" if argument.repeatable else str(position), _of_argument(one, argument)))
    if one.verb is not None and one.verb.reply.fields:
        kinds.append(("--fields", " ".join(("list", *(f"+{name}" for name in one.verb.reply.fields)))))
    return flags, tuple((what, tokens) for what, tokens in kinds if tokens)


def _values(option: Option) -> int:
    return len(option.metavar.split()) if option.metavar else 0


def kind_of(option: Option) -> str:
    """Return the tokens of what an option takes; nothing where nothing can be told."""
    if option.choices:
        return _words(option.choices)
    for spelling in option.spellings:
        if spelling in _BY_FLAG:
            return _BY_FLAG[spelling]
    return _BY_METAVAR.get((option.metavar or "").partition(" ")[0], "")


def _of_argument(one: Described, argument: Argument) -> str:
    metavar = _bare(argument.metavar)
    if metavar == "PAGE":
        return _words(pages.names())
    tokens = _BY_METAVAR.get(metavar) or (_words(argument.choices) if argument.choices else "")
    if tokens == "@item":
        return _OF_ITEMS.get(one.path[-1], tokens)
    return tokens or (_BY_NOUN.get(one.path[0], "") if metavar in ("ID", "NAME") else "")


def _bare(metavar: str) -> str:
    """Return a metavar without the marks of the usage line: `[ITEM...]` is `ITEM`."""
    return metavar.strip("[].").removeprefix("-- ")


def _words(words: Iterable[str]) -> str:
    return " ".join(f"+{word}" for word in words)


def _grouped(places: Iterable[Place]) -> Iterator[tuple[list[str], str]]:
    """Yield `(patterns, tokens)`: what a place and a flag or a position take, those that take the same together.

    A pattern is `memory query --mode`, or `* --mode` where all commands that have it take the same.
    """
    takes: dict[str, dict[str, str]] = {}
    for place in places:
        for what, tokens in place.kinds:
            takes.setdefault(what, {})[place.name] = tokens
    found: dict[str, list[str]] = {}
    general: dict[str, list[str]] = {}
    for what, by_name in takes.items():
        if what.startswith("-") and what != "--fields" and len(set(by_name.values())) == 1:
            general.setdefault(next(iter(by_name.values())), []).append(f"* {what}")
            continue
        for name, tokens in by_name.items():
            found.setdefault(tokens, []).append(f"{name} {what}")
    for tokens, patterns in (*found.items(), *general.items()):
        yield patterns, tokens


def _aliases() -> list[tuple[str, str]]:
    return [(" ".join(alias), " ".join(path)) for alias, path in tree.aliases().items()]


# -- bash ---------------------------------------------------------------------------------------------------------


def _bash() -> str:
    places = _places()
    return _filled(
        "bash",
        ALIASES=[f"    '{alias}') path='{path}' ;;" for alias, path in _aliases()],
        PLACES=[
            f"    {_q(place.name)})\n"
            f"        commands={_q(' '.join(name for name, _ in place.commands))}\n"
            f"        flags={_q(' '.join(flag for flag, _ in place.flags))}\n"
            "        ;;"
            for place in places
        ],
        KINDS=[f"    {_patterns(patterns)}) kind={_q(tokens)} ;;" for patterns, tokens in _grouped(places)],
        ASKED=_asked("    {name}) _fedctl_ask {command} ;;", "    {name}) _fedctl_items{flags} ;;"),
    )


def _asked(of_list: str, of_items: str) -> list[str]:
    return [
        *(of_list.format(name=name, command=command) for name, command in ASKED.items()),
        *(of_items.format(name=name, flags=flags) for name, flags in ITEMS.items()),
    ]


def _patterns(patterns: Iterable[str], joined_by: str = " | ") -> str:
    """Return the patterns of a `case`: quoted, but for a `*` in front; a `*` behind is a position of its own."""
    return joined_by.join(f"*{_q(one[1:])}" if one.startswith("* ") else _q(one) for one in patterns)


def _filled(shell: str, **parts: list[str]) -> str:
    """Return the script of a shell (`completing/`) with the parts that its template names: `@KINDS@`."""
    template = Path(__file__).with_name("completing").joinpath(FILES[shell]).read_text("utf-8")
    values = {name: "\n".join(lines) for name, lines in parts.items()}
    values |= {"WHERE": " | ".join(WHERE), "POOLS": ASKED["pool"]}
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], template)


def _q(text: str) -> str:
    r"""Return `text` as a word of a shell: in single quotes, with its own written `'\''`."""
    return "'" + text.replace("'", "'\\''") + "'"


# -- zsh ----------------------------------------------------------------------------------------------------------


def _zsh() -> str:
    places = _places()

    def described(pairs: Iterable[tuple[str, str]]) -> list[str]:
        return [f"            {_q(name + ':' + says)}" for name, says in pairs]

    return _filled(
        "zsh",
        ALIASES=[f"    '{alias}') path_='{path}' ;;" for alias, path in _aliases()],
        PLACES=[
            "\n".join(
                (
                    f"    {_q(place.name)})",
                    *(["        commands_=(", *described(place.commands), "        )"] if place.commands else []),
                    *(["        flags=(", *described(place.flags), "        )"] if place.flags else []),
                    "        ;;",
                )
            )
            for place in places
        ],
        KINDS=[f"    {_patterns(patterns)}) kind=({tokens}) ;;" for patterns, tokens in _grouped(places)],
        ASKED=_asked("    {name}) _fedctl_ask {command} ;;", "    {name}) _fedctl_items{flags} ;;"),
    )


# -- fish ---------------------------------------------------------------------------------------------------------


def _fish() -> str:
    places = _places()

    def case(patterns: str, lines: Iterable[str]) -> str:
        return "\n".join((f"        case {patterns}", *(f"            {line}" for line in lines)))

    def listed(pairs: Iterable[tuple[str, str]]) -> list[str]:
        return [f"printf '%s\\t%s\\n' {_f(name)} {_f(says)}" for name, says in pairs]

    return _filled(
        "fish",
        ALIASES=[case(_f(alias), [f"echo {_f(path)}"]) for alias, path in _aliases()],
        COMMANDS=[case(_f(place.name), listed(place.commands)) for place in places if place.commands],
        FLAGS=[case(_f(place.name), listed(place.flags)) for place in places if place.flags],
        KINDS=[
            case(" ".join(map(_f, patterns)), [f"printf '%s\\n' {tokens}"]) for patterns, tokens in _grouped(places)
        ],
        ASKED=[
            *(case(name, [f"__fedctl_ask {command}"]) for name, command in ASKED.items()),
            *(case(name, [f"__fedctl_items{flags}"]) for name, flags in ITEMS.items()),
        ],
        WHERES=[" ".join(WHERE)],
    )


def _f(text: str) -> str:
    """Return `text` as a word of fish: in single quotes, in which backslashes and quotes are escaped."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
