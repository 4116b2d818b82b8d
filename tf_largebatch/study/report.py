"""Writes ``report.html`` and ``plots/*.png`` for a study.

The report is one file that opens offline: pictures are embedded, there is no
script and nothing is loaded. The same study gives the same bytes.
"""

import base64
import os
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from tf_largebatch import configs
from tf_largebatch.study import glossary, plots, reading, results
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
            replace(folder / "plots" / picture.file, picture.png)
    replace(folder / "report.html", page.encode())


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    aside = path.with_name(path.name + ".new")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


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
    return environment.get_template("report.html.j2").render(
        study=study,
        summary=summary,
        metric=metric,
        target=metric.show(metric.target),
        rows=[table_row(row, metric) for row in rows],
        axis=Axis.of(rows, metric),
        warmups=warmup_tables(rows, metric),
        findings=reading.findings(rows, metric),
        cautions=reading.cautions(rows, study, metric),
        terms=glossary.terms(rows, metric),
        runs=runs,
        tuned=sum(bool(row.config["space"]) for row in rows),
        further=further_rows(study["table"]),
        pictures=pictures,
        command=command(study),
    )


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
        "test": row.result["test"] if row.finished else None,
        "median": metric.show(row.test("median")),
        "quartiles": " to ".join(quartiles) if row.finished else MISSING,
        "range": " to ".join(metric.show(row.test(k)) for k in ("min", "max")),
        "hits": share(row, "hits"),
        "diverged": share(row, "diverged"),
        "train": metric.show(row.train("median")),
        "steps_to_target": steps_to_target(row),
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


def steps_to_target(row: Row) -> str:
    """Returns the median number of steps to the target, as text."""
    found = row.result.get("steps_to_target") or {}
    middle = found.get("median")
    return f"{middle:g}" if results.known(middle) else MISSING


def best_values(row: Row) -> list[tuple[str, str]]:
    """Returns a row's tuned values as names and texts."""
    return [
        (name.replace("_", " "), f"{value:.3g}")
        for name, value in row.best.items()
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


def warmup_tables(rows: Sequence[Row], metric: Metric) -> list[dict[str, Any]]:
    """Returns the paper's table 2: medians by warmup power and optimizer.

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
        "The paper's, on ImageNet": lambda row: row.config.get("paper_value"),
    }
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
    """Returns the command that runs the study again, in a new folder."""
    parts = {
        "table": study["table"]["name"],
        "workload": study["workload"]["name"],
        **{name: study[name] for name in ("steps", "trials", "seeds", "seed")},
        "rows": ",".join(further_rows(study["table"])),
        "out": "NEW_FOLDER",
    }
    return shlex.join(
        ["tf-largebatch", "compare"]
        + [f"--{name}={value}" for name, value in parts.items() if value != ""]
    )


def further_rows(table: Mapping[str, Any]) -> list[str]:
    """Returns the study's rows that its table does not have by default."""
    if table["name"] not in configs.names("tables"):
        return []
    config = configs.load("tables", table["name"])
    known = {row["name"] for row in config["rows"]}
    return [row["name"] for row in table["rows"] if row["name"] not in known]
