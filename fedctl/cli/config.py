"""`fedctl config`: read and write settings."""

from typing import Annotated

import msgspec

from fedctl import config
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting as it is in force here. `value` is as it would be written, `origin` says where it comes from."""

    key: str
    value: str | None
    origin: str


class SettingsFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the settings are kept, and whether there are any."""

    path: str
    exists: bool


SETTING = Shape.of(Setting, "key", "value", key="key")
FILE = Shape.of(SettingsFile, key="path")

app = noun("config", "Read and write settings.")


@verb(app, shape=FILE, examples=["$EDITOR $(fedctl config path)"])
def path(ctx: Invocation) -> None:
    """Print where the settings are kept, whether or not there are any."""
    file = config.config_path(ctx.settings)
    ctx.screen.one(SettingsFile(path=str(file), exists=file.exists()), FILE, shown=str(file))


@verb(app, "list", shape=SETTING, form="many", examples=["fedctl config list --origin"])
def list_(
    ctx: Invocation,
    origin: Annotated[bool, flag("--origin", says="Say where each value comes from.")] = False,
) -> None:
    """List the settings as they are in force here."""
    columns = SETTING.fields if origin else SETTING.columns
    rows = [Setting(key=key, value=value, origin=said) for key, value, said in ctx.settings.pairs()]
    ctx.screen.many(rows, SETTING.with_columns(columns))


@verb(app, shape=SETTING, examples=["fedctl config get tenant"])
def get(ctx: Invocation, key: Annotated[str, argument("KEY", "A setting.", config.check_key)]) -> None:
    """Print one setting's value."""
    _, value, origin = next(pair for pair in ctx.settings.pairs() if pair[0] == key)
    ctx.screen.one(Setting(key=key, value=value, origin=origin), SETTING, shown=value or "")


@verb(app, "set", shape=SETTING, examples=["fedctl config set tenant acme", "fedctl config set timeout 1m"])
def set_(
    ctx: Invocation,
    key: Annotated[str, argument("KEY", "A setting.", config.check_key)],
    value: Annotated[str, argument("VALUE", "Its new value.")],
) -> None:
    """Keep a setting in the home's config.toml (or the file named by --config)."""
    file = config.set_key(ctx.settings, key, value)
    ctx.screen.done(Setting(key=key, value=value, origin=f"file {file}"), SETTING)
    _note_ruling(ctx, key)


@verb(app, shape=SETTING, examples=["fedctl config unset tenant"])
def unset(ctx: Invocation, key: Annotated[str, argument("KEY", "A setting.", config.check_key)]) -> None:
    """Take a setting out of the file that `config set` writes; what it is from then on is the answer."""
    file, was_set = config.unset_key(ctx.settings, key)
    now = config.load(ctx.session.flags, ctx.session.environ)
    _, value, origin = next(pair for pair in now.pairs() if pair[0] == key)
    ctx.screen.done(Setting(key=key, value=value, origin=origin), SETTING)
    if not was_set:
        ctx.screen.note(f"{key} was not set in {file}")
    _note_ruling(ctx, key)


def _note_ruling(ctx: Invocation, key: str) -> None:
    ruling = ctx.settings.origins.get(key, "")
    if ruling.startswith(("flag", "environment")):
        ctx.screen.note(f"here and now it is overruled by: {ruling}")
