from __future__ import annotations

from fedctl.operations.newest import after


def add(bench, token_id: str, tenant: str = "a", now_ms: int = 1000) -> None:
    with bench.store.write():
        bench.store.tokens.add(
            token_id, tenant_id=tenant, agent_id=None, role="agent", now_ms=now_ms, expires_at_ms=now_ms + 1
        )


def test_a_token_is_revoked_once_and_stays_so(bench):
    add(bench, "t1")
    tokens = bench.store.tokens
    assert not tokens.is_revoked("t1")
    with bench.store.write():
        assert tokens.revoke("t1", 5000)
        assert not tokens.revoke("t1", 9000)
        assert not tokens.revoke("unknown", 9000)
    assert tokens.is_revoked("t1")
    assert tokens.get("t1").revoked_at == "1970-01-01T00:00:05.000Z"


def test_a_token_that_was_never_issued_here_is_not_revoked(bench):
    assert not bench.store.tokens.is_revoked("unknown")
    assert bench.store.tokens.get("unknown") is None


def test_tokens_are_listed_newest_first_of_one_tenant_or_all(bench):
    for number, tenant in enumerate("aba"):
        add(bench, f"t{number}", tenant, now_ms=1000 + number)
    assert [one.id for one in bench.store.tokens.page(None, limit=10, after=after(None))] == ["t2", "t1", "t0"]
    assert [one.id for one in bench.store.tokens.page("a", limit=10, after=after(None))] == ["t2", "t0"]
    assert bench.store.tokens.page("c", limit=10, after=after(None)) == []


def test_nothing_of_a_token_but_its_claims_is_kept(bench):
    columns = [row[1] for row in bench.store.database.rows("pragma table_info(tokens)")]
    assert columns == ["id", "tenant_id", "agent_id", "role", "issued_at_ms", "expires_at_ms", "revoked_at_ms"]
