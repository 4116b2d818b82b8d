"""A program trains tf_keras models too, as a plain loop would each."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import tf_keras as largebatch
from tf_largebatch.study import protocol
from tf_largebatch.study.training import Trainer
from tf_largebatch.workloads import tiny_bert

STEPS = 16


@pytest.fixture(scope="module")
def study():
    """Of a single layer and with few examples, to save time."""
    study = protocol.create("bert", trials=2, seeds=1, steps=STEPS)
    study["workload"]["encoder"]["num_layers"] = 1
    study["workload"]["examples"]["dupe_factor"] = 3
    study["workload"]["measured"] = 128
    return study


@pytest.fixture(scope="module")
def trainer(study):
    """Without XLA, which takes its time to compile and changes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_bert.Task, "jit_compile", False)
        yield Trainer(study)


@pytest.fixture(scope="module")
def rows(study):
    return {row["name"]: row for row in study["table"]["rows"]}


@pytest.fixture(scope="module")
def lines(trainer, study, rows):
    """The first tuning run of every row."""
    return {
        name: trainer.run(row, protocol.tuning_runs(study, row)[0])
        for name, row in rows.items()
    }


def optimizer_of(row, numbers):
    """Returns the row's optimizer with constants for variables."""
    schedule = largebatch.BertPolynomial(
        numbers["learning_rate"],
        STEPS,
        numbers["warmup_fraction"] * STEPS,
        warmup_power=numbers["warmup_power"],
        discontinuous=row["settings"]["discontinuous"],
    )
    own = {"variant": "bert_2019"} if "uncorrected" in row["name"] else {}
    if row["optimizer"]["class"] == "Adam":
        own = {"bias_correction": "uncorrected" not in row["name"]}
    return getattr(largebatch, row["optimizer"]["class"])(
        schedule,
        beta_2=numbers["beta_2"],
        epsilon=1e-6,
        weight_decay=0.01,
        global_clipnorm=1.0,
        **own,
    )


@pytest.mark.parametrize("name", ["adam_uncorrected_jump", "lamb"])
def test_a_run_does_what_a_plain_loop_does(trainer, rows, lines, name):
    line, workload = lines[name], trainer.workload
    optimizer = optimizer_of(rows[name], line["hyperparameters"])
    model = workload.build_model(line["seed"], {})
    variables = workload.trained_variables(model)
    losses = []
    for batch in workload.order(line["seed"], STEPS):
        examples = {
            key: tf.gather(x, batch)
            for key, x in workload.splits["train"].items()
        }
        with tf.GradientTape() as tape:
            loss = workload.loss(model, examples, {})
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(list(zip(gradients, variables)))
        losses.append(float(loss))

    # A point of the curve is the mean of two steps.
    expected = np.reshape(losses, (-1, 2)).mean(axis=1)
    found = [point["loss"] for point in line["curve"]]
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    metric, _ = workload.measure(model, workload.measured["test"])
    assert line["test"] == pytest.approx(float(metric), rel=2e-4)


def test_every_row_learns_and_four_programs_do_it(trainer, lines):
    for line in lines.values():
        json.dumps(line, allow_nan=False)
        assert (line["steps"], line["diverged"]) == (STEPS, False)
        assert line["curve"][-1]["loss"] < line["curve"][0]["loss"] - 0.2
        assert line["test"] < trainer.workload.guessing - 0.1
    # Adam and LAMB, each with and without bias correction.
    assert len(trainer.programs) == 4
    for program in trainer.programs.values():
        assert program.train.experimental_get_tracing_count() == 1
        assert program.step.experimental_get_tracing_count() == 1
    assert trainer.measure.experimental_get_tracing_count() == 1


def test_no_two_rows_do_the_same(lines):
    """Though all have the same point of the unit cube."""
    assert len({line["test"] for line in lines.values()}) == len(lines) == 8
    for optimizer in ("adam", "lamb"):
        numbers = [
            line["hyperparameters"]
            for name, line in lines.items()
            if name.startswith(optimizer)
        ]
        assert all(each == numbers[0] for each in numbers)


def test_the_same_run_gives_the_same_line_whatever_was_run_before(
    trainer, study, rows, lines
):
    row = rows["lamb_jump"]
    again = trainer.run(row, protocol.tuning_runs(study, row)[0])
    assert {**again, "seconds": 0} == {**lines["lamb_jump"], "seconds": 0}


def test_a_run_that_diverges_counts_as_guessing(trainer, study, rows):
    row = rows["adam"]
    numbers = {
        **protocol.tuning_runs(study, row)[0].hyperparameters,
        "learning_rate": 1e30,
    }
    line = trainer.run(row, protocol.Run("adam", "tune", 9, 0, numbers))
    assert line["diverged"]
    vocab_size = study["workload"]["encoder"]["vocab_size"]
    for split in ("train", "validation", "test"):
        assert line[split] == pytest.approx(math.log(vocab_size))
    json.dumps(line, allow_nan=False)


def test_xla_changes_nothing(study, rows, lines):
    row = rows["adam"]
    compiled = Trainer(study).run(row, protocol.tuning_runs(study, row)[0])
    for one, other in zip(compiled["curve"], lines["adam"]["curve"]):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["test"] == pytest.approx(other["test"], rel=1e-4)
