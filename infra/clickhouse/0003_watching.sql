-- What is said of the model's work: answers of clinicians, outcomes, labels, measurements, signals, and
-- what people changed. Derived as in 0002; the views at the end show how things stand now.
-- A topic of at-least-once writers may hold a message twice: the views show it once.

CREATE TABLE IF NOT EXISTS feedback (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    feedback_id String COMMENT 'of the source',
    source LowCardinality(String),
    alert_id String COMMENT 'the prediction id that raised it',
    verdict LowCardinality(String) COMMENT 'confirmed, dismissed, unsure',
    reason LowCardinality(String) COMMENT 'coded; empty where none was given',
    role LowCardinality(String) COMMENT 'of who answered; empty unknown',
    shown_at Nullable(DateTime64(6, 'UTC')),
    answered_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    action_kinds Array(LowCardinality(String)) COMMENT 'what was done',
    action_times Array(DateTime64(6, 'UTC')) COMMENT 'and when',
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    accepted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- A source's progress is a row without names: it has told of every onset before complete_through.
CREATE TABLE IF NOT EXISTS outcomes (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    outcome_id String COMMENT 'of the source',
    source LowCardinality(String),
    pseudonym FixedString(16),
    encounter FixedString(16),
    authority LowCardinality(String) COMMENT 'clinician, coded, provisional, final: later weighs more',
    revision Int64 COMMENT 'of this outcome by this authority',
    onset_at Nullable(DateTime64(6, 'UTC')) COMMENT 'null: there was none',
    recognized_at Nullable(DateTime64(6, 'UTC')),
    treated_at Nullable(DateTime64(6, 'UTC')),
    definition LowCardinality(String),
    definition_version LowCardinality(String),
    complete_through Nullable(DateTime64(6, 'UTC')) COMMENT 'of a progress alone',
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    accepted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Of labelled.v1: one row per revision of an hour of an encounter. Null from `score` to `from_start`: the
-- hour is no longer one of this encounter. A row without names tells how far event time has come.
CREATE TABLE IF NOT EXISTS labels (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    pseudonym FixedString(16),
    encounter FixedString(16),
    hour DateTime64(6, 'UTC') CODEC(Delta, ZSTD) COMMENT 'its begin',
    revision Int64 COMMENT '0 first, one more with every change',
    score Nullable(Float64) COMMENT 'the highest of the hour',
    threshold Nullable(Float64),
    above Nullable(Bool) COMMENT 'the score reached the threshold',
    raised Nullable(Bool) COMMENT 'an alert was raised in this hour',
    first_alert Nullable(Bool) COMMENT 'and it is the first of the encounter',
    label Nullable(Int64) COMMENT '1 onset within the horizon, 0 not, -1 left out: onset has passed',
    final Nullable(Bool) COMMENT 'the label will not change',
    onset Nullable(Bool) COMMENT 'the onset falls into this hour',
    lead_s Nullable(Int64) COMMENT 'from the first alert to onset',
    recognition_lead_s Nullable(Int64),
    treatment_lead_s Nullable(Int64),
    shown Nullable(Bool) COMMENT 'somebody saw the alert',
    answered_at Nullable(DateTime64(6, 'UTC')),
    verdict LowCardinality(Nullable(String)) COMMENT 'empty: no answer',
    reason LowCardinality(Nullable(String)),
    acted_at Nullable(DateTime64(6, 'UTC')) COMMENT 'earliest action told',
    authority LowCardinality(Nullable(String)) COMMENT 'who settled the label; empty: nobody yet',
    from_start Nullable(Bool) COMMENT 'positive from the first hour of the stay: left out of lead times',
    before_above Nullable(Bool) COMMENT 'of the revision before; null where there was none',
    before_raised Nullable(Bool),
    before_first_alert Nullable(Bool),
    before_label Nullable(Int64),
    before_final Nullable(Bool),
    before_onset Nullable(Bool),
    sex LowCardinality(String),
    age_band LowCardinality(String),
    race LowCardinality(String),
    ethnicity LowCardinality(String),
    payer LowCardinality(String),
    language LowCardinality(String),
    unit LowCardinality(String),
    definition LowCardinality(String) COMMENT 'of onset, with its version',
    model_digest LowCardinality(String),
    policy_version LowCardinality(String),
    watermark Nullable(DateTime64(6, 'UTC'))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Of metrics.v1: one row per statement; a higher revision restates a lower one.
CREATE TABLE IF NOT EXISTS measurements (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    metric LowCardinality(String),
    feature LowCardinality(String) COMMENT 'of a drift metric: variable, or variable.presence',
    cohort LowCardinality(String) COMMENT 'all, or dimension=label',
    unit_of_analysis LowCardinality(String),
    start DateTime64(6, 'UTC') CODEC(Delta, ZSTD) COMMENT 'of the window',
    end DateTime64(6, 'UTC') CODEC(Delta, ZSTD) COMMENT 'of the window, not in it',
    revision Int64,
    value Nullable(Float64) COMMENT 'null where suppressed or not to be computed',
    low Nullable(Float64) COMMENT 'of the interval',
    high Nullable(Float64),
    numerator Nullable(Float64),
    denominator Nullable(Float64),
    patients Nullable(Int64) COMMENT 'null: fewer than 11',
    positives Nullable(Int64),
    hours Nullable(Int64),
    maturity Nullable(Float64) COMMENT 'share of units whose label is final',
    threshold Nullable(Float64) COMMENT 'the value at which the state changes',
    p_value Nullable(Float64) COMMENT 'corrected',
    direction LowCardinality(String) COMMENT 'higher, lower, or empty',
    state LowCardinality(String) COMMENT 'ok, watch, alarm, insufficient',
    why LowCardinality(String),
    reference LowCardinality(String) COMMENT 'digest of the baseline, or name of the reference group'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS signals (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    signal_id String,
    step LowCardinality(String) COMMENT 'opened, changed, closed',
    kind LowCardinality(String),
    severity LowCardinality(String) COMMENT 'watch or alarm; of closed the highest it had',
    metric LowCardinality(String),
    feature LowCardinality(String),
    cohort LowCardinality(String),
    start DateTime64(6, 'UTC') CODEC(Delta, ZSTD) COMMENT 'of the window that led to this step',
    end DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    summary String,
    evidence_names Array(LowCardinality(String)),
    evidence_values Array(String),
    runbook LowCardinality(String)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS changes (
    topic LowCardinality(String),
    topic_id LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    change_id String,
    kind LowCardinality(String),
    subject LowCardinality(String),
    made_at DateTime64(6, 'UTC') COMMENT 'real time',
    effective_from DateTime64(6, 'UTC') COMMENT 'time of the events',
    requested_by String,
    approved_by String,
    reason String,
    before String COMMENT 'digest or version; empty: nothing',
    after String,
    content_length Int64 COMMENT 'the ledger holds the bytes',
    content_sha256 FixedString(32)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (topic, partition, offset, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE VIEW IF NOT EXISTS measurements_now AS
SELECT * FROM measurements
ORDER BY revision DESC, timestamp DESC, offset DESC
LIMIT 1 BY metric, feature, cohort, unit_of_analysis, start, end;

CREATE VIEW IF NOT EXISTS labels_now AS
SELECT * FROM (
    SELECT * FROM labels
    WHERE pseudonym != toFixedString('', 16)
    ORDER BY revision DESC, timestamp DESC, offset DESC
    LIMIT 1 BY pseudonym, encounter, hour
)
WHERE label IS NOT NULL;

-- What was said last of each signal, unless that it was closed.
CREATE VIEW IF NOT EXISTS signals_open AS
SELECT * FROM (
    SELECT * FROM signals
    ORDER BY timestamp DESC, offset DESC
    LIMIT 1 BY signal_id
)
WHERE step != 'closed';
