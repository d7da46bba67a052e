"""The small parts of a hub: options, log, figures."""

import pytest

from fedctl.errors import UsageError
from fedctl.hub import options as given
from fedctl.hub.options import HubServerOptions
from fedctl.hub.stats import WINDOW, Figures, rss_bytes
from fedctl.log import Log, LogOptions


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tls(tmp_path, host):
    given.check(HubServerOptions(home=tmp_path, host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_an_address_that_others_can_reach_needs_tls_or_insecure(tmp_path, host):
    with pytest.raises(UsageError, match="other machines"):
        given.check(HubServerOptions(home=tmp_path, host=host))
    given.check(HubServerOptions(home=tmp_path, host=host, insecure=True))


@pytest.mark.parametrize(
    "parts",
    [{"port": -1}, {"port": 65_536}, {"http_port": 70_000}, {"port": 9000, "http_port": 9000}, {"max_agents": 0}],
)
def test_options_that_make_no_sense_are_refused(tmp_path, parts):
    with pytest.raises(UsageError):
        given.check(HubServerOptions(home=tmp_path, **parts))


def test_half_a_tls_pair_is_refused(tmp_path):
    with pytest.raises(UsageError, match="both"):
        given.check(HubServerOptions(home=tmp_path, tls_cert=tmp_path / "cert.pem"))


@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_tls_pair_that_cannot_be_used_is_named(tmp_path, content):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if content is not None:
        cert.write_text(content)
        key.write_text(content)
    with pytest.raises(UsageError, match=r"cert\.pem"):
        given.tls_context(HubServerOptions(home=tmp_path, tls_cert=cert, tls_key=key))


def test_the_log_says_what_its_level_is_for(clock):
    for level, expected in [("silent", 0), ("basic", 1), ("detailed", 2), ("verbose", 3), ("trace", 3)]:
        lines = []
        log = Log(LogOptions(level), clock, lines.append)
        log.basic("b")
        log.detailed("d")
        log.verbose("v")
        assert len(lines) == expected


def test_a_line_of_the_log_is_one_line_whatever_it_tells_of(clock):
    lines = []
    Log(LogOptions("basic"), clock, lines.append).basic(
        "what", text="a\nb\x1b[2J", number=0.123456, absent=None, name="acme"
    )
    assert lines == ["2026-01-01T00:00:00.000Z what text='a\\nb\\x1b[2J' number=0.123 name=acme"]


def test_latencies_are_of_the_last_calls_and_counts_of_all(clock):
    figures = Figures(clock)
    figures.answered("op", 100.0)
    for number in range(WINDOW):
        figures.answered("op", (number + 1) / 1000)
    one = figures.stats(connected_agents=0, connections=0).latencies["op"]
    assert one.count == WINDOW + 1
    assert (one.p50_ms, one.max_ms) == (500, 1000)
    assert 989 <= one.p99_ms <= 991
    assert figures.totals().operations["op"].values == WINDOW + 1


def test_one_call_is_its_own_median_and_maximum(clock):
    figures = Figures(clock)
    figures.answered("op", 0.002)
    one = figures.stats(connected_agents=0, connections=0).latencies["op"]
    assert (one.mean_ms, one.p50_ms, one.p99_ms, one.max_ms) == (2, 2, 2, 2)


def test_uptime_is_told_by_the_clock_that_does_not_jump(clock):
    figures = Figures(clock)
    clock.advance(1500)
    assert figures.stats(connected_agents=0, connections=0).uptime_s == 1.5


def test_resident_memory_is_that_of_this_process():
    assert 10_000_000 < rss_bytes() < 4_000_000_000
