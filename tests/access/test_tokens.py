"""Tokens: what is let in, and everything that is not."""

import base64
import contextlib
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from fedctl.access import tokens
from fedctl.access.keys import KeyRing
from fedctl.errors import Denied

NOW_MS = 1_800_000_000_000
NOW_S = NOW_MS // 1000
DAY_S = 86_400
GOOD = {"aud": "fedctl", "iat": NOW_S, "exp": NOW_S + 3600, "jti": "id-1", "tid": "acme", "aid": "a1", "role": "agent"}


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    ring = KeyRing(tmp_path_factory.mktemp("home") / "keys")
    ring.sign("acme", None, "agent", "x", NOW_MS, 1000)
    return ring


@pytest.fixture(scope="module")
def key(ring):
    [kid] = ring.kids()
    return load_pem_private_key((ring._folder / f"{kid}.pem").read_bytes(), None)


def segment(data) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(key, kid, claims, header=None) -> str:
    """Return a token signed with a real key, whatever its header and claims say."""
    head = {"alg": "EdDSA", "typ": "JWT", "kid": kid} if header is None else header
    body = f"{segment(head)}.{segment(claims)}"
    return f"{body}.{segment(key.sign(body.encode()))}"


def test_a_token_comes_back_as_who_it_was_signed_for(ring):
    token = ring.sign("acme", "a1", "agent", "id-1", NOW_MS, 60_000)
    verified = ring.verify(token, NOW_MS)
    assert verified.principal.tenant_id == "acme"
    assert verified.principal.agent_id == "a1"
    assert verified.principal.role == "agent"
    assert verified.principal.token_id == "id-1"
    assert verified.expires_at_ms == NOW_MS + 60_000


@pytest.mark.parametrize("role", ["agent", "admin", "operator"])
def test_every_role_that_a_token_can_have_survives_it(ring, role):
    token = ring.sign("acme", None, role, "id-1", NOW_MS, 60_000)
    assert ring.verify(token, NOW_MS).principal.role == role


def test_a_token_lives_until_its_expiry_and_not_a_second_longer(ring):
    token = ring.sign("acme", None, "agent", "id-1", NOW_MS, 60_000)
    ring.verify(token, NOW_MS + 59_999)
    with pytest.raises(Denied, match="has expired"):
        ring.verify(token, NOW_MS + 60_000)


def test_an_odd_life_is_rounded_up_so_that_the_token_outlives_what_it_is_for(ring):
    token = ring.sign("acme", None, "agent", "id-1", NOW_MS + 1, 60_000)
    assert ring.verify(token, NOW_MS).expires_at_ms == NOW_MS + 61_000


def test_the_longest_life_is_accepted_whatever_the_milliseconds(ring):
    token = ring.sign("acme", None, "agent", "id-1", NOW_MS + 999, 90 * DAY_S * 1000)
    ring.verify(token, NOW_MS + 999)


def test_a_clock_that_is_a_little_behind_does_not_refuse(ring):
    token = ring.sign("acme", None, "agent", "id-1", NOW_MS, 600_000)
    ring.verify(token, NOW_MS - 59_000)
    with pytest.raises(Denied, match="issued in the future"):
        ring.verify(token, NOW_MS - 61_000)


def test_the_bearer_can_read_what_its_token_says(ring):
    token = ring.sign("acme", "a1", "agent", "id-1", NOW_MS, 60_000)
    claims = tokens.read_claims(token)
    assert (claims.tid, claims.aid, claims.exp) == ("acme", "a1", NOW_S + 60)


def test_good_claims_signed_by_hand_are_accepted(ring, key):
    # So that each forgery below is refused for what it changes, not for how it was made.
    ring.verify(forge(key, ring.kids()[0], GOOD), NOW_MS)


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


BAD_CLAIMS = {
    **{f"missing {name}": without(name) for name in GOOD},
    "expired": {**GOOD, "iat": NOW_S - 7200, "exp": NOW_S - 3600},
    "expiring now": {**GOOD, "exp": NOW_S},
    "year 9999": {**GOOD, "exp": 253_402_300_799},
    "91 days": {**GOOD, "exp": NOW_S + 91 * DAY_S},
    "negative exp": {**GOOD, "exp": -1},
    "exp before iat": {**GOOD, "iat": NOW_S + 50, "exp": NOW_S + 10},
    "float exp": {**GOOD, "exp": NOW_S + 3600.5},
    "integral float exp": {**GOOD, "exp": float(NOW_S + 3600)},
    "text exp": {**GOOD, "exp": str(NOW_S + 3600)},
    "true exp": {**GOOD, "exp": True},
    "null exp": {**GOOD, "exp": None},
    "huge exp": {**GOOD, "exp": 10**400},
    "list exp": {**GOOD, "exp": [NOW_S + 3600]},
    "float iat": {**GOOD, "iat": float(NOW_S)},
    "future iat": {**GOOD, "iat": NOW_S + 3000},
    "ancient iat": {**GOOD, "iat": 0},
    "wrong aud": {**GOOD, "aud": "another"},
    "list aud": {**GOOD, "aud": ["fedctl"]},
    "null aud": {**GOOD, "aud": None},
    "empty aud": {**GOOD, "aud": ""},
    "future nbf": {**GOOD, "nbf": NOW_S + 1000},
    "past nbf": {**GOOD, "nbf": 0},
    "unknown claim": {**GOOD, "admin": True},
    "owner": {**GOOD, "role": "owner"},
    "unknown role": {**GOOD, "role": "root"},
    "list role": {**GOOD, "role": ["operator"]},
    "tenant with a path": {**GOOD, "tid": "../acme"},
    "tenant with NUL": {**GOOD, "tid": "acme\0"},
    "empty tenant": {**GOOD, "tid": ""},
    "long tenant": {**GOOD, "tid": "a" * 129},
    "list tenant": {**GOOD, "tid": ["acme"]},
    "agent with a slash": {**GOOD, "aid": "a/b"},
    "empty agent": {**GOOD, "aid": ""},
    "number agent": {**GOOD, "aid": 7},
    "empty jti": {**GOOD, "jti": ""},
    "long jti": {**GOOD, "jti": "j" * 201},
    "unprintable jti": {**GOOD, "jti": "\x1b[2J"},
    "number jti": {**GOOD, "jti": 5},
    "list": [GOOD],
    "text": "hello",
    "null": None,
    "not json": b"\xff\xfe",
    "empty": b"",
    "deep": b'{"aud":' + b"[" * 1500,
    "NaN": b'{"aud":"fedctl","iat":NaN,"exp":NaN,"jti":"j","tid":"acme","aid":null,"role":"agent"}',
}


@pytest.mark.parametrize("name", BAD_CLAIMS)
def test_bad_claims_are_refused_although_the_signature_is_right(ring, key, name):
    token = forge(key, ring.kids()[0], BAD_CLAIMS[name])
    with pytest.raises(Denied) as caught:
        ring.verify(token, NOW_MS)
    assert "signature" not in caught.value.message


BAD_HEADERS = {
    "none": {"alg": "none"},
    "None": {"alg": "None"},
    "HS256": {"alg": "HS256"},
    "RS256": {"alg": "RS256"},
    "Ed25519": {"alg": "Ed25519"},
    "list alg": {"alg": ["EdDSA"]},
    "embedded jwk": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}},
    "jku": {"jku": "https://example.org/keys"},
    "x5u": {"x5u": "https://example.org/cert"},
    "crit": {"crit": ["exp"]},
    "b64": {"b64": False, "crit": ["b64"]},
    "typ": {"typ": "at+jwt"},
    "kid path": {"kid": "../../etc/passwd"},
    "kid absolute": {"kid": "/etc/passwd"},
    "kid NUL": {"kid": "a\0b"},
    "kid empty": {"kid": ""},
    "kid dot": {"kid": "."},
    "kid long": {"kid": "k" * 65},
    "kid number": {"kid": 1},
    "kid null": {"kid": None},
    "kid of another hub": {"kid": "01a1fbb1be26-d346cad7"},
    "kid with sql": {"kid": "' OR 1=1 --"},
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_bad_headers_are_refused(ring, key, name):
    header = {"alg": "EdDSA", "typ": "JWT", "kid": ring.kids()[0], **BAD_HEADERS[name]}
    with pytest.raises(Denied):
        ring.verify(forge(key, None, GOOD, header), NOW_MS)


@pytest.mark.parametrize("header", [{}, [], "EdDSA", None, {"alg": "EdDSA"}, b"\xff", b"", b"[" * 1000])
def test_what_is_no_header_is_refused(ring, key, header):
    with pytest.raises(Denied):
        ring.verify(forge(key, None, GOOD, header), NOW_MS)


def test_a_header_that_names_a_member_twice_is_no_way_around(ring, key):
    kid = ring.kids()[0].encode()
    header = b'{"alg":"none","alg":"EdDSA","typ":"JWT","kid":"' + kid + b'"}'
    verified = None
    with contextlib.suppress(Denied):
        verified = ring.verify(forge(key, None, GOOD, header), NOW_MS)
    # Either it is refused, or it was verified with the pinned algorithm: never let in unsigned.
    unsigned = forge(key, None, GOOD, b'{"alg":"EdDSA","alg":"none","typ":"JWT","kid":"' + kid + b'"}')
    with pytest.raises(Denied):
        ring.verify(unsigned.rpartition(".")[0] + ".", NOW_MS)
    assert verified is None or verified.principal.tenant_id == "acme"


def test_another_hubs_key_does_not_open_this_one(ring):
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(Denied, match="signature is wrong"):
        ring.verify(forge(stranger, ring.kids()[0], GOOD), NOW_MS)


def test_a_token_that_is_signed_by_secret_with_the_public_key_as_the_secret_is_refused(ring, key):
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    import hashlib
    import hmac

    body = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': ring.kids()[0]})}.{segment(GOOD)}"
    for secret in (public, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)):
        token = f"{body}.{segment(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"
        with pytest.raises(Denied):
            ring.verify(token, NOW_MS)


def test_the_claims_of_one_token_do_not_go_with_the_signature_of_another(ring):
    one = ring.sign("acme", None, "agent", "id-1", NOW_MS, 60_000).split(".")
    two = ring.sign("other", None, "operator", "id-2", NOW_MS, 60_000).split(".")
    with pytest.raises(Denied, match="signature is wrong"):
        ring.verify(f"{one[0]}.{two[1]}.{one[2]}", NOW_MS)


def mutations(token):
    head, body, signature = token.split(".")
    yield from ("", ".", "..", "...", "a.b.c", " ", "\n", "null", head, f"{head}.{body}", f"{head}.{body}.")
    yield from (token + ".", token + "..", "." + token, token + "=", token + "==", token + "\n", " " + token)
    yield from (f"{head}..{signature}", f".{body}.{signature}", f"{head}.{body}.{signature}.{signature}")
    yield from (f"{head}.{body}.{signature[:-1]}", f"{head}.{body}.{signature}A", f"{head}.{body}.!{signature[1:]}")
    yield from (f"{head}.{body}.{'A' * 86}", token.upper(), token.swapcase(), token[::-1], token.replace(".", ","))
    yield from ("Bearer " + token, token + "\0", "é" * 200, "x" * 1_000_000, f"{head}.{body}.{'A' * 1_000_000}")


def test_a_token_that_was_bent_is_refused(ring):
    for bent in mutations(ring.sign("acme", None, "agent", "id-1", NOW_MS, 60_000)):
        with pytest.raises(Denied):
            ring.verify(bent, NOW_MS)


@given(st.data())
def test_a_token_with_any_one_character_changed_is_refused(ring, data):
    token = ring.sign("acme", None, "agent", "id-1", NOW_MS, 60_000)
    where = data.draw(
        st.integers(0, len(token) - 2)
    )  # the last one carries four bits that are no part of the signature
    with_ = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."))
    bent = token[:where] + with_ + token[where + 1 :]
    if bent != token:
        with pytest.raises(Denied):
            ring.verify(bent, NOW_MS)


@given(st.text(max_size=300))
def test_any_text_is_refused_without_a_traceback(ring, text):
    with pytest.raises(Denied):
        ring.verify(text, NOW_MS)
    with pytest.raises(Denied):
        tokens.read_claims(text)


def test_nothing_of_a_token_is_in_the_refusal(ring, key):
    token = forge(key, ring.kids()[0], {**GOOD, "tid": "../very-secret"})
    with pytest.raises(Denied) as caught:
        ring.verify(token, NOW_MS)
    assert "secret" not in str(caught.value.as_dict())


def test_pyjwt_reads_our_tokens(ring, key):
    token = ring.sign("acme", "a1", "agent", "id-1", NOW_MS, 60_000)
    options = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, key.public_key(), algorithms=["EdDSA"], audience="fedctl", options=options)
    assert claims["tid"] == "acme"
