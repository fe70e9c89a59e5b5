#!/usr/bin/env bash
# The command line of Oakestra, unmodified, against a real stack with a real container: every command that speaks to the
# root's API, those that it has for its own settings, and that there are no others but the ones listed here.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

URL=http://127.0.0.1:8081

# All there are, with what happens to them here; docs/contract.md says why some are not run.
COMMANDS=$(
  cat <<'TEXT'
addon flops clear-registry: not run
addon flops mock_data: not run
addon flops project: not run
addon flops reset-database: not run
addon flops restart-management: not run
addon flops tracking: not run
api-docs: run
application create: run
application delete: run
application show: run
application sla: run
cluster info: run
cluster list: run
configuration key-vars configure: run
configuration local-machine-purpose: run
configuration reset-config: run
configuration show-config: run
dashboard-link: run
docker co rebuild: not run
docker co restart: not run
docker ro rebuild: not run
docker ro restart: not run
explain SLAs: run
explain local-machine-purpose: run
installer fundamentals: not run
service deploy: run
service inspect: run
service show: run
service undeploy: run
version: run
worker ctr delete-images: not run
TEXT
)

# oak ARGUMENT...: without colours and wide enough that no table is wrapped. It knows Admin/Admin only and reads its
# configuration and SLAs from the home directory.
oak() {
  # Its lists of everything are coloured nevertheless.
  HOME=$FOLDER/home NO_COLOR=1 TERM=dumb COLUMNS=240 "$OAK" "$@" 2>&1 | sed $'s/\e\\[[0-9;]*m//g' || {
    local status=$?
    printf 'oak %s ended with %s\n' "$*" "$status" >&2
    return "$status"
  }
}

# refuses SENTENCE PATTERN ARGUMENT...: oak fails, and says so in a line that matches.
refuses() {
  local sentence=$1 pattern=$2 said
  shift 2
  if said=$(oak "$@" 2>/dev/null); then
    fail "oak $* did not fail" "$said"
  fi
  expect "$sentence" "$said" "$pattern"
}

# live PATTERN ARGUMENT...: on a terminal, with -l, it shows what there is again and again until it is stopped.
live() {
  local pattern=$1 log=$FOLDER/live.log terminal
  shift
  : >"$log"
  HOME=$FOLDER/home NO_COLOR=1 TERM=xterm COLUMNS=240 script --quiet --flush \
    --command "$(printf '%q ' "$OAK" "$@" -l)" "$log" >/dev/null 2>&1 </dev/null &
  terminal=$!
  wait_or_show root-orchestrator 30 "oak $* -l shows it twice" shows_twice "$log" "$pattern"
  kill "$terminal" 2>/dev/null || true
  wait "$terminal" 2>/dev/null || true
  passed "oak $* -l shows it, and again"
}

shows_twice() {
  tr -d '\r' <"$1"
  (($(grep -Ec -- "$2" "$1" || true) >= 2))
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

  step "oak: its own settings"
  configure
  step "oak: all commands are known here"
  no_other_commands
  step "oak: clusters"
  clusters
  step "oak: an application from creation to deletion"
  create_and_deploy
  inspect_it
  undeploy_and_delete
  step "oak: created and deployed at once, deleted while it runs"
  deploy_at_once
  step "oak: several applications, services and instances"
  several
  step "oak: what is wrong is refused"
  refused
}

write_slas() {
  mkdir -p "$FOLDER/home/oak_cli/SLAs"
  jq '.applications[0].application_name = "greeter" | .applications[0].microservices[0] |=
    (.microservice_name = "front" | .port = "8081:8080/tcp")' \
    "$REPOSITORY/examples/hello/hello.sla.json" >"$FOLDER/home/oak_cli/SLAs/greeter.json"
  # Two applications, of two services and of none; without ports, so that a service may have several instances.
  jq '.applications[0] as $hello | .applications = [
      ($hello | .application_name = "pair" | .microservices = [("left", "right") as $name |
        $hello.microservices[0] | .microservice_name = $name | del(.port)]),
      ($hello | .application_name = "empty" | .microservices = [])]' \
    "$REPOSITORY/examples/hello/hello.sla.json" >"$FOLDER/home/oak_cli/SLAs/several.json"
  jq '.applications[0].microservices[0].memory = "a lot"' "$FOLDER/home/oak_cli/SLAs/greeter.json" \
    >"$FOLDER/home/oak_cli/SLAs/wrong.json"
}

configure() {
  expect "it says which it is" "$(oak version)" "OAK-CLI version: '0\.5\.5'"
  refuses "without an address it knows no root" "'system_manager_ip' was not found" application show
  oak configuration key-vars configure system_manager_ip --value 192.0.2.1 >/dev/null
  oak configuration key-vars configure cluster_name --value "$CLUSTER" >/dev/null
  expect "addresses are kept" "$(oak configuration show-config)" '"system_manager_ip": "192\.0\.2\.1"'
  oak configuration reset-config >/dev/null
  refuses "and forgotten" "'system_manager_ip' was not found" application show
  oak c k configure system_manager_ip --value 127.0.0.1 >/dev/null
  expect "where the API is described" "$(oak api-docs)" "http://127\.0\.0\.1:10000/api/docs"
  http http://127.0.0.1:10000/api/docs/ | grep -qi swagger || fail "nothing describes the API where oak says"
  passed "and it is described there"
  expect "where the dashboard would be" "$(oak dashboard-link)" "http://127\.0\.0\.1"
  expect "SLAs are explained" "$(oak explain SLAs)" "Service-Level Agreement"
  expect "purposes are explained" "$(oak explain local-machine-purpose)" "oak configuration local-machine-purpose"
  oak configuration local-machine-purpose --purpose everything >/dev/null
  expect "purposes are kept" "$(oak configuration show-config)" 'everything'
}

# With the purpose `everything`, which shows all. What typer knows, asked in its own environment.
no_other_commands() {
  local found
  found=$(HOME=$FOLDER/home "$(dirname "$OAK")/python" - <<'PYTHON'
import typer
from oak_cli.main import app

def walk(group, path):
    for name, command in group.commands.items():
        here = path + [name.split(",")[0].strip()]
        if hasattr(command, "commands"):
            walk(command, here)
        else:
            print(" ".join(here))

walk(typer.main.get_command(app), [])
PYTHON
  )
  diff <(cut -d : -f 1 <<<"$COMMANDS" | LC_ALL=C sort) <(LC_ALL=C sort <<<"$found") ||
    fail "oak has other commands than those listed here"
  passed "$(wc -l <<<"$found") commands, $(grep -c ': run$' <<<"$COMMANDS") of them are run here"
}

clusters() {
  expect "those that are connected are listed" "$(oak cluster list)" "$CLUSTER .*$LOCATION.* 1 .*docker"
  expect "all are, with their state" "$(oak cl list -all)" "$CLUSTER .*$LOCATION.* 1 .*docker.*Connected"
  local shown
  shown=$(oak cluster info "$CLUSTER")
  expect "one is shown in detail" "$shown" "Active Nodes +│ 1 "
  expect "with its memory" "$shown" "Available Memory +│ [1-9][0-9]*"
  expect "its processors" "$shown" "Total vCPU +│ [1-9]"
  expect "and its state" "$shown" "Status +│ Connected"
  expect "one that is none has no details" "$(oak cluster info nowhere)" "Empty List"
  live "$CLUSTER" cluster list
  live "Active Nodes" cluster info "$CLUSTER"
}

first_id() { grep -oE '\b[0-9a-f]{24}\b' <<<"$1" | head -n 1; }

create_and_deploy() {
  local shown
  expect "the SLA is shown" "$(oak application sla --sla-file-name greeter)" 'greeter'
  expect "there are no applications" "$(oak application show)" 'No applications exist yet'
  expect "and no services" "$(oak service show)" 'No services exist yet'
  expect "an application is created" "$(oak application create --sla-file-name greeter.json)" 'Success'
  shown=$(oak a show)
  expect "it is listed with one service" "$shown" 'greeter +│ \(1\)'
  APPLICATION=$(first_id "$shown")
  shown=$(oak s show)
  expect "its service has no instances" "$shown" 'front +│ [0-9a-f]{24} +│ - +│ greeter'
  SERVICE=$(first_id "$shown")
  expect "the service is deployed" "$(oak service deploy "$SERVICE")" 'Success'
  wait_or_show node-engine 60 "oak shows the instance as running" shows_running
  passed "the instance is shown as running"
  wait_or_show node-engine 20 "hello answers at $URL" answers "$URL"
  passed "it answers at $URL"
}

shows_running() { oak s show | grep -E '0 RUNNING'; }

inspect_it() {
  local shown
  shown=$(oak service inspect "$SERVICE")
  expect "inspecting shows where it runs" "$shown" '0 \| RUNNING .*\| public IP: 127.0.0.1 \| cluster ID: [0-9a-f-]{36}'
  expect "and what it wrote" "$shown" 'listening on \[::\]:8080'
  expect "and its image" "$shown" "image: $HELLO_IMAGE"
  expect "the services of the application are listed" "$(oak service show "$APPLICATION")" "front +│ $SERVICE"
  expect "the detailed list has the image too" "$(oak s show -v detailed)" "$HELLO_IMAGE"
  expect "and of applications the namespace" "$(oak a show -v detailed)" "greeter +│ *\(1\) +│ *$APPLICATION +│ *default"
  expect "the exhaustive one all of an instance" "$(oak s show -v exhaustive)" "'instance_number': 0"
  expect "and of an application" "$(oak a show -v exhaustive)" "'applicationID': '$APPLICATION'"
  live 'greeter' application show
  live 'RUNNING' service show
  live 'listening on' service inspect "$SERVICE"
}

undeploy_and_delete() {
  expect "the service is undeployed" "$(oak service undeploy --service-id "$SERVICE")" 'Success'
  wait_or_show node-engine 30 "the container is gone" has_no_containers
  expect "no instance is shown" "$(oak s show)" 'front +│ [0-9a-f]{24} +│ - '
  passed "its container is gone"
  expect "the application is deleted" "$(oak application delete "$APPLICATION" -y)" 'Success'
  expect "none is left" "$(oak a show)" 'No applications exist yet'
  expect "nor a service" "$(oak s show)" 'No services exist yet'
}

deploy_at_once() {
  expect "an application is created and deployed" "$(oak a create --sla-file-name greeter.json -d)" 'Success'
  wait_or_show node-engine 60 "hello answers at $URL" answers "$URL"
  passed "it answers"
  expect "everything is deleted" "$(oak a delete -y)" 'Success'
  wait_or_show node-engine 30 "the container is gone" has_no_containers
  passed "its container is gone"
}

# running APPLICATION COUNT: so many of its instances run, no more and no fewer.
running() {
  local shown
  shown=$(instances "$1")
  printf '%s\n' "$shown"
  [[ $(grep -c ' RUNNING ' <<<"$shown" || true) == "$2" && $(grep -c . <<<"$shown" || true) == "$2" ]]
}

several() {
  local shown left pair
  oak a create --sla-file-name several.json >/dev/null
  shown=$(oak a show)
  expect "both applications of an SLA are listed" "$shown" 'pair +│ \(2\)'
  expect "that without services too" "$shown" 'empty +│ \(0\)'
  pair=$(first_id "$(grep pair <<<"$shown")")
  shown=$(oak s show "$pair")
  expect "the services are listed by application" "$shown" 'right +│ [0-9a-f]{24}'
  left=$(first_id "$(grep left <<<"$shown")")
  for _ in 1 2; do oak s deploy "$left" >/dev/null; done
  wait_or_show node-engine 60 "two instances run" running pair 2
  passed "a service that is deployed twice has two instances"
  # Of a number 0 it removes all: it takes it for none.
  expect "one instance is undeployed" "$(oak s undeploy --service-id "$left" --instance-id 1)" 'Success'
  wait_or_show node-engine 30 "one instance is left" running pair 1
  expect "and the other one stays" "$(oak s show)" '0 RUNNING'
  expect "without an id all are undeployed" "$(oak service undeploy)" 'Success'
  wait_or_show node-engine 30 "the containers are gone" has_no_containers
  expect "all applications are deleted when that is confirmed" "$(oak a delete <<<y)" "all '2' applications"
  expect "none is left" "$(oak a show)" 'No applications exist yet'
}

# What oak says of a refusal is a page of Python; that nothing came of it is what counts.
refused() {
  local nothing=000000000000000000000000
  refuses "a document that is not valid" 'OakCLIException' a create --sla-file-name wrong
  expect "and nothing is created" "$(oak a show)" 'No applications exist yet'
  refuses "an application that is not there" "Application '$nothing' for deletion not found" a delete "$nothing"
  refuses "a service that is not there" "Service '$nothing' not found" s inspect "$nothing"
  refuses "nor is one deployed" 'OakCLIException' s deploy "$nothing"
  refuses "nor undeployed" "Service '$nothing' not found" s undeploy --service-id "$nothing"
  oak a create --sla-file-name greeter >/dev/null
  refuses "a second application of a name" 'OakCLIException' a create --sla-file-name greeter
  expect "and the first is the only one" "$(oak a show | grep -c greeter)" '^1$'
  stop root-orchestrator
  refuses "a root that is away" 'Unable to log in' a show
  launch_root
  wait_or_show root-orchestrator 30 "the API answers at $API" root_answers
  expect "what was made is there when it is back" "$(oak a show)" 'greeter +│ \(1\)'
  oak a delete -y >/dev/null
}

main "$@"
