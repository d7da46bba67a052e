"""The frame of every command: global options, help, what a command may reach, and how it says what it is.

The global options are parameters of every group and every command, so they are accepted before and after it, a
value that looks like a flag stays a value, and the one nearest to the command wins. Nothing scans argv.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from fedctl import config
from fedctl.cli.render import Errors, Output, Screen, Shape, check_fields, resolve, say
from fedctl.cli.values import StandardInput
from fedctl.errors import NotFound, UsageError
from fedctl.model.limits import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fedctl.client.caller import Caller
    from fedctl.config import Settings
    from fedctl.errors import FedctlError
    from fedctl.log import Log


Form = Literal["one", "many", "either", "text"]


class OpenCaller(Protocol):
    """How a command gets somebody to ask: `fedctl.bootstrap.open_caller`, or a test's own."""

    def __call__(self, settings: Settings, *, writes: bool) -> Caller:
        """Return a caller; `writes` creates home and store where there are none."""
        ...


class Session:
    """One run of the command line: its streams, what its flags said, and what follows from that."""

    def __init__(
        self,
        *,
        stdin: BinaryIO | None,
        stdout: BinaryIO | None,
        stderr: BinaryIO | None,
        environ: Mapping[str, str],
        open_caller: OpenCaller | None = None,
    ) -> None:
        self.stdin = StandardInput(stdin)
        self.stdout = Output(stdout)
        self.stderr = None if stderr is None else Errors(stderr)
        self.environ = environ
        self.flags: dict[str, Any] = {}
        self.fields: tuple[str, ...] = ()
        self.command = ""
        self.log: Log | None = None
        """The debug stream, once the settings are read; None: silent."""
        self.write_log: Callable[[str], None] = self.say
        """What takes its lines on stderr; a command that draws there takes them itself."""
        self._open_caller = open_caller
        self._began_s = time.monotonic()

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, read when first asked for."""
        settings = config.load(self.flags, self.environ)
        for warning in settings.warnings:
            say(self.stderr, f"warning: {warning}")
        if settings.level_for(resident=False) != "silent":
            from fedctl.bootstrap import open_log

            self.log = open_log(settings, resident=False, console=self._console)
            self.log.verbose("command.started", command=self.command, home=str(settings.home), hub=settings.hub)
        return settings

    @property
    def settings_read(self) -> bool:
        """Whether the settings were read (and were right)."""
        return "settings" in self.__dict__

    @functools.cached_property
    def screen(self) -> Screen:
        """Where the answer goes."""
        return Screen(self.stdout, self.stderr, self.settings, self.fields, self.environ)

    def say(self, line: str) -> None:
        """Say one line on stderr."""
        say(self.stderr, line)

    def _console(self, line: str) -> None:
        self.write_log(line)

    def ended(self, code: int, error: FedctlError | None) -> None:
        """Tell the debug stream how the command ended."""
        if self.log is not None:
            self.log.basic(
                "command.ended", command=self.command, exit=code, duration_ms=(time.monotonic() - self._began_s) * 1000,
                error=None if error is None else error.message,
            )  # fmt: skip

    def open_caller(self, settings: Settings, *, writes: bool) -> Caller:
        """Return somebody to ask."""
        if self._open_caller is None:
            from fedctl.bootstrap import open_caller

            caller = open_caller(settings, writes=writes)
        else:
            caller = self._open_caller(settings, writes=writes)
        if self.log is None or not self.log.says_detailed:
            return caller
        from fedctl.cli.logged import LoggedCaller

        return LoggedCaller(caller, self.log, settings.tenant)


class Invocation(typer.Context):
    """What a command is handed: the run's settings, streams and callers."""

    @property
    def session(self) -> Session:
        """The run this command is part of."""
        session = self.find_root().obj
        assert isinstance(session, Session)
        return session

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        return self.session.settings

    @property
    def screen(self) -> Screen:
        """Where the answer goes."""
        return self.session.screen

    @property
    def stdin(self) -> StandardInput:
        """Standard input, for one taker."""
        return self.session.stdin

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be changed."""
        return bool(self.session.flags.get("dry_run"))

    @contextmanager
    def caller(self, *, writes: bool = False, unhurried: bool = False) -> Iterator[Caller]:
        """Open a caller for a `with`; `unhurried` commands have no time limit a request."""
        settings = self.settings
        if unhurried:
            import msgspec

            settings = msgspec.structs.replace(settings, timeout_ms=None)
        if settings.verbose:
            from fedctl.bootstrap import hub_address

            address = hub_address(settings)
            self.screen.note(f"asking the hub at {address}" if address else f"working on {settings.home} itself")
        caller = self.session.open_caller(settings, writes=writes)
        try:
            yield caller
        except NotFound as error:
            from fedctl.client.unused import with_nearest

            raise with_nearest(caller, error) from None
        finally:
            caller.close()

    def note_unused(self, caller: Caller, *pools: str, agent: str | None = None) -> None:
        """Say of names that were never used, where nothing was found: the tenant's, else pools' or an agent's.

        Most often they are mistyped. That it cannot be known is no error.
        """
        if self.settings.quiet:
            return
        from contextlib import suppress

        from fedctl.client.unused import notes
        from fedctl.errors import FedctlError

        tenant = self.settings.tenant if "tenant" in self.settings.origins else None
        with suppress(FedctlError):
            for note in notes(caller, tenant, pools, agent):
                self.screen.note(note)

    def confirm(self, question: str) -> None:
        """Go on only if `--yes` was given or a person says so.

        Raises:
            UsageError: Nobody is there to be asked, or the answer was no.
        """
        if self.session.flags.get("yes"):
            return
        stderr = self.session.stderr
        if stderr is None or not (stderr.isatty() and self.stdin.isatty()):
            raise UsageError(f"{question} This needs a yes, and nobody is there to give it", hint="add --yes")
        stderr.write(f"{question} [y/N] ".encode(errors="backslashreplace"))
        stderr.flush()
        if self.stdin.read_line().strip().lower() not in ("y", "yes"):
            raise UsageError("not confirmed: nothing was done")


def _keep(ctx: Any, param: Any, value: Any) -> None:
    """Keep a global option's value; a later (nearer) one replaces it, a repeatable one adds to it."""
    if value is None or value == ():
        return
    flags = ctx.find_root().obj.flags
    name = param.name.removeprefix("global_")
    if name in ("json", "jsonl", "ids"):
        flags["format"] = name
    elif isinstance(value, tuple):
        flags[name] = (*flags.get(name, ()), *value)
    else:
        flags[name] = value


def _option(name: str, *decls: str, says: str, metavar: str | None = None, many: bool = False) -> TyperOption:
    # The name is one that no command's own parameter has: both live in one table while argv is parsed.
    flag = metavar is None
    return TyperOption(
        param_decls=[f"global_{name}", *decls],
        type=None if flag else str,
        is_flag=flag,
        multiple=many,
        metavar=metavar,
        help=says,
        callback=_keep,
        expose_value=False,
    )


def _show_help(ctx: Any, _param: Any, value: Any) -> None:
    if value:
        show_help(ctx)
        raise typer.Exit(0)


def show_help(ctx: Any) -> None:
    """Print the help of the group or command at hand."""
    ctx.find_root().obj.stdout.write((ctx.get_help() + "\n").encode())


@functools.cache
def _globals() -> tuple[TyperOption, ...]:
    return (
        _option("home", "--home", metavar="DIR", says="The home: the store, the keys, config.toml (FEDCTL_HOME)."),
        _option("hub", "--hub", metavar="auto|off|URL", says="Whom to ask (FEDCTL_HUB); ws://, wss:// or unix:PATH."),
        _option("tenant", "--tenant", metavar="NAME", says="Whose memory (FEDCTL_TENANT); by default `default`."),
        _option("token_file", "--token-file", metavar="FILE", says="The token (FEDCTL_TOKEN_FILE, FEDCTL_TOKEN)."),
        _option("tls_ca", "--tls-ca", metavar="FILE", says="Trust these authorities with wss:// (FEDCTL_TLS_CA)."),
        _option("client_cert", "--client-cert", metavar="FILE", says="Our certificate (FEDCTL_CLIENT_CERT)."),
        _option("client_key", "--client-key", metavar="FILE", says="Its key (FEDCTL_CLIENT_KEY)."),
        _option("config", "--config", metavar="FILE", says="More settings, before the home's own (FEDCTL_CONFIG)."),
        _option("format", "--format", metavar="table|json|jsonl|tsv|ids", says="The answer's form (FEDCTL_FORMAT)."),
        _option("json", "--json", says="Short for --format json."),
        _option("jsonl", "--jsonl", says="Short for --format jsonl."),
        _option("ids", "--ids", says="Short for --format ids."),
        _option("fields", "--fields", metavar="a,b.c", says="Only these fields; `--fields help` lists them."),
        _option("timeout", "--timeout", metavar="DUR", says="Limit of one request, 30s by default (FEDCTL_TIMEOUT)."),
        _option("color", "--color", metavar="auto|always|never", says="Colour (NO_COLOR, FORCE_COLOR)."),
        _option("quiet", "-q", "--quiet", says="Errors only: no notes, and silence for success."),
        _option("verbose", "-v", "--verbose", says="Say more on stderr."),
        _option("debug_level", "--debug-level", metavar="silent|basic|detailed|verbose|trace",
                says="How much is logged (DEBUG_LEVEL)."),
        _option("debug_format", "--debug-format", metavar="human|json|compact", says="Form of logs (DEBUG_FORMAT)."),
        _option("debug_categories", "--debug-category", metavar="C", many=True, says="Only this category; repeatable."),
        _option("debug_agents", "--debug-agent", metavar="ID", many=True, says="Only this agent; repeatable."),
        _option("debug_output", "--debug-output", metavar="console|file|both", says="Where logs go (DEBUG_OUTPUT)."),
        _option("debug_file", "--debug-file", metavar="FILE", says="The log file (DEBUG_OUTPUT_FILE)."),
    )  # fmt: skip


@functools.cache
def _yes() -> TyperOption:
    return _option("yes", "-y", "--yes", says="Do not ask.")


@functools.cache
def _dry_run() -> TyperOption:
    return _option("dry_run", "-n", "--dry-run", says="Say what would go, and change nothing.")


@functools.cache
def _version() -> TyperOption:
    return _option("version", "-V", "--version", says="Print the version; with --json, of everything.")


@functools.cache
def _help() -> TyperOption:
    return TyperOption(
        param_decls=["global_help", "-h", "--help"], is_flag=True, expose_value=False, is_eager=True,
        callback=_show_help, help="Show this help.",
    )  # fmt: skip


def global_options() -> tuple[TyperOption, ...]:
    """Return the options that every group and every command takes."""
    return (*_globals(), _version(), _help())


class Reply(msgspec.Struct, frozen=True):
    """What a command answers with, so that it can be told without running it (`fedctl schema`)."""

    shape: Shape[Any] | None
    """What one thing of the answer is; None: nothing that has fields of its own."""
    form: Form
    """What `--json` prints: one object, an array, either (one thing as itself, several as a list), or no JSON."""
    lines: Mapping[str, type[Any] | str]
    """What makes JSON lines of something else -> what each line is: a flag (`--batch`, `--follow`, `--jsonl`), `-` for
    stdout in the place of a file, and `stderr`, where a command of the user's has stdout."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What can be asked for with `--fields`; the lines of `--jsonl`, where they are something else, count too."""
        own = () if self.shape is None else self.shape.fields
        lines = self.lines.get("--jsonl")
        return own if lines is None else tuple(dict.fromkeys((*own, *resolve(lines).__struct_fields__)))


TEXT = Reply(None, "text", {})


class _Framed:
    """What groups and commands have in common: the global options, and how help is laid out."""

    context_class: type[Any] = Invocation
    params: list[Any]
    epilog: str | None

    def get_help_option(self, ctx: Any) -> TyperOption:  # noqa: ARG002  the frame's signature
        return _help()

    def extra_options(self) -> tuple[TyperOption, ...]:
        return ()

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ARG002  the frame's signature
        own = {spelling for param in self.params for spelling in param.opts}
        options = (*self.extra_options(), *global_options())
        return [*self.params, *(option for option in options if own.isdisjoint(option.opts))]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002  the frame's signature
        arguments = [param.metavar for param in self.params if param.param_type_name == "argument"]
        return ["COMMAND"] if isinstance(self, Group) else ["[OPTIONS]", *arguments]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in (*self.params, *self.extra_options()):
            record = param.get_help_record(ctx)
            if record is not None:
                name, says = record
                at = "Arguments" if param.param_type_name == "argument" else "Options"
                rows[at].append((name, re.sub(r" *\[[-0-9<=x>]+\]$", "", says)))  # a range, in signs: [x>=1]
        for title, lines in rows.items():
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))
        if ctx.parent is not None:
            formatter.write_paragraph()
            formatter.write("The global options (--home, --tenant, --json, --fields, ...): fedctl --help\n")


class Verb(_Framed, TyperCommand):
    """A command."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Build it. An option whose metavar is two words takes two values (`--then-push POOL JSON`)."""
        super().__init__(*args, **options)
        for param in self.params:
            if param.param_type_name != "option":
                continue
            choices = getattr(param.type, "choices", None)
            if choices and not param.metavar:  # the frame would put them in angle brackets
                param.metavar = "|".join(map(str, choices))
            if " " in (param.metavar or ""):
                param.nargs = len(str(param.metavar).split())

    @property
    def reply(self) -> Reply:
        """What it answers with."""
        return getattr(self.callback, "reply", TEXT)

    def extra_options(self) -> tuple[TyperOption, ...]:
        """Return `--yes` and `--dry-run` where the command has a use for them."""
        asks, dry_run = (getattr(self.callback, name, False) for name in ("asks", "dry_run"))
        return (*((_yes(),) if asks else ()), *((_dry_run(),) if dry_run else ()))

    def invoke(self, ctx: Any) -> Any:
        """Run the command, once what was said around it makes sense for it."""
        session: Session = ctx.find_root().obj
        flags = session.flags
        if flags.get("version"):
            return show_version(session)
        session.command = ctx.command_path.partition(" ")[2]
        for option in (_yes(), _dry_run()):
            name = str(option.name).removeprefix("global_")
            if flags.get(name) and option not in self.extra_options():
                raise UsageError(f"'{ctx.command_path}' has no use for {' '.join(option.opts)}")
        if flags.get("fields") is not None:
            known = self.reply.fields
            if not known:
                raise UsageError(f"the answer of '{ctx.command_path}' has no fields")
            if flags["fields"].strip() == "help":
                session.stdout.write("".join(f"{name}\n" for name in known).encode())
                return 0
            session.fields = check_fields(flags["fields"], known)
        for param in self.params:
            given = ctx.params.get(param.name)
            if given is not None and param.type.name == "path":  # SQLite and JSON know no names but text
                check_text(f"the path {param.human_readable_name}", str(given))
        return super().invoke(ctx)


class Group(_Framed, TyperGroup):
    """What has commands under it; alone it shows them."""

    def __init__(self, name: str, says: str) -> None:
        super().__init__(name=name, help=says, rich_markup_mode=None, invoke_without_command=True)

    def summaries(self) -> list[tuple[str, str]]:
        """Return the names of the commands, each with its one line, without building any."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the frame's signature
        """Return the names of the commands."""
        return [name for name, _ in self.summaries()]

    def extra_options(self) -> tuple[TyperOption, ...]:
        """Return the two that wait for a command which has a use for them."""
        return (_yes(), _dry_run())

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  the frame's signature
        """Write the commands, each with its one line, and below them what they have in common."""
        with formatter.section("Commands"):
            formatter.write_dl(self.summaries())
        _, _, text = str(self.help).partition("\n\n")
        if text:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(text)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  the frame's signature
        """Write the first paragraph alone: the commands come first."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(str(self.help).partition("\n\n")[0])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that `args` begin with, or say what was perhaps meant."""
        command = self.get_command(ctx, args[0])
        if command is None:
            hint = config.did_you_mean(args[0], self.list_commands(ctx)) or self.elsewhere(ctx, args[0])
            raise UsageError(
                f"{args[0]!r} is not a command of '{ctx.command_path}'", hint=hint or f"see {ctx.command_path} --help"
            )
        return command.name, command, args[1:]

    def elsewhere(self, ctx: Any, name: str) -> str | None:  # noqa: ARG002  for the root to say more
        """Return a hint where a command of that name is, if it is not here."""
        return None

    def invoke(self, ctx: Any) -> Any:
        """Run the command named, or show which there are."""
        session: Session = ctx.find_root().obj
        if session.flags.get("version"):
            return show_version(session)
        value = super().invoke(ctx)
        return value if ctx.invoked_subcommand is not None else self.alone(ctx)

    def alone(self, ctx: Any) -> Any:
        """Show which commands there are."""
        show_help(ctx)


class Noun(Group):
    """The commands of a Typer, each built when it is used: building one takes a millisecond."""

    aliases: Mapping[str, str] = {"ls": "list"}

    def __init__(self, app: typer.Typer) -> None:
        super().__init__(str(app.info.name), str(app.info.help))
        self._infos = {str(info.name): info for info in app.registered_commands}
        self._alone: str | None = app.__dict__.get("alone")

    @property
    def is_alone(self) -> str | None:
        """The name of the command that the noun stands for by itself; None: it shows which there are."""
        return self._alone

    def summaries(self) -> list[tuple[str, str]]:
        """Return the names of the commands, each with the first line of its docstring."""
        return [(name, (info.callback.__doc__ or "").partition("\n")[0]) for name, info in self._infos.items()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  the frame's signature
        """Build and return a command, by its name or alias."""
        name = cmd_name if cmd_name in self._infos else self.aliases.get(cmd_name, cmd_name)
        if name not in self._infos:
            return None
        if name not in self.commands:
            alone = _typer()
            alone.registered_commands = [self._infos[name]]
            self.commands[name] = typer.main.get_group(alone).commands[name]
        return self.commands[name]

    def alone(self, ctx: Any) -> Any:
        """Run the command that the noun stands for by itself, or show which there are."""
        if self._alone is None:
            return super().alone(ctx)
        command = self.get_command(ctx, self._alone)
        with command.make_context(self._alone, [], parent=ctx) as inner:
            return command.invoke(inner)


class Root(Group):
    """`fedctl` itself: knows the names of everything, and loads what is used."""

    def __init__(self, table: Mapping[str, tuple[str, str]]) -> None:
        """Keep the table: name -> (module below fedctl.cli, one line of help)."""
        super().__init__("fedctl", "Memory and work for fleets of short-lived agents.")
        self._table = table

    def summaries(self) -> list[tuple[str, str]]:
        """Return the names of the table, each with its one line."""
        return [(name, says) for name, (_, says) in self._table.items()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load and return what a name of the table stands for: a noun, or a verb of the home's module."""
        if cmd_name not in self._table:
            return None
        import importlib

        module = importlib.import_module(f"fedctl.cli.{self._table[cmd_name][0]}")
        noun = Noun(module.app)
        return noun if noun.name == cmd_name else noun.get_command(ctx, cmd_name)

    def elsewhere(self, ctx: Any, name: str) -> str | None:
        """Return the noun that has a verb of that name, or the option that is one."""
        if name == "version":
            return "did you mean --version?"
        for noun in self._table:
            command = self.get_command(ctx, noun)
            if isinstance(command, Noun) and command.get_command(ctx, name) is not None:
                return f"did you mean '{noun} {name}'?"
        return None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what there is, and the options that all of it takes."""
        super().format_options(ctx, formatter)
        with formatter.section("Global options, before or after the command"):
            formatter.write_dl([param.get_help_record(ctx) for param in self.get_params(ctx)])


def noun(name: str, says: str, *paragraphs: str, alone: str | None = None) -> typer.Typer:
    """Return the Typer that a noun's commands are registered with.

    `says` is its one line, `paragraphs` are what all its commands have in common; `alone` is the one that it is by
    itself.
    """
    app = _typer(name=name, help="\n\n".join((says, *paragraphs)))
    app.__dict__["alone"] = alone
    return app


def _typer(**attributes: Any) -> typer.Typer:
    return typer.Typer(**attributes, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def verb(
    app: typer.Typer,
    name: str | None = None,
    *,
    shape: Shape[Any] | None = None,
    form: Form | None = None,
    lines: Mapping[str, type[Any] | str] | None = None,
    asks: bool = False,
    dry_run: bool = False,
    examples: Sequence[str] = (),
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Make a function a command of `app`. It returns its exit code, None for 0.

    `shape`, `form` (by default one object, without a shape text) and `lines` are what it answers with (`Reply`);
    `asks` and `dry_run` say that it has `--yes` and `--dry-run`.
    """
    reply = Reply(shape, form or ("text" if shape is None else "one"), lines or {})

    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        function.__dict__.update(reply=reply, asks=asks, dry_run=dry_run)
        spelled = name or function.__name__
        return app.command(spelled, cls=Verb, epilog="\n".join(examples) or None)(function)

    return register


def resident() -> None:
    """Prepare for a long life: a command that stays collects its garbage, unlike one that ends at once."""
    import gc

    gc.enable()


def show_version(session: Session) -> int:
    """Print the version, or with `--json` those of all that matters to a bug report."""
    form = session.flags.get("format") or session.environ.get("FEDCTL_FORMAT")
    if form in ("json", "jsonl"):
        import msgspec

        from fedctl.bootstrap import versions

        session.stdout.write(msgspec.json.encode(versions()) + b"\n")
    else:
        from fedctl import __version__

        session.stdout.write(f"fedctl {__version__}\n".encode())
    return 0
