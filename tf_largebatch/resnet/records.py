"""The files that pictures are in: found, shared out, read and checked.

Two forms are known, both TFRecord files of JPEGs: the Model Garden's, found
by a pattern, and data sets that TensorFlow Datasets (TFDS) prepared. JPEGs
are handed on as they are stored.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from tf_largebatch.errors import UserError

ALL = -1
DAMAGED = "the record is corrupt or cut short"
FEATURES = {
    "image/encoded": tf.io.FixedLenFeature((), tf.string),
    "image/class/label": tf.io.FixedLenFeature((), tf.int64),
}
# What tf.data raises at a broken record; UnicodeDecodeError where a message of
# TensorFlow's quotes the record.
READ_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.PermissionDeniedError,
    UnicodeDecodeError,
    tf.errors.InvalidArgumentError,
)
# A record is its length (8 bytes), a checksum (4), the data, a checksum (4).
HEADER = 12
FOOTER = 4
# Large, because object stores answer slowly.
READ_BUFFER = 8 << 20


@dataclasses.dataclass(frozen=True)
class Piece:
    """Records of one file that follow each other.

    Attributes:
        path: of the file.
        skip: how many records stand before the first one.
        take: how many there are; ALL means up to the end of the file.
    """

    path: str
    skip: int = 0
    take: int = ALL

    def count(self) -> int:
        """Returns how many records there are."""
        if self.take == ALL:
            return count_records(self.path) - self.skip
        return self.take


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled pictures, in a fixed order.

    Attributes:
        pieces: where they are.
        parse: takes a serialized record; returns the picture's JPEG and the
            label as it is stored, an int64.
        first_label: how class 0 is stored.
    """

    pieces: Sequence[Piece]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    first_label: int

    @functools.cached_property
    def counts(self) -> list[int]:
        """How many examples each piece has; UserError if one is cut short."""
        return count_all(self.pieces)

    def span(self, host: int, hosts: int) -> list[Piece]:
        """Returns one host's share of the examples, equal to within one."""
        total = sum(self.counts)
        start, stop = host * total // hosts, (host + 1) * total // hosts
        share = []
        for piece, count in zip(self.pieces, self.counts):
            first, last = max(start, 0), min(stop, count)
            if first < last:
                skip = piece.skip + first
                share.append(Piece(piece.path, skip, last - first))
            start, stop = start - count, stop - count
        return share

    def files_of(self, host: int, hosts: int) -> Sequence[Piece]:
        """Returns one host's share of the files, or of the examples.

        The latter where there are fewer files than hosts.

        Raises:
            UserError: there are fewer examples than hosts, too.
        """
        if len(self.pieces) >= hosts:
            if len(self.pieces) % hosts:
                logging.warning(
                    "%d files do not divide by %d hosts: the examples of some "
                    "are seen more often.",
                    len(self.pieces),
                    hosts,
                )
            return self.pieces[host::hosts]
        share = self.span(host, hosts)
        if not share:
            raise UserError(
                f"{sum(self.counts)} examples are too few for {hosts} hosts; "
                "give more data"
            )
        return share


def count_all(pieces: Sequence[Piece]) -> list[int]:
    """Returns how many records each piece has."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(Piece.count, pieces))


def count_records(path: str) -> int:
    """Returns how many records a file has, from their lengths alone.

    Raises:
        UserError: the file is cut short, or is no TFRecord file.
    """
    size = size_of(path)
    count = position = 0
    with naming(path), tf.io.gfile.GFile(path, "rb") as file:
        while position < size:
            file.seek(position)
            length = int.from_bytes(file.read(HEADER)[:8], "little")
            position += HEADER + length + FOOTER
            if position > size:
                raise broken(path, count, DAMAGED)
            count += 1
    return count


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Makes TensorFlow's errors on a file a UserError that names it."""
    try:
        yield
    except tf.errors.OpError as error:
        raise UserError(f"cannot read {path}: {error.message}") from error


def broken(path: str, number: int, what: str) -> UserError:
    """Returns the error that names a record."""
    return UserError(
        f"{what}, in {path}, record {number} (the first is 0); replace the file"
    )


def open_files(input_path: str | Sequence[str]) -> Source:
    """Returns what is in TFRecord files of the Model Garden's form.

    Args:
        input_path: files or patterns, as a list or separated by commas.

    Raises:
        UserError: a pattern matches nothing, or a file is empty.
    """
    texts = [input_path] if isinstance(input_path, str) else input_path
    patterns = [part.strip() for text in texts for part in text.split(",")]
    paths = [path for pattern in patterns for path in match(pattern)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        sizes = list(pool.map(size_of, paths))
    for path, length in zip(paths, sizes):
        if length < HEADER + FOOTER:
            raise UserError(
                f"the file holds no record, only {length} bytes, in {path}; "
                "replace it"
            )
    return Source([*map(Piece, paths)], parse_example, first_label=1)


def match(pattern: str) -> list[str]:
    """Returns the files that a pattern matches, by name."""
    with naming(pattern):
        paths = sorted(tf.io.gfile.glob(pattern)) if pattern else []
    if not paths:
        raise UserError(
            f"no file matches {pattern!r}, in input_path; "
            "give TFRecord files, such as FOLDER/train-*"
        )
    return paths


def size_of(path: str) -> int:
    """Returns the size of a file in bytes."""
    with naming(path):
        status = tf.io.gfile.stat(path)
    if status.is_directory:
        raise UserError(
            f"{path} is a folder, in input_path; give its files: {path}/train-*"
        )
    return status.length


def parse_example(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns JPEG and label of a record of the Model Garden's form."""
    features = tf.io.parse_single_example(serialized, FEATURES)
    return features["image/encoded"], features["image/class/label"]


def open_tfds(name: str, split: str, data_dir: str = "") -> Source:
    """Returns what is in a data set that TensorFlow Datasets prepared.

    Args:
        name: such as ``imagenet2012``.
        split: such as ``train`` or ``validation[:10%]``.
        data_dir: where the data sets are; empty means TFDS's own folder.

    Raises:
        UserError: there is no such data set or split, its examples are no
            labelled pictures, or its files are not TFRecords.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
        instructions = builder.info.splits[split].file_instructions
    except (tfds.core.DatasetNotFoundError, KeyError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"TFDS has no prepared {name!r} with split {split!r} in "
            f"{data_dir or 'its default folder'} ({words}); prepare it with "
            f"`tfds build {name}`"
        ) from error
    if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
        raise UserError(
            f"TFDS stored {name!r} as {builder.info.file_format.value}; "
            f"prepare it with `tfds build {name} --file_format=tfrecord`"
        )
    if not instructions:
        raise UserError(f"TFDS's {name!r} has no examples in {split!r}")
    if not {"image", "label"} <= set(builder.info.features):
        raise UserError(
            f"TFDS's {name!r} has no image and label but "
            f"{', '.join(builder.info.features)}; give another tfds_name"
        )
    pieces = [
        Piece(file.filename, file.skip, file.take) for file in instructions
    ]
    return Source(pieces, tfds_parser(builder.info.features), first_label=0)


def tfds_parser(features: Any) -> Callable:
    """Returns a function that parses a record, but decodes no JPEG."""
    import tensorflow_datasets as tfds

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(
            serialized, decoders={"image": tfds.decode.SkipDecoding()}
        )
        return example["image"], example["label"]

    return parse


def read(
    pieces: Sequence[Piece], cycle_length: int = 16, seed: Any = None
) -> tf.data.Dataset:
    """Returns the serialized records of all pieces.

    Args:
        pieces: what is read.
        cycle_length: from how many files records are taken in turn.
        seed: a pair of integers that decides the order of the pieces; None
            leaves it as it is.
    """
    columns = [
        tf.constant([piece.path for piece in pieces], tf.string),
        tf.constant([piece.skip for piece in pieces], tf.int64),
        tf.constant([piece.take for piece in pieces], tf.int64),
    ]
    if seed is not None:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(pieces)), seed
        )
        columns = [tf.gather(column, order) for column in columns]
    return tf.data.Dataset.from_tensor_slices(tuple(columns)).interleave(
        read_piece,
        cycle_length=cycle_length,
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def read_piece(
    path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor
) -> tf.data.Dataset:
    """Returns the serialized records of one piece, in their order."""
    records = tf.data.TFRecordDataset(path, buffer_size=READ_BUFFER)
    return records.skip(skip).take(take)


def check(
    source: Source, classes: int = 1000, decode_every: int = 1
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
    for piece in source.pieces:
        labels: list[int] = []
        for label in stored_labels(source, piece, decode_every):
            if not 0 <= label - source.first_label < classes:
                raise broken(
                    piece.path,
                    piece.skip + len(labels),
                    f"the label is {label}, not one of {source.first_label} "
                    f"to {source.first_label + classes - 1}",
                )
            labels.append(label)
        # A file that ends inside a length is no error to tf.data.
        count_records(piece.path)
        yield np.array(labels, np.int64) - source.first_label


def stored_labels(
    source: Source, piece: Piece, decode_every: int
) -> Iterator[int]:
    """Yields the labels of a piece; names the record that cannot be read."""

    def look(number: tf.Tensor, serialized: tf.Tensor) -> Any:
        encoded, label = source.parse(serialized)
        pixels = tf.cond(
            number % decode_every == 0,
            lambda: tf.size(decode(encoded)),
            lambda: 0,
        )
        return label, pixels

    records = read_piece(*dataclasses.astuple(piece)).enumerate()
    labels = records.map(look, tf.data.AUTOTUNE, deterministic=True)
    number = piece.skip
    try:
        for label, _ in labels.as_numpy_iterator():
            yield int(label)
            number += 1
    except READ_ERRORS as error:
        raise broken(piece.path, number, reason(error)) from error


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Returns a picture; fails where it is no intact JPEG."""
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    window = tf.stack([0, 0, height, width])
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)


def reason(error: Exception) -> str:
    """Returns what is wrong with a record, in this package's words."""
    if isinstance(error, tf.errors.DataLossError):
        return DAMAGED
    if isinstance(error, tf.errors.PermissionDeniedError):
        return "reading is not permitted"
    words = str(error)
    if "codec" in words or "parse example" in words or "Feature:" in words:
        return "the record is no example with a picture and a label"
    return "the picture is no intact JPEG"
