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

What the Garden has itself, optimizers and schedules, can be chosen as well.
"""

import dataclasses
from typing import Any

import tf_keras
from official.modeling.hyperparams import base_config
from official.modeling.optimization import optimizer_factory
from official.modeling.optimization.configs import (
    optimization_config,
    optimizer_config,
)

from tf_largebatch import tf_keras as largebatch
from tf_largebatch.errors import UserError
from tf_largebatch.variables import BIAS_AND_NORM

Selector = str | list[str]

# By the name of the field in the configs below.
OPTIMIZERS = {
    "largebatch_heavy_ball": largebatch.HeavyBall,
    "largebatch_nesterov": largebatch.Nesterov,
    "largebatch_lars": largebatch.LARS,
    "largebatch_adam": largebatch.Adam,
    "largebatch_lamb": largebatch.LAMB,
}
SCHEDULES = {
    "largebatch_piecewise_polynomial": largebatch.PiecewisePolynomial,
    "largebatch_cosine": largebatch.Cosine,
    "largebatch_bert_polynomial": largebatch.BertPolynomial,
}


@dataclasses.dataclass
class HeavyBallConfig(optimizer_config.BaseOptimizerConfig):
    """The arguments of :class:`tf_largebatch.tf_keras.HeavyBall`."""

    name: str = "HeavyBall"
    momentum: float = 0.9
    weight_decay: float = 0.0
    exclude_from_weight_decay: Selector = BIAS_AND_NORM
    learning_rate_in_momentum: bool = False


@dataclasses.dataclass
class NesterovConfig(HeavyBallConfig):
    """The arguments of :class:`tf_largebatch.tf_keras.Nesterov`."""

    name: str = "Nesterov"


@dataclasses.dataclass
class LARSConfig(optimizer_config.BaseOptimizerConfig):
    """The arguments of :class:`tf_largebatch.tf_keras.LARS`.

    None is the variant's own value.
    """

    name: str = "LARS"
    momentum: float = 0.929
    weight_decay: float = 1e-4
    trust_coefficient: float = 0.001
    epsilon: float | None = None
    exclude_from_layer_adaptation: Selector = BIAS_AND_NORM
    exclude_from_weight_decay: Selector = BIAS_AND_NORM
    variant: str = "mlperf"


@dataclasses.dataclass
class AdamConfig(optimizer_config.BaseOptimizerConfig):
    """The arguments of :class:`tf_largebatch.tf_keras.Adam`."""

    name: str = "Adam"
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    exclude_from_weight_decay: Selector = BIAS_AND_NORM
    bias_correction: bool = True


@dataclasses.dataclass
class LAMBConfig(optimizer_config.BaseOptimizerConfig):
    """The arguments of :class:`tf_largebatch.tf_keras.LAMB`.

    None is the variant's own value; for Adam's, the ``fallback_...``, it is
    LAMB's.
    """

    name: str = "LAMB"
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float | None = None
    weight_decay: float = 0.01
    exclude_from_layer_adaptation: Selector = BIAS_AND_NORM
    exclude_from_weight_decay: Selector = BIAS_AND_NORM
    bias_correction: bool | None = None
    zero_norm_ratio: float | None = None
    fallback_epsilon: float | None = None
    fallback_weight_decay: float | None = None
    variant: str = "mlperf"


@dataclasses.dataclass
class PiecewisePolynomialConfig(base_config.Config):
    """The arguments of `tf_largebatch.tf_keras.PiecewisePolynomial`.

    The first three must be given.
    """

    peak: float | None = None
    total_steps: float | None = None
    warmup_steps: float | None = None
    initial: float = 0.0
    final: float = 0.0
    warmup_power: float = 1.0
    decay_power: float = 2.0
    decay_steps: float | None = None


@dataclasses.dataclass
class CosineConfig(base_config.Config):
    """The arguments of :class:`tf_largebatch.tf_keras.Cosine`.

    The first two must be given.
    """

    peak: float | None = None
    total_steps: float | None = None
    warmup_steps: float = 0.0
    final: float = 0.0


@dataclasses.dataclass
class BertPolynomialConfig(base_config.Config):
    """The arguments of :class:`tf_largebatch.tf_keras.BertPolynomial`.

    The first three must be given.
    """

    peak: float | None = None
    total_steps: float | None = None
    warmup_steps: float | None = None
    power: float = 1.0
    warmup_power: float = 1.0
    discontinuous: bool = False


def one(config: type[base_config.Config]) -> Any:
    """Returns a field that holds a config of that class."""
    return dataclasses.field(default_factory=config)


@dataclasses.dataclass
class LargeBatchOptimizerConfig(optimization_config.OptimizerConfig):
    """Which optimizer: ``type`` names one of the fields, here or inherited."""

    largebatch_heavy_ball: HeavyBallConfig = one(HeavyBallConfig)
    largebatch_nesterov: NesterovConfig = one(NesterovConfig)
    largebatch_lars: LARSConfig = one(LARSConfig)
    largebatch_adam: AdamConfig = one(AdamConfig)
    largebatch_lamb: LAMBConfig = one(LAMBConfig)


@dataclasses.dataclass
class LargeBatchLrConfig(optimization_config.LrConfig):
    """Which schedule: ``type`` names one of the fields, here or inherited."""

    largebatch_piecewise_polynomial: PiecewisePolynomialConfig = one(
        PiecewisePolynomialConfig
    )
    largebatch_cosine: CosineConfig = one(CosineConfig)
    largebatch_bert_polynomial: BertPolynomialConfig = one(BertPolynomialConfig)


@dataclasses.dataclass
class LargeBatchOptimizationConfig(optimization_config.OptimizationConfig):
    """Optimizer and schedule, for ``trainer.optimizer_config``.

    To be set as an instance in the function that makes an experiment: a dict
    would become the Garden's own class, which does not know these fields.
    """

    optimizer: LargeBatchOptimizerConfig = one(LargeBatchOptimizerConfig)
    learning_rate: LargeBatchLrConfig = one(LargeBatchLrConfig)


class LargeBatchOptimizerFactory(optimizer_factory.OptimizerFactory):
    """The Garden's factory, which knows the schedules of this package too.

    The Garden has no function to register a schedule with.
    """

    def build_learning_rate(
        self,
    ) -> tf_keras.optimizers.schedules.LearningRateSchedule | float:
        """Returns the schedule, or a float where the type is ``constant``.

        Raises:
            UserError: the Garden's ``warmup`` is given beside a schedule that
                has a warmup of its own.
        """
        if self._lr_type not in SCHEDULES:
            return super().build_learning_rate()
        if self._warmup_config:
            raise UserError(
                f"the schedule {self._lr_type} has a warmup of its own; "
                "remove trainer.optimizer_config.warmup"
            )
        return SCHEDULES[self._lr_type](**self._lr_config.as_dict())


def register() -> None:
    """Makes the Garden's factory know the optimizers, once.

    A task that calls :func:`build_optimizer` needs no call of this one.

    Raises:
        ValueError: another optimizer has one of the names.
    """
    for name, optimizer in OPTIMIZERS.items():
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
        UserError: no optimizer or schedule, or a value that it cannot have.
    """
    register()
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
