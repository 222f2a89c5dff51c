-- What `vigil ledger verify` found, each time that it ran as somebody who may write it down: for boards and
-- alerts, which cannot prove anything themselves. Whoever can write here can claim a proof: who needs to
-- know runs the command.
CREATE TABLE IF NOT EXISTS verifications (
    ended_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'clock of the store',
    seconds Float64 COMMENT 'how long it took',
    records Int64 COMMENT 'that were proved',
    chains Int64,
    sound Int64 COMMENT 'chains without a finding',
    findings Int64,
    heads FixedString(64) COMMENT 'sha256, hex, of topic, partition, records and head of every chain',
    version LowCardinality(String) COMMENT 'of Vigil',
    verifier LowCardinality(String) DEFAULT currentUser()
) ENGINE = MergeTree
ORDER BY ended_at
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
