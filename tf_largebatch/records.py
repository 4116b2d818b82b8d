"""The TFRecord files that examples are in: found, shared out, read, checked.

What is in a record is not known here: functions that are given say what
becomes of it. The order in training is a function of the seed alone, so that
a run which goes on where it stopped sees what it would have seen.
"""

import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from official.modeling import hyperparams

from tf_largebatch import frames, shards
from tf_largebatch.errors import UserError

ALL = -1
DAMAGED = "the record is corrupt or cut short"
GONE = "the file is missing"
TOO_FEW = "the file ends before the record"
# What tf.data raises at a broken record; UnicodeDecodeError where a message of
# TensorFlow's quotes the record.
READ_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    UnicodeDecodeError,
    tf.errors.InvalidArgumentError,
)
# What messages of TensorFlow's mention at a record that is no such example.
NO_EXAMPLE = re.compile(
    "parse example|serialized Example|Data type|Feature:|codec"
)
# And where a file is not what it was, or what TFDS says of it.
OTHER_FILE = "expected to contain|No such file"
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
        num_examples: how many examples there are. In evaluation another
            number is an error, and 0 takes what there is. In training it is
            not looked at but for ``evaluation_epochs``, as an epoch's length.
        seed: of order and chance; None takes another one every time.
        shuffle_buffer_size: from how many records the next one is drawn.
        cycle_length: from how many files records are taken in turn.
        cache: whether this host's records stay in its memory.
        max_corrupt_records: up to so many broken records are left out. To
            find them all data is read, and decoded, once at every start, by
            every host; with 0 nothing is, and the first one met is an error.
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
    max_corrupt_records: int = 0
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
        take: how many there are, with those in ``without``; ALL means up to
            the end of the file.
        without: which of them are left out, in order, by their numbers in
            the file.
    """

    path: str
    skip: int = 0
    take: int = ALL
    without: tuple[int, ...] = ()

    def count(self) -> int:
        """Returns how many records there are."""
        if self.take == ALL:
            return count_records(self.path) - self.skip
        return self.take - len(self.without)

    def number(self, index: int) -> int:
        """Returns the number in the file of a record, by its place here.

        >>> [Piece("a", 2, 5, (3, 4)).number(index) for index in range(3)]
        [2, 5, 6]
        """
        number = self.skip + index
        for left_out in self.without:
            number += left_out <= number
        return number

    def part(self, first: int, last: int) -> "Piece":
        """Returns some records, from the place of the first to the last's."""
        start, end = self.number(first), self.number(last)
        without = [each for each in self.without if start < each < end]
        return Piece(self.path, start, end - start + 1, tuple(without))

    def runs(self) -> list[tuple[int, int]]:
        """Returns the records that follow each other, as skip and take.

        >>> Piece("a", 2, 5, (3, 4)).runs(), Piece("a").runs()
        ([(2, 1), (5, 2)], [(0, -1)])
        """
        if not self.without:
            return [(self.skip, self.take)]
        bounds = [self.skip - 1, *self.without, self.skip + self.take]
        return [
            (before + 1, after - before - 1)
            for before, after in zip(bounds, bounds[1:])
            if after > before + 1
        ]


@dataclasses.dataclass(frozen=True)
class Source:
    """Examples, in a fixed order.

    Attributes:
        pieces: where they are.
        left_out: how many broken ones are not among them.
    """

    pieces: Sequence[Piece]
    left_out: int = dataclasses.field(default=0, kw_only=True)

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
                share.append(piece.part(first, last - 1))
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
        pass_or_fail: takes a serialized record; fails where something is
            wrong, and returns tensors that say nothing. It does without
            Python, and so is faster. None means that there is no such thing.
    """

    look: Callable[[tf.Tensor, tf.Tensor], Any]
    problem: Callable[[Any], str | None]
    reason: Callable[[Exception], str]
    pass_or_fail: Callable[[tf.Tensor], Any] | None = None


class BrokenRecord(UserError):
    """A record that is corrupt, or not what it should be.

    Args:
        path: of the file.
        number: of the record in it, from 0.
        what: what is wrong.
    """

    def __init__(self, path: str, number: int, what: str):
        self.path, self.number, self.what = path, number, what
        super().__init__(
            f"{what}, in {path}, record {number} (the first is 0); "
            "replace the file"
        )


def count_all(pieces: Sequence[Piece]) -> list[int]:
    """Returns how many records each piece has."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(Piece.count, pieces))


def count_records(path: str) -> int:
    """Returns how many records a file has, from their lengths alone.

    Raises:
        BrokenRecord: the file is cut short, or is no TFRecord file.
    """
    size = size_of(path)
    with naming(path), tf.io.gfile.GFile(path, "rb") as file:
        count, position = frames.walk(file, size)
    if position < size:
        raise BrokenRecord(path, count, DAMAGED)
    return count


def check_ends(pieces: Sequence[Piece]) -> None:
    """Looks whether files end where a record does, without reading them.

    tf.data takes one for whole that ends inside a length: epochs would be
    shorter than they should be, and nobody knew.

    Raises:
        BrokenRecord: one does not.
    """

    def check_end(piece: Piece) -> None:
        size = size_of(piece.path)
        with naming(piece.path), tf.io.gfile.GFile(piece.path, "rb") as file:
            whole = frames.ends_whole(file, size)
        if not whole:
            count_records(piece.path)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(check_end, [x for x in pieces if x.take == ALL]))


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Makes TensorFlow's errors on a file a UserError that names it."""
    try:
        yield
    except tf.errors.OpError as error:
        raise UserError(f"cannot read {path}: {error.message}") from error


def open_files(input_path: str | Sequence[str]) -> Source:
    """Returns what is in TFRecord files.

    Args:
        input_path: files or patterns, as a list or separated by commas.

    Raises:
        UserError: a pattern matches nothing, or a file is empty.
    """
    found = [path for each in split(input_path) for path in match(each)]
    source = Source([*map(Piece, found)])
    check_files(source)
    return source


def open_data(config: DataConfig) -> Source:
    """Returns what a config asks for; nothing of it is read.

    Of files that are numbered, such as train-00000-of-00010, those that are
    missing are there as well, at the end, where broken records are left out.

    Raises:
        UserError: a pattern matches nothing, or a file is missing.
    """
    found, gone = [], []
    for pattern in split(config.input_path):
        paths = match(pattern)
        found += paths
        gone += absent(pattern, paths)
    if gone and not config.max_corrupt_records:
        raise UserError(
            f"{GONE}, though the others of its name are there: {gone[0]}; "
            "complete the data, or ask for fewer files in input_path"
        )
    return Source([*map(Piece, [*found, *gone])])


def split(input_path: str | Sequence[str]) -> list[str]:
    """Returns patterns that are a list or separated by commas."""
    texts = [input_path] if isinstance(input_path, str) else input_path
    return [part.strip() for text in texts for part in text.split(",")]


def absent(pattern: str, paths: Sequence[str]) -> list[str]:
    """Returns what a pattern asks for, by the files' numbers, and is not there.

    >>> absent("a/*", ["a/train-00000-of-00002"])
    ['a/train-00001-of-00002']
    >>> absent("a/train-00000-*", ["a/train-00000-of-00002"])
    []
    """
    name = os.path.basename(pattern)
    return [
        path
        for path in shards.missing(paths)
        if fnmatch.fnmatchcase(os.path.basename(path), name)
    ]


def check_files(source: Source) -> None:
    """Raises UserError at the first file that is missing or has no record."""
    paths = [piece.path for piece in source.pieces]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for path, what in zip(paths, pool.map(file_problem, paths)):
            if what is not None:
                raise UserError(f"{what}, in {path}; replace it")


def file_problem(path: str) -> str | None:
    """Returns what is wrong with a file as a whole, if something is."""
    length = size_of(path)
    if length < frames.HEADER + frames.FOOTER:
        return f"the file holds no record, only {length} bytes"
    return None


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
        check_ends(pieces)
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
    missing = batches * batch_size_per_replica - sum(x.count() for x in pieces)
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
    if config.num_examples not in (0, total + source.left_out):
        broken = f" and {source.left_out} broken ones" * bool(source.left_out)
        raise UserError(
            f"there are {total} examples{broken}, not num_examples = "
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
    runs = [piece.runs() for piece in pieces]
    longest = max(map(len, runs), default=1)
    # Filled up with runs of no record.
    table = [each + [(0, 0)] * (longest - len(each)) for each in runs]
    numbers = np.array(table, np.int64).reshape(-1, longest, 2)
    columns = [
        tf.constant([piece.path for piece in pieces], tf.string),
        *(tf.constant(numbers[..., part]) for part in range(2)),
    ]
    if seed is not None:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(pieces)), seed
        )
        columns = [tf.gather(column, order) for column in columns]
    return tf.data.Dataset.from_tensor_slices(tuple(columns)).interleave(
        read_file if ALL in [piece.take for piece in pieces] else read_exactly,
        cycle_length=cycle_length,
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def read_exactly(
    path: tf.Tensor, skips: tf.Tensor, takes: tf.Tensor
) -> tf.data.Dataset:
    """Does what :func:`read_file` does; fails where there are too few."""
    count = tf.data.experimental.assert_cardinality(tf.reduce_sum(takes))
    return read_file(path, skips, takes).apply(count)


def read_file(
    path: tf.Tensor, skips: tf.Tensor, takes: tf.Tensor
) -> tf.data.Dataset:
    """Returns the serialized records of one file's runs, in their order."""
    runs = tf.data.Dataset.from_tensor_slices((skips, takes))
    return runs.flat_map(lambda skip, take: read_piece(path, skip, take))


def read_piece(
    path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor
) -> tf.data.Dataset:
    """Returns the serialized records of one run, in their order."""
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
        if not re.search(f"{mentioned}|{OTHER_FILE}", str(error)):
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
        found = [*looked_at(piece, how)]
        check_count(piece, len(found))
        yield found


def looked_at(piece: Piece, how: Check) -> Iterator[Any]:
    """Yields what ``how.look`` returns of each record of a piece.

    Raises:
        BrokenRecord: at the first that is unreadable or has a problem.
    """
    for number, take in piece.runs():
        stored = read_piece(piece.path, number, take)
        found = untuned(
            stored.enumerate(number - piece.skip).map(
                how.look, os.cpu_count(), deterministic=True
            )
        )
        try:
            for values in found.as_numpy_iterator():
                if (problem := how.problem(values)) is not None:
                    raise BrokenRecord(piece.path, number, problem)
                yield values
                number += 1
        except READ_ERRORS as error:
            what = damage(error) or how.reason(error)
            raise BrokenRecord(piece.path, number, what) from error


def untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a dataset that is read once, by a fixed number of threads.

    Else TensorFlow now and then waits for a minute when it throws an iterator
    away: for a thread that tunes and has missed the signal to end.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def check_count(piece: Piece, count: int) -> None:
    """Raises BrokenRecord where a file ended before its end, or a piece's."""
    if piece.take == ALL:
        # A file that ends inside a length is no error to tf.data.
        count_records(piece.path)
    elif count < piece.count():
        raise BrokenRecord(piece.path, piece.number(count), TOO_FEW)


def damage(error: Exception) -> str | None:
    """Returns what is wrong with a file, in words, if it is the file."""
    if isinstance(error, tf.errors.DataLossError):
        return DAMAGED
    if isinstance(error, tf.errors.PermissionDeniedError):
        return "reading is not permitted"
    if isinstance(error, tf.errors.NotFoundError):
        return GONE
    return None
