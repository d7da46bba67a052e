"""The options that several commands share, each said once."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from fedctl.cli import values
from fedctl.errors import FedctlError

Given = TypeVar("Given")
Read = TypeVar("Read")


def flag(
    *spelled: str,
    says: str,
    metavar: str | None = None,
    parser: Callable[[str], Any] | None = None,
    default: str | None = None,
    least: int | None = None,
    most: int | None = None,
) -> Any:
    """Return an option for `Annotated`. `parser` reads the text; what it refuses is told with the flag's name."""
    return typer.Option(
        *spelled,
        help=says if default is None else f"{says} [default: {default}]",
        metavar=metavar,
        parser=None if parser is None else _of_text(named(spelled[-1], parser)),
        show_default=False,
        min=least,
        max=most,
    )


def argument(name: str, says: str, parser: Callable[[str], Any] | None = None) -> Any:
    """Return a positional argument for `Annotated`."""
    return typer.Argument(
        help=says, metavar=name, show_default=False, parser=None if parser is None else _of_text(named(name, parser))
    )


def _of_text(parser: Callable[[str], Read]) -> Callable[[Any], Any]:
    # The frame sends defaults through the parser too, and those are values already.
    return lambda given: parser(given) if isinstance(given, str) else given


def named(name: str, parser: Callable[[Given], Read]) -> Callable[[Given], Read]:
    """Return a parser whose errors begin with the name of what was given."""

    def read(given: Given) -> Read:
        try:
            return parser(given)
        except FedctlError as error:
            raise type(error)(f"{name}: {error.message}", hint=error.hint, details=error.details) from None

    return read


MinReward = Annotated[
    float | None, flag("--min-reward", metavar="R", parser=values.unit_interval, says="Only rewards of at least R.")
]
Since = Annotated[
    str | None, flag("--since", metavar="T", parser=values.past, says="Only from then on: 7d, 2026-01-31, RFC 3339.")
]
Until = Annotated[str | None, flag("--until", metavar="T", parser=values.past, says="Only before then.")]
OfAgent = Annotated[str | None, flag("--agent", metavar="A", parser=values.name_of("agent"), says="Only this agent's.")]
OfSession = Annotated[
    str | None, flag("--session", metavar="S", parser=values.name_of("session"), says="Only this session's.")
]
OfTask = Annotated[str | None, flag("--task", metavar="T", parser=values.text, says="Only this task, word for word.")]
Where = Annotated[
    list[str] | None,
    flag("--where", metavar="PATH=VALUE", says="Only where the metadata say so; also !=, <, <=, >, >=. Repeatable."),
]
Limit = Annotated[
    int | None, flag("--limit", metavar="N", least=1, says="At most N.", default="50 on a terminal, else all")
]
