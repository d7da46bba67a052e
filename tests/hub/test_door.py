"""Who comes in, as whom."""

import pytest

from fedctl.errors import Corrupt, Denied, Unavailable, UsageError
from fedctl.hub.door import Door, acting_for
from fedctl.log import Log, LogOptions
from fedctl.messages.token import IssueToken, RevokeToken
from fedctl.model.principal import Principal
from fedctl.wire.frames import Hello


def hello(**parts):
    return Hello(protocol="fedctl", version=1, **parts)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def door(bench, lines):
    return Door(bench.context, Log(LogOptions("basic"), bench.clock, lines.append))


def issue(bench, **parts):
    return bench.call(IssueToken(**{"tenant_id": "acme", **parts}))


def test_on_the_hubs_own_socket_the_owner_chooses(door):
    assert door.admit(hello(), local=True) == (Principal(tenant_id="default", role="owner"), None)
    chosen = Principal(tenant_id="acme", role="owner", agent_id="a1")
    assert door.admit(hello(tenant_id="acme", agent_id="a1"), local=True) == (chosen, None)


def test_on_the_network_nobody_comes_in_without_a_token(door):
    with pytest.raises(Denied, match="wants a token") as refused:
        door.admit(hello(tenant_id="acme"), local=False)
    assert "fedctl token issue --tenant acme > FILE" in refused.value.hint
    assert "--token-file FILE" in refused.value.hint


@pytest.mark.parametrize("local", [True, False])
def test_a_token_says_who_its_bearer_is_wherever_it_comes_from(door, bench, local):
    issued = issue(bench, agent_id="a1", ttl_ms=60_000)
    principal, token = door.admit(hello(token=issued.token), local=local)
    assert principal == Principal(tenant_id="acme", role="agent", agent_id="a1", token_id=issued.record.id)
    assert token.expires_at_ms == bench.clock.now_ms() + 60_000


def test_naming_what_the_token_says_is_allowed(door, bench):
    token = issue(bench, agent_id="a1").token
    door.admit(hello(token=token, tenant_id="acme", agent_id="a1"), local=False)


@pytest.mark.parametrize(
    "named", [{"tenant_id": "other"}, {"tenant_id": "ACME"}, {"tenant_id": ""}, {"agent_id": "a2"}]
)
def test_naming_anything_else_is_refused(door, bench, named):
    token = issue(bench, agent_id="a1").token
    with pytest.raises(Denied):
        door.admit(hello(token=token, **named), local=True)


def test_a_token_that_names_no_agent_leaves_that_to_its_bearer(door, bench):
    token = issue(bench).token
    assert door.admit(hello(token=token), local=False)[0].agent_id is None
    assert door.admit(hello(token=token, agent_id="a7"), local=False)[0].agent_id == "a7"
    with pytest.raises(UsageError):
        door.admit(hello(token=token, agent_id="a/7"), local=False)


def test_a_revoked_token_is_refused(door, bench):
    issued = issue(bench)
    bench.call(RevokeToken(id=issued.record.id))
    with pytest.raises(Denied, match="was revoked"):
        door.admit(hello(token=issued.token), local=False)


def test_an_expired_token_is_refused(door, bench):
    token = issue(bench, ttl_ms=60_000).token
    bench.clock.advance(60_000)
    with pytest.raises(Denied, match="has expired"):
        door.admit(hello(token=token), local=False)


@pytest.mark.parametrize("name", ["", "../acme", "a/b", ".hidden", "-x", "a\0b", "x" * 129, "ä"])
def test_the_owner_names_tenants_by_the_grammar_too(door, name):
    with pytest.raises(UsageError):
        door.admit(hello(tenant_id=name), local=True)
    with pytest.raises(UsageError):
        door.admit(hello(agent_id=name), local=True)


def test_what_fails_inside_is_not_told_to_strangers(door, bench, lines):
    token = issue(bench).token
    [path] = (bench.home / "keys").iterdir()
    path.write_bytes(b"nonsense")
    with pytest.raises(Unavailable) as caught:
        door.admit(hello(token=token), local=False)
    assert str(bench.home) not in caught.value.message
    assert isinstance(caught.value.__cause__, Corrupt)
    assert any("is damaged" in line for line in lines)


def test_only_the_owner_acts_for_another_tenant():
    owner = Principal(tenant_id="default", role="owner")
    assert acting_for(owner, "acme").tenant_id == "acme"
    assert acting_for(owner, None) is owner
    for role in ("agent", "admin", "operator"):
        other = Principal(tenant_id="acme", role=role)
        assert acting_for(other, "acme") is other
        with pytest.raises(Denied, match="for the tenant acme"):
            acting_for(other, "default")
    with pytest.raises(UsageError):
        acting_for(owner, "../acme")
