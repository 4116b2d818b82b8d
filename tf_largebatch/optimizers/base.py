"""What all optimizers of both Keras families share."""

import contextlib
import dataclasses
import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from absl import logging

from tf_largebatch import variables
from tf_largebatch.rules.arrays import Array, Namespace
from tf_largebatch.schedules import (
    Schedule,
    check_option,
    is_finite_and_not_negative,
)
from tf_largebatch.variables import Decisions, Selector, Shape, Treatment

UNIT_INTERVAL = ("momentum", "beta_1", "beta_2")
# From here on float32 rounds to 1, of which an average is none.
ROUNDS_TO_ONE = 1 - 2.0**-25

# What the Keras families are called.
FAMILIES = {"keras": "Keras 3", "tf_keras": "tf_keras"}
# What the classes of a Keras family stem from.
FAMILY_BASES = ("Optimizer", "LearningRateSchedule")


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of one variable, from which an optimizer computes its end.

    Attributes:
        xp: array namespace.
        w: parameter, in the dtype to compute in, as is all that follows.
        g: gradient, dense, of the shape of ``w``.
        slots: the values of ``slot_names``, of the shape of ``w``.
        t: 0 at the first step, a scalar.
        adapted: whether the variable has a trust ratio (LARS, LAMB).
        numbers: ``learning_rate`` and the hyperparameters by name, Python
            floats or scalars. ``weight_decay`` is 0.0 where none applies.
        rules: :mod:`tf_largebatch.rules`, or :mod:`tf_largebatch.fused`,
            whose functions of the same names change variables in place.
    """

    xp: Namespace
    w: Array
    g: Array
    slots: Sequence[Array]
    t: Array
    adapted: bool
    numbers: Mapping[str, Any]
    rules: ModuleType

    def by(self, rule: str, **arguments: Any) -> tuple[Array, ...]:
        """Returns what a rule of this package computes."""
        compute = getattr(self.rules, rule)
        return compute(self.xp, self.w, self.g, *self.slots, **arguments)


class LargeBatchOptimizer:
    """Holds the hyperparameters and decides each variable's treatment.

    A Keras family's adapter stands behind this class in the order of
    inheritance. It creates the slots, calls :meth:`plan` once when the
    optimizer is built and :meth:`step` for every variable of every update.

    Hyperparameters are attributes. They may be scalar variables of the
    backend, in which case they can change without a new trace; such a
    variable belongs to the caller and is not saved with the optimizer, but
    for the learning rate of Keras 3, which Keras saves as its own.
    """

    slot_names: ClassVar[tuple[str, ...]] = ()
    # Whether tf_largebatch.fused has the rule that `step` calls.
    has_kernels: ClassVar[bool] = False
    # What the Keras family's adapter brings.
    _serialize: Callable[[Any], Any]
    _deserialize: Callable[..., Any]
    _cast: Callable[[Any, Any], Array]
    iterations: Any
    _hyperparameter_names: tuple[str, ...]
    _option_names: tuple[str, ...]
    _selectors: dict[str, Selector]
    _decisions: Decisions | None = None
    _treatments: tuple[Treatment, ...]
    _is_loaded = False
    _refusal: ValueError | None = None

    def __init_subclass__(cls, **kwargs: Any):
        """Takes the kernels from a class whose step is its own."""
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls) and "has_kernels" not in vars(cls):
            cls.has_kernels = False

    def __init__(
        self,
        learning_rate: Any,
        hyperparameters: Mapping[str, Any],
        options: Mapping[str, Any],
        selectors: Mapping[str, Selector],
        decided: Sequence[Any] | None = None,
        **kwargs: Any,
    ):
        check_family(type(self))
        check_hyperparameter("learning_rate", learning_rate)
        for name, value in hyperparameters.items():
            check_hyperparameter(name, value)
        for name, value in options.items():
            if name != "variant":  # Which was found in its table.
                check_option(name, value)
        for name, selector in selectors.items():
            variables.check_selector(selector, name)
        # The class that follows is a Keras family's.
        super().__init__(
            learning_rate=learning_rate,  # type: ignore[call-arg]
            **kwargs,
        )
        self.keep(**hyperparameters, **options)
        self.keep(
            _hyperparameter_names=tuple(hyperparameters),
            _option_names=tuple(options),
            # Not called after the argument: Keras has a method of that name.
            _selectors=dict(selectors),
        )
        if decided is not None:
            self.keep(_decisions=self.decided_before(decided))

    def __repr__(self) -> str:
        # Keras shows this where a model of the other family refuses it.
        name, module = type(self).__name__, type(self).__module__
        its = family_of(type(self))
        if its is None:
            return super().__repr__()
        (other,) = FAMILIES.keys() - {its}
        about = f"{name} optimizer for {FAMILIES[its]} models"
        there = module.replace(f".{its}", f".{other}")
        if there == module:  # A class of the user's own.
            return f"<{about}>"
        return f"<{about}; {FAMILIES[other]} models take {there}.{name}>"

    def keep(self, **attributes: Any) -> None:
        """Sets attributes past Keras's ``__setattr__``.

        That would take a variable given as a hyperparameter for state of the
        optimizer and save it, and would wrap containers.
        """
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def plan(self, paths: Sequence[str], shapes: Sequence[Shape]) -> None:
        """Decides the treatment of each variable; logs the counts once.

        An optimizer that was loaded or cloned keeps what was decided where it
        comes from: a Keras may call the same variables otherwise.

        Args:
            paths: full path of each variable, in the optimizer's order.
            shapes: shape of each variable.

        Raises:
            ValueError: a selector's pattern matches no variable.
        """
        known = self._decisions
        if known and known.hold(paths, shapes):
            source = "as decided before it was saved"
        else:
            source = "decided now"
            if known and paths:
                source += ", for it was saved with other variables"
            decided = self.decide(paths, shapes)
            known = Decisions(tuple(paths), tuple(shapes), decided)
        saved = None if self._refusal else known
        self.keep(_decisions=saved, _treatments=known.treatments)
        logging.info(
            "%s: %d variables, %d with layer adaptation, "
            "%d with weight decay, %s",
            type(self).__name__,
            len(known.treatments),
            sum(treatment.adapted for treatment in known.treatments),
            sum(treatment.decayed for treatment in known.treatments),
            source,
        )

    def decide(
        self, paths: Sequence[str], shapes: Sequence[Shape]
    ) -> tuple[Treatment, ...]:
        """Returns what the selectors decide.

        Where a loaded optimizer was saved before it was built and a pattern
        matches nothing any more, the error waits for the first update: the
        model can be loaded, to predict.
        """
        unadapted = self._selectors.get("exclude_from_layer_adaptation", ())
        undecayed = self._selectors.get("exclude_from_weight_decay", ())
        try:
            return variables.treatments(paths, shapes, unadapted, undecayed)
        except ValueError as error:
            if not self._is_loaded:
                raise
            self.keep(_refusal=error)
            return variables.treatments(paths, shapes, (), ())

    def step(self, at: Step) -> tuple[Array, ...]:
        """Returns the new value of the parameter, then of each slot.

        What follows these, if anything does, is the trust ratio.
        """
        raise NotImplementedError

    def hyperparameters(self) -> dict[str, Any]:
        """Returns the hyperparameters by name, as they were given."""
        return {
            name: getattr(self, name) for name in self._hyperparameter_names
        }

    def scalars(
        self, learning_rate: Any, dtype: Any
    ) -> tuple[Array, dict[str, Any]]:
        """Returns t and the numbers of a step in the dtype to compute in."""
        return self._cast(self.iterations, dtype), {
            "learning_rate": self._cast(learning_rate, dtype),
            **{
                name: self.scalar(value, dtype)
                for name, value in self.hyperparameters().items()
            },
        }

    def treated(self, index: int, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what of a :class:`Step` is decided variable by variable.

        Raises:
            ValueError: nothing could be decided.
        """
        if self._refusal:
            raise self._refusal
        treatment = self._treatments[index]
        numbers = dict(shared)
        if not treatment.decayed and "weight_decay" in numbers:
            numbers["weight_decay"] = 0.0
        return {"adapted": treatment.adapted, "numbers": numbers}

    def scalar(self, value: Any, dtype: Any) -> Any:
        """Returns a hyperparameter as a float, or as a tensor if it is one."""
        if value is None:
            return None
        if isinstance(value, numbers.Real):
            return float(value)
        return self._cast(value, dtype)

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> Any:
        """Creates the optimizer of which ``get_config`` gave ``config``."""
        optimizer = cls(
            **{
                name: cls._deserialize(value, custom_objects)
                if isinstance(value, dict)
                else value
                for name, value in config.items()
            }
        )
        optimizer.keep(_is_loaded=True)
        return optimizer

    def decided_before(self, decided: Any) -> Decisions | None:
        """Returns what a config has, unless by selectors that are others."""
        try:
            by, rows = decided
            decisions = Decisions.from_config(rows)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`decided` must be what `get_config` of a built optimizer "
                f"has. Received: {decided=}"
            ) from error
        return decisions if by == self.decided_by() else None

    def decided_by(self) -> list[Any]:
        """Returns the selectors in a form that no file format changes."""
        return [
            variables.to_config(selector, variables.name_of)
            for selector in self._selectors.values()
        ]

    def get_config(self) -> dict[str, Any]:
        """Returns the resolved arguments of the constructor.

        Once the optimizer is built, ``decided`` stands beside them: what the
        selectors decided, variable by variable.
        """
        config = super().get_config()  # type: ignore[misc]
        for name, value in self.hyperparameters().items():
            config[name] = value if value is None else float(value)
        for name in self._option_names:
            config[name] = getattr(self, name)
        for name, selector in self._selectors.items():
            config[name] = variables.to_config(selector, self._serialize)
        if self._decisions:
            rows = self._decisions.to_config()
            config["decided"] = [self.decided_by(), rows]
        return config

    def exclude_from_weight_decay(self, *args: Any, **kwargs: Any) -> None:
        """Refuses: Keras's method of this name would have no effect here."""
        raise ValueError(
            "pass exclude_from_weight_decay=... to the constructor of "
            f"{type(self).__name__} instead of calling this method. "
            f"Received: {args} {kwargs}"
        )

    def _apply_weight_decay(self, variables: Any) -> None:
        """Does nothing: the update rule decays, not the Keras base class."""


def family_of(
    kind: type, bases: Sequence[str] = FAMILY_BASES[:1]
) -> str | None:
    """Returns which Keras an optimizer's class is of; None is neither.

    Args:
        kind: the class.
        bases: names of Keras's classes that make it one of a family.

    >>> from tf_largebatch import keras, optimizers, tf_keras
    >>> from tf_largebatch.optimizers import lamb
    >>> [family_of(module.LAMB) for module in (keras, tf_keras, lamb)]
    ['keras', 'tf_keras', None]
    """
    for base in kind.__mro__:
        package = base.__module__.partition(".")[0]
        if base.__name__ in bases and package in ("keras", "tf_keras"):
            return package
    return None


def check_family(kind: type) -> None:
    """Raises ValueError at a class behind which no Keras's adapter stands."""
    if kind.__mro__[-2] is LargeBatchOptimizer:
        raise ValueError(
            "this class is of neither Keras; take that of "
            "`tf_largebatch.keras` or of `tf_largebatch.tf_keras`, whose "
            "function `adapt` takes a class of your own. "
            f"Received: {kind.__module__}.{kind.__name__}"
        )


Kind = TypeVar("Kind", bound=type)


@dataclasses.dataclass(frozen=True)
class Family:
    """A Keras, whose classes can be made of those of neither Keras.

    Attributes:
        name: ``keras`` or ``tf_keras``.
        optimizer: what stands between an optimizer and the family.
        schedule: the same for a schedule.
        register: the family's ``register_keras_serializable``.
    """

    name: str
    optimizer: type
    schedule: type
    register: Callable[[str], Any]

    def adapt(self, kind: Kind) -> Kind:
        """Returns an optimizer's or a schedule's class for this Keras.

        Args:
            kind: one of neither Keras family, a subclass of
                :class:`tf_largebatch.optimizers.base.LargeBatchOptimizer` or
                of :class:`tf_largebatch.schedules.Schedule`.

        Raises:
            ValueError: it is no such class.

        >>> from tf_largebatch import keras, schedules
        >>> class Flat(schedules.Schedule):
        ...     function = staticmethod(lambda xp, t, peak, total_steps: peak)
        ...     def __init__(self, peak, total_steps):
        ...         super().__init__(peak=peak, total_steps=total_steps)
        >>> keras.adapt(Flat)(0.1, total_steps=5)(3)
        0.1
        """
        wanted = (LargeBatchOptimizer, Schedule)
        valid = isinstance(kind, type) and issubclass(kind, wanted)
        # One of a family already would take the place of that of its name.
        if not valid or family_of(kind, FAMILY_BASES):
            raise ValueError(
                "`kind` must be a class of neither Keras family, a subclass of "
                "tf_largebatch.optimizers.base.LargeBatchOptimizer or of "
                f"tf_largebatch.schedules.Schedule. Received: {kind=}"
            )
        return adapted(self, kind)


@functools.cache
def adapted(family: Family, kind: Any) -> Any:
    """Returns a class as one of a family, registered with it."""
    is_schedule = issubclass(kind, Schedule)
    base = family.schedule if is_schedule else family.optimizer
    package = kind.__module__.partition(".")[0]
    module = f"tf_largebatch.{family.name}"
    about = {
        "__doc__": (kind.__doc__ or "").replace("tf_largebatch.keras", module),
        "__module__": f"{package}.{family.name}",
    }
    return family.register(package)(type(kind.__name__, (kind, base), about))


def check_variable(path: str, dtype: str) -> None:
    """Raises ValueError at a variable of numbers that no rule computes with."""
    if "float" not in dtype:
        raise ValueError(
            f"the variable {path} must be of a floating dtype; complex ones "
            "can be trained as their real and imaginary parts. "
            f"Received: {dtype}"
        )


def check_gradient(path: str, gradient: Any, shape: Shape) -> None:
    """Raises ValueError at a gradient that does not fit its variable.

    One that only broadcasts would be taken, and of a complex one the imaginary
    part would be dropped.
    """
    found = gradient.shape
    # TensorFlow may not know a rank, or a size along an axis.
    unknown = None in (getattr(each, "rank", 0) for each in (found, shape))
    fits = unknown or (
        len(found) == len(shape)
        and all(None in pair or len({*pair}) == 1 for pair in zip(found, shape))
    )
    if not fits or "complex" in str(gradient.dtype):
        raise ValueError(
            f"the gradient of {path} must be real and of the variable's shape "
            f"{tuple(shape)}. Received: a gradient of shape {found} and dtype "
            f"{getattr(gradient.dtype, 'name', gradient.dtype)}"
        )


def check_hyperparameter(name: str, value: Any) -> None:
    """Raises ValueError where a Python value is no sensible one.

    Variables, whose value may change, and a learning rate that is a schedule
    or a function pass. None, which stands for another argument's value, passes
    for LAMB's fallback.
    """
    if value is None and name.startswith("fallback_"):
        return
    below_one = name in UNIT_INTERVAL
    known = number_in(value)
    if isinstance(known, numbers.Real):
        valid = is_finite_and_not_negative(known)
        valid = valid and not (below_one and float(known) >= ROUNDS_TO_ONE)
    else:
        is_rate = name == "learning_rate" and callable(value)
        valid = is_rate or is_scalar_of_numbers(value)
    if not valid:
        wanted = "0 or larger"
        if below_one:
            wanted = "at least 0 and below 1, in float32 too"
        elif name == "learning_rate":
            wanted += ", or a schedule of the optimizer's Keras"
        raise ValueError(
            f"`{name}` must be a finite number, {wanted}. "
            f"Received: {name}={value!r}"
        )


def number_in(value: Any) -> Any:
    """Returns the number that an array or a tensor is, or the value itself.

    >>> import numpy
    >>> number_in(numpy.array(-0.5)), number_in("x")
    (-0.5, 'x')
    """
    if is_scalar_of_numbers(value) and not hasattr(value, "assign"):
        with contextlib.suppress(TypeError):  # While a graph is traced.
            return float(value)
    return value


def is_scalar_of_numbers(value: Any) -> bool:
    """Whether a value is a variable, tensor or array of a single number."""
    numeric = any(
        word in str(getattr(value, "dtype", "")) for word in ("float", "int")
    )
    shape = getattr(value, "shape", ())
    # Of TensorFlow's shapes, whose rank may be unknown, all count as true.
    rank = shape.rank if hasattr(shape, "rank") else len(shape)
    return numeric and not rank


def find_variant(variants: Mapping[str, Any], name: str) -> Any:
    """Returns the variant called ``name``.

    Raises:
        ValueError: there is none; the message lists the names.
    """
    if not isinstance(name, str) or name not in variants:
        raise ValueError(
            f"`variant` must be one of {', '.join(variants)}. "
            f"Received: variant={name!r}"
        )
    return variants[name]


def first_given(value: Any, default: Any) -> Any:
    """Returns ``value``, or ``default`` where it is None."""
    return default if value is None else value
