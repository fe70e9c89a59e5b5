# shellcheck shell=bash
# Starting and stopping background processes: each has a pid file in $RUN_DIR and a log in $LOG_DIR. A process is
# only ever ended when the number in the pid file still belongs to the program that was started.

# use_folders STATE RUN LOG: where daemons keep their state, pid files and logs.
use_folders() {
  STATE_DIR=$1 RUN_DIR=$2 LOG_DIR=$3
}

make_folders() {
  mkdir -p "$RUN_DIR" "$LOG_DIR"
  mkdir -p -m 0700 "$STATE_DIR"
}

pid_file() { printf '%s/%s.pid' "$RUN_DIR" "$1"; }
log_file() { printf '%s/%s.log' "$LOG_DIR" "$1"; }

# pid_of NAME: its process id, if it runs.
pid_of() {
  local pid program running
  { read -r pid && read -r program; } 2>/dev/null <"$(pid_file "$1")" || return 1
  running=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
  [[ ${running% (deleted)} == "$program" ]] || return 1
  printf '%s\n' "$pid"
}

is_running() { pid_of "$1" >/dev/null; }

# Whether it runs a program that has been replaced on disk since.
is_outdated() {
  local pid
  pid=$(pid_of "$1") && [[ $(readlink "/proc/$pid/exe") == *" (deleted)" ]]
}

# start NAME PROGRAM [ARGUMENT]...: starts it unless it runs; one whose program was replaced is restarted.
# Guarantees that the pid file names the process, or fails with the end of the log.
start() {
  local name=$1 program pid status=0
  program=$(readlink -f "$2") || fail "there is no program $2 to start as $name"
  shift 2
  if is_outdated "$name"; then
    note "$name runs an older build; restarting it"
    stop "$name"
  elif is_running "$name"; then
    note "$name is running already"
    return 0
  fi
  setsid "$program" "$@" >>"$(log_file "$name")" 2>&1 </dev/null &
  pid=$!
  disown "$pid"
  printf '%s\n%s\n' "$pid" "$program" >"$(pid_file "$name")"
  wait_until 5 "$name has started" has_become "$pid" "$program" || status=1
  ((status == 0)) || {
    rm -f "$(pid_file "$name")"
    show_log "$name"
    exit 1
  }
}

# Between fork and exec it is still this shell.
has_become() {
  local running
  running=$(readlink "/proc/$1/exe") || {
    echo "it ended at once"
    return 3
  }
  [[ ${running% (deleted)} == "$2" ]]
}

# stop NAME: asks it to end, and kills it after 20 seconds. Returns when it is gone.
stop() {
  local name=$1 pid
  if pid=$(pid_of "$name"); then
    kill -TERM "$pid" 2>/dev/null || true
    wait_until 20 "$name has ended" has_ended "$name" 2>/dev/null || {
      warn "$name (process $pid) did not end when asked; killing it"
      kill -KILL "$pid" 2>/dev/null || true
      wait_until 5 "$name is gone" has_ended "$name"
    }
  fi
  rm -f "$(pid_file "$name")"
}

# A zombie has no exe, so one that nobody has waited for counts as ended.
has_ended() { ! is_running "$1"; }

# show_log NAME: the end of its log, on standard error.
show_log() {
  local log
  log=$(log_file "$1")
  [[ -s $log ]] || return 0
  printf -- '--- the end of %s\n' "$log" >&2
  tail -n "${2:-30}" "$log" >&2
}

# port_holder PORT: who listens on a TCP port, for people.
port_holder() {
  local line
  line=$(ss -Hltnp "sport = :$1" 2>/dev/null | head -n 1)
  [[ -n $line ]] || return 1
  if [[ $line =~ \(\(\"([^\"]+)\",pid=([0-9]+) ]]; then
    printf '%s (process %s)\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
  else
    printf 'a program that ss cannot name\n'
  fi
}

# require_port NAME PORT WHAT: fails unless the port is free or the daemon NAME, which wants it, runs already.
require_port() {
  local holder
  is_running "$1" && return 0
  if holder=$(port_holder "$2"); then
    fail "port $2, needed for $3, is used by $holder" "stop it and run this again"
  fi
}
