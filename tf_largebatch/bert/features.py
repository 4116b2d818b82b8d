"""The features of BERT's records: parsed, and held against their bounds."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_largebatch import records

Features = dict[str, tf.Tensor]
# What messages of TensorFlow's mention at a broken record, and rarely else.
INPUT_ERROR = (
    "record|parse example|ParseExample|serialized Example|Feature:|Data types|"
    "codec|out of range|denied"
)


@dataclasses.dataclass(frozen=True)
class Column:
    """A feature of a record.

    Attributes:
        stored: its name there.
        shape: of the values.
        limit: they are integers from 0 to below this; 0 means floats.
    """

    stored: str
    shape: tuple[int, ...]
    limit: int = 0


# By the names that a task has for them.
Form = Mapping[str, Column]


def network_inputs(seq_length: int, vocab_size: int) -> dict[str, Column]:
    """Returns what the encoder takes, by the names that it has for that."""
    shape = (seq_length,)
    return {
        "input_word_ids": Column("input_ids", shape, vocab_size),
        "input_mask": Column("input_mask", shape, 2),
        "input_type_ids": Column("segment_ids", shape, 2),
    }


def batch_spec(form: Form, size: int) -> dict[str, tf.TensorSpec]:
    """Returns shapes and types of a batch of what :func:`parse` returns.

    With it go ``numbers``, the examples' numbers in the run.
    """
    columns = {
        name: tf.TensorSpec(
            (size, *each.shape), tf.int32 if each.limit else tf.float32
        )
        for name, each in form.items()
    }
    return {**columns, "numbers": tf.TensorSpec((size,), tf.int64)}


def parse_stored(form: Form, record: tf.Tensor) -> Features:
    """Returns what is in a record: int64, and float32 where it is floats.

    Of several, with an axis in front.
    """
    stored = tf.io.parse_example(
        record,
        {
            each.stored: tf.io.FixedLenFeature(
                each.shape, tf.int64 if each.limit else tf.float32
            )
            for each in form.values()
        },
    )
    return {name: stored[each.stored] for name, each in form.items()}


def parse(form: Form, record: tf.Tensor) -> Features:
    """Returns what is in a record: int32, and float32 where it is floats."""
    return as_int32(parse_stored(form, record))


def as_int32(found: Features) -> Features:
    """Returns features with integers as the network takes them."""
    return {
        name: tf.cast(each, tf.int32) if each.dtype == tf.int64 else each
        for name, each in found.items()
    }


def parse_valid(form: Form, record: tf.Tensor) -> Features:
    """Returns what is in a record; fails where a value is out of range."""
    # Before an integer of 64 bits can become a valid one of 32.
    found = parse_stored(form, record)
    for name, each in form.items():
        fits = (
            tf.math.is_finite(found[name])
            if not each.limit
            else ((0 <= found[name]) & (found[name] < each.limit))
        )
        tf.debugging.Assert(
            tf.reduce_all(fits), [f"{each.stored} is out of range"]
        )
    return as_int32(found)


def check(form: Form, what: str) -> records.Check:
    """Returns how records are checked.

    Args:
        form: what is in them.
        what: what they are, in words.
    """

    def look(number: tf.Tensor, record: tf.Tensor) -> Features:
        del number
        return parse_stored(form, record)

    def reason(error: Exception) -> str:
        del error
        return f"the record is no {what}"

    return records.Check(
        look,
        functools.partial(problem, form),
        reason,
        functools.partial(parse_valid, form),
    )


def problem(form: Form, found: Mapping[str, Any]) -> str | None:
    """Returns which value is out of range, if one is."""
    for name, each in form.items():
        low, high = found[name].min(), found[name].max()
        if not each.limit and not np.isfinite(found[name]).all():
            return f"{each.stored} has a value that is no number"
        if each.limit and (low < 0 or high >= each.limit):
            return (
                f"{each.stored} goes from {low} to {high}, not from 0 to "
                f"{each.limit - 1}"
            )
    return None
