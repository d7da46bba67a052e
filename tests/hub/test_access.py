"""Who is let in, how many, and for how long: through real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from fedctl.access import certificates
from fedctl.client.tls import Trust
from fedctl.errors import Denied, Unavailable, UsageError
from fedctl.hub.options import HubServerOptions, check, connections_max
from fedctl.messages.agent import ListAgents, RegisterAgent
from fedctl.messages.hub import GetHubInfo, GetHubStats
from fedctl.messages.memory import ListEpisodes, MemoryStats, StoreEpisodes
from fedctl.messages.pool import ListPools, PushItems
from fedctl.messages.tenant import SetTenant
from fedctl.messages.token import IssueToken, RotateKey
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import ItemDraft

NOW_MS = 1_800_000_000_000


@pytest.fixture
def hub(start_hub):
    return start_hub()


def ended(caller) -> str:
    """Wait until the hub ends a session, and return what it said."""
    said: list[str] = []

    def watch() -> None:
        try:
            list(caller.notices())
        except Unavailable as error:
            said.append(error.message)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    thread.join(10)
    assert said, "the session did not end"
    return said[0]


def register(caller, agent_id):
    return caller.call(RegisterAgent(id=agent_id, type="t", lifetime_ms=60_000, host="h", pid=1))


def store(caller, *ids):
    return caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=one, task="t") for one in ids])).results


# -- keys ----------------------------------------------------------------------------------------------------------


def test_a_rotation_without_grace_ends_the_sessions_of_the_old_key_and_no_others(hub):
    old_token = hub.token("acme")
    old, owner = hub.bearer(old_token), hub.owner()
    answer = owner.call(RotateKey(grace_ms=0))
    assert answer.removed_keys == 1
    assert "the key of its token was rotated out" in ended(old)
    with pytest.raises(Denied, match="a key that this home does not have"):
        hub.bearer(old_token)
    assert hub.bearer(hub.token("acme")).call(MemoryStats()).tenant_id == "acme"
    owner.call(MemoryStats())


def test_a_rotation_disturbs_nobody_unless_it_is_told_to(hub):
    tokens = [hub.token("acme", ttl_ms=600_000), hub.token("acme", ttl_ms=3_600_000)]
    callers = [hub.bearer(token) for token in tokens]
    answer = hub.owner().call(RotateKey())
    for token, caller in zip(tokens, callers, strict=True):
        caller.call(MemoryStats())
        hub.bearer(token).call(MemoryStats())
    assert answer.removed_keys == 0


def test_a_rotation_by_another_process_is_noticed_by_the_hub(hub, make_bench):
    from fedctl.clock import Clock

    session = hub.bearer(hub.token("acme"))
    elsewhere = make_bench(hub.home, clock=Clock())
    elsewhere.call(RotateKey(grace_ms=0))
    assert "rotated out" in ended(session)
    signed_there = elsewhere.call(IssueToken(tenant_id="acme")).token
    assert hub.bearer(signed_there).call(MemoryStats()).tenant_id == "acme"


def test_only_an_operator_rotates_keys(hub):
    for role in ("agent", "admin"):
        with pytest.raises(Denied):
            hub.bearer(hub.token("acme", role=role)).call(RotateKey(grace_ms=0))
    operator = hub.bearer(hub.token("acme", role="operator"))
    operator.call(RotateKey(grace_ms=60_000))
    operator.call(MemoryStats())


# -- how many ------------------------------------------------------------------------------------------------------


def test_agents_are_counted_also_when_many_register_through_one_session(start_hub):
    hub = start_hub(max_agents=2)
    crowd = hub.bearer(hub.token("acme", role="admin"))
    register(crowd, "a1")
    register(crowd, "a2")
    with pytest.raises(Unavailable, match="this hub has its 2 agents"):
        register(crowd, "a3")
    register(crowd, "a2")
    assert len(crowd.call(ListAgents()).agents) == 2
    with pytest.raises(Unavailable, match="this hub has its 2 agents"):
        hub.bearer(hub.token("acme", agent_id="a3"))
    crowd.close()


def test_strangers_of_one_address_are_bounded_and_who_is_known_is_not(start_hub):
    hub = start_hub(max_strangers=2)
    known = [hub.bearer(hub.token("acme")) for _ in range(4)]
    host, port = hub.info.url.removeprefix("ws://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(2)]
    with pytest.raises(Unavailable, match="hung up without a word"):
        hub.bearer(hub.token("acme"))
    for one in silent:
        one.close()
    for caller in known:
        caller.call(MemoryStats())
    assert [line for line in hub.lines if "have not said who they are" in line]
    # The closed ones are counted no more, as soon as the hub has seen them go.
    for _ in range(100):
        with contextlib.suppress(Unavailable):
            assert hub.bearer(hub.token("acme")).call(MemoryStats()).tenant_id == "acme"
            return
    pytest.fail("nobody is let in any more")


def test_a_flood_of_silent_connections_keeps_nobody_out_for_longer_than_a_second(start_hub):
    hub = start_hub(max_strangers=3)
    host, port = hub.info.url.removeprefix("ws://").split(":")
    token = hub.token("acme")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection((host, int(port))))
        for _ in range(400):  # each try takes a few milliseconds; after a second the oldest silent one gives way
            with contextlib.suppress(Unavailable):
                assert hub.bearer(token).call(MemoryStats()).tenant_id == "acme"
                return
            threading.Event().wait(0.01)
    pytest.fail("silent connections kept an honest one out")


def test_strangers_are_counted_before_tls(start_hub, tls):
    hub = start_hub(max_strangers=2, tls_cert=tls.ours.cert, tls_key=tls.ours.key)
    host, port = hub.info.url.removeprefix("wss://").split(":")
    token = hub.token("acme")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection((host, int(port))))
        with pytest.raises(Unavailable, match="hung up without a word"):
            hub.bearer(token, trust=trusting(tls))


def test_connections_in_all_are_bounded(start_hub):
    hub = start_hub(max_connections=2)
    token = hub.token("acme")
    first, second = hub.bearer(token), hub.bearer(token)
    with pytest.raises(Unavailable, match="hung up without a word"):
        hub.bearer(token)
    assert hub.owner().call(MemoryStats()).tenant_id == "default", "the owner's own socket is not counted"
    first.close()
    second.call(MemoryStats())


@pytest.mark.parametrize("name", ["max_agents", "max_connections", "max_strangers"])
def test_a_bound_below_one_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        check(HubServerOptions(home=tmp_path, **{name: 0}))


def test_no_more_connections_are_promised_than_there_are_files(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        most = connections_max(HubServerOptions(home=tmp_path, max_connections=10**9))
        assert 0 < most < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert connections_max(HubServerOptions(home=tmp_path, max_connections=5)) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- quotas --------------------------------------------------------------------------------------------------------


def test_a_rate_that_is_set_while_the_hub_runs_holds_and_is_lifted_again(hub):
    owner, bearer = hub.owner(), hub.bearer(hub.token("acme"))
    other = hub.bearer(hub.token("acme-corp"))
    for _ in range(30):
        bearer.call(MemoryStats())
    owner.call(SetTenant(name="acme", rate_per_s=0.5))
    refused = None
    for _ in range(1000):  # until the hub has taken it over
        try:
            bearer.call(MemoryStats())
        except Unavailable as error:
            refused = error
            break
    assert refused is not None
    assert refused.details["quota"] == "rate"
    assert refused.details["retry_in_ms"] > 0
    other.call(MemoryStats())
    hub.owner("acme-corp").call(MemoryStats())
    with pytest.raises(Unavailable, match=r"asks more than its 0\.5 a second"):
        hub.owner("acme").call(ListEpisodes())
    owner.call(SetTenant(name="acme", rate_per_s=None))
    for _ in range(1000):
        with contextlib.suppress(Unavailable):
            bearer.call(MemoryStats())
            return
    pytest.fail("the limit was not lifted")


def test_an_operator_is_never_kept_from_lifting_a_limit(hub):
    operator = hub.bearer(hub.token("acme", role="operator"))
    operator.call(SetTenant(name="acme", rate_per_s=0.01))
    for _ in range(20):
        operator.call(SetTenant(name="acme", rate_per_s=0.01, max_episodes=1))


def test_a_quota_is_exact_however_many_push_at_once(hub):
    hub.owner().call(SetTenant(name="acme", max_episodes=40))
    acked: list[int] = []

    def push(number: int) -> None:
        caller = hub.bearer(hub.token("acme", agent_id=f"a{number}"))
        acked.append(sum(store(caller, f"{number}-{turn}")[0].ok for turn in range(20)))

    threads = [threading.Thread(target=push, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(acked) == 40
    assert hub.owner("acme").call(MemoryStats()).episodes == 40


# -- tenants whose names are alike ---------------------------------------------------------------------------------

ALIKE = ["acme", "acme-corp", "ACME", "acm_", "acme.", "acm"]


def test_tenants_whose_names_are_alike_are_others(hub):
    callers = {name: hub.bearer(hub.token(name)) for name in ALIKE}
    for name, caller in callers.items():
        store(caller, "same id")
        store(caller, f"of {name}")
        caller.call(PushItems(pool="p", items=[ItemDraft(id="i", data=name)]))
        register(caller, "a1")
    for name, caller in callers.items():
        listed = caller.call(ListEpisodes(order="oldest")).episodes
        assert [(one.id, one.tenant_id) for one in listed] == [("same id", name), (f"of {name}", name)]
        assert [pool.pending for pool in caller.call(ListPools()).pools] == [1]
        assert [agent.tenant_id for agent in caller.call(ListAgents()).agents] == [name]


@pytest.mark.parametrize("name", ["acme%", "../acme", "acme*", "acme'", "acme\n", " acme", "\u0430cme"])
def test_what_is_no_tenant_is_refused_on_every_way_in(hub, name):
    with pytest.raises(UsageError):
        hub.owner().call(IssueToken(tenant_id=name))
    with pytest.raises(UsageError):
        hub.owner(name)
    with pytest.raises(UsageError):
        hub.owner().call(MemoryStats(), tenant_id=name)
    bearer = hub.bearer(hub.token("acme"))
    with pytest.raises((UsageError, Denied)):
        bearer.call(MemoryStats(), tenant_id=name)


@pytest.mark.parametrize("role", ["agent", "admin", "operator"])
def test_naming_another_tenant_in_a_call_is_denied_like_naming_one_that_is_not(hub, role):
    store(hub.owner("theirs"), "e")
    bearer = hub.bearer(hub.token("acme", role=role))
    told = []
    for name in ("theirs", "absent"):
        with pytest.raises(Denied) as caught:
            bearer.call(MemoryStats(), tenant_id=name)
        told.append(str(caught.value.as_dict()).replace(name, "X"))
    assert told[0] == told[1]


# -- the plain GETs ------------------------------------------------------------------------------------------------


def get(hub, path, *headers, context=None):
    """Return status and body."""
    asked = urllib.request.Request(hub.info.http_url + path)
    for name, value in headers:
        asked.add_unredirected_header(name, value)
    try:
        with urllib.request.urlopen(asked, timeout=20, context=context) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


AWAY = ("X-Forwarded-For", "192.0.2.7")


def test_health_and_ready_tell_nothing_of_tenants(hub):
    store(hub.owner("acme"), "e")
    for path in ("/health", "/ready"):
        assert get(hub, path) == get(hub, path, AWAY) == (200, '{"status":"ok"}')


@pytest.mark.parametrize("path", ["/stats", "/metrics"])
def test_figures_are_told_to_this_machine_and_to_operators_and_to_nobody_else(hub, path):
    def bearer(role):
        return ("Authorization", f"Bearer {hub.token('acme', role=role)}")

    assert get(hub, path)[0] == 200
    assert get(hub, path, AWAY)[0] == 401
    assert get(hub, path, AWAY, ("Authorization", "Basic b3BlcmF0b3I6"))[0] == 401
    assert get(hub, path, AWAY, ("Authorization", "Bearer"))[0] == 401
    assert get(hub, path, AWAY, ("Authorization", "Bearer x.y.z"))[0] == 401
    assert [get(hub, path, AWAY, bearer(role))[0] for role in ("agent", "admin")] == [403, 403]
    status, body = get(hub, path, AWAY, bearer("operator"))
    assert status == 200
    assert "episodes" in body
    assert [line for line in hub.lines if "Traceback" in line] == []


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For"])
def test_a_proxy_on_this_machine_does_not_make_everybody_local(hub, header):
    assert get(hub, "/metrics", (header, "x"))[0] == 401


def test_figures_over_the_socket_are_an_operators_too(hub):
    with pytest.raises(Denied):
        hub.bearer(hub.token("acme", role="admin")).call(GetHubStats())
    hub.bearer(hub.token("acme", role="operator")).call(GetHubStats())


def test_a_name_and_an_origin_that_were_allowed_come_in(start_hub):
    hub = start_hub(host_names=("hub.example.org",), origins=("https://monitor.example.org",))
    assert get(hub, "/health", ("Host", "hub.example.org:8444"))[0] == 200
    assert get(hub, "/health", ("Host", "evil.example.org"))[0] == 403
    assert get(hub, "/health", ("Origin", "https://monitor.example.org"))[0] == 200
    assert get(hub, "/health", ("Origin", "https://monitor.example.org.evil.org"))[0] == 403


@pytest.mark.parametrize("origin", ["monitor.example.org", "https://", "*", "null", "https://a/b", "ftp://a"])
def test_what_is_no_origin_is_refused_at_the_start(tmp_path, origin):
    with pytest.raises(UsageError, match="is no origin"):
        check(HubServerOptions(home=tmp_path, origins=(origin,)))


# -- certificates --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder, names = tmp_path_factory.mktemp("tls"), ("localhost", "127.0.0.1")
    now_ms, life_ms = _now_ms(), 86_400_000
    ours = certificates.make(folder / "ours", names, now_ms=now_ms, life_ms=life_ms)
    theirs = certificates.make(folder / "theirs", names, now_ms=now_ms, life_ms=life_ms)
    return SimpleNamespace(ours=ours, theirs=theirs)


def _now_ms():
    from fedctl.clock import Clock

    return Clock().now_ms()


@pytest.fixture
def mutual(start_hub, tls):
    return start_hub(tls_cert=tls.ours.cert, tls_key=tls.ours.key, tls_client_ca=tls.ours.ca)


def trusting(tls, pair=None):
    return Trust(ca=tls.ours.ca, cert=pair and pair.client_cert, key=pair and pair.client_key)


def test_with_a_certificate_of_the_hubs_authority_a_client_comes_in_by_its_token(mutual, tls):
    caller = mutual.bearer(mutual.token("acme"), trust=trusting(tls, tls.ours))
    assert caller.call(GetHubInfo()).hub.url.startswith("wss://")
    with pytest.raises(Denied, match="wants a token"):
        mutual.connect(mutual.info.url, trust=trusting(tls, tls.ours))


def test_a_client_without_a_certificate_is_told_so(mutual, tls):
    with pytest.raises(Denied, match="lets in only clients with a certificate") as caught:
        mutual.bearer(mutual.token("acme"), trust=trusting(tls))
    assert "--client-cert" in caught.value.hint


def test_an_agents_link_shows_its_certificate_too(mutual, tls):
    import asyncio

    from fedctl.client.link import AsyncCaller

    async def main():
        token = mutual.token("acme")
        caller = await AsyncCaller.connect(mutual.info.url, token=token, trust=trusting(tls, tls.ours))
        assert (await caller.call(MemoryStats())).tenant_id == "acme"
        await caller.close()
        with pytest.raises(Denied, match="certificate"):
            await AsyncCaller.connect(mutual.info.url, token=token, trust=trusting(tls))

    asyncio.run(main())


def test_a_certificate_of_another_authority_does_not_come_in(mutual, tls):
    with pytest.raises(Unavailable, match="hung up without a word") as caught:
        mutual.bearer(mutual.token("acme"), trust=trusting(tls, tls.theirs))
    assert "--client-cert" in caught.value.hint


def test_a_hubs_own_certificate_is_none_of_a_clients(mutual, tls):
    pair = SimpleNamespace(client_cert=tls.ours.cert, client_key=tls.ours.key)
    with pytest.raises(Unavailable, match="hung up without a word"):
        mutual.bearer(mutual.token("acme"), trust=trusting(tls, pair))


def test_the_plain_gets_want_a_certificate_as_well(mutual, tls):
    context = ssl.create_default_context(cafile=tls.ours.ca)
    assert get(mutual, "/health", context=context)[0] == 403
    context.load_cert_chain(tls.ours.client_cert, tls.ours.client_key)
    assert get(mutual, "/health", context=context)[0] == 200


def test_an_authority_that_was_not_named_is_not_trusted(mutual, tls):
    with pytest.raises(Denied, match="is not trusted") as caught:
        mutual.bearer(mutual.token("acme"), trust=Trust(ca=tls.theirs.ca))
    assert "--tls-ca" in caught.value.hint


def test_client_certificates_without_tls_make_no_sense(tmp_path, tls):
    with pytest.raises(UsageError, match="--tls-client-ca needs"):
        check(HubServerOptions(home=tmp_path, tls_client_ca=tls.ours.ca))
