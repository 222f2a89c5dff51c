#!/usr/bin/env bash
# Makes the secrets that docker-compose.yml mounts. A file that exists is never touched.
#   infra/docker/secrets.sh [FOLDER]       FOLDER is secrets/ unless it is named
# Nobody but you can enter the folder. The two keys are readable by you alone, so the services run
# under your user id; the other files are read by the users of several images.
set -euo pipefail
folder="${1:-secrets}"
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

random() { openssl rand -hex 32; }
keep() { # NAME MODE COMMAND…: writes what the command says to a file of that name unless there is one
    if [ ! -e "$folder/$1" ]; then
        "${@:3}" > "$folder/$1.new"
        chmod "$2" "$folder/$1.new"
        mv "$folder/$1.new" "$folder/$1"
    fi
}
sources() { # the one source that may send at first: it shows the token of source_west_token
    digest="$(tr -d '\n' < "$folder/source_west_token" | openssl dgst -sha256 -r | cut -d ' ' -f 1)"
    printf '[[source]]\nid = "west"\nclock = "gateway"\ntoken_sha256 = "%s"\n' "$digest"
}

keep pseudonym_key 0400 random
keep payload_key 0400 random
keep source_west_token 0400 random
keep sources.toml 0444 sources
for name in metrics_token clickhouse_admin clickhouse_migrate clickhouse_audit clickhouse_verify \
    clickhouse_grafana clickhouse_auditor grafana_admin; do
    keep "$name" 0444 random
done
# Write those of your site into these two.
keep smtp_password 0444 random
keep oncall_token 0444 random
