"""Lists the recipes: every row of the paper as a YAML file of settings.

A recipe's name is its path in official_configs, where its header says which
values are the paper's and which are this project's own choice. --json prints
every value of every recipe's experiment, defaults included.

example:
  tf-largebatch recipes
  tf-largebatch recipes --json > recipes.json
"""

import json
import os
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
        print(f"{table(found)}\n\n{NOTE}")
    return 0


def table(found: "Sequence[Recipe]") -> str:
    """Returns the recipes as text, a line each below the titles."""
    lines = [
        (x.name, x.row, f"{x.batch:,}", f"{x.steps:,}", x.expected)
        for x in found
    ]
    widths = [max(map(len, column)) for column in zip(TITLES, *lines)]
    return "\n".join(
        f"{name:{widths[0]}}  {row:{widths[1]}}  {batch:>{widths[2]}}  "
        f"{steps:>{widths[3]}}  {expected}"
        for name, row, batch, steps, expected in [TITLES, *lines]
    )


def resolve(recipe: "Recipe") -> dict[str, Any]:
    """Returns all that there is to know about a recipe."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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
        "command": recipe.command,
        "config": recipes.experiment_config(recipe.name).as_dict(),
    }
