"""Asking a hub, one request at a time."""

import socket
import subprocess
import sys
import threading

import pytest
from websockets.server import ServerProtocol

from fedctl.client.remote import RemoteCaller
from fedctl.client.transport import WebSocketTransport, handshake_error
from fedctl.errors import Conflict, Denied, NotFound, Timeout, Unavailable, UsageError
from fedctl.messages.agent import GetAgent
from fedctl.messages.hub import GetHubInfo, Subscribe
from fedctl.messages.memory import GetEpisodes, MemoryStats, StoreEpisodes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.limits import FRAME_MAX_BYTES


@pytest.fixture(params=["unix", "websocket"])
def caller(request, hub):
    return hub.owner("acme") if request.param == "unix" else hub.bearer(hub.token("acme", role="operator"))


@pytest.mark.parametrize(
    "url", ["unix:/nowhere/hub.sock", "unix:/dev/null", "unix:a\0b", "ws://127.0.0.1:1", "wss://127.0.0.1:1"]
)
def test_where_nothing_listens_no_hub_answers(url):
    with pytest.raises(Unavailable, match="no hub answers") as caught:
        RemoteCaller(url, timeout_ms=5000)
    assert caught.value.retryable
    assert caught.value.hint == "start one with: fedctl hub start"


def test_a_host_that_is_not_known_is_unavailable_too():
    with pytest.raises(Unavailable, match="no hub answers"):
        RemoteCaller("ws://hub.invalid:8443", timeout_ms=5000)


def test_what_is_no_address_is_a_usage_error():
    with pytest.raises(UsageError):
        RemoteCaller("http://localhost")


@pytest.fixture
def listen():
    """Serve one connection with what the test says, on a port of its own."""
    threads = []

    def begin(speak):
        server = socket.create_server(("127.0.0.1", 0))

        def serve():
            with server, server.accept()[0] as peer:
                speak(peer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return server.getsockname()[1]

    yield begin
    for thread in threads:
        thread.join(20)


def test_a_server_of_another_kind_is_no_hub(listen):
    port = listen(lambda peer: (peer.recv(1000), peer.sendall(b"220 mail.example.org ESMTP\r\n")))
    with pytest.raises(Unavailable, match="is no fedctl hub"):
        RemoteCaller(f"ws://127.0.0.1:{port}", timeout_ms=5000)


def test_a_web_server_is_no_hub(listen):
    port = listen(lambda peer: (peer.recv(1000), peer.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")))
    with pytest.raises(Unavailable, match=r"is no fedctl hub \(HTTP 404\)"):
        RemoteCaller(f"ws://127.0.0.1:{port}", timeout_ms=5000)


def test_a_server_that_says_nothing_times_out(listen):
    ended = threading.Event()
    port = listen(lambda peer: ended.wait(20))
    with pytest.raises(Timeout, match="no hub answered"):
        RemoteCaller(f"ws://127.0.0.1:{port}", timeout_ms=200)
    ended.set()


def shake_hands(peer):
    protocol = ServerProtocol()
    protocol.receive_data(peer.recv(1 << 16))
    protocol.send_response(protocol.accept(protocol.events_received()[0]))
    peer.sendall(b"".join(protocol.data_to_send()))


def test_a_hub_that_reads_nothing_is_not_waited_for_beyond_the_time(listen):
    over = threading.Event()

    def shake_hands_and_read_no_more(peer):
        shake_hands(peer)
        over.wait(20)

    transport = WebSocketTransport(f"ws://127.0.0.1:{listen(shake_hands_and_read_no_more)}", 5.0)
    try:
        with pytest.raises(Timeout, match="did not take the request"):
            for _ in range(20):  # the system's buffers are filled first
                transport.send(b" " * FRAME_MAX_BYTES, 0.3)
        with pytest.raises(Unavailable, match="gone"):
            transport.send(b"{}", 0.3)
    finally:
        over.set()
        transport.close()


def test_a_default_timeout_of_the_program_s_own_sockets_breaks_no_large_send(listen):
    taken = threading.Event()

    def take_it_late(peer):
        shake_hands(peer)
        peer.settimeout(20)
        taken.wait(0.3)  # until the system's buffers are full
        left = 12 * FRAME_MAX_BYTES
        while left > 0:
            left -= len(peer.recv(1 << 20))
        taken.set()

    port = listen(take_it_late)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30.0)
    try:
        transport = WebSocketTransport(f"ws://127.0.0.1:{port}", 5.0)
        for _ in range(12):
            transport.send(b" " * FRAME_MAX_BYTES, 20.0)
        assert taken.wait(20)
        transport.close()
    finally:
        socket.setdefaulttimeout(before)


def test_plain_words_to_a_tls_port_are_no_hub(listen):
    port = listen(lambda peer: peer.close())
    with pytest.raises(Unavailable):
        RemoteCaller(f"ws://127.0.0.1:{port}", timeout_ms=5000)


@pytest.mark.parametrize("error", [ConnectionResetError, BrokenPipeError, ConnectionAbortedError, EOFError])
def test_who_cuts_a_connection_off_is_told_from_nobody_by_whatever_error_it_is_heard(error):
    assert "hung up without a word" in handshake_error("ws://127.0.0.1:1", error("cut")).message
    assert "no hub answers" in handshake_error("ws://127.0.0.1:1", ConnectionRefusedError("refused")).message


def test_tls_to_a_plain_port_is_unavailable(hub):
    with pytest.raises(Unavailable):
        RemoteCaller(hub.info.url.replace("ws://", "wss://"), token=hub.token(), timeout_ms=5000)


def test_a_unix_socket_of_another_kind_is_no_hub(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()

        def hang_up():
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Unavailable, match="the connection to the hub is gone"):
            RemoteCaller(f"unix:{tmp_path}/s", timeout_ms=5000)
        thread.join(20)


def test_a_socket_that_never_answers_times_out(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        with pytest.raises(Timeout):
            RemoteCaller(f"unix:{tmp_path}/s", timeout_ms=200)


def test_answers_are_typed_and_errors_are_ours(caller):
    assert caller.call(GetEpisodes(ids=["e1"])).missing == ["e1"]
    with pytest.raises(NotFound) as caught:
        caller.call(GetAgent(id="nobody"))
    assert caught.value.hint == "fedctl agent list shows them"
    first = StoreEpisodes(episodes=[EpisodeDraft(id="e1", task="a")])
    assert caller.call(first).results[0].ok
    other = caller.call(StoreEpisodes(episodes=[EpisodeDraft(id="e1", task="b")])).results[0]
    assert other.error["code"] == Conflict.code


def test_the_welcome_says_who_one_is(caller, hub):
    assert caller.welcome.principal.tenant_id == "acme"
    assert caller.welcome.fedctl == hub.info.version
    assert caller.welcome.limits.frame_max_bytes == 4 << 20


def test_a_connection_that_broke_stays_broken(caller, hub):
    hub.end()
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            caller.call(MemoryStats())
        assert caught.value.retryable


def test_closing_twice_is_harmless_and_a_closed_caller_says_so(caller):
    caller.close()
    caller.close()
    with pytest.raises(Unavailable, match="closed here"):
        caller.call(MemoryStats())
    with pytest.raises(Unavailable):
        list(caller.notices(0.1))


def test_a_late_answer_is_not_taken_for_the_next_one(caller, hub):
    with hub.context.store.write():
        caller.timeout_ms = 200
        with pytest.raises(Timeout):
            caller.call(StoreEpisodes(episodes=[EpisodeDraft(id="late", task="t")]))
    caller.timeout_ms = 20_000
    assert caller.call(GetHubInfo()).hub.pid == hub.info.pid
    assert caller.call(GetEpisodes(ids=["e9"])).missing == ["e9"]


def test_notices_that_come_between_are_kept_for_whoever_asks_for_them(caller, hub):
    caller.call(Subscribe())
    other = hub.owner("acme")
    other.call(StoreEpisodes(episodes=[EpisodeDraft(id="e1", task="t")]))
    for _ in range(3):
        caller.call(MemoryStats())
    assert [event.subject for event in caller.notices(1)] == ["e1"]


def test_an_agent_is_who_its_token_says(hub):
    token = hub.token("acme", agent_id="a1")
    assert hub.bearer(token, agent_id="a1").welcome.principal.agent_id == "a1"
    with pytest.raises(Denied, match="the token is for the agent a1"):
        hub.bearer(token, agent_id="a2")


def test_the_local_way_loads_neither_asyncio_nor_websockets_nor_the_engines():
    code = (
        "import sys; import fedctl.client.remote, fedctl.client.address; "
        "print([name for name in ('asyncio', 'websockets', 'ssl', 'apsw', 'numpy', 'jwt', 'logging', 'dataclasses') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
