-- What agents did, by agent: a timeline is read off the change log. Neither index holds a row of an episode, and their
-- conditions are cheap: each episode is held against them (an IN list would be built anew for each).
CREATE INDEX changes_of_agents ON changes (tenant_key, subject, seq)
  WHERE kind BETWEEN 'agent_' AND 'agent_~';

-- A note that is sent again is the same note.
CREATE UNIQUE INDEX note_once ON changes (tenant_key, json_extract(detail, '$.id'))
  WHERE kind = 'agent_note' OR kind = 'agent_error';

-- What an agent last said of itself in figures (JSON): how often it did what, and how long that took.
CREATE TABLE agent_figures (
  tenant_key INTEGER NOT NULL CONSTRAINT figures_of_tenant REFERENCES tenants (key),
  agent_id   TEXT    NOT NULL,
  figures    TEXT    NOT NULL,
  CONSTRAINT figures_once PRIMARY KEY (tenant_key, agent_id)
) STRICT, WITHOUT ROWID;
