"""A whole hub, by its sockets."""

import json
import os
import socket
import stat
import threading
import time
import urllib.error
import urllib.request

import pytest

from fedctl.client.address import hub_socket, local_hub, read_info
from fedctl.client.remote import RemoteCaller
from fedctl.errors import Conflict, Denied, Failure, Locked, NotFound, Timeout, Unavailable, UsageError
from fedctl.hub import links
from fedctl.hub import peer as peer_module
from fedctl.messages.agent import GetAgent, ListAgents, RegisterAgent, ReportAgent, StopAgent
from fedctl.messages.hub import GetHubInfo, GetHubStats, ListEvents, Subscribe
from fedctl.messages.memory import DeleteEpisodes, GetEpisodes, ListEpisodes, MemoryStats, QueryEpisodes, StoreEpisodes
from fedctl.messages.token import RevokeToken
from fedctl.model.episode import EpisodeDraft
from fedctl.wire import session as said
from fedctl.wire.frames import prefixed

WAIT_S = 20


def eventually(check, timeout_s=WAIT_S):
    """Return what `check` returns once that is true: for what no event of ours can be waited on."""
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.01)
    return found


def store(caller, *ids, **fields):
    return caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=one, task="a task", **fields) for one in ids])).results


def register(caller, agent_id, lifetime_ms=60_000):
    return caller.call(RegisterAgent(id=agent_id, type="t", lifetime_ms=lifetime_ms, host="h", pid=1)).agent


# -- what it leaves on disk ----------------------------------------------------------------------------------------


def test_a_running_hub_says_where_it_is_for_the_owners_eyes_only(hub):
    assert read_info(hub.home) == hub.info
    assert local_hub(hub.home) == hub.unix_url
    assert hub.info.pid == os.getpid()
    for name, mode in [("hub.sock", 0o600), ("hub.json", 0o600), ("hub.lock", 0o600)]:
        assert stat.S_IMODE((hub.home / name).stat().st_mode) == mode


def test_a_hub_that_stopped_leaves_no_address_behind(hub):
    assert hub.stop() == 0
    assert read_info(hub.home) is None
    assert local_hub(hub.home) is None
    assert not (hub.home / "hub.sock").exists()


def test_the_log_file_is_folded_in_when_a_hub_stops(hub):
    store(hub.owner(), *(f"e{number}" for number in range(100)))
    assert (hub.home / "store.db-wal").stat().st_size > 0
    hub.stop()
    assert (hub.home / "store.db-wal").stat().st_size == 0


def test_a_home_with_a_long_path_has_its_socket_elsewhere(start_hub, tmp_path):
    home = tmp_path / ("long" * 30)
    hub = start_hub(home)
    assert len(hub.info.socket) < 104
    assert hub.info.socket == str(hub_socket(home))
    assert store(hub.owner(), "e1")[0].ok


def test_a_second_hub_on_a_home_is_refused_and_the_first_unharmed(hub, start_hub):
    with pytest.raises(Locked, match=rf"a hub runs on .* already \(pid {os.getpid()}\)"):
        start_hub(hub.home)
    assert store(hub.owner(), "e1")[0].ok
    assert read_info(hub.home) == hub.info


def test_a_hub_that_was_killed_is_followed_by_another(start_hub, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "hub.lock").write_text("999999\n")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(home / "hub.sock"))
    dead.close()
    (home / "hub.json").write_text("{")
    with pytest.raises(Unavailable, match="no hub answers"):
        RemoteCaller(f"unix:{home}/hub.sock")
    assert store(start_hub(home).owner(), "e1")[0].ok


@pytest.mark.parametrize("which", ["port", "http_port"])
def test_a_port_that_is_taken_is_named(start_hub, which):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"the port {port} on 127.0.0.1 is in use"):
            start_hub(**{which: port})


def test_a_hub_that_could_not_start_leaves_nothing_behind(start_hub, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unavailable):
        start_hub(port=taken.getsockname()[1])
    hub = start_hub()
    assert store(hub.owner(), "e1")[0].ok


def test_an_address_that_is_not_of_this_machine_is_refused(start_hub):
    with pytest.raises(UsageError, match=r"198\.51\.100\.7"):
        start_hub(host="198.51.100.7", insecure=True)


# -- sessions ------------------------------------------------------------------------------------------------------


def test_the_owner_stores_and_finds_on_the_hubs_own_socket(hub):
    owner = hub.owner()
    assert store(owner, "e1", output=2**63)[0].ok
    [episode] = owner.call(GetEpisodes(ids=["e1"])).episodes
    assert episode.output == 2**63
    assert [hit.id for hit in owner.call(QueryEpisodes(text="task")).hits] == ["e1"]


def test_the_owner_may_name_any_tenant_by_hello_or_by_call(hub):
    store(hub.owner("acme"), "e1")
    default = hub.owner()
    assert default.call(ListEpisodes()).episodes == []
    assert [one.id for one in default.call(ListEpisodes(), tenant_id="acme").episodes] == ["e1"]


def test_a_bearer_has_its_own_tenant_and_no_other(hub):
    store(hub.owner("other"), "secret")
    bearer = hub.bearer(hub.token("acme"))
    assert bearer.welcome.principal.tenant_id == "acme"
    assert bearer.call(GetEpisodes(ids=["secret"])).missing == ["secret"]
    for tenant in ("other", "absent"):
        with pytest.raises(Denied, match="this session is for the tenant acme"):
            bearer.call(GetEpisodes(ids=["secret"]), tenant_id=tenant)
    with pytest.raises(Denied, match="the token is for the tenant acme"):
        hub.bearer(hub.token("acme"), tenant_id="other")


def test_a_role_reaches_as_far_as_it_reaches(hub):
    agent = hub.bearer(hub.token("acme", role="agent"))
    with pytest.raises(Denied, match=r"memory\.delete needs the role admin"):
        agent.call(DeleteEpisodes(ids=["e1"]))
    with pytest.raises(Denied, match=r"hub\.stats needs the role operator"):
        agent.call(GetHubStats())
    with pytest.raises(Denied, match="to all tenants needs the role operator"):
        agent.call(Subscribe(all_tenants=True))
    assert hub.bearer(hub.token("acme", role="operator")).call(GetHubStats()).stats.connections >= 2


@pytest.mark.parametrize("token", [None, "", "nonsense", "a.b.c", "x" * 9000])
def test_the_network_side_wants_a_good_token(hub, token):
    with pytest.raises(Denied):
        hub.connect(hub.info.url, token=token)
    assert hub.logged("session.refused")


def test_a_token_too_large_for_a_first_frame_is_refused_before_it_is_sent(hub):
    with pytest.raises(UsageError, match="16,384"):
        hub.connect(hub.info.url, token="x" * 1_000_000)


def test_a_token_is_honoured_on_the_hubs_own_socket_too(hub):
    caller = hub.connect(hub.unix_url, token=hub.token("acme"))
    assert caller.welcome.principal.role == "agent"
    with pytest.raises(Denied):
        caller.call(ListEpisodes(), tenant_id="default")


def test_one_bad_call_does_not_end_a_session(hub):
    for caller in (hub.owner(), hub.bearer(hub.token())):
        with pytest.raises(UsageError):
            caller.call(QueryEpisodes(text="x", k=0))
        with pytest.raises(UsageError, match="Expected `int`"):
            caller.call(QueryEpisodes(text="x", k="ten"))
        assert caller.call(MemoryStats()).episodes == 0


def test_a_batch_with_a_draft_that_goes_into_no_frame_answers_draft_by_draft(hub):
    for caller in (hub.owner("a"), hub.bearer(hub.token("b"))):
        drafts = [
            EpisodeDraft(id="e1", task="good"),
            EpisodeDraft(id="e2", task="x", reward=float("nan")),
            EpisodeDraft(id="e3", task="\ud800"),
            EpisodeDraft(id="e4", task="x", input="y" * 20_000_000),
            EpisodeDraft(id="e5", task="good"),
        ]
        results = caller.call(StoreEpisodes(episodes=drafts)).results
        assert [(one.id, one.ok) for one in results] == [
            ("e1", True), ("e2", False), ("e3", False), ("e4", False), ("e5", True)
        ]  # fmt: skip
        assert "at most 1,048,576 bytes" in results[3].error["message"]


def test_a_batch_larger_than_a_frame_goes_in_parts(hub):
    drafts = [EpisodeDraft(id=f"e{number}", task="t", input="x" * 600_000) for number in range(12)]
    results = hub.owner().call(StoreEpisodes(episodes=drafts, echo=True)).results
    assert [one.id for one in results] == [f"e{number}" for number in range(12)]
    assert all(one.ok and one.episode is not None for one in results)


# -- strangers -----------------------------------------------------------------------------------------------------


def raw_unix(hub):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(WAIT_S)
    peer.connect(hub.info.socket)
    return peer


def read_all(peer):
    data = b""
    while chunk := peer.recv(1 << 16):
        data += chunk
    return data


@pytest.mark.parametrize(
    "sent",
    [
        prefixed(b"{}"),
        prefixed(b"\xff" * 100),
        prefixed(b"[" * 10_000),
        (1 << 31).to_bytes(4, "big"),
        prefixed(b" " * 17_000),
        prefixed(b'{"frame":"hello","protocol":"gossip","version":3}'),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_a_stranger_on_the_unix_socket_is_told_and_let_go(hub, sent):
    with raw_unix(hub) as peer:
        peer.sendall(sent)
        reply = said.ClientSession().receive(read_all(peer)[4:])
    assert isinstance(reply, said.Denied)
    assert store(hub.owner(), "e1")[0].ok


def test_a_peer_that_hangs_up_in_the_middle_of_a_frame_is_forgotten(hub):
    for _ in range(50):
        with raw_unix(hub) as peer:
            peer.sendall((1000).to_bytes(4, "big") + b"half")
    assert store(hub.owner(), "e1")[0].ok
    assert not hub.logged("error.internal")


def handshake(hub, **headers):
    host, _, port = hub.info.url.removeprefix("ws://").rpartition(":")
    peer = socket.create_connection((host, int(port)), timeout=WAIT_S)
    given = {
        "Host": f"{host}:{port}", "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13", **headers,
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    peer.sendall(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())
    return peer


def status_of(peer):
    return int(peer.recv(1 << 16).split(b" ")[1])


def test_a_page_of_another_origin_does_not_reach_the_hub(hub):
    with handshake(hub, Origin="https://example.org") as peer:
        assert status_of(peer) == 403
    with handshake(hub, Host="example.org") as peer:
        assert status_of(peer) == 403
    with handshake(hub) as peer:
        assert status_of(peer) == 101


def flood(peer):
    for _ in range(1000):
        peer.sendall(b"x" * 10_000)


def test_a_stranger_on_the_network_may_send_only_so_much(hub):
    with handshake(hub) as peer:
        assert status_of(peer) == 101
        # The header of a message of 3 MB, then its beginning: the hub hangs up before it is all there.
        peer.sendall(b"\x81\xff" + (3_000_000).to_bytes(8, "big") + b"\0\0\0\0")
        with pytest.raises(OSError):
            flood(peer)
    assert hub.bearer(hub.token()).call(MemoryStats()).episodes == 0


def test_a_stranger_who_says_nothing_is_let_go_in_time(hub, monkeypatch):
    monkeypatch.setattr(links, "HELLO_TIMEOUT_S", 0.5)
    with raw_unix(hub) as quiet, handshake(hub) as quiet_too:
        assert status_of(quiet_too) == 101
        began = time.monotonic()
        assert b"no hello came in time" in read_all(quiet)
        assert b"no hello came in time" in read_all(quiet_too)
        assert 0.4 < time.monotonic() - began < 3


def test_ten_thousand_bytes_of_noise_after_the_welcome_end_that_session_only(hub):
    noisy, good = hub.owner(), hub.owner()
    noisy._transport.send(b"\x00" * 10_000, 5)
    with pytest.raises((UsageError, Unavailable)):
        noisy.call(MemoryStats())
    assert store(good, "e1")[0].ok


# -- agents --------------------------------------------------------------------------------------------------------


def test_agents_are_seen_coming_working_and_going(hub):
    monitor = hub.owner("acme")
    monitor.call(Subscribe(kinds=["agent_status"]))
    agent = hub.bearer(hub.token("acme", agent_id="a1"))
    register(agent, "a1")
    assert monitor.call(GetHubStats()).stats.connected_agents == 1
    for status in ("initializing", "ready", "working", "shutting_down", "dead"):
        agent.call(ReportAgent(id="a1", status=status))
    agent.close()
    eventually(lambda: monitor.call(GetHubStats()).stats.connected_agents == 0)
    seen = [event.detail["status"] for event in monitor.notices(timeout_s=0.5)]
    assert seen == ["spawning", "initializing", "ready", "working", "shutting_down", "dead"]
    assert [line.split(" ")[1] for line in hub.lines if " agent.spawning" in line or " agent.dead" in line] == [
        "agent.spawning",
        "agent.dead",
    ]


def test_one_more_agent_than_the_hub_takes_is_refused_clearly(start_hub):
    hub = start_hub(max_agents=2)
    first = hub.bearer(hub.token("acme", agent_id="a1"))
    hub.bearer(hub.token("acme", agent_id="a2"))
    with pytest.raises(Unavailable, match="this hub has its 2 agents"):
        hub.bearer(hub.token("acme", agent_id="a3"))
    hub.bearer(hub.token("acme", agent_id="a1"))
    assert store(hub.owner(), "e1")[0].ok
    hub.bearer(hub.token("acme", role="admin"))
    first.close()


def test_an_agent_is_asked_to_stop_and_a_stranger_is_not_found(hub):
    owner = hub.owner("acme")
    agent = hub.bearer(hub.token("acme", agent_id="a1"))
    register(agent, "a1")
    heard = []
    take = agent._take

    def listen(frame):
        event = take(frame)
        if isinstance(event, said.StopAsked):
            heard.append(event.reason)
        return event

    agent._take = listen
    owner.call(StopAgent(id="a1"))
    list(agent.notices(timeout_s=0.5))
    assert heard == ["it was asked to stop"]
    with pytest.raises(NotFound):
        owner.call(StopAgent(id="a9"))
    with pytest.raises(NotFound):
        owner.call(StopAgent(id="a1"), tenant_id="other")


def test_whoever_reports_of_an_agent_does_not_speak_for_it(hub):
    agent, other = hub.bearer(hub.token("acme", agent_id="a1")), hub.owner("acme")
    register(agent, "a1")
    other.call(ReportAgent(id="a1", status="initializing"))
    [peer] = hub.hub._sweeper.peers_of("acme", "a1")
    assert peer.principal.token_id == agent.welcome.principal.token_id


def test_the_second_life_of_a_name_that_is_alive_is_a_conflict(hub):
    register(hub.owner("acme"), "a1")
    other = hub.owner("acme")
    with pytest.raises(Conflict, match="is alive"):
        other.call(RegisterAgent(id="a1", type="t", lifetime_ms=60_000, host="elsewhere", pid=2))


def test_an_agent_left_behind_by_an_earlier_hub_is_dead_to_the_next(start_hub, tmp_path):
    hub = start_hub()
    register(hub.owner("acme"), "a1", lifetime_ms=5_000)
    hub.stop()
    clock = hub.context.clock
    real_now_ms = clock.now_ms

    class Later(type(clock)):
        def now_ms(self):
            return real_now_ms() + 60_000

    again = start_hub()
    again.context.clock.__class__ = Later
    again.hub._on_loop(again.hub._sweeper.start)
    owner = again.owner("acme")
    eventually(lambda: owner.call(GetAgent(id="a1")).agent.status == "dead")
    assert owner.call(ListAgents()).agents == []


# -- news ----------------------------------------------------------------------------------------------------------


def test_news_of_a_tenant_reach_its_sessions_and_nobody_elses(hub):
    listener, other = hub.bearer(hub.token("acme")), hub.bearer(hub.token("other"))
    for caller in (listener, other):
        caller.call(Subscribe())
    store(hub.owner("acme"), "e1", "e2")
    assert [event.subject for event in listener.notices(timeout_s=1)] == ["e1", "e2"]
    assert list(other.notices(timeout_s=0.2)) == []


def test_an_agent_hears_of_others_and_not_of_itself(hub):
    one, two = (hub.bearer(hub.token("acme", agent_id=name)) for name in ("a1", "a2"))
    for caller in (one, two):
        caller.call(Subscribe(kinds=["episode_stored"]))
    store(one, "e1")
    [event] = two.notices(timeout_s=1)
    assert (event.subject, event.detail) == ("e1", {"agent_id": "a1"})
    assert list(one.notices(timeout_s=0.2)) == []


def test_news_of_what_another_process_stored_come_too(hub, make_bench):
    listener = hub.owner("acme")
    listener.call(Subscribe())
    outside = make_bench(home=hub.home)
    outside.keep("e1", tenant="acme")
    assert [event.subject for event in listener.notices(timeout_s=2)] == ["e1"]


@pytest.mark.parametrize("way", ["unix", "websocket"])
def test_a_listener_that_does_not_read_is_told_why_it_is_dropped_and_reads_on_from_its_cursor(hub, way):
    deaf = hub.owner("acme") if way == "unix" else hub.bearer(hub.token("acme"))
    writer = hub.owner("acme")
    deaf.call(Subscribe())
    stored = 0
    while not (slow := [peer for peer in hub.hub._desk.peers if peer.dropped_why]):
        store(writer, *(f"{'e' * 150}{stored + number}" for number in range(500)))
        stored += 500
        assert stored < 100_000, "what is sent to it has no bound"
    assert [peer.dropped_why for peer in slow] == ["it reads too slowly"]
    assert store(writer, "last")[0].ok
    seen = []
    with pytest.raises(Unavailable, match="reads too slowly"):
        seen.extend(event.seq for event in deaf.notices(timeout_s=10))
    assert seen == list(range(1, len(seen) + 1))
    assert 0 < len(seen) < stored + 1
    again = hub.owner("acme")
    page = again.call(ListEvents(after=seen[-1]))
    rest = [one.seq for one in page.events]
    while page.more:
        page = again.call(ListEvents(after=page.cursor))
        rest += [one.seq for one in page.events]
    assert seen + rest == list(range(1, stored + 2))
    with pytest.raises(Unavailable):
        deaf.call(MemoryStats())


def test_a_listener_that_never_reads_again_is_gone_after_a_while(hub, monkeypatch):
    monkeypatch.setattr(peer_module, "TOO_SLOW_S", 0.2)
    deaf, writer = hub.owner("acme"), hub.owner("acme")
    deaf.call(Subscribe())
    for batch in range(40):
        store(writer, *(f"{'e' * 150}{batch}-{number}" for number in range(500)))
        if len(hub.hub._desk.peers) == 1:
            break
    eventually(lambda: len(hub.hub._desk.peers) == 1)


# -- tokens on live sessions ---------------------------------------------------------------------------------------


def test_revoking_a_token_ends_its_sessions_within_a_second(hub):
    token = hub.token("acme")
    bearer, other = hub.bearer(token), hub.bearer(hub.token("acme"))
    hub.owner().call(RevokeToken(id=bearer.welcome.principal.token_id))
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"the token was revoked \(4002\)|4002 the token was revoked"):
        list(bearer.notices(timeout_s=5))
    assert time.monotonic() - began < 1
    with pytest.raises(Denied, match="was revoked"):
        hub.bearer(token)
    assert other.call(MemoryStats()).episodes == 0


def test_a_token_revoked_by_another_process_ends_its_sessions_too(hub, make_bench):
    bearer = hub.bearer(hub.token("acme"))
    outside = make_bench(home=hub.home)
    began = time.monotonic()
    outside.call(RevokeToken(id=bearer.welcome.principal.token_id))
    with pytest.raises(Unavailable, match="revoked"):
        list(bearer.notices(timeout_s=5))
    assert time.monotonic() - began < 1


def test_a_session_ends_when_its_token_does(hub):
    bearer = hub.bearer(hub.token("acme", ttl_ms=1500))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="the token has expired"):
        list(bearer.notices(timeout_s=10))
    assert time.monotonic() - began < 3.5


# -- plain GETs ----------------------------------------------------------------------------------------------------


def get(hub, path, **headers):
    asked = urllib.request.Request(hub.info.http_url + path, headers=headers)
    with urllib.request.urlopen(asked, timeout=WAIT_S) as response:
        return response.headers.get_content_type(), response.read().decode()


def test_health_and_readiness_are_told_and_nothing_of_tenants_with_them(hub):
    store(hub.owner("very-secret"), "e1")
    for path in ("/health", "/ready"):
        assert get(hub, path) == ("application/json", '{"status":"ok"}')


def test_figures_are_told_as_json_and_for_prometheus(hub):
    store(hub.owner(), "e1", "e2")
    _, stats = get(hub, "/stats")
    assert json.loads(stats)["episodes"] == 2
    kind, text = get(hub, "/metrics?anything")
    assert kind == "text/plain"
    assert "\nfedctl_episodes 2\n" in text
    assert "\nfedctl_acked_episodes_total 2\n" in text


@pytest.mark.parametrize(("path", "status"), [("/health/", 404), ("/../hub.json", 404), ("/%2e%2e", 404)])
def test_there_are_no_other_pages(hub, path, status):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(hub, path)
    assert caught.value.code == status
    caught.value.close()


def test_the_pages_are_not_for_other_hosts_and_origins(hub):
    for headers in ({"Host": "example.org"}, {"Origin": "https://example.org"}):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(hub, "/stats", **headers)
        assert caught.value.code == 403
        caught.value.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_and_head_are_answered(hub, method):
    asked = urllib.request.Request(hub.info.http_url + "/health", method=method)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=WAIT_S)
    assert caught.value.code == 405
    caught.value.close()


# -- figures -------------------------------------------------------------------------------------------------------


def test_a_hub_tells_its_figures(hub):
    owner = hub.owner()
    store(owner, *(f"e{number}" for number in range(10)))
    with pytest.raises(UsageError):
        owner.call(QueryEpisodes(text="x", k=0))
    stats = owner.call(GetHubStats()).stats
    assert (stats.episodes, stats.tenants, stats.acked_episodes) == (10, 1, 10)
    assert stats.latencies["memory.store"].count == 1
    assert stats.errors == {"usage": 1}
    assert stats.rss_bytes > 10_000_000
    assert owner.call(GetHubInfo()).hub == hub.info


def test_where_the_hubs_files_lie_is_told_to_who_runs_it_only(hub):
    found = hub.bearer(hub.token("acme", role="admin")).call(GetHubInfo()).hub
    assert (found.home, found.socket, found.url) == ("", "", hub.info.url)
    assert hub.bearer(hub.token("acme", role="operator")).call(GetHubInfo()).hub == hub.info


def test_what_is_stored_is_embedded_in_the_background(hub):
    owner = hub.owner()
    store(owner, *(f"e{number}" for number in range(100)))
    eventually(lambda: owner.call(MemoryStats()).pending_embeddings == 0)


# -- the end -------------------------------------------------------------------------------------------------------


def test_sessions_are_told_that_the_hub_stops(hub):
    unix, web = hub.owner(), hub.bearer(hub.token())
    assert hub.end() == 0
    for caller in (unix, web):
        with pytest.raises(Unavailable, match=r"the hub is stopping \(1001\)|1001 the hub is stopping"):
            list(caller.notices(timeout_s=5))
        with pytest.raises(Unavailable):
            caller.call(MemoryStats())


def test_what_is_in_flight_when_the_hub_stops_is_answered_or_refused(hub, make_bench):
    answered, refused, broken = [], [], []

    def push(number):
        caller = hub.owner()
        try:
            for count in range(10_000):
                answered.extend(one.id for one in store(caller, f"e{number}-{count}") if one.ok)
        except Unavailable as error:
            (refused if "stopping" in error.message else broken).append(error)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answered) > 200)
    began = time.monotonic()
    assert hub.end() == 0
    assert time.monotonic() - began < 5
    for thread in threads:
        thread.join(WAIT_S)
    kept = set(make_bench(home=hub.home).ids())
    assert set(answered) <= kept
    assert len(refused) + len(broken) == 8


def test_a_hub_whose_store_fails_goes_down_and_says_so(hub, monkeypatch):
    owner = hub.owner()
    store(owner, "e1")
    database = hub.hub._writer._context.store.database

    def failing():
        raise Failure("the disk does not answer")

    monkeypatch.setattr(database, "_check_open", failing)
    with pytest.raises(Failure, match="the disk does not answer"):
        store(owner, "e2")
    hub._thread.join(WAIT_S)
    assert hub.status == 1
    assert hub.logged("error.fatal")
    hub.context.close()


def test_a_call_that_takes_too_long_times_out_and_the_session_goes_on(hub):
    owner = hub.owner()
    with hub.context.store.write():
        owner.timeout_ms = 300
        with pytest.raises(Timeout):
            store(owner, "e1")
    owner.timeout_ms = 20_000
    assert store(owner, "e2")[0].ok
    eventually(lambda: len(owner.call(ListEpisodes()).episodes) == 2)
