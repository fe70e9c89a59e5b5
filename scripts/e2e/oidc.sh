#!/usr/bin/env bash
# Users log in at a real identity provider: with a browser, and with the command line through one. What it says and must
# not be believed is refused, and what it says no more is lost.
set -euo pipefail
# shellcheck source=scripts/e2e/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PROVIDER_PORT=19000
PROVIDER=http://127.0.0.1:$PROVIDER_PORT
OIDC=$API/api/auth/oidc

main() {
  begin oidc
  need_command curl curl
  step "oidc: an identity provider"
  start_provider
  step "oidc: a root that knows it"
  configure_root
  start_root
  mangrove organization create acme
  step "oidc: by a browser"
  log_in_by_browser
  refuse_who_has_no_grant
  refuse_what_was_begun_elsewhere
  step "oidc: what must not be believed"
  refuse_forged_tokens
  believe_rotated_keys
  believe_another_algorithm
  step "oidc: by the command line"
  log_in_by_device
  step "oidc: one login used from several places"
  refresh_at_once
  step "oidc: what the provider says no more"
  lose_what_is_lost
  survive_without_the_provider
}

start_provider() {
  MODULES=$(node_environment oidc-provider oidc-provider@9.13.3)
  require_port identity-provider "$PROVIDER_PORT" "the identity provider"
  users '{"kim": {"groups": ["devs"]}, "max": {"groups": []}}'
  launch_provider
}

launch_provider() {
  NODE_MODULES=$MODULES start identity-provider "$(command -v node)" \
    "$REPOSITORY/scripts/e2e/oidc/provider.mjs" "$PROVIDER_PORT" "$FOLDER"
  wait_or_show identity-provider 20 "the identity provider answers" http "$PROVIDER/.well-known/openid-configuration"
}

clean_up_more() { stop identity-provider; }

# users JSON: who there is at the provider. forge WORD: what is wrong with its ID tokens.
users() { printf '%s\n' "$1" >"$FOLDER/users.json"; }
forge() { printf '%s\n' "$1" >"$FOLDER/forge"; }

configure_root() {
  printf 'a secret with spaces, %% and : in it\n' >"$FOLDER/client-secret"
  export MANGROVE_OIDC_ISSUER=$PROVIDER MANGROVE_OIDC_ALLOW_HTTP=true MANGROVE_OIDC_CLIENT_ID=mangrove \
    MANGROVE_OIDC_CLIENT_SECRET_FILE=$FOLDER/client-secret MANGROVE_OIDC_REDIRECT_URL=$OIDC/callback \
    MANGROVE_OIDC_GRANTS='groups=devs:acme:Application_Provider;groups=leads:acme:Organization_Admin'
}

# browse JAR ARGUMENT...: what a browser would show, and in the last line where it is then.
browse() {
  curl --silent --show-error --location --max-time 20 --cookie "$1" --cookie-jar "$1" --write-out '\n%{url_effective}' \
    "${@:2}"
}
address_of() { printf '%s' "${1##*$'\n'}"; }
body_of() { printf '%s' "${1%$'\n'*}"; }

# prompt JAR PAGE USER: logs in and agrees; the last page.
prompt() {
  local page
  page=$(browse "$1" --data-urlencode "login=$3" --data 'prompt=login&password=x' "$(address_of "$2")")
  browse "$1" --data 'prompt=consent' "$(address_of "$page")"
}

# by_browser USER [QUERY]: what the root answers in the end.
by_browser() {
  local jar page
  jar=$(mktemp --tmpdir="$FOLDER")
  page=$(browse "$jar" "$OIDC/login${2:-}")
  body_of "$(prompt "$jar" "$page" "$1")"
}

# ask TOKEN METHOD PATH: the status, and the body in the next line.
ask() {
  curl --silent --show-error --max-time 30 --request "$2" --header "Authorization: Bearer $1" \
    --write-out '\n%{http_code}\n' "$API$3" | tac
}

may() { ask "$1" GET "/api/auth/can-i?verb=$2&resource=$3" | sed -n 2p | jq .allowed; }

log_in_by_browser() {
  local pair
  pair=$(by_browser kim)
  ACCESS=$(jq --raw-output .token <<<"$pair")
  expect "kim has the tokens of this root" "$(may "$ACCESS" create application)" '^true$'
  expect "and the rights of the grant alone" "$(may "$ACCESS" get user)$(may "$ACCESS" create organization)" '^falsefalse$'
  pair=$(by_browser kim '?organization_name=root')
  expect "not in an organisation without a grant" "$(jq --raw-output .error <<<"$pair")" '^no_grant$'
  expect "kim is a user now" "$(mangrove user list)" '^kim '
  expect "without a password" "$(MANGROVE_PASSWORD='' mangrove login --username kim 2>&1 || true)" 'does not let'
  mangrove user reset-password kim >"$LOG_DIR/reset.log" 2>&1 && fail "kim was given a password here"
  expect "nor with one that is set here" "$(cat "$LOG_DIR/reset.log")" 'logs in at the identity provider'
  log_in
}

refuse_who_has_no_grant() {
  expect "max has no grant and is told so" "$(by_browser max | jq --raw-output .error)" '^no_grant$'
  expect "and is no user" "$(mangrove user list | grep -c '^max ' || true)" '^0$'
}

refuse_what_was_begun_elsewhere() {
  local jar page code state other
  jar=$(mktemp --tmpdir="$FOLDER") other=$(mktemp --tmpdir="$FOLDER")
  page=$(browse "$jar" "$OIDC/login")
  page=$(browse "$jar" --data 'prompt=login&login=kim&password=x' "$(address_of "$page")")
  # Stopped right before it comes back.
  page=$(curl --silent --max-time 20 --cookie "$jar" --cookie-jar "$jar" --data prompt=consent --output /dev/null \
    --write-out '%{redirect_url}' "$(address_of "$page")")
  page=$(curl --silent --max-time 20 --cookie "$jar" --cookie-jar "$jar" --output /dev/null \
    --write-out '%{redirect_url}' "$page")
  code=$(sed -nE 's/.*[?&]code=([^&]*).*/\1/p' <<<"$page")
  state=$(sed -nE 's/.*[?&]state=([^&]*).*/\1/p' <<<"$page")
  [[ -n $code && -n $state ]] || fail "the provider sends nobody back: $page"
  expect "without the cookie of the browser" "$(body_of "$(browse "$other" "$page")" | jq --raw-output .error)" '^login_not_begun$'
  browse "$other" --output /dev/null "$OIDC/login" >/dev/null || true
  expect "with that of another login" "$(body_of "$(browse "$other" "$page")" | jq --raw-output .error)" '^login_not_begun$'
  expect "with another state" \
    "$(body_of "$(browse "$jar" "$OIDC/callback?code=$code&state=x$state")" | jq --raw-output .error)" '^login_not_begun$'
  expect "the right one" "$(body_of "$(browse "$jar" "$page")" | jq --raw-output .refresh_token)" '\..*\.'
  browse "$jar" "$OIDC/login" >/dev/null || true
  expect "and not twice" "$(body_of "$(browse "$jar" "$page")" | jq --raw-output .error)" '^login_not_begun$'
}

refuse_forged_tokens() {
  local word answer
  for word in audience party issuer expired old future nonce stranger none hs256; do
    forge "$word"
    answer=$(by_browser kim)
    expect "$word: $(jq --raw-output .message <<<"$answer")" "$(jq --raw-output .error <<<"$answer")" '^invalid_id_token$'
  done
  forge ''
}

believes() {
  local answer
  answer=$(by_browser kim | jq --raw-output '.error // "let in"')
  printf '%s\n' "$answer"
  [[ $answer == 'let in' ]]
}

believe_rotated_keys() {
  kill -USR1 "$(pid_of identity-provider)"
  # Keys are fetched at most once in ten seconds.
  wait_or_show root-orchestrator 20 "a new key is believed" believes
  forge withdrawn
  expect "one that is published no more is not" "$(by_browser kim | jq --raw-output .error)" '^invalid_id_token$'
  forge ''
}

believe_another_algorithm() {
  local word
  kill -USR2 "$(pid_of identity-provider)"
  wait_or_show root-orchestrator 20 "a key for EdDSA is believed" believes
  for word in audience withdrawn stranger; do
    forge "$word"
    expect "and not with it: $word" "$(by_browser kim | jq --raw-output .error)" '^invalid_id_token$'
  done
  forge ''
}

# The command line of kim.
kims() { XDG_CONFIG_HOME=$FOLDER/kim "$(program mangrove)" --root "$API" "$@"; }

says_where_to_go() { grep --only-matching --extended-regexp 'http[^ ]*user_code=[^ ]*' "$FOLDER/device"; }

log_in_by_device() {
  local jar page address form waiting
  jar=$(mktemp --tmpdir="$FOLDER")
  kims login --oidc --organization acme >"$FOLDER/device" 2>&1 &
  waiting=$!
  wait_until 10 "it says where to go" says_where_to_go || fail "$(cat "$FOLDER/device")"
  address=$(says_where_to_go)
  page=$(body_of "$(browse "$jar" "$address")")
  form=$(sed -nE 's/.*name="xsrf" value="([^"]*)".*/\1/p' <<<"$page")
  page=$(browse "$jar" --data "xsrf=$form&confirm=yes&user_code=${address##*=}" "$PROVIDER/device")
  expect "the browser is done" "$(prompt "$jar" "$page" kim)" 'Sign-in Success'
  wait "$waiting" || fail "$(cat "$FOLDER/device")"
  expect "the command line is logged in" "$(cat "$FOLDER/device")" "^logged in to $API as kim$"
  expect "and may what kim may" "$(kims auth can-i create application)" '^yes'
}

refreshed() { ask "$REFRESH" POST /api/auth/refresh; }

# The provider gives out each refresh token once, and ends a login of which it sees one again.
refresh_at_once() {
  local answer number asking=()
  # The provider with the new key knows nothing of logins from before.
  answer=$(by_browser kim)
  ACCESS=$(jq --raw-output .token <<<"$answer") REFRESH=$(jq --raw-output .refresh_token <<<"$answer")
  for number in {1..8}; do
    refreshed >"$FOLDER/refreshed-$number" &
    asking+=("$!")
  done
  wait "${asking[@]}"
  expect "eight at once with one login are all answered" \
    "$(head --quiet --lines 1 "$FOLDER"/refreshed-* | sort --unique | tr '\n' ' ')" '^200 $'
  expect "and it goes on" "$(refreshed | head -n 1)" '^200$'
}

lose_what_is_lost() {
  local answer
  users '{"kim": {"groups": ["leads"]}}'
  expect "another group is known at the next refresh" \
    "$(may "$(refreshed | sed -n 2p | jq --raw-output .token)" create application)" '^false$'
  expect "and counts for tokens from before" "$(may "$ACCESS" create application)$(may "$ACCESS" get user)" '^falsetrue$'
  stop root-orchestrator
  launch_root
  wait_or_show root-orchestrator 30 "the API answers at $API" root_answers
  expect "a login outlives a restart of the root" "$(refreshed | head -n 1)" '^200$'
  users '{"kim": {"groups": []}}'
  expect "who lost all groups has no login" "$(refreshed | head -n 1)" '^401$'
  users '{"kim": {"groups": ["devs"]}}'
  answer=$(by_browser kim)
  expect "who has one again logs in again" "$(jq --raw-output '.error // "let in"' <<<"$answer")" '^let in$'
  ACCESS=$(jq --raw-output .token <<<"$answer") REFRESH=$(jq --raw-output .refresh_token <<<"$answer")
  users '{}'
  expect "who is removed gets no new token" "$(refreshed | head -n 1)" '^401$'
  expect "and the last one is good no more" "$(ask "$ACCESS" GET /api/applications | head -n 1)" '^401$'
}

survive_without_the_provider() {
  users '{"kim": {"groups": ["devs"]}}'
  REFRESH=$(by_browser kim | jq --raw-output .refresh_token)
  stop identity-provider
  expect "nobody is confirmed by a provider that is away" "$(refreshed | head -n 1)" '^502$'
  log_in
  passed "the administrator, who logs in here, still can"
  launch_provider
  # It keeps nothing over a restart: the login is not known to it any more.
  expect "the provider is asked again" "$(refreshed | head -n 1)" '^401$'
  REFRESH=$(by_browser kim | jq --raw-output .refresh_token)
  stop root-orchestrator
  MANGROVE_OIDC_ISSUER=http://localhost:$PROVIDER_PORT launch_root
  wait_or_show root-orchestrator 30 "the API answers at $API" root_answers
  expect "another provider is not asked about who logged in at this one" "$(refreshed | head -n 1)" '^401$'
}

main "$@"
