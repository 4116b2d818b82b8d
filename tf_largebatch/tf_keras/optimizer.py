"""What stands between an update rule and a tf_keras optimizer."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tf_largebatch import fused, rules
from tf_largebatch.tf_keras import namespace
from tf_largebatch.variables import path_of


class TFKerasOptimizer(tf_keras.optimizers.Optimizer):
    """Creates the slots, hands an update rule its values and assigns.

    To be combined with a class of :mod:`tf_largebatch.optimizers`, which
    stands before it in the order of inheritance.
    """

    _cast = staticmethod(tf.cast)
    _serialize = staticmethod(tf_keras.saving.serialize_keras_object)

    def __init__(
        self, learning_rate: Any, name: str | None = None, **kwargs: Any
    ):
        super().__init__(name=name or type(self).__name__, **kwargs)
        if isinstance(learning_rate, tf.Variable):
            # The caller's own: not tracked, so not in checkpoints.
            self.keep(_learning_rate=learning_rate)
        else:
            check_learning_rate(learning_rate)
            self._learning_rate = self._build_learning_rate(learning_rate)

    @staticmethod
    def _deserialize(config: dict, custom_objects: Any = None) -> Any:
        """Returns what a config is of, in whatever kind of file it is.

        While tf_keras loads HDF5 files, it knows no registered names, and of
        its own classes only those that it is told.
        """
        name = config["class_name"]
        if name == "function":
            known = tf_keras.saving.get_registered_object(config["config"])
            if known:
                return known
        known = tf_keras.saving.get_registered_object(
            config.get("registered_name")
        ) or getattr(tf_keras.optimizers.schedules, name, None)
        return tf_keras.saving.deserialize_keras_object(
            config,
            {**({name: known} if known else {}), **(custom_objects or {})},
        )

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots and decides every variable's treatment."""
        if getattr(self, "_built", False):
            return
        for variable in var_list:
            self.check_variable(variable)
        self.plan(
            [path_of(variable.name) for variable in var_list],
            [tuple(variable.shape) for variable in var_list],
        )
        super().build(var_list)
        self._slots = [
            [self.add_variable_from_reference(v, name) for v in var_list]
            for name in self.slot_names
        ]
        self._built = True

    def check_variable(self, variable: Any) -> None:
        """Raises ValueError at a variable that is none of tf_keras's."""
        if not isinstance(variable, tf.Variable):
            raise ValueError(
                f"{self!r} takes no variable of another kind. "
                f"Received: {getattr(variable, 'path', variable)!r}"
            )

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        # Sparse gradients count as their dense equals: made dense here, or
        # an index that occurs twice would count wrongly in a norm.
        return super()._clip_gradients(list(map(dense, grads)))

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """Computes and assigns one variable's new value and slots."""
        index = self._index_dict[self._var_key(variable)]
        targets = [variable, *(slots[index] for slots in self._slots)]
        dtype = at_least_float32(variable.dtype)
        gradient = tf.cast(gradient, dtype)
        key = dtype, tf.compat.v1.get_default_graph()
        rate, step, hyperparameters = self.once(
            key, lambda: self.scalars(self.learning_rate, dtype)
        )
        values = rate, step, self._treatments[index], dict(hyperparameters)
        if self.has_kernels and fused.applies(variable):
            w, *slots = targets
            self.step(fused, namespace, w, gradient, slots, *values)
            return
        w, *slots = (tf.cast(target, dtype) for target in targets)
        ends = self.step(rules, namespace, w, gradient, slots, *values)
        for target, end in zip(targets, ends):
            target.assign(tf.cast(end, target.dtype))

    def _distributed_apply_gradients_fn(self, *args: Any, **kwargs: Any) -> Any:
        with self.sharing():
            return super()._distributed_apply_gradients_fn(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the resolved arguments of the constructor."""
        config = super().get_config()
        rate = self._learning_rate
        if isinstance(rate, tf.Variable):
            config["learning_rate"] = float(rate.numpy())
        else:
            config["learning_rate"] = self._serialize(rate)
        return config


def check_learning_rate(learning_rate: Any) -> None:
    """Raises ValueError at a function that is no schedule of tf_keras.

    tf_keras would take its first value for the rate of all steps.
    """
    schedule = tf_keras.optimizers.schedules.LearningRateSchedule
    if callable(learning_rate) and not isinstance(learning_rate, schedule):
        raise ValueError(
            "`learning_rate` must be a number, a tf.Variable or a tf_keras "
            "schedule (tf_largebatch.tf_keras has some). "
            f"Received: {learning_rate!r}"
        )


def dense(gradient: Any) -> Any:
    """Returns a sparse gradient as a dense tensor, and None as it is."""
    return None if gradient is None else tf.convert_to_tensor(gradient)


def at_least_float32(dtype: tf.DType) -> tf.DType:
    """Returns the dtype to compute in: that of the variable, 32 bits up."""
    return dtype if dtype in (tf.float32, tf.float64) else tf.float32
