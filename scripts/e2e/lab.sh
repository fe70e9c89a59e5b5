#!/usr/bin/env bash
# A lab of real hosts (docs/lab.md): it comes up, carries a deployment, its hosts can be cut off, killed and powered
# off, and nothing of it stays.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

LAB=/var/lib/mangrove-lab
API=http://10.214.0.1:10000
ADMIN_PASSWORD=Admin
export no_proxy=$no_proxy,10.214.0.1
export NO_PROXY=$no_proxy

main() {
  require_root
  need_command jq jq
  need_command nft nftables
  [[ ! -e $LAB ]] || fail "there is a lab on this machine" "remove it with \`cargo xtask lab down\` and run this again"
  PROGRAMS=$(dirname "$(program NodeEngine)")
  FOLDER=$(mktemp --directory)
  use_folders "$FOLDER/state" "$FOLDER/run" "$FOLDER/log"
  make_folders
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  take_stock >"$FOLDER/before"

  step "lab: two clusters of two workers"
  lab up --programs "$PROGRAMS"
  expect "a second \`up\` finds it" "$(lab up)" 'is up already'
  refuses "another shape is refused while it is up" lab up --clusters 1
  deploy_two

  step "lab: cut off"
  local host address container
  read -r host address < <(first_host)
  container=$(container_on "$host")
  cut_and_heal
  lose_packets
  step "lab: killed processes"
  kill_and_start
  step "lab: power"
  power_cycle

  step "lab: what a killed run leaves"
  lab down
  is_as_before
  kill_up
  lab up --bare 1 --programs "$PROGRAMS" >/dev/null
  expect "the next \`up\` clears it away" "$(lab status)" '^b1 +10\.214\.250\.1 +on$'
  lab down
  is_as_before
}

lab() { (cd "$REPOSITORY" && cargo xtask lab "$@" </dev/null); }

finish() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then
    printf 'lab failed (exit code %s)\n' "$status" >&2
    lab status >&2 || true
    tail -n 8 "$LAB"/hosts/*/log/{init,root,cluster,node-engine,net-manager}.log >&2 2>/dev/null
  fi
  lab down >/dev/null || status=1
  rm -rf "$FOLDER"
  exit "$status"
}

deploy_two() {
  log_in || fail "cannot log in to $API"
  # What happens to instances is for the trials of survival; here they stay where they are, so that hosts are compared.
  jq '.applications[0].microservices[0].on_partition = "keep"' "$REPOSITORY/examples/hello/hello.sla.json" \
    >"$FOLDER/hello.sla.json"
  mangrove deploy --file "$FOLDER/hello.sla.json" --instances 2 --timeout 1m >/dev/null 2>&1 ||
    fail "hello cannot be deployed" "$(mangrove get instances 2>&1)"
  local one
  while read -r one; do
    wait_until 20 "hello answers at $one" answers "$one"
  done < <(addresses)
  [[ $(addresses | sort --unique | wc -l) == 2 ]] || fail "two instances are not on two workers" "$(addresses)"
  passed "two instances run on two workers and answer"
}

cut_and_heal() {
  lab cut "$host"
  refuses "a host that is cut is not reached" answers "$address"
  expect "that is told" "$(lab status)" "^$host .* on, cut\$"
  lab heal "$host"
  wait_until 20 "$host answers again" answers "$address"
  [[ $(container_on "$host") == "$container" ]] || fail "the container was replaced"
  passed "healed, it answers from the same container"
}

lose_packets() {
  lab lossy "$host" 100
  refuses "a host that loses all packets is not reached" answers "$address"
  expect "that is told" "$(lab status)" "^$host .* on, loses 100 %\$"
  lab lossy "$host" 30
  expect "that is told" "$(lab status)" "^$host .* on, loses 30 %\$"
  lab lossy "$host" 0
  answers "$address" >/dev/null
  passed "it answers when no packet is lost any more"
}

kill_and_start() {
  local before
  before=$(process_id node-engine)
  lab kill "$host" node-engine
  wait_until 10 "node-engine runs again" runs_anew node-engine "$before"
  passed "a killed process is started again"
  lab kill "$host" net-manager --for 3
  expect "or later" "$(lab status)" '^  net-manager +down, starts in [0-9.]+ s'
  lab kill "$host" node-engine --no-restart
  sleep 0.5
  expect "or not at all" "$(lab status)" '^  node-engine +down until it is started'
  lab start "$host" node-engine
  wait_until 10 "net-manager runs again" process_id net-manager
  answers "$address" >/dev/null
  passed "the container did not notice"
  refuses "what is not on the host is not killed" lab kill "$host" root
}

power_cycle() {
  local status=0
  exec {connection}<>"/dev/tcp/$address/8080"
  lab power-off "$host"
  read -r -t 2 -u "$connection" || status=$?
  ((status > 128)) || fail "a peer heard of the end of $host, which lost its power"
  exec {connection}>&-
  passed "a host without power falls silent"
  refuses "nothing can be run on it" lab exec "$host" -- true
  refuses "nor reached" answers "$address"
  lab power-on "$host"
  wait_until 30 "hello answers after the boot" answers "$address"
  passed "after its boot it runs what it ran before"
  [[ $(lab exec "$host" -- hostname) == "$host" ]] || fail "it has another name"
}

# Ends `up` when all hosts are on and nobody has joined.
kill_up() {
  local up
  # With `exec`, and because cargo becomes what it runs, this is the process itself.
  (cd "$REPOSITORY" && exec cargo xtask lab up --programs "$PROGRAMS" >/dev/null 2>&1 </dev/null) &
  up=$!
  wait_until 20 "the last host is on" test -S "$LAB/hosts/c2w2/share/init.sock"
  kill -KILL "$up"
  wait "$up" 2>/dev/null || true
  grep -q '"complete":false' "$LAB/lab.json" || fail "\`up\` was not interrupted"
}

# first_host: name and address of a host that runs an instance.
first_host() {
  local address
  address=$(addresses | head -n 1)
  lab status | awk -v address="$address" '$2 == address { print $1, $2 }'
}

addresses() {
  mangrove get services --app hello --output json | jq --raw-output '.[].instance_list[].published_at'
}

container_on() { lab exec "$1" -- docker ps --quiet --no-trunc --filter label=mangrove.instance; }

# process_id PROCESS: on the host of this test.
process_id() {
  local id
  id=$(lab status | sed -n "/^$host /,/^[a-z]/ s/^  $1 *process \([0-9]*\).*/\1/p")
  printf '%s\n' "$id"
  [[ -n $id ]]
}

runs_anew() {
  local id
  id=$(process_id "$1") && [[ $id != "$2" ]]
}

answers() { curl --silent --show-error --fail --max-time 2 "http://$1:8080" | grep '^Hello from'; }

# What must be the same before and after; processes are those that could be the lab's.
take_stock() {
  ip -oneline link show | sed -E 's/^[0-9]+: ([^:@]+).*/link \1/'
  ip route show table all | sed 's/^/route /'
  cut -d ' ' -f 5 /proc/self/mountinfo | sed 's/^/mount /'
  find /sys/fs/cgroup -maxdepth 2 -name 'mangrove-lab*' | sed 's/^/group /'
  find /var/lib /run /etc /opt -maxdepth 2 -xdev | sed 's/^/file /'
  pgrep --list-full --full -- '--cgroup-parent /mangrove-lab|lab-init' | sed 's/^/process /' || true
}

is_as_before() {
  take_stock >"$FOLDER/after"
  diff <(sort "$FOLDER/before") <(sort "$FOLDER/after") >&2 || fail "the machine is not as it was before"
  passed "nothing is left"
}

# refuses SENTENCE COMMAND...
refuses() {
  local sentence=$1
  shift
  ! "$@" >/dev/null 2>&1 || fail "not so: $sentence"
  passed "$sentence"
}

main "$@"
