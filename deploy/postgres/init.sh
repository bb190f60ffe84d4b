#!/bin/bash
# A database for each role, with a user that can open no other: no service reads what another one owns.
# Run once by the postgres image, when its volume is empty.
set -eu
for role in seats enrollments academics fees notifications orchestrator; do
    psql --set ON_ERROR_STOP=1 --set "role=$role" --set "password=$POSTGRES_PASSWORD" \
        --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
-- A statement that fails is not written to the server's log.
ALTER ROLE :"role" SET log_min_error_statement = 'panic';
CREATE DATABASE :"role" OWNER :"role";
REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
SQL
done
