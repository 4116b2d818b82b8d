"""The pictures of a study's report, as PNG files in memory.

Drawn with Matplotlib's Agg canvas on figures of their own, so that no display
is needed and nothing of the caller's pyplot state is touched.
"""

import contextlib
import dataclasses
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from tf_largebatch.study import certainty, results, settings
from tf_largebatch.study.results import Metric, Row

# Eight colours that differ for colour-blind readers too, each with a contrast
# of at least 3 to white. Markers tell apart rows that share a colour.
COLORS = (
    "#0072b2",
    "#c14a00",
    "#00805d",
    "#a0408f",
    "#8a6500",
    "#332288",
    "#5f6368",
    "#000000",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES = ("-", "--", "-.", ":")
QUIET = "#c9c9c9"
WARNING = "#b00020"
DOTS_PER_INCH = 160
LONGEST_NAME = 26
LONGEST_LINE = 50

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#767676",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#e6e6e6",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    # Names are the user's: a dollar sign in one is no formula.
    "text.parse_math": False,
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        file: name of the PNG file.
        alt: what the picture shows, for those who do not see it.
        png: the file's content.
        width: in pixels.
        height: in pixels.
    """

    file: str
    alt: str
    png: bytes
    width: int
    height: int


def draw(
    study: Mapping[str, Any], rows: Sequence[Row], metric: Metric
) -> dict[str, list[Picture]]:
    """Returns the report's pictures, by kind.

    A kind is empty where the study has nothing of it: no row is tuned, none
    is measured on the way, or no row's schedule is known.

    Args:
        study: what was to be run.
        rows: what was run; see :func:`results.collect`.
        metric: of the study's workload.
    """
    with plain_style():
        searched = [row for row in rows if row.tuned]
        scheduled = [row for row in rows if row.config["settings"]]
        return {
            "boxes": [boxes(rows, metric)],
            "curves": [curves(row, rows, metric) for row in measured(rows)],
            "schedules": [schedules(study, scheduled)] if scheduled else [],
            "search": [search(row, metric) for row in searched],
            "progress": [progress(searched, study, metric)] if searched else [],
        }


@contextlib.contextmanager
def plain_style() -> Iterator[None]:
    """Draws alike on every machine, whatever its matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def boxes(rows: Sequence[Row], metric: Metric) -> Picture:
    """Draws test metrics over seeds: all, then the better rows enlarged."""
    finished = [row for row in rows if row.finished]
    if not finished:
        return nothing("boxes.png", "No run with a fresh seed has finished.")
    low, high = results.window(rows, metric)
    inside = all(
        low <= row.test(key) <= high
        for row in finished
        for key in ("min", "max")
    )
    panels = 1 if inside else 2
    figure = Figure(
        figsize=(4.6, panels * (0.9 + 0.34 * len(rows))), layout="constrained"
    )
    axes = figure.subplots(panels, squeeze=False)[:, 0]
    for panel in axes:
        box_panel(panel, rows, metric)
    if not inside:
        finite_runs = all(map(math.isfinite, sum((r.tests for r in rows), [])))
        axes[0].set_title(
            "All runs" if finite_runs else "All runs that have a number",
            loc="left",
            fontsize=10,
        )
        axes[1].set_title(
            "The better rows enlarged (triangles: outside)",
            loc="left",
            fontsize=10,
        )
        enlarge(axes[1], rows, (low, high))
    axes[-1].set_xlabel(f"test {metric.name} (dashed: target)")
    alt = f"Box plots of the test {metric.name} over seeds. " + " ".join(
        f"{row.name}: median {metric.show(row.test('median'))}, quartiles "
        f"{metric.show(row.test('q1'))} to {metric.show(row.test('q3'))}."
        for row in finished
    )
    return picture("boxes.png", alt, figure)


def box_panel(axes: Axes, rows: Sequence[Row], metric: Metric) -> None:
    """Draws a box and all its points for each row, the first row on top."""
    for row in rows:
        if not row.finished:
            continue
        axes.bxp(
            [box_statistics(row)],
            positions=[row.number],
            orientation="horizontal",
            widths=0.62,
            showfliers=False,
            manage_ticks=False,
            medianprops={"color": "#000000", "linewidth": 2.2},
            boxprops={"color": color(row)},
            whiskerprops={"color": color(row)},
            capprops={"color": color(row)},
        )
        for line, test, offset in zip(
            row.repeats, row.tests, jitter(len(row.repeats))
        ):
            axes.plot(
                test,
                row.number + offset,
                marker="x" if line["diverged"] else marker(row),
                markersize=4.5,
                color=WARNING if line["diverged"] else color(row),
                alpha=0.75,
            )
    axes.axvline(metric.target, color="#000000", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(value_formatter(metric))


def box_statistics(row: Row) -> dict[str, float]:
    """Returns the summary's figures under Matplotlib's names.

    What is infinite ends at the last run that is not.
    """
    pairs = {
        "med": "median",
        "q1": "q1",
        "q3": "q3",
        "whislo": "min",
        "whishi": "max",
    }
    drawn = [test for test in row.tests if math.isfinite(test)]
    return {
        theirs: min(max(row.test(ours), min(drawn)), max(drawn))
        for theirs, ours in pairs.items()
    }


def enlarge(
    axes: Axes, rows: Sequence[Row], limits: tuple[float, float]
) -> None:
    """Zooms in, and marks at the edges how many runs lie outside."""
    # A little more than the limits, for markers that lie on one.
    margin = 0.03 * (limits[1] - limits[0])
    axes.set_xlim(limits[0] - margin, limits[1] + margin)
    for row in rows:
        values = np.array(row.tests)
        for side, shape, count in (
            (0, "◂", int(np.sum(values < limits[0]))),
            (1, "▸", int(np.sum(values > limits[1]))),
        ):
            if count:
                axes.text(
                    0.01 + 0.98 * side,
                    row.number,
                    f"{shape} {count}" if side == 0 else f"{count} {shape}",
                    transform=axes.get_yaxis_transform(),
                    ha="right" if side else "left",
                    va="center",
                    fontsize=9,
                    color=color(row),
                    bbox={"color": "white", "pad": 1},
                )


def jitter(count: int) -> np.ndarray:
    """Returns offsets that keep points apart, the same at every drawing."""
    golden = (math.sqrt(5) - 1) / 2
    return 0.4 * ((golden * np.arange(1, count + 1)) % 1 - 0.5)


def measured(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows to draw learning curves of.

    One that is measured at its end alone has none, and where there is nothing
    else, rows without a run have none either.
    """
    curved = [
        row
        for row in rows
        if not row.repeats or len(quartiles(row, "test")[0]) > 1
    ]
    begun = any(row.repeats for row in curved)
    return curved if begun or len(curved) == len(rows) else []


def curves(row: Row, rows: Sequence[Row], metric: Metric) -> Picture:
    """Draws one row's test metric and training loss, the others in grey."""
    figure = Figure(figsize=(4.3, 4.0), layout="constrained")
    panels = figure.subplots(2, sharex=True)
    words = (f"test {metric.name}", "training loss")
    for axes, key, word in zip(panels, ("test", "loss"), words):
        for other in rows:
            if other is not row:
                axes.plot(*quartiles(other, key)[:2], color=QUIET, linewidth=1)
        steps, middle, low, high = quartiles(row, key)
        axes.fill_between(steps, low, high, color=color(row), alpha=0.25)
        axes.plot(
            steps, middle, color=color(row), marker=marker(row), markersize=4.5
        )
        axes.set_ylabel(word)
    panels[0].axhline(
        metric.target, color="#000000", linestyle="--", linewidth=1
    )
    panels[0].yaxis.set_major_formatter(value_formatter(metric))
    panels[1].set_xlabel("step")
    panels[1].set_ylim(loss_floor(rows), loss_ceiling(rows))
    panels[0].set_title(label(row), loc="left", fontweight="bold", fontsize=10)
    if not row.repeats:
        panels[0].set_title("no finished run", loc="right", fontsize=10)
    alt = (
        f"Learning curves of {row.name}: median and quartile band over "
        f"{len(row.repeats)} seeds of the test {metric.name}, which ends at "
        f"{metric.show(row.test('median'))}, and of the training loss."
    )
    return picture(file_name("curves", row), alt, figure)


def quartiles(row: Row, key: str) -> tuple[np.ndarray, ...]:
    """Returns steps, median and quartiles of a curve over a row's seeds.

    A run that stopped early stays in the statistics: its metric as measured
    last, its loss as infinite. NaN is what cannot be drawn.
    """
    steps = sorted({p["step"] for line in row.repeats for p in line["curve"]})
    worst = math.inf if key == "loss" else row.metric.worst
    values = np.array(
        [carried(line["curve"], key, steps, worst) for line in row.repeats]
    ).reshape(len(row.repeats), len(steps))
    if not values.size:
        return (np.array([]),) * 4
    figures = certainty.quantiles(values, (0.25, 0.5, 0.75))
    low, middle, high = np.where(np.isfinite(figures), figures, np.nan)
    return np.array(steps), middle, low, high


def loss_floor(rows: Sequence[Row]) -> float:
    """Returns where loss axes begin: at 0, unless all losses are far off."""
    curves = [quartiles(row, "loss")[1] for row in rows]
    losses = finite(np.concatenate(curves)) if curves else np.array([])
    if not losses.size or losses.min() < 0.5 * losses.max():
        return 0.0
    return float(losses.min() - 0.1 * np.ptp(losses))


def loss_ceiling(rows: Sequence[Row]) -> float | None:
    """Returns where loss axes end, so that one explosion hides no other row."""
    curves = [quartiles(row, "loss") for row in rows]
    peaks = [
        np.nanmax(middle)
        for _, middle, _, _ in curves
        if np.isfinite(middle).any()
    ]
    if not peaks:
        return None
    highest = finite(np.concatenate([high for _, _, _, high in curves]))
    # A row of which a quarter diverged at once has no upper quartile.
    top = 1.05 * highest.max() if highest.size else math.inf
    return float(min(1.5 * np.median(peaks), top))


def carried(
    curve: Sequence[Mapping[str, Any]],
    key: str,
    steps: Sequence[int],
    worst: float,
) -> list[float]:
    """Returns a run's values at all ``steps``, the last metric carried on.

    Args:
        curve: of the run.
        key: of its points.
        steps: of all runs.
        worst: what counts where the value is no number.
    """
    found = {
        point["step"]: worst if point[key] is None else point[key]
        for point in curve
    }
    values = []
    last = worst if key == "loss" else math.nan
    for step in steps:
        values.append(found.get(step, last))
        if key != "loss":
            last = values[-1]
    return values


def schedules(study: Mapping[str, Any], rows: Sequence[Row]) -> Picture:
    """Draws the learning rates of the rows at their best points."""
    rates = best_rates(study, rows)
    if not rates:
        return nothing("schedules.png", "No row has a best point yet.")
    shapes = same_shape(rates)
    height = 5.2 + 0.2 * (len(shapes) - 1)
    figure = Figure(figsize=(4.6, height), layout="constrained")
    shape, size = figure.subplots(2, sharex=True)
    for members, values in shapes:
        every = max(1, len(values) // 6)
        shape.plot(
            values,
            color=color(members[0]),
            linestyle=dashes(members[0]),
            marker=marker(members[0]),
            markersize=4.5,
            markevery=every,
            label=group_label(members, rows),
        )
    for row, values in rates:
        every = max(1, len(values) // 6)
        # Nothing on a log axis shows a rate of 0, where some warmups start.
        size.semilogy(
            np.where(values > 0, values, np.nan),
            color=color(row),
            linestyle=dashes(row),
            marker=marker(row),
            markersize=4.5,
            markevery=(row.number % every, every),
            label=label(row),
        )
    shape.set_ylabel("share of its peak")
    size.set_ylabel("learning rate (log)")
    size.set_xlabel("step")
    size.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    # Outside the panel, which long names would cover.
    figure.legend(*shape.get_legend_handles_labels(), loc="outside upper left")
    figure.legend(
        *size.get_legend_handles_labels(), loc="outside lower center", ncols=2
    )
    peaks = " ".join(
        f"{r.name}: peak {values.max():.3g}." for r, values in rates
    )
    alt = f"Learning rate against step at each row's best point. {peaks}"
    return picture("schedules.png", alt, figure)


def best_rates(
    study: Mapping[str, Any], rows: Sequence[Row]
) -> list[tuple[Row, np.ndarray]]:
    """Returns the rate of every step, of the rows that have a best point."""
    found = []
    for row in rows:
        numbers = {**row.config["settings"], **row.config["optimizer"]}
        numbers |= row.best
        if (row.best or row.fixed) and "learning_rate" in numbers:
            rates = settings.rates(
                numbers, numbers["learning_rate"], study["steps"]
            )
            found.append((row, np.asarray(rates, np.float64)))
    return found


def same_shape(
    rates: Sequence[tuple[Row, np.ndarray]],
) -> list[tuple[list[Row], np.ndarray]]:
    """Groups rows whose schedules differ by a factor only."""
    groups: list[tuple[list[Row], np.ndarray]] = []
    for row, values in rates:
        shape = values / (values.max() or 1.0)
        for members, other in groups:
            if np.allclose(shape, other, atol=5e-3):
                members.append(row)
                break
        else:
            groups.append(([row], shape))
    return groups


def group_label(members: Sequence[Row], rows: Sequence[Row]) -> str:
    """Returns what a legend calls rows that share a schedule's shape."""
    if len(members) == len(rows) > 1:
        return f"all {len(rows)} rows"
    names = ", ".join(label(row) for row in members)
    if len(names) > LONGEST_LINE:
        return f"{label(members[0])} and {len(members) - 1} more"
    return names


def search(row: Row, metric: Metric) -> Picture:
    """Draws a row's validation metric against each tuned value."""
    space = row.config["space"]
    figure = Figure(figsize=(4.3, 0.5 + 1.9 * len(space)), layout="constrained")
    panels = figure.subplots(len(space), squeeze=False)[:, 0]
    for axes, (name, dimension) in zip(panels, space.items()):
        search_panel(axes, row, name, dimension)
        axes.set_xlabel(name.replace("_", " "))
        axes.yaxis.set_major_formatter(value_formatter(metric))
    panels[0].set_title(label(row), loc="left", fontweight="bold", fontsize=10)
    figure.supylabel(f"validation {metric.name}", fontsize=10)
    best = ", ".join(
        f"{name} {results.setting(value)}" for name, value in row.best.items()
    )
    alt = (
        f"Search of {row.name}: validation {metric.name} against "
        f"{', '.join(space)} in {len(row.tuning)} trials; "
        f"best at {best or 'no point yet'}."
    )
    return picture(file_name("search", row), alt, figure)


def search_panel(
    axes: Axes, row: Row, name: str, dimension: Mapping[str, Any]
) -> None:
    """Draws the trials along one dimension, on that dimension's scale."""
    good = [line for line in row.tuning if not line["diverged"]]
    axes.plot(
        [line_place(line, name, dimension) for line in good],
        [results.number(line["validation"]) for line in good],
        linestyle="none",
        marker=marker(row),
        color=color(row),
        alpha=0.8,
    )
    for line in row.tuning:
        if line["diverged"]:
            axes.plot(
                line_place(line, name, dimension),
                0.05,
                "x",
                color=WARNING,
                markeredgewidth=2,
                transform=axes.get_xaxis_transform(),
            )
        if is_best(line, row):
            axes.plot(
                line_place(line, name, dimension),
                results.number(line["validation"]),
                "o",
                markersize=14,
                markerfacecolor="none",
                color="#000000",
                markeredgewidth=1.6,
            )
    for edge in (0, 1):
        axes.axvline(edge, color="#767676", linestyle=":")
    axes.set_xlim(-0.06, 1.06)
    axes.margins(y=0.2)
    ticks = nice_ticks(dimension)
    axes.xaxis.set_major_locator(
        FixedLocator([results.place(dimension, tick) for tick in ticks])
    )
    axes.set_xticklabels([results.setting(tick, 6) for tick in ticks])
    axes.yaxis.set_major_locator(MaxNLocator(4))


def line_place(
    line: Mapping[str, Any], name: str, dimension: Mapping[str, Any]
) -> float:
    """Returns where a run lies along one dimension, from 0 to 1."""
    return results.place(dimension, line["hyperparameters"][name])


def is_best(line: Mapping[str, Any], row: Row) -> bool:
    """Whether a tuning run is the one whose setting was chosen."""
    numbers = line["hyperparameters"]
    return bool(row.best) and all(
        numbers.get(name) == value for name, value in row.best.items()
    )


def nice_ticks(dimension: Mapping[str, Any], most: int = 5) -> list[float]:
    """Returns round values in a dimension's range, suited to its scale.

    >>> nice_ticks({"scale": "log", "low": 0.001, "high": 1.0})
    [0.001, 0.01, 0.1, 1.0]
    >>> nice_ticks({"scale": "one_minus_log", "low": 0.8, "high": 0.99})
    [0.8, 0.9, 0.95, 0.98, 0.99]
    >>> nice_ticks({"scale": "integer", "low": 0, "high": 4})
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    if dimension["scale"] == "choice":
        return list(dimension["values"])
    low, high = dimension["low"], dimension["high"]
    if dimension["scale"] in ("linear", "integer"):
        whole = dimension["scale"] == "integer"
        ticks = MaxNLocator(most, integer=whole).tick_values(low, high)
        return [float(tick) for tick in ticks if low <= tick <= high]
    flip = dimension["scale"] == "one_minus_log"
    ends = sorted((1 - low, 1 - high)) if flip else (low, high)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = decades(ends[0], ends[1], digits)
        if len(ticks) <= most:
            break
    ticks = list(ticks[:: math.ceil(len(ticks) / most) or 1] or ends)
    return sorted(round(1 - tick, 9) for tick in ticks) if flip else ticks


def decades(low: float, high: float, digits: Sequence[int]) -> list[float]:
    """Returns ``digits`` times powers of ten between two positive ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
    slack = 1 + 1e-9
    return [tick for tick in ticks if low / slack <= tick <= high * slack]


def progress(
    rows: Sequence[Row], study: Mapping[str, Any], metric: Metric
) -> Picture:
    """Draws the best validation metric so far against the trials run."""
    begun = [(row, best_so_far(row, metric)) for row in rows if row.tuning]
    if not begun:
        return nothing("progress.png", "No tuning run has finished.")
    limits = late_window([best for _, best in begun], metric)
    panels = 2 if limits else 1
    figure = Figure(figsize=(4.6, 1.4 + 3 * panels), layout="constrained")
    axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    for panel in axes:
        progress_panel(panel, begun, metric)
    if limits:
        axes[0].set_title("All rows", loc="left", fontsize=10)
        axes[1].set_title("The better rows enlarged", loc="left", fontsize=10)
        axes[1].set_ylim(limits)
    axes[-1].set_xlabel("tuning trials")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
    )
    final = " ".join(f"{row.name}: {metric.show(b[-1])}." for row, b in begun)
    alt = (
        f"Best validation {metric.name} so far, up to {study['trials']} "
        f"trials. At the end: {final}"
    )
    return picture("progress.png", alt, figure)


def progress_panel(
    axes: Axes, begun: Sequence[tuple[Row, np.ndarray]], metric: Metric
) -> None:
    """Draws a line for each row."""
    for row, best in begun:
        axes.step(
            range(1, len(best) + 1),
            best,
            where="post",
            color=color(row),
            linestyle=dashes(row),
            marker=marker(row),
            markersize=5,
            label=label(row),
            alpha=0.9,
        )
    axes.set_ylabel(f"best validation {metric.name}")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(value_formatter(metric))


def late_window(
    series: Sequence[np.ndarray], metric: Metric
) -> tuple[float, float] | None:
    """Returns the range of the better rows' later trials.

    None where the picture of all trials shows that range well enough.
    """
    ranked = sorted(series, key=lambda best: -metric.merit(best[-1]))
    better = ranked[: (len(ranked) + 1) // 2]
    late = finite(np.concatenate([best[len(best) // 2 :] for best in better]))
    every = finite(np.concatenate(series))
    if not late.size:
        return None
    margin = max(0.2 * np.ptp(late), 0.005 * np.abs(late).max())
    low, high = float(late.min() - margin), float(late.max() + margin)
    return (low, high) if high - low < 0.25 * np.ptp(every) else None


def finite(values: np.ndarray) -> np.ndarray:
    """Returns those of the values that are finite."""
    return values[np.isfinite(values)]


def best_so_far(row: Row, metric: Metric) -> np.ndarray:
    """Returns the best validation metric of the first 1, 2, ... trials."""
    values = [results.number(line["validation"]) for line in row.tuning]
    return metric.sign * np.fmax.accumulate(metric.sign * np.array(values))


def nothing(file: str, why: str) -> Picture:
    """Returns a picture that says why there is nothing to see."""
    figure = Figure(figsize=(4.6, 1.2), layout="constrained")
    figure.text(0.5, 0.5, why, ha="center", va="center")
    return picture(file, why, figure)


def picture(file: str, alt: str, figure: Figure) -> Picture:
    """Returns a figure as a PNG, without dates and versions in it."""
    content = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DOTS_PER_INCH)
    canvas.print_png(content, metadata={"Software": None})
    width, height = canvas.get_width_height()
    return Picture(file, alt, content.getvalue(), width, height)


def file_name(kind: str, row: Row) -> str:
    """Returns a name that every file system and every link takes."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", row.name)[:40]
    return f"{kind}-{row.number + 1:02d}-{safe}.png"


def color(row: Row) -> str:
    """Returns the row's colour, the same in all pictures."""
    return COLORS[row.number % len(COLORS)]


def marker(row: Row) -> str:
    """Returns the row's marker, the same in all pictures."""
    return MARKERS[row.number % len(MARKERS)]


def dashes(row: Row) -> str:
    """Returns the row's line style."""
    return DASHES[row.number % len(DASHES)]


def label(row: Row) -> str:
    """Returns the row's name, cut where it would not fit."""
    if len(row.name) <= LONGEST_NAME:
        return row.name
    return row.name[: LONGEST_NAME - 1] + "…"


def value_formatter(metric: Metric) -> FuncFormatter:
    """Returns the formatter of an axis of the metric."""
    if not metric.is_share:
        return FuncFormatter(lambda x, _: f"{x:.4g}")
    # A margin above 100 % is room for markers, not a value to be had.
    return FuncFormatter(
        lambda x, _: f"{100 * x:.5g} %" if x < 1 + 1e-9 else ""
    )
