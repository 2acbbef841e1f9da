#!/bin/sh
# knative.sh sums|check|apply|delete, for main.tf, `dcoder deploy up` and whoever pins a version. The environment says
# which release and where. Nothing is applied before every file has the checksum that SUMS (lines as sha256sum writes
# them) gives. With JETSTREAM, a release of eventing-natss, it is the Broker on NATS JetStream alone.
set -eu

FILES="serving-crds.yaml serving-core.yaml kourier.yaml
  eventing-crds.yaml eventing-core.yaml in-memory-channel.yaml mt-channel-broker.yaml"
NAMESPACES="knative-serving kourier-system knative-eventing"
MIRROR_URL=${MIRROR_URL:-https://github.com}
JETSTREAM=${JETSTREAM:-}
[ -z "$JETSTREAM" ] || FILES=broker-jsm.yaml

fail() {
  echo "$1" >&2
  exit 1
}

url() {
  case $1 in
  serving-*) echo "$MIRROR_URL/knative/serving/releases/download/knative-v$SERVING/$1" ;;
  broker-jsm.yaml)
    echo "$MIRROR_URL/knative-extensions/eventing-natss/releases/download/knative-v$JETSTREAM/$1"
    ;;
  kourier.yaml) echo "$MIRROR_URL/knative-extensions/net-kourier/releases/download/knative-v$KOURIER/$1" ;;
  *) echo "$MIRROR_URL/knative/eventing/releases/download/knative-v$EVENTING/$1" ;;
  esac
}

download() {
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  for name in $FILES; do
    curl --fail --silent --show-error --location --max-time 300 --retry 3 --output "$folder/$name" "$(url "$name")" ||
      fail "cannot download $(url "$name"): check versions and mirror_url"
  done
}

verified() {
  download
  printf '%s\n' "$SUMS" >"$folder/sums"
  (cd "$folder" && sha256sum --check --strict sums >checked 2>&1) ||
    fail "nothing was changed: not the files that were pinned: $(grep -v ': OK$' "$folder/checked")"
}

cluster() {
  kubectl --context="$CONTEXT" --request-timeout=60s "$@"
}

sums() {
  download
  (cd "$folder" && sha256sum $FILES)
}

check() {
  verified
}

apply() {
  verified
  for name in $FILES; do
    cluster apply --server-side --force-conflicts --field-manager=dcoder-knative --filename="$folder/$name"
    case $name in
    *-crds.yaml) cluster wait --for=condition=Established --timeout=60s --filename="$folder/$name" ;;
    esac
  done
  # It waits for NATS, which may come later.
  [ -z "$JETSTREAM" ] || return 0
  for namespace in $NAMESPACES; do
    kubectl --context="$CONTEXT" wait --for=condition=Available --timeout="${READY_TIMEOUT_S}s" \
      --namespace="$namespace" deployment --all
  done
  setting config-network '{"data":{"ingress-class":"kourier.ingress.networking.knative.dev"}}'
  setting config-autoscaler '{"data":{"allow-zero-initial-scale":"true"}}'
}

setting() {
  cluster patch configmap "$1" --namespace=knative-serving --type=merge --patch="$2"
}

delete() {
  [ "$DELETION_PROTECTION" = false ] ||
    fail "Knative is protected: set deletion_protection = false, apply, then destroy with every Service that it serves"
  verified
  reversed=
  for name in $FILES; do reversed="$name $reversed"; done
  for name in $reversed; do
    cluster delete --ignore-not-found --wait=false --filename="$folder/$name"
  done
}

"$1"
