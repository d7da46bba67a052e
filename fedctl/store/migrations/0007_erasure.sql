-- What was erased, for good: digests, never a name or an id. What is pushed again under one of these is acked, and not
-- stored. The file of the home that says the same (store/ledger) outlives this database; what is not filed is not in
-- it yet, for on a full disk only the database has room for it.
CREATE TABLE erased_episodes (
  digest       BLOB    NOT NULL CONSTRAINT erased_episode_once PRIMARY KEY,
  erased_at_ms INTEGER NOT NULL,
  filed        INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE erased_tenants (
  digest       BLOB    NOT NULL CONSTRAINT erased_tenant_once PRIMARY KEY,
  erased_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Erasures that have begun and not ended: whoever comes next goes on with them. Of a whole tenant, with the digest of
-- the name that no longer leads to it, or (no digest) of episodes of one that stays.
CREATE TABLE erasures (
  tenant_key  INTEGER PRIMARY KEY CONSTRAINT erasure_of_tenant REFERENCES tenants (key),
  digest      BLOB,
  begun_at_ms INTEGER NOT NULL
) STRICT;
