"""What a client says when TLS does not come about: whose fault it is, and which flag mends it."""

import asyncio
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from websockets.server import ServerProtocol

from fedctl.access import certificates
from fedctl.client.link import AsyncCaller
from fedctl.client.remote import RemoteCaller
from fedctl.client.tls import Trust, context_for
from fedctl.client.transport import WebSocketTransport
from fedctl.clock import Clock
from fedctl.errors import Denied, Timeout, Unavailable, UsageError


@pytest.fixture
def make(tmp_path):
    def make(name, *hosts):
        made = certificates.make(tmp_path / name, hosts or ("localhost",), now_ms=Clock().now_ms(), life_ms=86_400_000)
        return {field: Path(getattr(made, field)) for field in ("ca", "cert", "key", "client_cert", "client_key")}

    return make


def connect(url, trust=None):
    RemoteCaller(url, token="x", timeout_ms=10_000, trust=trust).close()


def connect_async(url, trust=None):
    async def main():
        await (await AsyncCaller.connect(url, token="x", trust=trust)).close()

    asyncio.run(main())


both = pytest.mark.parametrize("come", [connect, connect_async])


@pytest.fixture
def ours(make):
    return make("ours", "hub.example.org")


@pytest.fixture
def url(start_hub, ours):
    return start_hub(tls_cert=ours["cert"], tls_key=ours["key"]).info.url


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_for_other_names_is_not_blamed_on_its_authority(url, ours, come, host):
    with pytest.raises(Denied, match="mismatch") as caught:
        come(url.replace("127.0.0.1", host), Trust(ca=ours["ca"]))
    assert caught.value.hint == (
        "the certificate is for other names; on the hub's machine: fedctl hub cert --renew --name HOST"
    )


@pytest.fixture
def local(make):
    return make("local")


@pytest.fixture
def silent(local):
    """Serve TLS on a port: after the handshake, or the WebSocket's if asked to, nothing more is said or closed."""
    over = threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(local["cert"], local["key"])
    threads = []

    def begin(*, upgrades):
        server = socket.create_server(("127.0.0.1", 0))

        def serve():
            with server, context.wrap_socket(server.accept()[0], server_side=True) as peer:
                if upgrades:
                    protocol = ServerProtocol()
                    protocol.receive_data(peer.recv(1 << 16))
                    protocol.send_response(protocol.accept(protocol.events_received()[0]))
                    peer.sendall(b"".join(protocol.data_to_send()))
                over.wait(20)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"wss://localhost:{server.getsockname()[1]}"

    yield begin
    over.set()
    for thread in threads:
        thread.join()


def test_a_hub_that_is_silent_once_tls_stands_is_not_waited_for_beyond_the_time(silent, local):
    begun = time.monotonic()
    with pytest.raises(Timeout, match="in time"):
        WebSocketTransport(silent(upgrades=False), 0.5, Trust(ca=local["ca"]))
    assert time.monotonic() - begun < 10


def test_leaving_a_hub_that_is_silent_over_tls_takes_no_longer_than_a_goodbye(silent, local):
    transport = WebSocketTransport(silent(upgrades=True), 5.0, Trust(ca=local["ca"]))
    begun = time.monotonic()
    with pytest.raises(Timeout):
        transport.receive(0.3)
    transport.close()
    transport.close()
    assert time.monotonic() - begun < 10


@both
def test_the_wrong_authority_is_told_apart_from_none(url, make, come):
    theirs = make("theirs")["ca"]
    with pytest.raises(Denied, match="is not trusted") as caught:
        come(url, Trust(ca=theirs))
    assert caught.value.hint == f"--tls-ca {theirs}: it is not the authority of this hub's certificate"
    with pytest.raises(Denied, match="is not trusted") as caught:
        come(url)
    assert caught.value.hint == "name its authority with --tls-ca FILE"


@both
def test_the_other_scheme_is_asked_for(url, hub, come):
    with pytest.raises(Unavailable, match="what answers") as caught:
        come(url.replace("wss:", "ws:"))
    assert "is it wss://?" in caught.value.hint
    with pytest.raises(Unavailable, match="what answers") as caught:
        come(hub.info.url.replace("ws:", "wss:"))
    assert "is it ws://?" in caught.value.hint


@pytest.fixture
def hub(start_hub, tmp_path):
    return start_hub(tmp_path / "plain")


@both
@pytest.mark.parametrize(("url", "port"), [("ws://127.0.0.3", 80), ("wss://127.0.0.3/", 443)])
def test_a_port_that_nobody_named_is_named_where_no_hub_answers(come, url, port):
    with pytest.raises(Unavailable, match=rf"no hub answers at {url} \(port {port}\)") as caught:
        come(url)
    assert caught.value.hint.endswith("://HOST:8443")


def test_a_certificate_without_its_key_names_the_flag_that_is_missing(ours, tmp_path):
    with pytest.raises(UsageError, match="--client-key is missing"):
        context_for("wss://h", Trust(cert=ours["client_cert"]))
    both = tmp_path / "both.pem"
    both.write_bytes(ours["client_cert"].read_bytes() + ours["client_key"].read_bytes())
    assert context_for("wss://h", Trust(cert=both)) is not None


def test_which_file_is_of_no_use_is_said_in_words(ours, tmp_path):
    junk, absent = tmp_path / "junk", tmp_path / "absent"
    junk.write_text("hello")
    cert, key = ours["client_cert"], ours["client_key"]
    for trust, says in (
        (Trust(ca=junk), f"--tls-ca: {junk} cannot be used: it is no PEM certificate"),
        (Trust(cert=junk), f"--client-cert: {junk} cannot be used: it is no PEM certificate"),
        (Trust(cert=junk, key=key), f"--client-cert: {junk} cannot be used: it is no PEM certificate"),
        (Trust(cert=cert, key=junk), f"--client-key: {junk} cannot be used: it is no PEM key"),
        (Trust(cert=cert, key=absent), f"--client-key: {absent} cannot be used: No such file or directory"),
        (Trust(cert=cert, key=ours["key"]), f"--client-cert: {cert} cannot be used: its key is another one"),
    ):
        with pytest.raises(UsageError) as caught:
            context_for("wss://h", trust)
        assert caught.value.message.startswith(says)
