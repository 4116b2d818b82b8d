"""What stands between an update rule and a Keras 3 optimizer."""

import importlib
import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import keras
from keras import ops

from tf_largebatch import rules
from tf_largebatch.optimizers.base import Step, check_gradient, check_variable
from tf_largebatch.sharing import once, sharing
from tf_largebatch.variables import path_of


class KerasOptimizer(keras.optimizers.Optimizer):
    """Creates the slots, hands an update rule its values and assigns.

    To be combined with a class of :mod:`tf_largebatch.optimizers`, which
    stands before it in the order of inheritance.
    """

    _cast = staticmethod(ops.cast)
    _serialize = staticmethod(keras.saving.serialize_keras_object)
    _deserialize = staticmethod(keras.saving.deserialize_keras_object)

    def __init__(self, learning_rate: Any, **kwargs: Any):
        if hasattr(learning_rate, "assign"):
            # The base class takes no variable; a callable keeps it from
            # making one of its own.
            super().__init__(learning_rate=lambda: learning_rate, **kwargs)
            self.keep(_learning_rate=learning_rate)
            # Saved like the base class's own, whose place in a file it has.
            self._track_variable(learning_rate)
        else:
            rate = checked_learning_rate(learning_rate)
            super().__init__(learning_rate=rate, **kwargs)

    @property
    def variables(self) -> list[Any]:
        """The state, and on JAX the hyperparameters that are variables.

        A step that JAX compiles takes for constants what is not among these.
        """
        if keras.backend.backend() != "jax":
            return self._variables[:]
        found = [*self._variables, *self.hyperparameters().values()]
        found = [value for value in found if isinstance(value, keras.Variable)]
        return list({id(variable): variable for variable in found}.values())

    def save_own_variables(self, store: Any) -> None:
        """Saves the state; the hyperparameters are in the config."""
        for index, variable in enumerate(self._variables):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads the state; hyperparameters that are variables stay."""
        values = {name: store[name] for name in store.keys()}
        for variable in self.variables[len(self._variables) :]:
            values[str(len(values))] = variable.numpy()
        super().load_own_variables(values)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the slots and decides every variable's treatment.

        Without variables it stays to be built: so Keras calls it when it loads
        an ``.h5`` file, whatever the model has.
        """
        if self.built or not variables:
            return
        for variable in variables:
            dtype = keras.backend.standardize_dtype(variable.dtype)
            check_variable(path_in_model(variable), dtype)
        self.plan(
            [path_in_model(variable) for variable in variables],
            [tuple(variable.shape) for variable in variables],
        )
        super().build(variables)
        self._slots = [
            [self.add_slot(variable, name) for variable in variables]
            for name in self.slot_names
        ]

    def add_slot(self, variable: Any, name: str) -> keras.Variable | None:
        """Creates a slot of at least 32 bits, in which small squares count."""
        if getattr(variable, "overwrite_with_gradient", False):
            return None  # Keras itself updates what float8 is scaled by.
        return self.add_variable(
            shape=variable.shape,
            dtype=at_least_float32(variable.dtype),
            name=f"{path_in_model(variable).replace('/', '_')}_{name}",
            layout=getattr(variable, "_layout", None),
        )

    def apply(
        self, grads: Sequence[Any], trainable_variables: Any = None
    ) -> Any:
        """Applies gradients; sparse ones count as their dense equals."""
        with sharing():
            return super().apply(list(map(dense, grads)), trainable_variables)

    def stateless_apply(
        self, optimizer_variables: Any, grads: Any, trainable_variables: Any
    ) -> tuple[Any, Any]:
        """Applies gradients without a change of state, as JAX needs it."""
        if not trainable_variables:  # Nothing was built.
            return trainable_variables, optimizer_variables
        return super().stateless_apply(
            optimizer_variables, grads, trainable_variables
        )

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        """Computes and assigns one variable's new value and slots."""
        index = self._get_variable_index(variable)
        check_gradient(path_in_model(variable), gradient, variable.shape)
        targets = [variable, *(slots[index] for slots in self._slots)]
        dtype = at_least_float32(variable.dtype)
        values = tensorflow_variables(targets) if self.has_kernels else []
        in_place = bool(values) and dtype == values[0].dtype.name
        if not in_place:
            values = [ops.cast(target, dtype) for target in targets]
        w, *slots = values
        t, numbers = once(
            (dtype, graph()), lambda: self.scalars(learning_rate, dtype)
        )
        ends = self.step(
            Step(
                xp=ops,
                rules=fused() if in_place else rules,
                w=w,
                g=ops.cast(gradient, dtype),
                slots=slots,
                t=t,
                **self.treated(index, numbers),
            )
        )
        for target, value, end in zip(targets, values, ends):
            if end is not value:
                self.assign(target, ops.cast(end, target.dtype))

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        # Keras 3 clips on each replica and sums then. Clipping the sum is
        # what tf_keras does and what makes N replicas equal to one.
        if keras.backend.backend() == "tensorflow":
            pairs = [(gradient, None) for gradient in grads]
            pairs = super()._all_reduce_sum_gradients(pairs)
            grads = [gradient for gradient, _ in pairs]
        return super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars  # They were summed before they were clipped.

    def _get_current_learning_rate(self):
        # The base class gives a schedule the count of micro-batches where
        # gradients accumulate; a schedule counts optimizer steps.
        if isinstance(
            self._learning_rate,
            keras.optimizers.schedules.LearningRateSchedule,
        ):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()


def checked_learning_rate(learning_rate: Any) -> Any:
    """Returns a rate as the Keras base class takes it.

    Raises:
        ValueError: it is a function that cannot be called without arguments,
            such as a schedule of the other Keras family.
    """
    if not callable(learning_rate):
        return float(learning_rate)
    schedule = keras.optimizers.schedules.LearningRateSchedule
    if not isinstance(learning_rate, schedule):
        try:
            inspect.signature(learning_rate).bind()
        except TypeError as error:
            raise ValueError(
                "`learning_rate` must be a number, a variable, a Keras 3 "
                "schedule (tf_largebatch.keras has some) or a function "
                f"without arguments. Received: {learning_rate!r}"
            ) from error
    return learning_rate


def path_in_model(variable: Any) -> str:
    """Returns the path of a Keras variable, or of one of TensorFlow's own."""
    return getattr(variable, "path", None) or path_of(variable.name)


def at_least_float32(dtype: Any) -> str:
    """Returns the dtype to compute in: that of the variable, 32 bits up."""
    name = keras.backend.standardize_dtype(dtype)
    return name if name in ("float32", "float64") else "float32"


def graph() -> Any:
    """Returns the graph of TensorFlow that operations go to, if one does."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow

    return tensorflow.compat.v1.get_default_graph()


def fused() -> ModuleType:
    """Returns the module of TensorFlow's kernels, which imports TensorFlow."""
    return importlib.import_module("tf_largebatch.fused")


def tensorflow_variables(targets: Sequence[Any]) -> list[Any]:
    """Returns the variables of TensorFlow that Keras's are, if all are some.

    On other backends they are not, nor in a step that changes no state.
    """
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow

    found = [
        target.value if isinstance(target, keras.Variable) else target
        for target in targets
    ]
    kind = tensorflow.Variable
    return found if all(isinstance(value, kind) for value in found) else []


def dense(gradient: Any) -> Any:
    """Returns a gradient as a dense tensor; None and dense ones as they are."""
    if isinstance(gradient, (list, tuple)):
        return ops.convert_to_tensor(gradient)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if isinstance(gradient, tensorflow.IndexedSlices):
            return tensorflow.convert_to_tensor(gradient)
    return gradient
