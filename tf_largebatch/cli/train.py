r"""Trains a recipe through the Model Garden, and evaluates.

The same command goes on where it was stopped. In --model_dir are the
checkpoints, the summaries for TensorBoard (train/, validation/) and all
settings (params.yaml). --params_override changes any of these:
--params_override=trainer.train_steps=100,runtime.num_gpus=1

example:
  tf-largebatch train --recipe=resnet50/nesterov_b_32k --model_dir=runs/b \
    --mode=train_and_eval --params_override=overrides.yaml
"""

import contextlib
import os
import sys
from collections.abc import Mapping

from absl import flags

from tf_largebatch.errors import UserError

EXTRA = "garden"
FLAGS = flags.FlagValues()
RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "which recipe; `tf-largebatch recipes` lists them",
    flag_values=FLAGS,
)
EXPERIMENT = flags.DEFINE_string(
    "experiment",
    None,
    "instead of a recipe, a registered experiment",
    flag_values=FLAGS,
)
CONFIG_FILE = flags.DEFINE_multi_string(
    "config_file",
    [],
    "YAML file of settings that override the recipe's or experiment's; may "
    "be repeated",
    flag_values=FLAGS,
)
MODE = flags.DEFINE_string(
    "mode",
    "train_and_eval",
    "train, eval, train_and_eval, continuous_eval or train_and_post_eval",
    flag_values=FLAGS,
)
MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "folder of the run, to be made", flag_values=FLAGS
)
TPU = flags.DEFINE_string(
    "tpu",
    None,
    "name or address of the TPU to run on; local on a TPU VM",
    flag_values=FLAGS,
)
PARAMS_OVERRIDE = flags.DEFINE_string(
    "params_override",
    "",
    "settings that override all others: a.b=c,a.d=e, or YAML, or a YAML file",
    flag_values=FLAGS,
)


def main() -> int:
    """Runs the experiment that the flags describe."""
    if not MODEL_DIR.value:
        raise UserError("give --model_dir=FOLDER, which the run is to be in")
    hush()
    from tf_largebatch.garden import settings, train

    config = settings.collect(
        RECIPE.value,
        EXPERIMENT.value,
        CONFIG_FILE.value,
        TPU.value,
        PARAMS_OVERRIDE.value,
    )
    # Orbit reports its progress on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        figures = train.run(config, MODE.value, MODEL_DIR.value)
    print(describe(figures))
    return 0


def hush() -> None:
    """Imports TensorFlow; keeps it from telling what is of no use here."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")


def describe(figures: Mapping[str, float]) -> str:
    """Returns the figures of a run or an evaluation as one line."""
    parts = [f"step {figures['step']}"] if "step" in figures else []
    if "accuracy" in figures:
        parts += [
            f"top-1 {figures['accuracy']:.2%}",
            f"top-5 {figures['top_5_accuracy']:.2%}",
            f"loss {figures['validation_loss']:.4f}",
            f"examples {figures['examples']:.0f}",
        ]
    return ", ".join(parts)
