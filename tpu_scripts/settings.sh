# shellcheck shell=bash
# What all scripts of this folder share. Set these in the environment, or here:
#
#   PROJECT=my-project ZONE=europe-west4-a ./create.sh
#   DRY_RUN=1 PROJECT=my-project ZONE=europe-west4-a ./train.sh
#
# DRY_RUN=1 prints every command and runs none.
set -euo pipefail

PROJECT="${PROJECT:-}"                      # Google Cloud project; no default
ZONE="${ZONE:-}"                            # where the slice is; no default
TPU_NAME="${TPU_NAME:-largebatch}"          # of the slice and its request
ACCELERATOR="${ACCELERATOR:-v3-32}"         # kind, and how many cores or chips
SPOT="${SPOT:-1}"                           # 1: cheaper, may be preempted
TENSORFLOW="${TENSORFLOW:-2.20.0}"          # on the machines of the slice
RUNTIME="${RUNTIME:-}"                      # their image; else by TENSORFLOW
RECIPE="${RECIPE:-resnet50/nesterov_b_32k}" # see tf-largebatch recipes
MODEL_DIR="${MODEL_DIR:-}"                  # gs:// folder of the run
DATA="${DATA:-}"                            # gs:// folder of the data
OVERRIDE="${OVERRIDE:-}"                    # further --params_override, as a.b=c,...
RESTARTS="${RESTARTS:-20}"                  # at most, of one training
POLL="${POLL:-60}"                          # seconds between two looks
DRY_RUN="${DRY_RUN:-0}"
YES="${YES:-0}"                             # 1: does not ask before deleting

# Says what is wrong and ends: fail WHAT
fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

# Ends unless variables have a value: need NAME...
need() {
  local name
  for name in "$@"; do
    [[ -n "${!name}" ]] || fail "$name is not set; give $name=..."
  done
}

[[ "$ACCELERATOR" =~ -[1-9][0-9]*$ ]] ||
  fail "ACCELERATOR is $ACCELERATOR; give kind and size, such as v3-32"

# Whether the slice has several machines, which one of more than eight has.
is_pod() {
  [[ "${ACCELERATOR##*-}" -gt 8 ]]
}

# Runs a command, or prints it: run COMMAND...
run() {
  if [[ "$DRY_RUN" == 1 ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# Runs a gcloud command on the project and in the zone: tpus WORD...
tpus() {
  run gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE"
}

# Runs a command on machines of the slice: on_vm WORKER COMMAND
on_vm() {
  tpus tpu-vm ssh "$TPU_NAME" --worker="$1" --command="$2"
}

# Prints the state that a command asks for: that of the service, GONE if there
# is none, UNKNOWN if it could not be asked: ask WORD...
ask() {
  tpus "$@" 2>/dev/null && return
  case "$(tpus "$@" 2>&1 || true)" in
    *NOT_FOUND*) echo GONE ;;
    *) echo UNKNOWN ;;
  esac
}

# Prints the state of the slice; see ask.
state() {
  ask tpu-vm describe "$TPU_NAME" --format='value(state)'
}

need PROJECT ZONE
[[ "$DRY_RUN" == 1 ]] || command -v gcloud >/dev/null ||
  fail "gcloud is not installed; see cloud.google.com/sdk"
