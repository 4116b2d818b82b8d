"""A tiny BERT on the English prose of CPython's documentation: no download."""

import functools
import math
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_largebatch import workloads
from tf_largebatch.bert import (
    demo,
    features,
    instances,
    network,
    pretraining,
    vocabulary,
)
from tf_largebatch.bert import input as inputs
from tf_largebatch.bert.documents import Document

Split = dict[str, np.ndarray]


class Task(workloads.Workload):
    """Predicts masked tokens, and whether sentences follow each other.

    The network, its losses and the tools that make its examples are those of
    :mod:`tf_largebatch.bert`. It is judged by the masked-LM loss alone, which
    counts as that of guessing, the logarithm of the number of tokens, where
    it is higher or no number, as it is after a divergence.
    """

    family = "tf_keras"
    jit_compile = True

    def __init__(self, config: workloads.Settings):
        super().__init__(config)
        self.guessing = math.log(config["encoder"]["vocab_size"])
        count = config["measured"]
        self.measured = {
            name: {key: x[:count] for key, x in split.items()}
            for name, split in self.splits.items()
        }

    def data(self) -> dict[str, Split]:
        """Returns the splits that are configured."""
        return data(
            tuple(self.config["splits"].items()),
            self.config["encoder"]["vocab_size"],
            tuple(sorted(self.config["examples"].items())),
        )

    def build_model(
        self, seed: int, settings: workloads.Settings
    ) -> tf_keras.Model:
        """Returns a new network."""
        del settings
        tf_keras.utils.set_random_seed(seed)
        encoder = {"type": "bert", "bert": self.config["encoder"]}
        return pretraining.make_model(network.ModelConfig({"encoder": encoder}))

    def trained_variables(self, model: tf_keras.Model) -> list[tf.Variable]:
        """Returns all variables but those of the pooler, which is not used."""
        return network.without_pooler(
            model.trainable_variables, model.encoder_network
        )

    def loss(
        self,
        model: tf_keras.Model,
        examples: Any,
        settings: workloads.Settings,
    ) -> tf.Tensor:
        """Returns the sum of both losses, each a mean over the batch."""
        del settings
        outputs = pretraining.infer(examples, model, training=True)
        return masked_lm_loss(examples, outputs) + tf.reduce_mean(
            pretraining.next_sentence_losses(examples, outputs)
        )

    def measure(
        self, model: tf_keras.Model, examples: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the masked-LM loss, as it counts and as it is.

        One that is no number is that of guessing.
        """
        outputs = pretraining.infer(examples, model, training=False)
        loss = masked_lm_loss(examples, outputs)
        loss = tf.where(tf.math.is_nan(loss), self.guessing, loss)
        return tf.minimum(loss, self.guessing), loss


def masked_lm_loss(examples: Any, outputs: pretraining.Outputs) -> tf.Tensor:
    """Returns the mean over all predictions that count."""
    losses = pretraining.masked_lm_losses(examples, outputs)
    return tf.reduce_sum(losses) / tf.reduce_sum(examples["masked_lm_weights"])


@functools.cache
def data(
    shares: tuple[tuple[str, int], ...],
    vocab_size: int,
    settings: tuple[tuple[str, Any], ...],
) -> dict[str, Split]:
    """Returns the splits by name, always the same.

    The vocabulary is learnt from the text for training, and no document is in
    two splits. On another Python the text differs a little.

    Args:
        shares: the splits' names, and how many documents in turn each gets.
        vocab_size: tokens of the vocabulary.
        settings: more fields of :class:`instances.Job`, with values.

    Returns:
        For each name the examples, int32 and the weights float32, by the
        names of :func:`tf_largebatch.bert.input.form_of`, in random order.
    """
    dealt = deal(list(demo.documents()), dict(shares))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for split, documents in dealt.items():
            text = "\n\n".join(map("\n".join, documents))
            (folder / f"{split}.txt").write_text(text + "\n", encoding="utf-8")
        words = vocabulary.count_words(str(folder / "train.txt"), True)
        tokens = vocabulary.learn(words, vocab_size)
        text = "\n".join([*tokens, ""])
        (folder / "vocab.txt").write_text(text, encoding="utf-8")
        return {
            split: make_examples(folder, split, vocab_size, dict(settings))
            for split in dealt
        }


def deal(
    documents: Sequence[Document], shares: dict[str, int]
) -> dict[str, list[Document]]:
    """Deals documents out in turn, so that splits are alike.

    >>> deal(["a", "b", "c", "d"], {"train": 2, "test": 1})
    {'train': ['a', 'b', 'd'], 'test': ['c']}
    """
    turns = [name for name, share in shares.items() for _ in range(share)]
    return {
        name: [
            document
            for number, document in enumerate(documents)
            if turns[number % len(turns)] == name
        ]
        for name in shares
    }


def make_examples(
    folder: pathlib.Path, split: str, vocab_size: int, settings: dict[str, Any]
) -> Split:
    """Returns the examples of a split whose text is in the folder."""
    job = instances.Job(
        text=str(folder / f"{split}.txt"),
        out=str(folder / f"{split}.tfrecord"),
        vocab_file=str(folder / "vocab.txt"),
        do_lower_case=True,
        seed=split,
        **settings,
    )
    count = instances.write(job)
    config = inputs.DataConfig(
        seq_length=job.seq_length, max_predictions_per_seq=job.max_predictions
    )
    parse = functools.partial(
        features.parse, inputs.form_of(config, vocab_size)
    )
    records = tf.data.TFRecordDataset(job.out).map(parse).batch(count)
    (examples,) = records.as_numpy_iterator()
    return examples
