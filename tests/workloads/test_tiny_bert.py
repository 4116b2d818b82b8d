"""The BERT workload: its text, its examples, its network and its losses."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import configs, workloads
from tf_largebatch.bert import demo, pretraining
from tf_largebatch.workloads import tiny_bert

CONFIG = configs.load("workloads", "tiny_bert")
CONFIG |= {"name": CONFIG["workload"]}
# With fewer examples of the same text, to save time.
SMALL = {**CONFIG, "examples": {**CONFIG["examples"], "dupe_factor": 3}}
VOCAB_SIZE = CONFIG["encoder"]["vocab_size"]
LENGTH = CONFIG["examples"]["seq_length"]
PREDICTIONS = CONFIG["examples"]["max_predictions"]


def digest(workload):
    """Returns a number that any other example would change."""
    tensors = tf.nest.flatten(workload.splits)
    content = b"".join(tensor.numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def workload():
    return workloads.load(SMALL)


@pytest.fixture(scope="module")
def model(workload):
    return workload.build_model(3, {})


@pytest.fixture(scope="module")
def batch(workload):
    """A few training examples."""
    return {name: x[:48] for name, x in workload.splits["train"].items()}


def test_every_document_is_in_exactly_one_split():
    documents = list(demo.documents())
    dealt = tiny_bert.deal(documents, CONFIG["splits"])
    assert list(dealt) == ["train", "validation", "test"]
    together = [each for split in dealt.values() for each in split]
    assert sorted(together) == sorted(documents)
    sizes = [len(split) / len(documents) for split in dealt.values()]
    assert sizes == pytest.approx([6 / 8, 1 / 8, 1 / 8], abs=0.01)


def test_no_sentence_is_in_two_splits():
    dealt = tiny_bert.deal(list(demo.documents()), CONFIG["splits"])
    sentences = [
        {sentence for document in split for sentence in document}
        for split in dealt.values()
    ]
    assert sum(map(len, sentences)) == len(set().union(*sentences)) > 1000


def test_examples_are_those_of_the_pretraining_task(workload):
    for split in workload.splits.values():
        shapes = {name: tuple(x.shape[1:]) for name, x in split.items()}
        assert shapes == {
            "input_word_ids": (LENGTH,),
            "input_mask": (LENGTH,),
            "input_type_ids": (LENGTH,),
            "masked_lm_positions": (PREDICTIONS,),
            "masked_lm_ids": (PREDICTIONS,),
            "masked_lm_weights": (PREDICTIONS,),
            "next_sentence_labels": (),
        }
        ids = split["input_word_ids"].numpy()
        assert ids.min() == 0 and ids.max() < VOCAB_SIZE
        assert set(split["next_sentence_labels"].numpy()) == {0, 1}


def test_about_a_seventh_of_the_tokens_is_predicted(workload):
    train = workload.splits["train"]
    predicted = train["masked_lm_weights"].numpy().sum()
    share = predicted / train["input_mask"].numpy().sum()
    assert share == pytest.approx(0.15, abs=0.01)


def test_splits_are_measured_by_equally_many_examples(workload):
    for name, split in workload.measured.items():
        sizes = {len(x) for x in split.values()}
        assert sizes == {CONFIG["measured"]}
        for key, x in split.items():
            whole = workload.splits[name][key]
            np.testing.assert_array_equal(x, whole[: CONFIG["measured"]])


@pytest.mark.slow
def test_every_process_makes_the_same_examples(workload):
    """Whatever it hashes strings with."""
    path = os.path.abspath(__file__)
    program = (
        f"import runpy; found = runpy.run_path({path!r})\n"
        "print(found['digest'](found['workloads'].load(found['SMALL'])))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == digest(workload)


def test_the_loss_and_its_gradients_are_the_pretraining_tasks(
    workload, model, batch
):
    encoder = {"type": "bert", "bert": CONFIG["encoder"]}
    form = {"seq_length": LENGTH, "max_predictions_per_seq": PREDICTIONS}
    task = pretraining.BertPretrainingTask(
        pretraining.BertPretrainingConfig(
            {
                "model": {"encoder": encoder},
                "train_data": {**form, "global_batch_size": 48},
                "validation_data": form,
            }
        )
    )
    inputs = {
        **batch,
        "numbers": tf.range(48, dtype=tf.int64),
        "predictions": tf.reduce_sum(batch["masked_lm_weights"]),
    }
    expected, losses = task.gradients(inputs, model, [])
    variables = workload.trained_variables(model)
    with tf.GradientTape() as tape:
        loss = workload.loss(model, batch, {})
    found = tape.gradient(loss, variables)

    assert float(loss) == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-6)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        one = tf.convert_to_tensor(one)
        scale = float(tf.reduce_max(tf.abs(other)))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * scale)


def test_the_pooler_alone_is_not_trained(workload, model):
    trained = {id(each) for each in workload.trained_variables(model)}
    others = [x for x in model.trainable_variables if id(x) not in trained]
    assert [x.name for x in others] == [
        "pooler_transform/kernel:0",
        "pooler_transform/bias:0",
    ]


def test_the_metric_is_the_mean_over_predictions_that_count(
    workload, model, batch
):
    batch = {name: x[:2] for name, x in batch.items()}
    weights = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], "float32")
    outputs = pretraining.infer(batch, model, training=False)
    logits = outputs["mlm_logits"].numpy().astype("float64")
    likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    ids = batch["masked_lm_ids"].numpy()[..., np.newaxis]
    losses = -np.take_along_axis(likely, ids, -1)[..., 0]
    metric, loss = workload.measure(
        model, {**batch, "masked_lm_weights": tf.constant(weights)}
    )
    expected = (losses * weights).sum() / 6
    assert expected < math.log(VOCAB_SIZE) + 1
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metric) == min(float(loss), np.float32(workload.guessing))


@pytest.mark.parametrize("scale", [1e4, math.nan])
def test_a_network_worse_than_guessing_counts_as_guessing(
    workload, batch, scale
):
    model = workload.build_model(0, {})
    model.set_weights([scale * each for each in model.get_weights()])
    metric, loss = workload.measure(model, batch)
    assert float(metric) == pytest.approx(math.log(VOCAB_SIZE))
    assert not float(loss) < math.log(VOCAB_SIZE)


def test_the_seed_decides_the_initial_weights(workload):
    one = workload.initial_weights(5, {})
    same = workload.build_model(5, {}).get_weights()
    other = workload.initial_weights(6, {})
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one, other))


def test_nothing_of_training_is_left_to_chance(workload, model, batch):
    """There is no dropout, which would draw anew at every step."""
    losses = {float(workload.loss(model, batch, {})) for _ in range(3)}
    assert len(losses) == 1
