"""The input of pretraining: which example when, and what is refused."""

import dataclasses
import pathlib
import runpy

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import records
from tf_largebatch.bert import input as inputs
from tf_largebatch.errors import UserError

RANDOM = runpy.run_path(
    str(pathlib.Path(__file__).with_name("random_examples.py"))
)
VOCABULARY = RANDOM["VOCABULARY"]


def config(path, **changes):
    settings = {
        "seq_length": RANDOM["LENGTH"],
        "max_predictions_per_seq": RANDOM["PREDICTIONS"],
        "seed": 3,
        **changes,
    }
    return inputs.DataConfig(input_path=str(path), **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of examples."""
    return RANDOM["write"](tmp_path_factory.mktemp("examples"))


@pytest.fixture
def data(folder):
    return config(f"{folder}/train-*")


def context(host, hosts, replicas):
    return tf.distribute.InputContext(hosts, host, replicas)


def batches(data, count, where=None, size=2, micro_batches=3, first=0):
    dataset = inputs.train_dataset(
        data, where, size, micro_batches, VOCABULARY, first
    )
    return [*dataset.take(count).as_numpy_iterator()]


def test_a_micro_batch_has_what_the_network_and_the_losses_take(data):
    dataset = inputs.train_dataset(data, None, 2, 3, VOCABULARY)
    of_tokens, of_predictions = (
        (2, RANDOM["LENGTH"]),
        (2, RANDOM["PREDICTIONS"]),
    )
    assert dataset.element_spec == {
        "input_word_ids": tf.TensorSpec(of_tokens, tf.int32),
        "input_mask": tf.TensorSpec(of_tokens, tf.int32),
        "input_type_ids": tf.TensorSpec(of_tokens, tf.int32),
        "masked_lm_positions": tf.TensorSpec(of_predictions, tf.int32),
        "masked_lm_ids": tf.TensorSpec(of_predictions, tf.int32),
        "masked_lm_weights": tf.TensorSpec(of_predictions, tf.float32),
        "next_sentence_labels": tf.TensorSpec((2,), tf.int32),
        "numbers": tf.TensorSpec((2,), tf.int64),
        "predictions": tf.TensorSpec((), tf.float32),
    }


def test_records_come_as_they_are_stored(tmp_path):
    example = RANDOM["draw"](np.random.default_rng(0))
    RANDOM["write_file"](tmp_path / "one", [example])
    (batch,) = batches(config(tmp_path / "one"), 1, size=1)
    names = {
        "input_word_ids": "input_ids",
        "input_mask": "input_mask",
        "input_type_ids": "segment_ids",
        "masked_lm_positions": "masked_lm_positions",
        "masked_lm_ids": "masked_lm_ids",
        "masked_lm_weights": "masked_lm_weights",
    }
    for name, stored in names.items():
        assert batch[name][0].tolist() == example[stored], name
    assert batch["next_sentence_labels"] == example["next_sentence_labels"]


@pytest.mark.parametrize("replicas, micro_batches", [(1, 1), (1, 3), (2, 3)])
def test_predictions_are_counted_for_each_replicas_share_of_a_step(
    data, replicas, micro_batches
):
    where = context(0, 1, replicas)
    count = 2 * replicas * micro_batches
    found = batches(data, count, where, micro_batches=micro_batches)
    for step in np.split(np.array(found), 2):
        for replica in range(replicas):
            share = step[replica::replicas]
            expected = sum(each["masked_lm_weights"].sum() for each in share)
            assert {float(each["predictions"]) for each in share} == {expected}
    assert len({float(each["predictions"]) for each in found}) > 1


def test_an_epoch_has_every_example_once(data):
    numbers = [each["numbers"] for each in batches(data, 32)]
    assert np.concatenate(numbers).tolist() == [*range(64)]
    tokens = {
        row.tobytes()
        for each in batches(data, 32)
        for row in each["input_word_ids"]
    }
    assert len(tokens) == 64


@pytest.mark.parametrize("first", [6, 66, 90])
def test_a_run_goes_on_where_it_stopped(data, first):
    whole = batches(data, first // 2 + 6)[first // 2 :]
    for one, other in zip(whole, batches(data, 6, first=first), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_hosts_number_their_examples_differently(data):
    numbers = [
        batches(data, 3, context(host, 2, 2))[1]["numbers"].tolist()
        for host in range(2)
    ]
    assert numbers == [[4, 6], [5, 7]]


@pytest.mark.parametrize("replicas, batch, steps", [(1, 4, 3), (2, 2, 3)])
def test_evaluation_has_each_example_once(folder, replicas, batch, steps):
    data = config(f"{folder}/validation-*", num_examples=10)
    dataset = inputs.evaluation_dataset(
        data, context(0, 1, replicas), batch, replicas, VOCABULARY
    )
    found = [*dataset.as_numpy_iterator()]
    assert len(found) == steps * replicas
    weights = np.concatenate([weights for _, weights in found])
    assert sorted(weights) == [0.0] * 2 + [1.0] * 10
    rows = np.concatenate([each["input_word_ids"] for each, _ in found])
    assert len({row.tobytes() for row in rows[weights == 1]}) == 10
    assert not rows[weights == 0].any()


def test_evaluation_must_find_num_examples(folder):
    data = config(f"{folder}/validation-*", num_examples=11)
    with pytest.raises(UserError, match="10 examples, not num_examples = 11"):
        inputs.evaluation_dataset(data, None, 4, 1, VOCABULARY)


WRONG_RECORDS = [
    (
        {"input_ids": [60] * 12},
        "input_ids goes from 60 to 60, not from 0 to 59",
    ),
    ({"masked_lm_ids": [-1] * 4}, "masked_lm_ids goes from -1 to -1, not"),
    (
        {"masked_lm_positions": [0, 0, 0, 12]},
        "masked_lm_positions goes from 0 to 12, not from 0 to 11",
    ),
    ({"segment_ids": [2] * 12}, "segment_ids goes from 2 to 2, not"),
    ({"next_sentence_labels": [2]}, "next_sentence_labels goes from 2 to 2"),
    ({"input_ids": [7] * 16}, "no example of 12 tokens and 4 predictions"),
    ({"masked_lm_ids": [7] * 3}, "no example of 12 tokens and 4 predictions"),
    ({"masked_lm_weights": [1] * 4}, "no example of 12 tokens"),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("changes, words", WRONG_RECORDS)
def test_a_record_that_does_not_fit_is_named(
    tmp_path, changes, words, training
):
    random = np.random.default_rng(0)
    examples = [RANDOM["draw"](random) for _ in range(4)]
    examples[2] |= changes
    path = tmp_path / "train-0"
    RANDOM["write_file"](path, examples)
    data = config(path)
    with pytest.raises(UserError) as caught:
        with inputs.naming_broken_records(VOCABULARY, data):
            if training:
                batches(data, 2)
            else:
                list(inputs.evaluation_dataset(data, None, 4, 1, VOCABULARY))
    assert words in str(caught.value)
    assert f"in {path}, record 2 (the first is 0)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seq_length": 0}, "seq_length is 0; give 1 or more"),
        ({"max_predictions_per_seq": 0}, "max_predictions_per_seq is 0"),
        ({"input_path": ""}, "no file matches ''"),
    ],
)
def test_a_mistake_in_the_config_is_one_line(data, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        inputs.open_source(data.replace(**changes), VOCABULARY)
    assert "\n" not in str(caught.value)


def test_every_field_is_documented():
    words = inputs.DataConfig.__doc__ + records.DataConfig.__doc__
    for field in dataclasses.fields(inputs.DataConfig):
        assert f"\n        {field.name}: " in words
