"""What the trainer adds to the bare step, at ResNet-50's size.

The trainer's loop, as `tf-largebatch train` runs it, beside a compiled function
of what no training can do without: forward, backward, the optimizer, and the
moving statistics of batch norm. Both train the same network by the same
optimizer on the same batch, which stays in memory, and take turns.

What the trainer has beside: it takes its batch from a dataset, keeps the means
of loss and accuracy, the gradients' norm and the optimizer's diagnostics, and
reads all that at the end of a loop. What Python does meanwhile is counted: the
two tensors that it reads at a step are the loop's own condition, on the number
of steps, which no program computes.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import task_factory, train_utils
from tensorflow.python.framework import ops
from tensorflow.python.ops import resource_variable_ops
from tqdm import tqdm

from tf_largebatch import parallel
from tf_largebatch.bench import timing
from tf_largebatch.garden import recipes, train
from tf_largebatch.garden.trainer import Trainer, distribute
from tf_largebatch.resnet.task import cross_entropy
from tf_largebatch.study import summary

RECIPE = "resnet50/nesterov_b_32k"
TRAINER, BARE = "trainer", "bare step"
# What the chart's numbers are.
AXIS = "seconds a step"
# A group of ghost batch norm has as many examples as on a TPU's core, or fewer.
VIRTUAL_BATCH = 64
CLOCKS = {"wall": "seconds", "cpu": "seconds of processor time"}
# What Python is seen to do.
HOST = {
    "programs": "programs started",
    "variables": "variables read",
    "tensors": "tensors read, those included",
}

Batch = tuple[tf.Tensor, tf.Tensor]
Timing = dict[str, float]  # By clock.


def measure(
    repeats: int,
    *,
    batch: int = 16,
    steps: int = 2,
    image_size: int = 224,
    depth: int = 50,
    width_multiplier: float = 1.0,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Returns all figures of the benchmark.

    Args:
        repeats: how often each way is measured.
        batch: examples of a step.
        steps: of a loop, at whose end the trainer reads its figures.
        image_size: side of a picture.
        depth: of the ResNet.
        width_multiplier: of the ResNet.
        dtype: what is computed in; bfloat16 is for accelerators.

    Raises:
        UserError: there is no such network.
    """
    config = settings(batch, image_size, depth, width_multiplier, dtype)
    with train.precision(config.runtime):
        bench = Bench(config)
        found = take_turns(bench, repeats, steps)
        python = host(bench)
        parameters = bench.trainer.model.count_params()
    return {
        "network": f"ResNet-{depth}",
        "parameters": parameters,
        "batch": batch,
        "steps": steps,
        "image_size": image_size,
        "dtype": dtype,
        "repeats": repeats,
        "cores": parallel.cores(),
        "device": device(),
        "versions": summary.versions(["tf_keras", "tf-models-official"]),
        **describe(found),
        "host": python,
    }


def settings(
    batch: int, image_size: int, depth: int, width: float, dtype: str
) -> cfg.ExperimentConfig:
    """Returns a recipe's settings, with another network and batch."""
    backbone = {
        "model_id": depth,
        "width_multiplier": width,
        "virtual_batch_size": math.gcd(batch, VIRTUAL_BATCH),
    }
    data = {"image_size": image_size, "dtype": dtype}
    model = {"backbone": backbone, "input_size": [image_size, image_size, 3]}
    values = {
        "task": {
            "model": model,
            "train_data": {"global_batch_size": batch, **data},
            "validation_data": data,
        },
        "runtime": {
            "mixed_precision_dtype": dtype,
            "distribution_strategy": "one_device",
            "num_gpus": min(1, len(gpus())),
        },
    }
    return recipes.experiment_config(RECIPE, values, "the benchmark")


def gpus() -> list[Any]:
    """Returns the machine's GPUs."""
    return tf.config.list_physical_devices("GPU")


def device() -> str:
    """Returns what is computed on, in words."""
    for each in gpus():
        return tf.config.experimental.get_device_details(each)["device_name"]
    return summary.device()


class Bench:
    """Takes steps in either way, on one replica.

    Args:
        config: settings of the experiment.
    """

    def __init__(self, config: cfg.ExperimentConfig):
        with train.make_strategy(config.runtime).scope():
            self.task = task_factory.get_task(config.task)
            batch = self.make_batch(config)
            self.trainer = Trainer(
                config,
                self.task,
                self.task.build_model(),
                train_utils.create_optimizer(self.task, config),
                evaluate=False,
                train_dataset=distribute(
                    lambda: tf.data.Dataset.from_tensors(batch).repeat()
                ),
            )
        self.bare_step = tf.function(lambda: self.take_step(*batch))

    def make_batch(self, config: cfg.ExperimentConfig) -> Batch:
        """Returns noise for pictures, and labels."""
        images, labels = self.task.input_spec(
            config.task.train_data.global_batch_size
        )
        classes = config.task.model.num_classes
        random = tf.random.Generator.from_seed(0)
        return (
            tf.cast(random.normal(images.shape), images.dtype),
            random.uniform(labels.shape, 0, classes, labels.dtype),
        )

    def take_step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Takes a bare step; returns the loss."""
        model = self.trainer.model
        smoothing = self.task.task_config.losses.label_smoothing
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = cross_entropy(labels, logits, smoothing)
            loss = tf.reduce_mean(losses)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.trainer.optimizer.apply_gradients(list(zip(gradients, variables)))
        self.task.end_step(model)
        return loss

    def by_trainer(self, steps: int) -> None:
        """Takes a loop of steps."""
        self.trainer.train(tf.constant(steps))

    def bare(self, steps: int) -> None:
        """Takes as many bare steps."""
        for _ in range(steps):
            self.bare_step()

    def host_work(self, steps: int) -> dict[str, int]:
        """Returns what Python does in a loop of so many steps."""
        program = type(self.bare_step)
        variable = resource_variable_ops.BaseResourceVariable
        with (
            counted(program, "__call__") as programs,
            counted(variable, "numpy") as variables,
            counted(ops._EagerTensorBase, "_numpy") as tensors,
        ):
            self.by_trainer(steps)
        calls = (programs, variables, tensors)
        return {name: each.call_count for name, each in zip(HOST, calls)}


def counted(cls: type, name: str) -> Any:
    """Counts the calls of a method while the context lasts."""
    return mock.patch.object(
        cls, name, autospec=True, side_effect=getattr(cls, name)
    )


def host(bench: Bench) -> dict[str, dict[str, int]]:
    """Returns what Python does in the trainer's loop, by the names of `HOST`.

    Returns:
        How often a step has it, and how often a loop has it beside.
    """
    one, two = bench.host_work(1), bench.host_work(2)
    step = {name: two[name] - one[name] for name in HOST}
    return {
        "step": step,
        "loop": {name: one[name] - step[name] for name in HOST},
    }


def take_turns(
    bench: Bench, repeats: int, steps: int
) -> dict[str, list[Timing]]:
    """Returns the times of a step in both ways, in every round."""
    ways = [(TRAINER, bench.by_trainer), (BARE, bench.bare)]
    found: dict[str, list[Timing]] = {name: [] for name, _ in ways}
    for _, way in ways:
        way(1)  # Traces and compiles.
    rounds = tqdm(range(repeats), "rounds", disable=not sys.stderr.isatty())
    for number in rounds:
        # Each is the first as often as the other.
        for name, way in ways[:: (-1) ** number]:
            found[name].append(timed(way, steps))
    return found


def timed(way: Callable[[int], None], steps: int) -> Timing:
    """Returns how long one of so many steps takes, by clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    way(steps)
    tf.test.experimental.sync_devices()
    return {
        "wall": (time.perf_counter() - wall) / steps,
        "cpu": (time.process_time() - cpu) / steps,
    }


def describe(found: Mapping[str, Sequence[Timing]]) -> dict[str, Any]:
    """Returns seconds a step, and what of it the trainer adds in percent.

    The latter is of the two ways in the same round.
    """
    added = [
        {clock: 100 * (ours[clock] / bare[clock] - 1) for clock in CLOCKS}
        for ours, bare in zip(found[TRAINER], found[BARE])
    ]
    return {
        "seconds": {
            name: timing.spread(times) for name, times in found.items()
        },
        "overhead": timing.spread(added),
    }


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures as text."""
    lines = [
        f"{title(figures)}, {figures['steps']} steps a loop, medians of "
        f"{figures['repeats']} rounds on {figures['device']}"
    ]
    for clock, words in CLOCKS.items():
        lines += ["", f"{words + ' a step':34}  median  quartiles"]
        for name, times in figures["seconds"].items():
            lines.append(row(name, times[clock], ".3f"))
        added = figures["overhead"][clock]
        lines.append(row(f"{TRAINER} adds, in percent", added, ".2f"))
    lines += ["", f"{'Python in the trainer:':34}  a step  a loop beside"]
    for name, words in HOST.items():
        step, loop = (figures["host"][each][name] for each in ("step", "loop"))
        lines.append(f"  {words:32}  {step:6}  {loop:13}")
    return "\n".join(lines)


def title(figures: Mapping[str, Any]) -> str:
    """Returns what is trained, in words."""
    size, batch = figures["image_size"], figures["batch"]
    return (
        f"{figures['network']} in {figures['dtype']}, {batch} pictures of "
        f"{size} x {size} a step"
    )


def row(name: str, numbers: Mapping[str, float], form: str) -> str:
    """Returns a line of the table: median and quartiles."""
    median, low, high = (
        format(numbers[key], form) for key in ("median", "q1", "q3")
    )
    return f"  {name:32}  {median:>6}  {low} to {high}"


def bars(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the bars of a chart."""
    return [
        {
            "group": title(figures),
            "label": name,
            "value": times["wall"]["median"],
            "low": times["wall"]["q1"],
            "high": times["wall"]["q3"],
            "ours": name == TRAINER,
        }
        for name, times in figures["seconds"].items()
    ]
