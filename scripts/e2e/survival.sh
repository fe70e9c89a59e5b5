#!/usr/bin/env bash
# What docs/survival.md promises, tried on a lab of two clusters of three workers. What is given is passed on to
# `cargo xtask survival`: names of trials, --runs N, --slow. Times are lines of JSON on standard output.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

LAB=/var/lib/mangrove-lab

main() {
  require_root
  need_command nft nftables
  [[ ! -e $LAB ]] || fail "there is a lab on this machine" "remove it with \`cargo xtask lab down\` and run this again"
  local programs
  programs=$(dirname "$(program NodeEngine)")
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  step "survival: two clusters of three workers"
  xtask lab up --clusters 2 --workers 3 --programs "$programs" >&2
  xtask survival "$@"
}

xtask() { (cd "$REPOSITORY" && cargo xtask "$@" </dev/null); }

finish() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then
    printf 'survival failed (exit code %s)\n' "$status" >&2
    xtask lab status >&2 || true
    tail -n 8 "$LAB"/hosts/*/log/{root,cluster,node-engine,net-manager}.log >&2 2>/dev/null
  fi
  xtask lab down >/dev/null || status=1
  exit "$status"
}

main "$@"
