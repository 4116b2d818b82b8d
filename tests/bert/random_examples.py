"""Examples for pretraining, drawn at random, and a network of their size.

Not a test; run by path, because the tests are no package.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_largebatch.garden import recipes
from tf_largebatch.garden.overrides import override

VOCABULARY, LENGTH, PREDICTIONS = 60, 12, 4
COUNTS = {"train": 64, "validation": 10}
BATCH = 16
STEPS = 4


def write(folder: Path) -> Path:
    """Writes two files of each split."""
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for number, share in enumerate(np.array_split(range(count), 2)):
            path = folder / f"{split}-{number:05}-of-00002"
            write_file(path, [draw(random) for _ in share])
    return folder


def write_file(path: Path, examples: list[dict[str, list]]) -> None:
    """Writes examples to a file."""
    with tf.io.TFRecordWriter(str(path)) as file:
        for example in examples:
            file.write(serialize(example))


def draw(random: np.random.Generator, length: int = LENGTH) -> dict[str, list]:
    """Returns an example, by the names of its features.

    The number of predictions varies, as do their weights' sums of batches.
    """
    tokens = int(random.integers(6, length + 1))
    first = int(random.integers(2, tokens - 2))
    predicted = int(random.integers(1, PREDICTIONS + 1))
    places = sorted(random.choice(tokens, predicted, replace=False).tolist())
    return {
        "input_ids": pad(random.integers(5, VOCABULARY, tokens), length),
        "input_mask": pad([1] * tokens, length),
        "segment_ids": pad([0] * first + [1] * (tokens - first), length),
        "masked_lm_positions": pad(places, PREDICTIONS),
        "masked_lm_ids": pad(
            random.integers(5, VOCABULARY, predicted), PREDICTIONS
        ),
        "masked_lm_weights": pad([1.0] * predicted, PREDICTIONS),
        "next_sentence_labels": [int(random.integers(2))],
    }


def pad(values: Any, length: int) -> list:
    """Returns values with zeros behind them."""
    values = list(values)
    return values + [0 * values[0]] * (length - len(values))


def serialize(example: dict[str, list]) -> bytes:
    """Returns an example as a record of the Model Garden's form."""
    features = {}
    for name, values in example.items():
        if isinstance(values[0], float):
            each = tf.train.Feature(float_list={"value": values})
        else:
            each = tf.train.Feature(int64_list={"value": values})
        features[name] = each
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def settings(folder: Path, **overrides: Any) -> Any:
    """Returns the settings of the small network on the examples."""
    config = recipes.experiment("largebatch/bert_pretraining")
    for values in (small(folder), overrides):
        override(config, values, "the test")
    return config


def small(folder: Path) -> dict[str, Any]:
    """Returns what makes the experiment small."""
    data = {"seq_length": LENGTH, "max_predictions_per_seq": PREDICTIONS}
    encoder = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
    }
    return {
        "task": {
            "model": {"encoder": {"bert": encoder}},
            "train_data": {
                "input_path": f"{folder}/train-*",
                "global_batch_size": BATCH,
                **data,
            },
            "validation_data": {
                "input_path": f"{folder}/validation-*",
                "global_batch_size": 4,
                "num_examples": COUNTS["validation"],
                **data,
            },
        },
        "trainer": {
            "train_steps": STEPS,
            "steps_per_loop": 1,
            "summary_interval": 1,
            "validation_interval": STEPS,
            "checkpoint_interval": 1,
            "micro_batch_size": BATCH // 2,
            "optimizer_config": {
                "optimizer": {
                    "type": "largebatch_lamb",
                    "largebatch_lamb": {"global_clipnorm": 1.0},
                },
                "learning_rate": {
                    "type": "largebatch_bert_polynomial",
                    "largebatch_bert_polynomial": {
                        "peak": 0.02,
                        "total_steps": 2 * STEPS,
                        "warmup_steps": 2,
                    },
                },
            },
        },
        "runtime": {
            "mixed_precision_dtype": "float32",
            "distribution_strategy": "one_device",
        },
    }
