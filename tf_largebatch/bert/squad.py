"""The Model Garden task: BERT points at answers, SQuAD v1.1."""

import contextlib
import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory
from official.nlp.configs import encoders
from official.nlp.modeling import models

from tf_largebatch import experiments, records
from tf_largebatch.bert import (
    answers,
    dropout,
    features,
    network,
    questions,
    serving,
    squad_input,
    vocabulary,
)
from tf_largebatch.bert.features import Features
from tf_largebatch.errors import UserError
from tf_largebatch.experiments import Metrics

NAME = "largebatch/bert_squad"
INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
PREDICTIONS = ("numbers", "start_logits", "end_logits")
Logits = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass
class BertSquadConfig(cfg.TaskConfig):
    """What is learnt.

    Attributes:
        name: the experiment, by which a run's settings are known.
        model: the network.
        init_checkpoint: a checkpoint of pretraining, by its path or by the
            folder of its run, of which the newest is taken; empty begins with
            random weights.
        train_data: the questions to learn from, and the global batch.
        validation_data: the questions for evaluation.
        n_best_size: how many of the likeliest first and last tokens of a
            feature are looked at for an answer.
        max_answer_length: tokens that an answer has at most.
        seed: of the weights that are not from a checkpoint, and of dropout.
    """

    name: str = NAME
    model: network.ModelConfig = dataclasses.field(
        default_factory=network.ModelConfig
    )
    init_checkpoint: str = ""
    train_data: squad_input.DataConfig = dataclasses.field(
        default_factory=lambda: squad_input.DataConfig(is_training=True)
    )
    validation_data: answers.DataConfig = dataclasses.field(
        default_factory=answers.DataConfig
    )
    n_best_size: int = 20
    max_answer_length: int = 30
    seed: int = 0


@task_factory.register_task_cls(BertSquadConfig)
class BertSquadTask(network.Task):
    """Learns to point at the answer to a question in a text.

    Raises:
        UserError: a value of the config that it cannot have.
    """

    accuracy = "final_f1"

    def __init__(self, params: BertSquadConfig, **kwargs: Any):
        super().__init__(params, **kwargs)
        check(params)

    def build_model(self) -> models.BertSpanLabeler:
        """Returns the network, with initial weights that the seed decides."""
        tf_keras.utils.set_random_seed(self.task_config.seed)
        config = self.task_config.model
        model = models.BertSpanLabeler(
            encoders.build_encoder(config.encoder),
            initializer=network.initializer(config),
        )
        dropout.make_stateless(model)
        return model

    def restored(self, model: models.BertSpanLabeler) -> tf.train.Checkpoint:
        """Returns the encoder."""
        return tf.train.Checkpoint(**model.checkpoint_items)

    def gradients(
        self,
        inputs: Features,
        model: tf_keras.Model,
        metrics: Metrics,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Goes forward and backward.

        Args:
            inputs: features with the answers' places, of one replica and one
                micro-batch.
            model: the network.
            metrics: those of training, which take note of the features.

        Returns:
            The gradients of the loss summed over these features and divided
            by the *global* batch; and the loss of each feature.
        """
        seed, first = self.task_config.seed, inputs["numbers"][0]
        with dropout.seeded(seed, first), tf.GradientTape() as tape:
            logits = infer(inputs, model, training=True)
            losses = span_losses(inputs, logits)
            batch = self.task_config.train_data.global_batch_size
            loss = tf.reduce_sum(losses) / batch
        self.process_metrics(metrics, inputs, logits)
        # Dense, for of slices that hold a token twice the norm is wrong.
        gradients = [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(loss, self.trained_variables(model))
        ]
        return gradients, losses

    def inference_step(self, inputs: Features, model: tf_keras.Model) -> Logits:
        """Returns the logits of a first and of a last token, float32."""
        return infer(inputs, model, training=False)

    def validation_step(
        self,
        inputs: Features,
        model: tf_keras.Model,
        metrics: Metrics | None = None,
    ) -> Features:
        """Predicts a batch.

        Returns:
            ``numbers``, ``start_logits`` and ``end_logits`` of all replicas'
            batches, on each replica.
        """
        del metrics
        starts, ends = self.inference_step(inputs, model)
        values = (inputs["numbers"], starts, ends)
        context = tf.distribute.get_replica_context()
        return context.all_gather(dict(zip(PREDICTIONS, values)), axis=0)

    def aggregate_logs(
        self,
        state: list[dict[str, np.ndarray]] | None,
        step_outputs: dict[str, tuple[tf.Tensor, ...]],
    ) -> list[dict[str, np.ndarray]]:
        """Adds the logits of a batch, which every replica has, to others."""
        first = {name: each[0].numpy() for name, each in step_outputs.items()}
        return [*(state or []), first]

    def reduce_aggregated_logs(
        self,
        aggregated_logs: list[dict[str, np.ndarray]],
        global_step: tf.Tensor | None = None,
    ) -> dict[str, float]:
        """Returns F1 and exact match.

        Raises:
            RunError: a feature was not predicted once.
        """
        del global_step
        return self.figures(
            self.questionnaire,
            {
                name: np.concatenate([batch[name] for batch in aggregated_logs])
                for name in PREDICTIONS
            },
        )

    def figures(
        self,
        questionnaire: answers.Questionnaire,
        predictions: dict[str, np.ndarray],
    ) -> dict[str, float]:
        """Returns how good the answers are that logits point at."""
        return questionnaire.figures(
            predictions["numbers"],
            predictions["start_logits"],
            predictions["end_logits"],
            self.task_config.n_best_size,
            self.task_config.max_answer_length,
        )

    @functools.cached_property
    def questionnaire(self) -> answers.Questionnaire:
        """The questions for evaluation."""
        return answers.Questionnaire(self.task_config.validation_data)

    def check_evaluation(self, metrics: Metrics) -> None:
        """Does nothing, for the figures are made of every feature or none."""

    def build_metrics(self, training: bool = True) -> Metrics:
        """Returns the metrics, which :meth:`process_metrics` updates."""
        accuracy = tf_keras.metrics.SparseCategoricalAccuracy
        names = ("start_position_accuracy", "end_position_accuracy")
        return [accuracy(name) for name in names] if training else []

    def process_metrics(
        self,
        metrics: Metrics,
        labels: Features,
        model_outputs: Logits,
        **kwargs: Any,
    ) -> None:
        """Updates metrics of training."""
        del kwargs
        places = [labels[name] for name in squad_input.PLACES]
        for metric, place, logits in zip(metrics, places, model_outputs):
            metric.update_state(place, logits)

    def build_inputs(
        self,
        params: squad_input.DataConfig | answers.DataConfig,
        input_context: tf.distribute.InputContext | None = None,
        micro_batch_size: int | None = None,
        first_example: int = 0,
    ) -> tf.data.Dataset:
        """Returns one host's features."""
        replicas = input_context.num_replicas_in_sync if input_context else 1
        share = experiments.share_of(params.global_batch_size, replicas)
        if isinstance(params, answers.DataConfig):
            return self.questionnaire.dataset(
                share, replicas, *records.place(input_context)
            )
        return squad_input.train_dataset(
            params,
            input_context,
            micro_batch_size or share,
            self.vocab_size,
            first_example,
        )

    def input_spec(self, micro_batch_size: int) -> dict[str, tf.TensorSpec]:
        """Returns shapes and types by the names of the features."""
        form = squad_input.form_of(self.task_config.train_data, self.vocab_size)
        return features.batch_spec(form, micro_batch_size)

    def open_data(
        self, params: squad_input.DataConfig | answers.DataConfig
    ) -> records.Source | None:
        """Returns where the features are; None for questions.

        Raises:
            UserError: nowhere.
        """
        if not isinstance(params, answers.DataConfig):
            return squad_input.open_source(params, self.vocab_size)
        answers.validate(params)
        vocabulary.check_size(params.vocab_file, self.vocab_size)
        questions.read(params.input_path)
        return None

    def naming_broken_records(
        self, *params: squad_input.DataConfig | answers.DataConfig
    ) -> contextlib.AbstractContextManager[None]:
        """Makes a failure of the input in a block name file and record."""
        for data in params:
            if isinstance(data, squad_input.DataConfig):
                return squad_input.naming_broken_records(data, self.vocab_size)
        return contextlib.nullcontext()

    def export_module(self, model: tf_keras.Model) -> serving.Answerer:
        """Returns what is to be saved of a network."""
        data = self.task_config.validation_data
        vocabulary.check_size(data.vocab_file, self.vocab_size)
        return serving.Answerer(model, self.inference_step, data)

    def evaluate_export(
        self, exported: Any, input_path: str | None = None
    ) -> dict[str, float]:
        """Returns F1 and exact match of an export, which has its vocabulary."""
        data = self.task_config.validation_data.replace(
            vocab_file=exported.vocabulary.asset_path.numpy().decode()
        )
        if input_path is not None:
            data = data.replace(input_path=input_path)
        questionnaire = answers.Questionnaire(data)
        return self.figures(
            questionnaire, serving.predict(exported, questionnaire)
        )


def check(config: BertSquadConfig) -> None:
    """Raises UserError at a value that an experiment cannot have."""
    network.check(
        config.model,
        train_data=config.train_data,
        validation_data=config.validation_data,
    )
    for name in ("n_best_size", "max_answer_length"):
        if getattr(config, name) < 1:
            raise UserError(
                f"{name} is {getattr(config, name)}, in task; give 1 or more"
            )


def infer(inputs: Features, model: tf_keras.Model, training: bool) -> Logits:
    """Returns the logits of a first and of a last token, float32.

    Args:
        inputs: those of the network, which may have others beside them.
        model: the network.
        training: whether there is dropout.
    """
    starts, ends = model(
        {name: inputs[name] for name in INPUTS}, training=training
    )
    return tf.cast(starts, tf.float32), tf.cast(ends, tf.float32)


def span_losses(labels: Features, logits: Logits) -> tf.Tensor:
    """Returns each feature's mean of the two cross-entropies, (batch,)."""
    losses = [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels[name], each)
        for name, each in zip(squad_input.PLACES, logits)
    ]
    return tf.add_n(losses) / len(losses)
