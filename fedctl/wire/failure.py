"""How an error is said on a socket, and how it becomes the same error again on the other side."""

from __future__ import annotations

from typing import Any

import msgspec

from fedctl.errors import FedctlError, from_code


class WireError(msgspec.Struct, frozen=True, kw_only=True):
    """An error in transit. The code decides the class on the other side, and with it exit status and `retryable`."""

    code: str
    message: str
    hint: str | None = None
    details: dict[str, Any] = {}


def to_wire(error: FedctlError) -> WireError:
    """Return what is sent of an error: everything but its traceback."""
    return WireError(code=error.code, message=error.message, hint=error.hint, details=error.details)


def from_wire(error: WireError) -> FedctlError:
    """Return the error that was sent; a code that only a newer peer knows becomes a plain failure."""
    return from_code(error.code, error.message, hint=error.hint, details=error.details)
