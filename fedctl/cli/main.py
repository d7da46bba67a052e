"""Where the command line begins and ends: argv in, exit code out, every error in one place.

Nothing heavy is imported before it is known to be needed: start-up is a feature.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from fedctl.cli.command import OpenCaller, Session
    from fedctl.errors import FedctlError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("home", "Make the home and its store."),
    "status": ("status", "Show the home, the store, the hub and what to do next."),
    "doctor": ("doctor", "Look at the home, the store and the hub for what is wrong, and say what mends it."),
    "top": ("top", "Watch the hub, the agents, the workers and the pools live."),
    "demo": ("home", "Run a hub and five agents on real work, and check what they promise."),
    "memory": ("memory", "Store, search and carry episodes."),
    "hub": ("hub", "Run the hub that agents connect to."),
    "agent": ("agent", "Spawn agents and watch them."),
    "worker": ("worker", "Register workers, and see who is still alive."),
    "pool": ("pool", "Hand out work once, and bring it back when a worker dies."),
    "retention": ("retention", "Say what is kept and for how long, and let the rest go."),
    "tenant": ("tenant", "See what tenants have, and limit what they may have."),
    "token": ("token", "Issue, list and revoke access tokens, and change their key."),
    "backup": ("backup", "Make backups, check them, and forget old ones."),
    "restore": ("restore", "Put a backup in the store's place, or make a new home of it."),
    "store": ("store", "Look after the store on disk."),
    "config": ("config", "Read and write settings."),
    "schema": ("schema", "Print the JSON Schema of what a command answers with."),
    "completion": ("completion", "Complete commands, flags and names in bash, zsh and fish."),
    "man": ("man", "Read the manual."),
    "help": ("man", "Show the help of a command."),
}


class Terminated(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that what is open gets closed."""


_signals: list[int] = []
"""The signals that have come. Some imports turn what a handler raises into an error of their own."""

_under_way: list[int] = []
"""The signal that is about to be sent again: one is enough."""


def run(
    argv: Sequence[str],
    *,
    stdin: BinaryIO | None,
    stdout: BinaryIO | None,
    stderr: BinaryIO | None,
    environ: Mapping[str, str],
    open_caller: OpenCaller | None = None,
) -> int:
    """Run one command line and return its exit code. Touches no stream but those given."""
    from fedctl.cli.command import Root, Session
    from fedctl.cli.render import OutputClosed

    session = Session(stdin=stdin, stdout=stdout, stderr=stderr, environ=environ, open_caller=open_caller)
    known: FedctlError | None = None
    try:
        code = _invoke(Root(COMMANDS), session, list(argv))
        session.stdout.flush()
    except OutputClosed:
        code = 141
    except (KeyboardInterrupt, Terminated) as signal:  # nothing more is written: whoever reads may have stopped to
        code = 130 if isinstance(signal, KeyboardInterrupt) else 143
    except Exception as error:  # noqa: BLE001  the one place where nothing may get past
        from fedctl.errors import FedctlError

        if _signals and not isinstance(error, FedctlError):
            code = 128 + _signals[0]
        else:
            known = _with_way_back(session, as_ours(error))
            code = _report(session, argv, error, known)
    session.ended(code, known)
    return code


def _invoke(root: Any, session: Session, argv: list[str]) -> int:
    import typer

    try:
        with root.make_context("fedctl", argv, obj=session) as ctx:
            return root.invoke(ctx) or 0
    except typer.Exit as early:
        return early.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None


def _report(session: Session, argv: Sequence[str], error: Exception, known: FedctlError) -> int:
    """Say on stderr what went wrong, as text or as one JSON line, and return the exit code."""
    from fedctl.cli.render import say, say_json

    _try_to_flush(session)
    if session.environ.get("FEDCTL_DEBUG"):
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            say(session.stderr, line)
    if _form(session, argv) in ("json", "jsonl"):
        say_json(session.stderr, {"error": known.as_dict()})
    elif _is_quiet(session, argv):  # cron mails what it hears: one line
        say(session.stderr, f"error: {one_line(known)}")
    else:
        say(session.stderr, f"error: {known.message}")
        if known.hint:
            say(session.stderr, f"hint: {known.hint}")
    return known.exit


def _with_way_back(session: Session, error: FedctlError) -> FedctlError:
    """Return the error; where it is that the home's own store is damaged, with what brings that back."""
    if "damaged" not in error.details or not session.settings_read or session.settings.hub not in ("auto", "off"):
        return error
    from fedctl.operations.damage import told_the_way_back

    return told_the_way_back(error, session.settings.home)


def one_line(error: FedctlError) -> str:
    """Return what went wrong and what to do about it in one line."""
    return error.message if error.hint is None else f"{error.message} ({error.hint})"


def _is_quiet(session: Session, argv: Sequence[str]) -> bool:
    """Return whether quiet was asked for, even where parsing failed before the flag was seen."""
    return bool(session.flags.get("quiet")) or not {"-q", "--quiet"}.isdisjoint(_own_words(argv))


def _try_to_flush(session: Session) -> None:
    """Hand over what was answered before it went wrong; that failing too is not the error to tell."""
    from contextlib import suppress

    with suppress(Exception):
        session.stdout.flush()


def as_ours(error: Exception) -> FedctlError:
    """Return any error as one of ours."""
    import errno

    import typer

    from fedctl import errors

    if isinstance(error, errors.FedctlError):
        return error
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, OSError) and error.errno in errors.NO_SPACE:
        return errors.DiskFull(f"no space left: {error}", hint="free some and try again")
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return _denied(error)
    if isinstance(error, MemoryError):
        return errors.Failure("out of memory")
    return errors.Failure(
        f"unexpected: {type(error).__name__}: {error}", hint="FEDCTL_DEBUG=1 shows where; please report it"
    )


def _denied(error: OSError) -> FedctlError:
    from pathlib import Path

    from fedctl import errors

    named = isinstance(error.filename, str)
    return errors.denied(str(error), Path(error.filename).absolute()) if named else errors.Denied(str(error))


def _usage(error: Any) -> FedctlError:
    """Return a parser's error as ours, in our words."""
    from fedctl.errors import Failure, UsageError

    if error.exit_code != UsageError.exit:
        return Failure(" ".join(error.format_message().split()))
    ctx = getattr(error, "ctx", None)
    hint = f"see {ctx.command_path} --help" if ctx is not None else None
    if hasattr(error, "possibilities"):
        if error.possibilities:
            hint = f"did you mean {error.possibilities[0]}?"
        where = f" of '{ctx.command_path}'" if ctx is not None else ""
        return UsageError(f"{error.option_name} is not an option{where}", hint=hint)
    message = " ".join(error.format_message().split()).rstrip(".")  # the parser puts choices on lines of their own
    message = re.sub(r"is not a valid int(eger)?( range)?$", "is not a whole number", message)
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _form(session: Session, argv: Sequence[str]) -> str | None:
    """Return the form asked for, even where parsing failed before the flag was seen."""
    form: str | None = session.flags.get("format")
    if form is None:
        words = _own_words(argv)
        for position, word in enumerate(words):
            if word in ("--json", "--jsonl"):
                form = word[2:]
            elif word.startswith("--format="):
                form = word.partition("=")[2]
            elif word == "--format" and position + 1 < len(words):
                form = words[position + 1]
    if form is None and session.settings_read:
        form = session.settings.format
    return (form or session.environ.get("FEDCTL_FORMAT") or "").lower()


def _own_words(argv: Sequence[str]) -> list[str]:
    """Return what is said to fedctl itself: all before `--`."""
    words = list(argv)
    return words[: words.index("--")] if "--" in words else words


def main() -> NoReturn:
    """Run as a process: the console script, and `python -m fedctl`."""
    argv = sys.argv[1:]
    if argv in (["--version"], ["-V"]) and not os.environ.get("FEDCTL_FORMAT") and sys.stdout is not None:
        from fedctl import __version__

        print(f"fedctl {__version__}", flush=True)
        os._exit(0)
    import gc
    import signal

    gc.disable()  # a command's garbage dies with it; what lives long enables it again
    signal.signal(signal.SIGTERM, _end_by)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # ignored, it stays ignored
        signal.signal(signal.SIGINT, _end_by)
    try:
        code = run(
            argv,
            stdin=_bytes_of(sys.stdin),
            stdout=_bytes_of(sys.stdout),
            stderr=_bytes_of(sys.stderr),
            environ=os.environ,
        )
    except KeyboardInterrupt:  # before there was a run to end
        code = 130
    except Terminated:
        code = 143
    os._exit(code)  # everything is closed and flushed: the interpreter's own teardown would only take time


def _end_by(number: int, frame: FrameType | None) -> None:
    _signals.append(number)
    sys.unraisablehook = _come_again
    while frame is not None:
        if frame.f_code is _come_again.__code__:  # what is raised there comes to nothing as well
            _send_again()
            return
        frame = frame.f_back
    raise KeyboardInterrupt if number == 2 else Terminated  # noqa: PLR2004  SIGINT, everywhere


def _come_again(swallowed: sys.UnraisableHookArgs) -> None:
    """Send the signal once more where what it raised came to nothing: in a `__del__`, in a callback of a weakref."""
    if not isinstance(swallowed.exc_value, KeyboardInterrupt | Terminated):
        sys.__unraisablehook__(swallowed)
        return
    _send_again()


def _send_again() -> None:
    import _thread
    import signal
    import threading
    import time

    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def send() -> None:
        time.sleep(0.001)  # once that is left
        _under_way.clear()
        signal.pthread_kill(main_thread, _signals[-1])

    if not _under_way:
        _under_way.append(_signals[-1])
        _thread.start_new_thread(send, ())  # a Thread's start waits for it, with the signal in the middle


def _bytes_of(stream: Any) -> BinaryIO | None:
    return None if stream is None else stream.buffer
