"""The outer loop: when to train, evaluate, save, and stop."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orbit
import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import train_lib, train_utils

from tf_largebatch import checkpoints, stopping
from tf_largebatch.errors import RunError, UserError
from tf_largebatch.garden import run_folder

Output = dict[str, Any]
# What TensorFlow raises where another worker is gone.
GONE = (tf.errors.UnavailableError, tf.errors.AbortedError)


class Controller(orbit.Controller):
    """Orbit's controller, which can stop at a target.

    Evaluations and checkpoints fall on multiples of their intervals, also
    after a run was stopped in between. An evaluation that was due when it was
    stopped is made up for.
    """

    def train_and_evaluate(
        self,
        train_steps: int,
        eval_steps: int = -1,
        eval_interval: int | None = None,
    ) -> Output | None:
        """Trains up to ``train_steps`` or to the target, whichever is first.

        Args:
            train_steps: the global step to train up to.
            eval_steps: batches an evaluation takes; -1 means all.
            eval_interval: steps between evaluations; None means one at the
                end.

        Returns:
            The figures of the last evaluation.
        """
        interval = eval_interval or train_steps
        step = self.step
        due = step > 0 and (step % interval == 0 or step >= train_steps)
        output = self.evaluate(eval_steps) if due else None
        while step < train_steps and not self.reached_target(output):
            step = min((step // interval + 1) * interval, train_steps)
            self.train(step, checkpoint_at_completion=False)
            output = self.evaluate(eval_steps)
        self.save_checkpoint()
        return output

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return int(self.global_step.numpy())

    def reached_target(self, output: Output | None) -> bool:
        """Whether an evaluation's accuracy is at least the target."""
        target = self.evaluator.config.trainer.target_accuracy
        if not target or output is None:
            return False
        reached = output[self.evaluator.task.accuracy]
        return bool(np.float32(reached) >= np.float32(target))

    @property
    def steps_per_loop(self) -> int:
        """How many steps the next loop takes: up to a checkpoint at most."""
        interval = self.checkpoint_manager.checkpoint_interval
        if not interval:
            return self._steps_per_loop
        return min(self._steps_per_loop, interval - self.step % interval)

    def _maybe_save_checkpoint(self, check_interval: bool = True) -> bool:
        interval = self.checkpoint_manager.checkpoint_interval
        between = bool(interval and self.step % interval)
        if check_interval and between or self.is_saved():
            return False
        with stopping.deferred(), self.naming_what_is_left():
            return super()._maybe_save_checkpoint(check_interval=False)

    @contextlib.contextmanager
    def naming_what_is_left(self) -> Iterator[None]:
        """Turns a failure to save into a RunError that says what there is."""
        try:
            yield
        except GONE:
            raise  # No failure of the disk's.
        except checkpoints.ERRORS as error:
            last = self.checkpoint_manager.latest_checkpoint
            rest = f"goes on from {last}" if last else "begins anew"
            raise RunError(
                f"cannot save step {self.step} in "
                f"{self.checkpoint_manager.directory}: "
                f"{checkpoints.first_line(error)}; make room, and the same "
                f"command {rest}"
            ) from error

    def is_saved(self) -> bool:
        """Whether there is a checkpoint of this very step."""
        newest = self.checkpoint_manager.latest_checkpoint or ""
        return newest.rpartition("-")[2] == str(self.step)

    def save_checkpoint(self) -> None:
        """Saves, and waits until that is done."""
        with self.naming_what_is_left():
            super().save_checkpoint()
            self._sync_on_async_checkpointing()


class Follower(tf.train.CheckpointManager):
    """Of a worker that is not the first of several.

    All must save at once, as what replicas hold apart is added up; what the
    others write nobody needs. What the first has written, all begin from.

    Args:
        checkpoint: what is saved.
        model_dir: folder of the run.
        **kwargs: as for the base class.
    """

    def __init__(
        self, checkpoint: tf.train.Checkpoint, model_dir: str, **kwargs: Any
    ):
        self._folder = tempfile.TemporaryDirectory()
        self._begun_from = checkpoints.newest(model_dir)
        super().__init__(checkpoint, self._folder.name, max_to_keep=1, **kwargs)

    @property
    def latest_checkpoint(self) -> str | None:
        """Path of the newest checkpoint, which may be the first worker's."""
        return super().latest_checkpoint or self._begun_from

    def restore_or_initialize(self) -> str | None:
        """Restores what the first worker restores; returns its path."""
        if self._begun_from is None:
            return super().restore_or_initialize()
        self.checkpoint.restore(self._begun_from)
        return self._begun_from


class NoSuchFigureError(UserError):
    """A setting names a figure that an evaluation turns out not to have."""


class BestCheckpoint(train_utils.BestCheckpointExporter):
    """Keeps the checkpoint of the best evaluation, in a folder of its own.

    What it can be exported by is beside it, ``params.yaml``.

    Args:
        config: of the run.
        folder: where to keep it.
        writes: whether this worker does, as the first of several.
    """

    def __init__(
        self, config: cfg.ExperimentConfig, folder: str, writes: bool = True
    ):
        trainer = config.trainer
        self._config, self._metric = config, trainer.best_checkpoint_eval_metric
        super().__init__(
            folder, self._metric, trainer.best_checkpoint_metric_comp
        )
        if not writes:
            # All must save at once. The best so far, all know by now.
            self._elsewhere = tempfile.TemporaryDirectory()
            self._export_dir = self._elsewhere.name

    @classmethod
    def of(
        cls, config: cfg.ExperimentConfig, model_dir: str, writes: bool
    ) -> "BestCheckpoint | None":
        """Returns what keeps a run's best checkpoint, if that is asked for."""
        name = config.trainer.best_checkpoint_export_subdir
        folder = tf.io.gfile.join(model_dir, name)
        return cls(config, folder, writes) if name else None

    def maybe_export_checkpoint(
        self,
        checkpoint: tf.train.Checkpoint,
        eval_logs: Output,
        global_step: int,
        write_logs: bool = True,
    ) -> bool:
        """Saves if an evaluation is the best; returns whether it is.

        Raises:
            NoSuchFigureError: it has none of the metric's name.
            UserError: the folder cannot be written to.
        """
        if self._metric not in eval_logs:
            raise NoSuchFigureError(
                f"best_checkpoint_eval_metric is {self._metric!r}, in "
                "trainer, but an evaluation has no such figure; choose one of "
                f"{', '.join(sorted(eval_logs))}"
            )
        with stopping.deferred():
            try:
                best = super().maybe_export_checkpoint(
                    checkpoint, eval_logs, global_step, write_logs=False
                )
                # Last what says that it is there.
                if best and write_logs:
                    run_folder.write_parameters(self._export_dir, self._config)
                    self.export_best_eval_metric(eval_logs, global_step)
            except GONE:
                raise  # No failure of the disk's.
            except checkpoints.ERRORS as error:
                raise run_folder.cannot_write(
                    self._export_dir, error
                ) from error
        return best

    def export_best_eval_metric(
        self, eval_logs: Output, global_step: int
    ) -> None:
        """Writes the figures of the best evaluation, by which a run goes on."""
        values = {
            name: orbit.utils.get_value(value)
            for name, value in eval_logs.items()
            if not isinstance(value, Mapping)
        }
        # Not what another package's task may have beside, such as pictures.
        figures = {
            name: float(value)
            for name, value in values.items()
            if np.ndim(value) == 0
        }
        text = json.dumps(figures | {"best_ckpt_global_step": int(global_step)})
        run_folder.write(self.best_ckpt_logs_path, text)


class Runner(train_lib.OrbitExperimentRunner):
    """The Garden's runner; returns figures, and counts no flops at the end.

    Args:
        strategy: how the work is distributed.
        *args: as for the base class.
        **kwargs: as for the base class.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, *args: Any, **kwargs: Any
    ):
        writes = strategy.extended.should_save_summary
        super().__init__(strategy, *args, save_summary=writes, **kwargs)

    def _maybe_build_checkpoint_manager(self) -> tf.train.CheckpointManager:
        if self.strategy.extended.should_checkpoint:
            return super()._maybe_build_checkpoint_manager()
        return Follower(
            self.trainer.checkpoint,
            self.model_dir,
            step_counter=self.trainer.global_step,
            checkpoint_interval=self.params.trainer.checkpoint_interval,
            init_fn=self.trainer.initialize,
        )

    def run(self) -> Output:
        """Runs the mode; returns the figures of the last evaluation, if any."""
        with self.strategy.scope():
            return dict(getattr(self, self._mode)() or {})

    def train(self) -> None:
        """Trains."""
        self.controller.train(self.params.trainer.train_steps)

    def eval(self) -> Output | None:
        """Evaluates."""
        return self.controller.evaluate(self.params.trainer.validation_steps)

    def train_and_post_eval(self) -> Output | None:
        """Trains, then evaluates."""
        self.train()
        return self.eval()

    def train_and_eval(self) -> Output | None:
        """Trains and evaluates by turns."""
        trainer = self.params.trainer
        return self.controller.train_and_evaluate(
            trainer.train_steps,
            trainer.validation_steps,
            trainer.validation_interval,
        )

    def continuous_eval(self) -> Output | None:
        """Evaluates every checkpoint that another process writes."""
        trainer = self.params.trainer
        return self.controller.evaluate_continuously(
            trainer.validation_steps,
            trainer.continuous_eval_timeout,
            lambda: self.controller.step >= trainer.train_steps,
        )
