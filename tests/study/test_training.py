"""One compiled program trains many runs, as a plain loop would each."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import keras as largebatch
from tf_largebatch.study import protocol
from tf_largebatch.study.training import Trainer

STEPS = 12


@pytest.fixture(scope="module")
def study():
    return protocol.create(
        "table4", "digits_resnet", trials=2, seeds=2, steps=STEPS
    )


@pytest.fixture(scope="module")
def trainer(study):
    return Trainer(study)


@pytest.fixture(scope="module")
def row(study):
    """Adam with epsilon 1e-8; the row with 1e-6 is of the same kind."""
    return study["table"]["rows"][3]


@pytest.fixture(scope="module")
def runs(study, row):
    return protocol.tuning_runs(study, row)


@pytest.fixture(scope="module")
def line(trainer, row, runs):
    return trainer.run(row, runs[0])


def test_a_line_is_json_and_says_what_was_run(line, runs):
    again = json.loads(json.dumps(line, allow_nan=False))
    assert again == line
    assert line["hyperparameters"] == runs[0].hyperparameters
    assert [point["step"] for point in line["curve"]] == list(range(1, 13))
    assert line["validation"] == line["curve"][-1]["validation"]
    assert (line["steps"], line["diverged"]) == (STEPS, False)


def test_a_run_does_what_a_plain_loop_does(trainer, row, runs, line):
    """The same steps with constants for variables, eagerly."""
    numbers, workload = runs[0].hyperparameters, trainer.workload
    model = workload.build_model(runs[0].seed, numbers)
    optimizer = largebatch.Adam(
        largebatch.Cosine(numbers["learning_rate"], STEPS),
        epsilon=1e-8,
        weight_decay=numbers["weight_decay"],
    )
    images, labels = workload.splits["train"]
    losses = []
    for batch in workload.order(runs[0].seed, STEPS):
        with tf.GradientTape() as tape:
            examples = tf.gather(images, batch), tf.gather(labels, batch)
            loss = workload.loss(model, examples, {"label_smoothing": 0.1})
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply_gradients(zip(gradients, variables))
        losses.append(float(loss))

    # Rounding grows from step to step; a wrong rate would be off by parts.
    found = [point["loss"] for point in line["curve"]]
    np.testing.assert_allclose(found[:6], losses[:6], rtol=2e-4)
    np.testing.assert_allclose(found, losses, rtol=2e-2)
    accuracy, _ = workload.measure(model, workload.splits["test"])
    assert line["test"] == pytest.approx(float(accuracy), abs=0.02)


def test_a_program_is_traced_once_for_all_runs_of_a_kind(
    trainer, study, row, runs, line
):
    other = study["table"]["rows"][4]
    assert other["optimizer"] == {"class": "Adam", "epsilon": 1e-6}
    program = trainer.program(row, runs[0])
    trainer.run(row, runs[1])
    trainer.run(other, protocol.tuning_runs(study, other)[0])

    assert trainer.program(other, runs[0]) is program
    assert program.train.experimental_get_tracing_count() == 1
    assert trainer.measure.experimental_get_tracing_count() <= 3  # A split.
    assert list(trainer.programs.values()) == [program]


def test_the_same_run_gives_the_same_line_whatever_was_run_before(
    trainer, row, runs, line
):
    trainer.run(row, runs[1])
    again = trainer.run(row, runs[0])
    assert {**again, "seconds": 0} == {**line, "seconds": 0}


def test_a_run_that_diverges_ends_early_and_counts(trainer, row, runs):
    numbers = {**runs[0].hyperparameters, "learning_rate": 1e30}
    run = protocol.Run(row["name"], "tune", 9, 0, numbers)
    line = trainer.run(row, run)
    assert line["diverged"]
    assert line["steps"] < STEPS
    assert line["curve"][-1]["loss"] is None
    assert line["steps_to_target"] is None
    for name in ("validation", "test", "train"):
        assert line[name] is None
    json.dumps(line, allow_nan=False)


def test_kinds_differ_by_class_selectors_and_variant(trainer, study):
    rows = study["table"]["rows"]
    run = {row["name"]: protocol.tuning_runs(study, row)[0] for row in rows}
    kinds = {
        id(trainer.program(row, run[row["name"]])): row["name"] for row in rows
    }
    # Nesterov, LARS with and without fallback, Adam, pure LAMB, LAMB.
    assert len(kinds) == 6


def test_a_hopeless_run_stops_where_it_is_told(trainer, row, runs, line):
    def is_hopeless(step, value):
        asked.append((step, value))
        return step == 3

    asked = []
    stopped = trainer.run(row, runs[0], is_hopeless)
    assert stopped["curve"] == line["curve"][:3]
    assert (stopped["steps"], stopped["diverged"]) == (3, False)
    assert asked == [(x["step"], x["validation"]) for x in line["curve"][:3]]


def test_a_run_is_not_asked_whether_to_stop_at_its_end(trainer, row, runs):
    asked = []
    trainer.run(row, runs[0], lambda step, value: asked.append(step))
    assert asked == list(range(1, STEPS))


def chosen(row, run, **values):
    """Returns the run with other values of a search space's choices."""
    numbers = {**run.hyperparameters, **values}
    return protocol.Run(row["name"], "tune", 0, run.seed, numbers)


def test_a_flag_that_is_chosen_is_part_of_the_program(trainer, row, runs, line):
    for value in (True, False):
        run = chosen(row, runs[0], bias_correction=value)
        program = trainer.program(row, run)
        assert program.optimizer.get_config()["bias_correction"] is value
        assert "bias_correction" not in program.hyperparameters
    found = trainer.run(row, run)
    assert found["curve"] != line["curve"]  # Adam's own value is True.
    assert found["hyperparameters"]["bias_correction"] is False


def test_a_word_that_is_chosen_is_part_of_the_program(trainer, study):
    row = study["table"]["rows"][1]
    run = protocol.tuning_runs(study, row)[0]
    for variant in ("mlperf", "optax"):
        program = trainer.program(row, chosen(row, run, variant=variant))
        assert program.optimizer.get_config()["variant"] == variant
        assert "variant" not in program.hyperparameters
