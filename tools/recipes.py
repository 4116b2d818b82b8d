"""Prints the tables and commands of docs/recipes.md, or the README's table.

    python tools/recipes.py [--readme]

All of it comes from the recipes themselves, and the cost from the table of
docs/preflight.md. A folder of recipes, trained one after the other, is a row.
"""

import itertools
import pathlib
import sys
from collections.abc import Sequence

from tf_largebatch.cli.recipes import line
from tf_largebatch.garden import recipes
from tf_largebatch.garden.recipes import Recipe

ROOT = pathlib.Path(__file__).resolve().parent.parent
TITLES = {
    "resnet50": "ResNet-50",
    "bert_large": "BERT-Large",
    "bert_base": "BERT-Base",
    "bert_tiny": "Tiny BERT",
}
Group = tuple[str, Sequence[Recipe]]


def groups(folder: str) -> list[Group]:
    """Returns what can be trained: recipes, and chains with their parts."""
    found = [recipes.load(name) for name in recipes.names()]
    of_it = [each for each in found if each.name.startswith(f"{folder}/")]
    by_name = itertools.groupby(
        of_it, lambda each: recipes.chain_of(each.name) or each.name
    )
    in_order = {name: list(group) for name, group in by_name}
    return [
        (name, [recipes.load(part) for part in recipes.parts(name)] or group)
        for name, group in in_order.items()
    ]


def costs() -> dict[str, int]:
    """Returns the hours of TPU v3 cores by recipe, from preflight's page."""
    page = (ROOT / "docs/preflight.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in page.splitlines()
        if row.startswith("| resnet50/") or row.startswith("| bert_")
    ]
    return {row[0]: int(row[7].replace(",", "")) for row in rows}


def cost(group: Sequence[Recipe], known: dict[str, int]) -> str:
    """Returns the least hours of a group, if preflight knows any."""
    hours = [known[each.name] for each in group if each.name in known]
    left_out = [
        str(recipes.part_of(each.name))
        for each in group
        if each.name not in known
    ]
    if not hours:
        return ""
    without = f", without {' and '.join(left_out)}" if left_out else ""
    return f"{sum(hours):,}{without}"


def command(name: str, group: Sequence[Recipe]) -> str:
    """Returns the command that trains a recipe or a chain, on one line."""
    text = " ".join(group[0].command.split()).replace(", task.", ",task.")
    part = recipes.part_of(group[0].name)
    if part is None:
        return text
    if "bert_tiny" in name:  # Its data is made on the way.
        return (
            f"tf-largebatch train --recipe={name} --text=demo "
            f"--model_dir=runs/{name}"
        )
    return text.replace(f"{name}/{part}", name)


def section(folder: str) -> str:
    """Returns a family's title, table and commands in Markdown."""
    known = costs()
    found = groups(folder)
    lines = [
        f"## {TITLES[folder]}",
        "",
        "| recipe | row of the paper | batch | steps | expected "
        "| core hours, at least |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {' | '.join([*line(name, group), cost(group, known)])} |"
        for name, group in found
    ]
    commands = [command(name, group) for name, group in found]
    return "\n".join([*lines, "", "```sh", *commands, "```"])


def readme() -> str:
    """Returns the table of the rows that the paper has."""
    lines = ["| recipe | row of the paper | expected |", "|---|---|---|"]
    for name, group in [*groups("resnet50"), *groups("bert_large")]:
        _, row, _, _, expected = line(name, group)
        if not row.startswith("none"):
            lines.append(f"| `{name}` | {row} | {expected} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--readme"]:
        print(readme())
    else:
        print("\n\n".join(map(section, TITLES)))
