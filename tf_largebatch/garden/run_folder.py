"""The folder of a run: whose it is, and whether it can be written to."""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import yaml
from official.core import config_definitions as cfg

from tf_largebatch import configs
from tf_largebatch.checkpoints import ERRORS, first_line, mend, newest
from tf_largebatch.errors import UserError

PARAMETERS = "params.yaml"
SHOWN = 3  # Of the settings that differ.
# Which experiment a folder's settings are of. Folders and exports of before
# there were others do not say it: they are of the first.
NAME = "task.name"
FIRST_EXPERIMENT = "largebatch/resnet50_imagenet"
# What makes a checkpoint a recipe's: other settings may change when a run
# goes on, such as where the data is or how often it is evaluated.
OF_THE_MODEL = (NAME, "task.model")
OF_THE_RUN = (
    *OF_THE_MODEL,
    "task.losses",
    "task.seed",
    "task.init_checkpoint",
    "task.group_size",
    "task.group_clip_norm",
    "task.train_data.global_batch_size",
    "task.train_data.seq_length",
    "task.train_data.max_predictions_per_seq",
    "trainer.optimizer_config",
)
# What may change as well, but not unnoticed.
OF_THE_STEPS = ("task.train_data", "runtime.mixed_precision_dtype")
# Data moves.
UNNOTICED = ("task.train_data.input_path",)


def claim(
    folder: str, config: cfg.ExperimentConfig, writes: bool = True
) -> None:
    """Makes a folder that of a run which begins or goes on.

    Args:
        folder: to be made, or that of an earlier part of the run.
        config: the run's settings, which are written to ``params.yaml``.
        writes: whether to write; of several workers the first does.

    Raises:
        UserError: it cannot be written to, holds another run, or has a name
            that is a pattern.
    """
    if found := re.search(r"[*?[\\]", folder):
        raise UserError(
            f"{folder} has a {found[0]}, by which TensorFlow finds no "
            "checkpoint again; give another --model_dir"
        )
    try:
        if writes:
            mend(folder)
        if newest(folder):
            check(folder, config, OF_THE_RUN)
        if not writes:
            return
        if newest(folder):
            notice(folder, config)
        tf.io.gfile.makedirs(folder)
        write_parameters(folder, config)
    except ERRORS as error:
        raise cannot_write(folder, error) from error


def write_parameters(folder: str, config: cfg.ExperimentConfig) -> None:
    """Writes ``params.yaml``."""
    path = tf.io.gfile.join(folder, PARAMETERS)
    write(path, yaml.safe_dump(config.as_dict()))


def write(path: str, text: str) -> None:
    """Writes a file on any file system, whole or not at all."""
    with tf.io.gfile.GFile(f"{path}.part", "w") as file:
        file.write(text)
    tf.io.gfile.rename(f"{path}.part", path, overwrite=True)


def cannot_write(folder: str, error: Exception) -> UserError:
    """Returns the error to raise where a folder cannot be written to."""
    return UserError(
        f"cannot write to {folder}: {first_line(error)}; give another folder"
    )


def check(
    folder: str, config: cfg.ExperimentConfig, parts: tuple[str, ...]
) -> None:
    """Checks that a folder's checkpoints are those of a config.

    Args:
        folder: where checkpoints and ``params.yaml`` are.
        config: the settings.
        parts: the settings that must agree, each with all below it.

    Raises:
        UserError: they are of another recipe, or of none that is known.
    """
    if found := differences(folder, config, parts):
        raise UserError(
            f"{folder} holds a run of another recipe ({in_short(found)}); "
            "give another folder, or the recipe and the overrides of then"
        )


def notice(folder: str, config: cfg.ExperimentConfig) -> None:
    """Says which settings a run goes on with that were others before."""
    if found := differences(folder, config, OF_THE_STEPS):
        print(
            f"goes on with other settings than before: {in_short(found)}",
            file=sys.stderr,
            flush=True,
        )


def differences(
    folder: str, config: cfg.ExperimentConfig, parts: tuple[str, ...]
) -> list[str]:
    """Returns in which settings a folder and a config differ; see `check`."""
    there = named(read_parameters(folder))
    here = named(as_yaml(config))
    return [
        f"{name} is {there.get(name)} there, not {here.get(name)}"
        for name in sorted({*here, *there}.difference(UNNOTICED))
        if any(f"{name}.".startswith(f"{part}.") for part in parts)
        and here.get(name) != there.get(name)
    ]


def in_short(texts: list[str]) -> str:
    """Returns the first few texts, and how many more there are."""
    more = len(texts) - SHOWN
    return "; ".join(texts[:SHOWN] + [f"and {more} more"] * (more > 0))


def read_parameters(folder: str) -> dict[str, Any]:
    """Returns what ``params.yaml`` says.

    Raises:
        UserError: there is none, or it is no YAML mapping.
    """
    path = tf.io.gfile.join(folder, PARAMETERS)
    try:
        with tf.io.gfile.GFile(path) as file:
            return dict(configs.parse(file.read(), PARAMETERS))
    except (*ERRORS, TypeError, ValueError) as error:
        raise UserError(
            f"cannot read {path} ({first_line(error)}), so it is not known of "
            "which recipe the folder is; give another folder"
        ) from error


def as_yaml(config: cfg.ExperimentConfig) -> dict[str, Any]:
    """Returns a config as ``params.yaml`` would have it."""
    return yaml.safe_load(yaml.safe_dump(config.as_dict()))


def named(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by their dotted names, the experiment's among them."""
    values = dict(flatten(parameters))
    return {**values, NAME: values.get(NAME) or FIRST_EXPERIMENT}


def flatten(
    values: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yields every value of nested mappings, with its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
