# shellcheck shell=bash
# Root, one cluster and one worker on this machine, each reached on loopback.

API=http://127.0.0.1:10000
ADMIN_PASSWORD=${MANGROVE_ADMIN_PASSWORD:-Admin}
CLUSTER=${CLUSTER_NAME:-default}
LOCATION=${CLUSTER_LOCATION:-48.137,11.575,1000}
HELLO_IMAGE=mangrove/hello:latest

# What the daemons would read from the environment of whoever calls, and is decided here instead.
unset MANGROVE_ROOT MANGROVE_TOKEN MANGROVE_TOKEN_FILE MANGROVE_STATE_DIR MANGROVE_API_LISTEN \
  MANGROVE_BOOTSTRAP_CLUSTER MANGROVE_BOOTSTRAP_TOKEN_FILE SYSTEM_MANAGER_URL SYSTEM_MANAGER_GRPC_PORT \
  MANGROVE_CLUSTER_ADDRESS MANGROVE_CLUSTER_PORT MANGROVE_NET_MANAGER_PORT MANGROVE_NET_MANAGER_STATE \
  MANGROVE_NET_MANAGER_KEY MANGROVE_OIDC_ISSUER MANGROVE_OIDC_CLIENT_ID MANGROVE_OIDC_CLIENT_SECRET_FILE \
  MANGROVE_OIDC_REDIRECT_URL MANGROVE_OIDC_SCOPES MANGROVE_OIDC_USERNAME_CLAIM MANGROVE_OIDC_GRANTS \
  MANGROVE_OIDC_CA_FILE MANGROVE_OIDC_ALLOW_HTTP
export no_proxy=${no_proxy:+$no_proxy,}127.0.0.1,localhost
export NO_PROXY=$no_proxy

# The folders of the one Mangrove that `up` starts.
use_machine_folders() {
  use_folders /var/lib/mangrove /run/mangrove /var/log/mangrove
  BIN_DIR=/usr/local/lib/mangrove
  COMMAND=/usr/local/bin/mangrove
}

# program NAME: from the folder they were installed to, else from where they were built.
program() {
  if [[ -n ${BIN_DIR:-} ]]; then
    printf '%s/%s\n' "$BIN_DIR" "$1"
  else
    binary "$1"
  fi
}

# The command line, with a login of its own.
mangrove() { XDG_CONFIG_HOME=$STATE_DIR/command-line "$(program mangrove)" --root "$API" "$@"; }

log_in() { MANGROVE_PASSWORD=$ADMIN_PASSWORD mangrove login 2>/dev/null; }

# http URL: the body of a successful answer; a failure says why.
http() { curl --silent --show-error --fail --max-time 5 "$1"; }

# Fails before anything is started when a port is taken by someone else.
require_ports() {
  require_port root-orchestrator 10000 "the API"
  require_port root-orchestrator 50052 "clusters"
  require_port cluster-orchestrator 10100 "workers"
  require_port net-manager 6000 "NetManager"
}

# The launch_ functions start a daemon, the start_ functions also wait until it has joined the others.

launch_root() {
  MANGROVE_ADMIN_PASSWORD=$ADMIN_PASSWORD start root-orchestrator "$(program root-orchestrator)" \
    --state-dir "$STATE_DIR/root" --api-listen 127.0.0.1:10000 \
    --cluster-listen "${MANGROVE_CLUSTER_LISTEN:-127.0.0.1:50052}"
}

start_root() {
  launch_root
  wait_or_show root-orchestrator 30 "the API answers at $API" root_answers
  log_in || fail "cannot log in to $API as Admin with the password in MANGROVE_ADMIN_PASSWORD, or \`Admin\`" \
    "the password is the one of the first start; export it as MANGROVE_ADMIN_PASSWORD and run this again"
}

launch_cluster() {
  with_token "${1:-}" start cluster-orchestrator "$(program cluster-orchestrator)" \
    --name "$CLUSTER" --location "$LOCATION" --root 127.0.0.1 --state-dir "$STATE_DIR/cluster" \
    --worker-listen "${MANGROVE_WORKER_LISTEN:-127.0.0.1:10100}"
}

start_cluster() {
  local token=''
  if [[ ! -e $STATE_DIR/cluster/identity.pem ]]; then
    token=$(mangrove token create --cluster "$CLUSTER" 2>/dev/null) || fail "the root makes no join token for a cluster"
  fi
  launch_cluster "$token"
  wait_or_show cluster-orchestrator 30 "cluster $CLUSTER has joined" cluster_is_active
}

launch_worker() {
  start net-manager "$(program NetManager)" --port 6000 --state-dir "$STATE_DIR/net-manager" \
    --local-key "$RUN_DIR/net-manager.key"
  with_token "${1:-}" start node-engine "$(program NodeEngine)" -a 127.0.0.1 -p 10100 -n 6000 \
    --state-dir "$STATE_DIR/node-engine" --net-manager-key "$RUN_DIR/net-manager.key"
}

start_worker() {
  local token=''
  if [[ ! -e $STATE_DIR/node-engine/identity.pem ]]; then
    token=$(mangrove token create --worker 2>/dev/null) || fail "the root makes no join token for a worker"
  fi
  launch_worker "$token"
  wait_or_show node-engine 60 "this machine is a worker of the cluster" worker_is_active
}

# In the environment and not among the arguments, which every user of the machine can read.
with_token() {
  local token=$1
  shift
  if [[ -n $token ]]; then
    MANGROVE_TOKEN=$token "$@"
  else
    "$@"
  fi
}

# wait_or_show DAEMON SECONDS WHAT COMMAND...: as wait_until; a failure shows the daemon's log and ends the script.
wait_or_show() {
  local daemon=$1
  shift
  wait_until "$@" || {
    show_log "$daemon"
    exit 1
  }
}

must_run() {
  is_running "$1" || {
    echo "$1 has ended"
    return 3
  }
}

root_answers() { must_run root-orchestrator && http "$API/docs/openapi.json" >/dev/null; }

cluster_is_active() {
  must_run cluster-orchestrator || return
  mangrove get clusters --output json | tr -d ' \n' | grep -q '"active":true'
}

worker_is_active() {
  must_run net-manager && must_run node-engine || return
  mangrove get clusters
  mangrove get clusters --output json | tr -d ' \n' | grep -Eq '"active_nodes":[1-9]'
}

# Deploys examples/hello and waits until it answers; prints the answer.
deploy_hello() {
  mangrove deploy --file "$REPOSITORY/examples/hello/hello.sla.json" --timeout 2m >&2 || {
    show_log node-engine
    exit 1
  }
  wait_or_show node-engine 20 "hello answers at $1" http "$1" >&2
  http "$1"
}

build_hello_image() { build_image "$HELLO_IMAGE" "$REPOSITORY/examples/hello/Dockerfile" "$(program hello)"; }

# The worker goes first, so that nobody is told of containers that end.
stop_stack() {
  stop node-engine
  stop net-manager
  stop cluster-orchestrator
  stop root-orchestrator
}
