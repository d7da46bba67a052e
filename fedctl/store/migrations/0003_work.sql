-- The log takes any kind of change: which there are is for the model to say (model/hub.EventKind).
CREATE TABLE changes_of_any_kind (
  seq        INTEGER PRIMARY KEY,
  tenant_key INTEGER NOT NULL CONSTRAINT change_of_tenant REFERENCES tenants (key),
  kind       TEXT    NOT NULL,
  subject    TEXT    NOT NULL,
  detail     TEXT,
  at_ms      INTEGER NOT NULL
) STRICT;
INSERT INTO changes_of_any_kind SELECT seq, tenant_key, kind, subject, detail, at_ms FROM changes;
DROP TABLE changes;
ALTER TABLE changes_of_any_kind RENAME TO changes;

CREATE TABLE workers (
  tenant_key            INTEGER NOT NULL CONSTRAINT worker_of_tenant REFERENCES tenants (key),
  id                    TEXT    NOT NULL,
  incarnation           INTEGER NOT NULL,
  status                TEXT    NOT NULL CONSTRAINT worker_status_known
                        CHECK (status IN ('active', 'terminating', 'terminated', 'lost')),
  host                  TEXT,
  pid                   INTEGER,
  capabilities          TEXT    NOT NULL,
  pool_id               TEXT,
  started_at_ms         INTEGER NOT NULL,
  last_heartbeat_ms     INTEGER NOT NULL,
  heartbeat_interval_ms INTEGER NOT NULL,
  metadata              TEXT    NOT NULL,
  CONSTRAINT worker_once PRIMARY KEY (tenant_key, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE pools (
  key           INTEGER PRIMARY KEY,
  tenant_key    INTEGER NOT NULL CONSTRAINT pool_of_tenant REFERENCES tenants (key),
  name          TEXT    NOT NULL,
  paused        INTEGER NOT NULL CONSTRAINT paused_is_boolean CHECK (paused IN (0, 1)),
  created_at_ms INTEGER NOT NULL,
  CONSTRAINT pool_once UNIQUE (tenant_key, name)
) STRICT;

-- The sets of capabilities that items of a pool require (sorted, JSON). A pool has few of them, and a claim asks for
-- the first item of each set that the worker fulfils: it never walks past items that are not for it.
CREATE TABLE requirements (
  key          INTEGER PRIMARY KEY,
  pool_key     INTEGER NOT NULL CONSTRAINT requirement_of_pool REFERENCES pools (key),
  capabilities TEXT    NOT NULL,
  CONSTRAINT requirement_once UNIQUE (pool_key, capabilities)
) STRICT;

-- A delayed item becomes pending by the first claim after its time, as an expired lease ends by the first claim
-- after it: no daemon is needed. The partial indexes hold what is waited for and nothing else, so that a claim costs
-- the same whatever lies in the pool.
CREATE TABLE items (
  seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant_key          INTEGER NOT NULL CONSTRAINT item_of_tenant REFERENCES tenants (key),
  pool_key            INTEGER NOT NULL CONSTRAINT item_of_pool REFERENCES pools (key),
  requirement_key     INTEGER NOT NULL CONSTRAINT item_of_requirement REFERENCES requirements (key),
  id                  TEXT    NOT NULL,
  status              TEXT    NOT NULL CONSTRAINT item_status_known
                      CHECK (status IN ('pending', 'delayed', 'claimed', 'done', 'poisoned')),
  priority            INTEGER NOT NULL,
  attempts            INTEGER NOT NULL,
  max_retries         INTEGER NOT NULL,
  key                 TEXT,
  created_at_ms       INTEGER NOT NULL,
  available_at_ms     INTEGER NOT NULL,
  claimed_by          TEXT,
  claimed_at_ms       INTEGER,
  lease_id            TEXT,
  lease_expires_at_ms INTEGER,
  finished_at_ms      INTEGER,
  data                TEXT    NOT NULL,
  result              TEXT,
  error               TEXT,
  CONSTRAINT item_once UNIQUE (tenant_key, id)
) STRICT;

CREATE INDEX items_claimable ON items (requirement_key, priority DESC, seq) WHERE status = 'pending';
CREATE INDEX items_delayed ON items (pool_key, available_at_ms) WHERE status = 'delayed';
CREATE INDEX items_leased ON items (pool_key, lease_expires_at_ms) WHERE status = 'claimed';
CREATE INDEX items_held ON items (tenant_key, claimed_by) WHERE status = 'claimed';
CREATE INDEX items_done ON items (pool_key) WHERE status = 'done';
CREATE INDEX items_poisoned ON items (pool_key, finished_at_ms) WHERE status = 'poisoned';
CREATE INDEX items_by_pool ON items (pool_key);
CREATE UNIQUE INDEX item_key_held ON items (pool_key, key)
  WHERE key IS NOT NULL AND status IN ('pending', 'delayed', 'claimed');

-- How attempts ended that did not finish their item; the last one stands in the item itself.
CREATE TABLE attempts (
  key           INTEGER PRIMARY KEY,
  item_seq      INTEGER NOT NULL CONSTRAINT attempt_of_item REFERENCES items (seq) ON DELETE CASCADE,
  worker_id     TEXT    NOT NULL,
  claimed_at_ms INTEGER NOT NULL,
  ended_at_ms   INTEGER NOT NULL,
  outcome       TEXT    NOT NULL CONSTRAINT outcome_known CHECK (outcome IN ('failed', 'expired', 'released', 'lost')),
  error         TEXT
) STRICT;

CREATE INDEX attempts_by_item ON attempts (item_seq);
