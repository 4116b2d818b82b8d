"""What the trainer adds to a step, measured on a network that is tiny."""

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch.bench import train
from tf_largebatch.errors import UserError
from tf_largebatch.garden.train import precision

TINY = {"image_size": 32, "depth": 10, "width_multiplier": 1 / 16}
CLOCKS = ("wall", "cpu")


@pytest.fixture(scope="module")
def figures():
    return train.measure(2, batch=8, steps=1, **TINY)


def is_ordered(numbers):
    return numbers["q1"] <= numbers["median"] <= numbers["q3"]


def test_both_ways_have_seconds_and_the_trainer_has_an_overhead(figures):
    assert figures["network"] == "ResNet-10"
    assert (figures["batch"], figures["steps"], figures["repeats"]) == (8, 1, 2)
    assert {"tensorflow", "tf_keras"} <= set(figures["versions"])
    assert list(figures["seconds"]) == [train.TRAINER, train.BARE]
    for clock in CLOCKS:
        assert is_ordered(figures["overhead"][clock])
        for times in figures["seconds"].values():
            assert times[clock]["min"] > 0 and is_ordered(times[clock])


def test_a_step_is_one_program_and_reads_no_variable(figures):
    step, loop = figures["host"]["step"], figures["host"]["loop"]
    assert (step["programs"], step["variables"]) == (1, 0)
    assert loop["programs"] == 0
    # The global step before and after, and what the figures are taken from.
    assert 2 <= loop["variables"] <= loop["tensors"]


def test_the_table_and_the_bars_say_what_was_found(figures):
    text = train.table(figures)
    assert text.startswith("ResNet-10 in float32, 8 pictures of 32 x 32")
    assert text.count("trainer adds, in percent") == len(CLOCKS)
    assert max(map(len, text.splitlines()[1:])) <= 80
    bars = train.bars(figures)
    assert [bar["ours"] for bar in bars] == [True, False]
    for bar in bars:
        assert 0 < bar["low"] <= bar["value"] <= bar["high"]


def test_the_bare_step_does_what_the_trainers_does():
    """From the same state, all variables are the same two steps later."""
    config = train.settings(
        8,
        TINY["image_size"],
        TINY["depth"],
        TINY["width_multiplier"],
        "float32",
    )
    with precision(config.runtime):
        bench = train.Bench(config)
    model, optimizer = bench.trainer.model, bench.trainer.optimizer
    start = model.get_weights()
    ends = []
    for way in (bench.by_trainer, bench.bare):
        model.set_weights(start)
        for variable in optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        way(2)
        ends.append(model.get_weights())
    for before, one, other in zip(start, *ends):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
        assert (one != before).any() or not before.any()


def test_the_overhead_is_of_the_same_round():
    def rounds(*seconds):
        return [{"wall": each, "cpu": 2 * each} for each in seconds]

    found = train.describe(
        {
            train.TRAINER: rounds(1.1, 2.1, 4.0),
            train.BARE: rounds(1.0, 2.0, 4.0),
        }
    )
    assert found["seconds"][train.BARE]["wall"]["median"] == 2.0
    assert found["seconds"][train.TRAINER]["cpu"]["median"] == 4.2
    for clock in CLOCKS:
        assert found["overhead"][clock]["median"] == pytest.approx(5.0)


def test_a_network_that_there_is_not_is_an_error():
    with pytest.raises(UserError, match="model_id is 17") as error:
        train.measure(1, batch=8, **{**TINY, "depth": 17})
    assert "\n" not in str(error.value)
