#!/usr/bin/env bash
# Tasks and ignitors by the real kubectl, on real containers: what follows from success and failure, what is handed over,
# and a root that is killed in the middle.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/lib/kubectl.sh
source "$LIBRARY/kubectl.sh"

# A shell and nothing else.
IMAGE=mangrove/shell:latest

main() {
  begin workflow
  need_command openssl openssl
  need_command busybox busybox-static
  ensure_kubectl
  API=https://127.0.0.1:10000
  make_authority
  export MANGROVE_API_CERTIFICATE=$FOLDER/api.pem MANGROVE_API_KEY=$FOLDER/api.key
  start_stack
  printf 'FROM scratch\nCOPY busybox /bin/busybox\n' >"$FOLDER/Dockerfile"
  build_image "$IMAGE" "$FOLDER/Dockerfile" "$(command -v busybox)"
  SINCE=$(date +%s)
  write_manifests
  export KUBECONFIG=$FOLDER/kubeconfig
  mkdir "$FOLDER/home"
  mangrove kubeconfig >"$KUBECONFIG" 2>/dev/null

  step "workflow: one task follows from another"
  follow
  step "workflow: the root is killed in the middle"
  be_killed
  step "workflow: what is refused"
  refuse
  step "workflow: going"
  let_go
}

# What there is to do; IMAGE stands for the image.
write_manifests() {
  sed "s|IMAGE|$IMAGE|" >"$FOLDER/tasks.yaml" <<'YAML'
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: second}
spec:
  startOnSuccess: [first]
  template:
    spec:
      containers:
      - name: second
        image: IMAGE
        command: [/bin/busybox, sh, -c, "echo by $ORCA_INITIATOR with $ORCA_DATA in run $MANGROVE_RUN_ID"]
      restartPolicy: Never
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: other}
spec:
  startOnFailure: [first, broken]
  template: {spec: {containers: [{name: other, image: IMAGE, command: [/bin/busybox, "true"]}]}}
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: first}
spec:
  startOnIgnition: [go]
  template:
    spec:
      containers:
      - {name: first, image: IMAGE, command: [/bin/busybox, sh, -c, "echo noise; echo from $ORCA_INITIATOR: $ORCA_DATA >/dev/termination-log"]}
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: broken}
spec:
  startOnIgnition: [go]
  template: {spec: {containers: [{name: broken, image: IMAGE, command: [/bin/busybox, sh, -c, "exit 2"]}]}}
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: slow}
spec:
  startOnIgnition: [again]
  template: {spec: {containers: [{name: slow, image: IMAGE, command: [/bin/busybox, sleep, "8"]}]}}
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: after}
spec:
  startOnSuccess: [slow]
  template: {spec: {containers: [{name: after, image: IMAGE, command: [/bin/busybox, "true"]}]}}
YAML
  ignitor go 'scheduled: NOW, data: spark' >"$FOLDER/go.yaml"
  ignitor again 'scheduled: now' >"$FOLDER/again.yaml"
}

# ignitor NAME SPEC
ignitor() {
  printf 'apiVersion: sirocco.cloud/v1alpha1\nkind: Ignitor\nmetadata: {name: %s}\nspec: {%s}\n' "$1" "$2"
}

# run_is NUMBER PHASE
run_is() {
  k get run "$1" --output yaml
  [[ $(k get run "$1" --output jsonpath='{.status.phase}') == "$2" ]]
}

# started ATTEMPT: how often a container of it was started.
started() {
  docker events --since "$SINCE" --until "$(date +%s.%N)" --filter event=start --filter label=mangrove.instance \
    --format '{{.Actor.Attributes.name}}' | grep -c "\.$1\." || true
}

follow() {
  expect "tasks are created" "$(k apply --filename "$FOLDER/tasks.yaml")" '^task.sirocco.cloud/second created$'
  expect "what is not there yet is told of" "$(k get task first --output jsonpath='{.status.conditions[0].message}')" 'there is no ignitor .go. yet'
  expect "as ORCA prints them" "$(k get tasks)" \
    '^NAME +STATE +LASTSUCCESS +LASTFAILURE +FAILURESCOUNT +IGNITORS +ONSUCCESSTASK +ONFAILURETASK'
  expect "an ignitor is created, and fires" "$(k apply --filename "$FOLDER/go.yaml")" 'ignitor.sirocco.cloud/go created'
  wait_or_show root-orchestrator 120 "the run has ended" run_is 1 Succeeded
  [[ $(k get run 1 --output json | jq --compact-output '[.status.tasks[] | [.name, .phase, .exitCode]] | sort') == \
    '[["broken","Failed",2],["first","Succeeded",0],["other","Succeeded",0],["second","Succeeded",0]]' ]] ||
    fail "the run went otherwise: $(k get run 1 --output yaml)"
  passed "each task ran once, and each failure had another task for it"
  expect "what was said is handed on" "$(logs_of 1-second-1-0-1)" '^by first with from go: spark in run 1$'
  expect "it is counted" "$(k get task broken)" '^broken +Pending +.* 1 +go'
}

# What a container printed.
logs_of() { docker logs "$(docker ps --all --quiet --filter "label=mangrove.instance" --filter "name=\.$1\.")" 2>&1; }

be_killed() {
  k apply --filename "$FOLDER/again.yaml" >/dev/null
  wait_or_show node-engine 60 "the first task runs" runs_now 2-slow-1-0-1
  kill -KILL "$(pid_of root-orchestrator)"
  wait_until 5 "the root is gone" has_ended root-orchestrator
  start_root
  wait_or_show root-orchestrator 120 "the run has ended" run_is 2 Succeeded
  [[ $(started 2-slow-1-0-1) == 1 && $(started 2-after-1-0-1) == 1 ]] || fail "an attempt was not started once"
  [[ $(started 2-slow-1-0-2) == 0 && $(k get runs --output name | wc -l) == 2 ]] || fail "something was started anew"
  passed "each attempt was started once, and the ignitor did not fire again"
}

runs_now() { docker ps --filter label=mangrove.instance --format '{{.Names}}' | grep "\.$1\."; }

refuse() {
  local bad=$FOLDER/bad.yaml
  ignitor bad 'scheduled: "61 * * * *"' >"$bad"
  expect "a bad cron expression" "$(refused apply --filename "$bad")" 'spec\.scheduled'
  ignitor bad 'scheduled: "2020-01-01T00:00:00Z"' >"$bad"
  expect "a date that is past" "$(refused apply --filename "$bad")" 'spec\.scheduled.*is past'
  ignitor bad 'schedule: NOW' >"$bad"
  expect "an unknown field" "$(refused apply --filename "$bad")" 'spec\.schedule.*did you mean .scheduled.'
}

let_go() {
  k delete run 1 2 >/dev/null
  wait_or_show node-engine 60 "the containers of the runs are gone" has_no_containers
  k delete --filename "$FOLDER/tasks.yaml" >/dev/null
  expect "nothing is left" "$(k get tasks,runs 2>&1)" 'No resources found'
}

main "$@"
