"""`fedctl retention` and `fedctl memory pin`, as they are typed."""

from __future__ import annotations

import pytest

RULES = {
    "max_age_ms", "min_reward", "max_episodes", "keep_last", "keep_success", "keep_where", "items_max_age_ms",
    "events_max_age_ms", "agents_max_age_ms",
}  # fmt: skip


def test_a_policy_is_set_shown_and_lifted(fedctl):
    result = fedctl(
        "retention", "set", "--max-age", "90d", "--min-reward", "0.3", "--keep-where", "tag=keep", "--keep-success",
        "--items-max-age", "7d", "--agents-max-age", "1h30m", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    policy = result.json["policy"]
    assert (set(result.json), set(policy)) == ({"tenant_id", "policy"}, RULES)
    assert (policy["max_age_ms"], policy["agents_max_age_ms"]) == (90 * 86_400_000, 5_400_000)
    assert (policy["keep_where"], policy["keep_success"]) == ([["tag", "=", "keep"]], True)
    assert fedctl("retention", "show", "--json").json == result.json
    lifted = fedctl("retention", "set", "--max-age", "none", "--keep-where", "none", "--no-keep-success", "--json")
    lifted = lifted.json["policy"]
    assert (lifted["max_age_ms"], lifted["keep_where"], lifted["keep_success"]) == (None, [], False)
    assert lifted["min_reward"] == 0.3
    other = fedctl("--tenant", "other", "retention", "show", "--json").json
    assert other["tenant_id"] == "other"
    assert not any(other["policy"].values())


def test_a_person_is_shown_durations_as_they_are_given_and_a_program_milliseconds(fedctl):
    fedctl("retention", "set", "--max-age", "90d", "--items-max-age", "1h30m")
    shown = dict(line.split(maxsplit=1) for line in fedctl("retention", "show", terminal=True, environ={
        "NO_COLOR": "1"}).out.splitlines() if len(line.split()) > 1)  # fmt: skip
    assert (shown["policy.max_age"], shown["policy.items_max_age"]) == ("90d", "1h30m")
    assert "policy.max_age_ms\t7776000000\n" in fedctl("retention", "show").out


def test_prune_answers_as_the_contract_says_and_a_dry_run_too(fedctl):
    for n in range(3):
        fedctl.store(f"t{n}", "--id", f"e{n}", "--reward", f"0.{n}")
    fedctl("retention", "set", "--min-reward", "0.15")
    dry = fedctl("retention", "prune", "-n", "--json")
    assert (dry.code, dry.err) == (0, "")
    assert {"policy", "dry_run", "examined", "removed", "kept", "reasons", "bytes_freed"} <= set(dry.json)
    assert (dry.json["examined"], dry.json["removed"], dry.json["kept"]) == (3, 2, 1)
    assert dry.json["reasons"] == {"min_reward": 2}
    done = fedctl("retention", "prune", "--json")
    assert done.json == dry.json | {"dry_run": False}
    assert fedctl("memory", "list", "--ids").out == "e2\n"
    again = fedctl("memory", "store", "--task", "t0", "--id", "e0", "--reward", "0.0", "--json")
    assert again.json["deleted"] is True


def test_cron_hears_nothing_of_success_and_one_line_of_failure(fedctl):
    fedctl.store("t")
    refused = fedctl("retention", "prune", "-q")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    fedctl("retention", "set", "-q", "--max-episodes", "0")
    assert fedctl("retention", "prune", "-q") == (0, "", "")
    assert fedctl("retention", "prune", "-q", "--all-tenants") == (0, "", "")


def test_a_night_in_which_the_guard_refuses_tenants_says_so_in_one_line(fedctl):
    lines = b"".join(b'{"task": "t", "id": "e%d"}\n' % n for n in range(120))
    for tenant in ("acme", "zeta"):
        fedctl("--tenant", tenant, "memory", "store", "--batch", stdin=lines)
        fedctl("--tenant", tenant, "retention", "set", "--max-episodes", "10")
    night = fedctl("retention", "prune", "-q", "--all-tenants")
    assert (night.code, night.out, night.err.count("\n")) == (3, "", 1)
    assert "acme: 110 of 120 episodes would go" in night.err
    assert "zeta: 110 of 120 episodes would go" in night.err


def test_the_guard_ends_a_run_with_5_and_a_dry_run_as_well_but_says_what_would_go(fedctl):
    lines = b"".join(b'{"task": "t", "id": "e%d"}\n' % n for n in range(120))
    fedctl("memory", "store", "--batch", stdin=lines)
    fedctl("retention", "set", "--max-episodes", "10")
    refused = fedctl("retention", "prune", "--json")
    assert (refused.code, refused.out, refused.error["code"]) == (5, "", "conflict")
    dry = fedctl("retention", "prune", "-n", "--json")
    assert (dry.code, dry.json["removed"], dry.json["error"]) == (5, 110, refused.error)
    all_ = fedctl("retention", "prune", "--all-tenants", "-q")
    assert (all_.code, all_.out, all_.err.count("\n")) == (3, "", 1)
    assert fedctl("retention", "prune", "--max-delete", "109").code == 5
    assert fedctl("retention", "prune", "--max-delete", "110", "--json").json["removed"] == 110


def test_what_runs_out_of_time_ends_with_3_and_says_so(fedctl):
    fedctl("memory", "store", "--batch", stdin=b"".join(b'{"task": "t", "id": "e%d"}\n' % n for n in range(60)))
    fedctl("retention", "set", "--max-episodes", "0")
    result = fedctl("retention", "prune", "--max-time", "1ms", "--json")
    assert (result.code, result.json["more"]) == (3, True)
    assert result.err == "note: default: it ended early, and there is more to remove\n"
    assert fedctl("retention", "prune", "--json").json["kept"] == 0


def test_an_episode_is_pinned_explained_and_unpinned(fedctl):
    for n in (1, 2):
        fedctl.store(f"t{n}", "--id", f"e{n}")
    fedctl("retention", "set", "--max-episodes", "1")
    assert fedctl("retention", "explain", "e1", "--json").json["removed_by"] == ["max_episodes"]
    pinned = fedctl("memory", "pin", "e1", "--json")
    assert (pinned.json["id"], pinned.json["pinned"]) == ("e1", True)
    told = fedctl("retention", "explain", "e1", "--json").json
    assert set(told) == {"id", "verdict", "removed_by", "kept_by", "goes_at", "place", "examined"}
    assert (told["verdict"], told["kept_by"]) == ("kept", ["pinned"])
    both = fedctl("memory", "unpin", "e1", "e2", "absent", "--json")
    assert (both.code, [one["pinned"] for one in both.json]) == (4, [False, False])
    assert "absent" in both.err
    assert fedctl("memory", "pin", "-q", "e1") == (0, "", "")


@pytest.mark.parametrize(
    "argv",
    [
        ["set"], ["set", "--max-age", "90"], ["set", "--max-age", "0s"], ["set", "--min-reward", "2"],
        ["set", "--keep-last", "-1"], ["set", "--keep-where", "tag"],
        ["set", "--keep-where", "none", "--keep-where", "a"],
        ["prune", "--max-delete", "x"], ["prune", "--max-delete", "101%"], ["prune", "--max-delete", "-1"],
        ["prune", "--max-time", "0s"], ["prune", "--ping-url-file", "nowhere"], ["prune", "--yes"], ["explain", ""],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_2_and_loses_nothing(fedctl, argv):
    fedctl.store("t")
    fedctl("retention", "set", "--max-episodes", "0")
    result = fedctl("retention", *argv)
    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err
    assert len(fedctl("memory", "list", "--json").json) == 1


def test_without_a_store_it_says_how_to_begin(fedctl):
    for argv in (["show"], ["prune"], ["explain", "e"]):
        assert fedctl("retention", *argv).code == 10
    assert fedctl("memory", "pin", "e").code == 10
    assert not fedctl.home.exists()
