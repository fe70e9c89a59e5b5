#!/usr/bin/env bash
# A root whose documents are in a MongoDB: it is killed and comes back with everything, and so is the MongoDB.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

HELLO=http://127.0.0.1:8080
# It is in no log; the server asks for none.
PASSWORD=never-to-be-seen

main() {
  begin store
  unset MANGROVE_TEST_MONGODB
  step "store: a MongoDB"
  ensure_mongodb
  export MANGROVE_STORE=$MANGROVE_TEST_MONGODB/mangrove
  start_stack
  deploy_hello "$HELLO" >/dev/null
  [[ ! -e $STATE_DIR/root/store.sqlite ]] || fail "the root has an embedded store"
  passed "hello runs, and the root's state directory has no documents"

  step "store: the root is killed"
  local container
  container=$(our_containers)
  kill -KILL "$(pid_of root-orchestrator)"
  wait_until 5 "the root is gone" has_ended root-orchestrator
  start_root
  wait_or_show root-orchestrator 60 "the instance is shown as running" hello_is_running
  [[ $(our_containers) == "$container" ]] || fail "the container was replaced: it was $container, it is $(our_containers)"
  passed "it is back at once, knows the instance, and restarts nothing"

  step "store: the MongoDB is killed"
  kill -KILL "$(pid_of mongodb)"
  wait_until 5 "the MongoDB is gone" has_ended mongodb
  start_mongodb
  mangrove delete app hello --yes 2>/dev/null
  wait_or_show node-engine 30 "the container is gone" has_no_containers
  is_running root-orchestrator || fail "the root has ended"
  passed "the root goes on, and the instance is removed when it is deleted"

  step "store: what is wrong is told, without the password"
  refuse_to_start
}

hello_is_running() {
  instances hello
  instances hello | grep -q '^0 RUNNING'
}

# A second root, on other ports and with a state directory of its own.
second_root() {
  MANGROVE_STORE=$1 timeout 60 "$(program root-orchestrator)" --state-dir "$STATE_DIR/second" --relay-port 0 \
    --api-listen 127.0.0.1:0 --cluster-listen 127.0.0.1:0 2>&1 || true
}

refuse_to_start() {
  local said
  said=$(second_root "$MANGROVE_STORE")
  expect "a second root is refused" "$said" 'the store is in use by .* with the state directory'
  is_running root-orchestrator || fail "the first root has ended"
  said=$(second_root "mongodb://admin:$PASSWORD@")
  expect "what is no URL is refused" "$said" 'the place of the store cannot be used'
  said+=$(second_root "mongodb://admin:$PASSWORD@127.0.0.1:9/mangrove?serverSelectionTimeoutMS=500")
  expect "a server that is not there is named" "$said" 'the store at 127\.0\.0\.1:9/mangrove cannot be reached'
  ! grep --recursive --quiet "$PASSWORD" "$LOG_DIR" - <<<"$said" || fail "the password is in a log"
  passed "the password is in none of it"
}

clean_up_more() { stop_mongodb; }

main "$@"
