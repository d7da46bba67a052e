"""Forged tokens, each shown to a real hub over a real socket: all are refused, and none costs the hub anything.

What each forgery must not get past is tested one by one in tests/access/test_tokens.py; here it is the whole way.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from types import SimpleNamespace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fedctl.access.keys import KeyRing
from fedctl.errors import Denied
from fedctl.messages.memory import MemoryStats
from fedctl.messages.token import RevokeToken

DAY_S = 86_400
NOW_S = int(time.time())
GOOD = {"aud": "fedctl", "iat": NOW_S, "exp": NOW_S + 3600, "jti": "id-1", "tid": "acme", "aid": "a1", "role": "agent"}


def b64(data) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forger:
    """Somebody who knows the hub's public key, holds good tokens, and has keys of its own."""

    def __init__(self, hub, folder):
        self.hub = hub
        self.issued = hub.token("acme", agent_id="a1")
        ring = KeyRing(hub.home / "keys")
        [self.kid] = ring.kids()
        self.key = load_pem_private_key((hub.home / "keys" / f"{self.kid}.pem").read_bytes(), None)
        self.stranger = Ed25519PrivateKey.generate()
        self.other_hub = KeyRing(folder / "other").sign("acme", "a1", "agent", "id-1", NOW_S * 1000, 3_600_000)
        parts = self.issued.split(".")
        self.head, self.body, self.signature = parts

    def token(self, claims=GOOD, header=None, key=None) -> str:
        """Return a token with a right signature by the hub's own key (or another), whatever it says."""
        head = {"alg": "EdDSA", "typ": "JWT", "kid": self.kid} | (header or {})
        said = f"{b64(head)}.{b64(claims)}"
        return f"{said}.{b64((key or self.key).sign(said.encode()))}"

    def hs256(self, secret: bytes) -> str:
        said = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': self.kid})}.{b64(GOOD)}"
        return f"{said}.{b64(hmac.new(secret, said.encode(), hashlib.sha256).digest())}"

    def public(self, encoding, form) -> bytes:
        return self.key.public_key().public_bytes(encoding, form)

    def unsigned(self, alg: str, signature: str = "") -> str:
        return f"{b64({'alg': alg, 'typ': 'JWT', 'kid': self.kid})}.{b64(GOOD)}.{signature}"

    def jwk(self) -> dict[str, str]:
        raw = self.stranger.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}

    def with_claim(self, **claims) -> str:
        return self.token(GOOD | claims)

    def without(self, name: str) -> str:
        return self.token({key: value for key, value in GOOD.items() if key != name})

    def revoked(self) -> str:
        token = self.hub.token("acme")
        jti = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["jti"]
        self.hub.owner().call(RevokeToken(id=jti))
        return token

    def swapped(self) -> str:
        return f"{self.head}.{self.hub.token('acme', role='operator').split('.')[1]}.{self.signature}"

    def es256(self) -> str:
        from cryptography.hazmat.primitives import hashes

        said = f"{b64({'alg': 'ES256', 'typ': 'JWT', 'kid': self.kid})}.{b64(GOOD)}"
        signed = ec.generate_private_key(ec.SECP256R1()).sign(said.encode(), ec.ECDSA(hashes.SHA256()))
        return f"{said}.{b64(signed[:64].ljust(64, b'0'))}"

    def rs256(self) -> str:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        said = f"{b64({'alg': 'RS256', 'typ': 'JWT', 'kid': self.kid})}.{b64(GOOD)}"
        signed = rsa.generate_private_key(65537, 2048).sign(said.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{said}.{b64(signed)}"


FORGERIES = {
    "alg none": lambda f: f.unsigned("none"),
    "alg None": lambda f: f.unsigned("None"),
    "alg nOnE with the signature of another": lambda f: f.unsigned("nOnE", f.signature),
    "alg empty": lambda f: f.unsigned("", f.signature),
    "HS256 with the public key in PEM": lambda f: f.hs256(f.public(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    "HS256 with the public key in DER": lambda f: f.hs256(f.public(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
    "HS256 with the raw public key": lambda f: f.hs256(f.public(Encoding.Raw, PublicFormat.Raw)),
    "HS256 with no secret": lambda f: f.hs256(b""),
    "ES256": lambda f: f.es256(),
    "RS256": lambda f: f.rs256(),
    "embedded jwk": lambda f: f.token(header={"jwk": f.jwk()}, key=f.stranger),
    "jku": lambda f: f.token(header={"jku": "http://127.0.0.1:1/keys"}, key=f.stranger),
    "x5u": lambda f: f.token(header={"x5u": "http://127.0.0.1:1/cert"}, key=f.stranger),
    "crit": lambda f: f.token(header={"crit": ["exp"]}),
    "kid with a path": lambda f: f.token(header={"kid": "../../../../etc/passwd"}, key=f.stranger),
    "kid absolute": lambda f: f.token(header={"kid": "/dev/zero"}, key=f.stranger),
    "kid with NUL": lambda f: f.token(header={"kid": f.kid + "\0"}, key=f.stranger),
    "kid with SQL": lambda f: f.token(header={"kid": "' OR '1'='1"}, key=f.stranger),
    "kid of nobody": lambda f: f.token(header={"kid": "01a1fbb1be26-d346cad7"}, key=f.stranger),
    "no kid": lambda f: f.token(header={"kid": None}),
    "our kid, a stranger's key": lambda f: f.token(key=f.stranger),
    "another hub's token": lambda f: f.other_hub,
    "missing exp": lambda f: f.without("exp"),
    "missing iat": lambda f: f.without("iat"),
    "missing aud": lambda f: f.without("aud"),
    "missing jti": lambda f: f.without("jti"),
    "far exp": lambda f: f.with_claim(exp=253_402_300_799),
    "91 days": lambda f: f.with_claim(exp=NOW_S + 91 * DAY_S),
    "float exp": lambda f: f.with_claim(exp=NOW_S + 3600.5),
    "text exp": lambda f: f.with_claim(exp=str(NOW_S + 3600)),
    "huge exp": lambda f: f.with_claim(exp=10**400),
    "expired": lambda f: f.with_claim(iat=NOW_S - 7200, exp=NOW_S - 3600),
    "future iat": lambda f: f.with_claim(iat=NOW_S + 3000, exp=NOW_S + 3600),
    "wrong aud": lambda f: f.with_claim(aud="another"),
    "list aud": lambda f: f.with_claim(aud=["fedctl"]),
    "future nbf": lambda f: f.with_claim(nbf=NOW_S + 1000),
    "role owner": lambda f: f.with_claim(role="owner"),
    "tenant with a path": lambda f: f.with_claim(tid="../acme"),
    "an unknown claim": lambda f: f.with_claim(admin=True),
    "claims that are a list": lambda f: f.token([GOOD]),
    "claims that are no JSON": lambda f: f.token(b"\xff\xfe"),
    "deep claims": lambda f: f.token(b'{"aud":' + b"[" * 1500),
    "the claims of another token": lambda f: f.swapped(),
    "bad base64 in the header": lambda f: f"!!!.{f.body}.{f.signature}",
    "bad base64 in the claims": lambda f: f"{f.head}.=={f.body}.{f.signature}",
    "one bit of the signature": lambda f: f"{f.head}.{f.body}.{'A' if f.signature[0] != 'A' else 'B'}{f.signature[1:]}",
    "a signature of zeros": lambda f: f"{f.head}.{f.body}.{'A' * 86}",
    "no signature": lambda f: f"{f.head}.{f.body}.",
    "trailing dot": lambda f: f.issued + ".",
    "trailing dots": lambda f: f.issued + "..",
    "a fourth part": lambda f: f.issued + "." + f.signature,
    "trailing newline": lambda f: f.issued + "\n",
    "Bearer": lambda f: "Bearer " + f.issued,
    "empty": lambda _: "",
    "dots": lambda _: "..",
    "not ASCII": lambda _: "é" * 200,
    "NUL": lambda f: f.issued + "\0",
    "1 MB": lambda _: "x" * 1_000_000,
    "1 MB of signature": lambda f: f"{f.head}.{f.body}.{'A' * 1_000_000}",
    "as long as a first frame may be": lambda f: f"{f.head}.{f.body}.{'A' * 15_000}",
    "revoked": lambda f: f.revoked(),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, running_hub):
    folder = tmp_path_factory.mktemp("forged")
    hub = running_hub(folder / "home", None)
    yield SimpleNamespace(hub=hub, forger=Forger(hub, folder))
    hub.stop()


def shown(hub, token, **hello):
    """Show a token to the hub, as anybody can who writes frames by hand; return what came back."""
    frame = {"frame": "hello", "protocol": "fedctl", "version": 1, "token": token} | hello
    with connect(hub.info.url, compression=None, close_timeout=1) as socket, contextlib.suppress(ConnectionClosed):
        socket.send(msgspec.json.encode(frame), text=True)
        return msgspec.json.decode(socket.recv(timeout=10))
    return None


def test_there_are_enough_of_them():
    assert len(FORGERIES) >= 40


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_token_is_refused_over_a_real_socket(world, name):
    before = len(world.hub.lines)
    answer = shown(world.hub, FORGERIES[name](world.forger))
    # A frame longer than a stranger's may be is not answered: the connection ends.
    assert answer is None or (answer["frame"], answer["id"]) == ("failed", None)
    if answer is not None:
        assert answer["error"]["code"] == "denied"
        assert world.forger.signature not in str(answer)
    else:
        assert name.startswith("1 MB")
    logged = world.hub.lines[before:]
    assert not any("Traceback" in line or "error.internal" in line for line in logged), logged
    assert not any(world.forger.signature[:20] in line for line in logged), "no token is in the log"


def test_a_good_token_gets_in_after_all_that(world):
    assert shown(world.hub, world.forger.issued)["frame"] == "welcome"
    assert shown(world.hub, world.forger.token())["frame"] == "welcome", "each forgery is refused for what it changes"


@pytest.mark.parametrize("named", [{"tenant_id": "other"}, {"tenant_id": "ACME"}, {"agent_id": "a2"}])
def test_a_good_token_with_another_s_name_is_refused(world, named):
    assert shown(world.hub, world.forger.issued, **named)["error"]["code"] == "denied"


def test_no_token_at_all_is_refused_on_the_network(world):
    assert shown(world.hub, None, tenant_id="acme")["error"]["code"] == "denied"


def test_a_token_that_expires_on_an_open_socket_ends_it(world):
    caller = world.hub.bearer(world.hub.token("acme", ttl_ms=1000))
    gone = threading.Event()

    def watch():
        with contextlib.suppress(Exception):
            list(caller.notices())
        gone.set()

    caller.call(MemoryStats())
    thread = threading.Thread(target=watch)
    thread.start()
    assert gone.wait(10)
    thread.join()


def test_the_http_side_takes_no_forged_token_either(world):
    import urllib.error
    import urllib.request

    for name in ("alg none", "HS256 with the raw public key", "our kid, a stranger's key", "expired", "revoked"):
        token = FORGERIES[name](world.forger)
        asked = urllib.request.Request(world.hub.info.http_url + "/metrics")
        asked.add_header("X-Forwarded-For", "192.0.2.1")
        asked.add_header("Authorization", f"Bearer {token}")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(asked, timeout=10)
        assert caught.value.code == 401
        caught.value.close()


def test_the_door_says_why_and_nothing_of_the_token(world):
    with pytest.raises(Denied) as caught:
        world.hub.bearer(world.forger.with_claim(tid="../very-secret"))
    assert "secret" not in str(caught.value.as_dict())
