"""A small network on small pictures, trained in earnest within seconds."""

import copy
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory

from tf_largebatch.garden import recipes, train
from tf_largebatch.garden.overrides import override

NESTEROV = "resnet50/nesterov_b_32k"
ADAM = "resnet50/table4/adam_1e-8"
BEST = "best"
# Further settings of a recipe here, so that runs are of several kinds.
VARIETY = {
    ADAM: {
        "trainer": {
            "micro_batch_size": 0,
            "best_checkpoint_export_subdir": BEST,
            "best_checkpoint_eval_metric": "accuracy",
        },
        "runtime": {
            "mixed_precision_dtype": "bfloat16",
            "distribution_strategy": "mirrored",
        },
    },
}
SIZE = 16
CLASSES = 8
PICTURES = {"train": 96, "validation": 50, "few": 10}
STEPS = 4


def write_pictures(folder: Path) -> Path:
    """Writes two files of each split; the colour tells the label."""
    random = np.random.default_rng(0)
    for split, count in PICTURES.items():
        for number, share in enumerate(np.array_split(range(count), 2)):
            path = folder / f"{split}-{number}"
            with tf.io.TFRecordWriter(str(path)) as file:
                for index in share:
                    file.write(picture(random, index % CLASSES))
    return folder


def picture(random: np.random.Generator, label: int) -> bytes:
    """Returns a record of a picture of a random size."""
    shape = (*random.integers(18, 40, size=2), 3)
    pixels = random.integers(0, 160, size=shape, dtype="uint8")
    pixels += np.array([label & 1, label & 2, label & 4], bool) * np.uint8(95)
    features = {
        "image/encoded": tf.train.Feature(
            bytes_list=tf.train.BytesList(
                value=[tf.io.encode_jpeg(pixels).numpy()]
            )
        ),
        "image/class/label": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label + 1])
        ),
    }
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def small_settings(folder: Path) -> dict[str, Any]:
    """Returns overrides that make any recipe small."""
    data = {"image_size": SIZE, "num_classes": CLASSES, "dtype": "float32"}
    return {
        "task": {
            "model": {
                "backbone": {
                    "model_id": 10,
                    "width_multiplier": 1 / 16,
                    "virtual_batch_size": 8,
                },
                "num_classes": CLASSES,
                "input_size": [SIZE, SIZE, 3],
            },
            "train_data": {
                "input_path": f"{folder}/train-*",
                "global_batch_size": 16,
                "num_examples": PICTURES["train"],
                **data,
            },
            "validation_data": {
                "input_path": f"{folder}/validation-*",
                "global_batch_size": 16,
                "num_examples": PICTURES["validation"],
                **data,
            },
        },
        "trainer": {
            "train_steps": STEPS,
            "steps_per_loop": 1,
            "summary_interval": 1,
            "validation_interval": STEPS,
            "checkpoint_interval": 1,
            "micro_batch_size": 8,
        },
        "runtime": {
            "mixed_precision_dtype": "float32",
            "distribution_strategy": "one_device",
        },
    }


@pytest.fixture(scope="session", autouse=True)
def made_once() -> Iterator[None]:
    """Copies an experiment's settings, for making them takes ten times as long.

    Most tests begin with those of the same few experiments.
    """
    make = functools.cache(exp_factory.get_exp_config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            exp_factory,
            "get_exp_config",
            lambda name: copy.deepcopy(make(name)),
        )
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures in ImageNet's form."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def small(pictures: Path) -> Callable[..., Any]:
    """A function that returns a recipe's settings, made small."""

    def settings(name: str = NESTEROV, **overrides: Any) -> Any:
        config = recipes.experiment_config(name, small_settings(pictures))
        for values in (VARIETY.get(name, {}), overrides):
            override(config, values, "the test")
        return config

    return settings


@pytest.fixture(scope="session")
def trained(
    small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that returns the folder of a small run of a recipe."""

    @functools.cache
    def train_and_evaluate(name: str) -> Path:
        folder = tmp_path_factory.mktemp("run")
        figures = train.run(small(name), "train_and_eval", str(folder))
        (folder / "figures.json").write_text(json.dumps(figures))
        return folder

    return train_and_evaluate


@pytest.fixture(scope="session")
def devices(
    run_script: Any, pictures: Path
) -> Callable[[str], dict[str, np.ndarray]]:
    """A function that returns what `devices.py` finds with an optimizer."""
    return functools.cache(
        lambda optimizer: run_script(
            "garden/devices.py", PICTURES=str(pictures), OPTIMIZER=optimizer
        )
    )
