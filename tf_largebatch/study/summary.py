"""The figures of a study, computed from its ledger: ``summary.json``."""

import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_largebatch.study import protocol

# Whatever is learnt; a workload names others.
PACKAGES = ("tf-largebatch", "tensorflow", "numpy", "scipy")
FIVE_NUMBERS = {"median": 0.5, "q1": 0.25, "q3": 0.75, "min": 0.0, "max": 1.0}

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
        lines: of the ledger.
        versions: of the packages that ran it, by name.
        device: what it ran on, in words.

    Returns:
        A mapping that is valid JSON: where there is no figure it has None.
    """
    workload = study["workload"]
    return {
        "workload": workload["name"],
        "table": study["table"]["name"],
        "seed": study["seed"],
        "steps": study["steps"],
        "batch": workload["batch"],
        "metric": dict(workload["metric"]),
        "target": workload["target"],
        "versions": dict(versions),
        "device": device,
        "wall_seconds": round(sum(line["seconds"] for line in lines), 1),
        "rows": [
            summarize_row(study, row, lines) for row in study["table"]["rows"]
        ],
    }


def summarize_row(
    study: Mapping[str, Any], row: Mapping[str, Any], lines: Sequence[Line]
) -> dict[str, Any]:
    """Returns the figures of one row."""
    repeats = of(lines, row["name"], "seed")
    base = protocol.tuned_row(study, row)
    tuning = of(lines, base["name"], "tune")
    own = [] if row["tuned_as"] else tuning
    reached = [
        line["steps_to_target"]
        for line in repeats
        if line["steps_to_target"] is not None
    ]
    return {
        "name": row["name"],
        "weights_optimizer": row["weights_optimizer"],
        "bias_bn_optimizer": row["bias_bn_optimizer"],
        "tuning_trials": len(protocol.points_tried(study, own)),
        "tuned_as": row["tuned_as"],
        "best": protocol.best_point(study, base, tuning) if tuning else {},
        "seeds": len(repeats),
        "test": five_numbers([line["test"] for line in repeats]),
        "train": five_numbers([line["train"] for line in repeats]),
        "hits": sum(
            protocol.hits(study["workload"], line["test"]) for line in repeats
        ),
        "diverged": sum(line["diverged"] for line in repeats),
        "steps_to_target": {"reached": len(reached), **five_numbers(reached)},
    }


def of(lines: Sequence[Line], row: str, kind: str) -> list[Line]:
    """Returns the lines of a row's runs of a kind."""
    return [x for x in lines if (x["row"], x["kind"]) == (row, kind)]


def five_numbers(values: Sequence[float]) -> dict[str, float | None]:
    """Returns median, quartiles and ends, each None if there is no value.

    >>> five_numbers([1, 2, 3, 4, 9])["q3"]
    4.0
    """
    if not values:
        return dict.fromkeys(FIVE_NUMBERS)
    figures = np.quantile(values, list(FIVE_NUMBERS.values()))
    return dict(zip(FIVE_NUMBERS, map(float, figures)))


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of Python and of the packages that matter.

    Args:
        packages: those that the workload needs.
    """
    found = {"python": platform.python_version()}
    names = [*PACKAGES, *packages]
    return found | {name: importlib.metadata.version(name) for name in names}


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
