"""Training on 2 and 4 replicas is training on one device."""

import numpy as np
import pytest

WAYS = ["HeavyBall", "Nesterov", "LARS", "Adam", "LAMB", "clipped", "fit"]
WAYS_ON_FOUR = ["LAMB", "fit"]


@pytest.fixture(scope="module")
def changes(run_script):
    """A function that returns what changed, in a way of `replicas.py`."""
    arrays = run_script("families/replicas.py")

    def of(family, way, devices):
        prefix = f"{family.keras.__name__} {way} {devices} "
        return {
            key.removeprefix(prefix): value
            for key, value in arrays.items()
            if key.startswith(prefix)
        }

    return of


@pytest.mark.parametrize(
    "way, devices",
    [(way, 2) for way in WAYS] + [(way, 4) for way in WAYS_ON_FOUR],
)
def test_replicas_equal_one_device(family, way, devices, changes):
    expected = changes(family, way, 1)
    found = changes(family, way, devices)

    assert found.keys() == expected.keys()
    assert found.pop("slot 0") == expected.pop("slot 0") == 4  # Iterations.
    for key, change in expected.items():
        distance = np.linalg.norm(change)
        assert distance > 0
        assert np.linalg.norm(found[key] - change) <= 1e-5 * distance, key


@pytest.mark.parametrize("devices", [2, 4])
def test_selectors_take_every_replicas_variables_alike(
    family, devices, changes
):
    expected = {
        "adapted": [True, True, False, False, False],
        "decayed": [True, False, False, True, False],
    }
    found = changes(family, "treatments", devices)
    assert {key: list(value) for key, value in found.items()} == expected
