-- What must be true of every store, asked of each tenant. Everything here walks the tenant.

-- name: words_of_nothing
-- Episodes that the words know and that are not there.
SELECT count(*) FROM {words}_docsize AS w
WHERE NOT EXISTS (SELECT 1 FROM episodes AS e WHERE e.seq = w.id AND e.tenant_key = :tenant_key)

-- name: wordless
SELECT count(*) FROM episodes AS e
WHERE e.tenant_key = :tenant_key AND NOT EXISTS (SELECT 1 FROM {words}_docsize AS w WHERE w.id = e.seq)

-- name: leaves_of_nothing
SELECT count(*) FROM episode_metadata AS m
WHERE m.tenant_key = :tenant_key
  AND NOT EXISTS (SELECT 1 FROM episodes AS e WHERE e.seq = m.seq AND e.tenant_key = m.tenant_key)

-- name: drop_leaves_of_nothing
DELETE FROM episode_metadata
WHERE tenant_key = :tenant_key
  AND NOT EXISTS (SELECT 1 FROM episodes AS e WHERE e.seq = episode_metadata.seq
    AND e.tenant_key = episode_metadata.tenant_key)

-- name: metadata
SELECT seq, metadata FROM episodes WHERE tenant_key = :tenant_key AND seq > :seq ORDER BY seq LIMIT :limit

-- name: metadata_of
SELECT metadata FROM episodes WHERE tenant_key = :tenant_key AND seq = :seq

-- name: add_leaf
INSERT INTO episode_metadata (tenant_key, path, value, seq) VALUES (:tenant_key, :path, :value, :seq)
ON CONFLICT DO NOTHING

-- name: table_exists
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = :name

-- name: count_episodes
SELECT count(*) FROM episodes WHERE tenant_key = :tenant_key

-- name: leaf_exists
SELECT 1 FROM episode_metadata
WHERE tenant_key = :tenant_key AND path = :path AND value = :value AND seq = :seq

-- name: buried_alive
SELECT count(*) FROM tombstones AS t JOIN episodes AS e ON e.tenant_key = t.tenant_key AND e.id = t.id
WHERE t.tenant_key = :tenant_key

-- name: ids_after
SELECT seq, id FROM episodes WHERE tenant_key = :tenant_key AND seq > :seq ORDER BY seq LIMIT :limit

-- name: drop_vectors
DELETE FROM embeddings WHERE model_key = :model_key AND seq = :seq
