"""Reads text files whole; what is wrong with one is said in one line."""

import tensorflow as tf

from tf_largebatch.errors import UserError


def read(path: str) -> str:
    """Returns the text of a file, which must be UTF-8.

    Raises:
        UserError: the file cannot be read, or is not UTF-8.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read().decode("utf-8")
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot read {path}: {error.message}; give a file that is there"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"the text is not UTF-8 at byte {error.start}, in {path}; convert "
            "it, as with iconv"
        ) from error
