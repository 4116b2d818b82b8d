"""Training a row of a study that is a recipe, through the Model Garden.

A run has a seed of its own, from which initial weights, order of the data,
augmentation and dropout follow. It always takes all of its steps: a
``target_accuracy`` does not end it.
"""

import contextlib
import dataclasses
import gc
import pathlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from tf_largebatch.errors import DivergenceError
from tf_largebatch.garden import train
from tf_largebatch.garden.overrides import override
from tf_largebatch.study import folder as folders
from tf_largebatch.study import protocol
from tf_largebatch.study.protocol import Run
from tf_largebatch.study.recipes import JUDGES, setup_of
from tf_largebatch.study.results import finite

Values = Mapping[str, Any]
Figures = dict[int, dict[str, float]]
LOG = "log.txt"


class Trainer:
    """Does the runs of a study of recipes.

    Args:
        study: its protocol.
        folder: of the study, where a run that was stopped is taken up again;
            None means that runs leave nothing behind.
    """

    def __init__(self, study: Values, folder: pathlib.Path | None = None):
        self.study, self.folder = study, folder
        self.experiment: str = study["workload"]["experiment"]
        self.judge = JUDGES[self.experiment]

    def run(
        self, row: Values, run: Run, is_hopeless: Any = None
    ) -> dict[str, Any]:
        """Trains once and returns the run's line for the ledger.

        Args:
            row: of the protocol.
            run: what is to be done.
            is_hopeless: not asked, as runs are judged at their end alone.

        Raises:
            UserError: a setting is wrong, or data or folder cannot be used.
            RunError: it failed otherwise than by diverging.
        """
        del is_hopeless
        started = time.perf_counter()
        config = self.config(row, run)
        with self.place(run) as folder:
            final = self.train(config, folder)
            learnt = summaries(folder / "train")
            evaluated = summaries(folder / "validation") | (final or {})
        diverged = final is None
        curve = self.curve(config, evaluated, learnt, diverged)
        return {
            **dataclasses.asdict(run),
            **self.result(curve, learnt, diverged),
            "seconds": round(time.perf_counter() - started, 3),
            "curve": curve,
        }

    def config(self, row: Values, run: Run) -> Any:
        """Returns all settings of a run."""
        point = {name: run.hyperparameters[name] for name in row["space"]}
        config = setup_of(self.study, row, point).config
        seeds = {"seed": run.seed, "train_data": {"seed": run.seed}}
        override(config, {"task": seeds}, "study.yaml")
        override(config, {"trainer": {"target_accuracy": 0.0}}, "study.yaml")
        return config

    @contextlib.contextmanager
    def place(self, run: Run) -> Iterator[pathlib.Path]:
        """Gives the folder of a run, which is there."""
        if self.folder is None:
            with tempfile.TemporaryDirectory() as name:
                yield pathlib.Path(name)
            return
        found = folders.place(self.folder, run)
        try:
            found.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folders.cannot_write(found, error) from error
        yield found

    def train(self, config: Any, folder: pathlib.Path) -> Figures | None:
        """Trains, from the beginning or from where it was stopped.

        Returns:
            The figures at the end, by the step; None where it diverged.
        """
        try:
            # Orbit reports its progress on standard output.
            with (
                open(folder / LOG, "a", encoding="utf-8") as log,
                contextlib.redirect_stdout(log),
            ):
                found = train.run(config, "train_and_eval", str(folder))
        except DivergenceError:
            return None
        finally:
            tf_keras.backend.clear_session()
            gc.collect()
        return {int(found.pop("step")): found}

    def curve(
        self, config: Any, evaluated: Figures, learnt: Figures, diverged: bool
    ) -> list[dict[str, Any]]:
        """Returns a run's learning curve: a point an evaluation.

        Args:
            config: all settings of the run.
            evaluated: figures of evaluation.
            learnt: figures of training.
            diverged: whether there is a last point with the worst values.
        """
        worst = self.judge.worst(config)
        values = {
            step: self.judge.value(figures, worst)
            for step, figures in evaluated.items()
        }
        curve = [
            {
                "step": step,
                "loss": latest(learnt, "training_loss", step),
                "validation": value,
                "validation_loss": finite(
                    evaluated[step].get(self.judge.loss or "")
                ),
                "test": value,
            }
            for step, value in sorted(values.items())
        ]
        if diverged:
            # Where it ended is not written; it was later than what is.
            end = {"step": 1 + max([0, *learnt, *evaluated]), "loss": None}
            scores = {"validation": worst, "validation_loss": None}
            curve.append({**end, **scores, "test": worst})
        return curve

    def result(
        self, curve: list[dict[str, Any]], learnt: Figures, diverged: bool
    ) -> dict[str, Any]:
        """Returns a run's figures, from its curve and those of training."""
        last, metric = curve[-1], self.judge.train
        reached = [
            point["step"]
            for point in curve
            if protocol.hits(self.study["workload"], point["test"])
        ]
        train = latest(learnt, metric, last["step"]) if metric else None
        return {
            "validation": last["validation"],
            "validation_loss": last["validation_loss"],
            "test": last["test"],
            "train": last["test"] if diverged and metric else train,
            "steps": last["step"],
            "diverged": diverged,
            "steps_to_target": min(reached, default=None),
        }


def summaries(folder: pathlib.Path) -> Figures:
    """Returns what a run wrote for TensorBoard, by step and name.

    What was written twice, before and after a stop, counts as it was last.
    """
    found: Figures = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        # The file of a run that was killed may end in the middle of a record.
        with contextlib.suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    number = float(tf.make_ndarray(value.tensor))
                    found.setdefault(event.step, {})[value.tag] = number
    return found


def latest(figures: Figures, name: str, step: int) -> float | None:
    """Returns a figure as it was last at a step; None if not finite."""
    steps = [each for each in figures if each <= step and name in figures[each]]
    return finite(figures[max(steps)][name]) if steps else None
