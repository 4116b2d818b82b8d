"""The Model Garden task: BERT's pretraining, its losses and its metrics."""

import contextlib
import dataclasses
import warnings
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory
from official.modeling import tf_utils
from official.nlp.configs import encoders
from official.nlp.modeling import layers, models

from tf_largebatch import experiments, records
from tf_largebatch.bert import dropout, features, network, serving
from tf_largebatch.bert import input as inputs
from tf_largebatch.bert.features import Features
from tf_largebatch.errors import UserError
from tf_largebatch.experiments import Metrics

NAME = "largebatch/bert_pretraining"
# The encoder is given what the masked LM takes, too, and leaves it alone.
warnings.filterwarnings(
    "ignore", r"Input dict contained keys \['masked_lm_positions'\]"
)
# What google-research/bert adds to the sum of a core's weights.
WEIGHT_EPSILON = 1e-5
INPUTS = (
    "input_word_ids",
    "input_mask",
    "input_type_ids",
    "masked_lm_positions",
)
Outputs = dict[str, tf.Tensor]


@dataclasses.dataclass
class BertPretrainingConfig(cfg.TaskConfig):
    """What is learnt.

    Attributes:
        name: the experiment, by which a run's settings are known.
        model: the network.
        init_checkpoint: a checkpoint of an earlier phase, by its path or by
            the folder of its run, of which the newest is taken. The network
            begins with its weights; the optimizer and the step begin anew.
            Empty begins with random weights.
        train_data: the training examples and the global batch.
        validation_data: the examples for evaluation and how many there are.
        group_size: if not 0, the masked-LM loss is normalised and gradients
            are clipped for each group of so many sequences, and the groups'
            gradients are summed, as google-research/bert does on each core.
            0 normalises over the global batch.
        group_clip_norm: the global norm to which a group's gradient is
            clipped; set with ``group_size`` only.
        seed: of the initial weights and of dropout.
    """

    name: str = NAME
    model: network.ModelConfig = dataclasses.field(
        default_factory=network.ModelConfig
    )
    init_checkpoint: str = ""
    train_data: inputs.DataConfig = dataclasses.field(
        default_factory=lambda: inputs.DataConfig(is_training=True)
    )
    validation_data: inputs.DataConfig = dataclasses.field(
        default_factory=lambda: inputs.DataConfig(is_training=False)
    )
    group_size: int = 0
    group_clip_norm: float = 0.0
    seed: int = 0


@task_factory.register_task_cls(BertPretrainingConfig)
class BertPretrainingTask(network.Task):
    """Learns to predict masked tokens, and whether sentences follow.

    Raises:
        UserError: a value of the config that it cannot have.
    """

    accuracy = "masked_lm_accuracy"

    def __init__(self, params: BertPretrainingConfig, **kwargs: Any):
        super().__init__(params, **kwargs)
        check(params)

    def build_model(self) -> models.BertPretrainerV2:
        """Returns the network, with initial weights that the seed decides."""
        tf_keras.utils.set_random_seed(self.task_config.seed)
        model = make_model(self.task_config.model)
        dropout.make_stateless(model)
        return model

    def restored(self, model: models.BertPretrainerV2) -> tf.train.Checkpoint:
        """Returns all of the network."""
        return tf.train.Checkpoint(model=model)

    @property
    def virtual_batch_size(self) -> int:
        """Of how many examples a micro-batch must be a multiple."""
        return self.task_config.group_size or 1

    def check_micro_batch(self, size: int) -> None:
        """Raises UserError if that is no group, where there are groups."""
        if self.task_config.group_size not in (0, size):
            raise UserError(
                f"micro_batch_size is {size}, in trainer, but group_size is "
                f"{self.task_config.group_size}, in task; give the same"
            )

    def synchronize(self, inputs: Features) -> Features:
        """Makes ``predictions`` the number of the global batch.

        In groups it is a group's own.
        """
        if self.task_config.group_size:
            total = tf.reduce_sum(inputs["masked_lm_weights"])
            return {**inputs, "predictions": total + WEIGHT_EPSILON}
        context = tf.distribute.get_replica_context()
        total = context.all_reduce(
            tf.distribute.ReduceOp.SUM, inputs["predictions"]
        )
        return {**inputs, "predictions": total}

    def gradients(
        self,
        inputs: Features,
        model: models.BertPretrainerV2,
        metrics: Metrics,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Goes forward and backward.

        Args:
            inputs: a micro-batch of one replica, synchronized.
            model: the network.
            metrics: those of training, which take note of the examples.

        Returns:
            The gradients of what these examples add to the loss of the global
            batch, or a group's clipped gradient; and the loss of each
            example, whose mean over the batch or the group is its loss.
        """
        config = self.task_config
        batch = config.group_size or config.train_data.global_batch_size
        first = inputs["numbers"][0]
        with dropout.seeded(config.seed, first), tf.GradientTape() as tape:
            outputs = infer(inputs, model, training=True)
            masked_lm = tf.reduce_sum(masked_lm_losses(inputs, outputs), 1)
            losses = batch / inputs["predictions"] * masked_lm
            losses += next_sentence_losses(inputs, outputs)
            loss = tf.reduce_sum(losses) / batch
        self.process_metrics(metrics, inputs, outputs)
        # Dense, for the embeddings' gradient covers all tokens: they are the
        # weights of the masked LM's logits as well.
        gradients = [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(loss, self.trained_variables(model))
        ]
        if config.group_size:
            gradients, _ = tf.clip_by_global_norm(
                gradients, config.group_clip_norm
            )
        return gradients, losses

    def validation_step(
        self,
        inputs: tuple[Features, tf.Tensor],
        model: models.BertPretrainerV2,
        metrics: Metrics | None = None,
    ) -> dict[str, tf.Tensor]:
        """Evaluates a batch.

        The losses are among the metrics, because a mean over batches, which
        the trainer would take, does not weigh all predictions the same.

        Args:
            inputs: examples and their weights, which are 0 for padding.
            model: the network.
            metrics: those of evaluation.
        """
        examples, weights = inputs
        outputs = self.inference_step(examples, model)
        self.process_metrics(metrics or [], examples, outputs, weights=weights)
        return {}

    def inference_step(
        self, inputs: Features, model: models.BertPretrainerV2
    ) -> Outputs:
        """Returns the logits, without dropout."""
        return infer(inputs, model, training=False)

    def build_metrics(self, training: bool = True) -> Metrics:
        """Returns the metrics, which :meth:`process_metrics` updates."""
        names = [
            f"{part}_{figure}"
            for part in ("masked_lm", "next_sentence")
            for figure in ("loss", "accuracy")
        ]
        metrics = [tf_keras.metrics.Mean(name) for name in names]
        if training:
            return metrics
        return [*metrics, tf_keras.metrics.Sum("examples")]

    def process_metrics(
        self,
        metrics: Metrics,
        labels: Features,
        model_outputs: Outputs,
        **kwargs: Any,
    ) -> None:
        """Updates metrics; takes :func:`update_metrics`'s ``weights`` too."""
        update_metrics(metrics, labels, model_outputs, **kwargs)

    def build_inputs(
        self,
        params: inputs.DataConfig,
        input_context: tf.distribute.InputContext | None = None,
        micro_batch_size: int | None = None,
        first_example: int = 0,
    ) -> tf.data.Dataset:
        """Returns one host's examples."""
        replicas = input_context.num_replicas_in_sync if input_context else 1
        share = experiments.share_of(params.global_batch_size, replicas)
        if not params.is_training:
            return inputs.evaluation_dataset(
                params, input_context, share, replicas, self.vocab_size
            )
        size = micro_batch_size or share
        return inputs.train_dataset(
            params,
            input_context,
            size,
            share // size,
            self.vocab_size,
            first_example,
        )

    def input_spec(self, micro_batch_size: int) -> dict[str, tf.TensorSpec]:
        """Returns shapes and types by the names of the features."""
        form = inputs.form_of(self.task_config.train_data, self.vocab_size)
        return {
            **features.batch_spec(form, micro_batch_size),
            "predictions": tf.TensorSpec((), tf.float32),
        }

    def open_data(self, params: inputs.DataConfig) -> records.Source:
        """Returns where the examples are; UserError if nowhere."""
        return inputs.open_source(params, self.vocab_size)

    def naming_broken_records(
        self, *params: inputs.DataConfig
    ) -> contextlib.AbstractContextManager[None]:
        """Makes a failure of the input in a block name file and record."""
        return inputs.naming_broken_records(self.vocab_size, *params)

    def export_module(
        self, model: models.BertPretrainerV2
    ) -> serving.Predictor:
        """Returns what is to be saved of a network."""
        return serving.Predictor(model, self.inference_step, INPUTS)

    def evaluate_export(
        self, exported: Any, input_path: str | None = None
    ) -> dict[str, float]:
        """Returns the metrics of an export, each example counted once."""
        data = self.task_config.validation_data
        if input_path is not None:
            data = data.replace(input_path=input_path, num_examples=0)
        metrics = self.build_metrics(training=False)
        predict = exported.signatures[serving.DEFAULT]
        with self.naming_broken_records(data):
            for examples, weights in inputs.evaluation_dataset(
                data, None, serving.BATCH, 1, self.vocab_size
            ):
                outputs = predict(**{name: examples[name] for name in INPUTS})
                self.process_metrics(
                    metrics, examples, outputs, weights=weights
                )
        figures = {metric.name: float(metric.result()) for metric in metrics}
        return figures | experiments.left_out(self, validation_data=data)


def check(config: BertPretrainingConfig) -> None:
    """Raises UserError at a value that an experiment cannot have."""
    network.check(
        config.model,
        train_data=config.train_data,
        validation_data=config.validation_data,
    )
    size, norm = config.group_size, config.group_clip_norm
    if bool(size) != bool(norm) or size < 0 or norm < 0:
        raise UserError(
            f"group_size is {size} and group_clip_norm {norm}, in task; give "
            "both above 0, or both 0"
        )


def make_model(config: network.ModelConfig) -> models.BertPretrainerV2:
    """Returns the network, its variables created."""
    size = config.encoder.bert
    next_sentence = layers.ClassificationHead(
        inner_dim=size.hidden_size,
        num_classes=2,
        initializer=network.initializer(config),
        name="next_sentence",
    )
    model = models.BertPretrainerV2(
        encoders.build_encoder(config.encoder),
        mlm_activation=tf_utils.get_activation(size.hidden_activation),
        mlm_initializer=network.initializer(config),
        classification_heads=[next_sentence],
    )
    model({name: tf_keras.Input((None,), dtype=tf.int32) for name in INPUTS})
    return model


def infer(
    inputs: Features, model: models.BertPretrainerV2, training: bool
) -> Outputs:
    """Returns the logits, float32.

    Args:
        inputs: those of the network, which may have others beside them.
        model: the network.
        training: whether there is dropout.

    Returns:
        ``mlm_logits``, of shape (batch, predictions, tokens), and
        ``next_sentence``, of shape (batch, 2).
    """
    outputs = model({name: inputs[name] for name in INPUTS}, training=training)
    return {
        name: tf.cast(outputs[name], tf.float32)
        for name in ("mlm_logits", "next_sentence")
    }


def masked_lm_losses(inputs: Features, outputs: Outputs) -> tf.Tensor:
    """Returns each prediction's cross-entropy, 0 where it does not count.

    Of shape (batch, predictions).
    """
    return inputs["masked_lm_weights"] * cross_entropy(
        inputs["masked_lm_ids"], outputs["mlm_logits"]
    )


def next_sentence_losses(inputs: Features, outputs: Outputs) -> tf.Tensor:
    """Returns the cross-entropy of each example, of shape (batch,)."""
    return cross_entropy(
        inputs["next_sentence_labels"], outputs["next_sentence"]
    )


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropies, of the labels' shape."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def correct(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns 1 where the label is the likeliest, else 0, per label."""
    likeliest = tf.argmax(logits, -1, output_type=labels.dtype)
    return tf.cast(likeliest == labels, tf.float32)


def update_metrics(
    metrics: Metrics,
    labels: Features,
    outputs: Outputs,
    weights: tf.Tensor | None = None,
) -> None:
    """Updates metrics with a batch.

    Args:
        metrics: those of the task.
        labels: the examples.
        outputs: the logits.
        weights: 0 for an example that does not count, else 1; None means
            that all count.
    """
    if weights is None:
        weights = tf.ones_like(outputs["next_sentence"][:, 0])
    parts = {
        "masked_lm": (
            labels["masked_lm_ids"],
            outputs["mlm_logits"],
            labels["masked_lm_weights"] * weights[:, None],
        ),
        "next_sentence": (
            labels["next_sentence_labels"],
            outputs["next_sentence"],
            weights,
        ),
    }
    figures = {"loss": cross_entropy, "accuracy": correct}
    for metric in metrics:
        part, _, figure = metric.name.rpartition("_")
        if part:
            targets, logits, counts = parts[part]
            metric.update_state(figures[figure](targets, logits), counts)
        else:
            metric.update_state(weights)
