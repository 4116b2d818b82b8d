"""The error that ends a command in one line instead of a traceback."""


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
