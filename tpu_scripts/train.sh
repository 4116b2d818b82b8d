#!/usr/bin/env bash
# Trains a recipe on the slice until it is done, whatever is preempted.
#
#   RECIPE=resnet50/lars_32k DATA=gs://bucket/imagenet \
#     MODEL_DIR=gs://bucket/lars ./train.sh
#
# The training runs on the slice and goes on without this script, which starts
# it, and starts it again where it failed. A slice that was preempted is
# deleted and made anew; the training goes on from its last checkpoint. Ctrl-C
# ends this script, not the training; the same command watches it again.
#
# ResNet's recipes take 64 examples at once on a core; for others give
# OVERRIDE=trainer.micro_batch_size=128.
#
# Exits as the training does: 0 done, 2 a setting is wrong, 3 it does not fit,
# 4 it diverged; 1 where it was started RESTARTS times in vain.
source "$(dirname "$0")/settings.sh"
need MODEL_DIR DATA
[[ -z "$OVERRIDE" || "$OVERRIDE" == *=* ]] ||
  fail "OVERRIDE is $OVERRIDE; give a.b=c,... and no file"
here="$(dirname "$0")"

case "$RECIPE" in
  resnet50/*)
    data="task.train_data.input_path=$DATA/train-*"
    data+=",task.validation_data.input_path=$DATA/validation-*"
    # A core cannot take its whole share of a step at once where there are few.
    # So it takes one group of ghost batch norm, as the paper's cores did; the
    # update is the same.
    group=64
    [[ "$RECIPE" != */lars_32k_72_epochs ]] || group=128
    [[ "$OVERRIDE" == *micro_batch_size* ]] ||
      data+=",trainer.micro_batch_size=$group"
    flags=(--params_override="$data${OVERRIDE:+,$OVERRIDE}")
    ;;
  *)
    flags=(--data_dir="$DATA")
    [[ -z "$OVERRIDE" ]] || flags+=(--params_override="$OVERRIDE")
    ;;
esac
tpu=local
environment=
if is_pod; then
  # This machine's own chips are left to the slice.
  environment="export TPU_LOAD_LIBRARY=0"
  tpu="$TPU_NAME"
fi
training="$(printf '%q ' venv/bin/tf-largebatch train --recipe="$RECIPE" \
  --model_dir="$MODEL_DIR" --tpu="$tpu" "${flags[@]}")"
training+='; echo $? >train.status'

# Starts the training, unless it runs. The lock is taken here, and is the
# training's while any of its processes is alive; what it ended with is in
# train.status.
start() {
  on_vm 0 "exec 9>train.lock
flock -n 9 || exit 0
rm -f train.status
$environment
nohup bash -c $(printf '%q' "$training") >>train.log 2>&1 </dev/null &"
}

# Prints what the training ended with, nothing while it runs, and lost where
# its processes are gone. It may end between the first look and the second.
status() {
  on_vm 0 'cat train.status 2>/dev/null && exit
flock -n train.lock true || exit 0
cat train.status 2>/dev/null || echo lost'
}

# Installs where it was not done, or not to its end. A connection that fails
# says nothing about that, and nothing is installed while a training runs.
repair() {
  local found
  found="$(on_vm all 'test -e installed || echo missing')" || return 0
  [[ "$found" != *missing* ]] || "$here/install.sh" || true
}

# Makes the slice anew.
renew() {
  YES=1 "$here/delete.sh" || true
  "$here/create.sh"
}

if [[ "$DRY_RUN" == 1 ]]; then
  state
  start
  status
  exit 0
fi

for ((number = 0; number <= RESTARTS; number++)); do
  case "$(state)" in
    PREEMPTED | TERMINATED | STOPPED | GONE) renew ;;
  esac
  echo "training $RECIPE (start $((number + 1)))"
  repair
  started=
  while true; do
    # Where the connection fails, again; what runs is left alone.
    [[ -n "$started" ]] || ! start || started=1
    sleep "$POLL"
    found="$(state)"
    case "$found" in
      PREEMPTED | TERMINATED | STOPPED | GONE)
        echo "the slice is $found"
        break
        ;;
    esac
    [[ -n "$started" ]] || continue
    # A connection that fails says nothing about the training.
    ended="$(status || true)"
    case "$ended" in
      '') ;;
      0) echo "done: $MODEL_DIR" && exit 0 ;;
      2 | 3 | 4)
        on_vm 0 'tail -n 3 train.log' || true
        exit "$ended"
        ;;
      lost)
        echo "the training's processes are gone; it is started again"
        break
        ;;
      *)
        echo "the training ended with $ended; it is started again"
        break
        ;;
    esac
  done
done
echo "$(basename "$0"): error: started $number times in vain; see ./watch.sh" >&2
exit 1
