"""What is exported of BERT, and how questions are put to an export."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.nlp.serving import serving_modules

from tf_largebatch.bert import answers

DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
BATCH = 16
# Of the Model Garden's modules.
SIGNATURES = {"serve": DEFAULT, "serve_examples": "serving_examples"}


class Answerer(tf.Module):
    """Points at answers in texts, as the Model Garden's module does.

    Its signatures give ``start_logits`` and ``end_logits``, float32 of shape
    (batch, seq_length).

    - ``serving_default`` takes ``input_word_ids``, ``input_mask`` and
      ``input_type_ids``, int32 of shape (batch, seq_length);
    - ``serving_examples`` takes ``examples``, serialized tf.train.Examples
      with ``input_ids``, ``input_mask`` and ``segment_ids``, strings of shape
      (batch,).

    The vocabulary goes with it, as the asset ``vocabulary``.

    Args:
        model: the network.
        inference_step: returns the logits, of ``inputs`` and ``model``.
        data: the settings of evaluation.
    """

    def __init__(
        self,
        model: tf_keras.Model,
        inference_step: Callable[..., Any],
        data: answers.DataConfig,
    ):
        super().__init__()
        # Not the model, with which Keras would save functions for training.
        self.weights = model.weights
        self.vocabulary = tf.saved_model.Asset(data.vocab_file)
        module = serving_modules.QuestionAnswering(
            serving_modules.QuestionAnswering.Params(
                parse_sequence_length=data.seq_length,
                use_v2_feature_names=False,
            ),
            model,
            inference_step,
        )
        self.functions = module.get_inference_signatures(SIGNATURES)


class Predictor(tf.Module):
    """Predicts masked tokens, and whether sentences follow.

    Its signature ``serving_default`` takes ``input_word_ids``, ``input_mask``
    and ``input_type_ids``, int32 of shape (batch, seq_length), and
    ``masked_lm_positions``, int32 of shape (batch, predictions). It gives
    ``mlm_logits``, float32 of shape (batch, predictions, tokens), and
    ``next_sentence``, float32 of shape (batch, 2).

    Args:
        model: the network.
        inference_step: returns the logits, of ``inputs`` and ``model``.
        names: those of the network's inputs.
    """

    def __init__(
        self,
        model: tf_keras.Model,
        inference_step: Callable[..., Any],
        names: Sequence[str],
    ):
        super().__init__()
        self.weights = model.weights

        @tf.function
        def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return inference_step(inputs, model)

        table = {
            name: tf.TensorSpec((None, None), tf.int32, name) for name in names
        }
        self.functions = {DEFAULT: predict.get_concrete_function(**table)}


def predict(
    exported: Any, questions: answers.Questionnaire
) -> dict[str, np.ndarray]:
    """Returns an export's logits of all features, and their numbers.

    Args:
        exported: what :class:`Answerer` has become by saving and loading.
        questions: what it is asked.
    """
    answer = exported.signatures[DEFAULT]
    batches = []
    for batch in questions.dataset(BATCH):
        numbers = batch.pop("numbers")
        batches.append({"numbers": numbers, **answer(**batch)})
    return {
        name: np.concatenate([batch[name] for batch in batches])
        for name in batches[0]
    }
