"""The trainer: the same step on any number of devices, and exact figures."""

import numpy as np
import pytest

from tf_largebatch.errors import UserError
from tf_largebatch.garden.trainer import cut

ULP = 2.0**-23  # One unit in the last place of a float32, relative.


each_way = pytest.mark.parametrize(
    "optimizer, way",
    [
        *(("lars", way) for way in ("1x4", "2x1")),
        *(
            pytest.param("nesterov", way, marks=pytest.mark.slow)
            for way in ("2x2", "4x1")
        ),
    ],
)


@each_way
def test_devices_and_micro_batches_make_no_difference(optimizer, way, devices):
    """5 steps end at the same parameters and moving statistics.

    What rounding leaves can lift an activation over 0 in one way of adding
    up and not in another, and a gradient jumps there. So there are three
    runs, on other data, and it is enough that one is free of that.
    """
    distances = []
    arrays = devices(optimizer)
    for seed in range(3):
        found = values(arrays, f"{way} {seed} end ")
        expected = values(arrays, f"1x1 {seed} end ")
        moved = values(arrays, f"1x1 {seed} moved ")
        assert found.keys() == expected.keys() == moved.keys()
        distances.append(
            max(
                relative(found[key] - expected[key], moved[key], expected[key])
                for key in expected
            )
        )
    assert min(distances) <= 1, distances


def relative(error, moved, value):
    """Returns an error over what is allowed."""
    norm = np.linalg.norm
    assert norm(moved) > 0
    return norm(error) / (1e-5 * norm(moved) + ULP * norm(value))


def values(arrays, prefix):
    return {
        key.removeprefix(prefix): value
        for key, value in arrays.items()
        if key.startswith(prefix)
    }


@each_way
def test_figures_of_training_are_those_of_the_global_batch(
    optimizer, way, devices
):
    arrays = devices(optimizer)
    for seed in range(3):
        found = values(arrays, f"{way} {seed} ")
        expected = values(arrays, f"1x1 {seed} ")
        assert found["accuracy"] == pytest.approx(
            expected["accuracy"], abs=2 / (5 * 256)
        )
        assert found["training_loss"] == pytest.approx(
            expected["training_loss"], rel=1e-4
        )
        assert found["learning_rate"] == expected["learning_rate"]


@pytest.mark.parametrize(
    "way, examples", [("few 2", 10), ("validation 1", 50), ("validation 4", 50)]
)
def test_each_example_counts_once(way, examples, devices):
    """10 at batch 4 on 2 replicas; 50 at batch 64, and at 10 on 4."""
    found = values(devices("lars"), f"{way} ")
    logits, labels = found["logits"].astype("float64"), found["labels"]
    assert found["examples"] == len(labels) == examples
    ranks = np.argsort(-logits, 1) == labels[:, None]
    assert found["accuracy"] == np.float32(np.mean(ranks[:, 0]))
    assert found["top_5_accuracy"] == np.float32(np.mean(ranks[:, :5].any(1)))
    losses = np.log(np.sum(np.exp(logits), 1)) - logits[range(examples), labels]
    assert found["validation_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.fixture(scope="module")
def skipping(run_script, pictures):
    """What `skipping.py` finds on 1 and 2 devices."""
    return run_script("garden/skipping.py", PICTURES=str(pictures))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["1x1", "2x2"])
def test_a_step_that_is_skipped_leaves_everything_as_it_was(way, skipping):
    """Weights, statistics and slots end as if its data had not been there."""
    found = skipping
    assert found[f"{way} left out skipped"] == 0
    assert found[f"{way} broken skipped"] == 1
    assert found[f"{way} broken updates"] == found[f"{way} left out updates"]
    expected = values(found, f"{way} left out end ")
    ends = values(found, f"{way} broken end ")
    assert ends.keys() == expected.keys() and len(ends) > 100
    for key, end in expected.items():
        assert np.isfinite(end).all()
        np.testing.assert_array_equal(ends[key], end, err_msg=key)


@pytest.mark.parametrize(
    "global_batch, replicas, micro_batch, multiple, expected",
    [
        (32768, 512, 0, 64, (64, 1)),
        (32768, 8, 64, 64, (64, 64)),
        (32768, 1, 256, 64, (256, 128)),
        (512, 1, 0, 64, (512, 1)),
    ],
)
def test_a_batch_is_cut(
    global_batch, replicas, micro_batch, multiple, expected
):
    assert cut(global_batch, replicas, micro_batch, multiple) == expected


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((100, 8, 0, 1), "global_batch_size is 100.* 8 replicas"),
        ((0, 1, 0, 64), "global_batch_size is 0"),
        ((512, 2, 96, 32), "micro_batch_size is 96.* 32, 64, 128, 256$"),
        ((512, 2, 32, 64), "micro_batch_size is 32.* 64, 128, 256$"),
        ((512, 1, 1024, 64), "micro_batch_size is 1024.* the 512 examples"),
        ((96, 2, 0, 64), "virtual_batch_size, which is 64; change one"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_an_error(arguments, words):
    with pytest.raises(UserError, match=words) as error:
        cut(*arguments)
    assert "\n" not in str(error.value)
