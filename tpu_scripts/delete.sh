#!/usr/bin/env bash
# Deletes the slice and the request for it; the bucket stays as it is.
source "$(dirname "$0")/settings.sh"

if [[ "$YES" != 1 && "$DRY_RUN" != 1 ]]; then
  read -r -p "Delete the slice $TPU_NAME in $PROJECT, $ZONE? [y/N] " answer
  [[ "$answer" == [yY] ]] || fail "nothing deleted, as the answer was not y"
fi
tpus queued-resources delete "$TPU_NAME" --force --quiet
