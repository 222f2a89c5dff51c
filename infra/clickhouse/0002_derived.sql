-- Tables that people query, derived from the ledger by services/audit/rows.py and compared with it by
-- `vigil ledger verify`. The key of a row is (topic_id, partition, offset, index): the ledger's
-- record, and the row's place among those derived from it. `timestamp` is that of the record.
-- Times are UTC. Names of patients and encounters are pseudonyms, zeros where there is none.
-- Packed columns keep the exact little-endian bytes; an ALIAS beside each unpacks it.

CREATE TABLE IF NOT EXISTS vitals (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    kind LowCardinality(String),
    source LowCardinality(String),
    pseudonym FixedString(16),
    encounter FixedString(16),
    measured_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    accepted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    ingest_id String,
    raw_partition Int32,
    raw_offset Int64,
    entries String COMMENT 'uint16 per reading, or without readings one or more: entries of the raw record',
    variables String COMMENT 'uint8 per reading; 255 unknown',
    values String COMMENT 'float64 per reading, in model units; NaN absent or retracted',
    flags String COMMENT 'uint16 per reading, bits of core.events.Flag',
    ids String COMMENT '8 bytes per reading: keyed hash of the resource id',
    versions String COMMENT 'int64 per reading; 0 unknown',
    codes Array(LowCardinality(String)) COMMENT 'LOINC',
    units Array(LowCardinality(String)) COMMENT 'UCUM, as sent',
    devices Array(LowCardinality(String)) COMMENT 'keyed hash of the device, hex',
    age Nullable(Float64) COMMENT 'years; 90 means 90 and over',
    sex LowCardinality(Nullable(String)),
    race LowCardinality(Nullable(String)),
    ethnicity LowCardinality(Nullable(String)),
    language LowCardinality(Nullable(String)),
    payer LowCardinality(Nullable(String)),
    status LowCardinality(String) COMMENT 'of the encounter; empty unless the event tells it',
    unit LowCardinality(Nullable(String)),
    admitted_at Nullable(DateTime64(6, 'UTC')),
    ended_at Nullable(DateTime64(6, 'UTC')),
    terminology LowCardinality(String) COMMENT 'version of the tables by which values were converted',
    entry_numbers Array(UInt16) ALIAS arrayMap(i -> reinterpretAsUInt16(substring(entries, 2 * i + 1, 2)), range(intDiv(length(entries), 2))),
    variable_names Array(String) ALIAS arrayMap(i -> ['HR', 'O2Sat', 'Temp', 'SBP', 'MAP', 'DBP', 'Resp', 'EtCO2', 'BaseExcess', 'HCO3', 'FiO2', 'pH', 'PaCO2', 'SaO2', 'AST', 'BUN', 'Alkalinephos', 'Calcium', 'Chloride', 'Creatinine', 'Bilirubin_direct', 'Glucose', 'Lactate', 'Magnesium', 'Phosphate', 'Potassium', 'Bilirubin_total', 'TroponinI', 'Hct', 'Hgb', 'PTT', 'WBC', 'Fibrinogen', 'Platelets'][reinterpretAsUInt8(substring(variables, i + 1, 1)) + 1], range(length(variables))),
    reading_values Array(Float64) ALIAS arrayMap(i -> reinterpretAsFloat64(substring(values, 8 * i + 1, 8)), range(intDiv(length(values), 8))),
    reading_flags Array(UInt16) ALIAS arrayMap(i -> reinterpretAsUInt16(substring(flags, 2 * i + 1, 2)), range(intDiv(length(flags), 2)))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per entry of a PredictionBatch: one vitals offset, judged by one model.
CREATE TABLE IF NOT EXISTS predictions (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD) COMMENT 'of the batch',
    `index` Int32 COMMENT 'in the batch',
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    prediction_id String,
    vitals_topic_id LowCardinality(String),
    vitals_partition Int32,
    vitals_offset Int64 CODEC(Delta, ZSTD),
    kind LowCardinality(String),
    disposition LowCardinality(String),
    cause LowCardinality(String),
    pseudonym FixedString(16),
    encounter FixedString(16),
    measured_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    accepted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    as_of DateTime64(6, 'UTC') CODEC(Delta, ZSTD) COMMENT 'when the features were taken',
    bitmap UInt64 COMMENT 'bit i: variable i was measured in the event',
    measured String COMMENT 'float64 per set bit, lowest first',
    score Nullable(Float32),
    threshold Nullable(Float32),
    decision LowCardinality(String),
    sex LowCardinality(String),
    age_band LowCardinality(String),
    race LowCardinality(String),
    ethnicity LowCardinality(String),
    payer LowCardinality(String),
    language LowCardinality(String),
    unit LowCardinality(String),
    features String CODEC(ZSTD) COMMENT 'float32, exactly as scored; empty unless scored',
    features_sha256 FixedString(32) CODEC(NONE),
    model_name LowCardinality(String),
    model_version LowCardinality(String),
    model_digest LowCardinality(String),
    policy_version LowCardinality(String),
    role LowCardinality(String) COMMENT 'shown or shadow',
    watermark Nullable(DateTime64(6, 'UTC')),
    measured_values Array(Float64) ALIAS arrayMap(i -> reinterpretAsFloat64(substring(measured, 8 * i + 1, 8)), range(intDiv(length(measured), 8))),
    feature_values Array(Float32) ALIAS arrayMap(i -> reinterpretAsFloat32(substring(features, 4 * i + 1, 4)), range(intDiv(length(features), 4)))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS alerts (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    alert_id String COMMENT 'the prediction id that raised it',
    step LowCardinality(String),
    prediction_id String COMMENT 'what is behind this step',
    pseudonym FixedString(16),
    encounter FixedString(16),
    unit LowCardinality(String),
    measured_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    accepted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    valid_until DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    score Float32,
    threshold Float32,
    cause LowCardinality(String),
    contribution_features Array(LowCardinality(String)),
    contribution_values Array(Nullable(Float64)),
    contributions Array(Float64) COMMENT 'log odds',
    policy_version LowCardinality(String),
    model_digest LowCardinality(String)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per entry of a raw record; a record without entries has one row of the fate 'empty'.
CREATE TABLE IF NOT EXISTS receipts (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    ingest_id String,
    source LowCardinality(String),
    raw_partition Int32,
    raw_offset Int64 CODEC(Delta, ZSTD),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    accepted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    length Int64 COMMENT 'of the raw record',
    sha256 FixedString(32) COMMENT 'of the raw record',
    entry Int32 COMMENT 'place in the raw record; -1: it had none',
    fate LowCardinality(String),
    detail LowCardinality(String) COMMENT 'reason, or code that is out of scope'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Of dlq.v1, which is in the PHI zone: no payload. The ledger holds no value of it either, so these
-- rows cannot be derived from the ledger again.
CREATE TABLE IF NOT EXISTS dead_letters (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    reason LowCardinality(String),
    place String COMMENT 'where the fault is; never a value',
    source_topic LowCardinality(String),
    source_partition Int32,
    source_offset Int64,
    entry Int32 COMMENT '-1: the whole record',
    source LowCardinality(String),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    length Int64,
    sha256 FixedString(32),
    key_epoch Int32
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS patients (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    pseudonym FixedString(16),
    encounter FixedString(16),
    updated_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    age Nullable(Float64) COMMENT 'years; 90 means 90 and over',
    sex LowCardinality(Nullable(String)),
    race LowCardinality(Nullable(String)),
    ethnicity LowCardinality(Nullable(String)),
    language LowCardinality(Nullable(String)),
    payer LowCardinality(Nullable(String)),
    status LowCardinality(String) COMMENT 'of the encounter; empty in the patient half',
    unit LowCardinality(Nullable(String)),
    admitted_at Nullable(DateTime64(6, 'UTC')),
    ended_at Nullable(DateTime64(6, 'UTC'))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
