#!/usr/bin/env bash
# Workflows on real containers, from start to end: ORCA's files as they are, failures, joins, retries over a root that is killed,
# schedules, circles, what tasks write, where they run, and a service that is set back because it broke. With --slow also
# what takes minutes of a clock.
# Variables in single quotes are for the shells in containers.
# shellcheck disable=SC2016
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/lib/kubectl.sh
source "$LIBRARY/kubectl.sh"
# shellcheck source=scripts/lib/tasks.sh
source "$LIBRARY/tasks.sh"

E2E=$(dirname "${BASH_SOURCE[0]}")

main() {
  begin tasks
  need_command openssl openssl
  need_command busybox busybox-static
  ensure_kubectl
  API=https://127.0.0.1:10000
  make_authority
  export MANGROVE_API_CERTIFICATE=$FOLDER/api.pem MANGROVE_API_KEY=$FOLDER/api.key
  # A plugin is on this machine.
  export MANGROVE_HOOK_ALLOW=127.0.0.1/32
  start_stack
  make_shell_image
  SINCE=$(date +%s)
  export KUBECONFIG=$FOLDER/kubeconfig
  mkdir "$FOLDER/home"
  mangrove kubeconfig >"$KUBECONFIG" 2>/dev/null

  step "tasks: files of ORCA as they are"
  orca
  step "tasks: every failure counts, whatever its code"
  fail_twice
  step "tasks: both are waited for, in each run"
  join_two
  step "tasks: tried again, by a root that is killed while it waits"
  try_again
  step "tasks: dates, circles, and names that are not there"
  odd_ones
  step "tasks: what is written decides what follows"
  write_output
  step "tasks: what is written while others are away"
  write_while_away
  step "tasks: what they run, and where"
  entry_points
  place
  step "tasks: what breaks is set back without anybody"
  set_back
  step "tasks: an addon that is degraded is set back by its manager"
  set_addon_back
  if [[ ${1:-} == --slow ]]; then
    step "tasks: each minute, with a root that is away for five"
    catch_up
    step "tasks: each minute, with a task of ninety seconds"
    overlap
  fi
}

# In the shape of the examples that ORCA's README has, with fields that are there and empty.
orca() {
  apply <<'YAML'
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata:
  name: task1
spec:
  description: The first of two, which begins again when it fails

  startOnIgnition:
    - ignitor1
  startOnSuccess:
  startOnFailure:
    - task1

  successActions:
  failureActions:
    - NOT-THERE

  template:
    metadata:
      labels:
        app: task1
    spec:
      containers:
      - name: containerName1
        image: IMAGE
        command: ["/bin/busybox", "sh", "-c", "echo by $ORCA_INITIATOR with $ORCA_DATA; echo -n from task1 >/dev/termination-log"]
      restartPolicy: Never
---
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata:
  name: task2
spec:
  description: The second
  startOnIgnition:
  startOnSuccess:
    - task1
  startOnFailure:

  successActions:
  failureActions:
  template:
    spec:
      containers:
      - name: containerName2
        image: IMAGE
        command: ["/bin/busybox", "sh", "-c", "echo by $ORCA_INITIATOR with $ORCA_DATA"]
      restartPolicy: Never
YAML
  apply <<'YAML'
apiVersion: sirocco.cloud/v1alpha1
kind: Ignitor
metadata:
  name: ignitor1
spec:
  description: Begins at once
  data: "some data"
  scheduled: "NOW"
YAML
  run_ends 1 Succeeded
  expect "the first task knows who fired, and the data" "$(logs_of 1-task1-1-0-1)" '^by ignitor1 with some data$'
  expect "the second knows the first, and its termination log" "$(logs_of 1-task2-1-0-1)" '^by task1 with from task1$'
  expect "the run shows both" "$(mangrove run graph 1)" 'task1'
  expect "what came after what" "$(mangrove run graph 1)" 'task2.*task1'
  expect "the ignitor is complete, and there still" "$(k get ignitor ignitor1 --output jsonpath='{.status.state}')" '^Completed$'
  local columns
  columns=$(k get tasks)
  expect "the columns are those of ORCA" "$columns" \
    '^NAME +STATE +LASTSUCCESS +LASTFAILURE +FAILURESCOUNT +IGNITORS +ONSUCCESSTASK +ONFAILURETASK'
  expect "they tell when it succeeded, and what starts it" "$columns" '^task1 +Pending +[0-9]+s +<unknown> +0 +ignitor1 +task1 '
  expect "whom it follows" "$columns" '^task2 +Pending +[0-9]+s +<unknown> +0 +task1 '
}

# ORCA knows the exit codes 0 and 1 only.
fail_twice() {
  ignitor blow
  task risky 'startOnIgnition: [blow], failureActions: [{runTask: {name: alarm}}], successActions: [{runTask: {name: party}}]' \
    'exit $ORCA_DATA'
  task follows 'startOnFailure: [risky]' 'true'
  task alarm '' 'true'
  task party '' 'true'
  local run code
  for code in 137 2; do
    run=$(mangrove ignitor fire blow --data "$code")
    run_ends "$run" Succeeded
    expect "exit code $code is followed by the task for failures, and one action" "$(parts_of "$run")" \
      "^alarm Succeeded 0 follows Succeeded 0 risky Failed $code\$"
  done
  expect "they are counted" "$(k get task risky --output jsonpath='{.status.failuresCount}')" '^2$'
}

join_two() {
  ignitor both
  task left 'startOnIgnition: [both]' 'echo -n "$ORCA_DATA" >/dev/termination-log'
  task right 'startOnIgnition: [both]' '/bin/busybox sleep 3; echo -n "$ORCA_DATA" >/dev/termination-log'
  task after 'startOnSuccess: [left, right], join: all' 'echo "given $MANGROVE_INPUTS"'
  local one two
  one=$(mangrove ignitor fire both --data one)
  two=$(mangrove ignitor fire both --data two)
  run_ends "$one" Succeeded
  run_ends "$two" Succeeded
  local run data
  for run in "$one:one" "$two:two"; do
    data=${run#*:} run=${run%:*}
    [[ $(started "$run-after-1-0-1") == 1 && $(started "$run-after-2-0-1") == 0 ]] || fail "the join did not fire once in run $run"
    expect "once in run $run, with both that are its own" "$(logs_of "$run-after-1-0-1")" \
      "^given \\{\"left\":\"$data\",\"right\":\"$data\"\\}\$"
  done
}

# Twice it fails, then it works; the root ends in the second pause.
try_again() {
  ignitor stubborn
  task third 'startOnIgnition: [stubborn], retry: {limit: 3, backoff: {initial: 1s, factor: 2}}' '[ "$MANGROVE_ATTEMPT" = 3 ]'
  local run attempt pauses
  run=$(mangrove ignitor fire stubborn)
  wait_or_show root-orchestrator 60 "the second attempt has ended" is_told "$run" 2
  kill -KILL "$(pid_of root-orchestrator)"
  wait_until 5 "the root is gone" has_ended root-orchestrator
  start_root
  run_ends "$run" Succeeded
  for attempt in 1 2 3; do
    [[ $(started "$run-third-1-0-$attempt") == 1 ]] || fail "attempt $attempt was not started once"
  done
  [[ $(started "$run-third-1-0-4") == 0 ]] || fail "there was a fourth attempt"
  passed "three attempts, each started once"
  pauses="$(pause_before "$run-third-1-0" 2) $(pause_before "$run-third-1-0" 3)"
  # What is between an end and the next start beside the pause: the reports, the container, and once a root that starts.
  jq --exit-status --null-input --argjson pauses "[${pauses/ /,}]" \
    '($pauses[0] >= 1 and $pauses[0] < 4) and ($pauses[1] >= 2 and $pauses[1] < 30)' >/dev/null ||
    fail "the pauses were not about 1 s and at least 2 s, but $pauses"
  passed "the second a second after the first, the third two after the second: $pauses"
}

odd_ones() {
  local past
  past=$(date --utc --date '10 minutes ago' +%Y-%m-%dT%H:%M:%SZ)
  expect "a date that is past is refused by its path" "$(refused_ignitor late "scheduled: \"$past\"")" 'spec\.scheduled.*is past'
  ignitor late "scheduled: \"$past\", catchUp: {policy: one, window: 1h}"
  task punctual 'startOnIgnition: [late]' 'true'
  wait_or_show root-orchestrator 60 "it is made up for" fired late 1
  passed "unless it is to be made up for: then it fires once"
  berlin
  local warned
  warned=$(task lonely 'startOnSuccess: [nobody], startOnFailure: [lonely]' 'true' --dry-run=server)
  expect "an unknown name is warned of before it is written" "$warned" 'Warning: .*there is no task .nobody. yet'
  task lonely 'startOnSuccess: [nobody]' 'true'
  expect "and accepted, with a condition" "$(k get task lonely --output jsonpath='{.status.conditions[0]}')" \
    '"status":"False".*|there is no task .nobody. yet'
  ignitor spin
  task circle 'startOnIgnition: [spin], startOnSuccess: [circle], maxHops: 5' 'true'
  local run
  run=$(mangrove ignitor fire spin)
  run_ends "$run" Failed
  expect "a circle ends" "$(k get run "$run" --output jsonpath='{.status.reason} {.status.tasks[*].round}')" '^MaxHops 1 2 3 4 5$'
}

# Nights on which clocks are changed. 02:30 is there once on the day before, never in spring, and twice in autumn.
berlin() {
  local year spring autumn
  year=$(($(date +%Y) + 1))
  spring=$(last_sunday "$year" 03) autumn=$(last_sunday "$year" 10)
  at_half_past_two "$((spring - 1)) 3" "$year-03-$((spring - 1))T01:30:00Z"
  at_half_past_two "$spring 3" "$year-03-${spring}T01:00:00Z"
  at_half_past_two "$autumn 10" "$year-10-${autumn}T00:30:00Z"
  passed "02:30 in Berlin is right on the days on which clocks are changed"
}

# at_half_past_two DAY-AND-MONTH EXPECTED
at_half_past_two() {
  ignitor dst "scheduled: \"30 2 $1 *\", timeZone: Europe/Berlin, suspend: false"
  [[ $(mangrove ignitor next dst | grep -c Z) == 5 ]] || fail "not five times are told: $(mangrove ignitor next dst)"
  mangrove ignitor next dst | grep -qF "$2" || fail "30 2 $1 * in Berlin is not $2: $(mangrove ignitor next dst)"
}

write_output() {
  ignitor write
  task counts "startOnIgnition: [write], outputs: {schema: {type: object, required: [count], properties: {count: {type: integer},
    names: {type: array, items: {type: string}}}}}" 'echo "$ORCA_DATA" >"$MANGROVE_OUTPUT"'
  expect "items of a task that it does not list are refused" \
    "$(refused_task many 'startOnSuccess: [counts], forEach: {from: others}')" 'spec\.forEach\.from'
  task many 'startOnSuccess: [counts], when: "counts.output.count > 1"' \
    'echo "$MANGROVE_RUN_ID $MANGROVE_TASK $MANGROVE_ATTEMPT"; /bin/busybox cat "$MANGROVE_INPUTS_FILE"'
  task few 'startOnSuccess: [counts], when: "counts.output.count <= 1"' 'true'
  task failed 'startOnFailure: [counts]' 'true'
  local run
  run=$(mangrove ignitor fire write --data '{"count": 2, "names": ["a", "b"]}')
  run_ends "$run" Succeeded
  expect "a condition asks for it" "$(parts_of "$run")" '^counts Succeeded 0 few Skipped  ?many Succeeded 0$'
  expect "its run, task and attempt are told to a container" "$(logs_of "$run-many-1-0-1")" "^$run many 1\$"
  expect "what was written is given to it" "$(logs_of "$run-many-1-0-1")" '"output":\{"count":2,"names":\["a","b"\]\}'
  fails_for 'not JSON' 'its output is not JSON: '
  fails_for '{"count": "two"}' 'its output is not as it must be: .count.: '
  fails_for '' 'its output is not JSON: |it wrote no output'
  task counts 'startOnIgnition: [write]' '/bin/busybox dd if=/dev/zero bs=1024 count=300 2>/dev/null >"$MANGROVE_OUTPUT"'
  fails_for x 'its output has 307200 bytes; it may have 262144'
  task counts 'startOnIgnition: [write]' 'echo "[\"a\", \"b\", \"c\"]" >"$MANGROVE_OUTPUT"'
  task many 'startOnSuccess: [counts], forEach: {from: counts}' 'echo "item $MANGROVE_ITEM"; echo "$MANGROVE_ITEM" >"$MANGROVE_OUTPUT"'
  task few 'startOnSuccess: [many], when: "many.output[\"2\"] == \"c\""' '/bin/busybox cat "$MANGROVE_INPUTS_FILE"'
  run=$(mangrove ignitor fire write)
  run_ends "$run" Succeeded
  expect "items come from it, one container each" "$(logs_of "$run-many-1-2-1")" '^item "c"$'
  expect "and all they wrote is given on" "$(logs_of "$run-few-1-0-1")" '"output":\["a","b","c"\]'
}

# fails_for DATA DETAIL: `counts` fails with that detail, and what waits for that runs.
fails_for() {
  local run
  run=$(mangrove ignitor fire write --data "$1")
  run_ends "$run" Succeeded
  expect "an output of no use is a failure that says why" "$(detail_of "$run" counts)" "$2"
  expect "and is followed by the task for failures" "$(parts_of "$run")" 'counts Failed 0 failed Succeeded 0'
}

# It ends while the cluster is away and NodeEngine is killed after that; then while the root is away.
write_while_away() {
  ignitor away
  task writes 'startOnIgnition: [away]' '/bin/busybox sleep 4; echo "{\"kept\": true}" >"$MANGROVE_OUTPUT"'
  task reads 'startOnSuccess: [writes], when: writes.output.kept' 'true'
  local run who
  run=$(mangrove ignitor fire away)
  wait_or_show node-engine 60 "it runs" runs_now "$run-writes-1-0-1"
  stop cluster-orchestrator
  wait_or_show node-engine 30 "it has ended" runs_no_more "$run-writes-1-0-1"
  for who in node-engine net-manager; do
    kill -KILL "$(pid_of "$who")"
    wait_until 5 "$who is gone" has_ended "$who"
  done
  launch_worker
  launch_cluster
  run_ends "$run" Succeeded
  expect "what a worker that was cut off and killed has written is not lost" "$(parts_of "$run")" '^reads Succeeded 0 writes Succeeded 0$'
  run=$(mangrove ignitor fire away)
  wait_or_show node-engine 60 "it runs" runs_now "$run-writes-1-0-1"
  kill -KILL "$(pid_of root-orchestrator)"
  wait_or_show node-engine 30 "it has ended" runs_no_more "$run-writes-1-0-1"
  start_root
  run_ends "$run" Succeeded
  expect "nor what was written while the root was away" "$(parts_of "$run")" '^reads Succeeded 0 writes Succeeded 0$'
}

entry_points() {
  ignitor begins
  says 'args: [print, by its entry point]' 'by its entry point'
  says 'command: [/hello, print, in place of it]' 'in place of it'
}

# says FIELDS WORDS: a task of an image that has an entry point.
says() {
  local run
  apply <<YAML >/dev/null
apiVersion: sirocco.cloud/v1alpha1
kind: Task
metadata: {name: says}
spec: {startOnIgnition: [begins], template: {spec: {containers: [{name: only, image: "$HELLO_IMAGE", $1}]}}}
YAML
  run=$(mangrove ignitor fire begins)
  run_ends "$run" Succeeded
  expect "a task runs $2" "$(logs_of "$run-says-1-0-1")" "^$2\$"
}

place() {
  ignitor placed
  local refusal
  refusal=$(refused_task nowhere 'startOnIgnition: [placed], placement: {constraints: [{type: near}]}')
  expect "a place that is not understood is refused by its path" "$refusal" 'spec\.placement\.constraints\[0\]\.type'
  task here "startOnIgnition: [placed], placement: {constraints: [{type: clusters, allowed: [$CLUSTER]}], arch: [$(architecture)]}" 'true'
  task nowhere 'startOnIgnition: [placed], timeout: 5s, placement: {constraints: [{type: direct, cluster: elsewhere}]}' 'true'
  local run
  run=$(mangrove ignitor fire placed)
  wait_or_show root-orchestrator 60 "one runs" part_is "$run" here Succeeded
  expect "the run tells why one does not" "$(mangrove run graph "$run")" '^nowhere +Running .*NoTargetCluster: .*default: not among the names'
  wait_or_show root-orchestrator 60 "it ends in time" part_is "$run" nowhere TimedOut
  [[ $(started "$run-nowhere-1-0-1") == 0 ]] || fail "it runs where it must not"
  passed "a task runs where it may, and nowhere else"
}

# A service is changed to one that does not stay up, and says that it shall not be taken back by itself.
set_back() {
  local good='>/ready; /bin/busybox sleep 600'
  serve "$good"
  wait_or_show root-orchestrator 60 "the service runs" is_served "$good"
  ignitor guard '"on": [{event: service.rolloutStalled, kind: Service, name: shop.test.web.test}]'
  task undo 'startOnIgnition: [guard], successActions: [{rollbackService: {name: shop.test.web.test}}]' 'echo "heard $ORCA_DATA"'
  serve 'exit 3'
  wait_or_show root-orchestrator 60 "what breaks begins a run" fired guard 1
  local run
  run=$(k get runs --field-selector spec.ignitor=guard --output jsonpath='{.items[0].metadata.name}')
  run_ends "$run" Succeeded
  wait_or_show root-orchestrator 60 "the service is what it was" is_served "$good"
  expect "the run says because of what" "$(k get run "$run" --output jsonpath='{.status.cause}')" \
    '"event":"service\.rolloutStalled".*"name":"shop\.test\.web\.test"'
  expect "as the task was told" "$(logs_of "$run-undo-1-0-1")" '^heard .*service\.rolloutStalled'
  expect "and so does the record of what was done" "$(mangrove audit export |
    jq --raw-output 'select(.action | startswith("action ")) | [.action, .actor.kind, .parameters.run, .parameters.event, .parameters.about] | join(" ")')" \
    "^action rollbackService of a task root $run service\.rolloutStalled shop\.test\.web\.test$"
  fired guard 1 >/dev/null || fail "what was set back began another run"
  k delete ignitor guard >/dev/null
  k delete application shop.test >/dev/null
}

# serve SCRIPT: a service with one instance that runs it.
serve() {
  apply <<YAML >/dev/null
apiVersion: mangrove.io/v1
kind: Application
metadata: {name: shop.test}
---
apiVersion: mangrove.io/v1
kind: Service
metadata: {name: shop.test.web.test}
spec:
  virtualization: container
  code: IMAGE
  cmd: [/bin/busybox, sh, -c, "$1"]
  memory: 16
  health: {ready: {exec: [/bin/busybox, test, -e, /ready]}}
  update: {ready_within: 3s, rollback: false}
YAML
  k scale service/shop.test.web.test --replicas 1 >/dev/null
}

# is_served SCRIPT: it is what the service is to be, and its one instance runs it. While a change is stalled the instance
# before it runs on, so that alone says nothing.
is_served() {
  k get service shop.test.web.test --output yaml
  [[ $(k get service shop.test.web.test --output json | jq --raw-output '[.status.instances, .status.ready, .spec.cmd[-1]] | join(" ")') == "1 1 $1" ]] &&
    docker ps --filter label=mangrove.instance --filter name=shop.test.web --no-trunc --format '{{.Command}}' | grep --fixed-strings "$1"
}

# Addons are a kind of its own, with a manager that is also the plugin that sets one back. All that is done to an addon here is to
# ask for a version of it that does not stay up.
set_addon_back() {
  local good='>/ready; /bin/busybox sleep 601' port=18432 run
  k apply --filename "$E2E/addons/addons.yaml" >/dev/null
  mangrove kubeconfig --name addon-manager --scope Application_Provider 2>/dev/null >"$FOLDER/manager.kubeconfig"
  TOKEN=$(KUBECONFIG=$FOLDER/manager.kubeconfig k config view --raw --output jsonpath='{.users[0].user.token}') \
    python3 "$E2E/addons/manager.py" "$API" root "$port" >"$LOG_DIR/addon-manager.log" 2>&1 &
  MANAGER_PID=$!
  serve "$good"
  apply <<YAML >/dev/null
apiVersion: platform.example/v1
kind: Addon
metadata: {name: shop}
spec:
  service: shop.test.web.test
  version: 1.0.0
  versions:
    1.0.0: [/bin/busybox, sh, -c, "$good"]
    1.1.0: [/bin/busybox, sh, -c, "exit 3"]
---
apiVersion: sirocco.cloud/v1alpha1
kind: Plugin
metadata: {name: addon-rollback}
spec: {url: "http://127.0.0.1:$port/"}
YAML
  wait_or_show root-orchestrator 60 "the addon is available" addon_is 1.0.0 Available
  ignitor watchman '"on": [{event: resource.changed, kind: Addon, labels: {health: degraded}}]'
  task heal 'startOnIgnition: [watchman], successActions: [{plugin: {name: addon-rollback, with: {addon: shop}}}]' 'echo "heard $ORCA_DATA"'
  k patch addon shop --type merge --patch '{"spec": {"version": "1.1.0"}}' >/dev/null
  wait_or_show root-orchestrator 60 "the addon is degraded, which begins a run" fired watchman 1
  run=$(k get runs --field-selector spec.ignitor=watchman --output jsonpath='{.items[0].metadata.name}')
  run_ends "$run" Succeeded
  wait_or_show root-orchestrator 60 "the addon is what it was" addon_is 1.0.0 Available
  wait_or_show root-orchestrator 60 "and so is its service" is_served "$good"
  expect "the run says because of which addon" "$(k get run "$run" --output jsonpath='{.status.cause}')" \
    '"event":"resource\.changed".*"name":"shop"'
  expect "the record of what its manager changed leads to the run" "$(mangrove audit export |
    jq --raw-output --arg request "$run-heal-1-1-0" 'select(.request == $request) | [.action, .actor.api_token, .result] | join(" ")')" \
    '^PATCH .*/\{plural\}/\{name\} [0-9a-f-]{36} done$'
  fired watchman 1 >/dev/null || fail "what was set back began another run"
  kill "$MANAGER_PID"
  k delete application shop.test >/dev/null
  k delete --filename "$E2E/addons/addons.yaml" >/dev/null
}

clean_up_more() { [[ -z ${MANAGER_PID:-} ]] || kill "$MANAGER_PID" 2>/dev/null; }

# addon_is VERSION PHASE
addon_is() {
  k get addons 2>&1
  [[ $(k get addon shop --output jsonpath='{.spec.version} {.status.phase} {.metadata.labels.health}') == "$1 $2 ${2,,}" ]]
}

# Five minutes without a root are one firing that is made up for.
catch_up() {
  task minutely 'startOnIgnition: [clock]' 'true'
  ignitor clock 'scheduled: "* * * * *", timeZone: Europe/Berlin, catchUp: {policy: one, window: 1h}'
  wait_or_show root-orchestrator 90 "it fires by the clock" fired clock 1
  stop root-orchestrator
  # Back in the middle of a minute: the next firing by the clock is none that is made up for.
  sleep 300
  wait_until 60 "it is the middle of a minute" is_middle_of_a_minute
  start_root
  wait_or_show root-orchestrator 20 "what was missed is made up for" fired clock 2
  [[ $(k get ignitor clock --output jsonpath='{.status.missed}') -ge 3 ]] || fail "what was missed is not counted"
  passed "of five times that were missed one is made up for, and the others are counted"
  k delete ignitor clock >/dev/null
}

is_middle_of_a_minute() { [[ $(date +%S) == [12]? ]]; }

overlap() {
  task lasting 'startOnIgnition: [often]' '/bin/busybox sleep 90'
  ignitor often 'scheduled: "* * * * *", overlap: skip'
  wait_or_show root-orchestrator 90 "it fires by the clock" fired often 1
  wait_or_show root-orchestrator 120 "it is skipped while its run is in progress" skipped often
  wait_or_show root-orchestrator 120 "it fires again" fired often 2
  passed "a firing during a run is skipped and counted"
  k delete ignitor often >/dev/null
}

main "$@"
