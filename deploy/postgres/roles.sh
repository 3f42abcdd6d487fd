#!/bin/sh
# Run once by the PostgreSQL image, when it has made an empty cluster: the roles and the database
# of docs/operations.md, "Your own PostgreSQL and Redis".
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" <<'SQL'
\getenv owner_password TELEMETRY_OWNER_PASSWORD
\getenv app_password TELEMETRY_APP_PASSWORD
CREATE ROLE telemetry_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE telemetry_app LOGIN PASSWORD :'app_password';
GRANT telemetry_app TO telemetry_owner;
CREATE DATABASE telemetry OWNER telemetry_owner;
SQL
