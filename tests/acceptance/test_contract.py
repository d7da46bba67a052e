"""What scripts depend on, held against every command there is: on no home, on an empty one, and on a full one.

The commands are those of the tree: one that is born without a line in `CASES` fails here by its name.
"""

from __future__ import annotations

import functools
import json
import re
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonschema
import pytest

from fedctl import errors
from fedctl.cli.schema import schema_of
from fedctl.cli.tree import Described, walk
from tests.acceptance.homes import LEASE, Said, copy, fedctl, make_empty, make_full

if TYPE_CHECKING:
    from pathlib import Path


Code = int | EllipsisType


class Case(NamedTuple):
    """How a command is tried: what it is given, and the exit code on each home; `...`: 0 or 14, as it finds things."""

    given: str = ""
    absent: Code = 10
    empty: Code = 0
    full: Code = 0
    stdin: bytes | None = None
    lines: bool = False
    """Its JSON is lines whatever is asked for: a batch, an export."""
    partly: bool = False
    """On the full home it answers, and ends with an error for what was not there."""
    changes: bool = False
    """The next run of it would find something else."""


HELD = f"claimed --lease-id {LEASE}"
BATCH = b'{"id": "claimed", "lease_id": "%s"}\nnonsense\n' % LEASE.encode()
CASES: dict[str, list[Case]] = {
    "init": [Case(absent=0)],
    "status": [Case(absent=0)],
    "doctor": [Case("", ..., ..., ...), Case("--fix -n", ..., ..., ...)],
    "top": [Case(absent=0)],
    "memory store": [
        Case("--task t --meta k=1", absent=0, changes=True),
        Case("--batch", 3, 3, 3, stdin=b'{"task": "t"}\nnonsense\n', lines=True, changes=True),
    ],
    "memory query": [Case("login"), Case("login --mode keyword --explain")],
    "memory get": [
        Case("hostile", empty=4),
        Case("e1 hostile", empty=4),
        Case("nope e1", empty=4, full=4, partly=True),
    ],
    "memory list": [Case(), Case("--pinned"), Case("--where repo=api --limit 1")],
    "memory delete": [
        Case("e1", empty=4, changes=True),
        Case("e1 nope", empty=4, full=4, partly=True, changes=True),
        Case("--agent scout --yes", changes=True),
        Case("--agent scout", full=2),
        Case("--hard e1 hostile", empty=4, changes=True),
    ],
    "memory pin": [Case("e1", empty=4)],
    "memory unpin": [Case("e1 e2", empty=4)],
    "memory import": [Case("- --no-embed", 3, 3, 3, stdin=b'{"task": "t"}\nnonsense\n', changes=True)],
    "memory export": [Case(lines=True)],
    "memory stats": [Case()],
    "memory reindex": [Case()],
    "hub stop": [Case(absent=0)],
    "hub status": [Case("", 7, 7, 7), Case("--wait 1ms", 8, 8, 8)],
    "hub stats": [Case("", 7, 7, 7)],
    "hub events": [Case(), Case("--type agent --all-tenants")],
    "hub cert": [Case(absent=0, changes=True), Case("--out nowhere --renew", 4, 4, 4)],
    "agent list": [Case(), Case("--status dead --status idle")],
    "agent show": [Case("coder-1", empty=4)],
    "agent stop": [Case("coder-2", empty=4, full=7)],
    "agent note": [Case("--kind step --agent coder-1 text", empty=4, changes=True)],
    "agent timeline": [Case("coder-1", empty=4)],
    "worker register": [Case("builder-1 --meta k=v", absent=0, changes=True)],
    "worker heartbeat": [Case("builder-1 --extend-leases", empty=4)],
    "worker list": [Case(), Case("--stale auto")],
    "worker show": [Case("builder-1", empty=4)],
    "worker status": [Case("builder-1 lost", empty=4, changes=True)],
    "worker reap": [Case(changes=True)],
    "pool push": [
        Case("builds 1", absent=0, changes=True),
        Case("builds --batch", 3, 3, 3, stdin=b'{"data": 1}\n{"dta": 1}\n', lines=True, changes=True),
    ],
    "pool claim": [Case("lint --worker w1 --count 2", 6, 6, changes=True)],
    "pool complete": [
        Case(HELD, empty=4, changes=True),
        Case(f'{HELD} --result 1 --then-push next 2 --episode {{"task":"t"}}', empty=4, changes=True),
        Case("--batch", 10, 3, 3, stdin=BATCH, lines=True, changes=True),
    ],
    "pool fail": [
        Case(f"{HELD} --error bad", empty=4, changes=True),
        Case("--batch", 10, 3, 3, stdin=BATCH, lines=True, changes=True),
    ],
    "pool extend": [
        Case(HELD, empty=4),
        Case("--batch", 10, 3, 3, stdin=BATCH, lines=True),
    ],
    "pool release": [
        Case(HELD, empty=4, changes=True),
        Case("--worker builder-1", changes=True),
        Case("--batch", 10, 3, 3, stdin=BATCH, lines=True, changes=True),
    ],
    "pool work": [Case("lint --once -- true", 6, 6, changes=True)],
    "pool list": [Case()],
    "pool show": [Case("builds")],
    "pool size": [Case("builds")],
    "pool items": [Case("builds")],
    "pool item": [Case("poisoned", empty=4)],
    "pool wait": [Case("done poisoned", full=14), Case("builds --timeout 1ms", full=8)],
    "pool retry": [Case("poisoned", empty=4, changes=True), Case("--poisoned builds", changes=True)],
    "pool purge": [Case("builds --yes", changes=True), Case("builds", full=2), Case("builds -n")],
    "pool pause": [Case("builds", absent=0)],
    "pool resume": [Case("builds", absent=0)],
    "retention set": [Case("--max-age 90d", absent=0)],
    "retention show": [Case()],
    "retention prune": [Case(empty=2, changes=True), Case("-n --all-tenants")],
    "retention explain": [Case("hostile", empty=4)],
    "tenant list": [Case()],
    "tenant show": [Case("acme", empty=4)],
    "tenant set": [Case("acme --rate 5/s", absent=0)],
    "tenant erase": [
        Case("acme --yes", empty=4, changes=True), Case("acme -n", empty=4), Case("acme", empty=4, full=2),
    ],
    "token issue": [Case("--tenant acme", absent=0, changes=True)],
    "token list": [Case()],
    "token revoke": [Case("{token}", empty=4)],
    "token rotate-key": [Case(absent=0, changes=True)],
    "backup create": [Case(changes=True)],
    "backup list": [Case(absent=0)],
    "backup show": [Case("latest", 4, 4)],
    "backup verify": [Case("latest --restore-test", 4, 4)],
    "backup prune": [Case("--keep-last 1")],
    "restore": [
        Case("latest --to {new}", 4, 4, changes=True),
        Case("latest --overwrite --yes", 4, 4, changes=True),
        Case("latest --overwrite", 4, 4, 2),
        Case("latest", 4, 4, 5),
    ],
    "store check": [Case("--full")],
    "store path": [Case(absent=0)],
    "store vacuum": [Case()],
    "store migrate": [Case()],
    "store sql": [Case("@{sql}")],
    "config path": [Case(absent=0)],
    "config list": [Case("--origin", absent=0)],
    "config get": [Case("tenant", absent=0)],
    "config set": [Case("tenant acme", absent=0)],
    "config unset": [Case("tenant", absent=0)],
    "schema": [Case("memory query", absent=0), Case(absent=0)],
    "completion": [Case("bash", absent=0)],
    "man": [Case("pool", absent=0)],
    "help": [Case("pool push", absent=0)],
}  # fmt: skip
"""Every command, but those of `ELSEWHERE`."""
ELSEWHERE = {
    "demo": "test_demo.py",
    "hub start": "test_contract_processes.py",
    "agent spawn": "test_contract_processes.py",
}
"""What runs a hub or an agent, and where it is tried."""

UNSTARTED = {"demo": "--seconds 0", "hub start": "--tls-cert without-its-key", "agent spawn": "--lifetime 0s"}
"""What these are refused for, if for nothing else."""
DOCUMENTED = {0, *(kind.exit for kind in errors.BY_CODE.values())}
OUTCOMES = {0, 3, 6, 8, 14}
"""Of these stdout carries the answer; any other code is an error."""
ALIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
HOMES_OWN = {"hub", "store", "restore", "backup", "config", "doctor", "schema", "completion", "man", "help", "init"}
"""What no hub is asked for."""
LIVE = {"top"}
"""On a terminal that can it goes on and on, colours or none."""
ASKED = {"token issue", "pool claim"}
"""What changes something, and is run for the sake of its answer: --quiet leaves that."""

TREE = [one for one in walk() if one.kind == "verb"]
VERBS = {" ".join(one.path): one for one in TREE}
TRIED = [(path, case) for path, cases in CASES.items() for case in cases]
each_case = pytest.mark.parametrize(
    ("path", "case"), TRIED, ids=[f"{path} {case.given}".strip() for path, case in TRIED]
)
CHECKED = {
    "N": ("x", "1.5", ""),
    "--latency-ms": ("x", "-1", "nan"),
    "DUR": ("5", "-1s", "soon", "1h2h"),
    "R": ("2", "nan", "much"),
    "W": ("2", "-0.1"),
    "K=V": ("no pair",),
    "PATH=VALUE": ("no condition",),
    "ID": ("../x", "-x", "a b"),
    "A": ("../x",), "S": ("../x",), "P": ("../x",), "POOL": ("../x",), "TYPE": ("../x",),
    "JSON": ("{", "nonsense"),
    "DUR|auto": ("5",), "DUR|none": ("5", "0s"), "R|none": ("2",), "N|none": ("1.5",), "PATH=VALUE|none": ("no",),
    "SHARE%|N": ("200%", "x%"), "SIZE|none": ("5 apples",), "N/s|none": ("5/w",),
}  # fmt: skip
"""A flag, or a value's name in the usage line, and what is no such value."""
FREE_IDS = {"memory store --id"}
"""Ids of episodes and items are any printable text."""
ANY_BYTES = {"DIR", "FILE", "F", "TEXT"}
"""The system's names, and what a program said before it failed."""
NOT_UNICODE = "\udcff"
"""What the interpreter makes of an argument's byte that is not UTF-8."""

each_verb = pytest.mark.parametrize("verb", TREE, ids=list(VERBS))


class Homes(NamedTuple):
    absent: Path
    empty: Path
    full: Path
    names: dict[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Homes:
    folder = tmp_path_factory.mktemp("homes")
    homes = Homes(folder / "absent", folder / "empty", folder / "full", {})
    make_empty(homes.empty)
    homes.names.update(make_full(homes.full))
    return homes


class Trial:
    """Runs a command as its case says, each time on a copy of a home where it changes something."""

    def __init__(self, made: Homes, folder: Path, path: str, case: Case) -> None:
        self._made, self._folder, self._path, self.case = made, folder, path, case
        self._number = 0
        self._homes: dict[str, Path] = {}

    def __call__(self, kind: str, *flags: str, **options: object) -> Said:
        home = self.home(kind)
        (self._folder / "statement.sql").write_text("SELECT task, x'00ff' AS bytes FROM episodes")
        given = (
            self.case.given.format_map(
                self._made.names | {"new": self._folder / f"new{self._number}", "sql": self._folder / "statement.sql"}
            )
            if '{"' not in self.case.given
            else self.case.given
        )
        command, dashes, rest = given.partition("-- ")
        argv = [*self._path.split(), *command.split(), *flags, *([dashes.strip()] if dashes else []), *rest.split()]
        said = fedctl(home, argv, stdin=self.case.stdin, **options)
        expected = getattr(self.case, kind)
        assert said.code in DOCUMENTED, said
        if flags[:1] != ("--fields",) and "tsv" not in flags:
            assert said.code == expected or (expected is ... and said.code in (0, 14)), said
        assert not said.err or said.err.endswith("\n")
        assert ALIVE.search(said.out + said.err) is None, (argv, said)
        assert "unexpected" not in said.err, said
        return said

    def home(self, kind: str) -> Path:
        self._number += 1
        if self.case.changes or kind not in self._homes:
            self._homes[kind] = self._folder / f"{kind}{self._number}"
            if kind != "absent":
                copy(getattr(self._made, kind), self._homes[kind])
        return self._homes[kind]


@pytest.fixture
def trial(made, tmp_path, path, case) -> Trial:
    return Trial(made, tmp_path, path, case)


def test_every_command_is_tried_here():
    assert set(VERBS) == set(CASES) | set(ELSEWHERE)


@functools.cache
def validator(path: str, part: str) -> jsonschema.Draft202012Validator | None:
    """Return what holds an answer, or a line of one, to the schema of its command; None: it is text."""
    schema = schema_of(path, closed=True)
    if schema["x-form"] == "text" and part not in schema.get("x-lines", {}):
        return None
    of_part = schema if part == "--json" else schema.get("x-lines", {}).get(part) or schema.get("x-jsonl", schema)
    return jsonschema.Draft202012Validator({"$defs": schema.get("$defs", {}), **of_part})


def documents(said: Said, path: str, case: Case, form: str) -> list[Any]:
    """Return the JSON of an answer, which is all of stdout, each document as its schema has it."""
    part = "--batch" if "--batch" in case.given else "-" if case.lines else form
    valid = validator(path, part)
    if valid is None or not said.out:
        return []
    assert said.out.endswith("\n")
    texts = said.out.removesuffix("\n").split("\n") if case.lines or form == "--jsonl" else [said.out]
    found = [json.loads(text) for text in texts]
    for document in found:
        valid.validate(document)
    return found


def check_error(said: Said) -> None:
    assert said.out == "", said
    assert set(said.error) == {"code", "exit", "message", "hint", "retryable", "details"}
    assert said.error["exit"] == said.code
    assert errors.BY_CODE[said.error["code"]].exit == said.code


@each_case
def test_json_is_alone_on_stdout_and_the_exit_code_is_the_one_that_is_documented(trial, path, case):
    for kind, form in (("absent", "--json"), ("empty", "--jsonl"), ("full", "--json"), ("full", "--jsonl")):
        said = trial(kind, form)
        if said.code in OUTCOMES and (said.out or said.code != 8):
            documents(said, path, case, form)
            assert '"error":{' not in said.err
        elif case.partly and kind == "full":
            documents(said, path, case, form)
            check_error(said._replace(out=""))
        else:
            check_error(said)


@pytest.fixture(scope="module")
def hubs_home(made, tmp_path_factory):
    home = copy(made.full, tmp_path_factory.mktemp("hub") / "home")
    started = fedctl(home, ["hub", "start", "--detach", "--port", "0", "--http-port", "0"])
    assert started.code == 0, started
    yield home
    assert fedctl(home, ["hub", "stop", "-q"]).code == 0


def test_a_hub_on_the_home_answers_the_same(made, hubs_home):
    for path, case in TRIED:
        if case.changes or case.full in (7, 8) or path.split()[0] in HOMES_OWN:
            continue
        words = [*path.split(), *case.given.format_map(made.names).split()]
        said = fedctl(hubs_home, [*words, "--json"], stdin=case.stdin)
        assert said.code == case.full, said
        assert ALIVE.search(said.out + said.err) is None, said
        if said.code not in OUTCOMES and not case.partly:
            check_error(said)
        else:
            documents(said, path, case, "--json")


@each_case
def test_no_form_lets_stored_text_act_on_whatever_it_is_shown_on(trial, path, case):
    trial("full", "--ids")
    assert trial("full", "--format", "tsv").code in (case.full, 0, 14, 2)
    trial("full", terminal=True, COLUMNS="100", TERM="dumb")
    if not (case.changes or path in LIVE):
        trial("full", terminal=True, COLUMNS="100", TERM="xterm-256color", NO_COLOR="1")


@each_case
def test_quiet_success_is_silent_but_for_the_answer_asked_for(trial, case, path):
    said = trial("full", "-q")
    if said.code == 0:
        assert said.err == ""
        assert said.out == "" or not case.changes or path in ASKED
    elif said.code not in OUTCOMES:
        assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("path", "case"), [(path, cases[0]) for path, cases in CASES.items() if cases[0].full not in (2, 4, 5, 7)]
)
def test_only_the_fields_asked_for_are_answered(trial, case, path):
    asked = VERBS[path].verb.reply.fields[::-1]
    if not asked:
        assert trial("full", "--fields", "id").code == 2
        return
    said = trial("full", "--fields", ",".join(asked), "--jsonl")
    if case.lines:
        assert (said.code, said.out) == (2, "")
        return
    assert said.code == case.full or case.full is ...
    for line in said.out.removesuffix("\n").split("\n") if said.out else ():
        assert tuple(json.loads(line)) == asked
    assert tuple(trial("full", "--fields", "help").out.split()) == asked[::-1]
    slip = trial("absent", "--fields", f"{asked[0]}x", "--json")
    check_error(slip)
    assert slip.error["hint"] == f"did you mean {asked[0]}?"


def started(verb: Described, without: str = "") -> list[str]:
    """Return a command line of the verb, up to the end of what its first case gives it that is not that flag."""
    path = " ".join(verb.path)
    given = CASES[path][0].given if path in CASES else UNSTARTED[path]
    return [
        *verb.path,
        *re.sub(rf"{without} \S+" if without else "$^", "", given)
        .replace("@{sql}", "x")
        .replace("{token}", "t")
        .split(),
    ]


@each_verb
def test_a_usage_error_is_told_as_json_with_its_flag_and_touches_nothing(tmp_path, verb):
    home = tmp_path / "home"

    def refused(*argv: str) -> str:
        said = fedctl(home, ["--json", *argv])
        assert said.code == 2, (argv, said)
        check_error(said)
        assert said.err.isprintable() or said.err[:-1].isprintable(), said.err
        return said.error["message"]

    assert "--no-such-flag" in refused(*verb.path, "--no-such-flag")
    if any(argument.required for argument in verb.arguments):
        assert "missing argument" in refused(*verb.path)
    for option in verb.options:
        flag = option.spellings[-1]
        if not option.takes_value:
            assert flag in refused(*verb.path, f"{flag}=x")
            continue
        bad = ("bogus",) if option.closed else () if f"{verb.name[7:]} {flag}" in FREE_IDS else CHECKED.get(
            flag if flag in CHECKED else option.metavar, ("bogus",) if flag in ("--since", "--until", "--at") else ()
        )  # fmt: skip
        for value in (*bad, *(() if option.metavar in ANY_BYTES else (NOT_UNICODE,))):
            words = [value, "1"] if option.metavar == "POOL JSON" else [value]
            message = refused(*verb.path, flag, *words, *started(verb, flag)[len(verb.path) :])
            assert flag in message, (flag, value, message)
        assert flag in refused(*verb.path, flag)
    assert not home.exists()


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal_and_leaves_no_option_unexplained(tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for one in (one for one in walk() if one.kind != "alias"):
        said = fedctl(tmp_path, [*one.path, "--help"])
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith(f"Usage: {one.name}")
        assert ALIVE.search(said.out) is None
        wide = [line for line in said.out.splitlines() if len(line) > columns and line.strip() not in one.examples]
        assert [line for line in wide if "The global options" not in line] == [], one.name
        assert all(option.says.strip(" .") for option in (*one.options, *one.arguments)), one.name
        assert one.kind in ("root", "noun") or one.examples, one.name
