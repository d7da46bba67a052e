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
WHERE c.seq > :seq AND (t.name NOT LIKE '-%' OR c.kind = 'tenant_erased') ORDER BY c.seq LIMIT :limit

-- name: page
-- A stretch of the log, of one tenant (NULL: all) and of some kinds (NULL: all; else a JSON array).
SELECT c.seq, t.name, c.kind, c.subject, c.detail, c.at_ms
FROM changes AS c JOIN tenants AS t ON t.key = c.tenant_key
WHERE c.seq > :seq AND c.seq <= :through AND (:tenant_key IS NULL OR c.tenant_key = :tenant_key)
  AND (:kinds IS NULL OR c.kind IN (SELECT value FROM json_each(:kinds)))
  AND (t.name NOT LIKE '-%' OR c.kind = 'tenant_erased')
ORDER BY c.seq LIMIT :limit

-- name: newest
SELECT c.seq, t.name, c.kind, c.subject, c.detail, c.at_ms
FROM changes AS c JOIN tenants AS t ON t.key = c.tenant_key
WHERE (:tenant_key IS NULL OR c.tenant_key = :tenant_key)
  AND (:kinds IS NULL OR c.kind IN (SELECT value FROM json_each(:kinds)))
  AND (t.name NOT LIKE '-%' OR c.kind = 'tenant_erased')
ORDER BY c.seq DESC LIMIT :limit

-- name: next_at
-- The first change at or after a sequence.
SELECT seq, at_ms FROM changes WHERE seq >= :seq ORDER BY seq LIMIT 1

-- name: of_agent
-- What an agent did in this life, newest first: it may have told of it later than it happened.
SELECT c.seq, c.kind, c.detail, c.at_ms FROM changes AS c
WHERE c.tenant_key = :tenant_key AND c.subject = :agent_id
  AND c.kind BETWEEN 'agent_' AND 'agent_~'
  AND (:phases_only = 0 OR c.kind = 'agent_status')
  AND c.at_ms - coalesce(json_extract(c.detail, '$.age_ms'), 0) >= :since_ms
ORDER BY c.seq DESC LIMIT :limit

-- name: counts_of_agent
SELECT c.kind, json_extract(c.detail, '$.kind'), count(*) FROM changes AS c
WHERE c.tenant_key = :tenant_key AND c.subject = :agent_id
  AND c.kind BETWEEN 'agent_' AND 'agent_~'
  AND c.at_ms - coalesce(json_extract(c.detail, '$.age_ms'), 0) >= :since_ms
GROUP BY 1, 2

-- name: note
SELECT c.seq, c.subject, c.detail, c.at_ms FROM changes AS c
WHERE c.tenant_key = :tenant_key AND json_extract(c.detail, '$.id') = :id 
  AND (c.kind = 'agent_note' OR c.kind = 'agent_error')

-- name: remove
-- The newest row stays: the next sequence is reckoned from it.
DELETE FROM changes WHERE seq IN (SELECT value FROM json_each(:seqs)) AND tenant_key = :tenant_key
  AND seq < (SELECT max(seq) FROM changes)

-- name: note_removed
INSERT INTO settings (name, value) VALUES ('changes_removed', CAST(:count AS TEXT)) ON CONFLICT (name) DO UPDATE
SET value = CAST(CAST(settings.value AS INTEGER) + :count AS TEXT)

-- name: gaps
-- Sequences begin with 1 and leave none out: what is not here was removed, and counted.
SELECT count(*), coalesce(max(seq), 0),
  coalesce((SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'changes_removed'), 0)
FROM changes

-- name: unlogged
SELECT count(*) FROM episodes AS e
WHERE NOT EXISTS (SELECT 1 FROM changes AS c WHERE c.seq = e.seq AND c.kind = 'episode_stored' AND c.subject = e.id)
