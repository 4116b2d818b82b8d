"""The error that ends a command in one line instead of a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user's, not of the program's.

    The message says what is wrong, where, and what to do, in one line; the
    command line prints it after ``tf-largebatch: error:`` and exits with 2.

    >>> raise UserError("steps is 0, in --steps; give at least 1")
    Traceback (most recent call last):
        ...
    tf_largebatch.errors.UserError: steps is 0, in --steps; give at least 1
    """


class RunError(RuntimeError):
    """Something failed at run time; the command line exits with 1."""


class DivergenceError(RunError):
    """A training's loss is no number any more; the command exits with 4."""


def hint(
    name: object, choices: Iterable[str], otherwise: str | None = None
) -> str:
    """Returns what to do about a name that is none of the choices.

    Args:
        name: what was given.
        choices: what could have been.
        otherwise: what to say where no choice is spelt alike, if not all.

    >>> hint("laars", ["lars", "lamb"])
    'did you mean lars?'
    >>> hint("sgd", ["lars", "lamb"])
    'choose one of lars, lamb'
    """
    choices = list(choices)
    near = difflib.get_close_matches(str(name), choices, 1)
    if near:
        return f"did you mean {near[0]}?"
    return otherwise or f"choose one of {', '.join(choices)}"
