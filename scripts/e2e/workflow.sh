#!/usr/bin/env bash
# Tasks and ignitors by the real kubectl, on real containers: what follows from success and failure, what is handed over,
# and a root that is killed in the middle; what tasks do when they have ended, and what makes ignitors fire beside the clock.
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
  need_command python3 python3
  ensure_kubectl
  API=https://127.0.0.1:10000
  make_authority
  export MANGROVE_API_CERTIFICATE=$FOLDER/api.pem MANGROVE_API_KEY=$FOLDER/api.key
  # Whom tasks call is on this machine.
  export MANGROVE_HOOK_ALLOW=127.0.0.1/32
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
  step "workflow: what tasks do when they have ended"
  act
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

# A service and a custom resource, the task that does something with them when an ignitor is called from outside, and another
# that begins when the resource has changed.
write_actions() {
  sed "s|IMAGE|$IMAGE|; s|RECEIVER|$RECEIVER|" >"$FOLDER/actions.yaml" <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sensors.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: sensors, kind: Sensor}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties: {status: {type: object, properties: {phase: {type: string, enum: [good]}}}}
---
apiVersion: mangrove.io/v1
kind: Application
metadata: {name: shop.prod}
---
apiVersion: mangrove.io/v1
kind: Service
metadata: {name: shop.prod.web.prod}
spec: {virtualization: container, code: IMAGE, cmd: [/bin/busybox, sleep, "1000"], memory: 16}
---
apiVersion: sirocco.cloud/v1alpha1
kind: Plugin
metadata: {name: office}
spec: {url: "RECEIVER", secret: alarm}
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: acts}
spec:
  startOnIgnition: [bell]
  successActions:
  - scaleService: {name: shop.prod.web.prod, replicas: 2}
  - setStatus: {resource: sensors.example.com, name: roof, status: {phase: good}}
  - setStatus: {resource: sensors.example.com, name: roof, status: {phase: sad}}
  - writeEvent: {reason: Acted, message: all of it is done}
  - office
  template: {spec: {containers: [{name: acts, image: IMAGE, command: [/bin/busybox, sh, -c, "echo $ORCA_DATA >/dev/termination-log"]}]}}
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: looks}
spec:
  startOnIgnition: [watchman]
  template: {spec: {containers: [{name: looks, image: IMAGE, command: [/bin/busybox, sh, -c, "echo heard $ORCA_DATA"]}]}}
YAML
  ignitor bell 'webhook: {secret: alarm}' >"$FOLDER/bell.yaml"
  ignitor watchman '"on": [{event: resource.changed, kind: Sensor, name: roof}]' >"$FOLDER/watchman.yaml"
  printf 'apiVersion: example.com/v1\nkind: Sensor\nmetadata: {name: roof}\n' >"$FOLDER/roof.yaml"
}

# receive: keeps each call it gets as two lines, its delivery id and its body, and takes it.
receive() {
  python3 - "$RECEIVER_PORT" "$FOLDER/received" <<'PYTHON' &
import http.server, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open(sys.argv[2], "a") as received:
            received.write(self.headers["Mangrove-Delivery"] + "\n" + body + "\n")
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
PYTHON
  RECEIVER_PID=$!
}

clean_up_more() { [[ -z ${RECEIVER_PID:-} ]] || kill "$RECEIVER_PID" 2>/dev/null; }

# ring DELIVERY BODY [SECRET]: calls the ignitor from outside; the answer and its status.
ring() {
  local now signature
  now=$(date +%s)
  signature=$(printf '%s' "$1.$now.$2" | openssl dgst -sha256 -hmac "${3:-$ALARM}" -hex -r | cut -d' ' -f1)
  curl --silent --write-out ' %{http_code}\n' "$API/api/v1/ignitors/root/bell/calls" --data-binary "$2" \
    --header "Mangrove-Delivery: $1" --header "Mangrove-Timestamp: $now" --header "Mangrove-Signature: v2=$signature"
}

act() {
  ALARM="a secret for bells" RECEIVER_PORT=18431
  RECEIVER=http://127.0.0.1:$RECEIVER_PORT/
  write_actions
  printf '%s' "$ALARM" >"$FOLDER/alarm"
  mangrove secret create alarm --file "$FOLDER/alarm" >/dev/null
  k apply --filename "$FOLDER/actions.yaml" >/dev/null
  k apply --filename "$FOLDER/roof.yaml" --filename "$FOLDER/bell.yaml" --filename "$FOLDER/watchman.yaml" >/dev/null
  expect "a plugin is listed" "$(k get plugins)" "^office +$RECEIVER +alarm"
  k scale service/shop.prod.web.prod --replicas 1 >/dev/null

  expect "who does not know the secret is told nothing" "$(ring one hello "another secret that is long")" 'not_signed.* 401$'
  expect "a call from outside begins a run" "$(ring one hello)" '^\{"outcome":"began","run":"3"\} 202$'
  expect "and does so once" "$(ring one hello)" '"known".* 200$'
  wait_or_show root-orchestrator 120 "the run has ended" run_is 3 Succeeded
  expect "a service was scaled" "$(k get service shop.prod.web.prod --output jsonpath='{.spec.replicas} {.status.replicas}'; k get instances)" \
    'shop\.prod\.web\.prod-1'
  expect "a status was set" "$(k get sensor roof --output jsonpath='{.status.phase}')" '^good$'
  expect "an event was written" "$(k get events --field-selector involvedObject.kind=Task)" 'Normal +Acted +acts +all of it is done'
  expect "what was refused is told" "$(k describe task acts)" 'Warning +ActionRefused .*setStatus was refused.*status\.phase'
  wait_or_show root-orchestrator 120 "the resource that has changed began another run" run_is 4 Succeeded
  expect "which knows of what" "$(logs_of 4-looks-1-0-1)" '^heard .*"event":"resource.changed".*"name":"roof"'
  expect "nobody takes the call" "$(mangrove run graph 3 2>&1)" 'actions of acts: 1 wait, 1 were given up'

  kill -KILL "$(pid_of root-orchestrator)"
  wait_until 5 "the root is gone" has_ended root-orchestrator
  receive
  start_root
  wait_or_show root-orchestrator 60 "the call is taken" is_taken
  expect "under its delivery id, once" "$(grep -c '^3-acts-1-1-4$' "$FOLDER/received")" '^1$'
  [[ $(sed -n 2p "$FOLDER/received" | jq --raw-output '[.plugin, .task, .result, .data, .namespace] | join(" ")') == \
    "office acts success hello root" ]] || fail "the plugin was told otherwise: $(cat "$FOLDER/received")"
  passed "the plugin knows what has ended, and how"
  expect "nothing is done twice" "$(k get runs --output name | wc -l)" '^4$'
  k delete --filename "$FOLDER/bell.yaml" --filename "$FOLDER/watchman.yaml" --filename "$FOLDER/roof.yaml" >/dev/null
  # The service goes with its application.
  k delete --ignore-not-found --filename "$FOLDER/actions.yaml" >/dev/null
}

is_taken() {
  k get run 3 --output yaml
  [[ $(k get run 3 --output jsonpath='{.status.tasks[0].actions.taken}') == 4 ]]
}

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
  k delete run 1 2 3 4 >/dev/null
  wait_or_show node-engine 60 "the containers of the runs are gone" has_no_containers
  k delete --filename "$FOLDER/tasks.yaml" >/dev/null
  expect "nothing is left" "$(k get tasks,runs 2>&1)" 'No resources found'
}

main "$@"
