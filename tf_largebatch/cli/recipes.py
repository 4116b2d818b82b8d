"""Lists the recipes: every row of the paper as a YAML file of settings.

A recipe's name is its path in official_configs, where its header says which
values are the paper's and which are this project's own choice. A line with
three batches is a folder of three recipes, which `train` trains one after the
other. --json prints every value of every recipe's experiment, defaults
included.

example:
  tf-largebatch recipes
  tf-largebatch recipes --json > recipes.json
"""

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from tf_largebatch.garden.recipes import Recipe

EXTRA = "garden"
FLAGS = flags.FlagValues()
JSON = flags.DEFINE_bool(
    "json", False, "print every resolved value as JSON", flag_values=FLAGS
)
TITLES = ("recipe", "row of the paper", "batch", "steps", "expected")
NOTE = (
    "Three batches and numbers of steps are those of phase1, phase2 and "
    "squad, each a\nrecipe of its own, such as {part}.\n"
    "What is expected was published by others; none of it was run at full "
    "scale by\nthis project."
)


def main() -> int:
    """Prints what the flags ask for."""
    from tf_largebatch.garden import recipes

    found = [recipes.load(name) for name in recipes.names()]
    if JSON.value:
        print(json.dumps([resolve(recipe) for recipe in found], indent=1))
    else:
        part = next(x.name for x in found if recipes.chain_of(x.name))
        print(f"{table(found)}\n\n{NOTE.format(part=part)}")
    return 0


def table(found: "Sequence[Recipe]") -> str:
    """Returns the recipes as text, below the titles; a chain is one line."""
    from tf_largebatch.garden import recipes

    groups = itertools.groupby(
        found, lambda each: recipes.chain_of(each.name) or each.name
    )
    lines = [line(name, list(group)) for name, group in groups]
    widths = [max(map(len, column)) for column in zip(TITLES, *lines)]
    return "\n".join(
        f"{name:{widths[0]}}  {row:{widths[1]}}  {batch:>{widths[2]}}  "
        f"{steps:>{widths[3]}}  {expected}"
        for name, row, batch, steps, expected in [TITLES, *lines]
    )


def line(name: str, group: "Sequence[Recipe]") -> tuple[str, ...]:
    """Returns the columns of a recipe, or of a chain's recipes."""
    batches = "/".join(f"{each.batch:,}" for each in group)
    steps = "/".join(f"{each.steps:,}" for each in group)
    return name, group[-1].row, batches, steps, group[-1].expected


def resolve(recipe: "Recipe") -> dict[str, Any]:
    """Returns all that there is to know about a recipe."""
    from tf_largebatch.garden import recipes

    return {
        "name": recipe.name,
        "row": recipe.row,
        "batch": recipe.batch,
        "steps": recipe.steps,
        "expected": recipe.expected,
        "status": recipe.status,
        "notes": dict(recipe.notes),
        "experiment": recipe.experiment,
        "base": recipe.base,
        "command": recipe.command,
        "config": recipes.experiment_config(recipe.name).as_dict(),
    }
