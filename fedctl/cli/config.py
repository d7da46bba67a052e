"""`fedctl config`: read and write settings."""

from typing import Annotated

from fedctl import config
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape

SETTING = Shape(("key", "value", "origin"), ("key", "value"), "key")
FILE = Shape(("path", "exists"), ("path", "exists"), "path")

app = noun("config", "Read and write settings.")


@verb(app, shape=FILE, examples=["$EDITOR $(fedctl config path)"])
def path(ctx: Invocation) -> None:
    """Print where the settings are kept, whether or not there are any."""
    file = config.config_path(ctx.settings)
    if ctx.screen.form == "table" and not ctx.session.fields:
        ctx.screen.text(str(file))
    else:
        ctx.screen.one({"path": str(file), "exists": file.exists()}, FILE)


@verb(app, "list", shape=SETTING, examples=["fedctl config list --origin"])
def list_(
    ctx: Invocation,
    origin: Annotated[bool, flag("--origin", says="Say where each value comes from.")] = False,
) -> None:
    """List the settings as they are in force here."""
    columns = SETTING.fields if origin else SETTING.columns
    rows = [dict(zip(SETTING.fields, pair, strict=True)) for pair in ctx.settings.pairs()]
    ctx.screen.many(rows, SETTING._replace(columns=columns))


@verb(app, shape=SETTING, examples=["fedctl config get tenant"])
def get(ctx: Invocation, key: Annotated[str, argument("KEY", "A setting.", config.check_key)]) -> None:
    """Print one setting's value."""
    _, value, origin = next(pair for pair in ctx.settings.pairs() if pair[0] == key)
    if ctx.screen.form == "table" and not ctx.session.fields:
        ctx.screen.text(value or "")
    else:
        ctx.screen.one({"key": key, "value": value, "origin": origin}, SETTING)


@verb(app, "set", shape=SETTING, examples=["fedctl config set tenant acme", "fedctl config set timeout 1m"])
def set_(
    ctx: Invocation,
    key: Annotated[str, argument("KEY", "A setting.", config.check_key)],
    value: Annotated[str, argument("VALUE", "Its new value.")],
) -> None:
    """Keep a setting in the home's config.toml (or the file named by --config)."""
    file = config.set_key(ctx.settings, key, value)
    ctx.screen.done({"key": key, "value": value, "origin": f"file {file}"}, SETTING)
    ruling = ctx.settings.origins.get(key, "")
    if ruling.startswith(("flag", "environment")):
        ctx.screen.note(f"here and now it is overruled by: {ruling}")
