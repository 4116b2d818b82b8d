"""ResNet v1.5 as MLPerf's TensorFlow code for TPUs defines it (v0.6, v0.7).

What that code and this have in common: stride 2 on the 3x3 convolution of a
bottleneck; explicit padding, the same on both sides, before every strided
convolution; a 3x3 max pool with SAME padding; no biases but the classifier's;
convolutions that start as truncated normals of variance 1 / fan-in, the
classifier as N(0, 0.01^2) and 0; the last norm of every block starts at gamma_0
(theirs at 0), all others at 1, the shortcut's too.

What remains different:

- Average pool and classifier compute in float32 where the rest computes in
  bfloat16; the originals stay in bfloat16 up to the logits.
- The first convolution is 7x7 on the image. v0.7 may rearrange 2x2 pixels into
  channels first: the same function, but the TensorFlow code's kernel is then
  8x8 with a masked row and column, which count in its fan-in and in its norm.
- Statistics of batch norm: see :mod:`tf_largebatch.resnet.ghost_batch_norm`.
- Depths 10, 18 and 34 project a shortcut only where the shape changes, as He et
  al. (2015) do; the original projects in the first block of every stage. The
  two agree at depths 50, 101 and 152. Depth 10 is the Model Garden's.

MLPerf's JAX code (v0.7), which is the published LARS pipeline, pads SAME before
the strided 3x3 convolutions. At even sizes that is no pixel before and one
behind, where this pads one on either side.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from official.modeling import hyperparams
from official.vision.configs import backbones
from official.vision.modeling.backbones import factory

from tf_largebatch.errors import UserError
from tf_largebatch.resnet.ghost_batch_norm import GhostBatchNormalization

NAME = "largebatch_resnet"
# Of each depth, the kind of block and how many each of the stages 2 to 5 has.
DEPTHS = {
    10: ("residual", (1, 1, 1, 1)),
    18: ("residual", (2, 2, 2, 2)),
    34: ("residual", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
STEM_FILTERS = 64


@dataclasses.dataclass
class ResNetConfig(hyperparams.Config):
    """The network without its classifier.

    Attributes:
        model_id: the depth: 10, 18, 34, 50, 101 or 152.
        width_multiplier: of the number of channels; below 1 for small runs.
        gamma_0: initial gamma of the last norm of each block.
        epsilon: what batch norm adds to the variance.
        momentum: rho of batch norm's moving averages.
        virtual_batch_size: examples a group of ghost batch norm.
    """

    model_id: int = 50
    width_multiplier: float = 1.0
    gamma_0: float = 0.0
    epsilon: float = 1e-5
    momentum: float = 0.9
    virtual_batch_size: int = 64


@dataclasses.dataclass
class Backbone(backbones.Backbone):
    """The Model Garden's choice of backbones, with this one and set to it."""

    type: str = NAME
    largebatch_resnet: ResNetConfig = dataclasses.field(
        default_factory=ResNetConfig
    )


def check(config: ResNetConfig) -> None:
    """Raises UserError at a value that the network cannot have."""
    depths = ", ".join(map(str, DEPTHS))
    for name, valid, wanted in (
        ("model_id", config.model_id in DEPTHS, f"one of {depths}"),
        (
            "width_multiplier",
            config.width_multiplier * STEM_FILTERS >= 1,
            f"at least 1/{STEM_FILTERS}",
        ),
        ("epsilon", config.epsilon > 0, "a number above 0"),
        ("momentum", 0 <= config.momentum < 1, "at least 0 and below 1"),
        ("virtual_batch_size", config.virtual_batch_size >= 1, "at least 1"),
    ):
        if not valid:
            raise UserError(
                f"{name} is {getattr(config, name)}, in the config of ResNet; "
                f"give {wanted}"
            )


@tf_keras.saving.register_keras_serializable("tf_largebatch")
class ResNet(tf_keras.Model):
    """The network without its classifier, a Model Garden backbone.

    Maps images ``(batch, height, width, 3)`` to the outputs of the stages:
    ``{"2": ..., "5": ...}``, of which stage n has 1 / 2^n of the resolution.

    Args:
        config: depth, width and batch norm.
        input_specs: shape of the images; any by default.

    Raises:
        UserError: a value of the config that the network cannot have.
    """

    def __init__(
        self,
        config: ResNetConfig,
        input_specs: tf_keras.layers.InputSpec | None = None,
        **kwargs: Any,
    ):
        check(config)
        shape = input_specs.shape if input_specs else [None, None, None, 3]
        images = tf_keras.Input(shape[1:], name="images")
        endpoints = Layers(config).stages(images)
        super().__init__(inputs=images, outputs=endpoints, **kwargs)
        self.config = config

    @property
    def output_specs(self) -> dict[str, tf.TensorShape]:
        """The shape of each stage's output, by the name of the stage."""
        return {name: output.shape for name, output in self.output.items()}

    def get_config(self) -> dict[str, Any]:
        """Returns what :meth:`from_config` needs."""
        return {
            "config": self.config.as_dict(),
            "input_shape": list(self.input_shape),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "ResNet":
        """Creates the model of which ``get_config`` gave ``config``."""
        return cls(
            ResNetConfig(**config["config"]),
            tf_keras.layers.InputSpec(shape=config["input_shape"]),
            name=config["name"],
        )


class Layers:
    """Makes the layers of one network; each has a name of its own."""

    def __init__(self, config: ResNetConfig):
        self.config = config
        kind, self.repeats = DEPTHS[config.model_id]
        self.block = {
            "residual": self.residual,
            "bottleneck": self.bottleneck,
        }[kind]

    def stages(self, images: Any) -> dict[str, Any]:
        """Applies all of it; returns the output of each stage."""
        filters = int(STEM_FILTERS * self.config.width_multiplier)
        x = relu(self.convolution(images, filters, 7, 2, "stem"), "stem")
        x = tf_keras.layers.MaxPool2D(3, 2, "same", name="stem_pool")(x)
        endpoints = {}
        for stage, repeats in enumerate(self.repeats, 2):
            scale = STEM_FILTERS * 2 ** (stage - 2)
            filters = int(scale * self.config.width_multiplier)
            for number in range(1, repeats + 1):
                stride = 2 if number == 1 and stage > 2 else 1
                x = self.block(
                    x, filters, stride, f"stage{stage}_block{number}"
                )
            endpoints[str(stage)] = x
        return endpoints

    def residual(self, x: Any, filters: int, stride: int, name: str) -> Any:
        """Applies a block of two 3x3 convolutions."""
        shortcut = self.shortcut(x, filters, stride, name)
        x = self.convolution(x, filters, 3, stride, f"{name}_1")
        x = relu(x, f"{name}_1")
        x = self.convolution(x, filters, 3, 1, f"{name}_2", self.config.gamma_0)
        return add(x, shortcut, name)

    def bottleneck(self, x: Any, filters: int, stride: int, name: str) -> Any:
        """Applies a block of a 1x1, a 3x3 and a 1x1 convolution."""
        shortcut = self.shortcut(x, 4 * filters, stride, name)
        x = relu(self.convolution(x, filters, 1, 1, f"{name}_1"), f"{name}_1")
        x = self.convolution(x, filters, 3, stride, f"{name}_2")
        x = relu(x, f"{name}_2")
        x = self.convolution(
            x, 4 * filters, 1, 1, f"{name}_3", self.config.gamma_0
        )
        return add(x, shortcut, name)

    def shortcut(self, x: Any, filters: int, stride: int, name: str) -> Any:
        """Applies a projection where a block changes the shape."""
        if stride == 1 and x.shape[-1] == filters:
            return x
        return self.convolution(x, filters, 1, stride, f"{name}_shortcut")

    def convolution(
        self,
        x: Any,
        filters: int,
        size: int,
        stride: int,
        name: str,
        gamma: float = 1.0,
    ) -> Any:
        """Applies a convolution and a norm whose gamma starts at ``gamma``."""
        if stride > 1 and size > 1:
            x = tf_keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        x = tf_keras.layers.Conv2D(
            filters,
            size,
            stride,
            "same" if stride == 1 else "valid",
            use_bias=False,
            kernel_initializer=tf_keras.initializers.VarianceScaling(
                1.0, "fan_in", "truncated_normal"
            ),
            name=f"{name}_conv",
        )(x)
        return GhostBatchNormalization(
            self.config.virtual_batch_size,
            self.config.momentum,
            self.config.epsilon,
            tf_keras.initializers.Constant(gamma),
            name=f"{name}_norm",
        )(x)


def relu(x: Any, name: str) -> Any:
    """Applies the rectifier."""
    return tf_keras.layers.ReLU(name=f"{name}_relu")(x)


def add(x: Any, shortcut: Any, name: str) -> Any:
    """Ends a block: adds the shortcut and applies the rectifier."""
    x = tf_keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return relu(x, name)


def build_model(
    config: ResNetConfig, num_classes: int, input_size: Sequence[int]
) -> tf_keras.Model:
    """Returns the network with its classifier: images to float32 logits.

    The Model Garden's own classification model has no way to say how the
    classifier's kernel starts.

    Args:
        config: the network without its classifier.
        num_classes: how many logits.
        input_size: height, width and channels of an image.
    """
    specs = tf_keras.layers.InputSpec(shape=[None, *input_size])
    backbone = ResNet(config, specs)
    x = tf_keras.layers.GlobalAveragePooling2D(dtype=tf.float32, name="pool")(
        backbone.output["5"]
    )
    logits = tf_keras.layers.Dense(
        num_classes,
        kernel_initializer=tf_keras.initializers.RandomNormal(stddev=0.01),
        dtype=tf.float32,
        name="head",
    )(x)
    name = f"resnet{config.model_id}"
    return tf_keras.Model(backbone.input, logits, name=name)


def build_backbone(
    input_specs: tf_keras.layers.InputSpec,
    backbone_config: Backbone,
    norm_activation_config: hyperparams.Config,
    l2_regularizer: tf_keras.regularizers.Regularizer | None = None,
) -> ResNet:
    """Builds the backbone for the Model Garden's factory.

    Args:
        input_specs: shape of the images.
        backbone_config: whose ``largebatch_resnet`` is the config.
        norm_activation_config: unused; epsilon and rho are in the config.
        l2_regularizer: must be None.

    Raises:
        UserError: there is a regularizer, or the config has a value that the
            network cannot have.
    """
    del norm_activation_config
    if l2_regularizer is not None:
        raise UserError(
            f"l2_weight_decay is set, with the backbone {NAME}, but the "
            "optimizers decay by themselves; set their weight_decay alone"
        )
    return ResNet(backbone_config.get(), input_specs)


def register() -> None:
    """Tells the Model Garden's factory of the backbone; again does nothing."""
    with contextlib.suppress(KeyError):  # It is there already.
        factory.register_backbone_builder(NAME)(build_backbone)


register()
