"""Settings, read once: flag > environment > `--config FILE` > `config.toml` in the home > default.

Each value remembers its origin (`fedctl config list --origin`). Secrets are never keys of a file: a token comes
from `--token-file`, `FEDCTL_TOKEN_FILE` or `FEDCTL_TOKEN`, and is read where a connection needs it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from fedctl import disk
from fedctl.errors import NO_SPACE, Denied, DiskFull, FedctlError, UsageError, denied, how_to_issue
from fedctl.model.limits import check_name, check_text
from fedctl.model.log import CATEGORIES, LEVELS
from fedctl.model.time import parse_duration_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

Format = Literal["table", "json", "jsonl", "tsv", "ids"]
Color = Literal["auto", "always", "never"]
DebugLevel = Literal["silent", "basic", "detailed", "verbose", "trace"]

FORMATS = ("table", "json", "jsonl", "tsv", "ids")
COLORS = ("auto", "always", "never")
DEBUG_FORMATS = ("human", "json", "compact")
DEBUG_OUTPUTS = ("console", "file", "both")
HUB_SCHEMES = ("ws://", "wss://", "unix:")

CONFIG_NAME = "config.toml"
TOKEN_MAX_BYTES = 16 << 10


class Secret:
    """A text that no `repr`, log line or traceback shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run goes by. `origins` says of each key where its value came from; `warnings` are for stderr.

    `timeout_ms` None: no limit (the long commands). `model` is the path of an ONNX folder, None the model on board.
    `debug_level` None: the default of what runs (`level_for`). `tenant_explicit`: a flag or the environment named it.
    """

    home: Path
    hub: str = "auto"
    tenant: str = "default"
    tenant_explicit: bool = False
    token_file: Path | None = None
    token_from_environment: Secret | None = None
    tls_ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    timeout_ms: int | None = 30_000
    format: Format = "table"
    color: Color = "auto"
    model: Path | None = None
    debug_level: DebugLevel | None = None
    debug_format: Literal["human", "json", "compact"] = "human"
    debug_output: Literal["console", "file", "both"] = "console"
    debug_file: Path | None = None
    debug_categories: tuple[str, ...] = ()
    debug_agents: tuple[str, ...] = ()
    quiet: bool = False
    verbose: bool = False
    config_file: Path | None = None
    origins: dict[str, str] = {}
    warnings: tuple[str, ...] = ()

    def level_for(self, *, resident: bool) -> DebugLevel:
        """Return the debug level: as set, else `basic` for hubs and agents (`resident`) and `silent` for the rest."""
        return self.debug_level or ("basic" if resident else "silent")

    def read_token(self) -> Secret | None:
        """Return the token, read now: a token file may be renewed while a process lives."""
        if self.token_file is None:
            return self.token_from_environment
        try:
            with self.token_file.open("rb") as file:
                content = file.read(TOKEN_MAX_BYTES + 1)
        except OSError as error:
            kind = Denied if isinstance(error, PermissionError) else UsageError
            raise kind(f"cannot read the token file {str(self.token_file)!r}: {error.strerror}") from error
        if len(content) > TOKEN_MAX_BYTES or not content.isascii() or not content.strip():
            raise UsageError(f"{str(self.token_file)!r} holds no token", hint=how_to_issue())
        return Secret(content.decode("ascii").strip())

    def pairs(self) -> list[tuple[str, str | None, str]]:
        """Return `(key, value, origin)` of every key, as `config list` shows them; a secret is none of them."""
        seconds, rest = divmod(self.timeout_ms or 0, 1000)
        shown = {"timeout": f"{self.timeout_ms}ms" if rest else f"{seconds}s" if seconds else None}
        rows = []
        for key in KEYS:
            value = shown[key] if key in shown else getattr(self, key)
            rows.append((key, None if value is None else str(value), self.origins.get(key, "default")))
        return rows


class HubOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How `hub start` was asked to run."""

    host: str = "127.0.0.1"
    port: int = 8443
    http_port: int = 8444
    max_agents: int = 1000
    max_connections: int = 10_000
    max_strangers: int = 1024
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    insecure: bool = False
    detach: bool = False
    retention_every_ms: int | None = None


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How `agent spawn` was asked to live. `id` None: a new one is made. `pull_query` None: the tenant's newest."""

    id: str | None = None
    type: str = "agent"
    lifetime_ms: int = 300_000
    sync_interval_ms: int = 5_000
    pull_query: str | None = None
    pull_limit: int = 100
    embed: Literal["hub", "local"] = "hub"
    undelivered: Path | None = None


def _one_of(what: str, allowed: tuple[str, ...]) -> Callable[[str], str]:
    def check(text: str) -> str:
        value = text.strip().lower()
        if value not in allowed:
            hint = did_you_mean(value, allowed) or f"one of {', '.join(allowed)}"
            raise UsageError(f"{text!r} is not a {what}", hint=hint)
        return value

    return check


_category = _one_of("debug category", CATEGORIES)


def _hub(text: str) -> str:
    if text in ("auto", "off"):
        return text
    if any(text.startswith(scheme) and len(text) > len(scheme) for scheme in HUB_SCHEMES):
        return check_text("a hub's address", text)
    raise UsageError(f"{text!r} is not a hub", hint="auto, off, ws://HOST:PORT, wss://HOST:PORT or unix:PATH")


def _timeout(text: str) -> int:
    ms = parse_duration_ms(text)
    if ms <= 0:
        raise UsageError("a timeout must be longer than nothing")
    return ms


def _path(text: str) -> Path:
    if not text:
        raise UsageError("a path must not be empty", hint="is the variable it comes from set?")
    check_text("a path", text)  # SQLite and JSON know no other names of files
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # `~name` of nobody; a relative path in a folder that is gone
        raise UsageError(f"{text!r} leads nowhere: {error}") from error


class Key(msgspec.Struct, frozen=True):
    """A setting: how its text is read, which environment variables name it, and what a wrong one of those does."""

    field: str
    read: Callable[[str], Any]
    environment: tuple[str, ...] = ()
    lenient: bool = False
    """A wrong value in the environment warns instead of failing: the variable's name is not ours alone."""


KEYS: dict[str, Key] = {
    "home": Key("home", _path, ("FEDCTL_HOME",)),
    "hub": Key("hub", _hub, ("FEDCTL_HUB",)),
    "tenant": Key("tenant", lambda text: check_name("tenant", text), ("FEDCTL_TENANT",)),
    "token_file": Key("token_file", _path, ("FEDCTL_TOKEN_FILE",)),
    "tls_ca": Key("tls_ca", _path, ("FEDCTL_TLS_CA",)),
    "client_cert": Key("client_cert", _path, ("FEDCTL_CLIENT_CERT",)),
    "client_key": Key("client_key", _path, ("FEDCTL_CLIENT_KEY",)),
    "timeout": Key("timeout_ms", _timeout, ("FEDCTL_TIMEOUT",)),
    "format": Key("format", _one_of("format", FORMATS), ("FEDCTL_FORMAT",)),
    "color": Key("color", _one_of("colour choice", COLORS)),
    "model": Key("model", _path),
    "debug_level": Key("debug_level", _one_of("debug level", LEVELS), ("DEBUG_LEVEL",), lenient=True),
    "debug_format": Key("debug_format", _one_of("debug format", DEBUG_FORMATS), ("DEBUG_FORMAT",), lenient=True),
    "debug_output": Key("debug_output", _one_of("debug output", DEBUG_OUTPUTS), ("DEBUG_OUTPUT",), lenient=True),
    "debug_file": Key("debug_file", _path, ("DEBUG_OUTPUT_FILE",)),
}


def load(flags: Mapping[str, Any], environ: Mapping[str, str], *, files: bool = True) -> Settings:
    """Return the settings of a run.

    Args:
        flags: What the command line said, by key (texts); besides the keys: `config`, `quiet`, `verbose`,
            `debug_categories`, `debug_agents`.
        environ: The environment. An empty variable counts as unset.
        files: Whether config files are read; who says what is wrong with one goes on without.

    Raises:
        UsageError: A value or a key is wrong, or the home is not a directory.
        Denied: A file may not be read.
    """
    reading = _Reading()
    for key in KEYS:
        if flags.get(key) is not None:
            reading.take(key, flags[key], f"flag --{key.replace('_', '-')}")
    reading.take_environment(environ)
    explicit = "tenant" in reading.origins
    secret = reading.take_secret(environ)
    named = flags.get("config") or environ.get("FEDCTL_CONFIG")
    config_file = _path(named) if named else None
    if config_file is not None and files:
        reading.take_file(config_file, must_exist=True)
    home = _checked_home(reading.values.pop("home", None) or _default_home())
    if files:
        reading.take_file(home / CONFIG_NAME, must_exist=False)
    if "home" in reading.values:
        raise UsageError(f"{str(home / CONFIG_NAME)!r} cannot say where its own home is", hint="remove `home`")
    if flags.get("debug_file") and reading.values.get("debug_output", "console") == "console":
        reading.warnings.append("nothing goes to --debug-file without --debug-output file (or both)")
    return Settings(
        home=home,
        **reading.values,
        tenant_explicit=explicit,
        token_from_environment=secret,
        debug_categories=tuple(_category(one) for one in flags.get("debug_categories") or ()),
        debug_agents=tuple(check_name("agent", one) for one in flags.get("debug_agents") or ()),
        quiet=bool(flags.get("quiet")),
        verbose=bool(flags.get("verbose")),
        config_file=config_file,
        origins=reading.origins,
        warnings=tuple(reading.warnings),
    )


class _Reading:
    """Values as they are found, the strongest source first: what is there already stays."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.warnings: list[str] = []

    def take(self, key: str, text: str, origin: str) -> None:
        """Take a value from one source, unless a stronger one gave it."""
        try:
            value = KEYS[key].read(text)
        except UsageError as error:
            raise UsageError(f"{error.message} ({origin})", hint=error.hint) from None
        if self.values.setdefault(KEYS[key].field, value) is value:
            self.origins.setdefault(key, origin)

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """Take what the environment says; where a variable's name is not ours alone, nonsense in it only warns."""
        for key, known in KEYS.items():
            for name in known.environment:
                if not environ.get(name):
                    continue
                try:
                    self.take(key, environ[name], f"environment {name}")
                except UsageError as error:
                    if not known.lenient:
                        raise
                    self.warnings.append(f"{error.message}: ignored")
        # Two names that all programs share: https://no-color.org and its counterpart.
        if environ.get("NO_COLOR"):
            self.take("color", "never", "environment NO_COLOR")
        elif environ.get("FORCE_COLOR", "0") not in ("", "0", "false"):
            self.take("color", "always", "environment FORCE_COLOR")

    def take_secret(self, environ: Mapping[str, str]) -> Secret | None:
        """Return the token that the environment holds itself, unless a file is named for it."""
        if not environ.get("FEDCTL_TOKEN") or "token_file" in self.values:
            return None
        self.values["token_file"] = None
        self.origins["token_file"] = "environment FEDCTL_TOKEN"  # noqa: S105  where it came from, not what it is
        return Secret(environ["FEDCTL_TOKEN"].strip())

    def take_file(self, path: Path, *, must_exist: bool) -> None:
        """Take what a config file says."""
        for key, text in _read_file(path, must_exist=must_exist).items():
            self.take(key, text, f"file {path}")


def _default_home() -> Path:
    import platformdirs  # noqa: PLC0415  only where nothing named a home

    return Path(platformdirs.user_data_dir("fedctl", appauthor=False))


def _checked_home(home: Path) -> Path:
    try:
        mode = home.stat().st_mode
    except PermissionError as error:
        raise denied(f"the home {str(home)!r} may not be looked into", home) from error
    except NotADirectoryError as error:
        raise UsageError(f"the home {str(home)!r} lies below a file", hint="choose another with --home DIR") from error
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise UsageError(f"{str(home)!r} cannot be a home: {error.strerror}") from error
    else:
        if not stat.S_ISDIR(mode):
            raise UsageError(f"the home {str(home)!r} is a file, not a directory", hint="choose another: --home DIR")
    return home


def _read_file(path: Path, *, must_exist: bool) -> dict[str, str]:
    """Return what a config file sets, as texts by key."""
    try:
        with path.open("rb") as file:
            content = file.read()
    except FileNotFoundError as error:
        if must_exist:
            raise UsageError(f"there is no config file {str(path)!r}") from error
        return {}
    except PermissionError as error:
        raise denied(f"the config file {str(path)!r} may not be read", path) from error
    except OSError as error:
        raise UsageError(f"cannot read the config file {str(path)!r}: {error.strerror}") from error
    import tomllib  # noqa: PLC0415  only where there is a file

    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the config file {str(path)!r} is not TOML: {error}") from error
    for key, value in document.items():
        check_key(key, f" in {str(path)!r}")
        if not isinstance(value, str):
            raise UsageError(f"{key} in {str(path)!r} must be text", hint=f'write {key} = "..."')
    return document


def check_key(key: str, where: str = "") -> str:
    """Return `key` if there is a setting of that name."""
    if key in KEYS:
        return key
    if key in ("token", "passphrase", "secret"):
        raise UsageError(f"{key!r}{where}: secrets are never settings", hint="use token_file, or FEDCTL_TOKEN")
    hint = did_you_mean(key, KEYS) or f"the settings are {', '.join(KEYS)}"
    raise UsageError(f"{key!r}{where} is not a setting", hint=hint)


def did_you_mean(given: str, known: Mapping[str, Any] | tuple[str, ...] | list[str]) -> str | None:
    """Return a hint that names what is spelled most like `given`, or None when nothing is like it."""
    import difflib  # noqa: PLC0415  only for who mistyped

    matches = difflib.get_close_matches(given, list(known), n=1)
    return f"did you mean {matches[0]}?" if matches else None


def config_path(settings: Settings) -> Path:
    """Return the file that `config set` writes: the one named by `--config`, else the home's own."""
    return settings.config_file or settings.home / CONFIG_NAME


def set_key(settings: Settings, key: str, text: str) -> Path:
    """Write one setting, keeping the file's comments and order; return the file.

    The new file is complete before it takes the old one's place, and is readable by its owner alone.
    """
    check_key(key)
    path = config_path(settings)
    if key == "home" and path == settings.home / CONFIG_NAME:
        raise UsageError("the home's own config file cannot say where the home is", hint="set FEDCTL_HOME instead")
    value = KEYS[key].read(text)
    stored = str(value) if isinstance(value, Path) else text.strip()
    _rewrite(path, lambda document: document.update({key: stored}))
    return path


def unset_key(settings: Settings, key: str) -> tuple[Path, bool]:
    """Take one setting out, keeping the rest as it is; return the file, and whether the setting was there."""
    check_key(key)
    path = config_path(settings)
    if key not in _read_file(path, must_exist=False):
        return path, False
    _rewrite(path, lambda document: document.pop(key))
    return path, True


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    import tomlkit  # noqa: PLC0415  only for who writes

    try:
        target = Path(os.path.realpath(path))  # a linked file stays a link
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _read_file(target, must_exist=False)  # a file with mistakes is not built upon
        document = tomlkit.parse(target.read_text("utf-8")) if target.exists() else tomlkit.document()
        change(document)
        with disk.new_content(target) as file:
            file.write(tomlkit.dumps(document).encode())
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> FedctlError:
    import errno  # noqa: PLC0415  only when it failed

    if error.errno in NO_SPACE:
        return DiskFull(f"no space left to write {str(path)!r}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(f"{str(path)!r} may not be written: {error.strerror}")
    return UsageError(f"cannot write {str(path)!r}: {error.strerror}")
