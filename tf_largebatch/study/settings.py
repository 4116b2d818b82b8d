"""What a row's settings mean: schedules, losses and initial values.

Settings are the hyperparameters that do not belong to the optimizer:

- ``schedule``: ``cosine`` or ``piecewise_polynomial``, with
  ``warmup_fraction`` (of all steps), ``warmup_power``, ``decay_power``,
  ``final_fraction`` (of the peak) and ``decay_extra_steps``;
- ``label_smoothing``: tau;
- ``gamma_0``: initial gamma of the last norm of each residual block.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_largebatch import schedules

SCHEDULES = ("cosine", "piecewise_polynomial")

DEFAULTS: Mapping[str, Any] = {
    "schedule": "cosine",
    "warmup_fraction": 0.0,
    "warmup_power": 1.0,
    "decay_power": 2.0,
    "final_fraction": 0.0,
    "decay_extra_steps": 0.0,
    "label_smoothing": 0.0,
    "gamma_0": 1.0,
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
    warmup = settings["warmup_fraction"] * steps
    shared = {
        "peak": learning_rate,
        "total_steps": steps,
        "warmup_steps": warmup,
        "final": settings["final_fraction"] * learning_rate,
    }
    if settings["schedule"] == "cosine":
        return schedules.cosine(np, np.arange(steps), **shared)
    return schedules.piecewise_polynomial(
        np,
        np.arange(steps),
        warmup_power=settings["warmup_power"],
        decay_power=settings["decay_power"],
        decay_steps=steps - warmup + settings["decay_extra_steps"],
        **shared,
    )
