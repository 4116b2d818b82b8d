"""A benchmark as a picture: horizontal bars, with their quartiles."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tf_largebatch.study import plots

BAR, TITLE, WIDTH = 0.22, 0.5, 9.0  # Inches.
OURS, PEER = plots.COLORS[0], plots.QUIET

Bar = Mapping[str, Any]


def draw(bars: Sequence[Bar], axis: str, path: str) -> None:
    """Writes a PNG with a panel a group, this package's bars in colour.

    Args:
        bars: each with ``group``, ``label``, ``value``, ``low``, ``high`` and
            ``ours``.
        axis: what the values are.
        path: of the file.
    """
    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar["group"], []).append(bar)
    heights = [TITLE + BAR * len(group) for group in groups.values()]
    with plots.plain_style():
        figure = Figure((WIDTH, sum(heights) + TITLE), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(
            len(groups), squeeze=False, height_ratios=heights
        )
        for axes, (name, group) in zip(panels[:, 0], groups.items()):
            panel(axes, name, group)
        panels[-1, 0].set_xlabel(axis)
        figure.savefig(path, format="png", dpi=plots.DOTS_PER_INCH)


def panel(axes: Axes, name: str, bars: Sequence[Bar]) -> None:
    """Draws a group, the first bar on top, the value behind each."""
    for place, bar in enumerate(bars):
        color = OURS if bar["ours"] else PEER
        axes.barh(place, bar["value"], color=color, height=0.7)
        axes.plot([bar["low"], bar["high"]], [place, place], color="black")
        axes.annotate(
            f" {bar['value']:.3g}",
            (max(bar["value"], bar["high"]), place),
            va="center",
            fontsize="small",
        )
    axes.set_yticks(range(len(bars)), [bar["label"] for bar in bars])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.grid(visible=False, axis="y")
    axes.set_title(name, loc="left")
