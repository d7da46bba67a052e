-- name: snapshot
SELECT generation, form, vectors, through_key, stamp, updated_at_ms FROM snapshots
WHERE tenant_key = :tenant_key AND model_key = :model_key

-- name: put_snapshot
INSERT INTO snapshots (tenant_key, model_key, generation, form, vectors, through_key, stamp, updated_at_ms)
VALUES (:tenant_key, :model_key, :generation, 'flat', :vectors, :through_key, :stamp, :now_ms)
ON CONFLICT (tenant_key, model_key) DO UPDATE SET
  generation = excluded.generation, form = excluded.form, vectors = excluded.vectors,
  through_key = excluded.through_key, stamp = excluded.stamp, updated_at_ms = excluded.updated_at_ms

-- name: restamp
UPDATE snapshots SET stamp = :stamp
WHERE tenant_key = :tenant_key AND model_key = :model_key AND generation = :generation AND vectors = :vectors

-- name: drop_snapshot
DELETE FROM snapshots
WHERE tenant_key = :tenant_key AND model_key = :model_key AND generation = :generation

-- name: drop_other_snapshots
DELETE FROM snapshots WHERE tenant_key = :tenant_key AND model_key <> :model_key

-- name: drop_blocks
DELETE FROM snapshot_blocks WHERE tenant_key = :tenant_key AND model_key = :model_key

-- name: add_block
INSERT INTO snapshot_blocks (tenant_key, model_key, first, vectors, digest)
VALUES (:tenant_key, :model_key, :first, :vectors, :digest)

-- name: most_outdated_ms
SELECT max(:now_ms - s.updated_at_ms) FROM snapshots AS s WHERE EXISTS (
  SELECT 1 FROM embeddings AS v
  WHERE v.tenant_key = s.tenant_key AND v.model_key = s.model_key AND v.key > s.through_key)

-- name: blocks
SELECT first, vectors, digest FROM snapshot_blocks
WHERE tenant_key = :tenant_key AND model_key = :model_key ORDER BY first

-- name: snapshots
SELECT tenant_key, model_key, generation FROM snapshots ORDER BY tenant_key, model_key

-- name: graph
SELECT generation, vectors, through_key, digest, built_at_ms FROM graphs
WHERE tenant_key = :tenant_key AND model_key = :model_key

-- name: put_graph
INSERT INTO graphs (tenant_key, model_key, generation, vectors, through_key, digest, built_at_ms)
VALUES (:tenant_key, :model_key, :generation, :vectors, :through_key, :digest, :built_at_ms)
ON CONFLICT (tenant_key, model_key) DO UPDATE SET
  generation = excluded.generation, vectors = excluded.vectors, through_key = excluded.through_key,
  digest = excluded.digest, built_at_ms = excluded.built_at_ms

-- name: drop_graph
DELETE FROM graphs
WHERE tenant_key = :tenant_key AND model_key = :model_key AND generation = :generation

-- name: drop_other_graphs
DELETE FROM graphs WHERE tenant_key = :tenant_key AND model_key <> :model_key

-- name: graphs
SELECT tenant_key, model_key, generation FROM graphs ORDER BY tenant_key, model_key

-- name: drop_all_snapshots
DELETE FROM snapshots

-- name: drop_all_graphs
DELETE FROM graphs
