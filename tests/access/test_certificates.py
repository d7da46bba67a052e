"""Certificates of one's own: what is made, for whom, and that nothing is written over."""

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from fedctl.access import certificates
from fedctl.errors import Conflict, UsageError

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
NAMES = ("localhost", "127.0.0.1", "::1", "hub.example.org")


@pytest.fixture
def made(tmp_path):
    return certificates.make(tmp_path / "tls", NAMES, now_ms=NOW_MS, life_ms=DAY_MS)


def read(path):
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def test_everything_is_for_the_owners_eyes_only(made, tmp_path):
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").iterdir()}
    names = ["ca.key", "ca.pem", "client.key", "client.pem", "hub.key", "hub.pem"]
    assert modes == dict.fromkeys(names, 0o600)


def test_the_hubs_certificate_names_the_hub_and_is_signed_by_the_authority(made):
    hub, ca = read(made.cert), read(made.ca)
    hub.verify_directly_issued_by(ca)
    names = hub.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["localhost", "127.0.0.1", "::1", "hub.example.org"]
    assert (hub.not_valid_after_utc.timestamp() * 1000, made.expires_at_ms) == (NOW_MS + DAY_MS, NOW_MS + DAY_MS)


def test_only_the_authority_may_sign_others(made):
    constraints = [
        read(path).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        for path in (made.ca, made.cert, made.client_cert)
    ]
    assert constraints == [True, False, False]


def test_openssl_takes_each_key_with_its_certificate(made):
    for cert, key in ((made.cert, made.key), (made.client_cert, made.client_key)):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)


@pytest.mark.parametrize("there", ["ca.pem", "ca.key", "hub.pem", "client.key"])
def test_what_is_there_is_not_written_over_and_nothing_else_is_made(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        certificates.make(tmp_path, NAMES, now_ms=NOW_MS, life_ms=DAY_MS)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "https://hub", "hub:8443", "x" * 254, "hüb", "a\0b", "me@hub"])
def test_what_is_no_host_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="neither a host name nor an address"):
        certificates.make(tmp_path, (name,), now_ms=NOW_MS, life_ms=DAY_MS)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="is no folder"):
            certificates.make(folder, NAMES, now_ms=NOW_MS, life_ms=DAY_MS)
