-- Tenants that were erased keep their row, so that their key is never given out again: without their name, and with
-- one that nobody can have ('-' and the key).

-- name: rename
UPDATE tenants SET name = '-' || key WHERE key = :tenant_key

-- name: begin
-- What was begun for episodes goes on as an erasure of all.
INSERT INTO erasures (tenant_key, digest, begun_at_ms) VALUES (:tenant_key, :digest, :now_ms)
ON CONFLICT (tenant_key) DO UPDATE SET digest = coalesce(excluded.digest, digest)

-- name: end
DELETE FROM erasures WHERE tenant_key = :tenant_key

-- name: open
SELECT tenant_key, digest, begun_at_ms FROM erasures ORDER BY tenant_key

-- name: any_open
SELECT EXISTS (SELECT 1 FROM erasures)

-- name: note_tenant
INSERT INTO erased_tenants (digest, erased_at_ms) VALUES (:digest, :at_ms)
ON CONFLICT (digest) DO UPDATE SET erased_at_ms = max(erased_at_ms, excluded.erased_at_ms)

-- name: note_episode
INSERT INTO erased_episodes (digest, erased_at_ms) VALUES (:digest, :at_ms) ON CONFLICT DO NOTHING

-- name: note_unfiled
INSERT INTO erased_episodes (digest, erased_at_ms, filed) VALUES (:digest, :at_ms, 0) ON CONFLICT DO NOTHING

-- name: unfiled
SELECT digest, erased_at_ms FROM erased_episodes WHERE digest > :after AND filed = 0 ORDER BY digest LIMIT :limit

-- name: file
UPDATE erased_episodes SET filed = 1 WHERE digest = :digest

-- name: file_all
UPDATE erased_episodes SET filed = 1 WHERE filed = 0

-- name: under_way_of
SELECT tenant_key FROM erasures WHERE digest = :digest

-- name: held_among
-- Which of the ids (a JSON list) an episode or a tombstone of a tenant still has.
SELECT e.id FROM json_each(:ids) AS given
CROSS JOIN episodes AS e ON e.tenant_key = :tenant_key AND e.id = given.value
UNION ALL
SELECT t.id FROM json_each(:ids) AS given
CROSS JOIN tombstones AS t ON t.tenant_key = :tenant_key AND t.id = given.value

-- name: name_of
SELECT name FROM tenants WHERE key = :tenant_key

-- name: tenant_erased_at
SELECT erased_at_ms FROM erased_tenants WHERE digest = :digest

-- name: any_episodes
SELECT EXISTS (SELECT 1 FROM erased_episodes)

-- name: known
SELECT 1 FROM erased_episodes WHERE digest = :digest

-- name: tenants
SELECT digest, erased_at_ms FROM erased_tenants

-- name: episodes
SELECT digest, erased_at_ms FROM erased_episodes

-- name: drop_tokens
DELETE FROM tokens WHERE tenant_id = :tenant_id AND issued_at_ms <= :at_ms

-- name: created_at
SELECT created_at_ms FROM tenants WHERE key = :tenant_key

-- What goes with a tenant's name, in one transaction: a row each.

-- name: drop_usage
DELETE FROM tenant_usage WHERE tenant_key = :tenant_key

-- name: drop_quota
DELETE FROM tenant_quotas WHERE tenant_key = :tenant_key

-- name: drop_policy
DELETE FROM retention_policies WHERE tenant_key = :tenant_key

-- What goes a little at a time: at most :limit rows of a table.

-- name: remove_queued
DELETE FROM embedding_queue WHERE seq IN (SELECT seq FROM embedding_queue WHERE tenant_key = :tenant_key LIMIT :limit)

-- name: remove_leaves
DELETE FROM episode_metadata WHERE (tenant_key, path, value, seq) IN (
  SELECT tenant_key, path, value, seq FROM episode_metadata WHERE tenant_key = :tenant_key LIMIT :limit)

-- name: remove_vectors
DELETE FROM embeddings WHERE key IN (SELECT key FROM embeddings WHERE tenant_key = :tenant_key LIMIT :limit)

-- name: remove_items
DELETE FROM items WHERE seq IN (SELECT seq FROM items WHERE tenant_key = :tenant_key LIMIT :limit)

-- name: remove_requirements
DELETE FROM requirements WHERE key IN (
  SELECT r.key FROM pools AS p JOIN requirements AS r ON r.pool_key = p.key WHERE p.tenant_key = :tenant_key
  LIMIT :limit)

-- name: rename_pools
-- A pool's key is not given out again either: a process may remember what it stood for.
UPDATE pools SET name = '-' || key WHERE key IN (
  SELECT key FROM pools WHERE tenant_key = :tenant_key AND name NOT LIKE '-%' LIMIT :limit)

-- name: remove_workers
DELETE FROM workers WHERE tenant_key = :tenant_key AND id IN (
  SELECT id FROM workers WHERE tenant_key = :tenant_key LIMIT :limit)

-- name: remove_figures
DELETE FROM agent_figures WHERE tenant_key = :tenant_key AND agent_id IN (
  SELECT agent_id FROM agent_figures WHERE tenant_key = :tenant_key LIMIT :limit)

-- name: remove_agents
DELETE FROM agents WHERE tenant_key = :tenant_key AND id IN (
  SELECT id FROM agents WHERE tenant_key = :tenant_key LIMIT :limit)

-- name: remove_snapshots
DELETE FROM snapshots WHERE tenant_key = :tenant_key

-- name: remove_graphs
DELETE FROM graphs WHERE tenant_key = :tenant_key

-- Episodes and tombstones, whose ids are noted first.

-- name: episode_ids
SELECT seq, id FROM episodes WHERE tenant_key = :tenant_key ORDER BY seq LIMIT :limit

-- name: all_ids
SELECT id FROM episodes WHERE tenant_key = :tenant_key UNION ALL SELECT id FROM tombstones WHERE tenant_key = :tenant_key

-- name: token_tenants
SELECT DISTINCT tenant_id FROM tokens

-- name: remove_episodes
DELETE FROM episodes WHERE seq IN (SELECT value FROM json_each(:seqs)) AND tenant_key = :tenant_key

-- name: tombstone_ids
SELECT id FROM tombstones WHERE tenant_key = :tenant_key ORDER BY id LIMIT :limit

-- name: remove_tombstones
DELETE FROM tombstones WHERE tenant_key = :tenant_key AND id IN (SELECT value FROM json_each(:ids))

-- name: disguise_tombstone
UPDATE tombstones SET id = :disguise WHERE tenant_key = :tenant_key AND id = :id

-- The tables that a tenant's table of words consists of: {words}_data is all but the whole of it.

-- name: words_tables
SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('{words}_data', '{words}_idx', '{words}_docsize')

-- name: remove_word_data
DELETE FROM {words}_data WHERE id IN (SELECT id FROM {words}_data LIMIT :limit)

-- name: remove_word_docsize
DELETE FROM {words}_docsize WHERE id IN (SELECT id FROM {words}_docsize LIMIT :limit)

-- name: words_bytes
SELECT coalesce(sum(length(block)), 0) FROM {words}_data

-- name: optimize_words
-- A slice of merging all into one, which leaves out what was deleted; less than two changes: it is one already.
INSERT INTO {words} ({words}, rank) VALUES ('merge', :pages)

-- The log of changes, walked in order: it has no index by tenant.

-- name: change_seqs
SELECT seq FROM changes WHERE tenant_key = :tenant_key AND seq > :seq AND kind <> 'tenant_erased'
ORDER BY seq LIMIT :limit

-- name: changes_of
-- What the log says, from a sequence on, of episodes by id (a JSON list).
SELECT seq, subject FROM changes WHERE seq >= :first AND tenant_key = :tenant_key
  AND subject IN (SELECT value FROM json_each(:ids)) AND kind LIKE 'episode_%' ORDER BY seq

-- name: counts
SELECT (SELECT count(*) FROM episodes WHERE tenant_key = :tenant_key),
  (SELECT count(*) FROM items WHERE tenant_key = :tenant_key),
  (SELECT count(*) FROM agents WHERE tenant_key = :tenant_key),
  (SELECT count(*) FROM workers WHERE tenant_key = :tenant_key),
  (SELECT count(*) FROM embeddings WHERE tenant_key = :tenant_key)

-- name: count_tokens
SELECT count(*) FROM tokens WHERE tenant_id = :tenant_id
