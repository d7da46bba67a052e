"""`fedctl man`: the manual, also where it is not installed, and where there is no `man`."""

import os
from pathlib import Path
from typing import Annotated

from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument

app = noun("manual", "The manual.")


@verb(app, form="text", examples=["fedctl man", "fedctl man pool", "fedctl man exit-codes | less"])
def man(
    ctx: Invocation,
    page: Annotated[
        list[str] | None,
        argument("[PAGE...]", "A command, or `config.5` (all settings) or `exit-codes`; nothing is fedctl itself."),
    ] = None,
) -> None:
    """Show a page of the manual: by `man` on a terminal, else as text.

    A command of two words is on its noun's page. The pages are made of this fedctl, and need not be installed.
    """
    from fedctl import __version__
    from fedctl.cli import pages, roff

    found = pages.find(page or [])
    if not (ctx.session.stdout.is_terminal and _by_man(roff.as_roff(found, __version__), found.file_name, ctx)):
        ctx.screen.raw(roff.as_text(found).encode())


@verb(app, "help", form="text", examples=["fedctl help", "fedctl help pool push"])
def help_(
    ctx: Invocation,
    command: Annotated[list[str] | None, argument("[COMMAND...]", "A command; nothing is fedctl itself.")] = None,
) -> None:
    """Show the help of a command, as its --help does."""
    root = ctx.find_root().command
    with root.make_context("fedctl", [*(command or []), "--help"], obj=ctx.session) as inner:
        root.invoke(inner)


def _by_man(content: str, name: str, ctx: Invocation) -> bool:
    """Show a page by `man` and its pager; return False where there is no `man`, or none that can."""
    import shutil
    import signal
    import subprocess
    import tempfile

    environ = ctx.session.environ
    program = shutil.which("man", path=environ.get("PATH", os.defpath))
    if program is None or environ.get("TERM") in (None, "", "dumb"):
        return False
    ctx.session.stdout.flush()
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the pager's; what is started has it as ever
    try:
        with tempfile.TemporaryDirectory(prefix="fedctl-") as folder:
            file = Path(folder, name)
            file.write_text(content, "utf-8")
            # A name with a slash is a file to every `man`; not all know -l.
            return subprocess.run([program, str(file)], env=dict(environ), check=False).returncode == 0  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)
