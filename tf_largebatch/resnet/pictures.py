"""A small set of real pictures in ImageNet's form, made without a download.

It is cut out of photographs that the scikit-learn and scikit-image wheels
contain, and which photograph it was is the label. The right third of every
photograph is for evaluation: no training picture touches it. That is enough
to see that training, evaluation and export work on JPEGs of many sizes; it
says nothing about how well a network would do on ImageNet.
"""

import importlib.util
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tf_largebatch import folders

# In the order of their labels, from 1. Some have one channel only.
PHOTOGRAPHS = (
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
    "skimage/data/astronaut.png",
    "skimage/data/brick.png",
    "skimage/data/camera.png",
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
    "skimage/data/coins.png",
    "skimage/data/grass.png",
    "skimage/data/gravel.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/moon.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/retina.jpg",
    "skimage/data/rocket.jpg",
)
# Pictures and files of each split; every photograph gives as many.
SPLITS = {"train": (1024, 8), "validation": (256, 2)}
# Least and largest part of the region that a crop takes, and its width over
# its height.
AREA = (0.25, 1.0)
ASPECT = (3 / 4, 4 / 3)
QUALITY = 95

Box = tuple[int, int, int, int]


def build(folder: pathlib.Path, seed: int = 0) -> dict[str, int]:
    """Writes the pictures as ``train-*`` and ``validation-*`` files.

    The folder is there when it is complete, and not before.

    Args:
        folder: where to; must not exist yet, or be empty.
        seed: of crops and order.

    Returns:
        How many pictures each split has.

    Raises:
        UserError: the folder is in use or cannot be written to.
        ModuleNotFoundError: scikit-learn or scikit-image is not installed.
    """
    photographs = [load(name) for name in PHOTOGRAPHS]
    random = np.random.default_rng(seed)
    with folders.aside(folder) as unfinished:
        for split in SPLITS:
            write(unfinished, split, photographs, random)
    return {split: pictures for split, (pictures, _) in SPLITS.items()}


def load(name: str) -> np.ndarray:
    """Returns a photograph, uint8 of shape (height, width, 1 or 3)."""
    package, _, path = name.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    folder = pathlib.Path(found.submodule_search_locations[0])
    return tf.io.decode_image((folder / path).read_bytes()).numpy()


def write(
    folder: pathlib.Path,
    split: str,
    photographs: Sequence[np.ndarray],
    random: np.random.Generator,
) -> None:
    """Writes the files of one split, the photographs mixed."""
    pictures, files = SPLITS[split]
    labels = random.permutation(np.arange(pictures) % len(photographs))
    for number, share in enumerate(np.split(labels, files)):
        path = folder / f"{split}-{number:05}-of-{files:05}"
        with tf.io.TFRecordWriter(str(path)) as file:
            for label in share:
                photograph = photographs[label]
                box = draw(region(split, photograph.shape), random)
                file.write(example(photograph, box, label))


def region(split: str, shape: Sequence[int]) -> Box:
    """Returns top, left, height and width of a split's part."""
    height, width, _ = shape
    border = width * 2 // 3
    if split == "train":
        return 0, 0, height, border
    return 0, border, height, width - border


def draw(region: Box, random: np.random.Generator) -> Box:
    """Returns a random box inside a region."""
    top, left, height, width = region
    area = random.uniform(*AREA) * height * width
    aspect = math.exp(random.uniform(*np.log(ASPECT)))
    tall = min(height, round(math.sqrt(area / aspect)))
    wide = min(width, round(math.sqrt(area * aspect)))
    top += int(random.integers(height - tall + 1))
    left += int(random.integers(width - wide + 1))
    return top, left, tall, wide


def example(photograph: np.ndarray, box: Box, label: int) -> bytes:
    """Returns a box of a photograph as a record of the Model Garden's form."""
    top, left, height, width = box
    pixels = photograph[top : top + height, left : left + width]
    jpeg = tf.io.encode_jpeg(pixels, quality=QUALITY).numpy()
    name = pathlib.PurePath(PHOTOGRAPHS[label])
    features = {
        "image/encoded": jpeg,
        "image/format": b"JPEG",
        "image/height": height,
        "image/width": width,
        "image/filename": f"{name.stem}-{top}-{left}.jpg".encode(),
        "image/class/label": int(label) + 1,
        "image/class/text": name.stem.encode(),
    }
    return serialize(features)


def serialize(features: Mapping[str, int | bytes]) -> bytes:
    """Returns a record of named values."""
    return tf.train.Example(
        features=tf.train.Features(
            feature={key: feature(value) for key, value in features.items()}
        )
    ).SerializeToString()


def feature(value: int | bytes) -> tf.train.Feature:
    """Returns a value as TensorFlow's records hold it."""
    if isinstance(value, int):
        numbers = tf.train.Int64List(value=[value])
        return tf.train.Feature(int64_list=numbers)
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
