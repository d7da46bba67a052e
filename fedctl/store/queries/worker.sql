-- name: columns
w.id, w.status, w.host, w.pid, w.capabilities, w.pool_id, w.started_at_ms, w.last_heartbeat_ms,
w.heartbeat_interval_ms, w.metadata, w.incarnation,
(SELECT i.id FROM items AS i WHERE i.tenant_key = w.tenant_key AND i.claimed_by = w.id AND i.status = 'claimed'
 ORDER BY i.claimed_at_ms DESC, i.seq DESC LIMIT 1)

-- name: get
SELECT {columns} FROM workers AS w WHERE w.tenant_key = :tenant_key AND w.id = :id

-- name: put
INSERT INTO workers (tenant_key, id, incarnation, status, host, pid, capabilities, pool_id, started_at_ms,
  last_heartbeat_ms, heartbeat_interval_ms, metadata)
VALUES (:tenant_key, :id, 1, 'active', :host, :pid, :capabilities, :pool_id, :started_at_ms, :now_ms,
  :heartbeat_interval_ms, :metadata)
ON CONFLICT (tenant_key, id) DO UPDATE SET
  incarnation = incarnation + 1, status = 'active', host = excluded.host, pid = excluded.pid,
  capabilities = excluded.capabilities, pool_id = excluded.pool_id, started_at_ms = excluded.started_at_ms,
  last_heartbeat_ms = excluded.last_heartbeat_ms, heartbeat_interval_ms = excluded.heartbeat_interval_ms,
  metadata = excluded.metadata

-- name: beat
UPDATE workers SET status = :status, last_heartbeat_ms = :now_ms, metadata = :metadata
WHERE tenant_key = :tenant_key AND id = :id

-- name: revive
UPDATE workers SET status = 'active', last_heartbeat_ms = :now_ms WHERE tenant_key = :tenant_key AND id = :id

-- name: remove
DELETE FROM workers WHERE tenant_key = :tenant_key AND id = :id

-- name: set_status
UPDATE workers SET status = :status WHERE tenant_key = :tenant_key AND id = :id

-- name: capabilities
SELECT status, capabilities FROM workers WHERE tenant_key = :tenant_key AND id = :id

-- name: list
-- `silent_ms` NULL and `stale` 0 ask for no silence; a terminated worker is not silent but gone.
SELECT {columns} FROM workers AS w
WHERE w.tenant_key = :tenant_key
  AND (:statuses IS NULL OR w.status IN (SELECT value FROM json_each(:statuses)))
  AND (:capability IS NULL OR :capability IN (SELECT value FROM json_each(w.capabilities)))
  AND (:pool IS NULL OR w.pool_id = :pool)
  AND (NOT :stale OR (w.status <> 'terminated' AND :now_ms - w.last_heartbeat_ms > :beats * w.heartbeat_interval_ms))
  AND (:silent_ms IS NULL OR (w.status <> 'terminated' AND :now_ms - w.last_heartbeat_ms > :silent_ms))
ORDER BY w.started_at_ms DESC, w.id LIMIT :limit OFFSET :skip

-- name: to_reap
SELECT w.id FROM workers AS w
WHERE w.tenant_key = :tenant_key AND w.status IN ('active', 'terminating')
  AND :now_ms - w.last_heartbeat_ms > :beats * w.heartbeat_interval_ms
ORDER BY w.id
