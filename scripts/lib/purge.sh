# shellcheck shell=bash
# Removing everything that was made on this machine, and checking that nothing of it is left.

stop_containers() {
  local containers
  engine_version >/dev/null || return 0
  mapfile -t containers < <(our_containers)
  ((${#containers[@]} > 0)) || return 0
  note "stopping ${#containers[@]}"
  docker stop "${containers[@]}" >/dev/null
}

remove_containers_and_images() {
  local containers images image
  engine_version >/dev/null || {
    note "the container engine is not running"
    return 0
  }
  mapfile -t containers < <(our_containers --all)
  ((${#containers[@]} == 0)) || docker rm --force "${containers[@]}" >/dev/null
  mapfile -t images < <(our_images)
  for image in "${images[@]}"; do
    docker rmi "$image" >/dev/null 2>&1 || warn "image $image is in use by a container that is not ours; it stays"
  done
}

purge_the_kernel() {
  local net_manager
  net_manager=$(program NetManager)
  if [[ -x $net_manager ]]; then
    note "$("$net_manager" purge 2>&1)"
  elif left_in_the_kernel | grep -q .; then
    warn "$net_manager, which could clean up, is not there; \`NetManager purge\` of any build does"
  fi
}

# An engine that `up` started is stopped, and what it made is removed unless somebody else has come to use it.
remove_the_engine() {
  local before=$STATE_DIR/before-engine used
  [[ -e $before ]] || return 0
  if ! is_running docker; then
    note "it is not the one that was started here; it stays as it is"
    return 0
  fi
  used=$(docker ps --all --quiet && docker images --quiet && docker volume ls --quiet)
  stop docker
  remove_engine_mounts
  grep -q '^link docker0$' "$before" || ip link delete docker0 2>/dev/null || true
  remove_engine_rules "$before"
  if [[ -n $used ]]; then
    note "/var/lib/docker stays: there are containers, images or volumes in it that are not ours"
    return 0
  fi
  rm -rf /run/docker /run/docker.sock /run/containerd
  grep -q '^folder /var/lib/docker$' "$before" || rm -rf /var/lib/docker
  grep -q '^file /etc/docker/key.json$' "$before" || rm -f /etc/docker/key.json
  # The engine makes them and puts nothing in.
  rmdir /etc/docker /opt/containerd/bin /opt/containerd/lib /opt/containerd 2>/dev/null || true
}

remove_engine_mounts() {
  local mount
  while read -r mount; do
    umount "$mount" || true
  done < <(cut -d ' ' -f 5 /proc/self/mountinfo | grep -E '^/(run|var/run|var/lib)/docker(/|$)' | sort -r)
}

# Tables that were not there before the engine and hold nothing but the engine's rules.
remove_engine_rules() {
  local family table
  command -v nft >/dev/null || return 0
  for family in ip ip6; do
    for table in filter nat; do
      grep -q "^table $family $table$" "$1" && continue
      nft list table "$family" "$table" >/dev/null 2>&1 || continue
      if nft list table "$family" "$table" 2>/dev/null | holds_only_engine_rules; then
        nft delete table "$family" "$table"
      else
        note "the nftables table $family $table stays: it has rules that are not the engine's"
      fi
    done
  done
}

# Rules of the engine jump to its chains, stand in them, or speak of its networks.
holds_only_engine_rules() {
  ! awk '/^\tchain / { ours = ($2 ~ /^DOCKER/) } /^\t\t/ && !ours' |
    grep -vE 'type (filter|nat) hook|DOCKER|docker0|"br-|masquerade'
}

remove_files() {
  local config
  if config=$(cat "$STATE_DIR/login-made-by-up" 2>/dev/null) && grep -q "\"$API\"" "$config" 2>/dev/null; then
    rm -f "$config"
    rmdir "$(dirname "$config")" "$(dirname "$(dirname "$config")")" 2>/dev/null || true
  fi
  [[ $(readlink "$COMMAND") != "$BIN_DIR/mangrove" ]] || rm -f "$COMMAND"
  # NodeEngine mounts one where /run is not in memory itself.
  umount "$RUN_DIR/secrets" 2>/dev/null || true
  rm -rf "$BIN_DIR" "$STATE_DIR" "$RUN_DIR" "$LOG_DIR"
  if [[ -e $CACHE/made-by-up ]]; then
    rm -rf "$CACHE/target" "$CACHE/made-by-up"
    rmdir "$CACHE" "$(dirname "$CACHE")" 2>/dev/null || true
  elif [[ -d $CARGO_TARGET_DIR ]]; then
    note "kept: the build output in $CARGO_TARGET_DIR, which was there before or was chosen by you"
  fi
}

left_in_the_kernel() {
  ip -oneline link show | grep -oE '\bmgv[0-9a-f]{12}' | sed 's/^/interface /'
  # Of the ranges instances have; the device's own are on the loopback interface.
  ip -oneline address show dev lo | grep -oE ' (10\.(1[6-9]|2[0-9]|3[01])\.|fc00:)[^ ]+' | sed 's/^/address/'
  ip route show table all proto 77 2>/dev/null | sed 's/^/route /'
  if command -v nft >/dev/null; then
    nft list tables 2>/dev/null | grep -E ' mangrove$' | sed 's/^/nftables /'
    nft list ruleset 2>/dev/null | grep -F 'comment "mangrove"' | sed 's/^\s*/rule /'
  fi
  cut -d ' ' -f 5 /proc/self/mountinfo | grep -F -e "$STATE_DIR/" -e "$RUN_DIR/" | sed 's/^/mount /'
  return 0
}

# What is left, one line each.
leftovers() {
  local path
  # Every daemon is told where its state is. The pattern comes by a file: among its arguments, grep would find itself.
  grep --files-with-matches --null-data --fixed-strings --file <(printf '%s/' "$STATE_DIR") /proc/[0-9]*/cmdline \
    2>/dev/null |
    sed -E 's|^/proc/([0-9]+)/.*|process \1|'
  for path in ${BIN_DIR:+"$BIN_DIR"} "$STATE_DIR" "$RUN_DIR" "$LOG_DIR"; do
    [[ ! -e $path ]] || printf 'file %s\n' "$path"
  done
  left_in_the_kernel
  if engine_version >/dev/null; then
    our_containers --all | sed 's/^/container /'
    our_images | sed 's/^/image /'
  fi
  return 0
}

report_leftovers() {
  local left
  left=$(leftovers) || fail "could not look for leftovers"
  [[ -z $left ]] || fail "this is left behind:" "$left"
  note "nothing is left behind"
}
