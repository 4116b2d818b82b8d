"""Trials a minute: the study's program against a loop of Keras's fit."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import tf_largebatch.keras
from tf_largebatch import parallel
from tf_largebatch.bench.timing import quartiles
from tf_largebatch.errors import RunError, UserError
from tf_largebatch.study import protocol, summary
from tf_largebatch.study.protocol import Run
from tf_largebatch.study.runner import ENVIRONMENT
from tf_largebatch.study.training import Trainer
from tf_largebatch.workloads import digits_resnet

WORKLOAD, TABLE, ROW = "digits_resnet", "table4", "nesterov"
# What of a trial by fit is measured: all of it, and fit alone, once more.
WHOLE, AGAIN = "whole trial", "fit again"
# What the chart's numbers are.
AXIS = "trials a minute"
STUDY = "study"
FITS = {
    "fit, tf_largebatch.keras.Nesterov": lambda numbers, steps: (
        tf_largebatch.keras.Nesterov(
            tf_largebatch.keras.Cosine(numbers["learning_rate"], steps),
            momentum=numbers["momentum"],
            weight_decay=numbers["weight_decay"],
        )
    ),
    "fit, keras.optimizers.SGD": lambda numbers, steps: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(numbers["learning_rate"], steps),
        momentum=numbers["momentum"],
        nesterov=True,
        weight_decay=numbers["weight_decay"],
    ),
}

# Seconds until it is looked whether a process has failed.
LOOK = 1

Timing = tuple[float, float]  # Wall and CPU seconds.
# What a process did: from when, until when, the trials.
Work = tuple[float, float, list[Timing]]


class Bench:
    """Does trials of one row in either way.

    Args:
        steps: of a trial.
        trials: how many points the row's search has.
    """

    def __init__(self, steps: int, trials: int):
        self.study = protocol.create(
            TABLE, WORKLOAD, steps=steps, trials=trials, rows=[ROW]
        )
        self.steps = steps
        (self.row,) = self.study["table"]["rows"]
        self.runs = protocol.tuning_runs(self.study, self.row)
        self.trainer = Trainer(self.study)
        points = self.trainer.workload.evaluations
        if steps % points:
            raise UserError(
                f"--steps is {steps}; give a multiple of {points}, as a trial "
                "is measured that often"
            )

    def by_study(self, run: Run) -> float:
        """Does a trial by the study's program; returns the test accuracy."""
        return self.trainer.run(self.row, run)["test"]

    def by_fit(
        self, run: Run, make_optimizer: Callable[[Any, int], Any]
    ) -> tuple[float, Timing]:
        """Does a trial by fit; returns the test accuracy and a second fit's.

        The second fit is timed from where model and program are there.
        """
        workload = self.trainer.workload
        numbers = {**self.row["settings"], **run.hyperparameters}
        model = workload.build_model(run.seed, numbers)
        model.compile(
            make_optimizer(numbers, self.steps),
            # Keras hands on the labels as floats.
            loss=lambda labels, logits: digits_resnet.cross_entropy(
                tf.cast(labels, tf.int32), logits, numbers["label_smoothing"]
            ),
            metrics=["accuracy"],
        )
        # The same batches in the same order, and as many measurements.
        order = workload.order(run.seed, self.steps)
        batches = tf.nest.map_structure(
            lambda x: x.numpy()[order], workload.splits["train"]
        )
        fit = {
            "x": untuned(tf.data.Dataset.from_tensor_slices(batches).repeat()),
            "epochs": workload.evaluations,
            "steps_per_epoch": self.steps // workload.evaluations,
            "validation_data": whole(workload.splits["validation"]),
            "shuffle": False,
            "verbose": 0,
        }
        model.fit(**fit)
        tests = whole(workload.splits["test"])
        model.evaluate(whole(workload.splits["train"]), verbose=0)
        _, accuracy = model.evaluate(tests, verbose=0)
        return accuracy, timed(lambda: model.fit(**fit))[1]


def whole(examples: Any) -> tf.data.Dataset:
    """Returns a split as a single batch, as the study has it."""
    return untuned(tf.data.Dataset.from_tensors(examples))


def untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """Returns data that tf.data does not tune, of which there is nothing.

    The end of a fit would wait for that, for up to two seconds.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def timed(function: Callable, *arguments: Any) -> tuple[Any, Timing]:
    """Returns what a function returns, and how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = function(*arguments)
    return value, (time.perf_counter() - wall, time.process_time() - cpu)


def measure(repeats: int, steps: int, workers: int | None) -> dict[str, Any]:
    """Returns all figures of the benchmark; see the command's help.

    Args:
        repeats: how often each thing is measured.
        steps: of a trial.
        workers: processes that do trials at the same time; None means one a
            core.

    Raises:
        UserError: the steps are no multiple of the measurements of a trial.
    """
    if workers is None:
        workers = parallel.cores()
    bench, (built, _) = timed(Bench, steps, repeats)
    _, (traced, _) = timed(bench.by_study, bench.runs[0])
    timings, accuracies = take_turns(bench)
    usual = float(np.median([wall for wall, _ in timings[STUDY]]))
    figures = {
        "workload": WORKLOAD,
        "row": ROW,
        "steps": steps,
        "batch": bench.study["workload"]["batch"],
        "repeats": repeats,
        "cores": parallel.cores(),
        "device": summary.device(),
        "versions": summary.versions(["keras"]),
        "set_up_seconds": built + traced - usual,
        "test_accuracies": accuracies,
        "ways": {name: describe(found) for name, found in timings.items()},
    }
    if workers:
        noun = "process" if workers == 1 else "processes"
        name = f"{STUDY}, {workers} {noun} of one thread"
        found = work_together(steps, repeats, workers)
        figures["ways"][name] = describe_together(found)
    return figures


def take_turns(
    bench: Bench,
) -> tuple[dict[str, list[Timing]], dict[str, list[float]]]:
    """Does every trial in every way, in turns.

    Returns:
        The timings of every way, and the test accuracies that came out.
    """
    timings: dict[str, list[Timing]] = {STUDY: []}
    accuracies: dict[str, list[float]] = {STUDY: []}
    for run in tqdm(bench.runs, "trials", disable=not sys.stderr.isatty()):
        accuracy, timing = timed(bench.by_study, run)
        accuracies[STUDY].append(accuracy)
        timings[STUDY].append(timing)
        for name, make_optimizer in FITS.items():
            (accuracy, again), both = timed(bench.by_fit, run, make_optimizer)
            accuracies.setdefault(name, []).append(accuracy)
            timings.setdefault(f"{name}: {WHOLE}", []).append(
                (both[0] - again[0], both[1] - again[1])
            )
            timings.setdefault(f"{name}: {AGAIN}", []).append(again)
    return timings, accuracies


def describe(timings: Sequence[Timing]) -> dict[str, Any]:
    """Returns a way's figures.

    >>> describe([(2.0, 3.0)])["trials_per_minute"]
    30.0
    """
    walls, cpus = zip(*timings)
    median = float(np.median(walls))
    return {
        "seconds": quartiles(walls),
        "cpu_seconds": quartiles(cpus),
        "cores_busy": sum(cpus) / sum(walls),
        "trials_per_minute": 60 / median,
    }


def work_together(steps: int, trials: int, count: int) -> list[Work]:
    """Has processes do trials at the same time; returns what each did.

    Raises:
        RunError: one of them has failed.
    """
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(count), context.Queue()
    with single_threaded():
        processes = [
            context.Process(
                target=work, args=(steps, trials, barrier, queue), daemon=True
            )
            for _ in range(count)
        ]
        for process in processes:
            process.start()
    found: list[Work] = []
    while len(found) < count:
        try:
            found.append(queue.get(timeout=LOOK))
        except Empty:
            if any(process.exitcode for process in processes):
                raise RunError(
                    "a process of the benchmark has failed; what it said is "
                    "above"
                ) from None
    for process in processes:
        process.join()
    return found


def describe_together(found: Sequence[Work]) -> dict[str, Any]:
    """Returns the figures of processes that worked at the same time."""
    begins, ends, lists = zip(*found)
    took = max(ends) - min(begins)
    timings = [timing for each in lists for timing in each]
    return {
        **describe(timings),
        "cores_busy": sum(cpu for _, cpu in timings) / took,
        "trials_per_minute": 60 * len(timings) / took,
    }


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Has the processes that start here compute with a thread each."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def work(steps: int, trials: int, barrier: Any, queue: Any) -> None:
    """Does trials in a process of its own, when all others are ready."""
    bench = Bench(steps, trials)
    bench.by_study(bench.runs[0])
    barrier.wait()
    begin = time.monotonic()
    timings = [timed(bench.by_study, run) for run in bench.runs]
    queue.put((begin, time.monotonic(), [timing for _, timing in timings]))


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures as text, a line a way, against the study's own."""
    name_width = max(map(len, figures["ways"]))
    usual = figures["ways"][STUDY]
    lines = [
        f"{figures['workload']}, {figures['steps']} steps of "
        f"{figures['batch']} examples, medians of {figures['repeats']} on "
        f"{figures['device']}",
        "",
        f"{'':{name_width}}  seconds (quartiles)  CPU s  cores  trials/min  "
        "study is",
    ]
    for name, way in figures["ways"].items():
        seconds = way["seconds"]
        quoted = "{median:.2f} ({q1:.2f} to {q3:.2f})".format(**seconds)
        ratio = usual["trials_per_minute"] / way["trials_per_minute"]
        lines.append(
            f"{name:{name_width}}  {quoted:19}  "
            f"{way['cpu_seconds']['median']:5.2f}  {way['cores_busy']:5.2f}  "
            f"{way['trials_per_minute']:10.1f}  {ratio:.1f} times as fast"
        )
    lines += [
        "",
        "The study's program is built and traced once, which takes "
        f"{figures['set_up_seconds']:.1f} seconds.",
    ]
    return "\n".join(lines)


def bars(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what the chart shows."""
    return [
        {
            "group": f"{figures['workload']}, {figures['steps']} steps a trial",
            "label": name,
            "value": way["trials_per_minute"],
            "low": way["trials_per_minute"],
            "high": way["trials_per_minute"],
            "ours": name.startswith(STUDY),
        }
        for name, way in figures["ways"].items()
    ]
