-- What is known of the HNSW files that a hub keeps of big tenants, beside their flat ones: one file holds the vectors
-- up to one key. `digest` is the SHA-256 of the file.
CREATE TABLE graphs (
  tenant_key  INTEGER NOT NULL CONSTRAINT graph_of_tenant REFERENCES tenants (key),
  model_key   INTEGER NOT NULL CONSTRAINT graph_of_model REFERENCES models (key),
  generation  TEXT    NOT NULL,
  vectors     INTEGER NOT NULL,
  through_key INTEGER NOT NULL,
  digest      TEXT    NOT NULL,
  built_at_ms INTEGER NOT NULL,
  CONSTRAINT graph_once PRIMARY KEY (tenant_key, model_key)
) STRICT, WITHOUT ROWID;

-- Episodes that were too long for all of them to be embedded: their ends are found by words only.
CREATE TABLE cut_episodes (
  seq        INTEGER PRIMARY KEY CONSTRAINT cut_episode REFERENCES episodes (seq) ON DELETE CASCADE,
  tenant_key INTEGER NOT NULL CONSTRAINT cut_of_tenant REFERENCES tenants (key)
) STRICT;

CREATE INDEX cut_episodes_by_tenant ON cut_episodes (tenant_key);

-- What is filtered by most, and narrows most.
CREATE INDEX episodes_by_agent ON episodes (tenant_key, agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX episodes_by_session ON episodes (tenant_key, session_id) WHERE session_id IS NOT NULL;
CREATE INDEX episodes_by_time ON episodes (tenant_key, created_at_ms);

-- The leaves of metadata by dotted path, for finding what may fulfil a condition: text by its first characters, true,
-- false and null as blobs. What has too many leaves or too long paths, and what was there before this table, stands under
-- the path ''.
CREATE TABLE episode_metadata (
  tenant_key INTEGER NOT NULL CONSTRAINT metadata_of_tenant REFERENCES tenants (key),
  path       TEXT    NOT NULL,
  value      ANY     NOT NULL,
  seq        INTEGER NOT NULL,
  CONSTRAINT metadata_once PRIMARY KEY (tenant_key, path, value, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO episode_metadata (tenant_key, path, value, seq)
SELECT tenant_key, '', x'', seq FROM episodes WHERE metadata <> '{}';
