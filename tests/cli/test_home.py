"""init, status, store, config and token: the commands around the memory, without a hub."""

from __future__ import annotations

import stat

import pytest

from fedctl.model.hub import HubInfo


def test_init_makes_a_private_home_once(fedctl):
    first = fedctl("init", "--json")
    assert first.json == {"home": str(fedctl.home), "store": str(fedctl.home / "store.db"), "created": True}
    assert stat.S_IMODE(fedctl.home.stat().st_mode) == 0o700
    fedctl.store("x")
    again = fedctl("init", "--json")
    assert (again.code, again.json["created"]) == (0, False)
    assert fedctl("memory", "stats", "--json").json["episodes"] == 1


def test_status_works_from_the_beginning_and_says_what_to_do(fedctl):
    nothing = fedctl("status", "--json")
    assert nothing.code == 0
    assert nothing.json["store"] is None
    assert nothing.json["next"][0].startswith("fedctl memory store")
    assert "store\tnone\n" in fedctl("status").out
    assert not fedctl.home.exists()
    fedctl.store("x", "--tenant", "acme")
    status = fedctl("status", "--tenant", "acme", "--json").json
    assert (status["tenant"], status["episodes"], status["tenants"], status["hub"]) == ("acme", 1, 1, None)
    assert status["store"]["size_bytes"] > 0


def test_store_check_is_clean_on_a_fresh_store_and_path_needs_none(fedctl):
    assert fedctl("store", "path").out == f"{fedctl.home / 'store.db'}\n"
    assert fedctl("store", "path", "--json").json == {"path": str(fedctl.home / "store.db"), "exists": False}
    assert fedctl("store", "check").code == 10
    fedctl.store("x")
    for flags in ([], ["--full"]):
        result = fedctl("store", "check", "--json", *flags)
        assert (result.code, result.json["findings"], result.json["episodes"]) == (0, [], 1)


def test_a_damaged_database_is_reported_and_left_alone(fedctl):
    fedctl.store("x")
    damaged = b"this is no database at all" * 1000
    (fedctl.home / "store.db").write_bytes(damaged)
    for name in ("store.db-wal", "store.db-shm"):
        (fedctl.home / name).unlink(missing_ok=True)
    for argv in (["memory", "list"], ["memory", "store", "--task", "y"], ["store", "check"], ["init"]):
        result = fedctl(*argv, "--json")
        assert (result.code, result.out, result.error["code"]) == (13, "", "corrupt")
    assert (fedctl.home / "store.db").read_bytes() == damaged
    hint = result.error["hint"]
    assert hint == f"keep a copy first: cp -a {fedctl.home} {fedctl.home}.damaged; there is no backup to restore"


def test_a_damaged_database_with_a_backup_says_how_it_is_brought_back(fedctl):
    fedctl.store("a task")
    fedctl("backup", "-q")
    database = fedctl.home / "store.db"
    whole = bytearray(database.read_bytes())
    assert fedctl("store", "check").err == (
        "note: the pages of the database were not read; --full reads every page and vector\n"
    )
    for page in range(2, len(whole) // 4096):
        whole[page * 4096 : page * 4096 + 2000] = b"\x5a" * 2000
    database.write_bytes(whole)
    for path in fedctl.home.glob("store.db-*"):
        path.unlink()
    for command in (["memory", "list"], ["store", "check", "--full"]):
        error = fedctl(*command, "--json").error
        assert (error["exit"], error["hint"].partition("; ")[2]) == (13, "then: fedctl restore latest --overwrite")
    assert fedctl("restore", "latest", "--overwrite", "--yes", "-q").code == 0
    assert fedctl("store", "check", "--full").err == ""


def test_findings_in_derived_data_are_an_outcome(fedctl):
    from fedctl.messages.store import CheckAnswer, Finding

    def answering(*findings):
        class Caller:
            def call(self, _request, *, tenant_id=None):
                return CheckAnswer(checks=["words"], findings=list(findings), episodes=1)

            def close(self):
                pass

        return lambda _settings, *, writes: Caller()

    derived = Finding(check="words", severity="derived", message="m", fix="fedctl memory reindex")
    result = fedctl("store", "check", "--json", open_caller=answering(derived))
    assert (result.code, result.err) == (
        14, "note: the pages of the database were not read; --full reads every page and vector\n"
    )  # fmt: skip
    assert result.json["findings"][0]["fix"] == "fedctl memory reindex"
    data = Finding(check="database", severity="data", message="m", fix="f")
    result = fedctl("store", "check", "--json", open_caller=answering(derived, data))
    assert (result.code, result.error["code"]) == (13, "corrupt")


def test_config_is_written_listed_and_read(fedctl):
    assert fedctl("config", "path").out == f"{fedctl.home / 'config.toml'}\n"
    assert fedctl("config", "set", "tenant", "acme").code == 0
    assert fedctl("config", "get", "tenant").out == "acme\n"
    assert fedctl("config", "get", "token_file").out == "\n"
    rows = {row["key"]: row for row in fedctl("config", "list", "--origin", "--json").json}
    assert rows["tenant"] == {"key": "tenant", "value": "acme", "origin": f"file {fedctl.home / 'config.toml'}"}
    assert rows["home"]["origin"] == "environment FEDCTL_HOME"
    assert rows["timeout"] == {"key": "timeout", "value": "30s", "origin": "default"}
    assert "origin" not in fedctl("config", "list").out
    assert fedctl("memory", "stats", "--json").code == 10
    fedctl.store("x")
    assert fedctl("memory", "stats", "--json").json["tenant_id"] == "acme"


def test_config_set_says_when_something_stronger_rules(fedctl):
    result = fedctl("config", "set", "tenant", "acme", environ={"FEDCTL_TENANT": "other"})
    assert (result.code, result.err) == (0, "note: here and now it is overruled by: environment FEDCTL_TENANT\n")


def test_a_setting_that_is_unset_has_its_default_again_and_what_is_not_set_is_only_noted(fedctl):
    fedctl("config", "set", "tenant", "acme")
    assert fedctl("config", "unset", "tenant", "--json").json == {
        "key": "tenant", "value": "default", "origin": "default",
    }  # fmt: skip
    again = fedctl("config", "unset", "tenant")
    assert (again.code, again.err) == (0, f"note: tenant was not set in {fedctl.home / 'config.toml'}\n")


def test_status_says_of_a_lost_store_that_it_is_gone_and_which_backup_there_is(fedctl):
    fedctl.store("x")
    path = fedctl("backup", "create", "--json").json["path"]
    for file in fedctl.home.glob("store.db*"):
        file.unlink()
    rows = dict(
        line.split(maxsplit=1) for line in fedctl("status", terminal=True, environ={"NO_COLOR": "1"}).out.splitlines()
    )
    assert rows["store"] == "gone"
    assert rows["memory"] == rows["agents"] == rows["work"] == rows["retention"] == "gone with the store"
    assert rows["backup"].startswith("1 there, the latest of ")
    assert rows["backup"].endswith(path)
    assert rows["next"] == "$ fedctl restore latest"
    assert "store\tgone\n" in fedctl("status").out
    assert fedctl("status", "--json").json["gone"] is True


@pytest.mark.parametrize(
    "argv", [["set", "tenat", "x"], ["set", "token", "x"], ["set", "timeout", "5"], ["get", "nope"]]
)
def test_wrong_settings_are_refused(fedctl, argv):
    assert fedctl("config", *argv).code == 2
    assert not fedctl.home.exists()


def test_a_token_goes_to_stdout_alone_and_about_it_to_stderr(fedctl):
    result = fedctl("token", "issue", "--tenant", "acme", "--ttl", "2h")
    assert result.code == 0
    assert result.out.count(".") == 2
    assert result.out.count("\n") == 1
    assert result.err.startswith("note: token ")
    issued = fedctl("token", "issue", "--tenant", "acme", "--agent", "coder", "--json").json
    assert {"token", "id", "tenant_id", "agent_id", "role", "expires_at"} <= set(issued)
    assert (issued["tenant_id"], issued["agent_id"], issued["role"]) == ("acme", "coder", "agent")
    listed = fedctl("token", "list", "--json")
    assert issued["token"] not in listed.out
    assert [record["agent_id"] for record in listed.json] == ["coder", None]
    revoked = fedctl("token", "revoke", issued["id"], "--json")
    assert revoked.json["revoked_at"] is not None
    assert fedctl("token", "revoke", "nope").code == 4


def test_a_token_needs_a_tenant_and_a_sensible_life(fedctl):
    assert "--tenant" in fedctl("token", "issue").err
    for flags in (["--ttl", "5"], ["--ttl", "365d"], ["--role", "king"], ["--agent", "a/b"]):
        assert fedctl("token", "issue", "--tenant", "acme", *flags).code == 2


def test_hub_commands_without_a_hub_say_so(fedctl):
    for argv in (["status"], ["stats"]):
        result = fedctl("hub", *argv, "--json")
        assert (result.code, result.out, result.error["code"]) == (7, "", "unavailable")
        assert result.error["retryable"] is True
    assert fedctl("hub", "status", "--wait", "10ms").code == 8
    stopped = fedctl("hub", "stop")
    assert (stopped.code, stopped.out, stopped.err) == (0, "", "note: no hub runs on this home\n")


def test_agents_are_spawned_within_limits(fedctl):
    for flags in (
        ["--lifetime", "4s"], ["--lifetime", "16m"], ["--lifetime", "60"], ["--sync-interval", "0s"],
        ["--id", "a/b"], ["--type", ".."], ["--pull-limit", "-1"], ["--embed", "cloud"],
    ):  # fmt: skip
        assert fedctl("agent", "spawn", *flags, "--", "true").code == 2, flags
    assert not fedctl.home.exists()


def test_agents_without_a_registry_are_none(fedctl):
    fedctl("init")
    assert fedctl("agent", "list", "--json").json == []
    assert fedctl("agent", "show", "nobody").code == 4
    assert fedctl("agent", "stop", "nobody").code == 4


@pytest.mark.parametrize("watch", ["0s", "99ms"])
def test_figures_are_not_asked_for_without_a_pause(fedctl, watch):
    result = fedctl("hub", "stats", "--watch", watch)
    assert (result.code, result.out) == (2, "")
    assert "--watch: the shortest is 100ms" in result.err


def test_a_hub_that_has_stopped_is_not_called_ready(fedctl, monkeypatch):
    info = HubInfo(
        pid=1, version="1", url="ws://h:1", http_url="http://h:2", socket="/s", home="/h", started_at="t", ready=True
    )
    monkeypatch.setattr("fedctl.bootstrap.stop_hub", lambda *_: info)
    assert fedctl("hub", "stop", "--json").json["ready"] is False
