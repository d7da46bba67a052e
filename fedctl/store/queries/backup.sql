-- name: tenants
SELECT t.name, coalesce(e.episodes, 0), coalesce(i.items, 0)
FROM tenants AS t
LEFT JOIN (SELECT tenant_key, count(*) AS episodes FROM episodes GROUP BY tenant_key) AS e ON e.tenant_key = t.key
LEFT JOIN (SELECT tenant_key, count(*) AS items FROM items GROUP BY tenant_key) AS i ON i.tenant_key = t.key
ORDER BY t.key
