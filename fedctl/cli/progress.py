"""A progress bar on stderr: only for a person, and only for what takes longer than half a second."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

    from fedctl.cli.command import Invocation

PATIENCE_S = 0.5


class Progress:
    """A bar that appears when the work turns out to be long, never where nobody watches, and is gone when it ends.

    What is said on stderr meanwhile appears above it. Without an `update` it says only that something is going on.
    """

    def __init__(self, ctx: Invocation, title: str, *, answering: bool = False) -> None:
        """Begin. `answering`: the answer goes to stdout meanwhile, so on one terminal with it there is no bar."""
        session = ctx.session
        stderr = session.stderr
        self._stderr = stderr
        self.shown = (
            stderr is not None
            and stderr.isatty()
            and session.environ.get("TERM") != "dumb"
            and ctx.settings.color != "never"  # whoever wants no colour gets no byte that acts on a terminal
            and not ctx.settings.quiet
            and not (answering and session.stdout.is_terminal)
        )
        """Whether there will be one, if it takes long enough."""
        self._title = title
        self._done = 0
        self._total: int | None = None
        self._bar: Any = None
        self._text: io.TextIOWrapper | None = None
        self._late: Any = None

    def __enter__(self) -> Self:
        if self.shown:
            import threading

            self._late = threading.Timer(PATIENCE_S, self._appear)
            self._late.daemon = True
            self._late.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.shown:
            return
        self._late.cancel()
        self._late.join()
        if self._bar is not None and self._stderr is not None:
            self._stderr.above = None
            self._bar.stop()
        if self._text is not None:
            self._text.detach()  # or it would close stderr with itself

    def update(self, done: int, total: int | None) -> None:
        """Say how far it is: so many of so many, or of who knows how many."""
        self._done, self._total = done, total
        if self._bar is not None:
            self._tell()

    def _tell(self) -> None:
        counted = f"{self._title} {self._done:,}" if self._done and self._total is None else self._title
        self._bar.update(self._bar.task_ids[0], description=counted, completed=self._done, total=self._total)

    def _appear(self) -> None:
        """Draw it, on the timer's thread: the work at hand may be one long request."""
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        assert self._stderr is not None
        self._text = io.TextIOWrapper(self._stderr.stream, "utf-8", errors="replace", write_through=True)
        console = Console(file=self._text, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        bar = Bar(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        bar.add_task(self._title, total=None)
        bar.start()
        self._bar = bar
        self._tell()

        def above(content: bytes) -> None:
            console.out(content.decode("utf-8", "replace"), end="", highlight=False)

        self._stderr.above = above
