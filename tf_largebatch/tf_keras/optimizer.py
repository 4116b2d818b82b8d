"""What stands between an update rule and a tf_keras optimizer."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import tensorflow as tf
import tf_keras

from tf_largebatch import fused, rules
from tf_largebatch.optimizers.base import Step, check_gradient, check_variable
from tf_largebatch.sharing import once, sharing
from tf_largebatch.tf_keras import namespace
from tf_largebatch.variables import path_of


class TFKerasOptimizer(tf_keras.optimizers.Optimizer):
    """Creates the slots, hands an update rule its values and assigns.

    To be combined with a class of :mod:`tf_largebatch.optimizers`, which
    stands before it in the order of inheritance.
    """

    _cast = staticmethod(tf.cast)
    _recorded: Mapping[int, tf.Variable] = MappingProxyType({})
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
        paths = [self.checked_path(variable) for variable in var_list]
        self.plan(paths, list(map(shape_of, var_list)))
        super().build(var_list)
        self._slots = [
            [self.add_slot(variable, name) for variable in var_list]
            for name in self.slot_names
        ]
        self._built = True

    def checked_path(self, variable: Any) -> str:
        """Returns a variable's path, the same on every replica.

        Raises:
            ValueError: the variable is none of tf_keras's, or is complex.
        """
        if not isinstance(variable, tf.Variable):
            raise ValueError(
                f"{self!r} takes no variable of another kind. "
                f"Received: {getattr(variable, 'path', variable)!r}"
            )
        path = path_of(variable.name)
        check_variable(path, variable.dtype.name)
        return path

    def add_slot(self, variable: tf.Variable, name: str) -> tf.Variable:
        """Creates a slot of at least 32 bits, in which small squares count."""
        dtype = at_least_float32(variable.dtype)
        if dtype == variable.dtype:
            return self.add_variable_from_reference(variable, name)
        strategy = tf.distribute.get_strategy()
        with strategy.extended.colocate_vars_with(variable):
            slot = tf.Variable(
                tf.zeros(variable.shape, dtype),
                trainable=False,
                name=f"{name}/{path_of(variable.name)}",
            )
        self._variables.append(slot)
        return slot

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        # Sparse gradients count as their dense equals: made dense here, or
        # an index that occurs twice would count wrongly in a norm.
        return super()._clip_gradients(list(map(dense, grads)))

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """Computes and assigns one variable's new value and slots."""
        index = self._index_dict[self._var_key(variable)]
        check_gradient(path_of(variable.name), gradient, variable.shape)
        targets = [variable, *(slots[index] for slots in self._slots)]
        dtype = at_least_float32(variable.dtype)
        in_place = self.has_kernels and dtype == variable.dtype
        w, *slots = (
            targets
            if in_place
            else [tf.cast(target, dtype) for target in targets]
        )
        t, numbers = once(
            (dtype, tf.compat.v1.get_default_graph()),
            lambda: self.scalars(self.learning_rate, dtype),
        )
        ends = self.step(
            Step(
                xp=namespace,
                rules=fused if in_place else rules,
                w=w,
                g=tf.cast(gradient, dtype),
                slots=slots,
                t=t,
                **self.treated(index, numbers),
            )
        )
        for target, end in zip(targets, ends):
            if end is not target:
                target.assign(tf.cast(end, target.dtype))
        if index in self._recorded:
            self._recorded[index].assign(tf.cast(ends[-1], tf.float32))

    def record(self, trust_ratios: Mapping[int, tf.Variable]) -> None:
        """Has every step note the trust ratios that it takes.

        Args:
            trust_ratios: float32 scalars by the indices of variables with
                layer adaptation.
        """
        self.keep(_recorded=dict(trust_ratios))

    def _distributed_apply_gradients_fn(self, *args: Any, **kwargs: Any) -> Any:
        with sharing():
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


def shape_of(variable: tf.Variable) -> tuple[int, ...]:
    """Returns a variable's shape, as it is now if it may change its rank."""
    known = variable.shape.rank is not None
    return tuple(variable.shape if known else variable.read_value().shape)


def dense(gradient: Any) -> Any:
    """Returns a sparse gradient as a dense tensor, and None as it is."""
    return None if gradient is None else tf.convert_to_tensor(gradient)


def at_least_float32(dtype: tf.DType) -> tf.DType:
    """Returns the dtype to compute in: that of the variable, 32 bits up."""
    return dtype if dtype in (tf.float32, tf.float64) else tf.float32
