#!/usr/bin/env bash
# The API against its own description: requests are made up from it, right ones and wrong ones, and every answer must be
# one that it tells of. Then over TLS, as it faces a network.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# How many requests of each kind are made up for each path and method; the same ones at each run.
EXAMPLES=20

main() {
  begin api
  local environment token
  # Named twice: with what it needs itself.
  environment=$(python_environment schemathesis schemathesis==4.32.5 schemathesis==4.32.5)
  step "api: a root"
  start_root
  token=$(curl --silent --fail "$API/api/auth/login" \
    --data "$(jq --null-input --arg password "$ADMIN_PASSWORD" '{username: "Admin", $password}')" | jq --raw-output .token)

  step "api: made-up requests"
  # It keeps what it finds where it is started.
  cd "$FOLDER"
  "$environment/bin/st" run "$API/docs/openapi.json" --no-color --header "Authorization: Bearer $token" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing --max-examples "$EXAMPLES" --generation-deterministic \
    --suppress-health-check all --request-timeout 10 --warnings off
  passed "no error of the server, and no answer that is not described"
  speak_tls
}

# With an authority as an operator may have one.
speak_tls() {
  local refusal serial
  need_command openssl openssl
  API=https://127.0.0.1:10000
  step "api: over TLS"
  stop root-orchestrator
  refusal=$("$(program root-orchestrator)" --state-dir "$STATE_DIR/root" --api-listen 0.0.0.0:10000 \
    --cluster-listen 127.0.0.1:50052 2>&1 || true)
  expect "it is not plain HTTP for everybody by accident" "$refusal" 'plain HTTP on 0\.0\.0\.0:10000.*--api-plain'
  make_authority
  MANGROVE_API_CERTIFICATE=$FOLDER/api.pem MANGROVE_API_KEY=$FOLDER/api.key launch_root
  wait_or_show root-orchestrator 30 "the API answers at $API" root_answers
  passed "curl believes the authority"
  log_in || fail "mangrove cannot log in over TLS"
  mangrove get clusters >/dev/null
  passed "so does mangrove"
  make_hooks
  expect "who does not believe it is told what to do" \
    "$(SSL_CERT_FILE=/dev/null mangrove get clusters 2>&1 || true)" 'SSL_CERT_FILE=authority.pem'
  expect "plain HTTP is answered with what to do" "$(curl --silent http://127.0.0.1:10000/)" 'put https:// before it'

  serial=$(shown_serial)
  certify
  [[ $(shown_serial) != "$serial" ]] || fail "the API still shows the certificate of before"
  http "$API/docs/openapi.json" >/dev/null
  passed "a renewed certificate is shown without a restart"
}

# By the command line. There may be others, of requests that were made up.
make_hooks() {
  local told='.[] | select(.hook_name == "told") | [.entity, .events[], .webhook_url] | join(" ")'
  expect "no hook leads to the root itself" \
    "$(mangrove hook create told --url "$API" --entity jobs 2>&1 || true)" 'webhook_url: 127\.0\.0\.1 is not an address'
  mangrove hook create told --url https://hooks.invalid/ --entity applications --on create
  mangrove hook update told --on delete
  expect "a hook is made and changed" "$(mangrove hook list --output json | jq --raw-output "$told")" \
    '^applications post_delete https://hooks\.invalid/$'
  mangrove hook delete told
  expect "and deleted" "$(mangrove hook list --output json | jq --raw-output "[$told] | length")" '^0$'
}

shown_serial() {
  openssl s_client -connect 127.0.0.1:10000 2>/dev/null </dev/null | openssl x509 -noout -serial
}

main "$@"
