-- How many severity steps an alert had reached at each of its steps, which `alerts` has no column for: rows
-- are appended and never changed, so what it lacks stands beside it, under the same keys. Derived from the
-- same records; those of before get their rows by `vigil ledger rebuild`.
CREATE TABLE IF NOT EXISTS alert_severities (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    alert_id String COMMENT 'the prediction id that raised it',
    step LowCardinality(String),
    severity Int32 COMMENT 'severity steps reached as it was told last; 0: none, or a record from before there were any',
    unit LowCardinality(String),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    policy_version LowCardinality(String) COMMENT 'whose steps these are'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
