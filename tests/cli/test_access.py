"""`fedctl tenant`, `token rotate-key` and `hub cert`, as they are typed."""

from __future__ import annotations

import json
import os
import stat

import pytest


def test_a_tenant_is_limited_listed_and_shown(fedctl):
    fedctl.store("a task")
    result = fedctl("tenant", "set", "acme", "--max-episodes", "1", "--max-bytes", "2MiB", "--rate", "90/m", "--json")
    assert result.code == 0, result.err
    assert (result.json["max_episodes"], result.json["max_bytes"], result.json["rate_per_s"]) == (1, 2 << 20, 1.5)
    assert fedctl("tenant", "show", "acme", "--json").json == result.json
    listed = fedctl("tenant", "list", "--json").json
    assert [(one["id"], one["episodes"]) for one in listed] == [("acme", 0), ("default", 1)]
    assert set(listed[0]) == {
        "id", "created_at", "episodes", "size_bytes", "max_episodes", "max_bytes", "rate_per_s",
    }  # fmt: skip
    assert fedctl("tenant", "ls", "--ids").out == "acme\ndefault\n"
    lifted = fedctl("tenant", "set", "acme", "--max-episodes", "none", "--json").json
    assert (lifted["max_episodes"], lifted["max_bytes"]) == (None, 2 << 20)


def test_over_the_quota_is_exit_5_and_in_a_batch_3(fedctl):
    fedctl("tenant", "set", "default", "--max-episodes", "1")
    fedctl.store("first")
    refused = fedctl("memory", "store", "--task", "second", "--json")
    assert (refused.code, refused.out) == (5, "")
    assert refused.error["message"] == "the tenant default is over its quota: it has 1 of 1 episodes"
    assert "fedctl tenant set default --max-episodes N" in refused.error["hint"]
    assert refused.error["details"] == {"quota": "max_episodes", "limit": 1, "present": 1}
    batch = fedctl("memory", "store", "--batch", stdin=b'{"task": "third"}\n')
    assert batch.code == 3
    assert json.loads(batch.out)["error"]["code"] == "conflict"


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["tenant", "show", "nobody"], 4),
        (["tenant", "set", "acme"], 2),
        (["tenant", "set", "../acme", "--rate", "1"], 2),
        (["tenant", "set", "acme%", "--rate", "1"], 2),
        (["tenant", "set", "acme", "--max-episodes", "-1"], 2),
        (["tenant", "set", "acme", "--max-bytes", "1PB"], 2),
        (["tenant", "set", "acme", "--rate", "0"], 2),
        (["tenant", "set", "acme", "--rate", "1/d"], 2),
        (["token", "rotate-key", "--grace", "5"], 2),
        (["token", "rotate-key", "--grace", "91d"], 2),
        (["hub", "cert", "--name", "a b"], 2),
        (["hub", "cert", "--ttl", "0s"], 2),
    ],
)
def test_what_makes_no_sense_has_its_exit_code_and_no_traceback(fedctl, argv, code):
    fedctl("init")
    result = fedctl(*argv)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err


def test_listing_tenants_of_a_home_without_a_store_says_how_to_begin(fedctl):
    assert fedctl("tenant", "list").code == 10


def test_a_key_is_rotated_and_says_until_when_the_old_one_holds(fedctl):
    first = fedctl("token", "rotate-key", "--json")
    assert (first.code, first.json["old_keys_until"]) == (0, None)
    fedctl("token", "issue", "--tenant", "acme", "--ttl", "1h")
    second = fedctl("token", "rotate-key", "--json").json
    assert second["old_keys_until"] is not None
    assert second["key_id"] > first.json["key_id"]
    third = fedctl("token", "rotate-key", "--grace", "0s", "--json").json
    assert third["removed_keys"] == 2
    assert [path.name for path in (fedctl.home / "keys").iterdir()] == [f"{third['key_id']}.pem"]


def test_certificates_are_made_once_for_the_owners_eyes_only(fedctl, tmp_path):
    made = fedctl("hub", "cert", "--out", str(tmp_path / "tls"), "--name", "hub.example.org", "--json")
    assert made.code == 0, made.err
    assert "hub.example.org" in made.json["names"]
    assert "localhost" in made.json["names"]
    for field in ("ca", "ca_key", "cert", "key", "client_cert", "client_key"):
        assert stat.S_IMODE((tmp_path / "tls" / made.json[field].rpartition("/")[2]).stat().st_mode) == 0o600
    again = fedctl("hub", "cert", "--out", str(tmp_path / "tls"), "--json")
    assert (again.code, again.error["code"]) == (5, "conflict")
    renewed = fedctl("hub", "cert", "--out", str(tmp_path / "tls"), "--renew", "--name", "other.example", "--json")
    assert (renewed.code, renewed.json["names"]) == (0, [*made.json["names"], "other.example"])
    assert renewed.json["ca_expires_at"] == made.json["ca_expires_at"] > made.json["expires_at"]
    assert not fedctl.home.exists(), "nothing else was made"


def test_a_clients_key_without_its_certificate_is_a_usage_error(fedctl, tmp_path):
    result = fedctl("--hub", "wss://127.0.0.1:1", "--client-key", str(tmp_path / "k"), "memory", "stats")
    assert result.code == 2
    assert "--client-cert" in result.err


@pytest.mark.parametrize("flag", ["--tls-ca", "--client-cert"])
def test_a_certificate_that_is_none_is_a_usage_error(fedctl, tmp_path, flag):
    (tmp_path / "not.pem").write_text("nonsense")
    for path in ("not.pem", "absent.pem"):
        result = fedctl("--hub", "wss://127.0.0.1:1", flag, str(tmp_path / path), "memory", "stats")
        assert result.code == 2
        assert f"{flag}: {tmp_path / path} cannot be used" in result.err


def test_trust_is_a_setting_like_others(fedctl, tmp_path):
    fedctl("init")
    environ = {"FEDCTL_TLS_CA": str(tmp_path / "a"), "FEDCTL_CLIENT_CERT": "", "FEDCTL_CLIENT_KEY": ""}
    rows = {row["key"]: row for row in fedctl("config", "list", "--origin", "--json", environ=environ).json}
    assert rows["tls_ca"]["value"] == str(tmp_path / "a")
    assert rows["client_cert"]["value"] is None


def test_a_token_goes_into_a_file_of_its_owners_and_nowhere_else(fedctl, tmp_path):
    path = tmp_path / "acme.token"
    path.touch(mode=0o644)
    before = os.umask(0)
    try:
        done = fedctl("token", "issue", "--tenant", "acme", "--out", str(path), "--json")
    finally:
        os.umask(before)
    assert (done.code, done.err) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert done.json["token"] is None
    assert path.read_text().count(".") == 2
    assert path.read_text().strip() not in done.out
    assert [one["id"] for one in fedctl("token", "list", "--json").json] == [done.json["id"]]
    assert done.json["path"] == str(path)
    first = path.read_text()
    assert fedctl("token", "issue", "--tenant", "acme", "--out", str(path), "-q") == (0, "", "")
    assert path.read_text() != first, "renewed"


@pytest.mark.parametrize("content", [b"precious\n", b"a.b.c\n", b"\xff" * 10_000])
def test_a_file_that_holds_no_token_is_not_written_over_with_one(fedctl, tmp_path, content):
    fedctl("init")
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    done = fedctl("token", "issue", "--tenant", "acme", "--out", str(path), "--json")
    assert (done.code, done.error["code"], path.read_bytes()) == (5, "conflict", content)
    assert fedctl("token", "list", "--json").json == []


def test_tokens_and_exports_go_into_a_pipe_that_stays_one(fedctl, tmp_path):
    fedctl.store("precious")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert fedctl("token", "issue", "--tenant", "acme", "--out", str(pipe)).code == 0
    assert os.read(reader, 10_000).count(b".") == 2
    assert fedctl("memory", "export", str(pipe)).code == 0
    assert b"precious" in os.read(reader, 10_000)
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(("place", "code"), [(".", 2), ("nowhere/token", 1)])
def test_no_token_is_issued_for_a_file_that_cannot_be_written(fedctl, tmp_path, place, code):
    fedctl("init")
    assert fedctl("token", "issue", "--tenant", "acme", "--out", str(tmp_path / place)).code == code
    assert fedctl("token", "list", "--json").json == []
