"""A caller that tells the debug stream what a command asked, and how long that took. Never what about."""

import time
from typing import TYPE_CHECKING, Any, TypeVar

from fedctl.errors import FedctlError

if TYPE_CHECKING:
    from fedctl.client.caller import Caller
    from fedctl.log import Log
    from fedctl.messages.base import Request

A = TypeVar("A")


class LoggedCaller:
    """The same caller, watched; what is beyond `call` and `close` is the caller's own."""

    def __init__(self, caller: "Caller", log: "Log", tenant_id: str) -> None:
        self._caller = caller
        self._log = log
        self._tenant_id = tenant_id
        # A hub's session has the address it goes to; without one the files are asked.
        self._where = getattr(caller, "url", "home")
        log.trace("link.state", tenant=tenant_id, state="open", to=self._where)

    def call(self, request: "Request[A]", *, tenant_id: str | None = None) -> A:
        """Return the answer, or raise a `FedctlError`."""
        began_s, failed = time.perf_counter(), None
        try:
            return self._caller.call(request, tenant_id=tenant_id)
        except FedctlError as error:
            failed = error.message
            raise
        finally:
            took_ms = (time.perf_counter() - began_s) * 1000
            # The tag is the operation's name: the table of all operations is not for a cold command to load.
            name = str(type(request).__struct_config__.tag)
            self._log.detailed(name, tenant=tenant_id or self._tenant_id, duration_ms=took_ms, error=failed)

    def close(self) -> None:
        """Let go of files and sockets."""
        self._log.trace("link.state", tenant=self._tenant_id, state="closed", to=self._where)
        self._caller.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caller, name)
