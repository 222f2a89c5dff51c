-- The ledger: each record of each topic, once, as it was. Append-only; `vigil ledger verify` proves it.
--
-- A row is a record (topic, partition, offset). `sequence` numbers the records of one chain, that is
-- of one (topic_id, partition), from 0 without a gap; offsets have gaps. `leaf` and `chain` are
-- defined in services/audit/ledger.py. Records of the PHI zone have neither key nor value here, only
-- `length` and `sha256` of the value. `recorded_at` and `trace_id` are for reading and not proved
-- (`trace_id` is checked against the header it comes from).
--
-- No TTL: rows stay until the owner of the schema sets one, not below six years.
-- fsync: a ledger row that outlives a power cut must not have lost the derived rows before it.
CREATE TABLE IF NOT EXISTS ledger (
    cluster_id LowCardinality(String) COMMENT 'Kafka cluster',
    topic LowCardinality(String),
    topic_id LowCardinality(String) COMMENT 'UUID of the topic, 32 hex digits: a topic made anew is another chain',
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    sequence Int64 CODEC(Delta, ZSTD) COMMENT 'place in the chain, dense from 0',
    timestamp_type UInt8 COMMENT '0 none, 1 create time, 2 log append time',
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD) COMMENT 'as Kafka holds it',
    key Nullable(String) CODEC(ZSTD) COMMENT 'null in the PHI zone',
    header_names Array(LowCardinality(String)) COMMENT 'in order',
    header_values Array(Nullable(String)) CODEC(ZSTD),
    value Nullable(String) CODEC(ZSTD) COMMENT 'exact bytes; null in the PHI zone and for a tombstone',
    length Int64 COMMENT 'of the value; -1: no value',
    sha256 FixedString(32) CODEC(NONE) COMMENT 'of the value',
    leaf FixedString(32) CODEC(NONE),
    chain FixedString(32) CODEC(NONE) COMMENT 'h_i',
    trace_id String COMMENT 'W3C trace id, 32 hex digits; empty when tracing was off',
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD) COMMENT 'clock of the store'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
