#!/bin/sh
# Makes an environment with tensorflow-addons, which needs TensorFlow 2.15 and
# so Python 3.11 or older, for
#
#   benchmarks/tensorflow_addons.sh FOLDER
#   tf-largebatch bench optimizers --addons_python=FOLDER/bin/python
set -eu
folder=${1:?"give a folder for the environment"}
here=$(cd "$(dirname "$0")" && pwd)
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
  -r "$here/../tests/peers/tensorflow_addons/requirements.txt"
echo "Made $folder/bin/python."
