-- The sex that was registered at birth, as a group beside the administrative one, and what is suspect of a
-- prediction's values. Rows of before have what their records give: a default, as `vigil ledger verify` derives it.
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS birth_sex LowCardinality(String) DEFAULT 'unknown';
ALTER TABLE labels ADD COLUMN IF NOT EXISTS birth_sex LowCardinality(String) DEFAULT 'unknown';
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS suspects UInt16 DEFAULT 0 COMMENT 'bit i: vital sign i jumped; bit 8 + i: it froze';
