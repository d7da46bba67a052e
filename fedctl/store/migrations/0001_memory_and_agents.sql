-- What every store has besides its records: its epoch (new after a restore), the model its vectors are of.
CREATE TABLE settings (
  name  TEXT NOT NULL CONSTRAINT setting_once PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
  key           INTEGER PRIMARY KEY,
  name          TEXT    NOT NULL CONSTRAINT tenant_once UNIQUE,
  created_at_ms INTEGER NOT NULL
) STRICT;

-- The change log: the cursor of every sync, the source of live notices, the audit trail. Its last row is never
-- deleted, so that no sequence is given out twice.
CREATE TABLE changes (
  seq        INTEGER PRIMARY KEY,
  tenant_key INTEGER NOT NULL CONSTRAINT change_of_tenant REFERENCES tenants (key),
  kind       TEXT    NOT NULL CONSTRAINT change_kind_known
             CHECK (kind IN ('episode_stored', 'episode_deleted', 'agent_status', 'token_revoked')),
  subject    TEXT    NOT NULL,
  detail     TEXT,
  at_ms      INTEGER NOT NULL
) STRICT;

-- An episode's key is its sequence in the change log. Input, output and metadata are JSON as text: SQLite's JSON
-- functions would turn true into 1 and big integers into floats.
CREATE TABLE episodes (
  seq           INTEGER PRIMARY KEY,
  tenant_key    INTEGER NOT NULL CONSTRAINT episode_of_tenant REFERENCES tenants (key),
  id            TEXT    NOT NULL,
  agent_id      TEXT,
  session_id    TEXT,
  task          TEXT    NOT NULL,
  input         TEXT    NOT NULL,
  output        TEXT    NOT NULL,
  reward        REAL    CONSTRAINT reward_in_unit_interval CHECK (reward BETWEEN 0 AND 1),
  success       INTEGER CONSTRAINT success_is_boolean CHECK (success IN (0, 1)),
  critique      TEXT,
  tokens_used   INTEGER,
  latency_ms    REAL,
  metadata      TEXT    NOT NULL,
  pinned        INTEGER NOT NULL CONSTRAINT pinned_is_boolean CHECK (pinned IN (0, 1)),
  created_at_ms INTEGER NOT NULL,
  CONSTRAINT episode_once UNIQUE (tenant_key, id)
) STRICT;

CREATE INDEX episodes_by_tenant ON episodes (tenant_key);

-- Ids that were deleted: pushing one again is acked and not stored.
CREATE TABLE tombstones (
  tenant_key INTEGER NOT NULL CONSTRAINT tombstone_of_tenant REFERENCES tenants (key),
  id         TEXT    NOT NULL,
  seq        INTEGER NOT NULL,
  at_ms      INTEGER NOT NULL,
  CONSTRAINT tombstone_once PRIMARY KEY (tenant_key, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX tombstones_by_seq ON tombstones (tenant_key, seq);

CREATE TABLE models (
  key INTEGER PRIMARY KEY,
  id  TEXT    NOT NULL CONSTRAINT model_once UNIQUE,
  dim INTEGER NOT NULL CONSTRAINT model_has_dimensions CHECK (dim > 0)
) STRICT;

-- One row a chunk: little-endian float16, norm 1. Keys are never used twice (AUTOINCREMENT): a snapshot of the
-- index holds everything up to one key.
CREATE TABLE embeddings (
  key        INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant_key INTEGER NOT NULL CONSTRAINT embedding_of_tenant REFERENCES tenants (key),
  model_key  INTEGER NOT NULL CONSTRAINT embedding_of_model REFERENCES models (key),
  seq        INTEGER NOT NULL CONSTRAINT embedding_of_episode REFERENCES episodes (seq) ON DELETE CASCADE,
  chunk      INTEGER NOT NULL,
  vector     BLOB    NOT NULL,
  CONSTRAINT embedding_once UNIQUE (seq, model_key, chunk)
) STRICT;

CREATE INDEX embeddings_by_tenant ON embeddings (tenant_key, model_key);

-- Episodes that lack a vector under the store's model.
CREATE TABLE embedding_queue (
  seq        INTEGER PRIMARY KEY CONSTRAINT queued_episode REFERENCES episodes (seq) ON DELETE CASCADE,
  tenant_key INTEGER NOT NULL CONSTRAINT queued_of_tenant REFERENCES tenants (key)
) STRICT;

CREATE INDEX embedding_queue_by_tenant ON embedding_queue (tenant_key);

-- What is known of the index files: rows and digest of each appended block, and how the files looked when they
-- were last known good.
CREATE TABLE snapshots (
  tenant_key    INTEGER NOT NULL CONSTRAINT snapshot_of_tenant REFERENCES tenants (key),
  model_key     INTEGER NOT NULL CONSTRAINT snapshot_of_model REFERENCES models (key),
  generation    TEXT    NOT NULL,
  form          TEXT    NOT NULL CONSTRAINT snapshot_form_known CHECK (form IN ('flat')),
  vectors       INTEGER NOT NULL,
  through_key   INTEGER NOT NULL,
  stamp         TEXT    NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  CONSTRAINT snapshot_once PRIMARY KEY (tenant_key, model_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshot_blocks (
  tenant_key INTEGER NOT NULL,
  model_key  INTEGER NOT NULL,
  first      INTEGER NOT NULL,
  vectors    INTEGER NOT NULL,
  digest     TEXT    NOT NULL,
  CONSTRAINT block_once PRIMARY KEY (tenant_key, model_key, first),
  CONSTRAINT block_of_snapshot FOREIGN KEY (tenant_key, model_key)
    REFERENCES snapshots (tenant_key, model_key) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
  tenant_key      INTEGER NOT NULL CONSTRAINT agent_of_tenant REFERENCES tenants (key),
  id              TEXT    NOT NULL,
  type            TEXT    NOT NULL,
  status          TEXT    NOT NULL CONSTRAINT agent_status_known CHECK (status IN
                    ('spawning', 'initializing', 'ready', 'working', 'idle', 'shutting_down', 'dead')),
  spawned_at_ms   INTEGER NOT NULL,
  expires_at_ms   INTEGER NOT NULL,
  last_sync_at_ms INTEGER,
  host            TEXT    NOT NULL,
  pid             INTEGER NOT NULL,
  episodes_stored INTEGER NOT NULL,
  CONSTRAINT agent_once PRIMARY KEY (tenant_key, id)
) STRICT, WITHOUT ROWID;

-- What is known of issued tokens; never a token itself.
CREATE TABLE tokens (
  id            TEXT    NOT NULL CONSTRAINT token_once PRIMARY KEY,
  tenant_id     TEXT    NOT NULL,
  agent_id      TEXT,
  role          TEXT    NOT NULL CONSTRAINT token_role_known CHECK (role IN ('agent', 'admin', 'operator')),
  issued_at_ms  INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER
) STRICT, WITHOUT ROWID;
