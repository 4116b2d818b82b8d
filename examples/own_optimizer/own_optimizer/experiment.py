"""A network of one's own for the Model Garden, with the task for pictures."""

import dataclasses

import tf_keras
from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory

from tf_largebatch.resnet import experiment
from tf_largebatch.resnet.task import ModelConfig, ResNetTask, ResNetTaskConfig


@dataclasses.dataclass
class PlainConfig(ModelConfig):
    """The network; the backbone is not used.

    Attributes:
        filters: of each convolution.
    """

    filters: list[int] = dataclasses.field(
        default_factory=lambda: [32, 64, 128, 256]
    )


@dataclasses.dataclass
class PlainTaskConfig(ResNetTaskConfig):
    """What is learnt, with what is in ``model`` as a run's folder has it."""

    model: PlainConfig = dataclasses.field(default_factory=PlainConfig)


@task_factory.register_task_cls(PlainTaskConfig)
class PlainTask(ResNetTask):
    """Learns to classify pictures with a plain stack of convolutions."""

    @property
    def virtual_batch_size(self) -> int:
        """Of how many examples a micro-batch must be a multiple."""
        return 1

    def build_model(self) -> tf_keras.Model:
        """Returns the network, with initial weights that the seed decides."""
        tf_keras.utils.set_random_seed(self.task_config.seed)
        config = self.task_config.model
        layers = tf_keras.layers
        return tf_keras.Sequential(
            [
                tf_keras.Input(tuple(config.input_size)),
                *(
                    layers.Conv2D(filters, 3, 2, "same", activation="relu")
                    for filters in config.filters
                ),
                layers.GlobalAveragePooling2D(),
                layers.Dense(config.num_classes, dtype="float32"),
            ]
        )


@exp_factory.register_config_factory("own/plain_imagenet")
def plain_imagenet() -> cfg.ExperimentConfig:
    """Returns the settings of ResNet's experiment, with this network."""
    config = experiment.resnet50_imagenet()
    config.task = PlainTaskConfig(
        train_data=config.task.train_data,
        validation_data=config.task.validation_data,
    )
    return config
