# shellcheck shell=bash
# Telling the user what happens, and waiting for things with a deadline.

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' RED='' YELLOW='' PLAIN=''
fi

# A step begins.
step() { printf '%s==> %s%s %s(%s)%s\n' "$BOLD" "$*" "$PLAIN" "$DIM" "$(elapsed)" "$PLAIN"; }

# Something about the step.
note() { printf '    %s\n' "$@"; }

warn() { printf '%swarning:%s %s\n' "$YELLOW" "$PLAIN" "$*" >&2; }

# fail WHAT [WHAT TO DO]...
fail() {
  printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
  shift
  (($# == 0)) || printf '    %s\n' "$@" >&2
  exit 1
}

# Time since the script began, or of the seconds given.
elapsed() {
  local seconds=${1:-$SECONDS}
  if ((seconds < 60)); then
    printf '%ds' "$seconds"
  else
    printf '%dm %02ds' $((seconds / 60)) $((seconds % 60))
  fi
}

# wait_until SECONDS WHAT COMMAND...
# Repeats COMMAND until it succeeds. At the deadline, or once it returns 3 (hopeless), tells what it printed last.
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2 last status
  shift 2
  while true; do
    status=0
    last=$("$@" 2>&1) || status=$?
    ((status != 0)) || return 0
    ((status != 3 && SECONDS < deadline)) || break
    sleep 0.3
  done
  printf '%serror:%s waited in vain until %s; the last try said:\n%s\n' "$RED" "$PLAIN" "$what" \
    "${last:-(nothing, status $status)}" >&2
  return 1
}

# quietly LOG COMMAND...: the output goes to LOG, and is shown if COMMAND fails.
quietly() {
  local log=$1
  shift
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 40 "$log" >&2
    return 1
  fi
}
