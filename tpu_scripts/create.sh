#!/usr/bin/env bash
# Asks for a slice, waits until it is there, and installs this package on it.
#
#   PROJECT=my-project ZONE=europe-west4-a ACCELERATOR=v3-32 ./create.sh
source "$(dirname "$0")/settings.sh"

image="tpu-vm-tf-$TENSORFLOW"
is_pod && image+=-pod
options=()
[[ "$SPOT" == 1 ]] && options+=(--spot)
tpus queued-resources create "$TPU_NAME" --node-id="$TPU_NAME" \
  --accelerator-type="$ACCELERATOR" --runtime-version="${RUNTIME:-$image-pjrt}" \
  ${options[@]+"${options[@]}"} # Empty it is unset in macOS's bash.

while [[ "$DRY_RUN" != 1 ]]; do
  found="$(ask queued-resources describe "$TPU_NAME" \
    --format='value(state.state)')"
  echo "$TPU_NAME: $found"
  case "$found" in
    ACTIVE) break ;;
    FAILED | SUSPENDING | SUSPENDED | GONE)
      fail "the request for $TPU_NAME is $found; see the console, ./delete.sh"
      ;;
  esac
  sleep "$POLL"
done

for try in 1 2 3; do
  "$(dirname "$0")/install.sh" && exit
  echo "$TPU_NAME: installing failed, time $try of 3"
  sleep "$POLL"
done
fail "cannot install on $TPU_NAME; see above, then ./install.sh or ./delete.sh"
