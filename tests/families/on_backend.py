"""Runs the optimizers on the Keras 3 backend in use; saves where they end.

KERAS_BACKEND=jax python on_backend.py OUTPUT.npz
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_largebatch import keras as largebatch

STEPS = 24
PURE: dict[str, Any] = {
    "exclude_from_layer_adaptation": (),
    "exclude_from_weight_decay": (),
}
CASES: dict[str, dict[str, Any]] = {
    "HeavyBall": {"learning_rate": 0.1, "weight_decay": 0.05},
    "Nesterov": {"learning_rate": 0.1, "weight_decay": 0.05},
    "Nesterov inside": {
        "learning_rate": 0.1,
        "learning_rate_in_momentum": True,
    },
    "LARS": {"learning_rate": 0.5, "trust_coefficient": 0.1},
    "LARS pure": {"learning_rate": 0.5, "trust_coefficient": 0.1, **PURE},
    "LARS outside": {"learning_rate": 0.5, "variant": "model_garden_outside"},
    "Adam": {"learning_rate": 0.1, "beta_2": 0.99, "weight_decay": 0.05},
    "LAMB": {"learning_rate": 0.1, "beta_2": 0.99},
    "LAMB pure": {"learning_rate": 0.1, "variant": "flax", **PURE},
    "LAMB outside": {"learning_rate": 0.1, "variant": "keras"},
}
SHAPES = {
    "kernel": (4, 3),
    "bias": (3,),
    "gamma": (5,),
    "temperature": (),
    "filters": (3, 3, 2, 2),
}


def main(output: str) -> None:
    arrays = ends()
    for name in "HeavyBall", "Nesterov", "LARS", "Adam", "LAMB":
        arrays[f"losses of {name}"] = np.array(losses(name))
    for name in "learning_rate", "momentum":
        arrays |= gone_on_and_loaded(name)
    arrays |= slots_saved_and_loaded() | accumulated_and_averaged()
    arrays |= decided_before_saving() | refused() | small_in_16_bits()
    fit_nothing()
    np.savez(output, **arrays)


def ends() -> dict[str, np.ndarray]:
    """Returns where each variable ends, by case and variable."""
    return {
        f"{case}: {name}": value
        for case in CASES
        for name, value in end_of(case).items()
    }


def starts() -> dict[str, np.ndarray]:
    """Returns where each variable starts; the bias at zero."""
    rng = np.random.default_rng(1)
    values = {
        name: rng.normal(size=shape).astype("float32")
        for name, shape in SHAPES.items()
    }
    return {**values, "bias": np.zeros(SHAPES["bias"], "float32")}


def end_of(case: str) -> dict[str, np.ndarray]:
    """Returns where each variable ends, on given gradients."""
    arguments = dict(CASES[case])
    schedule = largebatch.PiecewisePolynomial(
        arguments.pop("learning_rate"), STEPS + 1, 5.5
    )
    optimizer = getattr(largebatch, case.split()[0])(schedule, **arguments)
    variables = [
        keras.Variable(value, name=name) for name, value in starts().items()
    ]
    rng = np.random.default_rng(2)
    for _ in range(STEPS):
        gradients = [
            keras.ops.array(rng.normal(size=shape), dtype="float32")
            for shape in SHAPES.values()
        ]
        optimizer.apply(gradients, variables)
    return {
        name: keras.ops.convert_to_numpy(variable)
        for name, variable in zip(SHAPES, variables)
    }


def compiled(optimizer: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(4, name="head"),
        ]
    )
    model.compile(optimizer, loss="mse")
    return model


def fit(model: Any, epochs: int = 1) -> list[float]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(64, 8)).astype("float32")
    history = model.fit(
        inputs,
        np.tanh(2 * inputs[:, :4]),
        batch_size=32,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    )
    return history.history["loss"]


def losses(name: str) -> list[float]:
    """Returns the loss of each epoch of a compiled model."""
    rates = {"HeavyBall": 0.05, "Nesterov": 0.05, "LARS": 2.0}
    optimizer = getattr(largebatch, name)(rates.get(name, 0.02))
    return fit(compiled(optimizer), epochs=4)


def gone_on_and_loaded(name: str) -> dict[str, np.ndarray]:
    """Changes one hyperparameter after an epoch, saves, goes on both ways.

    A step that was compiled with the old value for a constant would go on
    otherwise than the model that is loaded, which is compiled anew.
    """
    first, later = {"learning_rate": (0.05, 0.02), "momentum": (0.9, 0.5)}[name]
    given = variables(**{name: first})
    model = compiled(largebatch.HeavyBall(**{"learning_rate": 0.05, **given}))
    fit(model)
    given[name].assign(later)
    saved = all_weights(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.models.load_model(Path(folder) / "model.keras")
    fit(model)
    fit(loaded)
    return {
        f"{name} saved": saved,
        f"{name} gone on": all_weights(model),
        f"{name} loaded": all_weights(loaded),
    }


def variables(**values: float) -> dict[str, keras.Variable]:
    return {
        name: keras.Variable(value, trainable=False, name=name)
        for name, value in values.items()
    }


def slots_saved_and_loaded() -> dict[str, np.ndarray]:
    """Saves an optimizer with variables; loads it into another with some."""
    first = compiled(largebatch.Adam(**variables(beta_1=0.5, epsilon=0.1)))
    second = compiled(largebatch.Adam(**variables(beta_1=0.7, epsilon=0.2)))
    fit(first)
    second.optimizer.build(second.trainable_variables)
    with tempfile.TemporaryDirectory() as folder:
        first.save_weights(Path(folder) / "model.weights.h5")
        second.load_weights(Path(folder) / "model.weights.h5")
    return {
        "slots saved": all_slots(first.optimizer),
        "slots loaded": all_slots(second.optimizer),
        "hyperparameters": np.array(
            [float(second.optimizer.beta_1), float(second.optimizer.epsilon)]
        ),
    }


def accumulated_and_averaged() -> dict[str, np.ndarray]:
    """Steps by two micro-batches each, and by their mean."""
    optimizers = [
        largebatch.Nesterov(
            largebatch.PiecewisePolynomial(0.5, 5, 2),
            gradient_accumulation_steps=steps,
            **variables(momentum=0.5),
        )
        for steps in (2, None)
    ]
    accumulated, averaged = (
        [keras.Variable(starts()["kernel"], name="kernel")] for _ in range(2)
    )
    rng = np.random.default_rng(3)
    for _ in range(3):
        gradients = [
            keras.ops.array(rng.normal(size=SHAPES["kernel"]), "float32")
            for _ in range(2)
        ]
        for gradient in gradients:
            optimizers[0].apply([gradient], accumulated)
        optimizers[1].apply([sum(gradients) / 2], averaged)
    return {
        "accumulated": keras.ops.convert_to_numpy(accumulated[0]),
        "averaged": keras.ops.convert_to_numpy(averaged[0]),
    }


def decided_before_saving() -> dict[str, np.ndarray]:
    """Returns what decays, before a model is saved in two formats and after."""
    optimizer = largebatch.LAMB(
        0.01, exclude_from_weight_decay=["^sequential.*/hidden/kernel"]
    )
    loss = keras.losses.MeanSquaredError()
    model = compiled(optimizer)
    model.compile(optimizer, loss)
    fit(model)
    found = {"decided": decays(model)}
    for ending in ("keras", "h5"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model.{ending}"
            model.save(path)
            loaded = keras.models.load_model(path)
        fit(loaded)
        found[f"decided {ending}"] = decays(loaded)
    return found


def decays(model: Any) -> np.ndarray:
    return np.array([each.decayed for each in model.optimizer._treatments])


def refused() -> dict[str, np.ndarray]:
    """Returns what is said to a complex variable and a short gradient."""
    z = keras.Variable(np.ones(2, "complex64"), dtype="complex64", name="z")
    w = keras.Variable(np.ones((2, 3), "float32"), name="w")
    said = {}
    for name, variable, gradient in (
        ("complex", z, np.ones(2, "complex64")),
        ("short", w, np.ones(3, "float32")),
    ):
        try:
            gradient = keras.ops.convert_to_tensor(gradient)
            largebatch.LARS(0.1).apply([gradient], [variable])
        except ValueError as error:
            said[name] = np.array(str(error))
    return said


def small_in_16_bits() -> dict[str, np.ndarray]:
    """Returns where Adam moves a variable of 16 bits by small gradients."""
    w = keras.Variable(np.zeros(2, "float32"), dtype="float16", name="w")
    optimizer = largebatch.Adam(1e-3)
    optimizer.build([w])
    for _ in range(100):
        gradient = keras.ops.full((2,), 1e-4, dtype="float16")
        optimizer.apply([gradient], [w])
    end = keras.ops.cast(w, "float32")
    return {"16 bits": keras.ops.convert_to_numpy(end)}


def fit_nothing() -> None:
    """Fits a model of which nothing is trained."""
    model = compiled(largebatch.HeavyBall(0.1))
    model.trainable = False
    model.compile(largebatch.HeavyBall(0.1), loss="mse")
    fit(model)


def all_slots(optimizer: Any) -> np.ndarray:
    slots = sum(optimizer._slots, [])
    return np.concatenate(
        [keras.ops.convert_to_numpy(slot).ravel() for slot in slots]
    )


def all_weights(model: Any) -> np.ndarray:
    return np.concatenate([weights.ravel() for weights in model.get_weights()])


if __name__ == "__main__":
    main(sys.argv[1])
