"""Makes up studies that look like real ones, without training anything."""

import math
from typing import Any

import numpy as np

from tf_largebatch.study import protocol

# Where a row's test accuracy ends, and how far its seeds scatter.
LEVELS = {
    "nesterov": (0.975, 0.003),
    "lars_momentum": (0.977, 0.003),
    "lars": (0.972, 0.004),
    "adam_1e-8": (0.968, 0.005),
    "adam_1e-6": (0.969, 0.004),
    "lamb": (0.31, 0.04),
    "lamb_adam_1e-8": (0.966, 0.006),
    "lamb_adam_1e-6": (0.973, 0.003),
    "nesterov_power_2": (0.972, 0.004),
    "nesterov_power_1": (0.965, 0.005),
    "lars_power_1": (0.974, 0.003),
    "lars_power_2": (0.958, 0.006),
}


def study(table: str = "table4", **sizes: Any) -> dict[str, Any]:
    """Returns the protocol of a table on the digits."""
    return protocol.create(
        table, "digits_resnet", **{"trials": 8, "seeds": 5, **sizes}
    )


def lines(plan: dict[str, Any], seed: int = 0) -> list[dict[str, Any]]:
    """Returns a made-up ledger of a finished study, the same every time."""
    random = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for row in plan["table"]["rows"]:
        runs = protocol.tuning_runs(plan, row)
        made += [tuning_line(plan, row, run, random) for run in runs]
    for row in plan["table"]["rows"]:
        runs = protocol.seed_runs(plan, row, best_of(plan, row, made))
        level, scatter = LEVELS.get(row["name"], (0.97, 0.004))
        made += [
            line(plan, run, level + scatter * random.normal(), random)
            for run in runs
        ]
    return made


def tuning_line(
    plan: dict[str, Any],
    row: dict[str, Any],
    run: protocol.Run,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Returns a tuning run, worse the further from mid-space it is."""
    rate = row["space"]["learning_rate"]
    low, high = math.log(rate["low"]), math.log(rate["high"])
    place = (math.log(run.hyperparameters["learning_rate"]) - low) / (
        high - low
    )
    level = LEVELS.get(row["name"], (0.97, 0))[0]
    made = line(
        plan,
        run,
        level - 0.9 * abs(place - 0.55) ** 3 + 0.003 * random.normal(),
        random,
    )
    return diverge(made) if place > 0.92 else made


def line(
    plan: dict[str, Any],
    run: protocol.Run,
    final: float,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Returns a run that climbs to an accuracy of about ``final``."""
    final = whole(final, 400)
    steps = np.linspace(0, plan["steps"], 13).round().astype(int)[1:]
    curve = []
    for step in steps:
        done = step / plan["steps"]
        test = final * (1 - math.exp(-5 * done)) / (1 - math.exp(-5))
        noise = 0.01 * (1 - done) * random.normal()
        curve.append(
            {
                "step": int(step),
                "loss": 0.6 + 1.8 * math.exp(-4 * done) + abs(noise),
                "validation": whole(test - noise, 373),
                "test": whole(test + noise, 400),
            }
        )
    reached = [p["step"] for p in curve if p["test"] >= 0.97]
    return {
        "row": run.row,
        "kind": run.kind,
        "index": run.index,
        "seed": run.seed,
        "hyperparameters": dict(run.hyperparameters),
        "validation": curve[-1]["validation"],
        "validation_loss": 0.2,
        "test": curve[-1]["test"],
        "train": whole(final + 0.015, 1024),
        "steps": plan["steps"],
        "seconds": 1.5,
        "diverged": False,
        "steps_to_target": min(reached, default=None),
        "curve": curve,
        "rates": None,
    }


def diverge(run: dict[str, Any]) -> dict[str, Any]:
    """Returns the run as one whose loss became infinite in its second part."""
    stopped = [
        {**point, "test": 0.1, "validation": 0.1} for point in run["curve"][:2]
    ]
    stopped[-1]["loss"] = None
    return {
        **run,
        "validation": 0.1,
        "validation_loss": None,
        "test": 0.1,
        "train": 0.1,
        "steps": stopped[-1]["step"],
        "diverged": True,
        "steps_to_target": None,
        "curve": stopped,
    }


def whole(share: float, examples: int) -> float:
    """Returns the nearest accuracy that so many examples can have."""
    return round(min(max(share, 0), 1) * examples) / examples


def best_of(
    plan: dict[str, Any], row: dict[str, Any], made: list[dict[str, Any]]
) -> dict[str, float]:
    """Returns a row's best tuned values, or those that it takes over."""
    if row["tuned_as"]:
        row = next(
            other
            for other in plan["table"]["rows"]
            if other["name"] == row["tuned_as"]
        )
    runs = [x for x in made if (x["row"], x["kind"]) == (row["name"], "tune")]
    return protocol.best_point(row, runs) if runs else {}


def summary(plan: dict[str, Any], made: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the summary of a made-up ledger."""
    return {
        "workload": plan["workload"]["name"],
        "table": plan["table"]["name"],
        "seed": plan["seed"],
        "steps": plan["steps"],
        "batch": plan["workload"]["batch"],
        "metric": plan["workload"]["metric"],
        "target": plan["workload"]["target"],
        "versions": {"python": "3.11.2", "tensorflow": "2.20.0"},
        "device": "2 CPU cores",
        "wall_seconds": 171.4,
        "rows": [summary_row(plan, row, made) for row in plan["table"]["rows"]],
    }


def summary_row(
    plan: dict[str, Any], row: dict[str, Any], made: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the summary of one row."""
    own = [x for x in made if x["row"] == row["name"]]
    repeats = [x for x in own if x["kind"] == "seed"]
    reached = [
        x["steps_to_target"]
        for x in repeats
        if x["steps_to_target"] is not None
    ]
    return {
        "name": row["name"],
        "weights_optimizer": row["weights_optimizer"],
        "bias_bn_optimizer": row["bias_bn_optimizer"],
        "tuning_trials": sum(x["kind"] == "tune" for x in own),
        "tuned_as": row["tuned_as"],
        "best": best_of(plan, row, made),
        "seeds": len(repeats),
        "test": five_numbers([x["test"] for x in repeats]),
        "train": five_numbers([x["train"] for x in repeats]),
        "hits": sum(x["test"] >= plan["workload"]["target"] for x in repeats),
        "diverged": sum(x["diverged"] for x in repeats),
        "steps_to_target": {
            "reached": len(reached),
            "median": float(np.median(reached)) if reached else None,
            "min": min(reached, default=None),
            "max": max(reached, default=None),
        },
    }


def five_numbers(values: list[float]) -> dict[str, float | None]:
    """Returns median, quartiles and ends; each None without a value."""
    names = ("min", "q1", "median", "q3", "max")
    if not values:
        return dict.fromkeys(names)
    figures = np.quantile(values, (0, 0.25, 0.5, 0.75, 1))
    return {name: float(x) for name, x in zip(names, figures)}
