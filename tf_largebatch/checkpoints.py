"""Checkpoints on any file system: found, held against their checksums."""

import re
import sys

import tensorflow as tf

from tf_largebatch import configs
from tf_largebatch.errors import UserError

# What the file system or TensorFlow raise where a file cannot be used.
ERRORS = (OSError, tf.errors.OpError)
# What TensorFlow's reader raises beside these.
UNREADABLE = (*ERRORS, LookupError, RuntimeError, ValueError)
PREFIX = "ckpt-"
DAMAGED = "damaged-"


def newest(folder: str) -> str | None:
    """Returns the path of the newest checkpoint of a folder, if it has one."""
    try:
        return tf.train.latest_checkpoint(folder)
    except ERRORS:
        return None


def find(path: str) -> str | None:
    """Returns the path of a checkpoint, or of a folder's newest one, if any."""
    return path if is_there(path) else newest(path)


def is_there(path: str) -> bool:
    """Whether there is a checkpoint of that path, and it can be looked for."""
    try:
        return tf.io.gfile.exists(f"{path}.index")
    except ERRORS:
        return False


def first_line(error: Exception) -> str:
    """Returns what an error of the file system or TensorFlow says."""
    text = getattr(error, "message", None) or configs.reason(error)
    return next(iter(str(text).splitlines()), type(error).__name__)


def damage(path: str) -> str | None:
    """Returns what is wrong with a checkpoint; None if all can be read.

    TensorFlow holds every value that it reads against its checksum.
    """
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except UNREADABLE as error:
        return first_line(error)
    return None


def mend(folder: str) -> None:
    """Makes the newest checkpoint that is whole the one to go on from.

    What a process that was killed has left half written is removed. A damaged
    checkpoint is named, and gets another name, under which nothing finds it.

    Args:
        folder: of the run; it need not be there.

    Raises:
        UserError: there are checkpoints, but none is whole.
    """
    for name in names_in(folder):
        if name.startswith(PREFIX) and "_temp" in name:
            tf.io.gfile.rmtree(tf.io.gfile.join(folder, name))
    paths, damaged = saved(folder), {}
    while paths and (why := damage(paths[-1])):
        damaged[paths.pop()] = why
    if damaged and not paths:
        path, why = damaged.popitem()
        raise UserError(
            f"no checkpoint in {folder} can be read, such as {path}: {why}; "
            "give another --model_dir, to begin anew"
        )
    for path, why in damaged.items():
        set_aside(path)
        print(
            f"{path} is damaged ({why}); going on from {paths[-1]}",
            file=sys.stderr,
        )
    if paths and listed(folder) != paths:
        write_list(folder, paths)


def listed(folder: str) -> list[str]:
    """Returns the paths that a run's list has, the newest last."""
    try:
        state = tf.train.get_checkpoint_state(folder)
    except ERRORS:
        return []
    return [*state.all_model_checkpoint_paths] if state else []


def write_list(folder: str, paths: list[str]) -> None:
    """Has the run's list name these checkpoints, the newest last.

    Only what the list names, with a time, is deleted when there are too many.
    """
    files = [f"{path}.index" for path in paths]
    times = [tf.io.gfile.stat(file).mtime_nsec / 1e9 for file in files]
    tf.compat.v1.train.update_checkpoint_state(
        folder, paths[-1], paths, all_model_checkpoint_timestamps=times
    )


def saved(folder: str) -> list[str]:
    """Returns the paths of all checkpoints of a run, the newest last."""
    numbers = sorted(
        int(match[1])
        for name in names_in(folder)
        if (match := re.fullmatch(rf"{PREFIX}(\d+)\.index", name))
    )
    return [tf.io.gfile.join(folder, f"{PREFIX}{each}") for each in numbers]


def set_aside(path: str) -> None:
    """Renames the files of a checkpoint."""
    folder, _, checkpoint = path.rpartition("/")
    for name in names_in(folder):
        if name.startswith(f"{checkpoint}."):
            file, aside = f"{folder}/{name}", f"{folder}/{DAMAGED}{name}"
            tf.io.gfile.rename(file, aside, overwrite=True)


def names_in(folder: str) -> list[str]:
    """Returns the names of what is in a folder; none if it is not there.

    Patterns would not do: of a folder whose name ends in a slash they give
    other paths than those that they are to match.
    """
    try:
        names = tf.io.gfile.listdir(folder)
    except tf.errors.NotFoundError:
        return []
    # In a bucket those of folders end in a slash.
    return sorted(name.rstrip("/") for name in names)
