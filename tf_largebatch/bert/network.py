"""What BERT's tasks share: the encoder, and the checkpoint it begins with."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras
from official.modeling.hyperparams import base_config
from official.nlp.configs import encoders

from tf_largebatch import checkpoints, experiments
from tf_largebatch.errors import UserError

# How the name of pretraining's bias of shape (vocab_size,) ends.
OUTPUT_BIAS = "masked_lm/output_bias.Sbias/.ATTRIBUTES/VARIABLE_VALUE"
# What a layer has once.
OF_A_LAYER = "/_query_dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"


@dataclasses.dataclass
class ModelConfig(base_config.Config):
    """The network.

    Attributes:
        encoder: its size, of the type ``bert``.
    """

    encoder: encoders.EncoderConfig = dataclasses.field(
        default_factory=lambda: encoders.EncoderConfig(type="bert")
    )


class Task(experiments.Task, abc.ABC):
    """What BERT's tasks have in common."""

    @property
    def vocab_size(self) -> int:
        """How many tokens the network knows."""
        return self.task_config.model.encoder.bert.vocab_size

    @abc.abstractmethod
    def restored(self, model: tf_keras.Model) -> tf.train.Checkpoint:
        """Returns what is restored, by the names pretraining has for it."""

    def initialize(self, model: tf_keras.Model) -> None:
        """Takes the weights of ``init_checkpoint``, if there is one."""
        if self.task_config.init_checkpoint:
            restore(
                self.restored(model),
                self.task_config.init_checkpoint,
                self.task_config.model,
            )

    def trained_variables(self, model: tf_keras.Model) -> list[tf.Variable]:
        """Returns all variables but those of the pooler, which is not used."""
        return without_pooler(
            model.trainable_variables, model.checkpoint_items["encoder"]
        )


def check(config: ModelConfig, **data: Any) -> None:
    """Checks an encoder's settings.

    Args:
        config: the network.
        data: ``train_data`` and ``validation_data``.

    Raises:
        UserError: they are not BERT's, do not fit each other, or do not fit
            the data.
    """
    if config.encoder.type != "bert":
        raise UserError(
            f"type is {config.encoder.type}, in task.model.encoder; give bert"
        )
    size = config.encoder.bert
    if size.hidden_size % size.num_attention_heads:
        raise UserError(
            f"hidden_size is {size.hidden_size} and num_attention_heads "
            f"{size.num_attention_heads}, in task.model.encoder.bert; the one "
            "must be a multiple of the other"
        )
    for name, each in data.items():
        if each.seq_length > size.max_position_embeddings:
            raise UserError(
                f"seq_length is {each.seq_length}, in task.{name}, but "
                f"max_position_embeddings is {size.max_position_embeddings}, "
                "in task.model.encoder.bert; give shorter sequences, or an "
                "encoder with more positions"
            )


def initializer(config: ModelConfig) -> tf_keras.initializers.Initializer:
    """Returns what a head's weights are drawn from, as the encoder's are."""
    deviation = config.encoder.bert.initializer_range
    return tf_keras.initializers.TruncatedNormal(stddev=deviation)


def without_pooler(
    variables: Iterable[tf.Variable], encoder: tf_keras.Model
) -> list[tf.Variable]:
    """Returns variables without those of the encoder's pooler.

    The heads do not use it, so that it has no gradient.
    """
    unused = {id(each) for each in encoder.pooler_layer.weights}
    return [each for each in variables if id(each) not in unused]


def restore(
    target: tf.train.Checkpoint, path: str, config: ModelConfig
) -> None:
    """Restores a network, or a part of it, from pretraining.

    Args:
        target: what is restored, by the names that pretraining has for it.
        path: of a checkpoint, or of a run's folder, whose newest is taken.
        config: the network.

    Raises:
        UserError: there is no checkpoint, or it is one of another network.
    """
    found = find(path)
    try:
        known = tf.train.load_checkpoint(found).get_variable_to_shape_map()
        check_size(found, known, config)
        restored = target.read(found)
        # Of the optimizer's variables nothing is expected.
        restored.expect_partial().assert_existing_objects_matched()
    except (*checkpoints.ERRORS, AssertionError, ValueError) as error:
        what = checkpoints.first_line(error)
        raise UserError(
            f"{found} is no checkpoint of this network ({what}), in "
            "task.init_checkpoint; give one that was pretrained with the same "
            "task.model.encoder"
        ) from error


def find(path: str) -> str:
    """Returns the path of a checkpoint, or of a folder's newest one."""
    found = checkpoints.find(path)
    if found is None:
        raise UserError(
            f"there is no checkpoint {path}, in task.init_checkpoint; give "
            "the folder of a run that pretrained, or a path such as "
            "FOLDER/ckpt-1000"
        )
    return found


def check_size(
    path: str, known: dict[str, list[int]], config: ModelConfig
) -> None:
    """Raises UserError if a checkpoint has other tokens or more layers.

    Of both, TensorFlow would say nothing that is to be understood, or nothing.
    """
    size = config.encoder.bert
    tokens = [known[name][0] for name in known if name.endswith(OUTPUT_BIAS)]
    layers = sum(name.endswith(OF_A_LAYER) for name in known)
    for name, there in (
        ("vocab_size", tokens[0] if tokens else size.vocab_size),
        ("num_layers", layers or size.num_layers),
    ):
        if there != getattr(size, name):
            raise UserError(
                f"{name} is {there} in the checkpoint {path}, but "
                f"{getattr(size, name)} in task.model.encoder.bert; give the "
                "network and the vocabulary that it was pretrained with"
            )
