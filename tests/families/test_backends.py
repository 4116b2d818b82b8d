"""JAX and torch compute what TensorFlow computes."""

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = "on_backend.py"
ON_TENSORFLOW = runpy.run_path(str(Path(__file__).with_name(SCRIPT)))


def needs(package):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} is not installed",
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("jax", marks=needs("jax")),
        pytest.param("torch", marks=[needs("torch"), pytest.mark.slow]),
    ],
)
def on_backend(request, run_script):
    return run_script(f"families/{SCRIPT}", KERAS_BACKEND=request.param)


@pytest.fixture(scope="module")
def on_tensorflow():
    return ON_TENSORFLOW["ends"]()


@pytest.mark.parametrize("case", ON_TENSORFLOW["CASES"])
def test_the_same_gradients_lead_to_the_same_place(
    case, on_backend, on_tensorflow
):
    for variable, start in ON_TENSORFLOW["starts"]().items():
        end = on_tensorflow[f"{case}: {variable}"]
        distance = np.linalg.norm(end - start)
        error = np.linalg.norm(on_backend[f"{case}: {variable}"] - end)
        assert error <= 3e-6 * distance, variable


def test_fit_lowers_the_loss(name, on_backend):
    losses = on_backend[f"losses of {name}"]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("hyperparameter", ["learning_rate", "momentum"])
def test_a_compiled_step_and_a_file_take_a_changed_hyperparameter(
    hyperparameter, on_backend
):
    saved, gone_on, loaded = (
        on_backend[f"{hyperparameter} {state}"]
        for state in ("saved", "gone on", "loaded")
    )
    np.testing.assert_array_equal(loaded, gone_on)
    assert np.abs(gone_on - saved).max() > 1e-3


def test_slots_load_beside_hyperparameters_that_are_variables(on_backend):
    saved = on_backend["slots saved"]
    np.testing.assert_array_equal(on_backend["slots loaded"], saved)
    assert np.abs(saved).max() > 0
    np.testing.assert_allclose(on_backend["hyperparameters"], [0.7, 0.2])


def test_accumulated_gradients_equal_one_step_of_their_mean(on_backend):
    averaged = on_backend["averaged"]
    distance = np.linalg.norm(averaged - ON_TENSORFLOW["starts"]()["kernel"])
    error = np.linalg.norm(on_backend["accumulated"] - averaged)
    assert error <= 1e-6 * distance


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_what_was_decided_holds_after_loading(ending, on_backend):
    assert on_backend["decided"].tolist() == [False, True, True, True]
    np.testing.assert_array_equal(
        on_backend[f"decided {ending}"], on_backend["decided"]
    )


def test_what_no_rule_computes_with_is_refused(on_backend):
    assert "the variable z must be of a floating" in str(on_backend["complex"])
    assert "the gradient of w must be real and of" in str(on_backend["short"])


def test_small_gradients_count_in_16_bits(on_backend):
    np.testing.assert_allclose(on_backend["16 bits"], -0.1, rtol=0.01)
