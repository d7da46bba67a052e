"""Issuing, listing and revoking: who may, for whom, and what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest

from fedctl.errors import Denied, NotFound, UsageError
from fedctl.messages import token as t
from fedctl.model.token import TOKEN_MAX_TTL_MS


def issued(bench, tenant: str = "a", **fields: Any) -> t.IssueAnswer:
    return bench.call(t.IssueToken(tenant_id=tenant, **fields))


def test_a_token_speaks_for_what_it_was_issued_for_until_it_ends(bench):
    answer = issued(bench, agent_id="one", ttl_ms=60_000)
    record = answer.record
    assert (record.tenant_id, record.agent_id, record.role, record.revoked_at) == ("a", "one", "agent", None)
    assert (record.issued_at, record.expires_at) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z")
    verified = bench.context.access.verify(answer.token, bench.clock.now_ms())
    who = verified.principal
    assert (who.tenant_id, who.agent_id, who.role, who.token_id) == ("a", "one", "agent", record.id)
    bench.clock.advance(120_000)
    with pytest.raises(Denied):
        bench.context.access.verify(answer.token, bench.clock.now_ms())


def test_nothing_of_the_token_itself_is_kept(bench):
    token = issued(bench).token
    bench.close()  # a file of the store is not to be opened beside it
    for path in bench.home.rglob("*"):
        if path.is_file():
            assert not any(part.encode() in path.read_bytes() for part in token.split("."))


@pytest.mark.parametrize(
    "fields",
    [{"tenant_id": ""}, {"tenant_id": "a/b"}, {"agent_id": "a b"}, {"agent_id": ""}, {"ttl_ms": 0}, {"ttl_ms": -1},
     {"ttl_ms": 999},
     {"ttl_ms": TOKEN_MAX_TTL_MS + 1}, {"ttl_ms": 10**400}, {"agent_id": "one", "role": "admin"}, {"agent_id": "one",
      "role": "operator"}],
    ids=str,
)  # fmt: skip
def test_a_token_that_makes_no_sense_is_refused_and_not_recorded(bench, fields: dict[str, Any]):
    assert isinstance(bench.refusal(t.IssueToken(**({"tenant_id": "a"} | fields))), UsageError)
    assert bench.call(t.ListTokens()).tokens == []


@pytest.mark.parametrize("ttl_ms", [1000, TOKEN_MAX_TTL_MS])
def test_the_shortest_and_the_longest_life_are_issued(bench, ttl_ms: int):
    assert issued(bench, ttl_ms=ttl_ms).record.revoked_at is None


def test_an_admin_issues_for_its_own_tenant_and_no_operator(bench):
    def admin(**fields: Any) -> dict[str, Any]:
        return {"request": t.IssueToken(**fields), "tenant": "a", "role": "admin"}

    assert bench.call(**admin(tenant_id="a", role="admin")).record.role == "admin"
    for fields in ({"tenant_id": "b"}, {"tenant_id": "a", "role": "operator"}, {"tenant_id": "b", "role": "operator"}):
        assert isinstance(bench.refusal(**admin(**fields)), Denied)
    assert (
        bench.call(t.IssueToken(tenant_id="b", role="operator"), tenant="a", role="operator").record.role == "operator"
    )


def test_an_agent_has_nothing_to_do_with_tokens(bench):
    record = issued(bench).record
    for request in (t.IssueToken(tenant_id="a"), t.ListTokens(), t.RevokeToken(id=record.id)):
        assert isinstance(bench.refusal(request, tenant="a", role="agent", agent="one"), Denied)


def test_records_are_listed_newest_first_to_an_admin_its_tenant_s_to_an_operator_all(bench):
    ids = {}
    for tenant in ("a", "b", "a"):
        ids.setdefault(tenant, []).insert(0, issued(bench, tenant).record.id)
        bench.clock.advance(1)
    assert [one.id for one in bench.call(t.ListTokens(), tenant="a", role="admin").tokens] == ids["a"]
    assert len(bench.call(t.ListTokens(), tenant="a", role="operator").tokens) == 3
    assert bench.call(t.ListTokens(), tenant="c", role="admin").tokens == []


def test_revoking_is_noted_once_in_the_log_of_the_token_s_tenant(bench):
    record = issued(bench, "b").record
    bench.clock.advance(1000)
    first = bench.call(t.RevokeToken(id=record.id), tenant="a").record
    bench.clock.advance(1000)
    assert bench.call(t.RevokeToken(id=record.id), tenant="a").record == first
    assert first.revoked_at == "2026-01-01T00:00:01.000Z"
    assert [(one.tenant_id, one.kind, one.subject) for one in bench.store.changes.after(0, 10)] == [
        ("b", "token_revoked", record.id)
    ]
    assert bench.store.tokens.is_revoked(record.id)


def test_another_tenant_s_token_is_one_that_does_not_exist(bench):
    theirs = issued(bench, "b").record.id
    error = bench.refusal(t.RevokeToken(id=theirs), tenant="a", role="admin")
    absent = bench.refusal(t.RevokeToken(id="absent"), tenant="a", role="admin")
    assert isinstance(error, NotFound)
    assert str(error.as_dict()).replace(theirs, "absent") == str(absent.as_dict())
    assert not bench.store.tokens.is_revoked(theirs)


@pytest.mark.parametrize("id_", ["", "a\0b", "\ud800", "x" * 201])
def test_an_id_that_can_be_no_token_s_is_a_usage_error(bench, id_: str):
    assert isinstance(bench.refusal(t.RevokeToken(id=id_)), UsageError)


# -- the key that signs --------------------------------------------------------------------------------------------


def verified(bench, token: str) -> bool:
    try:
        bench.context.access.verify(token, bench.clock.now_ms())
    except Denied:
        return False
    return True


def test_by_default_the_old_keys_verify_until_the_last_token_that_holds_ends(bench):
    issued(bench, ttl_ms=60_000)
    last = issued(bench, ttl_ms=3_600_500).token
    revoked = issued(bench, ttl_ms=TOKEN_MAX_TTL_MS).record.id
    bench.call(t.RevokeToken(id=revoked))
    answer = bench.call(t.RotateKey())
    assert answer.old_keys_until == "2026-01-01T01:00:01.500Z"
    bench.clock.advance(3_600_900)
    assert verified(bench, last)
    bench.clock.advance(600)
    assert not verified(bench, last)


def test_a_grace_is_kept_to_the_millisecond(bench):
    old = issued(bench, ttl_ms=3_600_000).token
    answer = bench.call(t.RotateKey(grace_ms=5000))
    assert (answer.old_keys_until, answer.removed_keys) == ("2026-01-01T00:00:05.000Z", 0)
    new = issued(bench, ttl_ms=3_600_000).token
    bench.clock.advance(4999)
    assert (verified(bench, old), verified(bench, new)) == (True, True)
    bench.clock.advance(1)
    assert (verified(bench, old), verified(bench, new)) == (False, True)


def test_a_home_without_tokens_rotates_too(bench):
    answer = bench.call(t.RotateKey())
    assert (answer.old_keys_until, answer.removed_keys) == (None, 0)
    assert bench.call(t.RotateKey()).removed_keys == 1, "nothing was signed with the first one that still holds"


def test_a_rotation_is_in_the_log_of_who_asked_for_it(bench):
    answer = bench.call(t.RotateKey(), tenant="a")
    [event] = bench.store.changes.after(0, 10)
    assert (event.tenant_id, event.kind, event.subject) == ("a", "key_rotated", answer.key_id)


@pytest.mark.parametrize("grace_ms", [-1, TOKEN_MAX_TTL_MS + 1])
def test_a_grace_beyond_any_token_s_life_is_refused(bench, grace_ms):
    before = bench.context.access.kids()
    assert isinstance(bench.refusal(t.RotateKey(grace_ms=grace_ms)), UsageError)
    assert bench.context.access.kids() == before


@pytest.mark.parametrize("role", ["agent", "admin"])
def test_keys_are_the_operators(bench, role):
    assert isinstance(bench.refusal(t.RotateKey(), tenant="a", role=role), Denied)


def test_pages_go_through_the_tenants_own_tokens_and_no_others(bench):
    for number in range(5):
        bench.call(t.IssueToken(tenant_id="ab"[number % 2], role="admin"))
        bench.clock.advance(number % 2)
    for who, count in (({"tenant": "a", "role": "admin"}, 3), ({"role": "operator"}, 5)):
        everything = [one.id for one in bench.call(t.ListTokens(), **who).tokens]
        page = bench.call(t.ListTokens(limit=2, count=True), **who)
        seen, total = [one.id for one in page.tokens], page.total
        while page.cursor is not None:
            page = bench.call(t.ListTokens(limit=2, cursor=page.cursor), **who)
            seen += [one.id for one in page.tokens]
        assert (seen, total) == (everything, count)
        assert len(seen) == count
