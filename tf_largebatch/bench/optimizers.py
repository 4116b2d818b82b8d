"""Milliseconds of an optimizer's step, beside its peers and the floor.

The floor is the time in which the bytes that must move can move, at the
bandwidth of a copy by all cores in the same minutes.
"""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import math
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from tf_largebatch.bench import sizes
from tf_largebatch.bench.machine import Copies, free_memory
from tf_largebatch.bench.timing import quartiles
from tf_largebatch.errors import RunError
from tf_largebatch.study import summary

SCRIPT = pathlib.Path(__file__).with_name("contestant.py")
# Bytes that have to move, a float32 parameter, by algorithm.
BYTES = {"momentum": 20, "Adam": 28, "LARS": 28, "LAMB": 40}
SLOTS = {"momentum": 1, "Adam": 2, "LARS": 1, "LAMB": 2}
# What the chart's numbers are.
AXIS = "times the floor (the bytes that must move, at a copy's bandwidth)"
# The other limit: what it takes to go over the same bytes in place.
LOOP = "a loop in place over the same bytes"
# What a process has beside its variables; how much of what is free is used.
IMPORTED, USED = 1 << 30, 0.7

PACKAGE = "tf_largebatch"
RATE: dict[str, Any] = {"learning_rate": 1e-3}
MOMENTUM: dict[str, Any] = {**RATE, "momentum": 0.9}
DECAY: dict[str, Any] = {"weight_decay": 1e-2}
EXCLUDED = [r"gamma", r"beta", r"bias"]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An optimizer, and how its step is compiled.

    Attributes:
        algorithm: whose floor it has.
        label: what it is called in the table.
        driver: which of `contestant.py` runs it.
        optimizer: dotted name.
        arguments: of the constructor.
        packages: what it needs, by the name on PyPI.
        xla: whether XLA compiles its step; JAX's always are.
    """

    algorithm: str
    label: str
    driver: str
    optimizer: str
    arguments: Mapping[str, Any]
    packages: tuple[str, ...] = ()
    xla: bool = False

    @property
    def name(self) -> str:
        """Label and mode."""
        if self.driver == "loop":
            return self.label
        is_jax = self.driver in ("optax", "keras on jax")
        mode = "jax" if is_jax else "XLA" if self.xla else "graph"
        return f"{self.label}, {mode}"

    @property
    def ours(self) -> bool:
        """Whether it is this package's."""
        return self.optimizer.startswith(PACKAGE)

    def work(self, shapes: sizes.Shapes) -> str:
        """Returns the argument of the process."""
        return json.dumps(dataclasses.asdict(self) | {"shapes": dict(shapes)})

    def needs(self, shapes: sizes.Shapes) -> int:
        """Returns how much memory it may take up, in bytes."""
        # Start values, weights, gradients, slots, and with XLA all anew.
        copies = 3 + SLOTS[self.algorithm]
        copies += 1 + SLOTS[self.algorithm] if self.name[-3:] != "aph" else 1
        return IMPORTED + 4 * copies * sizes.count(shapes)


def ours(algorithm: str, name: str, words: str = "", **arguments: Any) -> Any:
    """Returns this package's optimizer in both Kerases and on JAX."""
    for family, driver in (("tf_keras", "tf_keras"), ("keras", "keras")):
        label = f"{PACKAGE}.{family}.{name}{words}"
        dotted = f"{PACKAGE}.{family}.{name}"
        yield Contestant(algorithm, label, driver, dotted, arguments)
        if not words:
            yield Contestant(
                algorithm, label, driver, dotted, arguments, xla=True
            )
    if not words:
        yield Contestant(
            algorithm, label, "keras on jax", dotted, arguments, ("jax",)
        )


def peer(
    algorithm: str, driver: str, dotted: str, *packages: str, **arguments: Any
) -> Iterator[Contestant]:
    """Returns a peer on TensorFlow in both modes."""
    label = dotted.removeprefix("official.modeling.optimization.")
    label = label.replace("optimizers.", "")
    for xla in (False, True):
        yield Contestant(
            algorithm, label, driver, dotted, arguments, packages, xla
        )


def optax(algorithm: str, name: str, **arguments: Any) -> Contestant:
    """Returns a peer on JAX."""
    dotted = f"optax.{name}"
    return Contestant(algorithm, dotted, "optax", dotted, arguments, ("optax",))


def loop(algorithm: str, **norms: str) -> Contestant:
    """Returns the least that a processor has to do for an algorithm."""
    arguments = {"slots": SLOTS[algorithm], **norms}
    return Contestant(algorithm, LOOP, "loop", "", arguments, ("jax",))


GARDEN = "tf-models-official"
NESTEROV: dict[str, Any] = {**MOMENTUM, "nesterov": True}
MODEL_GARDEN = "official.modeling.optimization"
CONTESTANTS = (
    loop("momentum"),
    *ours("momentum", "Nesterov", **MOMENTUM),
    *ours("momentum", "Nesterov", " with decay", **MOMENTUM, **DECAY),
    *ours("momentum", "HeavyBall", **MOMENTUM),
    *peer("momentum", "tf_keras", "tf_keras.optimizers.SGD", **NESTEROV),
    *peer("momentum", "keras", "keras.optimizers.SGD", **NESTEROV),
    optax("momentum", "sgd", **NESTEROV),
    loop("Adam"),
    *ours("Adam", "Adam", **RATE),
    *ours("Adam", "Adam", " with decay", **RATE, **DECAY),
    *peer("Adam", "tf_keras", "tf_keras.optimizers.AdamW", **RATE, **DECAY),
    *peer("Adam", "keras", "keras.optimizers.AdamW", **RATE, **DECAY),
    *peer(
        "Adam",
        "tf_keras",
        f"{MODEL_GARDEN}.legacy_adamw.AdamWeightDecay",
        GARDEN,
        **RATE,
        weight_decay_rate=DECAY["weight_decay"],
        exclude_from_weight_decay=EXCLUDED,
    ),
    optax("Adam", "adamw", **RATE, **DECAY),
    loop("LARS", norms_of="gradients"),
    *ours("LARS", "LARS", **MOMENTUM),
    *peer(
        "LARS",
        "tf_keras",
        f"{MODEL_GARDEN}.lars.LARS",
        GARDEN,
        **MOMENTUM,
        weight_decay_rate=1e-4,
        exclude_from_weight_decay=EXCLUDED,
        exclude_from_layer_adaptation=EXCLUDED,
    ),
    optax("LARS", "lars", **MOMENTUM, weight_decay=1e-4),
    loop("LAMB", norms_of="slots"),
    *ours("LAMB", "LAMB", **RATE, **DECAY),
    *peer("LAMB", "keras", "keras.optimizers.Lamb", **RATE, **DECAY),
    *peer(
        "LAMB",
        "tf_keras",
        f"{MODEL_GARDEN}.lamb.LAMB",
        GARDEN,
        **RATE,
        weight_decay_rate=DECAY["weight_decay"],
        exclude_from_weight_decay=EXCLUDED,
        exclude_from_layer_adaptation=EXCLUDED,
    ),
    *peer(
        "LAMB",
        "tf_keras",
        "tensorflow_addons.optimizers.LAMB",
        "tensorflow-addons",
        **RATE,
        weight_decay=DECAY["weight_decay"],
        exclude_from_weight_decay=EXCLUDED,
        exclude_from_layer_adaptation=EXCLUDED,
    ),
    optax("LAMB", "lamb", **RATE, **DECAY),
)


class Process:
    """A contestant at work.

    Args:
        contestant: which.
        shapes: of the variables.
        python: the interpreter.
    """

    def __init__(
        self, contestant: Contestant, shapes: sizes.Shapes, python: str
    ):
        self.contestant = contestant
        self.seconds: list[float] = []
        self.peak: Any = None
        self.process = subprocess.Popen(
            [python, "-P", str(SCRIPT), contestant.work(shapes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.begun = self.answer()

    def answer(self) -> dict[str, Any]:
        """Returns what the process says next.

        Raises:
            RunError: it has failed.
        """
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            said = self.process.stderr.read()  # type: ignore[union-attr]
            raise RunError(
                f"{self.contestant.name} failed: {said.strip()[-300:]}"
            )
        return json.loads(line)

    def ask(self, what: str) -> dict[str, Any]:
        """Has the process do something; returns what it says."""
        self.process.stdin.write(f"{what}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self.answer()

    def step(self) -> None:
        """Takes a step."""
        self.seconds.append(self.ask("step")["seconds"])

    @property
    def extra_bytes(self) -> int | None:
        """The peak beyond weights, gradients and slots, in bytes.

        What tracing and compiling have taken is part of it.
        """
        before = self.begun["before"]
        return None if None in (self.peak, before) else self.peak - before

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()


class Round(NamedTuple):
    """What some processes did by turns.

    Attributes:
        bandwidths: of a copy before each turn, in bytes a second.
        processes: by the name of their contestant.
    """

    bandwidths: list[float]
    processes: dict[str, Process]


def measure(
    repeats: int,
    sizes_of: Sequence[str] = ("resnet50", "bert_base"),
    algorithms: Sequence[str] = tuple(BYTES),
    addons_python: str | None = None,
) -> dict[str, Any]:
    """Returns all figures; see the command's help.

    Args:
        repeats: how many steps of each are timed, in two processes.
        sizes_of: the models whose variables there are.
        algorithms: which.
        addons_python: an interpreter with tensorflow-addons.

    Returns:
        The figures; if it was interrupted, those of the algorithms that were
        done, and what was not under ``stopped``.

    Raises:
        RunError: an optimizer has failed.
        KeyboardInterrupt: it was interrupted before there was any figure.
    """
    copies = Copies()
    rows: list[dict[str, Any]] = []
    waiting = list(itertools.product(sizes_of, algorithms))
    try:
        while waiting:
            contest = Contest(*waiting[0], repeats, copies, addons_python)
            rows += contest.run()
            del waiting[0]
    except KeyboardInterrupt:
        if not rows:
            raise
    return {
        "stopped": [", ".join(each) for each in waiting],
        "repeats": 2 * half(repeats),
        "device": summary.device(),
        "versions": summary.versions(["keras", "tf_keras"]) | more_versions(),
        "rows": rows,
    }


def more_versions() -> dict[str, str]:
    """Returns the versions of the peers that are installed here."""
    return {
        name: importlib.metadata.version(name)
        for name in ("jax", "optax", GARDEN)
        if is_installed(name)
    }


def is_installed(package: str) -> bool:
    """Whether a package is, in this environment."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class Contest:
    """All optimizers of an algorithm, at a size; as many at once as fit."""

    def __init__(
        self,
        size: str,
        algorithm: str,
        repeats: int,
        copies: Copies,
        addons_python: str | None,
    ):
        self.size, self.algorithm, self.repeats = size, algorithm, repeats
        self.shapes = sizes.SIZES[size]()
        self.copies = copies
        self.pythons = {"tensorflow-addons": addons_python}

    def python(self, contestant: Contestant) -> str | None:
        """Returns the interpreter for a contestant; None without one."""
        for package in contestant.packages:
            if package in self.pythons:
                return self.pythons[package]
            if not is_installed(package):
                return None
        return sys.executable

    def run(self) -> list[dict[str, Any]]:
        """Returns a row a contestant."""
        waiting = [
            each
            for each in CONTESTANTS
            if each.algorithm == self.algorithm and self.python(each)
        ]
        rows: list[dict[str, Any]] = []
        title = f"{self.size}, {self.algorithm}"
        show = sys.stderr.isatty()
        with tqdm(total=len(waiting), desc=title, disable=not show) as bar:
            while waiting:
                together = self.fitting(waiting)
                waiting = waiting[len(together) :]
                rounds = [self.take_turns(together)]
                rounds.append(self.take_turns(together[::-1]))
                rows += [self.row(each, rounds) for each in together]
                bar.update(len(together))
        limit = [row for row in rows if row["name"] == LOOP]
        for row in rows:
            median = row["seconds"]["median"]
            row["times_loop"] = (
                median / limit[0]["seconds"]["median"] if limit else None
            )
        return rows

    def fitting(self, waiting: Sequence[Contestant]) -> list[Contestant]:
        """Returns the first of those that wait, as many as memory holds."""
        room = USED * free_memory()
        together: list[Contestant] = []
        for each in waiting:
            room -= each.needs(self.shapes)
            if together and room < 0:
                break
            together.append(each)
        return together

    def take_turns(self, contestants: Sequence[Contestant]) -> Round:
        """Measures half of the repeats, a step of each by turns.

        A process keeps the memory that it was given, which is not as fast as
        another's, and who begins a turn finds a processor that has rested: so
        every contestant has two processes, in opposite orders.
        """
        with contextlib.ExitStack() as stack:
            processes = []
            for each in contestants:
                python = self.python(each) or sys.executable
                process = Process(each, self.shapes, python)
                stack.callback(process.close)
                processes.append(process)
            bandwidths = []
            for _ in range(half(self.repeats)):
                bandwidths.append(self.copies.bandwidth())
                for process in processes:
                    process.step()
            for process in processes:
                process.peak = process.ask("memory")["peak"]
        by_name = {process.contestant.name: process for process in processes}
        return Round(bandwidths, by_name)

    def row(
        self, contestant: Contestant, rounds: Sequence[Round]
    ) -> dict[str, Any]:
        """Returns a contestant's figures."""
        processes = [each.processes[contestant.name] for each in rounds]
        seconds = [x for process in processes for x in process.seconds]
        first = [process.begun["first"] for process in processes]
        parameters = sizes.count(self.shapes)
        bandwidth = float(np.median([x for r in rounds for x in r.bandwidths]))
        floor = BYTES[self.algorithm] * parameters / bandwidth
        return {
            "size": self.size,
            "algorithm": self.algorithm,
            "name": contestant.name,
            "ours": contestant.ours,
            "family": contestant.driver,
            "parameters": parameters,
            "seconds": quartiles(seconds),
            "first_call_seconds": float(np.mean(first)),
            "bandwidth": bandwidth,
            "floor_seconds": floor,
            "times_floor": float(np.median(seconds)) / floor,
            "extra_bytes": mean_or_none([p.extra_bytes for p in processes]),
            "largest_variable_bytes": 4
            * max(map(math.prod, self.shapes.values())),
        }


def half(repeats: int) -> int:
    """Returns how often each of two processes is timed."""
    return (repeats + 1) // 2


def mean_or_none(values: Sequence[int | None]) -> float | None:
    """Returns the mean, or None where a value is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures as text, a line a contestant."""
    rows = figures["rows"]
    width = max(len(row["name"]) for row in rows)
    lines = [
        f"An optimizer's step, medians of {figures['repeats']} on "
        f"{figures['device']}",
    ]
    group = None
    for row in rows:
        if (row["size"], row["algorithm"]) != group:
            group = row["size"], row["algorithm"]
            lines += ["", heading(row), header(width)]
        lines.append(line(row, width))
    if figures["stopped"]:
        lines += ["", "Stopped before: " + "; ".join(figures["stopped"])]
    return "\n".join(lines)


def heading(row: Mapping[str, Any]) -> str:
    """Returns the line above an algorithm's table."""
    return (
        f"{row['size']}, {row['parameters'] / 1e6:.1f} M parameters, "
        f"{row['algorithm']}: floor {BYTES[row['algorithm']]} bytes a "
        f"parameter at {row['bandwidth'] / 1e9:.1f} GB/s, "
        f"{1e3 * row['floor_seconds']:.1f} ms"
    )


def header(width: int) -> str:
    """Returns the titles of the columns."""
    titles = "ms (quartiles)           floor    loop  first s  extra MB"
    return f"{'':{width}}  {titles}"


def line(row: Mapping[str, Any], width: int) -> str:
    """Returns a contestant's line."""
    found = {name: 1e3 * each for name, each in row["seconds"].items()}
    quoted = "{median:.1f} ({q1:.1f} to {q3:.1f})".format(**found)
    extra = row["extra_bytes"]
    megabytes = "" if extra is None else f"{extra / 1e6:8.0f}"
    loop = "" if row["times_loop"] is None else f"{row['times_loop']:.2f}"
    return (
        f"{row['name']:{width}}  {quoted:22}  {row['times_floor']:6.2f}  "
        f"{loop:>6}  {row['first_call_seconds']:7.1f}  {megabytes:>8}"
    )


def bars(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what the chart shows."""
    return [
        {
            "group": f"{row['size']}, {row['algorithm']}",
            "label": row["name"],
            "value": row["times_floor"],
            "low": row["seconds"]["q1"] / row["floor_seconds"],
            "high": row["seconds"]["q3"] / row["floor_seconds"],
            "ours": row["ours"],
        }
        for row in figures["rows"]
    ]
