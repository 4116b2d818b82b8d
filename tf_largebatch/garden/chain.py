"""Trains the parts of a chain, each begun from the one before.

BERT's are pretraining on short sequences, on long ones, and SQuAD. A part has
a folder of its own beside those of the others. From the part before it gets
the weights and nothing else: its optimizer and its schedule begin anew.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory

from tf_largebatch import checkpoints
from tf_largebatch.errors import UserError
from tf_largebatch.garden import (
    checking,
    recipes,
    run_folder,
    train,
    trainer,
)

# Of the modes of training; the others watch one run only.
MODES = ("train", "eval", "train_and_eval", "train_and_post_eval")
FIGURES = "figures.json"
Figures = dict[str, Any]


def run(
    configs: Mapping[str, cfg.ExperimentConfig],
    mode: str,
    model_dir: str,
    wandb_project: str | None = None,
) -> dict[str, Figures]:
    """Runs the parts one after the other; what is done is not done again.

    Args:
        configs: the settings of each part, by its name, in order.
        mode: one of ``MODES``, for each part.
        model_dir: in it is a folder for each part.
        wandb_project: where to send the figures at Weights & Biases, if
            anywhere: a run for each part.

    Returns:
        What :func:`tf_largebatch.garden.train.run` returns, by part.

    Raises:
        UserError: a setting is wrong, of whichever part, or a folder cannot
            be used; nothing is trained then.
        RunError: a part failed; the same call goes on from there.
    """
    check_mode(mode)
    folders = {part: tf.io.gfile.join(model_dir, part) for part in configs}
    resolved = resolve(
        {
            part: linked_in_chain(config, part, folders[part])
            for part, config in configs.items()
        },
        mode,
    )
    strategies = make_strategies(resolved)
    for part, config in resolved.items():
        check(config, part, mode, folders[part], strategies[part])
    return {
        part: run_part(
            part, config, mode, folders[part], strategies[part], wandb_project
        )
        for part, config in resolved.items()
    }


def resolve(
    configs: Mapping[str, cfg.ExperimentConfig], mode: str
) -> dict[str, cfg.ExperimentConfig]:
    """Returns each part's settings with what follows from others.

    Raises:
        UserError: one of some part's is wrong.
    """
    resolved = {}
    for part, config in configs.items():
        with naming(part):
            resolved[part] = checking.resolve(config, mode)
    return resolved


@contextlib.contextmanager
def naming(part: str) -> Iterator[None]:
    """Has a UserError in a block say which part's setting is wrong."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{part}: {error}") from error


def make_strategies(
    configs: Mapping[str, cfg.ExperimentConfig],
) -> dict[str, tf.distribute.Strategy]:
    """Returns how each part is distributed; parts alike share a strategy.

    All are made at once, and first, because to begin a second time on a TPU
    clears it, and several workers must meet before TensorFlow computes.

    Raises:
        UserError: there is none such, or not so many devices.
    """
    made: dict[Any, tf.distribute.Strategy] = {}
    strategies = {}
    for part, config in configs.items():
        runtime = config.runtime
        key = tuple(getattr(runtime, name) for name in train.DISTRIBUTION)
        if key not in made:
            with naming(part):
                made[key] = train.make_strategy(runtime)
        strategies[part] = made[key]
    return strategies


def check_mode(mode: str) -> None:
    """Raises UserError if a mode is none for a chain."""
    if mode not in MODES:
        raise UserError(
            f"mode is {mode!r}, in --mode; for several recipes give one of "
            f"{', '.join(MODES)}"
        )


def before(part: str | None) -> str | None:
    """Returns which part one begins from, if from any.

    >>> before("phase1"), before("phase2"), before("squad")
    (None, 'phase1', 'phase2')
    """
    order = (None, *recipes.PARTS)
    return order[order.index(part) - 1] if part else None


def link(
    config: cfg.ExperimentConfig, part: str | None, folder: str
) -> cfg.ExperimentConfig:
    """Returns the settings of a part with where it begins.

    That is the folder, beside its own, of the part before. A run that has
    begun keeps what it began from, as folders may be moved.
    """
    if before(part) is None:
        return config
    if checkpoints.newest(folder):
        task = run_folder.read_parameters(folder).get("task", {})
        start = task.get("init_checkpoint", "")
    else:
        beside = os.path.dirname(folder.rstrip("/"))
        start = tf.io.gfile.join(beside, before(part))
    return config.replace(task={"init_checkpoint": start})


def linked_in_chain(
    config: cfg.ExperimentConfig, part: str, folder: str
) -> cfg.ExperimentConfig:
    """Returns the settings of a part of a whole chain; see :func:`link`.

    Raises:
        UserError: they say themselves where it begins.
    """
    if before(part) and config.task.init_checkpoint:
        raise UserError(
            f"task.init_checkpoint is {config.task.init_checkpoint}, but "
            f"{part} begins from {before(part)}; give it as "
            f"{recipes.PARTS[0]}.task.init_checkpoint"
        )
    return link(config, part, folder)


def alone(
    config: cfg.ExperimentConfig, recipe: str | None, mode: str, folder: str
) -> cfg.ExperimentConfig:
    """Returns the settings of a recipe that is trained by itself.

    Raises:
        UserError: it begins from another part, and there is no checkpoint.
    """
    part = recipes.part_of(recipe)
    if "train" not in mode or config.task.init_checkpoint:
        return config
    config = link(config, part, folder)
    begins = config.task.init_checkpoint
    has_begun = checkpoints.newest(folder)
    if begins and not has_begun and not checkpoints.newest(begins):
        raise UserError(
            f"{recipe} begins from a checkpoint of {before(part)}, and there "
            f"is none in {begins}; train that first, or give its folder with "
            "--params_override=task.init_checkpoint=FOLDER"
        )
    return config


def check(
    config: cfg.ExperimentConfig,
    part: str,
    mode: str,
    folder: str,
    strategy: tf.distribute.Strategy,
) -> None:
    """Looks for what is wrong with a part before any is trained.

    Args:
        config: its settings, resolved.
        part: which it is.
        mode: see :func:`run`.
        folder: its own.
        strategy: how it is to be distributed.

    Raises:
        UserError: something is.
    """
    if "train" not in mode and not checkpoints.newest(folder):
        raise UserError(
            f"there is no checkpoint of {part}, in {folder}; give the "
            "--model_dir of a chain that was trained"
        )
    if checkpoints.newest(folder):
        run_folder.check(folder, config, run_folder.OF_THE_RUN)
    with naming(part):
        task = task_factory.get_task(config.task)
        train.find_data(task, mode)
        if before(part) is None:  # The others' is yet to be trained.
            train.find_start(config.task, mode, folder)
        # What is done elsewhere need not be possible here.
        if "train" in mode and not done(config, mode, folder):
            trainer.cut_step(config, task, strategy.num_replicas_in_sync)


def run_part(
    part: str,
    config: cfg.ExperimentConfig,
    mode: str,
    folder: str,
    strategy: tf.distribute.Strategy,
    wandb_project: str | None = None,
) -> Figures:
    """Trains a part, or goes on with it, unless it is done."""
    figures = done(config, mode, folder)
    if figures:
        train.say(f"{part}: done, in {folder}")
        return figures
    train.say(f"{part}: in {folder}")
    tf_keras.backend.clear_session()
    figures = train.run(config, mode, folder, strategy, wandb_project)
    # Of several workers, which share the folder, the first writes.
    if "eval" in mode and strategy.extended.should_checkpoint:
        record(folder, figures)
    return figures


def done(
    config: cfg.ExperimentConfig, mode: str, folder: str
) -> Figures | None:
    """Returns the figures of a part of which nothing is left to do."""
    last = config.trainer.train_steps
    newest = checkpoints.newest(folder) or ""
    if "train" not in mode or newest.rpartition("-")[2] != str(last):
        return None
    if "eval" not in mode:
        return {"step": last}
    figures = recorded(folder)
    return figures if figures.get("step") == last else None


def make_data(
    configs: Mapping[str, cfg.ExperimentConfig],
    text_files: str,
    squad_train: str | None,
    squad_dev: str | None,
    folder: str,
) -> None:
    """Makes the data of all parts of plain text, unless it is there.

    Args:
        configs: the settings of each part, by which sequences are as long as
            the part wants them, and the vocabulary as large.
        text_files: names or patterns, separated by commas; or ``demo``, which
            needs no download and has its own questions.
        squad_train: SQuAD v1.1's questions for training.
        squad_dev: those for evaluation.
        folder: where to, on this machine.

    Raises:
        UserError: something is wrong with the text or the questions, or the
            folder holds data made otherwise.
    """
    from tf_largebatch.bert import demo, text

    is_demo = text_files == demo.NAME
    phases = [configs[part].task.train_data for part in recipes.PARTS[:2]]
    squad = configs[recipes.PARTS[2]].task
    wanted = text.Settings(
        input=text_files,
        vocab_size=squad.model.encoder.get().vocab_size,
        do_lower_case=squad.validation_data.do_lower_case,
        max_seq_length=tuple(phase.seq_length for phase in phases),
        max_predictions_per_seq=tuple(
            phase.max_predictions_per_seq for phase in phases
        ),
        squad_train=demo.TRAIN if is_demo else str(squad_train),
        squad_dev=demo.DEV if is_demo else str(squad_dev),
        squad_length=squad.validation_data.seq_length,
        squad_stride=squad.validation_data.doc_stride,
        query_length=squad.validation_data.query_length,
    )
    summary = pathlib.Path(folder) / text.SUMMARY
    if summary.exists():
        found = json.loads(summary.read_text())["settings"]
        if is_demo:  # Whose questions are where the package is.
            found |= {"squad_train": demo.TRAIN, "squad_dev": demo.DEV}
        check_data(found, wanted, folder)
        train.say(f"data: done, in {folder}")
    else:
        check_alone()
        train.say(f"data: in {folder}")
        text.build(pathlib.Path(folder), wanted)


def check_alone() -> None:
    """Raises UserError where other workers would make the same data."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        workers = resolver.cluster_spec().as_dict().get("worker", [])
    except (TypeError, ValueError) as error:
        raise UserError(
            f"TF_CONFIG is not as it must be: {error}; correct it, or unset it"
        ) from error
    if len(workers) > 1:
        raise UserError(
            f"TF_CONFIG names {len(workers)} workers, of which each would make "
            "the data of --text; make it once, with `tf-largebatch data bert`, "
            "and give its folder with --data_dir"
        )


def check_data(found: Mapping[str, Any], wanted: Any, folder: str) -> None:
    """Raises UserError where data was made of something else, or otherwise."""
    # As JSON has it.
    for name, value in json.loads(json.dumps(vars(wanted))).items():
        if found.get(name) != value:
            raise UserError(
                f"{folder} holds other data ({name} is {found.get(name)} "
                f"there, not {value}); give another --model_dir"
            )


def record(folder: str, figures: Figures) -> None:
    """Writes a part's figures to its folder."""
    path = tf.io.gfile.join(folder, FIGURES)
    try:
        run_folder.write(path, json.dumps(figures))
    except checkpoints.ERRORS as error:
        raise run_folder.cannot_write(folder, error) from error


def recorded(folder: str) -> Figures:
    """Returns the figures in a part's folder; none if it has none."""
    try:
        with tf.io.gfile.GFile(tf.io.gfile.join(folder, FIGURES)) as file:
            return dict(json.loads(file.read()))
    except (*checkpoints.ERRORS, ValueError, TypeError):
        return {}
