"""Measures how fast this package is, against what one would write without it.

study: trials a minute of the study's program, which is compiled once for all
trials, against a loop that builds, compiles and fits a Keras model anew for
every trial: the same small ResNet, data, order of the examples and steps, with
this package's Nesterov and with Keras's. All take turns in one run. Of a
trial by fit, what a second fit of the same model takes is shown as well: that
is what is left once it is built and traced.

The machine should have nothing else to do. CPU seconds are least disturbed if
it has.

example:
  tf-largebatch bench study --json=bench_study.json
"""

import importlib
import json
import pathlib

from absl import flags

from tf_largebatch import configs
from tf_largebatch.cli import compare
from tf_largebatch.errors import UserError

EXTRA = "study"
POSITIONAL = "what"
# Each has measure(repeats, steps, workers), which returns what JSON has, and
# table(figures), which returns it as text.
BENCHMARKS = {"study": "tf_largebatch.cli.bench_study"}
FLAGS = flags.FlagValues()
WHAT = flags.DEFINE_enum(
    "what",
    None,
    list(BENCHMARKS),
    "what to measure; its name alone will do, as in the example",
    flag_values=FLAGS,
)
REPEATS = flags.DEFINE_integer(
    "repeats",
    10,
    "how often each thing is measured",
    lower_bound=1,
    flag_values=FLAGS,
)
STEPS = flags.DEFINE_integer(
    "steps",
    72,
    "length of a trial",
    lower_bound=12,
    flag_values=FLAGS,
)
WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "processes with a thread each that do trials at the same time, which is "
    "measured after the rest; without it one a core; 0 leaves it out",
    lower_bound=0,
    flag_values=FLAGS,
)
JSON = flags.DEFINE_string(
    "json", None, "file to write all figures to", flag_values=FLAGS
)


def main() -> int:
    """Does the benchmark that the flags name."""
    if WHAT.value is None:
        raise UserError(
            f"bench needs what to measure: {', '.join(BENCHMARKS)}; "
            "see tf-largebatch bench --help"
        )
    compare.quiet()
    benchmark = importlib.import_module(BENCHMARKS[WHAT.value])
    path = pathlib.Path(JSON.value) if JSON.value else None
    if path is not None:
        check_writable(path)
    figures = benchmark.measure(REPEATS.value, STEPS.value, WORKERS.value)
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(benchmark.table(figures))
    return 0


def check_writable(path: pathlib.Path) -> None:
    """Raises UserError where a file cannot be written, before the work."""
    try:
        path.open("a").close()
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {configs.reason(error)}; choose another "
            "file with --json"
        ) from error
