"""Folders that are there when they are complete, and not before."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tf_largebatch.errors import UserError


def check_new(folder: pathlib.Path) -> None:
    """Raises UserError unless a folder does not exist yet, or is empty."""
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; give a new folder")
    except OSError as error:
        raise cannot_write(folder, error) from error


@contextlib.contextmanager
def aside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives another folder to write to, which at the end gets the name.

    What is stopped before leaves nothing behind.

    Raises:
        UserError: the folder is in use or cannot be written to.
    """
    check_new(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = pathlib.Path(
            tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent)
        )
        try:
            yield unfinished
            unfinished.chmod(0o755)
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(folder: pathlib.Path, error: OSError) -> UserError:
    """Returns the error that says why."""
    return UserError(f"cannot write to {folder}: {error.strerror}")
