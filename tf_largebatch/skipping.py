"""Leaves out records that are broken: finds them, names them, counts them.

All records are looked at before the first step, so that which are left out is
known to every host alike, and the order stays a function of the seed alone.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tensorflow as tf
from absl import logging

from tf_largebatch import frames, records
from tf_largebatch.errors import UserError
from tf_largebatch.records import ALL, BrokenRecord, Check, Piece

AnySource = TypeVar("AnySource", bound=records.Source)
# What was found, by the settings and the state of the files, lest data be
# looked through again in the same run.
_FOUND: dict[str, tuple[list[Piece], int]] = {}


@dataclasses.dataclass(frozen=True)
class Broken:
    """A record that is left out, with those that cannot be read behind it.

    Attributes:
        path: of the file.
        number: of the record in it, from 0.
        what: what is wrong.
        lost: how many are left out; None means up to the end of the file,
            and that it is not known how many that is.
    """

    path: str
    number: int
    what: str
    lost: int | None = 1

    @property
    def count(self) -> int:
        """For how many records it counts."""
        return 1 if self.lost is None else self.lost

    def described(self) -> str:
        """Returns which record it is and what is wrong, in words."""
        rest = f", and the {self.count - 1} after it" * (self.count > 1)
        if self.lost is None:
            rest = ", and what was after it in the file, which counts as one"
        return (
            f"{self.what}, in {self.path}, record {self.number} (the first is "
            f"0){rest}"
        )


def whole_or_without(
    source: AnySource, config: records.DataConfig, how: Check, *key: Any
) -> AnySource:
    """Returns the examples of a config, without broken ones if it says so.

    Args:
        source: where they are.
        config: how many broken ones may be left out. With 0 the files are
            opened, but not read.
        how: what a good record is.
        key: on what that depends beside the config.

    Raises:
        UserError: a file has no records, or more are broken than may be.
    """
    limit = config.max_corrupt_records
    if limit < 0:
        raise UserError(f"max_corrupt_records is {limit}; give 0 or more")
    if not limit:
        records.check_files(source)
        return source
    with concurrent.futures.ThreadPoolExecutor() as pool:
        states = [*pool.map(state_of, source.pieces)]
    name = repr((config.as_dict(), key, states))
    if name not in _FOUND:
        _FOUND[name] = look_through(source, config, how)
    pieces, count = _FOUND[name]
    return dataclasses.replace(source, pieces=pieces, left_out=count)


def state_of(piece: Piece) -> tuple[Any, ...]:
    """Returns what changes when a file does."""
    if not tf.io.gfile.exists(piece.path):
        return (piece,)
    with records.naming(piece.path):
        status = tf.io.gfile.stat(piece.path)
    return piece, status.length, status.mtime_nsec


def look_through(
    source: records.Source, config: records.DataConfig, how: Check
) -> tuple[list[Piece], int]:
    """Reads everything; names and counts what is broken.

    Returns:
        The pieces without that, and how many records are left out.

    Raises:
        UserError: too many are broken, or all.
    """
    limit = config.max_corrupt_records
    logging.info("Looking for broken records in %s.", config.described())
    pieces, broken = examine_all(source.pieces, how, limit)
    count = sum(each.count for each in broken)
    # Else not everything was looked at.
    if count <= limit and any(each.lost is None for each in broken):
        good = sum(piece.count() for piece in pieces)
        count = max(count, config.num_examples - good)
    if count > limit:
        raise too_many(broken[0], count, config)
    if not pieces:
        raise UserError(
            f"every record is broken, in {config.described()}; the first: "
            f"{broken[0].described()}; replace the data"
        )
    for each in broken:
        logging.warning("Left out: %s.", each.described())
    return pieces, count


def too_many(
    first: Broken, count: int, config: records.DataConfig
) -> UserError:
    """Returns the error where more is broken than may be left out."""
    return UserError(
        f"at least {count} records are broken, and max_corrupt_records is "
        f"{config.max_corrupt_records}, in {config.described()}; the first: "
        f"{first.described()}; replace the file, or let more be left out"
    )


def examine_all(
    pieces: Sequence[Piece], how: Check, limit: int
) -> tuple[list[Piece], list[Broken]]:
    """Reads pieces, several at once, up to the one with which it is too many.

    Returns:
        What is left of them, without those of which nothing is, and what is
        broken, in order.
    """
    left, broken = [], []
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        count = counter(how)
        for rest, problems in pool.map(
            lambda piece: examine(piece, how, count, limit), pieces
        ):
            left += [rest] if rest.count() else []
            broken += problems
            if sum(each.count for each in broken) > limit:
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return left, broken


def counter(how: Check) -> Callable[[Piece], int]:
    """Returns what counts a piece's records; it fails if one is broken."""
    if how.pass_or_fail is None:
        return lambda piece: sum(1 for _ in records.looked_at(piece, how))

    def count(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.Tensor:
        stored = records.read_piece(path, skip, take)
        passed = records.untuned(stored.map(how.pass_or_fail, os.cpu_count()))
        return passed.reduce(0, lambda number, *_: number + 1)

    dtypes = (tf.string, tf.int64, tf.int64)
    signature = [tf.TensorSpec((), dtype) for dtype in dtypes]
    # Traced once, for there may be thousands of files.
    traced = tf.function(count).get_concrete_function(*signature)

    def count_piece(piece: Piece) -> int:
        values = (piece.path, piece.skip, piece.take)
        return int(traced(*map(tf.constant, values, dtypes)))

    return count_piece


def examine(
    piece: Piece, how: Check, count: Callable[[Piece], int], limit: int
) -> tuple[Piece, list[Broken]]:
    """Returns what is left of a piece, and what is broken.

    Args:
        piece: which.
        how: what a good record is.
        count: of :func:`counter`.
        limit: after how many broken ones no more are looked for.
    """
    try:
        return intact(piece, count(piece)), []
    except (BrokenRecord, *records.READ_ERRORS):
        # It is known now that something is wrong, but not what or where.
        end, rest = end_of(piece)
    broken = look_at_each(piece, end, how, limit)
    without = tuple(each.number for each in broken)
    left = Piece(piece.path, piece.skip, end - piece.skip, without)
    return left, [*broken, *rest]


def intact(piece: Piece, count: int) -> Piece:
    """Returns a piece with its length, if no record is lost at its end.

    Args:
        piece: which.
        count: how many records were found.

    Raises:
        BrokenRecord: some are.
    """
    if (what := records.file_problem(piece.path)) is not None:
        raise BrokenRecord(piece.path, piece.skip, what)
    records.check_ends([piece])
    if piece.take not in (ALL, count):
        raise BrokenRecord(piece.path, piece.skip + count, records.TOO_FEW)
    return dataclasses.replace(piece, take=count)


def look_at_each(
    piece: Piece, end: int, how: Check, limit: int
) -> list[Broken]:
    """Returns which records of a piece are broken.

    Args:
        piece: where it begins.
        end: the number of the record before which it ends.
        how: what a good record is.
        limit: after how many broken ones no more are looked for.
    """
    broken: list[Broken] = []
    number = piece.skip
    while number < end and len(broken) <= limit:
        rest = Piece(piece.path, number, end - number)
        try:
            # tf.data reads no further in a file after a broken record.
            found = sum(1 for _ in records.looked_at(rest, how))
            records.check_count(rest, found)
            number = end
        except BrokenRecord as error:
            broken.append(Broken(error.path, error.number, error.what))
            number = error.number + 1
    return broken


def end_of(piece: Piece) -> tuple[int, list[Broken]]:
    """Returns how far a piece can be read.

    Returns:
        The number of the record before which it ends, and what of it is lost
        from there on, if something is.
    """
    end, what, lost = end_of_file(piece.path)
    before = max(piece.skip - end, 0)  # What is lost, but is not the piece's.
    end += before
    if lost is not None:
        lost = max(lost - before, 0)
    if piece.take != ALL:
        stop = piece.skip + piece.take
        if end >= stop:
            return stop, []
        what, lost = what or records.TOO_FEW, stop - end
    return end, [Broken(piece.path, end, what, lost)] if what else []


def end_of_file(path: str) -> tuple[int, str | None, int | None]:
    """Returns how far a file can be read.

    Returns:
        How many records can be; what is wrong then, or None; and how many are
        lost, or None where it is not known.
    """
    if not tf.io.gfile.exists(path):
        return 0, records.GONE, None
    what, size = records.file_problem(path), records.size_of(path)
    if what is not None:
        return 0, what, None
    with records.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        count, position = frames.walk(file, size)
        if position == size:
            return count, None, None
        return count, records.DAMAGED, frames.count_lost(file, size, position)
