-- name: get
SELECT a.id, a.type, a.status, a.spawned_at_ms, a.expires_at_ms, a.last_sync_at_ms, a.host, a.pid, a.episodes_stored
FROM agents AS a WHERE a.tenant_key = :tenant_key AND a.id = :id

-- name: put
INSERT INTO agents (tenant_key, id, type, status, spawned_at_ms, expires_at_ms, last_sync_at_ms, host, pid,
  episodes_stored)
VALUES (:tenant_key, :id, :type, 'spawning', :spawned_at_ms, :expires_at_ms, NULL, :host, :pid, 0)
ON CONFLICT (tenant_key, id) DO UPDATE SET
  type = excluded.type, status = excluded.status, spawned_at_ms = excluded.spawned_at_ms,
  expires_at_ms = excluded.expires_at_ms, last_sync_at_ms = NULL, host = excluded.host, pid = excluded.pid,
  episodes_stored = 0

-- name: report
UPDATE agents SET status = :status, last_sync_at_ms = coalesce(:synced_at_ms, last_sync_at_ms)
WHERE tenant_key = :tenant_key AND id = :id

-- name: count_stored
UPDATE agents SET episodes_stored = episodes_stored + :count WHERE tenant_key = :tenant_key AND id = :id

-- name: list
-- `statuses` is a JSON list; an empty one asks for any.
SELECT a.id, a.type, a.status, a.spawned_at_ms, a.expires_at_ms, a.last_sync_at_ms, a.host, a.pid, a.episodes_stored
FROM agents AS a WHERE a.tenant_key = :tenant_key AND (:all OR a.status <> 'dead')
  AND (:statuses = '[]' OR a.status IN (SELECT value FROM json_each(:statuses)))
  AND (a.spawned_at_ms < :after_ms OR a.spawned_at_ms = :after_ms AND a.id > :after_id)
ORDER BY a.spawned_at_ms DESC, a.id LIMIT :limit

-- name: count
SELECT count(*) FROM agents WHERE tenant_key = :tenant_key AND (:all OR status <> 'dead')
  AND (:statuses = '[]' OR status IN (SELECT value FROM json_each(:statuses)))

-- name: overdue
-- Agents of any tenant that should be dead by now.
SELECT t.name, a.id FROM agents AS a JOIN tenants AS t ON t.key = a.tenant_key
WHERE a.status <> 'dead' AND a.expires_at_ms < :before_ms AND t.name NOT LIKE '-%'

-- name: figures
SELECT figures FROM agent_figures WHERE tenant_key = :tenant_key AND agent_id = :id

-- name: put_figures
INSERT INTO agent_figures (tenant_key, agent_id, figures) VALUES (:tenant_key, :id, :figures)
ON CONFLICT (tenant_key, agent_id) DO UPDATE SET figures = excluded.figures

-- name: drop_figures
DELETE FROM agent_figures WHERE tenant_key = :tenant_key AND agent_id = :id
