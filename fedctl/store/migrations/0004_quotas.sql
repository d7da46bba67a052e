-- What a tenant may have: NULL is no limit. A tenant without a row has none.
CREATE TABLE tenant_quotas (
  tenant_key   INTEGER PRIMARY KEY CONSTRAINT quota_of_tenant REFERENCES tenants (key),
  max_episodes INTEGER CONSTRAINT max_episodes_is_count CHECK (max_episodes >= 0),
  max_bytes    INTEGER CONSTRAINT max_bytes_is_count CHECK (max_bytes >= 0),
  rate_per_s   REAL    CONSTRAINT rate_is_positive CHECK (rate_per_s > 0)
) STRICT;

-- What a tenant has, counted with each change of its episodes: a quota is looked up, never counted out.
CREATE TABLE tenant_usage (
  tenant_key INTEGER PRIMARY KEY CONSTRAINT usage_of_tenant REFERENCES tenants (key),
  episodes   INTEGER NOT NULL,
  bytes      INTEGER NOT NULL
) STRICT;

INSERT INTO tenant_usage (tenant_key, episodes, bytes)
SELECT t.key, count(e.seq), coalesce(sum(octet_length(e.task) + octet_length(e.input) + octet_length(e.output)
  + coalesce(octet_length(e.critique), 0) + octet_length(e.metadata)), 0)
FROM tenants AS t LEFT JOIN episodes AS e ON e.tenant_key = t.key GROUP BY t.key;
