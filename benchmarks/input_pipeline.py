"""Images per second of the training input, beside the Model Garden's.

    python benchmarks/input_pipeline.py [--input=PATTERN] [--rounds=10]

Both read the same TFRecord files: those given, or JPEGs of 500 x 375 pixels,
ImageNet's most common size, made of the photographs in the scikit-learn and
scikit-image packages. The pipelines take turns in one process. Compare the
figures a second of processor time where other work shares the machine.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import input_reader
from official.vision.dataloaders import classification_input

from tf_largebatch import records
from tf_largebatch.resnet import input as inputs
from tf_largebatch.resnet import pictures, sources

BATCH = 64
WARMUP = 4
BATCHES = 16
RECORDS, FILES = 256, 4
HEIGHT, WIDTH, QUALITY = 375, 500, 90

Pipeline = Callable[[], tf.data.Dataset]


def main() -> None:
    """Measures all pipelines and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", help="TFRecord files; without it made ones")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pattern = arguments.input or make_files(pathlib.Path(folder))
        describe(pattern)
        pipelines = pipelines_of(pattern)
        figures = {name: [] for name in pipelines}
        for _ in range(arguments.rounds):
            for name, pipeline in pipelines.items():
                figures[name].append(measure(pipeline))
    report(figures)


def make_files(folder: pathlib.Path) -> str:
    """Writes crops of photographs at ImageNet's size; returns a pattern."""
    random = np.random.default_rng(0)
    photographs = [*map(pictures.load, pictures.PHOTOGRAPHS)]
    for number in range(FILES):
        path = folder / f"train-{number:05}-of-{FILES:05}"
        with tf.io.TFRecordWriter(str(path)) as file:
            for label in range(RECORDS // FILES):
                label %= len(photographs)
                file.write(record(photographs[label], label, random))
    return f"{folder}/train-*"


def record(
    photograph: np.ndarray, label: int, random: np.random.Generator
) -> bytes:
    """Returns a random crop, in colour and scaled, as a record."""
    region = (0, 0, *photograph.shape[:2])
    top, left, height, width = pictures.draw(region, random)
    crop = photograph[top : top + height, left : left + width]
    pixels = tf.image.resize(crop, (HEIGHT, WIDTH), "area")
    pixels = tf.cast(tf.broadcast_to(pixels, (HEIGHT, WIDTH, 3)), tf.uint8)
    jpeg = tf.io.encode_jpeg(pixels, quality=QUALITY).numpy()
    features = {"image/encoded": jpeg, "image/class/label": label + 1}
    return pictures.serialize(features)


def describe(pattern: str) -> None:
    """Prints what is read."""
    source = sources.open_files(pattern)
    sample = records.read(source.pieces).take(RECORDS)
    jpegs = [source.parse(each)[0] for each in sample]
    shapes = [tf.io.extract_jpeg_shape(each).numpy() for each in jpegs]
    height, width, _ = np.mean(shapes, 0)
    size = np.mean([len(each.numpy()) for each in jpegs])
    print(
        f"JPEGs of {width:.0f} x {height:.0f} pixels and {size / 1e3:.0f} kB "
        f"on average; {os.cpu_count()} cores; TensorFlow {tf.__version__}"
    )


def pipelines_of(pattern: str) -> dict[str, Pipeline]:
    """Returns what is measured, by name; the first is this project's."""
    config = inputs.DataConfig(input_path=pattern, seed=0)
    return {
        "tf_largebatch": lambda: inputs.train_dataset(config, None, BATCH),
        "Model Garden, bicubic": lambda: garden(pattern, "bicubic"),
        "Model Garden, bilinear": lambda: garden(pattern, "bilinear"),
    }


def garden(pattern: str, method: str) -> tf.data.Dataset:
    """Returns the Model Garden's pipeline with this project's crops."""
    params = cfg.DataConfig(
        input_path=pattern,
        global_batch_size=BATCH,
        is_training=True,
        shuffle_buffer_size=inputs.DataConfig().shuffle_buffer_size,
        cycle_length=inputs.DataConfig().cycle_length,
        seed=0,
    )
    parser = classification_input.Parser(
        output_size=[224, 224],
        num_classes=1001,
        dtype="bfloat16",
        crop_area_range=(0.05, 1.0),
        tf_resize_method=method,
    )
    return input_reader.InputReader(
        params,
        decoder_fn=classification_input.Decoder().decode,
        parser_fn=parser.parse_fn(True),
    ).read()


def measure(pipeline: Pipeline) -> tuple[float, float]:
    """Returns images a second, of time and of processor time."""
    batches = iter(pipeline())
    for _ in range(WARMUP):
        next(batches)
    start, start_processor = time.perf_counter(), time.process_time()
    for _ in range(BATCHES):
        next(batches)
    seconds = time.perf_counter() - start
    processor = time.process_time() - start_processor
    return BATCH * BATCHES / seconds, BATCH * BATCHES / processor


def report(figures: dict[str, list[tuple[float, float]]]) -> None:
    """Prints medians, quartiles and ratios to the first pipeline."""
    units = ("images/s", "images/s of processor time")
    for unit, columns in enumerate(units):
        print(f"\n{columns:30} {'median':>7} {'quartiles':>15} {'ratio':>6}")
        first = None
        for name, found in figures.items():
            low, median, high = statistics.quantiles(
                [each[unit] for each in found], n=4, method="inclusive"
            )
            first = first or median
            spread = f"{low:.0f} to {high:.0f}"
            print(f"{name:30} {median:7.0f} {spread:>15} {first / median:6.2f}")


if __name__ == "__main__":
    main()
