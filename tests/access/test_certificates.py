"""Certificates of one's own: what is made, for whom, and that nothing is written over."""

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from fedctl.access import certificates
from fedctl.errors import Conflict, NotFound, UsageError

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


# -- making them anew ----------------------------------------------------------------------------------------------


def renew(folder, *names, now_ms=NOW_MS + DAY_MS, life_ms=DAY_MS):
    return certificates.renew(folder, names, here=("localhost",), now_ms=now_ms, life_ms=life_ms)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_renewed_pairs_are_of_the_same_authority_and_have_the_old_names_and_the_new(made, tmp_path):
    folder = tmp_path / "tls"
    before = contents(folder)
    again = renew(folder, "hub.example.net", "localhost")
    after = contents(folder)
    assert {name for name in before if after[name] == before[name]} == {"ca.pem", "ca.key"}
    assert again.names == (*NAMES, "hub.example.net")
    for cert, key in ((again.cert, again.key), (again.client_cert, again.client_key)):
        read(cert).verify_directly_issued_by(read(made.ca))
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    assert (again.expires_at_ms, again.ca_expires_at_ms) == (NOW_MS + 2 * DAY_MS, made.ca_expires_at_ms)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_no_pair_outlives_its_authority(made, tmp_path):
    assert renew(tmp_path / "tls", life_ms=99 * DAY_MS).expires_at_ms == made.ca_expires_at_ms == NOW_MS + 10 * DAY_MS
    with pytest.raises(Conflict, match=r"the authority .* ended on"):
        renew(tmp_path / "tls", now_ms=made.ca_expires_at_ms)


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("ca.key", None, NotFound, "there is no .*ca.key: nothing can be renewed without the authority"),
        ("ca.pem", None, NotFound, "there is no .*ca.pem"),
        ("ca.key", b"nonsense", UsageError, "is no private key"),
        ("hub.pem", b"nonsense", UsageError, "hub.pem is no certificate"),
        ("ca.key", "client.key", Conflict, "is not the key of"),
    ],
)
@pytest.mark.usefixtures("made")
def test_what_cannot_be_renewed_says_why_and_stays_as_it_was(tmp_path, name, content, kind, message):
    folder = tmp_path / "tls"
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else (folder / content).read_bytes())
    before = contents(folder)
    with pytest.raises(kind, match=message):
        renew(folder)
    assert contents(folder) == before


def test_a_hub_without_a_certificate_gets_one_for_this_machine(made, tmp_path):
    Path(made.cert).unlink()
    assert renew(tmp_path / "tls", "::1").names == ("localhost", "::1")
