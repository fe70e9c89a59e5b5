#!/usr/bin/env bash
# Whoever is cut off keeps working: a container outlives its orchestrators and its NodeEngine, is made again without
# them, and nothing healthy is restarted when they meet again.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

HELLO=http://127.0.0.1:8080

main() {
  begin outage
  start_stack
  deploy_hello "$HELLO" >/dev/null
  step "outage: root and cluster are gone"
  stop root-orchestrator
  stop cluster-orchestrator
  answers "$HELLO" >/dev/null
  passed "hello goes on answering"
  local first second
  first=$(our_containers)
  docker rm --force "$first" >/dev/null
  wait_or_show node-engine 30 "hello answers again" answers "$HELLO"
  second=$(our_containers)
  [[ $second != "$first" ]] || fail "the container was not removed"
  passed "a container that was removed is made again"

  step "outage: NodeEngine and NetManager are killed too"
  crash node-engine
  crash net-manager
  answers "$HELLO" >/dev/null
  passed "hello goes on answering"
  launch_worker
  sleep 3
  answers "$HELLO" >/dev/null
  must_be_the_same "$second"
  passed "back again, they take up the container as it is"

  step "outage: cluster and root come back"
  launch_cluster
  start_root
  wait_or_show cluster-orchestrator 60 "the instance is shown as running" hello_is_running
  answers "$HELLO" >/dev/null
  must_be_the_same "$second"
  passed "the instance is running, in the same container"
  mangrove delete app hello --yes 2>/dev/null
  wait_or_show node-engine 30 "the container is gone" has_no_containers
  passed "and is removed when it is deleted"
}

# crash DAEMON: ends it without a chance to tidy up.
crash() {
  kill -KILL "$(pid_of "$1")"
  wait_until 5 "$1 is gone" has_ended "$1"
}

must_be_the_same() {
  [[ $(our_containers) == "$1" ]] || fail "the container was replaced: it was $1, it is $(our_containers)"
}

hello_is_running() {
  instances hello
  instances hello | grep -q '^0 RUNNING'
}

main "$@"
