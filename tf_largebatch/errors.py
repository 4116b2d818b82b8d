"""The error that ends a command in one line instead of a traceback."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

# The user and the password in a URL; an @ may be in the latter. A path that
# is made of a URL has one slash.
PASSWORD = re.compile(r"(:/+[^\s:/@]*):\S*@")


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


class DoesNotFitError(RunError):
    """A training needs more memory than there is; the command exits with 3."""


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


def one_line(text: str, longest: int = 2000) -> str:
    r"""Returns a message as one line of a terminal, whatever is quoted in it.

    It shows no password of a URL, as one that stands where none belongs.

    Args:
        text: the message.
        longest: how many characters; of a longer one the middle is left out.

    >>> one_line("there is no a\nb\x1b[31m, in --table")
    'there is no a\\nb\\x1b[31m, in --table'
    >>> one_line("a" * 50 + "b", 12)
    'aaaaa … aaaab'
    >>> one_line("'postgresql://me:p@ss@host/db' is no flag of study")
    "'postgresql://me:***@host/db' is no flag of study"
    """
    text = PASSWORD.sub(r"\1:***@", text)
    if len(text) > longest:
        half = (longest - 2) // 2
        text = f"{text[:half]} … {text[-half:]}"
    return "".join(
        ascii(each)[1:-1] if is_unprintable(each) else each for each in text
    )


def is_unprintable(character: str) -> bool:
    """Whether a character ends a line, or has a terminal do something."""
    kind = unicodedata.category(character)
    return kind[0] == "C" or kind in ("Zl", "Zp")
