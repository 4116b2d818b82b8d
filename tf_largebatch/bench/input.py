"""Examples a second of the training input, beside the Model Garden's.

The pipelines of a contest read the same TFRecord files and take turns in one
process; each is built anew for every round. They are:

- ResNet's, on the files given, or on JPEGs of 500 x 375 pixels, ImageNet's
  most common size, made of the photographs in the scikit-learn and scikit-image
  packages. The Model Garden's has this project's bounds for crops, and takes
  them bicubic, as this project does, and bilinear, as is its own default. That
  the pictures are the same is shown in `tests/resnet/test_input.py`.
- BERT's for pretraining, on the documentation of Python. This project's checks
  that all tokens are in the vocabulary, and adds the examples' numbers and how
  many tokens there are to be predicted, which the Model Garden's does not.

Shuffle buffers are small and of the same size, so that all pipelines have the
same memory to go through. In files that are made each record is there so often
that an epoch is no shorter than what is timed, as in earnest.
"""

import collections
import dataclasses
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import input_reader
from official.nlp.data import pretrain_dataloader
from official.vision.dataloaders import classification_input
from tqdm import tqdm

from tf_largebatch import parallel, records
from tf_largebatch.bench import timing
from tf_largebatch.bert import demo, instances, vocabulary
from tf_largebatch.bert import input as bert_input
from tf_largebatch.resnet import input as resnet_input
from tf_largebatch.resnet import pictures, sources
from tf_largebatch.study import summary

OURS = "tf_largebatch"
BICUBIC, BILINEAR = "Model Garden, bicubic", "Model Garden, bilinear"
GARDEN = "Model Garden"
# What the chart's numbers are.
AXIS = f"records a second of processor time (%, {OURS} is 100)"
# What is timed, and in which words.
CLOCKS = {"wall": "a second", "cpu": "a second of processor time"}
WARMUP = 4  # Batches.
FILES = 4
SHUFFLED = 256
PICTURES = 256
HEIGHT, WIDTH, QUALITY = 375, 500, 90
VOCABULARY = 4000
# What of BERT's tokens is to be predicted at most, by the length.
PREDICTIONS = {128: 20, 512: 76}

Pipeline = Callable[[], tf.data.Dataset]
# By clock.
Rates = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Contest:
    """Pipelines that make the same of the same files.

    Attributes:
        name: what they are the input of.
        unit: what a record is.
        files: what is read, in words.
        count: how many records are timed.
        pipelines: by name, this project's first.
    """

    name: str
    unit: str
    files: str
    count: int
    pipelines: Mapping[str, Pipeline]


def measure(
    repeats: int,
    *,
    input_path: str | None = None,
    batch: int = 64,
    images: int = 1024,
    examples: int = 32768,
) -> dict[str, Any]:
    """Returns all figures of the benchmark.

    Args:
        repeats: how often each pipeline is measured.
        input_path: ImageNet's TFRecord files, as names or patterns; None means
            made ones.
        batch: records of a batch.
        images: how many are timed, of ResNet's input.
        examples: how many are timed, of BERT's.

    Raises:
        UserError: there are no such files.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        pattern = input_path or make_pictures(place, images)
        contests = [resnet(pattern, batch, images)]
        for length, path in make_text(place, examples).items():
            contests.append(bert(path, length, batch, examples))
        found = take_turns(contests, repeats, batch)
    return {
        "batch": batch,
        "repeats": repeats,
        "cores": parallel.cores(),
        "device": summary.device(),
        "versions": summary.versions(["tf-models-official"]),
        "contests": {
            contest.name: describe(contest, rates)
            for contest, rates in zip(contests, found)
        },
    }


def make_pictures(folder: pathlib.Path, count: int) -> str:
    """Writes crops of photographs at ImageNet's size; returns a pattern.

    Args:
        folder: where to.
        count: how many records there are to be at least.
    """
    random = np.random.default_rng(0)
    photographs = [*map(pictures.load, pictures.PHOTOGRAPHS)]
    for number in range(FILES):
        path = folder / f"train-{number:05}-of-{FILES:05}"
        with tf.io.TFRecordWriter(str(path)) as file:
            for index in range(PICTURES // FILES):
                label = index % len(photographs)
                file.write(record(photographs[label], label, random))
    return repeat(f"{folder}/train-*", count)


def repeat(pattern: str, count: int) -> str:
    """Makes files hold their records so often that there are enough.

    Args:
        pattern: of the files; it is returned.
        count: how many records there are to be at least.
    """
    source = records.open_files(pattern)
    times = -(-count // sum(source.counts))
    for piece in source.pieces:
        path = pathlib.Path(piece.path)
        # TFRecord files have neither a head nor an end.
        path.write_bytes(path.read_bytes() * times)
    return pattern


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


def make_text(folder: pathlib.Path, count: int) -> dict[int, str]:
    """Writes examples for pretraining; returns patterns by their length.

    Args:
        folder: where to.
        count: how many examples of a length there are to be at least.
    """
    paths = [*write_documents(folder)]
    counts: collections.Counter[str] = collections.Counter()
    for path in paths:
        counts.update(vocabulary.count_words(str(path), do_lower_case=True))
    tokens = vocabulary.learn(counts, VOCABULARY)
    (folder / "vocabulary").write_text("\n".join(tokens), encoding="utf-8")
    for length in PREDICTIONS:
        for path in paths:
            instances.write(job(path, length))
    return {
        length: repeat(f"{folder}/bert-{length}-*", count)
        for length in PREDICTIONS
    }


def write_documents(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Writes text, shared out evenly; yields the files."""
    documents = [*demo.documents()]
    for number in range(FILES):
        path = folder / f"text-{number}"
        share = ["\n".join(each) for each in documents[number::FILES]]
        path.write_text("\n\n".join(share), encoding="utf-8")
        yield path


def job(path: pathlib.Path, length: int) -> instances.Job:
    """Returns how a file of text is made a file of examples."""
    return instances.Job(
        text=str(path),
        out=str(path.with_name(f"bert-{length}-{path.name}")),
        vocab_file=str(path.with_name("vocabulary")),
        do_lower_case=True,
        seq_length=length,
        max_predictions=PREDICTIONS[length],
        masked_lm_prob=0.15,
        dupe_factor=1,
        short_seq_prob=0.1,
        seed="0",
    )


def resnet(pattern: str, batch: int, count: int) -> Contest:
    """Returns the contest of ResNet's input."""
    config = resnet_input.DataConfig(
        input_path=pattern, seed=0, shuffle_buffer_size=SHUFFLED
    )
    pipelines = {
        OURS: lambda: resnet_input.train_dataset(config, None, batch),
        BICUBIC: lambda: garden_pictures(config, batch, "bicubic"),
        BILINEAR: lambda: garden_pictures(config, batch, "bilinear"),
    }
    return Contest("ResNet-50", "images", jpegs(pattern), count, pipelines)


def jpegs(pattern: str) -> str:
    """Returns what the first JPEGs of some files are like, in words."""
    source = sources.open_files(pattern)
    sample = records.read(source.pieces).take(PICTURES)
    found = [source.parse(each)[0] for each in sample]
    shapes = [tf.io.extract_jpeg_shape(each).numpy() for each in found]
    height, width, _ = np.mean(shapes, 0)
    size = np.mean([len(each.numpy()) for each in found])
    return (
        f"JPEGs of {width:.0f} x {height:.0f} pixels and {size / 1e3:.0f} kB "
        "on average"
    )


def garden_pictures(
    config: resnet_input.DataConfig, batch: int, method: str
) -> tf.data.Dataset:
    """Returns the Model Garden's pipeline with this project's crops."""
    low, high = config.area_range
    parser = classification_input.Parser(
        output_size=[config.image_size, config.image_size],
        num_classes=config.num_classes + 1,
        dtype=config.dtype,
        crop_area_range=(low, high),
        tf_resize_method=method,
    )
    return input_reader.InputReader(
        cfg.DataConfig(**garden_settings(config, batch)),
        decoder_fn=classification_input.Decoder().decode,
        parser_fn=parser.parse_fn(True),
    ).read()


def garden_settings(config: records.DataConfig, batch: int) -> dict[str, Any]:
    """Returns how the Model Garden is to read what this project reads."""
    return {
        "input_path": config.input_path,
        "global_batch_size": batch,
        "is_training": True,
        "shuffle_buffer_size": config.shuffle_buffer_size,
        "cycle_length": config.cycle_length,
        "seed": config.seed,
    }


def bert(pattern: str, length: int, batch: int, count: int) -> Contest:
    """Returns the contest of BERT's input at a length."""
    sizes: dict[str, Any] = {
        "seq_length": length,
        "max_predictions_per_seq": PREDICTIONS[length],
    }
    config = bert_input.DataConfig(
        input_path=pattern, seed=0, shuffle_buffer_size=SHUFFLED, **sizes
    )
    theirs = pretrain_dataloader.BertPretrainDataConfig(
        **garden_settings(config, batch), **sizes
    )
    pipelines = {
        OURS: lambda: bert_input.train_dataset(
            config, None, batch, micro_batches=1, vocab_size=VOCABULARY
        ),
        GARDEN: pretrain_dataloader.BertPretrainDataLoader(theirs).load,
    }
    files = f"examples of {length} tokens"
    return Contest(
        f"BERT, {length} tokens", "examples", files, count, pipelines
    )


def take_turns(
    contests: Sequence[Contest], repeats: int, batch: int
) -> list[dict[str, list[Rates]]]:
    """Returns every contest's rates of every round, by pipeline."""
    found: list[dict[str, list[Rates]]] = [
        {name: [] for name in contest.pipelines} for contest in contests
    ]
    for _ in tqdm(range(repeats), "rounds", disable=not sys.stderr.isatty()):
        for contest, rates in zip(contests, found):
            batches = -(-contest.count // batch)
            for name, pipeline in contest.pipelines.items():
                rates[name].append(timed(pipeline, batch, batches))
    return found


def timed(pipeline: Pipeline, batch: int, batches: int) -> Rates:
    """Returns how many records a pipeline hands over a second."""
    iterator = iter(pipeline())
    for _ in range(WARMUP):
        next(iterator)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    count = batch * batches
    return {
        "wall": count / (time.perf_counter() - wall),
        "cpu": count / (time.process_time() - cpu),
    }


def describe(
    contest: Contest, rates: Mapping[str, Sequence[Rates]]
) -> dict[str, Any]:
    """Returns a contest's figures.

    The ratios are those of this project's rates to another's in the same
    round.
    """
    ours = rates[OURS]
    return {
        "unit": contest.unit,
        "files": contest.files,
        "count": contest.count,
        "rates": {name: timing.spread(found) for name, found in rates.items()},
        "ratios": {
            name: timing.spread([over(*both) for both in zip(ours, found)])
            for name, found in rates.items()
            if name != OURS
        },
    }


def over(one: Rates, other: Rates) -> Rates:
    """Returns the ratios of rates.

    >>> over({"wall": 3.0, "cpu": 1.0}, {"wall": 2.0, "cpu": 4.0})
    {'wall': 1.5, 'cpu': 0.25}
    """
    return {clock: one[clock] / other[clock] for clock in CLOCKS}


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures as text, a line a pipeline and clock."""
    lines = [
        f"batches of {figures['batch']}, medians of {figures['repeats']} "
        f"rounds on {figures['device']}"
    ]
    for name, contest in figures["contests"].items():
        unit, count = contest["unit"], contest["count"]
        lines += ["", f"{name}: {contest['files']}, {count} {unit} a round"]
        for clock, words in CLOCKS.items():
            lines += rows(contest, clock, f"{unit} {words}")
    return "\n".join(lines)


def rows(contest: Mapping[str, Any], clock: str, title: str) -> list[str]:
    """Returns a contest's figures by one clock, with a heading."""
    lines = [f"{title:35}  median  quartiles       {OURS} is"]
    for name, rates in contest["rates"].items():
        quartiles = "{q1:.0f} to {q3:.0f}".format(**rates[clock])
        line = f"  {name:33}{rates[clock]['median']:8.0f}  {quartiles:14}"
        if name != OURS:
            ratio = contest["ratios"][name][clock]["median"]
            line += f"  {ratio:.2f} times as fast"
        lines.append(line.rstrip())
    return lines


def bars(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the bars of a chart, in groups: a contest each.

    Contests differ by two orders of magnitude, so a bar is how a pipeline
    compares with this project's, by processor time.
    """
    return [
        bar(name, pipeline, contest)
        for name, contest in figures["contests"].items()
        for pipeline in contest["rates"]
    ]


def bar(group: str, name: str, contest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns one bar; this project's are 100."""
    ratios = {"q1": 1.0, "median": 1.0, "q3": 1.0}
    if name != OURS:
        ratios = contest["ratios"][name]["cpu"]
    return {
        "group": group,
        "label": name,
        "value": 100 / ratios["median"],
        "low": 100 / ratios["q3"],
        "high": 100 / ratios["q1"],
        "ours": name == OURS,
    }
