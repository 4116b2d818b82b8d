"""A study row by row, as the report's words and pictures need it."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from tf_largebatch.study import protocol, spaces

MISSING = "–"
MINUS = "\N{MINUS SIGN}"
NO_BREAK = "\N{NO-BREAK SPACE}"
LAYER_WISE = ("LAMB", "LARS")


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a run is judged by, and how its values are written.

    Attributes:
        name: such as ``accuracy``.
        sign: 1 where higher is better, -1 where lower is.
        target: the value that counts as a hit.
    """

    name: str
    sign: int
    target: float

    @classmethod
    def of(cls, study: Mapping[str, Any]) -> "Metric":
        """Returns the metric of a study's workload.

        Raises:
            ValueError: the direction is neither ``max`` nor ``min``.
        """
        workload = study["workload"]
        name, direction = (
            workload["metric"]["name"],
            workload["metric"]["direction"],
        )
        if direction not in ("max", "min"):
            raise ValueError(
                f"the metric's direction is {direction!r}; use max or min"
            )
        sign = 1 if direction == "max" else -1
        return cls(name.replace("_", " "), sign, workload["target"])

    @property
    def is_share(self) -> bool:
        """Whether values are parts of 1, written in percent."""
        return self.name.endswith("accuracy")

    @property
    def best_word(self) -> str:
        """What the best value is called."""
        return "highest" if self.sign > 0 else "lowest"

    @property
    def worst(self) -> float:
        """What a run counts whose metric is no number."""
        if self.is_share and self.sign > 0:
            return 0.0
        return -self.sign * math.inf

    @property
    def unit(self) -> str:
        """What differences are given in; empty where that needs no word."""
        return "percentage points" if self.is_share else ""

    def counted(self, value: float | None) -> float:
        """Returns a run's value as it counts, the worst where it has none."""
        return value if known(value) else self.worst

    def show(self, value: float | None) -> str:
        """Returns a value as text; a dash where there is none."""
        if value is None or math.isnan(value):
            return MISSING
        if math.isinf(value):
            return "∞" if value > 0 else f"{MINUS}∞"
        return (
            f"{100 * value:.2f}{NO_BREAK}%" if self.is_share else f"{value:.4g}"
        )

    def show_gap(self, value: float) -> str:
        """Returns the size of a difference of two values as text."""
        if math.isinf(value):
            return "no finite number"
        if not self.is_share:
            return f"{value:.2g}"
        return f"{100 * value:.2f}{NO_BREAK}percentage points"

    def show_difference(self, value: float | None) -> str:
        """Returns a difference with its sign, in :attr:`unit`, as text."""
        if not known(value):
            return MISSING
        size = abs(value)
        text = f"{100 * size:.2f}" if self.is_share else f"{size:.2g}"
        # What rounds to nothing has no sign.
        return MINUS + text if value < 0 and float(text) else text

    def merit(self, value: float | None) -> float:
        """Returns a number that is higher for a better value."""
        return self.sign * value if known(value) else -math.inf


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: what it is, what it ran, what came out.

    Attributes:
        number: place in the table, from 0.
        config: of the study.
        result: of the summary; empty where the row has none yet.
        tuning: a line for each point that was tried in tuning, by its
            number.
        repeats: lines of the runs with fresh seeds, by index.
        against: the summary's difference between this row and the best one;
            empty for the best one, and where the row has no run.
        metric: of the study.
    """

    number: int
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    tuning: Sequence[Mapping[str, Any]]
    repeats: Sequence[Mapping[str, Any]]
    against: Mapping[str, Any]
    metric: Metric

    @property
    def name(self) -> str:
        """The row's name."""
        return self.config["name"]

    @property
    def finished(self) -> bool:
        """Whether there is a median over seeds that is a number."""
        return known(self.test("median"))

    @property
    def lost(self) -> bool:
        """Whether so many runs diverged that the median is no number."""
        return bool(self.seeds) and not self.finished

    @property
    def tuned(self) -> bool:
        """Whether the row is tuned itself."""
        return bool(self.config["space"])

    @property
    def fixed(self) -> bool:
        """Whether all values of the row are given."""
        return not self.tuned and not self.config.get("tuned_as")

    @property
    def optimizer(self) -> str:
        """The class of the row's optimizer."""
        return self.config["optimizer"].get("class", "")

    @property
    def layer_wise(self) -> bool:
        """Whether the optimizer has a trust ratio for every layer."""
        return self.optimizer in LAYER_WISE

    @property
    def gap(self) -> float | None:
        """How much worse the test median is than the training median."""
        test, train = self.test("median"), self.train("median")
        if not known(test) or not known(train):
            return None
        return self.metric.sign * (train - test)

    @property
    def best(self) -> dict[str, float]:
        """The tuned values; empty where tuning has not ended."""
        return dict(self.result.get("best") or {})

    @property
    def seeds(self) -> int:
        """How many runs with fresh seeds there are."""
        return self.result.get("seeds") or 0

    @property
    def spread(self) -> float:
        """Width of the test metric's quartile range."""
        return self.test("q3") - self.test("q1")

    def test(self, statistic: str) -> Any:
        """Returns a statistic of the test metric, or None.

        It is infinite where JSON has null, as of runs without a number.
        """
        value = (self.result.get("test") or {}).get(statistic)
        return self.metric.counted(value) if self.seeds else value

    def train(self, statistic: str) -> Any:
        """Returns a statistic of the training metric, or None."""
        return (self.result.get("train") or {}).get(statistic)

    @property
    def tests(self) -> list[float]:
        """The test metric of every run with a fresh seed, as it counts."""
        return [self.metric.counted(line["test"]) for line in self.repeats]


def collect(
    study: Mapping[str, Any],
    lines: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any],
) -> list[Row]:
    """Returns the rows of a study, in the table's order."""
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: line["index"]):
        runs.setdefault((line["row"], line["kind"]), []).append(line)
    found = {row["name"]: row for row in summary["rows"]}
    against = {row["row"]: row for row in summary.get("differences", ())}
    metric = Metric.of(study)
    return [
        Row(
            number,
            config,
            found.get(config["name"], {}),
            points(study, runs.get((config["name"], "tune"), [])),
            runs.get((config["name"], "seed"), []),
            against.get(config["name"], {}),
            metric,
        )
        for number, config in enumerate(study["table"]["rows"])
    ]


def is_the_papers(study: Mapping[str, Any]) -> bool:
    """Whether the study is of a table of the paper, whose values it has."""
    table = study["table"]
    return bool(table.get("paper") and table.get("paper_task"))


def points(
    study: Mapping[str, Any], tuning: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Returns a line for each point that was tried.

    With several seeds a point it has their median; it diverged where a run
    did.
    """
    metric = Metric.of(study)
    tried = protocol.points_tried(study, tuning)
    return [
        {
            **lines[0],
            "index": number,
            "validation": statistics.median(
                metric.counted(line["validation"]) for line in lines
            ),
            "diverged": any(line["diverged"] for line in lines),
        }
        for number, lines in sorted(tried.items())
    ]


def known(value: float | None) -> TypeGuard[float]:
    """Whether a figure is there: JSON has null for what is not finite."""
    return value is not None and math.isfinite(value)


def finite(value: float | None) -> float | None:
    """Returns a figure as JSON has it: None where it is not finite."""
    return value if known(value) else None


def number(value: float | None) -> float:
    """Returns a figure, NaN where there is none, as drawing needs it."""
    return float(value) if value is not None else math.nan


def setting(value: Any, digits: int = 3) -> str:
    """Returns a hyperparameter's value as text; a choice may be a word.

    >>> [setting(value) for value in (0.12345, 4096, True, "cosine")]
    ['0.123', '4096', 'True', 'cosine']
    """
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def by_merit(rows: Iterable[Row], metric: Metric) -> list[Row]:
    """Returns the finished rows, the best median first."""
    return sorted(
        (row for row in rows if row.finished),
        key=lambda row: -metric.merit(row.test("median")),
    )


def window(rows: Iterable[Row], metric: Metric) -> tuple[float, float]:
    """Returns the range in which the better rows can be told apart.

    It holds the target, the best run and the quartile ranges of the better
    half of the rows, and of the other runs those that lie near enough: what
    is far off would press the others into a corner.
    """
    ranked = by_merit(rows, metric)
    better = ranked[: (len(ranked) + 1) // 2]
    middle = signed(better, metric, ("q1", "q3"))
    every = signed(ranked, metric, ("min", "q1", "median", "q3", "max"))
    high = max(every)
    span = max(high - min(middle), 0.01 * abs(high), 1e-9)
    low = min(value for value in every if high - value < 3 * span)
    edges = sorted((metric.sign * (low - 0.05 * span), metric.sign * high))
    return edges[0], edges[1]


def signed(
    rows: Iterable[Row], metric: Metric, keys: Sequence[str]
) -> list[float]:
    """Returns the target and the rows' figures, such that more is better."""
    figures = [row.test(key) for row in rows for key in keys]
    return [metric.sign * x for x in (metric.target, *figures) if known(x)]


def place(dimension: Mapping[str, Any], value: float) -> float:
    """Returns where a value lies in its search range: 0 low end, 1 high end.

    >>> place({"scale": "choice", "values": [8, 16, 64]}, 16)
    0.5
    """
    if dimension["scale"] == "choice":
        values = dimension["values"]
        return values.index(value) / (len(values) - 1)
    to_scale = spaces.SCALES[dimension["scale"]][0]
    low, high = to_scale(dimension["low"]), to_scale(dimension["high"])
    return (to_scale(value) - low) / (high - low)
