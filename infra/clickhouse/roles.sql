-- Who may do what in the ledger's database. Run as an administrator of the server, in that database,
-- before or after `vigil ledger migrate`; every statement may be repeated:
--
--     clickhouse-client --database default --queries-file infra/clickhouse/roles.sql
--
-- `ON *` is every table of that database. Users are the site's own, one role each, as users.sh makes
-- them. Nobody has ALTER, DELETE, TRUNCATE or DROP: rows and tables go by an administrator's hand
-- alone, and `vigil ledger verify` finds what that hand did. Only servers know roles: the embedded
-- engine of `vigil up` has one user.

CREATE ROLE IF NOT EXISTS vigil_owner, vigil_writer, vigil_verifier, vigil_reader, vigil_auditor;

-- `vigil ledger migrate`: makes tables and writes down which.
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, SELECT ON * TO vigil_owner;
GRANT INSERT ON schema_version TO vigil_owner;

-- The audit service: appends, and looks at what is there before it goes on.
GRANT SELECT, INSERT ON * TO vigil_writer;
REVOKE INSERT ON schema_version FROM vigil_writer;
-- Whoever writes the ledger is not the one to say that it is whole.
REVOKE INSERT ON verifications FROM vigil_writer;
GRANT SELECT ON system.processes TO vigil_writer;

-- `vigil ledger verify` as a job: reads all that is to be proved, and writes down what it found.
GRANT SELECT ON * TO vigil_verifier;
GRANT INSERT ON verifications TO vigil_verifier;

-- Boards: what is counted, judged and answered. Of the ledger no key and no value, and neither the
-- rows of single patients in `patients` and `vitals` nor those of `outcomes`.
GRANT SELECT ON predictions TO vigil_reader;
GRANT SELECT ON alerts TO vigil_reader;
GRANT SELECT ON alert_severities TO vigil_reader;
GRANT SELECT ON receipts TO vigil_reader;
GRANT SELECT ON dead_letters TO vigil_reader;
GRANT SELECT ON feedback TO vigil_reader;
GRANT SELECT ON labels TO vigil_reader;
GRANT SELECT ON labels_now TO vigil_reader;
GRANT SELECT ON measurements TO vigil_reader;
GRANT SELECT ON measurements_now TO vigil_reader;
GRANT SELECT ON signals TO vigil_reader;
GRANT SELECT ON signals_open TO vigil_reader;
GRANT SELECT ON changes TO vigil_reader;
GRANT SELECT ON schema_version TO vigil_reader;
GRANT SELECT ON verifications TO vigil_reader;
GRANT SELECT(cluster_id, topic, topic_id, partition, offset, sequence, timestamp, length, recorded_at) ON ledger TO vigil_reader;

-- The auditor: reads everything, and what the server remembers of who asked and changed what.
GRANT SELECT ON * TO vigil_auditor;
GRANT SELECT ON system.processes TO vigil_auditor;
GRANT SELECT ON system.query_log TO vigil_auditor;
GRANT SELECT ON system.part_log TO vigil_auditor;
GRANT SELECT ON system.parts TO vigil_auditor;
GRANT SELECT ON system.detached_parts TO vigil_auditor;
GRANT SELECT ON system.mutations TO vigil_auditor;
GRANT SELECT ON system.grants TO vigil_auditor;
GRANT SELECT ON system.users TO vigil_auditor;
GRANT SELECT ON system.roles TO vigil_auditor;

-- Limits. readonly = 2: reads alone, and settings may be changed within their bounds. A board that
-- asks for too much is told so; it is never shown a part of the rows as if they were all.
CREATE SETTINGS PROFILE IF NOT EXISTS vigil_reader SETTINGS
    readonly = 2,
    max_execution_time = 30 MAX 60,
    max_rows_to_read = 200000000 MAX 1000000000,
    max_result_rows = 100000 MAX 1000000,
    result_overflow_mode = 'throw' CONST,
    read_overflow_mode = 'throw' CONST,
    max_memory_usage = 2000000000 MAX 4000000000,
    max_threads = 4 MAX 8
    TO vigil_reader;
CREATE SETTINGS PROFILE IF NOT EXISTS vigil_auditor SETTINGS
    readonly = 2,
    max_execution_time = 3600 MAX 14400,
    max_memory_usage = 4000000000 MAX 8000000000,
    max_threads = 4 MAX 8
    TO vigil_auditor;
CREATE SETTINGS PROFILE IF NOT EXISTS vigil_verifier SETTINGS
    async_insert = 0,
    max_execution_time = 3600 MAX 14400,
    max_memory_usage = 4000000000 MAX 8000000000,
    max_threads = 4 MAX 8
    TO vigil_verifier;
CREATE SETTINGS PROFILE IF NOT EXISTS vigil_writer SETTINGS
    async_insert = 0,
    max_execution_time = 60 MAX 300,
    max_memory_usage = 2000000000 MAX 4000000000
    TO vigil_writer;

CREATE QUOTA IF NOT EXISTS vigil_reader KEYED BY user_name
    FOR INTERVAL 1 minute MAX queries = 1200, read_rows = 20000000000, execution_time = 600
    TO vigil_reader;
