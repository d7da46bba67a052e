"""What commands have that cron runs at night: who waits for whom, an end in time, and somebody who hears of it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fedctl.cli import values
from fedctl.cli.options import flag
from fedctl.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.cli.command import Invocation

T = TypeVar("T")

LockWait = Annotated[
    int,
    flag(
        "--lock-wait",
        metavar="DUR",
        parser=values.duration,
        default="do not wait",
        says="Wait that long for another run of the same to end.",
    ),
]
"""In ms; the default of the parameter is 0."""
MaxTime = Annotated[
    int | None,
    flag("--max-time", metavar="DUR", parser=values.lasting, says="End after that time; what was done stays done."),
]
"""In ms, or None."""
PingUrlFile = Annotated[
    Path | None,
    flag(
        "--ping-url-file",
        metavar="F",
        says="A file with the URL of a monitor (healthchecks.io's way): it hears /start, the end, or /fail.",
    ),
]

URL_MAX_BYTES = 2000
PATIENCE_S = 5.0
"""How long one ping may take: a run has two, so a monitor costs 10 s at most."""
_TRY_S = 2.0
_TRIES = 3
_PAUSE_S = 0.2
_BODY_MAX = 10_000
_ASK_AGAIN_S = 0.2


def when_free(job: str, ask: Callable[[], T], wait_ms: int) -> T:
    """Return what `ask` returns, asking again for `wait_ms` while another run of the job is under way.

    It is the command that waits, and not a hub: a hub's threads are for those who ask something.
    """
    ends_s = time.monotonic() + wait_ms / 1000
    while True:
        try:
            return ask()
        except Unavailable as error:
            if error.details.get("job") != job or time.monotonic() >= ends_s:
                raise
        time.sleep(_ASK_AGAIN_S)


class Run:
    """A run that a monitor may hear of."""

    code = 0
    """What the command will exit with: a command that ends in an outcome instead of an error (3, 13, 14) sets it."""
    why = ""
    """What it said of that outcome, in one line."""


@contextmanager
def pinged(ctx: Invocation, ping_url_file: Path | None) -> Iterator[Run]:
    """Tell a monitor of what is done in a `with`: that it began, and how it ended.

    The monitor hears `URL/start`, then `URL`, or `URL/fail` with the exit code and the error's line as its body: also
    when a signal ends the run. It never delays or changes the run for long: a ping that does not arrive is a note. A
    dry run is not told: nothing was done. The URL is a secret, whoever has it can say that all is well: it is never
    shown, and no redirect is followed with it.

    Raises:
        UsageError: The file cannot be read, or does not hold one http or https URL. Before anything is done.
    """
    run = Run()
    if ping_url_file is None:
        yield run
        return
    url = read_url(ping_url_file)
    if ctx.dry_run:
        yield run
        return
    monitor = Monitor(url, ctx.screen.note)
    try:
        monitor.tell("/start")
        yield run
        ctx.screen.flush()  # an answer that does not arrive is a failure too
    except BaseException as error:
        monitor.tell("/fail", _told(error))
        raise
    if run.code:
        monitor.tell("/fail", f"exit {run.code}: {run.why}" if run.why else f"exit {run.code}")
    else:
        monitor.tell("")


def read_url(path: Path) -> str:
    """Return the one URL that a file holds, without the space around it; no error ever quotes it."""
    try:
        with path.open("rb") as file:
            content = file.read(URL_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"--ping-url-file: cannot read {str(path)!r}: {why}") from None
    hint = "one line: https://..., as the monitor shows it"
    text = content.decode("utf-8", "replace").strip()
    if not text:
        raise UsageError(f"--ping-url-file: {str(path)!r} is empty", hint=hint)
    if len(content) > URL_MAX_BYTES or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"--ping-url-file: {str(path)!r} does not hold one URL and nothing else", hint=hint)
    if not _is_url(text):
        raise UsageError(f"--ping-url-file: what {str(path)!r} holds is no http or https URL", hint=hint)
    return text


def _is_url(text: str) -> bool:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        return False


class Monitor:
    """Somebody elsewhere who hears how runs begin and end."""

    def __init__(self, url: str, note: Callable[[str], None], patience_s: float = PATIENCE_S) -> None:
        """Keep the URL; `note` says what was not delivered, once. A ping may take `patience_s`, all its tries in it."""
        head, mark, query = url.partition("?")
        self._head, self._query = head.rstrip("/"), mark + query
        self._note = note
        self._patience_s = patience_s
        self._noted = False

    def tell(self, what: str, body: str | None = None) -> None:
        """Send a ping, a POST where there is something to say. Ends in time, whatever happens on the network."""
        # Of its own, for neither the look-up of a name nor an answer that comes byte by byte knows a time limit.
        outcome: list[str] = []
        courier = threading.Thread(target=self._send, args=(what, body, outcome), name="ping", daemon=True)
        courier.start()
        courier.join(self._patience_s)
        why = outcome[0] if outcome else f"no answer within {self._patience_s:g} s"
        if why and not self._noted:
            self._noted = True
            self._note(f"the monitor was not told: {why}")

    def _send(self, what: str, body: str | None, outcome: list[str]) -> None:
        why = ""
        give_up_s = time.monotonic() + self._patience_s
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_S)
            why, again = self._try(f"{self._head}{what}{self._query}", body)
            if not again or time.monotonic() + _TRY_S > give_up_s:
                break
        outcome.append(why)

    @staticmethod
    def _try(url: str, body: str | None) -> tuple[str, bool]:
        """Return why it did not arrive ("": it did), and whether another try may help. Never with the URL in it."""
        import httpx2

        content: dict[str, Any] = {} if body is None else {"content": body[:_BODY_MAX].encode("utf-8", "replace")}
        method = "GET" if body is None else "POST"
        try:
            with (
                httpx2.Client(timeout=_TRY_S, follow_redirects=False) as client,
                client.stream(method, url, **content) as answer,
            ):
                status = answer.status_code
        except httpx2.TimeoutException:
            return "no answer in time", True
        except httpx2.TransportError as error:
            return _in_words(error), True
        except Exception as error:  # noqa: BLE001  whatever it is, it is about the ping, not about the run
            return f"unexpected: {type(error).__name__}", False
        if answer.is_redirect:
            return f"it answered {status}, and redirects are not followed: write the new address into the file", False
        return ("", False) if answer.is_success else (f"it answered {status}", answer.is_server_error)


def _in_words(error: BaseException | None) -> str:
    """Return what the system said of a connection; the library's own texts may quote the URL."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return os.strerror(error.errno).lower() if error.errno > 0 else "its name is not known here"
        error = error.__cause__ or error.__context__
    return "the connection failed"


def _told(error: BaseException) -> str:
    """Return an error as the monitor hears it: the exit code and one line."""
    from fedctl.cli.main import Terminated, as_ours, one_line
    from fedctl.cli.render import OutputClosed

    if isinstance(error, KeyboardInterrupt):
        return "exit 130: interrupted"
    if isinstance(error, Terminated):
        return "exit 143: ended by SIGTERM"
    if isinstance(error, OutputClosed):
        return "exit 141: nobody read the answer"
    if not isinstance(error, Exception):
        return f"exit 1: {type(error).__name__}"
    known = as_ours(error)
    return f"exit {known.exit}: {one_line(known)}"
