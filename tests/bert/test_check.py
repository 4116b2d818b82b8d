"""Records looked through: what is counted, and what is found wrong."""

import concurrent.futures
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import parallel
from tf_largebatch.bert import check, demo, vocabulary
from tf_largebatch.errors import UserError

TOKENS = [*vocabulary.REQUIRED, "who", "is", "there", "##fore", "me"]
WHO, IS, THERE, FORE, ME = range(5, 10)
CLS, SEP, MASK = 2, 3, 4
# [CLS] who [MASK] [SEP] me there##fore [SEP], of which "is" and "me" were
# hidden, and "me" is kept.
PRETRAINING = {
    "input_ids": [CLS, WHO, MASK, SEP, ME, THERE, FORE, SEP, 0, 0],
    "input_mask": [1] * 8 + [0] * 2,
    "segment_ids": [0] * 4 + [1] * 4 + [0] * 2,
    "masked_lm_positions": [2, 4, 0],
    "masked_lm_ids": [IS, ME, 0],
    "masked_lm_weights": [1.0, 1.0, 0.0],
    "next_sentence_labels": [1],
}
SQUAD = {
    "unique_ids": [1000000000],
    "input_ids": [CLS, WHO, IS, SEP, ME, THERE, FORE, SEP, 0, 0],
    "input_mask": [1] * 8 + [0] * 2,
    "segment_ids": [0] * 4 + [1] * 4 + [0] * 2,
    "start_positions": [5],
    "end_positions": [6],
    "is_impossible": [0],
}


def serialize(example):
    def feature(values):
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {name: feature(values) for name, values in example.items()}
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def write(path, *examples):
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for example in examples:
            is_raw = isinstance(example, bytes)
            file.write(example if is_raw else serialize(example))
    return str(path)


def look_through(path):
    """Returns the counts of a file, by name, but those that are 0."""
    job = check.Job(path, check.form_of(path), len(TOKENS), MASK)
    counts = check.look_through(job)
    return {
        name: count
        for name, count in zip(check.COUNTS, counts.tolist())
        if count
    }


def test_predictions_are_counted(tmp_path):
    replaced = {
        **PRETRAINING,
        "input_ids": [CLS, WHO, ME, SEP, ME, SEP, 0, 0, 0, 0],
        "input_mask": [1] * 6 + [0] * 4,
        "masked_lm_weights": [1.0, 0.0, 0.0],
        "next_sentence_labels": [0],
    }
    path = write(tmp_path / "a", PRETRAINING, replaced, PRETRAINING)
    assert look_through(path) == {
        "records": 3,
        "tokens": 8 + 6 + 8,
        "predicted": 2 + 1 + 2,
        "masked": 1 + 0 + 1,
        "kept": 1 + 0 + 1,
        "random_next": 2,
    }


def test_answers_are_counted(tmp_path):
    without = {**SQUAD, "start_positions": [0], "end_positions": [0]}
    path = write(tmp_path / "a", SQUAD, without, SQUAD)
    assert look_through(path) == {"records": 3, "tokens": 24, "answers": 2}


WRONG = {
    "input_ids": ([CLS, 10, MASK, SEP, ME, SEP, 0, 0, 0, 0], "vocabulary's"),
    "input_mask": ([1, 0, 1, 1, 1, 1, 1, 1, 0, 0], "input_mask is not ones"),
    "segment_ids": ([2] * 10, "segment_ids has other values"),
    "masked_lm_positions": ([2, 8, 0], "a place is outside the tokens"),
    "masked_lm_ids": ([IS, -1, 0], "an id in masked_lm_ids is not one of"),
    "masked_lm_weights": ([1.0, 0.0, 1.0], "masked_lm_weights is not ones"),
    "next_sentence_labels": ([2], "next_sentence_labels is neither 0 nor 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_record_is_named(tmp_path, name):
    values, words = WRONG[name]
    wrong = {**PRETRAINING, name: values}
    path = write(tmp_path / "a", PRETRAINING, PRETRAINING, wrong, PRETRAINING)
    with pytest.raises(UserError) as caught:
        look_through(path)
    assert words in str(caught.value)
    assert f"in {path}, record 2 (the first is 0)" in str(caught.value)


@pytest.mark.parametrize(
    "name, values",
    [
        ("input_mask", [0] * 10),
        ("input_mask", [2] + [0] * 9),
        ("input_ids", [-1] + [0] * 9),
        ("masked_lm_positions", [-1, 4, 0]),
        ("masked_lm_positions", [2, 99, 0]),
        ("masked_lm_weights", [0.0] * 3),
        ("masked_lm_weights", [0.5, 0.5, 0.0]),
    ],
)
def test_other_values_that_cannot_be(tmp_path, name, values):
    path = write(tmp_path / "a", {**PRETRAINING, name: values})
    with pytest.raises(UserError, match="record 0"):
        look_through(path)


@pytest.mark.parametrize(
    "name, place", [("start_positions", -1), ("end_positions", 8)]
)
def test_an_answer_outside_the_tokens_is_named(tmp_path, name, place):
    path = write(tmp_path / "a", SQUAD, {**SQUAD, name: [place]})
    with pytest.raises(UserError, match="outside the tokens, in .*, record 1"):
        look_through(path)


LONGER = {**PRETRAINING, "input_ids": [CLS] * 11}
NO_EXAMPLES = {
    "another length": LONGER,
    "SQuAD's among those of pretraining": SQUAD,
    "no example": b"\xff" * 30,
    "text": b"some text",
    "empty": b"",
    "pictures": {"image": [1]},
}


@pytest.mark.parametrize("case", NO_EXAMPLES)
def test_what_is_no_example_is_named(tmp_path, case):
    path = write(tmp_path / "a", PRETRAINING, NO_EXAMPLES[case])
    with pytest.raises(UserError) as caught:
        look_through(path)
    assert f"{check.NO_EXAMPLE}, in {path}, record 1 (" in str(caught.value)
    if case in ("another length", "SQuAD's among those of pretraining"):
        return
    path = write(tmp_path / "b", NO_EXAMPLES[case])
    with pytest.raises(UserError) as caught:
        check.form_of(path)
    assert f"{check.NO_EXAMPLE}, in {path}, record 0 (" in str(caught.value)


def flip(content):
    """Changes the data of record 2."""
    changed = bytearray(content)
    changed[len(content) * 5 // 8] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage, number",
    [
        (lambda content: content[:-3], 3),
        (lambda content: content[: len(content) * 3 // 4 + 5], 3),
        (flip, 2),
        (lambda content: b"\x01" + content[1:], 0),
    ],
)
def test_a_damaged_file_is_named_with_the_record(tmp_path, damage, number):
    path = pathlib.Path(write(tmp_path / "a", *[PRETRAINING] * 4))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as caught:
        look_through(str(path))
    words = f"cut short, in {path}, record {number} (the first is 0)"
    assert words in str(caught.value)


def test_an_example_is_shown_as_text():
    arrays = {name: np.array(values) for name, values in PRETRAINING.items()}
    assert check.describe(arrays, TOKENS) == (
        "[CLS] who [MASK](is) [SEP] me(me) therefore [SEP]"
    )
    arrays = {name: np.array(values) for name, values in SQUAD.items()}
    assert check.describe(arrays, TOKENS) == (
        "[CLS] who is [SEP] me therefore [SEP] -> therefore"
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*TOKENS, ""]))
    for number, count in enumerate((1, 2)):
        name = f"train-0000{number}-of-00002"
        write(tmp_path / "phase1" / name, *[PRETRAINING] * count)
    write(tmp_path / "squad" / "train-00000-of-00001", SQUAD)
    dev = pathlib.Path(demo.DEV).read_text()
    (tmp_path / "squad" / "dev.json").write_text(dev)
    return tmp_path


def test_a_folder_is_looked_through(folder, monkeypatch):
    """In a thread; `data bert --check` is tested with a process."""
    start = concurrent.futures.ThreadPoolExecutor
    monkeypatch.setattr(parallel, "start", start)
    vocab_file = check.vocabulary_of(str(folder), None)
    phase, squad = check.run(str(folder), vocab_file, 1)
    assert phase.name == f"{folder}/phase1/train"
    assert [*phase.files] == [
        f"{folder}/phase1/train-0000{n}-of-00002" for n in range(2)
    ]
    assert phase.totals["records"] == 3
    assert phase.totals["tokens"] == 24
    assert phase.lengths["input_ids"] == 10
    assert phase.lengths["masked_lm_ids"] == 3
    assert phase.sample["masked_lm_ids"].tolist() == [IS, ME, 0]
    assert squad.name == f"{folder}/squad/train"
    assert squad.totals["answers"] == 1
    assert squad.sample["start_positions"].tolist() == [5]


def test_the_questions_of_a_folder_are_looked_at_too(folder):
    (folder / "squad" / "dev.json").write_text("{}")
    with pytest.raises(UserError, match="no list `data`, in .*dev.json"):
        check.run(str(folder), str(folder / "vocab.txt"))


@pytest.mark.parametrize(
    "target, words",
    [
        ("{folder}/phase1/train-*", "is no folder with a vocabulary; give one"),
        ("{folder}/phase2", "phase2 is no folder with a vocabulary"),
    ],
)
def test_files_need_a_vocabulary(folder, target, words):
    target = target.format(folder=folder)
    with pytest.raises(UserError, match=words):
        check.vocabulary_of(target, None)
    assert check.vocabulary_of(target, "other") == "other"
