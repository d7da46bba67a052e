-- Here and elsewhere: a name that begins with '-' is none, but what an erased tenant's row has in its place.

-- name: key
SELECT key FROM tenants WHERE name = :name AND name NOT LIKE '-%'

-- name: add
INSERT INTO tenants (name, created_at_ms)
SELECT :name, max(:now_ms, coalesce((SELECT erased_at_ms + 1 FROM erased_tenants WHERE digest = :digest), 0))

-- name: add_usage
INSERT INTO tenant_usage (tenant_key, episodes, bytes) VALUES (:key, 0, 0)

-- name: count
SELECT count(*) FROM tenants WHERE name NOT LIKE '-%'

-- name: all
SELECT key, name FROM tenants WHERE name NOT LIKE '-%' ORDER BY key

-- name: quota
SELECT max_episodes, max_bytes, rate_per_s FROM tenant_quotas WHERE tenant_key = :key

-- name: set_quota
INSERT INTO tenant_quotas (tenant_key, max_episodes, max_bytes, rate_per_s)
VALUES (:key, :max_episodes, :max_bytes, :rate_per_s)
ON CONFLICT (tenant_key) DO UPDATE
SET max_episodes = excluded.max_episodes, max_bytes = excluded.max_bytes, rate_per_s = excluded.rate_per_s

-- name: usage
SELECT episodes, bytes FROM tenant_usage WHERE tenant_key = :key

-- name: episodes_everywhere
SELECT coalesce(sum(episodes), 0) FROM tenant_usage

-- name: rates
SELECT t.name, q.rate_per_s FROM tenant_quotas AS q JOIN tenants AS t ON t.key = q.tenant_key
WHERE q.rate_per_s IS NOT NULL AND t.name NOT LIKE '-%'

-- name: records
SELECT t.name, t.created_at_ms, coalesce(u.episodes, 0), coalesce(u.bytes, 0),
  q.max_episodes, q.max_bytes, q.rate_per_s
FROM tenants AS t
LEFT JOIN tenant_usage AS u ON u.tenant_key = t.key
LEFT JOIN tenant_quotas AS q ON q.tenant_key = t.key
WHERE (:name IS NULL OR t.name = :name) AND t.name NOT LIKE '-%' ORDER BY t.name
