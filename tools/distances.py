"""Prints the tables of docs/variants.md: how far one LARS is from another.

    python tools/distances.py

Every optimizer starts at the same weights and is given the same gradients and
the same rates, which change at every step, so that what lies between two ends
is the algorithms' alone. The problem is seeded and small: it says that they
differ and about how much, not which is better.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import jax
import keras
import numpy as np
import optax
import tensorflow as tf
from official.modeling.optimization import lamb as garden_lamb
from official.modeling.optimization import lars as garden_lars
from official.modeling.optimization import legacy_adamw as garden_adamw

import tf_largebatch.keras
from tf_largebatch import rules, schedules

STEPS = 25
# Of the way that the reference has gone; what is less is rounding.
ROUNDING = 3e-5
KERNELS = ("conv/kernel", "dense/kernel", "head/kernel")
OTHERS = ("norm/gamma", "dense/bias")
# What an optimizer shall leave alone, and of which variables the distance is.
COLUMNS = {
    "weights": (("bias", "gamma"), KERNELS),
    "biases and norms, left out": (("bias", "gamma"), OTHERS),
    "all, nothing left out": ((), KERNELS + OTHERS),
}
# For the Model Garden, which takes an empty list to mean the other list.
NO_VARIABLE = ("no such variable",)
# The published pipelines' schedules in shape, over STEPS steps.
LARS_SCHEDULE = schedules.PiecewisePolynomial(
    peak=29.0, total_steps=STEPS, warmup_steps=7, final=1e-4
)
NESTEROV_SCHEDULE = schedules.PiecewisePolynomial(
    peak=7.05, total_steps=STEPS, warmup_steps=7, warmup_power=2.0
)
BERT_SCHEDULE = schedules.BertPolynomial(
    peak=5e-3, total_steps=STEPS, warmup_steps=5
)

Arrays = Mapping[str, np.ndarray]
Columns = Sequence[tuple[Sequence[str], Sequence[str]]]
# Given patterns of what it shall leave alone, returns an optimizer.
Maker = Callable[[Sequence[str]], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Weights to start from, and the gradients and the rate of each step."""

    start: Arrays
    gradients: Arrays
    rates: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Contestant:
    """An optimizer: its name in the table, how to make and to run it."""

    name: str
    make: Maker
    run: Callable[[Problem, Any], Arrays]


def problem(schedule: schedules.Schedule) -> Problem:
    """Returns weights and gradients of the sizes that a network has.

    Three kernels, a bias that starts at 0 and a norm's gamma that starts at
    1; the gradients keep a direction, with four times as much noise, and are
    1e-4 to 1e-2 an element.
    """
    rng = np.random.default_rng(2102)
    start = {
        "conv/kernel": rng.normal(size=(3, 3, 16, 32)) / 12,
        "norm/gamma": np.ones(32),
        "dense/kernel": rng.normal(size=(64, 64)) / 8,
        "dense/bias": np.zeros(64),
        "head/kernel": rng.normal(size=(64, 10)) / 8,
    }
    units = np.geomspace(1e-4, 1e-2, len(start))
    gradients = {
        path: unit
        * (rng.normal(size=w.shape) / 4 + rng.normal(size=(STEPS, *w.shape)))
        for unit, (path, w) in zip(units, start.items())
    }
    rates = schedule.rate(np, np.arange(STEPS))
    return Problem(as_float32(start), as_float32(gradients), rates)


def as_float32(arrays: Arrays) -> Arrays:
    """Returns arrays as float32."""
    return {path: each.astype("float32") for path, each in arrays.items()}


def keras_variable(path: str, value: np.ndarray) -> keras.Variable:
    """Returns a variable of the path that a layer's has."""
    scope, name = path.split("/")
    with keras.name_scope(scope):
        return keras.Variable(value, name=name)


def tf_variable(path: str, value: np.ndarray) -> tf.Variable:
    """Returns a variable of the name that a tf_keras layer's has."""
    return tf.Variable(value, name=path)


def steps_of(
    variable: Callable[[str, np.ndarray], Any], work: Problem, optimizer: Any
) -> Arrays:
    """Returns where an optimizer of either Keras ends."""
    made = {path: variable(path, w) for path, w in work.start.items()}
    for step, rate in enumerate(work.rates):
        optimizer.learning_rate = float(rate)
        optimizer.apply_gradients(
            [
                (tf.constant(work.gradients[path][step]), each)
                for path, each in made.items()
            ]
        )
    return {path: each.numpy() for path, each in made.items()}


def in_keras(work: Problem, optimizer: Any) -> Arrays:
    """Returns where an optimizer for Keras 3 ends."""
    return steps_of(keras_variable, work, optimizer)


def in_tf_keras(work: Problem, optimizer: Any) -> Arrays:
    """Returns where an optimizer for tf_keras ends."""
    return steps_of(tf_variable, work, optimizer)


def in_optax(work: Problem, from_schedule: Callable[[Any], Any]) -> Arrays:
    """Returns where an optimizer of optax, made from a schedule, ends."""
    rates = jax.numpy.asarray(work.rates)
    optimizer = from_schedule(lambda step: rates[step])

    def take_step(carry: Any, gradients: Arrays) -> Any:
        weights, state = carry
        updates, state = optimizer.update(gradients, state, weights)
        return (optax.apply_updates(weights, updates), state), None

    start = work.start, optimizer.init(work.start)
    (weights, _), _ = jax.lax.scan(take_step, start, work.gradients)
    return jax.tree.map(np.asarray, weights)


def ours(name: str, optimizer: str, **arguments: Any) -> Contestant:
    """Returns one of this package's optimizers."""

    def make(alone: Sequence[str]) -> Any:
        selectors = {"exclude_from_weight_decay": alone}
        if optimizer in ("LARS", "LAMB"):
            selectors["exclude_from_layer_adaptation"] = alone
        return getattr(tf_largebatch.keras, optimizer)(
            1.0, **selectors, **arguments
        )

    return Contestant(name, make, in_keras)


def variants(optimizer: str, named: Mapping[str, Any]) -> list[Contestant]:
    """Returns every variant but the first, which is the reference."""
    first, *others = named
    return [
        ours(f"`{optimizer}(variant={name!r})`", optimizer, variant=name)
        for name in others
    ]


def of_the_garden(name: str, optimizer: Any, **arguments: Any) -> Contestant:
    """Returns the Model Garden's LARS or LAMB."""

    def make(alone: Sequence[str]) -> Any:
        lists = list(alone or NO_VARIABLE)
        return optimizer(
            exclude_from_weight_decay=lists,
            exclude_from_layer_adaptation=lists,
            **arguments,
        )

    return Contestant(f"Model Garden's {name}", make, in_tf_keras)


def all_but(alone: Sequence[str]) -> Callable[[Arrays], dict[str, bool]]:
    """Returns an optax mask."""
    return lambda weights: {
        path: not any(pattern in path for pattern in alone) for path in weights
    }


def optax_lars(alone: Sequence[str]) -> Any:
    """Returns optax's LARS, to be given a schedule."""
    return functools.partial(
        optax.lars,
        weight_decay=1e-4,
        momentum=0.929,
        weight_decay_mask=all_but(alone),
        trust_ratio_mask=all_but(alone),
    )


def optax_lamb(alone: Sequence[str]) -> Any:
    """Returns optax's LAMB, which adapts everything."""
    return functools.partial(optax.lamb, weight_decay=0.01, mask=all_but(alone))


def keras_lamb(alone: Sequence[str]) -> Any:
    """Returns Keras's LAMB, which adapts everything."""
    optimizer = keras.optimizers.Lamb(weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=list(alone))
    return optimizer


def keras_sgd(alone: Sequence[str]) -> Any:
    """Returns Keras's Nesterov momentum; nothing decays here."""
    del alone
    return keras.optimizers.SGD(1.0, momentum=0.976, nesterov=True)


def keras_adamw(alone: Sequence[str]) -> Any:
    """Returns Keras's AdamW."""
    optimizer = keras.optimizers.AdamW(weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=list(alone))
    return optimizer


def garden_adam(alone: Sequence[str]) -> Any:
    """Returns the Model Garden's AdamW, which clips by itself."""
    return garden_adamw.AdamWeightDecay(
        weight_decay_rate=0.01, exclude_from_weight_decay=list(alone)
    )


def of_lars() -> list[Contestant]:
    """Returns LARS as it is published, then the others."""
    lars = functools.partial(
        of_the_garden,
        optimizer=garden_lars.LARS,
        momentum=0.929,
        weight_decay_rate=1e-4,
    )
    return [
        ours("`LARS()`", "LARS"),
        *variants("LARS", rules.LARS_VARIANTS),
        Contestant("optax's `lars`", optax_lars, in_optax),
        lars("`LARS`"),
        lars("`LARS(classic_momentum=False)`", classic_momentum=False),
    ]


def of_lamb() -> list[Contestant]:
    """Returns LAMB as it is published, then the others."""
    return [
        ours("`LAMB()`", "LAMB"),
        *variants("LAMB", rules.LAMB_VARIANTS),
        Contestant("optax's `lamb`", optax_lamb, in_optax),
        Contestant("Keras's `Lamb`", keras_lamb, in_keras),
        of_the_garden("`LAMB`", garden_lamb.LAMB, weight_decay_rate=0.01),
    ]


def of_nesterov() -> list[Contestant]:
    """Returns the paper's Nesterov momentum, then those with the rate in it."""
    nesterov = functools.partial(ours, optimizer="Nesterov", momentum=0.976)
    inside = "`Nesterov(learning_rate_in_momentum=True)`"
    return [
        nesterov("`Nesterov()`"),
        nesterov(inside, learning_rate_in_momentum=True),
        Contestant("Keras's `SGD(nesterov=True)`", keras_sgd, in_keras),
    ]


def of_adam() -> list[Contestant]:
    """Returns Adam with decoupled decay, then the others."""
    adam = functools.partial(ours, optimizer="Adam", weight_decay=0.01)
    garden = "Model Garden's `AdamWeightDecay`"
    return [
        adam("`Adam()`"),
        adam("`Adam(epsilon=1e-6)`", epsilon=1e-6),
        adam("`Adam(bias_correction=False)`", bias_correction=False),
        Contestant("Keras's `AdamW`", keras_adamw, in_keras),
        Contestant(garden, garden_adam, in_tf_keras),
    ]


# The schedule, and what is compared: the first is the reference.
GROUPS = {
    "LARS": (LARS_SCHEDULE, of_lars),
    "LAMB": (BERT_SCHEDULE, of_lamb),
    "Nesterov": (NESTEROV_SCHEDULE, of_nesterov),
    "Adam": (BERT_SCHEDULE, of_adam),
}


@functools.cache
def end_of(work: Problem, one: Contestant, alone: Sequence[str]) -> Arrays:
    """Returns where a contestant ends that leaves some variables alone."""
    return one.run(work, one.make(alone))


def norm(arrays: Sequence[np.ndarray]) -> float:
    """Returns the L2 norm over all arrays, in float64."""
    squares = (np.sum(np.square(each, dtype="float64")) for each in arrays)
    return float(np.sqrt(sum(squares)))


def distances(
    work: Problem, one: Contestant, reference: Contestant, columns: Columns
) -> list[float]:
    """Returns the distances to a reference, over the way that it has gone."""
    found = []
    for alone, paths in columns:
        end, wanted = end_of(work, one, alone), end_of(work, reference, alone)
        apart = norm([end[path] - wanted[path] for path in paths])
        gone = norm([wanted[path] - work.start[path] for path in paths])
        found.append(apart / gone)
    return found


def shown(part: float) -> str:
    """Returns a distance in percent, with two digits.

    >>> shown(0.12345), shown(2.5), shown(0.00012345), shown(1e-6)
    ('12 %', '250 %', '0.012 %', '0')
    """
    if part < ROUNDING:
        return "0"
    return f"{float(f'{100 * part:.2g}'):g} %"


def table(group: str) -> str:
    """Returns one table in Markdown."""
    schedule, contestants = GROUPS[group]
    reference, *others = contestants()
    work = problem(schedule)
    adapts = group in ("LARS", "LAMB")
    columns = COLUMNS if adapts else {"all": COLUMNS["all, nothing left out"]}
    lines = [
        f"| distance to {reference.name} | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for each in others:
        found = distances(work, each, reference, tuple(columns.values()))
        lines.append(f"| {each.name} | {' | '.join(map(shown, found))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join(map(table, GROUPS)))
