#!/usr/bin/env bash
# Installs this package, as it is committed, on all machines of the slice.
#
# The Model Garden requires the distribution called tensorflow, which has no
# TPU kernels; tensorflow-tpu, installed last, takes its place.
source "$(dirname "$0")/settings.sh"

root="$(cd "$(dirname "$0")/.." && pwd)"
archive="$(mktemp -d)/tf-largebatch.tar.gz"
trap 'rm -rf "$(dirname "$archive")"' EXIT
run git -C "$root" archive --format=tar.gz --output="$archive" HEAD
tpus tpu-vm scp "$archive" "$TPU_NAME:" --worker=all

# The file installed says that all of it was done.
on_vm all "set -eu
rm -f installed
sudo apt-get update -qq
sudo apt-get install -qq -y python3.11-venv
rm -rf tf-largebatch && mkdir tf-largebatch
tar -xzf tf-largebatch.tar.gz -C tf-largebatch
python3.11 -m venv venv
venv/bin/pip install -q -r tf-largebatch/tools/uv.txt
export VIRTUAL_ENV=venv
venv/bin/uv pip install -q -c tf-largebatch/constraints.txt \
  -b tf-largebatch/build-constraints.txt './tf-largebatch[garden]'
venv/bin/uv pip uninstall -q tensorflow tensorflow-cpu
venv/bin/uv pip install -q --reinstall --no-deps 'tensorflow-tpu==$TENSORFLOW'
venv/bin/uv pip install -q 'libtpu~=0.0.14'
venv/bin/tf-largebatch recipes >/dev/null
touch installed"
