-- name: touch
-- A change whose commit everybody notices who has pages of the file in memory.
INSERT INTO settings (name, value) VALUES ('scrubs', '1')
ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(settings.value AS INTEGER) + 1 AS TEXT)
