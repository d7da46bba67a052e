"""The monitor: what is served, who may watch, and that who watches changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

import fedctl.hub
from fedctl.access import certificates
from fedctl.clock import Clock
from fedctl.hub.watch import FRAME_MAX_BYTES, socket_uid
from fedctl.messages.hub import GetHubStats
from fedctl.messages.memory import MemoryStats, StoreEpisodes
from fedctl.messages.tenant import SetTenant
from fedctl.messages.token import RevokeToken
from fedctl.model.episode import EpisodeDraft
from fedctl.wire import frames

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is")
FILES = {one.name: one.read_text("utf-8") for one in (Path(fedctl.hub.__file__).parent / "monitor").iterdir()}
PATHS = ["/", *(f"/{name}" for name in FILES if not name.endswith(".html"))]


@pytest.fixture
def hub(start_hub):
    """A hub that is told that whoever connects is of the same user."""
    return start_hub(uid_of=lambda _peer, _ours: os.geteuid())


@pytest.fixture
def watching():
    """Open a socket as the page does; a part that is given is another than the page's."""
    with contextlib.ExitStack() as stack:

        def watch(  # noqa: PLR0913  what a page cannot choose, and others can
            hub, *, at=None, host=None, origin="own", headers=(), tls=None, **hello
        ):
            there = urlsplit(at or opened(hub))
            host = host or there.netloc
            scheme = {"http": "ws", "https": "wss"}[there.scheme]
            own = f"{there.scheme}://{host}"
            connection = stack.enter_context(
                connect(
                    f"{scheme}://{host}/ws", sock=socket.create_connection((there.hostname, there.port)), ssl=tls,
                    origin=own if origin == "own" else origin, additional_headers=headers, compression=None, proxy=None,
                )
            )  # fmt: skip
            connection.send(json.dumps({"frame": "hello", "protocol": "fedctl", "version": 1, **hello}))
            return connection

        yield watch


def heard(connection):
    return json.loads(connection.recv(timeout=20))


def principal(connection):
    """Return who the hub takes a connection for; or the code of why it does not let it in."""
    frame = heard(connection)
    return frame["principal"] if frame["frame"] == "welcome" else frame["error"]["code"]


def ask(connection, op, fields=None, *, tenant_id=None):
    """Return a call's answer, or the code of its error."""
    call = {"frame": "call", "id": 1, "tenant_id": tenant_id, "request": {"op": op, **(fields or {})}}
    connection.send(json.dumps(call))
    frame = heard(connection)
    return frame["answer"] if frame["frame"] == "answer" else frame["error"]["code"]


def opened(hub):
    """Return where the page is that the hub shows to whoever opens the address that it tells."""
    return hub.info.http_url if hub.info.http_url.startswith("https") else led(hub) or hub.info.http_url


def led(hub, **parts):
    refresh = get(hub, "/", at=hub.info.http_url, **parts).headers.get("Refresh")
    return None if refresh is None else refresh.removeprefix("0; url=")


def get(hub, path, *, at=None, method="GET", host=None, **headers):
    there = urlsplit(at or (opened(hub) if path == "/" else hub.info.http_url))
    with contextlib.closing(http.client.HTTPConnection(there.hostname, there.port, timeout=20)) as connection:
        connection.request(method, path, headers={"Host": host or there.netloc, **headers})
        response = connection.getresponse()
        return SimpleNamespace(status=response.status, headers=dict(response.headers), body=response.read())


def store(caller, *ids):
    caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=one, task=f"the task of {one}") for one in ids]))


# -- what is served ------------------------------------------------------------------------------------------------


def test_every_file_is_served_and_may_load_nothing_from_elsewhere(hub):
    for path in PATHS:
        page = get(hub, path)
        assert page.status == 200
        assert page.body.decode() in FILES.values()
        policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
        assert "unsafe" not in str(policy)
        expected = {"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        assert {name: page.headers[name] for name in expected} == expected
    assert get(hub, "/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert get(hub, "/monitor.js?v=2").headers["Content-Type"] == "text/javascript; charset=utf-8"


def test_the_files_name_no_other_site_and_nothing_that_is_not_served():
    for name, text in FILES.items():
        links = {
            link for link in re.findall(r"\b(?:https?|wss?|data|blob):[^\s\"'`$]+", text) if "www.w3.org" not in link
        }
        assert not links, name
    named = re.findall(r"(?:src|href)=\"([^\"]*)\"", FILES["monitor.html"])
    imported = [f"/{one}" for name in FILES for one in re.findall(r"from \"\./([^\"]*)\"", FILES[name])]
    assert {*named, *imported} - {"/stats"} == {*PATHS} - {"/"}


def test_nothing_that_was_stored_can_become_markup_or_code():
    """With the policy above a browser would not let it either."""
    for name, text in FILES.items():
        for trap in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"):
            assert trap not in text, name
    assert re.findall(r"<[^>]* (?:on\w+|style)=", FILES["monitor.html"]) == []
    assert re.findall(r"<script(?![^>]* src=)", FILES["monitor.html"]) == []


@pytest.mark.parametrize("path", ["/", "/health", "/stats", "/absent"])
def test_head_is_answered_as_get_without_the_body(hub, path):
    there = urlsplit(hub.info.http_url)
    whole, head = get(hub, path), get(hub, path, method="HEAD")
    assert (head.status, head.headers["Content-Type"]) == (whole.status, whole.headers["Content-Type"])
    if path != "/stats":  # whose figures are others each time
        assert head.headers["Content-Length"] == str(len(whole.body))
    with socket.create_connection((there.hostname, there.port)) as bare, bare.makefile("rb") as answer:
        bare.sendall(f"HEAD {path} HTTP/1.1\r\nHost: {there.netloc}\r\n\r\n".encode())
        assert answer.read().partition(b"\r\n\r\n")[2] == b""


def test_other_methods_and_other_paths_are_refused(hub):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        refused = get(hub, "/", method=method)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    for path in ("/monitor", "/monitor.html", "/../hub.json", "//", "/%2e%2e/store.db", "/monitor.js/"):
        assert get(hub, path).status == 404
    assert get(hub, "/ws").status == 426


def test_the_page_is_not_for_another_host_or_origin(hub):
    assert get(hub, "/", host="example.org").status == 403
    assert get(hub, "/", Origin="https://example.org").status == 403


def test_localhost_leads_to_the_address_that_nobody_else_can_listen_at(start_hub):
    hub = start_hub(uid_of=lambda _peer, _ours: None)
    port = urlsplit(hub.info.http_url).port
    assert led(hub, host=f"localhost:{port}") == f"http://127.0.0.1:{port}/"
    assert led(hub) is None
    assert led(hub, host=f"localhost:{port + 1}") is None, "a tunnel's end is not to be left"
    assert get(hub, "/monitor.js", host=f"localhost:{port}").status == 200


@linux
def test_the_owner_is_led_to_an_address_where_nobody_can_have_listened_before(start_hub, hub):
    other = start_hub(hub.home.with_name("other"), uid_of=lambda _peer, _ours: os.geteuid())
    port = urlsplit(hub.info.http_url).port
    own = urlsplit(led(hub))
    assert own.port == port
    assert re.fullmatch(r"127(\.\d{1,3}){3}", own.hostname)
    assert not own.hostname.startswith("127.0.0.")
    assert own.hostname != urlsplit(led(other)).hostname, "another at each start"
    assert led(hub, host=f"localhost:{port}") == led(hub)
    answer = get(hub, "/", at=hub.info.http_url)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert get(hub, "/").status == get(hub, "/", at=hub.info.http_url, host=f"127.0.0.1:{port + 1}").status == 200
    assert led(hub, Via="x") is None


@linux
def test_a_hub_on_every_address_is_at_the_owners_already(start_hub, watching):
    hub = start_hub(host="0.0.0.0", insecure=True, uid_of=lambda _peer, _ours: os.geteuid())
    port = urlsplit(hub.info.http_url).port
    there = led(hub, host=f"127.0.0.1:{port}")
    assert principal(watching(hub, at=there))["role"] == "owner"
    assert principal(watching(hub, at=f"http://127.0.0.1:{port}")) == "denied"


def test_a_request_with_a_body_and_one_before_another_are_answered(hub):
    there = urlsplit(hub.info.http_url)
    head = f" HTTP/1.1\r\nHost: {there.netloc}\r\n"
    chunks = "5\r\nhello\r\n0\r\n\r\n"
    bodies = ("Content-Length: 200000\r\n\r\n" + "x" * 200_000, f"transfer-encoding: chunked\r\n\r\n{chunks}")
    asked = [*((f"POST /stats{head}{body}", 405) for body in bodies), (f"GET /health{head}\r\n" * 2, 200)]
    for request, status in asked:
        for size in (len(request), 7):
            with socket.create_connection((there.hostname, there.port), timeout=20) as bare:
                for at in range(0, min(len(request), 400), size):
                    with contextlib.suppress(OSError):  # answered meanwhile
                        bare.sendall(request[at : at + size].encode())
                assert http_status(bare) == status, (request[:80], size)


def http_status(connection):
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status


# -- who may watch -------------------------------------------------------------------------------------------------


def test_the_hubs_user_watches_every_tenant_without_a_token(hub, watching):
    store(hub.owner("acme"), "e1")
    connection = watching(hub, tenant_id="default")
    who = principal(connection)
    assert (who["role"], who["looks_only"], who["token_id"]) == ("owner", True, None)
    assert [one["id"] for one in ask(connection, "tenant.list")["tenants"]] == ["acme"]
    assert ask(connection, "hub.stats")["stats"]["episodes"] == 1
    assert [hit["id"] for hit in ask(connection, "memory.query", {"text": "task"}, tenant_id="acme")["hits"]] == ["e1"]
    assert ask(connection, "memory.list", tenant_id="default")["episodes"] == []


@pytest.mark.parametrize("uid", [None, os.geteuid() + 1])
def test_another_user_and_one_that_cannot_be_known_need_a_token(start_hub, watching, uid):
    hub = start_hub(uid_of=lambda _peer, _ours: uid)
    assert principal(watching(hub)) == "denied"


def test_without_an_origin_a_token_is_needed(hub, watching):
    assert principal(watching(hub, origin=None)) == "denied"


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"]
)
def test_behind_a_proxy_a_token_is_needed(hub, watching, name):
    assert principal(watching(hub, headers={name: "127.0.0.1"})) == "denied"


def test_under_a_name_or_another_port_a_token_is_needed(hub, watching):
    """A name may lead to another user's socket first; a port that is not ours is something in between."""
    port = urlsplit(hub.info.http_url).port
    assert principal(watching(hub, at=hub.info.http_url)) == "denied", "what another left there may have opened it"
    for host in (f"localhost:{port}", f"127.0.0.1:{port + 1}", "127.0.0.1", f"127.0.0.2:{port}", f"[::1]:{port}"):
        assert principal(watching(hub, host=host)) == "denied"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (None, "https://example.org"),
        (None, "null"),
        (None, "http://127.0.0.1"),
        (None, "http://127.0.0.1:1"),
        (None, "https://{own}"),
        (None, "http://{own}/"),
        (None, "http://{own}.example.org"),
        ("example.org", "own"),
        ("localhost", "http://{own}"),
    ],
)
def test_pages_of_other_origins_get_nothing_and_are_counted(hub, watching, host, origin):
    with pytest.raises(InvalidStatus) as caught:
        watching(hub, host=host, origin=origin.replace("{own}", urlsplit(opened(hub)).netloc))
    assert caught.value.response.status_code == 403
    assert hub.owner().call(GetHubStats()).stats.refusals == {"gate": 1}


@pytest.mark.parametrize("role", ["agent", "admin"])
def test_the_tokens_of_agents_and_admins_do_not_watch(start_hub, watching, role):
    hub = start_hub(uid_of=lambda _peer, _ours: None)
    assert principal(watching(hub, token=hub.token("acme", role=role))) == "denied"


def test_an_operators_token_watches_from_anywhere_as_that_tenants_operator(start_hub, watching):
    hub = start_hub(uid_of=lambda _peer, _ours: None, origins=("https://monitor.example.org",))
    store(hub.owner("acme"), "e1")
    token = hub.token("acme", role="operator")
    connection = watching(hub, origin="https://monitor.example.org", headers={"Via": "x"}, token=token, agent_id="a1")
    who = principal(connection)
    assert (who["tenant_id"], who["role"], who["looks_only"]) == ("acme", "operator", True)
    assert who["agent_id"] is None, "whoever watches is no agent"
    assert ask(connection, "hub.stats")["stats"]["connected_agents"] == 0
    assert len(ask(connection, "memory.list")["episodes"]) == 1
    assert ask(connection, "memory.list", tenant_id="other") == "denied"


def test_a_token_is_good_here_as_long_as_it_is_good_anywhere(hub, watching):
    token = hub.token("acme", role="operator")
    body, _, signature = token.rpartition(".")
    assert principal(watching(hub, token=f"{body}.{signature[::-1]}")) == "denied"
    connection = watching(hub, token=token)
    who = principal(connection)
    hub.owner("acme").call(RevokeToken(id=who["token_id"]))
    assert heard(connection)["reason"] == "the token was revoked"


def test_over_tls_the_name_is_vouched_for_by_the_certificate(start_hub, watching, tmp_path):
    pair = certificates.make(tmp_path / "tls", ("localhost", "127.0.0.1"), now_ms=Clock().now_ms(), life_ms=86_400_000)
    hub = start_hub(tls_cert=pair.cert, tls_key=pair.key, uid_of=lambda _peer, _ours: os.geteuid())
    port, trust = urlsplit(hub.info.http_url).port, ssl.create_default_context(cafile=pair.ca)
    for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
        assert principal(watching(hub, host=host, tls=trust))["role"] == "owner"
    with pytest.raises(InvalidStatus):
        watching(hub, origin=f"http://127.0.0.1:{port}", tls=trust)


# -- who watches changes nothing -----------------------------------------------------------------------------------


def test_a_page_stores_nothing_however_much_it_sends_at_once(hub, watching):
    connection = watching(hub)
    assert principal(connection)["looks_only"]
    draft = {"id": "e", "task": "t"}
    for number in range(20):  # so many that the writer would carry them out together
        request = {"op": "memory.store", "episodes": [draft | {"id": f"e{number}"}]}
        connection.send(json.dumps({"frame": "call", "id": number, "tenant_id": "default", "request": request}))
    assert {heard(connection)["error"]["code"] for _ in range(20)} == {"denied"}
    assert hub.owner().call(MemoryStats()).episodes == 0
    for op, fields in {
        "agent.register": {"id": "a1", "type": "t", "lifetime_ms": 60_000, "host": "h", "pid": 1},
        "agent.stop": {"id": "a1"},
        "token.issue": {"tenant_id": "acme"},
        "token.list": {},
        "tenant.erase": {"name": "acme"},
        "memory.embed": {"texts": ["x"]},
        "store.check": {},
    }.items():
        assert ask(connection, op, fields) == "denied", op
    assert hub.owner().call(GetHubStats()).stats.connected_agents == 0


def test_watching_takes_nothing_of_what_a_tenant_may_ask_and_looking_for_something_does(hub, watching):
    owner = hub.owner("acme")
    store(owner, "e1")
    owner.call(SetTenant(name="acme", rate_per_s=0.01))
    connection = watching(hub)
    principal(connection)
    look = {"memory.query": {"text": "task"}, "memory.list": {}, "memory.get": {"ids": ["e1"]}}
    for _ in range(1000):  # until the limit is in force, and reached: what is looked for is the tenant's
        if ask(connection, "memory.list", tenant_id="acme") == "unavailable":
            break
    assert {ask(connection, op, fields, tenant_id="acme") for op, fields in look.items()} == {"unavailable"}
    for _ in range(20):
        assert ask(connection, "agent.list", tenant_id="acme")["agents"] == []


# -- limits --------------------------------------------------------------------------------------------------------


def test_a_page_is_a_stranger_until_it_has_said_who_it_is(start_hub, watching):
    hub = start_hub(max_strangers=2, uid_of=lambda _peer, _ours: os.geteuid())
    there = urlsplit(opened(hub))
    for _ in range(4):
        assert principal(watching(hub))["role"] == "owner"
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection((there.hostname, there.port)))
        with pytest.raises((OSError, EOFError, InvalidMessage, ConnectionClosed)):
            watching(hub, at=there.geturl())
    assert [line for line in hub.lines if "have not said who they are" in line]


def test_a_page_that_says_too_much_is_cut_off_and_counted(hub, watching):
    early = watching(hub, client="x" * 40_000)
    with pytest.raises((ConnectionClosed, OSError)):
        heard(early)
    late = watching(hub)
    assert heard(late)["limits"]["frame_max_bytes"] == FRAME_MAX_BYTES
    late.send("x" * (FRAME_MAX_BYTES + 1))
    assert "65,536" in heard(late)["error"]["message"]
    far_over = watching(hub)
    principal(far_over)
    far_over.send("x" * (2 * FRAME_MAX_BYTES + 1))
    for connection, code in ((late, frames.REFUSED), (far_over, 1009)):
        with pytest.raises(ConnectionClosed) as caught:
            heard(connection)
        assert caught.value.rcvd.code == code
    refusals = hub.owner().call(GetHubStats()).stats.refusals
    assert refusals == {"too_large": 2, "malformed": 1}


def test_plain_gets_are_no_refusals(hub):
    for path in ("/", "/health", "/stats", "/absent"):
        get(hub, path)
    assert hub.owner().call(GetHubStats()).stats.refusals == {}


# -- whose a connection is -----------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    ("listens", "connects", "family"),
    [
        ("127.0.0.1", "127.0.0.1", socket.AF_INET),
        ("127.0.0.1", "::ffff:127.0.0.1", socket.AF_INET6),
        ("::1", "::1", socket.AF_INET6),
    ],
)
def test_the_kernel_tells_whose_a_connection_is(listens, connects, family):
    if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with (
        socket.create_server((listens, 0), family=socket.AF_INET6 if ":" in listens else socket.AF_INET) as server,
        socket.socket(family, socket.SOCK_STREAM) as client,
    ):
        client.connect((connects, server.getsockname()[1]))
        accepted, peer = server.accept()
        with accepted:
            ours = accepted.getsockname()[:2]
            assert socket_uid(peer[:2], ours) == os.geteuid()
            assert socket_uid((peer[0], peer[1] ^ 1), ours) is None
            client.close()
            assert socket_uid(peer[:2], ours) is None, "one that is closed is nobody's, and root's to the kernel"


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   1: 0100007F:9C40 0100007F:20FC {state} 00000000:00000000 00:00000000 00000000 {uid:>5}        0 {inode} 1 0\n"


@pytest.mark.skipif(sys.byteorder != "little", reason="the row is of a little-endian machine")
@pytest.mark.parametrize(
    ("state", "uid", "inode", "found"),
    [("01", 1000, 77, 1000), ("06", 0, 0, None), ("04", 1000, 77, None), ("01", 0, 0, None), ("01", 65534, 77, None)],
)
def test_only_an_open_connection_of_a_user_with_a_number_is_somebodys(tmp_path, state, uid, inode, found):
    (tmp_path / "tcp").write_text(HEAD + ROW.format(state=state, uid=uid, inode=inode))
    assert socket_uid(("127.0.0.1", 40_000), ("127.0.0.1", 8444), tmp_path) == found
    assert socket_uid(("127.0.0.1", 8444), ("127.0.0.1", 40_000), tmp_path) is None


def test_where_the_system_does_not_tell_it_is_not_known(tmp_path):
    assert socket_uid(("127.0.0.1", 40_000), ("127.0.0.1", 8444), tmp_path) is None
    assert socket_uid(("nowhere", 1), ("127.0.0.1", 8444)) is None
