"""Which requests the gate lets in, and what the figures look like to Prometheus."""

import re

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from fedctl.hub.http import Gate, metrics
from fedctl.hub.options import HubServerOptions
from fedctl.hub.stats import Figures


def request(*headers, path="/health"):
    return Request(path, Headers(headers))


@pytest.fixture
def gate(tmp_path):
    gate = Gate(HubServerOptions(home=tmp_path))
    gate.allow_origin("http://127.0.0.1:8444")
    return gate


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8443", "localhost", "LOCALHOST:1", "[::1]:8443", "[::1]", "127.0.0.2:80"]
)
def test_this_machine_by_any_of_its_names_is_let_in(gate, host):
    assert gate.refusal(request(("Host", host))) is None


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "example.org:8443",
        "127.0.0.1.example.org",
        "localhost.example.org",
        "",
        "192.168.1.5",
        "[fe80::1]",
        "127.0.0.1@example.org",
        "0.0.0.0",
    ],
)
def test_another_host_is_refused(gate, host):
    assert gate.refusal(request(("Host", host))).status_code == 403


def test_no_host_and_two_hosts_are_refused(gate):
    assert gate.refusal(request()).status_code == 403
    assert gate.refusal(request(("Host", "localhost"), ("Host", "localhost"))).status_code == 403


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://127.0.0.1:8443", "http://localhost", ""])
def test_pages_of_other_origins_are_refused(gate, origin):
    assert gate.refusal(request(("Host", "localhost"), ("Origin", origin))).status_code == 403


def test_the_hubs_own_pages_are_let_in_but_not_with_another_origin_beside(gate):
    own = ("Origin", "http://127.0.0.1:8444")
    assert gate.refusal(request(("Host", "localhost"), own)) is None
    assert gate.refusal(request(("Host", "localhost"), own, ("Origin", "https://example.org"))).status_code == 403


def test_a_hub_on_every_address_is_reached_by_numbers_and_by_the_names_it_was_given(tmp_path):
    gate = Gate(HubServerOptions(home=tmp_path, host="0.0.0.0", insecure=True, host_names=("hub.example.org",)))
    for host in ("192.168.1.5:8443", "hub.example.org", "localhost", "[2001:db8::1]:8443"):
        assert gate.refusal(request(("Host", host))) is None
    assert gate.refusal(request(("Host", "evil.example.org"))).status_code == 403


def test_figures_are_prometheus_text(make_clock):
    figures = Figures(make_clock())
    figures.answered("memory.store", 0.002)
    figures.answered("memory.store", 0.004)
    figures.failed("denied")
    figures.committed(5)
    text = metrics(figures.stats(connected_agents=3, connections=4), figures.totals())
    assert "\nfedctl_connected_agents 3\n" in text
    assert '\nfedctl_errors_total{code="denied"} 1\n' in text
    assert '\nfedctl_operation_seconds_count{operation="memory.store"} 2\n' in text
    assert '\nfedctl_operation_seconds_sum{operation="memory.store"} 0.006\n' in text
    assert '\nfedctl_operation_seconds{operation="memory.store",quantile="0.5"} 0.002\n' in text
    assert text.endswith("\n")
    sample = re.compile(r'fedctl_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+')
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            name = line.split()[2]
            assert name not in names
            names.add(name)
        elif not line.startswith("# HELP"):
            assert sample.fullmatch(line), line
            assert any(line.startswith(name) for name in names), line
