"""The figures of a study, computed from its ledger: ``summary.json``.

They follow from the protocol and the ledger's lines alone, in whatever order
these come. A run whose metric is no number counts as the worst there can be.
"""

import importlib.metadata
import math
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from tf_largebatch.errors import UserError
from tf_largebatch.study import certainty, protocol
from tf_largebatch.study.results import Metric

# Whatever is learnt; a workload names others.
PACKAGES = ("tf-largebatch", "tensorflow", "numpy", "scipy")
FIVE_NUMBERS = {"median": 0.5, "q1": 0.25, "q3": 0.75, "min": 0.0, "max": 1.0}
# What numbers of seeds a reader may have wanted to save with.
FEWER_SEEDS = (1, 3, 5)

Line = Mapping[str, Any]


def summarize(
    study: Mapping[str, Any],
    lines: Sequence[Line],
    versions: Mapping[str, str],
    device: str,
) -> dict[str, Any]:
    """Returns what ``summary.json`` holds, of a study finished or not.

    Args:
        study: its protocol.
        lines: of the ledger, in any order.
        versions: of the packages that ran it, by name.
        device: what it ran on, in words.

    Returns:
        A mapping that is valid JSON: where there is no figure it has None.
    """
    workload = study["workload"]
    metric = Metric.of(study)
    lines = [counted(line, metric) for line in sorted(lines, key=place)]
    rows = [summarize_row(study, row, lines) for row in study["table"]["rows"]]
    more = {name: study[name] for name in ("tuning_seeds",) if name in study}
    return {
        "workload": workload["name"],
        "table": study["table"]["name"],
        "seed": study["seed"],
        "steps": study["steps"],
        "batch": workload["batch"],
        "metric": dict(workload["metric"]),
        "target": workload["target"],
        **more,
        "versions": dict(versions),
        "device": device,
        "wall_seconds": round(sum(line["seconds"] for line in lines), 1),
        "rows": rows,
        "differences": differences(study, rows, lines),
    }


def place(line: Line) -> tuple[str, str, int]:
    """Returns by what lines are put in order."""
    return line["row"], line["kind"], line["index"]


def counted(line: Line, metric: Metric) -> Line:
    """Returns a line whose metrics are numbers, as they count.

    A training metric that was not measured stays None.
    """
    found = {key: metric.counted(line[key]) for key in ("validation", "test")}
    if line["diverged"]:
        found["train"] = metric.counted(line["train"])
    return {**line, **found}


def summarize_row(
    study: Mapping[str, Any], row: Mapping[str, Any], lines: Sequence[Line]
) -> dict[str, Any]:
    """Returns the figures of one row."""
    repeats = of(lines, row["name"], "seed")
    base = protocol.tuned_row(study, row)
    tuning = of(lines, base["name"], "tune")
    tests = [line["test"] for line in repeats]
    trains = [line["train"] for line in repeats]
    reached = [
        math.inf if line["steps_to_target"] is None else line["steps_to_target"]
        for line in repeats
    ]
    return {
        "name": row["name"],
        "weights_optimizer": row["weights_optimizer"],
        "bias_bn_optimizer": row["bias_bn_optimizer"],
        "tuning_trials": 0 if row["tuned_as"] else whole_points(study, tuning),
        "tuned_as": row["tuned_as"],
        "best": protocol.best_point(study, base, tuning) if tuning else {},
        "seeds": len(repeats),
        "test": five_numbers(tests),
        "train": five_numbers([] if None in trains else trains),
        "hits": sum(protocol.hits(study["workload"], test) for test in tests),
        "diverged": sum(line["diverged"] for line in repeats),
        "steps_to_target": {
            "reached": sum(map(math.isfinite, reached)),
            **five_numbers(reached),
        },
        "median_interval": as_list(certainty.median_interval(tests)),
        "mlperf_steps": mlperf_steps(repeats),
    }


def whole_points(study: Mapping[str, Any], tuning: Sequence[Line]) -> int:
    """Returns how many points of a search have all their runs."""
    count = len(protocol.tuning_seeds(study))
    tried = protocol.points_tried(study, tuning)
    return sum(len(runs) == count for runs in tried.values())


def mlperf_steps(repeats: Sequence[Line]) -> float | None:
    """Returns MLPerf's figure of the first five seeds, if they are done."""
    return certainty.mlperf_mean(
        [
            line["steps_to_target"]
            for line in repeats
            if line["index"] < certainty.MLPERF_RUNS
        ]
    )


def differences(
    study: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    lines: Sequence[Line],
) -> list[dict[str, Any]]:
    """Returns how far every row is from that with the best median.

    Args:
        study: the protocol.
        rows: of the summary.
        lines: as they count.

    Returns:
        In the table's order, of all rows with runs but the best: the
        difference of the medians and its interval, in the metric's own units,
        for how many of them together it holds, and by fewer seeds than the
        study's the chance that the other order comes out.
    """
    metric = Metric.of(study)
    begun = [row for row in rows if row["seeds"]]
    if not begun:
        return []
    best = max(begun, key=lambda row: metric.merit(row["test"]["median"]))
    tests = {
        row["name"]: [line["test"] for line in of(lines, row["name"], "seed")]
        for row in begun
    }
    ours = tests[best["name"]]
    comparisons = len(told(study, begun, best["name"]))
    return [
        {
            "row": row["name"],
            "best": best["name"],
            "difference": less(best, row),
            "interval": as_list(
                certainty.difference_interval(
                    ours, tests[row["name"]], comparisons
                )
            ),
            "comparisons": comparisons,
            "flip_chance": flip_chances(
                study["seeds"], metric, ours, tests[row["name"]]
            ),
        }
        for row in begun
        if row is not best
    ]


def told(
    study: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], best: str
) -> set[frozenset[str]]:
    """Returns the pairs of rows of which a report says if they are apart.

    Each row with the best one, with the row whose values it takes over, and
    with those that differ from it by one change.
    """
    begun = {row["name"] for row in rows}
    found = {frozenset((name, best)) for name in begun}
    for row in study["table"]["rows"]:
        bases = [row["tuned_as"], *row.get("changes", {}).values()]
        found |= {frozenset((row["name"], base)) for base in bases}
    return {pair for pair in found if len(pair) == 2 and pair <= begun}


def less(one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """Returns the difference of two rows' medians, None if one has none."""
    medians = [row["test"]["median"] for row in (one, other)]
    return None if None in medians else medians[0] - medians[1]


def flip_chances(
    seeds: int, metric: Metric, ours: Sequence[float], theirs: Sequence[float]
) -> dict[str, float | None]:
    """Returns how often so many seeds would turn two rows round, by number.

    Args:
        seeds: of the study; only fewer are of interest.
        metric: of the study.
        ours: values of the row that is ahead.
        theirs: values of the other.
    """
    better, worse = (
        [metric.sign * value for value in values] for values in (ours, theirs)
    )
    return {
        str(count): certainty.flip_chance(better, worse, count)
        for count in FEWER_SEEDS
        if count < seeds
    }


def of(lines: Sequence[Line], row: str, kind: str) -> list[Line]:
    """Returns the lines of a row's runs of a kind."""
    return [x for x in lines if (x["row"], x["kind"]) == (row, kind)]


def five_numbers(values: Sequence[float]) -> dict[str, float | None]:
    """Returns median, quartiles and ends, each None if it is no number.

    >>> five_numbers([1, 2, 3, 4, 9])["q3"]
    4.0
    """
    if not values:
        return dict.fromkeys(FIVE_NUMBERS)
    figures = certainty.quantiles(values, list(FIVE_NUMBERS.values()))
    return {
        name: float(figure) if math.isfinite(figure) else None
        for name, figure in zip(FIVE_NUMBERS, figures)
    }


def as_list(interval: certainty.Interval | None) -> list[float] | None:
    """Returns an interval as JSON has it."""
    return None if interval is None else list(interval)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of Python and of the packages that matter.

    Args:
        packages: those that the workload needs.

    Raises:
        UserError: one of them is not installed.
    """
    found = {"python": platform.python_version()}
    for name in [*PACKAGES, *packages]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(
                f"{name}, which the workload names among its packages, is not "
                "installed; install it, or correct the workload"
            ) from error
    return found


def device() -> str:
    """Returns what this machine computes on, in words."""
    cores = len(os.sched_getaffinity(0)) if on_linux() else os.cpu_count()
    return f"{cores} CPU cores ({processor()})"


def on_linux() -> bool:
    """Whether this is Linux, which says more about itself than others."""
    return platform.system() == "Linux"


def processor() -> str:
    """Returns the processor's name."""
    if on_linux():
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
