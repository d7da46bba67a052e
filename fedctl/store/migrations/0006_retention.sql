-- What a tenant's records are held against, one policy a tenant; a column that is NULL is no rule. `keep_where` is a
-- list of conditions (JSON).
CREATE TABLE retention_policies (
  tenant_key        INTEGER PRIMARY KEY CONSTRAINT policy_of_tenant REFERENCES tenants (key),
  max_age_ms        INTEGER,
  min_reward        REAL,
  max_episodes      INTEGER,
  keep_last         INTEGER,
  keep_success      INTEGER NOT NULL CONSTRAINT keep_success_is_boolean CHECK (keep_success IN (0, 1)),
  keep_where        TEXT    NOT NULL,
  items_max_age_ms  INTEGER,
  events_max_age_ms INTEGER,
  agents_max_age_ms INTEGER,
  set_at_ms         INTEGER NOT NULL
) STRICT;

-- What was done long ago is found by its age, as what was poisoned is.
DROP INDEX items_done;
CREATE INDEX items_done ON items (pool_key, finished_at_ms) WHERE status = 'done';
