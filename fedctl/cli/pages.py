"""What the manual says: a page for the whole, one for each noun, one for settings and one for exit codes.

All of it is said in the command tree, the settings and the errors; only what none of them says is written here.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import TYPE_CHECKING

from fedctl import config, errors
from fedctl.cli import tree
from fedctl.cli.roff import Block, Command, Lines, Page, Prose, Section, Synopsis, Term

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fedctl.cli.tree import Described, Option

PROGRAM = tree.PROGRAM
DEFAULT_HOME = "~/.local/share/fedctl (macOS: ~/Library/Application Support/fedctl)"

MEANINGS = {
    "home": "The directory with the store, the keys, the backups and config.toml. Commands that write make it.",
    "hub": "Whom to ask. `auto`: the hub that runs on this home, else the home itself; `off`: the home itself; any "
    "other is a hub's address: ws://HOST:PORT, wss://HOST:PORT or unix:PATH.",
    "tenant": "Whose memory, pools and workers. With a token the tenant is the token's.",
    "token_file": "A file that holds the token for a hub. It is read at each connection, and may be renewed meanwhile.",
    "tls_ca": "Trust the authorities in this PEM file with wss://, and no others.",
    "client_cert": "The certificate to show to a hub that asks for one (PEM).",
    "client_key": "The key of client_cert (PEM).",
    "timeout": "The time limit of one request: a duration. Commands that take their time have none.",
    "format": "The form of answers: `table`, `json`, `jsonl`, `tsv` or `ids`.",
    "color": "Colour in tables: `auto` (on a terminal), `always` or `never`.",
    "model": "The folder of an ONNX embedding model, in the place of the one on board.",
    "debug_level": "What the debug stream says: `silent`; `basic`, beginnings, ends, refusals and errors; `detailed`, "
    "each operation with its duration_ms; `verbose`, what happens by itself; `trace`, each change of a state. Tokens, "
    "keys and what is in episodes and items never appear.",
    "debug_format": "The form of the debug stream: `human`, `json` or `compact`.",
    "debug_output": "Where the debug stream goes: `console` (stderr), `file` or `both`.",
    "debug_file": "The file of the debug stream, where debug_output names one.",
}
"""What each setting means; a setting without a line here is a mistake that a test finds."""

DEFAULTS = {"home": DEFAULT_HOME, "debug_level": "basic for hubs and agents, else silent"}
"""The defaults that depend on something; the others are those of `Settings`."""

VARIABLES = {
    "FEDCTL_CONFIG": "A file of settings, before the home's own; what --config names.",
    "FEDCTL_TOKEN": "The token for a hub itself, where --token-file names no file.",
    "FEDCTL_DEBUG": "Set to anything: an error shows where it happened.",
    "NO_COLOR": "Set to anything: no colour.",
    "FORCE_COLOR": "Set to anything but 0 or false: colour, also where stdout is no terminal.",
    "FEDCTL_WORKER": "The worker that `pool claim` claims for, where --worker names none. `pool work` sets it for CMD.",
    "FEDCTL_LEASE_ID": "The lease that an item is held by, where --lease-id names none. `pool work` sets it for CMD.",
    "FEDCTL_ITEM_ID": "Set by `pool work` for CMD: the item's id.",
    "FEDCTL_POOL": "Set by `pool work` for CMD: the item's pool.",
    "FEDCTL_ATTEMPT": "Set by `pool work` for CMD: how many times the item was claimed, this one included.",
    "FEDCTL_AGENT_ID": "Set by `agent spawn` for CMD: the agent that it works for. `agent note` notes for that one.",
}
"""The variables that are no setting's."""

FILES = {
    "config.toml": "The settings of this home.",
    "store.db": "The store: an SQLite database, with store.db-wal and store.db-shm while it is in use.",
    "index/": "The search index. It is made anew from the store where it is missing.",
    "keys/": "The keys that sign tokens and backups. Keep them secret.",
    "backups/": "The backups, unless `backup create` names another folder.",
    "tls/": "The authority, the certificate and the key that `hub cert` made.",
    "hub.sock, hub.json, hub.lock": "The socket of the hub that runs on this home, where it listens, and its lock.",
    "hub.log": "What a hub that was started with --detach says.",
}
"""What lies in a home."""

FILES_OF = {
    "backup": ("backups/", "keys/"),
    "config": ("config.toml",),
    "hub": ("hub.sock, hub.json, hub.lock", "hub.log", "tls/"),
    "init": ("config.toml", "store.db", "keys/"),
    "store": ("store.db", "index/"),
    "token": ("keys/",),
}
"""Those that a command's page speaks of."""

VALUES = {
    "duration": "`90d`, `12h`, `1h30m`, `45s`, `250ms`, `2w`, or ISO 8601: `P90D`, `PT12H`. `m` is minutes. A bare "
    "number is refused.",
    "time": "`2026-01-31T12:00:00Z`, `2026-01-31`, `now`, or relative to now: --since 7d is 7 days ago, --at +3h is "
    "in 3 hours.",
    "name": "Of a tenant, pool, worker, agent or session: 1 to 128 characters of `A-Za-z0-9._:-`, the first neither a "
    "dot nor a hyphen.",
    "value": "A literal; `-` for stdin; `@FILE` for what a file holds; `@@x` for the literal `@x`.",
}
"""The grammar of what options and arguments take."""

SIGNALS = {
    130: ("SIGINT", "It was interrupted: Ctrl-C."),
    141: ("SIGPIPE", "Nobody read the answer any more: `fedctl memory list | head -1`. Nothing is said."),
    143: ("SIGTERM", "It was asked to end."),
}
OK = ("ok", "It was done. A list may be empty.", "")

_VARIABLE = re.compile(r"\b(?:FEDCTL|DEBUG|NO|FORCE)_[A-Z_]+\b")


def names() -> list[str]:
    """Return what `fedctl man` calls the pages: `fedctl`, `memory`, `config`, ..., `config.5`, `exit-codes`."""
    return [PROGRAM, *(one.path[0] for one in tree.walk() if len(one.path) == 1), "config.5", "exit-codes"]


@functools.cache
def pages() -> dict[str, Page]:
    """Return all pages by their names."""
    commands = [one for one in tree.walk() if one.kind != "alias"]
    tops = [one for one in commands if len(one.path) == 1]
    made = [
        _whole(commands[0], tops),
        *(_of_top(top, [one for one in commands if one.path[:1] == top.path and one.verb]) for top in tops),
        _settings(),
        _exit_codes(),
    ]
    return dict(zip(names(), made, strict=True))


def find(words: Sequence[str]) -> Page:
    """Return the page that `words` name: `memory`, `fedctl-memory`, `config.5`, `memory query`; none: the whole's.

    Raises:
        UsageError: There is none of that name.
    """
    known = pages()
    name = "-".join(words).removeprefix(f"{PROGRAM}-") or PROGRAM
    if name in known:
        return known[name]
    stem, _, section = name.rpartition(".")
    if stem in known and str(known[stem].section) == section:
        return known[stem]
    page_of = {"-".join(one.path): one.path[0] for one in tree.walk() if one.path}
    if name in page_of:
        return known[page_of[name]]
    hint = config.did_you_mean(name, [*known, *page_of]) or f"the pages are {', '.join(known)}"
    raise errors.UsageError(f"there is no page {' '.join(words)!r}", hint=hint)


# -- the pages ----------------------------------------------------------------------------------------------------


def _whole(root: Described, tops: Sequence[Described]) -> Page:
    return _page(
        PROGRAM,
        1,
        root.says,
        [
            (PROGRAM, "[OPTIONS] COMMAND [ARGUMENTS]"),
            (f"{PROGRAM} COMMAND --help", ""),
            (f"{PROGRAM} man", "[PAGE]"),
        ],
        [
            Prose(
                "What agents learn is kept as episodes: what was to be done, what came of it, what it was worth, and "
                "what to do better. They are found again by meaning and by words. Work is handed out once by pools, "
                "and comes back when a worker dies."
            ),
            Prose(
                "Commands work on a home, a directory of one's own; no service is needed. Where a hub runs on that "
                "home they go through it by themselves. --hub addresses a hub elsewhere."
            ),
            Prose(f"`{PROGRAM} init` makes a home, `{PROGRAM} status` shows what there is and what to do next."),
            Section("COMMANDS"),
            Prose("Each has a page of its own, fedctl-COMMAND(1)."),
            *(Term((" ".join(top.path),), "", top.says) for top in tops),
            Section("OPTIONS"),
            Prose("All commands take these, before and after their names. The one nearest to the command wins."),
            *map(_term, tree.global_()),
            Section("OUTPUT"),
            Prose(
                "The answer goes to stdout and all else to stderr. On a terminal it is a table or a block, elsewhere "
                "the same as tab-separated text. --json writes one document, an array for a list and an object for "
                "one thing; --jsonl one object a line; --ids the ids alone. JSON only ever gains fields."
            ),
            Section("VALUES"),
            *(Term((name,), "", text) for name, text in VALUES.items()),
            Section("EXAMPLES"),
            Lines(
                (
                    'fedctl memory store --task "fix the login test" --output "mocked the clock" --reward 0.9',
                    'fedctl memory query "a test that sometimes hangs" --json | jq -r ".[0].output"',
                    """fedctl pool push builds '{"repo": "api"}'""",
                    "fedctl pool work builds --until-empty -- ./build.sh {data.repo}",
                )
            ),
            Section("ENVIRONMENT"),
            *_variables([*_of_settings(), *VARIABLES]),
            Section("FILES"),
            Prose("In the home:"),
            *(Term((name,), "", text) for name, text in FILES.items()),
        ],
        [
            *(_see(top.path[0], 1) for top in tops),
            _see("config", 5),
            _see("exit-codes", 7),
        ],
    )


def _of_top(top: Described, verbs: Sequence[Described]) -> Page:
    """Return the page of a noun with its verbs, or of a verb that stands alone."""
    alone = top.verb is not None
    aliases: dict[tuple[str, ...], list[str]] = {}
    for path, of in tree.aliases().items():
        aliases.setdefault(of, []).append(" ".join((PROGRAM, *path)))
    blocks: list[Block] = [Prose(top.says), *_paragraphs(top)]
    if not alone:
        if top.stands_for:
            blocks += [Prose(f"Alone it is `{' '.join((PROGRAM, *top.stands_for))}`.")]
        blocks += [Section("COMMANDS")]
        for verb in verbs:
            blocks += [Command(verb.name, _rest(verb)), Prose(verb.says), *_told(verb)]
            blocks += [Prose(f"`{alias}` is another name of it.") for alias in aliases.get(verb.path, ())]
    blocks += [
        Section("OPTIONS"),
        *(_terms(top) if alone else ()),
        Prose(f"The options that all commands take (--home, --tenant, --json, --fields...) are in {_see('', 1)}."),
        Section("EXAMPLES"),
    ]
    for verb in verbs:
        if verb.examples:
            blocks += [*([] if alone else [Prose(verb.says)]), Lines(verb.examples)]
    named = _named(block for verb in verbs for block in (Prose(verb.says), *_told(verb)))
    blocks += [
        Section("ENVIRONMENT"),
        *_variables(named),
        Prose(f"{'Others, and all settings' if named else 'Settings'}: {_see('config', 5)}."),
    ]
    if top.path[0] in FILES_OF:
        blocks += [Section("FILES"), Prose("In the home:")]
        blocks += [Term((name,), "", FILES[name]) for name in FILES_OF[top.path[0]]]
    blocks += [
        Section("EXIT STATUS"),
        Prose(f"0 when it was done; what the others mean, and what to do then, is in {_see('exit-codes', 7)}."),
    ]
    synopsis = [(verb.name, _rest(verb)) for verb in verbs]
    return _page(f"{PROGRAM}-{top.path[0]}", 1, top.says, synopsis, blocks, [_see("", 1)])


def _settings() -> Page:
    shown = {key: value for key, value, _ in config.Settings(home=DEFAULT_HOME).pairs()} | DEFAULTS  # type: ignore[arg-type]
    flags = {spelling for option in tree.global_() for spelling in option.spellings}
    blocks: list[Block] = [
        Prose(
            "A setting is taken from the first of these that has it: a flag; the environment; the file named by "
            "--config or FEDCTL_CONFIG; config.toml in the home; its default. `fedctl config list --origin` says "
            "which one it was."
        ),
        Prose(
            'The files are TOML, and every value is a text: key = "value". A key that is unknown is an error. '
            "`fedctl config set KEY VALUE` writes config.toml and keeps its comments, `fedctl config unset KEY` takes "
            "one out. A token is never a setting."
        ),
        Section("SETTINGS"),
    ]
    for key, known in config.KEYS.items():
        flag = f"--{key.replace('_', '-')}"
        ways = [f"Flag: {flag}."] if flag in flags else []
        ways += [f"Environment: {name}." for name in known.environment]
        default = f"Default: {shown[key] or 'none'}."
        blocks += [Term((key,), "", " ".join((MEANINGS[key], *ways, default)))]
    blocks += [
        Section("ENVIRONMENT"),
        Prose("Besides those above. A variable that is empty counts as unset."),
        *_variables(VARIABLES),
        Section("FILES"),
        Term((f"{DEFAULT_HOME.partition(' ')[0]}/config.toml",), "", "The settings of the default home."),
        Section("EXAMPLES"),
        Lines(
            ('tenant = "acme"', 'timeout = "1m"', 'hub = "wss://hub.example:8443"', 'token_file = "~/.fedctl-token"')
        ),
    ]
    see = [_see("", 1), _see("config", 1), _see("exit-codes", 7)]
    return _page(f"{PROGRAM}-config", 5, "the settings of fedctl, and where they come from", [], blocks, see)


def _exit_codes() -> Page:
    blocks: list[Block] = [
        Prose(
            "An error is one to three lines on stderr: what went wrong, and what to do about it. With --json or "
            "--jsonl it is one JSON line there, and stdout stays empty:"
        ),
        Lines(('{"error": {"code", "exit", "message", "hint", "retryable", "details"}}',)),
        Prose("3, 6, 14, and 8 of a wait that ran out, are outcomes: the answer is on stdout all the same."),
        Section("EXIT STATUS"),
    ]
    told: dict[int, tuple[str, str, str]] = {0: OK}
    for kind in errors.BY_CODE.values():
        when = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
        told[kind.exit] = (kind.code, when, kind.remedy)
    told |= {number: (name, when, "") for number, (name, when) in SIGNALS.items()}
    blocks += [
        Term((f"{number} {name}",), "", f"{when} {remedy}".strip()) for number, (name, when, remedy) in told.items()
    ]
    blocks += [
        Section("EXAMPLES"),
        Prose("A script that tells an empty pool from a hub that is away:"),
        Lines(
            (
                "item=$(fedctl pool claim builds --worker w1 --json) || code=$?",
                "case ${code:-0} in",
                '0) work_on "$item" ;;',
                "6) exit 0 ;;                      # nothing to do",
                '7) sleep 5 && exec "$0" ;;        # safe to try again',
                '*) exit "$code" ;;',
                "esac",
            )
        ),
    ]
    return _page(f"{PROGRAM}-exit-codes", 7, "how fedctl ends, and what to do then", [], blocks, [_see("", 1)])


# -- their parts --------------------------------------------------------------------------------------------------


def _page(
    name: str, section: int, says: str, synopsis: Sequence[tuple[str, str]], blocks: Sequence[Block], see: Sequence[str]
) -> Page:
    says = says.rstrip(".")
    return Page(
        name,
        section,
        says,
        (
            Section("NAME"),
            Prose(f"{name} - {says}"),
            *((Section("SYNOPSIS"), Synopsis(tuple(synopsis))) if synopsis else ()),
            Section("DESCRIPTION"),
            *blocks,
            Section("SEE ALSO"),
            Prose(", ".join(see)),
        ),
    )


def _see(page: str, section: int) -> str:
    return f"{PROGRAM}-{page}({section})" if page else f"{PROGRAM}({section})"


def _rest(verb: Described) -> str:
    return " ".join((*(["[OPTIONS]"] if verb.options else []), *(one.metavar for one in verb.arguments)))


def _told(verb: Described) -> Iterator[Block]:
    """Yield what there is to say about a verb beyond its one line: its text, its arguments and its options."""
    yield from _paragraphs(verb)
    yield from _terms(verb)


def _paragraphs(one: Described) -> Iterator[Prose]:
    for paragraph in one.text.split("\n\n"):
        if paragraph:
            yield Prose(paragraph)


def _terms(verb: Described) -> Iterator[Term]:
    for argument in verb.arguments:
        if argument.says:
            yield Term((argument.metavar,), "", argument.says)
    yield from map(_term, verb.options)


def _term(option: Option) -> Term:
    many = " Repeatable." if option.repeatable and "epeatable" not in option.says else ""
    return Term((*option.spellings, *option.negations), option.metavar or "", option.says + many)


def _named(blocks: Iterable[Block]) -> list[str]:
    """Return the variables that these blocks speak of, each once."""
    found = (name for block in blocks if isinstance(block, Prose | Term) for name in _VARIABLE.findall(block.text))
    return list(dict.fromkeys(found))


def _of_settings() -> list[str]:
    return [name for key in config.KEYS.values() for name in key.environment]


def _variables(names: Iterable[str]) -> Iterator[Term]:
    keys = {name: key for key, known in config.KEYS.items() for name in known.environment}
    for name in names:
        key = keys.get(name)
        yield Term((name,), "", VARIABLES[name] if key is None else f"{MEANINGS[key]} Setting: {key}.")
