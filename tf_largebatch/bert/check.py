"""Looks through the records that ``data bert`` writes, for what is in them."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_largebatch import parallel, records
from tf_largebatch.bert import questions, text, vocabulary
from tf_largebatch.errors import UserError

SHARD = re.compile(r"(.*)-\d{5}-of-\d{5}")
OF_ALL = ("input_ids", "input_mask", "segment_ids")
OF_PRETRAINING = (
    "masked_lm_positions",
    "masked_lm_ids",
    "masked_lm_weights",
    "next_sentence_labels",
)
OF_SQUAD = ("start_positions", "end_positions")
NO_EXAMPLE = (
    "the record is no example of BERT's, or not of the first one's length"
)
# What is summed over all records; 0 where it is of the other kind.
COUNTS = (
    "records",
    "tokens",
    "predicted",
    "masked",
    "kept",
    "random_next",
    "answers",
)
# What may be wrong with a record.
PROBLEMS = {
    "ids": "a token's id is not one of the vocabulary's",
    "mask": "input_mask is not ones and then zeros",
    "segments": "segment_ids has other values than 0 and 1",
    "labels": "an id in masked_lm_ids is not one of the vocabulary's",
    "places": "a place is outside the tokens",
    "weights": "masked_lm_weights is not ones and then zeros",
    "next": "next_sentence_labels is neither 0 nor 1",
}
Values = dict[str, tf.Tensor]
Form = dict[str, tf.io.FixedLenFeature]


@dataclasses.dataclass(frozen=True)
class Found:
    """What is in files that belong together.

    Attributes:
        name: theirs, without their numbers.
        files: their paths.
        lengths: how many values a record has, by the names of its features.
        totals: sums over all records: ``records``; ``tokens`` without
            padding; ``predicted`` tokens, of which for some [MASK] stands
            there, ``masked``, and some stand there themselves, ``kept``;
            ``random_next``, pairs of sentences that do not belong together;
            ``answers``, records of SQuAD that have one.
        sample: the first record, by the names of its features.
    """

    name: str
    files: Sequence[str]
    lengths: Mapping[str, int]
    totals: Mapping[str, int]
    sample: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to be read.

    Attributes:
        path: which.
        form: of its records.
        vocab_size: ids are below it.
        mask_id: the id of [MASK].
    """

    path: str
    form: Form
    vocab_size: int
    mask_id: int


def vocabulary_of(target: str, vocab_file: str | None) -> str:
    """Returns a vocabulary file, which a folder has if none is given.

    Raises:
        UserError: there is none.
    """
    if vocab_file:
        return vocab_file
    if not tf.io.gfile.isdir(target):
        raise UserError(
            f"{target} is no folder with a vocabulary; give one with "
            "--vocab_file=FILE"
        )
    return tf.io.gfile.join(target, text.VOCABULARY)


def run(
    target: str, vocab_file: str, processes: int | None = None
) -> list[Found]:
    """Reads a folder that ``data bert`` made, or files of such a form.

    Args:
        target: the folder; or names or patterns of TFRecord files, separated
            by commas.
        vocab_file: the vocabulary.
        processes: how many work on it; None means one a core.

    Raises:
        UserError: at the first record that is corrupt or not as it should
            be, or where the vocabulary or SQuAD's questions are not right.
    """
    if tf.io.gfile.isdir(target):
        dev = tf.io.gfile.join(target, text.DEV)
        if tf.io.gfile.exists(dev):
            questions.read(dev)
        target = tf.io.gfile.join(target, "*", "*-of-*")
    tokens = vocabulary.read(vocab_file)
    groups = by_name(records.open_files(target).pieces)
    forms = {name: form_of(paths[0]) for name, paths in groups.items()}
    jobs = [
        Job(path, forms[name], len(tokens), tokens.index("[MASK]"))
        for name, paths in groups.items()
        for path in paths
    ]
    with parallel.start(processes) as pool:
        totals = iter(parallel.run(pool, "files", look_through, jobs))
    return [
        Found(
            name,
            paths,
            {key: feature.shape[0] for key, feature in forms[name].items()},
            add_up(itertools.islice(totals, len(paths))),
            sample_of(paths[0], forms[name]),
        )
        for name, paths in groups.items()
    ]


def by_name(pieces: Iterable[records.Piece]) -> dict[str, list[str]]:
    """Returns the paths of files by their names without numbers."""
    found: dict[str, list[str]] = {}
    for piece in pieces:
        match = SHARD.fullmatch(piece.path)
        name = match[1] if match else piece.path
        found.setdefault(name, []).append(piece.path)
    return found


def add_up(totals: Iterable[np.ndarray]) -> dict[str, int]:
    """Returns the sums of several files' COUNTS, by name."""
    return dict(zip(COUNTS, np.sum([*totals], axis=0).tolist()))


def look_through(job: Job) -> np.ndarray:
    """Returns the COUNTS of a file, int64 of shape (len(COUNTS),).

    Raises:
        UserError: at the first record that is not as it should be.
    """
    how = records.Check(
        functools.partial(look, job.form, job.vocab_size, job.mask_id),
        problem,
        lambda error: NO_EXAMPLE,
    )
    source = records.Source([records.Piece(job.path)])
    (found,) = records.check(source, how)
    return np.sum([counts for counts, _ in found], axis=0)


def sample_of(path: str, form: Form) -> dict[str, np.ndarray]:
    """Returns the first record of a file, by the names of its features."""
    sample = tf.io.parse_single_example(first_record(path), form)
    return {name: value.numpy() for name, value in sample.items()}


def first_record(path: str) -> bytes:
    """Returns the first record of a file; UserError if it is corrupt."""
    try:
        (record,) = records.read_piece(path, 0, 1).as_numpy_iterator()
    except records.READ_ERRORS as error:
        what = records.damage(error) or NO_EXAMPLE
        raise records.BrokenRecord(path, 0, what) from error
    return record


def form_of(path: str) -> Form:
    """Returns what there is in the records of a file, by its first one.

    Raises:
        UserError: that is no example for pretraining, nor for SQuAD.
    """
    try:
        example = tf.train.Example.FromString(first_record(path))
    except DecodeError as error:
        raise records.BrokenRecord(path, 0, NO_EXAMPLE) from error
    features = example.features.feature
    names = OF_ALL + (OF_SQUAD if OF_SQUAD[0] in features else OF_PRETRAINING)
    if not set(names) <= set(features):
        raise records.BrokenRecord(path, 0, NO_EXAMPLE)
    return {name: feature_of(features[name]) for name in names}


def feature_of(feature: tf.train.Feature) -> tf.io.FixedLenFeature:
    """Returns the form of a feature."""
    if feature.HasField("float_list"):
        values, kind = feature.float_list.value, tf.float32
    else:
        values, kind = feature.int64_list.value, tf.int64
    return tf.io.FixedLenFeature((len(values),), kind)


def look(
    form: Form,
    vocab_size: int,
    mask_id: int,
    number: tf.Tensor,
    serialized: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a record's COUNTS, and whether it has each of PROBLEMS."""
    del number
    example = tf.io.parse_single_example(serialized, form)
    length = tf.reduce_sum(example["input_mask"])
    counts = {"records": tf.ones((), tf.int64), "tokens": length}
    problems = {
        "ids": is_outside(example["input_ids"], vocab_size),
        "mask": is_no_prefix(example["input_mask"]),
        "segments": is_outside(example["segment_ids"], 2),
    }
    if OF_SQUAD[0] in example:
        more, wrong = look_at_answer(example, length)
    else:
        more, wrong = look_at_predictions(example, length, vocab_size, mask_id)
    counts, problems = {**counts, **more}, {**problems, **wrong}
    zero = tf.zeros((), tf.int64)
    return (
        tf.stack([counts.get(name, zero) for name in COUNTS]),
        tf.stack([problems.get(name, False) for name in PROBLEMS]),
    )


def look_at_answer(example: Values, length: tf.Tensor) -> tuple[Values, Values]:
    """Returns the counts and problems of an answer's place."""
    places = tf.concat([example[name] for name in OF_SQUAD], axis=0)
    return (
        {"answers": tf.cast(places[0] > 0, tf.int64)},
        {"places": is_outside(places, length)},
    )


def look_at_predictions(
    example: Values, length: tf.Tensor, vocab_size: int, mask_id: int
) -> tuple[Values, Values]:
    """Returns the counts and problems of what is to be predicted."""
    places = example["masked_lm_positions"]
    labels = example["masked_lm_ids"]
    weights = tf.cast(example["masked_lm_weights"], tf.int64)
    next_sentence = example["next_sentence_labels"][0]
    problems = {
        "labels": is_outside(labels, vocab_size),
        "places": is_outside(places, length),
        "weights": is_no_prefix(example["masked_lm_weights"]),
        "next": is_outside(next_sentence, 2),
    }
    there = tf.gather(
        example["input_ids"],
        tf.clip_by_value(places, 0, example["input_ids"].shape[0] - 1),
    )
    counts = {
        "predicted": tf.reduce_sum(weights),
        "masked": tf.reduce_sum(weights * tf.cast(there == mask_id, tf.int64)),
        "kept": tf.reduce_sum(weights * tf.cast(there == labels, tf.int64)),
        "random_next": next_sentence,
    }
    return counts, problems


def is_outside(values: tf.Tensor, limit: int | tf.Tensor) -> tf.Tensor:
    """Whether a value is below 0, or not below a limit."""
    return tf.reduce_any((values < 0) | (values >= limit))


def is_no_prefix(values: tf.Tensor) -> tf.Tensor:
    """Whether values are not ones, at least one, and then zeros."""
    ones = tf.range(tf.size(values), dtype=values.dtype) < tf.reduce_sum(values)
    is_prefix = tf.reduce_all(values == tf.cast(ones, values.dtype))
    return (values[0] != 1) | ~is_prefix


def problem(found: tuple[np.ndarray, np.ndarray]) -> str | None:
    """Returns what is wrong with a record, if something is."""
    wrong = [*itertools.compress(PROBLEMS.values(), found[1])]
    return wrong[0] if wrong else None


def describe(sample: Mapping[str, np.ndarray], tokens: Sequence[str]) -> str:
    """Returns an example as text.

    Of pretraining, each token to be predicted is followed by what it was; of
    SQuAD, the answer stands at the end.
    """
    count = int(sample["input_mask"].sum())
    words = [tokens[number] for number in sample["input_ids"][:count]]
    if OF_SQUAD[0] in sample:
        (first,), (last,) = (sample[name] for name in OF_SQUAD)
        return f"{join(words)} -> {join(words[first : last + 1])}"
    for place, label, weight in zip(
        sample["masked_lm_positions"],
        sample["masked_lm_ids"],
        sample["masked_lm_weights"],
    ):
        if weight:
            words[place] += f"({tokens[label]})"
    return join(words)


def join(words: Sequence[str]) -> str:
    """Puts WordPieces together.

    >>> join(["[CLS]", "un", "##known"])
    '[CLS] unknown'
    """
    return " ".join(words).replace(" ##", "")
