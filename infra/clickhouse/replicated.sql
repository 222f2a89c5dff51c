-- What a store of more than one server needs beside roles.sql. In this order:
--
--  1. As an administrator, the database and the roles on every server of the cluster (here `vigil`):
--       CREATE DATABASE vigil ON CLUSTER '{cluster}';
--     and roles.sql and this file once, with roles kept in Keeper (<replicated> in
--     user_directories of the server), else once on each server.
--  2. CLICKHOUSE_URL=http://one-of-them:8123/vigil CLICKHOUSE_CLUSTER=vigil vigil ledger migrate
--     makes the tables of the same files with ReplicatedMergeTree ON CLUSTER. The files stay as they
--     are, so that their digests in schema_version are those of a single server.
--  3. The audit service writes to one server at a time. It goes on from what the store holds, so the
--     server it turns to after a failure must show every row that was answered for: an insert waits
--     for a majority, and a question sees all that a majority has.
--
-- Not run by the authors: there is one server where this was written.

CREATE SETTINGS PROFILE IF NOT EXISTS vigil_replicated SETTINGS
    insert_quorum = 'auto',
    insert_quorum_parallel = 0,
    insert_quorum_timeout = 30000,
    select_sequential_consistency = 1
    TO vigil_writer, vigil_verifier, vigil_auditor;

-- The cluster's statements are written down by the server that was asked, for all of them.
GRANT CLUSTER ON *.* TO vigil_owner;
