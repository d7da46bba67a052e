"""The one seam between those who ask and those who answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from fedctl.messages.base import Request

A = TypeVar("A")


class Caller(Protocol):
    """Asks. In-process or over a socket: the answers and the errors are the same."""

    def call(self, request: Request[A], *, tenant_id: str | None = None) -> A:
        """Return the answer, or raise a `FedctlError`.

        `tenant_id` names another tenant than the caller's own for this one request; only an owner may.
        """
        ...

    def close(self) -> None:
        """Let go of files and sockets. Calling it twice is harmless."""
        ...
