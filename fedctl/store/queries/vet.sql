-- name: objects
-- What a database is made of.
SELECT type, name, sql FROM sqlite_schema ORDER BY type, name
