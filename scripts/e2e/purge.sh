#!/usr/bin/env bash
# scripts/up and scripts/down: started, started again, stopped, started from what was kept, and purged so that the
# machine is as it was.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

HELLO=http://127.0.0.1:8080

main() {
  local folder
  for folder in /var/lib/mangrove /usr/local/lib/mangrove; do
    [[ ! -e $folder ]] || fail "$folder exists: this test would purge a Mangrove that is in use" \
      "run scripts/down --purge first if it is not"
  done
  begin purge
  # The login of whoever runs this is left alone.
  export XDG_CONFIG_HOME=$FOLDER/config XDG_CACHE_HOME=$CACHE/..
  take_stock >"$FOLDER/before"

  step "up: a port that somebody else has"
  refuse_a_taken_port
  step "up: the first time"
  run up
  answers "$HELLO" >/dev/null
  passed "hello answers"
  expect "the user is logged in" "$(/usr/local/bin/mangrove get instances 2>&1)" 'hello.default/0 +running'
  step "up: again"
  start_again
  step "down, and up from what was kept"
  stop_and_resume
  step "down --purge"
  run down --purge
  wait_until 30 "the machine is as it was before" is_as_before || exit 1
  passed "the machine is as it was before"
}

# run SCRIPT [ARGUMENT]...: shows what it says only if it fails.
run() {
  quietly "$LOG_DIR/$1.log" "$REPOSITORY/scripts/$1" "${@:2}" || fail "scripts/$* failed"
}

refuse_a_taken_port() {
  local said
  PORT=10000 start squatter "$(binary hello)"
  wait_until 5 "the port is taken" port_holder 10000
  said=$("$REPOSITORY/scripts/up" 2>&1 </dev/null) && fail "scripts/up started although port 10000 was taken"
  expect "it is named" "$said" 'port 10000, needed for the API, is used by hello \(process [0-9]+\)'
  stop squatter
}

machine_containers() { (use_machine_folders && our_containers); }

start_again() {
  local before
  before=$(machine_containers)
  run up
  expect "nothing is started twice" "$(cat "$LOG_DIR/up.log")" 'root-orchestrator is running already'
  [[ -n $before && $(machine_containers) == "$before" ]] || fail "the containers are not the same"
  passed "the container is the same"
}

stop_and_resume() {
  run down
  [[ -z $(machine_containers) ]] || fail "a container still runs"
  ! port_holder 10000 || fail "the API is still there"
  passed "nothing runs"
  run up
  answers "$HELLO" >/dev/null
  passed "hello answers again"
}

# Everything that must be the same before and after.
take_stock() {
  (use_machine_folders && leftovers) || true
  ip -oneline link show | sed -E 's/^[0-9]+: ([^:@]+).*/link \1/'
  ip -oneline address show | awk '{ print "address", $2, $4 }'
  ip route show table all | sed 's/^/route /'
  ip rule show | sed 's/^/rule /'
  if command -v nft >/dev/null; then
    nft list ruleset 2>/dev/null | sed -E 's/counter packets [0-9]+ bytes [0-9]+/counter/; s/^/nft /'
  fi
  cut -d ' ' -f 5 /proc/self/mountinfo | sed 's/^/mount /'
  docker ps --all --quiet | sed 's/^/container /'
  docker images --quiet | sed 's/^/image /'
  find /etc /opt /usr/local /var/lib /var/log /run -xdev \( -path '/var/lib/docker/*' -o -path '/run/docker/*' \
    -o -path '/var/lib/mangrove-e2e-*' -o -path '/var/lib/apt/*' -o -path '/usr/local/lib/python*' \) -prune \
    -o -print 2>/dev/null | sed 's/^/file /'
}

is_as_before() {
  take_stock >"$FOLDER/after"
  diff <(sort "$FOLDER/before") <(sort "$FOLDER/after")
}

clean_up_more() {
  stop squatter
  "$REPOSITORY/scripts/down" --purge >/dev/null 2>&1
}

main "$@"
