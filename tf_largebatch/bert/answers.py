"""Answers to SQuAD's questions: from logits to F1 and exact match."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from official.modeling import hyperparams
from official.nlp.data import squad_lib
from official.nlp.tools import squad_evaluate_v1_1

from tf_largebatch.bert import questions, vocabulary
from tf_largebatch.errors import RunError, UserError

PADDING = -1
Batch = dict[str, tf.Tensor]


@dataclasses.dataclass
class DataConfig(hyperparams.Config):
    """Which questions are to be answered.

    Attributes:
        input_path: a JSON file of SQuAD v1.1's form.
        vocab_file: the WordPiece vocabulary, a token a line.
        do_lower_case: whether the vocabulary is one without capitals.
        seq_length: tokens of a feature.
        doc_stride: how many tokens further the next feature of a paragraph
            begins that is too long for one.
        query_length: tokens of a question; the rest of it is left out.
        global_batch_size: features of a batch over all replicas.
        is_training: must be False; the task that trains has other settings.
    """

    input_path: str = ""
    vocab_file: str = ""
    do_lower_case: bool = True
    seq_length: int = 384
    doc_stride: int = 128
    query_length: int = 64
    global_batch_size: int = 64
    is_training: bool = False


def validate(config: DataConfig) -> None:
    """Raises UserError where a field has a value that it cannot have."""
    for name, what in (
        ("input_path", "a JSON file of SQuAD v1.1's form"),
        ("vocab_file", "the vocabulary that the network was trained with"),
    ):
        if not getattr(config, name):
            raise UserError(f"{name} is not set; give {what}")
    if config.global_batch_size < 1:
        raise UserError(
            f"global_batch_size is {config.global_batch_size}; give 1 or more"
        )
    questions.check_lengths(
        config.seq_length, config.doc_stride, config.query_length
    )


class Logits(NamedTuple):
    """What a network says about one feature.

    Attributes:
        unique_id: which feature.
        start_logits: of each token's being the answer's first.
        end_logits: of each token's being the answer's last.
    """

    unique_id: int
    start_logits: Sequence[float]
    end_logits: Sequence[float]


class Questionnaire:
    """The questions of a file, their features, and the right answers.

    Args:
        data: which questions.

    Attributes:
        features: in the order in which :meth:`dataset` numbers them.

    Raises:
        UserError: something is wrong with a file or a length.
    """

    def __init__(self, data: DataConfig):
        self.data = data
        self._articles = questions.read(data.input_path)
        self._examples = questions.examples(data.input_path, training=False)
        self.features = questions.cut(
            self._examples,
            vocabulary.tokenizer(data.vocab_file, data.do_lower_case),
            data.seq_length,
            data.doc_stride,
            data.query_length,
            training=False,
        )

    def dataset(
        self,
        batch_size_per_replica: int,
        replicas: int = 1,
        host: int = 0,
        hosts: int = 1,
    ) -> tf.data.Dataset:
        """Returns one host's share of the features.

        Over all hosts and replicas each feature is there exactly once, filled
        up so that all batches are full and each replica gets the same number
        of them.

        Args:
            batch_size_per_replica: features of an element.
            replicas: how many there are on all hosts.
            host: which host, from 0.
            hosts: how many there are.

        Returns:
            ``input_word_ids``, ``input_mask`` and ``input_type_ids``, int32
            of shape (batch_size_per_replica, seq_length), and ``numbers``,
            int32 of shape (batch_size_per_replica,): which features they are,
            PADDING for one that does not count.
        """
        total = len(self.features)
        steps = math.ceil(total / (batch_size_per_replica * replicas))
        share = steps * replicas // hosts * batch_size_per_replica
        numbers = np.arange(host * share, (host + 1) * share, dtype=np.int32)
        columns = {
            "input_word_ids": "input_ids",
            "input_mask": "input_mask",
            "input_type_ids": "segment_ids",
        }
        arrays = {
            name: np.array(
                [getattr(each, column) for each in self.features], np.int32
            )[numbers % total]
            for name, column in columns.items()
        }
        arrays["numbers"] = np.where(
            numbers < total, numbers, np.int32(PADDING)
        )
        return tf.data.Dataset.from_tensor_slices(arrays).batch(
            batch_size_per_replica, drop_remainder=True
        )

    def figures(
        self,
        numbers: np.ndarray,
        start_logits: np.ndarray,
        end_logits: np.ndarray,
        n_best_size: int,
        max_answer_length: int,
    ) -> dict[str, float]:
        """Returns how good a network's answers are, by the official rules.

        Args:
            numbers: which features the logits are of; PADDING is left out.
            start_logits: float32 of shape (len(numbers), seq_length).
            end_logits: the same.
            n_best_size: how many of the likeliest first and last tokens of a
                feature are looked at.
            max_answer_length: tokens that an answer has at most.

        Returns:
            ``final_f1`` and ``exact_match``, in [0, 1], and ``questions``,
            their number.

        Raises:
            RunError: a feature is missing, or there twice.
        """
        real = numbers != PADDING
        self._check_counts(numbers[real])
        results = [
            Logits(self.features[number].unique_id, starts, ends)
            for number, starts, ends in zip(
                numbers[real],
                start_logits[real].tolist(),
                end_logits[real].tolist(),
            )
        ]
        answers, _, _ = squad_lib.postprocess_output(
            self._examples,
            self.features,
            results,
            n_best_size,
            max_answer_length,
            self.data.do_lower_case,
        )
        scores = squad_evaluate_v1_1.evaluate(self._articles, answers)
        figures = {name: float(score) for name, score in scores.items()}
        return {**figures, "questions": float(len(answers))}

    def _check_counts(self, numbers: np.ndarray) -> None:
        """Raises RunError unless each feature is there exactly once."""
        counts = np.bincount(numbers, minlength=len(self.features))
        if (counts != 1).any() or len(counts) > len(self.features):
            raise RunError(
                f"of {len(self.features)} features, {(counts == 0).sum()} "
                f"were not predicted and {(counts > 1).sum()} more than once"
            )
