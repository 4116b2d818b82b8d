"""The TFRecord files that examples are in: found, shared out, read, checked.

What is in a record is not known here: functions that are given say what
becomes of it. The order in training is a function of the seed alone, so that
a run which goes on where it stopped sees what it would have seen.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from official.modeling import hyperparams

from tf_largebatch.errors import UserError

ALL = -1
DAMAGED = "the record is corrupt or cut short"
# What tf.data raises at a broken record; UnicodeDecodeError where a message of
# TensorFlow's quotes the record.
READ_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.PermissionDeniedError,
    UnicodeDecodeError,
    tf.errors.InvalidArgumentError,
)
# What messages of TensorFlow's mention at a record that is no such example.
NO_EXAMPLE = re.compile("parse example|Feature:|codec")
# A record is its length (8 bytes), a checksum (4), the data, a checksum (4).
HEADER = 12
FOOTER = 4
# Large, because object stores answer slowly.
READ_BUFFER = 8 << 20


@dataclasses.dataclass
class DataConfig(hyperparams.Config):
    """Which records, and in which order they come.

    Attributes:
        input_path: TFRecord files: file names or patterns, as a list or
            separated by commas.
        is_training: whether the task trains on it or evaluates.
        global_batch_size: examples of a step, over all replicas and
            micro-batches; in evaluation of a batch over all replicas.
        num_examples: how many examples evaluation must find; another number
            is an error. 0 takes what there is.
        seed: of order and chance; None takes another one every time.
        shuffle_buffer_size: from how many records the next one is drawn.
        cycle_length: from how many files records are taken in turn.
        cache: whether this host's records stay in its memory.
        streams: in how many parts training reads the examples, each with an
            order of its own. A step takes equally many of each, so that runs
            with as many streams take the same steps on any number of hosts
            that divides it. 0 means as many as hosts.
    """

    input_path: str | Sequence[str] = ""
    is_training: bool | None = None
    global_batch_size: int = 0
    num_examples: int = 0
    seed: int | None = None
    shuffle_buffer_size: int = 16384
    cycle_length: int = 16
    cache: bool = False
    streams: int = 0

    def described(self) -> str:
        """Returns where the examples are, in words."""
        return str(self.input_path)


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
    """Examples, in a fixed order.

    Attributes:
        pieces: where they are.
    """

    pieces: Sequence[Piece]

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

    def files_of(self, stream: int, streams: int) -> Sequence[Piece]:
        """Returns one stream's share of the files, or of the examples.

        The latter where there are fewer files than streams.

        Raises:
            UserError: there are fewer examples than streams, too.
        """
        if len(self.pieces) >= streams:
            if len(self.pieces) % streams:
                logging.warning(
                    "%d files do not divide by %d hosts or streams: the "
                    "examples of some are seen more often.",
                    len(self.pieces),
                    streams,
                )
            return self.pieces[stream::streams]
        share = self.span(stream, streams)
        if not share:
            raise UserError(
                f"{sum(self.counts)} examples are too few for {streams} hosts "
                "or streams; give more data"
            )
        return share


@dataclasses.dataclass(frozen=True)
class Check:
    """How it is found out whether records are what they should be.

    Attributes:
        look: takes the number of a record in its piece, a tensor, and the
            serialized record; returns what there is to know about it, as
            tensors. It may fail.
        problem: takes that, as arrays; returns what is wrong, or None.
        reason: takes an error of TensorFlow's; returns what is wrong.
    """

    look: Callable[[tf.Tensor, tf.Tensor], Any]
    problem: Callable[[Any], str | None]
    reason: Callable[[Exception], str]


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
    """Returns what is in TFRecord files.

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
    return Source([*map(Piece, paths)])


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


def validate(config: DataConfig, *names: str) -> None:
    """Raises UserError where a number that must be 1 or more is less.

    Args:
        config: which records.
        names: the fields beside those of every config.
    """
    for name in (*names, "shuffle_buffer_size", "cycle_length"):
        if getattr(config, name) < 1:
            raise UserError(
                f"{name} is {getattr(config, name)}; give 1 or more"
            )


def place(context: tf.distribute.InputContext | None) -> tuple[int, int]:
    """Returns which host this is, from 0, and how many there are."""
    if context is None:
        return 0, 1
    return context.input_pipeline_id, context.num_input_pipelines


def training_examples(
    source: Source,
    config: DataConfig,
    context: tf.distribute.InputContext | None,
    first_example: int,
    look: Callable[[tf.Tensor, tf.Tensor], Any],
) -> tf.data.Dataset:
    """Returns one host's examples for training, without end.

    Every epoch holds each of a stream's examples once, in a new order.

    Args:
        source: where they are.
        config: how they are read, in how many streams.
        context: which host of how many; None means the only one.
        first_example: how many examples, over all hosts, went before in an
            earlier part of the run. It goes on from there.
        look: takes the seed with the number of the example in the run, int64
            of shape (2,), and the record; returns the example.

    Raises:
        UserError: there are fewer examples than streams, or the streams do
            not divide as they must.
    """
    host, hosts = place(context)
    streams = config.streams or hosts
    check_streams(config, hosts)
    first = first_example // streams
    seed = config.seed
    if seed is None:
        seed = int(np.random.default_rng().integers(2**62))

    def stream(number: int) -> tf.data.Dataset:
        def number_and_look(index: tf.Tensor, record: tf.Tensor) -> Any:
            return look(tf.stack([seed, index * streams + number]), record)

        pieces = source.files_of(number, streams)
        examples = shuffled(pieces, config, seed, first).enumerate(first)
        return examples.map(number_and_look, tf.data.AUTOTUNE)

    share = streams // hosts
    own = [stream(number) for number in range(host * share, (host + 1) * share)]
    return in_turn(own, config.global_batch_size // streams)


def check_streams(config: DataConfig, hosts: int) -> None:
    """Raises UserError where the streams do not divide as they must."""
    streams = config.streams or hosts
    if streams < 0 or streams % hosts:
        raise UserError(
            f"streams is {streams}; give a multiple of the {hosts} hosts, or 0"
        )
    if config.streams and config.global_batch_size % streams:
        raise UserError(
            f"global_batch_size is {config.global_batch_size} and streams "
            f"{streams}; make the one a multiple of the other"
        )


def in_turn(parts: Sequence[tf.data.Dataset], length: int) -> tf.data.Dataset:
    """Returns so many elements of each endless dataset in turn, repeatedly."""
    if len(parts) == 1:
        return parts[0]
    order = np.repeat(np.arange(len(parts)), length)
    turns = tf.data.Dataset.from_tensor_slices(order).repeat()
    return tf.data.Dataset.choose_from_datasets(
        list(parts), turns, stop_on_empty_dataset=False
    )


def shuffled(
    pieces: Sequence[Piece], config: DataConfig, seed: int, first: int
) -> tf.data.Dataset:
    """Returns the records of epoch after epoch, each in an order of its own.

    Args:
        pieces: what an epoch is.
        config: how it is read.
        seed: decides the orders, together with the number of the epoch.
        first: how many records are left out, from the first epoch on.
    """
    kept = None
    if config.cache:
        kept = read(pieces, config.cycle_length).cache()

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        # Else the order would depend on tf.random.set_seed as well.
        tf.compat.v1.set_random_seed(1)
        seeds = tf.random.split(tf.stack([seed, number]), 2)
        order = kept or read(pieces, config.cycle_length, seeds[0])
        return order.shuffle(
            config.shuffle_buffer_size,
            seed=seeds[1, 0],
            reshuffle_each_iteration=False,
        )

    done, rest = 0, first
    if first:
        done, rest = divmod(first, sum(count_all(pieces)))
    return tf.data.Dataset.counter(done).flat_map(epoch).skip(rest)


def evaluation_batches(
    source: Source,
    config: DataConfig,
    context: tf.distribute.InputContext | None,
    batch_size_per_replica: int,
    replicas: int,
    look: Callable[[tf.Tensor], Any],
) -> tf.data.Dataset:
    """Returns one host's batches for evaluation.

    Over all hosts and replicas each example is there exactly once, in a fixed
    order, filled up with zeros so that all batches are full and each replica
    gets the same number of them.

    Args:
        source: where the examples are.
        config: how they are read.
        context: which host of how many; None means the only one.
        batch_size_per_replica: examples of an element.
        replicas: how many there are on all hosts.
        look: takes a record; returns a tuple of tensors, the example.

    Returns:
        Batches of examples, which are tuples with a weight at their end, 1
        for an example and 0 for what fills up. Their number is known.

    Raises:
        UserError: there are not ``num_examples`` of them.
    """
    host, hosts = place(context)
    steps = -(-count(source, config) // (batch_size_per_replica * replicas))
    batches = steps * replicas // hosts
    pieces = source.span(host, hosts)
    share = read(pieces, config.cycle_length)
    if config.cache:
        share = share.cache()
    examples = share.map(
        lambda record: (*look(record), tf.ones(())), tf.data.AUTOTUNE
    )
    missing = batches * batch_size_per_replica - sum(x.take for x in pieces)
    filled = examples.concatenate(
        zeros(examples.element_spec).repeat(missing)
    ).batch(batch_size_per_replica, drop_remainder=True)
    return filled.apply(tf.data.experimental.assert_cardinality(batches))


def zeros(spec: Any) -> tf.data.Dataset:
    """Returns a dataset of one element, all zeros."""
    element = tf.nest.map_structure(
        lambda each: tf.zeros(each.shape, each.dtype), spec
    )
    return tf.data.Dataset.from_tensors(element)


def count(source: Source, config: DataConfig) -> int:
    """Returns how many examples there are; UserError if not as expected."""
    total = sum(source.counts)
    if config.num_examples not in (0, total):
        raise UserError(
            f"there are {total} examples, not num_examples = "
            f"{config.num_examples}, in {config.described()}; "
            "complete the data, or correct num_examples"
        )
    return total


def finish(batches: tf.data.Dataset, deterministic: bool) -> tf.data.Dataset:
    """Returns batches that are made ahead, by all cores."""
    options = tf.data.Options()
    options.deterministic = deterministic
    # The files are shared out already.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    # Each example is one thread's work; there are examples enough.
    options.threading.max_intra_op_parallelism = 1
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def open_tfds(name: str, split: str, data_dir: str = "") -> tuple[Any, Any]:
    """Opens a data set that TensorFlow Datasets prepared.

    Args:
        name: such as ``imagenet2012``.
        split: such as ``train`` or ``validation[:10%]``.
        data_dir: where the data sets are; empty means TFDS's own folder.

    Returns:
        Its builder, and what TFDS knows of the split.

    Raises:
        UserError: there is no such data set or split, or its files are not
            TFRecords.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
        part = builder.info.splits[split]
        # A part of a split is looked for only when it is asked.
        part.file_instructions  # noqa: B018
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
    return builder, part


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


@contextlib.contextmanager
def naming_broken_records(
    mentioned: str, find: Callable[[], Iterator[Any]]
) -> Iterator[None]:
    """Makes a failure of the input inside the block name file and record.

    tf.data says what is wrong, but not where. So all is read again, until the
    record is found.

    Args:
        mentioned: what TensorFlow's messages mention at a broken record, and
            rarely else, as a regular expression.
        find: reads all, and raises UserError at the first broken record.

    Raises:
        UserError: instead of TensorFlow's error, where a record is at fault.
    """
    try:
        yield
    except READ_ERRORS as error:
        if not re.search(mentioned, str(error)):
            raise
        logging.error("The input has failed; looking for the broken record.")
        for _ in find():
            pass
        raise


def check(source: Source, how: Check) -> Iterator[list[Any]]:
    """Reads everything, piece by piece, and looks for what is broken.

    Yields:
        What ``how.look`` returns of each of a piece's records, as arrays.

    Raises:
        UserError: at the first record that is corrupt or has a problem.
    """
    for piece in source.pieces:
        found: list[Any] = []
        for values in looked_at(piece, how):
            problem = how.problem(values)
            if problem is not None:
                raise broken(piece.path, piece.skip + len(found), problem)
            found.append(values)
        # A file that ends inside a length is no error to tf.data.
        count_records(piece.path)
        yield found


def looked_at(piece: Piece, how: Check) -> Iterator[Any]:
    """Yields what is found in a piece; names the record that is unreadable."""
    records = read_piece(*dataclasses.astuple(piece)).enumerate()
    found = records.map(how.look, tf.data.AUTOTUNE, deterministic=True)
    number = piece.skip
    try:
        for values in found.as_numpy_iterator():
            yield values
            number += 1
    except READ_ERRORS as error:
        what = damage(error) or how.reason(error)
        raise broken(piece.path, number, what) from error


def damage(error: Exception) -> str | None:
    """Returns what is wrong with a file, in words, if it is the file."""
    if isinstance(error, tf.errors.DataLossError):
        return DAMAGED
    if isinstance(error, tf.errors.PermissionDeniedError):
        return "reading is not permitted"
    return None
