"""Measures how fast this package is, beside what one would use without it.

optimizers: milliseconds of an optimizer's step on the variables of ResNet-50
and BERT-Base, for this package and every peer that is installed, over the
floor: the bytes that must move at the bandwidth of a copy. Two processes each,
which take turns in opposite orders. --addons_python names the interpreter of an
environment with tensorflow-addons, which needs an older TensorFlow.

input: examples a second of the training input for ResNet-50 and BERT, beside
the Model Garden's.

train: what the trainer adds to a bare compiled step of ResNet-50.

study: trials a minute of the study's program, which is compiled once for all
trials, against a loop that builds, compiles and fits a Keras model anew for
every trial: the same small ResNet, data, order of the examples and steps, with
this package's Nesterov and with Keras's. All take turns in one run. Of a
trial by fit, what a second fit of the same model takes is shown as well: that
is what is left once it is built and traced.

The machine should have nothing else to do. CPU seconds are least disturbed if
it has. Ctrl-C ends optimizers with the figures of the algorithms that are done.

example:
  tf-largebatch bench optimizers --json=optimizers.json --plot=optimizers.png
"""

import importlib
import json
import os
import pathlib

from absl import flags

from tf_largebatch import configs, stopping
from tf_largebatch.cli import compare
from tf_largebatch.errors import UserError

EXTRA = "study,garden"
POSITIONAL = "what"
# Each has measure(repeats, ...), which returns what JSON has, table(figures),
# which returns it as text, and bars(figures) and AXIS for the chart.
BENCHMARKS = {
    "input": "tf_largebatch.bench.input",
    "optimizers": "tf_largebatch.bench.optimizers",
    "study": "tf_largebatch.bench.study",
    "train": "tf_largebatch.bench.train",
}
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
# The flags of one benchmark alone, by its name.
OF_ONE = {
    "study": {
        "steps": flags.DEFINE_integer(
            "steps",
            72,
            "study: length of a trial",
            lower_bound=12,
            flag_values=FLAGS,
        ),
        "workers": flags.DEFINE_integer(
            "workers",
            None,
            "study: processes with a thread each that do trials at the same "
            "time, which is measured after the rest; without it one a core; "
            "0 leaves it out",
            lower_bound=0,
            flag_values=FLAGS,
        ),
    },
    "optimizers": {
        "sizes_of": flags.DEFINE_multi_enum(
            "size",
            ["resnet50", "bert_base"],
            ["resnet50", "bert_base", "small"],
            "optimizers: whose variables; may be given several times",
            flag_values=FLAGS,
        ),
        "algorithms": flags.DEFINE_multi_enum(
            "algorithm",
            ["momentum", "Adam", "LARS", "LAMB"],
            ["momentum", "Adam", "LARS", "LAMB"],
            "optimizers: which; may be given several times",
            flag_values=FLAGS,
        ),
        "addons_python": flags.DEFINE_string(
            "addons_python",
            None,
            "optimizers: interpreter of an environment with tensorflow-addons; "
            "benchmarks/tensorflow_addons.sh makes one",
            flag_values=FLAGS,
        ),
    },
    "input": {
        "input_path": flags.DEFINE_string(
            "input_path",
            None,
            "input: pattern of ImageNet's TFRecord files; without it made ones",
            flag_values=FLAGS,
        ),
    },
    "train": {
        "batch": flags.DEFINE_integer(
            "batch",
            16,
            "train: pictures a step",
            lower_bound=1,
            flag_values=FLAGS,
        ),
    },
}
JSON = flags.DEFINE_string(
    "json", None, "file to write all figures to", flag_values=FLAGS
)
PLOT = flags.DEFINE_string(
    "plot", None, "file to draw them to, as PNG", flag_values=FLAGS
)


def main() -> int:
    """Does the benchmark that the flags name."""
    if WHAT.value is None:
        raise UserError(
            f"bench needs what to measure: {', '.join(BENCHMARKS)}; "
            "see tf-largebatch bench --help"
        )
    compare.quiet()
    check_flags(WHAT.value)
    benchmark = importlib.import_module(BENCHMARKS[WHAT.value])
    options = {name: flag.value for name, flag in OF_ONE[WHAT.value].items()}
    for name in ("json", "plot"):
        check_writable(name, FLAGS[name].value)
    figures = benchmark.measure(REPEATS.value, **options)
    if JSON.value:
        text = json.dumps(figures, indent=1) + "\n"
        pathlib.Path(JSON.value).write_text(text, encoding="utf-8")
    if PLOT.value:
        from tf_largebatch.bench import chart

        chart.draw(benchmark.bars(figures), benchmark.AXIS, PLOT.value)
    print(benchmark.table(figures))
    return stopping.INTERRUPTED if figures.get("stopped") else 0


def check_flags(what: str) -> None:
    """Raises UserError at a flag of another benchmark."""
    for other, options in OF_ONE.items():
        for flag in options.values():
            if other != what and flag.present:
                raise UserError(
                    f"--{flag.name} is given, but bench {what} has no use for "
                    f"it; leave it out, or measure {other}"
                )


def check_writable(name: str, path: str | None) -> None:
    """Raises UserError where a file cannot be written, before the work.

    Nothing is left of it, for another flag may yet be refused.
    """
    if not path:
        return
    file = pathlib.Path(path)
    is_new = not os.path.lexists(file)
    try:
        file.open("a").close()
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {configs.reason(error)}; choose another "
            f"file with --{name}"
        ) from error
    if is_new:
        file.unlink()
