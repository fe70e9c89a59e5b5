# shellcheck shell=bash
# What the end-to-end tests share. Each is a script that uses the ports Mangrove has by default, so they run one after
# another and not beside a running Mangrove; state, logs and pid files are in a folder of their own. Whatever happens,
# all of it is gone at the end, and a failure shows the logs first.

# Each test says itself where documents are.
unset MANGROVE_STORE
# The binaries that tests build anyway.
export MANGROVE_PROFILE=${MANGROVE_PROFILE:-dev}
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=scripts/lib/purge.sh
source "$LIBRARY/purge.sh"

# begin NAME: a clean place to work in.
begin() {
  TEST=$1
  require_root
  need_command jq jq
  # Not in /tmp: the container engine mounts the start gate from here, and may have a /tmp of its own.
  FOLDER=$(mktemp --dry-run "/var/lib/mangrove-e2e-$TEST.XXXXXX")
  use_folders "$FOLDER/state" "$FOLDER/run" "$FOLDER/log"
  require_ports
  engine_answers >/dev/null || fail "no container engine answers" "scripts/test starts one"
  make_folders
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

finish() {
  local status=$? left
  trap - EXIT
  if ((status != 0)); then
    printf '%s failed (exit code %s)\n' "$TEST" "$status" >&2
    show_everything
  fi
  # Best effort from here on: what could not be removed is found by the check below.
  set +e
  clean_up_more
  stop_stack
  remove_containers_and_images >/dev/null
  "$(program NetManager)" purge >/dev/null 2>&1
  rm -rf "$FOLDER"
  left=$(leftovers) || left="unknown: could not look"
  if [[ -n $left ]]; then
    printf 'left behind by %s:\n%s\n' "$TEST" "$left" >&2
    ((status != 0)) || status=1
  fi
  exit "$status"
}

# For tests that make more than the others: define it anew.
clean_up_more() { :; }

show_everything() {
  local log
  for log in "$LOG_DIR"/*.log; do
    [[ ! -e $log ]] || show_log "$(basename "$log" .log)" 60
  done
  docker ps --all --filter label=mangrove.instance >&2 || true
}

# passed SENTENCE: says that it has been seen to hold.
passed() { printf '    ok: %s\n' "$*"; }

# expect SENTENCE TEXT PATTERN: the text has a line that matches the extended regular expression.
expect() {
  grep -Eq -- "$3" <<<"$2" || {
    printf 'not so: %s\n--- no line matches: %s\n%s\n---\n' "$1" "$3" "$2" >&2
    exit 1
  }
  passed "$1"
}

# Root, cluster and worker, and the image of hello.
start_stack() {
  step "$TEST: a root, a cluster and a worker"
  start_root
  start_cluster
  start_worker
  build_hello_image
}

# An authority as an operator may have one, which all believe from here on, and a certificate of it for the API.
make_authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=authority" \
    -keyout "$FOLDER/authority.key" -out "$FOLDER/authority.pem" 2>/dev/null
  certify
  export SSL_CERT_FILE=$FOLDER/authority.pem CURL_CA_BUNDLE=$FOLDER/authority.pem
}

# A certificate of the authority for the API, in place of the one there was.
certify() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=root" \
    -keyout "$FOLDER/new.key" -out "$FOLDER/new.csr" 2>/dev/null
  openssl x509 -req -in "$FOLDER/new.csr" -CA "$FOLDER/authority.pem" -CAkey "$FOLDER/authority.key" -days 1 \
    -extfile <(printf 'subjectAltName=IP:127.0.0.1') -out "$FOLDER/new.pem" 2>/dev/null
  mv "$FOLDER/new.key" "$FOLDER/api.key"
  mv "$FOLDER/new.pem" "$FOLDER/api.pem"
}

# answers URL: whether hello answers there.
answers() { http "$1" | grep '^Hello from'; }

# has_no_containers: whether all containers of this test are gone.
has_no_containers() {
  local containers
  containers=$(our_containers --all)
  printf '%s\n' "$containers"
  [[ -z $containers ]]
}

# instances APPLICATION: one line each: number, status, detail.
instances() {
  mangrove get services --app "$1" --output json |
    jq --raw-output '.[].instance_list[] | "\(.instance_number) \(.status) \(.status_detail)"'
}
