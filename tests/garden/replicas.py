"""Trains on two replicas up to a step; saves what the checkpoint has.

    PICTURES=FOLDER RUN=FOLDER STEPS=4 python replicas.py OUTPUT.npz

A script, because logical devices must be made before TensorFlow starts, and
because a run that goes on does so in a process of its own.
"""

import os
import runpy
import sys
from pathlib import Path

import numpy as np

from tf_largebatch.cli.train import make_deterministic

make_deterministic()

import tensorflow as tf  # noqa: E402
from strategies import make_devices, strategy_for  # noqa: E402

from tf_largebatch.garden import recipes, train  # noqa: E402

CONFTEST = runpy.run_path(str(Path(__file__).with_name("conftest.py")))


def main(output: str) -> None:
    make_devices(2)
    train.make_strategy = lambda runtime: strategy_for(2)
    config = recipes.experiment_config(
        "resnet50/lars_32k",
        CONFTEST["small_settings"](Path(os.environ["PICTURES"])),
    )
    steps = int(os.environ["STEPS"])
    config.trainer.train_steps = steps
    train.run(config, "train", os.environ["RUN"])
    reader = tf.train.load_checkpoint(f"{os.environ['RUN']}/ckpt-{steps}")
    arrays = {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith(("model/", "optimizer/", "global_step"))
    }
    np.savez(output, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
