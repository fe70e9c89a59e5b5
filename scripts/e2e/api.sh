#!/usr/bin/env bash
# The API against its own description: requests are made up from it, right ones and wrong ones, and every answer must be
# one that it tells of.
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
}

main "$@"
