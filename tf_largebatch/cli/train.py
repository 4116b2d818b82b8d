r"""Trains a recipe through the Model Garden, and evaluates.

The same command goes on where it was stopped. In --model_dir are the
checkpoints, the summaries for TensorBoard (train/, validation/), which --wandb
sends to Weights & Biases too, and all settings (params.yaml).
--params_override changes any of these:
--params_override=trainer.train_steps=100,runtime.num_gpus=1
The schedule of learning rates has a length of its own, total_steps, which
stays as it is; a run that ends elsewhere says so.

A folder of recipes, such as bert_tiny/adam_32k, is trained from phase1 to
phase2 to squad, each begun from the one before, in folders of these names in
--model_dir. What is done is not done again. An override then is for all three
but where it says for which: --params_override=phase1.trainer.train_steps=100

example:
  tf-largebatch train --recipe=resnet50/nesterov_b_32k --model_dir=runs/b \
    --mode=train_and_eval --params_override=overrides.yaml
  tf-largebatch train --recipe=bert_tiny/adam_32k --model_dir=runs/bert \
    --text=demo
"""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from tf_largebatch.errors import UserError

EXTRA = "garden"
FLAGS = flags.FlagValues()
RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "which recipe, or folder of them; `tf-largebatch recipes` lists them",
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
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "of BERT: folder that `tf-largebatch data bert --out` made",
    flag_values=FLAGS,
)
TEXT = flags.DEFINE_string(
    "text",
    None,
    "of BERT, instead of --data_dir: text files, as patterns separated by "
    "commas, or demo, for data that needs no download; the data is made in "
    "--model_dir/data",
    flag_values=FLAGS,
)
SQUAD_TRAIN = flags.DEFINE_string(
    "squad_train",
    None,
    "with --text: SQuAD v1.1's questions for training, JSON",
    flag_values=FLAGS,
)
SQUAD_DEV = flags.DEFINE_string(
    "squad_dev",
    None,
    "with --text: SQuAD v1.1's questions for evaluation, JSON",
    flag_values=FLAGS,
)
MAX_CORRUPT_RECORDS = flags.DEFINE_integer(
    "max_corrupt_records",
    None,
    "leave out up to so many broken records of the training and of the "
    "evaluation data each, and say which; to find them, all data is read and "
    "decoded once at every start. 0, unless the settings say otherwise: the "
    "first that is met is an error",
    lower_bound=0,
    flag_values=FLAGS,
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "the same bits from every run on the same machine with as many devices, "
    "also one that was stopped and went on; slower",
    flag_values=FLAGS,
)
WANDB = flags.DEFINE_string(
    "wandb",
    None,
    "send the figures that TensorBoard shows to this project at Weights & "
    "Biases too; WANDB_MODE=offline keeps them in --model_dir/wandb. Needs "
    "pip install 'tf-largebatch[wandb]'",
    flag_values=FLAGS,
)
# How the figures of an evaluation are put.
FIGURES = {
    "accuracy": "top-1 {:.2%}",
    "top_5_accuracy": "top-5 {:.2%}",
    "masked_lm_loss": "masked LM loss {:.4f}",
    "masked_lm_accuracy": "masked LM accuracy {:.2%}",
    "next_sentence_loss": "next sentence loss {:.4f}",
    "next_sentence_accuracy": "next sentence accuracy {:.2%}",
    "final_f1": "F1 {:.2%}",
    "exact_match": "exact match {:.2%}",
    "validation_loss": "loss {:.4f}",
    "examples": "examples {:.0f}",
    "questions": "questions {:.0f}",
    "train_data_left_out": "broken training records left out {:.0f}",
    "validation_data_left_out": "broken evaluation records left out {:.0f}",
}


def main() -> int:
    """Runs the experiment, or the chain, that the flags describe."""
    if not MODEL_DIR.value:
        raise UserError("give --model_dir=FOLDER, which the run is to be in")
    if DETERMINISTIC.value:
        make_deterministic()
    from tf_largebatch.garden import recipes, tracking

    if WANDB.value is not None:
        tracking.check_installed()

    parts = recipes.parts(RECIPE.value or "")
    check_data_flags(bool(parts))
    hush()
    # Orbit reports its progress on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        figures = run_chain(parts) if parts else {"": run_alone()}
    for part, values in figures.items():
        print(f"{part}: {describe(values)}" if part else describe(values))
    return 0


def check_data_flags(chain: bool) -> None:
    """Raises UserError where the flags for data do not go together."""
    squad = SQUAD_TRAIN.value or SQUAD_DEV.value
    if TEXT.value and not chain:
        raise UserError(
            "--text is for a folder of recipes, such as bert_tiny/adam_32k; "
            "give --data_dir for one of BERT's, or else the paths with "
            "--params_override=task.train_data.input_path=...,"
            "task.validation_data.input_path=..."
        )
    if TEXT.value and DATA_DIR.value:
        raise UserError("give one of --text and --data_dir, not both")
    if TEXT.value and "://" in MODEL_DIR.value:
        raise UserError(
            f"--text makes data on this machine, not in {MODEL_DIR.value}; "
            "make it with `tf-largebatch data bert`, copy it, and give its "
            "folder with --data_dir"
        )
    if squad and TEXT.value in (None, "demo"):
        raise UserError(
            "--squad_train and --squad_dev go with text files, in --text; "
            "give those as well"
        )
    if TEXT.value not in (None, "demo") and not (
        SQUAD_TRAIN.value and SQUAD_DEV.value
    ):
        raise UserError(
            "with text files, in --text, give --squad_train=FILE and "
            "--squad_dev=FILE as well"
        )


def run_alone() -> dict[str, Any]:
    """Runs one experiment; returns its figures."""
    from tf_largebatch.garden import chain, train

    config = collect(RECIPE.value, DATA_DIR.value)
    config = chain.alone(config, RECIPE.value, MODE.value, MODEL_DIR.value)
    return train.run(
        config, MODE.value, MODEL_DIR.value, wandb_project=WANDB.value
    )


def run_chain(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Runs the recipes of a chain; returns the figures of each, by part."""
    from tf_largebatch.garden import chain, recipes

    chain.check_mode(MODE.value)
    data_dir = DATA_DIR.value
    if TEXT.value:
        data_dir = f"{MODEL_DIR.value}/data"
    configs = {
        str(recipes.part_of(name)): collect(name, data_dir) for name in names
    }
    chain.resolve(configs, MODE.value)  # Before data is made in minutes.
    if TEXT.value:
        chain.make_data(
            configs, TEXT.value, SQUAD_TRAIN.value, SQUAD_DEV.value, data_dir
        )
    return chain.run(configs, MODE.value, MODEL_DIR.value, WANDB.value)


def collect(recipe: str | None, data_dir: str | None) -> Any:
    """Returns the settings that the flags and a folder of data give."""
    from tf_largebatch.garden import settings

    config = settings.collect(
        recipe,
        EXPERIMENT.value,
        CONFIG_FILE.value,
        TPU.value,
        PARAMS_OVERRIDE.value,
        data_dir,
        MAX_CORRUPT_RECORDS.value,
    )
    if DETERMINISTIC.value and config.task.train_data.seed is None:
        raise UserError(
            "seed is None, in task.train_data, which is another order at every "
            "start; give a number with --deterministic"
        )
    return config


def make_deterministic() -> None:
    """Has TensorFlow choose and add up in the same way at every start.

    oneDNN, which it uses on CPUs, can only be left out before its import.
    """
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def hush() -> None:
    """Imports TensorFlow; keeps it from telling what is of no use here."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")


def describe(figures: Mapping[str, float]) -> str:
    """Returns the figures of a run or an evaluation as one line."""
    parts = [f"step {figures['step']}"] if "step" in figures else []
    parts += [
        text.format(figures[name])
        for name, text in FIGURES.items()
        if name in figures
    ]
    return ", ".join(parts)
