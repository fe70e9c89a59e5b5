# shellcheck shell=bash
# The container engine: making sure that one answers, and building our images for it.

# Marks images built here, so that they are found again when they have lost their name to a newer build.
IMAGE_LABEL=mangrove.built=locally

engine_version() { docker version --format '{{.Server.Version}}' 2>/dev/null; }

engine_answers() { docker version --format 'Docker engine {{.Server.Version}}'; }

# Guarantees that an engine answers. One that had to be started by hand is remembered as the daemon `docker`.
ensure_engine() {
  if ! engine_version >/dev/null; then
    [[ -z ${DOCKER_HOST:-} ]] || fail "no container engine answers at DOCKER_HOST=$DOCKER_HOST" \
      "start it, or unset DOCKER_HOST to use the engine of this machine"
    if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
      install_packages docker.io iptables nftables
    fi
    engine_version >/dev/null || is_coming_up || start_engine
  fi
  note "Docker engine $(engine_version)"
}

# Installing the package may have started it.
is_coming_up() {
  kill -0 "$(cat /run/docker.pid 2>/dev/null)" 2>/dev/null && wait_for_engine
}

start_engine() {
  if [[ -d /run/systemd/system ]]; then
    note "starting it with systemd"
    systemctl start docker
  else
    note "starting it; there is no systemd to do it"
    remember_what_the_engine_will_change
    start docker "$(command -v dockerd)"
  fi
  wait_for_engine
}

wait_for_engine() {
  wait_until 60 "the container engine answers" engine_answers || {
    show_log docker
    fail "the container engine does not answer" "look into its log, start it by hand and run this again"
  }
}

# What an engine leaves behind is only cleared away later if it was not there before.
remember_what_the_engine_will_change() {
  local before=$STATE_DIR/before-engine
  [[ ! -e $before ]] || return 0
  {
    ! ip -oneline link show dev docker0 >/dev/null 2>&1 || echo "link docker0"
    [[ ! -d /var/lib/docker ]] || echo "folder /var/lib/docker"
    [[ ! -e /etc/docker/key.json ]] || echo "file /etc/docker/key.json"
    ! command -v nft >/dev/null || nft list tables
  } >"$before.new"
  mv "$before.new" "$before"
}

# build_image NAME DOCKERFILE BINARY: an image with one static binary. Works with and without BuildKit.
build_image() {
  local context log
  context=$(mktemp -d)
  log=$(mktemp)
  install -m 0755 "$3" "$context/"
  # The classic builder leaves no cache behind and is in every engine.
  DOCKER_BUILDKIT=0 quietly "$log" docker build --label "$IMAGE_LABEL" --tag "$1" --file "$2" "$context" ||
    fail "the image $1 could not be built" "what docker said is above"
  rm -rf "$context" "$log"
}

# our_containers [OPTION]...: ids of the containers that the NodeEngine of $STATE_DIR made. They mount its start gate.
our_containers() {
  local id
  docker ps --quiet --no-trunc --filter label=mangrove.instance "$@" | while read -r id; do
    if docker inspect --format '{{range .Mounts}}{{println .Source}}{{end}}' "$id" | grep -q "^$STATE_DIR/"; then
      printf '%s\n' "$id"
    fi
  done
}

# our_images: the images that were built here, by name, or by id when a newer build has the name.
our_images() {
  docker images --no-trunc --filter "label=$IMAGE_LABEL" --format '{{.Repository}}:{{.Tag}} {{.ID}}' |
    sed -E 's/^.*<none> //; s/ .*//' | sort -u
}
