"""The settings of an experiment, from a command line's flags."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import yaml
from official.core import config_definitions as cfg
from official.modeling.hyperparams import params_dict

from tf_largebatch import configs
from tf_largebatch.errors import UserError
from tf_largebatch.garden import recipes, run_folder
from tf_largebatch.garden.overrides import override

# The only one; params.yaml does not say which it is.
EXPERIMENT = "largebatch/resnet50_imagenet"


def collect(
    recipe: str | None = None,
    experiment: str | None = None,
    config_files: Sequence[str] = (),
    tpu: str | None = None,
    params_override: str = "",
) -> cfg.ExperimentConfig:
    """Returns the settings; what is named later overrides what is earlier.

    Args:
        recipe: name of a recipe; that or an experiment must be given.
        experiment: name of a registered experiment.
        config_files: YAML files.
        tpu: name or address of a TPU, to run on it.
        params_override: as :func:`parse` takes it.

    Raises:
        UserError: a name, a key or a value is wrong.
    """
    if bool(recipe) == bool(experiment):
        raise UserError(
            "give either --recipe=NAME (`tf-largebatch recipes` lists them) "
            "or --experiment=NAME"
        )
    config = (
        recipes.experiment_config(recipe)
        if recipe
        else recipes.experiment(str(experiment))
    )
    for file in config_files:
        override(config, configs.read(pathlib.Path(file)), file)
    if tpu is not None:
        override(config, on_tpu(tpu), "--tpu")
    override(config, parse(params_override), "--params_override")
    return config


def of_run(checkpoint: str, params_override: str = "") -> cfg.ExperimentConfig:
    """Returns the settings of the run that a checkpoint is of.

    Args:
        checkpoint: its path; ``params.yaml`` is beside it.
        params_override: as :func:`parse` takes it.

    Raises:
        UserError: there is no ``params.yaml``, or a value is wrong.
    """
    folder = os.path.dirname(checkpoint)
    config = recipes.experiment(EXPERIMENT)
    override(config, run_folder.read_parameters(folder), folder)
    override(config, parse(params_override), "--params_override")
    return config


def on_tpu(tpu: str) -> dict[str, Any]:
    """Returns what a TPU needs: whole loops as one program, among others."""
    return {
        "runtime": {"distribution_strategy": "tpu", "tpu": tpu},
        "trainer": {"train_tf_while_loop": True},
    }


def parse(text: str) -> dict[str, Any]:
    """Returns the values that ``--params_override`` gives.

    Args:
        text: ``a.b=c,a.d=e``, a YAML mapping, or the path of a YAML file.

    Raises:
        UserError: it is none of them.

    >>> parse("trainer.train_steps=5, task.losses.label_smoothing=1e-1")[
    ...     "task"]
    {'losses': {'label_smoothing': 0.1}}
    """
    if not text.strip():
        return {}
    if pathlib.Path(text).suffix == ".yaml" and "=" not in text:
        return configs.read(pathlib.Path(text))
    try:
        as_yaml = params_dict.nested_csv_str_to_json_str(text.strip())
    except ValueError:
        as_yaml = text
    try:
        values = yaml.load(as_yaml, configs.Loader)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise UserError(
            f"cannot read {text!r}, in --params_override; give a.b=c,a.d=e, "
            "a YAML mapping, or a YAML file"
        )
    return values
