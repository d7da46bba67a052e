-- name: last_seq
SELECT coalesce(max(seq), 0) FROM changes

-- name: add_next
-- SQLite gives the first key after the last one, which is the next sequence: the caller holds the write transaction.
INSERT INTO changes (tenant_key, kind, subject, detail, at_ms)
VALUES (:tenant_key, :kind, :subject, :detail, :now_ms)

-- name: add
-- The caller holds the write transaction, so the next sequence is its own.
INSERT INTO changes (seq, tenant_key, kind, subject, detail, at_ms)
VALUES (:seq, :tenant_key, :kind, :subject, :detail, :now_ms)

-- name: after
SELECT c.seq, t.name, c.kind, c.subject, c.detail, c.at_ms
FROM changes AS c JOIN tenants AS t ON t.key = c.tenant_key
WHERE c.seq > :seq ORDER BY c.seq LIMIT :limit

-- name: gaps
SELECT count(*), min(seq), max(seq) FROM changes

-- name: unlogged
SELECT count(*) FROM episodes AS e
WHERE NOT EXISTS (SELECT 1 FROM changes AS c WHERE c.seq = e.seq AND c.kind = 'episode_stored' AND c.subject = e.id)
