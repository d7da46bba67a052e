"""TLS: the same hub, with its words unreadable on the way."""

import asyncio
import datetime as dt
import ipaddress
import ssl
import urllib.request

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from fedctl.client.link import AsyncCaller
from fedctl.errors import Denied, UsageError
from fedctl.hub.options import HubServerOptions, tls_context
from fedctl.messages.memory import MemoryStats


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return (certificate, key, the same key with a passphrase): self-signed, for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = [folder / name for name in ("cert.pem", "key.pem", "locked.pem")]
    paths[0].write_bytes(cert.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[2].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    return paths


@pytest.fixture
def hub(start_hub, pair):
    return start_hub(tls_cert=pair[0], tls_key=pair[1])


def test_a_hub_with_tls_speaks_it_on_both_its_ports(hub, pair, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    assert hub.info.url.startswith("wss://127.0.0.1:")
    assert hub.bearer(hub.token("acme")).call(MemoryStats()).tenant_id == "acme"
    trusting = ssl.create_default_context(cafile=pair[0])
    with urllib.request.urlopen(hub.info.http_url + "/health", timeout=20, context=trusting) as response:
        assert response.read() == b'{"status":"ok"}'


def test_an_agents_link_speaks_tls_too(hub, pair, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))

    async def main():
        caller = await AsyncCaller.connect(hub.info.url, token=hub.token("acme"))
        assert (await caller.call(MemoryStats())).tenant_id == "acme"
        await caller.close()

    asyncio.run(main())


def test_a_certificate_that_nobody_vouches_for_is_refused_before_the_token_is_sent(hub):
    with pytest.raises(Denied, match="is not trusted") as caught:
        hub.bearer(hub.token("acme"))
    assert "--tls-ca" in caught.value.hint
    with pytest.raises(Denied, match="is not trusted"):
        asyncio.run(AsyncCaller.connect(hub.info.url, token=hub.token("acme")))


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(pair, tmp_path):
    with pytest.raises(UsageError, match="encrypted"):
        tls_context(HubServerOptions(home=tmp_path, tls_cert=pair[0], tls_key=pair[2]))


def test_a_key_of_another_certificate_is_refused(pair, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "other.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UsageError, match="cannot be used"):
        tls_context(HubServerOptions(home=tmp_path, tls_cert=pair[0], tls_key=tmp_path / "other.pem"))
