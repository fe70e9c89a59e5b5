# shellcheck shell=bash
# Installing what is missing, from Debian, PyPI and npm.

require_root() {
  ((EUID == 0)) || fail "this needs root: it installs packages and drives the container engine and the network" \
    "run: sudo $0"
}

is_installed() {
  [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# install_packages PACKAGE...: those that are not installed yet.
install_packages() {
  local package missing=() log
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]} > 0)) || return 0
  command -v apt-get >/dev/null || fail "cannot install ${missing[*]}: this machine has no apt-get" \
    "install them with the package manager of this machine and run this again"
  note "installing ${missing[*]}"
  log=$(mktemp)
  refresh_package_lists "$log"
  DEBIAN_FRONTEND=noninteractive quietly "$log" apt-get install --yes --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${missing[@]}" ||
    fail "apt-get could not install ${missing[*]}" "what it said is above and in $log"
  rm -f "$log"
}

# Once per script.
refresh_package_lists() {
  [[ -z ${PACKAGE_LISTS_ARE_FRESH:-} ]] || return 0
  quietly "$1" apt-get update -o DPkg::Lock::Timeout=300 ||
    fail "apt-get update failed" "what it said is above and in $1"
  PACKAGE_LISTS_ARE_FRESH=1
}

# need_command COMMAND PACKAGE...: installs the packages if there is no such command.
need_command() {
  local command=$1
  shift
  command -v "$command" >/dev/null || install_packages "$@"
  command -v "$command" >/dev/null || fail "there is still no \`$command\` after installing $*"
}

# python_environment NAME PACKAGE [REQUIREMENT]...: makes a virtual environment in the cache, once, and prints where it
# is. PACKAGE is installed without its own dependencies, of which only the REQUIREMENTs are. A change makes it anew.
python_environment() {
  local folder=$CACHE/python/$1 log
  shift
  if [[ $(cat "$folder/requirements" 2>/dev/null) != "$*" ]]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv >&2
    note "installing $* from PyPI" >&2
    log=$(mktemp)
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    quietly "$log" python3 -m venv "$folder" || fail "cannot make a Python environment in $folder"
    pip_install "$log" "$folder" --no-deps "$1"
    (($# == 1)) || pip_install "$log" "$folder" "${@:2}"
    printf '%s' "$*" >"$folder/requirements"
    rm -f "$log"
  fi
  printf '%s\n' "$folder"
}

pip_install() {
  local log=$1 folder=$2
  shift 2
  quietly "$log" "$folder/bin/pip" install --no-cache-dir --disable-pip-version-check "$@" ||
    fail "pip could not install $*" "what it said is above and in $log"
}

# node_environment NAME PACKAGE...: a folder in the cache with these packages of npm, made once; prints where it is. Their
# scripts are not run. A change makes it anew.
node_environment() {
  local folder=$CACHE/node/$1 log
  shift
  if [[ $(cat "$folder/requirements" 2>/dev/null) != "$*" ]]; then
    need_command node nodejs >&2
    need_command npm npm >&2
    note "installing $* from npm" >&2
    log=$(mktemp)
    rm -rf "$folder"
    mkdir -p "$folder"
    quietly "$log" npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund "$@" ||
      fail "npm could not install $*" "what it said is above and in $log"
    printf '%s' "$*" >"$folder/requirements"
    rm -f "$log"
  fi
  printf '%s\n' "$folder"
}
