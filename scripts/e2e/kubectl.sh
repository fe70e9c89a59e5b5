#!/usr/bin/env bash
# The real kubectl, unmodified, against a root: a kind is defined, and its objects go through all that users do with them.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/lib/kubectl.sh
source "$LIBRARY/kubectl.sh"

main() {
  begin kubectl
  need_command openssl openssl
  need_command diff diffutils
  ensure_kubectl
  step "kubectl: a root"
  API=https://127.0.0.1:10000
  make_authority
  MANGROVE_API_CERTIFICATE=$FOLDER/api.pem MANGROVE_API_KEY=$FOLDER/api.key start_root
  export KUBECONFIG=$FOLDER/kubeconfig
  mkdir "$FOLDER/home"
  mangrove kubeconfig >"$KUBECONFIG" 2>/dev/null
  write_manifests

  step "kubectl: a kind of one's own"
  define
  step "kubectl: objects"
  use_objects
  step "kubectl: applications and services"
  use_services
  step "kubectl: watching"
  watch_objects
  step "kubectl: applying at the server"
  apply_at_the_server
  step "kubectl: going"
  let_go
  step "kubectl: who may do what"
  ask_what_is_allowed
}

write_manifests() {
  cat >"$FOLDER/definition.yaml" <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Color, type: string, jsonPath: .spec.color, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A thing of a size.
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How large it is.}
              color: {type: string, default: green}
          status:
            type: object
            properties:
              phase: {type: string}
YAML
  widget one 3 >"$FOLDER/one.yaml"
  widget two 2 >"$FOLDER/two.yaml"
}

# widget NAME SIZE [MORE OF THE METADATA]
widget() {
  printf 'apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: %s%s}\nspec: {size: %s}\n' "$1" "${3:+, $3}" "$2"
}

define() {
  expect "it is created by apply" "$(k apply --filename "$FOLDER/definition.yaml")" 'widgets\.example\.com created'
  k wait --for condition=established --timeout 10s crd/widgets.example.com >/dev/null
  passed "wait sees that it is in force"
  expect "it is among the kinds there are" "$(k api-resources)" '^widgets +wd +example\.com/v1 +true +Widget$'
  expect "explain shows what it says" "$(k explain widgets.spec.size)" 'How large it is\.'
  expect "and what is built in" "$(k explain crd.spec.names)" 'How the kind is called\.'
  expect "down to the last field" "$(k explain tasks.spec.retry.backoff.factor)" 'FIELD: factor <integer>'
  expect "and of what the root writes" "$(k explain runs.status.tasks.exitCode)" 'FIELD: exitCode <integer>'
  expect "a server is named" "$(k version)" '^Server Version: v1\.32\.'
}

use_objects() {
  local shown
  expect "create" "$(k create --filename "$FOLDER/one.yaml")" 'widget.example.com/one created'
  expect "not twice" "$(refused create --filename "$FOLDER/one.yaml")" '"one" already exists'
  widget bad 0 >"$FOLDER/bad.yaml"
  expect "what is wrong is named" "$(refused create --filename "$FOLDER/bad.yaml")" 'spec\.size: it must be at least 1'
  widget bad '1, colour: red' >"$FOLDER/bad.yaml"
  expect "and what is unknown" "$(refused create --filename "$FOLDER/bad.yaml")" 'unknown field "spec\.colour"'
  expect "apply" "$(k apply --filename "$FOLDER/two.yaml")" 'two created'
  expect "apply again" "$(k apply --filename "$FOLDER/two.yaml")" 'two unchanged'
  expect "get" "$(k get widgets)" '^one +3 +[0-9]+s$'
  expect "get, wide" "$(k get wd --output wide)" '^NAME +SIZE +COLOR +AGE$'
  expect "get as YAML" "$(k get widget one --output yaml)" '^  color: green$'
  [[ $(k get widgets --output json | jq --compact-output '[.items[].metadata.name]') == '["one","two"]' ]] ||
    fail "get as JSON shows other widgets"
  [[ $(k get widget one --output jsonpath='{.spec.size} {.metadata.generation}') == '3 1' ]] ||
    fail "get by jsonpath shows something else"
  passed "get as JSON, and by jsonpath"
  expect "describe" "$(k describe widget one)" '^  Size: +3$'
  k label widget one tier=web >/dev/null
  expect "label, and get by it" "$(k get widgets --selector tier=web --output name)" '^widget\.example\.com/one$'
  k annotate widget one note=seen >/dev/null
  [[ $(k get widget one --output jsonpath='{.metadata.annotations.note}') == seen ]] || fail "the annotation is lost"
  passed "annotate"
  expect "get by a field" "$(k get widgets --field-selector metadata.name=two --output name)" '^widget\.example\.com/two$'
  [[ $(k get widgets --chunk-size 1 --output name | wc -l) == 2 ]] || fail "a list in chunks is another"
  passed "get in chunks"
  k patch widget one --type merge --patch '{"spec": {"size": 4}}' >/dev/null
  k patch widget one --type json --patch '[{"op": "test", "path": "/spec/size", "value": 4}, {"op": "replace", "path": "/spec/size", "value": 5}]' >/dev/null
  k patch widget one --patch '{"spec": {"color": "red"}}' >/dev/null
  k patch widget one --subresource status --type merge --patch '{"status": {"phase": "Ready"}, "spec": {"size": 9}}' >/dev/null
  shown=$(k get widget one --output jsonpath='{.spec.size} {.spec.color} {.status.phase} {.metadata.generation}')
  [[ $shown == '5 red Ready 4' ]] || fail "patches came to: $shown"
  passed "patch, in three types, and of the status alone"
  k wait --for jsonpath='{.status.phase}'=Ready --timeout 10s widget/one >/dev/null
  passed "wait for a field"
  expect "edit" "$(KUBE_EDITOR='sed -i s/size:.2/size:\ 8/' k edit widget two)" 'two edited'
  widget two 6 >"$FOLDER/two.yaml"
  expect "diff" "$(k diff --filename "$FOLDER/two.yaml" || true)" '^\+  size: 6$'
  expect "a dry run" "$(k apply --dry-run=server --filename "$FOLDER/two.yaml")" 'configured \(server dry run\)'
  [[ $(k get widget two --output jsonpath='{.spec.size}') == 8 ]] || fail "the dry run has changed something"
  expect "replace" "$(k replace --filename "$FOLDER/two.yaml")" 'two replaced'
}

# service CODE [MORE OF THE METADATA]
service() {
  cat <<YAML
apiVersion: mangrove.io/v1
kind: Application
metadata: {name: shop.test}
spec: {description: Sells things.}
---
apiVersion: mangrove.io/v1
kind: Service
metadata: {name: shop.test.hello.test${2:+, $2}}
spec: {virtualization: container, code: "$1", memory: 32}
YAML
}

use_services() {
  local file=$FOLDER/shop.yaml one=services/shop.test.hello.test
  service mangrove/hello:1 >"$file"
  expect "apply makes both" "$(k apply --filename "$file")" '^service\.mangrove\.io/shop\.test\.hello\.test created$'
  expect "apply again" "$(k apply --filename "$file")" 'hello\.test unchanged$'
  expect "the other API has it" "$(mangrove get services)" 'hello'
  expect "create, not twice" "$(refused create --filename "$file")" '"shop\.test\.hello\.test" already exists'
  sed s/memory:/memry:/ "$file" >"$FOLDER/bad.yaml"
  expect "what is wrong is named" "$(refused apply --filename "$FOLDER/bad.yaml")" 'spec\.memry: is an unknown field; did you mean .memory.'
  k label "$one" tier=web >/dev/null
  k annotate "$one" note=seen >/dev/null
  expect "label, annotate, and get by it" "$(k get services --selector tier=web --output jsonpath='{.items[*].metadata.annotations.note}')" '^seen$'
  k patch "$one" --type merge --patch '{"spec": {"memory": 40}}' >/dev/null
  k patch "$one" --type json --patch '[{"op": "replace", "path": "/spec/memory", "value": 41}]' >/dev/null
  k patch "$one" --patch '{"spec": {"vcpus": 1}}' >/dev/null
  k wait --for jsonpath='{.status.revision}'=4 --timeout 10s "$one" >/dev/null
  passed "patch, and wait for the revision"
  expect "edit" "$(KUBE_EDITOR='sed -i s/memory:.41/memory:\ 42/' k edit "$one")" 'edited'
  service mangrove/hello:2 >"$file"
  expect "diff" "$(k diff --filename "$file" || true)" '^\+  code: mangrove/hello:2$'
  expect "a dry run" "$(k apply --dry-run=server --filename "$file")" 'hello\.test configured \(server dry run\)$'
  expect "an update" "$(k apply --filename "$file")" 'hello\.test configured$'
  [[ $(k get "$one" --output jsonpath='{.spec.code} {.spec.memory} {.metadata.labels.tier}') == 'mangrove/hello:2 32 web' ]] ||
    fail "the service is something else"
  service mangrove/hello:3 >"$file"
  expect "what another wants otherwise is a conflict" \
    "$(refused apply --server-side --field-manager other --filename "$file")" 'conflict with "kubectl-client-side-apply".*: \.spec\.code'
  expect "apply at the server, by force" \
    "$(k apply --server-side --field-manager other --force-conflicts --filename "$file")" 'hello\.test serverside-applied$'
  expect "scale" "$(k scale "$one" --replicas 2)" 'scaled$'
  k wait --for jsonpath='{.status.instances}'=2 --timeout 10s "$one" >/dev/null
  passed "there are two"
  expect "not of another number than there is" "$(refused scale "$one" --current-replicas 5 --replicas 1)" 'Expected replicas to be 5, was 2'
  expect "describe" "$(k describe "$one")" '^  Code: +mangrove/hello:3$'
  k wait --for jsonpath='{.status.phase}'=TargetClusterNotFound --timeout 10s instances/shop.test.hello.test-0 >/dev/null
  expect "why it does not run is among the events" "$(k get events)" 'Warning +FailedScheduling +shop\.test\.hello\.test-0 '
  expect "and shown by describe" "$(k describe instances shop.test.hello.test-0)" '^ +Warning +FailedScheduling '
  expect "delete" "$(k delete "$one")" 'deleted'
  k delete application shop.test >/dev/null
}

watch_objects() {
  local log=$FOLDER/watch.log
  HOME=$FOLDER/home "$KUBECTL" get widgets --watch --output-watch-events >"$log" 2>&1 &
  WATCHING=$!
  wait_until 10 "the watch shows what there is" grep -q '^ADDED .* two ' "$log"
  widget three 1 >"$FOLDER/three.yaml"
  k create --filename "$FOLDER/three.yaml" >/dev/null
  k label widget three seen=yes >/dev/null
  k delete widget three >/dev/null
  wait_until 10 "the watch shows what happened" grep -q '^DELETED .* three ' "$log"
  expect "in order" "$(awk '$2 == "three" {printf "%s ", $1}' "$log")" '^ADDED MODIFIED DELETED $'
  kill "$WATCHING"
  wait "$WATCHING" 2>/dev/null || true
}

apply_at_the_server() {
  local other
  widget four 1 >"$FOLDER/four.yaml"
  widget four 2 >"$FOLDER/four-too.yaml"
  expect "apply" "$(k apply --server-side --filename "$FOLDER/four.yaml")" 'four serverside-applied'
  other=$(refused apply --server-side --field-manager other --filename "$FOLDER/four-too.yaml")
  expect "what another wants otherwise is a conflict" "$other" 'conflict with "kubectl".*: \.spec\.size'
  k apply --server-side --field-manager other --force-conflicts --filename "$FOLDER/four-too.yaml" >/dev/null
  [[ $(k get widget four --output jsonpath='{.spec.size}') == 2 ]] || fail "force has changed nothing"
  passed "by force it is taken"
  expect "who owns what is shown" "$(k get widget four --output yaml --show-managed-fields)" 'manager: other$'
  expect "what was applied by the client is taken over" \
    "$(k apply --server-side --filename "$FOLDER/two.yaml" --force-conflicts)" 'two serverside-applied'
}

let_go() {
  widget held 1 'finalizers: [example.com/hold]' >"$FOLDER/held.yaml"
  k apply --filename "$FOLDER/held.yaml" >/dev/null
  k delete widget held --wait=false >/dev/null
  expect "an object waits for its finalizers" "$(k get widget held --output yaml)" 'deletionTimestamp:'
  k patch widget held --type json --patch '[{"op": "remove", "path": "/metadata/finalizers"}]' >/dev/null
  k wait --for delete --timeout 10s widget/held >/dev/null
  passed "and goes with the last of them"
  expect "delete" "$(k delete widget one)" '"one" deleted'
  expect "it is gone" "$(refused get widget one)" 'NotFound.*"one" not found'
  expect "a kind is not deleted with its objects by accident" \
    "$(refused delete crd widgets.example.com --cascade=orphan)" 'there are 2 widgets'
  expect "delete with what belongs to it" "$(k delete crd widgets.example.com)" 'deleted'
  expect "the kind is gone" "$(refused get widgets)" 'could not find the requested resource|have a resource type'
}

ask_what_is_allowed() {
  local limited=$FOLDER/limited
  mangrove kubeconfig --name limited --scope get:custom-resource >"$limited" 2>/dev/null
  k apply --filename "$FOLDER/definition.yaml" >/dev/null
  [[ $(k auth can-i create widgets) == yes ]] || fail "an administrator may not create widgets"
  expect "who may not is told why" \
    "$(KUBECONFIG=$limited refused auth can-i create widgets)" '^no - .*not in its scopes'
  expect "and refused" "$(KUBECONFIG=$limited refused create --filename "$FOLDER/one.yaml")" 'Forbidden.*not in its scopes'
  expect "whoami" "$(k auth whoami)" '^Username +Admin$'
  expect "an organisation is a namespace" "$(k create namespace acme)" 'acme created'
  k --namespace acme create --filename "$FOLDER/one.yaml" >/dev/null
  expect "get of all namespaces" "$(k get widgets --all-namespaces)" '^acme +one '
  expect "there is no other" "$(refused --namespace nowhere get widgets)" 'namespaces "nowhere" not found'
  k delete namespace acme >/dev/null
  KUBECONFIG=/dev/null refused --server "$API" --insecure-skip-tls-verify --token wrong get namespaces |
    grep -q 'Unauthorized\|logged in' || fail "a wrong token is not refused"
  passed "a wrong token is refused"
}

clean_up_more() { [[ -z ${WATCHING:-} ]] || kill "$WATCHING" 2>/dev/null; }

main "$@"
