"""Writes ``report.html`` and ``plots/*.png`` for a study.

The report is one file that opens offline: pictures are embedded, there is no
script and nothing is loaded. The same study gives the same bytes.
"""

import base64
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from tf_largebatch import configs, folders
from tf_largebatch.errors import UserError
from tf_largebatch.study import (
    glossary,
    ledger,
    plots,
    protocol,
    reading,
    results,
    settings,
    table_rows,
)
from tf_largebatch.study.results import MISSING, Metric, Row


def write(
    folder: pathlib.Path,
    study: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
) -> None:
    """Writes the report of a study, finished or not.

    Args:
        folder: of the study; ``report.html`` and ``plots`` go there.
        study: what ``study.yaml`` holds.
        lines: of ``trials.jsonl``.
        summary: what ``summary.json`` holds.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the metric's direction is neither ``max`` nor ``min``.
    """
    metric = Metric.of(study)
    rows = results.collect(study, lines, summary)
    pictures = plots.draw(study, rows, metric)
    page = render(study, summary, rows, metric, pictures, len(lines))
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for kind in pictures.values():
        for picture in kind:
            folders.replace(folder / "plots" / picture.file, picture.png)
    folders.replace(folder / "report.html", page.encode())


def render(
    study: Mapping[str, Any],
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    metric: Metric,
    pictures: Mapping[str, Sequence[plots.Picture]],
    runs: int,
) -> str:
    """Returns the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = embedded
    paper = results.is_the_papers(study)
    return environment.get_template("report.html.j2").render(
        study=study,
        summary=summary,
        metric=metric,
        target=metric.show(metric.target),
        rows=[table_row(row, metric) for row in rows],
        axis=Axis.of(rows, metric),
        paper=paper,
        measures_train=any(row.train("median") is not None for row in rows),
        mlperf=any(row.result.get("mlperf_steps") is not None for row in rows),
        warmups=warmup_tables(rows, metric, paper),
        sure=sure_table(rows, metric),
        flips=reading.flips(rows),
        fits=fit_table(rows, metric),
        fit=reading.fit(rows, metric),
        **setups(study, rows),
        findings=reading.findings(rows, metric, paper),
        cautions=reading.cautions(rows, study, metric),
        terms=glossary.terms(rows, metric),
        runs=runs,
        **kinds(rows),
        one_split=reading.one_split(rows),
        further=further_rows(study["table"]),
        pictures=pictures,
        command=command(study),
    )


def kinds(rows: Sequence[Row]) -> dict[str, int]:
    """Returns how many rows have their values from where."""
    return {
        "tuned": sum(row.tuned for row in rows),
        "taken_over": sum(bool(row.config.get("tuned_as")) for row in rows),
        "fixed": sum(row.fixed for row in rows),
    }


def embedded(picture: plots.Picture) -> str:
    """Returns a picture as an address that holds its content."""
    return "data:image/png;base64," + base64.b64encode(picture.png).decode()


def table_row(row: Row, metric: Metric) -> dict[str, Any]:
    """Returns the cells of one row of the main table."""
    quartiles = [metric.show(row.test(key)) for key in ("q1", "q3")]
    return {
        "name": row.name,
        "weights": row.config["weights_optimizer"],
        "bias_bn": row.config["bias_bn_optimizer"],
        "test": five_numbers(row) if row.seeds else None,
        "median": metric.show(row.test("median")),
        "quartiles": " to ".join(quartiles) if row.seeds else MISSING,
        "range": " to ".join(metric.show(row.test(k)) for k in ("min", "max")),
        "hits": share(row, "hits"),
        "diverged": share(row, "diverged"),
        "train": metric.show(row.train("median")),
        "steps_to_target": steps(
            (row.result.get("steps_to_target") or {}).get("median")
        ),
        "mlperf_steps": steps(row.result.get("mlperf_steps")),
        "paper": metric.show(row.config.get("paper_value")),
        "best": best_values(row),
        "tuned_as": row.config.get("tuned_as"),
    }


def share(row: Row, what: str) -> str:
    """Returns how many of a row's seeds something holds for, as text."""
    count = row.result.get(what)
    if not row.seeds or count is None:
        return MISSING
    return f"{count} of {row.seeds}"


def five_numbers(row: Row) -> dict[str, float]:
    """Returns what the small box plot of a row shows."""
    return {name: row.test(name) for name in row.result["test"]}


def steps(count: float | None) -> str:
    """Returns a number of steps as text."""
    return f"{round(count, 1):g}" if results.known(count) else MISSING


def best_values(row: Row) -> list[tuple[str, str]]:
    """Returns a row's tuned values, or all given ones, as names and texts."""
    given = {
        name: value
        for name, value in row.config["optimizer"].items()
        if table_rows.is_number(value)
    }
    values = given if row.fixed else row.best
    return [
        (name.replace("_", " "), results.setting(value))
        for name, value in values.items()
    ]


def setups(study: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Returns what rows were given, what all alike, and what was searched."""
    found = [given(study, row) for row in rows]
    alike = {
        name: value
        for name, value in found[0].items()
        if all(other.get(name) == value for other in found)
    }
    return {
        "alike": in_words(alike),
        "setups": [
            {
                "name": row.name,
                "given": in_words(
                    {x: y for x, y in own.items() if x not in alike}
                ),
                "searched": [
                    f"{name} {range_of(dimension)}"
                    for name, dimension in row.config["space"].items()
                ],
                "tuned_as": row.config.get("tuned_as"),
            }
            for row, own in zip(rows, found)
        ],
    }


def given(study: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Returns the settings of a row that are not tuned.

    A setting that no row and no table has otherwise than by default is not
    among them.
    """
    defaults = {**settings.DEFAULTS, **study["workload"].get("settings", {})}
    plain = {
        name
        for name, value in defaults.items()
        if name not in study["table"]["settings"]
        and all(
            other["settings"].get(name, value) == value
            for other in study["table"]["rows"]
        )
    }
    own = {**row.config["optimizer"], **row.config["settings"]}
    hidden = {*plain, *row.config["space"]}
    return {name: value for name, value in own.items() if name not in hidden}


def in_words(values: Mapping[str, Any]) -> list[str]:
    """Returns names and values as texts.

    >>> in_words({"class": "LARS", "weight_decay": 1e-4, "selector": []})
    ['LARS', 'weight_decay 0.0001', 'selector nothing']
    """
    words = [
        f"{name} {'nothing' if value == [] else results.setting(value)}"
        for name, value in values.items()
    ]
    return [word.removeprefix("class ") for word in words]


def range_of(dimension: Mapping[str, Any]) -> str:
    """Returns what is searched of a hyperparameter, as text.

    >>> range_of({"scale": "log", "low": 0.001, "high": 1.0})
    '0.001 to 1 (log)'
    >>> range_of({"scale": "choice", "values": [1, 2]})
    '1 or 2'
    """
    if dimension["scale"] == "choice":
        return " or ".join(map(results.setting, dimension["values"]))
    ends = [results.setting(dimension[end]) for end in ("low", "high")]
    below = f", below {dimension['below']}" if dimension.get("below") else ""
    scale = dimension["scale"] + below
    return f"{' to '.join(ends)} ({scale})"


def sure_table(rows: Sequence[Row], metric: Metric) -> dict[str, Any] | None:
    """Returns the table of intervals; None where no row has two runs."""
    if not any(row.seeds > 1 for row in rows):
        return None
    against = [row.against for row in rows if row.against]
    counts = list(against[0]["flip_chance"]) if against else []
    return {
        "best": against[0]["best"] if against else None,
        "counts": counts,
        "rows": [sure_row(row, counts, metric) for row in rows],
    }


def sure_row(row: Row, counts: Sequence[str], metric: Metric) -> dict[str, Any]:
    """Returns the cells of one row of the table of intervals."""
    chances = row.against.get("flip_chance", {})
    return {
        "name": row.name,
        "median": metric.show(row.test("median")),
        "interval": between(row.result.get("median_interval"), metric.show),
        "difference": metric.show_difference(row.against.get("difference")),
        "difference_interval": between(
            row.against.get("interval"), metric.show_difference
        ),
        "flips": [
            reading.percent(chances[count]) if count in chances else MISSING
            for count in counts
        ],
    }


def between(ends: Sequence[float] | None, show: Callable[[float], str]) -> str:
    """Returns an interval as text."""
    return " to ".join(map(show, ends)) if ends else MISSING


def fit_table(rows: Sequence[Row], metric: Metric) -> list[dict[str, Any]]:
    """Returns test and training medians and their gap, each with its rank."""
    both = reading.fitted(rows)
    figures: dict[str, Callable[[Row], float]] = {
        "test": lambda row: metric.sign * row.test("median"),
        "train": lambda row: metric.sign * row.train("median"),
        "gap": lambda row: -(row.gap or 0.0),
    }
    scale = max((abs(row.test("median")) for row in both), default=0)
    placed = {
        name: ranks([merit(row) for row in both], scale)
        for name, merit in figures.items()
    }
    return [
        {
            "name": row.name,
            "test": metric.show(row.test("median")),
            "train": metric.show(row.train("median")),
            "gap": metric.show_difference(row.gap),
            "ranks": {name: placed[name][number] for name in figures},
        }
        for number, row in enumerate(both)
    ]


def ranks(merits: Sequence[float], scale: float) -> list[int]:
    """Returns the place of each value, the highest first; equals share one.

    >>> ranks([0.5, 0.9, 0.9, 0.7], scale=1)
    [4, 1, 1, 3]
    """
    return [
        1 + sum(not reading.at_most(other, merit, scale) for other in merits)
        for merit in merits
    ]


class Axis:
    """Where values lie on the table's small box plots, in pixels.

    Args:
        low: value at the left end.
        high: value at the right end.
    """

    width = 120

    def __init__(self, low: float, high: float):
        self.low = low
        self.high = high

    @classmethod
    def of(cls, rows: Sequence[Row], metric: Metric) -> "Axis | None":
        """Returns the axis that all rows share; None before any is run."""
        if not any(row.finished for row in rows):
            return None
        return cls(*results.window(rows, metric))

    def __call__(self, value: float) -> float:
        """Returns a value's place; at the edge for one that lies outside."""
        place = self.width * (value - self.low) / (self.high - self.low)
        return round(min(max(place, 0), self.width), 1)

    def holds(self, value: float) -> bool:
        """Whether a value lies between the ends."""
        return self.low <= value <= self.high


def warmup_tables(
    rows: Sequence[Row], metric: Metric, paper: bool
) -> list[dict[str, Any]]:
    """Returns the paper's table 2: medians by warmup power and optimizer.

    Args:
        rows: of the study.
        metric: of the study.
        paper: whether there are values of the paper.

    Returns:
        A table for the test metric, one for the training metric and one for
        the paper's values; none unless rows take over the tuned values of a
        row with another warmup power.
    """
    columns = warmup_columns(rows)
    if not columns:
        return []
    figures: dict[str, Callable[[Row], Any]] = {
        f"Test {metric.name}, median": lambda row: row.test("median"),
        f"Training {metric.name}, median": lambda row: row.train("median"),
    }
    if paper:
        figures["The paper's, on ImageNet"] = lambda row: row.config.get(
            "paper_value"
        )
    powers = sorted({power for column in columns.values() for power in column})
    return [
        {
            "title": title,
            "columns": list(columns),
            "rows": [
                (
                    f"{power:g}",
                    [
                        warmup_cell(column.get(power), figure, metric)
                        for column in columns.values()
                    ],
                )
                for power in powers
            ],
        }
        for title, figure in figures.items()
    ]


def warmup_columns(rows: Sequence[Row]) -> dict[str, dict[float, Row]]:
    """Returns rows that share tuned values, by optimizer and warmup power."""
    named = {row.name: row for row in rows}
    columns: dict[str, dict[float, Row]] = {}
    for row in rows:
        base = named.get(row.config.get("tuned_as") or "")
        if base is None or warmup_power(base) == warmup_power(row):
            continue
        title = base.config["weights_optimizer"]
        column = columns.setdefault(title, {warmup_power(base): base})
        column[warmup_power(row)] = row
    return columns


def warmup_power(row: Row) -> float:
    """Returns the power of a row's warmup."""
    return float(row.config["settings"].get("warmup_power", 1))


def warmup_cell(
    row: Row | None, figure: Callable[[Row], Any], metric: Metric
) -> tuple[str, bool]:
    """Returns a cell's text, and whether its row was tuned itself."""
    if row is None:
        return MISSING, False
    return metric.show(figure(row)), not row.config.get("tuned_as")


def command(study: Mapping[str, Any]) -> str:
    """Returns what runs the study again, in a new folder: a line a command."""
    if study["workload"].get("python"):
        return "the same call of tf_largebatch.study.compare with another `out`"
    if not is_of_compare(study):
        return "\n".join(
            (
                "tf-largebatch study create --protocol=study.yaml "
                "--out=NEW_FOLDER",
                "tf-largebatch study run --out=NEW_FOLDER",
            )
        )
    parts = {
        "table": study["table"]["name"],
        "workload": study["workload"]["name"],
        **sizes(study),
        "rows": ",".join(chosen_rows(study["table"])),
        "out": "NEW_FOLDER",
    }
    return shlex.join(
        ["tf-largebatch", "compare"]
        + [f"--{name}={value}" for name, value in parts.items() if value != ""]
    )


def sizes(study: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers that compare has flags for."""
    return {name: study[name] for name in ("steps", "trials", "seeds", "seed")}


def is_of_compare(study: Mapping[str, Any]) -> bool:
    """Whether ``tf-largebatch compare`` makes the same runs.

    Neither the name in the storage nor the heartbeat changes them.
    """
    table = study["table"]
    try:
        made = protocol.create(
            table["name"],
            study["workload"]["name"],
            rows=chosen_rows(table),
            **sizes(study),
        )
    except UserError:
        return False
    same = {**study, "name": made["name"]}
    same.pop("heartbeat", None)
    return ledger.difference(ledger.as_json_has_it(made), same) is None


def chosen_rows(table: Mapping[str, Any]) -> list[str]:
    """Returns the study's rows, if they are not its table's own ones."""
    names = [row["name"] for row in table["rows"]]
    return [] if names == own_rows(table) else names


def further_rows(table: Mapping[str, Any]) -> list[str]:
    """Returns the study's rows that its table does not have by default."""
    own = own_rows(table)
    names = [row["name"] for row in table["rows"]]
    return [name for name in names if own and name not in own]


def own_rows(table: Mapping[str, Any]) -> list[str]:
    """Returns the rows of the table itself; none if no such table ships."""
    if table["name"] not in configs.names("tables"):
        return []
    config = configs.load("tables", table["name"])
    return [row["name"] for row in config["rows"]]
