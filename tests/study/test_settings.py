"""What a row's settings mean for the learning rate of every step."""

import numpy as np
import pytest

from tf_largebatch import configs, schedules
from tf_largebatch.study import settings


def test_the_default_is_a_cosine_without_warmup():
    steps = np.arange(72)
    expected = 0.3 * 0.5 * (1 + np.cos(np.pi * steps / 72))
    found = settings.rates({}, 0.3, 72)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_cosine_with_warmup_and_a_final_rate():
    found = settings.rates(
        {"schedule": "cosine", "warmup_fraction": 0.25, "final_fraction": 0.1},
        2.0,
        40,
    )
    expected = schedules.cosine(
        np, np.arange(40), peak=2.0, total_steps=40, warmup_steps=10, final=0.2
    )
    np.testing.assert_array_equal(found, expected)
    assert found.argmax() == 10


def test_a_piecewise_polynomial_in_full():
    found = settings.rates(
        {
            "schedule": "piecewise_polynomial",
            "warmup_fraction": 0.3,
            "warmup_power": 2.0,
            "decay_power": 3.0,
            "final_fraction": 0.01,
            "decay_extra_steps": 2.0,
        },
        5.0,
        20,
    )
    steps = np.arange(20)
    warm = 5 * (steps / 6) ** 2
    decayed = 0.05 + 4.95 * (1 - (steps - 6) / 16) ** 3
    expected = np.where(steps <= 6, warm, decayed)
    np.testing.assert_allclose(found, expected, rtol=3e-6)


@pytest.mark.parametrize("discontinuous", [False, True])
def test_berts_schedule_with_and_without_its_jump(discontinuous):
    found = settings.rates(
        {
            "schedule": "bert_polynomial",
            "warmup_fraction": 0.25,
            "warmup_power": 2.0,
            "decay_power": 1.0,
            "discontinuous": discontinuous,
        },
        4.0,
        20,
    )
    steps = np.arange(20)
    decay_steps = 20 if discontinuous else 15
    decayed = 4 * (20 - steps) / decay_steps
    expected = np.where(steps < 5, 4 * (steps / 5) ** 2, decayed)
    np.testing.assert_allclose(found, expected, rtol=3e-6)
    assert found[5] == pytest.approx(3.0 if discontinuous else 4.0)


def table_settings(name):
    """Returns the settings of a row of table 2."""
    table = configs.load("tables", "table2")
    (row,) = (row for row in table["rows"] if row["name"] == name)
    return {**table["settings"], **row["settings"]}


@pytest.mark.parametrize(
    "row, peak, arguments",
    [
        (
            "nesterov_power_2",
            7.05,
            {"warmup_power": 2.0, "final": 6e-6, "decay_steps": 1806},
        ),
        ("lars_power_1", 29.0, {"final": 1e-4, "decay_steps": 1807}),
    ],
)
def test_at_the_papers_size_the_rates_are_the_papers(row, peak, arguments):
    """Table 2's fractions are those of 2,512 steps with 706 of warmup."""
    found = settings.rates(table_settings(row), peak, 2512)
    expected = schedules.piecewise_polynomial(
        np,
        np.arange(2512),
        peak=peak,
        total_steps=2512,
        warmup_steps=706,
        **arguments,
    )
    # The fraction of the warmup has five digits, those of the finals four.
    np.testing.assert_allclose(found[:2500], expected[:2500], rtol=2e-4)
    assert found[-1] == pytest.approx(expected[-1], rel=2e-2)


@pytest.mark.parametrize("schedule", settings.SCHEDULES)
def test_rates_are_proportional_to_the_peak(schedule):
    chosen = {
        "schedule": schedule,
        "warmup_fraction": 0.2,
        "final_fraction": 1e-3,
    }
    one, ten = (settings.rates(chosen, peak, 50) for peak in (0.7, 7.0))
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-6)
    assert one.shape == (50,)


def test_settings_of_the_loss_and_the_model_do_not_matter():
    plain = settings.rates({"label_smoothing": 0.1, "gamma_0": 0.0}, 1.0, 9)
    np.testing.assert_array_equal(plain, settings.rates({}, 1.0, 9))
