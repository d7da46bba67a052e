-- What an EpisodeFilter says of an episode `e`, a condition each. In statements {filter} stands for those that are
-- asked for and no others, so that SQLite sees which index serves them.

-- name: filter_agent_id
e.agent_id = :agent_id

-- name: filter_session_id
e.session_id = :session_id

-- name: filter_task
e.task = :task

-- name: filter_min_reward
e.reward >= :min_reward

-- name: filter_success
e.success = :success

-- name: filter_pinned
e.pinned = :pinned

-- name: filter_since_ms
e.created_at_ms >= :since_ms

-- name: filter_until_ms
e.created_at_ms < :until_ms

-- name: filter_where
metadata_matches(e.metadata, :where)

-- name: filter_leaf
-- Which episodes may fulfil a condition; `filter_where` then says whether they do.
e.seq IN (
  SELECT seq FROM episode_metadata
  WHERE tenant_key = :tenant_key AND path = :leaf_path AND value >= :leaf_least AND value <= :leaf_most
  UNION ALL
  SELECT seq FROM episode_metadata WHERE tenant_key = :tenant_key AND path = ''
)

-- name: columns
e.seq, e.id, e.agent_id, e.session_id, e.task, e.input, e.output, e.reward, e.success, e.critique, e.tokens_used,
e.latency_ms, e.metadata, e.pinned, e.created_at_ms

-- name: create_words
-- Each tenant has words of its own: neither a row nor the rarity of a word is shared with another tenant, and a
-- search walks no lists but its own. Merging is left to quiet moments (automerge 0): a merge lands in somebody's ack.
CREATE VIRTUAL TABLE IF NOT EXISTS {words} USING fts5 (
  task, input, output, critique,
  content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT INTO {words} ({words}, rank) VALUES ('automerge', 0);
INSERT INTO {words} ({words}, rank) VALUES ('crisismerge', 64);

-- name: merge_words
-- Up to :pages pages of merging; the caller holds the write lock.
INSERT INTO {words} ({words}, rank) VALUES ('merge', :pages)

-- name: add_words
INSERT INTO {words} (rowid, task, input, output, critique)
VALUES (:seq, :task_words, :input_words, :output_words, :critique_words)

-- name: remove_words
DELETE FROM {words} WHERE rowid = :seq

-- name: drop_words
DROP TABLE IF EXISTS {words}

-- name: search_words
-- Ordered by an expression: for `ORDER BY rank` FTS5 sorts all that matches, which takes half as long again.
SELECT rowid, -rank AS bm25 FROM {words} WHERE {words} MATCH :match ORDER BY bm25 DESC, rowid DESC LIMIT :limit

-- name: search_words_among
-- The plus keeps SQLite from asking the table row by row, for each of which FTS5 counts the words of all.
SELECT rowid, -rank AS bm25 FROM {words}
WHERE {words} MATCH :match AND +rowid IN (SELECT value FROM json_each(:seqs))
ORDER BY bm25 DESC, rowid DESC LIMIT :limit

-- name: count_term
SELECT count(*) FROM {words} WHERE {words} MATCH :match

-- name: word_totals
-- FTS5's "averages" record, written with each change: first the number of rows, then the tokens of each column.
SELECT block FROM {words}_data WHERE id = 1

-- name: word_structure
SELECT block FROM {words}_data WHERE id = 10

-- name: words_exist
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = :name

-- name: count_words
SELECT count(*) FROM {words}

-- name: known_ids
-- CROSS JOIN, here and below: SQLite would else walk all of the tenant for each list.
-- Which of the ids (a JSON list) are taken: by an episode (its seq), or by a tombstone (NULL).
SELECT e.id, e.seq FROM json_each(:ids) AS given
CROSS JOIN episodes AS e ON e.tenant_key = :tenant_key AND e.id = given.value
UNION ALL
SELECT t.id, NULL FROM json_each(:ids) AS given
CROSS JOIN tombstones AS t ON t.tenant_key = :tenant_key AND t.id = given.value

-- name: known_id
-- The same of one id.
SELECT e.id, e.seq FROM episodes AS e WHERE e.tenant_key = :tenant_key AND e.id = :id
UNION ALL
SELECT t.id, NULL FROM tombstones AS t WHERE t.tenant_key = :tenant_key AND t.id = :id

-- name: add
INSERT INTO episodes (seq, tenant_key, id, agent_id, session_id, task, input, output, reward, success, critique,
  tokens_used, latency_ms, metadata, pinned, created_at_ms)
VALUES (:seq, :tenant_key, :id, :agent_id, :session_id, :task, :input, :output, :reward, :success, :critique,
  :tokens_used, :latency_ms, :metadata, :pinned, :created_at_ms)

-- name: add_leaf
INSERT INTO episode_metadata (tenant_key, path, value, seq) VALUES (:tenant_key, :path, :value, :seq)
ON CONFLICT DO NOTHING

-- name: metadata
-- What has to go with an episode: its leaves, and its share of the tenant's bytes.
SELECT metadata, octet_length(task) + octet_length(input) + octet_length(output)
  + coalesce(octet_length(critique), 0) + octet_length(metadata)
FROM episodes WHERE seq = :seq

-- name: count_usage
UPDATE tenant_usage SET episodes = episodes + :episodes, bytes = bytes + :bytes WHERE tenant_key = :tenant_key

-- name: set_usage
UPDATE tenant_usage SET episodes = :episodes, bytes = :bytes WHERE tenant_key = :tenant_key

-- name: counted_usage
-- What `tenant_usage` must say; walks the tenant.
SELECT count(*), coalesce(sum(octet_length(task) + octet_length(input) + octet_length(output)
  + coalesce(octet_length(critique), 0) + octet_length(metadata)), 0)
FROM episodes WHERE tenant_key = :tenant_key

-- name: remove_leaf
DELETE FROM episode_metadata WHERE tenant_key = :tenant_key AND path = :path AND value = :value AND seq = :seq

-- name: remove
DELETE FROM episodes WHERE seq = :seq

-- name: bury
INSERT INTO tombstones (tenant_key, id, seq, at_ms) VALUES (:tenant_key, :id, :seq, :now_ms)

-- name: by_seqs
SELECT {columns} FROM json_each(:seqs) AS given
CROSS JOIN episodes AS e ON e.seq = given.value
WHERE e.tenant_key = :tenant_key

-- name: by_ids
SELECT {columns} FROM json_each(:ids) AS given
CROSS JOIN episodes AS e ON e.tenant_key = :tenant_key AND e.id = given.value

-- name: newest
SELECT {columns} FROM episodes AS e
WHERE e.tenant_key = :tenant_key AND (:cursor IS NULL OR e.seq < :cursor) AND {filter}
ORDER BY e.seq DESC LIMIT :limit

-- name: oldest
SELECT {columns} FROM episodes AS e
WHERE e.tenant_key = :tenant_key AND (:cursor IS NULL OR e.seq > :cursor) AND {filter}
ORDER BY e.seq LIMIT :limit

-- name: heads
SELECT e.seq, e.id FROM episodes AS e WHERE e.tenant_key = :tenant_key AND {filter} ORDER BY e.seq LIMIT :limit

-- name: ids
SELECT e.seq, e.id FROM json_each(:seqs) AS given
CROSS JOIN episodes AS e ON e.seq = given.value
WHERE e.tenant_key = :tenant_key

-- name: seqs
SELECT e.seq FROM episodes AS e WHERE e.tenant_key = :tenant_key AND {filter}

-- name: count
SELECT count(*) FROM episodes AS e WHERE e.tenant_key = :tenant_key AND {filter}

-- name: count_all
SELECT count(*) FROM episodes WHERE tenant_key = :tenant_key

-- name: count_everywhere
SELECT count(*) FROM episodes

-- name: count_tombstones
SELECT count(*) FROM tombstones WHERE tenant_key = :tenant_key

-- name: buried_after
SELECT seq, id FROM tombstones WHERE tenant_key = :tenant_key AND seq > :cursor ORDER BY seq LIMIT :limit

-- name: passing
-- Which of the sequences are live episodes of the tenant that the filter lets through, and what they were worth.
SELECT e.seq, e.reward FROM json_each(:seqs) AS given
CROSS JOIN episodes AS e ON e.seq = given.value
WHERE e.tenant_key = :tenant_key AND {filter}

-- name: before
-- What came just before each of the sequences in the same session.
SELECT e.seq, (
  SELECT max(b.seq) FROM episodes AS b
  WHERE b.tenant_key = :tenant_key AND b.session_id = e.session_id AND b.seq < e.seq)
FROM json_each(:seqs) AS given
CROSS JOIN episodes AS e ON e.seq = given.value
WHERE e.tenant_key = :tenant_key AND e.session_id IS NOT NULL
