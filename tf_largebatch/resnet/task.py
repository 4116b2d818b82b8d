"""The Model Garden task: ResNet on ImageNet, its loss and its metrics."""

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory
from official.modeling.hyperparams import base_config

from tf_largebatch import experiments
from tf_largebatch.errors import UserError
from tf_largebatch.experiments import Metrics
from tf_largebatch.optimizers.base import LargeBatchOptimizer
from tf_largebatch.optimizers.lars import LARS
from tf_largebatch.resnet import ghost_batch_norm, serving, sources
from tf_largebatch.resnet import input as inputs
from tf_largebatch.resnet.backbone import ResNetConfig, build_model
from tf_largebatch.rules import LARS_VARIANTS

NAME = "largebatch/resnet50_imagenet"


@dataclasses.dataclass
class ModelConfig(base_config.Config):
    """The network.

    Attributes:
        backbone: depth, width and batch norm.
        num_classes: how many labels there are.
        input_size: height, width and channels of a picture.
    """

    backbone: ResNetConfig = dataclasses.field(default_factory=ResNetConfig)
    num_classes: int = 1000
    input_size: list[int] = dataclasses.field(
        default_factory=lambda: [224, 224, 3]
    )


@dataclasses.dataclass
class LossConfig(base_config.Config):
    """The loss.

    Attributes:
        label_smoothing: tau; the target of a label is 1 - tau, and tau is
            spread evenly over all of them.
        l2_weight_decay: lambda; adds lambda/2 times the sum of squares of
            all variables but those of batch norm, once a step. For LARS as
            ``contrib_old``, which leaves the decay to the loss: with an
            optimizer that decays by itself it is an error.
    """

    label_smoothing: float = 0.1
    l2_weight_decay: float = 0.0


@dataclasses.dataclass
class ResNetTaskConfig(cfg.TaskConfig):
    """What is learnt.

    Attributes:
        name: the experiment, by which a run's settings are known.
        model: the network.
        losses: the loss.
        train_data: the training pictures and the global batch.
        validation_data: the pictures for evaluation and how many there are.
        seed: of the initial weights.
    """

    name: str = NAME
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    losses: LossConfig = dataclasses.field(default_factory=LossConfig)
    train_data: inputs.DataConfig = dataclasses.field(
        default_factory=lambda: inputs.DataConfig(is_training=True)
    )
    validation_data: inputs.DataConfig = dataclasses.field(
        default_factory=lambda: inputs.DataConfig(is_training=False)
    )
    seed: int = 0


@task_factory.register_task_cls(ResNetTaskConfig)
class ResNetTask(experiments.Task):
    """Learns to classify pictures.

    Raises:
        UserError: a value of the config that it cannot have.
    """

    def __init__(self, params: ResNetTaskConfig, **kwargs: Any):
        super().__init__(params, **kwargs)
        check(params)

    def build_model(self) -> tf_keras.Model:
        """Returns the network, with initial weights that the seed decides."""
        tf_keras.utils.set_random_seed(self.task_config.seed)
        config = self.task_config.model
        model = build_model(
            config.backbone, config.num_classes, config.input_size
        )
        ghost_batch_norm.defer_updates(model)
        return model

    def check_optimizer(self, optimizer: Any) -> None:
        """Raises UserError if both the loss and the optimizer decay."""
        decay = self.task_config.losses.l2_weight_decay
        if decay and decays(optimizer):
            raise UserError(
                f"l2_weight_decay is {decay}, in task.losses, but the "
                "optimizer decays by itself; set weight_decay of the "
                "optimizer, in trainer.optimizer_config, alone"
            )

    @property
    def virtual_batch_size(self) -> int:
        """Of how many examples a micro-batch must be a multiple."""
        return self.task_config.model.backbone.virtual_batch_size

    def gradients(
        self,
        inputs: tuple[tf.Tensor, tf.Tensor],
        model: tf_keras.Model,
        metrics: Metrics,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Goes forward and backward.

        Args:
            inputs: images and labels, of one replica and one micro-batch.
            model: the network.
            metrics: those of training, which take note of the examples.

        Returns:
            The gradients of the loss summed over these examples and divided
            by the *global* batch; and the loss of each example.
        """
        images, labels = inputs
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = cross_entropy(
                labels, logits, self.task_config.losses.label_smoothing
            )
            batch = self.task_config.train_data.global_batch_size
            loss = tf.reduce_sum(losses) / batch
            if decay := self.task_config.losses.l2_weight_decay:
                share = images.shape[0] / batch
                loss += share * decay * half_square(model.trainable_variables)
        self.process_metrics(metrics, labels, logits)
        return tape.gradient(loss, model.trainable_variables), losses

    def end_step(self, model: tf_keras.Model) -> None:
        """Moves the moving statistics of batch norm, once a step."""
        ghost_batch_norm.update_moving_statistics(model)

    def skip_step(self, model: tf_keras.Model) -> None:
        """Forgets the statistics of batch norm that a step has gathered."""
        ghost_batch_norm.forget_totals(model)

    def validation_step(
        self,
        inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        model: tf_keras.Model,
        metrics: Metrics | None = None,
    ) -> dict[str, tf.Tensor]:
        """Evaluates a batch.

        The loss is one of the metrics, because a mean over batches, which
        the trainer would take, counts the padding of the last one.

        Args:
            inputs: images, labels and weights, which are 0 for padding.
            model: the network.
            metrics: those of evaluation.
        """
        images, labels, weights = inputs
        logits = self.inference_step(images, model)
        self.process_metrics(metrics or [], labels, logits, weights=weights)
        return {}

    def build_metrics(self, training: bool = True) -> Metrics:
        """Returns the metrics, which :meth:`process_metrics` updates."""
        return make_metrics(training)

    def process_metrics(
        self,
        metrics: Metrics,
        labels: tf.Tensor,
        model_outputs: tf.Tensor,
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
        """Returns one host's pictures."""
        replicas = input_context.num_replicas_in_sync if input_context else 1
        share = experiments.share_of(params.global_batch_size, replicas)
        if not params.is_training:
            return inputs.evaluation_dataset(
                params, input_context, share, replicas
            )
        return inputs.train_dataset(
            params, input_context, micro_batch_size or share, first_example
        )

    def input_spec(
        self, micro_batch_size: int
    ) -> tuple[tf.TensorSpec, tf.TensorSpec]:
        """Returns shapes and types of images and labels."""
        data = self.task_config.train_data
        shape = (micro_batch_size, data.image_size, data.image_size, 3)
        labels = tf.TensorSpec((micro_batch_size,), tf.int32)
        return tf.TensorSpec(shape, tf.as_dtype(data.dtype)), labels

    def open_data(self, params: inputs.DataConfig) -> sources.Pictures:
        """Returns where the pictures are; UserError if nowhere."""
        return inputs.open_source(params)

    def naming_broken_records(
        self, *params: inputs.DataConfig
    ) -> AbstractContextManager[None]:
        """Makes a failure of the input in a block name file and record."""
        return inputs.naming_broken_records(*params)

    def export_module(self, model: tf_keras.Model) -> serving.Classifier:
        """Returns what is to be saved of a network."""
        return serving.Classifier(model, self.task_config.validation_data)

    def evaluate_export(
        self, exported: Any, input_path: str | None = None
    ) -> dict[str, float]:
        """Returns the metrics of an export, each picture counted once."""
        config = self.task_config.validation_data
        if input_path is not None:
            config = config.replace(
                input_path=input_path, tfds_name="", num_examples=0
            )
        metrics = make_metrics(training=False)
        classify = exported.signatures[serving.DEFAULT]
        with inputs.naming_broken_records(config):
            for pictures, labels in serving.encoded_pictures(config):
                logits = classify(image_bytes=pictures)["logits"]
                update_metrics(metrics, labels, logits)
        figures = {metric.name: float(metric.result()) for metric in metrics}
        return figures | experiments.left_out(self, validation_data=config)


def check(config: ResNetTaskConfig) -> None:
    """Raises UserError at a value that an experiment cannot have."""
    if config.losses.l2_weight_decay < 0:
        raise UserError(
            f"l2_weight_decay is {config.losses.l2_weight_decay}, in "
            "task.losses; give 0 or more"
        )
    if not 0 <= config.losses.label_smoothing < 1:
        raise UserError(
            f"label_smoothing is {config.losses.label_smoothing}, in "
            "task.losses; give at least 0 and below 1"
        )
    for name in ("train_data", "validation_data"):
        data, model = getattr(config, name), config.model
        if list(model.input_size) != [data.image_size, data.image_size, 3]:
            raise UserError(
                f"image_size is {data.image_size}, in task.{name}, but "
                f"input_size is {model.input_size}, in task.model; "
                "make them agree"
            )
        if data.num_classes != model.num_classes:
            raise UserError(
                f"num_classes is {data.num_classes}, in task.{name}, but "
                f"{model.num_classes}, in task.model; make them agree"
            )


def decays(optimizer: Any) -> bool:
    """Whether an optimizer of this package decays weights by itself."""
    if not isinstance(optimizer, LargeBatchOptimizer):
        return False
    if isinstance(optimizer, LARS):
        if not LARS_VARIANTS[optimizer.variant].adds_decay:
            return False
    return bool(optimizer.hyperparameters().get("weight_decay", 0) != 0)


def half_square(variables: Sequence[tf.Variable]) -> tf.Tensor:
    """Returns half the sum of squares of what is not batch norm's."""
    return tf.add_n(
        [
            tf.nn.l2_loss(variable)
            for variable in variables
            if "_norm/" not in variable.name
        ]
    )


def make_metrics(training: bool) -> Metrics:
    """Returns the metrics of training or of evaluation."""
    mean, total = tf_keras.metrics.Mean, tf_keras.metrics.Sum
    if training:
        return [mean("accuracy")]
    names = ("accuracy", "top_5_accuracy", "validation_loss")
    return [*map(mean, names), total("examples")]


def update_metrics(
    metrics: Metrics,
    labels: tf.Tensor,
    logits: tf.Tensor,
    weights: tf.Tensor | None = None,
) -> None:
    """Updates metrics of :func:`make_metrics` with a batch.

    Args:
        metrics: some of them.
        labels: integers from 0, of shape (batch,).
        logits: float32, of shape (batch, classes).
        weights: 0 for an example that does not count, else 1; None means
            that all count.
    """
    values = {
        "accuracy": lambda: correct(labels, logits, 1),
        "top_5_accuracy": lambda: correct(labels, logits, 5),
        "validation_loss": lambda: cross_entropy(labels, logits),
        "examples": lambda: tf.ones_like(labels, tf.float32),
    }
    for metric in metrics:
        metric.update_state(values[metric.name](), weights)


def cross_entropy(
    labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0
) -> tf.Tensor:
    """Returns the cross-entropy of each example, of shape (batch,).

    Args:
        labels: integers from 0, of shape (batch,).
        logits: float32, of shape (batch, classes).
        label_smoothing: tau; the targets are 1 - tau at the label and
            tau / classes more at every class.
    """
    classes = logits.shape[-1]
    share = label_smoothing / classes
    targets = tf.one_hot(labels, classes, 1.0 - label_smoothing + share, share)
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def correct(labels: tf.Tensor, logits: tf.Tensor, k: int) -> tf.Tensor:
    """Returns 1 where the label is among the first k, else 0, per example.

    Of equal logits the lower class comes first. An example whose logits are
    not all finite is wrong, for a network that diverged has learnt nothing.
    """
    first = tf.math.top_k(logits, min(k, logits.shape[-1])).indices
    found = tf.reduce_any(first == tf.cast(labels, first.dtype)[:, None], 1)
    finite = tf.reduce_all(tf.math.is_finite(logits), 1)
    return tf.cast(found & finite, tf.float32)
