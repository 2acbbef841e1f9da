#!/bin/sh
# platform.sh apply|delete, for main.tf: `dcoder deploy` on the environment and the cluster that the environment
# variables name. dcoder checks the cluster before anything is changed, and reads addresses of stores from DCODER_*.
set -eu
dcoder=$(dirname "$0")/../../../dcoder

apply() {
  # What was planned is what is applied: the plan holds the checksum of the committed manifests.
  "$dcoder" deploy render --check --environment "$ENVIRONMENT"
  if [ -n "$KEYS_FOLDER" ]; then
    set -- --secrets --keys "$KEYS_FOLDER"
  else
    set --
  fi
  "$dcoder" deploy apply "$ENVIRONMENT" --image "$IMAGE" --context "$CONTEXT" --wait "$READY_TIMEOUT_S" "$@"
}

delete() {
  if [ "$DELETION_PROTECTION" != false ]; then
    echo "environment $ENVIRONMENT is protected: set deletion_protection = false, apply, then destroy it" >&2
    exit 1
  fi
  "$dcoder" deploy delete "$ENVIRONMENT" --context "$CONTEXT" --yes
}

"$1"
