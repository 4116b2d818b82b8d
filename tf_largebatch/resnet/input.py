"""ImageNet for ResNet-50, cropped and scaled as MLPerf's submissions did.

The pictures are what MLPerf v0.7's JAX code for ResNet-50 makes of them
(``mlperf_input_pipeline.py``), and so is the order of the stages: files of
one host, shuffle buffer, fused decode and crop, bicubic resize, flip. Order
and augmentation are functions of the seed and of the example's place in the
run alone, so that a run which goes on where it stopped sees what it would
have seen.
"""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf

from tf_largebatch import records, skipping
from tf_largebatch.errors import UserError, hint
from tf_largebatch.resnet import sources

# Of the channels red, green and blue, 0 to 255.
MEAN = 255 * np.array([0.485, 0.456, 0.406])
STDDEV = 255 * np.array([0.229, 0.224, 0.225])
# What evaluation shows of the shorter side: 224 of 256 pixels.
CENTRE = 0.875
# What messages of TensorFlow's mention at a broken record, and rarely else.
INPUT_ERROR = (
    "record|JPEG|image|empty|parse example|Feature:|label|codec|denied"
)
DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass
class DataConfig(records.DataConfig):
    """Which pictures, and what is made of them.

    Every field has an effect, which is why this is not a subclass of the
    Model Garden's class of the same name.

    Beside the fields of its base class, whose files are such as the Model
    Garden makes of ImageNet:

    Attributes:
        tfds_name: a prepared data set of TensorFlow Datasets instead, such
            as ``imagenet2012``.
        tfds_split: its split, such as ``train`` or ``validation[:10%]``.
        tfds_data_dir: its folder; empty means TFDS's own.
        num_classes: labels are below this.
        label_offset: what is added to a stored label; None means -1 for
            TFRecord files, which count from 1, and 0 for TFDS.
        image_size: side of the square picture that the network gets.
        area_range: the least and the largest part of a picture's area that a
            training crop has; MLPerf's submissions used 0.05 or 0.08 and 1.
        aspect_ratio_range: the least and the largest width over height of a
            training crop.
        min_object_covered: the least part of the picture a crop must cover.
        max_attempts: after so many crops that do not fit, the whole picture
            is taken.
        flip: whether every other picture, by chance, is mirrored.
        dtype: of the pictures; float32, bfloat16 or float16.
    """

    tfds_name: str = ""
    tfds_split: str = ""
    tfds_data_dir: str = ""
    num_classes: int = 1000
    label_offset: int | None = None
    image_size: int = 224
    area_range: list[float] = dataclasses.field(
        default_factory=lambda: [0.05, 1.0]
    )
    aspect_ratio_range: list[float] = dataclasses.field(
        default_factory=lambda: [0.75, 1.33]
    )
    min_object_covered: float = 0.1
    max_attempts: int = 10
    flip: bool = True
    dtype: str = "bfloat16"

    def described(self) -> str:
        """Returns where the pictures are, in words."""
        if self.tfds_name:
            return f"{self.tfds_name}, split {self.tfds_split}"
        return super().described()


def train_dataset(
    config: DataConfig,
    context: tf.distribute.InputContext | None,
    micro_batch_size: int,
    first_example: int = 0,
) -> tf.data.Dataset:
    """Returns one host's training pictures, without end.

    Every epoch holds each of the host's examples once, in a new order.
    Micro-batches run on across its end.

    Args:
        config: which pictures.
        context: which host of how many; None means the only one.
        micro_batch_size: examples of an element.
        first_example: how many examples, over all hosts, went before in an
            earlier part of the run. It goes on from there.

    Returns:
        Images, of ``dtype`` and shape (micro_batch_size, image_size,
        image_size, 3), and labels, int32 of shape (micro_batch_size,).

    Raises:
        UserError: a value in the config that it cannot have, or no data.
    """
    source = open_source(config)

    def look(seed: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded, label = source.parse(record)
        image = train_image(encoded, seed, config)
        return image, class_of(label, source, config)

    examples = records.training_examples(
        source, config, context, first_example, look
    )
    batches = examples.batch(micro_batch_size, drop_remainder=True)
    return records.finish(batches, deterministic=config.seed is not None)


def evaluation_dataset(
    config: DataConfig,
    context: tf.distribute.InputContext | None,
    batch_size_per_replica: int,
    replicas: int,
) -> tf.data.Dataset:
    """Returns one host's pictures for evaluation.

    Over all hosts and replicas each example is there exactly once, in a fixed
    order, filled up with examples of weight 0 so that all batches are full
    and each replica gets the same number of them.

    Args:
        config: which pictures.
        context: which host of how many; None means the only one.
        batch_size_per_replica: examples of an element.
        replicas: how many there are on all hosts.

    Returns:
        Images, of ``dtype`` and shape (batch_size_per_replica, image_size,
        image_size, 3), labels, int32, and weights, float32, both of shape
        (batch_size_per_replica,). The number of elements is known.

    Raises:
        UserError: a value in the config that it cannot have, no data, or not
            ``num_examples`` of them.
    """
    source = open_source(config)

    def look(record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded, label = source.parse(record)
        return evaluation_image(encoded, config), class_of(
            label, source, config
        )

    batches = records.evaluation_batches(
        source, config, context, batch_size_per_replica, replicas, look
    )
    return records.finish(batches, deterministic=True)


def open_source(config: DataConfig) -> sources.Pictures:
    """Returns where the pictures of a config are.

    Raises:
        UserError: nowhere, a field has a value that it cannot have, or more
            records are broken than may be left out.
    """
    validate(config)
    if config.tfds_name:
        source = sources.open_tfds(
            config.tfds_name, config.tfds_split, config.tfds_data_dir
        )
    else:
        source = sources.of_source(records.open_data(config))
    if config.label_offset is not None:
        source = dataclasses.replace(source, first_label=-config.label_offset)
    how = sources.check_of(source, config.num_classes)
    return skipping.whole_or_without(source, config, how)


def validate(config: DataConfig) -> None:
    """Raises UserError where a field has a value that it cannot have."""
    if bool(config.input_path) == bool(config.tfds_name):
        both = "both" if config.tfds_name else "neither"
        raise UserError(
            f"{both} of input_path and tfds_name are set; set one of them"
        )
    if config.dtype not in DTYPES:
        raise UserError(
            f"dtype is {config.dtype!r}; {hint(config.dtype, DTYPES)}"
        )
    for name, bound in (("area_range", 1), ("aspect_ratio_range", math.inf)):
        limits = list(getattr(config, name))
        if len(limits) != 2 or not 0 < limits[0] <= limits[1] <= bound:
            raise UserError(
                f"{name} is {limits}; give two numbers above 0 and up to "
                f"{bound}, the smaller one first"
            )
    records.validate(config, "image_size", "num_classes", "max_attempts")


def train_image(encoded: tf.Tensor, seed: Any, config: DataConfig) -> tf.Tensor:
    """Returns a random crop of a JPEG, scaled, perhaps mirrored, normalised.

    Args:
        encoded: the JPEG, a string.
        seed: a pair of integers that decides the crop and the mirroring.
        config: how large, and in which bounds crops are drawn.

    Returns:
        An image of shape (image_size, image_size, 3).
    """
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=crop_seed,
        min_object_covered=config.min_object_covered,
        aspect_ratio_range=config.aspect_ratio_range,
        area_range=config.area_range,
        max_attempts=config.max_attempts,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], 0)
    image = resize(
        tf.io.decode_and_crop_jpeg(encoded, window, channels=3), config
    )
    if config.flip:
        mirrored = tf.random.stateless_uniform((), flip_seed) < 0.5
        image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    return normalize(image, config)


def evaluation_image(encoded: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Returns the centre of a JPEG, scaled and normalised.

    Args:
        encoded: the JPEG, a string.
        config: how large, and of which dtype.

    Returns:
        An image of shape (image_size, image_size, 3).
    """
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    image = tf.io.decode_and_crop_jpeg(
        encoded, tf.stack(centre(height, width)), channels=3
    )
    return normalize(resize(image, config), config)


def evaluation_picture(pixels: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Does what :func:`evaluation_image` does, to a picture that is decoded.

    Args:
        pixels: of shape (height, width, 3), uint8 or a float from 0 to 255.
        config: how large, and of which dtype.
    """
    height, width, _ = tf.unstack(tf.shape(pixels))
    image = tf.image.crop_to_bounding_box(pixels, *centre(height, width))
    return normalize(resize(image, config), config)


def centre(height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns top, left, height and width of what evaluation shows."""
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(CENTRE * shorter, tf.int32)
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side


def resize(image: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Returns an image at the network's size, by bicubic interpolation."""
    size = config.image_size
    return tf.image.resize(image, (size, size), "bicubic")


def normalize(image: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Returns an image less the mean, over the standard deviation."""
    # Repeated for every pixel, because TensorFlow takes ten times as long to
    # broadcast over three channels.
    shape = (config.image_size, config.image_size, 3)
    mean, scale = (
        tf.constant(np.broadcast_to(value, shape), tf.float32)
        for value in (MEAN, 1 / STDDEV)
    )
    return tf.cast((image - mean) * scale, config.dtype)


def class_of(
    label: tf.Tensor, source: sources.Pictures, config: DataConfig
) -> tf.Tensor:
    """Returns the class of a stored label, from 0, int32 of shape ()."""
    sources.check_label(label, source.first_label, config.num_classes)
    return tf.cast(label - source.first_label, tf.int32)


def naming_broken_records(*configs: DataConfig) -> AbstractContextManager[None]:
    """Makes a failure of the input inside the block name file and record.

    Raises:
        UserError: instead of TensorFlow's error, where a record is at fault.
    """

    def find() -> Iterator[Any]:
        for config in configs:
            yield from sources.check(open_source(config), config.num_classes)

    return records.naming_broken_records(INPUT_ERROR, find)
