"""What stands between an update rule and a Keras 3 optimizer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class KerasOptimizer(keras.optimizers.Optimizer):
    """Creates the slots, hands an update rule its values and assigns.

    To be combined with a class of :mod:`tf_largebatch.optimizers`, which
    stands before it in the order of inheritance.
    """

    def __init__(self, learning_rate: Any, **kwargs: Any):
        if isinstance(learning_rate, keras.Variable):
            # The base class takes floats only; a callable keeps it from
            # making a variable of its own.
            super().__init__(learning_rate=lambda: learning_rate, **kwargs)
            self.keep(_learning_rate=learning_rate)
        else:
            if not callable(learning_rate):
                learning_rate = float(learning_rate)
            super().__init__(learning_rate=learning_rate, **kwargs)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the slots and decides every variable's treatment."""
        if self.built:
            return
        self.plan(
            [variable.path for variable in variables],
            [tuple(variable.shape) for variable in variables],
        )
        super().build(variables)
        self._slots = [
            self.add_optimizer_variables(variables, name)
            for name in self.slot_names
        ]

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None):
        """Applies gradients; sparse ones count as their dense equals."""
        return super().apply(list(map(dense, grads)), trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any):
        """Computes and assigns one variable's new value and slots."""
        index = self._get_variable_index(variable)
        targets = [variable, *(slots[index] for slots in self._slots)]
        dtype = at_least_float32(variable.dtype)
        w, *slots = (ops.cast(target, dtype) for target in targets)
        values = self.step(
            ops,
            w,
            ops.cast(gradient, dtype),
            slots,
            ops.cast(learning_rate, dtype),
            ops.cast(self.iterations, dtype),
            self._treatments[index],
            {
                name: value
                if not is_variable(value)
                else ops.cast(value, dtype)
                for name, value in self.hyperparameters().items()
            },
        )
        for target, value in zip(targets, values):
            self.assign(target, ops.cast(value, target.dtype))

    def _get_current_learning_rate(self):
        # The base class gives a schedule the count of micro-batches where
        # gradients accumulate; a schedule counts optimizer steps.
        if isinstance(
            self._learning_rate,
            keras.optimizers.schedules.LearningRateSchedule,
        ):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def serialize(self, function: Any) -> Any:
        """Returns the JSON of a schedule, or of a function that selects."""
        return keras.saving.serialize_keras_object(function)

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None):
        """Creates the optimizer of which ``get_config`` gave ``config``."""
        config = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            if isinstance(value, dict)
            else value
            for name, value in config.items()
        }
        return super().from_config(config)


def is_variable(value: Any) -> bool:
    """Whether a hyperparameter is a variable or tensor, not a number."""
    return isinstance(value, keras.Variable) or ops.is_tensor(value)


def at_least_float32(dtype: Any) -> str:
    """Returns the dtype to compute in: that of the variable, 32 bits up."""
    name = keras.backend.standardize_dtype(dtype)
    return name if name in ("float32", "float64") else "float32"


def dense(gradient: Any) -> Any:
    """Returns a sparse gradient as a dense tensor, and others as they are."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if isinstance(gradient, tensorflow.IndexedSlices):
            return tensorflow.convert_to_tensor(gradient)
    return gradient
