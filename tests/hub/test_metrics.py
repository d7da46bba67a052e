"""The figures for Prometheus, read as Prometheus would."""

from __future__ import annotations

import contextlib
import re
import socket
import urllib.request
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedctl.errors import Conflict, FedctlError
from fedctl.hub.metrics import metrics
from fedctl.hub.stats import SECONDS, SIZES, Figures
from fedctl.messages.agent import RegisterAgent, ReportAgent
from fedctl.messages.memory import QueryEpisodes, StoreEpisodes
from fedctl.messages.pool import ClaimItems, PushItems
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import ItemDraft
from fedctl.operations.table import OPERATIONS

UNITS = ("_seconds", "_bytes", "_ratio", "_info")
# What is counted in things has the thing for a unit; these say how many there are.
THINGS = (
    "agents", "connections", "episodes", "tenants", "pools", "items", "embeddings", "requests", "fds", "read_only",
)  # fmt: skip
LABELS = {
    "operation": {one.name for one in OPERATIONS.values()},
    "queue": {"write", "read"},
    "status": {"pending", "delayed", "claimed", "done", "poisoned"},
}
IDS = ("acme", "q-secret", "agent-7", "episode-9", "worker-3")


def parsed(text: str) -> dict[str, Any]:
    """Return the families of a page by name; the page is one that Prometheus takes."""
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    families = list(text_string_to_metric_families(text))
    assert len({one.name for one in families}) == len(families) == text.count("# TYPE ")
    return {one.name: one for one in families}


def counters(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return everything that may only grow."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed(text).values()
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def page_of(figures: Figures) -> str:
    return metrics(figures.stats(connected_agents=3, connections=4), figures.totals())


@pytest.fixture
def figures(make_clock):
    return Figures(make_clock())


def test_a_histogram_is_cumulative_and_ends_in_all(figures):
    for took_s in (0.0001, 0.0005, 0.002, 0.004, 99.0):
        figures.answered("memory.store", took_s)
    family = parsed(page_of(figures))["fedctl_operation_duration_seconds"]
    assert family.type == "histogram"
    buckets = [(one.labels["le"], one.value) for one in family.samples if one.name.endswith("_bucket")]
    assert [float(bound) for bound, _ in buckets] == [*SECONDS, float("inf")]
    # A value that is a bound lies below it.
    assert [count for _, count in buckets] == [2, 2, 3, 4, *[4] * 10, 5]
    rest = {one.name.rpartition("_")[2]: one.value for one in family.samples if not one.name.endswith("_bucket")}
    assert rest == {"sum": pytest.approx(99.0066), "count": 5}


def test_commits_are_told_by_their_size_and_how_long_they_took(figures):
    figures.committed(12, 7, 0.003)
    figures.committed(0, 1, 0.2)
    families = parsed(page_of(figures))
    sizes = {one.labels.get("le"): one.value for one in families["fedctl_commit_requests"].samples}
    assert [sizes[str(float(bound)) if str(float(bound)) in sizes else str(bound)] for bound in SIZES[:4]] == [
        1,
        1,
        1,
        2,
    ]
    assert families["fedctl_commit_duration_seconds"].type == "histogram"
    assert families["fedctl_acked_episodes"].samples[0].value == 12


def test_every_family_has_its_name_by_the_conventions_and_says_what_it_is(figures):
    figures.answered("memory.store", 0.1)
    for name, family in parsed(page_of(figures)).items():
        assert re.fullmatch(r"(fedctl|process)_[a-z_]+", name)
        assert family.documentation.endswith((".", "1.", "does.", "UTC."))
        if family.type == "counter":
            assert all(one.name == name + "_total" for one in family.samples), name  # the parser takes it off
        else:
            assert name.endswith((*UNITS, *THINGS)), name
            assert not name.endswith("_total")


@pytest.fixture
def page(hub):
    def page() -> str:
        with urllib.request.urlopen(hub.info.http_url + "/metrics", timeout=20) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            return answer.read().decode()

    return page


def test_what_a_hub_does_is_counted_and_no_count_ever_falls(hub, page):
    owner = hub.owner("acme")
    seen = counters(page())
    draft = EpisodeDraft(id="episode-9", task="t")
    steps = [
        StoreEpisodes(episodes=[draft]),
        StoreEpisodes(episodes=[msgspec.structs.replace(draft, task="other")]),
        QueryEpisodes(text="t"),
        PushItems(pool="q-secret", items=[ItemDraft(id=f"i{number}", data=1) for number in range(3)]),
        ClaimItems(pool="q-secret", worker_id="worker-3", lease_ms=60_000),
        RegisterAgent(id="agent-7", type="t", lifetime_ms=60_000, host="h", pid=1),
        ReportAgent(id="agent-7", status="initializing"),
        ReportAgent(id="agent-7", status="ready", synced=True),
        RegisterAgent(id="agent-7", type="t", lifetime_ms=60_000, host="h", pid=2),
    ]
    for step in steps:
        with contextlib.suppress(Conflict):
            owner.call(step)
        now = counters(page())
        assert {key: (value, now.get(key)) for key, value in seen.items() if now.get(key, -1) < value} == {}
        seen = now
    while 'fedctl_items{status="claimed"} 1\n' not in page():
        pass  # what took long to count is remembered for a while
    families = parsed(page())
    values = {(one.name, *one.labels.values()): one.value for family in families.values() for one in family.samples}
    assert values["fedctl_episodes",] == 1
    assert values["fedctl_acked_episodes_total",] == 1
    assert values["fedctl_items", "pending"] == 2
    assert values["fedctl_items", "claimed"] == 1
    assert values["fedctl_pools",] == values["fedctl_tenants",] == values["fedctl_syncs_total",] == 1
    assert values["fedctl_errors_total", "conflict"] == 1
    assert values["fedctl_connected_agents",] == 1
    assert values["fedctl_operation_duration_seconds_count", "memory.store"] == 2
    assert values["fedctl_store_bytes",] > values["fedctl_wal_bytes",] > 0
    assert values["fedctl_commit_requests_count",] == values["fedctl_commit_duration_seconds_count",] > 5
    for one in (one for family in families.values() for one in family.samples):
        assert set(one.labels) <= {"operation", "queue", "status", "code", "reason", "le", "version"}, one.labels
        for label, known in LABELS.items():
            assert one.labels.get(label) in {None, *known}
        assert not any(id_ in value for id_ in IDS for value in one.labels.values())


def test_who_is_refused_is_counted_by_the_reason(hub, page):
    host, port = hub.info.url.removeprefix("ws://").split(":")

    def say(*frames: bytes) -> None:
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            for frame in frames:
                connection.sendall(frame)
            while connection.recv(4096):
                pass

    say(b"nonsense\r\n\r\n")
    say(b"GET / HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")  # fmt: skip
    with pytest.raises(FedctlError):
        hub.bearer("no token")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(hub.info.socket)
        connection.sendall((3).to_bytes(4, "big") + b"{}}")
        while connection.recv(4096):
            pass
    refusals = {one.labels["reason"]: one.value for one in parsed(page())["fedctl_refusals"].samples}
    assert refusals == {"handshake": 1, "gate": 1, "denied": 1, "malformed": 1}
    assert len(hub.logged("session.refused")) == 4


def test_what_the_library_of_the_sockets_calls_an_error_is_told_and_counted(hub, page):
    logger = hub.hub._library_logger()

    def fail() -> None:
        try:
            raise RuntimeError("a bug")
        except RuntimeError:
            logger.exception("connection handler failed")

    hub.hub._on_loop(fail)
    while 'fedctl_refusals_total{reason="internal"} 1\n' not in page():
        pass
    assert "connection handler failed: RuntimeError: a bug" in hub.logged("session.refused")[0]
