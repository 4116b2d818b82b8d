#!/usr/bin/env bash
# Copies data from here to the bucket, and checks it from the slice.
#
#   FROM=imagenet_tfrecords DATA=gs://bucket/imagenet ./stage.sh
#   FROM=bert_data DATA=gs://bucket/bert RECIPE=bert_large/adam_32k ./stage.sh
source "$(dirname "$0")/settings.sh"
FROM="${FROM:-}" # folder of this machine; nothing is copied without it
need DATA

if [[ -n "$FROM" ]]; then
  [[ -d "$FROM" ]] || fail "there is no folder $FROM; give FROM=FOLDER"
  run gcloud storage rsync --recursive "$FROM" "$DATA"
fi
case "$RECIPE" in
  resnet50/*)
    for split in train validation; do
      on_vm 0 "venv/bin/tf-largebatch data imagenet --input='$DATA/$split-*'"
    done
    ;;
  bert*) on_vm 0 "venv/bin/tf-largebatch data bert --check='$DATA'" ;;
  *) fail "RECIPE is $RECIPE; give one of tf-largebatch recipes" ;;
esac
