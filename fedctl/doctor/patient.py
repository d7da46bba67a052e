"""What is looked at: a home and what runs on it, or a hub elsewhere. Each part is opened when a check asks for it."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fedctl.clock import Clock
from fedctl.errors import FedctlError, Unavailable
from fedctl.store.store import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fedctl.client.caller import Caller
    from fedctl.client.remote import RemoteCaller
    from fedctl.config import Settings
    from fedctl.model.hub import HubInfo
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context
    from fedctl.recall.embedder import Embedder

T = TypeVar("T")

PATIENCE_MS = 5000
"""How long a check waits for a store that is busy, or a hub that is slow: that it is so is an answer too."""


class Patient:
    """The home, the store and the hub that the settings name. For one thread; `forget` after something was changed."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        config_error: FedctlError | None = None,
        clock: Clock | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        """Keep them. `config_error` is what was wrong with a config file, without which the settings were read.

        `embedder` stands in for the model that the settings name.
        """
        timeout_ms = min(settings.timeout_ms or PATIENCE_MS, PATIENCE_MS)
        self.settings = msgspec.structs.replace(settings, timeout_ms=timeout_ms)
        self.environ = environ
        self.config_error = config_error
        self.clock = clock or Clock()
        self.home = settings.home
        self.store_path = self.home / FILE_NAME
        self.remote = settings.hub not in ("auto", "off")
        self._embedder = embedder
        self._refused: dict[str, FedctlError] = {}
        """What could not be opened, and why: it is not waited for again by the next check."""

    # -- the home ----------------------------------------------------------------------------------------------------

    @property
    def is_foreign(self) -> bool:
        """Whether the home is another user's. Root may look, and changes nothing there: it could be led astray."""
        return not self.remote and self.home.exists() and self.home.stat().st_uid != os.getuid()

    @property
    def can_look(self) -> bool:
        """Whether there is a home here, and this user may look into it."""
        return not self.remote and self.home.is_dir() and os.access(self.home, os.R_OK | os.X_OK)

    @property
    def has_store(self) -> bool:
        """Whether there is a store's file, for this user to see."""
        return self.can_look and self.store_path.exists()

    @functools.cached_property
    def schema(self) -> int:
        """The schema of the store, which is not opened for that: opening brings it to our own.

        Raises:
            Corrupt: It is no store of fedctl.
            Unavailable: Somebody has it alone: a restore, a vacuum.
        """
        return self._opened("schema", self._read_schema)

    def _read_schema(self) -> int:
        from fedctl.errors import Corrupt
        from fedctl.operations.upkeep import ask
        from fedctl.store.database import APPLICATION_ID

        def pragma(name: str) -> int:
            with ask(self.home, f"pragma {name}", self.clock, PATIENCE_MS / 1000) as (_, rows):
                return int(next(iter(rows))[0])

        if pragma("application_id") != APPLICATION_ID:
            raise Corrupt(f"{self.store_path} is not a store of fedctl", hint="move it aside")
        return pragma("user_version")

    @property
    def is_current(self) -> bool:
        """Whether opening the store would not change it: it is at our schema, and nothing half done is there."""
        from fedctl.store import swap
        from fedctl.store.migrate import SCHEMA_VERSION

        with contextlib.suppress(FedctlError, OSError):  # the check of the schema tells it
            there = self.has_store and self.store_path.stat().st_size > 0 and not swap.is_begun(self.store_path)
            return there and self.schema == SCHEMA_VERSION
        return False

    @property
    def can_open(self) -> bool:
        """Whether the store can be opened, and looking does not change it. That it is damaged one check tells."""
        try:
            return self.is_current and self.context is not None
        except FedctlError:
            return False

    @functools.cached_property
    def context(self) -> Context:
        """The means of working on the home itself; ask `is_current` first."""
        from fedctl.bootstrap import open_context

        context = self._opened("context", lambda: open_context(self.settings, create=False, clock=self.clock))
        if self._embedder is not None:
            from fedctl.operations.context import Recall

            context = context._replace(recall=Recall(self._embedder, context.recall.index))
        return context

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The model that the settings name."""
        from fedctl.recall.embedder import Embedder

        return self._embedder or Embedder(self.settings.model)

    # -- whom to ask -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def hub(self) -> RemoteCaller | None:
        """A connection to the hub; None where none runs on the home.

        Raises:
            Unavailable: It runs and does not answer, or there is none where there should be one.
        """
        from fedctl.bootstrap import hub_is_running, open_caller

        if self.settings.hub == "off" or (not self.remote and not hub_is_running(self.home)):
            return None
        caller: Any = self._opened("hub", lambda: open_caller(self.settings, writes=False))
        if not hasattr(caller, "welcome"):
            caller.close()
            raise Unavailable("a hub runs on this home and has no socket", hint="wait a moment, or restart it")
        return caller  # type: ignore[no-any-return]

    @functools.cached_property
    def hub_info(self) -> HubInfo | None:
        """What the hub says of itself."""
        from fedctl.messages.hub import GetHubInfo

        return None if self.hub is None else self.hub.call(GetHubInfo()).hub

    @property
    def has_hub(self) -> bool:
        """Whether a hub runs, on the home or elsewhere; one that does not answer counts as none."""
        try:
            return self.hub is not None
        except FedctlError:
            return False

    @property
    def owner(self) -> Principal:
        """In whose name the home itself is looked at."""
        from fedctl.model.principal import Principal

        return Principal(tenant_id=self.settings.tenant, role="owner")

    @property
    def writer(self) -> Caller:
        """Whom to ask for what changes the store: its hub, where one runs, else the store itself."""
        from fedctl.client.local import LocalCaller

        return (self.hub if self.has_hub else None) or LocalCaller(self.context, self.owner)

    def tenants(self) -> Iterator[tuple[str, Caller]]:
        """Yield the name of each tenant that can be asked about, and whom to ask in its name."""
        from fedctl.client.local import LocalCaller
        from fedctl.model.principal import Principal

        if self.remote:
            if self.has_hub and self.hub is not None:
                yield self.hub.welcome.principal.tenant_id, self.hub
        elif self.can_open:
            for _, name in self.context.store.tenants.all():
                yield name, LocalCaller(self.context, Principal(tenant_id=name, role="owner"))

    def _opened(self, what: str, open_: Callable[[], T]) -> T:
        if what in self._refused:
            raise self._refused[what]
        try:
            return open_()
        except FedctlError as error:
            self._refused[what] = error
            raise

    # -- what to say, and the end ------------------------------------------------------------------------------------

    def command(self, words: str, tenant: str | None = None) -> str:
        """Return a command to paste: `fedctl` with the flags that this run was given to find the same place."""
        said = ["fedctl"]
        for key, flag, value in (
            ("home", "--home", str(self.home)),
            ("hub", "--hub", self.settings.hub),
            ("token_file", "--token-file", str(self.settings.token_file)),
            ("config", "--config", None if self.settings.config_file is None else str(self.settings.config_file)),
        ):
            if value is not None and self.settings.origins.get(key, "").startswith("flag"):
                said += [flag, shlex.quote(value)]
        if tenant is not None and tenant != self.settings.tenant:
            said += ["--tenant", shlex.quote(tenant)]
        return " ".join([*said, words])

    def forget(self) -> None:
        """Close what is open; it is opened anew, and looked at anew, by who asks next."""
        for name in ("context", "hub"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()
        self._refused.clear()
        for name in ("schema", "hub_info"):
            self.__dict__.pop(name, None)
