"""What a request is: a frozen struct that knows the type of its answer.

Every surface (command line, sockets, Python API) speaks these and nothing else. A request carries neither tenant
nor caller: who asks comes from the connection (`Principal`).
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

A = TypeVar("A")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""

    @property
    def unmet(self) -> bool:
        """Whether a request that can wait (`wait_ms`) has found nothing yet of what it waits for."""
        return False


class Request(msgspec.Struct, Generic[A], frozen=True, kw_only=True, tag_field="op", forbid_unknown_fields=True):
    """Base of all requests; `Request[X]` is answered by an `X`. The tag `op` names the operation on the wire."""


def answer_type(request: type[Request[A]]) -> type[A]:
    """Return the answer's type of a request's type, read off its `Request[...]` base."""
    for base in getattr(request, "__orig_bases__", ()):
        arguments = getattr(base, "__args__", ())
        if arguments:
            kind: type[A] = arguments[0]
            return kind
    msg = f"{request.__name__} does not say what answers it"
    raise TypeError(msg)
