"""What an item puts into the arguments of its command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.model.pool import Item

_NAMES = r"(?:|id|attempt|data(?:\.[^{}.]+)*)"
_PLACEHOLDER = re.compile(rf"\{{\{{({_NAMES})\}}\}}|\{{({_NAMES})\}}")
_WORD = re.compile(r"\{(\{)?([A-Za-z_][\w.-]*)\}(?(1)\})")
"""An argument that is nothing but a word in braces: hardly ever meant as it stands."""


class Arguments:
    """A command line with placeholders: `{}` and `{data}` (all of the data), `{data.a.b}`, `{id}`, `{attempt}`.

    A text goes in as it is, any other value as JSON; a number in a path is a place in a list. In double braces a
    placeholder stands for itself (`{{}}` for `{}`); every other brace is a brace, but for an argument that is one word
    in braces: `{dta}` is refused, and `{{dta}}` is `{dta}`.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Keep the command line.

        Raises:
            UsageError: An argument is a word in braces that is no placeholder.
        """
        self._argv = [_known(one) for one in argv]
        self.any = any(_has_any(one) for one in self._argv)
        """Whether there is a placeholder at all."""
        self.program = None if _has_any(self._argv[0]) else self.of_nothing(self._argv[0])
        """The program, where no item has a say in it."""

    @staticmethod
    def of_nothing(argument: str) -> str:
        """Return an argument that has no placeholder, as the command gets it."""
        return _PLACEHOLDER.sub(lambda match: f"{{{match[1]}}}", argument)

    def filled(self, item: Item) -> list[str]:
        """Return the arguments for an item.

        Raises:
            UsageError: A path leads nowhere, or a text that would be an argument holds NUL.
        """
        return [_PLACEHOLDER.sub(lambda match: _value(match, item), one) for one in self._argv]


def _known(argument: str) -> str:
    """Return an argument, without the outer braces of a word that stands for itself."""
    match = _WORD.fullmatch(argument)
    if match is None or re.fullmatch(_NAMES, match[2]):
        return argument
    if match[1]:
        return argument[1:-1]
    import difflib  # noqa: PLC0415  only for who mistyped

    head, dot, path = match[2].partition(".")
    near = difflib.get_close_matches(head.lower(), ("data", "id", "attempt"), n=1)
    meant = f"{near[0]}{dot}{path}".rstrip(".") if near else f"data.{match[2]}"
    hint = f"did you mean {{{meant}}}? For {argument} itself write {{{argument}}}"
    raise UsageError(f"{argument} is no placeholder: there are {{}}, {{id}}, {{attempt}} and {{data.PATH}}", hint=hint)


def _has_any(argument: str) -> bool:
    return any(match[2] is not None for match in _PLACEHOLDER.finditer(argument))


def _value(match: re.Match[str], item: Item) -> str:
    name = match[2]
    if name is None:
        return f"{{{match[1]}}}"
    if name == "id":
        return item.id
    if name == "attempt":
        return str(item.attempts)
    value = _at(item.data, name.split(".")[1:], match[0])
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if "\0" in text:
        raise UsageError(f"{match[0]} holds NUL, which no argument can", hint="take the data from stdin")
    return text


def _at(value: Any, path: Sequence[str], placeholder: str) -> Any:
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise UsageError(f"{placeholder} leads nowhere: the data have no {step!r} there")
    return value
