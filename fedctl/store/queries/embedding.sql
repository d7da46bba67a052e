-- name: model_by_id
SELECT key, id, dim FROM models WHERE id = :id

-- name: model_by_key
SELECT key, id, dim FROM models WHERE key = :key

-- name: add_model
INSERT INTO models (id, dim) VALUES (:id, :dim)

-- name: add
INSERT INTO embeddings (tenant_key, model_key, seq, chunk, vector)
VALUES (:tenant_key, :model_key, :seq, :chunk, :vector)
ON CONFLICT (seq, model_key, chunk) DO NOTHING

-- name: enqueue
INSERT INTO embedding_queue (seq, tenant_key) VALUES (:seq, :tenant_key) ON CONFLICT (seq) DO NOTHING

-- name: enqueue_missing
INSERT INTO embedding_queue (seq, tenant_key)
SELECT e.seq, e.tenant_key FROM episodes AS e
WHERE (:tenant_key IS NULL OR e.tenant_key = :tenant_key)
  AND NOT EXISTS (SELECT 1 FROM embeddings AS v WHERE v.seq = e.seq AND v.model_key = :model_key)
ON CONFLICT (seq) DO NOTHING

-- name: dequeue
DELETE FROM embedding_queue WHERE seq = :seq

-- name: waiting_tenants
-- From one tenant to the next by the index: as many steps as there are tenants, however long the queue is.
WITH RECURSIVE waiting (tenant_key) AS (
  SELECT min(tenant_key) FROM embedding_queue
  UNION ALL
  SELECT (SELECT min(q.tenant_key) FROM embedding_queue AS q WHERE q.tenant_key > waiting.tenant_key)
  FROM waiting WHERE waiting.tenant_key IS NOT NULL
)
SELECT tenant_key FROM waiting WHERE tenant_key IS NOT NULL

-- name: queued
-- Newest first: what was learned last is looked for first.
SELECT q.seq, q.tenant_key, e.agent_id, e.task, e.input, e.output, e.critique
FROM embedding_queue AS q JOIN episodes AS e ON e.seq = q.seq
WHERE q.tenant_key = :tenant_key
ORDER BY q.seq DESC LIMIT :limit

-- name: note_cut
INSERT INTO cut_episodes (seq, tenant_key) VALUES (:seq, :tenant_key)

-- name: forget_cut
DELETE FROM cut_episodes WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: count_cut
SELECT count(*) FROM cut_episodes WHERE tenant_key = :tenant_key

-- name: still_queued
SELECT q.seq FROM json_each(:seqs) AS given
CROSS JOIN embedding_queue AS q ON q.seq = given.value

-- name: pending
SELECT count(*) FROM embedding_queue WHERE tenant_key = :tenant_key

-- name: pending_everywhere
SELECT count(*) FROM embedding_queue

-- name: of_episodes
SELECT v.seq, m.id, v.vector FROM json_each(:seqs) AS given
CROSS JOIN embeddings AS v ON v.seq = given.value AND v.model_key = :model_key
JOIN models AS m ON m.key = v.model_key
ORDER BY v.seq, v.chunk

-- name: count
SELECT count(*) FROM embeddings WHERE tenant_key = :tenant_key AND model_key = :model_key

-- name: count_embedded
SELECT count(*) FROM embeddings WHERE tenant_key = :tenant_key AND model_key = :model_key AND chunk = 0

-- name: count_after
SELECT count(*) FROM (SELECT 1 FROM embeddings
WHERE tenant_key = :tenant_key AND model_key = :model_key AND key > :key LIMIT :limit)

-- name: after
SELECT key, seq, vector FROM embeddings
WHERE tenant_key = :tenant_key AND model_key = :model_key AND key > :key ORDER BY key LIMIT :limit

-- name: drop_other_models
DELETE FROM embeddings WHERE tenant_key = :tenant_key AND model_key <> :model_key
