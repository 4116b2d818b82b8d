"""The optimizers and schedules in the Model Garden's configs and factory.

An experiment takes them by having a :class:`LargeBatchOptimizationConfig` as
its ``trainer.optimizer_config`` and a task whose ``create_optimizer`` calls
:func:`build_optimizer`:

>>> config = LargeBatchOptimizationConfig({
...     "optimizer": {"type": "largebatch_nesterov",
...                   "largebatch_nesterov": {"momentum": 0.97603}},
...     "learning_rate": {"type": "largebatch_cosine",
...                       "largebatch_cosine": {"peak": 0.5,
...                                             "total_steps": 6000}}})
>>> optimizer = build_optimizer(config)
>>> optimizer.name, optimizer.momentum
('Nesterov', 0.97603)

What the Garden has itself, optimizers and schedules, can be chosen as well,
and so can those of other packages, which :mod:`tf_largebatch.plugins` finds:
they become fields where a config first names one.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import tf_keras
from official.modeling.hyperparams import base_config, oneof
from official.modeling.optimization import optimizer_factory
from official.modeling.optimization.configs import (
    optimization_config,
    optimizer_config,
)

from tf_largebatch import optimizers, plugins, schedules
from tf_largebatch import tf_keras as largebatch
from tf_largebatch.errors import UserError
from tf_largebatch.optimizers.base import (
    FAMILY_BASES,
    LargeBatchOptimizer,
    family_of,
)

Selector = str | list[str]

# By the name of the field in the configs below.
OPTIMIZERS = {
    f"largebatch_{kind.__module__.rpartition('.')[2]}": largebatch.adapt(kind)
    for kind in optimizers.OPTIMIZERS.values()
}
SCHEDULES = {
    name: largebatch.adapt(kind) for name, kind in schedules.BY_NAME.items()
}

# What may be None in a schedule of the Garden's.
OPTIONAL = ("staircase",)


def one(config: type[base_config.Config]) -> Any:
    """Returns a field that holds a config of that class."""
    return dataclasses.field(default_factory=config)


class Open(oneof.OneOfConfig):
    """A choice to which other packages add fields.

    A subclass says of which ``kind`` they are, what their classes and their
    configs derive from.
    """

    kind: ClassVar[str]
    wanted: ClassVar[type]
    section: ClassVar[type[base_config.Config]]

    @classmethod
    def own(cls) -> list[str]:
        """Returns the fields that it has without other packages."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def further(cls) -> list[str]:
        """Returns the fields that other packages add."""
        return list(plugins.offered(cls.kind, cls.own()))

    @classmethod
    def other(cls, name: str) -> type:
        """Returns the class that another package adds, for tf_keras.

        Raises:
            UserError: it cannot be used, or is for Keras 3.
        """
        found = plugins.load(cls.kind, name, cls.own(), cls.wanted, family_of)
        its = family_of(found, FAMILY_BASES)
        if its == "keras":
            raise UserError(
                f"the {cls.kind} {name} is for models of Keras 3, and the "
                "Model Garden's are of tf_keras; choose another one"
            )
        return found if its else largebatch.adapt(found)

    def admit(self, names: Iterable[Any]) -> None:
        """Adds the fields of other packages that are among some names."""
        further = self.further()
        for name in names:
            if isinstance(name, str) and name in further:
                self.add(name)

    def add(self, name: str) -> None:
        """Adds the field of another package, unless it is there."""
        if name not in vars(self):
            made = config_of(self.other(name), self.section, name)
            setattr(self, name, picklable(made, type(self), name)())


def config_of(
    kind: type, section: type[base_config.Config], name: str | None = None
) -> type[base_config.Config]:
    """Returns the config of a class's arguments and their defaults.

    An argument without a default has None, with which it must be given.

    Args:
        kind: the class.
        section: what its config derives from.
        name: of an optimizer; None means the class's.

    >>> fields = dataclasses.fields(
    ...     config_of(largebatch.Cosine, base_config.Config)
    ... )
    >>> [(field.name, field.default) for field in fields[1:]]
    [('total_steps', None), ('warmup_steps', 0.0), ('final', 0.0)]
    """
    fields = [
        (argument, *field_of(parameter))
        for argument, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
        and argument not in ("name", "learning_rate")
    ]
    if issubclass(section, optimizer_config.BaseOptimizerConfig):
        fields.append(("name", str, name or kind.__name__))
    return dataclasses.make_dataclass(
        kind.__name__ + "Config", fields, bases=(section,)
    )


def picklable(made: Any, among: type[Open], name: str) -> Any:
    """Has a class that no module has be found again by a field's name.

    Args:
        made: the class.
        among: the choice that has the field.
        name: of the field.
    """
    made.__reduce__ = lambda self: (restored, (among, name, self.as_dict()))
    return made


def restored(among: type[Open], name: str, values: dict[str, Any]) -> Any:
    """Returns what was pickled: the config in a field of a choice."""
    own: Any = {x.name: x.default_factory for x in dataclasses.fields(among)}
    if name in own:
        return own[name](**values)
    return config_of(among.other(name), among.section, name)(**values)


def field_of(parameter: inspect.Parameter) -> tuple[Any, Any]:
    """Returns the type of an argument's values, and its default.

    >>> keyword = inspect.Parameter.KEYWORD_ONLY
    >>> field_of(inspect.Parameter("norm", keyword, default=len))
    (typing.Any, <built-in function len>)
    >>> epsilon = inspect.signature(largebatch.LARS).parameters["epsilon"]
    >>> field_of(epsilon)
    (float | None, None)
    """
    annotation, default = parameter.annotation, parameter.default
    if isinstance(default, (list, tuple)):
        copy = dataclasses.field(default_factory=lambda: list(default))
        return Selector, copy
    if isinstance(default, str):
        return str if annotation is str else Selector, default
    for kind, values in ((bool, bool), (float, (int, float))):
        if isinstance(default, values):
            return kind, default
    named = (annotation, *typing.get_args(annotation))
    plain = [kind for kind in (bool, float, str) if kind in named]
    default = None if default is parameter.empty else default
    return plain[0] | None if plain else Any, default


def choice(among: Mapping[str, type]) -> Callable[[type], type]:
    """Returns a decorator: a dataclass with a field for each of some classes.

    Args:
        among: the classes by the names of the fields.
    """

    def with_fields(config: Any) -> type:
        for name, kind in among.items():
            config.__annotations__[name] = config.section
            made = config_of(kind, config.section)
            setattr(config, name, one(picklable(made, config, name)))
        return dataclasses.dataclass(config)

    return with_fields


@choice(OPTIMIZERS)
class LargeBatchOptimizerConfig(optimization_config.OptimizerConfig, Open):
    """Which optimizer: ``type`` names one of the fields, here or inherited.

    There is one for each of :data:`OPTIMIZERS`, with the class's arguments;
    None is the variant's own value.
    """

    kind = "optimizer"
    wanted = LargeBatchOptimizer
    section = optimizer_config.BaseOptimizerConfig


@choice(SCHEDULES)
class LargeBatchLrConfig(optimization_config.LrConfig, Open):
    """Which schedule: ``type`` names one of the fields, here or inherited.

    There is one for each of :data:`SCHEDULES`, with the class's arguments.
    """

    kind = "schedule"
    wanted = schedules.Schedule
    section = base_config.Config


@dataclasses.dataclass
class LargeBatchOptimizationConfig(optimization_config.OptimizationConfig):
    """Optimizer and schedule, for ``trainer.optimizer_config``.

    To be set as an instance in the function that makes an experiment: a dict
    would become the Garden's own class, which does not know these fields.
    """

    optimizer: LargeBatchOptimizerConfig = one(LargeBatchOptimizerConfig)
    learning_rate: LargeBatchLrConfig = one(LargeBatchLrConfig)


class LargeBatchOptimizerFactory(optimizer_factory.OptimizerFactory):
    """The Garden's factory, which knows this package's schedules and others'.

    The Garden has no function to register a schedule with.
    """

    def __init__(self, config: optimization_config.OptimizationConfig):
        super().__init__(config)
        self.schedules = dict(SCHEDULES)
        chosen = config.learning_rate
        if isinstance(chosen, Open) and self._lr_type in chosen.further():
            self.schedules[self._lr_type] = chosen.other(self._lr_type)

    def build_learning_rate(
        self,
    ) -> tf_keras.optimizers.schedules.LearningRateSchedule | float:
        """Returns the schedule, or a float where the type is ``constant``.

        Raises:
            UserError: the Garden's ``warmup`` is given beside a schedule that
                has a warmup of its own, or a value of the Garden's is missing.
        """
        if self._lr_type not in self.schedules:
            check_given(self._lr_config, "learning_rate", self._lr_type)
            check_given(self._warmup_config, "warmup", self._warmup_type)
            return super().build_learning_rate()
        if self._warmup_config:
            raise UserError(
                f"the schedule {self._lr_type} has a warmup of its own; "
                "remove trainer.optimizer_config.warmup"
            )
        arguments = self._lr_config.as_dict()
        return self.schedules[self._lr_type](**arguments)


def check_given(config: Any, section: str, kind: str) -> None:
    """Raises UserError for a config of the Garden's that lacks a value.

    Args:
        config: of a schedule or a warmup; None where there is no warmup.
        section: of ``trainer.optimizer_config``, where it is.
        kind: its name there.
    """
    values = config.as_dict() if config else {}
    missing = [
        name
        for name, value in values.items()
        if value is None and name not in OPTIONAL
    ]
    if missing:
        raise UserError(
            f"{kind} lacks {', '.join(missing)}, in trainer.optimizer_config."
            f"{section}.{kind}; give a value for each"
        )


def register(others: dict[str, type] | None = None) -> None:
    """Makes the Garden's factory know the optimizers, once.

    A task that calls :func:`build_optimizer` needs no call of this one.

    Args:
        others: those of other packages that are needed, by name.

    Raises:
        ValueError: another optimizer has one of the names.
    """
    for name, optimizer in {**OPTIMIZERS, **(others or {})}.items():
        for legacy, known in (
            (True, optimizer_factory.LEGACY_OPTIMIZERS_CLS),
            (False, optimizer_factory.NEW_OPTIMIZERS_CLS),
        ):
            if known.get(name) is not optimizer:
                optimizer_factory.register_optimizer_cls(
                    name, optimizer, use_legacy_optimizer=legacy
                )


def build_optimizer(
    config: optimization_config.OptimizationConfig,
) -> tf_keras.optimizers.Optimizer:
    """Returns the optimizer with its schedule that a config describes.

    Args:
        config: a :class:`LargeBatchOptimizationConfig`, or the Garden's.

    Raises:
        UserError: no optimizer or schedule, a value that it cannot have, or
            ``ema``.
    """
    if config.ema is not None:
        raise UserError(
            "ema is set, in trainer.optimizer_config; leave it out, as the "
            "Model Garden's average of weights is made for Keras's old "
            "optimizers alone"
        )
    chosen = config.optimizer
    is_other = isinstance(chosen, Open) and chosen.type in chosen.further()
    register({chosen.type: chosen.other(chosen.type)} if is_other else None)
    try:
        factory = LargeBatchOptimizerFactory(config)
        return factory.build_optimizer(factory.build_learning_rate())
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise UserError(
            f"{words.rstrip('.')}, in trainer.optimizer_config; correct it"
        ) from error
