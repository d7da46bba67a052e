"""`fedctl completion`: the scripts that complete commands, flags and names in the shell."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag

if TYPE_CHECKING:
    from collections.abc import Mapping

app = noun("completing", "Complete commands in the shell.")


@verb(
    app,
    form="text",
    examples=[
        "fedctl completion bash --install",
        "fedctl completion zsh --install",
        "fedctl completion fish > fedctl.fish",
    ],
)
def completion(
    ctx: Invocation,
    shell: Annotated[Literal["bash", "zsh", "fish"], argument("bash|zsh|fish", "The shell.")],
    install: Annotated[bool, flag("--install", says="Put it where the shell looks; say what is left to do.")] = False,
) -> None:
    """Print a shell's completion script, or install it for this user.

    Names of pools, workers, agents, tenants, backups, items and episodes are completed too: the script asks fedctl
    for them. --install writes one file, prints its name, and touches no file of yours like ~/.bashrc.
    """
    from fedctl.cli import shells

    content = shells.script(shell).encode()
    if not install:
        ctx.screen.raw(content)
        return
    path, next_ = place(shell, ctx.session.environ)
    changed = _write(path, content)
    ctx.screen.text(str(path))
    ctx.screen.note(next_ if changed else f"it was there already; {next_}")


def place(shell: str, environ: "Mapping[str, str]") -> tuple[Path, str]:
    """Return where a user's completion script for `shell` goes, and what else is to be done by hand."""
    home = Path(environ.get("HOME") or Path.home())

    def below(variable: str, default: str) -> Path:
        given = environ.get(variable, "")
        return Path(given) if given.startswith("/") else home / default  # as the XDG standard has it

    if shell == "fish":
        return below("XDG_CONFIG_HOME", ".config") / "fish/completions/fedctl.fish", "new shells have it"
    data = below("XDG_DATA_HOME", ".local/share")
    if shell == "zsh":
        folder = data / "zsh/site-functions"
        return folder / "_fedctl", (
            f"zsh looks there once ~/.zshrc says, before compinit: fpath=({folder} $fpath); "
            "new shells have it then (if not: rm -f ~/.zcompdump)"
        )
    folder = below("BASH_COMPLETION_USER_DIR", str(data / "bash-completion")) / "completions"
    return folder / "fedctl", (
        f"new shells have it where bash-completion is installed; elsewhere ~/.bashrc needs: source {folder / 'fedctl'}"
    )


def _write(path: Path, content: bytes) -> bool:
    """Write the file, whole or not at all; return whether that changed anything."""
    from fedctl import disk, errors

    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.new_content(path) as file:
            file.write(content)
    except OSError as error:
        why = f"cannot write {str(path)!r}"
        raise errors.from_os(error, why, hint="write it elsewhere: fedctl completion ... > FILE") from error
    return True
