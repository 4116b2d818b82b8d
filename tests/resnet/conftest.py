"""JPEGs and record files for the tests of the input."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds


def encode(pixels: np.ndarray, **kwargs: Any) -> bytes:
    """Returns a JPEG that keeps the full resolution of the colours."""
    settings = {"quality": 95, "chroma_downsampling": False, **kwargs}
    return tf.io.encode_jpeg(pixels, **settings).numpy()


def serialize(jpeg: bytes, label: int) -> bytes:
    """Returns a record of the Model Garden's form."""
    features = {
        "image/encoded": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[jpeg])
        ),
        "image/class/label": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label])
        ),
    }
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """A function that encodes pixels, uint8 of (height, width, channels)."""
    return encode


@pytest.fixture(scope="session")
def record() -> Callable[[bytes, int], bytes]:
    """A function that makes a record of a JPEG and a label."""
    return serialize


@pytest.fixture(scope="session")
def write() -> Callable[[Path, Sequence[bytes]], Path]:
    """A function that writes records to a file."""

    def write_file(path: Path, records: Sequence[bytes]) -> Path:
        with tf.io.TFRecordWriter(str(path)) as file:
            for each in records:
                file.write(each)
        return path

    return write_file


@pytest.fixture(scope="session")
def small_jpeg() -> bytes:
    """A picture of 24 x 32 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3))
    return encode(np.kron(pixels, np.ones((8, 8, 1))).astype(np.uint8))


@pytest.fixture(scope="session")
def shards(
    small_jpeg: bytes, write: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """A function that returns a pattern of files of so many examples each.

    The label is the number of the example, from 1 as in ImageNet's files.
    """

    def make(*counts: int) -> str:
        folder = tmp_path_factory.mktemp("shards")
        labels = iter(range(1, sum(counts) + 1))
        for number, count in enumerate(counts):
            write(
                folder / f"train-{number:05}-of-{len(counts):05}",
                [serialize(small_jpeg, next(labels)) for _ in range(count)],
            )
        return f"{folder}/train-*"

    return make


class LabelledPictures(tfds.core.GeneratorBasedBuilder):
    """A data set of TFDS that is built like its imagenet2012.

    Args:
        examples: the JPEG and the label of each.
        data_dir: where it goes to.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self, examples: Sequence[tuple[bytes, int]] = (), **kwargs: Any
    ):
        self.examples = examples
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=1000),
            "file_name": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for number, (picture, label) in enumerate(self.examples):
            name = f"{number}.jpg"
            yield (
                number,
                {
                    "image": io.BytesIO(picture),
                    "label": label,
                    "file_name": name,
                },
            )


@pytest.fixture(scope="session")
def prepare() -> Callable[..., str]:
    """A function that makes the TFDS data set "labelled_pictures"."""

    def make(
        folder: Path, picture: bytes, labels: Iterable[int], files: int
    ) -> str:
        builder = LabelledPictures(
            [(picture, label) for label in labels], data_dir=folder
        )
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=files)
        )
        return str(folder)

    return make
