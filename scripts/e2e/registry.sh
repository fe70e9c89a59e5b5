#!/usr/bin/env bash
# Images are pulled from a registry; one that cannot be had is refused with a reason and disturbs nothing else.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Not 5000, where Debian's package may have started a registry of its own.
REGISTRY=127.0.0.1:15000
PULLED=$REGISTRY/hello:1
MISSING=$REGISTRY/nowhere:1

main() {
  begin registry
  need_command docker-registry docker-registry
  start_stack
  step "registry: an image that has to be pulled"
  start_registry
  pull_and_run
  step "registry: an image that does not exist"
  refuse_what_is_missing
  step "registry: no registry at all"
  refuse_without_a_registry
}

start_registry() {
  cat >"$FOLDER/registry.yml" <<YAML
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $FOLDER/registry}}
http: {addr: "$REGISTRY"}
YAML
  require_port registry "${REGISTRY#*:}" "the registry"
  start registry "$(command -v docker-registry)" serve "$FOLDER/registry.yml"
  wait_or_show registry 20 "the registry answers" http "http://$REGISTRY/v2/"
  docker tag "$HELLO_IMAGE" "$PULLED"
  quietly "$LOG_DIR/push.log" docker push "$PULLED" || fail "the image cannot be pushed to $REGISTRY"
  # Both names, so that nothing of it is in the engine when it is asked for.
  docker rmi "$PULLED" "$HELLO_IMAGE" >/dev/null
}

# deploy_image APPLICATION IMAGE PORT [OPTION]...: hello under another name.
deploy_image() {
  jq --arg name "$1" --arg image "$2" --arg port "$3:8080/tcp" '.applications[0].application_name = $name |
    .applications[0].microservices[0] |= (.microservice_name = $name | .code = $image | .port = $port)' \
    "$REPOSITORY/examples/hello/hello.sla.json" | mangrove deploy --file - "${@:4}"
}

pull_and_run() {
  deploy_image pulled "$PULLED" 8082 --timeout 2m 2>&1
  wait_or_show node-engine 20 "it answers" answers http://127.0.0.1:8082
  docker image inspect "$PULLED" >/dev/null
  passed "it was pulled and answers"
}

has_failed() { instances "$1" | grep -E "^0 FAILED .*$2"; }

refuse_what_is_missing() {
  deploy_image missing "$MISSING" 8083 --detach 2>&1
  wait_or_show node-engine 60 "it fails and names the image" has_failed missing "$MISSING"
  passed "it fails: $(instances missing)"
  must_run node-engine
  answers http://127.0.0.1:8082 >/dev/null
  passed "NodeEngine and the other instance run on"
  mangrove delete app missing --yes 2>/dev/null
}

refuse_without_a_registry() {
  stop registry
  deploy_image unreachable "$REGISTRY/hello:2" 8083 --detach 2>&1
  wait_or_show node-engine 60 "it fails and names the image" has_failed unreachable "$REGISTRY/hello:2"
  passed "it fails: $(instances unreachable)"
  answers http://127.0.0.1:8082 >/dev/null
  passed "the other instance answers still, though its image could not be pulled now"
}

clean_up_more() {
  stop registry
  docker rmi "$PULLED" >/dev/null 2>&1
}

main "$@"
