"""The command ``tf-largebatch``: finds the subcommand and runs it.

What a command needs is imported when it runs, so that ``--help`` and a
mistyped flag are answered at once.
"""

import difflib
import importlib
import signal
import sys
import textwrap
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from absl import flags

import tf_largebatch
from tf_largebatch.errors import RunError, UserError

PROGRAM = "tf-largebatch"
COMMANDS = {
    "compare": "a table of the paper in small, on real data, on this machine",
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
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: those after the program's name; None means the process's.

    Returns:
        The exit status: 0, 2 after a mistake of the user's, 1 after a failure
        at run time, 130 and 143 after Ctrl-C and SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, terminate)
    try:
        return run(list(arguments))
    except (UserError, RunError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED


def terminate(number: int, frame: Any) -> None:
    """Ends the process on SIGTERM by the way of all ``finally`` clauses."""
    del number, frame
    raise SystemExit(TERMINATED)


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
        near = difflib.get_close_matches(name, COMMANDS, 1)
        choice = f"choose one of {', '.join(COMMANDS)}"
        hint = f"did you mean {near[0]}?" if near else choice
        raise UserError(f"there is no command {name!r}; {hint}")
    command = importlib.import_module(f"tf_largebatch.cli.{name}")
    if {"--help", "-h"} & set(rest):
        print(describe(name, command), end="")
        return 0
    parse(name, command.FLAGS, rest)
    return call(name, command)


def overview() -> str:
    """Returns the help text of the program."""
    lines = (f"  {name:10} {what}" for name, what in COMMANDS.items())
    return HELP.format(commands="\n".join(lines))


def describe(name: str, command: ModuleType) -> str:
    """Returns the help text of one command: its docstring, then its flags."""
    values: flags.FlagValues = command.FLAGS
    lines = [f"usage: {PROGRAM} {name} [--flag=value ...]", ""]
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


def parse(name: str, values: flags.FlagValues, arguments: list[str]) -> None:
    """Reads a command's flags.

    Raises:
        UserError: an unknown flag, a value it cannot have, or an argument
            that is no flag.
    """
    try:
        values.unparse_flags()  # Values of an earlier call in this process.
        _, *rest = values([name, *arguments])
    except flags.Error as error:
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
