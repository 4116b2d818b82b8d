"""Small real workloads that need no download.

A workload is a YAML file in ``official_configs/workloads`` and the module of
the same name here, which has a subclass of :class:`Workload` called ``Task``.
Other packages may add some: see :mod:`tf_largebatch.plugins`.
"""

import abc
import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_largebatch import plugins
from tf_largebatch.errors import UserError

# Tensors or arrays in any structure, an example an element of the first axis.
Examples = Any
Settings = Mapping[str, Any]
NAMES = ("digits_resnet", "tiny_bert")
# So many initial states are kept, each as large as the model: rows share their
# seeds, so that with more of them every run builds its model anew.
KEPT = 16


class Workload(abc.ABC):
    """Data, model, loss and metric of one workload, on TensorFlow.

    Args:
        config: content of the workload's YAML file.

    Attributes:
        family: whose models it trains: ``keras`` or ``tf_keras``.
        initial_settings: names of the settings that decide how a model
            begins; :meth:`build_model` takes them.
        loss_settings: names of the settings that decide what training
            minimises; :meth:`loss` takes them.
        jit_compile: whether XLA compiles a training step.
        splits: the examples by split.
        measured: the same, or fewer of them, to measure a model by.
    """

    family: ClassVar[str]
    initial_settings: ClassVar[Sequence[str]] = ()
    loss_settings: ClassVar[Sequence[str]] = ()
    jit_compile: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any]):
        self.config = config
        self.batch: int = config["batch"]
        self.evaluations: int = config["evaluations"]
        self.splits: dict[str, Examples] = {
            name: tf.nest.map_structure(tf.constant, examples)
            for name, examples in self.data().items()
        }
        self.measured = self.splits

    @abc.abstractmethod
    def data(self) -> dict[str, Examples]:
        """Returns ``train``, ``validation`` and ``test``, always the same."""

    @abc.abstractmethod
    def build_model(self, seed: int, settings: Settings) -> Any:
        """Returns a new model.

        Args:
            seed: of its initial weights.
            settings: the ``initial_settings`` and perhaps others.
        """

    @abc.abstractmethod
    def loss(self, model: Any, examples: Examples, settings: Settings) -> Any:
        """Returns the mean loss of a batch, a scalar, as training has it.

        Args:
            model: what learns.
            examples: the batch.
            settings: the ``loss_settings``.
        """

    @abc.abstractmethod
    def measure(self, model: Any, examples: Examples) -> tuple[Any, Any]:
        """Returns the metric and the mean loss, scalars, without training.

        Of a split whose loss is NaN a run has no metric, and counts with the
        worst there is.
        """

    def trained_variables(self, model: Any) -> list[Any]:
        """Returns the variables that the loss reaches."""
        return model.trainable_variables

    def start(self, model: Any, seed: int, settings: Settings) -> None:
        """Puts a model where a run begins; see `build_model`."""
        model.set_weights(self.initial_weights(seed, settings))

    def initial_weights(
        self, seed: int, settings: Settings
    ) -> list[np.ndarray]:
        """Returns the weights that a new model has; see `build_model`."""
        chosen = [(name, settings[name]) for name in self.initial_settings]
        return self._initial_weights(seed, tuple(chosen))

    @functools.lru_cache(KEPT)  # noqa: B019 (a process has one workload)
    def _initial_weights(self, seed: int, settings: tuple) -> list[np.ndarray]:
        return self.build_model(seed, dict(settings)).get_weights()

    def order(self, seed: int, steps: int) -> np.ndarray:
        """Returns the examples of every batch, int32 of (steps, batch).

        Every epoch is shuffled anew; batches run on across its end.
        """
        examples = len(tf.nest.flatten(self.splits["train"])[0])
        epochs = -(-steps * self.batch // examples)
        shuffler = np.random.default_rng(seed)
        order = [shuffler.permutation(examples) for _ in range(epochs)]
        batches = np.concatenate(order)[: steps * self.batch]
        return batches.reshape(steps, self.batch).astype(np.int32)


def load(config: Mapping[str, Any]) -> Workload:
    """Returns the workload of a study.

    Args:
        config: content of its YAML file, with its ``name``.

    Raises:
        UserError: a package that it needs is not installed, or it is another
            package's and cannot be used.
    """
    if config["name"] not in NAMES:
        return other(config)
    try:
        module = importlib.import_module(f"{__name__}.{config['name']}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{config['name']} needs a package that is not installed "
            f"({error.name}); pip install 'tf-largebatch[{config['extra']}]'"
        ) from error
    return module.Task(config)


def other(config: Mapping[str, Any]) -> Workload:
    """Returns another package's workload; see :func:`load`."""
    name = config["name"]
    made = plugins.load("workload", name, NAMES, Workload)
    if inspect.isabstract(made):
        missing = ", ".join(sorted(made.__abstractmethods__))
        raise UserError(
            f"the workload {name!r} lacks {missing}; correct its package"
        )
    return made(config)
