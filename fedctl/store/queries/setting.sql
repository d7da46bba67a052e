-- name: get
SELECT value FROM settings WHERE name = :name

-- name: set
INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value
