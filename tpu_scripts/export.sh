#!/usr/bin/env bash
# Exports the newest checkpoint of a run and evaluates what was exported.
#
#   MODEL_DIR=gs://bucket/lars EXPORT_DIR=gs://bucket/lars_export ./export.sh
#
# Of a chain give the part: MODEL_DIR=gs://bucket/adam_32k/squad.
source "$(dirname "$0")/settings.sh"
EXPORT_DIR="${EXPORT_DIR:-}" # gs:// folder to write to
need MODEL_DIR EXPORT_DIR

on_vm 0 "set -eu
venv/bin/tf-largebatch export --checkpoint='$MODEL_DIR' --export_dir='$EXPORT_DIR'
venv/bin/tf-largebatch evaluate --saved_model='$EXPORT_DIR'"
