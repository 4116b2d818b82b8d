"""BERT's examples for pretraining, as the Model Garden's tools write them.

The order is a function of the seed alone, and with each micro-batch comes what
else the step needs: its examples' numbers in the run, of which dropout is a
function, and how many tokens its replica has to predict in the step.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from tf_largebatch import records, skipping
from tf_largebatch.bert import features
from tf_largebatch.bert.features import Features


@dataclasses.dataclass
class DataConfig(records.DataConfig):
    """Which examples.

    Beside the fields of its base class:

    Attributes:
        seq_length: tokens of an example.
        max_predictions_per_seq: how many of them are to be predicted at most.
    """

    seq_length: int = 128
    max_predictions_per_seq: int = 20


def form_of(config: DataConfig, vocab_size: int) -> features.Form:
    """Returns what is in a record."""
    length = config.seq_length
    shape = (config.max_predictions_per_seq,)
    return {
        **features.network_inputs(length, vocab_size),
        "masked_lm_positions": features.Column(
            "masked_lm_positions", shape, length
        ),
        "masked_lm_ids": features.Column("masked_lm_ids", shape, vocab_size),
        "masked_lm_weights": features.Column("masked_lm_weights", shape),
        "next_sentence_labels": features.Column("next_sentence_labels", (), 2),
    }


def train_dataset(
    config: DataConfig,
    context: tf.distribute.InputContext | None,
    micro_batch_size: int,
    micro_batches: int,
    vocab_size: int,
    first_example: int = 0,
) -> tf.data.Dataset:
    """Returns one host's training examples, without end.

    Every epoch holds each of the host's examples once, in a new order.
    Micro-batches run on across its end.

    Args:
        config: which examples.
        context: which host of how many; None means the only one.
        micro_batch_size: examples of an element.
        micro_batches: how many of them a replica takes a step.
        vocab_size: tokens are below this.
        first_example: how many examples, over all hosts, went before in an
            earlier part of the run. It goes on from there.

    Returns:
        By the names of :func:`form_of`, int32, and the weights float32, of
        shape (micro_batch_size, ...). Beside them ``numbers``, int64 of shape
        (micro_batch_size,), the examples' numbers in the run, and
        ``predictions``, float32 of shape (), the sum of the weights of the
        replica's share of the step.

    Raises:
        UserError: a value in the config that it cannot have, or no data.
    """
    form = form_of(config, vocab_size)

    def look(seed: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return record, seed[1]

    def parse(records: tf.Tensor, numbers: tf.Tensor) -> Features:
        return {**features.parse_valid(form, records), "numbers": numbers}

    examples = records.training_examples(
        open_source(config, vocab_size), config, context, first_example, look
    )
    batches = examples.batch(micro_batch_size, drop_remainder=True)
    # Together: one by one takes twice as long.
    parsed = batches.map(parse, tf.data.AUTOTUNE)
    counted = count_predictions(parsed, replicas_of(context), micro_batches)
    return records.finish(counted, deterministic=config.seed is not None)


def replicas_of(context: tf.distribute.InputContext | None) -> int:
    """Returns how many replicas a host has."""
    if context is None:
        return 1
    return context.num_replicas_in_sync // context.num_input_pipelines


def count_predictions(
    batches: tf.data.Dataset, replicas: int, micro_batches: int
) -> tf.data.Dataset:
    """Adds ``predictions`` to micro-batches, which replicas take in turn."""

    def count(step: Features) -> Features:
        sums = tf.reduce_sum(step["masked_lm_weights"], [1, 2])
        shares = tf.reduce_sum(tf.reshape(sums, (micro_batches, replicas)), 0)
        return {**step, "predictions": tf.tile(shares, [micro_batches])}

    steps = batches.batch(micro_batches * replicas, drop_remainder=True)
    return steps.map(count, tf.data.AUTOTUNE).unbatch()


def evaluation_dataset(
    config: DataConfig,
    context: tf.distribute.InputContext | None,
    batch_size_per_replica: int,
    replicas: int,
    vocab_size: int,
) -> tf.data.Dataset:
    """Returns one host's examples for evaluation.

    Over all hosts and replicas each example is there exactly once, in a fixed
    order, filled up with examples of weight 0 so that all batches are full
    and each replica gets the same number of them.

    Args:
        config: which examples.
        context: which host of how many; None means the only one.
        batch_size_per_replica: examples of an element.
        replicas: how many there are on all hosts.
        vocab_size: tokens are below this.

    Returns:
        Batches by the names of :func:`form_of`, and weights, float32 of shape
        (batch_size_per_replica,). The number of elements is known.

    Raises:
        UserError: a value in the config that it cannot have, no data, or not
            ``num_examples`` of them.
    """
    form = form_of(config, vocab_size)
    batches = records.evaluation_batches(
        open_source(config, vocab_size),
        config,
        context,
        batch_size_per_replica,
        replicas,
        lambda record: (features.parse_valid(form, record),),
    )
    return records.finish(batches, deterministic=True)


def open_source(config: DataConfig, vocab_size: int) -> records.Source:
    """Returns where the examples of a config are.

    Raises:
        UserError: nowhere, a field has a value that it cannot have, or more
            records are broken than may be left out.
    """
    records.validate(config, "seq_length", "max_predictions_per_seq")
    return skipping.whole_or_without(
        records.open_data(config),
        config,
        check_of(config, vocab_size),
        vocab_size,
    )


def check_of(config: DataConfig, vocab_size: int) -> records.Check:
    """Returns how a record is checked."""
    what = (
        f"example of {config.seq_length} tokens and "
        f"{config.max_predictions_per_seq} predictions"
    )
    return features.check(form_of(config, vocab_size), what)


def naming_broken_records(
    vocab_size: int, *configs: DataConfig
) -> AbstractContextManager[None]:
    """Makes a failure of the input inside the block name file and record.

    Raises:
        UserError: instead of TensorFlow's error, where a record is at fault.
    """

    def find() -> Iterator[Any]:
        for config in configs:
            source = open_source(config, vocab_size)
            yield from records.check(source, check_of(config, vocab_size))

    return records.naming_broken_records(features.INPUT_ERROR, find)
