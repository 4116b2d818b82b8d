"""Draws the learning-rate schedules of recipes into a PNG file.

Without --recipes these are the two of a figure of the paper. Figure 1 has the
published LARS pipeline and Nesterov's Configuration B. Figure 2 has BERT's
schedule as it was released, which jumps when the warmup ends, and without the
jump; its numbers are those of google-research/bert, as the paper's are not
public. Below the rates themselves stand the same rates as parts of their
peaks, which shows where two schedules differ in shape.

example:
  tf-largebatch schedules --out=figure1.png
  tf-largebatch schedules --figure=2 --out=figure2.png
  tf-largebatch schedules --recipes=resnet50/table4/nesterov
"""

import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from tf_largebatch.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tf_largebatch.garden.recipes import Recipe

EXTRA = "garden"
FLAGS = flags.FlagValues()
RECIPES = flags.DEFINE_list(
    "recipes",
    [],
    "names of recipes; without them those of --figure",
    flag_values=FLAGS,
)
FIGURE = flags.DEFINE_enum(
    "figure", "1", ["1", "2"], "which of the paper's", flag_values=FLAGS
)
OUT = flags.DEFINE_string(
    "out", "schedules.png", "file to write", flag_values=FLAGS
)
FIGURES = {
    "1": ("resnet50/lars_32k", "resnet50/nesterov_b_32k"),
    "2": (
        "bert_large/original/phase2",
        "bert_large/original_continuous/phase2",
    ),
}
DASHES = ("-", "--", "-.", ":")


def main() -> int:
    """Draws the schedules that the flags name."""
    from tf_largebatch.garden import recipes

    if RECIPES.value and FIGURE.present:
        raise UserError("give one of --recipes and --figure, not both")
    names = RECIPES.value or FIGURES[FIGURE.value]
    write(draw([recipes.load(name) for name in names]), pathlib.Path(OUT.value))
    print(f"written: {OUT.value}")
    return 0


def draw(found: "Sequence[Recipe]") -> "Figure":
    """Returns the rates of recipes, and the rates as parts of the peaks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for number, recipe in enumerate(found):
        rates, style = recipe.rates(), DASHES[number % len(DASHES)]
        above.plot(rates, style, label=f"{recipe.name}: {recipe.row}")
        below.plot(rates / rates.max(), style)
    above.set_ylabel("learning rate")
    below.set_ylabel("learning rate / its peak")
    below.set_xlabel("step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center")
    return figure


def write(figure: "Figure", path: pathlib.Path) -> None:
    """Writes a figure as a PNG file.

    Raises:
        UserError: the file cannot be written, or is to be of another kind.
    """
    from tf_largebatch import configs

    if path.suffix != ".png":
        raise UserError(f"--out is {path}; give a name that ends in .png")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    try:
        path.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(
            f"cannot write to {path}: {configs.reason(error)}; "
            "give another --out"
        ) from error
