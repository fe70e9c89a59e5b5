#!/usr/bin/env bash
# The command line of Oakestra, unmodified, against a real stack with a real container.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

URL=http://127.0.0.1:8081

# oak ARGUMENT...: without colours and wide enough that no table is wrapped. It knows Admin/Admin only and reads its
# configuration and SLAs from the home directory.
oak() {
  HOME=$FOLDER/home NO_COLOR=1 TERM=dumb COLUMNS=240 "$OAK" "$@" 2>&1 || {
    local status=$?
    printf 'oak %s ended with %s\n' "$*" "$status" >&2
    return "$status"
  }
}

main() {
  begin oak
  local environment
  # It asks for ansible too, half a gigabyte that only its installer uses.
  environment=$(python_environment oak oak-cli==0.5.5 'ansible-runner>=2.4,<3' 'icecream>=2.1.3,<3' \
    'oakestra-utils>=0.2,<0.3' 'psutil>=5.9.8,<6' 'pydantic>=2.6.4,<3' 'requests>=2.32.3,<3' \
    'rich-pixels>=3.0.1,<4' 'typer>=0.15.4,<0.16')
  OAK=$environment/bin/oak
  start_stack
  write_slas
  oak c k configure system_manager_ip --value 127.0.0.1 >/dev/null

  step "oak: clusters"
  expect "the cluster is listed as connected" "$(oak cl list -all)" "$CLUSTER .*$LOCATION.* 1 .*docker.*Connected"
  expect "and shown in detail" "$(oak cl info "$CLUSTER")" "Active Nodes +│ 1 "

  step "oak: an application from creation to deletion"
  create_and_deploy
  inspect_it
  undeploy_and_delete
  step "oak: created and deployed at once, deleted while it runs"
  deploy_at_once
}

write_slas() {
  mkdir -p "$FOLDER/home/oak_cli/SLAs"
  jq '.applications[0].application_name = "greeter" | .applications[0].microservices[0] |=
    (.microservice_name = "front" | .port = "8081:8080/tcp")' \
    "$REPOSITORY/examples/hello/hello.sla.json" >"$FOLDER/home/oak_cli/SLAs/greeter.json"
}

first_id() { grep -oE '\b[0-9a-f]{24}\b' <<<"$1" | head -n 1; }

create_and_deploy() {
  local shown
  expect "an application is created" "$(oak a create --sla-file-name greeter.json)" 'Success'
  shown=$(oak a show)
  expect "it is listed with one service" "$shown" 'greeter +│ \(1\)'
  APPLICATION=$(first_id "$shown")
  shown=$(oak s show)
  expect "its service has no instances" "$shown" 'front +│ [0-9a-f]{24} +│ - +│ greeter'
  SERVICE=$(first_id "$shown")
  expect "the service is deployed" "$(oak s deploy "$SERVICE")" 'Success'
  wait_or_show node-engine 60 "oak shows the instance as running" shows_running
  passed "the instance is shown as running"
  wait_or_show node-engine 20 "hello answers at $URL" answers "$URL"
  passed "it answers at $URL"
}

shows_running() { oak s show | grep -E '0 RUNNING'; }

inspect_it() {
  local shown
  shown=$(oak s inspect "$SERVICE")
  expect "inspecting shows where it runs" "$shown" '0 \| RUNNING .*\| public IP: 127.0.0.1 \| cluster ID: [0-9a-f-]{36}'
  expect "and what it wrote" "$shown" 'listening on \[::\]:8080'
  expect "and its image" "$shown" "image: $HELLO_IMAGE"
  expect "the detailed list has the image too" "$(oak s show -v detailed)" "$HELLO_IMAGE"
  oak s show -v exhaustive >/dev/null
  oak a show -v exhaustive >/dev/null
  passed "the exhaustive lists are understood"
}

undeploy_and_delete() {
  expect "the service is undeployed" "$(oak s undeploy --service-id "$SERVICE")" 'Success'
  wait_or_show node-engine 30 "the container is gone" has_no_containers
  expect "no instance is shown" "$(oak s show)" 'front +│ [0-9a-f]{24} +│ - '
  passed "its container is gone"
  expect "the application is deleted" "$(oak a delete "$APPLICATION" -y)" 'Success'
  expect "none is left" "$(oak a show)" 'No applications exist yet'
}

deploy_at_once() {
  expect "an application is created and deployed" "$(oak a create --sla-file-name greeter.json -d)" 'Success'
  wait_or_show node-engine 60 "hello answers at $URL" answers "$URL"
  passed "it answers"
  expect "everything is deleted" "$(oak a delete -y)" 'Success'
  wait_or_show node-engine 30 "the container is gone" has_no_containers
  passed "its container is gone"
}

main "$@"
