"""What a row's settings mean for the learning rate of every step.

Settings are the hyperparameters that do not belong to the optimizer:

- ``schedule``: one of ``SCHEDULES``, with ``warmup_fraction`` (of all steps),
  ``warmup_power``, ``decay_power``, ``final_fraction`` (of the peak),
  ``decay_extra_steps`` and ``discontinuous``, of which each schedule reads
  those that it has;
- those that the workload's YAML file has under ``settings``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_largebatch import schedules

DEFAULTS: Mapping[str, Any] = {
    "schedule": "cosine",
    "warmup_fraction": 0.0,
    "warmup_power": 1.0,
    "decay_power": 2.0,
    "final_fraction": 0.0,
    "decay_extra_steps": 0.0,
    "discontinuous": False,
}


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
    return SCHEDULES[settings["schedule"]](
        settings,
        np.arange(steps),
        peak=learning_rate,
        total_steps=steps,
        warmup_steps=settings["warmup_fraction"] * steps,
    )


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
