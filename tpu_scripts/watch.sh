#!/usr/bin/env bash
# Shows the state of the slice and what the training says, until Ctrl-C.
source "$(dirname "$0")/settings.sh"

tpus tpu-vm describe "$TPU_NAME" --format='value(state,acceleratorType)'
[[ -z "$MODEL_DIR" ]] || echo "curves: tensorboard --logdir=$MODEL_DIR"
on_vm 0 'tail -n 20 -F train.log'
