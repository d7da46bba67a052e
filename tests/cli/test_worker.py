from __future__ import annotations

import os

import pytest


def register(fedctl, name, *flags):
    result = fedctl("worker", "register", name, "--json", *flags)
    assert result.code == 0, result.err
    return result.json


def test_a_registered_worker_is_this_machine_and_the_caller_of_the_command(fedctl):
    worker = register(
        fedctl, "w1", "--pool", "builds", "--capability", "linux", "--capability", "gpu", "--heartbeat-interval", "10s",
        "--meta", "zone=eu", "--meta", "n=1",
    )  # fmt: skip
    assert set(worker) == {
        "worker_id", "tenant_id", "status", "host", "pid", "capabilities", "pool_id", "started_at", "last_heartbeat",
        "heartbeat_interval_s", "current_task_id", "metadata", "incarnation", "stale", "released",
    }  # fmt: skip
    assert (worker["host"], worker["pid"]) == (os.uname().nodename, os.getppid())
    assert (worker["status"], worker["heartbeat_interval_s"], worker["pool_id"]) == ("active", 10.0, "builds")
    assert (worker["capabilities"], worker["metadata"]) == (["gpu", "linux"], {"zone": "eu", "n": 1})
    del worker["released"]
    assert fedctl("worker", "show", "w1", "--json").json == worker
    assert fedctl("worker", "list", "--json").json == [worker]


def test_registering_again_begins_a_new_incarnation_and_says_what_was_given_back(fedctl):
    register(fedctl, "w1")
    fedctl("pool", "push", "p", "1")
    fedctl("pool", "claim", "p", "--worker", "w1")
    result = fedctl("worker", "register", "w1", "--json")
    assert (result.json["incarnation"], result.json["released"]) == (2, 1)
    assert result.err == "note: 1 item given back\n"
    (item,) = fedctl("pool", "items", "p", "--json").json
    assert (item["status"], item["attempts"]) == ("pending", 1)


def test_a_heartbeat_merges_metadata_and_renews_leases_only_if_told(fedctl):
    register(fedctl, "w1", "--meta", "a=1", "--meta", "b=2")
    fedctl("pool", "push", "p", "1")
    (claimed,) = fedctl("pool", "claim", "p", "--worker", "w1", "--lease", "10s", "--json").json
    beaten = fedctl("worker", "heartbeat", "w1", "--meta", "b=null", "--meta", "c=x", "--json").json
    assert (beaten["metadata"], beaten["extended"]) == ({"a": 1, "c": "x"}, 0)
    assert beaten["current_task_id"] == claimed["id"]
    assert fedctl("pool", "item", claimed["id"], "--json").json["lease_expires_at"] == claimed["lease_expires_at"]
    assert fedctl("worker", "heartbeat", "w1", "--extend-leases", "--json").json["extended"] == 1
    assert fedctl("pool", "item", claimed["id"], "--json").json["lease_expires_at"] > claimed["lease_expires_at"]


def test_a_heartbeat_makes_no_lease_shorter(fedctl):
    register(fedctl, "w1")
    fedctl("pool", "push", "p", "1")
    (claimed,) = fedctl("pool", "claim", "p", "--worker", "w1", "--lease", "1h", "--json").json
    fedctl("worker", "heartbeat", "w1", "--extend-leases")
    assert fedctl("pool", "item", claimed["id"], "--json").json["lease_expires_at"] == claimed["lease_expires_at"]


def test_status_goes_by_the_table_and_says_what_came_back(fedctl):
    register(fedctl, "w1")
    fedctl("pool", "push", "p", "1")
    fedctl("pool", "claim", "p", "--worker", "w1")
    assert fedctl("worker", "status", "w1", "terminating", "--json").json["released"] == 0
    assert fedctl("pool", "claim", "p", "--worker", "w1").code == 5
    ended = fedctl("worker", "status", "w1", "terminated", "--json")
    assert (ended.json["status"], ended.json["released"], ended.err) == ("terminated", 1, "note: 1 item given back\n")
    refused = fedctl("worker", "heartbeat", "w1", "--json")
    assert (refused.code, refused.error["code"]) == (5, "conflict")
    assert "fedctl worker register w1" in refused.error["hint"]
    assert fedctl("worker", "status", "w1", "bored").code == 2


def test_list_filters_by_everything_it_names(fedctl):
    register(fedctl, "a", "--pool", "p", "--capability", "gpu")
    register(fedctl, "b", "--pool", "q", "--capability", "gpu-2")
    register(fedctl, "c", "--heartbeat-interval", "100ms")
    fedctl("worker", "status", "b", "lost")
    fedctl("worker", "status", "c", "terminated")

    def ids(*flags):
        result = fedctl("worker", "list", "--ids", *flags)
        assert result.code == 0, result.err
        return set(result.out.split())

    assert ids() == {"a", "b", "c"}
    assert ids("--status", "active") == {"a"}
    assert ids("--status", "active", "--status", "lost") == {"a", "b"}
    assert ids("--capability", "gpu") == {"a"}
    assert ids("--pool", "q") == {"b"}
    assert ids("--stale", "1h") == set()
    assert ids("--stale", "auto") == set()
    assert fedctl("worker", "list", "--status", "bored").code == 2
    assert fedctl("worker", "list", "--stale", "5").code == 2
    cut = fedctl("worker", "list", "--limit", "1")
    assert (len(cut.out.splitlines()), cut.err) == (2, "note: 1 of 3 shown\n")


def test_reap_lists_who_is_lost_now(fedctl):
    assert fedctl("worker", "reap").code == 10
    register(fedctl, "w1", "--heartbeat-interval", "100ms")
    register(fedctl, "w2")
    fedctl("pool", "push", "p", "1")
    fedctl("pool", "claim", "p", "--worker", "w1", "--lease", "1h")
    while not fedctl("worker", "show", "w1", "--json").json["stale"]:
        pass
    assert fedctl("worker", "list", "--stale", "auto", "--ids").out == "w1\n"
    reaped = fedctl("worker", "reap", "--json")
    assert [(one["worker_id"], one["status"]) for one in reaped.json] == [("w1", "lost")]
    assert reaped.err == "note: 1 item given back\n"
    assert fedctl("worker", "reap", "--json").json == []
    assert fedctl("worker", "reap", "-q").out == ""
    assert fedctl("worker", "heartbeat", "w1", "--json").json["status"] == "active"


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["register", "a/b"], "ID"),
        (["register", "w", "--capability", ""], "--capability"),
        (["register", "w", "--pool", ".."], "--pool"),
        (["register", "w", "--heartbeat-interval", "0s"], "--heartbeat-interval"),
        (["register", "w", "--heartbeat-interval", "30"], "--heartbeat-interval"),
        (["register", "w", "--meta", "x"], "--meta"),
        (["heartbeat", "w", "--every", "0s"], "--every"),
        (["list", "--capability", "a b"], "--capability"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name_and_nothing_is_made(fedctl, argv, named):
    result = fedctl("worker", *argv)
    assert (result.code, result.out) == (2, "")
    assert named in result.err
    assert not fedctl.home.exists()


def test_an_unknown_worker_is_not_found(fedctl):
    register(fedctl, "w1", "--tenant", "other")
    for argv in (["show", "w1"], ["heartbeat", "w1"], ["status", "w1", "lost"]):
        assert fedctl("worker", *argv).code == 4
