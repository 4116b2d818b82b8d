"""Where labelled pictures are, what is in a record, and whether it is intact.

Two forms are known, both TFRecord files of JPEGs: the Model Garden's, found
by a pattern, and data sets that TensorFlow Datasets (TFDS) prepared. JPEGs
are handed on as they are stored.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_largebatch import records
from tf_largebatch.errors import UserError

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature((), tf.string),
    "image/class/label": tf.io.FixedLenFeature((), tf.int64),
}


@dataclasses.dataclass(frozen=True)
class Pictures(records.Source):
    """Labelled pictures, in a fixed order.

    Attributes:
        pieces: where they are.
        parse: takes a serialized record; returns the picture's JPEG and the
            label as it is stored, an int64.
        first_label: how class 0 is stored.
    """

    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    first_label: int


def open_files(input_path: str | Sequence[str]) -> Pictures:
    """Returns what is in TFRecord files of the Model Garden's form.

    Args:
        input_path: files or patterns, as a list or separated by commas.

    Raises:
        UserError: a pattern matches nothing, or a file is empty.
    """
    return of_source(records.open_files(input_path))


def of_source(source: records.Source) -> Pictures:
    """Returns records of the Model Garden's form as pictures."""
    return Pictures(source.pieces, parse_example, first_label=1)


def parse_example(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns JPEG and label of a record of the Model Garden's form."""
    features = tf.io.parse_single_example(serialized, FEATURES)
    return features["image/encoded"], features["image/class/label"]


def open_tfds(name: str, split: str, data_dir: str = "") -> Pictures:
    """Returns what is in a data set that TensorFlow Datasets prepared.

    Args:
        name: such as ``imagenet2012``.
        split: such as ``train`` or ``validation[:10%]``.
        data_dir: where the data sets are; empty means TFDS's own folder.

    Raises:
        UserError: there is no such data set or split, its examples are no
            labelled pictures, or its files are not TFRecords.
    """
    builder, part = records.open_tfds(name, split, data_dir)
    if not part.file_instructions:
        raise UserError(f"TFDS's {name!r} has no examples in {split!r}")
    if not {"image", "label"} <= set(builder.info.features):
        raise UserError(
            f"TFDS's {name!r} has no image and label but "
            f"{', '.join(builder.info.features)}; give another tfds_name"
        )
    pieces = [
        records.Piece(file.filename, file.skip, file.take)
        for file in part.file_instructions
    ]
    return Pictures(pieces, tfds_parser(builder.info.features), first_label=0)


def tfds_parser(features: Any) -> Callable:
    """Returns a function that parses a record, but decodes no JPEG."""
    import tensorflow_datasets as tfds

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(
            serialized, decoders={"image": tfds.decode.SkipDecoding()}
        )
        return example["image"], example["label"]

    return parse


def check(
    source: Pictures, classes: int = 1000, decode_every: int = 1
) -> Iterator[np.ndarray]:
    """Reads everything, piece by piece, and looks for what is broken.

    Args:
        source: what is checked.
        classes: how many labels there are.
        decode_every: decodes every so manieth picture of a piece as a whole.

    Yields:
        The classes of each piece's records, from 0.

    Raises:
        UserError: at the first record that is corrupt, whose picture is no
            intact JPEG, or whose label is out of range.
    """
    how = check_of(source, classes, decode_every)
    for found in records.check(source, how):
        labels = [label for label, _ in found]
        yield np.array(labels, np.int64) - source.first_label


def check_of(
    source: Pictures, classes: int, decode_every: int = 1
) -> records.Check:
    """Returns how a record is checked; see :func:`check`."""
    first = source.first_label

    def look(number: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded, label = source.parse(serialized)
        pixels = tf.cond(
            number % decode_every == 0,
            lambda: tf.size(decode(encoded)),
            lambda: 0,
        )
        return label, pixels

    def problem(found: tuple[Any, Any]) -> str | None:
        label, _ = found
        if 0 <= label - first < classes:
            return None
        return f"the label is {label}, not one of {first} to " + str(
            first + classes - 1
        )

    def pass_or_fail(serialized: tf.Tensor) -> tf.Tensor:
        encoded, label = source.parse(serialized)
        check_label(label, first, classes)
        return tf.size(decode(encoded))

    return records.Check(look, problem, reason, pass_or_fail)


def check_label(label: tf.Tensor, first: int, classes: int) -> None:
    """Fails, in a program, where a stored label is out of range."""
    valid = (first <= label) & (label < first + classes)
    tf.debugging.Assert(valid, ["a label is out of range:", label])


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Returns a picture; fails where it is no intact JPEG."""
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    window = tf.stack([0, 0, height, width])
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)


def reason(error: Exception) -> str:
    """Returns what is wrong with a record, in this package's words."""
    if records.NO_EXAMPLE.search(str(error)):
        return "the record is no example with a picture and a label"
    return "the picture is no intact JPEG"
