"""One problem that this package and every peer solves, and the distance."""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tf_largebatch.keras
import tf_largebatch.tf_keras

STEPS = 25
# Distances to the peer's variable, in units of the way it has gone so far.
SAME, APART = 3e-5, 1e-3

Arrays = Mapping[str, np.ndarray]  # By path; the first axis may be the step.


@dataclasses.dataclass(frozen=True)
class Family:
    """A Keras, and this package's optimizers for it."""

    keras: ModuleType
    largebatch: ModuleType

    def variable(self, path: str, value: np.ndarray) -> Any:
        """Returns a variable of the kind and the name that layers have."""
        if self.keras.__name__ != "keras":
            return tf.Variable(value, name=path)
        scope, name = path.split("/")
        with self.keras.name_scope(scope):
            return self.keras.Variable(value, name=name)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Start weights, and the gradients and the rate of every step."""

    start: Arrays
    gradients: Arrays
    rates: np.ndarray

    def trajectory(
        self, family: Family, optimizer: Any, **settings: Sequence[float]
    ) -> Arrays:
        """Returns the weights after every step of a Keras optimizer.

        Args:
            family: whose variables the optimizer takes.
            optimizer: this package's or the peer's; its rate is overwritten.
            settings: the values of further hyperparameters, by step.
        """
        settings = {"learning_rate": self.rates, **settings}
        variables = {
            path: family.variable(path, value)
            for path, value in self.start.items()
        }
        weights = []
        for step in range(len(self.rates)):
            for name, values in settings.items():
                setattr(optimizer, name, float(values[step]))
            optimizer.apply_gradients(
                [
                    (tf.constant(self.gradients[path][step]), variable)
                    for path, variable in variables.items()
                ]
            )
            weights.append([v.numpy() for v in variables.values()])
        return dict(zip(variables, map(np.stack, zip(*weights))))

    def apart(self, trajectory: Arrays, peer: Arrays) -> set[str]:
        """Returns the variables that go another way than the peer's.

        Asserts that the others take the peer's every step.
        """
        assert trajectory.keys() == peer.keys() == self.start.keys()
        distances = {
            path: worst_distance(trajectory[path], peer[path], start)
            for path, start in self.start.items()
        }
        apart = {path for path, d in distances.items() if d > APART}
        near = {path: distances[path] for path in distances.keys() - apart}
        assert all(distance <= SAME for distance in near.values()), near
        return apart


def worst_distance(
    trajectory: np.ndarray, peer: np.ndarray, start: np.ndarray
) -> float:
    """Returns the distance to the peer at the worst step.

    In units of the way that the peer has gone by then; infinite where it has
    not moved.
    """
    distance = norms(trajectory - peer)
    moved = norms(np.diff(peer, axis=0, prepend=start[np.newaxis])).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.max(np.where(distance == 0, 0, distance / moved))


def norms(steps: np.ndarray) -> np.ndarray:
    """Returns the L2 norm at each step, in float64."""
    flat = steps.reshape(len(steps), -1).astype("float64")
    return np.linalg.norm(flat, axis=1)


@pytest.fixture(scope="session")
def families() -> dict[str, Family]:
    return {
        name: Family(
            importlib.import_module(name), getattr(tf_largebatch, name)
        )
        for name in ("keras", "tf_keras")
    }


@pytest.fixture(params=["keras", "tf_keras"])
def family(request: Any, families: dict[str, Family]) -> Family:
    return families[request.param]


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Ranks 0 to 4, starts at zero, a rate that changes at every step.

    The gradients drift, with noise, in units of their own for each variable;
    the table's are zero for five steps.
    """
    rng = np.random.default_rng(2102)
    start = {
        "conv/kernel": rng.normal(size=(3, 3, 2, 4)),
        "table/embeddings": rng.normal(size=(3, 2, 5)),
        "dense/kernel": rng.normal(size=(6, 5)),
        "dense/bias": np.zeros(5),
        "norm/gamma": np.ones(7),
        "head/kernel": np.zeros((5, 4)),
        "head/temperature": np.array(1.5),
    }
    gradients = {
        path: unit
        * (rng.normal(size=w.shape) + rng.normal(size=(STEPS, *w.shape)))
        for unit, (path, w) in zip(np.geomspace(3, 0.01, 7), start.items())
    }
    gradients["table/embeddings"][:5] = 0
    return Problem(
        {path: w.astype("float32") for path, w in start.items()},
        {path: g.astype("float32") for path, g in gradients.items()},
        rng.uniform(0.01, 0.1, STEPS).astype("float32"),
    )
