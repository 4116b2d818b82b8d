"""What is saved and loaded again goes on as if nothing had happened."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras


def is_head(path, shape):
    return path.endswith("head/kernel") and len(shape) == 2


for registers in keras, tf_keras:
    registers.saving.register_keras_serializable("test_saving")(is_head)

SELECTORS = {
    "biases and norms": "bias_and_norm",
    "nothing": (),
    "patterns": ("hidden/", "bias$"),
    "function": is_head,
}

each_selector = pytest.mark.parametrize("selector", SELECTORS)
keras_3_only = pytest.mark.parametrize("family", ["keras"], indirect=True)
tf_keras_only = pytest.mark.parametrize("family", ["tf_keras"], indirect=True)


@pytest.fixture
def compiled(family):
    """A function that compiles the model with a schedule and a selector."""

    def model(name, selector="patterns", seed=0, **arguments):
        selector = SELECTORS[selector]
        if name in ("LARS", "LAMB"):
            arguments["exclude_from_layer_adaptation"] = selector
        optimizer = family.optimizer(
            name,
            learning_rate=family.largebatch.PiecewisePolynomial(0.1, 6, 2.5),
            exclude_from_weight_decay=selector,
            **arguments,
        )
        return family.compiled(optimizer, seed, run_eagerly=True)

    return model


@pytest.fixture
def assert_same_state(state):
    """A function that checks two models' weights and slots, bit by bit."""

    def check(model, other):
        values, others = state(model), state(other)
        assert len(values) == len(others)
        for value, other_value in zip(values, others):
            np.testing.assert_array_equal(value, other_value)

    return check


@pytest.fixture
def assert_goes_on_alike(train, assert_same_state):
    """A function that checks two models before and after an epoch."""

    def check(model, other):
        assert_same_state(model, other)
        before = model.trainable_variables[0].numpy()
        for trained in model, other:
            train(trained, epochs=1)
        assert_same_state(model, other)
        assert np.abs(model.trainable_variables[0].numpy() - before).max() > 0

    return check


def test_a_keras_file_goes_on_to_the_same_bits(
    family, name, compiled, train, assert_goes_on_alike, tmp_path
):
    model = compiled(name)
    train(model, epochs=1)
    model.save(tmp_path / "model.keras")

    loaded = family.keras.models.load_model(tmp_path / "model.keras")

    assert type(loaded.optimizer) is type(model.optimizer)
    assert_goes_on_alike(model, loaded)


@tf_keras_only
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("selector", ["patterns", "function"])
@pytest.mark.parametrize("schedule", ["ours", "Keras's", "none"])
def test_an_h5_file_keeps_every_kind_of_rate_and_selector(
    family, selector, schedule, train, assert_same_state, tmp_path
):
    """Where tf_keras looks for classes in another way."""
    rates = {
        "ours": family.largebatch.PiecewisePolynomial(0.1, 6, 2.5),
        "Keras's": family.keras.optimizers.schedules.ExponentialDecay(
            0.1, 2, 0.9
        ),
        "none": 0.1,
    }
    optimizer = family.optimizer(
        "LARS",
        learning_rate=rates[schedule],
        exclude_from_weight_decay=SELECTORS[selector],
    )
    model = family.compiled(optimizer, run_eagerly=True)
    train(model, epochs=1)
    model.save(tmp_path / "model.h5")

    loaded = family.keras.models.load_model(tmp_path / "model.h5")

    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer._treatments == model.optimizer._treatments
    assert_same_state(model, loaded)


@each_selector
def test_a_keras_file_keeps_every_kind_of_selector(
    family, selector, compiled, train, assert_goes_on_alike, tmp_path
):
    model = compiled("LAMB", selector)
    train(model, epochs=1)
    model.save(tmp_path / "model.keras")

    loaded = family.keras.models.load_model(tmp_path / "model.keras")

    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer._treatments == model.optimizer._treatments
    assert_goes_on_alike(model, loaded)


def test_a_keras_file_keeps_slots_beside_a_rate_that_is_a_variable(
    family, train, assert_goes_on_alike, tmp_path
):
    rate = family.variable(0.2, "rate")
    optimizer = family.optimizer("LARS", learning_rate=rate)
    model = family.compiled(optimizer, run_eagerly=True)
    train(model, epochs=1)
    rate.assign(0.1)
    model.save(tmp_path / "model.keras")

    loaded = family.keras.models.load_model(tmp_path / "model.keras")

    assert_goes_on_alike(model, loaded)


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_weights_alone_load_without_the_optimizer(
    family, compiled, train, tmp_path
):
    model = compiled("LAMB")
    train(model, epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")

    bare, fresh = family.model(seed=1), compiled("LAMB", seed=1)
    for other in bare, fresh:
        other.load_weights(tmp_path / "model.weights.h5")
        for weights, loaded in zip(model.get_weights(), other.get_weights()):
            np.testing.assert_array_equal(loaded, weights)
    assert int(fresh.optimizer.iterations) == 0


def test_a_checkpoint_goes_on_to_the_same_bits(
    name, compiled, train, assert_same_state, tmp_path
):
    model, other = compiled(name), compiled(name, seed=1)
    train(model, epochs=1)
    path = checkpoint_of(model).save(str(tmp_path / "checkpoint"))
    train(model, epochs=1)

    status = checkpoint_of(other).restore(path)
    train(other, epochs=1)

    status.assert_consumed()  # The slots too, which training created.
    assert_same_state(model, other)


def checkpoint_of(model):
    """Returns what the Model Garden's trainer saves."""
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


@keras_3_only
def test_an_exported_model_predicts_the_same(family, data, train, tmp_path):
    model = family.compiled(family.optimizer("LAMB"), run_eagerly=True)
    train(model, epochs=1)

    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))

    np.testing.assert_allclose(
        exported.serve(data[0]), model(data[0]), rtol=1e-5, atol=1e-6
    )


@tf_keras_only
@pytest.mark.parametrize("selector", ["patterns", "function"])
def test_a_saved_model_keeps_weights_and_optimizer_but_no_slots(
    family, selector, compiled, train, tmp_path
):
    model = compiled("LAMB", selector)
    train(model, epochs=1)

    model.save(tmp_path / "saved_model")
    loaded = family.keras.models.load_model(tmp_path / "saved_model")

    for weights, others in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(others, weights)
    # tf_keras restores no slots, of its own optimizers neither.
    assert int(loaded.optimizer.iterations) == 0
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    train(loaded, epochs=1)
    assert loaded.optimizer._treatments == model.optimizer._treatments
