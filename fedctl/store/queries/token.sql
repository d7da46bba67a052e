-- name: add
INSERT INTO tokens (id, tenant_id, agent_id, role, issued_at_ms, expires_at_ms, revoked_at_ms)
VALUES (:id, :tenant_id, :agent_id, :role, :now_ms, :expires_at_ms, NULL)

-- name: merge
INSERT INTO tokens (id, tenant_id, agent_id, role, issued_at_ms, expires_at_ms, revoked_at_ms)
VALUES (:id, :tenant_id, :agent_id, :role, :issued_at_ms, :expires_at_ms, :revoked_at_ms)
ON CONFLICT (id) DO UPDATE SET revoked_at_ms = coalesce(revoked_at_ms, excluded.revoked_at_ms)

-- name: get
SELECT id, tenant_id, agent_id, role, issued_at_ms, expires_at_ms, revoked_at_ms FROM tokens WHERE id = :id

-- name: list
SELECT id, tenant_id, agent_id, role, issued_at_ms, expires_at_ms, revoked_at_ms FROM tokens
WHERE (:tenant_id IS NULL OR tenant_id = :tenant_id)
  AND (issued_at_ms < :after_ms OR issued_at_ms = :after_ms AND id > :after_id)
ORDER BY issued_at_ms DESC, id LIMIT :limit

-- name: count
SELECT count(*) FROM tokens WHERE :tenant_id IS NULL OR tenant_id = :tenant_id

-- name: rows
SELECT id, tenant_id, agent_id, role, issued_at_ms, expires_at_ms, revoked_at_ms FROM tokens

-- name: last_expiry
SELECT max(expires_at_ms) FROM tokens WHERE revoked_at_ms IS NULL

-- name: revoke
UPDATE tokens SET revoked_at_ms = :now_ms WHERE id = :id AND revoked_at_ms IS NULL

-- name: revoked_at
SELECT revoked_at_ms FROM tokens WHERE id = :id
