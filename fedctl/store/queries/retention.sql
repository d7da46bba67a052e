-- name: policy
SELECT max_age_ms, min_reward, max_episodes, keep_last, keep_success, keep_where, items_max_age_ms, events_max_age_ms,
  agents_max_age_ms
FROM retention_policies WHERE tenant_key = :tenant_key

-- name: set_policy
INSERT INTO retention_policies (tenant_key, max_age_ms, min_reward, max_episodes, keep_last, keep_success, keep_where,
  items_max_age_ms, events_max_age_ms, agents_max_age_ms, set_at_ms)
VALUES (:tenant_key, :max_age_ms, :min_reward, :max_episodes, :keep_last, :keep_success, :keep_where,
  :items_max_age_ms, :events_max_age_ms, :agents_max_age_ms, :now_ms)
ON CONFLICT (tenant_key) DO UPDATE SET
  max_age_ms = excluded.max_age_ms, min_reward = excluded.min_reward, max_episodes = excluded.max_episodes,
  keep_last = excluded.keep_last, keep_success = excluded.keep_success, keep_where = excluded.keep_where,
  items_max_age_ms = excluded.items_max_age_ms, events_max_age_ms = excluded.events_max_age_ms,
  agents_max_age_ms = excluded.agents_max_age_ms, set_at_ms = excluded.set_at_ms

-- name: tenants
-- Not those that were erased, whose names begin with a dash.
SELECT t.name FROM retention_policies AS p JOIN tenants AS t ON t.key = p.tenant_key WHERE t.name NOT LIKE '-%'
ORDER BY t.name

-- name: records
-- All episodes, the last that were made first (in what is imported those may be stored before older ones), and of each whether it fulfils a condition of what is to be kept.
SELECT e.seq, e.created_at_ms, e.reward, e.success, e.pinned, ({filter}),
  octet_length(e.task) + octet_length(e.input) + octet_length(e.output) + coalesce(octet_length(e.critique), 0)
  + octet_length(e.metadata)
FROM episodes AS e WHERE e.tenant_key = :tenant_key
ORDER BY e.created_at_ms DESC, e.seq DESC

-- name: unpinned
-- Which of these are there still and may go.
SELECT e.seq, e.id FROM json_each(:seqs) AS given
CROSS JOIN episodes AS e ON e.seq = given.value
WHERE e.tenant_key = :tenant_key AND e.pinned = 0

-- name: set_pinned
UPDATE episodes SET pinned = :pinned
WHERE tenant_key = :tenant_key AND seq IN (SELECT value FROM json_each(:seqs))

-- name: differently_pinned
SELECT e.id, e.seq FROM json_each(:ids) AS given
CROSS JOIN episodes AS e ON e.tenant_key = :tenant_key AND e.id = given.value
WHERE e.pinned <> :pinned

-- name: old_items
-- The statuses stand here and not in a parameter: only so do the partial indexes serve.
SELECT i.seq, octet_length(i.data) + coalesce(octet_length(i.result), 0) + coalesce(octet_length(i.error), 0)
FROM pools AS p CROSS JOIN items AS i ON i.pool_key = p.key
WHERE p.tenant_key = :tenant_key AND i.status = 'done' AND i.finished_at_ms < :before_ms
UNION ALL
SELECT i.seq, octet_length(i.data) + coalesce(octet_length(i.result), 0) + coalesce(octet_length(i.error), 0)
FROM pools AS p CROSS JOIN items AS i ON i.pool_key = p.key
WHERE p.tenant_key = :tenant_key AND i.status = 'poisoned' AND i.finished_at_ms < :before_ms

-- name: count_items
SELECT (SELECT count(*) FROM pools AS p CROSS JOIN items AS i ON i.pool_key = p.key
        WHERE p.tenant_key = :tenant_key AND i.status = 'done')
     + (SELECT count(*) FROM pools AS p CROSS JOIN items AS i ON i.pool_key = p.key
        WHERE p.tenant_key = :tenant_key AND i.status = 'poisoned')

-- name: remove_items
-- One that was retried meanwhile stays.
DELETE FROM items WHERE seq IN (SELECT value FROM json_each(:seqs)) AND tenant_key = :tenant_key
  AND status IN ('done', 'poisoned') AND finished_at_ms < :before_ms

-- name: old_events
-- Old changes of a tenant but for what tells of living episodes; never the newest of the log.
SELECT c.seq, octet_length(c.subject) + coalesce(octet_length(c.detail), 0) FROM changes AS c
WHERE c.tenant_key = :tenant_key AND c.at_ms < :before_ms AND c.seq < (SELECT max(seq) FROM changes)
  AND (c.kind <> 'episode_stored' OR NOT EXISTS (SELECT 1 FROM episodes AS e WHERE e.seq = c.seq))
ORDER BY c.seq

-- name: count_events
SELECT count(*) FROM changes AS c
WHERE c.tenant_key = :tenant_key
  AND (c.kind <> 'episode_stored' OR NOT EXISTS (SELECT 1 FROM episodes AS e WHERE e.seq = c.seq))

-- name: old_agents
SELECT a.id, octet_length(a.id) + octet_length(a.type) + octet_length(a.host)
  + coalesce((SELECT octet_length(f.figures) FROM agent_figures AS f
              WHERE f.tenant_key = a.tenant_key AND f.agent_id = a.id), 0)
FROM agents AS a WHERE a.tenant_key = :tenant_key AND a.status = 'dead' AND a.expires_at_ms < :before_ms

-- name: count_agents
SELECT count(*) FROM agents WHERE tenant_key = :tenant_key AND status = 'dead'

-- name: agent_changes
-- What the log has of an agent.
SELECT seq FROM changes WHERE tenant_key = :tenant_key AND subject = :id AND kind BETWEEN 'agent_' AND 'agent_~'
LIMIT :limit

-- name: is_old_agent
SELECT 1 FROM agents WHERE tenant_key = :tenant_key AND id = :id AND status = 'dead' AND expires_at_ms < :before_ms

-- name: remove_agent
DELETE FROM agents WHERE tenant_key = :tenant_key AND id = :id

-- name: remove_figures
DELETE FROM agent_figures WHERE tenant_key = :tenant_key AND agent_id = :id
