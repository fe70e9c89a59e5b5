# shellcheck shell=bash
# Tasks, ignitors and runs by kubectl, for tests of workflows.

# A shell and nothing else.
IMAGE=mangrove/shell:latest

make_shell_image() {
  printf 'FROM scratch\nCOPY busybox /bin/busybox\n' >"$FOLDER/Dockerfile"
  build_image "$IMAGE" "$FOLDER/Dockerfile" "$(command -v busybox)"
}

# apply [ARGUMENT]...: the manifests that come in; IMAGE in them stands for the image.
apply() {
  sed "s|IMAGE|$IMAGE|" >"$FOLDER/manifest.yaml"
  k apply --filename "$FOLDER/manifest.yaml" "$@" 2>&1
}

# task NAME FIELDS SCRIPT [ARGUMENT]...: one that runs a script of the shell.
task() {
  local name=$1 fields=$2 script=$3
  shift 3
  jq --null-input --raw-output --arg name "$name" --arg fields "$fields" --arg script "$script" '"apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: \($name)}
spec: {\($fields)\(if $fields == "" then "" else ", " end)template: {spec: {containers: [{name: only, image: IMAGE,
  command: [/bin/busybox, sh, -c, \($script | tojson)]}]}}}"' | apply "$@"
}

# ignitor NAME [FIELDS]: one that fires by hand only if nothing is said.
ignitor() {
  printf 'apiVersion: sirocco.cloud/v1alpha1\nkind: Ignitor\nmetadata: {name: %s}\nspec: {%s}\n' "$1" "${2:-}" | apply
}

# What is said of one that is refused.
refused_task() { ! task "$@" 'true' || fail "task $1 was not refused"; }
refused_ignitor() { ! ignitor "$@" || fail "ignitor $1 was not refused"; }

# run_ends NUMBER PHASE: waits until it has ended so.
run_ends() {
  wait_or_show root-orchestrator 120 "run $1 is $2" run_is "$1" "$2"
}

run_is() {
  k get run "$1" --output yaml
  [[ $(k get run "$1" --output jsonpath='{.status.phase}') == "$2" ]]
}

# parts_of RUN: names, phases and exit codes of what was started in it, in one line.
parts_of() {
  k get run "$1" --output json |
    jq --raw-output '[.status.tasks[] | "\(.name) \(.phase) \(.exitCode // "")"] | sort | join(" ")' | sed 's/ *$//'
}

# part_is RUN TASK PHASE
part_is() {
  k get run "$1" --output yaml
  [[ $(k get run "$1" --output json | jq --raw-output --arg task "$2" '.status.tasks[] | select(.name == $task).phase') == "$3" ]]
}

# detail_of RUN TASK
detail_of() {
  k get run "$1" --output json | jq --raw-output --arg task "$2" '.status.tasks[] | select(.name == $task).detail'
}

# started ATTEMPT: how often a container of it was started.
started() {
  docker events --since "$SINCE" --until "$(date +%s.%N)" --filter event=start --filter label=mangrove.instance \
    --format '{{.Actor.Attributes.name}}' | grep -c "\.$1\." || true
}

# container_of ATTEMPT
container_of() { docker ps --all --quiet --filter label=mangrove.instance --filter "name=\.$1\."; }

# What a container printed.
logs_of() { docker logs "$(container_of "$1")" 2>&1; }

runs_now() { docker ps --filter label=mangrove.instance --format '{{.Names}}' | grep "\.$1\."; }

runs_no_more() { ! runs_now "$1"; }

# pause_before ATTEMPTS NUMBER: seconds from the end of the attempt before it to its start.
pause_before() {
  local ended began
  ended=$(docker inspect --format '{{.State.FinishedAt}}' "$(container_of "$1-$(($2 - 1))")")
  began=$(docker inspect --format '{{.State.StartedAt}}' "$(container_of "$1-$2")")
  printf '%s %s\n' "$(date --date "$ended" +%s.%3N)" "$(date --date "$began" +%s.%3N)" | awk '{printf "%.3f", $2 - $1}'
}

# is_told RUN ATTEMPTS: its only task has begun so many attempts, and the last one has ended.
is_told() {
  k get run "$1" --output yaml
  [[ $(k get run "$1" --output jsonpath='{.status.tasks[0].attempts}') == "$2" ]] && runs_no_more "$1-third-1-0-$2" &&
    [[ -n $(container_of "$1-third-1-0-$2") ]]
}

# fired IGNITOR TIMES: exactly so often.
fired() {
  k get ignitor "$1" --output yaml
  [[ $(k get ignitor "$1" --output jsonpath='{.status.fired}') == "$2" ]]
}

# skipped IGNITOR: at least once.
skipped() {
  k get ignitor "$1" --output yaml
  [[ $(k get ignitor "$1" --output jsonpath='{.status.skipped}') -ge 1 ]]
}

# last_sunday YEAR MONTH: of a month with 31 days.
last_sunday() {
  local day=31
  while [[ $(date --utc --date "$1-$2-$day" +%u) != 7 ]]; do
    day=$((day - 1))
  done
  printf '%s\n' "$day"
}

# As images name it.
architecture() { docker version --format '{{.Server.Arch}}'; }
