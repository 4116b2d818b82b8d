"""Both Keras families behind one face, so that a test is written once."""

import dataclasses
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tf_largebatch.keras
import tf_largebatch.tf_keras

# Rates at which the small model below learns within a few steps.
OPTIMIZERS = {
    "HeavyBall": {"learning_rate": 0.02, "weight_decay": 0.01},
    "Nesterov": {"learning_rate": 0.02, "weight_decay": 0.01},
    "LARS": {"learning_rate": 0.2, "trust_coefficient": 0.05},
    "Adam": {"learning_rate": 0.01, "weight_decay": 0.01},
    "LAMB": {"learning_rate": 0.02},
}


@dataclasses.dataclass(frozen=True)
class Family:
    """A Keras and this package's optimizers for it."""

    keras: ModuleType
    largebatch: ModuleType

    def optimizer(self, name: str, **arguments: Any) -> Any:
        """Returns an optimizer that learns quickly."""
        arguments = {**OPTIMIZERS[name], **arguments}
        return getattr(self.largebatch, name)(**arguments)

    def variable(self, value: Any, name: str = "kernel") -> Any:
        """Returns a variable of the kind that the family's layers have."""
        is_keras_3 = self.keras.__name__ == "keras"
        kind = self.keras.Variable if is_keras_3 else tf.Variable
        return kind(np.asarray(value, "float32"), name=name)

    def model(self, seed: int = 0) -> Any:
        """Returns a small model with biases and a norm."""
        self.keras.utils.set_random_seed(seed)
        layers = self.keras.layers
        return self.keras.Sequential(
            [
                self.keras.Input((8,)),
                layers.Dense(16, activation="relu", name="hidden"),
                layers.BatchNormalization(name="norm"),
                layers.Dense(4, name="head"),
            ]
        )

    def compiled(self, optimizer: Any, seed: int = 0, **arguments: Any) -> Any:
        """Returns the small model, compiled without XLA unless asked."""
        arguments = {"jit_compile": False, "loss": "mse", **arguments}
        model = self.model(seed)
        model.compile(optimizer=optimizer, **arguments)
        return model


@pytest.fixture(params=["keras", "tf_keras"])
def family(request: pytest.FixtureRequest) -> Family:
    largebatch = getattr(tf_largebatch, request.param)
    return Family(importlib.import_module(request.param), largebatch)


@pytest.fixture(params=OPTIMIZERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def data() -> tuple[np.ndarray, np.ndarray]:
    """A batch of 64 examples that a linear model nearly fits."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype("float32")
    noise = rng.normal(size=(64, 4)).astype("float32")
    return x, np.tanh(x[:, :4] * 2) + 0.1 * noise


@pytest.fixture(scope="session")
def train(data: tuple[np.ndarray, np.ndarray]) -> Any:
    """A function that fits a model and returns the losses by epoch."""

    def fit(model: Any, epochs: int = 2) -> list[float]:
        history = model.fit(
            *data, batch_size=32, epochs=epochs, shuffle=False, verbose=0
        )
        return history.history["loss"]

    return fit


@pytest.fixture(scope="session")
def state() -> Any:
    """A function that returns all values of a model and its optimizer."""

    def values(model: Any) -> list[np.ndarray]:
        slots: Sequence[Any] = model.optimizer.variables
        return [*model.get_weights(), *(slot.numpy() for slot in slots)]

    return values
