"""Compiles recipes for a slice of TPUs, without one.

The real step of a recipe, with its optimizer, accumulation and sums over all
replicas, is compiled by libtpu, the TPU's own compiler. It is said whether it
compiles, whether it fits into the memory of a device, and what it takes. What
was compiled is kept for the next time.

Exit status: 0 if all compile and fit, 3 if one does not.

example:
  tf-largebatch preflight --recipe=resnet50/nesterov_b_32k --topology=v3-512
  tf-largebatch preflight --all --topology=v5e-256 --json=preflight.json
"""

import contextlib
import functools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from tf_largebatch import configs
from tf_largebatch.cli.bench import check_writable
from tf_largebatch.cli.train import hush
from tf_largebatch.errors import UserError

if TYPE_CHECKING:
    from tf_largebatch.tpu.preflight import Cache, Result
    from tf_largebatch.tpu.slices import Slice

EXTRA = "garden,preflight"
FAILED = 3
FLAGS = flags.FlagValues()
RECIPE = flags.DEFINE_list(
    "recipe", [], "which recipes, or folders of recipes", flag_values=FLAGS
)
ALL = flags.DEFINE_bool(
    "all", False, "all recipes at the paper's size", flag_values=FLAGS
)
TOPOLOGY = flags.DEFINE_string(
    "topology",
    "v3-512",
    "the slice, as Google Cloud has it, such as v3-512, v4-8, v5e-256, or as "
    "the compiler has it, such as v3:16x16",
    flag_values=FLAGS,
)
CONFIG_FILE = flags.DEFINE_multi_string(
    "config_file",
    [],
    "YAML file of settings that override the recipes'",
    flag_values=FLAGS,
)
PARAMS_OVERRIDE = flags.DEFINE_string(
    "params_override",
    "",
    "settings that override all others: a.b=c,a.d=e",
    flag_values=FLAGS,
)
JSON = flags.DEFINE_string(
    "json", None, "file to write all figures to", flag_values=FLAGS
)
CACHE = flags.DEFINE_bool(
    "cache", True, "keep, and take, what was compiled", flag_values=FLAGS
)
PROCESSES = flags.DEFINE_integer(
    "processes",
    None,
    "how many recipes at once, each of which takes up to 5 GB; without it one "
    "a core",
    lower_bound=1,
    flag_values=FLAGS,
)
TITLES = (
    "recipe",
    "micro-batch",
    "memory",
    "TFLOP",
    "GB",
    "ms",
    "hours",
    "device-hours",
    "optimizer GB",
    "result",
)
NOTE = """\
{devices} replicas on {slice}, each with {capacity:.0f} GiB. Memory, operations
and bytes are the compiler's for a step of one replica, the sums over all of
them included. Times are estimates, lower bounds: published peak rates of
bfloat16, bandwidths and links, and no waiting for data or evaluations.
Optimizer: what its part alone moves, and how much that is over its floor.
Made by {versions}."""


def main() -> int:
    """Compiles what the flags name."""
    if ALL.value == bool(RECIPE.value):
        raise UserError("give --recipe=NAME or --all; see preflight --help")
    from tf_largebatch.tpu import compiler, slices

    check_writable("json", JSON.value)
    where = slices.find(TOPOLOGY.value)
    compiler.check_installed()
    hush()
    results = examine_all(where)
    if JSON.value:
        write(pathlib.Path(JSON.value), results, compiler.versions())
    print(table(results))
    said = ", ".join(f"{k} {v}" for k, v in compiler.versions().items())
    print()
    print(
        NOTE.format(
            devices=where.devices,
            slice=where.name,
            capacity=where.memory / 2**30,
            versions=said,
        )
    )
    return FAILED if any(each.problem for each in results) else 0


def examine_all(where: "Slice") -> "list[Result]":
    """Returns what is found out about the recipes that the flags name."""
    from tf_largebatch import parallel
    from tf_largebatch.garden import settings
    from tf_largebatch.tpu import preflight

    names = chosen()
    all_settings = [
        settings.collect(
            name, None, CONFIG_FILE.value, None, PARAMS_OVERRIDE.value
        )
        for name in names
    ]
    folder = preflight.cache_folder() if CACHE.value else None
    examine_one = functools.partial(
        examine, where=where, cache=preflight.Cache(folder)
    )
    # TensorFlow does not let go of what was traced, so a recipe a process.
    processes = min(PROCESSES.value or parallel.cores(), len(names))
    with parallel.start(processes, jobs_each=1) as pool:
        jobs = list(zip(names, all_settings))
        return parallel.run(pool, "recipes", examine_one, jobs)


def examine(job: tuple[str, Any], where: "Slice", cache: "Cache") -> "Result":
    """Returns what is found out about a recipe, by its name and settings."""
    from tf_largebatch.tpu import preflight

    hush()
    # Orbit prints, and the table alone is for standard output.
    with contextlib.redirect_stdout(sys.stderr):
        return preflight.examine(*job, where, cache)


def chosen() -> list[str]:
    """Returns the recipes that the flags name, parts instead of a folder."""
    from tf_largebatch.garden import recipes
    from tf_largebatch.tpu import preflight

    if ALL.value:
        return preflight.names_of_the_paper()
    found = []
    for name in RECIPE.value:
        found += recipes.parts(name) or [name]
    return found


def write(
    path: pathlib.Path, results: "Sequence[Result]", versions: dict[str, str]
) -> None:
    """Writes all figures to a file.

    Raises:
        UserError: it cannot be written.
    """
    content = {
        "versions": versions,
        "recipes": [each.as_json() for each in results],
    }
    try:
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {configs.reason(error)}; give another --json"
        ) from error


def table(results: "Sequence[Result]") -> str:
    """Returns the results as text, a line a recipe."""
    lines = [TITLES, *map(line, results)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    last = len(TITLES) - 1
    return "\n".join(
        "  ".join(
            f"{cell:{width}}" if place in (0, last) else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(cells, widths))
        ).rstrip()
        for cells in lines
    )


def line(result: "Result") -> tuple[str, ...]:
    """Returns the cells of a recipe."""
    over = None
    if result.optimizer_floor and result.optimizer_accessed:
        over = result.optimizer_accessed / result.optimizer_floor
    hours = result.hours
    optimizer = shown(result.optimizer_accessed, 1e-9, "{:.2f}")
    return (
        result.recipe,
        f"{result.micro_batches} x {result.micro_batch}"
        if result.micro_batch
        else "–",
        shown(result.needed, 2.0**-30, "{:.1f} GiB"),
        shown(result.flops, 1e-12, "{:.2f}"),
        shown(result.accessed, 1e-9, "{:.1f}"),
        shown(result.step_time, 1e3, "{:.1f}"),
        shown(hours, 1, "{:.2f}"),
        shown(hours, result.devices, "{:.0f}"),
        optimizer + (f" ({over:.2f}x)" if over else ""),
        verdict(result),
    )


def shown(value: Any, factor: float, form: str) -> str:
    """Returns a figure as text; a dash where there is none."""
    return "–" if value is None else form.format(value * factor)


def verdict(result: "Result") -> str:
    """Returns whether a recipe runs, in words."""
    if result.problem is None:
        return "fits"
    if result.fits_with:
        return (
            f"{result.problem}; trainer.micro_batch_size="
            f"{result.fits_with} would fit"
        )
    return result.problem
