-- name: key
SELECT key FROM tenants WHERE name = :name

-- name: add
INSERT INTO tenants (name, created_at_ms) VALUES (:name, :now_ms)

-- name: count
SELECT count(*) FROM tenants

-- name: all
SELECT key, name FROM tenants ORDER BY key
