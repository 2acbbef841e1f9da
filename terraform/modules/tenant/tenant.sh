#!/bin/sh
# tenant.sh create|delete, for main.tf. The environment says which tenant and where. Keys go to curl by its standard
# input and never into an argument, a message or the state.
set -eu

fail() {
  echo "$1" >&2
  exit 1
}

key() {
  [ -r "$OPERATOR_KEY_FILE" ] || fail "cannot read operator_key_file $OPERATOR_KEY_FILE: write an operator's key into it"
  text=$(cat "$OPERATOR_KEY_FILE")
  case $text in
  '' | *[!A-Za-z0-9_.-]*) fail "$OPERATOR_KEY_FILE holds no key: it must hold an operator's key and nothing else" ;;
  esac
}

# call METHOD PATH [BODY]: leaves `status` and `answer`. It waits while the platform is busy, for example with the same
# tenant for a run that was killed. All calls made here may be repeated.
call() {
  deadline=$(($(date +%s) + TIMEOUT_S))
  while send "$@"; do
    case $status in
    429 | 503) [ "$(date +%s)" -lt "$deadline" ] || return 0 ;;
    *) return 0 ;;
    esac
    sleep 1
  done
}

send() {
  said=$({
    printf 'header = "Authorization: Bearer %s"\n' "$text"
    printf 'header = "Content-Type: application/json"\n'
    [ -z "$PLATFORM_HOST" ] || printf 'header = "Host: %s"\n' "$PLATFORM_HOST"
  } | curl --config - --silent --show-error --max-time "$TIMEOUT_S" --request "$1" ${3:+--data "$3"} \
    --write-out '\n%{http_code}' "$PLATFORM_URL$2") || fail "$1 $2: no answer from $PLATFORM_URL within $TIMEOUT_S s"
  status=${said##*
}
  answer=${said%
*}
}

refused() {
  fail "$1 answered $status: $(printf %.500s "$answer")"
}

create() {
  call POST /v1/tenants "{\"name\":\"$TENANT\",\"server\":\"$POSTGRES_SERVER\"}"
  case $status in 2??) ;; *) refused "POST /v1/tenants" ;; esac
  [ -z "$ADMIN_KEY_FILE" ] || [ -s "$ADMIN_KEY_FILE" ] || first_key
}

first_key() {
  umask 077
  : >>"$ADMIN_KEY_FILE.new" || fail "cannot write admin_key_file $ADMIN_KEY_FILE: its folder must exist"
  call POST "/v1/keys?tenant=$TENANT" '{"role":"admin","name":"terraform"}'
  case $status in 2??) ;; *) rm "$ADMIN_KEY_FILE.new" && refused "POST /v1/keys" ;; esac
  printf '%s\n' "$answer" | sed -n 's/.*"key": *"\(dck_[^"]*\)".*/\1/p' >"$ADMIN_KEY_FILE.new"
  [ -s "$ADMIN_KEY_FILE.new" ] || fail "POST /v1/keys answered $status without a key"
  mv "$ADMIN_KEY_FILE.new" "$ADMIN_KEY_FILE"
}

delete() {
  [ "$DELETION_PROTECTION" = false ] ||
    fail "tenant $TENANT is protected: set deletion_protection = false, apply, then destroy its database and documents"
  call DELETE "/v1/tenants/$TENANT"
  case $status in 2?? | 404) ;; *) refused "DELETE /v1/tenants/$TENANT" ;; esac
  [ -z "$ADMIN_KEY_FILE" ] || rm -f "$ADMIN_KEY_FILE"
}

key
"$1"
