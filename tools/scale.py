"""Prints the tables of docs/scale.md: what a step costs on many chips.

    python tools/scale.py

The formulas are those of the page. What a replica computes and reads comes
from docs/preflight.md, what a chip can do from tf_largebatch/tpu/slices.py.
"""

import dataclasses

from tf_largebatch.tpu.slices import CHIPS

CHIP = CHIPS["v3"]
CHIPS_IN_ALL = (512, 2_048, 8_192, 16_384, 65_536)
BATCH = 32_768


@dataclasses.dataclass(frozen=True)
class Work:
    """A recipe's step, by preflight, of a replica with so many examples.

    Attributes:
        name: of the recipe.
        examples: of a replica.
        flops: of a replica.
        traffic: bytes of a replica from and to its memory, without the
            optimizer's.
        parameters: how many.
        optimizer: bytes a parameter that the update moves at least.
    """

    name: str
    examples: int
    flops: float
    traffic: float
    parameters: float
    optimizer: int


WORKS = (
    Work("resnet50/nesterov_b_32k", 64, 1.54e12, 19.89e9, 25.557e6, 20),
    Work("resnet50/lars_32k", 64, 1.54e12, 19.88e9, 25.557e6, 28),
    Work("bert_large/adam_32k/phase1", 64, 15.66e12, 329.13e9, 336.2e6, 28),
    Work("bert_large/lamb_32k/phase1", 64, 15.66e12, 329.10e9, 336.2e6, 40),
)


def examples(chips: int) -> int:
    """Returns how many examples a core has, of the paper's batch or more."""
    return max(1, BATCH // (chips * CHIP.devices))


def compute(work: Work, chips: int) -> float:
    """Returns the seconds of forward and backward passes: T_c."""
    flops, bandwidth = CHIP.flops / CHIP.devices, CHIP.bandwidth / CHIP.devices
    seconds = max(work.flops / flops, work.traffic / bandwidth)
    return seconds * examples(chips) / work.examples


def all_reduce(work: Work, chips: int) -> float:
    """Returns the seconds in which gradients are summed: T_r."""
    return 2 * (chips - 1) / chips * 4 * work.parameters / CHIP.link


def update(work: Work) -> float:
    """Returns the seconds of an update on every replica: T_u."""
    bandwidth = CHIP.bandwidth / CHIP.devices
    return work.optimizer * work.parameters / bandwidth


def sharded_update(work: Work, chips: int) -> float:
    """Returns the seconds of an update that replicas share: T_s."""
    return update(work) / (chips * CHIP.devices)


def table(work: Work) -> str:
    """Returns a recipe's table."""
    lines = [
        f"`{work.name}`:",
        "",
        "| chips | examples a core | batch | T_c, ms | T_r, ms | T_u, ms "
        "| T_s, ms | update's share | sharded |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for chips in CHIPS_IN_ALL:
        times = (
            compute(work, chips),
            all_reduce(work, chips),
            update(work),
            sharded_update(work, chips),
        )
        passes, summed, whole, shared = times
        batch = chips * CHIP.devices * examples(chips)
        cells = [f"{chips:,}", str(examples(chips)), f"{batch:,}"]
        cells += [f"{1e3 * each:.3g}" for each in times]
        cells += [
            f"{100 * part / (passes + summed + part):.2g} %"
            for part in (whole, shared)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join(map(table, WORKS)))
