"""Folders and files that are there when they are complete, and not before."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator

from tf_largebatch.errors import UserError

# How the name of a file ends that is not complete yet.
NEW = ".new"


def check_new(folder: pathlib.Path) -> None:
    """Raises UserError unless a folder does not exist yet, or is empty.

    Nor may it be a URL, of which a path would make a folder with a colon.
    """
    if re.match(r"\w+:/", str(folder)):
        raise UserError(
            f"{folder} is not on this machine; give a folder that is, and "
            "copy it"
        )
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


def replace(path: pathlib.Path, content: bytes | str) -> None:
    """Writes a file whole or not at all, whoever else does so too.

    Raises:
        OSError: it cannot be written; then nothing of it is left.
    """
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{NEW}")
    data = content.encode() if isinstance(content, str) else content
    try:
        new.write_bytes(data)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def cannot_write(folder: pathlib.Path, error: OSError) -> UserError:
    """Returns the error that says why."""
    return UserError(f"cannot write to {folder}: {error.strerror}")
