"""`fedctl top`: a page of what is going on, drawn anew every so often."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, Self

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import flag
from fedctl.cli.render import Shape
from fedctl.clock import Clock
from fedctl.errors import FedctlError, NoStore, Timeout, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.cli.snapshot import Looker, Snapshot
    from fedctl.client.caller import Caller

SNAPSHOT: Shape[Snapshot] = Shape.of("fedctl.cli.snapshot:Snapshot", key="at")
EVERY_MS = 2000
EVERY_LEAST_MS = 100
RATES_SHOWN = 20
RESIZE_LOOK_S = 0.25
WIDTH_ELSEWHERE = 100
"""Columns of the page where it goes to no terminal."""
GONE = (Unavailable, Timeout)

app = noun("watching", "Watch what is going on.")


def _interval(text: str) -> int:
    ms = values.duration(text)
    if ms < EVERY_LEAST_MS:
        raise UsageError(f"the shortest is {EVERY_LEAST_MS}ms, and {text} is shorter")
    return ms


@verb(
    app,
    shape=SNAPSHOT,
    examples=[
        "fedctl top",
        "fedctl top --json | jq '.pools[] | {name, pending, eta_s}'",
        "fedctl top --every 5s --jsonl",
    ],
)
def top(
    ctx: Invocation,
    every: Annotated[
        int | None, flag("--every", metavar="DUR", parser=_interval, says="How often it looks.", default="2s")
    ] = None,
) -> None:
    """Watch the hub, the agents, the workers and the pools live; q or Ctrl-C leaves.

    It works with a hub, here or elsewhere, and without; one that goes away is waited for. Where stdout is no terminal,
    or is to have no colours, it is one look, the same page as plain text; --jsonl with --every goes on, a line each.
    Rates need two looks: they are null in the first.
    """
    with contextlib.closing(Seen(ctx)) as seen:
        colour = ctx.screen.colour  # who wants none wants no escape codes, and drawing in place is made of them
        if ctx.screen.draws and (colour or every is not None) and ctx.session.environ.get("TERM") != "dumb":
            resident()
            _watch(ctx, seen, (every or EVERY_MS) / 1000)
        elif every is not None and ctx.screen.form == "jsonl":
            resident()
            ctx.screen.follow(_looks(seen, every / 1000), SNAPSHOT)
        elif ctx.screen.form == "table" and not ctx.session.fields:
            width = ctx.screen.width if ctx.screen.draws else WIDTH_ELSEWHERE
            ctx.screen.draw(_as_text(seen.look(patient=False), width))
        else:
            ctx.screen.one(seen.look(patient=False), SNAPSHOT)


class Seen:
    """Whom to look at: the hub while it is there, the home itself while it is not, whoever goes or comes."""

    def __init__(self, ctx: Invocation) -> None:
        from fedctl.cli.snapshot import Looker

        self._ctx = ctx
        self._looker: Looker = Looker(Clock())
        self._hub: Caller | None = None
        self._address: str | None = None
        self._begun = False
        """Whether there was anything to see: from then on no error ends it, for none may last."""

    def look(self, *, patient: bool = True) -> Snapshot:
        """Return what is there now; a hub that is away is part of it, if `patient`, and else raised."""
        from fedctl.bootstrap import hub_address

        settings = self._ctx.settings
        try:
            address = hub_address(settings)
            if address != self._address:
                self.close()
                self._address = address
            if address is None:
                # Opened for each look: who holds the store open keeps a restore waiting.
                with contextlib.closing(self._ctx.session.open_caller(settings, writes=False)) as caller:
                    seen = self._looker.look(caller, settings.tenant, hub=False)
            else:
                if self._hub is None:
                    self._hub = self._ctx.session.open_caller(settings, writes=False)
                seen = self._looker.look(self._hub, settings.tenant, hub=True)
        except NoStore as error:
            return self._looker.nothing(settings.tenant, error if error.details else None)
        except FedctlError as error:
            self.close()
            if not patient or not (self._begun or isinstance(error, GONE)):
                raise
            return self._looker.nothing(settings.tenant, error)
        self._begun = True
        return seen

    def close(self) -> None:
        """Let go of the hub."""
        hub, self._hub, self._address = self._hub, None, None
        if hub is not None:
            with contextlib.suppress(*GONE):
                hub.close()


def _as_text(snapshot: Snapshot, width: int) -> str:
    """Return the page without a limit to its height, and without colours or anything else that acts on a terminal."""
    import io

    from rich.console import Console

    from fedctl.cli.board import page

    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, highlight=False, markup=False, emoji=False)
    console.print(page(snapshot, width=width, height=sys.maxsize, every_s=None))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _looks(seen: Seen, every_s: float) -> Iterator[Snapshot]:
    while True:
        began_s = time.monotonic()
        yield seen.look()
        time.sleep(max(0.0, every_s - (time.monotonic() - began_s)))


def _watch(ctx: Invocation, seen: Seen, every_s: float) -> None:
    """Keep the page on the terminal's other screen, which gives way to the first when it ends, however it ends."""
    from rich.console import Console
    from rich.live import Live

    from fedctl.cli.board import page

    screen = ctx.screen
    console = Console(
        file=_Text(ctx),  # type: ignore[arg-type]  # it is written to, and nothing else
        force_terminal=True, highlight=False, markup=False, emoji=False,
                      color_system="auto" if screen.colour else None, legacy_windows=False)  # fmt: skip
    rates: deque[float] = deque(maxlen=RATES_SHOWN)
    with _Keys(ctx) as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            began_s = time.monotonic()
            snapshot = seen.look()
            if snapshot.hub is not None and snapshot.hub.operations_per_s is not None:
                rates.append(snapshot.hub.operations_per_s)
            drawn: tuple[int, int] | None = None
            while True:
                if drawn != (drawn := (console.width, console.height)):  # also when the window was made another size
                    live.update(page(snapshot, width=drawn[0], height=drawn[1], every_s=every_s, rates=rates))
                    live.refresh()
                left_s = every_s - (time.monotonic() - began_s)
                key = keys.wait(min(max(left_s, 0.0), RESIZE_LOOK_S))
                if key in ("q", "Q", "\x04"):
                    return
                if key in (" ", "r") or left_s <= 0:
                    break


class _Text:
    """stdout for a library that writes text."""

    encoding = "utf-8"

    def __init__(self, ctx: Invocation) -> None:
        self._screen = ctx.screen

    def write(self, text: str) -> int:
        self._screen.draw(text)
        return len(text)

    def flush(self) -> None:
        self._screen.flush()

    def isatty(self) -> bool:
        return True


class _Keys:
    """Keys as they are pressed, where a person is at the keyboard; the terminal is as it was afterwards."""

    def __init__(self, ctx: Invocation) -> None:
        self._descriptor: int | None = None
        if ctx.stdin.isatty():
            with contextlib.suppress(OSError, ValueError):  # a stream of another kind has no number
                self._descriptor = os.dup(0)
        self._mode: list[Any] | None = None

    def __enter__(self) -> Self:
        import termios
        import tty

        if self._descriptor is not None:
            try:
                self._mode = termios.tcgetattr(self._descriptor)
                tty.setcbreak(self._descriptor, termios.TCSANOW)
            except termios.error:
                self.__exit__()
        return self

    def __exit__(self, *_why: object) -> None:
        import termios

        if self._descriptor is not None:
            if self._mode is not None:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._descriptor, termios.TCSANOW, self._mode)
            os.close(self._descriptor)
            self._descriptor = None

    def wait(self, seconds: float) -> str | None:
        """Return the key that was pressed within that time, or None."""
        if self._descriptor is None:
            time.sleep(seconds)
            return None
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return None
        pressed = os.read(self._descriptor, 64)
        return pressed[:1].decode("latin-1") if pressed else "q"  # the terminal is gone
