# shellcheck shell=bash
# Building the binaries. Build output stays outside the repository, so that a fresh clone finds it again.

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
# `release`, or `dev` to reuse what tests build anyway.
PROFILE=${MANGROVE_PROFILE:-release}
PACKAGES=(root-orchestrator cluster-orchestrator node-engine net-manager cli hello)

# Guarantees a Rust toolchain that is recent enough, with a C compiler for what is written in C.
ensure_cargo() {
  local needed found
  if ! cargo --version >/dev/null 2>&1; then
    install_packages cargo-web rustc-web gcc libc6-dev ca-certificates
  fi
  need_command cc gcc libc6-dev
  needed=$(sed -nE 's/^rust-version = "([0-9.]+)"$/\1/p' "$REPOSITORY/Cargo.toml")
  found=$(rustc --version | cut -d ' ' -f 2)
  if [[ $(printf '%s\n' "$needed" "$found" | sort -V | head -n 1) != "$needed" ]]; then
    fail "rustc $found is too old: $needed or newer is needed" \
      "update it with \`rustup update\`, or remove it so that Debian's is installed"
  fi
  note "rustc $found, build output in $CARGO_TARGET_DIR"
}

# Always all of them: cargo would build some dependencies again for a smaller choice, with fewer features. Shows cargo's
# own progress.
build_binaries() {
  local package arguments=(build --locked --profile "$PROFILE")
  for package in "${PACKAGES[@]}"; do
    arguments+=(--package "$package")
  done
  (cd "$REPOSITORY" && cargo "${arguments[@]}" </dev/null) || fail "the build failed; cargo says why above"
}

# binary NAME: where the build puts it.
binary() {
  local folder=$PROFILE host
  [[ $folder != dev ]] || folder=debug
  host=$(rustc --version --verbose | sed -n 's/^host: //p')
  printf '%s/%s/%s/%s\n' "$CARGO_TARGET_DIR" "$host" "$folder" "$1"
}
