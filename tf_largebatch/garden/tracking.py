"""Sends the figures of a run to Weights & Biases too, where that is asked for.

They are those that TensorBoard shows. With them go the run's settings and what
wandb notes of the machine, but no source code and nothing that is printed.
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import orbit
import tensorflow as tf
from official.core import config_definitions as cfg

from tf_largebatch.errors import UserError
from tf_largebatch.garden import run_folder

# In the run's folder: by what name Weights & Biases knows it.
ID = "wandb_run_id.txt"
STEP = "global_step"
# The controller's attributes that write summaries, and what they are of.
WRITERS = {"summary_manager": "train", "eval_summary_manager": "validation"}


def check_installed() -> None:
    """Raises UserError if the package wandb is not installed."""
    try:
        import wandb  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "--wandb needs a package that is not installed "
            f"({error.name}); pip install 'tf-largebatch[wandb]'"
        ) from error


class Sending(orbit.utils.SummaryManagerInterface):
    """Writes summaries as another does, and sends them.

    Args:
        writer: the other.
        run: wandb's run.
        kind: of what the figures are, which their names begin with.
        step: the global step.
    """

    def __init__(self, writer: Any, run: Any, kind: str, step: tf.Variable):
        self._writer = writer
        self._run = run
        self._kind = kind
        self._step = step

    def flush(self) -> None:
        """Has what was written reach the disk."""
        self._writer.flush()

    def summary_writer(self, *args: Any, **kwargs: Any) -> Any:
        """Returns TensorFlow's writer."""
        return self._writer.summary_writer(*args, **kwargs)

    def write_summaries(self, summary_dict: Mapping[str, Any]) -> None:
        """Writes figures, which may be nested, and sends them."""
        self._writer.write_summaries(summary_dict)
        figures = {
            f"{self._kind}/{name}": float(value)
            for name, value in run_folder.flatten(summary_dict)
        }
        self._run.log({STEP: int(self._step), **figures})


@contextlib.contextmanager
def sent(
    controller: orbit.Controller,
    project: str | None,
    config: cfg.ExperimentConfig,
    mode: str,
    folder: str,
) -> Iterator[None]:
    """Sends what a controller reports while the context lasts.

    Args:
        controller: of the run; of several workers, the first one's alone.
        project: which to send to, at Weights & Biases; None for nothing.
        config: the run's settings.
        mode: one of ``MODES`` of :mod:`tf_largebatch.garden.train`.
        folder: of the run.

    Raises:
        UserError: Weights & Biases does not let the run begin.
    """
    writes = controller.strategy.extended.should_save_summary
    if project is None or not writes:
        yield
        return
    with begin(project, config, mode, folder) as run:
        # The step is a figure like others: wandb's own may not go back, as it
        # does where a run goes on from a checkpoint.
        run.define_metric("*", step_metric=STEP)
        for name, kind in WRITERS.items():
            if hasattr(controller, name):
                writer = getattr(controller, name)
                sending = Sending(writer, run, kind, controller.global_step)
                setattr(controller, name, sending)
        yield


def begin(
    project: str, config: cfg.ExperimentConfig, mode: str, folder: str
) -> Any:
    """Returns wandb's run, which goes on where the run in the folder does.

    Raises:
        UserError: it is not let begin. What wandb says of that is printed by
            itself, and is not repeated, as it may quote a key.
    """
    import wandb

    try:
        return wandb.init(
            project=project,
            id=run_id(folder, mode),
            resume="allow",
            name=folder,
            job_type=mode,
            config=run_folder.as_yaml(config),
            dir=None if "://" in folder else folder,
            settings=wandb.Settings(
                console="off", disable_code=True, disable_git=True
            ),
        )
    except wandb.Error as error:
        raise UserError(
            f"Weights & Biases does not let a run begin in project "
            f"{project!r}, in --wandb ({type(error).__name__}); see `wandb "
            "login`, or set WANDB_MODE=offline to keep the figures here"
        ) from error


def run_id(folder: str, mode: str) -> str:
    """Returns by what name Weights & Biases is to know a run.

    A training that goes on keeps its name; an evaluation alone is a run of its
    own, as it may go on beside the training.
    """
    fresh = secrets.token_hex(8)
    if "train" not in mode:
        return fresh
    path = tf.io.gfile.join(folder, ID)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            return str(file.read())
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(fresh)
    return fresh
