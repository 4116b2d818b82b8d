"""A schedule that rises, stays, and falls in straight lines."""

from typing import Any

from tf_largebatch import schedules


def trapezoid(
    xp: Any,
    step: Any,
    *,
    peak: float,
    total_steps: float,
    warmup_steps: float,
    final: float,
    decay_fraction: float,
) -> Any:
    """Returns the rate, float32 of the shape of ``step``.

    Args:
        xp: array namespace, such as numpy.
        step: integers; 0 at the first step.
        peak: rate in between.
        total_steps: of the run.
        warmup_steps: in which it rises from 0.
        final: rate at the end.
        decay_fraction: of all steps, in which it falls.
    """
    falling = decay_fraction * total_steps
    left = schedules.fraction_left(xp, step, total_steps, falling)
    fallen = final + (peak - final) * left
    if not warmup_steps:
        return fallen
    risen = peak * schedules.fraction_done(xp, step, warmup_steps)
    return xp.where(schedules.is_warmup(xp, step, warmup_steps), risen, fallen)


class Trapezoid(schedules.Schedule):
    """A linear warmup, a constant rate, a linear decay.

    Args:
        peak: rate in between.
        total_steps: steps of the whole run.
        warmup_steps: in which it rises from 0. Defaults to 0.
        final: rate at the end. Defaults to 0.
        decay_fraction: of all steps, in which it falls. Defaults to 0.2.

    Raises:
        ValueError: rise and fall take longer than the run, or a value is
            negative or no finite number.
    """

    function = staticmethod(trapezoid)

    def __init__(
        self,
        peak: float,
        total_steps: float,
        warmup_steps: float = 0.0,
        final: float = 0.0,
        decay_fraction: float = 0.2,
    ):
        super().__init__(
            peak=peak,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            final=final,
            decay_fraction=decay_fraction,
        )
        if warmup_steps + decay_fraction * total_steps > total_steps:
            raise ValueError(
                "`warmup_steps` and `decay_fraction` must leave the run time "
                f"for both. Received: {warmup_steps=}, {decay_fraction=}, "
                f"{total_steps=}"
            )
