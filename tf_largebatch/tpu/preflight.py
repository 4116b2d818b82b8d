"""Does a recipe compile for a slice of TPUs, does it fit, how long is it?

Times are estimates: the longer of the operations over the peak rate and of
the bytes over the bandwidth, of each program, and the sums over all replicas
by a ring. Nothing waits for data, and nothing reaches its peak in practice,
so that a real step takes longer.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from official.core import config_definitions as cfg

from tf_largebatch import folders
from tf_largebatch.errors import UserError
from tf_largebatch.garden import recipes
from tf_largebatch.tpu import compiler, programs
from tf_largebatch.tpu.compiler import Figures
from tf_largebatch.tpu.slices import Slice

# Bytes that a step must move for each number that is trained: itself and its
# gradient and its slots, read, and all but the gradient, written.
FLOORS = {
    "largebatch_nesterov": 20,
    "largebatch_heavy_ball": 20,
    "largebatch_lars": 28,
    "largebatch_adam": 28,
    "largebatch_lamb": 40,
}
# The name of a program differs each time that it is traced, and numbers such
# as a learning rate change nothing here, unless they are 0 or 1.
NAME = re.compile(r"module @\S+")
NUMBER = re.compile(r"dense<(-?\d+\.\d+e[+-]\d+)> : tensor<f32>")
NO_MEMORY = "RESOURCE_EXHAUSTED"


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found out about a recipe on a slice.

    Sizes are bytes on a device, times seconds; all but the first few are None
    where a program does not compile.

    Attributes:
        recipe: its name.
        slice: the slice's name.
        devices: how many replicas the slice trains.
        global_batch: examples of a step.
        steps: of the whole recipe.
        capacity: of a device's memory.
        micro_batch: examples that a replica takes at once.
        micro_batches: how many of them it takes a step.
        problem: why it does not run so; None if it does.
        fits_with: the largest smaller micro-batch that would fit.
        parameters: of what is trained.
        slots: of the optimizer's state.
        temporaries: beside all variables, at the worst moment.
        needed: all of that and the rest, at the worst moment.
        flops: operations of a step.
        accessed: what a step reads and writes.
        reduce_time: of the sums over all replicas.
        step_time: of a step, with that.
        optimizer_accessed: what the optimizer's part reads and writes.
        optimizer_flops: its operations.
        optimizer_floor: what it must read and write at least.
    """

    recipe: str
    slice: str
    devices: int
    global_batch: int
    steps: int
    capacity: float
    micro_batch: int | None = None
    micro_batches: int | None = None
    problem: str | None = None
    fits_with: int | None = None
    parameters: int | None = None
    slots: int | None = None
    temporaries: int | None = None
    needed: int | None = None
    flops: float | None = None
    accessed: float | None = None
    reduce_time: float | None = None
    step_time: float | None = None
    optimizer_accessed: float | None = None
    optimizer_flops: float | None = None
    optimizer_floor: int | None = None

    @property
    def hours(self) -> float | None:
        """How long the whole recipe takes, without evaluations."""
        if self.step_time is None:
            return None
        return self.steps * self.step_time / 3600

    def as_json(self) -> dict[str, Any]:
        """Returns all figures, with those that follow from others."""
        hours = self.hours
        return {
            **dataclasses.asdict(self),
            "steps_per_second": 1 / self.step_time if self.step_time else None,
            "hours": hours,
            "device_hours": None if hours is None else hours * self.devices,
        }


class Cache:
    """What was compiled before, in files by what it is made from.

    Args:
        folder: of the files; None compiles everything anew.
    """

    def __init__(self, folder: pathlib.Path | None):
        self.folder = folder
        self.versions = json.dumps(compiler.versions(), sort_keys=True)

    def compile(self, text: str, topology: str) -> Figures | str:
        """Returns what :func:`tf_largebatch.tpu.compiler.compile` returns."""
        if self.folder is None:
            return compiler.compile(text, topology)
        key = "\n".join((canonical(text), topology, self.versions))
        path = self.folder / hashlib.sha256(key.encode()).hexdigest()
        if path.exists():
            return Figures(**json.loads(path.read_text()))
        found = compiler.compile(text, topology)
        if isinstance(found, Figures):
            self.folder.mkdir(parents=True, exist_ok=True)
            folders.replace(path, json.dumps(dataclasses.asdict(found)))
        return found


def cache_folder() -> pathlib.Path:
    """Returns where compiled figures are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(root).expanduser() / "tf-largebatch" / "preflight"


def canonical(text: str) -> str:
    """Returns a program without what changes none of its figures.

    >>> canonical("module @a_inference_run_12878__.13810 attributes")
    'module @step attributes'
    >>> canonical("dense<5.800000e-05> : tensor<f32>")
    'dense<a number> : tensor<f32>'
    >>> canonical("dense<1.000000e+00> : tensor<f32>")
    'dense<1.000000e+00> : tensor<f32>'
    """

    def number(match: re.Match[str]) -> str:
        keep = float(match[1]) in (0.0, 1.0)
        return match[0] if keep else "dense<a number> : tensor<f32>"

    return NUMBER.sub(number, NAME.sub("module @step", text))


def names_of_the_paper() -> list[str]:
    """Returns the names of all recipes at the paper's size."""
    whole = ("resnet50/", "bert_large/")
    return [name for name in recipes.names() if name.startswith(whole)]


def examine(
    name: str, config: cfg.ExperimentConfig, where: Slice, cache: Cache
) -> Result:
    """Compiles a recipe's step and says what it takes.

    Args:
        name: of the recipe.
        config: all its settings.
        where: the slice.
        cache: of compiled programs.
    """
    result = Result(
        recipe=name,
        slice=where.name,
        devices=where.devices,
        global_batch=config.task.train_data.global_batch_size,
        steps=config.trainer.train_steps,
        capacity=where.memory,
    )
    try:
        step = programs.trace(config, where.devices)
    except UserError as error:
        return dataclasses.replace(result, problem=str(error))
    return measured(result, config, step, where, cache)


def measured(
    result: Result,
    config: cfg.ExperimentConfig,
    step: programs.Step,
    where: Slice,
    cache: Cache,
) -> Result:
    """Returns a result with the figures of the compiled programs."""
    result = dataclasses.replace(
        result,
        micro_batch=step.micro_batch_size,
        micro_batches=step.micro_batches,
        parameters=step.parameters,
        slots=step.slots,
    )
    every = (*step.programs, step.optimizer)
    try:
        found = compiled(every, where, cache)
    except NotCompiled as error:
        result = dataclasses.replace(result, problem=str(error))
        if not error.for_memory:
            return result
    else:
        kind = config.trainer.optimizer_config.optimizer.type
        result = dataclasses.replace(result, **costs(step, found, where, kind))
        if fits(step, found, where):
            return result
        result = dataclasses.replace(result, problem="does not fit")
    return dataclasses.replace(
        result, fits_with=smaller(config, step, where, cache)
    )


class NotCompiled(Exception):
    """A program that the compiler does not take.

    Args:
        name: of the program.
        said: what the compiler says.

    Attributes:
        for_memory: whether there is too little memory.
    """

    def __init__(self, name: str, said: str):
        super().__init__(f"{name}: {brief(said)}")
        self.for_memory = said.startswith(NO_MEMORY)


def compiled(
    parts: Iterable[programs.Program], where: Slice, cache: Cache
) -> dict[str, Figures]:
    """Returns the figures of programs, by their names.

    Raises:
        NotCompiled: the compiler does not take one.
    """
    found = {}
    for each in parts:
        figures = cache.compile(each.text, where.topology)
        if isinstance(figures, str):
            raise NotCompiled(each.name, figures)
        found[each.name] = figures
    return found


def fits(
    step: programs.Step, found: Mapping[str, Figures], where: Slice
) -> bool:
    """Whether all programs of a step have the memory that they need."""
    return max_needed(step, found) <= where.memory


def max_needed(step: programs.Step, found: Mapping[str, Figures]) -> int:
    """Returns the bytes that a device must have for a step."""
    return max(needed(step, each, found) for each in step.programs)


def brief(said: str) -> str:
    """Returns what the compiler says in its first sentence or two.

    >>> brief("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out "
    ...       "of memory in memory space hbm. Used 9G of 8G hbm. Total: ...")
    'Ran out of memory in memory space hbm. Used 9G of 8G hbm.'
    """
    match = re.search(r"Ran out of memory.*?hbm\. Used .*? hbm\.", said)
    return match[0] if match else said[:200]


def costs(
    step: programs.Step,
    found: Mapping[str, Figures],
    where: Slice,
    kind: str,
) -> dict[str, Any]:
    """Returns the figures of a step whose programs were compiled.

    Args:
        step: its programs.
        found: what the compiler says of each, by its name.
        where: the slice.
        kind: which optimizer, as a config names it.
    """
    own = found[step.optimizer.name]
    times = {each.name: each.times for each in step.programs}
    reduce_time = all_reduce_time(step.parameters, where)
    return {
        "temporaries": max(found[name].temporaries for name in times),
        "needed": max_needed(step, found),
        "flops": sum(
            count * found[name].flops for name, count in times.items()
        ),
        "accessed": sum(
            count * found[name].accessed for name, count in times.items()
        ),
        "reduce_time": reduce_time,
        "step_time": reduce_time
        + sum(
            count * roofline(found[name], where)
            for name, count in times.items()
        ),
        "optimizer_accessed": own.accessed,
        "optimizer_flops": own.flops,
        "optimizer_floor": FLOORS[kind] * step.trained
        if kind in FLOORS
        else None,
    }


def needed(
    step: programs.Step,
    program: programs.Program,
    found: Mapping[str, Figures],
) -> int:
    """Returns the bytes that a device must have while a program runs."""
    figures = found[program.name]
    new = figures.outputs - figures.aliased
    beside = step.state - program.variables
    return beside + figures.arguments + new + figures.temporaries + figures.code


def roofline(figures: Figures, where: Slice) -> float:
    """Returns how long a program takes at least, in seconds."""
    share = where.chip.devices
    return share * max(
        figures.flops / where.chip.flops,
        figures.accessed / where.chip.bandwidth,
    )


def all_reduce_time(size: int, where: Slice) -> float:
    """Returns how long sums over all devices take at least, in seconds.

    In a ring each chip sends and receives nearly twice their size.

    Args:
        size: of the gradients, in bytes.
        where: the slice.
    """
    chips = where.devices // where.chip.devices
    return 2 * size * (chips - 1) / chips / where.chip.link


def smaller(
    config: cfg.ExperimentConfig,
    step: programs.Step,
    where: Slice,
    cache: Cache,
) -> int | None:
    """Returns the first micro-batch, of ever smaller ones, that fits."""
    for size in halves(step.micro_batch_size):
        smaller_batch = config.replace(trainer={"micro_batch_size": size})
        try:
            other = programs.trace(smaller_batch, where.devices)
            found = compiled(other.programs, where, cache)
        except (UserError, NotCompiled):
            continue  # It does not divide, or needs too much.
        if fits(other, found, where):
            return size
    return None


def halves(size: int) -> Iterator[int]:
    """Yields a half, a fourth and so on.

    >>> list(halves(12))
    [6, 3, 1]
    """
    while size > 1:
        size //= 2
        yield size
