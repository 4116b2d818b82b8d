"""Trains on 1, 2 and 4 devices; saves how far the variables went.

    python replicas.py OUTPUT.npz

A script, because logical devices must be made before TensorFlow starts.
"""

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from strategies import make_devices, strategy_for

import tf_largebatch.keras
import tf_largebatch.tf_keras

CONFTEST = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
FAMILIES = {
    "keras": CONFTEST["Family"](keras, tf_largebatch.keras),
    "tf_keras": CONFTEST["Family"](tf_keras, tf_largebatch.tf_keras),
}
OPTIMIZERS = CONFTEST["OPTIMIZERS"]
# How many devices, and the optimizers that are tried on so many.
DEVICES = {1: OPTIMIZERS, 2: OPTIMIZERS, 4: ["LAMB"]}
STEPS = 4
BATCH = 16
WORDS = 10

# Of heavy ball, which is not blind to the gradients' scale as LAMB nearly is.
CLIPPED = {"global_clipnorm": 0.5}


def main(output: str) -> None:
    make_devices(max(DEVICES))
    arrays = {}
    for family_name, family in FAMILIES.items():
        for count in DEVICES:
            for case, ends in cases(family, strategy_for(count)):
                for name, value in ends.items():
                    arrays[f"{family_name} {case} {count} {name}"] = value
    np.savez(output, **arrays)


def cases(
    family: Any, strategy: tf.distribute.Strategy
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Trains in several ways; yields the way's name and what it changed."""
    yield "treatments", treatments(family, strategy)
    # Eagerly, for tracing takes seconds.
    for name in DEVICES[strategy.num_replicas_in_sync]:
        yield name, custom_loop(family, strategy, name)
    if strategy.num_replicas_in_sync <= 2:
        with_function = custom_loop(
            family, strategy, "HeavyBall", wrap=tf.function, **CLIPPED
        )
        yield "clipped", with_function
    yield "fit", fit(family, strategy, "HeavyBall", **CLIPPED)


def create(family: Any, name: str, **arguments: Any) -> Any:
    """Returns an optimizer with a schedule and patterns that end in $."""
    peak = 2 * OPTIMIZERS[name]["learning_rate"]
    schedule = family.largebatch.PiecewisePolynomial(peak, 2 * STEPS, 2)
    if name in ("LARS", "LAMB"):
        arguments["exclude_from_layer_adaptation"] = ["bias$", "head/kernel$"]
    return family.optimizer(
        name,
        learning_rate=schedule,
        exclude_from_weight_decay=["bias$", "hidden/kernel$"],
        **arguments,
    )


def model_of(family: Any) -> Any:
    """Returns a model with an embedding, whose gradients are sparse."""
    family.keras.utils.set_random_seed(0)
    layers = family.keras.layers
    return family.keras.Sequential(
        [
            family.keras.Input((3,), dtype="int32"),
            layers.Embedding(WORDS, 4, name="words"),
            layers.Flatten(),
            layers.Dense(6, activation="tanh", name="hidden"),
            layers.Dense(2, name="head"),
        ]
    )


def batches() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    words = rng.integers(WORDS, size=(STEPS * BATCH, 3), dtype="int32")
    return words, rng.normal(size=(STEPS * BATCH, 2)).astype("float32")


def treatments(
    family: Any, strategy: tf.distribute.Strategy
) -> dict[str, np.ndarray]:
    """Returns what is decided of the last replica's variables, by name."""
    with strategy.scope():
        model = model_of(family)
    optimizer = create(family, "LAMB")
    optimizer.build(
        [
            strategy.experimental_local_results(native(variable))[-1]
            for variable in model.trainable_variables
        ]
    )
    return {
        "adapted": np.array([each.adapted for each in optimizer._treatments]),
        "decayed": np.array([each.decayed for each in optimizer._treatments]),
    }


def custom_loop(
    family: Any,
    strategy: tf.distribute.Strategy,
    name: str,
    wrap: Callable[[Callable], Callable] = lambda step: step,
    **arguments: Any,
) -> dict[str, np.ndarray]:
    """Trains as the Model Garden does; the optimizer sums the gradients.

    The optimizer is built in the first step, on a replica.
    """
    with strategy.scope():
        model = model_of(family)
        optimizer = create(family, name, **arguments)
    starts = model.get_weights()

    def train_step(words: tf.Tensor, targets: tf.Tensor) -> None:
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            errors = model(words, training=True) - targets
            loss = tf.reduce_mean(tf.square(errors))
            loss = loss / strategy.num_replicas_in_sync
        gradients = tape.gradient(loss, list(map(native, variables)))
        optimizer.apply_gradients(list(zip(gradients, variables)))

    @wrap
    def step(words: tf.Tensor, targets: tf.Tensor) -> None:
        strategy.run(train_step, (words, targets))

    dataset = tf.data.Dataset.from_tensor_slices(batches()).batch(BATCH)
    for batch in strategy.experimental_distribute_dataset(dataset):
        step(*batch)
    return ends_of(model, optimizer, starts)


def native(variable: Any) -> tf.Variable:
    """Returns TensorFlow's variable of either family's."""
    return variable.value if hasattr(variable, "path") else variable


def fit(
    family: Any,
    strategy: tf.distribute.Strategy,
    name: str,
    **arguments: Any,
) -> dict[str, np.ndarray]:
    with strategy.scope():
        model = model_of(family)
        optimizer = create(family, name, **arguments)
        model.compile(optimizer, loss="mse", jit_compile=False)
    starts = model.get_weights()
    model.fit(*batches(), batch_size=BATCH, shuffle=False, verbose=0)
    return ends_of(model, optimizer, starts)


def ends_of(
    model: Any, optimizer: Any, starts: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns how far the weights moved, and the slots, which started at 0."""
    moved = [end - start for end, start in zip(model.get_weights(), starts)]
    slots = [slot.numpy() for slot in optimizer.variables]
    return {
        **{f"weight {number}": value for number, value in enumerate(moved)},
        **{f"slot {number}": value for number, value in enumerate(slots)},
    }


if __name__ == "__main__":
    main(sys.argv[1])
