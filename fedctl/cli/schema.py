"""`fedctl schema`: the JSON Schema of what every command answers with, made of what the commands say of themselves.

A schema is JSON Schema 2020-12. Its own words: `x-form` is what `--json` prints (`one` object, an array of `many`,
`either`, or `text`, which is no JSON), `x-jsonl` the schema of one line of `--jsonl`, and `x-lines` names flags, each
with the schema of the JSON lines that it makes the answer. What is not declared is left open: answers gain fields.
"""

from __future__ import annotations

import functools
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec

from fedctl.cli.command import Invocation, Reply, noun, verb
from fedctl.cli.options import argument
from fedctl.cli.render import Shape, resolve
from fedctl.errors import BY_CODE, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLACE = "#/$defs/"
_TIMES = re.compile(r"(\w+_)?at|last_heartbeat|old_keys_until")
"""Fields that are RFC 3339 wherever they are."""
_UUIDS = {("Token", "id"), ("Backup", "id"), ("Made", "id"), ("Judged", "id"), ("Restored", "id")}
"""Ids that are always made by fedctl: those of episodes, items and notes may be the caller's."""
_UNITS = {"_ms": "Milliseconds.", "_s": "Seconds.", "_bytes": "Bytes."}

Schema = dict[str, Any]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong. `exit` is the exit code, `hint` what to do about it; `retryable`: trying again is safe."""

    code: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*BY_CODE]})]
    exit: int
    message: str
    hint: str | None
    retryable: bool
    details: dict[str, Any]


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True):
    """What any command says on stderr when it fails, with --json or --jsonl."""

    error: Problem


class _Told(NamedTuple):
    """A command, in one line, and what it answers with."""

    says: str
    reply: Reply


_BESIDE = {
    "error": _Told("What any command says on stderr when it fails.", Reply(Shape.of(ErrorLine), "one", {})),
    "version": _Told("What fedctl --version answers with.", Reply(Shape.of("fedctl.bootstrap:Versions"), "one", {})),
}
"""What is no command, and answered all the same."""

SCHEMA = Shape.of(dict, "command", "form", "title", key="command", fields=("command", "form", "title", "schema"))

app = noun("schemas", "Schemas.")


@verb(
    app,
    shape=SCHEMA,
    form="either",
    examples=[
        "fedctl schema",
        "fedctl schema memory query | jq '.[\"$defs\"].FoundEpisode.properties | keys'",
        "fedctl schema error --json",
    ],
)
def schema(
    ctx: Invocation,
    command: Annotated[
        list[str] | None, argument("[COMMAND...]", "A command; `error` and `version` too. [default: a list of all]")
    ] = None,
) -> None:
    """Print the JSON Schema of what a command answers with, or list what there is.

    A schema is of the answer to --json; in it, x-jsonl is of a line of --jsonl, and x-lines of the lines that a flag
    such as --batch or --follow makes of it. Without a command, or with a noun: of all of them.
    """
    name = _name(command or [])
    beginning = [one for one in document()["commands"] if one.startswith(f"{name} ".lstrip())]
    if beginning:
        ctx.screen.many(map(_row, beginning), SCHEMA)
    elif ctx.session.fields or ctx.screen.form in ("tsv", "ids"):
        ctx.screen.one(_row(_known(name)), SCHEMA)
    elif ctx.screen.form == "table":
        ctx.screen.raw(msgspec.json.format(msgspec.json.encode(_schema(name)), indent=2) + b"\n")
    else:
        ctx.screen.one(_schema(name), SCHEMA)


def _row(name: str) -> Schema:
    found = _schema(name)
    return {"command": name, "form": found["x-form"], "title": found["description"], "schema": found}


def schema_of(path: Sequence[str] | str, *, closed: bool = False) -> Schema:
    """Return the JSON Schema of what a command answers with `--json`; an alias, or a noun alone, has its command's.

    With `closed` what is not declared is refused: for a test of what is answered today.

    Raises:
        UsageError: There is no such command.
    """
    found = _schema(_name([path] if isinstance(path, str) else path))
    if closed:
        found["$defs"] = {
            key: {**one, "additionalProperties": False} if "properties" in one else one
            for key, one in found["$defs"].items()
        }
    return found


def _name(path: Sequence[str]) -> str:
    """Return the name of a command as `document` has it, of whatever it was called; perhaps there is none of it."""
    name = " ".join(" ".join(path).split())
    return _others().get(name, name)


def _schema(name: str) -> Schema:
    found = {"$schema": DIALECT, "title": f"fedctl {name}", **document()["commands"][_known(name)]}
    return {**found, "$defs": _reachable(found, document()["$defs"])}


def _known(name: str) -> str:
    known = list(document()["commands"])
    if name not in known:
        from fedctl.config import did_you_mean

        raise UsageError(f"{name!r} is no command", hint=did_you_mean(name, known) or "fedctl schema lists them")
    return name


@functools.cache
def _others() -> dict[str, str]:
    """Return the other names of commands: aliases, and nouns that stand for one."""
    from fedctl.cli.tree import walk

    return {" ".join(one.path): " ".join(one.stands_for) for one in walk() if one.stands_for}


# -- making them ----------------------------------------------------------------------------------------------------


@functools.cache
def document() -> Schema:
    """Return all schemas as one document: `commands` by name, and the `$defs` that they refer to."""
    from fedctl.cli.tree import walk

    verbs = [one for one in walk() if one.verb is not None and one.stands_for is None]
    told = {" ".join(one.path): _Told(one.says, one.verb.reply) for one in verbs if one.verb} | _BESIDE
    kinds = list(dict.fromkeys(kind for one in told.values() for kind in _kinds(one.reply)))
    schemas, parts = msgspec.json.schema_components(kinds, ref_template=f"{_PLACE}{{name}}")
    places = dict(zip(kinds, schemas, strict=True))
    said = {str(place.get("$ref")).removeprefix(_PLACE): _docs(kind) for kind, place in places.items()}
    return {
        "$schema": DIALECT,
        "commands": {name: _command(one, places) for name, one in told.items()},
        "$defs": {name: _finished(part, said.get(name, [])) for name, part in parts.items()},
    }


def _docs(kind: type[Any]) -> list[str]:
    """Return what a struct says of itself, then what those say that it has fields of."""
    structs = [base for base in kind.__mro__ if issubclass(base, msgspec.Struct) and base is not msgspec.Struct]
    return [base.__doc__ for base in structs if base.__doc__]


def _kinds(reply: Reply) -> Iterator[type[Any]]:
    if reply.shape is not None:
        yield reply.shape.struct
    yield from map(resolve, reply.lines.values())


def _command(told: _Told, places: dict[type[Any], Schema]) -> Schema:
    reply = told.reply
    one = {"type": "object"} if reply.shape is None else places[reply.shape.struct]
    several = {"type": "array", "items": one}
    answer: Schema = {"one": one, "many": several, "either": {"anyOf": [one, several]}, "text": {"not": {}}}[reply.form]
    lines = {flag: places[resolve(kind)] for flag, kind in reply.lines.items()}
    line = lines.pop("--jsonl", None if reply.form == "text" else one)
    return {
        "description": told.says,
        "x-form": reply.form,
        **({} if line is None else {"x-jsonl": line}),
        **({"x-lines": lines} if lines else {}),
        **answer,
    }


def _finished(part: Schema, docs: list[str]) -> Schema:
    """Return a struct's schema as one of an answer: every field is there, and says what is known of it."""
    docs = [_in_json_words(doc) for doc in docs or [part.get("description", "")]]
    sentences = [one for doc in docs for one in re.split(r"(?<=\.) |\n", doc)]
    properties = {
        name: _field(part["title"], name, dict(one), [line for line in sentences if f"`{name}`" in line])
        for name, one in part["properties"].items()
    }
    # What has a default is answered all the same; only what may be unset has neither a default nor to be there.
    always = [name for name, one in part["properties"].items() if "default" in one or name in part["required"]]
    return {**part, "description": docs[0], "properties": properties, "required": always}


def _in_json_words(doc: str) -> str:
    """Return a docstring with a line for each of its paragraphs, and null for None."""
    paragraphs = inspect.cleandoc(doc).split("\n\n")
    return re.sub(r"\bNone\b", "null", "\n".join(" ".join(one.split()) for one in paragraphs))


def _field(of: str, name: str, field: Schema, said: list[str]) -> Schema:
    """Return a field's schema with what is known by its name; `said` are the sentences about it."""
    field.pop("default", None)
    ways = field.get("anyOf", [field])
    form = "date-time" if _TIMES.fullmatch(name) else "uuid" if (of, name) in _UUIDS else None
    if form is not None:
        ways = [{**way, "format": form} if way.get("type") == "string" else way for way in ways]
    if name == "error":  # an object of that name is an error everywhere
        ways = [{"$ref": f"{_PLACE}Problem"} if way == {"type": "object"} else way for way in ways]
    field = {**field, "anyOf": ways} if "anyOf" in field else ways[0]
    unit = next((text for suffix, text in _UNITS.items() if name.endswith(suffix)), None)
    description = " ".join(said) or unit
    return field if description is None else {"description": description, **field}


def _reachable(node: Any, parts: Schema) -> Schema:
    """Return the parts that a schema refers to, and those that they refer to."""
    found: Schema = {}
    todo = [node]
    while todo:
        at = todo.pop()
        if isinstance(at, dict):
            name = str(at.get("$ref", "")).removeprefix(_PLACE)
            if name in parts and name not in found:
                found[name] = parts[name]
                todo.append(parts[name])
        todo += at.values() if isinstance(at, dict) else at if isinstance(at, list) else []
    return dict(sorted(found.items()))


# -- keeping them ---------------------------------------------------------------------------------------------------


def write(path: Path, *, may_lose: bool = False) -> bool:
    """Write all schemas to a file; return whether that changed it.

    Raises:
        UsageError: Against the file a field would be lost or have another type, and it may not (`may_lose`).
    """
    content = msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"
    before = path.read_bytes() if path.exists() else b""
    gone = losses(msgspec.json.decode(before), document()) if before and not may_lose else []
    if gone:
        raise UsageError(f"answers only gain fields: {'; '.join(gone)}", hint="add it again beside what is new")
    if content != before:
        path.write_bytes(content)
    return content != before


def losses(before: Schema, now: Schema) -> list[str]:
    """Return what a reader of the answers of before would miss now, a sentence each."""
    missed = []
    for name, command in before["commands"].items():
        if name not in now["commands"]:
            missed.append(f"'{name}' is gone")
            continue
        new = dict(_fields(now["commands"][name], now["$defs"], ()))
        for field, (types, always) in _fields(command, before["$defs"], ()):
            if field not in new:
                missed.append(f"'{name}' has no {field} any more")
            elif new[field][0] != types:
                missed.append(f"{field} of '{name}' was {types}, and is {new[field][0]}")
            elif always and not new[field][1]:
                missed.append(f"{field} of '{name}' is not always there any more")
    return missed


def _fields(
    node: Schema, parts: Schema, inside: tuple[str, ...], name: str = "", *, always: bool = True
) -> Iterator[tuple[str, tuple[str, bool]]]:
    """Yield every field that a schema names: where it is, of which types, and whether it is always there."""
    ways, types = _ways(node, parts, inside)
    yield name or "the answer", (types, always)
    for line in ("x-jsonl", *node.get("x-lines", ())):
        of = node.get(line) if line == "x-jsonl" else node["x-lines"][line]
        if of is not None:
            yield from _fields(of, parts, inside, line)
    for way, within in ways:
        for key, field in way.get("properties", {}).items():
            yield from _fields(field, parts, within, f"{name}.{key}", always=key in way["required"])
        for key in ("items", "additionalProperties"):
            if isinstance(way.get(key), dict):
                yield from _fields(way[key], parts, within, f"{name}[]")


def _ways(node: Schema, parts: Schema, inside: tuple[str, ...]) -> tuple[list[tuple[Schema, tuple[str, ...]]], str]:
    """Return what a schema allows, references followed (no further than once around), and the types in words."""
    ways = []
    for way in node.get("anyOf", [node]):
        place = str(way.get("$ref", "")).removeprefix(_PLACE)
        if place and place not in inside:
            ways.append((parts[place], (*inside, place)))
        else:
            ways.append((way, inside))
    types = {str(way.get("type", "enum" if "enum" in way else "anything")) for way, _ in ways}
    return ways, " or ".join(sorted(types))
