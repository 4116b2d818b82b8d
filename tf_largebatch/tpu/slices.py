"""Slices of TPUs: their names, their shapes, and what a chip can do.

Figures are those that are published: for v2 and v3 in Jouppi and others, "A
Domain-Specific Supercomputer for Training Deep Neural Networks" (2020), for
the others on the pages "TPU v4" to "TPU v6e" of Google Cloud's documentation.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

from tf_largebatch.errors import UserError, hint


@dataclasses.dataclass(frozen=True)
class Chip:
    """A generation of TPUs.

    Attributes:
        memory: bytes of HBM.
        flops: bfloat16 operations a second at most.
        bandwidth: bytes a second from and to the memory at most.
        link: bytes a second to all neighbours together, one way, at most.
        devices: as how many devices it computes.
        counted: how many a chip counts in the name of a slice.
        shapes: of the slices, by the number of their chips.
    """

    memory: float
    flops: float
    bandwidth: float
    link: float
    devices: int
    counted: int
    shapes: Mapping[int, str]


def shapes(*texts: str) -> dict[int, str]:
    """Returns shapes by their number of chips.

    >>> shapes("2x2", "2x2x4")
    {4: '2x2', 16: '2x2x4'}
    """
    return {math.prod(map(int, text.split("x"))): text for text in texts}


SQUARES = shapes("2x2", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = shapes(
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
    *("8x8x8", "8x8x16", "8x16x16"),
)
GIB, TERA, GIGA = 2.0**30, 1e12, 1e9
CHIPS = {
    "v2": Chip(*(16 * GIB, 46 * TERA, 700 * GIGA, 248 * GIGA), 2, 2, SQUARES),
    "v3": Chip(
        *(32 * GIB, 123 * TERA, 900 * GIGA, 328 * GIGA),
        *(2, 2, SQUARES | shapes("16x32", "32x32")),
    ),
    "v4": Chip(*(32 * GIB, 275 * TERA, 1228 * GIGA, 300 * GIGA), 1, 2, CUBES),
    "v5e": Chip(
        *(16 * GIB, 197 * TERA, 819 * GIGA, 200 * GIGA),
        *(1, 1, SQUARES | shapes("2x4")),
    ),
    "v5p": Chip(*(95 * GIB, 459 * TERA, 2765 * GIGA, 600 * GIGA), 1, 2, CUBES),
    "v6e": Chip(
        *(32 * GIB, 918 * TERA, 1638 * GIGA, 400 * GIGA),
        *(1, 1, SQUARES | shapes("2x4")),
    ),
}
SAME = {"v5litepod": "v5e", "v5lite": "v5e"}


@dataclasses.dataclass(frozen=True)
class Slice:
    """So many chips of a generation.

    Attributes:
        name: as Google Cloud has it, such as ``v3-512``.
        kind: the generation, such as ``v3``.
        shape: of the chips, such as ``16x16``.
    """

    name: str
    kind: str
    shape: str

    @property
    def chip(self) -> Chip:
        """What one of its chips can do."""
        return CHIPS[self.kind]

    @property
    def topology(self) -> str:
        """Its name for the compiler."""
        return f"{self.kind}:{self.shape}"

    @property
    def devices(self) -> int:
        """How many replicas it trains."""
        chips = math.prod(map(int, self.shape.split("x")))
        return chips * self.chip.devices

    @property
    def memory(self) -> float:
        """Bytes of HBM of a device."""
        return self.chip.memory / self.chip.devices


def find(name: str) -> Slice:
    """Returns the slice of a name.

    Args:
        name: as Google Cloud has it, such as ``v3-512`` or ``v5litepod-16``,
            or as the compiler has it, such as ``v3:16x16``.

    Raises:
        UserError: there is none.

    >>> find("v3-512").topology, find("v3-512").devices
    ('v3:16x16', 512)
    >>> find("v4:2x2x1").name, find("v4-8").devices
    ('v4-8', 4)
    """
    match = re.fullmatch(r"(\w+)([-:])([\dx]+)", name)
    kind = SAME.get(match[1], match[1]) if match else ""
    if match is None or kind not in CHIPS:
        raise UserError(f"there is no slice {name!r}, in --topology; {known()}")
    chip = CHIPS[kind]
    if match[2] == ":":
        chips = math.prod(int(side or 0) for side in match[3].split("x"))
    else:
        chips = int(match[3]) // chip.counted if match[3].isdigit() else 0
    shape = chip.shapes.get(chips)
    found = Slice(f"{kind}-{chips * chip.counted}", kind, shape or "")
    if shape is None or match[3] not in (found.name[len(kind) + 1 :], shape):
        names = [f"{kind}-{size * chip.counted}" for size in chip.shapes]
        raise UserError(
            f"there is no slice {name!r}, in --topology; {hint(name, names)}"
        )
    return found


def known() -> str:
    """Returns what to do about a name of no generation."""
    return f"give a generation ({', '.join(CHIPS)}) and a size, as v3-512"
