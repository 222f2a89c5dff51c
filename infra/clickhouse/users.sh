#!/usr/bin/env bash
# A user for each role of roles.sql; the password of `audit` is the file clickhouse_audit, and so on.
# Run by docker-compose.yml in ClickHouse's own image; may be repeated, and takes new passwords over.
set -euo pipefail
secrets="${SECRETS:-/run/secrets}"
here="$(dirname "$0")"
CLICKHOUSE_PASSWORD="$(cat "$secrets/clickhouse_admin")"
export CLICKHOUSE_PASSWORD # an argument would be seen in the list of processes
client=(clickhouse-client --host "${STORE:-clickhouse}" --user admin --database "${DATABASE:-default}")

"${client[@]}" --queries-file "$here/roles.sql"
while read -r user role; do
    digest="$(tr -d '\n' < "$secrets/clickhouse_$user" | sha256sum | cut -d ' ' -f 1)"
    "${client[@]}" --query "
        CREATE USER IF NOT EXISTS $user IDENTIFIED WITH sha256_hash BY '$digest';
        ALTER USER $user IDENTIFIED WITH sha256_hash BY '$digest';
        GRANT $role TO $user;
        SET DEFAULT ROLE $role TO $user"
done << 'USERS'
migrate vigil_owner
audit vigil_writer
verify vigil_verifier
grafana vigil_reader
auditor vigil_auditor
USERS
