"""Draws docs/images/house.svg: the package's parts, in floors by imports.

    python tools/house.py

A part stands one floor above the highest part that it imports, so that imports
point down. The picture follows the system's preference for light or dark.
"""

import ast
import collections
import functools
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tf_largebatch"
PICTURE = ROOT / "docs/images/house.svg"
# What a user of Keras alone has, and what needs the Model Garden.
FOR_KERAS = {"keras", "tf_keras", "optimizers", "fused", "rules"} | {
    *("schedules", "variables")
}
FOR_GARDEN = {"garden", "resnet", "bert", "records", "experiments"} | {
    *("checkpoints", "skipping", "tpu", "shards")
}
WIDTH, HEIGHT, GAP, MARGIN = 96, 30, 10, 16
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #222; text-anchor: middle }
.keras { fill: #d6e9f8; stroke: #0072b2 }
.garden { fill: #d9f0e6; stroke: #00805d }
.other { fill: #f2f2f2; stroke: #767676 }
@media (prefers-color-scheme: dark) {
  text { fill: #eee }
  .keras { fill: #123a55 }
  .garden { fill: #123f32 }
  .other { fill: #333 }
}
"""


def parts() -> dict[str, set[str]]:
    """Returns which parts of the package import which others."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            found[part] |= imported(path) - {part}
    return {
        part: others & found.keys() for part, others in sorted(found.items())
    }


def imported(path: pathlib.Path) -> set[str]:
    """Returns the parts of the package that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    split = [name.split(".") for name in names]
    return {
        name[1]
        for name in split
        if name[0] == "tf_largebatch" and len(name) > 1
    }


def floors(imports: dict[str, set[str]]) -> list[list[str]]:
    """Returns the parts by floor, the ground floor first.

    >>> floors({"cli": {"rules"}, "rules": set(), "errors": set()})
    [['rules', 'errors'], ['cli']]
    """

    @functools.cache
    def floor(part: str) -> int:
        return max((floor(other) + 1 for other in imports[part]), default=0)

    found = collections.defaultdict(list)
    for part in imports:
        found[floor(part)].append(part)
    return [found[number] for number in sorted(found)]


def kind(part: str) -> str:
    """Returns the style of a part."""
    if part in FOR_KERAS:
        return "keras"
    return "garden" if part in FOR_GARDEN else "other"


def box(part: str, x: float, y: float) -> str:
    """Returns a part as SVG."""
    return (
        f'<rect class="{kind(part)}" x="{x:g}" y="{y:g}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="4"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 20:g}">{part}</text>'
    )


def draw() -> str:
    """Returns the picture."""
    house = floors(parts())[::-1]
    columns = max(map(len, house))
    width = 2 * MARGIN + columns * (WIDTH + GAP) - GAP
    height = 2 * MARGIN + len(house) * (HEIGHT + GAP) - GAP
    lines = []
    for row, floor in enumerate(house):
        x = (width - len(floor) * (WIDTH + GAP) + GAP) / 2
        y = MARGIN + row * (HEIGHT + GAP)
        lines += [
            box(part, x + column * (WIDTH + GAP), y)
            for column, part in enumerate(floor)
        ]
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {width:g} {height:g}" role="img">',
            "<title>The parts of tf_largebatch: imports point down</title>",
            f"<style>{STYLE}</style>",
            *lines,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"written: {PICTURE.relative_to(ROOT)}")
