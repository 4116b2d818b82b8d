"""What a row's settings mean for the learning rate of every step.

Settings are the hyperparameters that do not belong to the optimizer:

- ``schedule``: one of ``SCHEDULES``, with ``warmup_fraction`` (of all steps),
  ``warmup_power``, ``decay_power``, ``final_fraction`` (of the peak),
  ``decay_extra_steps`` and ``discontinuous``, of which each schedule reads
  those that it has; or another package's, which may have further numbers;
- those that the workload's YAML file has under ``settings``.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_largebatch import plugins, schedules
from tf_largebatch.errors import UserError
from tf_largebatch.study import spaces

DEFAULTS: Mapping[str, Any] = {
    "schedule": "cosine",
    "warmup_fraction": 0.0,
    "warmup_power": 1.0,
    "decay_power": 2.0,
    "final_fraction": 0.0,
    "decay_extra_steps": 0.0,
    "discontinuous": False,
}
# The arguments of another package's schedule that follow from the settings.
DERIVED = ("peak", "total_steps", "warmup_steps", "final")
# Steps for which such a schedule is tried.
TRIED = 100


def rates(
    settings: Mapping[str, Any], learning_rate: float, steps: int
) -> np.ndarray:
    """Returns the learning rate of every step.

    Args:
        settings: see the module's docstring; what is missing is the default.
        learning_rate: the peak.
        steps: length of the run.

    Returns:
        float32, of shape (steps,).
    """
    settings = {**DEFAULTS, **settings}
    if settings["schedule"] not in SCHEDULES:
        return rates_of_other(settings, learning_rate, steps)
    return SCHEDULES[settings["schedule"]](
        settings,
        np.arange(steps),
        peak=learning_rate,
        total_steps=steps,
        warmup_steps=settings["warmup_fraction"] * steps,
    )


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the settings are by default.

    Args:
        given: settings, of which the schedule may have numbers of its own.
    """
    name = given.get("schedule")
    if not isinstance(name, str) or name not in plugins.offered(
        "schedule", SCHEDULES
    ):
        return {**DEFAULTS}
    own = {
        argument: parameter.default
        for argument, parameter in arguments_of(name).items()
        if argument not in DERIVED
        and spaces.is_finite_number(parameter.default)
    }
    return {**own, **DEFAULTS}


def arguments_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Returns the arguments of another package's schedule."""
    return inspect.signature(other(name)).parameters


def other(name: str) -> type[schedules.Schedule]:
    """Returns another package's schedule; UserError if it cannot be used."""
    return plugins.load("schedule", name, SCHEDULES, schedules.Schedule)


def check_rates(settings: Mapping[str, Any], where: str) -> None:
    """Raises UserError where another package's schedule has no rates.

    Args:
        settings: all of a row.
        where: what messages call the row.
    """
    if settings["schedule"] in SCHEDULES:
        return
    found = rates(settings, 1.0, TRIED)
    if found.shape != (TRIED,) or not np.isfinite(found).all():
        raise UserError(
            f"{where} has the schedule {settings['schedule']!r}, which has not "
            "a finite rate for every step; correct its package"
        )


def rates_of_other(
    settings: Mapping[str, Any], learning_rate: float, steps: int
) -> np.ndarray:
    """Returns the rates of another package's schedule; see :func:`rates`.

    Raises:
        UserError: it cannot have its arguments.
    """
    name = settings["schedule"]
    known = {
        **settings,
        "peak": learning_rate,
        "total_steps": steps,
        "warmup_steps": settings["warmup_fraction"] * steps,
        "final": settings["final_fraction"] * learning_rate,
    }
    wanted = arguments_of(name)
    try:
        schedule = other(name)(**{x: known[x] for x in wanted if x in known})
        found = schedule.rate(np, np.arange(steps))
    except Exception as error:  # It is another package's.
        raise UserError(f"the schedule {name}: {error}") from error
    return np.asarray(found, np.float32)


def cosine(
    settings: Mapping[str, Any], step: np.ndarray, *, peak: float, **shared: Any
) -> np.ndarray:
    """Returns the rates of a cosine."""
    final = settings["final_fraction"] * peak
    return schedules.cosine(np, step, peak=peak, final=final, **shared)


def piecewise_polynomial(
    settings: Mapping[str, Any],
    step: np.ndarray,
    *,
    peak: float,
    total_steps: int,
    warmup_steps: float,
) -> np.ndarray:
    """Returns the rates of the paper's section 2.1.4."""
    return schedules.piecewise_polynomial(
        np,
        step,
        peak=peak,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        final=settings["final_fraction"] * peak,
        warmup_power=settings["warmup_power"],
        decay_power=settings["decay_power"],
        decay_steps=total_steps - warmup_steps + settings["decay_extra_steps"],
    )


def bert_polynomial(
    settings: Mapping[str, Any], step: np.ndarray, **shared: Any
) -> np.ndarray:
    """Returns the rates of BERT's schedule, with or without its jump."""
    return schedules.bert_polynomial(
        np,
        step,
        power=settings["decay_power"],
        warmup_power=settings["warmup_power"],
        discontinuous=settings["discontinuous"],
        **shared,
    )


SCHEDULES: Mapping[str, Callable[..., np.ndarray]] = {
    "cosine": cosine,
    "piecewise_polynomial": piecewise_polynomial,
    "bert_polynomial": bert_polynomial,
}
