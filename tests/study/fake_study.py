"""Makes up studies that look like real ones, without training anything."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_largebatch.study import protocol, results, summary

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


@dataclasses.dataclass(frozen=True)
class FakeStudy:
    """A protocol and a ledger for which nothing was trained."""

    plan: dict[str, Any]
    lines: list[dict[str, Any]]

    @classmethod
    def finished(cls, table: str = "table4", **sizes: Any) -> "FakeStudy":
        """Returns a study of a table, the same every time."""
        sizes = {"trials": 8, "seeds": 5, **sizes}
        plan = protocol.create(table, **sizes)
        return cls(plan, make_up(plan))

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        return summary.summarize(
            self.plan, self.lines, {"python": "3.11.2"}, "2 CPU cores"
        )

    @property
    def metric(self) -> results.Metric:
        """What runs are judged by."""
        return results.Metric.of(self.plan)

    @property
    def rows(self) -> list[results.Row]:
        """The rows, as the report has them."""
        return results.collect(self.plan, self.lines, self.summary)

    def row(self, name: str) -> results.Row:
        """Returns one row."""
        (row,) = (row for row in self.rows if row.name == name)
        return row

    def only(self, *names: str) -> "FakeStudy":
        """Returns the study with some of its rows, in this order."""
        plan = copy.deepcopy(self.plan)
        rows = {row["name"]: row for row in plan["table"]["rows"]}
        plan["table"]["rows"] = [rows[name] for name in names]
        lines = [line for line in self.lines if line["row"] in names]
        return FakeStudy(plan, lines)

    def renamed(self, name: str) -> "FakeStudy":
        """Returns the study of one row with that row called otherwise."""
        (row,) = self.plan["table"]["rows"]
        table = {**self.plan["table"], "rows": [{**row, "name": name}]}
        lines = [{**line, "row": name} for line in self.lines]
        return FakeStudy({**self.plan, "table": table}, lines)

    def without(self, **values: Any) -> "FakeStudy":
        """Returns the study without the lines that have these values."""
        lines = [
            line
            for line in self.lines
            if any(line[key] != value for key, value in values.items())
        ]
        return FakeStudy(self.plan, lines)

    def with_tests(self, tests: dict[str, Sequence[float]]) -> "FakeStudy":
        """Returns the study with other test metrics of some rows' seeds."""
        lines = self.lines
        for name, values in tests.items():
            self = self.without(row=name, kind="seed")
            old = [x for x in lines if (x["row"], x["kind"]) == (name, "seed")]
            new = [
                {**old[0], "index": n, "test": float(value)}
                for n, value in enumerate(values)
            ]
            self = FakeStudy(self.plan, [*self.lines, *new])
        return self

    def with_workload(self, **values: Any) -> "FakeStudy":
        """Returns the study of a workload with other values."""
        workload = {**self.plan["workload"], **values}
        return FakeStudy({**self.plan, "workload": workload}, self.lines)

    def with_table(self, **values: Any) -> "FakeStudy":
        """Returns the study of a table with other values."""
        table = {**self.plan["table"], **values}
        return FakeStudy({**self.plan, "table": table}, self.lines)

    def with_plan(self, **values: Any) -> "FakeStudy":
        """Returns the study with other values of its protocol."""
        return FakeStudy({**self.plan, **values}, self.lines)

    def of_nobodys(self) -> "FakeStudy":
        """Returns the study as one that is no table of the paper."""
        return self.with_table(name="mine", paper=None, paper_task=None)

    def fixed(self, **values: Any) -> "FakeStudy":
        """Returns the study with rows that are not tuned.

        Args:
            values: of every row.
        """
        rows = [
            {
                **row,
                "optimizer": {**row["optimizer"], "learning_rate": 0.25},
                "space": {},
                **values,
            }
            for row in self.plan["table"]["rows"]
        ]
        return self.with_table(rows=rows).without(kind="tune")

    def with_runs(
        self, name: str, indices: Sequence[int], **values: Any
    ) -> "FakeStudy":
        """Returns the study with other values of some of a row's seeds."""
        lines = [
            {**line, **values}
            if (line["row"], line["kind"]) == (name, "seed")
            and line["index"] in indices
            else line
            for line in self.lines
        ]
        return FakeStudy(self.plan, lines)

    def with_lost(self, name: str, indices: Sequence[int]) -> "FakeStudy":
        """Returns the study of a loss, some of whose runs have none."""
        study = self.with_workload(
            metric={"name": "loss", "direction": "min"}, target=0.98
        )
        nothing = dict.fromkeys(("loss", "validation", "test"))
        curve = [{"step": 6, "validation_loss": None, **nothing}]
        return study.with_runs(
            name,
            indices,
            diverged=True,
            curve=curve,
            **dict.fromkeys(("validation", "validation_loss", "test", "train")),
        )

    def with_best(self, name: str, **values: float) -> "FakeStudy":
        """Returns the study with another best point of a row."""
        best = {**self.row(name).best, **values}
        lines = [
            {**line, "hyperparameters": {**line["hyperparameters"], **best}}
            if line["row"] == name
            else line
            for line in self.lines
        ]
        return FakeStudy(self.plan, lines)

    def with_diverged(self, name: str, kind: str) -> "FakeStudy":
        """Returns the study with all of a row's runs of a kind diverged."""
        lines = [
            diverge(line)
            if (line["row"], line["kind"]) == (name, kind)
            else line
            for line in self.lines
        ]
        return FakeStudy(self.plan, lines)


def make_up(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the lines of a finished study."""
    random = np.random.default_rng(0)
    made: list[dict[str, Any]] = []
    rows = plan["table"]["rows"]
    for row in rows:
        for run in protocol.tuning_runs(plan, row):
            made.append(tuning_line(plan, row, run, random))
    for row in rows:
        base = protocol.tuned_row(plan, row)
        best = protocol.best_point(
            plan, base, [line for line in made if line["row"] == base["name"]]
        )
        level, scatter = LEVELS.get(row["name"], (0.97, 0.004))
        for run in protocol.seed_runs(plan, row, best):
            final = level + scatter * random.normal()
            made.append(line(plan, run, final, random))
    return made


def tuning_line(
    plan: dict[str, Any],
    row: dict[str, Any],
    run: protocol.Run,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Returns a tuning run, worse the further from mid-space it is."""
    rate = run.hyperparameters["learning_rate"]
    place = results.place(row["space"]["learning_rate"], rate)
    level = LEVELS.get(row["name"], (0.97, 0))[0]
    final = level - 0.9 * abs(place - 0.55) ** 3 + 0.003 * random.normal()
    made = line(plan, run, final, random)
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
                "loss": float(0.6 + 1.8 * math.exp(-4 * done) + abs(noise)),
                "validation": whole(test - noise, 373),
                "validation_loss": 0.2,
                "test": whole(test + noise, 400),
            }
        )
    reached = [p["step"] for p in curve if p["test"] >= 0.97]
    return {
        **dataclasses.asdict(run),
        "validation": curve[-1]["validation"],
        "validation_loss": 0.2,
        "test": curve[-1]["test"],
        "train": whole(final + 0.015, 1024),
        "steps": plan["steps"],
        "diverged": False,
        "steps_to_target": min(reached, default=None),
        "seconds": 1.5,
        "curve": curve,
    }


def diverge(run: dict[str, Any]) -> dict[str, Any]:
    """Returns the run as one whose loss became infinite in its second part."""
    stopped = [
        {**point, "test": 0.1, "validation": 0.1} for point in run["curve"][:2]
    ]
    stopped[-1] |= {"loss": None, "validation_loss": None}
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
