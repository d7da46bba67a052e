"""The frame: global options, help, errors, exit codes."""

from __future__ import annotations

import json
import re

import pytest

from fedctl import errors
from fedctl.cli.command import Group, Root, Session
from fedctl.cli.main import COMMANDS

GLOBAL = {
    "--home", "--hub", "--tenant", "--token-file", "--tls-ca", "--client-cert", "--client-key", "--config", "--format",
    "--json", "--jsonl", "--ids", "--fields", "-q", "--quiet", "-v", "--verbose", "--debug-level", "--debug-format",
    "--debug-category", "--debug-agent", "--debug-output", "--debug-file", "--color", "--timeout", "-h", "--help",
    "-V", "--version",
}  # fmt: skip
FILTERS = {"--min-reward", "--since", "--until", "--agent", "--session", "--task", "--where"}
CRON = {"--lock-wait", "--max-time", "--ping-url-file"}
KEEP = {"--keep-last", "--keep-hourly", "--keep-daily", "--keep-weekly", "--keep-monthly", "--keep-yearly"}
CONTRACT: dict[str, set[str]] = {
    "init": set(),
    "status": set(),
    "doctor": {"--fix", "-n", "--dry-run"},
    "top": {"--every"},
    "demo": {"--seconds", "--path", "--keep"},
    "hub start": {
        "--host", "--port", "--http-port", "--max-agents", "--tls-cert", "--tls-key", "--tls-client-ca",
        "--max-connections", "--max-strangers", "--allow-host", "--allow-origin", "--insecure", "--detach",
        "--retention-every",
    },
    "hub stop": set(),
    "hub status": {"--wait"},
    "hub stats": {"--watch"},
    "hub events": {"--follow", "--since", "--type", "--all-tenants"},
    "hub cert": {"--out", "--name", "--ttl", "--renew"},
    "backup create": {"--with-keys", "--passphrase-file", "--prune", *KEEP, *CRON},
    "backup list": set(),
    "backup show": set(),
    "backup verify": {"--restore-test", "--passphrase-file", "--signed-by", *CRON},
    "backup prune": {"-n", "--dry-run", *KEEP, *CRON},
    "retention set": {
        "--max-age", "--min-reward", "--max-episodes", "--keep-last", "--keep-success", "--keep-where",
        "--items-max-age", "--events-max-age", "--agents-max-age",
    },
    "retention show": set(),
    "retention prune": {"--max-delete", "--all-tenants", "-n", "--dry-run", *CRON},
    "retention explain": set(),
    "tenant list": set(),
    "tenant show": set(),
    "tenant erase": {"-y", "--yes", "-n", "--dry-run"},
    "tenant set": {"--max-episodes", "--max-bytes", "--rate"},
    "token rotate-key": {"--grace"},
    "token issue": {"--agent", "--role", "--ttl", "--out"},
    "token list": set(),
    "token revoke": set(),
    "agent spawn": {"--id", "--type", "--lifetime", "--sync-interval", "--pull", "--pull-limit", "--embed",
                    "--undelivered"},
    "agent list": {"--watch", "--status"},
    "agent show": set(),
    "agent stop": set(),
    "agent note": {"--kind", "--data", "--agent"},
    "agent timeline": {"--limit"},
    "worker register": {"--pool", "--capability", "--heartbeat-interval", "--meta"},
    "worker heartbeat": {"--every", "--meta", "--extend-leases"},
    "worker list": {"--status", "--stale", "--capability", "--pool", "--limit"},
    "worker show": set(),
    "worker status": set(),
    "worker reap": set(),
    "pool push": {"--max-retries", "--priority", "--delay", "--at", "--key", "--requires", "--batch"},
    "pool claim": {"--worker", "--count", "--lease", "--wait"},
    "pool complete": {"--lease-id", "--result", "--then-push", "--episode", "--batch"},
    "pool fail": {"--lease-id", "--error", "--retry-in", "--batch"},
    "pool extend": {"--lease-id", "--lease", "--batch"},
    "pool release": {"--lease-id", "--worker", "--batch"},
    "pool work": {
        "-j", "--jobs", "--worker", "--capability", "--lease", "--until-empty", "--once", "--max-items",
        "--time-limit", "--grace",
    },
    "pool list": {"--limit"},
    "pool show": set(),
    "pool size": set(),
    "pool items": {"--status", "--limit"},
    "pool item": set(),
    "pool wait": {"--timeout"},
    "pool retry": {"--poisoned"},
    "pool purge": {"--status", "-y", "--yes", "-n", "--dry-run"},
    "pool pause": set(),
    "pool resume": set(),
    "memory store": {
        "--task", "--input", "--output", "--reward", "--critique", "--success", "--session", "--agent", "--tokens-used",
        "--latency-ms", "--meta", "--id", "--batch",
    },
    "memory query": {"-k", "--mode", "--reward-weight", "--fresh", "--explain", *FILTERS},
    "memory get": set(),
    "memory list": {"--limit", "--pinned", *FILTERS},
    "memory delete": {"--hard", "-y", "--yes", "-n", "--dry-run", *FILTERS},
    "memory pin": set(),
    "memory unpin": set(),
    "memory import": {"--from", "--table", "--on-conflict", "--rejects", "--no-embed"},
    "memory export": {"--with-vectors"},
    "memory stats": set(),
    "memory reindex": {"--model"},
    "restore": {
        "--to", "--overwrite", "--passphrase-file", "--signed-by", "--lock-wait", "-y", "--yes", "-n", "--dry-run",
    },
    "store check": {"--full"},
    "store path": set(),
    "store vacuum": {"--lock-wait"},
    "store migrate": {"--lock-wait"},
    "store sql": {"--limit"},
    "config path": set(),
    "config list": {"--origin"},
    "config get": set(),
    "config set": set(),
    "config unset": set(),
    "schema": set(),
    "completion": {"--install"},
    "man": set(),
    "help": set(),
}  # fmt: skip


def leaves(group: Group, ctx, path: str = ""):
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, Group):
            yield from leaves(command, ctx, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


@pytest.fixture
def context():
    session = Session(stdin=None, stdout=None, stderr=None, environ={})
    return Root(COMMANDS).make_context("fedctl", [], obj=session)


def test_the_command_tree_is_the_contract(context):
    found = {
        path: {spelling for param in command.get_params(context) for spelling in param.opts if spelling[0] == "-"}
        for path, command in leaves(context.command, context)
    }
    assert found == {path: flags | GLOBAL for path, flags in CONTRACT.items()}


def test_every_command_has_a_line_of_help_and_an_example_that_parses(context):
    for path, command in leaves(context.command, context):
        first = (command.help or "").splitlines()[0]
        assert first.endswith("."), path
        assert command.epilog, path
        for example in command.epilog.splitlines():
            assert f"fedctl {path}" in example or "fedctl --home" in example or "$(" in example, example


@pytest.mark.parametrize("path", ["", *CONTRACT])
def test_help_is_to_be_had_everywhere(fedctl, path):
    for flag in ("-h", "--help"):
        result = fedctl(*path.split(), flag)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("Usage: fedctl")
        assert max(len(line) for line in result.out.splitlines() if not line.startswith("  fedctl")) <= 100


@pytest.mark.parametrize("path", ["", "memory", "pool push", "top"])
def test_help_of_a_command_is_what_its_own_flag_says(fedctl, path):
    words = path.split()
    assert fedctl("help", *words).out == fedctl(*words, "--help").out != ""


def test_a_noun_alone_shows_its_verbs(fedctl):
    for noun in ("memory", "hub", "agent", "worker", "pool", "token", "store", "config"):
        result = fedctl(noun)
        assert result.code == 0
        assert "Commands:" in result.out
    assert "memory" in fedctl().out


def test_ls_is_list(fedctl):
    fedctl.store("one")
    assert fedctl("memory", "ls", "--json").json == fedctl("memory", "list", "--json").json


def test_global_options_stand_anywhere_and_the_nearest_wins(fedctl):
    fedctl.store("a", "--tenant", "a")
    fedctl.store("b", "--tenant", "b")
    for argv in (
        ["--tenant", "b", "--json", "memory", "list"],
        ["memory", "--tenant", "b", "--json", "list"],
        ["memory", "list", "--tenant", "b", "--json"],
        ["--tenant", "a", "--format", "ids", "memory", "--tenant", "a", "list", "--json", "--tenant=b"],
    ):
        assert [episode["task"] for episode in fedctl(*argv).json] == ["b"], argv


def test_what_follows_two_dashes_is_never_an_option(fedctl):
    fedctl.store("x")
    result = fedctl("memory", "query", "--mode", "keyword", "--", "--json")
    assert result.code == 0
    assert result.out.startswith("rank\t")


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["memroy"], "did you mean memory?"),
        (["memory", "stroe"], "did you mean store?"),
        (["query"], "did you mean 'memory query'?"),
        (["memory", "store", "--taks", "x"], "did you mean --task?"),
        (["memory", "list", "--fields", "taks"], "did you mean task?"),
        (["--format", "jsn", "status"], "did you mean json?"),
        (["config", "get", "tennant"], "did you mean tenant?"),
        (["config", "unset", "tennant"], "did you mean tenant?"),
        (["version"], "did you mean --version?"),
        (["help", "memroy"], "did you mean memory?"),
        (["memory", "list", "--limit", "abc"], "is not a whole number"),
    ],
)
def test_a_slip_of_the_finger_gets_a_hint(fedctl, argv, hint):
    result = fedctl(*argv)
    assert (result.code, result.out) == (2, "")
    assert hint in result.err


@pytest.mark.parametrize(
    "argv",
    [
        ["memory", "bogus", "--json"],
        ["--json", "bogus"],
        ["memory", "list", "--bogus", "--json"],
        ["memory", "list", "--limit", "x", "--format=json"],
        ["memory", "list", "--limit", "x", "--format", "jsonl"],
        ["memory", "get", "--jsonl"],
        ["memory", "list", "extra", "--json"],
        ["--json", "memory", "list", "--timeout", "5"],
        ["--json", "memory", "list", "--hub", "foo"],
        ["--json", "memory", "list", "--tenant", "../x"],
        ["--json", "-n", "memory", "list"],
        ["--json", "-y", "memory", "list"],
        ["--json", "hub", "start", "--tls-cert", "x"],
    ],
)
def test_usage_errors_are_one_json_line_where_json_was_asked_for(fedctl, argv):
    result = fedctl(*argv)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert set(result.error) == {"code", "exit", "message", "hint", "retryable", "details"}
    assert result.error["code"] == "usage"


def test_usage_errors_are_json_where_the_environment_or_the_config_asks_for_it(fedctl):
    assert fedctl("memory", "list", "--bogus", environ={"FEDCTL_FORMAT": "json"}).error["code"] == "usage"
    fedctl("config", "set", "format", "jsonl")
    assert fedctl("memory", "list").error["code"] == "no_store"


def test_errors_are_three_lines_at_most_and_no_traceback(fedctl):
    for argv in (["memory", "list"], ["memory", "get"], ["--hub", "ws://127.0.0.1:1", "memory", "list"]):
        result = fedctl(*argv)
        assert result.code in (2, 7, 10)
        assert 1 <= len(result.err.splitlines()) <= 3
        assert "Traceback" not in result.err


def test_an_unexpected_error_is_one_clear_line_and_the_traceback_is_for_who_asks(fedctl):
    def broken(_settings, *, writes):
        raise KeyError("what")

    result = fedctl("memory", "list", open_caller=broken)
    assert result.code == 1
    assert result.err.splitlines()[0] == "error: unexpected: KeyError: 'what'"
    assert "FEDCTL_DEBUG=1" in result.err
    traced = fedctl("memory", "list", open_caller=broken, environ={"FEDCTL_DEBUG": "1"})
    assert "Traceback" in traced.err


@pytest.mark.parametrize("kind", errors.BY_CODE.values())
def test_every_error_has_its_exit_code(fedctl, kind):
    def refuses(_settings, *, writes):
        raise kind("no", hint="do this", details={"n": 1})

    result = fedctl("memory", "list", "--json", open_caller=refuses)
    assert result.code == kind.exit
    assert result.error == kind("no", hint="do this", details={"n": 1}).as_dict()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied", "x"), 9),
        (OSError(30, "Read-only file system"), 9),
        (OSError(28, "No space left on device"), 15),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 1),
    ],
)
def test_errors_of_the_system_have_exit_codes_too(fedctl, error, code):
    def fails(_settings, *, writes):
        raise error

    assert fedctl("memory", "list", open_caller=fails).code == code


def test_a_question_of_yes_or_dry_run_is_refused_where_it_has_no_meaning(fedctl):
    for flag in ("-n", "--yes"):
        assert fedctl(flag, "memory", "store", "--task", "x").code == 2
    assert not fedctl.home.exists()


def test_the_version_is_one_line_and_with_json_that_of_everything(fedctl):
    for argv in (["--version"], ["-V"], ["memory", "-V"], ["memory", "list", "--version"]):
        assert re.fullmatch(r"fedctl \d+\.\d+\.\d+\n", fedctl(*argv).out)
    versions = fedctl("--version", "--json").json
    assert {"fedctl", "python", "sqlite", "schema", "protocol"} <= set(versions)


def test_fields_help_lists_what_can_be_asked_for(fedctl):
    result = fedctl("memory", "list", "--fields", "help")
    assert result.code == 0
    assert {"id", "task", "metadata", "seq"} <= set(result.out.split())
    assert fedctl("agent", "spawn", "--fields", "id").code == 2
    assert not fedctl.home.exists()


def test_an_unknown_debug_level_in_the_environment_warns_only(fedctl):
    result = fedctl("status", environ={"DEBUG_LEVEL": "loud"})
    assert result.code == 0
    assert result.err.startswith("warning: 'loud'")
    assert fedctl("status", "--debug-level", "loud").code == 2
    assert fedctl("status", "--debug-level", "BASIC").code == 0


def test_a_home_that_is_a_file_is_a_clear_error(fedctl, tmp_path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        for argv in (["memory", "list"], ["memory", "store", "--task", "x"], ["status"], ["init"]):
            result = fedctl("--home", str(home), *argv)
            assert result.code == 2
            assert str(home) in result.err


def test_verbose_says_who_is_asked(fedctl):
    fedctl.store("x")
    assert f"note: working on {fedctl.home} itself" in fedctl("-v", "memory", "stats").err


def test_json_errors_carry_text_safely(fedctl):
    result = fedctl("memory", "get", "\u202eevil", "--json")
    assert json.loads(result.err)["error"]["code"] == "usage"
    assert "\u202e" not in result.err


def test_an_error_of_the_parser_is_one_line_whatever_it_lists(fedctl):
    result = fedctl("agent", "note", "hi")
    assert result.code == 2
    assert result.err.splitlines()[0] == "error: missing option '--kind'. Choose from: task, step, decision, message"
    assert "\t" not in result.err


def test_the_kinds_of_events_are_listed_where_they_are_chosen(fedctl):
    shown = " ".join(fedctl("hub", "events", "--help").out.split())
    assert all(kind in shown for kind in ("episode_stored", "agent_note", "items_poisoned", "pool_resumed"))
