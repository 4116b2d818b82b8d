"""The command ``tf-largebatch``: finds the subcommand and runs it.

What a command needs is imported when it runs, so that ``--help`` and a
mistyped flag are answered at once.
"""

import importlib
import os
import sys
import textwrap
import warnings
from collections.abc import Sequence
from types import ModuleType

from absl import flags

import tf_largebatch
from tf_largebatch import stopping
from tf_largebatch.errors import (
    DivergenceError,
    DoesNotFitError,
    RunError,
    UserError,
    hint,
    one_line,
)

PROGRAM = "tf-largebatch"
COMMANDS = {
    "bench": "measures this package beside its peers, on this machine",
    "compare": "a table of the paper in small, on real data, on this machine",
    "data": "checks ImageNet's files, or makes a small set like them",
    "evaluate": "evaluates a SavedModel that export wrote",
    "export": "exports a trained network as a SavedModel",
    "preflight": "compiles recipes for a slice of TPUs, without one",
    "recipes": "every row of the paper as settings: what there is to train",
    "schedules": "draws the learning rates of recipes, such as figure 1",
    "study": "tunes and compares with any number of workers and machines",
    "train": "trains a recipe through the Model Garden, and evaluates",
}
HELP = f"""\
Large-batch training and honest optimizer comparison in TensorFlow.

usage: {PROGRAM} COMMAND [--flag=value ...]
       {PROGRAM} COMMAND --help
       {PROGRAM} --version

commands:
{{commands}}

example:
  {PROGRAM} compare --trials=2 --seeds=2 --out=runs/first
"""
# By the error's class, the most special one first.
STATUS: dict[type[Exception], int] = {
    UserError: 2,
    DivergenceError: 4,
    DoesNotFitError: 3,
    RunError: 1,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: those after the program's name; None means the process's.

    Returns:
        The exit status: 0, 2 after a mistake of the user's, 1 after a failure
        at run time, 3 where a recipe does not fit or compile, 4 after a
        training that diverged, 130 and 143 after Ctrl-C and SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # TensorFlow's own log has how it was built, and an error where there is no
    # GPU; what fails is raised. Must be set before its first import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The Model Garden's affair: TensorFlow Hub imports what will be no more.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    try:
        with stopping.heard():
            return run(list(arguments))
    except (UserError, RunError) as error:
        print(f"{PROGRAM}: error: {one_line(str(error))}", file=sys.stderr)
        return next(STATUS[kind] for kind in STATUS if isinstance(error, kind))
    except KeyboardInterrupt:
        return stopping.INTERRUPTED
    except BrokenPipeError:
        # Who reads the output, such as `head`, has seen enough. What is left
        # in the buffer must go somewhere, or Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(arguments: list[str]) -> int:
    """Runs the command that the arguments name.

    Raises:
        UserError: there is no such command, or a flag is wrong.
    """
    name, *rest = arguments or ["--help"]
    if name in ("--help", "-h", "help"):
        print(overview(), end="")
        return 0
    if name == "--version":
        print(f"{PROGRAM} {tf_largebatch.__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; {hint(name, COMMANDS)}")
    command = importlib.import_module(f"tf_largebatch.cli.{name}")
    if {"--help", "-h"} & set(rest):
        print(describe(name, command), end="")
        return 0
    parse(name, command.FLAGS, name_argument(command, rest))
    return call(name, command)


def overview() -> str:
    """Returns the help text of the program."""
    lines = (f"  {name:10} {what}" for name, what in COMMANDS.items())
    return HELP.format(commands="\n".join(lines))


def describe(name: str, command: ModuleType) -> str:
    """Returns the help text of one command: its docstring, then its flags."""
    values: flags.FlagValues = command.FLAGS
    argument = getattr(command, "POSITIONAL", "").upper()
    usage = f"usage: {PROGRAM} {name} {argument}".rstrip()
    lines = [f"{usage} [--flag=value ...]", ""]
    lines += [(command.__doc__ or "").strip(), "", "flags:"]
    for flag in values.get_flags_for_module(command.__name__):
        given = flag.default not in (None, [])
        default = f" (default: {flag.default})" if given else ""
        lines += textwrap.wrap(
            f"--{flag.name:10} {flag.help}{default}",
            initial_indent=" " * 2,
            subsequent_indent=" " * 15,
            width=80,
        )
    return "\n".join(lines) + "\n"


def name_argument(command: ModuleType, arguments: list[str]) -> list[str]:
    """Makes a first argument the flag that the command's POSITIONAL names."""
    flag = getattr(command, "POSITIONAL", None)
    if not flag or not arguments or arguments[0].startswith("-"):
        return arguments
    return [f"--{flag}={arguments[0]}", *arguments[1:]]


def parse(name: str, values: flags.FlagValues, arguments: list[str]) -> None:
    """Reads a command's flags.

    Raises:
        UserError: an unknown flag, a value it cannot have, or an argument
            that is no flag.
    """
    try:
        values.unparse_flags()  # Values of an earlier call in this process.
        _, *rest = values([name, *arguments])
    except (flags.Error, ValueError) as error:
        # ValueError: a --flagfile that is no text.
        raise UserError(
            f"{error}; see {PROGRAM} {name} --help".replace("\n", " ")
        ) from error
    if rest:
        raise UserError(
            f"{rest[0]!r} is no flag of {name}; see {PROGRAM} {name} --help"
        )


def call(name: str, command: ModuleType) -> int:
    """Runs a command whose flags are read.

    Raises:
        UserError: the packages of the command's extra are not installed.
    """
    try:
        return command.main()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name} needs a package that is not installed ({error.name}); "
            f"pip install 'tf-largebatch[{command.EXTRA}]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
