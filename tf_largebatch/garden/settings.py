"""The settings of an experiment, from a command line's flags."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from official.core import config_definitions as cfg
from official.modeling.hyperparams import params_dict

from tf_largebatch import checkpoints, configs, plugins
from tf_largebatch.errors import UserError, hint
from tf_largebatch.garden import recipes, run_folder
from tf_largebatch.garden.overrides import override


def collect(
    recipe: str | None = None,
    experiment: str | None = None,
    config_files: Sequence[str] = (),
    tpu: str | None = None,
    params_override: str = "",
    data_dir: str | None = None,
    max_corrupt_records: int | None = None,
) -> cfg.ExperimentConfig:
    """Returns the settings; files override a recipe, and flags override files.

    Args:
        recipe: name of a recipe; that or an experiment must be given.
        experiment: name of a registered experiment.
        config_files: YAML files; see :func:`for_part`.
        tpu: name or address of a TPU, to run on it.
        params_override: as :func:`parse` takes it; see :func:`for_part`.
        data_dir: folder of a chain's data, which comes right after the
            recipe; see :func:`data_in`.
        max_corrupt_records: how many broken records of the training data and
            of the evaluation data may be left out.

    Raises:
        UserError: a name, a key or a value is wrong.
    """
    part = recipes.part_of(recipe)
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
    if data_dir is not None:
        override(config, data_in(data_dir, part), "--data_dir")
    for file in config_files:
        values = read(file)
        override(config, for_part(values, part, file), file)
    if tpu is not None:
        override(config, on_tpu(tpu), "--tpu")
    if max_corrupt_records is not None:
        values = leaving_out(config, max_corrupt_records)
        override(config, values, "--max_corrupt_records")
    where = "--params_override"
    override(config, for_part(parse(params_override), part, where), where)
    return config


def read(file: str) -> dict[str, Any]:
    """Returns what a YAML file holds, on any file system.

    Raises:
        UserError: it cannot be read, or is no YAML mapping.
    """
    if "://" not in file:
        return configs.read(pathlib.Path(file))
    try:
        with tf.io.gfile.GFile(file) as opened:
            text = opened.read()
    except (*checkpoints.ERRORS, ValueError) as error:  # Which UTF-8's are.
        raise UserError(
            f"cannot read {file}: {checkpoints.first_line(error)}"
        ) from error
    return configs.mapping(text, file)


def data_in(folder: str, part: str | None) -> dict[str, Any]:
    """Returns where a part of a chain has its data.

    Args:
        folder: as ``tf-largebatch data bert`` makes it.
        part: one of :data:`tf_largebatch.garden.recipes.PARTS`.

    Raises:
        UserError: the recipe is no part of a chain.
    """
    if part is None:
        raise UserError(
            "--data_dir is for BERT's recipes only; give the paths with "
            "--params_override=task.train_data.input_path=...,"
            "task.validation_data.input_path=..."
        )
    here = tf.io.gfile.join(folder, part)
    train = {"input_path": f"{here}/train-*"}
    validation = {"input_path": f"{here}/validation-*"}
    if part == "squad":
        vocabulary = tf.io.gfile.join(folder, "vocab.txt")
        validation = {
            "input_path": f"{here}/dev.json",
            "vocab_file": vocabulary,
        }
    return {"task": {"train_data": train, "validation_data": validation}}


def for_part(
    values: dict[str, Any], part: str | None, where: str
) -> dict[str, Any]:
    """Returns what some overrides are for one part of a chain.

    What stands under a part's name, at the top, is for that part alone.

    Args:
        values: the overrides.
        part: which part; None where there is no chain.
        where: what messages call the place that they are from.

    Raises:
        UserError: no settings stand under the part's name.

    >>> for_part({"a": {"b": 1}, "squad": {"a": {"b": 2}}}, "squad", "x")
    {'a': {'b': 2}}
    """
    if part is None:
        return values
    own = values.get(part, {})
    if not isinstance(own, dict):
        raise UserError(f"{part} in {where} must hold keys; it is {own!r}")
    common = {key: values[key] for key in values if key not in recipes.PARTS}
    return recipes.merge(common, own)


def of_run(checkpoint: str, params_override: str = "") -> cfg.ExperimentConfig:
    """Returns the settings of the run that a checkpoint is of.

    Args:
        checkpoint: its path; ``params.yaml`` is beside it.
        params_override: as :func:`parse` takes it.

    Raises:
        UserError: there is no ``params.yaml``, or a value is wrong.
    """
    return of_folder(os.path.dirname(checkpoint), params_override)


def of_folder(folder: str, params_override: str = "") -> cfg.ExperimentConfig:
    """Returns the settings that a run or an export has in its folder.

    Args:
        folder: where ``params.yaml`` is.
        params_override: as :func:`parse` takes it.

    Raises:
        UserError: there is no ``params.yaml``, or a value is wrong.
    """
    parameters = run_folder.read_parameters(folder)
    config = recipes.experiment(name_of(parameters, folder))
    override(config, parameters, folder)
    override(config, parse(params_override), "--params_override")
    return config


def name_of(parameters: dict[str, Any], folder: str) -> str:
    """Returns which experiment a folder's settings are of.

    Raises:
        UserError: it is none that is known.
    """
    name = run_folder.named(parameters)[run_folder.NAME]
    known = plugins.names("experiment", recipes.EXPERIMENTS)
    if name not in known:
        raise UserError(
            f"{run_folder.NAME} is {name!r}, in {folder}/"
            f"{run_folder.PARAMETERS}, which is no experiment; "
            f"{hint(name, known)}"
        )
    return name


def on_tpu(tpu: str) -> dict[str, Any]:
    """Returns what a TPU needs: whole loops as one program, among others."""
    return {
        "runtime": {"distribution_strategy": "tpu", "tpu": tpu},
        "trainer": {"train_tf_while_loop": True},
    }


def leaving_out(config: cfg.ExperimentConfig, count: int) -> dict[str, Any]:
    """Returns what lets so many broken records be left out.

    The questions that SQuAD is evaluated on are not in records.
    """
    data = ("train_data", "validation_data")
    return {
        "task": {
            name: {"max_corrupt_records": count}
            for name in data
            if hasattr(getattr(config.task, name), "max_corrupt_records")
        }
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
        return read(text)
    try:
        as_yaml = params_dict.nested_csv_str_to_json_str(text.strip())
    except ValueError:
        as_yaml = text
    try:
        values = configs.parse(as_yaml, "--params_override")
    except UserError:
        values = None
    if not isinstance(values, dict):
        raise UserError(
            f"cannot read {text!r}, in --params_override; give a.b=c,a.d=e, "
            "a YAML mapping, or a YAML file; a value with commas as a list in "
            "YAML"
        )
    return values
