"""Checkpoints on any file system: found, and what is wrong with them."""

import tensorflow as tf

from tf_largebatch import configs

# What the file system or TensorFlow raise where a file cannot be used.
ERRORS = (OSError, tf.errors.OpError)


def newest(folder: str) -> str | None:
    """Returns the path of the newest checkpoint of a folder, if it has one."""
    try:
        return tf.train.latest_checkpoint(folder)
    except ERRORS:
        return None


def find(path: str) -> str | None:
    """Returns the path of a checkpoint, or of a folder's newest one, if any."""
    return path if tf.io.gfile.exists(f"{path}.index") else newest(path)


def first_line(error: Exception) -> str:
    """Returns what an error of the file system or TensorFlow says."""
    text = getattr(error, "message", None) or configs.reason(error)
    return str(text).splitlines()[0]
