"""Which requests the gate lets in."""

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from fedctl.hub.gate import Gate
from fedctl.hub.options import HubServerOptions


def request(*headers, path="/health"):
    return Request(path, Headers(headers))


@pytest.fixture
def gate(tmp_path):
    return Gate(HubServerOptions(home=tmp_path))


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
        "localhost:99999",
        "localhost:" + "9" * 5000,
        "[::1]:" + "9" * 5000,
        "localhost:\u00b2",
        "localhost:",
        "[localhost]",
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


def test_the_hubs_own_pages_are_let_in_where_it_serves_them_but_not_with_another_origin_beside(gate):
    here, own = ("Host", "localhost:8444"), ("Origin", "http://localhost:8444")
    assert gate.refusal(request(here, own), serves_pages=True) is None
    assert gate.refusal(request(here, own)).status_code == 403
    for other in ("https://localhost:8444", "http://localhost", "http://127.0.0.1:8444", "https://example.org"):
        assert gate.refusal(request(here, ("Origin", other)), serves_pages=True).status_code == 403
        assert gate.refusal(request(here, own, ("Origin", other)), serves_pages=True).status_code == 403


@pytest.mark.parametrize("here", ["localhost", "localhost:80"])
def test_the_schemes_own_port_may_be_left_out(tmp_path, here):
    gate = Gate(HubServerOptions(home=tmp_path, http_port=80, origins=("https://monitor.example.org:443",)))
    for origin in ("http://localhost", "http://LOCALHOST:80", "https://monitor.example.org"):
        assert gate.refusal(request(("Host", here), ("Origin", origin)), serves_pages=True) is None
    for origin in ("https://localhost", "http://localhost:443", "http://localhost:8080", "http://monitor.example.org"):
        assert gate.refusal(request(("Host", here), ("Origin", origin)), serves_pages=True).status_code == 403


def test_a_page_whose_name_was_rebound_to_this_machine_is_refused(gate):
    rebound = (("Host", "example.org:8444"), ("Origin", "http://example.org:8444"))
    assert gate.refusal(request(*rebound), serves_pages=True).status_code == 403


def test_a_hub_on_every_address_is_reached_by_numbers_and_by_the_names_it_was_given(tmp_path):
    gate = Gate(HubServerOptions(home=tmp_path, host="0.0.0.0", insecure=True, host_names=("hub.example.org",)))
    for host in ("192.168.1.5:8443", "hub.example.org", "localhost", "[2001:db8::1]:8443"):
        assert gate.refusal(request(("Host", host))) is None
    assert gate.refusal(request(("Host", "evil.example.org"))).status_code == 403
