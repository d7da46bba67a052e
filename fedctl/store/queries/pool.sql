-- name: columns
i.seq, i.id, p.name, i.status, i.data, i.priority, i.attempts, i.max_retries, i.claimed_by, i.claimed_at_ms,
i.lease_id, i.lease_expires_at_ms, i.created_at_ms, i.available_at_ms, i.finished_at_ms, i.result, i.error, i.key,
r.capabilities

-- name: pool
SELECT key, paused FROM pools WHERE tenant_key = :tenant_key AND name = :name

-- name: head
-- One row for each set of requirements; one without any for a pool that never held an item.
SELECT p.key, p.paused,
  (SELECT min(available_at_ms) FROM items WHERE pool_key = p.key AND status = 'delayed'),
  (SELECT min(lease_expires_at_ms) FROM items WHERE pool_key = p.key AND status = 'claimed'),
  r.key, r.capabilities
FROM pools AS p LEFT JOIN requirements AS r ON r.pool_key = p.key
WHERE p.tenant_key = :tenant_key AND p.name = :name

-- name: add_pool
INSERT INTO pools (tenant_key, name, paused, created_at_ms) VALUES (:tenant_key, :name, 0, :now_ms)

-- name: set_paused
UPDATE pools SET paused = :paused WHERE key = :pool_key

-- name: pools
SELECT key, name, paused FROM pools WHERE tenant_key = :tenant_key ORDER BY name

-- name: requirements
SELECT key, capabilities FROM requirements WHERE pool_key = :pool_key

-- name: add_requirement
INSERT INTO requirements (pool_key, capabilities) VALUES (:pool_key, :capabilities)

-- name: known_ids
SELECT i.id FROM json_each(:ids) AS given
CROSS JOIN items AS i ON i.tenant_key = :tenant_key AND i.id = given.value

-- name: held_key
SELECT i.id FROM items AS i
WHERE i.pool_key = :pool_key AND i.key = :key AND i.status IN ('pending', 'delayed', 'claimed')

-- name: add
INSERT INTO items (tenant_key, pool_key, requirement_key, id, status, priority, attempts, max_retries, key,
  created_at_ms, available_at_ms, data)
VALUES (:tenant_key, :pool_key, :requirement_key, :id, :status, :priority, 0, :max_retries, :key, :now_ms,
  :available_at_ms, :data)

-- name: by_id
SELECT {columns} FROM items AS i JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key
WHERE i.tenant_key = :tenant_key AND i.id = :id

-- name: by_ids
SELECT {columns} FROM json_each(:ids) AS given
CROSS JOIN items AS i ON i.tenant_key = :tenant_key AND i.id = given.value
JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key

-- name: due
-- What has waited long enough is pending from now on.
UPDATE items SET status = 'pending' WHERE seq IN (
  SELECT seq FROM items WHERE pool_key = :pool_key AND status = 'delayed' AND available_at_ms <= :now_ms
  ORDER BY available_at_ms LIMIT :limit)

-- name: expired
SELECT {columns} FROM items AS i JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key
WHERE i.pool_key = :pool_key AND i.status = 'claimed' AND i.lease_expires_at_ms <= :now_ms
ORDER BY i.lease_expires_at_ms LIMIT :limit

-- name: held
SELECT {columns} FROM items AS i JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key
WHERE i.tenant_key = :tenant_key AND i.claimed_by = :worker_id AND i.status = 'claimed'

-- name: claimable
-- One set of requirements; the caller merges those that the worker fulfils.
SELECT {columns} FROM items AS i JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key
WHERE i.requirement_key = :requirement_key AND i.status = 'pending'
ORDER BY i.priority DESC, i.seq LIMIT :limit

-- name: claim
UPDATE items SET status = 'claimed', attempts = attempts + 1, claimed_by = :worker_id, claimed_at_ms = :now_ms,
  lease_id = :lease_id, lease_expires_at_ms = :lease_expires_at_ms
WHERE seq = :seq

-- name: finish
UPDATE items SET status = 'done', lease_expires_at_ms = NULL, finished_at_ms = :now_ms, result = :result, error = NULL
WHERE seq = :seq

-- name: give_back
UPDATE items SET status = :status, attempts = :attempts, available_at_ms = :available_at_ms, claimed_by = NULL,
  claimed_at_ms = NULL, lease_id = NULL, lease_expires_at_ms = NULL, finished_at_ms = :finished_at_ms, error = :error
WHERE seq = :seq

-- name: extend
UPDATE items SET lease_expires_at_ms = :lease_expires_at_ms WHERE seq = :seq

-- name: extend_held
-- A lease that lasts longer already is left as it is.
UPDATE items SET lease_expires_at_ms =
  CASE WHEN lease_expires_at_ms > :lease_expires_at_ms THEN lease_expires_at_ms ELSE :lease_expires_at_ms END
WHERE tenant_key = :tenant_key AND claimed_by = :worker_id AND status = 'claimed'

-- name: add_attempt
INSERT INTO attempts (item_seq, worker_id, claimed_at_ms, ended_at_ms, outcome, error)
VALUES (:item_seq, :worker_id, :claimed_at_ms, :now_ms, :outcome, :error)

-- name: attempts
SELECT worker_id, claimed_at_ms, ended_at_ms, outcome, error FROM attempts WHERE item_seq = :item_seq ORDER BY key

-- name: next_due
-- When something could be claimed that cannot be now.
SELECT min(at_ms) FROM (
  SELECT min(available_at_ms) AS at_ms FROM items WHERE pool_key = :pool_key AND status = 'delayed'
  UNION ALL
  SELECT min(lease_expires_at_ms) FROM items WHERE pool_key = :pool_key AND status = 'claimed'
)

-- name: count_pending
SELECT count(*), min(seq) FROM items
WHERE requirement_key IN (SELECT key FROM requirements WHERE pool_key = :pool_key) AND status = 'pending'

-- name: count_delayed
SELECT count(*), sum(available_at_ms <= :now_ms) FROM items WHERE pool_key = :pool_key AND status = 'delayed'

-- name: count_claimed
SELECT count(*), sum(lease_expires_at_ms <= :now_ms) FROM items WHERE pool_key = :pool_key AND status = 'claimed'

-- name: count_done
SELECT count(*) FROM items WHERE pool_key = :pool_key AND status = 'done'

-- name: count_poisoned
SELECT count(*) FROM items WHERE pool_key = :pool_key AND status = 'poisoned'

-- name: expired_everywhere
-- Of all tenants: what nobody holds any more and nobody has asked for since.
SELECT count(*), min(lease_expires_at_ms) FROM items WHERE status = 'claimed' AND lease_expires_at_ms <= :now_ms

-- name: created_at
SELECT created_at_ms FROM items WHERE seq = :seq

-- name: page
SELECT {columns} FROM items AS i JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key
WHERE i.pool_key = :pool_key AND i.seq > :cursor
  AND (:statuses IS NULL OR i.status IN (SELECT value FROM json_each(:statuses)))
ORDER BY i.seq LIMIT :limit

-- name: retriable
-- The poisoned without those whose deduplication key another unfinished item holds by now.
SELECT {columns} FROM items AS i JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key
WHERE i.pool_key = :pool_key AND i.status = 'poisoned' AND (i.key IS NULL OR NOT EXISTS (
  SELECT 1 FROM items AS o WHERE o.pool_key = i.pool_key AND o.key = i.key
  AND o.key IS NOT NULL AND o.status IN ('pending', 'delayed', 'claimed')))
ORDER BY i.finished_at_ms, i.seq LIMIT :limit

-- name: poisoned
SELECT {columns} FROM items AS i JOIN pools AS p ON p.key = i.pool_key JOIN requirements AS r ON r.key = i.requirement_key
WHERE i.pool_key = :pool_key AND i.status = 'poisoned' ORDER BY i.finished_at_ms, i.seq LIMIT :limit

-- name: poisoned_ids
SELECT id FROM items WHERE pool_key = :pool_key AND status = 'poisoned' ORDER BY finished_at_ms, seq LIMIT :limit

-- name: count_pools
SELECT count(*) FROM pools

-- name: count_all_pending
-- The status stands here and not in a parameter: only so is it seen that the partial index has them all.
SELECT count(*) FROM items WHERE status = 'pending'

-- name: count_all_delayed
SELECT count(*) FROM items WHERE status = 'delayed'

-- name: count_all_claimed
SELECT count(*) FROM items WHERE status = 'claimed'

-- name: count_all_done
SELECT count(*) FROM items WHERE status = 'done'

-- name: count_all_poisoned
SELECT count(*) FROM items WHERE status = 'poisoned'

-- name: count_to_purge
SELECT count(*) FROM items WHERE pool_key = :pool_key AND status IN (SELECT value FROM json_each(:statuses))

-- name: purge_done
DELETE FROM items WHERE seq IN (SELECT seq FROM items WHERE pool_key = :pool_key AND status = 'done' LIMIT :limit)

-- name: purge_poisoned
DELETE FROM items WHERE seq IN (SELECT seq FROM items WHERE pool_key = :pool_key AND status = 'poisoned' LIMIT :limit)

-- name: purge
DELETE FROM items WHERE seq IN (
  SELECT seq FROM items WHERE pool_key = :pool_key AND status IN (SELECT value FROM json_each(:statuses)) LIMIT :limit)
