#!/usr/bin/env bash
# One vendor's access from the request to the reviewed evidence, with real psql on an embedded Postgres, in under a minute.
#
#     bash docs/tutorial/vendor-access.sh          in a checkout, after `make demo` or `make test` has made .venv
#
# It needs psql (PSQL=/path/to/psql names one that speaks TLS) and leaves nothing behind but the evidence, if you name a
# place for it: EVIDENCE=/path/to/file.zip
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
psql=${PSQL:-$(command -v psql || true)}
[ -n "$psql" ] || { echo "this needs psql: install a Postgres client, or say PSQL=/path/to/psql" >&2; exit 2; }
export PYTHONPATH=$root NO_COLOR=1 COLUMNS=110

work=$(mktemp -d)
daypass() { "$python" -P -m proxy.cli.main -c "$work/config.yaml" "$@"; }
title() { printf '\n== %s\n' "$1"; }
field() { "$python" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
must_fail() { if "$@"; then echo "this should have been refused" >&2; exit 1; fi; }
until_true() { for _ in $(seq 150); do if "$@"; then return; fi; sleep 0.2; done; echo "this never came: $*" >&2; exit 1; }

cleanup() {
    kill ${serve:-} ${shop:-} 2>/dev/null || true
    wait || true
    rm -rf "$work"
}
trap cleanup EXIT

title "The owner's side: a Postgres, a policy that asks for approval, agreement and precheck"
"$python" -P -m proxy.demo.shop "$work/shop" &
shop=$!
"$python" -P -m proxy.cli.main init "$work/made" >/dev/null 2>&1
mv "$work/made/tls" "$work/tls"
mkdir "$work/policies" "$work/agreements"
until_true test -s "$work/shop"
. "$work/shop"
export SHOP_PASSWORD

cat >"$work/config.yaml" <<CONFIG
listen: {host: 127.0.0.1, port: 0, tls: {mode: require, cert: tls/cert.pem, key: tls/key.pem}}
databases:
  shop:
    {host: $SHOP_HOST, port: $SHOP_PORT, dbname: $SHOP_DBNAME, tls: disable,
     credential: {mode: ephemeral, user: $SHOP_ADMIN, password_env: SHOP_PASSWORD}}
metrics: {host: 127.0.0.1, port: 0}
people: {groups: {data-owners: [anna], security: [sam]}}
prechecks: {calm: {kind: sql, sql: "select count(*) < 50 from pg_stat_activity"}}
requests:
  templates:
    acme-support: {vendor: Acme, database: shop, policy: acme-support, for: 1h, purpose: "why is revenue down?"}
reviews: {from: [security]}
CONFIG
cat >"$work/policies/acme-support.yaml" <<'POLICY'
name: acme-support
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn], mask: {email: email}}
  app.orders: {}
limits: {statement_timeout: 30s, rows_per_grant: 100000, sessions: 2}
window: {max: 1d}
approvals: {count: 1, from: [data-owners]}
agreements: [nda-2026]
prechecks: [calm]
POLICY
cat >"$work/agreements/nda-2026.md" <<'NDA'
# Confidentiality

What you see in this database stays with you and is used for the purpose of this access only.
NDA
daypass policy check
"$python" -P -m proxy.cli.main -c "$work/config.yaml" serve >"$work/serve.log" 2>&1 &
serve=$!
until_true grep -q '"event": "ready"' "$work/serve.log"
port=$(grep '"event": "ready"' "$work/serve.log" | head -1 | field port)

title "The sponsor asks, in one line; the data owner decides"
request=$(daypass -o json request create --template acme-support --person maria@acme.example --ticket OPS-4711 --by paul | field request)
must_fail daypass request approve "$request" --reason 'I need it' --by paul
daypass -o table request list
daypass -o table request approve "$request" --reason 'agreed with Acme on Monday' --by anna
grant=$(daypass -o json request show "$request" | field grant)

title "The grant starts by itself when its prechecks hold; then its token is minted, once"
is() { [ "$(daypass -o json grant show "$grant" | field "$1")" = "$2" ]; }
until_true is state active
export PGPASSWORD
PGPASSWORD=$(daypass -o json grant token "$grant" --by anna 2>/dev/null | field token)
login="host=127.0.0.1 port=$port dbname=shop user=$grant sslmode=require channel_binding=require"

title "The vendor's side: the first login is for signing, inside psql"
"$psql" -XAt "$login" -c 'show daypass.agreement' -c "set daypass.accept = 'Maria Vendor'" || true  # ends by itself

title "The vendor works: some columns masked, some not there, the rest refused"
"$psql" -X "$login" -c 'select id, name, email from customers order by id limit 3' \
    -c "select date_trunc('month', placed_at)::date as month, count(*) from orders group by 1 order by 1 desc limit 3"
must_fail "$psql" -X "$login" -c 'select * from hr.salaries'
must_fail "$psql" -X "$login" -c 'delete from orders'

title "Security looks on: who was there, and what was done"
daypass -o table session list
session=$(daypass -o json session list | "$python" -c 'import json, sys; print([s for s in json.load(sys.stdin) if s["statements"]][-1]["session"])')
daypass recording replay "$session"

title "It ends: the grant is revoked, the door says no, nothing is left"
daypass -o table grant revoke "$grant" --reason 'question answered' --by anna
must_fail "$psql" -X "$login" -c 'select 1'
until_true is stage removed
daypass -o table grant show "$grant" | grep -E 'removal|removed|ended'

title "Security reviews, and hands the auditor one file"
daypass -o table grant review "$grant" --sign --verdict fine --note 'as agreed' --by sam
evidence=${EVIDENCE:-$work/evidence.zip}
until_true test -z "$(daypass -o json session list | "$python" -c 'import json, sys; print([s["session"] for s in json.load(sys.stdin) if s["state"] == "open"] or "")')"
daypass -o table evidence export "$grant" --to "$evidence" --by sam
daypass -o table evidence verify "$evidence" --public-key "$work/recordings/keys/public.pem"
daypass -o table recording verify
