"""SQuAD's features for training, as the Model Garden's tools write them."""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from tf_largebatch import records, skipping
from tf_largebatch.bert import features
from tf_largebatch.bert.features import Features

# Where an answer begins and ends.
PLACES = ("start_positions", "end_positions")


@dataclasses.dataclass
class DataConfig(records.DataConfig):
    """Which features are learnt from.

    Beside the fields of its base class:

    Attributes:
        seq_length: tokens of a feature.
    """

    seq_length: int = 384


def form_of(config: DataConfig, vocab_size: int) -> features.Form:
    """Returns what is in a record."""
    length = config.seq_length
    places = {name: features.Column(name, (), length) for name in PLACES}
    return {**features.network_inputs(length, vocab_size), **places}


def train_dataset(
    config: DataConfig,
    context: tf.distribute.InputContext | None,
    micro_batch_size: int,
    vocab_size: int,
    first_example: int = 0,
) -> tf.data.Dataset:
    """Returns one host's features, without end.

    Every epoch holds each of the host's features once, in a new order.
    Micro-batches run on across its end.

    Args:
        config: which features.
        context: which host of how many; None means the only one.
        micro_batch_size: features of an element.
        vocab_size: tokens are below this.
        first_example: how many features, over all hosts, went before in an
            earlier part of the run. It goes on from there.

    Returns:
        By the names of :func:`form_of`, int32 of shape (micro_batch_size,
        ...), and ``numbers``, int64 of shape (micro_batch_size,), the
        features' numbers in the run.

    Raises:
        UserError: a value in the config that it cannot have, or no data.
    """
    form = form_of(config, vocab_size)

    def look(seed: tf.Tensor, record: tf.Tensor) -> Features:
        return {**features.parse_valid(form, record), "numbers": seed[1]}

    examples = records.training_examples(
        open_source(config, vocab_size), config, context, first_example, look
    )
    batches = examples.batch(micro_batch_size, drop_remainder=True)
    return records.finish(batches, deterministic=config.seed is not None)


def open_source(config: DataConfig, vocab_size: int) -> records.Source:
    """Returns where the features of a config are.

    Raises:
        UserError: nowhere, a field has a value that it cannot have, or more
            records are broken than may be left out.
    """
    records.validate(config, "seq_length")
    return skipping.whole_or_without(
        records.open_data(config),
        config,
        check_of(config, vocab_size),
        vocab_size,
    )


def check_of(config: DataConfig, vocab_size: int) -> records.Check:
    """Returns how a record is checked."""
    what = f"feature of {config.seq_length} tokens with an answer's place"
    return features.check(form_of(config, vocab_size), what)


def naming_broken_records(
    config: DataConfig, vocab_size: int
) -> AbstractContextManager[None]:
    """Makes a failure of the input inside the block name file and record.

    Raises:
        UserError: instead of TensorFlow's error, where a record is at fault.
    """

    def find() -> Iterator[Any]:
        source = open_source(config, vocab_size)
        return records.check(source, check_of(config, vocab_size))

    return records.naming_broken_records(features.INPUT_ERROR, find)
